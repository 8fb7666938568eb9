//! What Claude refuses beside thinking, settled before a request is shaped: an answer without a setting is better
//! than none. Pure.

use genai::chat::{ReasoningEffort, ToolChoice};

use super::{
    adapter::Adapter,
    request::{Dropped, Wanted},
};
use crate::config::TargetConfig;

/// The smallest budget of thinking that Claude takes, tokens.
const BUDGET_MIN: u32 = 1024;
/// The smallest `top_p` that Claude takes beside thinking.
const TOP_P_MIN: f64 = 0.95;
/// Claude's temperatures end here, OpenAI's at 2.
const TEMPERATURE_MAX: f64 = 1.0;

/// Takes out what Claude would refuse, and names it.
pub(super) fn settle(wanted: &mut Wanted, adapter: Adapter, target: &TargetConfig, dropped: &mut Dropped) {
    if !adapter.serves_claude(&target.model) {
        return;
    }
    wanted.temperature = wanted.temperature.map(|temperature| temperature.min(TEMPERATURE_MAX));
    if !adapter.takes_effort(&target.model) {
        return;
    }
    let Some(effort) = wanted.effort.clone().filter(|effort| !matches!(effort, ReasoningEffort::Zero)) else {
        return;
    };
    let most = wanted.output_tokens_max.unwrap_or(target.output_tokens_max);
    wanted.effort = match fitting(effort, most, adapter.takes_effort_by_name(&target.model)) {
        // Who must call a tool may not think first.
        Some(_) if must_call(wanted, adapter) => None,
        fitting => fitting,
    };
    if wanted.effort.is_none() {
        dropped.add("reasoning_effort");
        return;
    }
    if wanted.temperature.take_if(|temperature| *temperature != TEMPERATURE_MAX).is_some() {
        dropped.add("temperature");
    }
    if wanted.top_p.take_if(|top_p| *top_p < TOP_P_MIN).is_some() {
        dropped.add("top_p");
    }
    if wanted.top_k.take().is_some() {
        dropped.add("top_k");
    }
}

fn must_call(wanted: &Wanted, adapter: Adapter) -> bool {
    let forced = matches!(wanted.tool_choice, Some(ToolChoice::Required | ToolChoice::Tool { .. }));
    forced && adapter.takes_tool_choice() && !wanted.tools.is_empty()
}

/// Returns the effort, as a budget where the one that the library would send leaves no room for the answer; `None`
/// where none fits.
fn fitting(effort: ReasoningEffort, output_tokens_max: u32, by_name: bool) -> Option<ReasoningEffort> {
    // The library's numbers.
    let budget = match effort {
        ReasoningEffort::Zero => 0,
        ReasoningEffort::Minimal | ReasoningEffort::Low => 1024,
        ReasoningEffort::Medium => 8000,
        ReasoningEffort::High | ReasoningEffort::XHigh | ReasoningEffort::Max => 24_000,
        ReasoningEffort::Budget(budget) => budget,
    };
    if by_name || budget < output_tokens_max {
        return Some(effort);
    }
    // As much for the answer as for the thinking.
    let half = output_tokens_max / 2;
    (half >= BUDGET_MIN).then_some(ReasoningEffort::Budget(half))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::default_config;

    /// Settles a high effort beside all else, and compares what is left of it and what was named.
    fn check(adapter: Adapter, model: &str, most: u32, forced: bool, left: Option<u32>, named: &[&str]) {
        let target = TargetConfig { model: model.into(), ..default_config().targets[0].clone() };
        let mut wanted = Wanted {
            effort: Some(ReasoningEffort::High),
            temperature: Some(1.5),
            top_p: Some(0.5),
            top_k: Some(5),
            output_tokens_max: Some(most),
            tool_choice: forced.then_some(ToolChoice::Required),
            tools: vec![Default::default()],
            ..Wanted::default()
        };
        let mut dropped = Dropped::default();
        settle(&mut wanted, adapter, &target, &mut dropped);
        let effort = wanted.effort.map(|effort| match effort {
            ReasoningEffort::Budget(budget) => budget,
            _ => 0,
        });
        assert_eq!(effort, left, "{model} {most}");
        assert_eq!(dropped.names(), named, "{model} {most}");
    }

    #[test]
    fn an_effort_leaves_room_for_the_answer_and_none_for_sampling() {
        let sampling = ["top_p", "top_k"];
        let effort = ["reasoning_effort"];
        let bedrock = "eu.anthropic.claude-sonnet-4-5-v1:0";
        check(Adapter::Bedrock, bedrock, 64_000, false, Some(0), &sampling);
        check(Adapter::Bedrock, bedrock, 24_000, false, Some(12_000), &sampling);
        check(Adapter::Bedrock, bedrock, 4096, false, Some(2048), &sampling);
        check(Adapter::Bedrock, bedrock, 2047, false, None, &effort);
        check(Adapter::Anthropic, "claude-sonnet-4-5", 4096, false, Some(2048), &sampling);
        check(Adapter::Anthropic, "claude-opus-4-5", 4096, false, Some(0), &sampling);
        check(Adapter::Anthropic, "claude-sonnet-5", 100, false, Some(0), &sampling);
        check(Adapter::Anthropic, "claude-sonnet-5", 100, true, None, &effort);
        // Elsewhere tools cannot be forced, or thinking is none of ours.
        check(Adapter::Bedrock, bedrock, 64_000, true, Some(0), &sampling);
        check(Adapter::VertexClaude, "claude-sonnet-4-5", 100, false, Some(0), &[]);
        check(Adapter::Gemini, "gemini-3", 100, true, Some(0), &[]);
    }

    #[test]
    fn a_temperature_is_one_that_claude_knows() {
        let check = |adapter: Adapter,
                     model: &str,
                     effort: Option<ReasoningEffort>,
                     given: f64,
                     sent: Option<f64>| {
            let target = TargetConfig { model: model.into(), ..default_config().targets[0].clone() };
            let output_tokens_max = Some(64_000);
            let mut wanted =
                Wanted { effort, temperature: Some(given), output_tokens_max, ..Wanted::default() };
            settle(&mut wanted, adapter, &target, &mut Dropped::default());
            assert_eq!(wanted.temperature, sent, "{model} {given}");
        };
        check(Adapter::VertexClaude, "claude-x", None, 1.7, Some(1.0));
        check(Adapter::Anthropic, "claude-x", None, 0.3, Some(0.3));
        check(Adapter::Anthropic, "claude-x", Some(ReasoningEffort::Low), 0.3, None);
        check(Adapter::Anthropic, "claude-x", Some(ReasoningEffort::Low), 1.7, Some(1.0));
        check(Adapter::Anthropic, "claude-x", Some(ReasoningEffort::Zero), 0.3, Some(0.3));
        check(Adapter::Bedrock, "meta.llama4", Some(ReasoningEffort::Low), 1.7, Some(1.7));
    }
}
