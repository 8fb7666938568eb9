//! What serves now -> what serves next, as one value. Fits configuration and classifiers together, and puts them
//! before requests only when all of it fits; never loads anything.

use std::{
    mem,
    sync::{Arc, PoisonError},
};

use super::{Live, OnTrial, Served, Serving, names_of, observe::SHADOW_WAIT_MAX, rollout::BundleRef};
use crate::{
    completion::{Completer, CompleterError},
    config::Config,
    routing::{
        Router, RouterError, classifier::Classifier, health::TargetHealth, renew::Surroundings,
        sessions::Sessions,
    },
    telemetry,
};

/// Why what serves stays what it is.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    #[error("configuration and bundle do not fit: {0}")]
    Router(#[from] RouterError),
    #[error(transparent)]
    Completer(#[from] CompleterError),
}

/// A place among what serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Active,
    Canary,
    Shadow,
}

/// Why what serves stays what it is, and for which part of what was to be next.
#[derive(Debug)]
pub struct Misfit {
    pub part: Part,
    pub error: ExchangeError,
}

/// A bundle that is loaded; without a classifier, rules and the default tier decide.
#[derive(Clone)]
pub struct Running {
    pub bundle: BundleRef,
    pub classifier: Option<Arc<dyn Classifier>>,
}

/// What is to serve next.
#[derive(Clone)]
pub struct Next {
    pub config: Arc<Config>,
    pub active: Running,
    /// With its share of sessions.
    pub canary: Option<(Running, f64)>,
    pub shadow: Option<Running>,
}

impl Running {
    fn of(served: &Served) -> Self {
        let classifier = served.router.classifier_handle().cloned();
        Self { bundle: served.bundle.clone(), classifier }
    }

    /// Returns whether both are the same bundle on the same sessions.
    fn is(&self, other: &Self) -> bool {
        let same_sessions = match (&self.classifier, &other.classifier) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        self.bundle == other.bundle && same_sessions
    }
}

/// What fits together and serves when it is put before requests.
pub struct Prepared {
    /// What served when it was prepared.
    before: Arc<Serving>,
    serving: Arc<Serving>,
}

impl Next {
    /// Returns whether this is what serves already.
    pub fn is_of(&self, serving: &Serving) -> bool {
        let now = Self::of(serving);
        let canary = match (&self.canary, &now.canary) {
            (Some((running, share)), Some((now, now_share))) => running.is(now) && share == now_share,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let shadow = match (&self.shadow, &now.shadow) {
            (Some(running), Some(now)) => running.is(now),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        Arc::ptr_eq(&self.config, &now.config) && self.active.is(&now.active) && canary && shadow
    }

    /// Returns what serves already.
    pub fn of(serving: &Serving) -> Self {
        Self {
            config: Arc::clone(&serving.config),
            active: Running::of(&serving.active),
            canary: serving.canary.as_ref().map(|canary| (Running::of(&canary.served), canary.share)),
            shadow: serving.shadow.as_ref().map(Running::of),
        }
    }
}

impl Live {
    /// Exchanges what serves for what `next` makes of it, under a new generation; on an error nothing changes.
    ///
    /// Blocks while a classifier embeds the examples of intents, where those are new to it.
    pub fn exchange(&self, next: impl FnOnce(&Serving) -> Next) -> Result<Arc<Serving>, ExchangeError> {
        let _one_at_a_time = self.exchanging.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.serving();
        let serving = self.fit(&before, next(&before)).map_err(|misfit| misfit.error)?;
        let serving = Arc::new(serving);
        self.put(&before, &serving);
        Ok(serving)
    }

    /// Fits together what is to serve next, and puts nothing before requests. Blocks like [`Live::exchange`].
    pub fn prepare(&self, next: Next) -> Result<Prepared, Misfit> {
        let before = self.serving();
        let serving = Arc::new(self.fit(&before, next)?);
        Ok(Prepared { before, serving })
    }

    /// Puts before requests what was prepared; `None` where something else serves by now than when it was.
    pub fn commit(&self, prepared: Prepared) -> Option<Arc<Serving>> {
        let Prepared { before, serving } = prepared;
        let _one_at_a_time = self.exchanging.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&before, &self.serving()) {
            return None;
        }
        self.put(&before, &serving);
        Some(serving)
    }

    /// Returns why a bundle would not fit a configuration. Blocks like [`Live::exchange`].
    pub fn check_fit(&self, config: &Arc<Config>, running: Running) -> Result<(), RouterError> {
        let sessions = Arc::new(self.serving().active.router.sessions().read_only());
        let health = Arc::new(TargetHealth::new(config.targets.len()));
        Router::new(Arc::clone(config), running.classifier, sessions, health, 0).map(drop)
    }

    fn put(&self, before: &Serving, serving: &Arc<Serving>) {
        if !Arc::ptr_eq(&before.completer, &serving.completer) {
            serving.completer.take_over();
            *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names_of(&serving.config);
        }
        self.traffic.know(&serving.config);
        for described in serving.classifiers().map(|classifier| classifier.describe()) {
            self.traffic.know_intents(described.intents.iter().map(|intent| &*intent.0));
        }
        self.serving.store(Arc::clone(serving));
        let ready = !serving.config.classifier.enabled || serving.active.router.classifier().is_some();
        self.ready.send_replace(ready);
        telemetry::classifier_ready(ready);
        telemetry::generation(serving.generation);
        tell_roles(before, serving);
        for left in
            before.classifiers().filter(|left| !serving.classifiers().any(|kept| Arc::ptr_eq(left, kept)))
        {
            self.free(left);
        }
    }

    fn fit(&self, before: &Serving, next: Next) -> Result<Serving, Misfit> {
        let Next { config, active, canary, shadow } = next;
        let generation = before.generation + 1;
        let (completer, sessions) = if Arc::ptr_eq(&config, &before.config) {
            (Arc::clone(&before.completer), Arc::clone(before.active.router.sessions()))
        } else {
            let completer = Completer::after(&before.completer, Arc::clone(&config))
                .map_err(|error| Misfit { part: Part::Active, error: error.into() })?;
            (Arc::new(completer), Arc::new(before.active.router.sessions().under(&config.sessions)))
        };
        let health = Arc::clone(completer.health());
        let surroundings = Surroundings { config: Arc::clone(&config), sessions, health, generation };
        let fit = |part: Part, running: Running, surroundings: &Surroundings| {
            let Running { bundle, classifier } = running;
            let router = self.router_for(before, classifier, surroundings.clone());
            let misfit = |error: RouterError| Misfit { part, error: error.into() };
            router.map(|router| (bundle, router)).map_err(misfit)
        };
        let served = |(bundle, router): (BundleRef, Router)| Served { bundle, router: Arc::new(router) };
        // First: where it does not fit, nothing else need be tried.
        let active = served(fit(Part::Active, active, &surroundings)?);
        let canary = match canary {
            Some((running, share)) => {
                let (bundle, router) = fit(Part::Canary, running, &surroundings)?;
                Some(OnTrial { served: served((bundle, router.on_trial())), share })
            }
            None => None,
        };
        let shadow = shadow
            .map(|running| {
                let sessions = shadow_sessions(before, &running.bundle, &config);
                fit(Part::Shadow, running, &Surroundings { sessions, ..surroundings.clone() })
            })
            .transpose()?
            .map(|(bundle, router)| served((bundle, router.waiting(SHADOW_WAIT_MAX))));
        Ok(Serving { generation, config, active, canary, shadow, completer })
    }

    /// Returns a router for this classifier, by way of one that asks it already where there is one.
    fn router_for(
        &self,
        before: &Serving,
        classifier: Option<Arc<dyn Classifier>>,
        surroundings: Surroundings,
    ) -> Result<Router, RouterError> {
        let canary = before.canary.as_ref().map(|canary| &canary.served);
        let routers = [Some(&before.active), canary, before.shadow.as_ref()].into_iter().flatten();
        let same = |served: &&Served| match (&classifier, served.router.classifier_handle()) {
            (Some(wanted), Some(held)) => Arc::ptr_eq(wanted, held),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if let Some(served) = routers.into_iter().find(same) {
            return served.router.under(surroundings);
        }
        let Surroundings { config, sessions, health, generation } = surroundings;
        let router = Router::new(config, classifier, sessions, health, generation)?;
        Ok(router.learning_from(self.traffic.offsets()))
    }
}

/// Returns what a shadow remembers of sessions. It has a memory of its own: what the active bundle needed would hide what
/// the shadow says.
fn shadow_sessions(before: &Serving, bundle: &BundleRef, config: &Config) -> Arc<Sessions> {
    match before.shadow.as_ref().filter(|shadow| shadow.bundle == *bundle) {
        Some(shadow) => Arc::new(shadow.router.sessions().under(&config.sessions)),
        None => Arc::new(Sessions::new(&config.sessions)),
    }
}

/// Roles of loaded bundles, by the version that they say they are.
fn roles(serving: &Serving) -> Vec<(String, &'static str)> {
    let canary = serving.canary.as_ref().map(|canary| &canary.served);
    let all = [(Some(&serving.active), "active"), (canary, "canary"), (serving.shadow.as_ref(), "shadow")];
    all.into_iter()
        .filter_map(|(served, role)| Some((served?.router.classifier()?.version.to_string(), role)))
        .collect()
}

fn tell_roles(before: &Serving, after: &Serving) {
    let (mut old, new) = (roles(before), roles(after));
    for (version, role) in mem::take(&mut old).iter().filter(|role| !new.contains(role)) {
        telemetry::bundle_role(version, role, false);
    }
    for (version, role) in &new {
        telemetry::bundle_role(version, role, true);
    }
}
