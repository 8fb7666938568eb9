//! What a manifest says is in a bundle, as far as copying it needs to know. Pure.
//!
//! Whether the bundle can serve is not asked here.

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{live::rollout::DEFAULT, routing::classifier::Unfit};

pub const MANIFEST: &str = "manifest.json";
pub const SIGNATURE: &str = "manifest.json.minisig";

/// Far more than a manifest with all its notes has.
pub const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// A signature has four short lines.
pub const SIGNATURE_BYTES_MAX: u64 = 4 << 10;
/// Largest file of a bundle, bytes: a BERT-large in fp32 fits.
const FILE_BYTES_MAX: u64 = 2 << 30;
/// A bundle has five.
const FILES_MAX: usize = 64;
const FILE_NAME_BYTES_MAX: usize = 128;
const VERSION_BYTES_MAX: usize = 64;
/// Of what a manifest says for people.
const WORDS_CHARS_MAX: usize = 200;

/// What is in a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    pub name: String,
    /// Fit to be a folder's name.
    pub version: String,
    pub created: String,
    /// By plain names, never empty; the manifest itself is none of them.
    pub files: BTreeMap<String, FileEntry>,
}

/// What the manifest says of one file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FileEntry {
    /// Hexadecimal, lower case.
    pub sha256: String,
    pub bytes: u64,
}

#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    name: String,
    version: String,
    #[serde(default)]
    created: String,
    files: BTreeMap<String, FileEntry>,
}

/// What is wrong with a manifest.
#[derive(Debug)]
pub struct Misread {
    pub unfit: Unfit,
    pub why: String,
}

impl From<String> for Misread {
    fn from(why: String) -> Self {
        Self { unfit: Unfit::Manifest, why }
    }
}

impl Contents {
    /// Reads a manifest; the error says what is wrong with it.
    pub fn read(json: &[u8]) -> Result<Self, Misread> {
        let Written { name, version, created, files } =
            serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if let Some(problem) = version_problem(&version) {
            return Err(format!("version {:?}: {problem}", shown(&version)).into());
        }
        if files.is_empty() || files.len() > FILES_MAX {
            return Err(format!("files: {} files, 1 to {FILES_MAX} expected", files.len()).into());
        }
        for (file, FileEntry { sha256, bytes }) in &files {
            let wrong = |why: &str| Err(Misread::from(format!("files: {:?}: {why}", shown(file))));
            if !is_file_name(file) {
                return wrong("is no plain name of a file");
            }
            if !is_sha256(sha256) {
                return wrong(&format!("sha256 {NO_SHA256}"));
            }
            if *bytes > FILE_BYTES_MAX {
                let why =
                    format!("files: {:?}: {bytes} bytes, at most {FILE_BYTES_MAX} are read", shown(file));
                return Err(Misread { unfit: Unfit::TooLarge, why });
            }
        }
        Ok(Self { name: shown(&name), version, created: shown(&created), files })
    }

    /// Returns what all files have together.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|entry| entry.bytes).sum()
    }
}

/// What is said of a text that [`is_sha256`] refuses.
pub const NO_SHA256: &str = "is not 64 hexadecimal digits in lower case";

/// Returns whether a text is written like a SHA-256: a plain name that leads nowhere.
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns what is wrong with a version's name, `None` when a folder can be called so.
pub fn version_problem(version: &str) -> Option<&'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'+' | b'-');
    if version == DEFAULT {
        return Some("is reserved for the bundle that the configuration names");
    }
    if !version.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return Some("a version begins with a letter or a digit");
    }
    if version.len() > VERSION_BYTES_MAX {
        return Some("a version has at most 64 characters");
    }
    (!version.bytes().all(plain)).then_some("a version has only letters, digits and . _ + -")
}

/// A manifest cannot lead out of its folder, nor to itself.
fn is_file_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.len() <= FILE_NAME_BYTES_MAX
        && name.bytes().all(plain)
        && !name.to_ascii_lowercase().starts_with(MANIFEST)
}

/// Returns words of a bundle so that a terminal shows them and no more: short, without control characters.
pub fn shown(words: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut shown: String = words.chars().take(WORDS_CHARS_MAX).map(plain).collect();
    if words.chars().nth(WORDS_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// Returns a SHA-256 as hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

pub fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn manifest() -> Value {
        let entry = json!({"sha256": sha256(b"x"), "bytes": 1});
        json!({"format": 1, "name": "n", "version": "1.0", "created": "2026", "files": {"model.onnx": entry}})
    }

    #[test]
    fn versions_are_plain_names() {
        for good in ["1", "0.2.0", "2026-11-22", "a_b+c.d-e", "x86", &"v".repeat(64)] {
            assert_eq!(version_problem(good), None, "{good}");
        }
        for (bad, expected) in [
            ("", "begins with"),
            (".hidden", "begins with"),
            ("-x", "begins with"),
            ("a/b", "only letters"),
            ("a b", "only letters"),
            ("a\n", "only letters"),
            ("é", "begins with"),
            ("default", "reserved"),
            (&"v".repeat(65), "at most 64"),
        ] {
            assert!(version_problem(bad).is_some_and(|problem| problem.contains(expected)), "{bad}");
        }
    }

    #[test]
    fn manifests_that_lead_astray_are_refused() {
        let check = |pointer: &str, value: Value, expected: &str| {
            let mut manifest = manifest();
            *manifest.pointer_mut(pointer).unwrap() = value;
            let why = Contents::read(manifest.to_string().as_bytes()).unwrap_err().why;
            assert!(why.contains(expected), "{why}");
        };
        let entry = || json!({"sha256": sha256(b"x"), "bytes": 1});
        check("/version", json!("a/../b"), "version \"a/../b\": a version has only");
        check("/version", json!("default"), "is reserved");
        check("/files", json!({}), "0 files, 1 to 64 expected");
        for name in ["../x", "a/b", "/etc/passwd", ".x", "", "manifest.json", "Manifest.json.minisig", "a\\b"]
        {
            check("/files", json!({name: entry()}), "is no plain name of a file");
        }
        check("/files/model.onnx/sha256", json!("ABC"), "64 hexadecimal digits");
        check("/files/model.onnx/bytes", json!(3_u64 << 30), "at most 2147483648 are read");
        check("/files/model.onnx/bytes", json!(-1), "invalid value");
        assert!(Contents::read(b"[]").is_err() && Contents::read(b"").is_err());
    }

    #[test]
    fn words_are_short_and_plain() {
        let mut manifest = manifest();
        manifest["name"] = json!(format!("\u{1b}[31m{}", "x".repeat(300)));
        let contents = Contents::read(manifest.to_string().as_bytes()).unwrap();
        assert!(!contents.name.contains('\u{1b}') && contents.name.chars().count() == 201);
        assert_eq!(contents.bytes(), 1);
    }

    proptest! {
        /// Whatever is accepted as a version is one plain component of a path, and so is the file in it.
        #[test]
        fn what_is_accepted_stays_in_its_folder(version in "[ -~]{0,70}|\\PC{0,20}", file in "[ -~]{0,20}") {
            if version_problem(&version).is_none() {
                let parts: Vec<_> = std::path::Path::new(&version).components().collect();
                prop_assert!(matches!(&parts[..], [std::path::Component::Normal(_)]));
                prop_assert!(version != DEFAULT && version.len() <= 64 && !version.starts_with('.'));
            }
            if is_file_name(&file) {
                let parts: Vec<_> = std::path::Path::new(&file).components().collect();
                prop_assert!(matches!(&parts[..], [std::path::Component::Normal(_)]));
            }
        }
    }
}
