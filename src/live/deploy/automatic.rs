//! The rollout by itself: what all replicas saw of a watched bundle decides whether it goes a step further or is taken
//! back. What follows from what is for `rollout` to say.
//!
//! Any replica may look: whatever a judgement needs is in the wanted state and in the replicas' reports, so that one that
//! is killed or started anew takes nothing with it. Two that see the same at once make one change.

use std::{sync::Arc, time::Duration};

use sha2::{Digest, Sha256};
use tokio::time::Instant;
use uuid::{Builder, Uuid};

use super::{Cause, DeployError, Deployer, Who, Work};
use crate::{
    config::RolloutConfig,
    live::{
        fleet::{EventKind, ReplicaReport, Sums, observed},
        observe::Watching,
        rollout::{Change, Desired, Follows, Here, Reach, Told, next},
    },
    traffic::now_ms,
};

/// Who makes these changes.
const ROLLOUT: &str = "rollout";

/// Until a step that was not possible is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Until a replica looks again while one that started before it is there to look: each look reads what all of them say,
/// and one of many is enough.
const LEFT_FOR: Duration = Duration::from_secs(10);
/// What is waited for after the store was away.
const DEAF: &str = "the store was away a moment ago: what the other replicas saw is not known yet";
/// A rollout that waits for so many windows, the first one among them, is told of.
const WAITS_TOLD_AFTER: u32 = 3;

/// Where the rollout stands on this replica. Nothing that would be missed.
#[derive(Default)]
pub(super) struct Leading {
    /// Of which revision a step was not possible, and when it is tried again.
    hindered: Option<(u64, Instant)>,
    /// At which revision this replica does not look, and until when.
    left: Option<(u64, Instant)>,
    /// Of which step it was told that it waits.
    told: Option<i64>,
    /// Of which step this replica noted for itself that it waits.
    noted: Option<i64>,
}

impl Leading {
    fn is_off(&self, revision: u64) -> bool {
        let holds = |&(of, until): &(u64, Instant)| of == revision && Instant::now() < until;
        self.hindered.as_ref().is_some_and(holds) || self.left.as_ref().is_some_and(holds)
    }
}

impl Deployer {
    /// Makes the next change that follows from what was seen, if any does.
    pub(super) async fn lead(&self, work: &mut Work) {
        let config = self.live.serving().config.rollout.clone();
        let is_watched = |desired: &Desired| {
            desired.canary.is_some() || desired.shadow.is_some() || desired.guard.is_some()
        };
        let Some(desired) = work.desired.clone().filter(|desired| config.automatic && is_watched(desired))
        else {
            self.standing().waits = None;
            return;
        };
        if work.leading.is_off(desired.revision) {
            return;
        }
        let Ok(replicas) = self.keeper.live_replicas().await else {
            work.be_deaf();
            return;
        };
        let own = self.report();
        let config_sha256 = own.config_sha256.clone();
        let others = replicas.into_iter().filter(|replica| replica.replica_id != self.me.id);
        let live: Vec<ReplicaReport> = others.chain([own]).collect();
        // Identifiers are in the order in which they were made.
        if live.iter().any(|replica| replica.replica_id < self.me.id) {
            work.leading.left = Some((desired.revision, Instant::now() + LEFT_FOR));
        }
        let seen = observed(&live, desired.revision);
        let here = Here { config: &config, config_sha256: &config_sha256, now_ms: now_ms() };
        let follows = match next(&desired, &here, &seen) {
            Follows::Change(change, _) if work.is_deaf() && needs_the_others(&desired, &change) => {
                self.standing().waits = Some(DEAF.to_owned());
                return;
            }
            follows => follows,
        };
        self.standing().waits = match &follows {
            Follows::Wait(why) => Some(why.clone()),
            Follows::Nothing | Follows::Change(..) => None,
        };
        match follows {
            Follows::Nothing => {}
            Follows::Wait(why) => self.tell_of_waiting(work, &desired, &config, &seen, why).await,
            Follows::Change(change, why) => self.go_on(work, desired, &change, why).await,
        }
    }

    async fn go_on(&self, work: &mut Work, desired: Desired, change: &Change, why: String) {
        let (revision, retired) = (desired.revision, desired.active.clone());
        let cause = Cause { who: Who(ROLLOUT.to_owned()), why };
        match self.make(work, desired, change, &cause).await {
            // Else another replica saw the same and was faster.
            Ok(_) | Err(DeployError::Overtaken) => {}
            Err(error) => {
                let is_first = work.leading.hindered.is_none_or(|(before, _)| before != revision);
                work.leading.hindered = Some((revision, Instant::now() + AGAIN_AFTER));
                tracing::warn!(%error, why = cause.why, "the rollout's next step is not possible");
                // No problem of this replica, which runs what is wanted: that would hold up the next try as well.
                self.standing().waits =
                    Some(format!("the next step is not possible: {error}; it is tried again"));
                if is_first {
                    let (from, to) = (retired.to_string(), named(change));
                    let cause = Cause { why: error.to_string(), ..cause };
                    self.tell(&Told { kind: EventKind::Refused, from, to }, &cause).await;
                }
            }
        }
        self.prune(work);
    }

    /// Tells once of a step, whoever looks, that it has been waiting for long.
    async fn tell_of_waiting(
        &self,
        work: &mut Work,
        desired: &Desired,
        config: &RolloutConfig,
        seen: &Sums,
        why: String,
    ) {
        let step = since_ms(desired);
        let long = config.window.saturating_mul(WAITS_TOLD_AFTER);
        if Duration::from_millis(seen.watched_ms) < long || work.leading.told == Some(step) {
            return;
        }
        let told = Told {
            kind: EventKind::RolloutWaits,
            from: desired.active.to_string(),
            to: desired.taken_back_first().to_string(),
        };
        let cause = Cause { who: Who(ROLLOUT.to_owned()), why };
        let mut event = self.event(&told, &cause, desired.revision);
        event.id = waiting_id(step, &told.to);
        if work.leading.noted.replace(step) != Some(step) {
            tracing::warn!(to = told.to, why = cause.why, "the rollout waits");
            self.recent().push(event.clone());
        }
        match self.keeper.tell(&[event]).await {
            Ok(()) => work.leading.told = Some(step),
            Err(error) => tracing::debug!(%error, "the event is not stored yet"),
        }
    }

    /// Tells the observer what serves from now on.
    pub(super) fn observe(&self, desired: &Desired) {
        let serving = self.live.serving();
        let canary = serving.canary.as_ref().map(|canary| (canary.served.bundle.clone(), canary.share));
        let shadow =
            serving.shadow.as_ref().map(|shadow| (shadow.bundle.clone(), Arc::clone(&shadow.router)));
        let configured = serving.served().find(|served| served.bundle.is_configured());
        let configured = configured.and_then(|served| served.router.classifier_handle());
        self.live.observer().exchanged(Watching {
            generation: serving.generation,
            config: Arc::clone(&serving.config),
            active: serving.active.bundle.clone(),
            canary,
            has_canary_somewhere: desired.canary.is_some(),
            shadow,
            configured: configured.map(Arc::downgrade),
            since_ms: since_ms(desired),
        });
    }
}

/// Returns when the step that is watched began, milliseconds since 1970: by the clock of who began it, so that it is a
/// name for the step and no more.
fn since_ms(desired: &Desired) -> i64 {
    match (&desired.canary, &desired.shadow) {
        (Some(canary), _) => canary.since_ms,
        (None, Some(shadow)) => shadow.since_ms,
        (None, None) => desired.active_since_ms,
    }
}

/// Returns the identifier of the event that a step waits: the same on every replica, so that it is stored once.
fn waiting_id(step: i64, bundle: &str) -> Uuid {
    let hash = Sha256::new().chain_update("rollout waits").chain_update(bundle).finalize();
    let mut random = [0; 10];
    random.copy_from_slice(&hash[..10]);
    Builder::from_unix_timestamp_millis(u64::try_from(step).unwrap_or(0), &random).into_uuid()
}

/// Returns whether a change is not to be made before it is known what the other replicas saw. What was bad enough for one
/// to see is bad, except where a replica sees the canary alone: it has nothing of the active bundle to compare it with.
fn needs_the_others(desired: &Desired, change: &Change) -> bool {
    let sees_one_side = |reach| match reach {
        Reach::Replicas(_) => true,
        Reach::Requests(_) => false,
    };
    !takes_back(change) || desired.canary.as_ref().is_some_and(|canary| sees_one_side(canary.reach))
}

/// Returns whether a change only takes back what is tried or serves.
fn takes_back(change: &Change) -> bool {
    match change {
        Change::Rollback | Change::RollbackActive => true,
        Change::Stage(_)
        | Change::Shadow(_)
        | Change::Canary(..)
        | Change::Activate(_)
        | Change::Promote(..)
        | Change::EndGuard
        | Change::Forget(_)
        | Change::ReloadConfig => false,
    }
}

/// Returns the bundle of a step, for an event.
fn named(change: &Change) -> String {
    match change {
        Change::Canary(bundle, reach) => format!("{bundle} at {reach}"),
        Change::Stage(bundle)
        | Change::Shadow(bundle)
        | Change::Activate(bundle)
        | Change::Promote(bundle, _) => bundle.to_string(),
        Change::Forget(name) => name.to_string(),
        Change::Rollback | Change::RollbackActive | Change::EndGuard | Change::ReloadConfig => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::{
        deploy::change::tests::deployer,
        rollout::{BundleRef, Guard, Observed},
    };

    #[tokio::test]
    async fn a_replica_knows_by_itself_that_a_step_waits() {
        let deployer = deployer();
        let mut work = deployer.turn().await.unwrap();
        let config = deployer.live.serving().config.rollout.clone();
        let seen = Sums { watched_ms: u64::MAX, ..Sums::default() };
        let first = Desired { active_since_ms: 1, ..Desired::first(1) };
        let second = Desired { active_since_ms: 2, ..Desired::first(1) };
        for desired in [&first, &first, &second] {
            // The second time as if the first had not been stored.
            work.leading.told = None;
            deployer.tell_of_waiting(&mut work, desired, &config, &seen, "few requests".to_owned()).await;
        }
        let recent = deployer.recent().latest(10);
        assert_eq!(recent.len(), 2, "once for each step: {recent:?}");
        assert!(recent.iter().all(|event| event.kind == EventKind::RolloutWaits), "{recent:?}");
    }

    #[tokio::test]
    async fn who_cannot_have_heard_the_others_yet_ends_no_guard() {
        let deployer = deployer();
        let mut work = deployer.turn().await.unwrap();
        let cause = Cause { who: Who(ROLLOUT.to_owned()), why: String::new() };
        let bundle = |name: &str| BundleRef { name: Arc::from(name), sha256: Some(Arc::from(name)) };
        let promote = Change::Promote(bundle("a"), Box::new(Guard::of(&Observed::default(), "")));
        let before = deployer.kept().await.unwrap();
        deployer.make(&mut work, before, &promote, &cause).await.unwrap();
        // It is over: nothing is left that it could be compared with.
        let forgotten = Desired { retired: Vec::new(), ..work.desired.clone().unwrap() };
        let forgotten = Desired { revision: forgotten.revision + 1, ..forgotten };
        deployer.keeper.exchange(forgotten.revision - 1, &forgotten, &[]).await.unwrap();
        work.desired = Some(forgotten);
        work.be_deaf();
        deployer.lead(&mut work).await;
        assert!(deployer.desired().await.unwrap().guard.is_some());
        assert_eq!(deployer.waits(), DEAF);
        work.deaf_until = None;
        deployer.lead(&mut work).await;
        assert_eq!(deployer.desired().await.unwrap().guard, None);
        assert_eq!(deployer.waits(), "");
    }

    #[test]
    fn one_replica_takes_back_by_itself_what_it_can_compare() {
        let check = |reach: Option<Reach>, change: &Change, expected: bool| {
            let bundle = BundleRef { name: Arc::from("a"), sha256: Some(Arc::from("a")) };
            let first = Desired::first(1);
            let desired = match reach {
                Some(reach) => first.changed(&Change::Canary(bundle, reach), 1, 3).unwrap(),
                None => first,
            };
            assert_eq!(needs_the_others(&desired, change), expected, "{reach:?}, {change:?}");
        };
        check(Some(Reach::Requests(0.5)), &Change::Rollback, false);
        check(Some(Reach::Replicas(0.5)), &Change::Rollback, true);
        check(None, &Change::RollbackActive, false);
        check(None, &Change::EndGuard, true);
        check(Some(Reach::Requests(0.5)), &Change::EndGuard, true);
    }

    #[test]
    fn every_replica_tells_of_the_same_wait() {
        let id = waiting_id(1_769_767_200_000, "v2");
        assert_eq!(id, waiting_id(1_769_767_200_000, "v2"));
        assert_ne!(id, waiting_id(1_769_767_200_000, "v3"));
        assert_ne!(id, waiting_id(1_769_767_200_001, "v2"));
        assert_eq!((id.get_version_num(), waiting_id(-5, "v2").get_version_num()), (7, 7));
    }
}
