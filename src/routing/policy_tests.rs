//! Properties and examples of the policy.

use proptest::prelude::*;

use super::*;
use crate::{
    config::{Order, read_text},
    prompt::{Draft, TokenCountSource},
    routing::{
        admit::admit,
        classifier::TokenDensity,
        rules::{DecidingHit, LimitBy, RuleLimits},
        targets::{mix, sort_by_weight},
    },
};

const LEVELS: [usize; 4] = [0, 1, 2, 3];
/// One that fixes a target, one that fixes a tier, one that limits.
const INTENTS: &str = r#"
    [[intents]]
    name = "to_c2"
    examples = ["a", "b"]
    target = "c2"
    [[intents]]
    name = "to_reasoning"
    examples = ["a", "b"]
    tier = "reasoning"
    [[intents]]
    name = "small"
    examples = ["a", "b"]
    tier_max = "simple"
"#;

fn config(policy: &str) -> Config {
    read_text(&format!(
        r#"
        rules = []
        {policy}
        [[tiers]]
        name = "simple"
        targets = ["s1", "s2"]
        [[tiers]]
        name = "moderate"
        targets = ["m1"]
        [[tiers]]
        name = "complex"
        targets = ["c1", "c2"]
        [[tiers]]
        name = "reasoning"
        targets = ["r1"]
        {targets}
        "#,
        targets = [
            ("s1", 0.1, 8000, "", 300),
            ("s2", 0.2, 100_000, "\"json\"", 400),
            ("m1", 1.0, 200_000, "\"json\", \"tools\"", 900),
            ("c1", 5.0, 200_000, "\"json\", \"tools\", \"vision\"", 3000),
            ("c2", 6.0, 1_000_000, "\"tools\"", 4000),
            ("r1", 20.0, 200_000, "\"tools\"", 20_000),
        ]
        .map(|(id, price, context, features, latency)| format!(
            "[[targets]]\nid = \"{id}\"\nprovider = \"p\"\nmodel = \"{id}-1\"\ninput_usd_per_mtok = {price:?}\n\
             output_usd_per_mtok = {price:?}\nprice_date = \"2026-11-21\"\ncontext_tokens = {context}\n\
             features = [{features}]\nlatency_ms_typical = {latency}\n"
        ))
        .join("\n")
    ))
    .unwrap()
}

fn scores(sufficiency: [f64; 3], unsure: bool) -> Scores {
    Scores {
        intent: Intent(Arc::from("code")),
        intent_confidence: 0.9,
        sufficiency: sufficiency.into_iter().chain([1.0]).collect(),
        level_confidence: 0.7,
        unsure,
        truncated: false,
        density: TokenDensity { tokens: 1, bytes: 4 },
    }
}

fn claim(intent: &str) -> Claim {
    Claim { intent: Intent(Arc::from(intent)), similarity: 0.83, threshold: 0.71, confidence: 0.995 }
}

#[derive(Debug)]
struct Case {
    config: Config,
    draft: Draft,
    hits: Hits,
    scores: Option<Scores>,
    claim: Option<Claim>,
    unread: Option<Unread>,
    floor: Option<Tier>,
    tokens: u32,
}

impl Case {
    fn new() -> Self {
        Self {
            config: config(""),
            draft: Draft::from_text("x"),
            hits: Hits::default(),
            scores: Some(scores([0.2, 0.6, 0.9], false)),
            claim: None,
            unread: None,
            floor: None,
            tokens: 100,
        }
    }

    fn decide(&self) -> Result<Choice, NoTarget> {
        let prompt = admit(self.draft.clone(), &self.config).unwrap();
        decide(&Question {
            config: &self.config,
            prompt: &prompt,
            tokens: TokenCount { tokens: self.tokens, source: TokenCountSource::Caller },
            hits: &self.hits,
            evidence: match &self.scores {
                Some(scores) => Evidence::Scores {
                    scores,
                    levels: &LEVELS,
                    cached: false,
                    claim: self.claim.as_ref(),
                    unread: self.unread,
                },
                None => Evidence::None { why: "the classifier's queue is full" },
            },
            session_floor: self.floor,
            seed: 7,
        })
    }

    fn tier(&self) -> usize {
        self.decide().unwrap().tier.0
    }
}

#[test]
fn the_weakest_tier_that_is_likely_enough_wins() {
    let mut case = Case::new();
    for (quality, expected) in [(0.0, 0), (0.2, 0), (0.5, 1), (0.61, 2), (0.95, 3), (1.0, 3)] {
        case.draft.preferences.quality = Some(quality);
        assert_eq!(case.tier(), expected, "quality {quality}");
    }
}

#[test]
fn unsure_scores_go_one_tier_up_and_say_so() {
    let mut case = Case::new();
    case.scores = Some(scores([0.2, 0.6, 0.9], true));
    let choice = case.decide().unwrap();
    assert_eq!(choice.tier, Tier(2));
    assert!(choice.low_confidence && choice.reason.contains("unsure"), "{}", choice.reason);
    case.config = config("[policy]\nlow_confidence = \"ignore\"");
    let choice = case.decide().unwrap();
    assert_eq!(choice.tier, Tier(1));
    assert!(choice.low_confidence);
}

#[test]
fn a_language_that_is_not_read_goes_one_tier_up_and_is_named() {
    let mut case = Case::new();
    case.unread = Some(Unread { name: "Thai", label: "th" });
    let choice = case.decide().unwrap();
    assert_eq!((choice.tier, choice.low_confidence), (Tier(2), true));
    let because =
        "but it is written in Thai, which the classifier does not read well: one tier up to complex";
    assert!(choice.reason.contains(because), "{}", choice.reason);
    case.config.policy.low_confidence = LowConfidence::Ignore;
    let choice = case.decide().unwrap();
    assert_eq!((choice.tier, choice.low_confidence), (Tier(1), true));
    assert!(choice.reason.contains("written in Thai"), "{}", choice.reason);
}

#[test]
fn an_intent_by_example_fixes_tier_or_target_as_a_rule_does() {
    let mut case = Case::new();
    case.config = config(INTENTS);
    case.scores = Some(scores([0.9, 0.95, 0.99], true));
    case.claim = Some(claim("to_c2"));
    let choice = case.decide().unwrap();
    let ids: Vec<&str> = choice.targets.iter().map(|&target| &*case.config.target(target).id.0).collect();
    assert_eq!((choice.tier, ids), (Tier(2), vec!["c2", "c1"]));
    assert_eq!((choice.source, choice.rule), (Source::Classifier, None));
    assert_eq!((choice.intent.unwrap().0.as_ref(), choice.intent_confidence), ("to_c2", 0.995));
    assert!(!choice.low_confidence);
    let because =
        "nearest to the examples of to_c2 (similarity 0.83, 0.71 needed), so c2 of tier complex answers";
    assert_eq!(choice.reason, because);

    // A target that cannot take the request gives way, and limits hold.
    case.draft.shape.needs_json = true;
    let choice = case.decide().unwrap();
    assert!(choice.reason.contains("its target c2 cannot take this request"), "{}", choice.reason);
    assert_eq!(choice.tier, Tier(2));
    case.draft.preferences.tier_max = "moderate".to_owned();
    assert_eq!(case.tier(), 1);

    case.draft = Draft::from_text("x");
    case.claim = Some(claim("to_reasoning"));
    assert_eq!(case.tier(), 3);
    case.draft.preferences.tier_max = "complex".to_owned();
    assert_eq!(case.tier(), 2);
}

#[test]
fn an_intent_by_example_limits_as_any_other() {
    let mut case = Case::new();
    case.config = config(INTENTS);
    case.claim = Some(claim("small"));
    let choice = case.decide().unwrap();
    assert_eq!(choice.tier, Tier(0));
    assert!(
        choice.reason.starts_with("nearest to the examples of small (similarity 0.83"),
        "{}",
        choice.reason
    );
    assert!(choice.reason.contains("intent small is limited to simple"), "{}", choice.reason);
}

#[test]
fn a_rule_goes_before_an_intent_by_example() {
    let mut case = Case::new();
    case.config = config(INTENTS);
    case.claim = Some(claim("to_reasoning"));
    let by_rule = |intent: &str| {
        let fixes = Fixes { tier: None, target: None, intent: Some(Arc::from(intent)) };
        Some(DecidingHit { rule: Arc::from("r"), fixes })
    };
    case.hits.deciding = by_rule("small");
    let choice = case.decide().unwrap();
    assert_eq!((choice.tier, choice.intent.unwrap().0.as_ref()), (Tier(0), "small"));
    assert!(choice.reason.contains("looks like small"), "{}", choice.reason);
    // One that fixes a target leaves nothing to be scored.
    case.hits.deciding = by_rule("to_c2");
    let choice = case.decide().unwrap();
    assert_eq!((choice.tier, choice.source), (Tier(2), Source::Rule));
    assert_eq!(choice.targets[0], case.config.target_named("c2").unwrap());
    let prompt = admit(case.draft.clone(), &case.config).unwrap();
    assert!(!needs_scores(&case.config, &prompt, &case.hits));
}

#[test]
fn the_only_tier_may_still_leave_a_choice_of_targets() {
    let mut case = Case::new();
    let asked = |case: &Case| {
        needs_scores(&case.config, &admit(case.draft.clone(), &case.config).unwrap(), &case.hits)
    };
    let only = |tier: &str| crate::prompt::DraftPreferences {
        tier_min: tier.to_owned(),
        tier_max: tier.to_owned(),
        ..Default::default()
    };
    case.draft.preferences = only("complex");
    assert!(!asked(&case));
    case.config = config(INTENTS);
    assert!(asked(&case));
    case.claim = Some(claim("to_c2"));
    assert_eq!(case.decide().unwrap().targets[0], case.config.target_named("c2").unwrap());
    case.draft.preferences = only("moderate");
    assert!(!asked(&case));
    assert_eq!(case.decide().unwrap().source, Source::Override);
}

#[test]
fn no_scores_mean_the_default_tier() {
    let mut case = Case::new();
    case.scores = None;
    let choice = case.decide().unwrap();
    assert_eq!((choice.tier, choice.source, choice.confidence), (Tier(1), Source::Default, 0.0));
    assert_eq!(choice.needed, None);
}

#[test]
fn value_refuses_to_pay_for_a_strong_model_that_would_fail_as_well() {
    let mut case = Case::new();
    case.config = config("[policy]\nobjective = \"value\"\nvalue_usd = 0.002");
    case.scores = Some(scores([0.30, 0.31, 0.32], false));
    assert_eq!(case.tier(), 0);
    case.config = config("[policy]\nobjective = \"value\"\nvalue_usd = 1000.0");
    assert_eq!(case.tier(), 3);
}

#[test]
fn a_session_never_drops_below_the_tier_it_has_needed() {
    let mut case = Case::new();
    case.floor = Some(Tier(2));
    let choice = case.decide().unwrap();
    assert_eq!((choice.tier, choice.source), (Tier(2), Source::Session));
    case.draft.preferences.tier_max = "moderate".to_owned();
    assert_eq!(case.tier(), 1);
}

#[test]
fn a_rule_fixes_tier_or_target() {
    let mut case = Case::new();
    let fix = |tier, target| {
        Some(DecidingHit { rule: Arc::from("r"), fixes: Fixes { tier, target, intent: None } })
    };
    case.hits.deciding = fix(Some(Tier(3)), None);
    let choice = case.decide().unwrap();
    assert_eq!((choice.tier, choice.source, choice.rule.as_deref()), (Tier(3), Source::Rule, Some("r")));
    case.hits.deciding = fix(None, case.config.target_named("c2"));
    let choice = case.decide().unwrap();
    let ids: Vec<&str> = choice.targets.iter().map(|&target| &*case.config.target(target).id.0).collect();
    assert_eq!(ids, ["c2", "c1"]);
    case.draft.shape.needs_json = true;
    let choice = case.decide().unwrap();
    assert!(choice.reason.contains("c2 cannot take this request"), "{}", choice.reason);
    assert_eq!(choice.tier, Tier(2));
}

#[test]
fn each_dropped_target_says_why() {
    let mut case = Case::new();
    case.draft.shape.needs_vision = true;
    case.draft.preferences.tier_max = "moderate".to_owned();
    let text = case.decide().unwrap_err().to_string();
    assert!(text.contains("s1 (simple): lacks vision"), "{text}");
    assert!(text.contains("c1 (complex): its tier is above moderate, set by the request"), "{text}");
    case.draft = Draft::from_text("x");
    case.draft.preferences.cost_usd_max = Some(0.0);
    assert!(case.decide().unwrap_err().to_string().contains("costs an estimated $"));
    case.draft.preferences =
        crate::prompt::DraftPreferences { latency_ms_max: Some(10), ..Default::default() };
    assert!(case.decide().unwrap_err().to_string().contains("takes some 300 ms"));
    case.draft.preferences.latency_ms_max = None;
    case.tokens = 2_000_000;
    assert!(case.decide().unwrap_err().to_string().contains("context window of 8000 tokens"));
}

#[test]
fn a_tier_without_targets_climbs_first_and_falls_otherwise() {
    let mut case = Case::new();
    case.draft.preferences.deny_targets = vec!["m1".to_owned()];
    assert_eq!(case.tier(), 2);
    case.draft.preferences.tier_max = "moderate".to_owned();
    assert_eq!(case.tier(), 0);
}

#[test]
fn yielding_limits_give_way_to_the_request_and_firm_ones_do_not() {
    let at_most_moderate =
        RuleLimits { tier_min: None, tier_max: Some(LimitBy { tier: Tier(1), rule: Arc::from("cap") }) };
    let mut case = Case::new();
    case.scores = Some(scores([0.1, 0.2, 0.3], false));
    case.hits.yielding = at_most_moderate.clone();
    assert_eq!(case.tier(), 1);
    case.draft.preferences.tier_min = "complex".to_owned();
    let choice = case.decide().unwrap();
    assert_eq!((choice.tier, choice.source), (Tier(2), Source::Override));
    case.hits = Hits { firm: at_most_moderate, ..Hits::default() };
    let text = case.decide().unwrap_err().to_string();
    assert!(text.contains("m1 (moderate): its tier is below complex, set by the request"), "{text}");
    assert!(text.contains("c1 (complex): its tier is above moderate, set by rule cap"), "{text}");
}

#[test]
fn one_tier_left_says_who_left_it() {
    let mut case = Case::new();
    case.hits.firm.tier_min = Some(LimitBy { tier: Tier(3), rule: Arc::from("careful") });
    let choice = case.decide().unwrap();
    assert_eq!((choice.source, choice.rule.as_deref()), (Source::Rule, Some("careful")));
    assert_eq!(choice.needed, Some(Tier(3)));
    case.hits = Hits::default();
    case.draft.preferences.tier_max = "simple".to_owned();
    let choice = case.decide().unwrap();
    assert_eq!((choice.source, choice.rule, choice.needed), (Source::Override, None, None));
}

#[test]
fn weights_share_the_requests() {
    let mut config = config("");
    config.tiers[0].order = Order::Weight;
    config.targets[0].weight = 3.0;
    let firsts = (0..4000_u64)
        .filter(|&seed| {
            let mut targets = config.tiers[0].targets.clone();
            sort_by_weight(&mut targets, &config, mix(seed));
            targets[0] == TargetIndex(0)
        })
        .count();
    assert!((2850..3150).contains(&firsts), "{firsts} of 4000, 3000 expected");
}

prop_compose! {
    fn any_case()(
        mut levels in proptest::array::uniform3(0.0_f64..=1.0),
        unsure: bool,
        scored: bool,
        bounds in (0_usize..4, 0_usize..4),
        bounded in (any::<bool>(), any::<bool>()),
        rule_limits in (proptest::option::of(0_usize..4), proptest::option::of(0_usize..4)),
        yields: bool,
        fixed in proptest::option::of(0_usize..4),
        floor in proptest::option::of(0_usize..4),
        tokens in prop_oneof![0_u32..10_000, 100_000_u32..1_200_000],
        needs in (any::<bool>(), any::<bool>(), any::<bool>()),
        quality in 0.0_f64..=1.0,
        value: bool,
        claimed in proptest::option::of(proptest::sample::select(vec!["to_c2", "to_reasoning", "small"])),
        unread: bool,
    ) -> Case {
        levels.sort_by(f64::total_cmp);
        let names = ["simple", "moderate", "complex", "reasoning"];
        let mut case = Case::new();
        case.config = config(INTENTS);
        case.claim = claimed.map(claim);
        case.unread = unread.then_some(Unread { name: "Thai", label: "th" });
        if value {
            case.config.policy.objective = Objective::Value;
        }
        let (low, high) = (bounds.0.min(bounds.1), bounds.0.max(bounds.1));
        if bounded.0 { case.draft.preferences.tier_min = names[low].to_owned(); }
        if bounded.1 { case.draft.preferences.tier_max = names[high].to_owned(); }
        case.draft.preferences.quality = Some(quality);
        case.draft.shape.needs_tools = needs.0;
        case.draft.shape.needs_vision = needs.1;
        case.draft.shape.needs_json = needs.2;
        let by = |tier| LimitBy { tier: Tier(tier), rule: Arc::from("limit") };
        let limits = RuleLimits { tier_min: rule_limits.0.map(by), tier_max: rule_limits.1.map(by) };
        if yields { case.hits.yielding = limits } else { case.hits.firm = limits }
        case.hits.deciding = fixed.map(|tier| DecidingHit {
            rule: Arc::from("r"),
            fixes: Fixes { tier: Some(Tier(tier)), target: None, intent: None },
        });
        case.scores = scored.then(|| scores(levels, unsure));
        case.floor = floor.map(Tier);
        case.tokens = tokens;
        case
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn limits_hold_and_failure_means_that_nothing_is_allowed(case in any_case()) {
        let prompt = admit(case.draft.clone(), &case.config).unwrap();
        let low = prompt.preferences.tier_min.max(case.hits.firm.tier_min.as_ref().map(|limit| limit.tier)).unwrap_or(Tier(0));
        let high = [prompt.preferences.tier_max, case.hits.firm.tier_max.as_ref().map(|limit| limit.tier)].into_iter().flatten().min().unwrap_or(Tier(3));
        match case.decide() {
            Ok(choice) => {
                prop_assert!(choice.tier >= low && choice.tier <= high, "{choice:?}");
                prop_assert!(!choice.targets.is_empty());
                let tier = case.config.tier(choice.tier);
                prop_assert!(choice.targets.iter().all(|target| tier.targets.contains(target)));
                prop_assert!((0.0..=1.0).contains(&choice.confidence));
                prop_assert!(choice.cost_usd.is_finite() && choice.baseline_usd.is_finite());
            }
            Err(NoTarget { dropped }) => {
                let all: usize = case.config.tiers.iter().map(|tier| tier.targets.len()).sum();
                prop_assert_eq!(dropped.len(), all, "every target says why");
            }
        }
    }

    #[test]
    fn more_quality_never_means_a_lower_tier(case in any_case(), more in 0.0_f64..=1.0) {
        let before = case.decide();
        let quality = case.draft.preferences.quality.unwrap();
        let mut higher = case;
        higher.draft.preferences.quality = Some(quality + (1.0 - quality) * more);
        match (before, higher.decide()) {
            (Ok(before), Ok(after)) => prop_assert!(after.tier >= before.tier),
            (before, after) => prop_assert_eq!(before.is_err(), after.is_err()),
        }
    }

    #[test]
    fn the_same_question_gets_the_same_answer(case in any_case()) {
        prop_assert_eq!(case.decide(), case.decide());
    }
}
