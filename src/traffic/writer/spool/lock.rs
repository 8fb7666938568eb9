//! Who writes a file of the spool: a lock beside it that ends with the process, however that ends.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The right to a file, for as long as this lives.
///
/// Beside the file and not on it: to close a file that was locked in this way would also end the locks by which
/// SQLite guards it.
#[derive(Debug)]
pub struct Lock {
    file: File,
    guarded: PathBuf,
}

impl Lock {
    /// Takes the right to `guarded`; `None` when another process has it.
    pub fn take(guarded: &Path) -> io::Result<Option<Self>> {
        let path = beside(guarded);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Its owner may have removed it in the meantime: a lock that nobody else finds guards nothing.
        let is_there = fs::metadata(&path).is_ok_and(|found| {
            file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (found.dev(), found.ino()))
        });
        Ok(is_there.then(|| Self { file, guarded: guarded.to_owned() }))
    }

    /// Returns the file that this is the right to.
    pub fn guarded(&self) -> &Path {
        &self.guarded
    }

    /// Gives it up for good, the file being gone.
    pub fn remove(self) {
        // While it is held, so that nobody takes a lock that is about to disappear.
        let _ = fs::remove_file(beside(&self.guarded));
        drop(self.file);
    }
}

fn beside(guarded: &Path) -> PathBuf {
    guarded.with_extension("lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool-1.sqlite");
        let first = Lock::take(&path).unwrap().unwrap();
        assert!(Lock::take(&path).unwrap().is_none());
        drop(first);
        let second = Lock::take(&path).unwrap().unwrap();
        second.remove();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(Lock::take(&path).unwrap().is_some());
    }
}
