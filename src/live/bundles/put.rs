//! A bundle's folder -> a version in the store, whole or not at all; and a version out of it again.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    BundleStore, BundleStoreError, Checked, Place, Told, disk, objects::Put, off_reactor, version_problem,
};
use crate::live::rollout::BundleRef;

/// Asks a copy to end. It looks at this between two parts of a file, and takes back what it has begun.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

/// A version that is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    pub bundle: BundleRef,
    /// It was not there before.
    pub is_new: bool,
}

/// Hears of bytes that were copied; an error ends the copy.
pub(super) type Copying<'a> = &'a (dyn Fn(u64) -> Result<(), BundleStoreError> + Send + Sync);

impl Stop {
    pub fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl BundleStore {
    /// Copies the bundle in `folder` into the store under its version.
    pub async fn put(&self, folder: &Path) -> Result<BundleRef, BundleStoreError> {
        let copied = self.put_telling(folder, Arc::new(|_| {}), Stop::default()).await;
        Ok(copied?.bundle)
    }

    /// The same; `told` hears of bytes as they are copied, and `stop` ends it early.
    ///
    /// What is in the store already under this version may only be the same; a signature is added to it.
    pub async fn put_telling(
        &self,
        folder: &Path,
        told: Told,
        stop: Stop,
    ) -> Result<Copied, BundleStoreError> {
        let (from, keys) = (folder.to_owned(), self.keys.clone());
        let checked = off_reactor(move || disk::checked(&from, &keys)).await?;
        let bundle = checked.bundle();
        if self.is_there(&checked).await? {
            return Ok(Copied { bundle, is_new: false });
        }
        let version = checked.contents.version.clone();
        let copying = move |bytes: u64| {
            told(bytes);
            if stop.is_wanted() {
                return Err(BundleStoreError::Stopped { version: version.clone() });
            }
            Ok(())
        };
        let is_new = match &self.place {
            Place::Folder(store) => {
                let (store, from, ours) = (store.clone(), folder.to_owned(), checked.clone());
                let folder_of_version = store.of(&checked.contents.version);
                let put = off_reactor(move || store.put(&from, &ours, &copying)).await?;
                // Somebody else may have been faster, with another one, or with less than a whole one.
                if !self.is_there(&checked).await? {
                    return Err(in_the_way(folder_of_version));
                }
                put == Put::Done
            }
            Place::Objects { store, .. } => match store.put(folder, &checked, &copying).await? {
                Put::Done => true,
                Put::Taken => {
                    self.is_there(&checked).await?;
                    false
                }
            },
        };
        Ok(Copied { bundle, is_new })
    }

    /// Returns whether exactly this is in the store; an error where another one is called so.
    async fn is_there(&self, checked: &Checked) -> Result<bool, BundleStoreError> {
        let version = &checked.contents.version;
        let Some(there) = self.manifest(version).await? else { return Ok(false) };
        if there.manifest != checked.written.manifest {
            return Err(BundleStoreError::Taken { version: version.clone(), store: self.name() });
        }
        let written = &checked.written;
        if written.signature.is_some() && written.signature != there.signature {
            match &self.place {
                Place::Folder(store) => {
                    let (store, version, written) = (store.clone(), version.clone(), written.clone());
                    off_reactor(move || store.sign(&version, &written)).await?;
                }
                Place::Objects { store, .. } => store.sign(version, written).await?,
            }
        }
        Ok(true)
    }

    /// Takes a version out of the store for good; where a SHA-256 is named, only that one. Whether somebody uses it is
    /// for the caller to know.
    pub async fn remove(&self, bundle: &BundleRef) -> Result<(), BundleStoreError> {
        let written = self.known(&bundle.name).await?;
        if bundle.sha256.is_some() {
            self.expect(bundle, &self.checked(&bundle.name, written.clone())?)?;
        }
        match &self.place {
            Place::Folder(store) => {
                let (store, version) = (store.clone(), Arc::clone(&bundle.name));
                off_reactor(move || store.remove(&version)).await
            }
            Place::Objects { store, .. } => store.remove(&bundle.name, &written).await,
        }
    }

    /// Returns whether an object store holds files of a version that has no manifest: its copy was killed, is still
    /// going on, or could not be taken out to its end. In a folder nothing is called by a version that is not whole.
    pub async fn has_leftovers(&self, version: &str) -> Result<bool, BundleStoreError> {
        match &self.place {
            Place::Objects { store, .. } if version_problem(version).is_none() => {
                Ok(!store.leftovers(version).await?.is_empty())
            }
            Place::Objects { .. } | Place::Folder(_) => Ok(false),
        }
    }

    /// Takes these files out; a version that is whole by now stays.
    pub async fn remove_leftovers(&self, version: &str) -> Result<(), BundleStoreError> {
        match self.known(version).await {
            Err(BundleStoreError::Unknown { .. }) => {}
            Err(error) => return Err(error),
            Ok(_) => {
                let problem = format!("bundle {version} has come there just now, whole, and was not deleted");
                return Err(BundleStoreError::Store { place: self.name(), problem });
            }
        }
        match &self.place {
            Place::Objects { store, .. } => store.remove_leftovers(version).await,
            Place::Folder(_) => Ok(()),
        }
    }
}

fn in_the_way(path: PathBuf) -> BundleStoreError {
    let problem = "is there without a manifest.json, so the bundle was not copied: remove the folder, unless somebody is \
                   copying a version into it, and try again";
    BundleStoreError::Disk { path, problem: problem.to_owned() }
}
