//! A bundle's name -> a classifier that runs: found among what is loaded, or fetched, verified and loaded. Never puts
//! anything before requests.

use std::{path::Path, sync::Arc, time::Instant};

use super::{DeployError, Deployer, LoadError, LoadProblem, Work};
use crate::{
    config::{ClassifierConfig, Config, Device},
    live::{
        Running,
        bundles::manifest_sha256,
        off_reactor::try_off_reactor,
        pointer::{self, PointerError},
        rollout::BundleRef,
    },
    routing::classifier::{
        Available, Beside, Checks, Classifier, Loading, OnnxClassifier, Precedence, Probe,
    },
};

/// A classifier that runs, and what it was started with: with anything else it would be another one.
pub struct Loaded {
    bundle: BundleRef,
    /// Which bundle [`crate::live::rollout::DEFAULT`] stood for.
    content: Content,
    device: Device,
    queue_max: usize,
    /// `None`: as many as suit the device.
    workers: Option<usize>,
    precedence: Precedence,
    classifier: Arc<dyn Classifier>,
    /// Keeps the cache from dropping the version while it has a role.
    held: Option<Arc<()>>,
}

/// Which bundle is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    BuiltIn,
    /// SHA-256 of its manifest.
    Manifest(String),
    /// It cannot be read, which loading it will say.
    Unknown,
}

/// What a bundle is loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Requests wait for it: it runs as many sessions as are configured.
    Requests,
    /// Nobody waits for it: one session will do, and it lets requests go first.
    Shadow,
    /// Only to see whether it can be. One that is loaded for anything else will do.
    Trial,
}

/// Whether one that is loaded already will do. A version is its hash; another bundle may by now lie in the place that
/// the configuration names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// One that serves under this name will do, so that no change needs a file of what serves on, or brings in what
    /// nobody asked for.
    AtHand,
    /// Only the very one that lies there.
    OnDisk,
    /// None will do.
    Anew,
}

/// What a bundle that is loaded must be as fast as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldTo {
    TheRunning,
    Itself,
}

/// A bundle to run.
#[derive(Debug, Clone, Copy)]
pub struct ToRun<'a> {
    pub bundle: &'a BundleRef,
    pub purpose: Purpose,
    pub freshness: Freshness,
    pub held_to: HeldTo,
}

impl Deployer {
    /// Returns the bundle with its classifier, loaded if need be; without one where the configuration has it so.
    pub(super) async fn running(
        &self,
        work: &mut Work,
        config: &Arc<Config>,
        wanted: ToRun<'_>,
    ) -> Result<Running, DeployError> {
        let bundle = wanted.bundle.clone();
        if !config.classifier.enabled {
            return Ok(Running { bundle, classifier: None });
        }
        self.loaded(work, config, wanted).await
    }

    async fn loaded(
        &self,
        work: &mut Work,
        config: &Arc<Config>,
        wanted: ToRun<'_>,
    ) -> Result<Running, DeployError> {
        let bundle = wanted.bundle.clone();
        let refused = |why: LoadProblem| LoadError { version: bundle.name.to_string(), why };
        let purpose = wanted.purpose;
        let (workers, precedence) = match purpose {
            Purpose::Requests => (config.classifier.workers, Precedence::Equal),
            Purpose::Shadow | Purpose::Trial => (Some(1), Precedence::OthersFirst),
        };
        let mut start = ClassifierConfig { workers, ..config.classifier.clone() };
        let at_hand = |work: &Work, content: &Content, start: &ClassifierConfig| {
            let may_do = wanted.freshness != Freshness::Anew;
            let will_do = |loaded: &&Loaded| may_do && loaded.will_do(&bundle, Some(content), start, purpose);
            Some(work.loaded.iter().find(will_do)?.running())
        };
        let (content, held) = match &bundle.sha256 {
            // What a version is its hash says: where it is loaded, its files are not needed.
            Some(sha256) => {
                let content = Content::Manifest(sha256.to_string());
                if let Some(running) = at_hand(work, &content, &start) {
                    return Ok(running);
                }
                let fetched = self.bundles.fetch(&bundle).await?;
                start.bundle = Some(fetched.folder);
                (content, Some(fetched.held))
            }
            None => {
                if wanted.freshness == Freshness::AtHand
                    && let Some(running) = self.serving_as(work, &wanted, &start)
                {
                    return Ok(running);
                }
                let config = Arc::clone(config);
                let found = try_off_reactor(move || {
                    let folder = pointer::resolved(&config.classifier)?.bundle;
                    Ok((content_of(folder.as_deref()), folder))
                });
                let found = found.await.ok_or_else(|| refused(LoadProblem::Panicked))?;
                let (content, folder) = found.map_err(|error: PointerError| refused(error.into()))?;
                if let Some(running) = at_hand(work, &content, &start) {
                    return Ok(running);
                }
                start.bundle = folder;
                (content, None)
            }
        };
        let started = Instant::now();
        let (device, queue_max) = (start.device, start.queue_max);
        let running = self.live.router().classifier_handle().cloned();
        let running = running.filter(|_| wanted.held_to == HeldTo::TheRunning);
        let ratio_max = config.bundles.latency_ratio_max;
        let beside = running.map(|running| Beside { running, ratio_max });
        let expected = bundle.sha256.clone();
        let loaded = try_off_reactor(move || {
            let manifest_sha256 = expected.as_deref();
            let loading = Loading { manifest_sha256, precedence, ..Loading::configured(&start) };
            OnnxClassifier::load_verified(&loading, &Checks { memory: Available::Measured, beside })
        });
        let loaded = loaded.await.ok_or_else(|| refused(LoadProblem::Panicked))?;
        let loaded = loaded.map_err(|error| refused(error.into()))?;
        let took = loaded.took;
        // Beside the running one, where that was timed.
        let (new_us, running_us) = match loaded.probe {
            Probe::Timed { new_us, running_us } => (Some(new_us), Some(running_us)),
            Probe::Alone | Probe::TooBusy => (None, None),
        };
        let classifier: Arc<dyn Classifier> = Arc::new(loaded.classifier);
        let described = classifier.describe();
        tracing::info!(
            bundle = %bundle.name,
            version = %described.version,
            runs = described.runs,
            took_ms = started.elapsed().as_millis() as u64,
            read_ms = took.read.as_millis() as u64,
            tokenizer_ms = took.tokenizer.as_millis() as u64,
            sessions_ms = took.sessions.as_millis() as u64,
            golden_ms = took.golden.as_millis() as u64,
            new_us,
            running_us,
            "classifier loaded"
        );
        work.loaded.push(Loaded {
            bundle: bundle.clone(),
            content,
            device,
            queue_max,
            workers,
            precedence,
            classifier: Arc::clone(&classifier),
            held,
        });
        Ok(Running { bundle, classifier: Some(classifier) })
    }

    /// Returns the bundle that serves under a name, whatever lies in its place by now, if it will do.
    fn serving_as(&self, work: &Work, wanted: &ToRun<'_>, start: &ClassifierConfig) -> Option<Running> {
        let serving = self.live.serving();
        let serves =
            |loaded: &Loaded| serving.classifiers().any(|serves| Arc::ptr_eq(serves, &loaded.classifier));
        let will_do =
            |loaded: &&Loaded| loaded.will_do(wanted.bundle, None, start, wanted.purpose) && serves(loaded);
        Some(work.loaded.iter().find(will_do)?.running())
    }

    /// Loads a bundle and fits it to the configuration as if it were to serve; nothing of it stays.
    pub(super) async fn try_bundle(
        &self,
        work: &mut Work,
        config: &Arc<Config>,
        bundle: &BundleRef,
    ) -> Result<(), DeployError> {
        let (purpose, freshness) = (Purpose::Trial, Freshness::OnDisk);
        let wanted = ToRun { bundle, purpose, freshness, held_to: HeldTo::TheRunning };
        // Also where this replica runs none: others may.
        let running = self.loaded(work, config, wanted).await?;
        let (live, config) = (Arc::clone(&self.live), Arc::clone(config));
        let fits = try_off_reactor(move || live.check_fit(&config, running)).await;
        let version = bundle.name.to_string();
        match fits {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(LoadError { version, why: error.into() }.into()),
            None => Err(LoadError { version, why: LoadProblem::Panicked }.into()),
        }
    }

    /// Lets go of every classifier that does not serve; it is freed away from the reactor.
    ///
    /// What has a role but does not serve, as one that is kept for rollback, stays on this machine's disk.
    pub(super) fn prune(&self, work: &mut Work) {
        let serving = self.live.serving();
        let Work { loaded, desired, kept, .. } = work;
        loaded.retain(|loaded| {
            let serves = serving.classifiers().any(|serves| Arc::ptr_eq(serves, &loaded.classifier));
            if !serves {
                self.live.free(&loaded.classifier);
                kept.extend(loaded.held.clone().map(|held| (loaded.bundle.clone(), held)));
            }
            serves
        });
        let has_role = |bundle: &BundleRef| {
            desired.as_ref().is_some_and(|desired| desired.bundles().any(|known| known == bundle))
        };
        let mut seen = Vec::new();
        kept.retain(|(bundle, _)| {
            let is_first = !seen.contains(bundle);
            seen.push(bundle.clone());
            is_first && has_role(bundle)
        });
    }
}

impl Loaded {
    fn running(&self) -> Running {
        Running { bundle: self.bundle.clone(), classifier: Some(Arc::clone(&self.classifier)) }
    }

    /// Returns whether it is what is meant; without a content, whichever that is.
    fn will_do(
        &self,
        bundle: &BundleRef,
        content: Option<&Content>,
        start: &ClassifierConfig,
        purpose: Purpose,
    ) -> bool {
        let suits = match purpose {
            Purpose::Requests => self.workers == start.workers && self.precedence == Precedence::Equal,
            Purpose::Shadow => self.precedence == Precedence::OthersFirst,
            Purpose::Trial => true,
        };
        self.bundle == *bundle
            && content.is_none_or(|content| self.content == *content && *content != Content::Unknown)
            && (self.device, self.queue_max) == (start.device, start.queue_max)
            && suits
    }
}

fn content_of(folder: Option<&Path>) -> Content {
    let Some(folder) = folder else { return Content::BuiltIn };
    manifest_sha256(folder).map_or(Content::Unknown, Content::Manifest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::default_config, routing::classifier::scripted::Scripted};

    /// What was loaded for one purpose will do for another, or not.
    fn check(workers: Option<usize>, precedence: Precedence, purpose: Purpose, expected: bool) {
        let (bundle, content) = (BundleRef::configured(), Content::BuiltIn);
        let start = ClassifierConfig { workers: Some(1), ..default_config().classifier };
        let loaded = Loaded {
            bundle: bundle.clone(),
            content: content.clone(),
            device: start.device,
            queue_max: start.queue_max,
            workers,
            precedence,
            classifier: Arc::new(Scripted::embedding(|_| vec![1.0, 0.0])),
            held: None,
        };
        let said = format!("{workers:?} sessions, {precedence:?}, for {purpose:?}");
        assert_eq!(loaded.will_do(&bundle, Some(&content), &start, purpose), expected, "{said}");
        assert_eq!(loaded.will_do(&bundle, None, &start, purpose), expected, "{said}, whatever it is");
        assert!(!loaded.will_do(&bundle, Some(&Content::Unknown), &start, purpose), "{said}");
    }

    #[test]
    fn requests_never_wait_for_one_that_lets_others_go_first() {
        use {Precedence::*, Purpose::*};
        check(Some(1), Equal, Requests, true);
        check(Some(2), Equal, Requests, false);
        check(Some(1), OthersFirst, Requests, false);
        check(Some(1), OthersFirst, Shadow, true);
        check(Some(1), Equal, Shadow, false);
        check(Some(1), Equal, Trial, true);
        check(Some(1), OthersFirst, Trial, true);
    }
}
