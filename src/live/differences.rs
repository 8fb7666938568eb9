//! In what a replica differs from what is wanted and from the others, for people. Pure.

use std::collections::HashMap;

use super::{
    fleet::ReplicaReport,
    rollout::{Desired, Reach},
};

/// A replica that said nothing for so long is likely gone or stuck; it reports several times within it.
const SILENT_AFTER_MS: i64 = 30_000;
/// Replicas are a fleet whose majority means something from here on.
const MAJORITY_FROM: usize = 3;

/// Returns for each replica in what it differs, a few words each.
pub fn differences(wanted: Option<&Desired>, replicas: &[ReplicaReport], now_ms: i64) -> Vec<Vec<String>> {
    let config = majority(replicas.iter().map(|replica| replica.config_sha256.as_str()));
    let program = majority(replicas.iter().map(|replica| replica.program_version.as_str()));
    let of = |replica: &ReplicaReport| {
        let mut found = Vec::new();
        let silent_ms = now_ms.saturating_sub(replica.seen_ms);
        if silent_ms > SILENT_AFTER_MS {
            found.push(format!("silent for {} s", silent_ms / 1000));
        }
        if let Some(wanted) = wanted {
            unwanted(wanted, replica, &mut found);
        }
        if !replica.ready {
            found.push("no classifier".to_owned());
        }
        if config.is_some_and(|most| most != replica.config_sha256) {
            found.push("another configuration than most".to_owned());
        }
        if program.is_some_and(|most| most != replica.program_version) {
            found.push("another version of pointsman than most".to_owned());
        }
        found
    };
    replicas.iter().map(of).collect()
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

/// Returns what more than half of them have.
fn majority<'a>(all: impl ExactSizeIterator<Item = &'a str>) -> Option<&'a str> {
    let count = all.len();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for one in all {
        *counts.entry(one).or_default() += 1;
    }
    let most = counts.into_iter().find(|&(_, times)| times * 2 > count);
    most.filter(|_| count >= MAJORITY_FROM).map(|(one, _)| one)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::live::rollout::{BundleRef, Canary, DEFAULT, Observed, Shadow};

    const NOW_MS: i64 = 1_000_000;

    fn bundle(name: &str) -> BundleRef {
        BundleRef { name: name.into(), sha256: None }
    }

    fn wanted() -> Desired {
        Desired {
            revision: 4,
            active: bundle(DEFAULT),
            active_since_ms: 0,
            canary: None,
            shadow: None,
            staged: Vec::new(),
            retired: Vec::new(),
            config_reloads: 0,
        }
    }

    fn replica() -> ReplicaReport {
        ReplicaReport {
            replica_id: Uuid::nil(),
            host: "a".to_owned(),
            process_id: 1,
            program_version: "0.1.0".to_owned(),
            started_ms: 0,
            seen_ms: NOW_MS,
            revision: 4,
            generation: 9,
            config_sha256: "c0".to_owned(),
            active: DEFAULT.to_owned(),
            canary: None,
            shadow: None,
            ready: true,
            problem: None,
            observed_active: Observed::default(),
            observed_watched: Observed::default(),
        }
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

    #[test]
    fn a_majority_needs_three() {
        let other = || ReplicaReport { config_sha256: "c1".to_owned(), ..replica() };
        assert!(differences(None, &[replica(), other()], NOW_MS).iter().all(Vec::is_empty));
        let found = differences(None, &[replica(), other(), replica()], NOW_MS);
        assert_eq!(found[1], ["another configuration than most"]);
        assert!(found[0].is_empty() && found[2].is_empty());
    }
}
