//! A store that is a folder: versions are read where they lie, and appear whole.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use uuid::Uuid;

use super::{
    BundleStoreError, Checked, LastNames,
    disk::{self, Written},
    objects::Put,
    put::Copying,
};

/// Beginning of the name of what is not whole yet; no version is called so.
const PART: &str = ".part-";
/// A copy that wrote nothing for so long has ended without its end: it writes with every mebibyte. Clocks of a file
/// server may differ by some minutes.
const PART_IDLE_MAX: Duration = Duration::from_secs(3600);
/// Entries looked at in a part; a bundle has at most 64 files.
const PART_ENTRIES_MAX: usize = 256;

/// A folder with one folder per version.
#[derive(Debug, Clone)]
pub struct FolderStore {
    pub root: PathBuf,
}

impl FolderStore {
    pub fn of(&self, version: &str) -> PathBuf {
        self.root.join(version)
    }

    /// Returns the manifest of a version; `None`: it is not here.
    pub fn manifest(&self, version: &str) -> Result<Option<Written>, BundleStoreError> {
        disk::manifest(&self.of(version), version)
    }

    /// Returns the names of folders that are, or might be, versions; empty where there is no store yet.
    pub fn names(&self) -> Result<LastNames, BundleStoreError> {
        let failed = |error: io::Error| BundleStoreError::disk(&self.root, 0, &error);
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LastNames::default()),
            Err(error) => return Err(failed(error)),
        };
        let mut names = LastNames::default();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // A link may lead to a version.
            if !name.starts_with('.') && entry.path().is_dir() {
                names.add(name);
            }
        }
        Ok(names)
    }

    /// Copies a bundle's folder here. What is there already stays; the caller looks what that is.
    pub fn put(&self, from: &Path, checked: &Checked, copying: Copying<'_>) -> Result<Put, BundleStoreError> {
        let bytes = checked.contents.bytes();
        let failed = |error: io::Error| BundleStoreError::in_store(&self.root, bytes, &error);
        fs::create_dir_all(&self.root).map_err(failed)?;
        self.sweep();
        let part = self.part();
        fs::create_dir(&part).map_err(failed)?;
        let version = self.of(&checked.contents.version);
        let done =
            disk::copy(from, &part, checked, copying).and_then(|()| match fs::rename(&part, &version) {
                Err(error) if version.is_dir() => {
                    tracing::debug!(%error, "there is a folder of this version already");
                    Ok(Put::Taken)
                }
                renamed => renamed.map(|()| Put::Done).map_err(failed),
            });
        // Gone where it was renamed.
        let _ = fs::remove_dir_all(&part);
        done
    }

    /// Puts a signature beside a manifest that is here.
    pub fn sign(&self, version: &str, written: &Written) -> Result<(), BundleStoreError> {
        let folder = self.of(version);
        disk::write_manifest(&folder, written).map_err(|error| BundleStoreError::in_store(&folder, 0, &error))
    }

    /// Takes a version away: it is gone at once, and its files after that.
    pub fn remove(&self, version: &str) -> Result<(), BundleStoreError> {
        let (folder, part) = (self.of(version), self.part());
        let failed = |path: &Path, error: io::Error| BundleStoreError::disk(path, 0, &error);
        fs::rename(&folder, &part).map_err(|error| failed(&folder, error))?;
        // Of a link the link alone goes.
        fs::remove_dir_all(&part).map_err(|error| failed(&part, error))
    }

    /// Returns a name for what is not whole, or no more.
    fn part(&self) -> PathBuf {
        self.root.join(format!("{PART}{}", Uuid::now_v7().simple()))
    }

    /// Removes what copies that stopped have left. What cannot be removed does not matter.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.root) else { return };
        for entry in entries.flatten() {
            let is_part = entry.file_name().to_string_lossy().starts_with(PART);
            if is_part && idle(&entry.path()).is_some_and(|idle| idle > PART_IDLE_MAX) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Returns for how long nothing was written into a part; `None` where that cannot be known.
fn idle(part: &Path) -> Option<Duration> {
    let changed = |path: &Path| fs::symlink_metadata(path).and_then(|metadata| metadata.modified()).ok();
    let mut latest = changed(part)?;
    for entry in fs::read_dir(part).ok()?.take(PART_ENTRIES_MAX).flatten() {
        latest = latest.max(changed(&entry.path())?);
    }
    SystemTime::now().duration_since(latest).ok()
}
