//! Text -> calibrated scores, by a fine-tuned BERT.
//!
//! A [`Classifier`] takes an excerpt of a prompt and answers later, or says at once that it is
//! overloaded. Nothing here decides what follows from the scores.

mod background;
mod bundle;
mod golden;
mod graph;
mod headroom;
mod library;
mod load;
mod memory;
mod probe;
mod scores;
#[cfg(test)]
pub mod scripted;
mod session;
mod tables;
#[cfg(test)]
#[path = "../../../tests/integration/support/onnx/mod.rs"]
#[allow(dead_code)]
mod tiny;
mod tokenize;
mod unfit;
mod workers;

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use self::workers::{Job, Workers};
pub use self::{
    background::Background,
    bundle::{Bundle, BundleError, Manifest},
    headroom::{Available, Headroom},
    load::{Checks, Loaded, Loading, Took},
    memory::{give_back_heap, let_others_go_first},
    probe::{Beside, Probe},
    scores::Scores,
    session::{RunsOn, SessionError},
    tokenize::{Encoded, Encoder, Excerpt, InputLimits, TokenDensity},
    unfit::Unfit,
    workers::Precedence,
};
use crate::{prompt::Intent, routing::language::ReadLanguages};

/// Between two looks whether an answer has come: an inference takes several times that.
const ANSWER_PAUSE: Duration = Duration::from_millis(1);

/// Why one prompt got no scores. Routing goes on without them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClassifyError {
    #[error("the classifier's queue is full")]
    Overloaded,
    #[error("no scores within {} ms", .0.as_millis())]
    TooLate(Duration),
    #[error("the classifier failed: {0}")]
    Failed(String),
    #[error("the classifier has stopped")]
    Stopped,
}

/// Scores and where their time went.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    pub scores: Scores,
    /// The text as a point on the unit sphere: like texts lie near each other. Only what compares embeddings
    /// need look whether it is.
    pub embedding: Vec<f32>,
    pub times: StageTimes,
}

impl Scored {
    /// Returns the embedding; an error when it holds a number that nothing can be compared with.
    pub fn finite_embedding(&self) -> Result<&[f32], ClassifyError> {
        match self.embedding.iter().find(|number| !number.is_finite()) {
            Some(number) => Err(ClassifyError::Failed(format!("output embedding holds {number}"))),
            None => Ok(&self.embedding),
        }
    }
}

/// Microseconds of each stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTimes {
    pub queue_us: u64,
    pub tokenize_us: u64,
    pub inference_us: u64,
    /// What the processor spent on tokenizing and inference: waiting for one does not count. Where the inference runs
    /// elsewhere, how long both took.
    pub compute_us: u64,
}

/// Something that scores prompts: the ONNX model, or a scripted one in tests.
pub trait Classifier: Send + Sync {
    /// Returns what the scores stand for and how text is read.
    fn describe(&self) -> &Description;

    /// Takes a prompt; the answer comes through the receiver. Never blocks.
    fn submit(
        &self,
        excerpt: Excerpt,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Result<Scored, ClassifyError>>, ClassifyError>;
}

/// What a classifier's scores stand for.
#[derive(Debug, Clone)]
pub struct Description {
    pub name: Arc<str>,
    pub version: Arc<str>,
    pub intents: Vec<Intent>,
    /// Weakest first.
    pub levels: Vec<Arc<str>>,
    pub input: InputLimits,
    /// For a person: device, sessions, library.
    pub runs: String,
    /// Embeddings of ordinary traffic, where the bundle has them.
    pub background: Option<Arc<Background>>,
    /// The languages that are read well, where the bundle says so.
    pub languages: Option<ReadLanguages>,
}

/// A bundle's model on threads of its own.
pub struct OnnxClassifier {
    description: Description,
    workers: Workers,
}

impl Classifier for OnnxClassifier {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn submit(
        &self,
        excerpt: Excerpt,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Result<Scored, ClassifyError>>, ClassifyError> {
        let (reply, receiver) = oneshot::channel();
        self.workers.submit(Job { excerpt, deadline, queued_at: Instant::now(), reply })?;
        Ok(receiver)
    }
}

/// Waits for an answer until `deadline`; `None` when none has come by then. Blocks: call it off the reactor.
pub(super) fn wait_for(
    mut receiver: oneshot::Receiver<Result<Scored, ClassifyError>>,
    deadline: Instant,
) -> Option<Result<Scored, ClassifyError>> {
    use oneshot::error::TryRecvError;
    loop {
        match receiver.try_recv() {
            Ok(outcome) => return Some(outcome),
            // Workers drop a reply without sending when its deadline has passed, or when they end.
            Err(TryRecvError::Closed) if Instant::now() < deadline => {
                return Some(Err(ClassifyError::Stopped));
            }
            Err(TryRecvError::Empty) if Instant::now() < deadline => thread::sleep(ANSWER_PAUSE),
            Err(TryRecvError::Closed | TryRecvError::Empty) => return None,
        }
    }
}
