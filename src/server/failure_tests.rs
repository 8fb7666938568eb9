use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use tonic_types::StatusExt;

use super::*;
use crate::{
    completion::{
        answer::Usage,
        attempt::{Again, Attempt, Cause, Check, ErrorKind, Outcome, ProviderError, Weakness},
    },
    config::{TargetIndex, default_config},
    prompt::{Decision, Source, TargetId, TargetRef, Tier, Timings, TokenCountSource},
};

static CONFIG: LazyLock<Config> = LazyLock::new(default_config);

fn target(id: &str) -> TargetRef {
    TargetRef { id: TargetId(Arc::from(id)), provider: Arc::from("acme"), model: Arc::from("model-1") }
}

fn attempt(id: &str, message: &str) -> Attempt {
    let message = message.to_owned();
    let error = ProviderError {
        kind: ErrorKind::Server,
        status: Some(500),
        message,
        code: None,
        again: Again::Usual,
    };
    Attempt {
        index: TargetIndex(0),
        target: target(id),
        tier: Tier(0),
        cause: Cause::First,
        outcome: Outcome::Failed(error),
        started: Duration::from_millis(1),
        latency: Duration::from_millis(20),
        first_token: None,
        usage: Usage::default(),
        estimated: true,
        cost_usd: 0.5,
        dropped_parameters: vec!["logit_bias".to_owned()],
    }
}

fn decision(reason: &str) -> Arc<Decision> {
    Arc::new(Decision {
        decision_id: "id".to_owned(),
        tier: Arc::from("simple"),
        target: target("a"),
        failover: vec![target("b")],
        intent: None,
        intent_confidence: 0.0,
        tier_scores: Vec::new(),
        sufficiency_base: Vec::new(),
        confidence: 1.0,
        source: Source::Rule,
        rule: None,
        reason: reason.to_owned(),
        low_confidence: false,
        truncated: false,
        bundle_version: None,
        config_generation: 1,
        prompt_tokens: 1,
        prompt_tokens_source: TokenCountSource::Length,
        cost_usd_estimate: 0.0,
        baseline_cost_usd: 0.0,
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

fn failure(kind: FailureKind, attempts: Vec<Attempt>) -> Failure {
    Failure {
        kind,
        message: "nobody answered".to_owned(),
        decision: Some(decision("because")),
        attempts,
        cost_usd: 1.5,
        dropped: Vec::new(),
        retry_after: Some(Duration::from_millis(2500)),
    }
}

/// The account within a status.
fn account(status: &Status) -> proto::CompletionFailure {
    let envelope = tonic_types::pb::Status::decode(status.details()).unwrap();
    let detail = envelope.details.iter().find(|detail| detail.type_url == FAILURE_URL).unwrap();
    proto::CompletionFailure::decode(detail.value.as_slice()).unwrap()
}

#[test]
fn a_status_carries_every_attempt_and_when_to_try_again() {
    let weak = Weakness { check: Check::Refusal, why: "it declines".to_owned() };
    let second = Attempt { outcome: Outcome::Weak(weak), ..attempt("b", "") };
    let attempts = vec![attempt("a", "overloaded"), second];
    let status = status(failure(FailureKind::Unavailable, attempts), &CONFIG);
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "nobody answered"));
    assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_millis(2500)));
    let account = account(&status);
    assert_eq!(account.kind(), proto::FailureKind::Unavailable);
    assert_eq!((account.attempts_left_out, account.cost_usd), (0, 1.5));
    assert_eq!(account.decision.as_ref().unwrap().reason, "because");
    let [first, second] = account.attempts.as_slice() else { panic!("{account:?}") };
    assert_eq!((first.tier.as_str(), first.outcome()), ("simple", proto::AttemptOutcome::Failed));
    let error = first.error.as_ref().unwrap();
    assert_eq!((error.kind.as_str(), error.status, error.message.as_str()), ("server", 500, "overloaded"));
    assert_eq!(second.weakness.as_ref().unwrap().check, "refusal");
}

#[test]
fn codes() {
    for (kind, code) in [
        (FailureKind::NoTarget, Code::FailedPrecondition),
        (FailureKind::BudgetSpent, Code::ResourceExhausted),
        (FailureKind::Overloaded, Code::ResourceExhausted),
        (FailureKind::Refused, Code::InvalidArgument),
        (FailureKind::RateLimited, Code::ResourceExhausted),
        (FailureKind::Unavailable, Code::Unavailable),
        (FailureKind::DeadlineExceeded, Code::DeadlineExceeded),
        (FailureKind::Unconfigured, Code::FailedPrecondition),
        (FailureKind::BrokenOff, Code::Aborted),
        (FailureKind::CallerStalled, Code::Aborted),
    ] {
        let failed = failure(kind, Vec::new());
        assert_eq!(status(failed, &CONFIG).code(), code, "{kind:?}");
    }
}

#[test]
fn texts_are_cut_before_attempts_are() {
    let attempts = (0..12).map(|at| attempt(&format!("target-{at}"), &"é".repeat(256))).collect();
    let status = status(failure(FailureKind::Unavailable, attempts), &CONFIG);
    let account = account(&status);
    assert_eq!((account.attempts.len(), account.attempts_left_out), (12, 0));
    let message = &account.attempts[0].error.as_ref().unwrap().message;
    assert!(message.ends_with("é…") && message.len() <= SHORT_BYTES_MAX, "{message}");
}

#[test]
fn of_too_many_attempts_the_first_and_the_last_stay() {
    let attempts: Vec<Attempt> = (0..200).map(|at| attempt(&format!("target-{at}"), "no")).collect();
    let account = account(&status(failure(FailureKind::Unavailable, attempts), &CONFIG));
    let id = |attempt: &proto::Attempt| attempt.target.as_ref().unwrap().id.clone();
    assert_eq!(account.attempts.len() + account.attempts_left_out as usize, 200);
    assert!(account.attempts.len() > 10, "{}", account.attempts.len());
    assert_eq!(id(account.attempts.first().unwrap()), "target-0");
    assert_eq!(id(account.attempts.last().unwrap()), "target-199");
    assert!(account.decision.is_some());
}

proptest! {
    #[test]
    fn details_always_fit(
        ids in prop::collection::vec("\\PC{0,300}", 0..40),
        message in "\\PC{0,600}",
        reason in "\\PC{0,8000}",
    ) {
        let attempts = ids.iter().map(|id| attempt(id, &message)).collect::<Vec<_>>();
        let count = attempts.len();
        let failed = Failure {
            message,
            decision: Some(decision(&reason)),
            ..failure(FailureKind::Unavailable, attempts)
        };
        let status = status(failed, &CONFIG);
        prop_assert!(status.details().len() <= DETAILS_BYTES_MAX);
        prop_assert!(status.message().len() <= MESSAGE_BYTES_MAX);
        let account = account(&status);
        prop_assert_eq!(account.attempts.len() + account.attempts_left_out as usize, count);
    }
}

/// As `Route` has it.
#[test]
fn who_was_out_of_the_question_is_told() {
    let dropped = |target: &str| Dropped {
        tier: "simple".into(),
        target: TargetId(target.into()),
        why: "the prompt does not fit its context window".to_owned(),
    };
    let many = (0..500).map(|at| dropped(&format!("target-{at}"))).collect();
    for (dropped, least) in [(vec![dropped("a"), dropped("b")], 2), (many, 20)] {
        let failed = Failure { dropped, ..failure(FailureKind::NoTarget, Vec::new()) };
        let status = status(failed, &CONFIG);
        assert!(status.details().len() <= DETAILS_BYTES_MAX);
        let violations = status.get_details_precondition_failure().unwrap().violations;
        assert!(violations.len() >= least, "{}", violations.len());
        assert_eq!(violations[0].r#type, "TARGET");
        assert!(violations[0].subject.starts_with("simple/"));
    }
}
