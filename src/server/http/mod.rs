//! HTTP: completions as OpenAI's and Anthropic's clients ask for them, decisions, feedback, models, metrics and
//! probes.
//!
//! Reads, converts, asks the completer or the router, and writes. Decides nothing, forwards no header of a
//! caller, and logs neither bodies nor headers.

mod admit;
mod chat;
mod count;
mod errors;
mod feedback;
mod headers;
mod hints;
mod hosts;
mod listen;
mod messages;
mod models;
mod room;
mod route;
#[cfg(test)]
mod samples;
mod stream;

use std::{sync::Arc, time::Instant};

use axum::{
    Extension, Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri},
    middleware::{Next, from_fn, from_fn_with_state},
    response::Response,
    routing::{get, post},
};

use self::errors::{Dialect, Problem, What};
pub use self::hosts::Hosts;
pub use self::listen::{Service, WriteStall, serve};
use self::room::Room;
use crate::{live::Live, telemetry};

/// Where OpenAI's clients look for an answer's id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Where Anthropic's do.
const REQUEST_ID_ANTHROPIC: HeaderName = HeaderName::from_static("request-id");

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const COUNT_TOKENS: &str = "/v1/messages/count_tokens";
const MODELS: &str = "/v1/models";
const ROUTE: &str = "/v1/route";
const FEEDBACK: &str = "/v1/feedback";

/// Returns the HTTP application of a listener that answers to these names.
pub fn app(live: Arc<Live>, hosts: Hosts) -> Router {
    let room = Room::new(live.router().config().server.message_bytes_max);
    Router::new()
        .route(CHAT, post(chat::completions))
        .route(MESSAGES, post(messages::messages))
        .route(COUNT_TOKENS, post(count::count_tokens))
        .route(MODELS, get(models::list))
        .route("/v1/models/{*id}", get(models::one))
        .route(ROUTE, post(route::route))
        .route(FEEDBACK, post(feedback::feedback))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(|| async { telemetry::render() }))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(Extension(room))
        .layer(from_fn_with_state(Arc::new(hosts), check_host))
        .layer(from_fn(accompany))
        .with_state(live)
}

async fn ready(State(live): State<Arc<Live>>) -> (StatusCode, &'static str) {
    if live.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the classifier is not ready\n")
    }
}

async fn unknown_path(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let message = format!(
        "nothing is at {method} {}; there are POST {CHAT}, POST {MESSAGES}, POST {COUNT_TOKENS}, GET {MODELS}, \
         POST {ROUTE} and POST {FEEDBACK}",
        shown(uri.path())
    );
    Problem::new(What::UnknownPath, message).answer(spoken(uri.path(), &headers))
}

async fn wrong_method(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let message = format!("{} does not take {method}", shown(uri.path()));
    Problem::new(What::WrongMethod, message).answer(spoken(uri.path(), &headers))
}

/// Guesses which errors a caller understands where the path does not say.
fn spoken(path: &str, headers: &HeaderMap) -> Dialect {
    if path.starts_with(MESSAGES) || headers.contains_key("anthropic-version") {
        Dialect::Anthropic
    } else {
        Dialect::OpenAi
    }
}

/// Returns the beginning of a caller's text, for a message.
fn shown(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 80;
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

/// Refuses who calls this machine by a foreign name, whatever is asked.
async fn check_host(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    match hosts.check(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.answer(spoken(request.uri().path(), request.headers())),
    }
}

/// Gives every request an id, and logs how it was answered.
async fn accompany(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = format!("req_{}", uuid::Uuid::now_v7().simple());
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value.clone());
        response.headers_mut().insert(REQUEST_ID_ANTHROPIC, value);
    }
    tracing::debug!(
        %method,
        path = uri.path(),
        status = response.status().as_u16(),
        ms = started.elapsed().as_secs_f64() * 1e3,
        id,
        "http"
    );
    response
}
