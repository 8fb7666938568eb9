//! Whether a bundle fits into the memory that is left: estimated before its model is read.
//!
//! Only figures: nothing is reserved, and what other processes take meanwhile is not known.

use std::{
    fs,
    path::{Component, Path},
};

use sysinfo::{MemoryRefreshKind, System};

use super::{SessionError, bundle::Sizes};

/// One session of a graph of 23.4 MB (MiniLM, int8) adds 25 MB on a CPU: the weights in the layout that the kernels read,
/// and activations. With room for what other types of weights need. Where sessions share tables it is half of that for
/// each further one, which is not known before the graph is read.
const SESSION_MODELS: f64 = 1.25;
/// Activations of the longest sequence, threads and bookkeeping, whatever the size of the graph.
const SESSION_BYTES: u64 = 8 << 20;
/// While a session is built there are the file's bytes and ONNX Runtime's parsed copy too: 36 MB at the highest.
const BUILDING_MODELS: f64 = 2.0;
/// A vocabulary in a hash map takes so many times the bytes of its JSON.
const TOKENIZER_FILES: f64 = 8.0;

/// The memory that is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Available {
    /// Of the machine, the process's control group and the groups around it, whichever has least.
    Measured,
    Bytes(u64),
    /// As much as it takes: the caller has looked.
    Enough,
}

/// What a bundle takes and what is left, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headroom {
    pub needed: u64,
    /// `None` where it cannot be told.
    pub available: Option<u64>,
}

/// Refuses a bundle that would not leave the system any memory, with both figures.
pub fn check(sizes: &Sizes, sessions: usize, available: Available) -> Result<Headroom, SessionError> {
    let needed = needed(sizes, sessions);
    let available = match available {
        Available::Measured => measured(),
        Available::Bytes(bytes) => Some(bytes),
        Available::Enough => None,
    };
    match available {
        Some(available) if available < needed => Err(SessionError::Memory {
            needed_mb: megabytes_up(needed),
            available_mb: available / MEGABYTE,
            sessions,
        }),
        Some(_) | None => Ok(Headroom { needed, available }),
    }
}

const MEGABYTE: u64 = 1_000_000;

fn megabytes_up(bytes: u64) -> u64 {
    bytes.div_ceil(MEGABYTE)
}

/// Returns what a bundle takes at most while it is loaded.
fn needed(sizes: &Sizes, sessions: usize) -> u64 {
    let times = |bytes: u64, factor: f64| (bytes as f64 * factor) as u64;
    let session = times(sizes.model, SESSION_MODELS) + SESSION_BYTES;
    session
        .saturating_mul(sessions as u64)
        .saturating_add(times(sizes.model, BUILDING_MODELS))
        .saturating_add(times(sizes.tokenizer, TOKENIZER_FILES))
        .saturating_add(sizes.others)
}

/// Returns the memory that is left, `None` where it cannot be told.
fn measured() -> Option<u64> {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    if system.total_memory() == 0 {
        return None;
    }
    let machine = system.available_memory();
    let groups = fs::read_to_string(OWN_GROUPS).ok().and_then(|own| left_in_groups(&own, Path::new(GROUPS)));
    Some(groups.map_or(machine, |groups| groups.min(machine)))
}

/// Which control groups the process is in.
const OWN_GROUPS: &str = "/proc/self/cgroup";
/// Where they are mounted.
const GROUPS: &str = "/sys/fs/cgroup";

/// Where a version of control groups tells of memory.
struct Told {
    /// Below the mount.
    mount: &'static str,
    limit: &'static str,
    /// In `memory.stat`: what is not a cached file. Cached files count as used, yet are given up before anybody is
    /// killed.
    used: &'static str,
}

/// Returns the least memory that is left in the process's groups and all around them, `None` where none has a limit.
///
/// `own` has lines such as `0::/system.slice/pointsman.service`. In a container they may tell of the machine's groups,
/// which are not to be seen from there: the topmost one is then the container's own.
fn left_in_groups(own: &str, mount: &Path) -> Option<u64> {
    let told = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let told = if controllers.is_empty() {
            Told { mount: "", limit: "memory.max", used: "anon" }
        } else if controllers.split(',').any(|controller| controller == "memory") {
            Told { mount: "memory", limit: "memory.limit_in_bytes", used: "total_rss" }
        } else {
            return None;
        };
        let mut group = mount.join(told.mount);
        let mut least = left_in_group(&group, &told);
        for part in Path::new(path).components() {
            if let Component::Normal(name) = part {
                group.push(name);
                least = least.into_iter().chain(left_in_group(&group, &told)).min();
            }
        }
        least
    };
    own.lines().filter_map(told).min()
}

/// Returns what is left in one group, `None` where it has no limit or is not to be seen.
fn left_in_group(group: &Path, told: &Told) -> Option<u64> {
    // "max" is no number, and no limit.
    let limit: u64 = fs::read_to_string(group.join(told.limit)).ok()?.trim().parse().ok()?;
    let stat = fs::read_to_string(group.join("memory.stat")).ok()?;
    let used = stat.lines().find_map(|line| line.strip_prefix(told.used)?.strip_prefix(' ')?.parse().ok());
    Some(limit.saturating_sub(used.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { model: 100 << 20, tokenizer: 1 << 20, others: 1 << 20 };

    #[test]
    fn each_session_counts() {
        assert!(needed(&SIZES, 2) > needed(&SIZES, 1) + SIZES.model);
        assert!(needed(&Sizes { model: u64::MAX / 4, ..SIZES }, usize::MAX) > SIZES.model);
    }

    #[test]
    fn both_figures_are_told() {
        let error = check(&SIZES, 3, Available::Bytes(300 << 20)).unwrap_err().to_string();
        assert!(error.contains("needs some ") && error.contains("314 MB are left"), "{error}");
    }

    #[test]
    fn what_fits_passes() {
        let needed = needed(&SIZES, 3);
        assert!(check(&SIZES, 3, Available::Bytes(needed)).is_ok());
        assert!(check(&SIZES, 3, Available::Bytes(needed - 1)).is_err());
        assert!(check(&SIZES, 3, Available::Enough).is_ok());
    }

    /// Groups have a limit and what is used; `own` is what the process's file says.
    #[track_caller]
    fn check_groups(groups: &[(&str, &str, &str)], own: &str, expected: Option<u64>) {
        let mount = tempfile::tempdir().unwrap();
        for (group, limit, stat) in groups {
            let folder = mount.path().join(group);
            fs::create_dir_all(&folder).unwrap();
            let v1 = group.starts_with("memory");
            fs::write(folder.join(if v1 { "memory.limit_in_bytes" } else { "memory.max" }), limit).unwrap();
            fs::write(folder.join("memory.stat"), stat).unwrap();
        }
        assert_eq!(left_in_groups(own, mount.path()), expected, "{own:?} in {groups:?}");
    }

    #[test]
    fn the_tightest_group_around_the_process_counts() {
        let nested = [
            ("a.slice", "1000\n", "anon_thp 7\nanon 300\nfile 600\n"),
            ("a.slice/b.service", "max\n", "anon 200\n"),
            ("c.slice", "10\n", "anon 10\n"),
        ];
        check_groups(&nested, "0::/a.slice/b.service\n", Some(700));
        check_groups(&nested, "0::/c.slice\n", Some(0));
        check_groups(&nested, "0::/gone/a.slice\n", None);
        check_groups(&nested, "", None);
        // In a container the own group is the root of what is seen.
        check_groups(&[("", "500", "anon 600")], "0::/../../elsewhere\n", Some(0));
        let old = [
            ("memory", "9223372036854771712", "total_rss 1"),
            ("memory/docker", "50", "rss 1\ntotal_rss 20"),
        ];
        check_groups(&old, "3:cpu,cpuacct:/docker\n2:memory:/docker\n0::/\n", Some(30));
        check_groups(&old, "3:cpu:/docker\n", None);
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(measured().is_none_or(|bytes| bytes > 1 << 20));
    }
}
