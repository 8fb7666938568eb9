//! Sessions on threads of their own behind one bounded queue.
//!
//! A caller never waits to get in: a full queue answers at once. A job whose caller has hung up or
//! whose deadline has passed is skipped. Each job runs alone, so its scores cannot depend on what
//! else is in flight.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use tokio::sync::oneshot;

use super::{
    ClassifyError, Scored, StageTimes,
    bundle::Manifest,
    memory,
    scores::calibrate,
    session::ModelSession,
    tokenize::{Encoder, Excerpt},
};
use crate::{prompt::Intent, telemetry};

/// Jobs that wait, whichever bundle's they are: while one is exchanged there are several queues, and one gauge shows
/// what waits in this process.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// One prompt to score.
pub struct Job {
    pub excerpt: Excerpt,
    /// After this nobody reads the answer.
    pub deadline: Instant,
    pub queued_at: Instant,
    pub reply: oneshot::Sender<Result<Scored, ClassifyError>>,
}

/// What every worker reads.
pub struct Shared {
    pub encoder: Encoder,
    pub manifest: Manifest,
    pub intents: Vec<Intent>,
    /// Where its thread itself does the inference, the time of which can be told from waiting.
    pub on_processor: bool,
}

/// Who gets the processor first where all want it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precedence {
    /// As who waits for a decision.
    Equal,
    /// Everybody else: nobody waits for these scores.
    OthersFirst,
}

/// The queue and its threads; dropping it lets running jobs end and joins the threads.
pub struct Workers {
    queue: Option<Sender<(Job, Waiting)>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts one thread per session behind a queue of `queue_max` jobs.
    pub fn start(
        shared: &Arc<Shared>,
        sessions: Vec<ModelSession>,
        queue_max: usize,
        precedence: Precedence,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = crossbeam_channel::bounded(queue_max);
        let threads = sessions
            .into_iter()
            .enumerate()
            .map(|(at, session)| {
                let (shared, receiver) = (Arc::clone(shared), receiver.clone());
                thread::Builder::new().name(format!("classifier-{at}")).spawn(move || {
                    match precedence {
                        Precedence::Equal => {}
                        Precedence::OthersFirst => memory::let_others_go_first(),
                    }
                    work(&shared, session, &receiver);
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { queue: Some(sender), threads })
    }

    /// Queues a job, or answers at once that the queue is full.
    pub fn submit(&self, job: Job) -> Result<(), ClassifyError> {
        let queue = self.queue.as_ref().expect("the queue is taken only when dropping");
        // Before it is there: a worker may take it at once.
        let waiting = Waiting::begin();
        let outcome = match queue.try_send((job, waiting)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(ClassifyError::Overloaded),
            Err(TrySendError::Disconnected(_)) => Err(ClassifyError::Stopped),
        };
        tell_waiting();
        outcome
    }
}

/// Counts as one job that waits until it is dropped.
struct Waiting(());

impl Waiting {
    fn begin() -> Self {
        WAITING.fetch_add(1, Relaxed);
        Self(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Relaxed);
    }
}

fn tell_waiting() {
    telemetry::classifier_waiting(WAITING.load(Relaxed));
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn work(shared: &Shared, mut session: ModelSession, queue: &Receiver<(Job, Waiting)>) {
    while let Ok((job, waiting)) = queue.recv() {
        drop(waiting);
        tell_waiting();
        if job.reply.is_closed() || job.deadline <= Instant::now() {
            telemetry::classifier_skipped();
            continue;
        }
        // A panic in a library costs one prompt, not the thread.
        let outcome = catch_unwind(AssertUnwindSafe(|| score(shared, &mut session, &job)))
            .unwrap_or_else(|_| Err(ClassifyError::Failed("panicked".to_owned())));
        // A caller who hung up meanwhile does not need it.
        let _ = job.reply.send(outcome);
    }
}

fn score(shared: &Shared, session: &mut ModelSession, job: &Job) -> Result<Scored, ClassifyError> {
    let taken_at = Instant::now();
    let computed_before = shared.on_processor.then(memory::processor_time).flatten();
    let encoded = shared.encoder.encode(&job.excerpt).map_err(ClassifyError::Failed)?;
    let encoded_at = Instant::now();
    let outputs = session.run(&encoded.ids).map_err(|error| ClassifyError::Failed(error.to_string()))?;
    let inferred_at = Instant::now();
    let computed = computed_before.and_then(|before| memory::processor_time()?.checked_sub(before));
    let times = StageTimes {
        queue_us: micros(job.queued_at, taken_at),
        tokenize_us: micros(taken_at, encoded_at),
        inference_us: micros(encoded_at, inferred_at),
        compute_us: computed
            .map_or_else(|| micros(taken_at, inferred_at), |computed| computed.as_micros() as u64),
    };
    let (truncated, density) = (encoded.truncated, encoded.density);
    let scores = calibrate(&outputs, &shared.intents, &shared.manifest, truncated, density);
    Ok(Scored { scores, embedding: outputs.embedding, times })
}

fn micros(from: Instant, to: Instant) -> u64 {
    to.saturating_duration_since(from).as_micros() as u64
}
