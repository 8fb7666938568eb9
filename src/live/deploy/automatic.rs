//! The rollout by itself: what all replicas saw of a watched bundle decides whether it goes a step further or is taken
//! back. What follows from what is for `rollout` to say.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{DeployError, Deployer, Who, Work, change::Cause};
use crate::{
    live::{
        fleet::{EventKind, ReplicaReport, observed},
        observe::Watching,
        rollout::{BundleRef, Change, Desired, Observed, Told, next},
    },
    traffic::now_ms,
};

/// Who makes these changes.
const ROLLOUT: &str = "rollout";

/// Until a step that was not possible is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Where the rollout stands on this replica.
#[derive(Default)]
pub(super) struct Leading {
    /// Since when, by the clock of this machine alone, this step is watched.
    step: Option<(i64, Instant)>,
    /// While the bundle that the rollout made active is watched.
    guarded: Option<Guarded>,
    /// Of which revision a step was not possible, and when it is tried again.
    hindered: Option<(u64, Instant)>,
}

/// What had been seen of the bundle before the active one.
struct Guarded {
    active: BundleRef,
    since_ms: i64,
    before: Observed,
}

impl Deployer {
    /// Makes the next change that follows from what was seen, if any does.
    pub(super) async fn lead(&self, work: &mut Work) {
        let config = self.live.serving().config.rollout.clone();
        let Some(desired) = work.desired.clone().filter(|_| config.automatic) else { return };
        let leading = &mut work.leading;
        let since_ms = since_ms(&desired);
        let watched_for = match leading.step {
            Some((step, began)) if step == since_ms => began.elapsed(),
            Some(_) | None => {
                leading.step = Some((since_ms, Instant::now()));
                Duration::ZERO
            }
        };
        let is_guarded = |guarded: &Guarded| {
            guarded.active == desired.active && guarded.since_ms == desired.active_since_ms
        };
        if leading.guarded.as_ref().is_some_and(|guarded| !is_guarded(guarded)) {
            leading.guarded = None;
        }
        let is_watched = desired.canary.is_some() || desired.shadow.is_some() || leading.guarded.is_some();
        let is_hindered = leading
            .hindered
            .is_some_and(|(revision, until)| revision == desired.revision && Instant::now() < until);
        if !is_watched || is_hindered {
            return;
        }
        let Ok(replicas) = self.keeper.replicas().await else { return };
        let (now_ms, own) = (now_ms(), self.report());
        let is_other =
            |replica: &ReplicaReport| replica.replica_id != own.replica_id && replica.is_live(now_ms);
        let all: Vec<ReplicaReport> = replicas
            .into_iter()
            .filter(is_other)
            .chain([ReplicaReport { seen_ms: now_ms, ..own.clone() }])
            .collect();
        let sums = observed(&all, desired.revision, now_ms);
        let baseline = work.leading.guarded.as_ref().map(|guarded| &guarded.before);
        let Some((change, why)) = next(&desired, &config, &sums.active, &sums.watched, baseline, now_ms)
        else {
            return;
        };
        // Taking back never waits. A step further does, for who cannot follow it, and for a window on a clock that
        // nobody sets.
        let all_follow =
            all.iter().all(|replica| replica.revision == desired.revision && replica.problem.is_none());
        if change != Change::Rollback && (watched_for < config.window || !all_follow) {
            return;
        }
        let (revision, retired) = (desired.revision, desired.active.clone());
        let cause = Cause { who: Who(ROLLOUT.to_owned()), why };
        match self.make(work, desired, &change, &cause).await {
            Ok(deployed) => {
                if let Change::Activate(active) = change {
                    let since_ms = deployed.desired.active_since_ms;
                    work.leading.guarded = Some(Guarded { active, since_ms, before: sums.active });
                }
            }
            // Another replica saw the same and was faster.
            Err(DeployError::Overtaken) => {}
            Err(error) => {
                let is_first = work.leading.hindered.is_none_or(|(before, _)| before != revision);
                work.leading.hindered = Some((revision, Instant::now() + AGAIN_AFTER));
                tracing::warn!(%error, why = cause.why, "the rollout's next step is not possible");
                self.standing().problem = Some(format!("the rollout's next step is not possible: {error}"));
                if is_first {
                    let (from, to) = (retired.to_string(), named(&change));
                    let cause = Cause { why: error.to_string(), ..cause };
                    self.tell(&Told { kind: EventKind::Refused, from, to }, &cause).await;
                }
            }
        }
        self.prune(work);
    }

    /// Tells the observer what serves from now on.
    pub(super) fn observe(&self, desired: &Desired) {
        let serving = self.live.serving();
        let canary = serving.canary.as_ref().map(|canary| (canary.served.bundle.clone(), canary.share));
        let shadow =
            serving.shadow.as_ref().map(|shadow| (shadow.bundle.clone(), Arc::clone(&shadow.router)));
        self.live.observer().exchanged(Watching {
            generation: serving.generation,
            config: Arc::clone(&serving.config),
            active: serving.active.bundle.clone(),
            canary,
            shadow,
            since_ms: since_ms(desired),
        });
    }
}

/// Returns when the step that is watched began, milliseconds since 1970.
fn since_ms(desired: &Desired) -> i64 {
    match (&desired.canary, &desired.shadow) {
        (Some(canary), _) => canary.since_ms,
        (None, Some(shadow)) => shadow.since_ms,
        (None, None) => desired.active_since_ms,
    }
}

/// Returns the bundle of a step, for an event.
fn named(change: &Change) -> String {
    match change {
        Change::Canary(bundle, reach) => format!("{bundle} at {reach}"),
        Change::Stage(bundle) | Change::Shadow(bundle) | Change::Activate(bundle) => bundle.to_string(),
        Change::Forget(name) => name.to_string(),
        Change::Rollback | Change::ReloadConfig => String::new(),
    }
}
