//! One side by itself, the log or a setting: where its requests go, what that costs, how good it is believed to be.

use std::{cmp::Reverse, collections::HashMap, sync::Arc};

use serde::Serialize;

use super::{Before, Choice};

/// One side by itself. Shares are of all requests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Side {
    /// Weakest first; also those that nothing went to.
    pub tiers: Vec<Share>,
    /// Most used first.
    pub targets: Vec<Share>,
    /// Expected, US dollars.
    pub cost_usd_per_1000: f64,
    /// Share of the top tier's expected cost; `None` where that is nothing.
    pub saved_against_top: Option<f64>,
    /// Mean probability that the chosen tier is enough, by this side's own scores: the classifier's belief, over the
    /// requests that it scored.
    pub predicted_quality: Option<f64>,
    /// Share that the classifier scored.
    pub scored: f64,
    pub low_confidence: f64,
    /// `None` where no time was taken.
    pub deciding_us: Option<Percentiles>,
}

/// How much goes one way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    pub name: Arc<str>,
    pub requests: usize,
    /// 0 to 1.
    pub share: f64,
}

/// The usual percentiles, nearest rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    pub p50: u64,
    pub p95: u64,
    pub p99: u64,
}

impl Side {
    /// Returns the figures of choices, each with the tiers that its sufficiencies are of; `order` names every tier.
    pub fn of(choices: &[(&Choice, &[Arc<str>])], order: &[Arc<str>]) -> Self {
        let all = choices.len().max(1) as f64;
        let share = |is: &dyn Fn(&Choice) -> bool| {
            choices.iter().filter(|(choice, _)| is(choice)).count() as f64 / all
        };
        let count = |is: &dyn Fn(&Choice) -> bool| choices.iter().filter(|(choice, _)| is(choice)).count();
        let cost: f64 = choices.iter().map(|(choice, _)| choice.cost_usd).sum();
        let top: f64 = choices.iter().map(|(choice, _)| choice.baseline_usd).sum();
        let believed: Vec<f64> = choices
            .iter()
            .filter_map(|(choice, tiers)| sufficiency_of(choice, tiers, &choice.tier))
            .collect();
        let mut targets: HashMap<&Arc<str>, usize> = HashMap::new();
        for (choice, _) in choices {
            *targets.entry(&choice.target).or_default() += 1;
        }
        let part = |name: &Arc<str>, requests: usize| Share {
            name: Arc::clone(name),
            requests,
            share: requests as f64 / all,
        };
        let mut targets: Vec<Share> =
            targets.into_iter().map(|(name, requests)| part(name, requests)).collect();
        targets.sort_by_key(|share| (Reverse(share.requests), Arc::clone(&share.name)));
        Self {
            tiers: order.iter().map(|name| part(name, count(&|choice| choice.tier == *name))).collect(),
            targets,
            cost_usd_per_1000: cost / all * 1000.0,
            saved_against_top: (top > 0.0).then(|| 1.0 - cost / top),
            predicted_quality: mean(&believed),
            scored: share(&|choice| choice.sufficiency.is_some()),
            low_confidence: share(&|choice| choice.low_confidence),
            deciding_us: percentiles(choices.iter().filter_map(|(choice, _)| choice.deciding_us).collect()),
        }
    }
}

/// Returns a choice's probability that `tier` is enough, `None` where it has no such tier or no scores.
pub fn sufficiency_of(choice: &Choice, tiers: &[Arc<str>], tier: &Arc<str>) -> Option<f64> {
    let place = tiers.iter().position(|name| name == tier)?;
    choice.sufficiency.as_ref()?.get(place).copied()
}

/// Returns the settings' tiers, then those that only the log knows, in its order.
pub fn order(tiers: &[Arc<str>], before: &[Before]) -> Vec<Arc<str>> {
    let mut order = tiers.to_vec();
    // The tier first: a log may be without its list of tiers.
    for name in before.iter().flat_map(|before| before.tiers.iter().chain([&before.choice.tier])) {
        if !order.contains(name) {
            order.push(Arc::clone(name));
        }
    }
    let used = |name: &Arc<str>| before.iter().any(|before| before.choice.tier == *name);
    order.retain(|name| tiers.contains(name) || used(name));
    order
}

/// Returns the mean, `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn percentiles(mut times: Vec<u64>) -> Option<Percentiles> {
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    Some(Percentiles { p50: at(50)?, p95: at(95)?, p99: at(99)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let check = |times: Vec<u64>, expected: Option<(u64, u64, u64)>| {
            let got = percentiles(times).map(|got| (got.p50, got.p95, got.p99));
            assert_eq!(got, expected);
        };
        check(vec![], None);
        check(vec![7], Some((7, 7, 7)));
        check((1..=100).rev().collect(), Some((50, 95, 99)));
        check(vec![3, 1, 2], Some((2, 3, 3)));
    }
}
