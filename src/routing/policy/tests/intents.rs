//! Intents and the tier: of the bundle, by example, named by a rule.

use super::*;

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
fn what_a_rule_fixes_itself_is_not_limited_by_an_intent() {
    let mut case = Case::new();
    case.config = config(INTENTS);
    let small = Some(Arc::from("small"));
    case.rule_fixes(Fixes { tier: Some(Tier(3)), target: None, intent: small.clone() });
    assert_eq!((case.tier(), case.decide().unwrap().source), (3, Source::Rule));
    let c2 = case.config.target_named("c2");
    case.rule_fixes(Fixes { tier: None, target: c2, intent: small });
    assert_eq!((case.tier(), case.target().as_str()), (2, "c2"));
    assert!(!case.reason().contains("limited"), "{}", case.reason());
    // Nor by what the prompt is like.
    case.claim = Some(claim("small"));
    case.rule_fixes(Fixes { tier: Some(Tier(2)), target: None, intent: None });
    assert_eq!(case.tier(), 2);
}

#[test]
fn a_claim_does_not_drop_a_session_below_its_floor() {
    let mut case = Case::new();
    case.config = config(INTENTS);
    case.claim = Some(claim("to_c2"));
    case.floor = Some(Tier(3));
    let choice = case.decide().unwrap();
    assert_eq!((choice.tier, choice.source, choice.needed), (Tier(3), Source::Session, Some(Tier(2))));
    assert_eq!(case.target(), "r1");
    assert!(choice.reason.contains("(similarity 0.83, 0.71 needed); the session has needed reasoning"));
    // At or above the floor the target stays.
    for floor in [1, 2] {
        case.floor = Some(Tier(floor));
        assert_eq!((case.tier(), case.target().as_str()), (2, "c2"), "floor {floor}");
    }
    // One that names a tier is raised as well.
    case.claim = Some(claim("small"));
    assert_eq!(case.tier(), 2);
}

#[test]
fn a_claim_may_be_sure_where_the_bundles_intents_do_not_fit() {
    let mut case = Case::new();
    case.config = config(INTENTS);
    case.scores = Some(Scores { intent_unsure: true, ..scores([0.2, 0.6, 0.9], false) });
    let choice = case.decide().unwrap();
    assert_eq!((choice.tier, choice.low_confidence), (Tier(2), true));
    case.claim = Some(claim("named_only"));
    let choice = case.decide().unwrap();
    assert_eq!((choice.tier, choice.low_confidence), (Tier(1), false));
    // So may a rule's intent.
    case.claim = None;
    case.rule_fixes(Fixes { tier: None, target: None, intent: Some(Arc::from("named_only")) });
    assert!(!case.decide().unwrap().low_confidence);
    // The level is another matter.
    case.claim = Some(claim("named_only"));
    case.scores = Some(scores([0.2, 0.6, 0.9], true));
    assert!(case.decide().unwrap().low_confidence);
}

#[test]
fn an_intent_takes_nothing_back_in_a_language_that_is_not_read() {
    let mut case = Case::new();
    case.config = config(
        "[[intents]]\nname = \"code\"\ntier_max = \"moderate\"\n\
         [[intents]]\nname = \"math\"\ntier_min = \"reasoning\"",
    );
    assert_eq!(case.tier(), 1);
    case.unread = Some(Unread { name: "Thai", label: "th" });
    assert_eq!(case.tier(), 2, "{}", case.reason());
    let math = Scores { intent: Intent(Arc::from("math")), ..scores([0.2, 0.6, 0.9], false) };
    case.scores = Some(math);
    assert_eq!(case.tier(), 3, "a minimum holds");
    // A rule knows.
    case.rule_fixes(Fixes { tier: None, target: None, intent: Some(Arc::from("code")) });
    assert_eq!(case.tier(), 1);
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
fn one_target_in_the_only_tier_leaves_no_choice() {
    let mut case = Case::new();
    case.config = config(&INTENTS.replace("target = \"c2\"", "target = \"m1\""));
    case.claim = Some(claim("to_c2"));
    case.draft.preferences.tier_min = "moderate".to_owned();
    case.draft.preferences.tier_max = "moderate".to_owned();
    let prompt = admit(case.draft.clone(), &case.config).unwrap();
    assert!(!needs_scores(&case.config, &prompt, &case.hits));
    assert_eq!(case.decide().unwrap().source, Source::Override);
}

#[test]
fn the_only_tier_is_not_limited_by_an_intent() {
    let mut case = Case::new();
    case.config = config(INTENTS);
    case.claim = Some(claim("small"));
    case.draft.preferences.tier_min = "reasoning".to_owned();
    assert_eq!(case.tier(), 3);
    assert!(case.reason().starts_with("reasoning is the only tier allowed, so r1"), "{}", case.reason());
}
