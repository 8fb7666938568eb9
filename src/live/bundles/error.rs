//! Why a version cannot be had, or cannot be put into the store.

use std::path::{Path, PathBuf};

use super::signature::SignatureProblem;
use crate::routing::classifier::Unfit;

/// Why a version cannot be had. Never holds credentials.
#[derive(Debug, thiserror::Error)]
pub enum BundleStoreError {
    #[error("bundle {version}: not in {store}; `pointsman bundle list --store` says what is")]
    Unknown { version: String, store: String },
    #[error("bundle {version:?}: {problem}")]
    Version { version: String, problem: &'static str },
    #[error("bundle {version}: manifest.json: {why}")]
    Manifest { version: String, unfit: Unfit, why: String },
    /// Another one was staged than is there now.
    #[error(
        "bundle {version}: the one in {store} is another than was asked for: its manifest.json has SHA-256 {got}, \
         {expected} was expected; stage it under a version of its own"
    )]
    Changed { version: String, store: String, got: String, expected: String },
    #[error("bundle {version}: {problem}")]
    Signature { version: String, problem: SignatureProblem },
    #[error("bundle {version}: {file}: {why}")]
    File { version: String, file: String, unfit: Unfit, why: String },
    /// Whoever wanted it copied wants it no more.
    #[error("bundle {version}: the copy was stopped before its end")]
    Stopped { version: String },
    #[error("bundle {version}: {file}: not copied within {seconds} s from {store}")]
    Late { version: String, file: String, store: String, seconds: u64 },
    #[error(
        "bundle {version}: {store} holds another bundle of this version: give yours another one, or take that \
         one out with `pointsman bundle delete` if nobody uses it"
    )]
    Taken { version: String, store: String },
    #[error("bundles.store: {0}")]
    Place(String),
    #[error("{place}: {problem}")]
    Store { place: String, problem: String },
    #[error("{}: {problem}", path.display())]
    Disk { path: PathBuf, problem: String },
    #[error(
        "{}: no space left on the disk for a bundle of {bytes} bytes: free some, or set bundles.cache to a folder on \
         another disk",
        path.display()
    )]
    DiskFull { path: PathBuf, bytes: u64 },
    #[error(
        "{}: no space left on the bundle store's disk for a bundle of {bytes} bytes: take versions out that nobody needs \
         (`pointsman bundle list`, `pointsman bundle delete`), or set bundles.store to a folder on another disk",
        path.display()
    )]
    StoreFull { path: PathBuf, bytes: u64 },
    #[error(
        "bundle {version}: {bytes} bytes do not fit into the cache beside {in_use} bytes in use: raise \
         bundles.cache_bytes_max, now {most}"
    )]
    CacheFull { version: String, bytes: u64, in_use: u64, most: u64 },
}

impl BundleStoreError {
    /// Returns whether a copy on this machine is other than its manifest says, so that it has to be made anew: not
    /// where it only could not be read.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Manifest { .. } | Self::File { .. } => true,
            Self::Unknown { .. }
            | Self::Version { .. }
            | Self::Changed { .. }
            | Self::Signature { .. }
            | Self::Stopped { .. }
            | Self::Late { .. }
            | Self::Taken { .. }
            | Self::Place(_)
            | Self::Store { .. }
            | Self::Disk { .. }
            | Self::DiskFull { .. }
            | Self::StoreFull { .. }
            | Self::CacheFull { .. } => false,
        }
    }

    /// Returns what went wrong on this machine's disk, where something of `bytes` was to be written into the cache.
    pub(super) fn disk(path: &Path, bytes: u64, error: &std::io::Error) -> Self {
        let path = path.to_owned();
        if is_full(error) {
            return Self::DiskFull { path, bytes };
        }
        Self::Disk { path, problem: error.to_string() }
    }

    /// The same of what was to be written into a store that is a folder.
    pub(super) fn in_store(path: &Path, bytes: u64, error: &std::io::Error) -> Self {
        let path = path.to_owned();
        if is_full(error) {
            return Self::StoreFull { path, bytes };
        }
        Self::Disk { path, problem: error.to_string() }
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn a_full_disk_says_whose_it_is() {
        let full = || Error::from(ErrorKind::StorageFull);
        let cache = BundleStoreError::disk(Path::new("/cache"), 5, &full()).to_string();
        assert!(cache.starts_with("/cache: no space") && cache.contains("set bundles.cache to"), "{cache}");
        let store = BundleStoreError::in_store(Path::new("/store"), 5, &full()).to_string();
        assert!(store.starts_with("/store: no space") && !store.contains("bundles.cache"), "{store}");
        assert!(store.contains("set bundles.store to") && store.contains("bundle delete"), "{store}");
    }
}
