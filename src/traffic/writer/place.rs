//! What the writer needs of the store: the real one, or one that misbehaves by script in tests.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use uuid::Uuid;

use crate::{
    config::{Retention, StoreConfig},
    traffic::{
        feedback::Feedback,
        record::Record,
        speed::Speed,
        store::{
            Deleted, Landed, Store, StoreError,
            sqlite::{self, Identity},
        },
    },
};

/// Where the log is kept.
pub trait Place: Send + Sync {
    /// Opens it, makes it where there is none.
    fn open(&self) -> BoxFuture<'static, Result<Arc<dyn Shelf>, StoreError>>;

    /// Moves what was opened last and is broken beyond use out of the way, so that a new one can be begun. `None` where
    /// it is not there any more.
    fn set_aside(&self) -> io::Result<Option<PathBuf>>;
}

/// An open store, as far as the writer uses it; each method as the [`Store`]'s of the same name.
pub trait Shelf: Send + Sync {
    fn write_at<'a>(&'a self, records: &'a [Record], speed: Speed) -> BoxFuture<'a, Result<u64, StoreError>>;

    fn add_feedback<'a>(
        &'a self,
        feedback: &'a [Feedback],
        unknown_max: u64,
    ) -> BoxFuture<'a, Result<Vec<Landed>, StoreError>>;

    fn tenants_of<'a>(
        &'a self,
        decisions: &'a [Uuid],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, StoreError>>;

    /// Deletes what is too old by the store's own clock: of several replicas one may have a wrong one.
    fn retain(&self, retention: Retention) -> BoxFuture<'_, Result<Deleted, StoreError>>;

    fn close(&self, within: Duration) -> BoxFuture<'_, ()>;

    /// Returns the store itself, where this is one.
    fn store(&self) -> Option<&Store>;
}

/// The place that the configuration names.
pub struct Configured {
    store: StoreConfig,
    /// The file that was opened last, so that no other one is taken for it.
    opened: Arc<Mutex<Option<Identity>>>,
}

impl Configured {
    pub fn new(store: StoreConfig) -> Self {
        Self { store, opened: Arc::default() }
    }
}

impl Place for Configured {
    fn open(&self) -> BoxFuture<'static, Result<Arc<dyn Shelf>, StoreError>> {
        let (config, opened) = (self.store.clone(), Arc::clone(&self.opened));
        let found = |config: &StoreConfig| match config {
            StoreConfig::Sqlite { path } => Identity::of(path).ok(),
            StoreConfig::Postgres { .. } => None,
        };
        Box::pin(async move {
            // Before: if it is replaced meanwhile, it counts as another one, and stays.
            let before = found(&config);
            let store = Store::open(&config).await;
            let identity = before.or_else(|| found(&config));
            *opened.lock().unwrap_or_else(PoisonError::into_inner) = identity;
            Ok(Arc::new(store?) as Arc<dyn Shelf>)
        })
    }

    fn set_aside(&self) -> io::Result<Option<PathBuf>> {
        match &self.store {
            StoreConfig::Sqlite { path } => {
                match *self.opened.lock().unwrap_or_else(PoisonError::into_inner) {
                    Some(broken) => sqlite::set_aside(path, broken),
                    None => Ok(None),
                }
            }
            StoreConfig::Postgres { .. } => Err(io::Error::other("is a server's, and is not touched")),
        }
    }
}

impl Shelf for Store {
    fn write_at<'a>(&'a self, records: &'a [Record], speed: Speed) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(self.write_at(records, speed))
    }

    fn add_feedback<'a>(
        &'a self,
        feedback: &'a [Feedback],
        unknown_max: u64,
    ) -> BoxFuture<'a, Result<Vec<Landed>, StoreError>> {
        Box::pin(self.add_feedback(feedback, unknown_max))
    }

    fn tenants_of<'a>(
        &'a self,
        decisions: &'a [Uuid],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, StoreError>> {
        Box::pin(self.tenants_of(decisions))
    }

    fn retain(&self, retention: Retention) -> BoxFuture<'_, Result<Deleted, StoreError>> {
        Box::pin(async move {
            self.adopt().await?;
            self.retain(retention, self.now_ms().await?).await
        })
    }

    fn close(&self, within: Duration) -> BoxFuture<'_, ()> {
        Box::pin(self.close(within))
    }

    fn store(&self) -> Option<&Store> {
        Some(self)
    }
}
