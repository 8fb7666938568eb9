//! The bundle that is inside the binary, and bundles in the folders of a store.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

const VERSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/onnx");
/// Names the version in a folder of them.
const POINTER: &str = "default";
const MANIFEST: &str = "manifest.json";

/// Returns the folder of the bundle that is inside the binary.
pub fn shipped() -> io::Result<PathBuf> {
    let name = fs::read_to_string(Path::new(VERSIONS).join(POINTER))?;
    Ok(Path::new(VERSIONS).join(name.trim()))
}

/// Returns the version of the bundle in a folder.
pub fn version(folder: &Path) -> io::Result<String> {
    let version = manifest(folder)?["version"].as_str().map(str::to_owned);
    version.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the manifest names no version"))
}

/// Copies a bundle into a store, under another version where one is given; returns the version.
pub fn copy(folder: &Path, store: &Path, renamed: Option<&str>) -> io::Result<String> {
    let version = renamed.map_or_else(|| version(folder), |version| Ok(version.to_owned()))?;
    let target = store.join(&version);
    fs::create_dir_all(&target)?;
    for file in fs::read_dir(folder)? {
        let file = file?;
        fs::copy(file.path(), target.join(file.file_name()))?;
    }
    if renamed.is_some() {
        let mut manifest = manifest(folder)?;
        manifest["version"] = version.clone().into();
        fs::write(target.join(MANIFEST), manifest.to_string())?;
    }
    Ok(version)
}

fn manifest(folder: &Path) -> io::Result<serde_json::Value> {
    Ok(serde_json::from_slice(&fs::read(folder.join(MANIFEST))?)?)
}
