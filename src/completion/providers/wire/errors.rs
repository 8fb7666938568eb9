//! What went wrong upstream, by kind and in words. Pure.
//!
//! Words come from the provider only where they are an error message in JSON; credentials are taken out.

use std::{
    error::Error,
    io,
    sync::LazyLock,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, StatusCode};
use regex::Regex;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::completion::attempt::{Again, CODE_BYTES_MAX, ErrorKind, MESSAGE_BYTES_MAX, ProviderError, Stage};

/// Longest wait that a provider may ask for; more would overflow clocks and means "not today" anyhow.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);
/// Secrets shorter than this are not looked for: they would black out ordinary words.
const SECRET_BYTES_MIN: usize = 6;
/// Stands where a credential stood.
const REMOVED: &str = "[removed]";
/// Causes followed of one error.
const CAUSES_MAX: usize = 16;
/// Looked through for a message; the rest of a long text would be cut off anyway.
const CLEANED_BYTES_MAX: usize = 8 * MESSAGE_BYTES_MAX;

/// What providers say of a prompt that does not fit: Anthropic and Fireworks, OpenAI and those who follow it,
/// Anthropic of prompt and answer together, Gemini, xAI, Bedrock, OpenAI's newer models, llama.cpp, Cohere.
const TOO_LONG: [&str; 9] = [
    "prompt is too long",
    "maximum context length",
    "exceed context limit",
    "exceeds the maximum number of tokens",
    "maximum prompt length",
    "input is too long",
    "exceeds the context window",
    "available context size",
    "too many tokens:",
];

/// Takes credentials out of texts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Redactor(Vec<SecretString>);

impl Redactor {
    /// Knows these secrets.
    pub(crate) fn new(secrets: impl IntoIterator<Item = SecretString>) -> Self {
        let long = |secret: &SecretString| secret.expose_secret().len() >= SECRET_BYTES_MIN;
        Self(secrets.into_iter().filter(long).collect())
    }

    /// Knows the values of headers that are marked sensitive.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let secret = |value: &HeaderValue| {
            let text = value.to_str().ok().filter(|_| value.is_sensitive())?;
            Some(SecretString::from(text.strip_prefix("Bearer ").unwrap_or(text).trim()))
        };
        Self::new(headers.values().filter_map(secret))
    }

    /// Returns the text for a person: no credential and nothing that looks like one, no control characters, at
    /// most [`MESSAGE_BYTES_MAX`].
    pub(crate) fn clean(&self, text: &str) -> String {
        let mut clean: String = text[..text.floor_char_boundary(CLEANED_BYTES_MAX)]
            .chars()
            .map(|character| if character.is_control() { ' ' } else { character })
            .collect();
        for secret in &self.0 {
            if clean.contains(secret.expose_secret()) {
                clean = clean.replace(secret.expose_secret(), REMOVED);
            }
        }
        let clean = CREDENTIAL.replace_all(&clean, REMOVED);
        let clean = clean.trim();
        clean[..clean.floor_char_boundary(MESSAGE_BYTES_MAX)].to_owned()
    }
}

/// What a credential looks like, whole or masked as providers repeat it: keys by their usual prefixes, bearer
/// tokens, passwords in URLs.
static CREDENTIAL: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?xi)
        \b(?:sk|pk|rk|gsk|xai|nvapi|hf|key|pplx|fw|tgp|csk|r8)[-_][a-z0-9*._-]{6,}
        | \bAIza[a-z0-9*_-]{10,}
        | \b(?:AKIA|ASIA)[A-Z0-9]{12,}
        | \bya29\.[a-z0-9*._-]{10,}
        | \beyJ[a-z0-9_-]{10,}\.[a-z0-9._-]+
        | \b(?:bearer|basic)\s+[a-z0-9*+/=._~-]{8,}
        | ://[^\s/@]+@",
    )
    .expect("the pattern is fixed and tested")
});

/// Returns an error with these words, cut to length; for words that hold nothing of the caller's or the
/// provider's.
pub(crate) fn failed_with(kind: ErrorKind, status: Option<u16>, message: &str) -> ProviderError {
    let message = message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)].to_owned();
    ProviderError { kind, status, message, code: None, again: Again::Usual }
}

/// Returns the error that an HTTP status, its headers and its body stand for.
pub(crate) fn failed_status(
    status: u16,
    headers: &HeaderMap,
    body: &str,
    redactor: &Redactor,
) -> ProviderError {
    let told = Told::read(body);
    let kind = kind_of(status, &told);
    let message = match &told.message {
        Some(message) => redactor.clean(message),
        None => StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("no reason given")
            .to_owned(),
    };
    let again = retry_after(headers, SystemTime::now()).map_or(Again::Usual, Again::After);
    ProviderError { kind, status: Some(status), message, code: told.code(redactor), again }
}

/// Returns the error that an `error` object inside a successful answer stands for: its kind by its code where
/// that is known, else an error event.
pub(crate) fn error_object(error: &Value, redactor: &Redactor) -> ProviderError {
    let told = Told::of(error);
    let by_number = told.number.filter(|code| (400..600).contains(code)).map(|code| kind_of(code, &told));
    let kind = match kind_by_name(&told.names).or(by_number) {
        Some(ErrorKind::Refused) | None if told.is_too_long() => ErrorKind::TooLong,
        kind => kind.unwrap_or(ErrorKind::ErrorEvent),
    };
    let message = match &told.message {
        Some(message) => redactor.clean(message),
        None => "the provider sent an error without a message".to_owned(),
    };
    let (status, code) = (Some(StatusCode::OK.as_u16()), told.code(redactor));
    ProviderError { kind, status, message, code, again: Again::Usual }
}

/// Returns the wait that the provider asks for: `retry-after-ms`, or `retry-after` in seconds or as a date.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    let seconds = |seconds: f64| Duration::from_secs_f64(seconds.min(RETRY_AFTER_MAX.as_secs_f64()));
    if let Some(milliseconds) = text("retry-after-ms").and_then(number) {
        return Some(seconds(milliseconds / 1000.0));
    }
    let asked = text("retry-after")?;
    if let Some(number) = number(asked) {
        return Some(seconds(number));
    }
    let date = httpdate::parse_http_date(asked).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO).min(RETRY_AFTER_MAX))
}

/// Returns the error of a call that got no answer's head.
pub(crate) fn failed_call(error: &reqwest::Error, redactor: &Redactor) -> ProviderError {
    let kind = if error.is_connect() && error.is_timeout() {
        ErrorKind::Timeout(Stage::Connect)
    } else if error.is_connect() && is_tls(error) {
        ErrorKind::Tls
    } else if error.is_connect() {
        ErrorKind::Connect
    } else if error.is_timeout() {
        ErrorKind::Timeout(Stage::Total)
    } else if error.is_builder() {
        ErrorKind::Refused
    } else {
        ErrorKind::Cut
    };
    let what = match kind {
        ErrorKind::Timeout(Stage::Connect) => return failed_with(kind, None, "connecting took too long"),
        ErrorKind::Tls => "no TLS connection",
        ErrorKind::Connect => "no connection",
        ErrorKind::Refused => "the request cannot be sent",
        _ => "the connection ended before an answer came",
    };
    failed_with(kind, None, &redactor.clean(&format!("{what}: {}", root_cause(error))))
}

/// Returns the error of a body that ended before its end.
pub(crate) fn cut(error: &reqwest::Error, status: u16) -> ProviderError {
    let message = format!("the connection ended before the answer did: {}", root_cause(error));
    failed_with(ErrorKind::Cut, Some(status), &Redactor::default().clean(&message))
}

/// Returns what is wrong with a JSON text and where, without quoting it.
pub(crate) fn json_problem(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Io
        | serde_json::error::Category::Syntax
        | serde_json::error::Category::Data => "syntax error",
    };
    format!("{what} at line {} column {}", error.line(), error.column())
}

/// Returns the words of the innermost cause: outer ones repeat it, or hold the URL.
pub(super) fn root_cause(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map_or_else(String::new, ToString::to_string)
}

/// TLS errors come as I/O errors of kinds that connecting a socket never has.
fn is_tls(error: &(dyn Error + 'static)) -> bool {
    causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|cause| match cause.kind() {
        io::ErrorKind::InvalidData => true,
        io::ErrorKind::UnexpectedEof => {
            cause.get_ref().is_some_and(|inner| inner.to_string().contains("tls"))
        }
        _ => false,
    })
}

/// Returns the error and its causes, outermost first. An I/O error's own `source` would leave out what it wraps.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| {
        let error: &'a (dyn Error + 'static) = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
    .take(CAUSES_MAX)
}

/// What a provider told about an error, in any of the usual shapes.
#[derive(Debug, Default)]
struct Told {
    message: Option<String>,
    /// `code`, `type` and `status`, as far as they are words; the provider's, never the caller's.
    names: Vec<String>,
    /// `code`, where it is a word.
    code: Option<String>,
    /// `code`, where it is a number.
    number: Option<u16>,
    /// Whether the request's content was found fault with.
    moderated: bool,
    shape: BodyShape,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum BodyShape {
    #[default]
    Empty,
    Json,
    /// For example a page of a firewall in between.
    Other,
}

impl Told {
    fn read(body: &str) -> Self {
        if body.trim().is_empty() {
            return Self::default();
        }
        match serde_json::from_str::<Value>(body) {
            Ok(value) => Self { shape: BodyShape::Json, ..Self::of(&value) },
            Err(_) => Self { shape: BodyShape::Other, ..Self::default() },
        }
    }

    /// Reads `{"error": {"message"}}` (OpenAI, Anthropic, Google), `{"error": "..."}`, `{"message"}`,
    /// `{"detail"}`, and each of them in a list of one.
    fn of(value: &Value) -> Self {
        let value = value.as_array().and_then(|list| list.first()).unwrap_or(value);
        let error = value.get("error").filter(|error| !error.is_null()).unwrap_or(value);
        let words = |value: &Value| value.as_str().map(str::to_owned).filter(|text| !text.is_empty());
        let detail = value
            .get("detail")
            .map(|detail| detail.as_array().and_then(|list| list.first()).unwrap_or(detail));
        let message = words(error)
            .or_else(|| error.get("message").and_then(words))
            .or_else(|| value.get("message").and_then(words))
            .or_else(|| {
                detail.and_then(|detail| words(detail).or_else(|| detail.get("msg").and_then(words)))
            });
        let names =
            ["code", "type", "status"].iter().filter_map(|name| error.get(name).and_then(words)).collect();
        let word = error.get("code").and_then(words);
        let code = error.get("code").or_else(|| error.get("status"));
        let digits = |code: &Value| code.as_str().and_then(|code| code.parse().ok());
        let number = code.and_then(|code| code.as_u64().or_else(|| digits(code)));
        let number = number.and_then(|code| u16::try_from(code).ok());
        let metadata = error.get("metadata");
        let moderated =
            metadata.is_some_and(|data| data.get("reasons").is_some() || data.get("flagged_input").is_some());
        Self { message, names, code: word, number, moderated, shape: BodyShape::Json }
    }

    /// Returns the provider's code where it is a plain name.
    fn code(&self, redactor: &Redactor) -> Option<String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let code = self.code.as_ref().filter(|code| {
            code.len() <= CODE_BYTES_MAX
                && code.bytes().all(is_plain)
                && code.bytes().any(|byte| byte.is_ascii_alphabetic())
        })?;
        (redactor.clean(code) == *code).then(|| code.clone())
    }

    /// Returns whether the prompt does not fit the context window. Most say so in words alone.
    fn is_too_long(&self) -> bool {
        let named = || kind_by_name(&self.names) == Some(ErrorKind::TooLong);
        let said = |message: &String| {
            let message = message.to_ascii_lowercase();
            TOO_LONG.iter().any(|words| message.contains(words))
        };
        named() || self.message.as_ref().is_some_and(said)
    }
}

/// Returns the kind that a status and what was told with it stand for.
fn kind_of(status: u16, told: &Told) -> ErrorKind {
    let named = kind_by_name(&told.names);
    match status {
        300..=399 => ErrorKind::Redirect,
        // Anthropic reports an account without credit as an invalid request.
        400 if told
            .message
            .as_deref()
            .is_some_and(|text| text.starts_with("Your credit balance is too low")) =>
        {
            ErrorKind::Unpaid
        }
        // Google reports a wrong key as an invalid argument.
        400 if told.message.as_deref().is_some_and(|text| {
            text.starts_with("API key not valid") || text.starts_with("API key expired")
        }) =>
        {
            ErrorKind::Unauthorized
        }
        400 | 403 | 429 if named == Some(ErrorKind::Unpaid) => ErrorKind::Unpaid,
        400 | 403 if named == Some(ErrorKind::NotFound) => ErrorKind::NotFound,
        400 | 413 | 422 if told.is_too_long() => ErrorKind::TooLong,
        401 => ErrorKind::Unauthorized,
        402 => ErrorKind::Unpaid,
        // Moderation and firewalls answer 403 to what the caller wrote: that says nothing about the key.
        403 if told.moderated || told.shape == BodyShape::Other => ErrorKind::Refused,
        403 => ErrorKind::Unauthorized,
        404 => ErrorKind::NotFound,
        408 | 504 => ErrorKind::Timeout(Stage::Total),
        429 => ErrorKind::RateLimited,
        503 | 529 => ErrorKind::Overloaded,
        400..=499 => ErrorKind::Refused,
        _ => ErrorKind::Server,
    }
}

/// Returns the kind that an error's code or type stands for, where it is a well-known one.
fn kind_by_name(names: &[String]) -> Option<ErrorKind> {
    names.iter().find_map(|name| match name.as_str() {
        "insufficient_quota" | "billing_hard_limit_reached" | "billing_error" => Some(ErrorKind::Unpaid),
        "model_not_found" | "not_found_error" => Some(ErrorKind::NotFound),
        "rate_limit_exceeded" | "rate_limit_error" | "RESOURCE_EXHAUSTED" => Some(ErrorKind::RateLimited),
        "overloaded_error" | "UNAVAILABLE" => Some(ErrorKind::Overloaded),
        "authentication_error" | "permission_error" | "invalid_api_key" => Some(ErrorKind::Unauthorized),
        "context_length_exceeded" | "exceed_context_size_error" => Some(ErrorKind::TooLong),
        "invalid_request_error" | "INVALID_ARGUMENT" => Some(ErrorKind::Refused),
        "server_error" | "api_error" | "internal_error" | "INTERNAL" => Some(ErrorKind::Server),
        "timeout_error" => Some(ErrorKind::Timeout(Stage::Total)),
        _ => None,
    })
}
