//! Feedback and outcomes in the store -> offsets in the store -> the snapshot that decisions read.
//!
//! What is known lives in the store, so replicas share it: one learns at a time, each observation counts exactly once
//! whoever crashes, and all take up the result. Nothing here holds up a request.

mod observations;

use std::{collections::BTreeSet, sync::Arc};

use arc_swap::ArcSwap;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    now_ms,
    store::{BATCH_PAUSE, Store, StoreError},
    writer::Shelf,
};
use crate::{
    config::LearningConfig,
    routing::learning::{Allowance, Channel, Observation, Offsets, Tally},
    telemetry,
};

/// Feedback, and outcomes, of one transaction. Their records hold texts, some 10 MB in all at most; a batch takes some
/// 20 ms, in which nobody else writes to an SQLite store.
const BATCH: u32 = 200;
/// Batches of one step; more is taken up by the next.
const BATCHES_MAX: usize = 20;
/// Outcomes count after this long: most complaints have come by then, and an answer that somebody complained about was
/// not accepted. A complaint that comes later counts too, with several times the weight.
const OUTCOME_WAIT_MS: i64 = 5 * 60_000;

/// Learns from the store of each moment, as soon as there is one and then every `learning.refresh`, until it is
/// dropped; ends at once where learning is off.
pub(super) async fn run(
    config: LearningConfig,
    offsets: Arc<ArcSwap<Offsets>>,
    mut shelf: watch::Receiver<Option<Arc<dyn Shelf>>>,
) {
    if !config.enabled {
        return;
    }
    let mut works = true;
    // While there is no store, what was learned holds on.
    while let Some(store) = opened(&mut shelf).await {
        let learner = Learner::new(store, config.clone(), Arc::clone(&offsets));
        let more = match learner.step(now_ms()).await {
            Ok(learned) => {
                works = true;
                learned.more
            }
            Err(error) => {
                // Once, not every round.
                if std::mem::take(&mut works) {
                    tracing::warn!(%error, "nothing is learned until the traffic store is back");
                }
                false
            }
        };
        sleep(if more { BATCH_PAUSE } else { config.refresh }).await;
    }
}

/// Waits for the store; `None` when there will be none any more.
async fn opened(shelf: &mut watch::Receiver<Option<Arc<dyn Shelf>>>) -> Option<Store> {
    let is_open =
        |shelf: &Option<Arc<dyn Shelf>>| shelf.as_ref().is_some_and(|shelf| shelf.store().is_some());
    shelf.wait_for(is_open).await.ok()?.as_ref()?.store().cloned()
}

/// Takes what is new in the store, learns from it, and offers the result.
pub struct Learner {
    store: Store,
    config: LearningConfig,
    offsets: Arc<ArcSwap<Offsets>>,
}

/// What one step took in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Learned {
    pub feedback: Tally,
    pub outcomes: Tally,
    /// Rows that cannot be read; they are passed over.
    pub unreadable: u64,
    /// Whether more was there than one step takes: the next one should not wait.
    pub more: bool,
}

impl Learner {
    /// Learns from this store; `offsets` is where decisions read.
    pub fn new(store: Store, config: LearningConfig, offsets: Arc<ArcSwap<Offsets>>) -> Self {
        Self { store, config, offsets }
    }

    /// Learns from what is new, and takes up what this and other replicas have learned.
    pub async fn step(&self, now_ms: i64) -> Result<Learned, StoreError> {
        let mut learned = Learned::default();
        for _ in 0..BATCHES_MAX {
            let started = Instant::now();
            learned.more = self.store.bounded(self.batch(now_ms, &mut learned)).await?;
            if !learned.more {
                break;
            }
            // Those who write get half of the time at least, however long a backlog is.
            sleep(started.elapsed().max(BATCH_PAUSE)).await;
        }
        self.refresh(now_ms).await?;
        Ok(learned)
    }

    /// Takes up what is known, as it stands at this moment.
    pub async fn refresh(&self, now_ms: i64) -> Result<(), StoreError> {
        let cells = self.store.cells(&self.config, now_ms).await?;
        let offsets = Arc::new(Offsets::of(&cells, now_ms, &self.config));
        let before = self.offsets.swap(Arc::clone(&offsets));
        for (intent, target, estimate) in offsets.iter() {
            telemetry::offset(intent, target, estimate.mean);
        }
        let forgotten = before.iter().filter(|(intent, target, _)| offsets.get(intent, target).is_none());
        for (intent, target, _) in forgotten {
            telemetry::offset(intent, target, 0.0);
        }
        Ok(())
    }

    /// Takes one batch in; returns whether there may be more.
    async fn batch(&self, now_ms: i64, learned: &mut Learned) -> Result<bool, StoreError> {
        let Some(mut learning) = self.store.learn().await? else { return Ok(false) };
        let feedback = learning.feedback(BATCH).await?;
        let outcomes = learning.outcomes(now_ms.saturating_sub(OUTCOME_WAIT_MS), BATCH).await?;
        if feedback.is_empty() && outcomes.is_empty() {
            return Ok(false);
        }
        let weights = &self.config.weights;
        let mut unreadable = 0;
        let mut said = Vec::new();
        for one in &feedback {
            match &one.both {
                Some((feedback, record)) => said.extend(observations::of_feedback(record, feedback, weights)),
                None => unreadable += 1,
            }
        }
        let mut came_out = Vec::new();
        for one in &outcomes {
            match &one.record {
                Some(record) => came_out.extend(observations::of_outcome(record, &one.feedback, weights)),
                None => unreadable += 1,
            }
        }
        // A clock that was ahead and is right again: what it dated would make all that comes count as late.
        for observation in said.iter_mut().chain(&mut came_out) {
            observation.judgement.at_ms = observation.judgement.at_ms.min(now_ms);
        }
        let all = || said.iter().chain(&came_out);
        let cells = all().map(|observation| observation.cell.clone()).collect();
        let allowances = all().map(Observation::allowance_key).collect();
        let tenants: BTreeSet<&str> = all().map(|observation| observation.tenant.as_str()).collect();
        let mut state = learning.state(&tenants, &self.config, now_ms).await?;
        let by_feedback = state.observe_all(&mut said, &self.config);
        let by_outcome = state.observe_all(&mut came_out, &self.config);
        learning.keep(&state, &cells, &allowances).await?;
        for (channel, observed) in [(Channel::Feedback, &said), (Channel::Outcome, &came_out)] {
            // By the time of what is learned from and not by the clock: what comes later may be old.
            let oldest_ms = observed.iter().map(|observation| observation.judgement.at_ms).min();
            if let Some(oldest_ms) = oldest_ms {
                let full_after_ms = Allowance::full_after_ms(&self.config);
                learning.drop_allowances(channel, oldest_ms.saturating_sub(full_after_ms)).await?;
            }
        }
        learning.mark(&feedback, &outcomes).await?;
        learning.commit().await?;

        for (channel, tally) in [(Channel::Feedback, by_feedback), (Channel::Outcome, by_outcome)] {
            telemetry::observed(channel.as_str(), tally.applied, tally.refused);
        }
        if unreadable > 0 {
            tracing::warn!(unreadable, "rows of the traffic log that cannot be read are not learned from");
        }
        learned.feedback = learned.feedback.and(by_feedback);
        learned.outcomes = learned.outcomes.and(by_outcome);
        learned.unreadable += unreadable;
        let full = |rows: usize| rows >= BATCH as usize;
        Ok(full(feedback.len()) || full(outcomes.len()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        config::StoreConfig,
        traffic::samples::{AT_MS, logged_at},
    };

    #[tokio::test]
    async fn it_learns_as_soon_as_the_store_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let place = StoreConfig::Sqlite { path: folder.path().join("traffic.sqlite") };
        let store = Store::open(&place).await.unwrap();
        let logged = logged_at(AT_MS, 1);
        store.write(std::slice::from_ref(&logged.record)).await.unwrap();
        store.add_feedback(&logged.feedback, 0).await.unwrap();

        let refresh = Duration::from_secs(86_400);
        let config = LearningConfig { enabled: true, refresh, ..LearningConfig::default() };
        let offsets: Arc<ArcSwap<Offsets>> = Arc::default();
        let (shelves, shelf) = watch::channel(None);
        let mut learner = tokio::spawn(run(config, Arc::clone(&offsets), shelf));
        // It is waiting when the store comes up.
        tokio::task::yield_now().await;
        shelves.send_replace(Some(Arc::new(store) as Arc<dyn Shelf>));
        let learned = async {
            while offsets.load().iter().next().is_none() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = learned => {}
            ended = &mut learner => panic!("it ended: {ended:?}"),
            () = sleep(Duration::from_secs(60)) => panic!("nothing was learned"),
        }
        learner.abort();
    }

    #[tokio::test]
    async fn it_ends_with_the_log_and_where_it_is_off() {
        let (shelves, shelf) = watch::channel(None);
        let off = LearningConfig::default();
        run(off.clone(), Arc::default(), shelf.clone()).await;
        drop(shelves);
        run(LearningConfig { enabled: true, ..off }, Arc::default(), shelf).await;
    }
}
