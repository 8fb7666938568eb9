//! How far the mix of intents moved from what it was. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

/// Up to here a mix counts as the same: the mark that is usual with the index (N. Siddiqi, *Credit Risk Scorecards*,
/// Wiley 2006).
const STABLE_BELOW: f64 = 0.1;
/// From here it counts as another, by the same source.
const DRIFTED_FROM: f64 = 0.25;
/// More than this by chance alone, and the marks say nothing.
const CHANCE_MAX: f64 = STABLE_BELOW / 2.0;
/// Added to every count, so that an intent that is new or gone has a finite part.
const PRIOR: f64 = 0.5;

/// How the mix of intents compares with that of an earlier time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drift {
    /// Requests with an intent, before and now.
    pub before: u64,
    pub now: u64,
    /// Population stability index; `None` where one of both has no request.
    pub index: Option<f64>,
    /// What the index would be on average had nothing changed.
    pub by_chance: Option<f64>,
    pub verdict: Verdict,
    /// What moved most comes first.
    pub intents: Vec<Moved>,
}

/// What the index means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Below 0.1.
    Stable,
    /// From 0.1 on.
    Shifted,
    /// From 0.25 on.
    Drifted,
    /// So few requests that chance alone could look like a shift.
    TooFew,
}

/// One intent's share, before and now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Moved {
    pub intent: String,
    pub before_share: f64,
    pub now_share: f64,
    /// What it adds to the index.
    pub part: f64,
}

impl Drift {
    /// Compares counts by intent. The index is the sum over intents of (now - before) * ln(now / before), of shares.
    pub fn between(before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>) -> Self {
        let (all_before, all_now) = (before.values().sum::<u64>(), now.values().sum::<u64>());
        let names: Vec<&String> =
            before.keys().chain(now.keys().filter(|name| !before.contains_key(*name))).collect();
        let kinds = names.len() as f64;
        let share = |counts: &BTreeMap<String, u64>, all: u64, name: &String| {
            (counts.get(name).copied().unwrap_or_default() as f64 + PRIOR) / (all as f64 + PRIOR * kinds)
        };
        let mut intents: Vec<Moved> = names
            .into_iter()
            .map(|name| {
                let (before_share, now_share) = (share(before, all_before, name), share(now, all_now, name));
                let part = (now_share - before_share) * (now_share / before_share).ln();
                Moved { intent: name.clone(), before_share, now_share, part }
            })
            .collect();
        intents.sort_by(|one, other| other.part.total_cmp(&one.part));
        let known = all_before > 0 && all_now > 0;
        let index = known.then(|| intents.iter().map(|moved| moved.part).sum());
        let by_chance = known.then(|| by_chance(kinds, all_before, all_now));
        let verdict = match (index, by_chance) {
            (Some(index), Some(chance)) if chance <= CHANCE_MAX => judged(index),
            _ => Verdict::TooFew,
        };
        Self { before: all_before, now: all_now, index, by_chance, verdict, intents }
    }
}

/// Mean of the index where nothing changed: times its sample size it is chi-square with one degree of freedom less
/// than there are kinds (B. Yurdakul and J. Naranjo, "Statistical properties of the population stability index",
/// *Journal of Risk Model Validation* 14(4), 2020).
fn by_chance(kinds: f64, before: u64, now: u64) -> f64 {
    // One intent alone says nothing either until it had the chance to be two.
    (kinds.max(2.0) - 1.0) * (1.0 / before as f64 + 1.0 / now as f64)
}

fn judged(index: f64) -> Verdict {
    if index < STABLE_BELOW {
        Verdict::Stable
    } else if index < DRIFTED_FROM {
        Verdict::Shifted
    } else {
        Verdict::Drifted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
        of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    fn check(before: &[(&str, u64)], now: &[(&str, u64)], verdict: Verdict, index: Option<f64>) {
        let drift = Drift::between(&counts(before), &counts(now));
        assert_eq!(drift.verdict, verdict, "{drift:?}");
        match (drift.index, index) {
            (Some(found), Some(expected)) => assert!((found - expected).abs() < 1e-3, "{drift:?}"),
            (found, expected) => assert_eq!(found, expected),
        }
    }

    #[test]
    fn marks_part_the_same_from_another() {
        let before = [("code", 5_000), ("chat", 5_000)];
        check(&before, &[("code", 5_000), ("chat", 5_000)], Verdict::Stable, Some(0.0));
        // 0.1 * ln(1.2) - 0.1 * ln(0.8), then the same with 0.2 and 0.3.
        check(&before, &[("code", 6_000), ("chat", 4_000)], Verdict::Stable, Some(0.0405));
        check(&before, &[("code", 7_000), ("chat", 3_000)], Verdict::Shifted, Some(0.1694));
        check(&before, &[("code", 8_000), ("chat", 2_000)], Verdict::Drifted, Some(0.4158));
    }

    #[test]
    fn few_requests_are_no_drift() {
        check(&[("code", 5), ("chat", 5)], &[("code", 8), ("chat", 2)], Verdict::TooFew, Some(0.3338));
        check(&[], &[("code", 8)], Verdict::TooFew, None);
        check(&[("code", 8)], &[], Verdict::TooFew, None);
        check(&[], &[], Verdict::TooFew, None);
    }

    #[test]
    fn what_is_new_or_gone_has_a_finite_part_and_comes_first() {
        let drift = Drift::between(
            &counts(&[("gone", 900), ("same", 1_000)]),
            &counts(&[("new", 1_200), ("same", 1_100)]),
        );
        assert!(drift.index.unwrap().is_finite());
        assert_eq!(drift.intents[2].intent, "same");
        let sum: f64 = drift.intents.iter().map(|moved| moved.now_share).sum();
        assert!((sum - 1.0).abs() < 1e-9);
    }
}
