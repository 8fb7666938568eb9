//! Requests and what came of them -> records that last; feedback about them; what is learned from both.
//!
//! Nothing here slows a request: records wait in a bounded queue and are dropped, and counted, when it is full.
//! Feedback is durable before it is acknowledged.

pub mod erase;
pub mod export;
pub mod feedback;
pub mod learn;
mod observe;
pub mod record;
pub mod replay;
#[cfg(test)]
pub(crate) mod samples;
pub mod signals;
mod speed;
pub mod stats;
pub mod store;
pub mod text;
mod totals;
mod writer;

use std::{
    path::PathBuf,
    pin::pin,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use tokio::sync::{oneshot, watch};

use self::{
    feedback::Feedback,
    observe::Pending,
    store::{Landed, Store, sqlite},
    text::Known,
    totals::Totals,
    writer::{Asked, Configured, Limits, Place, Queue, Shelf, Shelves, Writer},
};
pub use self::{
    observe::shadow_record,
    totals::TrafficStatus,
    writer::{SpoolHoldings, spool_holdings},
};
use crate::{
    completion::ended::Ended,
    config::{Config, StoreConfig, TrafficConfig},
    prompt::{Decision, Prompt},
    routing::learning::Offsets,
};

/// Longest wait for feedback to be durable: a store that does not answer, and then the spool.
const FEEDBACK_MAX: Duration = Duration::from_secs(10);
/// Longest wait for the writer's end, which itself does not wait that long for a store.
const STOP_MAX: Duration = Duration::from_secs(15);

/// The log as requests see it.
pub struct Traffic {
    offsets: Arc<ArcSwap<Offsets>>,
    /// Words that every policy for texts keeps.
    known: Known,
    /// `None` when it is off.
    log: Option<Log>,
}

/// The writer's thread, and what is shared with it.
struct Log {
    kept: TrafficConfig,
    queue: Arc<Queue>,
    totals: Arc<Totals>,
    shelf: watch::Receiver<Option<Arc<dyn Shelf>>>,
    /// Nothing is sent: it closes when the thread ends.
    running: watch::Receiver<()>,
}

/// Why feedback was not taken.
#[derive(Debug, thiserror::Error)]
pub enum FeedbackError {
    #[error("the traffic log is off (traffic.enabled): there is nothing to give feedback about")]
    Off,
    #[error("decision {0} is unknown, and there is no room for more feedback about unknown decisions")]
    NoRoom(uuid::Uuid),
    #[error("too much feedback is waiting to be written; try again in a second")]
    Overloaded,
    #[error("feedback cannot be stored at this moment: {0}")]
    Unavailable(String),
}

impl Traffic {
    /// Opens the store in the background and starts the writer; until the store is there, its spool takes what comes.
    pub fn start(config: &Config) -> Self {
        let place = Arc::new(Configured::new(config.traffic.store.clone()));
        Self::start_at(config, place)
    }

    fn start_at(config: &Config, place: Arc<dyn Place>) -> Self {
        let offsets: Arc<ArcSwap<Offsets>> = Arc::default();
        let known = Known::of(config);
        let start = || Log::start(config, place, Arc::clone(&offsets), known.clone());
        let log = config.traffic.enabled.then(start);
        Self { offsets, known, log }
    }

    /// Returns where decisions read what was learned.
    pub fn offsets(&self) -> Arc<ArcSwap<Offsets>> {
        Arc::clone(&self.offsets)
    }

    /// Takes the intents of a bundle: they are the operator's words, and no text of a caller.
    pub fn know_intents<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        self.known.add(names.into_iter().map(str::to_owned));
    }

    /// Returns whether this is one of those words, or was one since the start.
    pub fn knows(&self, word: &str) -> bool {
        self.known.has(word)
    }

    /// Takes the words of another configuration, as it took those of the first.
    pub fn know(&self, config: &Config) {
        self.known.take(config);
    }

    /// Logs a decision that was asked for by itself, and that this configuration was decided by.
    pub fn decided(&self, config: &Config, prompt: Prompt, decision: &Decision) {
        if let Some(log) = &self.log {
            log.push(Pending::decided(config, prompt, decision));
        }
    }

    /// Logs a completion.
    pub fn ended(&self, ended: Ended) {
        if let Some(log) = &self.log {
            log.push(Pending::ended(ended));
        }
    }

    /// Stores feedback; it is durable when this returns.
    pub async fn feedback(&self, feedback: Feedback) -> Result<Landed, FeedbackError> {
        let Some(log) = &self.log else { return Err(FeedbackError::Off) };
        let (answer, answered) = oneshot::channel();
        log.queue.ask(Asked { feedback, answer })?;
        match tokio::time::timeout(FEEDBACK_MAX, answered).await {
            Ok(Ok(landed)) => landed,
            Ok(Err(_)) => Err(FeedbackError::Unavailable("the log has ended".to_owned())),
            Err(_) => Err(FeedbackError::Unavailable(format!("it took more than {FEEDBACK_MAX:?}"))),
        }
    }

    /// Returns how the log does; all is 0 when it is off.
    pub fn status(&self) -> TrafficStatus {
        let Some(log) = &self.log else { return TrafficStatus::default() };
        TrafficStatus { waiting: log.queue.len(), ..log.totals.status() }
    }

    /// Returns the store while it is there.
    pub fn store(&self) -> Option<Store> {
        self.log.as_ref()?.shelf.borrow().as_ref()?.store().cloned()
    }

    /// The same, and waits for its being opened, for a bounded time.
    pub async fn store_within(&self, longest: Duration) -> Option<Store> {
        let mut shelf = self.log.as_ref()?.shelf.clone();
        // An end of the log is the end of the wait.
        let _ = tokio::time::timeout(longest, shelf.wait_for(Option::is_some)).await;
        self.store()
    }

    /// Returns how the log is kept, whether or not its store is there; `None` when it is off.
    pub fn kept(&self) -> Option<&TrafficConfig> {
        self.log.as_ref().map(|log| &log.kept)
    }

    /// Writes what waits and closes the store; from now on nothing is logged.
    pub async fn stop(&self) {
        let Some(log) = &self.log else { return };
        log.queue.stop();
        let mut running = log.running.clone();
        let ended = async { while running.changed().await.is_ok() {} };
        if tokio::time::timeout(STOP_MAX, ended).await.is_err() {
            tracing::error!("the traffic log did not end in time: the last records may be missing");
        }
    }
}

impl Drop for Traffic {
    /// Tells the writer to end; only [`Traffic::stop`] waits for it.
    fn drop(&mut self) {
        if let Some(log) = &self.log {
            log.queue.stop();
        }
    }
}

impl Log {
    fn start(config: &Config, place: Arc<dyn Place>, offsets: Arc<ArcSwap<Offsets>>, known: Known) -> Self {
        let (learning, config) = (config.learning.clone(), config.traffic.clone());
        let kept = config.clone();
        let limits = Limits { records_max: config.queue_max, bytes_max: config.queue_bytes_max };
        let queue = Arc::new(Queue::new(limits));
        let totals = Arc::new(Totals::default());
        let (shelves, shelf): (Shelves, _) = watch::channel(None);
        let (ends, running) = watch::channel(());
        let end = End {
            queue: Arc::clone(&queue),
            totals: Arc::clone(&totals),
            shelves: shelves.clone(),
            _ends: ends,
        };
        let counted = Arc::clone(&totals);
        let thread = thread::Builder::new().name("traffic".to_owned()).spawn(move || {
            let learner = learn::run(learning, offsets, shelves.subscribe());
            let writer = || Writer::new(config, place, Arc::clone(&end.queue), counted, shelves, known);
            if let Err(error) = work(writer, learner) {
                tracing::error!(%error, "there is no traffic log: its runtime cannot be started");
            }
        });
        if let Err(error) = thread {
            tracing::error!(%error, "there is no traffic log: its thread cannot be started");
        }
        Self { kept, queue, totals, shelf, running }
    }

    fn push(&self, pending: Pending) {
        if let Err(refusal) = self.queue.push(Box::new(pending), Instant::now()) {
            self.totals.dropped(refusal.as_str(), 1, &refusal);
        }
    }
}

/// The end of the writer's thread, however it comes: nothing more is taken, and who waits for it knows.
struct End {
    queue: Arc<Queue>,
    totals: Arc<Totals>,
    shelves: Shelves,
    _ends: watch::Sender<()>,
}

impl Drop for End {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("the traffic log's writer broke down: nothing is logged until a restart");
        }
        self.queue.stop();
        self.shelves.send_replace(None);
        self.totals.note(self.queue.len(), self.totals.status().spooled, false);
    }
}

/// Returns the files that were left aside because they were broken or the store refuses what is in them, as far as they
/// are still there. Nothing here ever deletes them.
pub fn left_aside(config: &TrafficConfig) -> Vec<PathBuf> {
    let mut files = match &config.store {
        StoreConfig::Sqlite { path } => sqlite::aside_of(path),
        StoreConfig::Postgres { .. } => Vec::new(),
    };
    files.extend(writer::left_aside(&config.spool.folder));
    files
}

/// Returns the time, milliseconds since 1970; 0 where the clock stands before that.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Runs the writer to its end, and the learner beside it.
fn work(writer: impl FnOnce() -> Writer, learner: impl Future<Output = ()>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut writer = pin!(writer().run());
        tokio::select! {
            () = &mut writer => {}
            // Where learning is off.
            () = learner => writer.await,
        }
    });
    Ok(())
}
