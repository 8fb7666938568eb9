//! Replicas that share a store: what all of them are to run, what each of them runs, and what happened.
//!
//! Without a store it is kept in memory, for this process alone. Nothing here loads a bundle or decides what is wanted.

mod apart;
mod copy;
mod ear;
mod keeper;
mod memory;
mod share;
mod shared;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::{
    apart::{Apart, Known, WantedFrom},
    keeper::Keeper,
    share::{Sums, chosen, observed},
};
use super::rollout::{Desired, Observed};

/// A replica that was not heard of for so long is taken for gone: it says something every few seconds.
pub const LIVE_WITHIN: Duration = Duration::from_secs(15);

/// What one replica runs, as it last said. Stored as JSON; fields are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaReport {
    /// New at each start.
    pub replica_id: Uuid,
    pub host: String,
    pub process_id: u32,
    /// Of pointsman.
    pub program_version: String,
    pub started_ms: i64,
    /// When it said so; in what is read, by the clock of who reads, whatever the clock of who said it. Not looked at
    /// in what a replica says.
    pub seen_ms: i64,
    /// Of [`Desired`], as far as it was applied.
    pub revision: u64,
    /// Generation of its decisions.
    pub generation: u64,
    /// SHA-256 of the configuration file that it runs; empty for the built-in one.
    pub config_sha256: String,
    pub active: String,
    /// Name and version of the bundle that its configuration names, where that is loaded: it is another one on a replica
    /// with another file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<String>,
    /// Whether the classifier serves.
    pub ready: bool,
    /// Why it does not run what it is to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What it saw of the active and the watched bundle since it watches these two.
    #[serde(default)]
    pub observed_active: Observed,
    #[serde(default)]
    pub observed_watched: Observed,
    /// For how long that is, by a clock that nobody sets.
    #[serde(default)]
    pub watched_ms: u64,
}

/// One thing that happened to bundles or configuration. Stored as JSON; fields are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// A UUIDv7.
    pub id: Uuid,
    pub at_ms: i64,
    pub kind: EventKind,
    /// Who asked for it: a token's name, a certificate's, "local", or "rollout".
    pub who: String,
    /// What was, for example the version that was active.
    pub from: String,
    pub to: String,
    /// Why, for people.
    pub why: String,
    pub revision: u64,
    pub replica_id: Uuid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    Staged,
    ShadowStarted,
    CanaryStarted,
    CanaryMoved,
    Activated,
    Promoted,
    RolledBack,
    Forgotten,
    /// A bundle was not taken; `why` says the reason.
    Refused,
    ConfigReloaded,
    ConfigRefused,
    /// The active bundle is no longer compared with its predecessor.
    GuardEnded,
    /// The rollout waits for long; `why` says for what.
    RolloutWaits,
    /// A version was taken out of the bundle store.
    Deleted,
}

/// Whether the wanted state could be exchanged.
// One at a time is made, and it is taken apart at once.
#[derive(Debug, Clone, PartialEq)]
pub enum Exchanged {
    Done,
    /// Somebody else was faster; this is the state now.
    Behind(Box<Desired>),
}

impl ReplicaReport {
    /// Returns whether it was seen lately enough to be taken for running.
    pub fn is_live(&self, now_ms: i64) -> bool {
        let ago_ms = u128::try_from(now_ms.saturating_sub(self.seen_ms)).unwrap_or(0);
        ago_ms <= LIVE_WITHIN.as_millis()
    }
}

#[cfg(test)]
pub(super) fn sample() -> ReplicaReport {
    ReplicaReport {
        replica_id: Uuid::from_u128(1),
        host: "a".to_owned(),
        process_id: 1,
        program_version: "0.1.0".to_owned(),
        started_ms: 1,
        seen_ms: 0,
        revision: 1,
        generation: 1,
        config_sha256: String::new(),
        active: "default".to_owned(),
        configured: None,
        canary: None,
        shadow: None,
        ready: true,
        problem: None,
        observed_active: Observed::default(),
        observed_watched: Observed::default(),
        watched_ms: 0,
    }
}

#[cfg(test)]
pub(super) fn sample_desired(revision: u64) -> Desired {
    Desired {
        revision,
        active: super::rollout::BundleRef { name: "v1".into(), sha256: Some("ab".repeat(32).into()) },
        active_since_ms: 1,
        canary: None,
        shadow: None,
        guard: None,
        staged: Vec::new(),
        retired: Vec::new(),
        config_reloads: 0,
        default_loads: 0,
    }
}

#[cfg(test)]
fn sample_event(number: u128) -> Event {
    Event {
        id: Uuid::from_u128(number),
        at_ms: 1,
        kind: EventKind::Activated,
        who: "local".to_owned(),
        from: "default".to_owned(),
        to: "v1".to_owned(),
        why: String::new(),
        revision: 1,
        replica_id: Uuid::from_u128(1),
    }
}
