//! What requests hold: configuration, bundles and completer, loaded, verified and exchanged as one value.
//!
//! A request takes a [`Serving`] once and keeps to it, so that it never sees a mix of two.

pub mod bundles;
pub mod deploy;
pub mod differences;
mod exchange;
pub mod files;
pub mod fleet;
mod merge;
pub mod observe;
mod off_reactor;
mod place;
mod pointer;
mod reaper;
pub mod rollout;
mod serving;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::sync::watch;

pub use self::{
    exchange::{ExchangeError, Misfit, Next, Part, Prepared, Running},
    pointer::{PointerError, resolved, telling_files},
    serving::{OnTrial, Picked, Served, Serving, WHOLE},
};
use self::{observe::Observer, reaper::Reaper, rollout::BundleRef};
use crate::{
    completion::{Completer, CompleterError},
    config::Config,
    prompt::{Decision, Prompt},
    routing::{
        Router, RouterError,
        classifier::{Classifier, OnnxClassifier, SessionError},
        health::TargetHealth,
        sessions::Sessions,
    },
    telemetry::{self, Named, Names},
    traffic::{FeedbackError, Traffic, feedback::Feedback, store::Landed},
};

/// Generation of what serves first.
const FIRST_GENERATION: u64 = 1;

/// Why the configured classifier cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Pointer(#[from] PointerError),
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

/// What requests take, and what lives as long as the process.
pub struct Live {
    serving: ArcSwap<Serving>,
    /// One exchange at a time.
    exchanging: Mutex<()>,
    traffic: Arc<Traffic>,
    observer: Arc<Observer>,
    ready: watch::Sender<bool>,
    reaper: Reaper,
    /// Of the configuration that serves.
    names: Mutex<Names>,
}

impl Live {
    /// Starts with rules and default tier only; the classifier comes by [`Live::load_classifier`].
    pub fn start(config: Config) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let sessions = Arc::new(Sessions::new(&config.sessions));
        let health = Arc::new(TargetHealth::new(config.targets.len()));
        let traffic = Arc::new(Traffic::start(&config));
        let observer = Arc::<Observer>::default();
        let (logs, sees) = (Arc::clone(&traffic), Arc::clone(&observer));
        let completer = Completer::new(Arc::clone(&config), Arc::clone(&health))?;
        let completer = Arc::new(completer.telling(Arc::new(move |ended| {
            sees.ended(&ended);
            logs.ended(ended);
        })));
        let router = Router::new(Arc::clone(&config), None, sessions, health, FIRST_GENERATION)?;
        let router = Arc::new(router.learning_from(traffic.offsets()));
        let names = names_of(&config);
        let complete = !config.classifier.enabled;
        telemetry::classifier_ready(complete);
        telemetry::generation(FIRST_GENERATION);
        let (ready, _) = watch::channel(complete);
        let active = Served { bundle: BundleRef::configured(), router };
        let generation = FIRST_GENERATION;
        let serving = Serving { generation, config, active, canary: None, shadow: None, completer };
        Ok(Self {
            serving: ArcSwap::from_pointee(serving),
            exchanging: Mutex::new(()),
            traffic,
            observer,
            ready,
            reaper: Reaper::start(),
            names: Mutex::new(names),
        })
    }

    /// Loads the configured classifier, checks it and exchanges the router for one that asks it.
    ///
    /// Blocks for some tenths of a second, and up to two minutes more where intents have examples to embed:
    /// call it off the reactor. On an error the router before goes on serving.
    pub fn load_classifier(&self) -> Result<(), LiveError> {
        let started = Instant::now();
        let config = Arc::clone(&self.serving().config);
        let classifier = OnnxClassifier::load(&resolved(&config.classifier)?)?;
        let runs = classifier.describe().runs.clone();
        let version = Arc::clone(&classifier.describe().version);
        self.set_classifier(Arc::new(classifier))?;
        tracing::info!(%version, runs, took_ms = started.elapsed().as_millis() as u64, "classifier ready");
        Ok(())
    }

    /// Exchanges the active router for one that asks this classifier.
    ///
    /// Blocks while the classifier embeds the examples of intents, if there are any. On an error the router
    /// before goes on serving.
    pub fn set_classifier(&self, classifier: Arc<dyn Classifier>) -> Result<(), RouterError> {
        let active = Running { bundle: BundleRef::configured(), classifier: Some(classifier) };
        let exchanged = self.exchange(|before| Next { active, ..Next::of(before) });
        match exchanged {
            Ok(_) => Ok(()),
            Err(ExchangeError::Router(error)) => Err(error),
            Err(ExchangeError::Completer(_)) => {
                unreachable!("a completer is made only of another configuration")
            }
        }
    }

    /// Returns what a request of this moment holds.
    pub fn serving(&self) -> Arc<Serving> {
        self.serving.load_full()
    }

    /// Returns the active router of this moment. Who decides a request is for [`Serving::pick`] to say.
    pub fn router(&self) -> Arc<Router> {
        Arc::clone(&self.serving.load().active.router)
    }

    /// Takes a decision that was asked for by itself: counts it, and logs it.
    pub fn decided(&self, serving: &Arc<Serving>, prompt: Prompt, decision: &Decision) {
        self.observer.decided(&prompt, decision);
        self.traffic.decided(&serving.config, prompt, decision);
    }

    /// Stores feedback; it is durable when this returns.
    pub async fn feedback(&self, feedback: Feedback) -> Result<Landed, FeedbackError> {
        let landed = self.traffic.feedback(feedback.clone()).await?;
        match landed {
            // Who is quick has decided before the record is written: the observer knows what was decided here.
            Landed::Known | Landed::Unknown => self.observer.feedback(&feedback),
            // Who sends it again while the store is down would count again each time. Nothing is promoted or taken back
            // meanwhile either.
            Landed::Spooled | Landed::Duplicate | Landed::Full => {}
        }
        Ok(landed)
    }

    /// Returns the traffic log, one and the same for the process's life.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Returns what is seen of the bundles that decide.
    pub fn observer(&self) -> &Arc<Observer> {
        &self.observer
    }

    /// Follows whether every part that the configuration asks for is there.
    pub fn readiness(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Returns whether every part that the configuration asks for is there.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Takes a classifier that serves no new request, to be freed when its last one has ended.
    fn free(&self, classifier: &Arc<dyn Classifier>) {
        self.reaper.take(Arc::clone(classifier));
    }

    /// Ends what frees old classifiers; waits at most so long.
    pub fn stop(&self, most: Duration) {
        self.reaper.stop(most);
    }
}

/// Returns the names by which parts of a configuration stand in metrics.
fn names_of(config: &Config) -> Names {
    let targets = config.targets.iter().map(|target| (Named::Target, target.id.0.to_string()));
    let providers = config.providers.iter().map(|provider| (Named::Provider, provider.name.to_string()));
    let budgets = config.budgets.iter().map(|budget| (Named::Budget, budget.name.to_string()));
    Names::hold(targets.chain(providers).chain(budgets))
}
