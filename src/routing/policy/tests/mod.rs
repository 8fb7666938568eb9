//! Examples and properties of the policy.

mod completions;
mod intents;
mod learned;
mod properties;

use super::*;
use crate::{
    config::{LowConfidence, Objective, Order, read_text},
    prompt::{Draft, TierCap, TokenCountSource},
    routing::{
        admit::admit,
        chance::mix,
        classifier::TokenDensity,
        rules::{DecidingHit, LimitBy, RuleLimits},
        targets::sort_by_weight,
    },
};

const LEVELS: [usize; 4] = [0, 1, 2, 3];
/// One that fixes a target, one that fixes a tier, one that limits, one that only names.
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
    [[intents]]
    name = "named_only"
    examples = ["a", "b"]
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

fn scores(sufficiency: [f64; 3], level_unsure: bool) -> Scores {
    Scores {
        intent: Intent(Arc::from("code")),
        intent_confidence: 0.9,
        sufficiency: sufficiency.into_iter().chain([1.0]).collect(),
        level_confidence: 0.7,
        intent_unsure: false,
        level_margin_min: if level_unsure { 0.5 } else { 0.0 },
        truncated: false,
        density: TokenDensity { tokens: 1, bytes: 4 },
    }
}

fn claim(intent: &str) -> Claim {
    Claim { intent: Intent(Arc::from(intent)), similarity: 0.83, threshold: 0.71, confidence: 0.995 }
}

#[derive(Debug, Clone)]
struct Case {
    config: Config,
    draft: Draft,
    hits: Hits,
    scores: Option<Scores>,
    claim: Option<Claim>,
    unread: Option<Unread>,
    floor: Option<Tier>,
    last: Option<Last>,
    refusing: Vec<TargetIndex>,
    cap: Option<TierCap>,
    tokens: u32,
    seed: u64,
    /// By target; empty when nothing was learned.
    offsets: Vec<Option<f64>>,
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
            last: None,
            refusing: Vec::new(),
            cap: None,
            tokens: 100,
            offsets: Vec::new(),
            seed: 7,
        }
    }

    fn prompt(&self) -> Prompt {
        let admitted = admit(self.draft.clone(), &self.config).unwrap();
        Prompt { tier_cap: self.cap.clone(), ..admitted }
    }

    fn decide(&self) -> Result<Choice, NoTarget> {
        self.ask(decide)
    }

    fn ask<T>(&self, ask: impl FnOnce(&Question<'_>) -> T) -> T {
        let prompt = self.prompt();
        ask(&Question {
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
            session_last: self.last,
            refusing: &self.refusing,
            seed: self.seed,
            offsets: &self.offsets,
        })
    }

    fn tier(&self) -> usize {
        self.decide().unwrap().tier.0
    }

    fn reason(&self) -> String {
        self.decide().unwrap().reason
    }

    /// The id of the first target.
    fn target(&self) -> String {
        self.config.target(self.decide().unwrap().targets[0]).id.to_string()
    }

    fn rule_fixes(&mut self, fixes: Fixes) {
        self.hits.deciding = Some(DecidingHit { rule: Arc::from("r"), fixes });
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
    // The intent may be what is unsure.
    case.scores = Some(Scores { intent_unsure: true, ..scores([0.2, 0.6, 0.9], false) });
    assert!(case.decide().unwrap().low_confidence);
}

#[test]
fn a_stricter_wish_is_not_doubted_again_for_the_tier_below() {
    let mut case = Case::new();
    let mut check = |sufficiency, margin, quality, expected: (usize, bool)| {
        case.scores = Some(Scores { level_margin_min: margin, ..scores(sufficiency, false) });
        for by_request in [true, false] {
            case.draft.preferences.quality = Some(quality).filter(|_| by_request);
            case.config.policy.quality = quality;
            let choice = case.decide().unwrap();
            assert_eq!((choice.tier.0, choice.low_confidence), expected, "{sufficiency:?} {quality}");
        }
    };
    // At 0.5 the margin is the fitted one.
    check([0.59, 0.9, 0.95], 0.1, 0.5, (1, true));
    check([0.61, 0.9, 0.95], 0.1, 0.5, (0, false));
    check([0.3, 0.49, 0.95], 0.1, 0.5, (2, false));
    // The wish for more has left the doubtful tier already: one step up, not two.
    check([0.59, 0.9, 0.95], 0.1, 0.7, (1, false));
    // A doubt about the new tier is another one; the margin shrinks with the room that is left.
    check([0.59, 0.75, 0.95], 0.1, 0.7, (2, true));
    check([0.59, 0.77, 0.95], 0.1, 0.7, (1, false));
    check([0.2, 0.3, 0.97], 0.1, 0.95, (2, false));
    // Less is wanted: a doubt about a tier that is not needed does not count.
    check([0.40, 0.55, 0.95], 0.1, 0.2, (0, false));
    check([0.21, 0.55, 0.95], 0.1, 0.2, (1, true));
    check([0.0, 0.55, 0.95], 0.1, 0.0, (0, false));
    // The last tier is always enough.
    check([0.2, 0.3, 0.4], 0.1, 0.97, (3, false));
    check([0.2, 0.3, 0.4], 0.1, 1.0, (3, false));
}

#[test]
fn value_is_doubted_at_the_fitted_quality() {
    let mut case = Case::new();
    case.config = config("[policy]\nobjective = \"value\"\nquality = 0.9");
    for (moderate, unsure) in [(0.59, true), (0.61, false)] {
        let written = scores([0.2, moderate, 0.95], false);
        case.scores = Some(Scores { level_margin_min: 0.1, ..written });
        assert_eq!(case.decide().unwrap().low_confidence, unsure, "{moderate}");
    }
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
fn a_rules_target_holds_below_the_sessions_floor_only_while_it_can_answer() {
    let mut case = Case::new();
    case.floor = Some(Tier(2));
    let s2 = case.config.target_named("s2");
    case.rule_fixes(Fixes { tier: None, target: s2, intent: None });
    let choice = case.decide().unwrap();
    assert_eq!((choice.tier, choice.source), (Tier(0), Source::Rule));
    case.draft.preferences.deny_targets = vec!["s2".to_owned()];
    let choice = case.decide().unwrap();
    assert_eq!((choice.tier, choice.source), (Tier(2), Source::Session));
    let because = "rule r matched; its target s2 cannot take this request; the session has needed complex";
    assert!(choice.reason.starts_with(because), "{}", choice.reason);
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
fn why_the_target_asked_for_cannot_answer_comes_first_and_alone() {
    let mut case = Case::new();
    case.draft.shape.needs_vision = true;
    case.draft.preferences.allow_targets = vec!["m1".to_owned()];
    let text = case.decide().unwrap_err().to_string();
    assert_eq!(text, "no target is left: m1 (moderate): lacks vision");
    case.draft.preferences.allow_targets.clear();
    case.draft.preferences.tier_min = "moderate".to_owned();
    case.draft.preferences.tier_max = "moderate".to_owned();
    let text = case.decide().unwrap_err().to_string();
    assert!(text.starts_with("no target is left: m1 (moderate): lacks vision; "), "{text}");
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
