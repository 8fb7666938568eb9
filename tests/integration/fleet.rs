//! Replicas that share a store: what is wanted, who runs what, what happened, and outages.

mod keepers;
mod outages;
mod store;

use std::{sync::Arc, time::Instant};

use pointsman::{
    config::{StoreConfig, TrafficConfig},
    live::{
        fleet::{Event, EventKind, Keeper, ReplicaReport},
        rollout::{BundleRef, Desired, Observed},
    },
    traffic::Traffic,
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{PATIENCE, config, postgres::shared_database, traffic::NEW_YEAR_MS};

/// A store, and whatever replicas share it.
struct World {
    config: StoreConfig,
    folder: TempDir,
}

/// One process's part of a fleet.
struct Replica {
    keeper: Arc<Keeper>,
    traffic: Arc<Traffic>,
}

impl World {
    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { config: StoreConfig::Sqlite { path: folder.path().join("traffic.sqlite") }, folder }
    }

    async fn postgres() -> Self {
        Self { config: shared_database().await, folder: tempfile::tempdir().unwrap() }
    }

    /// A replica on a machine of its own.
    async fn replica(&self, machine: &str) -> Replica {
        let replica = self.unconnected(machine);
        replica.traffic.store_within(PATIENCE).await.expect("the store is opened");
        replica
    }

    fn unconnected(&self, machine: &str) -> Replica {
        let mut config = config("");
        let mut traffic = TrafficConfig {
            store: self.config.clone(),
            ..TrafficConfig::in_folder(self.folder.path().to_owned())
        };
        traffic.spool.folder = self.folder.path().join(machine);
        config.traffic = traffic;
        let traffic = Arc::new(Traffic::start(&config));
        Replica { keeper: Arc::new(Keeper::new(Arc::clone(&traffic))), traffic }
    }
}

impl Replica {
    async fn revision(&self) -> u64 {
        self.keeper.desired().await.unwrap().map_or(0, |desired| desired.revision)
    }
}

/// Follows as the deployer does, until a revision is seen; returns when that was.
async fn follow(replica: &Replica, revision: u64) -> Instant {
    while replica.revision().await != revision {
        replica.keeper.changed().await;
    }
    Instant::now()
}

fn desired(revision: u64, active: &str) -> Desired {
    Desired {
        revision,
        active: BundleRef { name: active.into(), sha256: Some("ab12".repeat(16).into()) },
        active_since_ms: NEW_YEAR_MS,
        canary: None,
        shadow: None,
        guard: None,
        staged: Vec::new(),
        retired: Vec::new(),
        config_reloads: 0,
        default_loads: 0,
    }
}

fn event(at_ms: i64, to: &str) -> Event {
    Event {
        id: Uuid::now_v7(),
        at_ms,
        kind: EventKind::Activated,
        who: "local".to_owned(),
        from: "default".to_owned(),
        to: to.to_owned(),
        why: String::new(),
        revision: 1,
        replica_id: Uuid::nil(),
    }
}

fn report(number: u128) -> ReplicaReport {
    ReplicaReport {
        replica_id: Uuid::from_u128(number),
        host: format!("host-{number}"),
        process_id: 1,
        program_version: "0.1.0".to_owned(),
        started_ms: i64::try_from(number).unwrap(),
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
