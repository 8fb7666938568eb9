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
    #[error("bundle {version}: {file}: not copied within {seconds} s from {store}")]
    Late { version: String, file: String, store: String, seconds: u64 },
    #[error("bundle {version}: {store} holds another bundle of this version: give yours another one")]
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
            | Self::Late { .. }
            | Self::Taken { .. }
            | Self::Place(_)
            | Self::Store { .. }
            | Self::Disk { .. }
            | Self::DiskFull { .. }
            | Self::CacheFull { .. } => false,
        }
    }

    /// Returns what went wrong on this machine's disk, where something of `bytes` was to be written.
    pub(super) fn disk(path: &Path, bytes: u64, error: &std::io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path, bytes }
            }
            _ => Self::Disk { path, problem: error.to_string() },
        }
    }
}
