//! Which replicas a share of them is, and what all of them saw together. Pure.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::ReplicaReport;
use crate::live::rollout::Observed;

/// So much of a replica is none: 7 % of 100 replicas are 7.000000000000001 to a computer.
const ROUNDING: f64 = 1e-9;

/// What live replicas saw since a step of the rollout began, added up.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sums {
    /// How many it was.
    pub replicas: usize,
    pub active: Observed,
    pub watched: Observed,
    /// How long it was watched by the replica that has watched for longest, by its own steady clock. Clocks of several
    /// machines are never compared: they may be minutes apart.
    pub watched_ms: u64,
    /// Whether every one runs the revision, without a problem.
    pub all_follow: bool,
}

/// Returns whether this replica is among the share of live replicas that serve a version: `share` of them, rounded up
/// but never all, in an order that a hash gives for each version. All replicas that know of the same ones agree, and one that comes or
/// goes changes the answer for at most one other. `me` counts whether or not it is in the list.
pub fn chosen(version: &str, share: f64, replicas: &[Uuid], me: Uuid) -> bool {
    let all: BTreeSet<Uuid> = replicas.iter().copied().chain([me]).collect();
    let mine = place(version, me);
    let before = all.iter().filter(|&&other| place(version, other) < mine).count();
    before < count(share, all.len())
}

fn count(share: f64, replicas: usize) -> usize {
    let count = (share.clamp(0.0, 1.0) * replicas as f64 - ROUNDING).ceil();
    // Of a share that is not a number, none. One is left to be compared with.
    (count as usize).min(replicas.saturating_sub(1).max(1))
}

/// A replica's place in the order of a version; the identifier itself where two hashes are the same.
fn place(version: &str, replica: Uuid) -> ([u8; 32], Uuid) {
    let mut hash = Sha256::new();
    // Of fixed length and first, so that no version can be taken for another one.
    hash.update(replica.as_bytes());
    hash.update(version.as_bytes());
    (hash.finalize().into(), replica)
}

/// Adds up what live replicas saw since a revision; those that run another one do not count.
pub fn observed(live: &[ReplicaReport], revision: u64) -> Sums {
    let all_follow = live.iter().all(|replica| replica.revision == revision && replica.problem.is_none());
    let mut sums = Sums { all_follow, ..Sums::default() };
    for replica in live.iter().filter(|replica| replica.revision == revision) {
        sums.replicas += 1;
        sums.active.add(&replica.observed_active);
        sums.watched.add(&replica.observed_watched);
        sums.watched_ms = sums.watched_ms.max(replica.watched_ms);
    }
    sums
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fleet(size: u128) -> Vec<Uuid> {
        (0..size).map(Uuid::from_u128).collect()
    }

    fn chosen_of(version: &str, share: f64, replicas: &[Uuid]) -> BTreeSet<Uuid> {
        replicas.iter().copied().filter(|&me| chosen(version, share, replicas, me)).collect()
    }

    #[test]
    fn shares_are_rounded_up() {
        let check = |share: f64, replicas: u128, expected: usize| {
            assert_eq!(chosen_of("v2", share, &fleet(replicas)).len(), expected, "{share} of {replicas}");
        };
        check(0.5, 4, 2);
        check(0.5, 3, 2);
        check(0.01, 3, 1);
        check(0.01, 1, 1);
        check(0.07, 100, 7);
        check(0.1, 10, 1);
        check(0.3, 10, 3);
        check(0.67, 3, 2);
        check(0.99, 10, 9);
        check(1.0, 5, 4);
        check(0.0, 5, 0);
        check(f64::NAN, 5, 0);
    }

    #[test]
    fn who_is_not_listed_yet_counts_too() {
        assert!(chosen("v2", 0.5, &[], Uuid::from_u128(7)));
        let others = fleet(9);
        let me = Uuid::from_u128(100);
        let mut all = others.clone();
        all.push(me);
        assert_eq!(chosen("v2", 0.5, &others, me), chosen("v2", 0.5, &all, me));
    }

    #[test]
    fn another_version_chooses_others() {
        let fleet = fleet(40);
        assert_ne!(chosen_of("v2", 0.5, &fleet), chosen_of("v3", 0.5, &fleet));
    }

    #[test]
    fn what_live_replicas_saw_of_a_revision_adds_up() {
        let seen = |asked, tier: &str| {
            let mut seen = Observed { asked, scored: asked - 1, good: 0.5, ..Observed::default() };
            seen.add_tier(tier, asked - 1);
            seen
        };
        let report = |revision, watched_ms, active, watched| ReplicaReport {
            revision,
            watched_ms,
            observed_active: active,
            observed_watched: watched,
            ..super::super::sample()
        };
        let nothing = Observed::default;
        let replicas = [
            report(7, 1_000, seen(10, "simple"), seen(2, "complex")),
            report(7, 9_000, seen(20, "simple"), seen(3, "simple")),
            // It runs the canary for everybody, and so saw nothing of the active one.
            report(7, 5_000, nothing(), seen(30, "complex")),
            report(6, 70_000, seen(100, "simple"), seen(100, "simple")),
            report(8, 80_000, seen(100, "simple"), seen(100, "simple")),
        ];
        let sums = observed(&replicas, 7);
        assert_eq!((sums.replicas, sums.watched_ms, sums.all_follow), (3, 9_000, false));
        let of = |sum: &Observed| (sum.asked, sum.scored, sum.good);
        assert_eq!((of(&sums.active), of(&sums.watched)), ((30, 28, 1.0), (35, 32, 1.5)));
        let tiers = |sum: &Observed| sum.tiers.clone().into_iter().collect::<Vec<_>>();
        assert_eq!(tiers(&sums.active), [("simple".to_owned(), 28)]);
        assert_eq!(tiers(&sums.watched), [("complex".to_owned(), 30), ("simple".to_owned(), 2)]);
        assert_eq!(observed(&replicas, 9), Sums::default());
        let following = observed(&replicas[..3], 7);
        assert_eq!(following, Sums { all_follow: true, ..sums });
        let hindered = ReplicaReport { problem: Some("no memory".to_owned()), ..replicas[0].clone() };
        assert!(!observed(&[hindered], 7).all_follow);
    }

    #[test]
    fn clocks_that_are_hours_apart_change_nothing_of_what_was_seen() {
        let seen = Observed { asked: 10, scored: 9, ..Observed::default() };
        let report = |clock_ms: i64, watched_ms| ReplicaReport {
            started_ms: clock_ms,
            seen_ms: clock_ms,
            watched_ms,
            observed_active: seen.clone(),
            ..super::super::sample()
        };
        let sums = |off_ms: [i64; 3]| {
            let [a, b, c] = off_ms.map(|off_ms| 1_769_767_200_000 + off_ms);
            observed(&[report(a, 600_000), report(b, 30_000), report(c, 0)], 1)
        };
        let right = sums([0, 0, 0]);
        assert_eq!((right.replicas, right.active.asked, right.watched_ms), (3, 30, 600_000));
        assert_eq!(sums([-7_200_000, 240_000, 86_400_000]), right);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn one_that_comes_moves_at_most_one_other(size in 1_u128..60, share in 0.01..0.99_f64) {
            let before = chosen_of("v2", share, &fleet(size));
            let mut after = chosen_of("v2", share, &fleet(size + 1));
            after.remove(&Uuid::from_u128(size));
            prop_assert!(before.symmetric_difference(&after).count() <= 1);
        }

        #[test]
        fn a_larger_share_keeps_who_was_chosen(size in 1_u128..60, small in 0.0..1.0_f64, more in 0.0..1.0_f64) {
            let fleet = fleet(size);
            let large = small + (1.0 - small) * more;
            prop_assert!(chosen_of("v2", small, &fleet).is_subset(&chosen_of("v2", large, &fleet)));
        }
    }
}
