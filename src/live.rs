//! What a request holds: one router, loaded, verified and exchanged as a whole.
//!
//! A request takes the router once and keeps it to its end, so it never sees a mix of two.

use std::{sync::Arc, time::Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::{
    completion::{Completer, CompleterError},
    config::Config,
    routing::{
        Router, RouterError,
        classifier::{Classifier, OnnxClassifier, SessionError},
        health::TargetHealth,
        sessions::Sessions,
    },
    telemetry,
    traffic::Traffic,
};

/// Generation of the first configuration.
const FIRST_GENERATION: u64 = 1;

/// Why the configured classifier cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("configuration and bundle do not fit: {0}")]
    Fit(#[from] RouterError),
}

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Router(#[from] RouterError),
    #[error(transparent)]
    Completer(#[from] CompleterError),
}

/// What one request holds from start to end.
#[derive(Clone)]
pub struct Serving {
    pub router: Arc<Router>,
    pub completer: Arc<Completer>,
}

/// What requests take.
pub struct Live {
    serving: ArcSwap<Serving>,
    sessions: Arc<Sessions>,
    health: Arc<TargetHealth>,
    traffic: Arc<Traffic>,
    ready: watch::Sender<bool>,
}

impl Live {
    /// Starts with rules and default tier only; the classifier comes by [`Live::load_classifier`].
    pub fn start(config: Config) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let sessions = Arc::new(Sessions::new(&config.sessions));
        let health = Arc::new(TargetHealth::new(config.targets.len()));
        let traffic = Arc::new(Traffic::start(Arc::clone(&config)));
        let told = Arc::clone(&traffic);
        let completer = Completer::new(Arc::clone(&config), Arc::clone(&health))?;
        let completer = Arc::new(completer.telling(Arc::new(move |ended| told.ended(ended))));
        let router = Router::new(config, None, Arc::clone(&sessions), Arc::clone(&health), FIRST_GENERATION)?;
        let router = Arc::new(router.learning_from(traffic.offsets()));
        let complete = !router.config().classifier.enabled;
        telemetry::classifier_ready(complete);
        let (ready, _) = watch::channel(complete);
        let serving = Serving { router, completer };
        Ok(Self { serving: ArcSwap::from_pointee(serving), sessions, health, traffic, ready })
    }

    /// Loads the configured classifier, checks it and exchanges the router for one that asks it.
    ///
    /// Blocks for some tenths of a second, and up to two minutes more where intents have examples to embed:
    /// call it off the reactor. On an error the router before goes on serving.
    pub fn load_classifier(&self) -> Result<(), LiveError> {
        let started = Instant::now();
        let config = Arc::clone(self.router().config());
        let classifier = OnnxClassifier::load(&config.classifier)?;
        let runs = classifier.describe().runs.clone();
        let version = Arc::clone(&classifier.describe().version);
        self.set_classifier(Arc::new(classifier))?;
        tracing::info!(%version, runs, took_ms = started.elapsed().as_millis() as u64, "classifier ready");
        Ok(())
    }

    /// Exchanges the router for one that asks this classifier.
    ///
    /// Blocks while the classifier embeds the examples of intents, if there are any. On an error the router
    /// before goes on serving.
    pub fn set_classifier(&self, classifier: Arc<dyn Classifier>) -> Result<(), RouterError> {
        self.traffic.know_intents(classifier.describe().intents.iter().map(|intent| &*intent.0));
        let config = Arc::clone(self.router().config());
        let (sessions, health) = (Arc::clone(&self.sessions), Arc::clone(&self.health));
        let router = Router::new(config, Some(classifier), sessions, health, FIRST_GENERATION)?;
        let router = router.learning_from(self.traffic.offsets());
        let completer = Arc::clone(&self.serving().completer);
        self.serving.store(Arc::new(Serving { router: Arc::new(router), completer }));
        telemetry::classifier_ready(true);
        self.ready.send_replace(true);
        Ok(())
    }

    /// Returns what a request of this moment holds.
    pub fn serving(&self) -> Arc<Serving> {
        self.serving.load_full()
    }

    /// Returns the router of this moment.
    pub fn router(&self) -> Arc<Router> {
        Arc::clone(&self.serving.load().router)
    }

    /// Returns the traffic log, one and the same for the process's life.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Follows whether every part that the configuration asks for is there.
    pub fn readiness(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Returns whether every part that the configuration asks for is there.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }
}
