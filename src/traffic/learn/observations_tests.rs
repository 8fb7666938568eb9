//! What feedback and outcomes say.

use uuid::Uuid;

use super::*;
use crate::{
    config::LearningConfig,
    traffic::{
        feedback::{self, FeedbackSource},
        record::{self, Kind, OutcomeRecord, RequestRecord, TargetRecord, TextRecord, TimingsRecord},
    },
};

const TIERS: [&str; 3] = ["simple", "moderate", "complex"];

fn target(id: &str) -> TargetRecord {
    TargetRecord { id: id.into(), provider: "p".into(), model: "m".into() }
}

fn attempt(id: &str, tier: &str, cause: &str, outcome: &str) -> AttemptRecord {
    AttemptRecord {
        target: target(id),
        tier: tier.into(),
        cause: cause.to_owned(),
        outcome: outcome.to_owned(),
        why: None,
        started_ms: 0.0,
        latency_ms: 1.0,
        first_token_ms: None,
        input_tokens: 1,
        cached_input_tokens: 0,
        output_tokens: 1,
        cost_usd: 0.0,
        estimated: false,
    }
}

/// Decided for s1 of simple, for code, at 0.7, 0.8 and 1.
fn record(attempts: Vec<AttemptRecord>) -> Record {
    let answered = attempts.iter().rfind(|attempt| attempt.outcome == "answered" && attempt.cause != "judge");
    Record {
        version: record::VERSION,
        decision_id: Uuid::nil(),
        at_ms: 7,
        kind: if attempts.is_empty() { Kind::Route } else { Kind::Complete },
        request: RequestRecord {
            tenant: "acme".to_owned(),
            session: String::new(),
            task_type: String::new(),
            tags: Vec::new(),
            language: String::new(),
            text: TextRecord {
                policy: "none".to_owned(),
                messages: Vec::new(),
                hash: None,
                bytes: 1,
                cut: false,
                redactions: 0,
            },
            turns: 1,
            prompt_tokens: 1,
            output_tokens_max: None,
            needs_tools: false,
            needs_vision: false,
            needs_json: false,
            quality: None,
        },
        decision: DecisionRecord {
            tiers: TIERS.map(Arc::from).to_vec(),
            tier: "simple".into(),
            target: target("s1"),
            failover: Vec::new(),
            intent: Some("code".into()),
            intent_confidence: 0.9,
            sufficiency: vec![0.7, 0.8, 1.0],
            sufficiency_base: Vec::new(),
            confidence: 0.8,
            source: "classifier".to_owned(),
            rule: None,
            low_confidence: false,
            truncated: false,
            bundle_version: None,
            config_generation: 1,
            cost_usd_estimate: 0.0,
            baseline_cost_usd_estimate: 0.0,
            propensity: 1.0,
            explored: false,
            canary: false,
            timings: TimingsRecord::default(),
        },
        outcome: OutcomeRecord {
            status: if answered.is_some() { "answered" } else { "decided" }.to_owned(),
            failure: None,
            tier: answered.map(|attempt| Arc::clone(&attempt.tier)),
            target: answered.map(|attempt| attempt.target.clone()),
            escalated: false,
            cost_usd: 0.0,
            baseline_cost_usd: 0.0,
            latency_ms: 1.0,
            overhead_ms: 1.0,
        },
        attempts,
        signals: Vec::new(),
    }
}

fn said(source: FeedbackSource) -> Feedback {
    Feedback {
        version: feedback::VERSION,
        feedback_id: "f".to_owned(),
        decision_id: Uuid::nil(),
        at_ms: 9,
        source,
        verdict: None,
        score: None,
        right_tier: None,
        right_intent: None,
        comment: None,
        demonstration: None,
        signal: None,
    }
}

fn weights() -> LearningWeights {
    LearningConfig::default().weights
}

/// Target, base sufficiency, how good, weight.
type Said = (String, f64, Option<f64>, f64);

fn short(observation: &Observation) -> Said {
    let Judgement { base, good, weight, .. } = observation.judgement;
    (observation.cell.target.to_string(), base, good, weight)
}

#[track_caller]
fn check_feedback(record: &Record, feedback: &Feedback, expected: Option<(&str, f64, f64, f64)>) {
    let got = of_feedback(record, feedback, &weights());
    let expected = expected.map(|(target, base, good, weight)| (target.to_owned(), base, Some(good), weight));
    assert_eq!(got.as_ref().map(short), expected);
    if let Some(got) = got {
        assert_eq!((&*got.cell.intent, &*got.tenant, got.judgement.at_ms), ("code", "acme", 9));
        assert_eq!(got.channel, Channel::Feedback);
    }
}

#[test]
fn feedback_is_about_who_answered() {
    use FeedbackSource::{Automatic, Human, User};

    let decided = record(Vec::new());
    let bad = |source| Feedback { verdict: Some(Verdict::Bad), ..said(source) };
    check_feedback(&decided, &bad(User), Some(("s1", 0.7, 0.0, 0.5)));
    check_feedback(&decided, &bad(Human), Some(("s1", 0.7, 0.0, 1.0)));
    check_feedback(&decided, &bad(Automatic), Some(("s1", 0.7, 0.0, 0.3)));
    let escalated = record(vec![
        attempt("s1", "simple", "first", "weak"),
        attempt("m1", "moderate", "escalation", "answered"),
    ]);
    check_feedback(&escalated, &bad(User), Some(("m1", 0.8, 0.0, 0.5)));
}

#[test]
fn scores_go_before_verdicts_and_those_before_tiers() {
    let decided = record(Vec::new());
    let user = || said(FeedbackSource::User);
    let right = |tier: &str| Some(tier.to_owned());
    let good = Some(Verdict::Good);
    check_feedback(
        &decided,
        &Feedback { score: Some(0.6), verdict: good, ..user() },
        Some(("s1", 0.7, 0.6, 0.5)),
    );
    check_feedback(
        &decided,
        &Feedback { verdict: good, right_tier: right("complex"), ..user() },
        Some(("s1", 0.7, 1.0, 0.5)),
    );
    check_feedback(
        &decided,
        &Feedback { right_tier: right("simple"), ..user() },
        Some(("s1", 0.7, 1.0, 0.5)),
    );
    check_feedback(
        &decided,
        &Feedback { right_tier: right("moderate"), ..user() },
        Some(("s1", 0.7, 0.0, 0.5)),
    );
    check_feedback(&decided, &Feedback { right_tier: right("gone"), ..user() }, None);
    check_feedback(&decided, &Feedback { right_intent: right("math"), ..user() }, None);
    let noticed = |signal| Feedback { signal: Some(signal), ..said(FeedbackSource::Automatic) };
    check_feedback(&decided, &noticed(Signal::Regenerated), Some(("s1", 0.7, 0.0, 0.3)));
    check_feedback(&decided, &noticed(Signal::Abandoned), None);
}

#[test]
fn what_was_not_scored_says_nothing() {
    let bad = Feedback { verdict: Some(Verdict::Bad), ..said(FeedbackSource::User) };
    let mut by_rule = record(vec![attempt("s1", "simple", "first", "answered")]);
    by_rule.decision.sufficiency.clear();
    check_feedback(&by_rule, &bad, None);
    assert_eq!(of_outcome(&by_rule, &[], &weights()), []);
    let mut no_intent = record(Vec::new());
    no_intent.decision.intent = None;
    check_feedback(&no_intent, &bad, None);
}

#[test]
fn an_offset_is_not_counted_twice() {
    let mut learned = record(Vec::new());
    learned.decision.sufficiency_base = vec![0.4, 0.8, 1.0];
    let bad = Feedback { verdict: Some(Verdict::Bad), ..said(FeedbackSource::User) };
    check_feedback(&learned, &bad, Some(("s1", 0.4, 0.0, 0.5)));
}

#[test]
fn outcomes_are_about_each_answer() {
    let check = |record: &Record, feedback: &[Feedback], expected: &[(&str, f64, Option<f64>, f64)]| {
        let got: Vec<Said> = of_outcome(record, feedback, &weights()).iter().map(short).collect();
        let expected: Vec<Said> =
            expected.iter().map(|&(id, base, good, weight)| (id.to_owned(), base, good, weight)).collect();
        assert_eq!(got, expected);
    };
    let escalated = record(vec![
        attempt("s0", "simple", "first", "failed"),
        attempt("s1", "simple", "failover", "weak"),
        attempt("judge", "complex", "judge", "answered"),
        attempt("m1", "moderate", "escalation", "answered"),
        attempt("m2", "moderate", "hedge", "lost"),
    ]);
    let weak = ("s1", 0.7, Some(0.0), 0.02);
    let passed = ("m1", 0.8, None, 0.004);
    check(&escalated, &[], &[weak, passed]);
    let user = || said(FeedbackSource::User);
    check(&escalated, &[Feedback { verdict: Some(Verdict::Good), ..user() }], &[weak]);
    // What says nothing of how good the answer was.
    check(&escalated, &[Feedback { comment: Some("thanks".to_owned()), ..user() }], &[weak, passed]);
    check(&escalated, &[Feedback { signal: Some(Signal::Abandoned), ..user() }], &[weak, passed]);
    let mut hung_up = record(vec![attempt("s1", "simple", "first", "answered")]);
    hung_up.outcome.status = "hung_up".to_owned();
    check(&hung_up, &[], &[]);
    check(&record(Vec::new()), &[], &[]);
}
