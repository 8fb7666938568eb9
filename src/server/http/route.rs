//! `POST /v1/route`: a decision as JSON, for a request as `pointsman route --input` reads it.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    http::HeaderMap,
    response::Response,
};
use serde_json::{Map, Value, json};

use super::{
    admit::{Read, Words, admitted, read_body, refused},
    chat::json_answer,
    errors::{Dialect, Problem},
    headers,
};
use crate::{
    live::Live,
    prompt::Draft,
    routing::{
        admit::{BadRequest, FieldProblem},
        line::take_draft,
    },
};

/// Answers with the decision.
pub async fn route(State(live): State<Arc<Live>>, request: Request) -> Response {
    decide(&live, request).await.unwrap_or_else(|problem| problem.answer(Dialect::OpenAi))
}

async fn decide(live: &Live, request: Request) -> Result<Response, Problem> {
    let serving = live.serving();
    let (request_headers, Read { body, memory: _memory }) = read_body(&serving, request).await?;
    let received = Instant::now();
    let draft = draft(body).map_err(refused)?;
    let (prompt, hints) = admitted(&serving, &request_headers, draft, Words::Draft)?;
    let deadline = hints.timeout.and_then(|timeout| received.checked_add(timeout));
    let decision = serving.route(&prompt, deadline).await?;
    live.decided(&serving, prompt, &decision);
    let mut head = HeaderMap::new();
    headers::add_decision(&decision, &mut head);
    headers::add_target(&decision.target, &decision.tier, &mut head);
    Ok(json_answer(head, &json!({ "decision": decision })))
}

/// Reads the body; unlike in a file, an unknown field is a mistake.
fn draft(mut body: Map<String, Value>) -> Result<Draft, BadRequest> {
    let mut problems = Vec::new();
    let model = match body.remove("model") {
        None | Some(Value::Null) => None,
        Some(Value::String(model)) => Some(model),
        Some(_) => {
            problems.push(FieldProblem::new("model", "is not a string"));
            None
        }
    };
    let explain = match body.remove("explain") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(explain)) => explain,
        Some(_) => {
            problems.push(FieldProblem::new("explain", "is not true or false"));
            false
        }
    };
    let draft = take_draft(&mut body).unwrap_or_else(|BadRequest(found)| {
        problems.extend(found);
        Draft::default()
    });
    problems.extend(body.keys().map(|name| {
        let known = "prompt, messages, context, shape, preferences, model and explain are known";
        FieldProblem::new(super::shown(name), format!("is unknown; {known}"))
    }));
    if problems.is_empty() { Ok(Draft { model, explain, ..draft }) } else { Err(BadRequest(problems)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_like_a_line() {
        let body = json!({
            "messages": [{"role": "user", "content": "hello"}],
            "context": {"tenant": "a"},
            "preferences": {"quality": 0.5},
            "model": "tier:simple",
            "explain": true,
        });
        let Value::Object(body) = body else { unreachable!() };
        let draft = draft(body).unwrap();
        assert_eq!(draft.messages[0].content, "hello");
        assert_eq!(draft.context.tenant, "a");
        assert_eq!(draft.model.as_deref(), Some("tier:simple"));
        assert!(draft.explain);
    }

    #[test]
    fn every_bad_field_is_named() {
        let check = |body: Value, fields: &[&str]| {
            let Value::Object(body) = body else { unreachable!() };
            let BadRequest(problems) = draft(body).unwrap_err();
            let mut named: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
            named.sort_unstable();
            assert_eq!(named, fields);
        };
        check(json!({"prompt": 7}), &["prompt"]);
        check(json!({"prompt": "a", "quality": 1, "temperature": 0}), &["quality", "temperature"]);
        check(json!({"model": 7, "explain": "yes", "shape": 7}), &["explain", "model", "shape"]);
        check(json!({"messages": [{"content": "a"}]}), &["messages"]);
    }
}
