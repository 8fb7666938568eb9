//! Figures -> rows of text, the same for a terminal and for the report.

use std::{collections::BTreeSet, sync::Arc};

use super::{Change, Side, WhatIf};
use crate::evaluation::{
    bootstrap::Interval,
    off_policy::{Estimate, Estimated, Method, OffPolicy},
};

/// What stands where there is no figure.
const NONE: &str = "\u{2013}";
/// What follows an estimate that a caution stands against.
pub const CAUTIONED: &str = " (!)";
/// Targets with a row of their own, the most used ones; beyond that nobody reads them.
const TARGETS_MAX: usize = 20;

/// One figure of the log and of every setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub label: String,
    pub logged: String,
    /// One for each setting, in their order.
    pub settings: Vec<String>,
}

/// Returns the summary.
pub fn summary(what_if: &WhatIf) -> Vec<Row> {
    let mut rows = Vec::new();
    let row = |label: &str, logged: String, of: &dyn Fn(&Change) -> String| Row {
        label: label.to_owned(),
        logged,
        settings: what_if.settings.iter().map(of).collect(),
    };
    let both = |label: &str, of: &dyn Fn(&Side) -> String| {
        row(label, of(&what_if.logged), &|change| of(&change.side))
    };
    let only = |label: &str, of: &dyn Fn(&Change) -> String| row(label, NONE.to_owned(), of);

    rows.push(both("US dollars for 1,000 requests", &|side| dollars(side.cost_usd_per_1000)));
    rows.push(both("saved against the top tier", &|side| percent(side.saved_against_top)));
    rows.push(only("saved against the log", &|change| percent(change.saved_against_log)));
    rows.push(both("predicted quality", &|side| number(side.predicted_quality)));
    rows.push(only("  of the log's tiers, same scores", &|change| number(change.quality_of_logged)));
    rows.push(only("same tier as logged", &|change| percent(Some(change.same_tier))));
    rows.push(only("same target as logged", &|change| percent(Some(change.same_target))));
    rows.push(only("to a stronger tier", &|change| percent(Some(change.stronger))));
    rows.push(only("to a weaker tier", &|change| percent(Some(change.weaker))));
    if what_if.settings.iter().any(|change| change.unplaced > 0.0) {
        rows.push(only("logged tier is unknown", &|change| percent(Some(change.unplaced))));
    }
    let estimated = |change: &Change| change.off_policy.estimates.iter().any(is_doubly_robust);
    if what_if.settings.iter().any(estimated) {
        rows.push(only("mean reward, doubly robust", &|change| robust(change, |one| estimate(one.of_other))));
        rows.push(only("  beyond what was logged", &|change| robust(change, |one| difference(one.lead))));
    }
    rows.push(both("scored by the classifier", &|side| percent(Some(side.scored))));
    rows.push(both("low confidence", &|side| percent(Some(side.low_confidence))));
    rows.push(both("time to decide, p50 / p95 / p99", &|side| {
        side.deciding_us.map_or_else(
            || NONE.to_owned(),
            |times| [times.p50, times.p95, times.p99].map(microseconds).join(" / "),
        )
    }));
    for tier in &what_if.logged.tiers {
        rows.push(both(&format!("tier {}", tier.name), &|side| share(&side.tiers, &tier.name)));
    }
    for target in targets(what_if) {
        rows.push(both(&format!("target {target}"), &|side| share(&side.targets, &target)));
    }
    rows
}

fn is_doubly_robust(estimated: &Estimated) -> bool {
    estimated.method == Method::DoublyRobust
}

/// Shows the doubly robust estimate, marked where something stands against it.
fn robust(change: &Change, shown: impl Fn(&Estimated) -> String) -> String {
    let OffPolicy { estimates, cautions, .. } = &change.off_policy;
    let mark = if cautions.is_empty() { "" } else { CAUTIONED };
    let found = estimates.iter().find(|estimated| is_doubly_robust(estimated));
    found.map_or_else(|| NONE.to_owned(), |estimated| shown(estimated) + mark)
}

/// Returns the targets that get most on any side, most used first.
fn targets(what_if: &WhatIf) -> Vec<Arc<str>> {
    let sides = || std::iter::once(&what_if.logged).chain(what_if.settings.iter().map(|change| &change.side));
    let names: BTreeSet<&Arc<str>> =
        sides().flat_map(|side| &side.targets).map(|target| &target.name).collect();
    let most = |name: &Arc<str>| {
        let of = |side: &Side| {
            side.targets.iter().find(|target| target.name == *name).map_or(0, |target| target.requests)
        };
        sides().map(of).max().unwrap_or(0)
    };
    let mut names: Vec<Arc<str>> = names.into_iter().cloned().collect();
    names.sort_by_key(|name| std::cmp::Reverse(most(name)));
    names.truncate(TARGETS_MAX);
    names
}

fn share(shares: &[super::Share], name: &Arc<str>) -> String {
    percent(Some(shares.iter().find(|share| share.name == *name).map_or(0.0, |share| share.share)))
}

/// Returns an estimate with its interval.
pub fn estimate(estimate: Estimate) -> String {
    with_interval(estimate, |value| format!("{value:.3}"))
}

/// Returns a difference with its interval; its sign always stands there.
pub fn difference(estimate: Estimate) -> String {
    with_interval(estimate, |value| format!("{value:+.3}"))
}

fn with_interval(estimate: Estimate, shown: impl Fn(f64) -> String) -> String {
    let value = shown(estimate.value);
    match estimate.interval {
        Some(Interval { low, high }) => format!("{value} [{}, {}]", shown(low), shown(high)),
        None => value,
    }
}

fn dollars(value: f64) -> String {
    if value.abs() < 0.1 { format!("{value:.4}") } else { format!("{value:.2}") }
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| NONE.to_owned(), |share| format!("{:.1} %", share * 100.0))
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| format!("{value:.3}"))
}

fn microseconds(us: u64) -> String {
    if us < 1000 { format!("{us} µs") } else { format!("{:.1} ms", us as f64 / 1000.0) }
}
