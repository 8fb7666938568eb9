//! OpenAI's chat completions and everything compatible with them, passed through.
//!
//! What the caller sent goes upstream as it came, but for the model's name, the stream's options and what the
//! server is known to refuse; what the provider answers comes back unchanged. Host, path, query and headers come from the configuration alone.

mod body;
mod stream;

use std::{sync::Arc, time::Instant};

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use reqwest::{Client, Url};
use secrecy::{ExposeSecret, SecretString};

use self::body::{Body, Mode};
use super::{
    Call, Provider, Started, check_convertible,
    wire::{self, WireLimits, error_object, failed_with},
};
use crate::{
    completion::{
        answer::{Answer, Raw},
        attempt::{ErrorKind, ProviderError},
        dialect::openai::{error_of, view},
        keys::{Key, KeyRing},
    },
    config::{AssistantExtra, KeyHeader, OutputLimit, ProviderConfig},
};

/// Added to the configured base URL.
const PATH: &str = "/chat/completions";
/// Set by the client; an operator's value would break the request's framing.
const FRAMING_HEADERS: [HeaderName; 4] =
    [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONTENT_ENCODING, header::CONTENT_TYPE];

/// One account with a provider that speaks OpenAI's chat completions.
#[derive(Debug, Clone)]
pub struct OpenAi(Arc<Account>);

#[derive(Debug)]
struct Account {
    client: Client,
    /// Never shown: its query may hold what an operator keeps to himself.
    url: Url,
    headers: HeaderMap,
    keys: Arc<KeyRing>,
    key_header: HeaderName,
    key_prefix: &'static str,
    stream_usage: bool,
    output_limit: OutputLimit,
    replay: Vec<AssistantExtra>,
    limits: WireLimits,
}

impl OpenAi {
    /// Sets up the account; says what is wrong with its configuration.
    pub fn new(config: &ProviderConfig, limits: WireLimits) -> Result<Self, String> {
        let base_url = config.base_url.as_deref().ok_or("base_url is missing")?;
        let keys = Arc::new(KeyRing::read(&config.name, &config.keys));
        keys.check()?;
        let (key_header, key_prefix) = match &config.key_header {
            KeyHeader::Bearer => (header::AUTHORIZATION, "Bearer "),
            KeyHeader::Named(name) => (header_name(name, "key_header")?, ""),
        };
        let url = endpoint(base_url, &config.query)?;
        Ok(Self(Arc::new(Account {
            client: wire::client(limits.connect, &url)?,
            url,
            headers: headers(&config.headers)?,
            keys,
            key_header,
            key_prefix,
            stream_usage: config.stream_usage,
            output_limit: config.output_limit,
            replay: config.replay.clone(),
            limits,
        })))
    }
}

impl Provider for OpenAi {
    fn complete(&self, call: Call) -> BoxFuture<'static, Result<Answer, ProviderError>> {
        let account = Arc::clone(&self.0);
        Box::pin(async move {
            check_convertible(&call.chat)?;
            let key = account.keys.next(Instant::now())?;
            let answer = account.complete(&call, &key).await;
            answer.map_err(|error| account.keys.settle(&key, error, Instant::now()))
        })
    }

    fn stream(&self, call: Call) -> BoxFuture<'static, Result<Started, ProviderError>> {
        let account = Arc::clone(&self.0);
        Box::pin(async move {
            check_convertible(&call.chat)?;
            let key = account.keys.next(Instant::now())?;
            let started = account.stream(&call, &key).await;
            started.map_err(|error| account.keys.settle(&key, error, Instant::now()))
        })
    }

    fn keys(&self) -> Option<&Arc<KeyRing>> {
        Some(&self.0.keys)
    }
}

impl Account {
    async fn complete(&self, call: &Call, key: &Key) -> Result<Answer, ProviderError> {
        let body = self.body(call, Mode::Whole);
        let dropped_parameters = body.dropped();
        let response = self.post(&body, key).await?;
        let redactor = response.redactor.clone();
        let answer = wire::read_json(response, self.limits.answer_bytes_max).await?;
        if let Some(error) = error_of(&answer) {
            return Err(error_object(error, &redactor));
        }
        let view = view(&answer).map_err(|problem| failed_with(ErrorKind::Malformed, Some(200), &problem))?;
        Ok(Answer { raw: Raw::OpenAi(answer), view, dropped_parameters })
    }

    async fn stream(&self, call: &Call, key: &Key) -> Result<Started, ProviderError> {
        let body = self.body(call, Mode::Stream { usage: self.stream_usage });
        let dropped_parameters = body.dropped();
        let response = self.post(&body, key).await?;
        let redactor = response.redactor.clone();
        let said_bytes_max = self.limits.answer_bytes_max;
        let pieces = if response.is_json() {
            // Some servers answer whole although a stream was asked for.
            let answer = wire::read_json(response, said_bytes_max).await?;
            if let Some(error) = error_of(&answer) {
                return Err(error_object(error, &redactor));
            }
            stream::pieces_of_whole(answer, redactor, said_bytes_max)?
        } else {
            let body_bytes_max = said_bytes_max.saturating_mul(wire::FRAMING_FACTOR);
            let events = wire::read_events(response, self.limits.line_bytes_max, body_bytes_max)?;
            stream::pieces(events, redactor, said_bytes_max)
        };
        Ok(Started { pieces, dropped_parameters })
    }

    fn body<'a>(&'a self, call: &'a Call, mode: Mode) -> Body<'a> {
        Body {
            fields: &call.chat.openai,
            model: &call.target.model,
            mode,
            output_limit: self.output_limit,
            replay: &self.replay,
            drop: &call.target.drop,
        }
    }

    async fn post(&self, body: &Body<'_>, key: &Key) -> Result<wire::Response, ProviderError> {
        let mut headers = self.headers.clone();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static(body.mode.accepted()));
        if let Some(secret) = key.secret() {
            headers.insert(self.key_header.clone(), self.credential(secret)?);
        }
        let body = serde_json::to_vec(body).expect("a JSON object becomes text");
        wire::post(&self.client, self.url.clone(), headers, body).await
    }

    fn credential(&self, secret: &SecretString) -> Result<HeaderValue, ProviderError> {
        let text = format!("{}{}", self.key_prefix, secret.expose_secret());
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            failed_with(ErrorKind::NoKey, None, "the key holds characters that a header cannot")
        })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn endpoint(base_url: &str, query: &[(String, String)]) -> Result<Url, String> {
    let mut url = Url::parse(&format!("{}{PATH}", base_url.trim_end_matches('/')))
        .map_err(|error| format!("base_url is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("base_url is no address of an HTTP server".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("base_url holds a user or a password: give them as a key".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("base_url holds a query: give it as query".to_owned());
    }
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

fn headers(configured: &[(String, String)]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(configured.len());
    for (name, value) in configured {
        let field = format!("headers.{name}");
        let name = header_name(name, &field)?;
        if FRAMING_HEADERS.contains(&name) {
            return Err(format!("{field} is set by pointsman"));
        }
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| format!("{field} holds characters that a header cannot"))?;
        // What an operator writes there may be a credential: it is taken out of what the provider says.
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

fn header_name(name: &str, field: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{field} is no name of a header"))
}

#[cfg(test)]
mod tests;
