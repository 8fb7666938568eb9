//! What is taken out of an object store again: a version, what a copy has begun, and what has no manifest any more.
//!
//! Somebody else may be copying another bundle under the same version just then, so no more goes than is known to be
//! nobody else's.

use std::collections::BTreeSet;

use object_store::{Error, ObjectStoreExt};

use super::{
    BundleStoreError,
    contents::{Contents, MANIFEST, SIGNATURE, is_sha256},
    disk::Written,
    objects::{ObjectsStore, content_name},
};

impl ObjectsStore {
    /// Takes a version away: it is gone with its manifest, and the files that this one lists after that.
    pub async fn remove(&self, version: &str, written: &Written) -> Result<(), BundleStoreError> {
        let listed = listed(written);
        let rest = self.objects(version).await?.into_iter().map(|(name, _)| name);
        // A manifest that nobody can read may have listed anything.
        let rest = rest
            .filter(|name| name == SIGNATURE || listed.as_ref().is_none_or(|listed| listed.contains(name)));
        let names = std::iter::once(MANIFEST.to_owned()).chain(rest.filter(|name| name != MANIFEST));
        self.delete(version, names).await
    }

    /// Returns what lies in a version's folder that only a copy can have put there; without a manifest it is of no use.
    pub async fn leftovers(&self, version: &str) -> Result<BTreeSet<String>, BundleStoreError> {
        let names = self.objects(version).await?.into_iter().map(|(name, _)| name);
        Ok(names.filter(|name| name == SIGNATURE || is_content_name(name)).collect())
    }

    /// Takes away what has no manifest.
    pub async fn remove_leftovers(&self, version: &str) -> Result<(), BundleStoreError> {
        let names = self.leftovers(version).await?;
        self.delete(version, names.into_iter()).await
    }

    /// Takes back what a copy has put there, but nothing that the manifest of a faster one lists. What cannot be taken
    /// back is left to whoever deletes the version.
    pub async fn take_back(&self, version: &str, mut names: BTreeSet<String>) {
        if names.is_empty() {
            return;
        }
        let spared = self.manifest(version).await.map(|written| match written {
            Some(written) => listed(&written),
            None => Some(BTreeSet::new()),
        });
        let taken_back = match spared {
            Ok(Some(spared)) => {
                names.retain(|name| !spared.contains(name));
                self.delete(version, names.into_iter()).await
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = taken_back {
            tracing::warn!(%error, version, "what was copied was not taken back: delete the version");
        }
    }

    /// Ends at the first that cannot be deleted: a store that is away would be waited for with each.
    async fn delete(
        &self,
        version: &str,
        names: impl Iterator<Item = String>,
    ) -> Result<(), BundleStoreError> {
        for name in names {
            let path = self.at(version, &name);
            match self.within(self.remote.store.delete(&path)).await? {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Ok(())
    }
}

/// Returns what a manifest's files are called in the store, by whatever means they were copied; `None`: it says nothing.
fn listed(written: &Written) -> Option<BTreeSet<String>> {
    let contents = Contents::read(&written.manifest).ok()?;
    let names = contents.files.iter().flat_map(|(file, entry)| [content_name(file, entry), file.clone()]);
    Some(names.collect())
}

/// Returns whether a file is called as only a copy calls it.
fn is_content_name(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(file, sha256)| !file.is_empty() && is_sha256(sha256))
}
