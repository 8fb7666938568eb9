//! What completions need of a decision: the ladder, breakers, the session's target, spent budgets, and
//! models that the caller fixes.

use super::*;

impl Case {
    fn index(&self, id: &str) -> TargetIndex {
        self.config.target_named(id).unwrap()
    }

    fn ids(&self, targets: &[TargetIndex]) -> String {
        let ids: Vec<&str> = targets.iter().map(|&target| &*self.config.target(target).id.0).collect();
        ids.join(" ")
    }

    /// The chosen tier's targets and those of the tiers above.
    fn ladder(&self) -> String {
        let choice = self.decide().unwrap();
        let above = choice.above.iter().map(|rung| self.ids(&rung.targets));
        std::iter::once(self.ids(&choice.targets)).chain(above).collect::<Vec<_>>().join(" < ")
    }

    fn refuse(&mut self, ids: &[&str]) {
        self.refusing = ids.iter().map(|id| self.index(id)).collect();
    }

    fn served_last(&mut self, id: &str, prompt_tokens: u32) {
        self.last = Some(Last { target: self.index(id), prompt_tokens });
    }

    fn model(&mut self, model: &str) {
        self.draft.model = Some(model.to_owned());
    }

    fn cap(&mut self, tier: usize) {
        self.cap = Some(TierCap { tier: Tier(tier), why: Arc::from("budget team-a of today is spent") });
    }
}

#[test]
fn stronger_tiers_may_take_over_as_far_as_limits_allow() {
    let mut case = Case::new();
    assert_eq!(case.ladder(), "m1 < c1 c2 < r1");
    case.draft.preferences.tier_max = "complex".to_owned();
    assert_eq!(case.ladder(), "m1 < c1 c2");
    case.draft.preferences.deny_targets = vec!["c1".to_owned(), "c2".to_owned()];
    assert_eq!(case.ladder(), "m1");
    case.draft = Draft::from_text("x");
    case.draft.preferences.cost_usd_max = Some(0.004);
    assert_eq!(case.ladder(), "m1 < c1 c2", "r1 costs too much");
    case.draft = Draft::from_text("x");
    case.hits.firm.tier_max = Some(LimitBy { tier: Tier(1), rule: Arc::from("cheap") });
    assert_eq!(case.ladder(), "m1");
    // What a rule fixes is where to begin.
    case.hits = Hits::default();
    case.rule_fixes(Fixes { tier: Some(Tier(0)), target: None, intent: None });
    assert_eq!(case.ladder(), "s1 s2 < m1 < c1 c2 < r1");
}

#[test]
fn an_intents_maximum_ends_the_ladder_unless_a_rule_named_the_tier() {
    let mut case = Case::new();
    case.config = config("[[intents]]\nname = \"code\"\ntier_max = \"complex\"");
    assert_eq!(case.ladder(), "m1 < c1 c2");
    case.unread = Some(Unread { name: "Thai", label: "th" });
    assert_eq!(case.ladder(), "c1 c2 < r1", "an intent in a language that is not read takes nothing back");
    case.unread = None;
    case.rule_fixes(Fixes { tier: Some(Tier(1)), target: None, intent: Some(Arc::from("code")) });
    assert_eq!(case.ladder(), "m1 < c1 c2 < r1");
    // A session may have needed more than the intent allows.
    case.hits = Hits::default();
    case.floor = Some(Tier(3));
    assert_eq!(case.ladder(), "r1");
    case.config = config(INTENTS);
    case.floor = None;
    case.claim = Some(claim("to_c2"));
    assert_eq!(case.ladder(), "c2 c1", "an intent that fixes a target fixes its tier");
}

#[test]
fn a_target_with_an_open_breaker_is_skipped_within_its_tier() {
    let mut case = Case::new();
    case.draft.preferences.quality = Some(0.9);
    case.refuse(&["c1"]);
    assert_eq!(case.ladder(), "c2 < r1");
    assert!(case.reason().contains("; the breaker of c1 is open, so c2 of tier"), "{}", case.reason());
    // One that a rule names is no exception.
    case.refuse(&["c2"]);
    let c2 = case.config.target_named("c2");
    case.rule_fixes(Fixes { tier: None, target: c2, intent: None });
    assert_eq!(case.ladder(), "c1 < r1");
    let because = "its target c2 cannot take this request; the breaker of c2 is open, so c1 of tier complex";
    assert!(case.reason().contains(because), "{}", case.reason());
    // A tier above the chosen one leaves them out in silence.
    case.hits = Hits::default();
    case.draft = Draft::from_text("x");
    assert_eq!(case.ladder(), "m1 < c1 < r1");
    assert!(!case.reason().contains("breaker"), "{}", case.reason());
}

#[test]
fn a_tier_of_open_breakers_is_left_upwards_first() {
    let mut case = Case::new();
    case.refuse(&["m1", "c1"]);
    assert_eq!(case.ladder(), "c2 < r1");
    let because = "no target of moderate can take this request; the breaker of m1 is open; \
                   the breaker of c1 is open, so c2 of tier complex answers";
    assert!(case.reason().ends_with(because), "{}", case.reason());
    case.draft.preferences.tier_max = "moderate".to_owned();
    assert_eq!(case.ladder(), "s1 s2");
}

#[test]
fn breakers_do_not_count_when_nothing_else_is_left() {
    let mut case = Case::new();
    case.refuse(&["s1", "s2", "m1", "c1", "c2", "r1"]);
    assert_eq!(case.ladder(), "m1 < c1 c2 < r1");
    let because = "every target that could answer has an open breaker, so breakers do not count";
    assert!(case.reason().contains(because), "{}", case.reason());
    // Limits still do, and a target that could not answer anyway is no reason to respect them.
    case.draft.preferences.allow_targets = vec!["c1".to_owned(), "s1".to_owned()];
    case.draft.shape.needs_tools = true;
    case.refuse(&["c1"]);
    assert_eq!(case.ladder(), "c1");
    case.draft.preferences.cost_usd_max = Some(0.0);
    let text = case.decide().unwrap_err().to_string();
    assert!(text.contains("c1 (complex): costs an estimated") && !text.contains("breaker"), "{text}");
}

#[test]
fn a_session_keeps_its_target_within_a_tier_whatever_the_order() {
    let mut case = Case::new();
    case.draft.preferences.quality = Some(0.9);
    for order in [Order::Listed, Order::Weight, Order::Latency] {
        case.config.tiers[2].order = order;
        for (last, ladder) in [("c2", "c2 c1 < r1"), ("c1", "c1 c2 < r1")] {
            case.served_last(last, 80);
            assert_eq!(case.ladder(), ladder, "{order:?}");
            let choice = case.decide().unwrap();
            assert_eq!((choice.switched_from, choice.switch_cost_usd), (None, 0.0));
        }
    }
    case.config.tiers[2].order = Order::Listed;
    assert!(!case.reason().contains("session"), "it would be first anyway: {}", case.reason());
    case.served_last("c2", 80);
    assert!(case.reason().contains("; the session stays with c2, so c2 of"), "{}", case.reason());
    // A rule that names a target means that target.
    case.rule_fixes(Fixes { tier: None, target: case.config.target_named("c1"), intent: None });
    assert_eq!(case.ladder(), "c1 c2 < r1");
    assert_eq!(case.decide().unwrap().switched_from, Some(case.index("c2")));
    assert!(!case.reason().contains("stays"), "{}", case.reason());
    // It is first where its tier takes over as well.
    case.hits = Hits::default();
    case.draft = Draft::from_text("x");
    assert_eq!(case.ladder(), "m1 < c2 c1 < r1");
}

#[test]
fn leaving_the_sessions_target_states_what_it_costs() {
    let mut case = Case::new();
    case.config.targets[2].cached_input_usd_per_mtok = 0.25; // m1, $1 for a million of input tokens
    case.tokens = 2000;
    let cost = |case: &Case| case.decide().unwrap().switch_cost_usd;
    for (cached, expected) in [(1000, 0.000_75), (0, 0.0), (5000, 0.001_5)] {
        case.served_last("s1", cached);
        assert_eq!(case.decide().unwrap().switched_from, Some(case.index("s1")));
        assert!((cost(&case) - expected).abs() < 1e-12, "{cached}: {}", cost(&case));
    }
    // Without a price for cached input, and where caching costs more.
    for price in [1.0, 3.0] {
        case.config.targets[2].cached_input_usd_per_mtok = price;
        assert_eq!(cost(&case), 0.0);
    }
    // Moving up is a switch too.
    case.served_last("m1", 1000);
    case.floor = Some(Tier(2));
    assert_eq!(case.decide().unwrap().switched_from, Some(case.index("m1")));
}

#[test]
fn a_spent_budget_limits_the_tiers_and_says_so() {
    let mut case = Case::new();
    case.cap(1);
    assert_eq!(case.ladder(), "m1");
    case.floor = Some(Tier(3));
    assert_eq!(case.ladder(), "m1", "what the session has needed does not go beyond");
    case.floor = None;
    case.rule_fixes(Fixes { tier: Some(Tier(2)), target: None, intent: None });
    let because = "rule r matched; budget team-a of today is spent: at most tier moderate, so m1";
    assert!(case.reason().starts_with(because), "{}", case.reason());
    case.hits = Hits::default();
    case.cap(0);
    let choice = case.decide().unwrap();
    assert_eq!((choice.tier, choice.source, choice.needed), (Tier(0), Source::Override, None));
    let because = "budget team-a of today is spent: at most tier simple; simple is the only tier allowed, so";
    assert!(choice.reason.starts_with(because), "{}", choice.reason);
    assert!(!needs_scores(&case.config, &case.prompt(), &case.hits));
}

#[test]
fn who_demands_more_than_a_spent_budget_allows_is_told_which_it_is() {
    let mut case = Case::new();
    case.cap(0);
    let spent = SpentBudget { why: Arc::from("budget team-a of today is spent"), tier: Arc::from("simple") };
    let check = |case: &Case| {
        let error = case.decide().unwrap_err();
        assert_eq!(error.spent.as_ref(), Some(&spent));
        let text = error.to_string();
        let because = "budget team-a of today is spent: at most tier simple; no target is left: ";
        assert!(text.starts_with(because), "{text}");
        let each = "c1 (complex): budget team-a of today is spent: at most tier simple";
        assert!(text.contains(each), "{text}");
    };
    case.draft.preferences.tier_min = "complex".to_owned();
    check(&case);
    case.draft = Draft::from_text("x");
    case.model("c1");
    check(&case);
    case.draft = Draft::from_text("x");
    case.hits.firm.tier_min = Some(LimitBy { tier: Tier(1), rule: Arc::from("careful") });
    check(&case);
    // A budget is not to blame for what would fail without it.
    case.draft.preferences.cost_usd_max = Some(0.0);
    assert_eq!(case.decide().unwrap_err().spent, None);
    // Limits that give way do.
    case.draft = Draft::from_text("x");
    case.hits.yielding = std::mem::take(&mut case.hits.firm);
    assert_eq!(case.tier(), 0);
}

#[test]
fn a_fixed_tier_or_target_leaves_one_rung_and_nothing_to_score() {
    let mut case = Case::new();
    for (model, ladder) in [("tier:complex", "c1 c2"), ("c2", "c2"), ("s2", "s2")] {
        case.model(model);
        let choice = case.decide().unwrap();
        assert_eq!(case.ladder(), ladder);
        assert_eq!((choice.source, choice.confidence, choice.needed), (Source::Override, 1.0, None));
        assert!(!needs_scores(&case.config, &case.prompt(), &case.hits));
    }
    assert!(
        case.reason().starts_with("s2 is the only target that the request allows, so s2 of tier simple"),
        "{}",
        case.reason()
    );
    // Neither a session nor an open breaker moves it.
    case.floor = Some(Tier(3));
    case.refuse(&["s2"]);
    case.served_last("s1", 10);
    assert_eq!(case.ladder(), "s2");
    // Nor a rule that would decide, or an intent by example.
    case.rule_fixes(Fixes { tier: Some(Tier(3)), target: None, intent: None });
    case.config = config(INTENTS);
    case.claim = Some(claim("to_c2"));
    for (model, ladder) in [("tier:simple", "s1 s2"), ("s2", "s2")] {
        case.refusing.clear();
        case.model(model);
        let choice = case.decide().unwrap();
        assert_eq!((case.ladder().as_str(), choice.source, choice.rule), (ladder, Source::Override, None));
    }
}

#[test]
fn a_rules_intent_stays_with_a_fixed_model() {
    let mut case = Case::new();
    case.rule_fixes(Fixes { tier: None, target: None, intent: Some(Arc::from("code")) });
    case.scores = None;
    for model in ["tier:complex", "c2"] {
        case.model(model);
        let choice = case.decide().unwrap();
        assert_eq!((choice.source, choice.rule.as_deref()), (Source::Override, Some("r")));
        assert_eq!(choice.intent, Some(Intent(Arc::from("code"))));
    }
}

#[test]
fn a_fixed_target_keeps_to_the_firm_limits_of_rules_and_is_found_in_any_tier() {
    let mut case = Case::new();
    case.model("c1");
    let limits = |low: usize, high: usize| RuleLimits {
        tier_min: Some(LimitBy { tier: Tier(low), rule: Arc::from("low") }),
        tier_max: Some(LimitBy { tier: Tier(high), rule: Arc::from("high") }),
    };
    case.hits.yielding = limits(0, 1);
    assert_eq!(case.ladder(), "c1");
    case.hits = Hits { firm: limits(0, 1), ..Hits::default() };
    let text = case.decide().unwrap_err().to_string();
    assert!(text.contains("c1 (complex): its tier is above moderate, set by rule high"), "{text}");
    // One that several tiers list is taken where the limits leave it.
    let s1 = case.index("s1");
    case.config.tiers[2].targets.push(s1);
    case.model("s1");
    for (firm, tier) in [(limits(0, 3), 0), (limits(1, 3), 2)] {
        case.hits = Hits { firm, ..Hits::default() };
        let choice = case.decide().unwrap();
        assert_eq!((choice.tier, choice.targets, choice.above), (Tier(tier), vec![s1], vec![]));
        assert_eq!(choice.source, Source::Override);
    }
}
