use axum::{body::to_bytes, http::HeaderMap};

use super::{super::samples::failure, *};
use crate::routing::admit::{FieldProblem, ProblemKind};

const KINDS: [FailureKind; 10] = [
    FailureKind::NoTarget,
    FailureKind::BudgetSpent,
    FailureKind::Overloaded,
    FailureKind::Refused,
    FailureKind::RateLimited,
    FailureKind::Unavailable,
    FailureKind::DeadlineExceeded,
    FailureKind::Unconfigured,
    FailureKind::BrokenOff,
    FailureKind::CallerStalled,
];

async fn told(problem: &Problem, dialect: Dialect) -> (u16, HeaderMap, Value) {
    let (head, body) = problem.answer(dialect).into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    (head.status.as_u16(), head.headers, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn every_failure_has_its_status_type_and_code() {
    let check = async |kind: FailureKind, openai: (u16, &str, &str), anthropic: (u16, &str)| {
        let problem = Problem::from(failure(kind));
        let (status, _, body) = told(&problem, Dialect::OpenAi).await;
        let error = &body["error"];
        let words = (status, error["type"].as_str().unwrap(), error["code"].as_str().unwrap());
        assert_eq!(words, openai, "{kind:?}");
        let (status, _, body) = told(&problem, Dialect::Anthropic).await;
        assert_eq!(body["type"], "error");
        assert_eq!((status, body["error"]["type"].as_str().unwrap()), anthropic, "{kind:?}");
    };
    let bad = "invalid_request_error";
    check(FailureKind::NoTarget, (422, bad, "no_target"), (422, bad)).await;
    let quota = "insufficient_quota";
    check(FailureKind::BudgetSpent, (429, quota, quota), (402, "billing_error")).await;
    check(FailureKind::Overloaded, (503, "server_error", "overloaded"), (529, "overloaded_error")).await;
    check(FailureKind::Refused, (400, bad, "refused"), (400, bad)).await;
    let limit = "rate_limit_error";
    check(FailureKind::RateLimited, (429, limit, "rate_limit_exceeded"), (429, limit)).await;
    check(FailureKind::Unavailable, (502, "server_error", "unavailable"), (529, "overloaded_error")).await;
    let late = "deadline_exceeded";
    check(FailureKind::DeadlineExceeded, (504, "server_error", late), (504, "timeout_error")).await;
    check(FailureKind::Unconfigured, (503, "server_error", "unconfigured"), (503, "api_error")).await;
    check(FailureKind::BrokenOff, (502, "server_error", "broken_off"), (502, "api_error")).await;
    let stalled = "caller_stalled";
    check(FailureKind::CallerStalled, (408, "server_error", stalled), (408, "timeout_error")).await;
}

#[tokio::test]
async fn a_failure_lists_every_attempt_in_order() {
    for dialect in [Dialect::OpenAi, Dialect::Anthropic] {
        let (_, headers, body) = told(&failure(FailureKind::Unavailable).into(), dialect).await;
        assert_eq!(body["error"]["message"], "no target answered");
        assert_eq!(
            body["error"]["pointsman"],
            json!({
                "kind": "unavailable",
                "decision_id": "0199a0b0-0000-7000-8000-000000000001",
                "attempts": [
                    {
                        "target": "small", "cause": "first", "outcome": "failed", "error": "rate_limited",
                        "status": 429, "code": null, "message": "slow down", "latency_ms": 7,
                    },
                    {
                        "target": "large", "cause": "first", "outcome": "weak", "error": "refusal",
                        "status": null, "code": null, "message": "it reads as a refusal", "latency_ms": 7,
                    },
                ],
            })
        );
        let header = |name: &str| headers[name].to_str().unwrap();
        assert_eq!(header("x-pointsman-decision-id"), "0199a0b0-0000-7000-8000-000000000001");
        assert_eq!((header("x-pointsman-attempts"), header("x-pointsman-cost-usd")), ("2", "0.002"));
        assert_eq!(header("content-type"), "application/json");
    }
}

#[tokio::test]
async fn clients_are_told_when_to_try_again_and_when_never_to() {
    for kind in KINDS {
        let failure = Failure { retry_after: Some(Duration::from_millis(1001)), ..*failure(kind) };
        let (_, headers, _) = told(&Box::new(failure).into(), Dialect::OpenAi).await;
        assert_eq!(
            (&headers["retry-after"], &headers["retry-after-ms"]),
            (&"2".parse().unwrap(), &"1001".parse().unwrap())
        );
        use FailureKind::{BudgetSpent, DeadlineExceeded, Unavailable, Unconfigured};
        let never = |headers: &HeaderMap| headers.get("x-should-retry").is_some_and(|value| value == "false");
        let expected = matches!(kind, BudgetSpent | Unconfigured | DeadlineExceeded);
        assert_eq!(never(&headers), expected, "{kind:?}");
        let (_, headers, _) = told(&super::super::samples::failure(kind).into(), Dialect::OpenAi).await;
        assert!(!headers.contains_key("retry-after"));
        // All targets were tried, and nobody knows when one is back.
        assert_eq!(never(&headers), expected || kind == Unavailable, "{kind:?}");
    }
}

#[tokio::test]
async fn a_code_that_all_providers_gave_for_refusing_is_the_errors() {
    let check = async |kind: FailureKind, codes: &[Option<&str>], expected: &str| {
        let mut failure = failure(kind);
        let first = failure.attempts.swap_remove(0);
        failure.attempts = codes
            .iter()
            .map(|code| {
                let mut attempt = first.clone();
                let Outcome::Failed(error) = &mut attempt.outcome else { panic!("the sample failed") };
                error.code = code.map(str::to_owned);
                attempt
            })
            .collect();
        let (_, _, body) = told(&failure.into(), Dialect::OpenAi).await;
        assert_eq!(body["error"]["code"], expected, "{codes:?}");
        assert_eq!(body["error"]["pointsman"]["attempts"][0]["code"], json!(codes[0]));
    };
    let long = Some("context_length_exceeded");
    check(FailureKind::Refused, &[long, long], "context_length_exceeded").await;
    check(FailureKind::Refused, &[long, None], "refused").await;
    check(FailureKind::Refused, &[long, Some("content_filter")], "refused").await;
    check(FailureKind::Unavailable, &[Some("invalid_api_key")], "unavailable").await;
}

#[tokio::test]
async fn a_bad_request_names_its_fields() {
    let bad = BadRequest(vec![FieldProblem::new("messages", "is empty"), FieldProblem::new("n", "is 0")]);
    let (status, headers, body) = told(&bad.into(), Dialect::OpenAi).await;
    assert_eq!(status, 400);
    assert_eq!(
        body,
        json!({"error": {
            "message": "messages: is empty; n: is 0", "type": "invalid_request_error",
            "param": "messages", "code": null,
        }})
    );
    assert!(!headers.contains_key("x-pointsman-decision-id"));
    let many = (0..8).map(|at| FieldProblem::new(format!("f{at}"), "bad")).collect();
    let (_, _, body) = told(&BadRequest(many).into(), Dialect::Anthropic).await;
    assert_eq!(
        body,
        json!({"type": "error", "error": {
            "type": "invalid_request_error",
            "message": "f0: bad; f1: bad; f2: bad; f3: bad; f4: bad; and 3 more",
        }})
    );
}

#[tokio::test]
async fn an_unknown_model_is_not_found() {
    let problem = FieldProblem { kind: ProblemKind::UnknownModel, ..FieldProblem::new("model", "no such") };
    let problem = Problem::from(BadRequest(vec![problem]));
    let (status, _, body) = told(&problem, Dialect::OpenAi).await;
    assert_eq!((status, &body["error"]["code"]), (404, &json!("model_not_found")));
    let (status, _, body) = told(&problem, Dialect::Anthropic).await;
    assert_eq!((status, &body["error"]["type"]), (404, &json!("not_found_error")));
}

#[tokio::test]
async fn what_is_no_request_at_all_has_its_own_status() {
    let check = async |what: What, status: u16, anthropic: &str| {
        let problem = Problem::new(what, "m");
        let (got, _, body) = told(&problem, Dialect::OpenAi).await;
        assert_eq!((got, &body["error"]["type"]), (status, &json!("invalid_request_error")), "{what:?}");
        let (got, _, body) = told(&problem, Dialect::Anthropic).await;
        assert_eq!((got, &body["error"]["type"]), (status, &json!(anthropic)), "{what:?}");
    };
    check(What::UnknownPath, 404, "not_found_error").await;
    check(What::WrongMethod, 405, "invalid_request_error").await;
    check(What::TooLarge, 413, "request_too_large").await;
    check(What::NotJson, 415, "invalid_request_error").await;
    check(What::TooSlow, 408, "timeout_error").await;
    check(What::ForeignHost, 403, "permission_error").await;
}
