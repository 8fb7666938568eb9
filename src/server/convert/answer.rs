//! Answers, pieces of answers and accounts -> their messages.

use std::{collections::HashMap, time::Duration};

use serde_json::{Map, Value};

use super::super::proto;
use crate::{
    completion::{
        answer::{Answer, Delta, Finish, Piece, Raw, ToolCall, ToolDelta, Usage},
        attempt::{Attempt, Cause, Outcome, ProviderError, Weakness},
        outcome::{Completion, FailureKind, Opening, Summary},
    },
    config::Config,
};

/// Whether the caller wants the provider's own JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawWish {
    Kept,
    Left,
}

impl RawWish {
    fn text(self, raw: &Raw) -> String {
        match (self, raw) {
            (Self::Left, _) => String::new(),
            (Self::Kept, Raw::OpenAi(value) | Raw::Anthropic(value)) => value.to_string(),
        }
    }
}

/// Returns a whole answer with its account.
pub fn completion(completion: Completion, wish: RawWish, config: &Config) -> proto::CompleteResponse {
    let Completion { answer, summary: account } = completion;
    let decision = (*account.decision).clone().into();
    proto::CompleteResponse {
        answer: Some(whole(answer, account.usage, wish)),
        decision: Some(decision),
        summary: Some(summary(account, config)),
    }
}

fn whole(answer: Answer, usage: Usage, wish: RawWish) -> proto::Answer {
    let raw_json = wish.text(&answer.raw);
    let mut extras = Extras::of(&answer.raw, "message");
    let view = answer.view;
    proto::Answer {
        text: view.text,
        refusal: view.refusal,
        reasoning: view.reasoning,
        tool_calls: view
            .tool_calls
            .into_iter()
            .enumerate()
            .map(|(at, call)| tool_call(call, extras.take_call(at)))
            .collect(),
        finish_reason: view.finish.map_or(proto::FinishReason::Unspecified, finish_reason) as i32,
        usage: Some(usage_of(usage)),
        logprob_mean: view.logprobs.mean(),
        raw_json,
        extra_json: extras.message,
    }
}

fn tool_call(call: ToolCall, extra_json: String) -> proto::ToolCall {
    proto::ToolCall { id: call.id, name: call.name, arguments: call.arguments, extra_json }
}

/// What of an answer's first choice has no field of its own, as JSON objects.
#[derive(Default)]
struct Extras {
    message: String,
    /// By the index of the call.
    calls: HashMap<usize, String>,
}

impl Extras {
    /// Reads a whole answer's "message", or a chunk's "delta".
    fn of(raw: &Raw, within: &str) -> Self {
        let Raw::OpenAi(value) = raw else { return Self::default() };
        let Some(message) = value["choices"].get(0).and_then(|choice| choice.get(within)) else {
            return Self::default();
        };
        let calls = message.get("tool_calls").and_then(Value::as_array).into_iter().flatten().enumerate();
        let calls = calls.map(|(at, call)| {
            let index = call.get("index").and_then(Value::as_u64).and_then(|at| usize::try_from(at).ok());
            (index.unwrap_or(at), others(call, &CALL_FIELDS))
        });
        Self { message: others(message, &MESSAGE_FIELDS), calls: calls.collect() }
    }

    fn take_call(&mut self, index: usize) -> String {
        self.calls.remove(&index).unwrap_or_default()
    }
}

/// Fields that are told elsewhere, or that providers send with nothing in them.
const MESSAGE_FIELDS: [&str; 6] =
    ["role", "content", "refusal", "tool_calls", "reasoning", "reasoning_content"];
const CALL_FIELDS: [&str; 4] = ["id", "index", "type", "function"];

/// Returns the fields but these and empty ones, as the text of an object; empty where there are none.
fn others(value: &Value, known: &[&str]) -> String {
    let Some(fields) = value.as_object() else { return String::new() };
    let is_empty = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
    let others: Map<String, Value> = fields
        .iter()
        .filter(|(name, value)| !known.contains(&name.as_str()) && !is_empty(value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if others.is_empty() { String::new() } else { Value::Object(others).to_string() }
}

fn finish_reason(finish: Finish) -> proto::FinishReason {
    match finish {
        Finish::Stop => proto::FinishReason::Stop,
        Finish::Length => proto::FinishReason::Length,
        Finish::ToolCalls => proto::FinishReason::ToolCalls,
        Finish::ContentFilter => proto::FinishReason::ContentFilter,
        Finish::Other => proto::FinishReason::Other,
    }
}

fn usage_of(usage: Usage) -> proto::Usage {
    proto::Usage {
        input_tokens: usage.input_tokens,
        cached_input_tokens: usage.cached_input_tokens,
        cache_write_tokens: usage.cache_write_tokens,
        output_tokens: usage.output_tokens,
        reasoning_tokens: usage.reasoning_tokens,
    }
}

/// Returns the account of a completion that was answered.
pub fn summary(summary: Summary, config: &Config) -> proto::CompletionSummary {
    proto::CompletionSummary {
        target: Some(summary.target.into()),
        tier: summary.tier.to_string(),
        escalated: summary.escalated,
        weak: summary.weak.map(weakness),
        attempts: attempts(summary.attempts, config),
        usage: Some(usage_of(summary.usage)),
        estimated: summary.estimated,
        cost_usd: summary.cost_usd,
        baseline_cost_usd: summary.baseline_cost_usd,
        overhead_us: micros(summary.overhead),
    }
}

/// Returns the first message of a stream.
pub fn opening(opening: Opening, config: &Config) -> proto::StreamOpening {
    proto::StreamOpening {
        decision: Some((*opening.decision).clone().into()),
        target: Some(opening.target.into()),
        tier: opening.tier.to_string(),
        escalated: opening.escalated,
        attempts: attempts(opening.attempts, config),
        cost_usd: opening.cost_usd,
        weak: opening.weak.map(weakness),
        dropped_parameters: opening.dropped_parameters,
        overhead_us: micros(opening.overhead),
    }
}

/// Returns what a piece adds to the answer; `None` for one that adds nothing that could be told.
pub fn piece(piece: Piece, wish: RawWish) -> Option<proto::AnswerDelta> {
    let raw_json = wish.text(&piece.raw);
    let mut extras = Extras::of(&piece.raw, "delta");
    let Delta {
        text,
        refusal,
        reasoning,
        tool_calls,
        finish,
        usage: _,
        logprobs: _,
        other_content: _,
        progress: _,
    } = piece.delta;
    let delta = proto::AnswerDelta {
        text,
        refusal,
        reasoning,
        tool_calls: tool_calls
            .into_iter()
            .map(|call| {
                let extra_json = extras.take_call(call.index);
                tool_delta(call, extra_json)
            })
            .collect(),
        finish_reason: finish.map_or(proto::FinishReason::Unspecified, finish_reason) as i32,
        raw_json,
        extra_json: extras.message,
    };
    (delta != proto::AnswerDelta::default()).then_some(delta)
}

fn tool_delta(delta: ToolDelta, extra_json: String) -> proto::ToolCallDelta {
    proto::ToolCallDelta {
        index: u32::try_from(delta.index).unwrap_or(u32::MAX),
        id: delta.id,
        name: delta.name,
        arguments: delta.arguments,
        extra_json,
    }
}

/// Returns attempts with the names of their tiers.
pub fn attempts(attempts: Vec<Attempt>, config: &Config) -> Vec<proto::Attempt> {
    attempts.into_iter().map(|each| attempt(each, config)).collect()
}

fn attempt(attempt: Attempt, config: &Config) -> proto::Attempt {
    let outcome = outcome(&attempt.outcome);
    let (error, weak) = match attempt.outcome {
        Outcome::Failed(failed) => (Some(error(failed)), None),
        Outcome::Weak(weak) => (None, Some(weakness(weak))),
        Outcome::Answered | Outcome::Skipped | Outcome::Lost | Outcome::Abandoned => (None, None),
    };
    proto::Attempt {
        target: Some(attempt.target.into()),
        tier: config.tier(attempt.tier).name.to_string(),
        cause: cause(attempt.cause) as i32,
        outcome: outcome as i32,
        error,
        weakness: weak,
        started_us: micros(attempt.started),
        latency_us: micros(attempt.latency),
        first_token_us: attempt.first_token.map(micros),
        usage: Some(usage_of(attempt.usage)),
        estimated: attempt.estimated,
        cost_usd: attempt.cost_usd,
        dropped_parameters: attempt.dropped_parameters,
    }
}

fn cause(cause: Cause) -> proto::AttemptCause {
    match cause {
        Cause::First => proto::AttemptCause::First,
        Cause::Retry => proto::AttemptCause::Retry,
        Cause::Failover => proto::AttemptCause::Failover,
        Cause::Climb => proto::AttemptCause::Climb,
        Cause::Escalation => proto::AttemptCause::Escalation,
        Cause::Hedge => proto::AttemptCause::Hedge,
        Cause::Judge => proto::AttemptCause::Judge,
    }
}

fn outcome(outcome: &Outcome) -> proto::AttemptOutcome {
    match outcome {
        Outcome::Answered => proto::AttemptOutcome::Answered,
        Outcome::Weak(_) => proto::AttemptOutcome::Weak,
        Outcome::Failed(_) => proto::AttemptOutcome::Failed,
        Outcome::Skipped => proto::AttemptOutcome::Skipped,
        Outcome::Lost => proto::AttemptOutcome::Lost,
        Outcome::Abandoned => proto::AttemptOutcome::Abandoned,
    }
}

fn error(error: ProviderError) -> proto::AttemptError {
    proto::AttemptError {
        kind: error.kind.as_str().to_owned(),
        status: error.status.map_or(0, u32::from),
        message: error.message,
        code: error.code.unwrap_or_default(),
    }
}

fn weakness(weakness: Weakness) -> proto::Weakness {
    proto::Weakness { check: weakness.check.as_str().to_owned(), why: weakness.why }
}

/// Returns the kind of a failure.
pub fn failure_kind(kind: FailureKind) -> proto::FailureKind {
    match kind {
        FailureKind::NoTarget => proto::FailureKind::NoTarget,
        FailureKind::BudgetSpent => proto::FailureKind::BudgetSpent,
        FailureKind::Overloaded => proto::FailureKind::Overloaded,
        FailureKind::Refused => proto::FailureKind::Refused,
        FailureKind::RateLimited => proto::FailureKind::RateLimited,
        FailureKind::Unavailable => proto::FailureKind::Unavailable,
        FailureKind::DeadlineExceeded => proto::FailureKind::DeadlineExceeded,
        FailureKind::Unconfigured => proto::FailureKind::Unconfigured,
        FailureKind::BrokenOff => proto::FailureKind::BrokenOff,
        FailureKind::CallerStalled => proto::FailureKind::CallerStalled,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_no_field_is_told_as_json() {
        let thinking = json!([{"type": "thinking", "thinking": "hm", "signature": "s"}]);
        let check = |within: &str| {
            let call = json!({
                "index": 1, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"},
                "extra_content": {"google": {"thought_signature": "t"}},
            });
            let message = json!({
                "role": "assistant", "content": "x", "refusal": null, "annotations": [],
                "reasoning_content": "hm", "thinking_blocks": thinking, "tool_calls": [call],
            });
            let mut extras =
                Extras::of(&Raw::OpenAi(json!({"choices": [{"index": 0, within: message}]})), within);
            let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(read(&extras.message), json!({"thinking_blocks": thinking}));
            let signature = json!({"extra_content": {"google": {"thought_signature": "t"}}});
            assert_eq!(read(&extras.take_call(1)), signature);
            assert_eq!(extras.take_call(0), "");
        };
        check("message");
        check("delta");
        let plain = json!({"choices": [{"message": {"role": "assistant", "content": "x"}}]});
        assert_eq!(Extras::of(&Raw::OpenAi(plain), "message").message, "");
        assert_eq!(Extras::of(&Raw::OpenAi(json!({"choices": []})), "message").message, "");
    }
}
