//! Where ONNX Runtime's shared library may be, in the order in which it is looked for.
//!
//! Only paths: nothing is loaded here.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// One place that may hold the library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What the place is, for a person.
    pub origin: &'static str,
    /// The file found there, or the place that was searched in vain.
    pub found: Result<PathBuf, String>,
}

/// Returns every place in order: the first that loads wins.
pub fn candidates() -> Vec<Candidate> {
    let named = match env::var_os("ORT_DYLIB_PATH") {
        Some(path) => existing(PathBuf::from(path)),
        None => Err("is not set".to_owned()),
    };
    let executable = env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned));
    let beside = match executable {
        Some(folder) => library_in(&folder),
        None => Err("the executable's folder is unknown".to_owned()),
    };
    vec![
        Candidate { origin: "environment variable ORT_DYLIB_PATH", found: named },
        Candidate { origin: "beside the executable", found: beside },
        Candidate { origin: "active Python environment", found: python() },
        Candidate {
            origin: "fetched when this program was built",
            found: match option_env!("POINTSMAN_BUILT_ORT") {
                Some(path) => existing(PathBuf::from(path)),
                None => Err("the build fetched none".to_owned()),
            },
        },
    ]
}

fn existing(path: PathBuf) -> Result<PathBuf, String> {
    if path.is_file() { Ok(path) } else { Err(format!("{} is not a file", path.display())) }
}

fn python() -> Result<PathBuf, String> {
    let prefixes: Vec<PathBuf> =
        ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(env::var_os).map(PathBuf::from).collect();
    if prefixes.is_empty() {
        return Err("none is active (VIRTUAL_ENV and CONDA_PREFIX are not set)".to_owned());
    }
    let packages = prefixes.iter().flat_map(|prefix| {
        fs::read_dir(prefix.join("lib"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join("site-packages/onnxruntime/capi"))
    });
    packages
        .filter_map(|capi| library_in(&capi).ok())
        .next()
        .ok_or_else(|| format!("{} has no onnxruntime package", prefixes[0].display()))
}

/// Returns the library in this folder, whatever its version suffix.
fn library_in(folder: &Path) -> Result<PathBuf, String> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(|error| format!("{}: {error}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let versioned = name.starts_with("libonnxruntime.so") || name.starts_with("libonnxruntime.");
            versioned && (name.contains(".so") || name.ends_with(".dylib")) || name == "onnxruntime.dll"
        })
        .collect();
    // The longest name carries the full version and is the file itself, not a link to it.
    files.sort_by_key(|path| path.as_os_str().len());
    files.pop().ok_or_else(|| format!("{} has no libonnxruntime", folder.display()))
}

/// Returns what was tried and the two ways to fix it, for a person.
pub fn not_found(tried: &[(&'static str, String)]) -> String {
    let lines: String = tried.iter().map(|(origin, why)| format!("\n  - {origin}: {why}")).collect();
    format!(
        "ONNX Runtime's shared library was not found; looked for it here:{lines}\n\
         fix it in one of two ways:\n  \
         1. pip install onnxruntime==1.31.1, then set ORT_DYLIB_PATH to its libonnxruntime file \
         (or activate that Python environment);\n  \
         2. build pointsman again where pip reaches a package index, without POINTSMAN_ORT_DOWNLOAD=off"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_found_with_its_version_suffix() {
        let folder = tempfile::tempdir().unwrap();
        assert!(library_in(folder.path()).unwrap_err().contains("has no libonnxruntime"));
        for name in ["libonnxruntime_providers_shared.so", "libonnxruntime.so", "libonnxruntime.so.1.31.1"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert!(library_in(folder.path()).unwrap().ends_with("libonnxruntime.so.1.31.1"));
    }

    #[test]
    fn the_message_names_every_place_and_both_ways_out() {
        let text = not_found(&[("beside the executable", "/x has no libonnxruntime".to_owned())]);
        assert!(text.contains("beside the executable: /x has no libonnxruntime"));
        assert!(text.contains("ORT_DYLIB_PATH") && text.contains("build pointsman again"));
    }
}
