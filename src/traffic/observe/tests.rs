//! Requests become records; nothing of their texts but the messages themselves comes along.

use std::sync::LazyLock;

use super::*;
use crate::{
    completion::{
        answer::Usage,
        attempt::{Again, Cause, Check, ErrorKind, ProviderError, Weakness},
        outcome::FailureKind,
    },
    config::{TargetIndex, default_config},
    prompt::{
        Context, Features, Intent, Preferences, Role, Shape, Source, TargetId, Tier, TierScore, Timings,
        TokenCountSource,
    },
};

/// Read once: that takes longer than a test.
pub static CONFIG: LazyLock<Arc<Config>> = LazyLock::new(|| Arc::new(default_config()));

/// What no part of a record but its messages may hold.
const SECRET: &str = "hunter2";

/// A decision about one short message.
pub fn pending(text: &str) -> Pending {
    Pending::decided(&CONFIG, prompt(text), &decision(Uuid::now_v7()))
}

pub fn prompt(text: &str) -> Prompt {
    Prompt {
        messages: vec![Message { role: Role::User, content: text.to_owned() }],
        context: Context { tenant: "a".to_owned(), session_id: "s".to_owned(), ..Context::default() },
        shape: Shape {
            max_output_tokens: Some(100),
            needs: Features { json: true, ..Features::default() },
            ..Shape::default()
        },
        preferences: Preferences { quality: Some(0.7), ..Preferences::default() },
        tier_cap: None,
        explain: false,
    }
}

fn target(id: &str) -> TargetRef {
    TargetRef { id: TargetId(id.into()), provider: "maker".into(), model: format!("{id}-1").into() }
}

pub fn decision(id: Uuid) -> Decision {
    Decision {
        decision_id: id.to_string(),
        tier: "simple".into(),
        target: target("small"),
        failover: vec![target("other")],
        intent: Some(Intent("code".into())),
        intent_confidence: 0.9,
        tier_scores: CONFIG
            .tiers
            .iter()
            .enumerate()
            .map(|(at, tier)| TierScore { tier: Arc::clone(&tier.name), sufficiency: at as f64 / 10.0 })
            .collect(),
        sufficiency_base: Vec::new(),
        confidence: 0.8,
        source: Source::Classifier,
        rule: None,
        reason: SECRET.to_owned(),
        low_confidence: false,
        truncated: false,
        bundle_version: Some("1".into()),
        config_generation: 1,
        prompt_tokens: 9,
        prompt_tokens_source: TokenCountSource::Length,
        cost_usd_estimate: 0.1,
        baseline_cost_usd: 0.2,
        propensity: 1.0,
        explored: false,
        canary: false,
        unscored: None,
        timings: Timings { total_us: 1500, ..Timings::default() },
        switched_from: None,
        switch_cost_usd: 0.0,
        rule_matches: Vec::new(),
    }
}

fn attempt(outcome: Outcome) -> Attempt {
    Attempt {
        index: TargetIndex(0),
        target: target("small"),
        tier: Tier(0),
        cause: Cause::First,
        outcome,
        started: Duration::ZERO,
        latency: Duration::from_micros(7900),
        first_token: Some(Duration::from_millis(2)),
        usage: Usage { input_tokens: 9, cached_input_tokens: 4, output_tokens: 2, ..Usage::default() },
        estimated: true,
        cost_usd: 0.001,
        dropped_parameters: Vec::new(),
    }
}

fn ended(attempts: Vec<Attempt>, how: Ending) -> Record {
    Pending::ended(Ended {
        config: Arc::clone(&CONFIG),
        prompt: prompt(SECRET),
        decision: Arc::new(decision(Uuid::now_v7())),
        attempts,
        how,
        cost_usd: 0.003,
        latency: Duration::from_millis(20),
        overhead: Duration::from_millis(1),
    })
    .record
}

fn weakness() -> Weakness {
    Weakness { check: Check::Refusal, why: SECRET.to_owned() }
}

#[test]
fn a_decision_alone() {
    let id = Uuid::now_v7();
    let Pending { record, messages, bytes, cut } = Pending::decided(&CONFIG, prompt("hello"), &decision(id));
    assert_eq!((record.decision_id, record.kind, record.at_ms), (id, Kind::Route, moment(id)));
    assert_eq!((messages.len(), bytes, cut), (1, 5, false));
    assert_eq!((&*record.outcome.status, record.outcome.latency_ms), ("decided", 1.5));
    let request = &record.request;
    assert_eq!((&*request.tenant, &*request.session, request.turns), ("a", "s", 1));
    assert_eq!(
        (request.output_tokens_max, request.needs_json, request.quality),
        (Some(100), true, Some(0.7))
    );
    let decision = &record.decision;
    assert_eq!(decision.tiers.len(), decision.sufficiency.len());
    assert_eq!(decision.sufficiency[..2], [0.0, 0.1]);
    assert_eq!(
        (&*decision.target.model, &*decision.failover[0], &*decision.source),
        ("small-1", "other", "classifier")
    );
}

#[test]
fn without_scores_there_is_no_sufficiency() {
    let unscored = Decision { tier_scores: Vec::new(), ..decision(Uuid::now_v7()) };
    let pending = Pending::decided(&CONFIG, prompt("hello"), &unscored);
    assert_eq!(pending.record.decision.sufficiency, [0.0; 0]);
}

#[test]
fn endings() {
    let answered = |escalated, weak| Ending::Answered {
        target: target("large"),
        tier: "complex".into(),
        escalated,
        weak,
        baseline_cost_usd: 0.4,
    };
    let fine = || attempt(Outcome::Answered);
    let weak = || attempt(Outcome::Weak(weakness()));
    let check = |attempts: Vec<Attempt>, how: Ending, status: &str, signals: &[Signal]| {
        let record = ended(attempts, how);
        assert_eq!((&*record.outcome.status, &*record.signals), (status, signals));
        assert_eq!(record.kind, Kind::Complete);
    };
    check(vec![fine()], answered(false, None), "answered", &[]);
    check(vec![weak(), fine()], answered(true, None), "answered", &[Signal::Weak, Signal::Escalated]);
    check(vec![weak()], answered(false, Some(weakness())), "weak", &[Signal::Weak]);
    check(vec![], Ending::Failed(FailureKind::Unavailable), "failed", &[]);
    check(vec![fine()], Ending::HungUp, "hung_up", &[Signal::Abandoned]);

    let record = ended(vec![weak(), fine()], answered(true, None));
    assert_eq!(record.outcome.target.unwrap().model, "large-1".into());
    assert_eq!((record.outcome.cost_usd, record.outcome.baseline_cost_usd), (0.003, 0.4));
    assert_eq!(record.attempts[0].why.as_deref(), Some("refusal"));
    assert_eq!(record.attempts[1].latency_ms, 7.9);
    assert_eq!(
        ended(vec![], Ending::Failed(FailureKind::Unavailable)).outcome.failure.as_deref(),
        Some("unavailable")
    );
}

#[test]
fn no_text_stands_beside_the_messages() {
    let failed = Outcome::Failed(ProviderError {
        kind: ErrorKind::Refused,
        status: Some(400),
        message: SECRET.to_owned(),
        code: Some(SECRET.to_owned()),
        again: Again::Usual,
    });
    let record = ended(
        vec![attempt(failed), attempt(Outcome::Weak(weakness()))],
        Ending::Failed(FailureKind::Unavailable),
    );
    let text = serde_json::to_string(&record).unwrap();
    assert!(!text.contains(SECRET), "{text}");
}

#[test]
fn ids_tell_the_time() {
    assert_eq!(moment("0199a0b0-0000-7000-8000-000000000001".parse().unwrap()), 0x0199_a0b0_0000);
    assert_eq!(moment(Uuid::nil()), 0);
}

#[test]
fn the_weight_counts_what_a_caller_makes_long() {
    let light = pending("hello").weight();
    assert!(pending(&"x ".repeat(5_000)).weight() > light + 9_000);
    let mut tagged = prompt("hello");
    tagged.context.tags = vec!["y".repeat(10_000)];
    let tagged = Pending::decided(&CONFIG, tagged, &decision(Uuid::now_v7()));
    assert!(tagged.weight() > light + 9_000);
}
