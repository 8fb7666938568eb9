//! A version in the store or the cache -> a whole folder on this machine.

use std::sync::Arc;

use super::{
    BundleStore, BundleStoreError, Checked, Fetched, Place, Told, another_version,
    cache::Cache,
    contents::{Contents, Misread, sha256},
    disk,
    objects::ObjectsStore,
    off_reactor,
};
use crate::live::rollout::BundleRef;

/// What the cache has of a version.
enum Cached {
    Whole(Fetched),
    /// Its files are not what they should be.
    Damaged,
    Absent,
}

impl BundleStore {
    /// Returns the version, and where it came from.
    pub(super) async fn fetch_any(
        &self,
        bundle: &BundleRef,
        told: &Told,
    ) -> Result<(Fetched, &'static str), BundleStoreError> {
        let (store, cache, fetching) = match &self.place {
            Place::Folder(folder) => {
                let checked = self.look(&bundle.name).await?;
                self.expect(bundle, &checked)?;
                let (folder, told) = (folder.of(&bundle.name), Arc::clone(told));
                let found = off_reactor(move || {
                    disk::check_files(&folder, &checked.contents, &*told).map(|()| folder)
                });
                return Ok((Fetched { folder: found.await?, held: Arc::new(()) }, "in_place"));
            }
            Place::Objects { store, cache, fetching } => (store, cache, fetching),
        };
        let _alone = fetching.lock().await;
        let mut cached = Cached::Absent;
        if let Some(sha256) = &bundle.sha256 {
            cached = self.cached(cache, &bundle.name, sha256, told).await?;
            if let Cached::Whole(fetched) = cached {
                return Ok((fetched, "cached"));
            }
        }
        let checked = self.look(&bundle.name).await?;
        self.expect(bundle, &checked)?;
        if bundle.sha256.is_none() {
            cached = self.cached(cache, &bundle.name, &checked.sha256, told).await?;
        }
        let damaged = match cached {
            Cached::Whole(fetched) => return Ok((fetched, "cached")),
            Cached::Damaged => true,
            Cached::Absent => false,
        };
        Ok((self.download(store, cache, &checked, damaged, told).await?, "downloaded"))
    }

    /// Looks at a version in the cache; one that is damaged stays until there is a better one.
    async fn cached(
        &self,
        cache: &Arc<Cache>,
        version: &str,
        manifest_sha256: &str,
        told: &Told,
    ) -> Result<Cached, BundleStoreError> {
        let (asked, name) = (Arc::clone(cache), manifest_sha256.to_owned());
        let held = off_reactor(move || asked.hold(&name)).await;
        let Some(fetched) = held.map_err(|error| BundleStoreError::disk(cache.folder(), 0, &error))? else {
            return Ok(Cached::Absent);
        };
        let folder = fetched.folder.clone();
        let (expected, called, told) = (manifest_sha256.to_owned(), version.to_owned(), Arc::clone(told));
        let whole = off_reactor(move || {
            let Some(written) = disk::manifest(&folder, &called)? else {
                return Ok::<_, BundleStoreError>(None);
            };
            if sha256(&written.manifest) != expected {
                return Ok(None);
            }
            let contents = Contents::read(&written.manifest).map_err(|Misread { unfit, why }| {
                BundleStoreError::Manifest { version: called.clone(), unfit, why }
            })?;
            disk::check_files(&folder, &contents, &*told)?;
            Ok(Some((contents, written)))
        });
        let whole = match whole.await {
            Err(error) if error.is_damage() => None,
            looked => looked?,
        };
        let Some((contents, mut written)) = whole else {
            let folder = fetched.folder.display();
            tracing::warn!(version, %folder, "bundle in the cache is damaged: fetched anew");
            return Ok(Cached::Damaged);
        };
        if contents.version != version {
            return Err(another_version(version, &contents.version));
        }
        if self.keys.signer(&written.manifest, written.signature.as_deref()).is_err() {
            // It may have been signed since, or by another key.
            let there = self.manifest(version).await?.filter(|there| there.manifest == written.manifest);
            written.signature = there.and_then(|there| there.signature);
            Checked::new(version, written.clone(), &self.keys)?;
            let folder = fetched.folder.clone();
            let signed = off_reactor(move || disk::write_manifest(&folder, &written)).await;
            signed.map_err(|error| BundleStoreError::disk(&fetched.folder, 0, &error))?;
        }
        Ok(Cached::Whole(fetched))
    }

    async fn download(
        &self,
        store: &ObjectsStore,
        cache: &Arc<Cache>,
        checked: &Checked,
        damaged: bool,
        told: &Told,
    ) -> Result<Fetched, BundleStoreError> {
        let bytes = checked.contents.bytes() + checked.written.manifest.len() as u64;
        let failed = |error: std::io::Error| BundleStoreError::disk(cache.folder(), bytes, &error);
        let (making, replaced) = (Arc::clone(cache), damaged.then(|| checked.sha256.clone()));
        let begun = off_reactor(move || match making.make_room(bytes, replaced.as_deref())? {
            Ok(()) => making.begin().map(Ok),
            Err(full) => Ok(Err(full)),
        });
        let part = begun.await.map_err(failed)?.map_err(|full| BundleStoreError::CacheFull {
            version: checked.contents.version.clone(),
            bytes,
            in_use: full.in_use,
            most: cache.bytes_max(),
        })?;
        store.fetch(checked, part.folder(), told).await?;
        let (keeping, name) = (Arc::clone(cache), checked.sha256.clone());
        let kept =
            off_reactor(
                move || {
                    if damaged { keeping.replace(part, &name) } else { keeping.keep(part, &name) }
                },
            );
        let fetched = kept.await.map_err(failed)?;
        tracing::info!(version = checked.contents.version, bytes, store = self.name(), "bundle fetched");
        Ok(fetched)
    }
}
