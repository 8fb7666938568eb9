//! Everything of a tenant or session -> gone from store and spool, and the names of what was not looked at.

use std::path::PathBuf;

pub use super::writer::EraseError;
use super::{
    left_aside,
    store::{Deleted, Store, Whose},
    writer::{SpoolErased, erase_spool},
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

/// Deletes everything of these tenants or sessions.
pub async fn erase(config: &TrafficConfig, store: &Store, all: &[Whose]) -> Result<Erased, EraseError> {
    // In this order: the store knows whose decisions the spooled feedback is about.
    let spool = erase_spool(&config.spool, store, all).await?;
    let deleted = store.delete(all).await?;
    let mut set_aside = left_aside(config);
    set_aside.sort_unstable();
    Ok(Erased { store: deleted, spool, set_aside })
}
