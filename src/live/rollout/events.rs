//! A change of the wanted state -> what is told of it. Pure.

use super::state::{Change, Desired};
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
        Change::Activate(bundle) => {
            let was_watched = [
                before.canary.as_ref().map(|canary| &canary.bundle),
                before.shadow.as_ref().map(|shadow| &shadow.bundle),
            ];
            let promoted = was_watched.into_iter().flatten().any(|watched| watched.is_same(bundle));
            let kind = if promoted { EventKind::Promoted } else { EventKind::Activated };
            told(kind, before.active.to_string(), after.active.to_string())
        }
        Change::Rollback => {
            let from = watched(before).unwrap_or_else(|| before.active.to_string());
            told(EventKind::RolledBack, from, after.active.to_string())
        }
        Change::Forget(name) => told(EventKind::Forgotten, name.to_string(), String::new()),
        Change::ReloadConfig => told(EventKind::ConfigReloaded, String::new(), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::live::rollout::{BundleRef, Reach};

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
        check(&[Change::ReloadConfig], (EventKind::ConfigReloaded, "", ""));
    }
}
