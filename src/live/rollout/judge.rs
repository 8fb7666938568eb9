//! How a watched bundle does beside the active one -> go on, wait or take it back. Pure.
//!
//! A limit counts as broken only where the figures leave no reasonable doubt that it is: the *least* rise that they
//! allow, by a one-sided bound (`statistics`), must be above the limit. Few samples have wide bounds, so that they
//! never flap; and since the limits leave room, a bundle that does as well as the active one passes far more often than
//! the error rate of one test says.

use std::collections::BTreeSet;

use super::{
    observed::Observed,
    statistics::{Share, deviate},
};
use crate::config::{RolloutConfig, RolloutLimits};

/// Chance that a bundle exactly at a limit is taken back at the end of its window. There is one such look for each step.
const DOUBT_AT_END: f64 = 0.05;
/// The same before the end. There is a look every few seconds, hundreds in a window, and only what is clearly terrible
/// should not wait for its end.
const DOUBT_EARLY: f64 = 1e-5;
/// Before the end of its window a bundle with fewer requests is left alone.
const EARLY_SAMPLES_MIN: u64 = 50;
/// With fewer requests of the active bundle there is nothing to compare with. Then one that never fails is the measure,
/// so that a broken canary that happens to get all requests is taken back too.
const COMPARABLE_MIN: u64 = 30;
/// The quantile of latencies that is compared.
const LATENCY_QUANTILE: f64 = 0.95;

/// What follows for a watched bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Too early, or too little was seen; the text says which.
    Wait(String),
    /// Nothing speaks against it.
    GoOn(String),
    /// It misbehaves; the text says how, with figures.
    TakeBack(String),
}

/// Judges a watched bundle beside the active one, which has been watched for `watched_ms`.
pub fn judge(config: &RolloutConfig, watched: &Observed, active: &Observed, watched_ms: i64) -> Verdict {
    let window_ms = i64::try_from(config.window.as_millis()).unwrap_or(i64::MAX);
    let is_over = watched_ms >= window_ms;
    let doubt = if is_over && watched.asked >= config.samples_min {
        DOUBT_AT_END
    } else if watched.asked >= EARLY_SAMPLES_MIN {
        DOUBT_EARLY
    } else {
        return Verdict::Wait(format!("{} requests so far, too few to judge", watched.asked));
    };
    let broken = broken(&config.limits, watched, active, doubt);
    if !broken.is_empty() {
        return Verdict::TakeBack(broken.join("; "));
    }
    if !is_over {
        let (so_far, of) = (watched_ms.max(0) / 1000, window_ms / 1000);
        return Verdict::Wait(format!("nothing speaks against it so far; watched for {so_far} s of {of} s"));
    }
    for (whose, scored) in [("", watched.scored), (" of the active bundle", active.scored)] {
        if scored < config.samples_min {
            let most = config.samples_min;
            return Verdict::Wait(format!(
                "{scored} of {most} scored requests{whose}: the window is extended"
            ));
        }
    }
    let (scored, beside) = (watched.scored, active.scored);
    Verdict::GoOn(format!(
        "no limit was broken: {scored} scored requests beside {beside} of the active bundle"
    ))
}

/// Returns every limit that is broken, in words.
fn broken(limits: &RolloutLimits, watched: &Observed, active: &Observed, doubt: f64) -> Vec<String> {
    let z = deviate(doubt);
    let failures = |seen: &Observed| share(seen.failures(), seen.asked);
    let unscored = |seen: &Observed| share(seen.unscored.total(), seen.asked);
    let escalated = |seen: &Observed| share(seen.escalated + seen.weak, seen.completions);
    let bad = |seen: &Observed| Share::new(seen.bad, seen.good + seen.bad);
    let is_comparable = active.asked >= COMPARABLE_MIN;
    let above = |of: fn(f64, f64) -> String, watched: Share, active: Share, most: f64| {
        (watched.risen_at_least(active, z) > most).then(|| of(watched.value(), active.value()))
    };
    // Without anything to compare with, what happens at all counts as risen.
    let above_or_alone = |of: fn(f64, f64) -> String, watched: Share, active: Share, most: f64| {
        let alone = !is_comparable && watched.at_least(z) > most;
        above(of, watched, active, most).or_else(|| alone.then(|| of(watched.value(), active.value())))
    };
    let found = [
        above_or_alone(
            |now, before| told("the classifier failed on", now, before),
            failures(watched),
            failures(active),
            limits.error_rate_rise_max,
        )
        .map(|told| told + &allowed(limits.error_rate_rise_max)),
        above_or_alone(
            |now, before| told("no scores for", now, before),
            unscored(watched),
            unscored(active),
            limits.coverage_fall_max,
        )
        .map(|told| told + &allowed(limits.coverage_fall_max)),
        slower(limits.latency_ratio_max, watched, active, z),
        shifted(limits.tier_shift_max, watched, active, doubt),
        above(
            |now, before| told("escalated or weak completions are", now, before),
            escalated(watched),
            escalated(active),
            limits.escalation_rise_max,
        )
        .map(|told| told + &allowed(limits.escalation_rise_max)),
        above(
            |now, before| told("bad feedback is", now, before),
            bad(watched),
            bad(active),
            limits.feedback_fall_max,
        )
        .map(|told| told + &allowed(limits.feedback_fall_max)),
    ];
    found.into_iter().flatten().collect()
}

/// Compares the share of prompts that took longer than the limit with the 5 % that may: no assumption about how
/// latencies are distributed is needed. The active bundle's own quantile is taken at its upper bound (normal
/// approximation of the order statistic's rank).
fn slower(ratio_max: f64, watched: &Observed, active: &Observed, z: f64) -> Option<String> {
    let (count, before) = (watched.latencies.count(), active.latencies.count());
    if before < COMPARABLE_MIN {
        return None;
    }
    let spread = (LATENCY_QUANTILE * (1.0 - LATENCY_QUANTILE) / before as f64).sqrt();
    let upper_us = active.latencies.quantile_us((LATENCY_QUANTILE + z * spread).min(1.0))?;
    let above = share(watched.latencies.above_us(ratio_max * upper_us), count);
    if above.at_least(z) <= 1.0 - LATENCY_QUANTILE {
        return None;
    }
    let ms = |seen: &Observed| seen.latencies.quantile_us(LATENCY_QUANTILE).unwrap_or(0.0) / 1e3;
    let (now, was) = (ms(watched), ms(active));
    Some(format!(
        "95 % of its prompts take up to {now:.1} ms, {was:.1} ms with the active bundle; at most {ratio_max} times as \
         long is allowed"
    ))
}

/// Compares the shares of tiers. Their total variation distance is the largest difference that any set of tiers has
/// (Levin, Peres and Wilmer 2009, proposition 4.2), so the set with the largest one is tested, and the doubt is divided
/// by the number of sets that it was chosen from (Bonferroni).
fn shifted(shift_max: f64, watched: &Observed, active: &Observed, doubt: f64) -> Option<String> {
    let names: BTreeSet<&String> = watched.tiers.keys().chain(active.tiers.keys()).collect();
    if names.len() < 2 || watched.tiers.is_empty() || active.tiers.is_empty() {
        return None;
    }
    let total = |seen: &Observed| seen.tiers.values().sum::<u64>();
    let (now_of, before_of) = (total(watched), total(active));
    let count = |seen: &Observed, name: &String| seen.tiers.get(name).copied().unwrap_or(0);
    let grown = |name: &&&String| {
        let now = share(count(watched, name), now_of).value();
        now > share(count(active, name), before_of).value()
    };
    let grown: Vec<&String> = names.iter().filter(grown).copied().collect();
    let sum = |seen: &Observed| grown.iter().map(|name| count(seen, name)).sum::<u64>();
    let (now, before) = (share(sum(watched), now_of), share(sum(active), before_of));
    let sets = 2_f64.powi(i32::try_from(names.len()).unwrap_or(i32::MAX)) - 2.0;
    if now.risen_at_least(before, deviate(doubt / sets)) <= shift_max {
        return None;
    }
    let grown: Vec<&str> = grown.iter().map(|name| name.as_str()).collect();
    let what = format!("tier {} gets", grown.join(" or "));
    Some(told(&what, now.value(), before.value()) + &allowed(shift_max))
}

fn share(count: u64, of: u64) -> Share {
    Share::new(count as f64, of as f64)
}

fn told(what: &str, now: f64, before: f64) -> String {
    format!("{what} {:.1} %, {:.1} % with the active bundle", now * 100.0, before * 100.0)
}

fn allowed(rise_max: f64) -> String {
    let points = (rise_max * 1e4).round() / 1e2;
    format!("; at most {points} points more are allowed")
}

#[cfg(test)]
#[path = "judge_tests.rs"]
pub(super) mod tests;
