//! Follows the wanted state: what another replica, or an operator there, changed is loaded and applied here. What
//! cannot be loaded changes nothing but what this replica says of itself; it is tried again.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior};

use super::{
    Cause, DeployError, Deployer, Who, Work,
    assemble::{Fitted, Plan},
    load::Freshness,
    reload::Tried,
};
use crate::{
    config::Config,
    live::rollout::Desired,
    telemetry,
    traffic::{now_ms, store::fleet::ShadowRow},
};

/// How often this replica looks at what the others say.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Longest wait at the start for what the fleet wants: requests are served by rules meanwhile. What comes later is
/// followed then.
const FIRST_WAIT_MAX: Duration = Duration::from_secs(4);

/// Scores of a shadow that are stored at once.
const SHADOW_SCORES_MAX: usize = 500;

impl Deployer {
    /// Takes up what the fleet wants, loads it, and follows it until `stop` resolves.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        // Large, as it holds everything that a change may wait for.
        Box::pin(self.run_until(stop)).await;
    }

    async fn run_until(&self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let work = async {
            self.begin().await;
            let mut ticks = tokio::time::interval(LOOK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // What was begun is ended: ONNX Runtime must not be left alone while it loads.
            loop {
                tokio::select! {
                    () = &mut stop => break,
                    () = self.keeper.changed() => self.catch_up().await,
                    _ = ticks.tick() => {
                        // Whether or not a notification came, or ever does.
                        self.catch_up().await;
                        self.look_around().await;
                    }
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = self.keeper.keep_reporting(|| self.report()) => {}
            () = self.keep_shadow_scores() => {}
        }
        if let Err(error) = self.keeper.leave(self.me.id).await {
            tracing::debug!(%error, "others will take this replica for one that broke down");
        }
    }

    /// Stores what the shadow says, beside the records of the decisions. Never returns.
    async fn keep_shadow_scores(&self) {
        loop {
            let scores = self.live.observer().shadow_scores(SHADOW_SCORES_MAX).await;
            let Some(store) = self.live.traffic().store() else {
                telemetry::shadow_dropped("store", scores.len() as u64);
                continue;
            };
            let rows: Vec<ShadowRow> = scores
                .into_iter()
                .map(|score| ShadowRow {
                    decision_id: score.decision_id,
                    bundle: score.bundle.to_string(),
                    document: score.document,
                })
                .collect();
            if let Err(error) = store.add_shadow(&rows).await {
                telemetry::shadow_dropped("store", rows.len() as u64);
                tracing::debug!(%error, scores = rows.len(), "the shadow's scores are not stored");
            }
        }
    }

    /// Loads what is to serve first: what the fleet wants, or else the bundle that the configuration names.
    async fn begin(&self) {
        let mut work = self.work.lock().await;
        let wanted = match tokio::time::timeout(FIRST_WAIT_MAX, self.keeper.desired()).await {
            Ok(Ok(wanted)) => wanted,
            Ok(Err(error)) => {
                tracing::warn!(%error, "what the fleet wants is not known yet: the configured bundle serves until then");
                None
            }
            Err(_) => {
                tracing::warn!(
                    "what the fleet wants is not known yet: the configured bundle serves until then"
                );
                None
            }
        };
        let nothing_asked = || Desired { revision: 0, ..Desired::first(now_ms()) };
        let first = wanted.clone().unwrap_or_else(nothing_asked);
        // A moment ago, at the start.
        work.config_reloads = first.config_reloads;
        if self.follow(&mut work, first).await {
            if wanted.is_none() {
                // Nothing was asked for: whatever comes is new.
                work.desired = None;
            }
            return;
        }
        if wanted.is_some_and(|wanted| !wanted.active.is_configured()) {
            let problem = self.standing().problem.clone();
            let config = Arc::clone(&self.live.serving().config);
            let desired = Desired::first(now_ms());
            let fallen_back = match self.assemble(&mut work, &following(&config), &desired).await {
                Ok(next) => self.exchange(next).await.map(|_| ()),
                Err(unable) => Err(unable.into()),
            };
            match fallen_back {
                Ok(()) => tracing::warn!(problem, "the configured bundle serves in place of the wanted one"),
                Err(error) => self.nothing_serves(&error),
            }
        }
        self.prune(&mut work);
    }

    /// Looks whether the wanted state is another one by now.
    async fn catch_up(&self) {
        // While it is not known, this replica goes on with what it knew.
        let Ok(Some(seen)) = self.keeper.desired().await else { return };
        let follows = |work: &Work| work.desired.as_ref() == Some(&seen) && !is_due(work);
        if follows(&*self.work.lock().await) {
            return;
        }
        // A download may take minutes: changes made here get their turn meanwhile.
        let mut held = Vec::new();
        for bundle in seen.running() {
            held.extend(self.downloaded(bundle).await);
        }
        let mut work = self.work.lock().await;
        // What was read before its turn came may be of before a change that was made here.
        let Ok(Some(desired)) = self.keeper.desired().await else { return };
        if work.desired.as_ref() == Some(&desired) && !is_due(&work) {
            return;
        }
        self.follow(&mut work, desired).await;
    }

    /// Reads the configuration again if all were asked to and this replica was not yet; what comes of it stands in its
    /// event and in the log. Returns whether it does not fit what serves: it may be made for what is wanted by now, and is
    /// to be read again when that serves.
    pub(super) async fn read_as_asked(&self, work: &mut Work, desired: &Desired) -> bool {
        // It is lower after a backup was restored.
        if work.config_reloads >= desired.config_reloads {
            work.config_reloads = desired.config_reloads;
            return false;
        }
        let tried = self.try_reload(work).await;
        match &tried.outcome {
            Err(error) if !matches!(error, DeployError::Config(_)) => {
                tracing::info!(%error, "the configuration does not fit what serves; it is read once more");
                self.prune(work);
                true
            }
            _ => {
                // Told before anything else comes of it.
                let _ = self.reloaded(work, &fleet(), tried).await;
                work.config_reloads = desired.config_reloads;
                false
            }
        }
    }

    /// Reads the configuration again that did not fit what served before. While what is wanted cannot be had, for which
    /// it may be made, it stays to be read, and that is told once.
    ///
    /// With `absent`, why the active bundle cannot be fetched, it is not even tried: a store that does not answer would
    /// only be waited for once more.
    pub(super) async fn read_again(&self, work: &mut Work, desired: &Desired, absent: Option<DeployError>) {
        let tried = match absent {
            Some(error) => self.not_tried(error).await,
            None => self.try_reload(work).await,
        };
        let waits = match &tried.outcome {
            Ok(_) | Err(DeployError::Config(_)) => false,
            Err(_) => work.again_at.is_some(),
        };
        let asked = desired.config_reloads;
        if waits && work.reload_told == Some(asked) {
            self.prune(work);
            return;
        }
        // Told before anything else comes of it.
        let _ = self.reloaded(work, &fleet(), tried).await;
        if waits {
            work.reload_told = Some(asked);
        } else {
            work.config_reloads = asked;
        }
    }

    async fn not_tried(&self, error: DeployError) -> Tried {
        let before = self.standing().config_sha256.clone();
        Tried { before, read: self.text_sha256().await, outcome: Err(error) }
    }

    /// Looks whether this replica is still among the canary's, and what follows from what all saw.
    async fn look_around(&self) {
        let mut work = self.work.lock().await;
        // Each look asks the store first, also where nothing is left to be judged for a while.
        if self.keeper.apart().is_some() {
            work.be_deaf();
        }
        let Some(desired) = work.desired.clone() else { return };
        let waits = work.again_at.is_some() && !is_due(&work);
        if is_due(&work) || !waits && self.is_chosen(&mut work, &desired).await != work.chosen {
            self.follow(&mut work, desired).await;
        }
        self.lead(&mut work).await;
    }

    /// Applies a wanted state as far as that is possible; returns whether its active bundle serves.
    async fn follow(&self, work: &mut Work, desired: Desired) -> bool {
        let read_later = self.read_as_asked(work, &desired).await;
        let is_chosen = self.is_chosen(work, &desired).await;
        let (problem, serves) = match self.apply(work, &desired, is_chosen).await {
            Ok(problem) => {
                self.applied(work, desired.clone(), is_chosen);
                (problem, true)
            }
            Err(error) => {
                if self.live.router().classifier().is_none() {
                    self.nothing_serves(&error);
                }
                // It stays the next thing to do.
                work.desired = Some(desired.clone());
                (Some(error), false)
            }
        };
        if let Some(error) = &problem {
            self.hindered(work, error);
        }
        if read_later {
            let absent = problem.filter(|error| !serves && matches!(error, DeployError::Bundles(_)));
            self.read_again(work, &desired, absent).await;
        }
        self.prune(work);
        serves
    }

    /// Exchanges what serves for what is wanted; returns why not for all of it, where the rest serves.
    async fn apply(
        &self,
        work: &mut Work,
        desired: &Desired,
        is_chosen: bool,
    ) -> Result<Option<DeployError>, DeployError> {
        let config = Arc::clone(&self.live.serving().config);
        let plan = Plan { is_chosen, freshness: looks(work, desired), ..following(&config) };
        let Fitted { next, prepared, problem, has_looked } =
            self.what_can_serve(work, &plan, desired, None).await?;
        self.put(next, prepared).await?;
        if has_looked {
            work.default_loads = desired.default_loads;
        }
        Ok(problem)
    }

    /// Notes a wanted state of which the same serves as of the one before. What this replica has yet to load of that one
    /// stays to be loaded, and what it has yet to read to be read.
    pub(super) fn noted(&self, work: &mut Work, before: &Desired, after: Desired) {
        let nothing_asked = before.revision == 0;
        if !work.desired.as_ref().map_or(nothing_asked, |desired| desired == before) {
            return;
        }
        // Who asks for a reload has read its own file.
        if work.config_reloads == before.config_reloads {
            work.config_reloads = after.config_reloads;
        }
        match work.again_at {
            None => self.applied(work, after, work.chosen),
            Some(_) => work.desired = Some(after),
        }
    }

    fn nothing_serves(&self, error: &DeployError) {
        telemetry::classifier_ready(false);
        tracing::error!(%error, "no classifier: rules and the default tier answer, health says not serving");
    }
}

/// Returns how bundles are to be had: the folder that the configuration names is looked at where all were asked to, and
/// this replica has not.
pub(super) fn looks(work: &mut Work, desired: &Desired) -> Freshness {
    if work.default_loads < desired.default_loads {
        return Freshness::OnDisk;
    }
    // It is lower after a backup was restored.
    work.default_loads = desired.default_loads;
    Freshness::AtHand
}

/// Returns the plan of whoever follows: what is wanted was tried where it was asked for.
fn following(config: &Arc<Config>) -> Plan<'_> {
    Plan { config, is_chosen: false, freshness: Freshness::AtHand, anew: None, on_trial: None }
}

/// Returns who asks a replica for what all are to do.
fn fleet() -> Cause {
    Who("fleet".to_owned()).into()
}

fn is_due(work: &Work) -> bool {
    work.again_at.is_some_and(|at| at <= Instant::now())
}
