//! A server on port 0 inside the test, with the real classifier or a scripted one, and providers that misbehave.

pub mod onnx;
pub mod postgres;
pub mod program;
pub mod traffic;
pub mod upstream;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use pointsman::{
    config::{Config, Device, read_text},
    live::Live,
    prompt::Intent,
    routing::{
        classifier::{
            Available, Checks, Classifier, ClassifyError, Description, Excerpt, InputLimits, Loading,
            OnnxClassifier, Precedence, Scored, Scores, SessionError, StageTimes, TokenDensity,
        },
        language::ReadLanguages,
    },
    server::{Listeners, ServerError, proto::router_service_client::RouterServiceClient, run},
};
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
};
use tonic::transport::Channel;

/// Longest wait for anything in a test. Only one that fails waits so long: far above what a busy machine needs.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Set to 1, what is promised of times must be kept to the letter; for a machine that does nothing else.
const STRICT_TIMES: &str = "POINTSMAN_STRICT_TIMES";
/// What is allowed instead on a machine that is busy with other tests.
const BUSY_TIMES: u32 = 6;
/// An address at which nobody listens: port 1 is given to no program that asks for a free one.
pub const NOBODY: &str = "127.0.0.1:1";

/// Returns a configuration for tests: any free port, and the given sections. Nothing is logged but by a section that
/// says where.
pub fn config(sections: &str) -> Config {
    let server = "[server]\ngrpc_listen = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\n\
                  admin_listen = \"127.0.0.1:0\"\ndrain_ms = 2000\n";
    let read = read_text(&format!("{sections}\n{server}"));
    let mut config = read.unwrap_or_else(|error| panic!("{error}"));
    config.traffic.enabled &= sections.contains("[traffic]");
    config
}

/// The embedded bundle's classifier, loaded once for all tests.
pub fn real_classifier() -> Arc<dyn Classifier> {
    static CLASSIFIER: OnceLock<Arc<OnnxClassifier>> = OnceLock::new();
    let classifier = CLASSIFIER.get_or_init(|| {
        let classifier = OnnxClassifier::load(&config("").classifier);
        Arc::new(classifier.unwrap_or_else(|error| panic!("{error}")))
    });
    Arc::clone(classifier) as Arc<dyn Classifier>
}

/// How tests load the bundle in a folder: one session, on the CPU.
pub fn loading(folder: &std::path::Path) -> Loading<'_> {
    Loading {
        folder: Some(folder),
        manifest_sha256: None,
        device: Device::Cpu,
        workers: Some(1),
        queue_max: 128,
        precedence: Precedence::Equal,
    }
}

/// Loads the bundle in this folder beside nothing.
pub fn load_bundle(folder: &std::path::Path) -> Result<OnnxClassifier, SessionError> {
    let checks = Checks { memory: Available::Enough, beside: None };
    Ok(OnnxClassifier::load_verified(&loading(folder), &checks)?.classifier)
}

/// A running server; dropping it stops it.
pub struct TestServer {
    pub live: Arc<Live>,
    pub channel: Channel,
    pub grpc: std::net::SocketAddr,
    pub http: std::net::SocketAddr,
    pub admin: std::net::SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), ServerError>>,
}

impl TestServer {
    /// Starts a server; without a classifier it is not ready.
    pub async fn start(config: Config, classifier: Option<Arc<dyn Classifier>>) -> Self {
        pointsman::telemetry::init_metrics();
        let live = Arc::new(Live::start(config).unwrap());
        if let Some(classifier) = classifier {
            live.set_classifier(classifier).unwrap();
        }
        let listeners = Listeners::bind(&live.router().config().server).await.unwrap();
        let (grpc, http) = (listeners.grpc_address(), listeners.http_address().unwrap());
        let admin = listeners.admin_address().unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(run(listeners, Arc::clone(&live), async {
            let _ = stopped.await;
        }));
        let endpoint = Channel::from_shared(format!("http://{grpc}")).unwrap();
        let channel = endpoint.connect().await.unwrap();
        Self { live, channel, grpc, http, admin, stop: Some(stop), task }
    }

    pub fn client(&self) -> RouterServiceClient<Channel> {
        RouterServiceClient::new(self.channel.clone()).max_encoding_message_size(64 << 20)
    }

    pub async fn admin_channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.admin)).unwrap().connect().await.unwrap()
    }

    /// Asks the server to stop and returns how it ended.
    pub async fn stop(mut self) -> Result<(), ServerError> {
        let _ = self.stop.take().unwrap().send(());
        tokio::time::timeout(PATIENCE, self.task).await.expect("the server stops").unwrap()
    }
}

/// Returns how long something may take of which so much is promised.
pub fn allowed(promised: Duration) -> Duration {
    let is_strict = std::env::var(STRICT_TIMES).is_ok_and(|set| set == "1");
    if is_strict { promised } else { promised * BUSY_TIMES }
}

/// Waits for a condition with a bound.
pub async fn until(what: &str, holds: impl AsyncFnMut() -> bool) {
    until_within(PATIENCE, what, holds).await;
}

/// The same for what takes several steps, each of which may be slow.
pub async fn until_within(most: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < most, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A classifier that answers by script, to test what the real one cannot be made to do.
pub struct Scripted {
    description: Description,
    behaviour: Behaviour,
    pub asked: AtomicUsize,
}

/// What a scripted classifier does with every prompt.
pub enum Behaviour {
    Answer([f64; 3]),
    Overloaded,
    Never,
    Fail,
    /// Answers when told to.
    OnSignal(Arc<Notify>),
}

impl Scripted {
    pub fn new(behaviour: Behaviour) -> Arc<Self> {
        Self::describing("1", None, behaviour)
    }

    /// One of this version.
    pub fn versioned(version: &str, behaviour: Behaviour) -> Arc<Self> {
        Self::describing(version, None, behaviour)
    }

    /// One that reads only these languages well.
    pub fn reading(languages: &[&str], behaviour: Behaviour) -> Arc<Self> {
        let codes: Vec<String> = languages.iter().map(ToString::to_string).collect();
        Self::describing("1", Some(codes.try_into().unwrap()), behaviour)
    }

    fn describing(version: &str, languages: Option<ReadLanguages>, behaviour: Behaviour) -> Arc<Self> {
        let real = real_classifier();
        let description = Description {
            name: "scripted".into(),
            version: version.into(),
            runs: "nowhere".to_owned(),
            languages,
            ..real.describe().clone()
        };
        assert!(description.input.problem().is_none(), "{:?}", InputLimits { ..description.input });
        Arc::new(Self { description, behaviour, asked: AtomicUsize::new(0) })
    }
}

impl Classifier for Scripted {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn submit(
        &self,
        _: Excerpt,
        _: Instant,
    ) -> Result<oneshot::Receiver<Result<Scored, ClassifyError>>, ClassifyError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        let answer = match &self.behaviour {
            Behaviour::Overloaded => return Err(ClassifyError::Overloaded),
            Behaviour::Never => {
                // The sender must outlive the call, or the caller would notice at once.
                std::mem::forget(sender);
                return Ok(receiver);
            }
            Behaviour::OnSignal(signal) => {
                let signal = Arc::clone(signal);
                tokio::spawn(async move {
                    signal.notified().await;
                    let _ = sender.send(Err(ClassifyError::Failed("scripted".to_owned())));
                });
                return Ok(receiver);
            }
            Behaviour::Fail => Err(ClassifyError::Failed("scripted".to_owned())),
            Behaviour::Answer(sufficiency) => Ok(Scored {
                scores: Scores {
                    intent: Intent("code".into()),
                    intent_confidence: 0.9,
                    sufficiency: sufficiency.iter().copied().chain([1.0]).collect(),
                    level_confidence: 0.8,
                    intent_unsure: false,
                    level_margin_min: 0.0,
                    truncated: false,
                    density: TokenDensity { tokens: 10, bytes: 40 },
                },
                embedding: vec![1.0],
                times: StageTimes::default(),
            }),
        };
        let _ = sender.send(answer);
        Ok(receiver)
    }
}
