//! The configured bundle's folder -> the one to read: itself, or the version that a file named `default` beside
//! several of them names. Reads nothing of a bundle.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use super::bundles::MANIFEST;
use crate::config::ClassifierConfig;

/// Names the version that serves, in a folder of versions.
const POINTER: &str = "default";
/// Longest name of a version, bytes.
const NAME_BYTES_MAX: u64 = 128;

/// Why it is not known which bundle is meant.
#[derive(Debug, thiserror::Error)]
pub enum PointerError {
    #[error("classifier.bundle: {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error(
        "classifier.bundle: {}: names no version: write the name of a folder beside it, of letters, digits, dots, \
         hyphens and underscores, at most {NAME_BYTES_MAX}",
        path.display()
    )]
    Name { path: PathBuf },
}

/// Returns the files of the configured bundle's folder whose change means another bundle.
pub fn telling_files(folder: &Path) -> [PathBuf; 2] {
    [folder.join(POINTER), folder.join(MANIFEST)]
}

/// Returns how the classifier is to be run, with the folder that holds the bundle itself.
pub fn resolved(config: &ClassifierConfig) -> Result<ClassifierConfig, PointerError> {
    let bundle = config.bundle.as_deref().map(resolve).transpose()?;
    Ok(ClassifierConfig { bundle, ..config.clone() })
}

fn resolve(folder: &Path) -> Result<PathBuf, PointerError> {
    let path = folder.join(POINTER);
    if folder.join(MANIFEST).exists() {
        return Ok(folder.to_owned());
    }
    let file = match File::open(&path) {
        Ok(file) => file,
        // No folder of versions: what is wrong with it is told when it is read as a bundle.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(folder.to_owned());
        }
        Err(error) => return Err(PointerError::Unreadable { path, error }),
    };
    let mut text = String::new();
    // One more byte tells a name that is too long; a line's end does not count.
    if let Err(error) = file.take(NAME_BYTES_MAX + 2).read_to_string(&mut text) {
        return Err(PointerError::Unreadable { path, error });
    }
    let name = text.trim();
    if is_name(name) { Ok(folder.join(name)) } else { Err(PointerError::Name { path }) }
}

/// Returns whether a text can only be a folder right beside the file that names it.
fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
    let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    begins && text.len() as u64 <= NAME_BYTES_MAX && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Ok`: the folder, relative; `Err`: a part of the message.
    fn check(files: &[(&str, &str)], expected: Result<&str, &str>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        match (resolve(folder.path()), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, folder.path().join(expected), "{files:?}"),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn a_folder_of_versions_names_one() {
        check(&[("default", "0.2.0\n"), ("0.2.0/manifest.json", "{}")], Ok("0.2.0"));
        check(&[("default", "  gone ")], Ok("gone"));
        check(&[("default", "0.2.0\n"), ("manifest.json", "{}")], Ok(""));
        check(&[], Ok(""));
        for bad in ["", "\n", "../elsewhere", "/etc", "a/b", ".hidden", "a b", &"x".repeat(200)] {
            check(&[("default", bad)], Err("names no version"));
        }
        check(&[("default/file", "a folder")], Err("classifier.bundle: "));
    }
}
