//! What holds whatever is asked.

use proptest::prelude::*;

use super::*;

prop_compose! {
    pub fn any_case()(
        mut levels in proptest::array::uniform3(0.0_f64..=1.0),
        level_margin_min in 0.0_f64..=0.5,
        intent_unsure: bool,
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
        outside in (0_u8..64, proptest::option::of(0_usize..4), proptest::option::of(0_usize..6)),
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
        case.scores = scored.then(|| Scores { intent_unsure, level_margin_min, ..scores(levels, false) });
        case.floor = floor.map(Tier);
        case.tokens = tokens;
        let (refusing, cap, last) = outside;
        case.refusing = (0..6).filter(|at| refusing & (1 << at) != 0).map(TargetIndex).collect();
        case.cap = cap.map(|tier| TierCap { tier: Tier(tier), why: Arc::from("spent") });
        case.last = last.map(|target| Last { target: TargetIndex(target), prompt_tokens: 1000 });
        case
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn limits_hold_and_failure_means_that_nothing_is_allowed(case in any_case()) {
        let prompt = admit(case.draft.clone(), &case.config).unwrap();
        let low = prompt.preferences.tier_min.max(case.hits.firm.tier_min.as_ref().map(|limit| limit.tier)).unwrap_or(Tier(0));
        let high = [prompt.preferences.tier_max, case.hits.firm.tier_max.as_ref().map(|limit| limit.tier), case.cap.as_ref().map(|cap| cap.tier)].into_iter().flatten().min().unwrap_or(Tier(3));
        match case.decide() {
            Ok(choice) => {
                prop_assert!(choice.tier >= low && choice.tier <= high, "{choice:?}");
                prop_assert!(!choice.targets.is_empty());
                let tier = case.config.tier(choice.tier);
                prop_assert!(choice.targets.iter().all(|target| tier.targets.contains(target)));
                prop_assert!((0.0..=1.0).contains(&choice.confidence));
                prop_assert!(choice.cost_usd.is_finite() && choice.baseline_usd.is_finite());
            }
            Err(NoTarget { dropped, spent }) => {
                let mut uncapped = case;
                let capped = uncapped.cap.take();
                prop_assert_eq!(spent.is_some(), capped.is_some() && uncapped.decide().is_ok());
                let case = uncapped;
                let all: usize = case.config.tiers.iter().map(|tier| tier.targets.len()).sum();
                prop_assert_eq!(dropped.len(), all, "every target says why");
            }
        }
    }

    #[test]
    fn the_ladder_rises_within_the_limits_and_no_rung_is_empty(case in any_case()) {
        let Ok(choice) = case.decide() else { return Ok(()) };
        let rungs: Vec<(Tier, &[TargetIndex])> = std::iter::once((choice.tier, &choice.targets[..]))
            .chain(choice.above.iter().map(|rung| (rung.tier, &rung.targets[..])))
            .collect();
        prop_assert!(rungs.windows(2).all(|pair| pair[0].0 < pair[1].0), "{rungs:?}");
        let high = case.cap.as_ref().map_or(Tier(3), |cap| cap.tier);
        for (tier, targets) in rungs {
            prop_assert!(!targets.is_empty() && tier <= high);
            prop_assert!(targets.iter().all(|target| case.config.tier(tier).targets.contains(target)));
            if !choice.reason.contains("breakers do not count") {
                prop_assert!(targets.iter().all(|target| !case.refusing.contains(target)));
            }
        }
    }

    #[test]
    fn breakers_alone_never_leave_a_request_without_a_decision(case in any_case()) {
        let refused = case.decide().is_ok();
        let mut healthy = case;
        healthy.refusing.clear();
        prop_assert_eq!(refused, healthy.decide().is_ok());
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
