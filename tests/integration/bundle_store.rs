//! `pointsman bundle` from outside: folders, versions and a store in; text and JSON out.

use std::{fs, path::Path, process::Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{bundle::Copy, cli::text, support::program::program};

/// A user with a configuration, and a store in a folder or under a URL.
struct World {
    folder: TempDir,
}

impl World {
    fn new(store: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = store.replace("HERE", folder.path().to_str().unwrap());
        fs::create_dir(folder.path().join("store")).unwrap();
        let toml = format!("[bundles]\nstore = {store:?}\ncache = \"cache\"\n[classifier]\nworkers = 1\n");
        fs::write(folder.path().join("pointsman.toml"), toml).unwrap();
        Self { folder }
    }

    /// Runs `bundle` and returns exit code, stdout and stderr.
    fn bundle(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = program(&self.folder.path().join("state"))
            .arg("bundle")
            .args(arguments)
            .current_dir(self.folder.path())
            .env("POINTSMAN_CONFIG", self.folder.path().join("pointsman.toml"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let (code, out, error) = self.bundle(arguments);
        (code, serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{error}")))
    }
}

/// A copy of the default bundle as another version.
fn version(name: &str) -> Copy {
    let copy = Copy::new();
    copy.edit(|manifest| manifest["version"] = json!(name));
    copy
}

fn folder_of(copy: &Copy) -> String {
    copy.path("").to_str().unwrap().to_owned()
}

/// Returns the outcome of each step by name.
fn steps(report: &Value) -> Vec<(&str, bool)> {
    let steps = report["steps"].as_array().unwrap().iter();
    steps.map(|step| (step["step"].as_str().unwrap(), step["good"].as_bool().unwrap())).collect()
}

#[test]
fn a_bundle_is_staged_listed_and_verified() {
    for store in ["store", "file://HERE/store"] {
        let world = World::new(store);
        let (code, out, _) = world.bundle(&["list", "--store"]);
        assert!(code == 0 && out.contains("no versions in"), "{out}");
        let copy = version("0.9.1");
        let (code, out, error) = world.bundle(&["stage", &folder_of(&copy), "--copy-only"]);
        assert_eq!(code, 0, "{error}");
        assert!(out.contains("bundle 0.9.1 is in"), "{out}");
        let (_, listed) = world.json(&["list", "--store", "--json"]);
        assert_eq!(listed["bundles"][0]["version"], json!("0.9.1"));
        assert_eq!(listed["bundles"][0]["problem"], json!(null));
        let (code, report) = world.json(&["verify", "0.9.1", "--json"]);
        assert_eq!((code, &report["good"]), (0, &json!(true)), "{report:#}");
        let names: Vec<&str> = steps(&report).iter().map(|(step, _)| *step).collect();
        let expected = [
            "found",
            "manifest",
            "signature",
            "files",
            "contents",
            "labels",
            "calibration",
            "memory",
            "tokenizer",
            "graph",
            "golden samples",
            "configuration",
        ];
        assert_eq!(names, expected);
        let cached = world.folder.path().join("cache").exists();
        assert_eq!(cached, store.starts_with("file"), "a folder is read in place");
        let (code, _, error) = world.bundle(&["verify", "0.9.2"]);
        assert!(code == 1 && error.contains("is not there"), "{error}");
    }
}

#[test]
fn what_cannot_serve_says_at_which_step() {
    let world = World::new("store");
    let check = |change: &dyn Fn(&Copy), step: &str, because: &str| {
        let copy = version("0.9.1");
        change(&copy);
        let (code, report) = world.json(&["verify", &folder_of(&copy), "--json"]);
        assert_eq!(code, 1, "{report:#}");
        let last = report["steps"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&last["step"], &last["good"]), (&json!(step), &json!(false)), "{report:#}");
        assert!(last["told"].as_str().unwrap().contains(because), "{last}");
    };
    check(
        &|copy| fs::write(copy.path("tokenizer.json"), "{}").unwrap(),
        "files",
        "2 bytes, the manifest says",
    );
    check(&|copy| fs::remove_file(copy.path("manifest.json")).unwrap(), "manifest", "no bundle's folder");
    check(&|copy| copy.edit(|manifest| manifest["format"] = json!(2)), "contents", "format 2");
    check(
        &|copy| copy.edit(|manifest| manifest["calibration"]["intent_temperature"] = json!(9.0)),
        "golden samples",
        "golden.jsonl: line",
    );
    check(
        &|copy| {
            copy.edit(|manifest| {
                let levels = manifest["labels"]["levels"].as_array_mut().unwrap();
                levels[0] = json!("trivial");
            });
        },
        "configuration",
        "simple",
    );
    check(&|copy| copy.replace("model.onnx", b"no graph"), "graph", "");
    check(&|copy| copy.replace("tokenizer.json", b"{}"), "tokenizer", "");
    let (code, report) = world.json(&["verify", "default", "--json"]);
    assert_eq!((code, &report["steps"][0]["told"]), (0, &json!("inside the binary")));
    let (code, _, error) = world.bundle(&["verify", "default", "--token", "env:NOBODYS"]);
    assert!(code == 2 && error.contains("--admin ADDRESS"), "{error}");
    let (code, out, _) = world.bundle(&["verify", "default"]);
    assert!(code == 0 && out.contains("golden samples") && !out.contains('\u{1b}'), "{out}");
}

#[test]
fn another_bundle_of_the_same_version_is_not_staged() {
    let world = World::new("store");
    let copy = version("0.9.1");
    world.bundle(&["stage", &folder_of(&copy)]);
    copy.edit(|manifest| manifest["name"] = json!("other"));
    let (code, _, error) = world.bundle(&["stage", &folder_of(&copy)]);
    assert!(code == 1 && error.contains("holds another bundle of this version"), "{error}");
    assert!(Path::new(&world.folder.path().join("store/0.9.1/model.onnx")).exists());
}

#[test]
fn default_follows_its_pointer_and_needs_no_signature() {
    let world = World::new("store");
    let copy = version("0.9.1");
    world.bundle(&["stage", &folder_of(&copy), "--copy-only"]);
    let path = world.folder.path().join("pointsman.toml");
    let toml = fs::read_to_string(&path).unwrap();
    let toml = toml.replace(
        "[classifier]",
        "require_signature = true\npublic_keys = [KEY]\n[classifier]\nbundle = \"store\"",
    );
    let key = "\"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\"";
    fs::write(&path, toml.replace("KEY", key)).unwrap();
    fs::write(world.folder.path().join("store/default"), "0.9.1\n").unwrap();
    let (code, report) = world.json(&["verify", "default", "--json"]);
    assert_eq!(code, 0, "{report}");
    assert!(report["steps"][0]["told"].as_str().unwrap().ends_with("store/0.9.1"), "{report}");
    assert!(report.to_string().contains("whoever writes the configuration is trusted"), "{report}");
    // The same bundle as a version is held to the store's rules.
    let (code, report) = world.json(&["verify", "0.9.1", "--json"]);
    assert!(code == 1 && report.to_string().contains("is not signed"), "{report}");
    fs::write(world.folder.path().join("store/default"), "../elsewhere").unwrap();
    let (code, report) = world.json(&["verify", "default", "--json"]);
    assert!(code == 1 && report.to_string().contains("names no version"), "{report}");
}

#[test]
fn an_empty_variable_names_no_configuration() {
    let state = tempfile::tempdir().unwrap();
    let output = program(state.path())
        .args(["check", "--no-bundle"])
        .env("POINTSMAN_CONFIG", "")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn a_configured_folder_that_is_gone_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pointsman.toml");
    fs::write(&file, "[classifier]\nbundle = \"gone\"\n").unwrap();
    let output = program(folder.path())
        .args(["bundle", "verify", "default"])
        .env("POINTSMAN_CONFIG", file)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (said, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(said.starts_with("no  found") && said.contains("gone"), "{said}");
    assert!(error.contains("bundle default is not there"), "{error}");
}
