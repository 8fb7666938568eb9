//! A change of the wanted state -> what is told of it. Pure.

use super::{
    bundle_ref::BundleRef,
    state::{Change, Desired, STAGED_MAX},
};
use crate::live::fleet::EventKind;

/// What happened, from what to what; who asked for it, when and why is for the caller to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub kind: EventKind,
    /// A bundle, for a canary that moved with its share; empty where there was nothing.
    pub from: String,
    pub to: String,
}

/// Returns what to tell of `change`, which made `after` of `before`.
pub fn told_of(before: &Desired, after: &Desired, change: &Change) -> Told {
    let told = |kind: EventKind, from: String, to: String| Told { kind, from, to };
    let at = |desired: &Desired| match &desired.canary {
        Some(canary) => format!("{} at {}", canary.bundle, canary.reach),
        None => String::new(),
    };
    let watched = |desired: &Desired| {
        let canary = desired.canary.as_ref().map(|canary| &canary.bundle);
        canary.or(desired.shadow.as_ref().map(|shadow| &shadow.bundle)).map(ToString::to_string)
    };
    match change {
        Change::Stage(bundle) => told(EventKind::Staged, String::new(), bundle.to_string()),
        Change::Shadow(bundle) => {
            let from = before.shadow.as_ref().map_or_else(String::new, |shadow| shadow.bundle.to_string());
            told(EventKind::ShadowStarted, from, bundle.to_string())
        }
        Change::Canary(bundle, _) => {
            let moves = before.canary.as_ref().is_some_and(|canary| canary.bundle.is_same(bundle));
            let kind = if moves { EventKind::CanaryMoved } else { EventKind::CanaryStarted };
            told(kind, at(before), at(after))
        }
        Change::Activate(bundle) | Change::Promote(bundle, _) => {
            let was_watched = [
                before.canary.as_ref().map(|canary| &canary.bundle),
                before.shadow.as_ref().map(|shadow| &shadow.bundle),
            ];
            let promoted = was_watched.into_iter().flatten().any(|watched| watched.is_same(bundle));
            let kind = if promoted { EventKind::Promoted } else { EventKind::Activated };
            told(kind, before.active.to_string(), after.active.to_string())
        }
        Change::EndGuard => {
            let from = before.retired.first().map_or_else(String::new, ToString::to_string);
            told(EventKind::GuardEnded, from, after.active.to_string())
        }
        Change::Rollback => {
            let from = watched(before).unwrap_or_else(|| before.active.to_string());
            told(EventKind::RolledBack, from, after.active.to_string())
        }
        Change::RollbackActive => {
            told(EventKind::RolledBack, before.active.to_string(), after.active.to_string())
        }
        Change::Forget(name) => told(EventKind::Forgotten, name.to_string(), String::new()),
        Change::ReloadConfig => told(EventKind::ConfigReloaded, String::new(), String::new()),
    }
}

/// Returns what to tell beside that, and why, where `change` also ended the watch over an active bundle that stays.
pub fn guard_ended_by(before: &Desired, after: &Desired, change: &Change) -> Option<(Told, &'static str)> {
    let ended = before.guard.is_some() && after.guard.is_none() && before.active == after.active;
    let why = match change {
        Change::Activate(_) | Change::Promote(..) => "it was activated again, and so is kept",
        Change::Canary(..) => "a canary is tried beside it",
        Change::Shadow(_) => "a shadow is tried beside it",
        Change::Forget(_) => {
            "its predecessor is forgotten: there is nothing that it was compared with to go back to"
        }
        // They end none, are told of as its end, or make another bundle active.
        Change::Stage(_)
        | Change::EndGuard
        | Change::Rollback
        | Change::RollbackActive
        | Change::ReloadConfig => return None,
    };
    ended.then(|| (told_of(before, after, &Change::EndGuard), why))
}

/// Returns what a change did beside what it is called: a canary that serves nothing any more, and what had to make room;
/// empty where that is nothing.
pub fn also(before: &Desired, after: &Desired, change: &Change) -> String {
    let mut also = Vec::new();
    if let (Change::Shadow(bundle), Some(canary)) = (change, &before.canary)
        && canary.bundle.is_same(bundle)
    {
        also.push(format!("it was the canary at {}, and decides nothing any more", canary.reach));
    }
    let forgotten = |bundle: &BundleRef| matches!(change, Change::Forget(name) if *name == bundle.name);
    let is_gone =
        |bundle: &&BundleRef| !forgotten(bundle) && !after.bundles().any(|known| known.is_same(bundle));
    for bundle in before.staged.iter().filter(is_gone) {
        also.push(format!("{bundle} is no longer staged: at most {STAGED_MAX} are"));
    }
    for bundle in before.retired.iter().filter(is_gone) {
        let most = after.retired.len();
        also.push(format!("{bundle} is no longer kept for rollback: bundles.retired_max is {most}"));
    }
    also.join("; ")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::live::rollout::{BundleRef, Guard, Observed, Reach};

    fn version(name: &str) -> BundleRef {
        BundleRef { name: Arc::from(name), sha256: Some(Arc::from(format!("sha of {name}"))) }
    }

    /// Applies the changes and compares what is told of the last one.
    #[track_caller]
    fn check(changes: &[Change], expected: (EventKind, &str, &str)) {
        let mut states = vec![Desired::first(0)];
        for change in changes {
            states.push(states[states.len() - 1].changed(change, 1, 3).unwrap());
        }
        let [.., before, after] = &states[..] else { panic!("no change") };
        let told = told_of(before, after, &changes[changes.len() - 1]);
        assert_eq!((told.kind, &*told.from, &*told.to), expected);
    }

    #[test]
    fn every_change_is_told_in_its_own_words() {
        let (a, b) = (|| version("a"), || version("b"));
        let canary = |share| Change::Canary(version("a"), Reach::Requests(share));
        check(&[Change::Stage(a())], (EventKind::Staged, "", "a"));
        check(&[Change::Shadow(a())], (EventKind::ShadowStarted, "", "a"));
        check(&[Change::Shadow(a()), Change::Shadow(b())], (EventKind::ShadowStarted, "a", "b"));
        check(&[canary(0.05)], (EventKind::CanaryStarted, "", "a at 5 % of requests"));
        check(
            &[canary(0.05), Change::Canary(b(), Reach::Replicas(0.5))],
            (EventKind::CanaryStarted, "a at 5 % of requests", "b at 50 % of replicas"),
        );
        let moved = (EventKind::CanaryMoved, "a at 5 % of requests", "a at 25.5 % of requests");
        check(&[canary(0.05), canary(0.255)], moved);
        check(&[Change::Activate(a())], (EventKind::Activated, "default", "a"));
        check(&[canary(0.05), Change::Activate(a())], (EventKind::Promoted, "default", "a"));
        check(&[Change::Shadow(a()), Change::Activate(a())], (EventKind::Promoted, "default", "a"));
        check(&[canary(0.05), Change::Activate(b())], (EventKind::Activated, "default", "b"));
        check(&[canary(0.05), Change::Rollback], (EventKind::RolledBack, "a", "default"));
        check(&[Change::Shadow(a()), Change::Rollback], (EventKind::RolledBack, "a", "default"));
        check(&[Change::Activate(a()), Change::Rollback], (EventKind::RolledBack, "a", "default"));
        check(&[Change::Stage(a()), Change::Forget("a".into())], (EventKind::Forgotten, "a", ""));
        let guard = Box::new(Guard::of(&Observed::default(), ""));
        let promoted = [canary(0.05), Change::Promote(a(), guard)];
        check(&promoted, (EventKind::Promoted, "default", "a"));
        let ended = [&promoted[..], &[Change::EndGuard]].concat();
        check(&ended, (EventKind::GuardEnded, "default", "a"));
        let beside = [&[Change::Shadow(b())], &promoted[..], &[Change::RollbackActive]].concat();
        check(&beside, (EventKind::RolledBack, "a", "default"));
        check(&[Change::ReloadConfig], (EventKind::ConfigReloaded, "", ""));
    }

    #[test]
    fn the_end_of_a_guard_is_told_whatever_ended_it() {
        let guard = Box::new(Guard::of(&Observed::default(), ""));
        let start = [
            Change::Activate(version("a")),
            Change::Activate(version("b")),
            Change::Canary(version("c"), Reach::Requests(0.5)),
            Change::Promote(version("c"), guard),
        ];
        let promoted = start.iter().fold(Desired::first(0), |before, change| {
            let after = before.changed(change, 1, 3).unwrap();
            assert_eq!(guard_ended_by(&before, &after, change), None);
            after
        });
        let check = |change: Change, about: &str| {
            let after = promoted.changed(&change, 2, 3).unwrap();
            let told = guard_ended_by(&promoted, &after, &change);
            let (told, why) = told.unwrap_or_else(|| panic!("{change:?}"));
            assert_eq!((told.kind, &*told.from, &*told.to), (EventKind::GuardEnded, "b", "c"));
            assert!(why.contains(about), "{why}");
            // Of one that is guarded no more there is nothing to tell.
            let again = after.changed(&change, 3, 3);
            assert!(again.is_err() || guard_ended_by(&after, &again.unwrap(), &change).is_none());
        };
        check(Change::Activate(version("c")), "is kept");
        check(Change::Canary(version("d"), Reach::Requests(0.5)), "a canary");
        check(Change::Shadow(version("d")), "a shadow");
        check(Change::Forget("b".into()), "its predecessor is forgotten");
        let silent = [
            Change::EndGuard,
            Change::Rollback,
            Change::RollbackActive,
            Change::Activate(version("a")),
            Change::Forget("a".into()),
            Change::ReloadConfig,
        ];
        for change in silent {
            let after = promoted.changed(&change, 2, 3).unwrap();
            assert_eq!(guard_ended_by(&promoted, &after, &change), None, "{change:?}");
        }
    }

    #[test]
    fn what_ends_or_makes_room_on_the_way_is_told_too() {
        let check = |changes: &[Change], retired_max: usize, expected: &str| {
            let mut states = vec![Desired::first(0)];
            for change in changes {
                states.push(states[states.len() - 1].changed(change, 1, retired_max).unwrap());
            }
            let [.., before, after] = &states[..] else { panic!("no change") };
            assert_eq!(also(before, after, &changes[changes.len() - 1]), expected);
        };
        let (a, b) = (|| version("a"), || version("b"));
        let canary = || Change::Canary(version("a"), Reach::Requests(0.05));
        let ended = "it was the canary at 5 % of requests, and decides nothing any more";
        check(&[canary(), Change::Shadow(a())], 3, ended);
        check(&[canary(), Change::Shadow(b())], 3, "");
        check(&[Change::Shadow(a()), canary()], 3, "");
        check(&[Change::Stage(a()), Change::Forget("a".into())], 3, "");
        check(&[Change::Activate(a()), Change::Activate(b())], 3, "");
        let dropped = "default is no longer kept for rollback: bundles.retired_max is 1";
        check(&[Change::Activate(a()), Change::Activate(b())], 1, dropped);
        let staged = |at: usize| Change::Stage(version(&format!("v{at}")));
        let many: Vec<Change> = (0..=STAGED_MAX).map(staged).collect();
        check(&many[..STAGED_MAX], 3, "");
        check(&many, 3, "v0 is no longer staged: at most 16 are");
    }
}
