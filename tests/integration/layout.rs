//! The modules name only those before them; telemetry names none.

use std::{fs, path::Path};

/// In reading order: a module may name itself and what stands before it.
const ORDER: [&str; 9] =
    ["prompt", "config", "routing", "evaluation", "completion", "traffic", "live", "server", "cli"];

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
            for named in names_in(&text) {
                if named != "telemetry" && !allowed.contains(&named.as_str()) {
                    offences.push(format!("{file}: names crate::{named}"));
                }
            }
        }
    }
    assert!(offences.is_empty(), "{offences:#?}");
}

/// Returns the modules that a source names as `crate::name` or in a list `crate::{...}`.
fn names_in(text: &str) -> Vec<String> {
    let identifier = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    let mut names = Vec::new();
    for (at, found) in text.match_indices("crate::") {
        let rest = &text[at + found.len()..];
        match rest.strip_prefix('{') {
            None => names.push(identifier(rest)),
            Some(list) => {
                // The first word of each item of the outermost list.
                names.push(identifier(list));
                let mut depth = 0_usize;
                for (at, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => names.push(identifier(&list[at + 1..])),
                        _ => {}
                    }
                }
            }
        }
    }
    names.retain(|name| ORDER.contains(&name.as_str()) || name == "telemetry");
    names
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
    for (text, expected) in [
        ("use crate::config::Config;", vec!["config"]),
        ("use crate::{live::Live, server};", vec!["live", "server"]),
        ("use crate::{\n    routing::{Router, admit},\n    cli,\n};", vec!["routing", "cli"]),
        ("x = crate::prompt::Tier(crate::server::run());", vec!["prompt", "server"]),
        ("config::thing()", vec![]),
    ] {
        assert_eq!(names_in(text), expected, "{text}");
    }
}
