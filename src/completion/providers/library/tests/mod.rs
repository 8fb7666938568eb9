//! Calls over real sockets: what is sent, byte for byte, and what becomes of every answer.

mod answers;
mod faults;
mod requests;

use std::{io::Write, sync::Arc, time::Duration};

use super::Library;
use crate::{
    completion::{
        answer::{Answer, Piece, Raw, View},
        attempt::ProviderError,
        chat::Chat,
        providers::{
            Call, Provider, Started, WireLimits,
            wire::canned::{Canned, Reply, Then},
        },
    },
    config::{KeyHeader, KeySource, Protocol, ProviderConfig, TargetConfig, Timeouts},
    prompt::{Features, TargetId},
};
use futures::StreamExt;
use serde_json::{Value, json};

/// The key of every call; no error may hold it.
pub(super) const KEY: &str = "secret-key-0123456789";

pub(super) const LIMITS: WireLimits =
    WireLimits { connect: Duration::from_secs(2), answer_bytes_max: 1 << 20, line_bytes_max: 256 << 10 };

/// What the upstream saw of one call.
#[derive(Debug)]
pub(super) struct Seen {
    /// Request line and headers, each with its line end.
    pub(super) head: String,
    pub(super) body: Value,
}

/// An upstream that answers each connection with the next of some canned answers, then closes it.
pub(super) struct Upstream {
    pub(super) base_url: String,
    canned: Canned,
}

impl Upstream {
    pub(super) async fn answering(answers: Vec<Vec<u8>>) -> Self {
        let replies = answers.into_iter().map(|answer| Reply::raw(answer, Then::Close)).collect();
        let canned = Canned::serve(replies).await;
        Self { base_url: format!("{}/base", canned.url()), canned }
    }

    pub(super) async fn seen(&mut self) -> Seen {
        let seen = self.canned.seen().await;
        Seen { head: format!("{}\r\n", seen.head), body: seen.json() }
    }
}

/// Returns an answer that ends when the connection does.
pub(super) fn answer(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\n\r\n").into_bytes();
    answer.extend_from_slice(body.as_ref());
    answer
}

/// Returns a stream of server-sent events: pairs of name (may be empty) and data.
pub(super) fn events(events: &[(&str, Value)]) -> Vec<u8> {
    let mut body = String::new();
    for (name, data) in events {
        if !name.is_empty() {
            body.push_str(&format!("event: {name}\n"));
        }
        body.push_str(&format!("data: {data}\n\n"));
    }
    answer("200 OK", "content-type: text/event-stream\r\n", body)
}

/// Returns a stream of Anthropic events, each under the name that its `type` gives.
pub(super) fn claude(data: &[Value]) -> Vec<u8> {
    let named: Vec<_> = data.iter().map(|data| (data["type"].as_str().unwrap(), data.clone())).collect();
    events(&named)
}

/// Returns a stream of Gemini chunks.
pub(super) fn gemini(data: &[Value]) -> Vec<u8> {
    let unnamed: Vec<_> = data.iter().map(|data| ("", data.clone())).collect();
    events(&unnamed)
}

/// Returns one frame of AWS's event stream.
pub(super) fn frame(headers: &[(&str, &str)], payload: &Value) -> Vec<u8> {
    let checksum = |bytes: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum().to_be_bytes()
    };
    let mut head = Vec::new();
    for (name, value) in headers {
        head.push(u8::try_from(name.len()).unwrap());
        head.extend_from_slice(name.as_bytes());
        head.push(7);
        head.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
        head.extend_from_slice(value.as_bytes());
    }
    let payload = payload.to_string();
    let total = u32::try_from(16 + head.len() + payload.len()).unwrap();
    let mut frame = total.to_be_bytes().to_vec();
    frame.extend_from_slice(&u32::try_from(head.len()).unwrap().to_be_bytes());
    let prelude = checksum(&frame);
    frame.extend_from_slice(&prelude);
    frame.extend_from_slice(&head);
    frame.extend_from_slice(payload.as_bytes());
    let whole = checksum(&frame);
    frame.extend_from_slice(&whole);
    frame
}

/// Returns a stream of Bedrock events.
pub(super) fn bedrock(events: &[(&str, Value)]) -> Vec<u8> {
    let frames: Vec<u8> = events
        .iter()
        .flat_map(|(name, payload)| frame(&[(":message-type", "event"), (":event-type", name)], payload))
        .collect();
    answer("200 OK", "content-type: application/vnd.amazon.eventstream\r\n", frames)
}

/// Returns a stream of Cohere's lines.
pub(super) fn cohere(data: &[Value]) -> Vec<u8> {
    let lines: String = data.iter().map(|line| format!("{line}\n")).collect();
    answer("200 OK", "content-type: application/stream+json\r\n", lines)
}

/// One provider account and one target of it.
pub(super) struct Setup {
    pub(super) config: ProviderConfig,
    pub(super) target: TargetConfig,
    pub(super) limits: WireLimits,
    /// Holds the keys for as long as they are read.
    keys: Vec<tempfile::NamedTempFile>,
}

impl Setup {
    pub(super) fn new(protocol: Protocol, model: &str, base_url: &str) -> Self {
        let config = ProviderConfig {
            name: Arc::from("account"),
            protocol,
            base_url: Some(base_url.to_owned()),
            key_header: match protocol {
                Protocol::Anthropic => KeyHeader::Named("x-api-key".to_owned()),
                _ => KeyHeader::Bearer,
            },
            ..ProviderConfig::demo()
        };
        let target = TargetConfig {
            id: TargetId(Arc::from("target")),
            provider: Arc::from("account"),
            provider_index: None,
            model: Arc::from(model),
            input_usd_per_mtok: 1.0,
            cached_input_usd_per_mtok: 1.0,
            cache_write_usd_per_mtok: 1.0,
            output_usd_per_mtok: 1.0,
            price_date: "2026-01-01".to_owned(),
            context_tokens: 100_000,
            output_tokens_max: 4_321,
            output_tokens_typical: 100,
            latency_ms_typical: None,
            features: Features { tools: true, vision: true, json: true },
            weight: 1.0,
            drop: Vec::new(),
            timeouts: Timeouts::default(),
        };
        Self { config, target, limits: LIMITS, keys: Vec::new() }.with_key(KEY)
    }

    pub(super) fn with_key(mut self, key: &str) -> Self {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(key.as_bytes()).unwrap();
        self.config.keys.push(KeySource::File(file.path().to_owned()));
        self.keys.push(file);
        self
    }

    pub(super) fn provider(&self) -> Library {
        Library::new(&self.config, self.limits).unwrap()
    }

    pub(super) fn call(&self, body: Value) -> Call {
        let Value::Object(openai) = body else { panic!("not an object: {body}") };
        let chat = Chat { openai, ..Chat::default() };
        Call { chat: Arc::new(chat), target: Arc::new(self.target.clone()) }
    }
}

pub(super) fn hello() -> Value {
    json!({ "messages": [{ "role": "user", "content": "Hello." }] })
}

/// Asks for one whole answer.
pub(super) async fn complete(
    protocol: Protocol,
    model: &str,
    body: Value,
    answer: Vec<u8>,
) -> (Result<Answer, ProviderError>, Seen) {
    let mut upstream = Upstream::answering(vec![answer]).await;
    let setup = Setup::new(protocol, model, &upstream.base_url);
    let answered = setup.provider().complete(setup.call(body)).await;
    (answered, upstream.seen().await)
}

/// Asks for one answer in pieces, and returns those that came with the error that ended them, if one did.
pub(super) async fn pieces(
    protocol: Protocol,
    model: &str,
    body: Value,
    answer: Vec<u8>,
) -> (Vec<Piece>, Option<ProviderError>) {
    let upstream = Upstream::answering(vec![answer]).await;
    let setup = Setup::new(protocol, model, &upstream.base_url);
    match setup.provider().stream(setup.call(body)).await {
        Ok(started) => drain(started).await,
        Err(error) => (Vec::new(), Some(error)),
    }
}

pub(super) async fn drain(mut started: Started) -> (Vec<Piece>, Option<ProviderError>) {
    let mut pieces = Vec::new();
    while let Some(piece) = started.pieces.next().await {
        match piece {
            Ok(piece) => pieces.push(piece),
            Err(error) => {
                assert!(started.pieces.next().await.is_none(), "something follows an error");
                return (pieces, Some(error));
            }
        }
    }
    (pieces, None)
}

pub(super) fn view(pieces: &[Piece]) -> View {
    let mut view = View::default();
    pieces.iter().for_each(|piece| view.add(&piece.delta));
    view
}

pub(super) fn raw(piece: &Piece) -> &Value {
    match &piece.raw {
        Raw::OpenAi(value) => value,
        Raw::Anthropic(value) => panic!("a piece in Anthropic's form: {value}"),
    }
}
