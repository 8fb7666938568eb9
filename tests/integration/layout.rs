//! The modules name only those before them; telemetry names none.

use std::{fs, path::Path};

/// In reading order: a module may name itself and what stands before it.
const ORDER: [&str; 6] = ["prompt", "config", "routing", "live", "server", "cli"];

#[test]
fn modules_name_only_those_before_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut offences = Vec::new();
    for entry in fs::read_dir(&src).unwrap() {
        let path = entry.unwrap().path();
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let place = ORDER.iter().position(|name| *name == module);
        let allowed: &[&str] = match (place, module.as_str()) {
            (Some(place), _) => &ORDER[..=place],
            (None, "telemetry") => &[],
            (None, "main" | "lib" | "architecture") => continue,
            (None, other) => panic!("src/{other} has no place in the order of modules"),
        };
        for (file, text) in sources(&path) {
            for (number, line) in text.lines().enumerate() {
                for named in names_in(line) {
                    if named != "telemetry" && !allowed.contains(&named) {
                        offences.push(format!("{file}:{}: names crate::{named}", number + 1));
                    }
                }
            }
        }
    }
    assert!(offences.is_empty(), "{offences:#?}");
}

/// Returns the modules that a line names as `crate::name` or inside `use crate::{...}` lists.
fn names_in(line: &str) -> Vec<&str> {
    let direct = line.match_indices("crate::").map(|(at, found)| &line[at + found.len()..]);
    // rustfmt puts each module of a `use crate::{` list on a line of its own: "    config::{...},".
    let listed = line.strip_prefix("    ").filter(|rest| !rest.starts_with([' ', '/'])).into_iter();
    direct
        .chain(listed.filter(|rest| ORDER.iter().any(|name| rest.starts_with(&format!("{name}::")))))
        .map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            &rest[..end]
        })
        .filter(|name| ORDER.contains(name) || *name == "telemetry")
        .collect()
}

fn sources(path: &Path) -> Vec<(String, String)> {
    if path.is_dir() {
        return fs::read_dir(path).unwrap().flat_map(|entry| sources(&entry.unwrap().path())).collect();
    }
    if path.extension().is_some_and(|extension| extension == "rs") {
        return vec![(path.display().to_string(), fs::read_to_string(path).unwrap())];
    }
    Vec::new()
}

#[test]
fn names_are_found() {
    assert_eq!(names_in("use crate::config::Config;"), ["config"]);
    assert_eq!(names_in("    routing::{Router, admit},"), ["routing"]);
    assert_eq!(names_in("    x = crate::prompt::Tier(crate::server::run());"), ["prompt", "server"]);
    assert!(names_in("        config::thing()").is_empty());
}
