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

/// Chance that a bundle exactly at a limit is taken back at the end of its watch. There is one such look: whatever it
/// says ends the step.
const DOUBT_AT_END: f64 = 0.05;
/// The same for each look before that. There is one every two seconds, 300 in a window of the default length, and only
/// what is clearly terrible should not wait for its end. All of them together leave less than 300 times as much.
const DOUBT_EARLY: f64 = 1e-5;
/// Before the end of its watch a bundle with fewer requests is left alone.
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

/// When a bundle is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It is looked at again.
    Early,
    /// It was watched for long enough. While too few requests were seen, the watch goes on.
    AtEnd,
}

/// Judges a watched bundle beside the active one.
pub fn judge(config: &RolloutConfig, watched: &Observed, active: &Observed, look: Look) -> Verdict {
    let lacks = match look {
        Look::Early => Some("nothing speaks against it so far".to_owned()),
        Look::AtEnd => lacks(config, watched, active),
    };
    let doubt = match &lacks {
        None => DOUBT_AT_END,
        Some(_) if watched.asked >= EARLY_SAMPLES_MIN => DOUBT_EARLY,
        Some(_) if look == Look::Early => {
            return Verdict::Wait(format!(
                "{} requests so far, too few to judge{}",
                watched.asked,
                dropped(watched)
            ));
        }
        Some(lacks) => return Verdict::Wait(lacks.clone()),
    };
    let broken = broken(&config.limits, watched, active, doubt);
    if !broken.is_empty() {
        return Verdict::TakeBack(broken.join("; "));
    }
    match lacks {
        Some(lacks) => Verdict::Wait(lacks),
        None => {
            let (scored, beside) = (watched.scored, active.scored);
            Verdict::GoOn(format!(
                "no limit was broken: {scored} scored requests beside {beside} of the active bundle"
            ))
        }
    }
}

/// Returns what is too little for a judgement, if anything is.
fn lacks(config: &RolloutConfig, watched: &Observed, active: &Observed) -> Option<String> {
    match (watched.asked, active.asked) {
        (0, 0) => return Some("no request asked a classifier: the window is extended".to_owned()),
        (asked, 0) => {
            return Some(format!(
                "all traffic is on the watched bundle ({asked} requests, none of the active one): nothing to compare \
                 with"
            ));
        }
        // A shadow that could not keep up had traffic.
        (0, asked) if watched.dropped == 0 => {
            return Some(format!(
                "no traffic is on the watched bundle ({asked} requests of the active one): nothing to compare"
            ));
        }
        (_, _) => {}
    }
    let most = config.samples_min;
    let sides = [(dropped(watched), watched.scored), (" of the active bundle".to_owned(), active.scored)];
    let few = sides.into_iter().find(|(_, scored)| *scored < most);
    few.map(|(whose, scored)| format!("{scored} of {most} scored requests{whose}: the window is extended"))
}

/// Says why a shadow has seen few requests, where that is because it could not keep up.
fn dropped(watched: &Observed) -> String {
    match watched.dropped {
        0 => String::new(),
        dropped => format!(" ({dropped} more did not fit into the shadow's queue)"),
    }
}

/// What a limit on the rise of a share makes of it where there is nothing to compare with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Alone {
    /// What happens at all counts as risen.
    Counts,
    Ignored,
}

/// Returns every limit that is broken, in words.
fn broken(limits: &RolloutLimits, watched: &Observed, active: &Observed, doubt: f64) -> Vec<String> {
    let z = deviate(doubt);
    let is_comparable = active.asked >= COMPARABLE_MIN;
    let risen = |(what, of, most, alone): (&str, fn(&Observed) -> Share, f64, Alone)| {
        let (now, before) = (of(watched), of(active));
        let is_broken = now.risen_at_least(before, z) > most
            || alone == Alone::Counts && !is_comparable && now.at_least(z) > most;
        is_broken.then(|| told(what, now.value(), before.value(), most))
    };
    let [failures, coverage, completions, feedback] = [
        (
            "the classifier failed on",
            (|seen| share(seen.failures(), seen.asked)) as fn(&Observed) -> Share,
            limits.error_rate_rise_max,
            Alone::Counts,
        ),
        (
            "no scores for",
            |seen| share(seen.unscored.total(), seen.asked),
            limits.coverage_fall_max,
            Alone::Counts,
        ),
        (
            "escalated or weak completions are",
            |seen| share(seen.escalated + seen.weak, seen.completions),
            limits.escalation_rise_max,
            Alone::Ignored,
        ),
        (
            "bad feedback is",
            |seen| Share::new(seen.bad, seen.good + seen.bad),
            limits.feedback_fall_max,
            Alone::Ignored,
        ),
    ]
    .map(risen);
    let slower = slower(limits.latency_ratio_max, watched, active, z);
    let shifted = shifted(limits.tier_shift_max, watched, active, doubt);
    [failures, coverage, slower, shifted, completions, feedback].into_iter().flatten().collect()
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
        "95 % of its prompts take the processor up to {now:.1} ms, {was:.1} ms with the active bundle; at most {ratio_max} \
         times as long is allowed"
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
    Some(told(&what, now.value(), before.value(), shift_max))
}

fn share(count: u64, of: u64) -> Share {
    Share::new(count as f64, of as f64)
}

fn told(what: &str, now: f64, before: f64, rise_max: f64) -> String {
    let (now, before, points) = (now * 100.0, before * 100.0, (rise_max * 1e4).round() / 1e2);
    format!(
        "{what} {now:.1} %, {before:.1} % with the active bundle; at most {points} points more are allowed"
    )
}

#[cfg(test)]
#[path = "judge_tests.rs"]
pub(super) mod tests;
