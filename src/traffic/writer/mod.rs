//! The writer: takes what waits, applies the policy for texts, and writes it to the store, or to the spool while that
//! is down. A thread of its own, so that nothing of this happens where requests are served.
//!
//! Never keeps a request waiting, and never answers feedback before it is durable.

mod answer;
mod link;
mod pace;
mod place;
mod queue;
mod spool;

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::JoinHandle,
    time::{Instant as Clock, sleep_until, timeout},
};

use self::{
    answer::next_batch,
    link::{Link, Lost},
    pace::Pace,
    queue::{BATCH_BYTES_MAX, BATCH_MAX},
    spool::{Batch, Entry, Spool, SpoolError},
};
pub use self::{
    link::Shelves,
    place::{Configured, Place, Shelf},
    queue::{Asked, Limits, Queue},
    spool::{
        EraseError, SpoolErased, SpoolHoldings, erase as erase_spool, holdings as spool_holdings, left_aside,
    },
};
use super::{
    Totals,
    observe::Pending,
    record::Record,
    signals::Signals,
    speed::{Speed, ends_portion},
    store::StoreError,
    text::{Known, TextKeeper},
};
use crate::config::TrafficConfig;

/// Longest wait for the store to take a batch, some hundred times what is usual; then it counts as down.
const STORE_MAX: Duration = Duration::from_secs(3);
/// A store that takes this long for a batch, some dozen times what is usual, is given up where the queue fills meanwhile:
/// the spool takes thousands of records in that time.
const CROWDED_AFTER: Duration = Duration::from_millis(500);
/// How often the queue is looked at after that.
const CROWDED_LOOK: Duration = Duration::from_millis(50);
/// How long the end may take: what is not in the store by then goes to the spool.
const STOP_MAX: Duration = Duration::from_secs(5);
/// Most bytes of documents that are read from the spool at once.
const REPLAY_BYTES_MAX: usize = 4 << 20;
/// Pause of the replay after the spool could not be read.
const REPLAY_AGAIN: Duration = Duration::from_secs(10);
/// A while after the start, when there is most else to do.
const UPKEEP_FIRST: Duration = Duration::from_secs(60);
const UPKEEP_EVERY: Duration = Duration::from_secs(3600);
/// Feedback that was acknowledged is kept, whether its decision is known or not.
const NO_LIMIT: u64 = i64::MAX as u64;
/// So often is the store opened anew because it refuses all of a batch from the spool, some seconds in all; then the
/// batch is at fault.
const REFUSED_WHOLE_MAX: u32 = 3;

/// Where records come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Request,
    /// The store was opened again since they came, of which so much is given to it at once.
    Spool {
        rows: usize,
        bytes: usize,
    },
}

/// What became of records: the store has them, or will never take them.
#[derive(Debug, Default)]
struct Taken {
    refused: u64,
    /// Why the last of those was.
    why: Option<StoreError>,
}

/// Everything that the writer needs.
pub struct Writer {
    config: TrafficConfig,
    queue: Arc<Queue>,
    totals: Arc<Totals>,
    keeper: TextKeeper,
    signals: Signals,
    link: Link,
    spool: Spool,
    pace: Pace,
    /// Whether feedback waits for what is being written.
    is_awaited: bool,
    /// Times that the store was given up because of the batch that is replayed.
    refused_whole: u32,
    /// Not before this is the spool read again.
    replay_from: Clock,
    upkeep_at: Clock,
    retaining: Option<JoinHandle<()>>,
    /// Once it is stopping: until when the store is waited for.
    stop_by: Option<Clock>,
}

impl Writer {
    /// Starts to open the store. Call it in the context of the runtime that will run it.
    pub fn new(
        config: TrafficConfig,
        place: Arc<dyn Place>,
        queue: Arc<Queue>,
        totals: Arc<Totals>,
        shelves: Shelves,
        known: Known,
    ) -> Self {
        let now = Clock::now();
        Self {
            queue,
            totals,
            keeper: TextKeeper::new(&config).knowing(known),
            signals: Signals::new(),
            link: Link::new(place, shelves),
            spool: Spool::new(config.spool.clone()),
            pace: Pace::new(BATCH_MAX, REPLAY_BYTES_MAX, STORE_MAX),
            is_awaited: false,
            refused_whole: 0,
            replay_from: now,
            upkeep_at: now + UPKEEP_FIRST,
            retaining: None,
            stop_by: None,
            config,
        }
    }

    /// Writes what comes until the queue is stopped, and then what is left.
    pub async fn run(mut self) {
        self.take_over().await;
        let flush = self.config.flush;
        loop {
            let replays = self.can_replay();
            tokio::select! {
                () = self.queue.ready(flush) => {}
                () = self.link.changed() => {}
                () = sleep_until(self.upkeep_at) => {}
                () = sleep_until(self.replay_from), if replays => {}
            }
            // Each gets its turn, however busy the others are.
            self.link.step().await;
            if self.queue.is_due(flush) {
                self.round().await;
            }
            if self.can_replay() && self.replay_from <= Clock::now() {
                self.replay().await;
            }
            if self.upkeep_at <= Clock::now() {
                self.upkeep().await;
            }
            self.note();
            if self.queue.is_stopped() {
                return self.finish().await;
            }
        }
    }

    /// Writes everything that waits: records first, so that feedback about them finds them.
    async fn round(&mut self) {
        let taken = self.queue.take();
        self.is_awaited = !taken.feedback.is_empty();
        self.note();
        if self.link.is_starting() {
            // Opening a file takes some milliseconds: no reason to spool.
            let _ = timeout(self.config.flush.min(STORE_MAX), self.link.changed()).await;
        }
        let wants_tenants = taken.feedback.iter().any(|asked| self.keeper.depends_on_tenant(&asked.feedback));
        let mut tenants = HashMap::new();
        let mut noticed = Vec::new();
        let mut waiting = taken.records.into_iter();
        loop {
            let (mut records, mut seen, mut bytes) = (Vec::new(), 0, 0);
            while seen < BATCH_MAX
                && bytes < BATCH_BYTES_MAX
                && let Some(pending) = waiting.next()
            {
                seen += 1;
                bytes += pending.weight();
                // A mistake in what looks through texts must cost no more than the record with that text.
                let kept = caught(|| {
                    noticed.extend(self.signals.notice(&pending));
                    self.keep(*pending)
                });
                match kept {
                    Some(record) => records.push(record),
                    None => self.totals.dropped("not_kept", 1, &"applying the policy for texts broke down"),
                }
                // How fast is asked of the queue, which requests need as well: not for every record.
                if ends_portion(seen) {
                    self.speed(Origin::Request).rest_after(seen).await;
                }
            }
            if seen == 0 {
                break;
            }
            if !records.is_empty() {
                self.deliver(&records).await;
            }
            self.queue.written(seen, bytes);
            if wants_tenants {
                let named = records.into_iter().map(|record| (record.decision_id, record.request.tenant));
                tenants.extend(named);
            }
        }
        for noticed in noticed.chunks(BATCH_MAX) {
            // Nobody waits for it: where it cannot be kept, that was logged.
            self.add_feedback(noticed).await;
        }
        let mut asked = taken.feedback.into_iter().peekable();
        while asked.peek().is_some() {
            self.answer(next_batch(&mut asked), &tenants).await;
        }
    }

    /// Applies the policies for texts.
    fn keep(&self, pending: Pending) -> Record {
        let Pending { mut record, messages, bytes, cut } = pending;
        #[cfg(test)]
        tests::break_down(&messages);
        let request = &mut record.request;
        request.text = self.keeper.conversation(&request.tenant, &messages, bytes, cut);
        if !request.session.is_empty() {
            request.session = self.keeper.session(&request.tenant, &request.session);
        }
        self.keeper.labels(request);
        record
    }

    async fn deliver(&mut self, records: &[Record]) {
        if let Some(taken) = self.write(records, Origin::Request).await {
            return self.count_refused(&taken);
        }
        let entries: Vec<Entry> = records.iter().filter_map(|record| Entry::record(record).ok()).collect();
        if let Err(error) = self.spool.put(&entries).await {
            let reason = match error {
                SpoolError::Full { .. } => "spool_full",
                SpoolError::Io { .. } => "spool_failed",
            };
            self.totals.dropped(reason, entries.len() as u64, &error);
        }
    }

    /// Returns what became of these records; `None` where the store is down, or gone meanwhile.
    async fn write(&mut self, records: &[Record], origin: Origin) -> Option<Taken> {
        let shelf = self.link.shelf()?;
        match self.within(shelf.write_at(records, self.speed(origin))).await {
            Ok(new) => {
                self.link.proved();
                self.totals.written(new);
                Some(Taken::default())
            }
            Err(Lost::Failed(StoreError::Refused { .. })) => self.write_each(&*shelf, records, origin).await,
            Err(lost) => {
                self.lost(&lost, origin);
                None
            }
        }
    }

    /// Returns how fast what came from there is written: with rests as long as nobody waits for it, and no next batch does.
    fn speed(&self, origin: Origin) -> Speed {
        let is_urgent = self.is_awaited || self.stop_by.is_some() || self.queue.is_due(self.config.flush);
        match origin {
            Origin::Request if !is_urgent => Speed::Gentle,
            Origin::Request | Origin::Spool { .. } => Speed::Full,
        }
    }

    /// Finds the records that the store refuses among those that it takes.
    async fn write_each(&mut self, shelf: &dyn Shelf, records: &[Record], origin: Origin) -> Option<Taken> {
        let mut taken = Taken::default();
        for record in records {
            match self.within(shelf.write_at(std::slice::from_ref(record), Speed::Full)).await {
                Ok(new) => self.totals.written(new),
                Err(Lost::Failed(error @ StoreError::Refused { .. })) => {
                    taken.refused += 1;
                    taken.why = Some(error);
                }
                Err(lost) => {
                    self.lost(&lost, origin);
                    return None;
                }
            }
        }
        match taken.why {
            Some(error)
                if taken.refused == records.len() as u64 && self.blames_store(records.len(), origin) =>
            {
                self.lost(&Lost::Failed(error), origin);
                None
            }
            why => Some(Taken { why, ..taken }),
        }
    }

    fn count_refused(&self, taken: &Taken) {
        if let Some(error) = &taken.why {
            self.totals.dropped("refused", taken.refused, error);
        }
    }

    /// Gives the store up for now.
    fn lost(&mut self, lost: &Lost, origin: Origin) {
        if let (Lost::Slow(_), Origin::Spool { rows, bytes }) = (lost, origin) {
            self.pace.was_too_slow(rows, bytes);
        }
        self.link.lost(lost);
    }

    /// Returns whether it need not be the fault of these that the store refuses all of them.
    fn blames_store(&mut self, refused: usize, origin: Origin) -> bool {
        match origin {
            Origin::Request => true,
            Origin::Spool { .. } => {
                let is_patient = refused > 1 && self.refused_whole < REFUSED_WHOLE_MAX;
                self.refused_whole += u32::from(is_patient);
                is_patient
            }
        }
    }

    fn can_replay(&self) -> bool {
        self.spool.len() > 0 && self.link.shelf().is_some() && self.stop_by.is_none()
    }

    /// Takes the oldest batch from the spool to the store; it leaves the spool when the store has it.
    async fn replay(&mut self) {
        let batch = match self.spool.oldest(self.pace.rows(), self.pace.bytes()).await {
            Ok(Some(batch)) => batch,
            Ok(None) => return,
            Err(error) => return self.replay_later(&error),
        };
        let (rows, bytes) = batch.size();
        let origin = Origin::Spool { rows, bytes };
        let Batch { records, feedback, .. } = &batch;
        let started = Clock::now();
        let mut taken = Taken::default();
        if !records.is_empty() {
            let Some(now) = self.write(records, origin).await else { return };
            taken = now;
        }
        let mut refused = Vec::new();
        if !feedback.is_empty() {
            let Some(landed) = self.write_feedback(feedback, origin).await else { return };
            let given = feedback.iter().zip(&landed).filter(|(_, landed)| landed.is_err());
            refused.extend(given.map(|(given, _)| given.clone()));
        }
        self.pace.took(started.elapsed());
        // It was promised to last.
        let aside = match self.spool.leave_aside(&refused) {
            Ok(path) => path,
            Err(error) => return self.replay_later(&error),
        };
        if let Err(error) = self.spool.remove(&batch).await {
            return self.replay_later(&error);
        }
        self.refused_whole = 0;
        // Now that it comes no more: what is tried again would count again.
        self.count_refused(&taken);
        if !refused.is_empty() {
            tracing::error!(
                path = %aside.display(),
                feedback = refused.len(),
                "feedback that the traffic store refuses is left aside"
            );
            self.totals.dropped("feedback_refused", refused.len() as u64, &"feedback is left aside");
        }
        if batch.broken > 0 {
            self.totals.dropped("spool_broken", batch.broken, &"an entry of the spool cannot be read");
        }
    }

    fn replay_later(&mut self, error: &SpoolError) {
        tracing::warn!(%error, "the spool cannot be replayed now");
        self.replay_from = Clock::now() + REPLAY_AGAIN;
    }

    async fn take_over(&mut self) {
        if let Err(error) = self.spool.take_over().await {
            tracing::warn!(%error, "what other processes left in the spool is not looked at");
        }
    }

    /// Deletes what is too old, and looks after what other processes left.
    async fn upkeep(&mut self) {
        self.upkeep_at = Clock::now() + UPKEEP_EVERY;
        self.take_over().await;
        let Some(shelf) = self.link.shelf() else { return };
        if self.retaining.as_ref().is_some_and(|retaining| !retaining.is_finished()) {
            return;
        }
        let retention = self.config.retention;
        self.retaining = Some(tokio::spawn(async move {
            match shelf.retain(retention).await {
                Ok(deleted) if deleted.records + deleted.feedback > 0 => tracing::info!(
                    records = deleted.records,
                    feedback = deleted.feedback,
                    "deleted from the traffic store what is older than the limits allow"
                ),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "upkeep of the traffic store failed"),
            }
        }));
    }

    /// Writes what is left, to the store as long as there is time, then to the spool.
    async fn finish(mut self) {
        let by = Clock::now() + STOP_MAX;
        self.stop_by = Some(by);
        if let Some(retaining) = &self.retaining {
            retaining.abort();
        }
        self.round().await;
        self.note();
        if self.spool.len() > 0 {
            tracing::warn!(entries = self.spool.len(), "the spool is not empty: the next start replays it");
        }
        self.spool.close().await;
        self.link.close(by.saturating_duration_since(Clock::now())).await;
    }

    /// Waits for the store, but not for ever, and less long where records would be dropped meanwhile. What it did after
    /// that is found out by doing it again.
    async fn within<T>(&self, asked: impl Future<Output = Result<T, StoreError>>) -> Result<T, Lost> {
        let started = Clock::now();
        tokio::select! {
            // First: an answer that is there counts.
            biased;
            answer = timeout(self.patience(), asked) => match answer {
                Ok(answer) => answer.map_err(Lost::Failed),
                Err(_) => Err(Lost::Slow(started.elapsed())),
            },
            () = self.crowded() => Err(Lost::Slow(started.elapsed())),
        }
    }

    /// Resolves when the queue is half full though the store has had a while to take what it was given.
    async fn crowded(&self) {
        tokio::time::sleep(CROWDED_AFTER).await;
        while !self.queue.is_half_full() {
            tokio::time::sleep(CROWDED_LOOK).await;
        }
    }

    /// Returns how long the store is waited for now.
    fn patience(&self) -> Duration {
        match self.stop_by {
            Some(by) => STORE_MAX.min(by.saturating_duration_since(Clock::now())),
            None => STORE_MAX,
        }
    }

    fn note(&mut self) {
        match self.spool.take_lost() {
            0 => {}
            lost => self.totals.dropped("spool_broken", lost, &"a file of the spool is broken"),
        }
        self.totals.note(self.queue.len(), self.spool.len(), self.link.shelf().is_some());
    }
}

/// Returns what work gives, `None` where it breaks down.
fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

#[cfg(test)]
pub mod tests;
