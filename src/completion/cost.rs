//! What an attempt cost, from reported or estimated usage and the configured prices. Pure.

use super::answer::{Usage, View};
use crate::{
    config::{Config, TargetConfig},
    routing::cost::estimate_tokens,
};

/// A report this many times above the estimate, and a fixed amount more, cannot be. Vocabularies differ by a
/// factor of four at most; twenty leaves room for scripts and tools that the estimate reads badly.
const TIMES_MAX: u64 = 20;
/// Input that the estimate may not see at all: images, documents, tool descriptions. More than the largest
/// context window of today's models.
const UNSEEN_INPUT_TOKENS: u64 = 2_000_000;
/// Output that no answer shows: hidden reasoning. Several times the largest output limit of today's models.
const UNSEEN_OUTPUT_TOKENS: u64 = 1_000_000;
/// An answer so short may be counted as next to nothing without being a wrong report.
const SHORT_OUTPUT_TOKENS: u64 = 1_000;

/// Returns what this usage costs on the target, US dollars: the plain part of the input, what was read from
/// the provider's cache and what was written to it, each at its price, and the output.
pub fn cost_usd(target: &TargetConfig, usage: &Usage) -> f64 {
    // Parts that do not fit into their whole count as far as they fit.
    let cached = usage.cached_input_tokens.min(usage.input_tokens);
    let written = usage.cache_write_tokens.min(usage.input_tokens - cached);
    let plain = usage.input_tokens - cached - written;
    (plain as f64 * target.input_usd_per_mtok
        + cached as f64 * target.cached_input_usd_per_mtok
        + written as f64 * target.cache_write_usd_per_mtok
        + usage.output_tokens as f64 * target.output_usd_per_mtok)
        / 1e6
}

/// Returns what the same tokens would have cost from the first target of the top tier, US dollars: the
/// baseline of savings. All input is taken at its plain price, since nobody knows what that target's cache
/// would have held: with caching the real baseline, and so the saving, may be smaller.
pub fn baseline_cost_usd(config: &Config, usage: &Usage) -> f64 {
    let flagship = config.target(config.tier(config.top_tier()).targets[0]);
    cost_usd(flagship, &Usage { cached_input_tokens: 0, cache_write_tokens: 0, ..*usage })
}

/// Returns the usage that the lengths of prompt and answer suggest: for calls whose provider did not say, or
/// whose stream was left before it could. Hidden reasoning is not in it. Of several choices, of which the view
/// shows the first, all are taken to be as long.
pub fn estimated_usage(prompt_tokens: u32, choices: u32, view: &View) -> Usage {
    let tokens = |text: &str| estimate_tokens(text) as u64;
    let choices = u64::from(choices.max(1));
    let reasoning = tokens(&view.reasoning);
    let tools: u64 = view.tool_calls.iter().map(|call| tokens(&call.name) + tokens(&call.arguments)).sum();
    Usage {
        input_tokens: u64::from(prompt_tokens),
        cached_input_tokens: 0,
        cache_write_tokens: 0,
        output_tokens: (tokens(&view.text) + tokens(&view.refusal) + reasoning + tools) * choices,
        reasoning_tokens: reasoning * choices,
    }
}

/// Returns what to account for, and whether that is the estimate: a report that is missing or cannot be is
/// replaced as a whole.
pub fn checked_usage(reported: Option<Usage>, estimate: Usage) -> (Usage, bool) {
    match reported {
        Some(usage) if is_possible(&usage, &estimate) => (usage, false),
        Some(_) | None => (estimate, true),
    }
}

/// Only nonsense is impossible. A report below the estimated input is not: the caller may have counted the
/// prompt, and counted wrong.
fn is_possible(usage: &Usage, estimate: &Usage) -> bool {
    let most = |estimate: u64, unseen: u64| estimate.saturating_mul(TIMES_MAX).saturating_add(unseen);
    let input_parts = usage.cached_input_tokens.saturating_add(usage.cache_write_tokens);
    input_parts <= usage.input_tokens
        && usage.reasoning_tokens <= usage.output_tokens
        && (usage.input_tokens > 0 || estimate.input_tokens == 0)
        && (usage.output_tokens > 0 || estimate.output_tokens == 0)
        && usage.input_tokens <= most(estimate.input_tokens, UNSEEN_INPUT_TOKENS)
        && usage.output_tokens <= most(estimate.output_tokens, UNSEEN_OUTPUT_TOKENS)
        && estimate.output_tokens <= most(usage.output_tokens, SHORT_OUTPUT_TOKENS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{completion::answer::ToolCall, config::default_config};

    fn usage(input: u64, cached: u64, written: u64, output: u64, reasoning: u64) -> Usage {
        Usage {
            input_tokens: input,
            cached_input_tokens: cached,
            cache_write_tokens: written,
            output_tokens: output,
            reasoning_tokens: reasoning,
        }
    }

    fn target() -> TargetConfig {
        TargetConfig {
            input_usd_per_mtok: 2.0,
            cached_input_usd_per_mtok: 0.5,
            cache_write_usd_per_mtok: 2.5,
            output_usd_per_mtok: 10.0,
            ..default_config().targets[0].clone()
        }
    }

    #[test]
    fn each_kind_of_token_has_its_price() {
        for (usage, expected) in [
            (usage(0, 0, 0, 0, 0), 0.0),
            (usage(1_000_000, 0, 0, 0, 0), 2.0),
            (usage(1_000_000, 1_000_000, 0, 0, 0), 0.5),
            (usage(1_000_000, 0, 1_000_000, 0, 0), 2.5),
            (usage(1_000_000, 500_000, 100_000, 0, 0), 0.8 + 0.25 + 0.25),
            // Reasoning is part of the output, not beside it.
            (usage(0, 0, 0, 100_000, 90_000), 1.0),
            // Parts above their whole are cut.
            (usage(1_000_000, 3_000_000, 3_000_000, 0, 0), 0.5),
        ] {
            let cost = cost_usd(&target(), &usage);
            assert!((cost - expected).abs() < 1e-9, "{usage:?}: {cost}");
        }
    }

    #[test]
    fn the_baseline_is_the_flagship_without_a_cache() {
        let config = default_config();
        let flagship = config.target(config.tiers.last().unwrap().targets[0]);
        let baseline = baseline_cost_usd(&config, &usage(1_000_000, 900_000, 50_000, 1_000_000, 0));
        assert!((baseline - flagship.input_usd_per_mtok - flagship.output_usd_per_mtok).abs() < 1e-9);
    }

    #[test]
    fn lengths_are_estimated_of_everything_that_was_said() {
        let view = View {
            text: "a".repeat(400),
            refusal: "b".repeat(40),
            reasoning: "c".repeat(800),
            tool_calls: vec![ToolCall {
                id: "not counted".to_owned(),
                name: "look".to_owned(),
                arguments: "{}".repeat(8),
            }],
            ..View::default()
        };
        assert_eq!(estimated_usage(70, 1, &view), usage(70, 0, 0, 100 + 10 + 200 + 1 + 4, 200));
        assert_eq!(estimated_usage(70, 3, &view), usage(70, 0, 0, 945, 600));
        assert_eq!(estimated_usage(70, 0, &View::default()), usage(70, 0, 0, 0, 0));
    }

    #[test]
    fn only_impossible_reports_are_replaced() {
        let estimate = usage(1000, 0, 0, 500, 0);
        let taken = |reported| !checked_usage(Some(reported), estimate).1;
        for possible in [
            usage(1000, 0, 0, 500, 0),
            usage(300, 300, 0, 200, 200),
            usage(2000, 1000, 1000, 400, 0),
            // An image or a long document; long hidden reasoning.
            usage(150_000, 0, 0, 128_000, 0),
            usage(1, 0, 0, 1, 0),
        ] {
            assert!(taken(possible), "{possible:?}");
        }
        for impossible in [
            usage(1000, 1001, 0, 500, 0),
            usage(1000, 600, 401, 500, 0),
            usage(1000, u64::MAX, u64::MAX, 500, 0),
            usage(1000, 0, 0, 500, 501),
            usage(0, 0, 0, 500, 0),
            usage(1000, 0, 0, 0, 0),
            usage(999_999_999, 0, 0, 500, 0),
            usage(1000, 0, 0, u64::MAX, 0),
        ] {
            assert!(!taken(impossible), "{impossible:?}");
            assert_eq!(checked_usage(Some(impossible), estimate), (estimate, true));
        }
        assert_eq!(checked_usage(None, estimate), (estimate, true));
        // A long answer that is reported as next to nothing.
        assert!(checked_usage(Some(usage(10, 0, 0, 1, 0)), usage(10, 0, 0, 5_000, 0)).1);
        // Nothing was said and nothing is reported.
        assert!(!checked_usage(Some(usage(10, 0, 0, 0, 0)), usage(10, 0, 0, 0, 0)).1);
    }

    proptest! {
        #[test]
        fn no_usage_costs_less_than_nothing_or_more_than_its_dearest_tokens(
            input: u64, cached: u64, written: u64, output: u64, reasoning: u64,
        ) {
            let usage = usage(input, cached, written, output, reasoning);
            let cost = cost_usd(&target(), &usage);
            let most = (input as f64 * 2.5 + output as f64 * 10.0) / 1e6;
            prop_assert!(cost >= 0.0 && cost <= most * (1.0 + 1e-9));
        }
    }
}
