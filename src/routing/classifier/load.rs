//! A bundle -> a classifier that may serve: fits into memory, is what its manifest says, scores its golden samples as it
//! must, and is not much slower than the one that runs.
//!
//! Never touches what serves. All work but the comparison happens on one thread that lets others go first, so that
//! loading takes no more than one core from requests, and under full load less.

use std::{
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{
    Available, Background, Beside, BundleError, Description, Headroom, Manifest, OnnxClassifier, Probe,
    RunsOn, SessionError,
    bundle::{self, Bundle, Opened},
    golden, graph, headroom, memory, probe,
    session::{self, Graph, ModelSession, OutputSizes},
    tokenize::Encoder,
    workers::{Precedence, Shared, Workers},
};
use crate::{
    config::{ClassifierConfig, Device},
    prompt::{Intent, Prompt},
};

/// More sessions than this rarely help one process and cost memory each.
const WORKERS_MAX_BY_DEFAULT: usize = 8;

/// Which bundle to load, and how it runs.
#[derive(Debug, Clone, Copy)]
pub struct Loading<'a> {
    /// `None`: the bundle inside the binary.
    pub folder: Option<&'a Path>,
    /// Of `manifest.json`, hexadecimal: another one is refused. `None`: whatever is there.
    pub manifest_sha256: Option<&'a str>,
    pub device: Device,
    /// `None`: as many as suit the device.
    pub workers: Option<usize>,
    pub queue_max: usize,
    pub precedence: Precedence,
}

impl<'a> Loading<'a> {
    /// The bundle that the configuration names.
    pub fn configured(config: &'a ClassifierConfig) -> Self {
        Self {
            folder: config.bundle.as_deref(),
            manifest_sha256: None,
            device: config.device,
            workers: config.workers,
            queue_max: config.queue_max,
            precedence: Precedence::Equal,
        }
    }
}

/// What a bundle is held to beside its own manifest.
#[derive(Clone)]
pub struct Checks {
    pub memory: Available,
    /// The running classifier, if there is one to be compared with.
    pub beside: Option<Beside>,
}

impl Checks {
    /// Memory alone: nothing runs yet.
    pub fn alone() -> Self {
        Self { memory: Available::Measured, beside: None }
    }
}

/// A classifier that may serve, and what was seen on the way.
pub struct Loaded {
    pub classifier: OnnxClassifier,
    pub headroom: Headroom,
    pub probe: Probe,
    pub took: Took,
}

/// How long each step took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Took {
    /// Files and their hashes.
    pub read: Duration,
    /// Tokenizer.
    pub tokenizer: Duration,
    /// All sessions.
    pub sessions: Duration,
    pub golden: Duration,
    /// Beside the running one.
    pub probe: Duration,
}

impl OnnxClassifier {
    /// Loads the configured bundle, checks it and starts its sessions.
    ///
    /// Takes some tenths of a second and blocks: call it off the reactor.
    pub fn load(config: &ClassifierConfig) -> Result<Self, SessionError> {
        let loaded = Self::load_verified(&Loading::configured(config), &Checks::alone())?;
        Ok(loaded.classifier)
    }

    /// Loads a bundle and checks all that can be known before it serves.
    ///
    /// Takes some tenths of a second, under full load some seconds, and blocks: call it off the reactor. What was
    /// loaded is dropped again when it is refused.
    pub fn load_verified(loading: &Loading<'_>, checks: &Checks) -> Result<Loaded, SessionError> {
        let ready = thread::scope(|scope| {
            let prepare = || {
                memory::let_others_go_first();
                prepare(loading, checks.memory)
            };
            let loader = thread::Builder::new().name("bundle-loader".to_owned()).spawn_scoped(scope, prepare);
            // A panic in a library costs this bundle, not the process.
            let panicked = || BundleError::Graph { why: "a library panicked on it".to_owned() };
            loader.map_err(SessionError::Threads)?.join().unwrap_or_else(|_| Err(panicked().into()))
        })?;
        let Ready { description, shared, sessions, golden, headroom, mut took } = ready;
        // Started here: threads inherit how much they let others go first.
        let workers = Workers::start(&shared, sessions, loading.queue_max, loading.precedence);
        let workers = workers.map_err(SessionError::Threads)?;
        let classifier = Self { description, workers };
        if checks.beside.is_none() {
            // Requests wait while the heap is looked through: beside a running bundle that is left for a quieter time.
            memory::give_back_heap();
        }
        let started = Instant::now();
        let probe = probe::compare(&classifier, &golden, checks.beside.as_ref())?;
        took.probe = started.elapsed();
        Ok(Loaded { classifier, headroom, probe, took })
    }
}

/// Everything but threads.
struct Ready {
    description: Description,
    shared: Arc<Shared>,
    sessions: Vec<ModelSession>,
    golden: Vec<Prompt>,
    headroom: Headroom,
    took: Took,
}

fn prepare(loading: &Loading<'_>, available: Available) -> Result<Ready, SessionError> {
    let opened = match loading.folder {
        Some(folder) => Opened::folder(folder, loading.manifest_sha256)?,
        None => Opened::embedded()?,
    };
    // By the manifest alone: a bundle that does not fit is never read.
    let headroom = headroom::check(&opened.sizes()?, sessions_wanted(loading), available)?;
    let mut took = Took::default();
    let mut clock = Instant::now();
    let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed();

    let Bundle { manifest, model, tokenizer, golden, background } = opened.read()?;
    took.read = lap();
    let encoder = Encoder::new(&tokenizer, manifest.input)?;
    drop(tokenizer);
    took.tokenizer = lap();

    graph::inspect(model.clone())?;
    let sizes = OutputSizes {
        intents: manifest.labels.intents.len(),
        sufficiencies: manifest.labels.levels.len() - 1,
        embedding: manifest.embedding.map(|embedding| embedding.width),
    };
    let graph = Graph::of(model, sessions_wanted(loading))?;
    let (mut first, runs_on) = ModelSession::open(&graph, sizes, loading.device, 1)?;
    took.sessions = lap();
    let on_processor = match runs_on {
        RunsOn::Cuda => false,
        RunsOn::Cpu | RunsOn::CpuWithoutCuda(_) => true,
    };
    let clock = on_processor.then(memory::ThreadClock::of_this_thread).flatten();
    let golden = golden::check(clock, &golden, &manifest, &encoder, &mut first)?;
    took.golden = lap();
    let device = match runs_on {
        RunsOn::Cuda => Device::Cuda,
        RunsOn::Cpu | RunsOn::CpuWithoutCuda(_) => Device::Cpu,
    };
    let count = loading.workers.unwrap_or_else(|| workers_for(&runs_on));
    let mut sessions = vec![first];
    for _ in 1..count {
        sessions.push(ModelSession::open(&graph, sizes, device, 1)?.0);
    }
    drop(graph);
    if loading.folder.is_none() {
        memory::give_back_embedded(bundle::embedded_model());
    }
    took.sessions += lap();

    let runs = runs(&runs_on, count, &session::runtime()?.description);
    let description = describe(&manifest, background, runs);
    let intents = description.intents.clone();
    let shared = Arc::new(Shared { encoder, manifest, intents, on_processor });
    Ok(Ready { description, shared, sessions, golden, headroom, took })
}

/// Returns how many sessions there will be at most, before it is known where they run.
fn sessions_wanted(loading: &Loading<'_>) -> usize {
    let by_device = || match loading.device {
        Device::Cuda => workers_for(&RunsOn::Cuda),
        Device::Cpu | Device::Auto => workers_for(&RunsOn::Cpu),
    };
    loading.workers.unwrap_or_else(by_device)
}

fn workers_for(runs_on: &RunsOn) -> usize {
    match runs_on {
        RunsOn::Cuda => 1,
        RunsOn::Cpu | RunsOn::CpuWithoutCuda(_) => {
            thread::available_parallelism().map_or(1, std::num::NonZero::get).min(WORKERS_MAX_BY_DEFAULT)
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
