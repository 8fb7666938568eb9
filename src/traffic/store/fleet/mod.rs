//! What replicas that share a store tell each other, as identifiers, times and JSON texts. What the texts mean, nothing
//! here knows.

mod events;
mod listener;
mod replicas;
mod shadow;
mod wanted;

use uuid::Uuid;

pub use self::listener::Listener;
use super::{Dialect, Store, StoreError, error::Fault};

/// Longest document of any kind: what is longer is a mistake.
const DOCUMENT_BYTES_MAX: usize = 256 << 10;
/// Where PostgreSQL tells that the wanted state was exchanged. Two fleets in two schemas of one database hear each
/// other, and only read once more than they need.
const CHANNEL: &str = "pointsman_fleet";

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// A UUIDv7.
    pub event_id: Uuid,
    pub at_ms: i64,
    pub document: String,
}

/// What a replica said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaRow {
    pub replica_id: Uuid,
    /// How long ago, by the database's clock.
    pub seen_ago_ms: i64,
    pub document: String,
}

/// What a bundle that does not serve said of one decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowRow {
    pub decision_id: Uuid,
    pub bundle: String,
    pub document: String,
}

/// Which shadow scores: of one bundle or all, of decisions from `from_ms` on and before `until_ms`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShadowSelection {
    pub bundle: Option<String>,
    pub from_ms: Option<i64>,
    pub until_ms: Option<i64>,
}

impl Store {
    fn check_length(&self, document: &str) -> Result<(), StoreError> {
        if document.len() <= DOCUMENT_BYTES_MAX {
            return Ok(());
        }
        let problem = format!("a document of {} bytes is longer than {DOCUMENT_BYTES_MAX}", document.len());
        Err(self.inner.address.fault(Fault::Refused, problem))
    }
}
