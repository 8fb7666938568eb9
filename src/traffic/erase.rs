//! Everything of a tenant or session -> gone from store and spool, and the names of what was not looked at.

use std::path::PathBuf;

pub use super::writer::{EraseError, SpoolErased};
use super::{
    left_aside,
    store::{Deleted, Deleting, Store, Whose},
    writer::erase_spool,
};
use crate::config::TrafficConfig;

/// What was deleted, and what may hold more of the same.
#[derive(Debug)]
pub struct Erased {
    pub store: Deleted,
    pub spool: SpoolErased,
    /// Broken files of store and spool that were moved aside.
    pub set_aside: Vec<PathBuf>,
}

/// Deletes everything of these tenants or sessions, and tells how far the store is.
pub async fn erase(
    config: &TrafficConfig,
    store: &Store,
    all: &[Whose],
    tell: &(dyn Fn(Deleting) + Sync),
) -> Result<Erased, EraseError> {
    // In this order: the store knows whose decisions the spooled feedback is about.
    let spool = erase_spool(&config.spool, store, all).await?;
    let deleted = store.delete_telling(all, tell).await?;
    let mut set_aside = left_aside(config);
    set_aside.sort_unstable();
    Ok(Erased { store: deleted, spool, set_aside })
}
