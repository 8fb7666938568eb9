//! One change of bundles: tried here, written down for all, then put before requests.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{
    Cause, DeployError, Deployed, Deployer, Wish, Work,
    assemble::{Fitted, Plan, part_of},
    events::{outcome, sentence},
    follow::looks,
};
use crate::{
    live::{
        bundles::Fetched,
        fleet::{Event, EventKind, Exchanged, ReplicaReport, chosen},
        rollout::{BundleRef, Change, ChangeError, Desired, Reach, Told, also, guard_ended_by, told_of},
    },
    routing::classifier::Unfit,
    telemetry::{self, SwapOutcome},
    traffic::{now_ms, store::StoreError},
};

/// Until what could not be loaded is tried again: a store or a disk may be back, and each try costs memory and time.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Times that a change is tried again when others changed the wanted state meanwhile.
pub(super) const TRIES_MAX: usize = 5;

/// Returns the bundle that a change brings in. One that served before is no trial: going back to it must be possible
/// also where it is the slower one.
fn on_trial<'a>(change: &'a Change, before: &Desired) -> Option<&'a BundleRef> {
    match change {
        Change::Shadow(bundle)
        | Change::Canary(bundle, _)
        | Change::Activate(bundle)
        | Change::Promote(bundle, _) => {
            let served = *bundle == before.active || before.retired.contains(bundle);
            (!served).then_some(bundle)
        }
        Change::Stage(_)
        | Change::EndGuard
        | Change::Rollback
        | Change::RollbackActive
        | Change::Forget(_)
        | Change::ReloadConfig => None,
    }
}

/// Returns whether a change may exchange what serves. What may not is possible also where the wanted state cannot be
/// had: others may have it.
fn exchanges(change: &Change) -> bool {
    match change {
        Change::Shadow(_)
        | Change::Canary(..)
        | Change::Activate(_)
        | Change::Promote(..)
        | Change::Rollback
        | Change::RollbackActive => true,
        Change::Stage(_) | Change::EndGuard | Change::Forget(_) | Change::ReloadConfig => false,
    }
}

/// Returns the bundle that a change brings in and that does not serve here: others are not to meet what is wrong with it.
fn only_tried(change: &Change, is_chosen: bool) -> Option<&BundleRef> {
    match change {
        Change::Stage(bundle) => Some(bundle),
        Change::Canary(bundle, Reach::Replicas(_)) if !is_chosen => Some(bundle),
        Change::Canary(..)
        | Change::Activate(_)
        | Change::Promote(..)
        | Change::EndGuard
        | Change::Shadow(_)
        | Change::Rollback
        | Change::RollbackActive
        | Change::Forget(_)
        | Change::ReloadConfig => None,
    }
}

/// Returns the bundle that a change has loaded once more.
fn loaded_anew<'a>(change: &'a Change, before: &Desired) -> Option<&'a BundleRef> {
    match change {
        Change::Activate(bundle) if *bundle == before.active => Some(bundle),
        Change::Activate(_)
        | Change::Promote(..)
        | Change::EndGuard
        | Change::Stage(_)
        | Change::Shadow(_)
        | Change::Canary(..)
        | Change::Rollback
        | Change::RollbackActive
        | Change::Forget(_)
        | Change::ReloadConfig => None,
    }
}

impl Deployer {
    /// Tries, writes down and applies a wish; waits until this replica serves it.
    pub async fn change(&self, wish: Wish, cause: impl Into<Cause>) -> Result<Deployed, DeployError> {
        let cause = cause.into();
        let started = Instant::now();
        // A download may take minutes: others get their turn meanwhile. What is wrong with it is told below.
        let _held = self.fetched_ahead(&wish).await;
        let mut work = self.turn().await?;
        let mut outcome = Err(DeployError::Overtaken);
        for _ in 0..TRIES_MAX {
            outcome = self.wished(&mut work, &wish, &cause).await;
            // What a rollback takes back is another bundle by now: that is for the operator to look at.
            if !matches!(outcome, Err(DeployError::Overtaken)) || matches!(wish, Wish::Rollback { .. }) {
                break;
            }
        }
        match &outcome {
            Ok(_) => {}
            Err(error) if error.is_slip() => tracing::info!(who = %cause.who, %error, "not done"),
            Err(error) => {
                telemetry::bundle_change(SwapOutcome::Refused, started.elapsed());
                if let Some(unfit) = error.unfit() {
                    telemetry::bundle_unfit(unfit.as_str());
                }
                self.refused(&wish, &cause, error).await;
            }
        }
        self.prune(&mut work);
        outcome
    }

    async fn wished(&self, work: &mut Work, wish: &Wish, cause: &Cause) -> Result<Deployed, DeployError> {
        let before = self.kept().await?;
        let change = self.change_of(wish, &before).await?;
        self.make(work, before, &change, cause).await
    }

    /// Returns the wanted state that a change goes on from; revision 0 where nothing was ever asked for.
    pub(super) async fn kept(&self) -> Result<Desired, DeployError> {
        let kept = self.keeper.desired().await?;
        Ok(kept.unwrap_or_else(|| Desired { revision: 0, ..Desired::first(now_ms()) }))
    }

    /// Makes a change of the state that it was decided on, or says that somebody else was faster.
    pub(super) async fn make(
        &self,
        work: &mut Work,
        before: Desired,
        change: &Change,
        cause: &Cause,
    ) -> Result<Deployed, DeployError> {
        let started = Instant::now();
        let exchanges = exchanges(change);
        // What others asked for before comes first: from here on this replica is as far as they are.
        let read_later = exchanges && self.read_as_asked(work, &before).await;
        let config = Arc::clone(&self.live.serving().config);
        let after = before.changed(change, now_ms(), config.bundles.retired_max)?;
        let is_chosen = exchanges && self.is_chosen(work, &after).await;
        if let Some(bundle) = only_tried(change, is_chosen) {
            self.try_bundle(work, &config, bundle).await?;
        }
        let to_serve = if exchanges {
            let plan = Plan {
                config: &config,
                is_chosen,
                freshness: looks(work, &after),
                anew: loaded_anew(change, &before),
                on_trial: on_trial(change, &before),
            };
            Some(self.what_can_serve(work, &plan, &after, part_of(change)).await?)
        } else {
            None
        };
        let told = match change {
            Change::ReloadConfig => self.asked_of_all(),
            change => told_of(&before, &after, change),
        };
        let also = also(&before, &after, change);
        let why = [cause.why.as_str(), also.as_str()].into_iter().filter(|text| !text.is_empty());
        let why = why.collect::<Vec<_>>().join("; ");
        let of_change = Cause { who: cause.who.clone(), why };
        let mut events = vec![self.event(&told, &of_change, after.revision)];
        if let Some((told, why)) = guard_ended_by(&before, &after, change) {
            let cause = Cause { why: why.to_owned(), ..cause.clone() };
            events.push(self.event(&told, &cause, after.revision));
        }
        match self.keeper.exchange(before.revision, &after, &events).await? {
            Exchanged::Done => events.into_iter().for_each(|event| self.recent().push(event)),
            Exchanged::Behind(_) => return Err(DeployError::Overtaken),
        }
        match to_serve {
            None => self.noted(work, &before, after.clone()),
            Some(fitted) => {
                let Fitted { next, prepared, problem, has_looked } = fitted;
                self.put(next, prepared).await?;
                self.applied(work, after.clone(), is_chosen);
                if has_looked {
                    work.default_loads = after.default_loads;
                }
                if let Some(error) = problem {
                    self.hindered(work, &error);
                }
            }
        }
        if read_later {
            self.read_again(work, &after, None).await;
        }
        let told_text = match also.as_str() {
            "" => sentence(&told),
            also => format!("{}; {also}", sentence(&told)),
        };
        if let Some(outcome) = outcome(told.kind) {
            telemetry::bundle_change(outcome, started.elapsed());
        }
        let generation = self.live.serving().generation;
        tracing::info!(
            who = %cause.who,
            why = (!cause.why.is_empty()).then_some(cause.why.as_str()),
            revision = after.revision,
            generation,
            took_ms = started.elapsed().as_millis() as u64,
            "{told_text}"
        );
        Ok(Deployed { desired: after, generation, told: told_text })
    }

    /// Returns the change that a wish is of this state. A version that has a role is the one that was staged then,
    /// whatever the store holds under its name now.
    async fn change_of(&self, wish: &Wish, before: &Desired) -> Result<Change, DeployError> {
        Ok(match wish {
            Wish::Stage { version } => Change::Stage(self.named(version).await?),
            Wish::Shadow { version } => Change::Shadow(self.known(version, before).await?),
            Wish::Canary { version, reach } => {
                if let Reach::Replicas(_) = reach {
                    self.check_fleet().await?;
                }
                Change::Canary(self.known(version, before).await?, *reach)
            }
            Wish::Activate { version } => Change::Activate(self.known(version, before).await?),
            Wish::Rollback { version: None } => Change::Rollback,
            Wish::Rollback { version: Some(version) } => {
                let back = before.taken_back_first();
                if *back.name != **version {
                    return Err(
                        ChangeError::NotThat { asked: version.clone(), back: back.to_string() }.into()
                    );
                }
                Change::Rollback
            }
            Wish::Forget { version } => Change::Forget(Arc::from(version.as_str())),
        })
    }

    async fn known(&self, version: &str, desired: &Desired) -> Result<BundleRef, DeployError> {
        match desired.known(version) {
            Some(bundle) => Ok(bundle.clone()),
            None => self.named(version).await,
        }
    }

    /// A share of replicas needs some that are no part of it, to be compared with.
    async fn check_fleet(&self) -> Result<(), DeployError> {
        let others = self.keeper.live_replicas().await?;
        let is_other = |replica: &ReplicaReport| replica.replica_id != self.me.id;
        if others.iter().any(is_other) { Ok(()) } else { Err(ChangeError::NoOthers.into()) }
    }

    /// Downloads what a wish names; it stays while the answer does. Without an error: whoever needs it meets that again.
    async fn fetched_ahead(&self, wish: &Wish) -> Option<Fetched> {
        let (Wish::Stage { version }
        | Wish::Shadow { version }
        | Wish::Canary { version, .. }
        | Wish::Activate { version }) = wish
        else {
            return None;
        };
        let desired = self.keeper.desired().await.ok()?;
        let known = desired.and_then(|desired| desired.known(version).cloned());
        let bundle = match known {
            Some(bundle) => bundle,
            None => self.named(version).await.ok()?,
        };
        self.downloaded(&bundle).await
    }

    /// Downloads a bundle that is in no use here.
    pub(super) async fn downloaded(&self, bundle: &BundleRef) -> Option<Fetched> {
        let serving = self.live.serving();
        if bundle.is_configured() || serving.served().any(|served| served.bundle == *bundle) {
            return None;
        }
        self.bundles.fetch(bundle).await.ok()
    }

    /// Returns whether this replica runs the canary for everybody.
    pub(super) async fn is_chosen(&self, work: &mut Work, desired: &Desired) -> bool {
        let Some(canary) = &desired.canary else { return false };
        let Reach::Replicas(share) = canary.reach else { return false };
        // While the others cannot be heard of, and until those that are there have been heard of again, each stays what
        // it was: it would take itself for the only one, and all of them would run the canary.
        let Ok(replicas) = self.keeper.live_replicas().await else {
            work.be_deaf();
            return work.chosen;
        };
        if work.is_deaf() {
            return work.chosen;
        }
        let ids: Vec<Uuid> = replicas.iter().map(|replica| replica.replica_id).collect();
        // So it is at a start.
        if ids.iter().all(|&id| id == self.me.id) {
            return work.chosen;
        }
        chosen(&canary.bundle.name, share, &ids, self.me.id)
    }

    /// Notes why this replica does not run all that it is to run; it is tried again.
    pub(super) fn hindered(&self, work: &mut Work, error: &DeployError) {
        let problem = error.to_string();
        tracing::error!(problem, "this replica does not run what it is to run; it goes on with what it has");
        self.standing().problem = Some(problem);
        work.again_at = Some(tokio::time::Instant::now() + AGAIN_AFTER);
    }

    /// Notes that this replica runs a wanted state.
    pub(super) fn applied(&self, work: &mut Work, desired: Desired, is_chosen: bool) {
        // First of all: what was seen of the step before is no part of this revision.
        self.observe(&desired);
        let mut standing = self.standing();
        standing.revision = desired.revision;
        standing.problem = None;
        drop(standing);
        work.again_at = None;
        work.chosen = is_chosen;
        work.desired = Some(desired);
    }

    pub(super) fn event(&self, told: &Told, cause: &Cause, revision: u64) -> Event {
        Event {
            id: Uuid::now_v7(),
            at_ms: now_ms(),
            kind: told.kind,
            who: cause.who.0.clone(),
            from: told.from.clone(),
            to: told.to.clone(),
            why: cause.why.clone(),
            revision,
            replica_id: self.me.id,
        }
    }

    /// Tells that a wish was refused, where there is somebody to tell.
    async fn refused(&self, wish: &Wish, cause: &Cause, error: &DeployError) {
        let version = match wish {
            Wish::Stage { version }
            | Wish::Shadow { version }
            | Wish::Canary { version, .. }
            | Wish::Activate { version }
            | Wish::Forget { version } => version.as_str(),
            Wish::Rollback { version } => version.as_deref().unwrap_or_default(),
        };
        let Cause { who, .. } = cause;
        let active = self.live.serving().active.bundle.name.to_string();
        let reason = error.unfit().map(Unfit::as_str);
        let named = Some(version).filter(|version| !version.is_empty());
        tracing::warn!(%who, version = named, reason, %error, "refused; what served goes on");
        let told = Told { kind: EventKind::Refused, from: active, to: version.to_owned() };
        let why = match reason {
            Some(reason) => format!("{reason}: {error}"),
            None => error.to_string(),
        };
        let cause = Cause { who: who.clone(), why: cause.after(why) };
        self.tell(&told, &cause).await;
    }

    /// Adds an event that changes nothing. One that cannot be stored is told by this replica alone, while the store is
    /// away, and stands in the log.
    pub(super) async fn tell(&self, told: &Told, cause: &Cause) {
        if let Err(error) = self.tell_for_sure(told, cause).await {
            tracing::warn!(%error, "the event is not stored");
        }
    }

    /// The same for who has to know whether it is stored.
    pub(super) async fn tell_for_sure(&self, told: &Told, cause: &Cause) -> Result<(), StoreError> {
        let revision = self.standing().revision;
        let event = self.event(told, cause, revision);
        self.recent().push(event.clone());
        self.keeper.tell(&[event]).await
    }
}

#[cfg(test)]
#[path = "change_tests.rs"]
pub(super) mod tests;
