//! What waits to be written, between requests and the writer. Bounded; a full queue answers at once.
//!
//! The lock is held to push one thing or to take all of them, never while anything is written.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, oneshot};

use crate::traffic::{FeedbackError, feedback::Feedback, observe::Pending, store::Landed};

/// Records that are written at once. More make no write cheaper, and fewer texts are in memory twice.
pub const BATCH_MAX: usize = 500;
/// The same in bytes: some 50 ms of looking for what is to be replaced in texts.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Feedback that waits to be written: some seconds of it on a slow disk.
const FEEDBACK_MAX: usize = 1024;
/// The same in bytes of comments and demonstrations.
const FEEDBACK_BYTES_MAX: usize = 16 << 20;

/// How many records may wait.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub records_max: usize,
    pub bytes_max: usize,
}

/// Why a record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("as many records wait to be written as may (traffic.queue_max)")]
    QueueFull,
    #[error("the texts that wait to be written are as long as they may be (traffic.queue_bytes_max)")]
    BytesFull,
    #[error("the log was stopped")]
    Stopped,
}

impl Refusal {
    /// Returns the name used in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::BytesFull => "queue_bytes_full",
            Self::Stopped => "stopped",
        }
    }
}

/// Feedback whose giver waits for an answer.
#[derive(Debug)]
pub struct Asked {
    pub feedback: Feedback,
    pub answer: oneshot::Sender<Result<Landed, FeedbackError>>,
}

/// When there is something to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    Now,
    At(Instant),
    /// When something comes.
    Never,
}

/// Records and feedback in the order in which they came.
pub struct Queue {
    limits: Limits,
    waiting: Mutex<Waiting>,
    /// Taken and not yet written: they count against the limits all the same.
    taken: AtomicUsize,
    taken_bytes: AtomicUsize,
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    /// Boxed, so that growing under the lock moves little.
    records: VecDeque<Box<Pending>>,
    bytes: usize,
    /// When the oldest of `records` came.
    since: Option<Instant>,
    feedback: Vec<Asked>,
    feedback_bytes: usize,
    stopped: bool,
}

/// Everything that waited.
#[derive(Default)]
pub struct Taken {
    pub records: VecDeque<Box<Pending>>,
    pub feedback: Vec<Asked>,
}

impl Queue {
    /// Starts empty.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            waiting: Mutex::new(Waiting::default()),
            taken: AtomicUsize::new(0),
            taken_bytes: AtomicUsize::new(0),
            news: Notify::new(),
        }
    }

    /// Adds a record, or says why not; never waits.
    pub fn push(&self, pending: Box<Pending>, now: Instant) -> Result<(), Refusal> {
        let weight = pending.weight();
        let mut waiting = self.lock();
        if waiting.stopped {
            return Err(Refusal::Stopped);
        }
        if waiting.records.len() + self.taken.load(Ordering::Relaxed) >= self.limits.records_max {
            return Err(Refusal::QueueFull);
        }
        let bytes = waiting.bytes + weight;
        if bytes + self.taken_bytes.load(Ordering::Relaxed) > self.limits.bytes_max {
            return Err(Refusal::BytesFull);
        }
        let was_full_batch = waiting.is_full_batch();
        waiting.records.push_back(pending);
        waiting.bytes = bytes;
        let first = waiting.since.is_none();
        waiting.since.get_or_insert(now);
        // The writer is woken when it has to look at its clock or to write, not by every record.
        let wakes = first || (waiting.is_full_batch() && !was_full_batch);
        drop(waiting);
        if wakes {
            self.news.notify_one();
        }
        Ok(())
    }

    /// Adds feedback, or says why not; never waits.
    pub fn ask(&self, asked: Asked) -> Result<(), FeedbackError> {
        let bytes = asked.bytes();
        let mut waiting = self.lock();
        if waiting.stopped {
            return Err(FeedbackError::Unavailable("the server is stopping".to_owned()));
        }
        if waiting.feedback.len() >= FEEDBACK_MAX || waiting.feedback_bytes + bytes > FEEDBACK_BYTES_MAX {
            return Err(FeedbackError::Overloaded);
        }
        waiting.feedback.push(asked);
        waiting.feedback_bytes += bytes;
        drop(waiting);
        self.news.notify_one();
        Ok(())
    }

    /// Takes nothing more.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.news.notify_one();
    }

    /// Returns whether nothing more is taken.
    pub fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Returns how many records wait, those included that are being written.
    pub fn len(&self) -> usize {
        self.lock().records.len() + self.taken.load(Ordering::Relaxed)
    }

    /// Returns whether half of what may wait does, in records or in bytes, those included that are being written.
    pub fn is_half_full(&self) -> bool {
        let waiting = self.lock();
        let records = waiting.records.len() + self.taken.load(Ordering::Relaxed);
        let bytes = waiting.bytes + self.taken_bytes.load(Ordering::Relaxed);
        records > self.limits.records_max / 2 || bytes > self.limits.bytes_max / 2
    }

    /// Waits until something is to be written, or the queue is stopped. For the writer alone.
    pub async fn ready(&self, flush: Duration) {
        loop {
            match self.due(flush) {
                Due::Now => return,
                Due::At(at) => tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = self.news.notified() => {}
                },
                Due::Never => self.news.notified().await,
            }
        }
    }

    /// Returns whether something is to be written now.
    pub fn is_due(&self, flush: Duration) -> bool {
        self.due(flush) == Due::Now
    }

    fn due(&self, flush: Duration) -> Due {
        self.lock().due(flush, tokio::time::Instant::now().into_std())
    }

    /// Takes everything; each record counts as waiting until [`Queue::written`].
    pub fn take(&self) -> Taken {
        let mut waiting = self.lock();
        self.taken.fetch_add(waiting.records.len(), Ordering::Relaxed);
        self.taken_bytes.fetch_add(waiting.bytes, Ordering::Relaxed);
        waiting.bytes = 0;
        waiting.feedback_bytes = 0;
        waiting.since = None;
        Taken { records: mem::take(&mut waiting.records), feedback: mem::take(&mut waiting.feedback) }
    }

    /// Notes that so many taken records of this weight wait no more.
    pub fn written(&self, records: usize, bytes: usize) {
        self.taken.fetch_sub(records, Ordering::Relaxed);
        self.taken_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // What waits is whole between any two statements that could panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn is_full_batch(&self) -> bool {
        self.records.len() >= BATCH_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    fn due(&self, flush: Duration, now: Instant) -> Due {
        if self.stopped || !self.feedback.is_empty() || self.is_full_batch() {
            return Due::Now;
        }
        match self.since.map(|since| since + flush) {
            Some(at) if at <= now => Due::Now,
            Some(at) => Due::At(at),
            None => Due::Never,
        }
    }
}

impl Asked {
    /// Returns how long its texts are.
    pub fn bytes(&self) -> usize {
        let texts = [&self.feedback.comment, &self.feedback.demonstration];
        texts.into_iter().flatten().map(String::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::observe::tests::pending;

    const FLUSH: Duration = Duration::from_millis(500);

    fn queue(records_max: usize, bytes_max: usize) -> Queue {
        Queue::new(Limits { records_max, bytes_max })
    }

    fn asked(comment_bytes: usize) -> Asked {
        let feedback = crate::traffic::writer::tests::feedback(uuid::Uuid::nil(), &"x".repeat(comment_bytes));
        Asked { feedback, answer: oneshot::channel().0 }
    }

    #[test]
    fn a_full_queue_refuses_until_what_was_taken_is_written() {
        let queue = queue(2, 1 << 20);
        let push = || queue.push(Box::new(pending("hello")), Instant::now());
        assert_eq!((push(), push(), push()), (Ok(()), Ok(()), Err(Refusal::QueueFull)));
        let taken = queue.take();
        assert_eq!((taken.records.len(), queue.len()), (2, 2));
        assert_eq!(push(), Err(Refusal::QueueFull));
        queue.written(1, taken.records[0].weight());
        assert_eq!((push(), push()), (Ok(()), Err(Refusal::QueueFull)));
        queue.stop();
        assert_eq!(push(), Err(Refusal::Stopped));
    }

    #[test]
    fn long_texts_fill_the_queue_before_many_records_do() {
        let queue = queue(100, 50_000);
        let text = "x ".repeat(10_000);
        let push = || queue.push(Box::new(pending(&text)), Instant::now());
        assert_eq!((push(), push(), push()), (Ok(()), Ok(()), Err(Refusal::BytesFull)));
    }

    #[test]
    fn feedback_is_bounded_in_number_and_in_bytes() {
        let queue = queue(1, 1);
        for _ in 0..FEEDBACK_MAX {
            queue.ask(asked(0)).unwrap();
        }
        assert!(matches!(queue.ask(asked(0)), Err(FeedbackError::Overloaded)));
        queue.take();
        queue.ask(asked(FEEDBACK_BYTES_MAX)).unwrap();
        assert!(matches!(queue.ask(asked(1)), Err(FeedbackError::Overloaded)));
        queue.ask(asked(0)).unwrap();
        queue.stop();
        assert!(matches!(queue.ask(asked(0)), Err(FeedbackError::Unavailable(_))));
    }

    #[test]
    fn what_is_due_when() {
        let now = Instant::now();
        let due = |queue: &Queue, now| queue.lock().due(FLUSH, now);
        let waiting = queue(10_000, 1 << 30);
        assert_eq!(due(&waiting, now), Due::Never);
        waiting.push(Box::new(pending("hello")), now).unwrap();
        waiting.push(Box::new(pending("hello")), now + FLUSH / 2).unwrap();
        assert_eq!(due(&waiting, now), Due::At(now + FLUSH));
        assert_eq!(due(&waiting, now + FLUSH), Due::Now);
        for _ in 2..BATCH_MAX {
            waiting.push(Box::new(pending("hello")), now).unwrap();
        }
        assert_eq!(due(&waiting, now), Due::Now);

        let long = queue(10_000, 1 << 30);
        for _ in 0..BATCH_BYTES_MAX / 20_000 {
            long.push(Box::new(pending(&"x ".repeat(10_000))), now).unwrap();
        }
        assert_eq!(due(&long, now), Due::Now);

        let asking = queue(10_000, 1 << 30);
        asking.ask(asked(0)).unwrap();
        assert_eq!(due(&asking, now), Due::Now);
        asking.take();
        assert_eq!(due(&asking, now), Due::Never);
        asking.stop();
        assert_eq!(due(&asking, now), Due::Now);
    }

    #[tokio::test(start_paused = true)]
    async fn the_writer_is_woken_in_time() {
        let queue = queue(10_000, 1 << 30);
        let started = tokio::time::Instant::now();
        queue.push(Box::new(pending("hello")), started.into_std()).unwrap();
        tokio::time::timeout(FLUSH * 2, queue.ready(FLUSH)).await.expect("woken");
        queue.take();
        let waiting = tokio::time::timeout(FLUSH * 100, queue.ready(FLUSH));
        let asking = async { queue.ask(asked(0)).unwrap() };
        let (woken, ()) = tokio::join!(waiting, asking);
        woken.expect("woken");
    }
}
