//! `POST /v1/messages/count_tokens`: how long a prompt is, estimated by its length; agents ask it to know when
//! to shorten a conversation.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::HeaderMap,
    response::Response,
};
use serde_json::json;

use super::{
    admit::{Read, Words, admitted, read, read_body, refused},
    chat::json_answer,
    errors::{Dialect, Problem},
};
use crate::{live::Live, routing::cost::count_by_length};

/// Answers with an estimate.
pub async fn count_tokens(State(live): State<Arc<Live>>, request: Request) -> Response {
    count(&live, request).await.unwrap_or_else(|problem| problem.answer(Dialect::Anthropic))
}

async fn count(live: &Live, request: Request) -> Result<Response, Problem> {
    let serving = live.serving();
    let (headers, Read { mut body, memory: _memory }) = read_body(&serving, request).await?;
    // A message must limit its answer; this one will have none.
    body.entry("max_tokens").or_insert(json!(1));
    let incoming = read(body, Dialect::Anthropic).map_err(refused)?;
    let mut draft = incoming.draft;
    draft.model = Some(incoming.model);
    let (prompt, _) = admitted(&serving, &headers, draft, Words::Dialect(Dialect::Anthropic))?;
    let tokens = count_by_length(&prompt).tokens;
    Ok(json_answer(HeaderMap::new(), &json!({ "input_tokens": tokens })))
}
