//! `POST /v1/route`: a decision as JSON, for a request as `pointsman route --input` reads it.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{Request, State},
    http::HeaderMap,
    response::Response,
};
use serde_json::json;

use super::{
    admit::{Read, Words, admitted, read_body, refused},
    chat::json_answer,
    errors::{Dialect, Problem},
    headers,
};
use crate::{live::Live, routing::line::take_request};

/// Answers with the decision.
pub async fn route(State(live): State<Arc<Live>>, request: Request) -> Response {
    decide(&live, request).await.unwrap_or_else(|problem| problem.answer(Dialect::OpenAi))
}

async fn decide(live: &Live, request: Request) -> Result<Response, Problem> {
    let serving = live.serving();
    let (request_headers, Read { mut body, memory: _memory }) = read_body(&serving, request).await?;
    let received = Instant::now();
    let id = body.remove("id");
    let draft = take_request(&mut body).map_err(refused)?;
    let (prompt, hints) = admitted(&serving, &request_headers, draft, Words::Draft)?;
    let deadline = hints.timeout.and_then(|timeout| received.checked_add(timeout));
    let decision = serving.route(&prompt, deadline).await?;
    live.decided(&serving, prompt, &decision);
    let mut head = HeaderMap::new();
    headers::add_decision(&decision, &mut head);
    headers::add_target(&decision.target, &decision.tier, &mut head);
    let mut answer = json!({ "decision": decision });
    if let Some(id) = id {
        answer["id"] = id;
    }
    Ok(json_answer(head, &answer))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_body_is_a_line_of_a_file() {
        let body = json!({
            "id": 7,
            "messages": [{"role": "user", "content": "hello"}],
            "context": {"tenant": "a"},
            "preferences": {"quality": 0.5},
            "model": "tier:simple",
            "explain": true,
        });
        let Value::Object(mut body) = body else { unreachable!() };
        let draft = take_request(&mut body).unwrap();
        assert_eq!(draft.messages[0].content, "hello");
        assert_eq!(draft.context.tenant, "a");
        assert_eq!(draft.model.as_deref(), Some("tier:simple"));
        assert!(draft.explain);
    }
}
