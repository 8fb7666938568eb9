//! Follows the wanted state: what another replica, or an operator there, changed is loaded and applied here. What
//! cannot be loaded changes nothing but what this replica says of itself; it is tried again.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::time::{Instant, MissedTickBehavior};

use super::{DeployError, Deployer, Who, Work, change::Plan};
use crate::{
    config::Config,
    live::{Next, rollout::Desired},
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
            let plan = Plan { config: &config, is_chosen: false, anew: None, on_trial: None };
            let fallen_back = match self.assemble(&mut work, &plan, &desired).await {
                Ok(next) => self.exchange(next).await.map(|_| ()),
                Err(error) => Err(error),
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
        let reloads = work.desired.as_ref().map_or(0, |before| before.config_reloads);
        if reloads < desired.config_reloads {
            // What came of it stands in its event and in the log.
            let _ = self.reload_here(&mut work, &Who("fleet".to_owned()).into()).await;
        }
        self.follow(&mut work, desired).await;
    }

    /// Looks whether this replica is still among the canary's, and what follows from what all saw.
    async fn look_around(&self) {
        let mut work = self.work.lock().await;
        let Some(desired) = work.desired.clone() else { return };
        let waits = work.again_at.is_some() && !is_due(&work);
        if is_due(&work) || !waits && self.is_chosen(&mut work, &desired).await != work.chosen {
            self.follow(&mut work, desired).await;
        }
        self.lead(&mut work).await;
    }

    /// Applies a wanted state as far as that is possible; returns whether its active bundle serves.
    async fn follow(&self, work: &mut Work, desired: Desired) -> bool {
        let config = Arc::clone(&self.live.serving().config);
        let is_chosen = self.is_chosen(work, &desired).await;
        let outcome = self.apply(work, &config, &desired, is_chosen).await;
        let (problem, serves) = match outcome {
            Ok(problem) => {
                self.applied(work, desired, is_chosen);
                (problem, true)
            }
            Err(error) => {
                if self.live.router().classifier().is_none() {
                    self.nothing_serves(&error);
                }
                // It stays the next thing to do.
                work.desired = Some(desired);
                (Some(error), false)
            }
        };
        if let Some(error) = problem {
            self.hindered(work, &error);
        }
        self.prune(work);
        serves
    }

    /// Exchanges what serves for what is wanted. Where only the canary or the shadow cannot be had, it serves without
    /// them, and returns why.
    async fn apply(
        &self,
        work: &mut Work,
        config: &Arc<Config>,
        desired: &Desired,
        is_chosen: bool,
    ) -> Result<Option<DeployError>, DeployError> {
        let mut attempt = desired.clone();
        let mut problem = None;
        loop {
            let plan = Plan { config, is_chosen, anew: None, on_trial: None };
            let applied = match self.assemble(work, &plan, &attempt).await {
                Ok(next) => self.put(next).await,
                Err(error) => Err(error),
            };
            let error = match applied {
                Ok(()) => return Ok(problem),
                Err(error) => error,
            };
            match (attempt.canary.take(), attempt.shadow.take()) {
                (None, None) => return Err(error),
                // First without the one that decides nothing.
                (Some(canary), Some(_)) => attempt.canary = Some(canary),
                (Some(_), None) | (None, Some(_)) => {}
            }
            problem = Some(error);
        }
    }

    /// Notes a wanted state that differs from the one before only in what is staged. What this replica has yet to load
    /// of that one stays to be loaded.
    pub(super) fn staged(&self, work: &mut Work, before: &Desired, after: Desired) {
        let nothing_asked = before.revision == 0;
        if !work.desired.as_ref().map_or(nothing_asked, |desired| desired == before) {
            return;
        }
        match work.again_at {
            None => self.applied(work, after, work.chosen),
            Some(_) => work.desired = Some(after),
        }
    }

    async fn put(&self, next: Next) -> Result<(), DeployError> {
        if let Some(prepared) = self.prepare(next.clone()).await? {
            self.commit(prepared, next).await?;
        }
        Ok(())
    }

    fn nothing_serves(&self, error: &DeployError) {
        telemetry::classifier_ready(false);
        tracing::error!(%error, "no classifier: rules and the default tier answer, health says not serving");
    }
}

fn is_due(work: &Work) -> bool {
    work.again_at.is_some_and(|at| at <= Instant::now())
}
