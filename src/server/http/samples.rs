//! Accounts of completions for the tests of this folder.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    completion::{
        answer::{Delta, Finish, Piece, Raw, Usage},
        attempt::{Again, Attempt, Cause, Check, ErrorKind, Outcome, ProviderError, Weakness},
        outcome::{Failure, FailureKind, Opening, Summary},
    },
    config::TargetIndex,
    prompt::{Decision, Source, TargetId, TargetRef, Tier, Timings, TokenCountSource},
};

pub fn target(id: &str) -> TargetRef {
    TargetRef { id: TargetId(id.into()), provider: "maker".into(), model: format!("{id}-model").into() }
}

pub fn decision() -> Arc<Decision> {
    Arc::new(Decision {
        decision_id: "0199a0b0-0000-7000-8000-000000000001".to_owned(),
        tier: "simple".into(),
        target: target("small"),
        failover: Vec::new(),
        intent: None,
        intent_confidence: 0.0,
        tier_scores: Vec::new(),
        sufficiency_base: Vec::new(),
        confidence: 1.0,
        source: Source::Rule,
        rule: Some("thanks".into()),
        reason: String::new(),
        low_confidence: false,
        truncated: false,
        bundle_version: None,
        config_generation: 1,
        prompt_tokens: 9,
        prompt_tokens_source: TokenCountSource::Length,
        cost_usd_estimate: 0.1,
        baseline_cost_usd: 0.2,
        propensity: 1.0,
        explored: false,
        canary: false,
        unscored: None,
        timings: Timings::default(),
        switched_from: None,
        switch_cost_usd: 0.0,
        rule_matches: Vec::new(),
    })
}

pub fn attempt(id: &str, outcome: Outcome) -> Attempt {
    Attempt {
        index: TargetIndex(0),
        target: target(id),
        tier: Tier(0),
        cause: Cause::First,
        outcome,
        started: Duration::ZERO,
        latency: Duration::from_micros(7900),
        first_token: None,
        usage: Usage::default(),
        estimated: true,
        cost_usd: 0.001,
        dropped_parameters: Vec::new(),
    }
}

pub fn rate_limited() -> Outcome {
    Outcome::Failed(ProviderError {
        kind: ErrorKind::RateLimited,
        status: Some(429),
        message: "slow down".to_owned(),
        code: None,
        again: Again::Usual,
    })
}

pub fn weakness() -> Weakness {
    Weakness { check: Check::Refusal, why: "it reads as a refusal".to_owned() }
}

pub fn failure(kind: FailureKind) -> Box<Failure> {
    Box::new(Failure {
        kind,
        message: "no target answered".to_owned(),
        decision: Some(decision()),
        attempts: vec![attempt("small", rate_limited()), attempt("large", Outcome::Weak(weakness()))],
        cost_usd: 0.002,
        dropped: Vec::new(),
        retry_after: None,
    })
}

pub fn usage() -> Usage {
    Usage { input_tokens: 9, output_tokens: 4, ..Usage::default() }
}

pub fn summary() -> Summary {
    Summary {
        decision: decision(),
        attempts: vec![attempt("small", Outcome::Weak(weakness())), attempt("large", Outcome::Answered)],
        target: target("large"),
        tier: "complex".into(),
        escalated: true,
        weak: None,
        usage: usage(),
        estimated: false,
        cost_usd: 0.25,
        baseline_cost_usd: 0.5,
        overhead: Duration::from_micros(1234),
    }
}

pub fn opening() -> Opening {
    Opening {
        decision: decision(),
        target: target("large"),
        tier: "complex".into(),
        escalated: true,
        attempts: vec![attempt("small", Outcome::Weak(weakness()))],
        weak: Some(weakness()),
        dropped_parameters: vec!["logit_bias".to_owned(), "seed".to_owned()],
        cost_usd: 0.1,
        overhead: Duration::from_micros(1234),
    }
}

/// A chunk as a provider sends it, with a field that nobody knows.
pub fn chunk(text: &str, finish: Option<&str>) -> Value {
    json!({
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "large-2026",
        "x_unknown": {"kept": true},
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}],
    })
}

/// A piece of a provider that speaks OpenAI's dialect.
pub fn piece(chunk: Value) -> Piece {
    Piece { delta: crate::completion::dialect::openai::delta(&chunk).unwrap(), raw: Raw::OpenAi(chunk) }
}

/// A piece of a provider that speaks Anthropic's.
pub fn foreign_piece(event: Value, text: &str, finish: Option<Finish>) -> Piece {
    Piece { delta: Delta { text: text.to_owned(), finish, ..Delta::default() }, raw: Raw::Anthropic(event) }
}
