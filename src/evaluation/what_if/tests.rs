use super::*;
use crate::evaluation::off_policy::{Caution, WEIGHT_MAX};

const TIERS: [&str; 3] = ["small", "mid", "big"];

fn tiers(names: &[&str]) -> Vec<Arc<str>> {
    names.iter().map(|&name| Arc::from(name)).collect()
}

/// A choice of a tier and its only target: 1, 4 or 10 dollars.
fn choice(tier: &str, sufficiency: Option<[f64; 3]>) -> Choice {
    let cost = TIERS.iter().position(|name| *name == tier).map_or(2.0, |at| [1.0, 4.0, 10.0][at]);
    Choice {
        tier: Arc::from(tier),
        target: Arc::from(format!("{tier}-1")),
        sufficiency: sufficiency.map(Vec::from),
        cost_usd: cost,
        baseline_usd: 10.0,
        low_confidence: tier == "mid",
        deciding_us: Some(100),
    }
}

pub fn before(number: u128, tier: &str, scores: Option<[f64; 3]>) -> Before {
    Before {
        id: Uuid::from_u128(number),
        choice: choice(tier, scores),
        tiers: tiers(&TIERS),
        session: None,
        propensity: 1.0,
        explored: false,
        reward: None,
        excerpt: Some("hello".to_owned()),
    }
}

pub fn after(tier: &str, scores: Option<[f64; 3]>) -> After {
    let reason = "because".to_owned();
    After {
        choice: choice(tier, scores),
        intent: None,
        propensity: 1.0,
        tier_costs_usd: vec![1.0, 4.0, 10.0],
        reason,
    }
}

fn setting(after: Vec<After>) -> Setting {
    Setting { name: "new".to_owned(), quality: 0.5, after }
}

const SCORES: Option<[f64; 3]> = Some([0.2, 0.7, 1.0]);
const EASY: Option<[f64; 3]> = Some([0.9, 0.95, 1.0]);

fn what_if() -> WhatIf {
    let logged = [
        before(1, "small", EASY),
        before(2, "big", SCORES),
        before(3, "mid", SCORES),
        before(4, "old", None),
    ];
    let new = vec![after("small", EASY), after("mid", SCORES), after("big", SCORES), after("small", None)];
    compare(&logged, &[setting(new)], &tiers(&TIERS), WEIGHT_MAX)
}

/// Two settings with everything that a report shows; texts of requests are `excerpt`.
pub fn example(excerpt: &str) -> WhatIf {
    let logged: Vec<Before> = (0..40)
        .map(|at| Before {
            reward: Some(f64::from(u8::from(at % 3 > 0))),
            propensity: if at % 2 == 0 { 0.5 } else { 1.0 },
            excerpt: Some(excerpt.to_owned()),
            ..before(at, TIERS[at as usize % 3], SCORES)
        })
        .collect();
    let settings = [0.5, 0.8].map(|quality| Setting {
        name: format!("quality {quality}"),
        quality,
        after: vec![after(if quality > 0.7 { "big" } else { "mid" }, SCORES); 40],
    });
    compare(&logged, &settings, &tiers(&TIERS), WEIGHT_MAX)
}

fn near(value: Option<f64>, expected: f64) {
    assert!(value.is_some_and(|value| (value - expected).abs() < 1e-9), "{value:?} is not {expected}");
}

#[test]
fn tiers_are_compared_by_name() {
    let what_if = what_if();
    let change = &what_if.settings[0];
    assert_eq!([change.same_tier, change.stronger, change.weaker, change.unplaced], [0.25; 4]);
    let shares = |side: &Side| side.tiers.iter().map(|tier| tier.requests).collect::<Vec<_>>();
    // The log has a tier that the setting does not know.
    assert_eq!(shares(&what_if.logged), [1, 1, 1, 1]);
    assert_eq!(shares(&change.side), [2, 1, 1]);
    assert_eq!(change.confusion.logged, tiers(&["small", "mid", "big", "old"]));
    assert_eq!(change.confusion.counts, [[1, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]]);
}

#[test]
fn cost_is_compared_with_the_log_and_with_the_top_tier() {
    let what_if = what_if();
    // 1 + 10 + 4 + 2 were expected then, 1 + 4 + 10 + 1 are now, 40 of the top tier.
    let change = &what_if.settings[0];
    assert_eq!(what_if.logged.cost_usd_per_1000, 4250.0);
    assert_eq!(change.side.cost_usd_per_1000, 4000.0);
    near(change.saved_against_log, 1.0 - 16.0 / 17.0);
    near(what_if.logged.saved_against_top, 1.0 - 17.0 / 40.0);
    near(change.side.saved_against_top, 0.6);
}

#[test]
fn quality_is_predicted_over_what_was_scored() {
    let what_if = what_if();
    let change = &what_if.settings[0];
    near(change.side.predicted_quality, (0.9 + 0.7 + 1.0) / 3.0);
    near(change.quality_of_logged, (0.9 + 1.0 + 0.7) / 3.0);
    near(what_if.logged.predicted_quality, (0.9 + 1.0 + 0.7) / 3.0);
    assert_eq!(change.side.scored, 0.75);
    let points: Vec<(f64, f64)> =
        what_if.single_tiers.iter().map(|single| (single.point.cost_usd, single.point.score)).collect();
    near(Some(points[0].1), (0.9 + 0.2 + 0.2) / 3.0);
    assert_eq!(points[2], (10.0, 1.0));
}

#[test]
fn examples_are_those_that_change_most() {
    let logged: Vec<Before> =
        (0..40).map(|at| before(at, if at < 20 { "small" } else { "big" }, None)).collect();
    let new = (0..40).map(|at| after(if at % 20 < 15 { "mid" } else { "big" }, None)).collect();
    let moved = compare(&logged, &[setting(new)], &tiers(&TIERS), WEIGHT_MAX).settings.remove(0).moved;
    let ids: Vec<u128> = moved.iter().map(|moved| moved.decision_id.as_u128()).collect();
    // Up by 9 dollars, then up by 3, in order; and ten of those that go down.
    assert_eq!(ids, [15, 16, 17, 18, 19, 0, 1, 2, 3, 4, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29]);
    assert_eq!(moved[0].cost_change_usd, 9.0);
    assert_eq!(serde_json::to_value(&moved[0]).unwrap().get("excerpt"), None, "no text in the figures");
}

#[test]
fn rewards_and_the_logged_scores_reach_the_estimators() {
    let rewarded = |number, tier, reward| Before {
        reward: Some(reward),
        propensity: 0.5,
        ..before(number, tier, SCORES)
    };
    let logged = [rewarded(1, "small", 1.0), rewarded(2, "mid", 0.0), before(3, "mid", SCORES)];
    let new = vec![after("mid", EASY), after("mid", EASY), after("mid", EASY)];
    let off_policy =
        compare(&logged, &[setting(new)], &tiers(&TIERS), WEIGHT_MAX).settings.remove(0).off_policy;
    assert_eq!((off_policy.rewarded, off_policy.informative), (2, 1));
    let value = |at: usize| off_policy.estimates[at].of_other.value;
    // Doubly robust: 0.7 of the log's scores, and 0.7 - 2 * 0.7; the model alone 0.7.
    near(Some(value(2)), 0.0);
    near(Some(value(3)), 0.7);
    assert!(matches!(off_policy.cautions[..], [Caution::FewEffective { .. }]));
}

#[test]
fn unscored_requests_are_expected_to_do_as_usual() {
    let logged = [Before { reward: Some(0.25), ..before(1, "old", None) }];
    let trials = trials::trials(&logged, &[after("big", None)], &tiers(&TIERS));
    assert_eq!((trials[0].expected_logged, trials[0].expected_other), (0.25, 0.25));
    let trials = trials::trials(&logged, &[after("mid", SCORES)], &tiers(&TIERS));
    assert_eq!((trials[0].expected_logged, trials[0].expected_other), (0.25, 0.7));
}

#[test]
fn every_row_has_a_figure_for_every_setting() {
    let what_if = what_if();
    let rows = table::summary(&what_if);
    assert!(rows.iter().all(|row| row.settings.len() == 1 && !row.settings[0].is_empty()));
    let find = |label: &str| rows.iter().find(|row| row.label == label).unwrap();
    assert_eq!(find("tier old").settings, ["0.0 %"]);
    assert_eq!(find("saved against the top tier").logged, "57.5 %");
    assert_eq!(find("US dollars for 1,000 requests").settings, ["4000.00"]);
    assert_eq!(find("time to decide, p50 / p95 / p99").logged, "100 µs / 100 µs / 100 µs");
    assert!(find("target small-1").logged == "25.0 %");
}
