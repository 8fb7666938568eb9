//! Where the wanted state is kept: in the traffic log's store, or in memory where nothing is logged.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use uuid::Uuid;

use super::{
    Apart, Event, Exchanged, Known, LIVE_WITHIN, ReplicaReport,
    ear::Ear,
    memory::Memory,
    shared::{SHOWN_WITHIN, Shared},
};
use crate::{
    live::rollout::Desired,
    traffic::{Traffic, now_ms, store::StoreError},
};

/// How late a change of another replica is noticed at the most, where the database does not tell.
const POLL_EVERY: Duration = Duration::from_secs(2);
/// How late others know what this replica runs.
const REPORT_EVERY: Duration = Duration::from_secs(2);
/// What has not changed is said again so often: three times before a replica is taken for gone.
const REPEAT_EVERY: Duration = Duration::from_secs(5);
/// How often replicas that are long gone are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(600);

/// What all replicas are to run, what each says it runs, and what happened.
///
/// Where the traffic log is on, its store holds this, and nothing else does: while it is away, what was last known of
/// the wanted state holds on, and nothing can be changed, for no other replica would know. So nothing from memory ever
/// meets what is in the store. Where the log is off, memory holds it, for as long as the process lives.
pub struct Keeper {
    place: Place,
    /// Of one follower.
    heard: Arc<Notify>,
    ear: OnceLock<Ear>,
}

enum Place {
    Memory(Box<Mutex<Memory>>),
    Shared { shared: Box<Shared>, traffic: Arc<Traffic> },
}

impl Keeper {
    /// Begins with what the last process here knew; nothing is asked yet.
    pub fn new(traffic: Arc<Traffic>) -> Self {
        let shared = traffic.kept().map(|config| Shared::new(Arc::clone(&traffic), config));
        let place = match shared {
            Some(shared) => Place::Shared { shared: Box::new(shared), traffic },
            None => Place::Memory(Box::default()),
        };
        Self { place, heard: Arc::default(), ear: OnceLock::new() }
    }

    /// Returns the wanted state; `None`: nothing was ever asked for. While the store is away it is the last one that is
    /// known, if need be from the copy that an earlier process left here, and [`Keeper::apart`] says so; an error where
    /// nothing is known. The first call waits up to three seconds for the store to be opened.
    ///
    /// Its revision may also be lower than before, where the store was restored from a backup.
    pub async fn desired(&self) -> Result<Option<Desired>, StoreError> {
        match &self.place {
            Place::Memory(memory) => Ok(lock(memory).desired.clone()),
            Place::Shared { shared, .. } => shared.desired().await,
        }
    }

    /// Returns the wanted state as far as it is known, and whether the store says it: both of the same moment.
    pub async fn known(&self) -> Known {
        match &self.place {
            Place::Memory(memory) => Known { wanted: lock(memory).desired.clone(), apart: None },
            Place::Shared { shared, .. } => shared.known().await,
        }
    }

    /// Returns since when and why it is not known what the fleet wants now, if the last [`Keeper::desired`] fell back to what was
    /// known before; `None` while the store answers.
    pub fn apart(&self) -> Option<Apart> {
        match &self.place {
            Place::Memory(_) => None,
            Place::Shared { shared, .. } => shared.apart(),
        }
    }

    /// Exchanges the wanted state if its revision is still `from` (0: there is none), and adds events with it. An error
    /// while the store is away: it would not reach the fleet. After one it may have been exchanged nevertheless, when
    /// the answer was lost on its way; then it is followed like any other.
    pub async fn exchange(&self, from: u64, to: &Desired, events: &[Event]) -> Result<Exchanged, StoreError> {
        let exchanged = match &self.place {
            Place::Memory(memory) => lock(memory).exchange(from, to, events),
            Place::Shared { shared, .. } => shared.exchange(from, to, events).await?,
        };
        self.heard.notify_one();
        Ok(exchanged)
    }

    /// Adds events that change nothing.
    pub async fn tell(&self, events: &[Event]) -> Result<(), StoreError> {
        match &self.place {
            Place::Memory(memory) => {
                lock(memory).tell(events);
                Ok(())
            }
            Place::Shared { shared, .. } => shared.tell(events).await,
        }
    }

    /// Returns the latest events, newest first.
    pub async fn events(&self, most: usize) -> Result<Vec<Event>, StoreError> {
        match &self.place {
            Place::Memory(memory) => Ok(lock(memory).events(most)),
            Place::Shared { shared, .. } => shared.events(most).await,
        }
    }

    /// Says what this replica runs.
    pub async fn report(&self, report: &ReplicaReport) -> Result<(), StoreError> {
        match &self.place {
            Place::Memory(memory) => {
                lock(memory).report(report, now_ms());
                Ok(())
            }
            Place::Shared { shared, .. } => shared.report(report).await,
        }
    }

    /// Says what this replica runs, again and again, and forgets those that are long gone; never returns. `report` is
    /// asked every two seconds. Where the store is away it is tried again.
    pub async fn keep_reporting(&self, report: impl Fn() -> ReplicaReport) {
        let mut said: Option<(ReplicaReport, Instant)> = None;
        let mut forgotten: Option<Instant> = None;
        let mut is_failing = false;
        // At a start the store is still being opened, which is nothing to warn of.
        let _ = self.desired().await;
        loop {
            let report = ReplicaReport { seen_ms: 0, ..report() };
            // That time goes by is nothing new.
            let news = ReplicaReport { watched_ms: 0, ..report.clone() };
            let is_known = said.as_ref().is_some_and(|(before, at)| {
                *before == news && at.elapsed() < REPEAT_EVERY - REPORT_EVERY / 2
            });
            if !is_known {
                match self.report(&report).await {
                    Ok(()) => {
                        said = Some((news, Instant::now()));
                        is_failing = false;
                    }
                    Err(error) => {
                        if !is_failing {
                            tracing::warn!(%error, "others cannot know what this replica runs");
                        }
                        is_failing = true;
                    }
                }
            }
            if forgotten.is_none_or(|at| at.elapsed() >= FORGET_EVERY) {
                forgotten = Some(Instant::now());
                if let Err(error) = self.forget_gone().await {
                    tracing::debug!(%error, "replicas that are gone are not forgotten yet");
                }
            }
            sleep(REPORT_EVERY).await;
        }
    }

    async fn forget_gone(&self) -> Result<(), StoreError> {
        match &self.place {
            Place::Memory(_) => Ok(()),
            Place::Shared { shared, .. } => shared.forget_gone().await,
        }
    }

    /// Says that this replica ends, so that it is not taken for one that broke down.
    pub async fn leave(&self, replica_id: Uuid) -> Result<(), StoreError> {
        match &self.place {
            Place::Memory(memory) => {
                lock(memory).leave(replica_id);
                Ok(())
            }
            Place::Shared { shared, .. } => shared.leave(replica_id).await,
        }
    }

    /// Returns what every replica said that was seen within a day, the longest running first; which of them are live,
    /// [`ReplicaReport::is_live`] says.
    pub async fn replicas(&self) -> Result<Vec<ReplicaReport>, StoreError> {
        let mut replicas = match &self.place {
            Place::Memory(memory) => lock(memory).replicas(),
            Place::Shared { shared, .. } => shared.replicas(SHOWN_WITHIN).await?,
        };
        replicas.sort_by_key(|replica| (replica.started_ms, replica.replica_id));
        Ok(replicas)
    }

    /// Returns what those replicas said that are taken for running now, whatever the clocks of their machines say: one
    /// that is often asked for must not read what a day has left behind.
    pub async fn live_replicas(&self) -> Result<Vec<ReplicaReport>, StoreError> {
        match &self.place {
            Place::Memory(memory) => {
                let (mut replicas, now_ms) = (lock(memory).replicas(), now_ms());
                replicas.retain(|replica| replica.is_live(now_ms));
                Ok(replicas)
            }
            Place::Shared { shared, .. } => shared.replicas(LIVE_WITHIN).await,
        }
    }

    /// Resolves when the wanted state may have changed: at once by the database's notification, at the latest after
    /// two seconds. For one follower; a second one is late. May be cancelled. Call it in a runtime's context.
    pub async fn changed(&self) {
        if let Place::Shared { traffic, .. } = &self.place {
            self.ear.get_or_init(|| Ear::open(Arc::clone(traffic), Arc::clone(&self.heard)));
        }
        let _ = timeout(POLL_EVERY, self.heard.notified()).await;
    }
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}
