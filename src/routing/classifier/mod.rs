//! Text -> calibrated scores, by a fine-tuned BERT.
//!
//! A [`Classifier`] takes an excerpt of a prompt and answers later, or says at once that it is
//! overloaded. Nothing here decides what follows from the scores.

mod background;
mod bundle;
mod library;
mod memory;
mod scores;
#[cfg(test)]
pub mod scripted;
mod session;
mod tokenize;
mod workers;

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

pub use self::{
    background::Background,
    bundle::{Bundle, BundleError, Manifest},
    scores::Scores,
    session::{RunsOn, SessionError},
    tokenize::{Encoded, Encoder, Excerpt, InputLimits, TokenDensity},
};
use self::{
    background::{LENGTH_TOLERANCE, length},
    bundle::GoldenSample,
    scores::{intent_probabilities, sufficiencies},
    session::{ModelSession, OutputSizes},
    workers::{Job, Shared, Workers},
};
use crate::{
    config::{ClassifierConfig, Device},
    prompt::{Context, Intent, Message, Preferences, Prompt, Role, Shape},
    routing::language::ReadLanguages,
    telemetry,
};

/// More sessions than this rarely help one process and cost memory each.
const WORKERS_MAX_BY_DEFAULT: usize = 8;

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

impl OnnxClassifier {
    /// Loads the configured bundle, checks its golden samples and starts its sessions.
    ///
    /// Takes some tenths of a second and blocks: call it off the reactor.
    pub fn load(config: &ClassifierConfig) -> Result<Self, SessionError> {
        let bundle = match &config.bundle {
            Some(folder) => Bundle::read(folder)?,
            None => Bundle::embedded()?,
        };
        Self::start(bundle, config)
    }

    fn start(bundle: Bundle, config: &ClassifierConfig) -> Result<Self, SessionError> {
        let Bundle { manifest, model, tokenizer, golden, background } = bundle;
        let encoder = Encoder::new(&tokenizer, manifest.input)?;
        drop(tokenizer);
        let sizes = OutputSizes {
            intents: manifest.labels.intents.len(),
            sufficiencies: manifest.labels.levels.len() - 1,
            embedding: manifest.embedding.map(|embedding| embedding.width),
        };
        let (mut first, runs_on) = ModelSession::open(&model, sizes, config.device, 1)?;
        check_golden(&golden, &manifest, &encoder, &mut first)?;
        let device = match runs_on {
            RunsOn::Cuda => Device::Cuda,
            RunsOn::Cpu | RunsOn::CpuWithoutCuda(_) => Device::Cpu,
        };
        let count = config.workers.unwrap_or_else(|| workers_for(&runs_on));
        let mut sessions = vec![first];
        for _ in 1..count {
            sessions.push(ModelSession::open(&model, sizes, device, 1)?.0);
        }
        if let Cow::Borrowed(embedded) = &model {
            memory::give_back_embedded(embedded);
        }
        drop(model);
        memory::give_back_heap();
        let runs = runs(&runs_on, count, &session::runtime()?.description);
        let description = describe(&manifest, background, runs);
        let intents = description.intents.clone();
        let shared = Arc::new(Shared { encoder, manifest, intents });
        let workers = Workers::start(&shared, sessions, config.queue_max)
            .map_err(|error| BundleError::Graph { why: format!("no thread for a session: {error}") })?;
        Ok(Self { description, workers })
    }
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
        let outcome = self.workers.submit(Job { excerpt, deadline, queued_at: Instant::now(), reply });
        telemetry::classifier_waiting(self.workers.waiting());
        outcome.map(|()| receiver)
    }
}

fn workers_for(runs_on: &RunsOn) -> usize {
    match runs_on {
        RunsOn::Cuda => 1,
        RunsOn::Cpu | RunsOn::CpuWithoutCuda(_) => {
            std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(WORKERS_MAX_BY_DEFAULT)
        }
    }
}

fn runs(runs_on: &RunsOn, sessions: usize, library: &str) -> String {
    let plural = if sessions == 1 { "" } else { "s" };
    format!("{sessions} session{plural} on {runs_on}, ONNX Runtime from {library}")
}

fn describe(manifest: &Manifest, background: Option<Background>, runs: String) -> Description {
    Description {
        name: Arc::from(manifest.name.as_str()),
        version: Arc::from(manifest.version.as_str()),
        intents: manifest.labels.intents.iter().map(|name| Intent(Arc::from(name.as_str()))).collect(),
        levels: manifest.labels.levels.iter().map(|name| Arc::from(name.as_str())).collect(),
        input: manifest.input,
        runs,
        background: background.map(Arc::new),
        languages: manifest.languages.as_ref().map(|languages| languages.read.clone()),
    }
}

/// Runs every golden sample and compares each probability with the manifest's tolerance.
fn check_golden(
    samples: &[GoldenSample],
    manifest: &Manifest,
    encoder: &Encoder,
    session: &mut ModelSession,
) -> Result<(), BundleError> {
    let tolerance = manifest.golden.tolerance;
    for sample in samples {
        let line = sample.line;
        let differs = |what: String, got: f64, expected: f64| BundleError::Golden {
            line,
            id: sample.id.clone(),
            what,
            got,
            expected,
            tolerance,
        };
        let broken = |why: String| BundleError::Broken {
            file: "golden.jsonl".to_owned(),
            why: format!("line {line}: {why}"),
        };
        let prompt = golden_prompt(sample).map_err(broken)?;
        let encoded = encoder.encode(&Excerpt::of(&prompt, &manifest.input)).map_err(broken)?;
        if encoded.ids.len() != sample.tokens {
            let (got, expected) = (encoded.ids.len(), sample.tokens);
            return Err(broken(format!("is read as {got} tokens, expected {expected}: another tokenizer")));
        }
        if encoded.truncated != sample.truncated {
            let (got, expected) = (encoded.truncated, sample.truncated);
            return Err(broken(format!("truncated is {got}, expected {expected}")));
        }
        let outputs = session.run(&encoded.ids).map_err(|why| BundleError::Graph { why })?;
        let intents = intent_probabilities(&outputs.intent_logits, manifest.calibration.intent_temperature);
        for (name, &got) in manifest.labels.intents.iter().zip(&intents) {
            let expected = *sample
                .intent
                .get(name)
                .ok_or_else(|| broken(format!("has no probability of intent {name}")))?;
            if !agree(got, expected, tolerance) {
                return Err(differs(format!("intent {name}"), got, expected));
            }
        }
        if manifest.embedding.is_some_and(|embedding| embedding.background.is_some()) {
            let length = length(&outputs.embedding);
            // NaN is within nothing.
            let fits = (length - 1.0).abs() <= LENGTH_TOLERANCE;
            if !fits {
                let why = format!("output embedding has length {length} on golden line {line}, 1 expected");
                return Err(BundleError::Graph { why });
            }
        }
        let levels = sufficiencies(&outputs.sufficiency_logits, &manifest.calibration);
        if levels.len() != sample.sufficiency.len() {
            return Err(broken(format!("has {} sufficiencies", sample.sufficiency.len())));
        }
        for (level, (&got, &expected)) in
            manifest.labels.levels.iter().zip(levels.iter().zip(&sample.sufficiency))
        {
            if !agree(got, expected, tolerance) {
                return Err(differs(format!("sufficiency of {level}"), got, expected));
            }
        }
    }
    Ok(())
}

/// NaN agrees with nothing.
fn agree(got: f64, expected: f64, tolerance: f64) -> bool {
    (got - expected).abs() <= tolerance
}

fn golden_prompt(sample: &GoldenSample) -> Result<Prompt, String> {
    let messages = sample
        .messages
        .iter()
        .map(|message| {
            let role =
                Role::parse(&message.role).ok_or_else(|| format!("unknown role {:?}", message.role))?;
            Ok(Message { role, content: message.content.clone() })
        })
        .collect::<Result<Vec<_>, String>>()?;
    Ok(Prompt {
        messages,
        context: Context::default(),
        shape: Shape::default(),
        preferences: Preferences::default(),
        tier_cap: None,
        explain: false,
    })
}
