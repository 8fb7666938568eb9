//! The intents of a [`File`](super::file::File) -> [`IntentConfig`]s: names, limits, examples.
//!
//! Whether the bundle has an intent of a name is not known here: `routing` asks that.

use super::{
    ExamplesConfig, IntentConfig, TargetIndex, TierLimits,
    check::{Names, name, target_named, unique},
    duplicates,
    file::IntentFile,
    read::SourceText,
};
use crate::prompt::Tier;

/// The most that the intents may hold. Each example costs one inference when a bundle is loaded and some
/// 0.03 microseconds a request.
const INTENTS_MAX: usize = 200;
const EXAMPLES_PER_INTENT_MAX: usize = 100;
const EXAMPLES_MAX: usize = 2000;
const EXAMPLE_BYTES_MAX: usize = 8192;
/// One prompt shows a text, two begin to show a kind.
const EXAMPLES_PER_INTENT_MIN: usize = 2;
/// One ordinary prompt in a hundred.
const FALSE_POSITIVES_MAX: f64 = 0.01;
/// An intent that claims more than half of everything is none.
const FALSE_POSITIVES_MAX_MAX: f64 = 0.5;

/// Returns every intent; what is wrong with them is noted in `source`.
pub fn check_intents(
    written: &[IntentFile],
    names: &Names<'_>,
    source: &mut SourceText<'_>,
) -> Vec<IntentConfig> {
    if written.len() > INTENTS_MAX {
        source.problem("intents", format!("{} intents, at most {INTENTS_MAX}", written.len()));
    }
    let examples: usize = written.iter().filter_map(|intent| intent.examples.as_ref()).map(Vec::len).sum();
    if examples > EXAMPLES_MAX {
        source.problem("intents", format!("{examples} examples in all, at most {EXAMPLES_MAX}"));
    }
    let intents: Vec<IntentConfig> =
        written.iter().enumerate().map(|(at, intent)| check_intent(at, intent, names, source)).collect();
    unique(intents.iter().map(|intent| &*intent.name), |at| format!("intents[{at}].name"), source);
    intents
}

fn check_intent(
    at: usize,
    written: &IntentFile,
    names: &Names<'_>,
    source: &mut SourceText<'_>,
) -> IntentConfig {
    let prefix = format!("intents[{at}]");
    let path = |key: &str| format!("{prefix}.{key}");
    let limits = names.limits(written.tier_min.as_ref(), written.tier_max.as_ref(), &prefix, source);
    let tier = names.tier(written.tier.as_ref(), path("tier"), source);
    let target =
        written.target.as_ref().and_then(|id| target_named(names.targets, id, path("target"), source));
    let target_tier = target.and_then(|target| tier_of(target, names));
    if target.is_some() && target_tier.is_none() {
        source.problem(path("target"), "is in no tier: it could never answer");
    }
    if written.tier.is_some() && written.target.is_some() {
        source.problem(path("target"), "and tier are both set: a target implies its tier");
    }
    if limits != TierLimits::default() {
        for (key, set) in [("tier", &written.tier), ("target", &written.target)] {
            if set.is_some() {
                source.problem(path(key), "leaves no use for tier_min and tier_max");
            }
        }
    }
    if written.examples.is_none() {
        check_without_examples(&prefix, written, source);
    }
    let fixed = tier.or(target_tier);
    IntentConfig {
        name: name(written.name.as_ref(), path("name"), source),
        limits: fixed.map_or(limits, |tier| TierLimits { tier_min: Some(tier), tier_max: Some(tier) }),
        target,
        examples: written.examples.as_ref().map(|texts| ExamplesConfig {
            texts: check_examples(&path("examples"), texts, source),
            false_positives_max: false_positives_max(written, path("false_positives_max"), source),
        }),
    }
}

fn tier_of(target: TargetIndex, names: &Names<'_>) -> Option<Tier> {
    names.tiers.iter().position(|tier| tier.targets.contains(&target)).map(Tier)
}

fn check_without_examples(prefix: &str, written: &IntentFile, source: &mut SourceText<'_>) {
    if written.target.is_some() {
        source.problem(
            format!("{prefix}.target"),
            "needs examples: an intent of the bundle is too wide for one target",
        );
    }
    if written.false_positives_max.is_some() {
        source.problem(format!("{prefix}.false_positives_max"), "needs examples that it is calibrated on");
    }
    let effects = [&written.tier, &written.target, &written.tier_min, &written.tier_max];
    if effects.iter().all(|effect| effect.is_none()) {
        source.problem(prefix, "does nothing: set examples, tier, tier_min or tier_max");
    }
}

fn check_examples(path: &str, texts: &[String], source: &mut SourceText<'_>) -> Vec<String> {
    let count = texts.len();
    if count < EXAMPLES_PER_INTENT_MIN {
        source.problem(path, format!("{count} given, at least {EXAMPLES_PER_INTENT_MIN} are needed"));
    }
    if count > EXAMPLES_PER_INTENT_MAX {
        source.problem(path, format!("{count} given, at most {EXAMPLES_PER_INTENT_MAX} in one intent"));
    }
    for (at, text) in texts.iter().enumerate() {
        if text.trim().is_empty() {
            source.problem(format!("{path}[{at}]"), "is empty");
        }
        if text.len() > EXAMPLE_BYTES_MAX {
            source.problem(
                format!("{path}[{at}]"),
                format!("{} bytes, at most {EXAMPLE_BYTES_MAX}", text.len()),
            );
        }
    }
    for twice in duplicates(texts.iter().map(|text| text.trim())) {
        source.problem(format!("{path}[{twice}]"), "is listed twice");
    }
    texts.to_vec()
}

fn false_positives_max(written: &IntentFile, path: String, source: &mut SourceText<'_>) -> f64 {
    let share = written.false_positives_max.unwrap_or(FALSE_POSITIVES_MAX);
    if !(0.0..=FALSE_POSITIVES_MAX_MAX).contains(&share) {
        source.problem(path, format!("{share} is not within 0 to {FALSE_POSITIVES_MAX_MAX}"));
        return FALSE_POSITIVES_MAX;
    }
    share
}

#[cfg(test)]
mod tests {
    use crate::{
        config::{TierLimits, read_text},
        prompt::Tier,
    };

    fn problems(text: &str) -> Vec<String> {
        read_text(text).expect_err("a problem").problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn intents_of_the_bundle_are_limited_and_own_ones_have_examples() {
        let config = read_text(
            r#"
            [[intents]]
            name = "code"
            tier_min = "moderate"
            [[intents]]
            name = "refund_request"
            examples = ["money back please", "refund my order"]
            target = "claude-sonnet-5-5"
            "#,
        )
        .unwrap();
        let code = config.intent_named("code").unwrap();
        assert_eq!(code.limits, TierLimits { tier_min: Some(Tier(1)), tier_max: None });
        assert_eq!((code.only_tier(), &code.examples), (None, &None));
        let refund = config.intent_named("refund_request").unwrap();
        assert_eq!(
            (refund.only_tier(), refund.target),
            (Some(Tier(2)), config.target_named("claude-sonnet-5-5"))
        );
        assert_eq!(refund.examples.as_ref().unwrap().false_positives_max, 0.01);
    }

    #[test]
    fn every_mistake_is_a_problem_with_its_place() {
        let text = r#"
[[intents]]
name = "refund_request"
examples = ["money back"]
false_positives_max = 0.7
tier = "enormous"

[[intents]]
name = "refund_request"
examples = ["a", " a ", ""]
target = "nobody"
tier_min = "simple"

[[intents]]
name = "code"
target = "gpt-6-luna"
false_positives_max = 0.1

[[intents]]
tier = "simple"
tier_max = "complex"

[[intents]]
name = "math"
"#;
        let got = problems(text);
        for expected in [
            "line 4: intents[0].examples: 1 given, at least 2 are needed",
            "line 5: intents[0].false_positives_max: 0.7 is not within 0 to 0.5",
            "line 6: intents[0].tier: no tier named \"enormous\"; there are simple, moderate, complex, reasoning",
            "line 9: intents[1].name: \"refund_request\" is taken by an earlier entry",
            "line 10: intents[1].examples[1]: is listed twice",
            "line 10: intents[1].examples[2]: is empty",
            "line 11: intents[1].target: leaves no use for tier_min and tier_max",
            "line 16: intents[2].target: needs examples: an intent of the bundle is too wide for one target",
            "line 17: intents[2].false_positives_max: needs examples that it is calibrated on",
            "line 20: intents[3].tier: leaves no use for tier_min and tier_max",
            "line 19: intents[3].name: is missing",
            "line 23: intents[4]: does nothing: set examples, tier, tier_min or tier_max",
        ] {
            assert!(
                got.iter().any(|problem| problem.starts_with(expected)),
                "{expected:?} is missing in {got:#?}"
            );
        }
        assert!(got.iter().any(|problem| problem.contains("intents[1].target: no target named \"nobody\"")));
        assert_eq!(got.len(), 13, "{got:#?}");
    }

    #[test]
    fn too_many_and_too_long_examples_are_refused() {
        let examples: Vec<String> = (0..101).map(|at| format!("example {at}")).collect();
        let got = problems(&format!("[[intents]]\nname = \"a\"\nexamples = {examples:?}\n"));
        assert!(got[0].contains("intents[0].examples: 101 given, at most 100"), "{got:#?}");
        let long = "x".repeat(9000);
        let got = problems(&format!("[[intents]]\nname = \"a\"\nexamples = [\"{long}\", \"b\"]\n"));
        assert!(got[0].contains("intents[0].examples[0]: 9000 bytes, at most 8192"), "{got:#?}");
    }
}
