//! In what a replica differs from what is wanted and from the others, for people. Pure.

use std::collections::HashMap;

use super::{
    fleet::ReplicaReport,
    rollout::{Desired, Reach},
};

/// Returns for each replica in what it differs, a few words each.
///
/// Those that are gone are told to be silent, and compared with nobody: what they ran says nothing of who runs now.
pub fn differences(wanted: Option<&Desired>, replicas: &[ReplicaReport], now_ms: i64) -> Vec<Vec<String>> {
    let live: Vec<&ReplicaReport> = replicas.iter().filter(|replica| replica.is_live(now_ms)).collect();
    let config = Compared::of(live.iter().map(|replica| replica.config_sha256.as_str()));
    let program = Compared::of(live.iter().map(|replica| replica.program_version.as_str()));
    // Which bundle "default" is matters where that one serves, and only there it is loaded and told.
    let configured = Compared::of(live.iter().filter_map(|replica| replica.configured.as_deref()));
    let of = |replica: &ReplicaReport| {
        let mut found = Vec::new();
        let is_live = replica.is_live(now_ms);
        if !is_live {
            let silent_ms = now_ms.saturating_sub(replica.seen_ms);
            found.push(format!("silent for {} s", silent_ms / 1000));
        }
        if let Some(wanted) = wanted {
            unwanted(wanted, replica, &mut found);
        }
        if !replica.ready {
            found.push("no classifier".to_owned());
        }
        if !is_live {
            return found;
        }
        match config.with(&replica.config_sha256) {
            With::Same => {}
            With::NotMost(_) => found.push("another configuration than most".to_owned()),
            With::Apart => found.push("configurations differ".to_owned()),
        }
        match program.with(&replica.program_version) {
            With::Same => {}
            With::NotMost(_) => found.push("another version of pointsman than most".to_owned()),
            With::Apart => found.push("versions of pointsman differ".to_owned()),
        }
        if let Some(here) = &replica.configured {
            match configured.with(here) {
                With::Same => {}
                With::NotMost(most) => found.push(format!("default is {here}, not {most} as with most")),
                With::Apart => found.push(format!("default is {here}, another one elsewhere")),
            }
        }
        found
    };
    replicas.iter().map(of).collect()
}

/// Whether replicas have the same.
enum Compared<'a> {
    Same,
    /// More than half of them have this, and some another one.
    Most(&'a str),
    /// Nothing is had by more than half of them: nobody can say whose is right.
    Apart,
}

/// What one replica has, beside the others.
enum With<'a> {
    Same,
    NotMost(&'a str),
    Apart,
}

impl<'a> Compared<'a> {
    fn of(all: impl Iterator<Item = &'a str>) -> Self {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for one in all {
            *counts.entry(one).or_default() += 1;
        }
        let count: usize = counts.values().sum();
        match counts.iter().find(|&(_, &times)| times * 2 > count) {
            _ if counts.len() <= 1 => Self::Same,
            Some((most, _)) => Self::Most(most),
            None => Self::Apart,
        }
    }

    fn with(&self, one: &str) -> With<'a> {
        match self {
            Self::Most(most) if *most != one => With::NotMost(most),
            Self::Same | Self::Most(_) => With::Same,
            Self::Apart => With::Apart,
        }
    }
}

/// Adds in what a replica is not as it is wanted.
fn unwanted(wanted: &Desired, replica: &ReplicaReport, found: &mut Vec<String>) {
    if replica.revision != wanted.revision {
        found.push(format!("at revision {} of {}", replica.revision, wanted.revision));
    }
    let (canary, runs_canary) = (wanted.canary.as_ref(), replica.canary.as_deref());
    // Where a canary has replicas of its own, which ones is for them to find out.
    let chosen = canary.is_some_and(|canary| matches!(canary.reach, Reach::Replicas(_)));
    let is_canary = |name: &str| canary.is_some_and(|canary| *canary.bundle.name == *name);
    if replica.active != *wanted.active.name && !(chosen && is_canary(&replica.active)) {
        found.push(format!("active is {}, not {}", replica.active, wanted.active.name));
    }
    match (canary, runs_canary) {
        (Some(canary), None) if !chosen => found.push(format!("no canary {}", canary.bundle.name)),
        (_, Some(runs)) if !is_canary(runs) => found.push(format!("canary is {runs}")),
        _ => {}
    }
    let shadow = wanted.shadow.as_ref().map(|shadow| &*shadow.bundle.name);
    match (shadow, replica.shadow.as_deref()) {
        (Some(wanted), None) => found.push(format!("no shadow {wanted}")),
        (wanted, Some(runs)) if wanted != Some(runs) => found.push(format!("shadow is {runs}")),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::{
        fleet::{sample, sample_desired},
        rollout::{BundleRef, Canary, DEFAULT, Shadow},
    };

    const NOW_MS: i64 = 1_000_000;

    fn bundle(name: &str) -> BundleRef {
        BundleRef { name: name.into(), sha256: None }
    }

    fn wanted() -> Desired {
        Desired { active: bundle(DEFAULT), ..sample_desired(4) }
    }

    fn replica() -> ReplicaReport {
        let config_sha256 = "c0".to_owned();
        ReplicaReport { seen_ms: NOW_MS, revision: 4, config_sha256, active: DEFAULT.to_owned(), ..sample() }
    }

    #[track_caller]
    fn check(wanted: &Desired, replica: ReplicaReport, expected: &[&str]) {
        assert_eq!(differences(Some(wanted), &[replica], NOW_MS), [expected]);
    }

    #[test]
    fn who_runs_what_is_wanted_differs_in_nothing() {
        check(&wanted(), replica(), &[]);
        assert_eq!(differences(None, &[replica()], NOW_MS), [Vec::<String>::new()]);
    }

    #[test]
    fn versions_and_revisions_are_compared() {
        check(&wanted(), ReplicaReport { revision: 3, ..replica() }, &["at revision 3 of 4"]);
        check(
            &wanted(),
            ReplicaReport { active: "1".to_owned(), ..replica() },
            &["active is 1, not default"],
        );
        check(&wanted(), ReplicaReport { canary: Some("2".to_owned()), ..replica() }, &["canary is 2"]);
        check(&wanted(), ReplicaReport { shadow: Some("2".to_owned()), ..replica() }, &["shadow is 2"]);
        check(&wanted(), ReplicaReport { ready: false, ..replica() }, &["no classifier"]);
        let silent = ReplicaReport { seen_ms: NOW_MS - 60_000, ..replica() };
        check(&wanted(), silent, &["silent for 60 s"]);
        let shadow = Some(Shadow { bundle: bundle("2"), since_ms: 0 });
        check(&Desired { shadow, ..wanted() }, replica(), &["no shadow 2"]);
    }

    #[test]
    fn a_canary_of_replicas_is_only_on_some() {
        let canary = |reach| Some(Canary { bundle: bundle("2"), reach, since_ms: 0 });
        let some = Desired { canary: canary(Reach::Replicas(0.3)), ..wanted() };
        check(&some, replica(), &[]);
        check(&some, ReplicaReport { canary: Some("2".to_owned()), ..replica() }, &[]);
        check(&some, ReplicaReport { active: "2".to_owned(), ..replica() }, &[]);
        let all = Desired { canary: canary(Reach::Requests(0.3)), ..wanted() };
        check(&all, replica(), &["no canary 2"]);
    }

    /// What is said of each of these, which run these configurations; of `None` nothing was heard for long.
    fn configurations(of: &[Option<&str>]) -> Vec<Vec<String>> {
        let replica = |sha256: &Option<&str>| {
            let seen_ms = NOW_MS - if sha256.is_some() { 0 } else { 60_000 };
            ReplicaReport { seen_ms, config_sha256: sha256.unwrap_or("gone").to_owned(), ..replica() }
        };
        differences(None, &of.iter().map(replica).collect::<Vec<_>>(), NOW_MS)
    }

    #[test]
    fn who_is_gone_has_no_part_in_what_most_have() {
        let found = configurations(&[Some("a"), Some("b"), Some("a"), None]);
        let silent = ["silent for 60 s"];
        assert!(found[0].is_empty() && found[2].is_empty(), "{found:?}");
        assert_eq!(
            (&found[1][..], &found[3][..]),
            (&["another configuration than most".to_owned()][..], &silent.map(str::to_owned)[..])
        );
        let alone = configurations(&[Some("a"), None, None]);
        assert!(alone[0].is_empty(), "{alone:?}");
    }

    #[test]
    fn where_nobody_is_most_all_are_told_that_they_differ() {
        for of in [&[Some("a"), Some("b")][..], &[Some("a"), Some("a"), Some("b"), Some("b")]] {
            let found = configurations(of);
            assert!(found.iter().all(|found| found == &["configurations differ"]), "{found:?}");
        }
        assert!(configurations(&[Some("a"), Some("a")]).iter().all(Vec::is_empty));
    }

    #[test]
    fn another_default_is_named() {
        let with = |configured: Option<&str>| ReplicaReport {
            configured: configured.map(str::to_owned),
            ..replica()
        };
        let found = differences(
            Some(&wanted()),
            &[with(Some("tiny 1")), with(Some("tiny 2")), with(Some("tiny 1")), with(None)],
            NOW_MS,
        );
        assert_eq!(found[1], ["default is tiny 2, not tiny 1 as with most"]);
        assert!(found[0].is_empty() && found[3].is_empty(), "{found:?}");
        let two = differences(Some(&wanted()), &[with(Some("tiny 1")), with(Some("tiny 2"))], NOW_MS);
        assert_eq!(two[0], ["default is tiny 1, another one elsewhere"]);
        assert_eq!(two[1], ["default is tiny 2, another one elsewhere"]);
    }

    #[test]
    fn who_is_gone_for_rollouts_is_silent_here() {
        let at = |ago_ms| {
            let replica = ReplicaReport { seen_ms: NOW_MS - ago_ms, ..replica() };
            differences(Some(&wanted()), &[replica], NOW_MS).remove(0)
        };
        assert!(at(15_000).is_empty());
        assert_eq!(at(16_000), ["silent for 16 s"]);
    }
}
