//! `POST /v1/chat/completions`: an answer in OpenAI's form, whole or streamed.
//!
//! What a provider of that form answers is passed on as it came; only usage that a stream's caller did not ask
//! for is left out, and the last usage that it did ask for says what pointsman did.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header::CONTENT_TYPE},
    response::Response,
};
use serde_json::{Value, json};

use super::{
    admit::{Asked, completion},
    errors::{Dialect, Problem, openai_broken},
    headers,
    stream::{self, Broken, Writer},
};
use crate::{
    completion::{
        answer::{Answer, Piece, Raw},
        dialect::openai::{self, ChunkHead},
        outcome::{Completion, Opening, Streaming, Summary},
    },
    live::{Live, Picked},
};

/// Answers a chat completion.
pub async fn completions(State(live): State<Arc<Live>>, request: Request) -> Response {
    answer(&live, request).await.unwrap_or_else(|problem| problem.answer(Dialect::OpenAi))
}

async fn answer(live: &Live, request: Request) -> Result<Response, Problem> {
    let Asked { picked, job, stream, include_usage } = completion(live, request, Dialect::OpenAi).await?;
    let Picked { router, completer, .. } = picked;
    let mut head = HeaderMap::new();
    if stream {
        let Streaming { opening, events } = Box::pin(completer.stream(router, job)).await?;
        headers::add_opening(&opening, &mut head);
        return Ok(stream::answer(head, events, Chunks::new(&opening, include_usage)));
    }
    let Completion { answer, summary } = Box::pin(completer.complete(router, job)).await?;
    headers::add_summary(&summary, &answer.dropped_parameters, &mut head);
    Ok(json_answer(head, &whole(answer, &summary)))
}

/// Returns a 200 with this body.
pub fn json_answer(head: HeaderMap, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.headers_mut() = head;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Returns the provider's own answer, or one of the dialect where it speaks another.
fn whole(answer: Answer, summary: &Summary) -> Value {
    match answer.raw {
        Raw::OpenAi(value) => value,
        Raw::Anthropic(_) => {
            let id = answer_id(&summary.decision.decision_id);
            let head = ChunkHead { id: &id, model: &summary.target.model, created: now() };
            openai::completion(&answer.view, head)
        }
    }
}

fn answer_id(decision_id: &str) -> String {
    format!("chatcmpl-{decision_id}")
}

/// Unix time, seconds.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The chunks of one stream.
struct Chunks {
    include_usage: bool,
    /// Stand in chunks that no provider wrote, until one of its chunks says otherwise.
    id: String,
    model: String,
    created: u64,
    /// A chunk that may be the last: its usage is sent when the account is known.
    held: Option<Value>,
}

impl Chunks {
    fn new(opening: &Opening, include_usage: bool) -> Self {
        Self {
            include_usage,
            id: answer_id(&opening.decision.decision_id),
            model: opening.target.model.to_string(),
            created: now(),
            held: None,
        }
    }

    fn head(&self) -> ChunkHead<'_> {
        ChunkHead { id: &self.id, model: &self.model, created: self.created }
    }

    /// A chunk that pointsman adds looks like those before it.
    fn learn(&mut self, chunk: &Value) {
        let text = |name: &str| chunk.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(id) = text("id") {
            id.clone_into(&mut self.id);
        }
        if let Some(model) = text("model") {
            model.clone_into(&mut self.model);
        }
        if let Some(created) = chunk.get("created").and_then(Value::as_u64) {
            self.created = created;
        }
    }

    fn release(&mut self, out: &mut String) {
        if let Some(held) = self.held.take() {
            event(&held, out);
        }
    }
}

impl Writer for Chunks {
    fn piece(&mut self, piece: Piece, out: &mut String) {
        let mut chunk = match piece.raw {
            Raw::OpenAi(chunk) => chunk,
            Raw::Anthropic(_) => openai::chunk(&piece.delta, self.head()),
        };
        self.release(out);
        if !self.include_usage {
            if !is_usage_only(&chunk) {
                if let Some(fields) = chunk.as_object_mut() {
                    fields.retain(|name, _| name != "usage");
                }
                event(&chunk, out);
            }
            return;
        }
        self.learn(&chunk);
        if has_usage(&chunk) && is_at_end(&chunk) {
            self.held = Some(chunk);
        } else {
            event(&chunk, out);
        }
    }

    fn finished(&mut self, summary: &Summary, out: &mut String) {
        if self.include_usage {
            let mut last =
                self.held.take().unwrap_or_else(|| openai::usage_chunk(summary.usage, self.head()));
            if let Some(fields) = last.as_object_mut() {
                fields.insert("pointsman".to_owned(), account(summary));
            }
            event(&last, out);
        }
        out.push_str("data: [DONE]\n\n");
    }

    fn failed(&mut self, Broken { kind, message, failure }: Broken<'_>, out: &mut String) {
        self.release(out);
        event(&openai_broken(kind, message, failure), out);
    }
}

/// What the headers of a stream could not say yet, and what they did.
fn account(summary: &Summary) -> Value {
    json!({
        "decision_id": summary.decision.decision_id,
        "tier": summary.tier,
        "target": summary.target.id,
        "attempts": summary.attempts.len(),
        "escalated": summary.escalated,
        "weak": summary.weak.as_ref().map(|weakness| weakness.check.as_str()),
        "cost_usd": summary.cost_usd,
        "baseline_cost_usd": summary.baseline_cost_usd,
        "estimated": summary.estimated,
    })
}

fn has_usage(chunk: &Value) -> bool {
    chunk.get("usage").is_some_and(|usage| !usage.is_null())
}

fn choices(chunk: &Value) -> &[Value] {
    chunk.get("choices").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn is_usage_only(chunk: &Value) -> bool {
    has_usage(chunk) && choices(chunk).is_empty()
}

/// Returns whether nothing of the answer can follow: every choice in it is finished, or there is none.
fn is_at_end(chunk: &Value) -> bool {
    let finished = |choice: &Value| choice.get("finish_reason").is_some_and(|reason| !reason.is_null());
    choices(chunk).iter().all(finished)
}

/// JSON text holds no line breaks of its own, so one line carries it.
fn event(data: &Value, out: &mut String) {
    out.push_str("data: ");
    out.push_str(&data.to_string());
    out.push_str("\n\n");
}

#[cfg(test)]
#[path = "chat_tests.rs"]
mod tests;
