//! What was learned about targets, and trying them.

use proptest::prelude::*;

use super::{properties::any_case, *};
use crate::{
    config::ExploreConfig,
    routing::{learning::Estimate, policy::explore::Picker},
};

/// Targets in the order of the configuration.
const IDS: [&str; 6] = ["s1", "s2", "m1", "c1", "c2", "r1"];

fn learned(offsets: &[(&str, f64)]) -> Vec<Option<f64>> {
    IDS.map(|id| offsets.iter().find(|(target, _)| *target == id).map(|&(_, offset)| offset)).to_vec()
}

/// Checks who answers, at 0.2, 0.6, 0.9 and 1 for the tiers, and a part of the reason.
#[track_caller]
fn check(case: &Case, offsets: &[(&str, f64)], expected: &str, because: &str) {
    let case = Case { offsets: learned(offsets), ..case.clone() };
    assert_eq!(case.target(), expected, "{}", case.reason());
    assert!(case.reason().contains(because), "{}", case.reason());
}

#[test]
fn offsets_move_requests_between_targets_and_tiers() {
    let case = Case::new();
    check(&case, &[], "m1", "moderate is the weakest tier that is enough with at least 50 % (60 %)");
    check(&case, &[("m1", -1.0)], "c1", "(90 %); without what was learned it would be moderate");
    check(&case, &[("s2", 2.0)], "s2", "without what was learned it would be moderate");
    check(&case, &[("m1", -1.0), ("c1", -3.0)], "c2", "what was learned speaks against c1");
    check(&case, &[("m1", -3.0), ("c1", -3.0), ("c2", -3.0)], "r1", "without what was learned");
    check(&case, &[("m1", 0.1)], "m1", "(62 %), so m1");
}

#[test]
fn where_nothing_is_enough_the_nearest_answers() {
    let offsets = [("s1", -3.0), ("s2", -3.0), ("m1", -1.0), ("c1", -3.0), ("c2", -3.0), ("r1", -5.0)];
    check(&Case::new(), &offsets, "m1", "no tier is enough with at least 50 %, and moderate comes nearest");
    // Unsure as it is, it does not step up to what is known to be worse.
    let case = Case { offsets: learned(&offsets), ..Case::new() };
    assert!(case.decide().unwrap().low_confidence);
    // Within a tier too: the nearest stands for it.
    let offsets = [("s1", -3.0), ("s2", -3.0), ("m1", -3.0), ("c1", -3.5), ("c2", -2.5), ("r1", -5.0)];
    check(&Case::new(), &offsets, "c2", "complex comes nearest (42 %); without what was learned");
}

#[test]
fn a_session_leaves_a_target_that_does_not_do() {
    let mut case = Case::new();
    case.scores = Some(scores([0.2, 0.3, 0.9], false));
    case.last = Some(Last { target: TargetIndex(4), prompt_tokens: 1000 });
    check(&case, &[], "c2", "the session stays with c2");
    check(&case, &[("c2", -1.0)], "c2", "the session stays with c2");
    check(&case, &[("c2", -3.0)], "c1", "what was learned speaks against c2");
}

#[test]
fn what_a_rule_names_stays() {
    let mut case = Case::new();
    let s2 = case.config.target_named("s2");
    case.rule_fixes(Fixes { tier: None, target: s2, intent: None });
    check(&case, &[("s2", -3.0), ("s1", 3.0)], "s2", "rule r matched");
}

#[test]
fn value_counts_what_was_learned() {
    let mut case = Case::new();
    case.config = config("[policy]\nobjective = \"value\"\nvalue_usd = 0.01");
    case.scores = Some(scores([0.5, 0.9, 0.95], false));
    check(&case, &[], "m1", "worth most");
    check(&case, &[("m1", -2.0)], "c1", "without what was learned it would be moderate");
}

fn exploration(known: &[Option<Estimate>], seed: u64) -> Exploration<'_> {
    Exploration {
        config: ExploreConfig { rate: 0.5, quality_min: 0.0 },
        prior: Estimate { mean: 0.0, sd: 1.0 },
        known,
        seed,
    }
}

#[test]
fn propensities_are_the_chances_of_what_is_chosen() {
    check_propensities(|_| Case::new(), &[0, 2, 3]);
}

/// A case whose tier simple draws s1 three times as often as s2, with a seed of its order.
fn drawn(seed: u64) -> Case {
    let mut case = Case { seed, ..Case::new() };
    case.scores = Some(scores([0.6, 0.7, 0.9], false));
    case.config.tiers[0].order = Order::Weight;
    case.config.targets[0].weight = 3.0;
    case
}

#[test]
fn a_drawn_order_has_its_chance() {
    for seed in (0..200).map(mix) {
        let chance = |case: &Case| {
            let choice = case.decide().unwrap();
            (case.config.target(choice.targets[0]).id.to_string(), choice.order_chance)
        };
        let case = drawn(seed);
        let (target, of_order) = chance(&case);
        assert_eq!(of_order, if target == "s1" { 0.75 } else { 0.25 });
        // Whom the session had last, who alone is open, who alone does: none of them is drawn.
        let session = Case { last: Some(Last { target: TargetIndex(1), prompt_tokens: 10 }), ..case.clone() };
        assert_eq!(chance(&session), ("s2".to_owned(), 1.0));
        let alone = Case { refusing: vec![TargetIndex(0)], ..case.clone() };
        assert_eq!(chance(&alone), ("s2".to_owned(), 1.0));
        let known = Case { offsets: learned(&[("s1", -2.0)]), ..case.clone() };
        assert_eq!(chance(&known), ("s2".to_owned(), 1.0));
        let mut named = case;
        let s2 = named.config.target_named("s2");
        named.rule_fixes(Fixes { tier: None, target: s2, intent: None });
        assert_eq!(chance(&named), ("s2".to_owned(), 1.0));
    }
}

/// Checks that inverse propensities give each of these targets the whole weight.
#[track_caller]
fn check_propensities(case: impl Fn(u64) -> Case, targets: &[usize]) {
    const REQUESTS: u64 = 4000;
    let mut weights = std::collections::BTreeMap::new();
    for seed in 0..REQUESTS {
        let case = case(mix(seed));
        let best = case.decide().unwrap();
        let (trial, propensity) = case.ask(|question| explore(question, &best, &exploration(&[], seed)));
        assert!(propensity > 0.0 && propensity <= 1.0);
        let target = trial.map_or(best.targets[0], |trial| trial.target);
        *weights.entry(target.0).or_insert(0.0) += 1.0 / propensity;
    }
    for target in targets {
        let weight = weights[target] / REQUESTS as f64;
        assert!((weight - 1.0).abs() < 0.2, "{target}: {weight}");
    }
}

#[test]
fn propensities_of_drawn_orders_are_over_all_orders() {
    check_propensities(drawn, &[0, 1, 2]);
}

#[test]
fn propensities_are_of_targets_and_not_of_tiers() {
    // m1 answers for simple too: by whichever tier it is chosen, it is the same answer.
    let both = |_| {
        let mut case = Case::new();
        case.config.tiers[0].targets = vec![TargetIndex(2)];
        case
    };
    check_propensities(both, &[2, 3]);
}

#[test]
fn below_the_floor_nothing_is_tried() {
    let case = Case::new();
    let best = case.decide().unwrap();
    for seed in 0..2000 {
        let exploration =
            Exploration { config: ExploreConfig { rate: 1.0, quality_min: 0.4 }, ..exploration(&[], seed) };
        let (trial, _) = case.ask(|question| explore(question, &best, &exploration));
        assert!(trial.is_none_or(|trial| trial.tier > Tier(0)), "simple is believed to be at 0.2: {trial:?}");
    }
}

#[test]
fn a_conversation_is_left_alone() {
    let mut case = Case::new();
    case.last = Some(Last { target: TargetIndex(2), prompt_tokens: 10 });
    let best = case.decide().unwrap();
    for seed in 0..200 {
        assert_eq!(case.ask(|question| explore(question, &best, &exploration(&[], seed))), (None, 1.0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn nothing_learned_changes_nothing(case in any_case()) {
        let none = Case { offsets: vec![None; IDS.len()], ..case.clone() };
        prop_assert_eq!(case.decide(), none.decide());
        let Ok(choice) = case.decide() else { return Ok(()) };
        let base: Vec<f64> = case.scores.iter().flat_map(|scores| scores.sufficiency.clone()).collect();
        prop_assert_eq!(choice.sufficiency, base);
        prop_assert!(!choice.reason.contains("learned"));
    }

    #[test]
    fn offsets_open_and_close_nothing(
        case in any_case(), offsets in proptest::collection::vec(proptest::option::of(-5.0_f64..5.0), 6),
    ) {
        let learned = Case { offsets, ..case.clone() };
        match (case.decide(), learned.decide()) {
            (Ok(before), Ok(after)) => {
                prop_assert_eq!(before.by_scores, after.by_scores);
                if !before.by_scores {
                    prop_assert_eq!(before.tier, after.tier);
                }
                let tier = case.config.tier(after.tier);
                prop_assert!(after.targets.iter().all(|target| tier.targets.contains(target)));
                prop_assert!(after.sufficiency.iter().all(|enough| (0.0..=1.0).contains(enough)));
            }
            (before, after) => prop_assert_eq!(before.is_err(), after.is_err()),
        }
    }

    #[test]
    fn a_draw_is_decided_as_the_policy_would(
        case in any_case(), offsets in proptest::collection::vec(proptest::option::of(-5.0_f64..5.0), 6),
    ) {
        let case = Case { offsets, ..case };
        let Ok(choice) = case.decide() else { return Ok(()) };
        if !choice.by_scores { return Ok(()) }
        let picked = case.ask(|question| Picker::new(question).unwrap().pick(question.offsets));
        prop_assert_eq!(picked, Some(Trial { tier: choice.tier, target: choice.targets[0] }));
    }

    #[test]
    fn trials_keep_within_every_limit(case in any_case(), seed: u64) {
        let Ok(best) = case.decide() else { return Ok(()) };
        let exploration = exploration(&[], seed);
        let (trial, propensity) = case.ask(|question| explore(question, &best, &exploration));
        prop_assert!(propensity > 0.0 && propensity <= 1.0);
        prop_assert_eq!(case.ask(|question| explore(question, &best, &exploration)), (trial, propensity));
        let Some(trial) = trial else { return Ok(()) };
        let tried = case.ask(|question| decide_trial(question, trial)).unwrap();
        prop_assert_eq!((tried.tier, tried.targets[0]), (trial.tier, trial.target));
        prop_assert_eq!(tried.needed, best.needed);
        let prompt = case.prompt();
        let bounds = Bounds::of(&case.config, &prompt, &case.hits);
        prop_assert!(bounds.allow(trial.tier), "{trial:?} {bounds:?}");
        let limits = tried.intent.as_ref().and_then(|intent| case.config.intent_named(&intent.0));
        let most = limits.and_then(|intent| intent.limits.tier_max).unwrap_or(Tier(3));
        prop_assert!(case.unread.is_some() || best.tier > most || trial.tier <= most);
        if !tried.reason.contains("breakers do not count") {
            prop_assert!(!case.refusing.contains(&trial.target));
        }
    }
}
