//! Versions of the classifier in a folder or an object store -> a verified folder on this machine.
//!
//! A version is `<version>/manifest.json` and the files that it lists. Whether it can serve is not asked here, only
//! whether it is whole, unchanged, and signed where it has to be.

mod cache;
mod contents;
mod disk;
mod error;
mod fetch;
mod folder;
mod objects;
mod order;
mod put;
mod removal;
mod signature;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::StreamExt;

use self::{
    cache::Cache,
    contents::{Contents, Misread},
    disk::Written,
    folder::FolderStore,
    objects::ObjectsStore,
    signature::Keys,
};
pub use self::{
    contents::{MANIFEST, NO_SHA256, is_sha256, sha256, shown, version_problem},
    disk::manifest_sha256,
    error::BundleStoreError,
    put::{Copied, Stop},
    signature::{SignatureProblem, Signer},
};
use super::{off_reactor::off_reactor, rollout::BundleRef};
use crate::{
    config::{BundleStoreConfig, BundlesConfig},
    routing::classifier::Unfit,
    telemetry,
    traffic::export::{Remote, credentials},
};

/// Versions listed; of more, those that come last by name.
const VERSIONS_MAX: usize = 1000;
/// Manifests read at once.
const MANIFESTS_AT_ONCE: usize = 8;

/// Hears of bytes as they are copied or checked.
pub type Told = Arc<dyn Fn(u64) + Send + Sync>;

/// Where versions are kept.
#[derive(Debug, Clone)]
pub struct BundleStore {
    place: Place,
    keys: Keys,
}

#[derive(Debug, Clone)]
enum Place {
    Folder(FolderStore),
    Objects {
        store: ObjectsStore,
        cache: Arc<Cache>,
        /// One version at a time: who asks for the same one finds it.
        fetching: Arc<tokio::sync::Mutex<()>>,
    },
}

/// A version that is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub bundle: BundleRef,
    /// What its manifest says.
    pub name: String,
    pub created: String,
    pub bytes: u64,
    /// Name of the key that signed it, if one did.
    pub signed_by: Option<String>,
    /// Why it cannot be used at all, for example an unreadable manifest or a file that is too short.
    pub problem: Option<String>,
}

/// A version on this machine.
#[derive(Debug, Clone)]
pub struct Fetched {
    pub folder: PathBuf,
    /// Keeps the cache from dropping it.
    pub held: Arc<()>,
}

/// A bundle's folder whose manifest and signature are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    pub bundle: BundleRef,
    pub name: String,
    pub created: String,
    /// Name and size of each file.
    pub files: Vec<(String, u64)>,
    pub signer: Option<Signer>,
    /// Whether there are keys to verify a signature with.
    pub has_keys: bool,
    contents: Contents,
}

/// A manifest that was read, and whose signature is good enough.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Checked {
    contents: Contents,
    written: Written,
    sha256: String,
    signer: Option<Signer>,
}

/// The names that come last, of however many: one more than are listed, to tell that there are more.
#[derive(Debug, Default)]
struct LastNames(BTreeSet<String>);

impl LastNames {
    fn add(&mut self, name: String) {
        self.0.insert(name);
        if self.0.len() > VERSIONS_MAX + 1 {
            self.0.pop_first();
        }
    }

    /// Returns them by name.
    fn into_names(self) -> Vec<String> {
        self.0.into_iter().collect()
    }
}

impl Checked {
    /// `called` is how errors name the bundle.
    fn new(called: &str, written: Written, keys: &Keys) -> Result<Self, BundleStoreError> {
        let contents = Contents::read(&written.manifest).map_err(|Misread { unfit, why }| {
            BundleStoreError::Manifest { version: called.to_owned(), unfit, why }
        })?;
        let signer = keys
            .signer(&written.manifest, written.signature.as_deref())
            .map_err(|problem| BundleStoreError::Signature { version: called.to_owned(), problem })?;
        let sha256 = sha256(&written.manifest);
        Ok(Self { contents, written, sha256, signer })
    }

    fn bundle(&self) -> BundleRef {
        BundleRef { name: self.contents.version.as_str().into(), sha256: Some(self.sha256.as_str().into()) }
    }
}

impl BundleStore {
    /// Opens it; nothing is read yet.
    pub fn open(config: &BundlesConfig) -> Result<Self, BundleStoreError> {
        let keys = Keys::new(&config.public_keys, config.require_signature)
            .ok_or_else(|| BundleStoreError::Place("public_keys: one of them is no public key".to_owned()))?;
        let place = match &config.store {
            BundleStoreConfig::Folder(root) => Place::Folder(FolderStore { root: root.clone() }),
            BundleStoreConfig::Url(url) => {
                let remote = Remote::open(url, credentials()).map_err(BundleStoreError::Place)?;
                let cache = Arc::new(Cache::new(config.cache.clone(), config.cache_bytes_max));
                Place::Objects { store: ObjectsStore { remote }, cache, fetching: Arc::default() }
            }
        };
        Ok(Self { place, keys })
    }

    /// Returns what people call it, from wherever they look; without credentials.
    pub fn name(&self) -> String {
        match &self.place {
            Place::Folder(FolderStore { root }) => {
                std::path::absolute(root).unwrap_or_else(|_| root.clone()).display().to_string()
            }
            Place::Objects { store, .. } => store.remote.name.clone(),
        }
    }

    /// Returns whether it is a folder that is not there: a mistake in its name, or nothing was ever put into it.
    pub async fn is_missing(&self) -> bool {
        match &self.place {
            Place::Folder(folder) => {
                let root = folder.root.clone();
                off_reactor(move || matches!(root.try_exists(), Ok(false))).await
            }
            // An object store has no empty folders.
            Place::Objects { .. } => false,
        }
    }

    /// Returns every version, the latest first.
    pub async fn list(&self) -> Result<Vec<Listed>, BundleStoreError> {
        let mut names: Vec<String> = match &self.place {
            Place::Folder(folder) => {
                let folder = folder.clone();
                off_reactor(move || folder.names()).await?
            }
            Place::Objects { store, .. } => store.names().await?,
        }
        .into_names();
        if names.len() > VERSIONS_MAX {
            tracing::warn!(store = self.name(), listed = VERSIONS_MAX, "too many versions to list them all");
            names.drain(..names.len() - VERSIONS_MAX);
        }
        let looked = futures::stream::iter(names)
            .map(|name| async move { self.listed(&name).await })
            .buffered(MANIFESTS_AT_ONCE);
        let mut listed: Vec<Listed> = looked.filter_map(futures::future::ready).collect().await;
        listed.sort_by(|one, other| {
            let created = other.created.cmp(&one.created);
            created.then_with(|| order::compare(&other.bundle.name, &one.bundle.name))
        });
        Ok(listed)
    }

    /// Returns what is listed under a name; `None` where there is no manifest: nothing, or not whole yet.
    async fn listed(&self, name: &str) -> Option<Listed> {
        if let Some(problem) = version_problem(name) {
            // What a name that is no text leads to cannot be looked at.
            let is_bundle =
                name.contains(char::REPLACEMENT_CHARACTER) || !matches!(self.manifest(name).await, Ok(None));
            return is_bundle.then(|| Listed::unfit(name, problem.to_owned()));
        }
        let checked = match self.manifest(name).await {
            Ok(Some(written)) => self.checked(name, written),
            Ok(None) => return None,
            Err(error) => Err(error),
        };
        Some(self.listed_as(name, checked).await)
    }

    async fn listed_as(&self, version: &str, checked: Result<Checked, BundleStoreError>) -> Listed {
        let checked = match checked {
            Ok(checked) => checked,
            Err(error) => return Listed::unfit(version, error.to_string()),
        };
        let problem = self.look_over(&checked.contents).await.err().map(|error| error.to_string());
        Listed { problem, ..Listed::of(checked) }
    }

    /// Looks whether every file is there, is one, and has the size that the manifest says. None is read: that is for who
    /// fetches it.
    async fn look_over(&self, contents: &Contents) -> Result<(), BundleStoreError> {
        match &self.place {
            Place::Folder(folder) => {
                let (folder, contents) = (folder.of(&contents.version), contents.clone());
                off_reactor(move || disk::look_over(&folder, &contents)).await
            }
            Place::Objects { store, .. } => store.look_over(contents).await,
        }
    }

    /// Returns what is listed of one version, and looks at no other.
    ///
    /// One that is there and cannot be used has its problem; an error where it is not there, or the store does not
    /// answer.
    pub async fn describe(&self, version: &str) -> Result<Listed, BundleStoreError> {
        let written = self.known(version).await?;
        Ok(self.listed_as(version, self.checked(version, written)).await)
    }

    /// Returns the version of this name.
    pub async fn find(&self, version: &str) -> Result<BundleRef, BundleStoreError> {
        Ok(self.look(version).await?.bundle())
    }

    /// Returns a folder on this machine with exactly this version, downloaded where it has to be: size, SHA-256 and
    /// signature are checked. It stays there as long as the guard lives.
    ///
    /// What is in the cache is found there also while the store is away.
    pub async fn fetch(&self, bundle: &BundleRef) -> Result<Fetched, BundleStoreError> {
        self.fetch_telling(bundle, Arc::new(|_| {})).await
    }

    /// The same; `told` hears of bytes as they are copied or checked.
    pub async fn fetch_telling(&self, bundle: &BundleRef, told: Told) -> Result<Fetched, BundleStoreError> {
        let fetched = self.fetch_any(bundle, &told).await;
        telemetry::bundle_fetched(match &fetched {
            Ok((_, from)) => from,
            Err(_) => "failed",
        });
        fetched.map(|(fetched, _)| fetched)
    }

    /// Looks at a bundle's folder wherever it lies, by the store's keys; its files are not read yet.
    pub async fn examine(&self, folder: &Path) -> Result<Examined, BundleStoreError> {
        let (folder, keys) = (folder.to_owned(), self.keys.clone());
        let checked = off_reactor(move || disk::checked(&folder, &keys)).await?;
        let files = checked.contents.files.iter().map(|(name, entry)| (name.clone(), entry.bytes)).collect();
        Ok(Examined {
            bundle: checked.bundle(),
            name: checked.contents.name.clone(),
            created: checked.contents.created.clone(),
            files,
            signer: checked.signer,
            has_keys: self.keys.are_there(),
            contents: checked.contents,
        })
    }

    async fn known(&self, version: &str) -> Result<Written, BundleStoreError> {
        if let Some(problem) = version_problem(version) {
            return Err(BundleStoreError::Version { version: shown(version), problem });
        }
        let there = self.manifest(version).await?;
        there.ok_or_else(|| BundleStoreError::Unknown { version: version.to_owned(), store: self.name() })
    }

    async fn look(&self, version: &str) -> Result<Checked, BundleStoreError> {
        let written = self.known(version).await?;
        self.checked(version, written)
    }

    /// Checks a manifest that stands under a version's name.
    fn checked(&self, version: &str, written: Written) -> Result<Checked, BundleStoreError> {
        let checked = Checked::new(version, written, &self.keys)?;
        if checked.contents.version != version {
            return Err(another_version(version, &checked.contents.version));
        }
        Ok(checked)
    }

    fn expect(&self, bundle: &BundleRef, checked: &Checked) -> Result<(), BundleStoreError> {
        match &bundle.sha256 {
            Some(expected) if **expected != *checked.sha256 => Err(BundleStoreError::Changed {
                version: bundle.name.to_string(),
                store: self.name(),
                got: checked.sha256.clone(),
                expected: expected.to_string(),
            }),
            _ => Ok(()),
        }
    }

    async fn manifest(&self, version: &str) -> Result<Option<Written>, BundleStoreError> {
        match &self.place {
            Place::Folder(folder) => {
                let (folder, version) = (folder.clone(), version.to_owned());
                off_reactor(move || folder.manifest(&version)).await
            }
            Place::Objects { store, .. } => store.manifest(version).await,
        }
    }
}

impl Listed {
    fn of(checked: Checked) -> Self {
        Self {
            bundle: checked.bundle(),
            name: checked.contents.name.clone(),
            created: checked.contents.created.clone(),
            bytes: checked.contents.bytes(),
            signed_by: checked.signer.map(|signer| signer.key),
            problem: None,
        }
    }

    /// Returns what is said of a version that has to be there and is not.
    pub fn missing(bundle: BundleRef, problem: String) -> Self {
        Self { bundle, ..Self::unfit("", problem) }
    }

    fn unfit(called: &str, problem: String) -> Self {
        Self {
            bundle: BundleRef { name: shown(called).into(), sha256: None },
            name: String::new(),
            created: String::new(),
            bytes: 0,
            signed_by: None,
            problem: Some(problem),
        }
    }
}

impl Examined {
    /// Checks size and SHA-256 of every file in the folder that was looked at.
    pub async fn check_files(&self, folder: &Path, told: Told) -> Result<(), BundleStoreError> {
        let (folder, contents) = (folder.to_owned(), self.contents.clone());
        off_reactor(move || disk::check_files(&folder, &contents, &*told)).await
    }
}

fn another_version(version: &str, says: &str) -> BundleStoreError {
    BundleStoreError::Manifest {
        version: version.to_owned(),
        unfit: Unfit::Manifest,
        why: format!("says version {says:?}, and its folder is called {version:?}: rename the folder"),
    }
}
