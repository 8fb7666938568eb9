//! The wanted state, reports and events in the store that replicas share, and what is known of them while it is away.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::OnceCell, task::spawn_blocking, time::timeout};
use uuid::Uuid;

use super::{Apart, Event, Exchanged, Known, ReplicaReport, WantedFrom, copy};
use crate::{
    config::TrafficConfig,
    live::rollout::Desired,
    telemetry,
    traffic::{
        Traffic, now_ms,
        store::{
            Store, StoreError,
            fleet::{EventRow, ReplicaRow},
        },
    },
};

/// Longest wait for the store to say what is wanted, or to take something: a little longer than that for a connection,
/// which says why there is none. Who waits is an operator, or a loop that comes again.
const ANSWER_MAX: Duration = Duration::from_secs(8);
/// How long a process that starts waits for the store to be opened before it goes by its copy: a server that is there is
/// reached within a tenth of that.
const OPENING_MAX: Duration = Duration::from_secs(3);
/// A replica that is gone is shown for so long, so that it can be seen that there was one.
pub const SHOWN_WITHIN: Duration = Duration::from_secs(24 * 3600);

/// What is kept in the traffic log's store.
pub struct Shared {
    traffic: Arc<Traffic>,
    /// As it is shown.
    store: String,
    /// Where the copy is.
    folder: PathBuf,
    last: Mutex<Last>,
    /// What the copy says, as far as this process has written it.
    saved: tokio::sync::Mutex<Saved>,
    /// Set when the store's first opening was waited for.
    waited: OnceCell<()>,
}

/// What is known without asking.
struct Last {
    /// As the store said last, or as the copy said at the start.
    desired: Option<Desired>,
    /// Whether the store has said anything yet.
    is_told: bool,
    /// Since when, milliseconds since 1970, and why the store does not say anything now.
    apart: Option<(i64, String)>,
}

impl Last {
    /// Returns where what is wanted is known from while the store is away.
    fn wanted_from(&self) -> WantedFrom {
        match (self.is_told, &self.desired) {
            (true, _) => WantedFrom::Memory,
            (false, Some(_)) => WantedFrom::Copy,
            (false, None) => WantedFrom::Nowhere,
        }
    }
}

/// The store does not say what is wanted.
struct Untold {
    error: StoreError,
    /// The last state that is known.
    last: Option<Desired>,
    apart: Apart,
}

#[derive(Default)]
struct Saved {
    desired: Option<Desired>,
    is_failing: bool,
}

impl Shared {
    pub fn new(traffic: Arc<Traffic>, config: &TrafficConfig) -> Self {
        let folder = config.spool.folder.clone();
        let desired = copy::read(&folder);
        let saved = Saved { desired: desired.clone(), is_failing: false };
        Self {
            traffic,
            store: config.store.described(),
            folder,
            last: Mutex::new(Last { desired, is_told: false, apart: None }),
            saved: tokio::sync::Mutex::new(saved),
            waited: OnceCell::new(),
        }
    }

    /// Returns since when and why it is not known what the fleet wants now; `None` while the store answers.
    pub fn apart(&self) -> Option<Apart> {
        let last = self.last();
        let (since_ms, why) = last.apart.clone()?;
        Some(Apart { since_ms, why, wanted_from: last.wanted_from() })
    }

    /// Returns the wanted state; while the store does not say it, the last one that is known.
    pub async fn desired(&self) -> Result<Option<Desired>, StoreError> {
        self.ask().await.or_else(|Untold { error, last, apart }| match apart.wanted_from {
            WantedFrom::Nowhere => Err(error),
            WantedFrom::Store | WantedFrom::Memory | WantedFrom::Copy => Ok(last),
        })
    }

    /// Returns the same, and whether the store says it.
    pub async fn known(&self) -> Known {
        match self.ask().await {
            Ok(wanted) => Known { wanted, apart: None },
            Err(Untold { last, apart, .. }) => Known { wanted: last, apart: Some(apart) },
        }
    }

    async fn ask(&self) -> Result<Option<Desired>, Untold> {
        self.waited
            .get_or_init(async || {
                self.traffic.store_within(OPENING_MAX).await;
            })
            .await;
        match self.read().await {
            Ok(desired) => {
                self.learn(desired.as_ref()).await;
                Ok(desired)
            }
            Err(error) => Err(self.untold(error)),
        }
    }

    /// Exchanges the wanted state, if its revision is still `from`, and adds events with it.
    pub async fn exchange(&self, from: u64, to: &Desired, events: &[Event]) -> Result<Exchanged, StoreError> {
        let store = self.store()?;
        let document = self.document(to)?;
        let rows = self.event_rows(events)?;
        if self.answered(store.exchange_wanted(from, to.revision, &document, &rows)).await? {
            self.learn(Some(to)).await;
            return Ok(Exchanged::Done);
        }
        match self.read().await? {
            Some(now) => Ok(Exchanged::Behind(Box::new(now))),
            None => Err(StoreError::Refused {
                store: self.store.clone(),
                problem: format!(
                    "the wanted state is not at revision {from}: there is none any more; try again"
                ),
            }),
        }
    }

    pub async fn tell(&self, events: &[Event]) -> Result<(), StoreError> {
        let rows = self.event_rows(events)?;
        let store = self.store()?;
        self.answered(store.tell(&rows)).await
    }

    /// Returns the latest events, newest first; those of a newer program that this one cannot read are left out.
    pub async fn events(&self, most: usize) -> Result<Vec<Event>, StoreError> {
        let store = self.store()?;
        let rows = self.answered(store.events(most)).await?;
        Ok(rows.iter().filter_map(|row| readable(row.event_id, &row.document)).collect())
    }

    pub async fn report(&self, report: &ReplicaReport) -> Result<(), StoreError> {
        let document = self.document(report)?;
        let store = self.store()?;
        self.answered(store.report(report.replica_id, &document)).await
    }

    pub async fn leave(&self, replica_id: Uuid) -> Result<(), StoreError> {
        let store = self.store()?;
        self.answered(store.forget_replica(replica_id)).await
    }

    /// Forgets replicas that are not even shown any more.
    pub async fn forget_gone(&self) -> Result<(), StoreError> {
        let store = self.store()?;
        self.answered(store.forget_replicas(SHOWN_WITHIN)).await.map(drop)
    }

    /// Returns what every replica said that was seen within a time, by the database's clock.
    pub async fn replicas(&self, within: Duration) -> Result<Vec<ReplicaReport>, StoreError> {
        let store = self.store()?;
        let rows = self.answered(store.replicas(within)).await?;
        let now_ms = now_ms();
        let report = |row: &ReplicaRow| {
            let report: ReplicaReport = readable(row.replica_id, &row.document)?;
            Some(ReplicaReport { seen_ms: now_ms.saturating_sub(row.seen_ago_ms), ..report })
        };
        Ok(rows.iter().filter_map(report).collect())
    }

    async fn read(&self) -> Result<Option<Desired>, StoreError> {
        let store = self.store()?;
        if let Some(found) = self.answered(store.wanted()).await? {
            return self.parsed(found).map(Some);
        }
        // A store that was begun anew: what was wanted is still wanted. Who is first gives it back.
        let Some(lost) = self.last().desired.clone() else { return Ok(None) };
        let document = self.document(&lost)?;
        if self.answered(store.exchange_wanted(0, lost.revision, &document, &[])).await? {
            tracing::warn!(
                store = self.store,
                revision = lost.revision,
                active = &*lost.active.name,
                "the store had lost the wanted state; it has it again from this replica's memory"
            );
            return Ok(Some(lost));
        }
        self.answered(store.wanted()).await?.map(|found| self.parsed(found)).transpose()
    }

    fn parsed(&self, (revision, document): (u64, String)) -> Result<Desired, StoreError> {
        // What it says about the mistake may quote the document, which is of no use to anybody.
        serde_json::from_str(&document).map_err(|_| StoreError::Refused {
            store: self.store.clone(),
            problem: format!(
                "revision {revision} of the wanted state cannot be read; it may be of a newer pointsman: \
                 upgrade this one"
            ),
        })
    }

    /// Takes what the store says, and keeps a copy of it for the next start.
    async fn learn(&self, desired: Option<&Desired>) {
        let before = {
            let mut last = self.last();
            last.is_told = true;
            last.desired = desired.cloned();
            last.apart.take()
        };
        telemetry::fleet_wanted(WantedFrom::Store.as_str(), &WantedFrom::LABELS, None);
        if before.is_some() {
            tracing::info!(store = self.store, "the store says again what is wanted");
        }
        if let Some(desired) = desired {
            self.save(desired).await;
        }
    }

    async fn save(&self, desired: &Desired) {
        let mut saved = self.saved.lock().await;
        if saved.desired.as_ref() == Some(desired) {
            return;
        }
        let (folder, new) = (self.folder.clone(), desired.clone());
        let written = spawn_blocking(move || copy::write(&folder, &new)).await;
        match written.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(()) => *saved = Saved { desired: Some(desired.clone()), is_failing: false },
            Err(error) => {
                if !saved.is_failing {
                    let folder = self.folder.display();
                    tracing::warn!(%folder, %error, "no copy of the wanted state can be kept");
                }
                saved.is_failing = true;
            }
        }
    }

    /// Notes that the store does not say what is wanted, and returns what is known without it.
    fn untold(&self, error: StoreError) -> Untold {
        let mut last = self.last();
        let since_ms = last.apart.as_ref().map_or_else(now_ms, |(since_ms, _)| *since_ms);
        let (why, wanted_from) = (error.to_string(), last.wanted_from());
        let is_new = last.apart.replace((since_ms, why.clone())).is_none();
        telemetry::fleet_wanted(wanted_from.as_str(), &WantedFrom::LABELS, Some(since_ms));
        let revision = last.desired.as_ref().map(|desired| desired.revision);
        if is_new {
            tracing::warn!(%error, revision, is_copy = !last.is_told, "the last wanted state that is known holds on");
        }
        Untold { error, last: last.desired.clone(), apart: Apart { since_ms, why, wanted_from } }
    }

    fn store(&self) -> Result<Store, StoreError> {
        self.traffic.store().ok_or_else(|| StoreError::Down {
            store: self.store.clone(),
            problem: "it is not there at this moment".to_owned(),
        })
    }

    async fn answered<T>(
        &self,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        timeout(ANSWER_MAX, answer).await.unwrap_or_else(|_| {
            Err(StoreError::Down {
                store: self.store.clone(),
                problem: format!("no answer within {} seconds", ANSWER_MAX.as_secs()),
            })
        })
    }

    fn event_rows(&self, events: &[Event]) -> Result<Vec<EventRow>, StoreError> {
        let row = |event: &Event| {
            Ok(EventRow { event_id: event.id, at_ms: event.at_ms, document: self.document(event)? })
        };
        events.iter().map(row).collect()
    }

    fn document(&self, value: &impl Serialize) -> Result<String, StoreError> {
        serde_json::to_string(value).map_err(|_| StoreError::Refused {
            store: self.store.clone(),
            problem: "something cannot be written as JSON".to_owned(),
        })
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None` for what a newer program has written, and this one cannot read.
fn readable<T: DeserializeOwned>(id: Uuid, document: &str) -> Option<T> {
    let read = serde_json::from_str(document);
    if read.is_err() {
        tracing::debug!(%id, "a document of the fleet cannot be read; it may be of a newer pointsman");
    }
    read.ok()
}
