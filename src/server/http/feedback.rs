//! `POST /v1/feedback`: what somebody says about an answer, as JSON.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde_json::{Map, Value, json};

use super::{
    admit::{BodyMax, Read, read_body_up_to},
    chat::json_answer,
    errors::{Dialect, Problem},
    hints,
};
use crate::{
    live::Live,
    routing::admit::{BadRequest, FieldProblem},
    server::feedback::{FeedbackStatus, Refusal, Taken, take},
    traffic::feedback::{FeedbackDraft, FeedbackSource, Verdict},
};

/// A comment and a demonstration of the greatest length, every letter of them escaped, and some that are too long, so
/// that they get an error that names them.
const BODY_MAX: BodyMax =
    BodyMax { bytes: 2 << 20, limit: "comment takes up to 16384 of them and demonstration up to 262144" };

/// What may stand in the body.
const KNOWN: &str = "decision_id, feedback_id, source, verdict, score, right_tier, right_intent, comment and \
                     demonstration are known";

/// Answers 200 for feedback that is in the log, 202 for feedback that waits for its decision.
pub async fn feedback(State(live): State<Arc<Live>>, request: Request) -> Response {
    report(&live, request).await.unwrap_or_else(|problem| problem.answer(Dialect::OpenAi))
}

async fn report(live: &Live, request: Request) -> Result<Response, Problem> {
    let (headers, Read { body, memory: _memory }) =
        read_body_up_to(BODY_MAX, &live.serving(), request).await?;
    let draft = match hints::none(&headers) {
        Ok(()) => draft(body),
        Err(bad) => Err(bad),
    };
    match take(live, draft).await {
        Ok(taken) => Ok(answer(&taken)),
        Err(Refusal::Invalid(bad)) => Err(bad.into()),
        Err(Refusal::NotTaken(why)) => Err(why.into()),
    }
}

fn answer(taken: &Taken) -> Response {
    let body = json!({ "feedback_id": taken.feedback_id, "status": taken.status.as_str() });
    let mut response = json_answer(HeaderMap::new(), &body);
    *response.status_mut() = match taken.status {
        FeedbackStatus::Recorded | FeedbackStatus::Duplicate => StatusCode::OK,
        FeedbackStatus::UnknownDecision => StatusCode::ACCEPTED,
    };
    response
}

/// Reads the body, or names each field that is unknown or of the wrong type; quotes nothing of it but such names.
fn draft(mut body: Map<String, Value>) -> Result<FeedbackDraft, BadRequest> {
    let mut problems = Vec::new();
    let mut take = |name: &str| body.remove(name).filter(|value| !value.is_null());
    let mut wrong = |name: &str, problem: &str| problems.push(FieldProblem::new(name, problem));
    let source = take("source").and_then(|value| {
        let found = match value.as_str() {
            Some("user") => Some(FeedbackSource::User),
            Some("human") => Some(FeedbackSource::Human),
            Some("automatic") => Some(FeedbackSource::Automatic),
            Some(_) | None => None,
        };
        if found.is_none() {
            wrong("source", "is none of \"user\", \"human\" and \"automatic\"");
        }
        found
    });
    let verdict = take("verdict").and_then(|value| {
        let found = match value.as_str() {
            Some("good") => Some(Verdict::Good),
            Some("bad") => Some(Verdict::Bad),
            Some(_) | None => None,
        };
        if found.is_none() {
            wrong("verdict", "is neither \"good\" nor \"bad\"");
        }
        found
    });
    let score = take("score").and_then(|value| {
        if !value.is_number() {
            wrong("score", "is not a number");
        }
        value.as_f64()
    });
    let mut text = |name: &str| match take(name) {
        None => String::new(),
        Some(Value::String(text)) => text,
        Some(_) => {
            wrong(name, "is not a string");
            String::new()
        }
    };
    let draft = FeedbackDraft {
        decision_id: text("decision_id"),
        feedback_id: text("feedback_id"),
        source,
        verdict,
        score,
        right_tier: text("right_tier"),
        right_intent: text("right_intent"),
        comment: text("comment"),
        demonstration: text("demonstration"),
    };
    problems.extend(
        body.keys().map(|name| FieldProblem::new(super::shown(name), format!("is unknown; {KNOWN}"))),
    );
    if problems.is_empty() { Ok(draft) } else { Err(BadRequest(problems)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<FeedbackDraft, BadRequest> {
        let Value::Object(body) = body else { unreachable!() };
        draft(body)
    }

    #[test]
    fn a_body_is_read() {
        let body = json!({
            "decision_id": "a", "feedback_id": "b", "source": "human", "verdict": "good", "score": 1,
            "right_tier": "c", "right_intent": "d", "comment": "e", "demonstration": "f",
        });
        let expected = FeedbackDraft {
            decision_id: "a".to_owned(),
            feedback_id: "b".to_owned(),
            source: Some(FeedbackSource::Human),
            verdict: Some(Verdict::Good),
            score: Some(1.0),
            right_tier: "c".to_owned(),
            right_intent: "d".to_owned(),
            comment: "e".to_owned(),
            demonstration: "f".to_owned(),
        };
        assert_eq!(read(body), Ok(expected));
        assert_eq!(read(json!({})), Ok(FeedbackDraft::default()));
        assert_eq!(
            read(json!({"source": null, "score": null, "comment": null})),
            Ok(FeedbackDraft::default())
        );
    }

    #[test]
    fn every_bad_field_is_named_and_nothing_is_quoted() {
        let check = |body: Value, expected: &[&str]| {
            let bad = read(body).unwrap_err();
            assert!(!bad.to_string().contains("hunter2"), "{bad}");
            let fields: Vec<&str> = bad.0.iter().map(|problem| problem.field.as_str()).collect();
            assert_eq!(fields, expected);
        };
        check(json!({"decision": "a"}), &["decision"]);
        check(json!({"score": "hunter2"}), &["score"]);
        check(json!({"source": "hunter2", "verdict": 1}), &["source", "verdict"]);
        check(json!({"comment": ["hunter2"], "decision_id": 7}), &["decision_id", "comment"]);
        check(json!({"verdict": "Good", "messages": "hunter2"}), &["verdict", "messages"]);
    }
}
