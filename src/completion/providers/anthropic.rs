//! Anthropic's messages, passed through for callers who speak them.
//!
//! The caller's body goes upstream as it came, with the target's model; the provider's message and events come
//! back unchanged. Host, path and headers come from the configuration alone. Callers of the other dialect are
//! answered by the library's provider.

use std::{sync::Arc, time::Instant};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use reqwest::{Client, Url};
use secrecy::ExposeSecret;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::{
    Call, Pieces, Provider, Started,
    wire::{self, Event, Events, Redactor, Response, Said, WireLimits},
};
use crate::{
    completion::{
        answer::{Answer, Piece, Raw},
        attempt::{ErrorKind, ProviderError},
        chat::Chat,
        dialect::anthropic::{Deltas, is_error, view},
        keys::{Key, KeyRing},
    },
    config::{KeyHeader, ProviderConfig},
};

/// Where the provider's own service is.
const BASE_URL: &str = "https://api.anthropic.com/v1";
/// The version of the dialect that this file speaks; the only one there is.
const VERSION: &str = "2023-06-01";
const VERSION_HEADER: &str = "anthropic-version";
const BETA_HEADER: HeaderName = HeaderName::from_static("anthropic-beta");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");

/// One account with a provider that speaks Anthropic's messages.
pub struct Anthropic {
    account: Arc<Account>,
    /// Answers callers who do not speak the dialect.
    library: Arc<dyn Provider>,
}

/// What all calls share.
struct Account {
    client: Client,
    url: Url,
    /// Sent with every call, without the key.
    headers: HeaderMap,
    key_header: HeaderName,
    /// Stands before the key.
    key_prefix: &'static str,
    /// Features that callers may ask for.
    beta: Vec<String>,
    keys: Arc<KeyRing>,
    limits: WireLimits,
}

impl Anthropic {
    /// Returns the provider, or what is wrong with its configuration.
    pub fn new(
        config: &ProviderConfig,
        limits: WireLimits,
        library: Arc<dyn Provider>,
    ) -> Result<Self, String> {
        // One ring for both: what one learns of a key the other knows.
        let own = || Arc::new(KeyRing::read(&config.name, &config.keys));
        let keys = library.keys().map_or_else(own, Arc::clone);
        keys.check()?;
        let (key_header, key_prefix) = key_header(config)?;
        let url = url(config)?;
        let account = Account {
            client: wire::client(limits.connect, &url)?,
            url,
            headers: headers(config)?,
            key_header,
            key_prefix,
            beta: config.beta.clone(),
            keys,
            limits,
        };
        Ok(Self { account: Arc::new(account), library })
    }
}

fn url(config: &ProviderConfig) -> Result<Url, String> {
    let base = config.base_url.as_deref().unwrap_or(BASE_URL);
    let mut url = Url::parse(&format!("{base}/messages"))
        .map_err(|error| format!("base_url is no address: {error}"))?;
    if !config.query.is_empty() {
        url.query_pairs_mut().extend_pairs(&config.query);
    }
    Ok(url)
}

fn headers(config: &ProviderConfig) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(VERSION_HEADER, HeaderValue::from_static(VERSION));
    headers.insert(header::CONTENT_TYPE, JSON);
    for (name, value) in &config.headers {
        let name = HeaderName::try_from(name).map_err(|_| format!("{name:?} is no header's name"))?;
        // What an operator writes there may be a credential, so it is not quoted either.
        let value = HeaderValue::try_from(value);
        let mut value = value.map_err(|_| format!("header {name} holds characters that a header cannot"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Returns the header of a key, and what stands before the key.
fn key_header(config: &ProviderConfig) -> Result<(HeaderName, &'static str), String> {
    match &config.key_header {
        KeyHeader::Bearer => Ok((header::AUTHORIZATION, "Bearer ")),
        KeyHeader::Named(name) => HeaderName::try_from(name)
            .map(|name| (name, ""))
            .map_err(|_| format!("key_header: {name:?} is no header's name")),
    }
}

impl Provider for Anthropic {
    fn complete(&self, call: Call) -> BoxFuture<'static, Result<Answer, ProviderError>> {
        if call.chat.anthropic.is_none() {
            return self.library.complete(call);
        }
        let account = Arc::clone(&self.account);
        async move {
            let (key, response) = account.post(&call, Form::Whole).await?;
            let whole = account.whole(response).await;
            let answer = whole.map_err(|error| account.keys.settle(&key, error, Instant::now()))?;
            Ok(Answer { dropped_parameters: account.dropped(&call), ..answer })
        }
        .boxed()
    }

    fn stream(&self, call: Call) -> BoxFuture<'static, Result<Started, ProviderError>> {
        if call.chat.anthropic.is_none() {
            return self.library.stream(call);
        }
        let account = Arc::clone(&self.account);
        async move {
            let (key, response) = account.post(&call, Form::Stream).await?;
            let pieces = match Arc::clone(&account).pieces(response, key.clone()).await {
                Ok(pieces) => pieces,
                Err(error) => return Err(account.keys.settle(&key, error, Instant::now())),
            };
            Ok(Started { pieces, dropped_parameters: account.dropped(&call) })
        }
        .boxed()
    }

    fn keys(&self) -> Option<&Arc<KeyRing>> {
        Some(&self.account.keys)
    }
}

/// How an answer is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Whole,
    Stream,
}

/// What goes upstream: the caller's body, and what the router sets.
#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<bool>,
    #[serde(flatten, serialize_with = "kept")]
    rest: Rest<'a>,
}

/// The caller's fields, and the names of those that the target is not sent.
#[derive(Debug, Clone, Copy)]
struct Rest<'a> {
    fields: &'a Map<String, Value>,
    drop: &'a [String],
}

fn kept<S: Serializer>(rest: &Rest<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(rest.fields.iter().filter(|(name, _)| !rest.drop.contains(name)))
}

impl Account {
    /// Returns each beta feature that the caller asks for: as an error where the operator does not list it.
    fn beta<'a>(&'a self, chat: &'a Chat) -> impl Iterator<Item = Result<&'a str, &'a str>> {
        chat.beta.iter().map(|asked| {
            let is_listed = self.beta.iter().any(|listed| listed == "*" || listed == asked);
            if is_listed { Ok(asked.as_str()) } else { Err(asked.as_str()) }
        })
    }

    /// Returns what of a call is not sent: beta features that nobody listed, fields that the target drops.
    fn dropped(&self, call: &Call) -> Vec<String> {
        let beta = self.beta(&call.chat).filter_map(Result::err).map(|name| format!("anthropic-beta:{name}"));
        let fields = call.chat.anthropic.iter().flatten().filter(|(_, value)| !value.is_null());
        let fields = fields.map(|(name, _)| name.clone()).filter(|name| call.target.drop.contains(name));
        beta.chain(fields).collect()
    }

    async fn post(&self, call: &Call, form: Form) -> Result<(Key, Response), ProviderError> {
        let key = self.keys.next(Instant::now())?;
        let mut headers = self.headers.clone();
        let (accept, stream) = match form {
            Form::Whole => (JSON, None),
            Form::Stream => (EVENTS, Some(true)),
        };
        headers.insert(header::ACCEPT, accept);
        if let Some(secret) = key.secret() {
            let value = HeaderValue::try_from(format!("{}{}", self.key_prefix, secret.expose_secret()));
            let mut value =
                value.map_err(|_| failed(ErrorKind::NoKey, "a key holds characters that a header cannot"))?;
            value.set_sensitive(true);
            headers.insert(&self.key_header, value);
        }
        let asked: Vec<&str> = self.beta(&call.chat).filter_map(Result::ok).collect();
        if !asked.is_empty() {
            // A list: beside what the operator set. Only plain names are in it.
            let value = HeaderValue::try_from(asked.join(","));
            headers.append(
                BETA_HEADER,
                value.map_err(|_| failed(ErrorKind::Refused, "no header holds anthropic-beta"))?,
            );
        }
        let fields = call.chat.anthropic.as_ref().expect("only calls that have a native body come here");
        let rest = Rest { fields, drop: &call.target.drop };
        let body = serde_json::to_vec(&Body { model: &call.target.model, stream, rest })
            .map_err(|_| failed(ErrorKind::Refused, "the request cannot be written as JSON"))?;
        match wire::post(&self.client, self.url.clone(), headers, body).await {
            Ok(response) => Ok((key, response)),
            Err(error) => Err(self.keys.settle(&key, error, Instant::now())),
        }
    }

    async fn whole(&self, response: Response) -> Result<Answer, ProviderError> {
        let redactor = response.redactor.clone();
        let message = wire::read_json(response, self.limits.answer_bytes_max).await?;
        if is_error(&message) {
            return Err(wire::error_object(&message, &redactor));
        }
        let view = view(&message).map_err(|problem| failed(ErrorKind::Malformed, &problem))?;
        if view.finish.is_none() {
            return Err(failed(ErrorKind::Malformed, "the answer does not say why it ended"));
        }
        Ok(Answer { raw: Raw::Anthropic(message), view, dropped_parameters: Vec::new() })
    }

    async fn pieces(self: Arc<Self>, response: Response, key: Key) -> Result<Pieces, ProviderError> {
        let redactor = response.redactor.clone();
        let WireLimits { answer_bytes_max, line_bytes_max, .. } = self.limits;
        if response.is_json() {
            let whole = wire::read_json(response, answer_bytes_max).await?;
            return Err(if is_error(&whole) {
                wire::error_object(&whole, &redactor)
            } else {
                failed(ErrorKind::Malformed, "a stream was asked for, and the answer is none")
            });
        }
        let events = wire::read_events(
            response,
            line_bytes_max,
            answer_bytes_max.saturating_mul(wire::FRAMING_FACTOR),
        )?;
        let said = Said::new(answer_bytes_max);
        let reading = Reading { events, deltas: Deltas::default(), said, redactor };
        let pieces = stream::unfold(Some(reading), move |reading| {
            let (account, key) = (Arc::clone(&self), key.clone());
            async move {
                let mut reading = reading?;
                match reading.next().await {
                    Some(Ok(piece)) => Some((Ok(piece), Some(reading))),
                    Some(Err(error)) => Some((Err(account.keys.settle(&key, error, Instant::now())), None)),
                    None => {
                        wire::read_out(reading.events);
                        None
                    }
                }
            }
        });
        Ok(pieces.boxed())
    }
}

/// A stream being read.
struct Reading {
    events: Events,
    deltas: Deltas,
    said: Said,
    redactor: Redactor,
}

impl Reading {
    /// Returns the next event as a piece, `None` after the last one of a whole answer.
    async fn next(&mut self) -> Option<Result<Piece, ProviderError>> {
        if self.deltas.is_stopped() {
            return None;
        }
        Some(match self.events.next().await {
            Some(Ok(event)) => self.piece(&event),
            Some(Err(error)) => Err(error),
            None => Err(failed(ErrorKind::Cut, "the stream ended before the answer did")),
        })
    }

    fn piece(&mut self, event: &Event) -> Result<Piece, ProviderError> {
        let malformed = |problem: &str| failed(ErrorKind::Malformed, problem);
        let data: Value =
            serde_json::from_str(&event.data).map_err(|_| malformed("an event of the stream is no JSON"))?;
        if is_error(&data) || event.event.as_deref() == Some("error") {
            return Err(wire::error_object(&data, &self.redactor));
        }
        let delta = self.deltas.read(&data).map_err(|problem| malformed(&problem))?;
        // Content without a word in the view counts as it came.
        self.said.add(if delta.other_content { event.data.len() } else { delta.bytes() })?;
        if self.deltas.is_stopped() && !self.deltas.is_whole() {
            return Err(failed(ErrorKind::Cut, "the stream ended without saying why"));
        }
        Ok(Piece { raw: Raw::Anthropic(data), delta })
    }
}

/// Returns an error of an answer that was accepted, or of a call that was not made.
fn failed(kind: ErrorKind, message: &str) -> ProviderError {
    wire::failed_with(kind, None, message)
}

#[cfg(test)]
#[path = "anthropic_tests.rs"]
mod tests;
