//! A request's head and body -> a checked request, for every path that takes JSON.
//!
//! The body is bounded in size and time, must be JSON, and nothing of it is ever quoted.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::Request,
    http::{
        HeaderMap, HeaderName,
        header::{CONTENT_ENCODING, CONTENT_TYPE, ORIGIN},
    },
};
use futures::StreamExt;
use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::{
    errors::{Dialect, Problem, What},
    hints::Hints,
    room::Room,
};
use crate::{
    completion::{
        Job,
        dialect::{Incoming, anthropic, openai},
    },
    config::{BETA_MAX, is_beta},
    live::{Live, Picked, Serving},
    prompt::{Draft, Prompt},
    routing::admit::{BadRequest, admit},
    telemetry,
};

/// Where Anthropic's clients ask for beta features.
const BETA: HeaderName = HeaderName::from_static("anthropic-beta");

/// Longest time from a request's head to the end of its body.
const BODY_WAIT_MAX: Duration = Duration::from_secs(60);

/// A body that is too large is read on, and forgotten, up to so many times its limit: a client that still sends
/// would otherwise see a broken connection in place of the answer.
const UNREAD_FACTOR: usize = 4;

/// What a request asks to be completed.
pub struct Asked {
    pub picked: Picked,
    pub job: Job,
    pub stream: bool,
    pub include_usage: bool,
}

/// Reads and checks a request for a completion.
pub async fn completion(live: &Live, request: Request, dialect: Dialect) -> Result<Asked, Problem> {
    let serving = live.serving();
    let (headers, Read { body, memory }) = read_body(&serving, request).await?;
    // The body is here: how long it took to come is the caller's own time.
    let received = Instant::now();
    let incoming = read(body, dialect).map_err(refused)?;
    let Incoming { mut chat, mut draft, model, stream, include_usage } = incoming;
    chat.memory = memory;
    if dialect == Dialect::Anthropic {
        chat.beta = beta(&headers);
    }
    draft.model = Some(model);
    let (prompt, hints) = admitted(&serving, &headers, draft, Words::Dialect(dialect))?;
    let deadline = hints.timeout.and_then(|timeout| received.checked_add(timeout));
    let decision_id = Uuid::now_v7();
    let job = Job { decision_id, chat: Arc::new(chat), prompt, received, deadline };
    Ok(Asked { picked: serving.picked(&job), job, stream, include_usage })
}

/// Whose names a caller uses for what it set.
#[derive(Debug, Clone, Copy)]
pub enum Words {
    Dialect(Dialect),
    /// The names of a [`Draft`] itself.
    Draft,
}

/// Adds what the headers say to a draft, and checks all of it.
pub fn admitted(
    serving: &Serving,
    headers: &HeaderMap,
    mut draft: Draft,
    words: Words,
) -> Result<(Prompt, Hints), Problem> {
    let hints = Hints::read(headers, &mut draft, |field| words.of(field)).map_err(refused)?;
    let prompt =
        admit(draft, &serving.config).map_err(|bad| refused(words.rename(hints.in_callers_words(bad))))?;
    Ok((prompt, hints))
}

impl Words {
    /// Returns what the body calls a field of the draft.
    fn of(self, field: &str) -> String {
        match self {
            Self::Draft => field.to_owned(),
            Self::Dialect(_) => match field.split_once('.') {
                Some((_, name)) => format!("pointsman.{name}"),
                None => field.to_owned(),
            },
        }
    }

    fn rename(self, bad: BadRequest) -> BadRequest {
        match self {
            Self::Draft => bad,
            Self::Dialect(Dialect::OpenAi) => openai::in_callers_words(bad),
            Self::Dialect(Dialect::Anthropic) => anthropic::in_callers_words(bad),
        }
    }
}

/// Reads a body in a dialect.
pub fn read(body: Map<String, Value>, dialect: Dialect) -> Result<Incoming, BadRequest> {
    match dialect {
        Dialect::OpenAi => openai::read(body),
        Dialect::Anthropic => anthropic::read(body),
    }
}

/// Counts a bad request, and turns it into its answer.
pub fn refused(bad: BadRequest) -> Problem {
    telemetry::refused("bad_request");
    bad.into()
}

/// Returns the beta features that the caller asks for. What is no name of one is none.
fn beta(headers: &HeaderMap) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let lines = headers.get_all(BETA).iter().filter_map(|value| value.to_str().ok());
    for name in lines.flat_map(|line| line.split(',')).map(str::trim).filter(|name| is_beta(name)) {
        if names.len() < BETA_MAX && !names.iter().any(|before| before == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// A body, and its share of the memory for all.
#[derive(Debug)]
pub struct Read {
    pub body: Map<String, Value>,
    pub memory: Option<Arc<OwnedSemaphorePermit>>,
}

/// The largest body of a path, and what sets that limit.
#[derive(Debug, Clone, Copy)]
pub struct BodyMax {
    pub bytes: usize,
    /// What a caller who exceeds it should know.
    pub limit: &'static str,
}

impl BodyMax {
    fn configured(serving: &Serving) -> Self {
        Self { bytes: serving.config.server.message_bytes_max, limit: "server.message_bytes_max" }
    }
}

/// Returns the request's headers and the JSON object that is its body.
pub async fn read_body(serving: &Serving, request: Request) -> Result<(HeaderMap, Read), Problem> {
    read_body_up_to(BodyMax::configured(serving), serving, request).await
}

/// As [`read_body`], for a path whose bodies are smaller.
pub async fn read_body_up_to(
    most: BodyMax,
    serving: &Serving,
    request: Request,
) -> Result<(HeaderMap, Read), Problem> {
    let (head, body) = request.into_parts();
    check_type(&head.headers)?;
    let configured = BodyMax::configured(serving);
    let most = if most.bytes < configured.bytes { most } else { configured };
    let room = head.extensions.get::<Room>().cloned().unwrap_or_else(|| Room::new(configured.bytes));
    let (bytes, memory) = collect(body, most, &room).await?;
    Ok((head.headers, Read { body: object(&bytes)?, memory: memory.map(Arc::new) }))
}

/// Refuses what says itself that it is no JSON.
///
/// Pages of foreign sites may have a browser post texts and forms anywhere without asking, also to this
/// machine; for JSON it asks first, and is denied. So those types are refused however the body looks, and a
/// body without a type where a browser sends it.
fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let encoding = headers.get(CONTENT_ENCODING).map(|value| value.as_bytes());
    if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
        let message = "content-encoding: compressed bodies are not read; send it as it is";
        return Err(Problem::new(What::NotJson, message));
    }
    let is_json = match headers.get(CONTENT_TYPE) {
        None => !headers.contains_key(ORIGIN),
        Some(value) => value.to_str().is_ok_and(is_json_type),
    };
    if is_json {
        return Ok(());
    }
    Err(Problem::new(What::NotJson, "content-type: only JSON is read; send content-type: application/json"))
}

fn is_json_type(text: &str) -> bool {
    let kind = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind == "text/json" || kind.ends_with("+json") || kind == "*/*"
}

async fn collect(
    body: Body,
    most: BodyMax,
    room: &Room,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Problem> {
    let Ok(read) = tokio::time::timeout(BODY_WAIT_MAX, bounded(body, most, room)).await else {
        let message = format!("the body did not come within {} s", BODY_WAIT_MAX.as_secs());
        return Err(Problem::new(What::TooSlow, message));
    };
    read
}

async fn bounded(
    body: Body,
    most: BodyMax,
    room: &Room,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Problem> {
    let BodyMax { bytes: bytes_max, limit } = most;
    let mut chunks = body.into_data_stream();
    let (mut bytes, mut length) = (Vec::new(), 0_usize);
    let (mut held, mut is_full) = (None, false);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::new(What::BadRequest, "the body broke off"))?;
        length = length.saturating_add(chunk.len());
        if is_full || length > bytes_max {
            // Given back at once: what is still to come is forgotten.
            (bytes, held) = (Vec::new(), None);
        } else if room.grow(&mut held, length) {
            bytes.extend_from_slice(&chunk);
        } else {
            is_full = true;
        }
        if length > bytes_max.saturating_mul(UNREAD_FACTOR) {
            break;
        }
    }
    if length <= bytes_max && !is_full {
        return Ok((bytes, held));
    }
    if length <= bytes_max {
        telemetry::refused("overloaded");
        return Err(Problem::overloaded("requests in progress hold all the memory that there is for them"));
    }
    let message = format!("the body is longer than {bytes_max} bytes ({limit})");
    Err(Problem::new(What::TooLarge, message))
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, Problem> {
    if bytes.is_empty() {
        return Err(Problem::new(What::BadRequest, "the body is empty: send a JSON object"));
    }
    // Its errors name line and column and quote nothing.
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| Problem::new(What::BadRequest, format!("the body is not JSON: {error}")))?;
    match value {
        Value::Object(object) => Ok(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(Problem::new(What::BadRequest, "the body is not a JSON object"))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn most(bytes: usize) -> BodyMax {
        BodyMax { bytes, limit: "of the test" }
    }

    #[test]
    fn only_what_says_that_it_is_no_json_is_refused() {
        let check = |lines: &[(&'static str, &'static str)], is_read: bool| {
            let headers: HeaderMap = lines
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            assert_eq!(check_type(&headers).is_ok(), is_read, "{lines:?}");
        };
        check(&[], true);
        check(&[("content-type", "application/json")], true);
        check(&[("content-type", "Application/JSON; charset=utf-8")], true);
        check(&[("content-type", "application/vnd.api+json")], true);
        check(&[("content-type", "application/json"), ("origin", "https://example.com")], true);
        check(&[("origin", "https://example.com")], false);
        check(&[("content-type", "text/plain")], false);
        check(&[("content-type", "text/plain; x=application/json")], false);
        check(&[("content-type", "application/x-www-form-urlencoded")], false);
        check(&[("content-type", "multipart/form-data; boundary=x")], false);
        check(&[("content-encoding", "gzip")], false);
        check(&[("content-encoding", "identity")], true);
    }

    #[test]
    fn bad_json_names_line_and_column_and_quotes_nothing() {
        let check = |body: &[u8], expected: &str| {
            let problem = format!("{:?}", object(body).unwrap_err());
            assert!(problem.contains(expected), "{problem}");
            assert!(!problem.contains("secret"), "{problem}");
        };
        check(b"{\"secret\": 1,\n \"b\": }", "line 2 column 7");
        check(b"secret", "line 1 column 1");
        check(b"{\"secret\": \"\xff\"}", "line 1 column");
        check(b"[\"secret\"]", "not a JSON object");
        check(b"", "empty");
        check(&b"[".repeat(100_000), "line 1 column 128");
    }

    #[tokio::test]
    async fn a_body_above_its_limit_is_too_large() {
        let room = Room::new(4);
        assert_eq!(&collect(Body::from("1234"), most(4), &room).await.unwrap().0[..], b"1234");
        let problem = format!("{:?}", collect(Body::from("12345"), most(4), &room).await.unwrap_err());
        assert!(problem.contains("TooLarge"), "{problem}");
    }

    #[tokio::test]
    async fn without_room_a_body_is_refused_and_with_it_held() {
        const BYTES: usize = 1 << 20;
        let room = Room::of(BYTES);
        let body = || Body::from(vec![b' '; BYTES * 2 / 3]);
        let first = collect(body(), most(BYTES), &room).await.unwrap();
        let problem = format!("{:?}", collect(body(), most(BYTES), &room).await.unwrap_err());
        assert!(problem.contains("Overloaded") && problem.contains("retry_after: Some"), "{problem}");
        assert!(collect(Body::from("small"), most(BYTES), &room).await.is_ok());
        drop(first);
        assert!(collect(body(), most(BYTES), &room).await.is_ok());
    }

    #[test]
    fn beta_features_are_names_and_few() {
        let headers = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(BETA, HeaderValue::from_str(line).unwrap());
            }
            headers
        };
        assert_eq!(beta(&headers(&["a-1, b_2", "c.3,a-1,,two words, x\"y"])), ["a-1", "b_2", "c.3"]);
        let many: Vec<String> = (0..100).map(|at| format!("b{at}")).collect();
        assert_eq!(beta(&headers(&[&many.join(",")])).len(), BETA_MAX);
        assert!(beta(&headers(&[&"x".repeat(65)])).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up() {
        let body = Body::from_stream(futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
        let problem = format!("{:?}", collect(body, most(4), &Room::new(4)).await.unwrap_err());
        assert!(problem.contains("TooSlow"), "{problem}");
    }
}
