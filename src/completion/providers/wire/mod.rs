//! One HTTP call upstream: bounded bodies, server-sent events, errors by kind.
//!
//! Never follows a redirect, never repeats a call, never decompresses. A call has no deadline here but that of
//! connecting: whoever drops the future or the stream ends the call.

pub(super) mod errors;
mod events;

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, header};
use reqwest::{Client, Url};
use serde_json::Value;

pub(super) use self::{
    errors::{Redactor, error_object, failed_status, failed_with},
    events::{Event, Events, read_events, read_out},
};
use crate::{
    completion::attempt::{ErrorKind, ProviderError},
    config::is_loopback,
};

/// Idle connections kept to one host; of more in use at once the rest is closed afterwards.
const IDLE_CONNECTIONS_MAX: usize = 256;
/// Shorter than the 60 s after which common load balancers close: a call on a closed connection fails.
const IDLE_CONNECTION_MAX_AGE: Duration = Duration::from_secs(50);
/// Tells a dead peer from a slow one on long waits.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// Reserved at once for an answer whose size is announced; the rest as it comes.
const FIRST_BYTES: usize = 256 << 10;
/// The most that is read of an error's body, bytes.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// Longest wait for an error's body; the status alone says enough.
const ERROR_BODY_WAIT: Duration = Duration::from_secs(2);

/// Bounds of the calls of one provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireLimits {
    pub connect: Duration,
    /// Largest whole answer.
    pub answer_bytes_max: usize,
    /// Longest line of a stream.
    pub line_bytes_max: usize,
}

/// A token of four bytes comes in an event of a few hundred: the body of a stream may be this many times as large
/// as the answer in it.
pub(super) const FRAMING_FACTOR: usize = 64;

/// How much a streamed answer said so far, framing apart.
#[derive(Debug)]
pub(super) struct Said {
    bytes: usize,
    bytes_max: usize,
}

impl Said {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes: 0, bytes_max }
    }

    /// Adds these bytes; an error when it is too much.
    pub(super) fn add(&mut self, bytes: usize) -> Result<(), ProviderError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes <= self.bytes_max {
            return Ok(());
        }
        let message =
            format!("the answer is larger than {} bytes (completion.answer_bytes_max)", self.bytes_max);
        Err(failed_with(ErrorKind::TooLarge, Some(200), &message))
    }
}

/// Returns the client for all calls of one provider at this address.
///
/// The environment's proxy holds for all but this machine's own addresses: it could not reach those, and what is
/// said to them in plain text is not for it to read.
pub(super) fn client(connect_timeout: Duration, url: &Url) -> Result<Client, String> {
    let builder = if is_loopback(url) { Client::builder().no_proxy() } else { Client::builder() };
    builder
        // With HTTP/2 the pool holds one connection to a host: calls beyond its streams (100 are usual) would wait
        // in it unseen, and the wait would be blamed on the target. A connection for each call has no such limit,
        // and a lost packet stalls one answer instead of all.
        .http1_only()
        .user_agent(concat!("pointsman/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .tcp_keepalive(TCP_KEEPALIVE)
        .pool_idle_timeout(IDLE_CONNECTION_MAX_AGE)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        // Another crate switches decompression on; a bound on bytes read would then not bound memory.
        .no_gzip()
        .no_brotli()
        .no_deflate()
        .no_zstd()
        .build()
        .map_err(|error| format!("no HTTP client: {}", errors::root_cause(&error)))
}

/// An accepted call: the head of the answer is there.
pub(super) struct Response {
    inner: reqwest::Response,
    /// Takes the call's credentials out of texts that the provider sends.
    pub(super) redactor: Redactor,
}

impl Response {
    /// Returns whether the media type is this one, parameters aside.
    pub(super) fn is(&self, media_type: &str) -> bool {
        self.media_type().is_some_and(|found| found.eq_ignore_ascii_case(media_type))
    }

    /// Returns whether the answer says that it is JSON.
    pub(super) fn is_json(&self) -> bool {
        let suffix = |found: &str| found.len() > 5 && found[found.len() - 5..].eq_ignore_ascii_case("+json");
        self.is("application/json")
            || self.media_type().is_some_and(|found| found.is_ascii() && suffix(found))
    }

    fn media_type(&self) -> Option<&str> {
        let value = self.inner.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
        Some(value.split(';').next().unwrap_or_default().trim())
    }

    /// Returns an error unless the body is the kind that was asked for, uncompressed.
    fn expect(&self, is_expected: bool, wanted: &str) -> Result<(), ProviderError> {
        if let Some(encoding) = self.inner.headers().get(header::CONTENT_ENCODING)
            && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
        {
            return Err(self.error(ErrorKind::Malformed, "the answer is compressed, which was not asked for"));
        }
        if is_expected {
            return Ok(());
        }
        let found = self.media_type().unwrap_or("no content type");
        let message = format!("expected {wanted}, got {}", self.redactor.clean(found));
        Err(self.error(ErrorKind::Malformed, &message))
    }

    fn error(&self, kind: ErrorKind, message: &str) -> ProviderError {
        failed_with(kind, Some(self.inner.status().as_u16()), message)
    }
}

/// Posts once and returns the answer's head; every status but 2xx is an error. Values of headers that are
/// marked sensitive never appear in errors.
pub(super) async fn post(
    client: &Client,
    url: Url,
    headers: HeaderMap,
    body: Vec<u8>,
) -> Result<Response, ProviderError> {
    let redactor = Redactor::of(&headers);
    let sent = client.post(url).headers(headers).body(body).send().await;
    let inner = sent.map_err(|error| errors::failed_call(&error, &redactor))?;
    let status = inner.status();
    if status.is_success() {
        return Ok(Response { inner, redactor });
    }
    if status.is_redirection() {
        let message = "the provider redirects, which is not followed: set the address that it redirects to";
        return Err(failed_with(ErrorKind::Redirect, Some(status.as_u16()), message));
    }
    let head = inner.headers().clone();
    let text = error_body(inner).await;
    Err(failed_status(status.as_u16(), &head, &text, &redactor))
}

/// Returns what came of an error's body within its bounds; an error is no reason to wait or to fail.
async fn error_body(response: reqwest::Response) -> String {
    let mut read = Vec::new();
    let reading = async {
        let mut chunks = response.bytes_stream();
        while let Some(Ok(chunk)) = chunks.next().await {
            let room = ERROR_BYTES_MAX - read.len();
            read.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if read.len() == ERROR_BYTES_MAX {
                break;
            }
        }
    };
    // What was read until then counts.
    let _ = tokio::time::timeout(ERROR_BODY_WAIT, reading).await;
    String::from_utf8_lossy(&read).into_owned()
}

/// Returns the whole answer.
pub(super) async fn read_json(response: Response, answer_bytes_max: usize) -> Result<Value, ProviderError> {
    response.expect(response.is_json(), "application/json")?;
    let body = read_body(&response.inner.status(), response.inner, answer_bytes_max).await?;
    let status = Some(http::StatusCode::OK.as_u16());
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(failed_with(ErrorKind::Malformed, status, "the answer is empty"));
    }
    serde_json::from_slice(&body).map_err(|error| {
        let message = format!("the answer is no valid JSON: {}", errors::json_problem(&error));
        failed_with(ErrorKind::Malformed, status, &message)
    })
}

async fn read_body(
    status: &http::StatusCode,
    response: reqwest::Response,
    bytes_max: usize,
) -> Result<Vec<u8>, ProviderError> {
    let too_large = || {
        let message = format!("the answer is larger than {bytes_max} bytes (completion.answer_bytes_max)");
        failed_with(ErrorKind::TooLarge, Some(status.as_u16()), &message)
    };
    let announced = response.content_length().unwrap_or(0);
    if announced > bytes_max as u64 {
        return Err(too_large());
    }
    let mut body = Vec::with_capacity((announced as usize).min(FIRST_BYTES));
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk: Bytes = chunk.map_err(|error| errors::cut(&error, status.as_u16()))?;
        if body.len() + chunk.len() > bytes_max {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
pub(super) mod canned;
#[cfg(test)]
mod tests;
