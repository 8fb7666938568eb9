//! The spend file: read once, then replaced as a whole, so that it is never half written.
//!
//! One process owns it. A file that cannot be read is an error, never a new start: budgets that silently
//! begin again are no budgets.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::ledger::{Kept, TENANTS_MAX};

/// The form that is written; another one is an error.
const VERSION: u32 = 1;
/// Largest file that is read: several budgets with as many tenants as are told apart.
const FILE_BYTES_MAX: u64 = 512 << 20;

/// Why spend cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum SpendError {
    #[error("spend file {}: cannot read: {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("spend file {}: {problem}; repair it, or remove it to begin with nothing spent", .path.display())]
    Broken { path: PathBuf, problem: String },
    #[error("spend file {}: cannot write: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot start the thread that writes spend: {0}")]
    Thread(io::Error),
}

#[derive(Serialize, Deserialize)]
struct Versioned {
    version: u32,
    #[serde(flatten)]
    kept: Kept,
}

#[derive(Deserialize)]
struct OnlyVersion {
    version: u32,
}

/// Reads what was kept; `None` when there is no file yet.
pub fn read(path: &Path) -> Result<Option<Kept>, SpendError> {
    let failed = |source| SpendError::Read { path: path.to_owned(), source };
    let broken = |problem: String| SpendError::Broken { path: path.to_owned(), problem };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(broken(format!("more than {FILE_BYTES_MAX} bytes")));
    }
    let parse_error = |error: serde_json::Error| broken(error.to_string());
    let OnlyVersion { version } = serde_json::from_slice(&bytes).map_err(parse_error)?;
    if version != VERSION {
        return Err(broken(format!("version {version}, this program reads version {VERSION}")));
    }
    let Versioned { kept, .. } = serde_json::from_slice(&bytes).map_err(parse_error)?;
    match unsound(&kept) {
        Some(problem) => Err(broken(problem)),
        None => Ok(Some(kept)),
    }
}

fn unsound(kept: &Kept) -> Option<String> {
    let totals = [("spend", &kept.spend), ("baseline", &kept.baseline), ("judge", &kept.judge)];
    if let Some((name, _)) = totals.iter().find(|(_, sums)| !sums.is_sound()) {
        return Some(format!("{name}: an amount below 0"));
    }
    for (at, budget) in kept.budgets.iter().enumerate() {
        if !budget.common.is_sound() || !budget.tenants.values().all(super::ledger::Sums::is_sound) {
            return Some(format!("budgets[{at}]: an amount below 0"));
        }
        if budget.tenants.len() > TENANTS_MAX {
            return Some(format!("budgets[{at}].tenants: more than {TENANTS_MAX}"));
        }
    }
    None
}

/// Finds out before anything is spent whether the file can be replaced.
pub fn check_writable(path: &Path) -> Result<(), SpendError> {
    let new = beside(path);
    let attempt = || {
        OpenOptions::new().write(true).create(true).truncate(true).open(&new)?;
        fs::remove_file(&new)
    };
    attempt().map_err(|source| SpendError::Write { path: path.to_owned(), source })
}

/// Replaces the file.
pub fn write(path: &Path, kept: Kept) -> Result<(), SpendError> {
    let new = beside(path);
    let attempt = || {
        let text = serde_json::to_vec(&Versioned { version: VERSION, kept })?;
        let mut file = File::create(&new)?;
        file.write_all(&text)?;
        // Before the rename: after a power cut there is the old or the new file, never an empty one.
        file.sync_all()?;
        fs::rename(&new, path)
    };
    attempt().map_err(|source| SpendError::Write { path: path.to_owned(), source })
}

/// The place of the next file, in the same directory: a rename across file systems is no replacement.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}
