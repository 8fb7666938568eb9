//! Why a request gets no answer -> the error that OpenAI's or Anthropic's clients know. Pure.
//!
//! Status, type and code are each decided in one exhaustive match a dialect.

use std::time::Duration;

use axum::{
    body::Body,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
    response::Response,
};
use serde_json::{Value, json};

use super::headers;
use crate::{
    completion::{
        attempt::{Attempt, Outcome},
        dialect::anthropic::{ErrorType, error_body},
        outcome::{Failure, FailureKind},
    },
    routing::{RouteError, admit::BadRequest},
    server::feedback::NotTaken,
};

/// OpenAI's and Anthropic's clients obey this before they look at the status.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// As `retry-after`, but exact; the same clients read it first.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// When a full queue is worth another try.
const OVERLOADED_AGAIN: Duration = Duration::from_secs(1);
/// Bad fields that one message names; more is the same mistake again.
const PROBLEMS_NAMED_MAX: usize = 5;

/// Whose errors a caller understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    OpenAi,
    Anthropic,
}

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    BadRequest,
    UnknownModel,
    UnknownPath,
    WrongMethod,
    TooLarge,
    NotJson,
    /// The body did not come in time.
    TooSlow,
    /// It calls this machine by a name that is not ours.
    ForeignHost,
    /// Feedback that is valid and was not taken.
    Feedback(NotTaken),
    Failed(FailureKind),
}

/// Why a request gets no answer.
#[derive(Debug)]
pub struct Problem {
    what: What,
    /// For a person.
    message: String,
    /// The field or header at fault.
    field: Option<String>,
    retry_after: Option<Duration>,
    failure: Option<Box<Failure>>,
}

impl Problem {
    /// Returns a problem that is told by its message alone.
    pub fn new(what: What, message: impl Into<String>) -> Self {
        Self { what, message: message.into(), field: None, retry_after: None, failure: None }
    }

    /// Returns the problem of a server that has no room right now.
    pub fn overloaded(message: impl Into<String>) -> Self {
        Self {
            retry_after: Some(OVERLOADED_AGAIN),
            ..Self::new(What::Failed(FailureKind::Overloaded), message)
        }
    }

    /// Returns the answer, in the words of the caller's dialect.
    pub fn answer(&self, dialect: Dialect) -> Response {
        let body = self.body(dialect).to_string();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status(self.what, dialect);
        let head = response.headers_mut();
        head.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(failure) = &self.failure {
            headers::add_failure(failure, head);
        }
        if let Some(wait) = self.retry_after {
            // Rounded up: who comes too early is refused again.
            let seconds = wait.as_millis().div_ceil(1000).max(1) as u64;
            head.insert(RETRY_AFTER, seconds.into());
            head.insert(RETRY_AFTER_MS, (wait.as_millis().max(1) as u64).into());
        }
        if is_final(self.what, self.retry_after) {
            head.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        response
    }

    fn body(&self, dialect: Dialect) -> Value {
        match dialect {
            Dialect::OpenAi => {
                openai_body(self.what, &self.message, self.field.as_deref(), self.failure.as_deref())
            }
            Dialect::Anthropic => {
                let mut body = error_body(anthropic_type(self.what), &self.message, None);
                if let Some(failure) = &self.failure {
                    body["error"]["pointsman"] = account(failure);
                }
                body
            }
        }
    }
}

/// Returns the error event of a stream that broke off, OpenAI's form.
pub fn openai_broken(kind: FailureKind, message: &str, failure: Option<&Failure>) -> Value {
    openai_body(What::Failed(kind), message, None, failure)
}

fn openai_body(what: What, message: &str, field: Option<&str>, failure: Option<&Failure>) -> Value {
    let (kind, code) = openai_words(what);
    let code = failure.and_then(providers_code).or(code);
    let mut body = json!({ "error": { "message": message, "type": kind, "param": field, "code": code } });
    if let Some(failure) = failure {
        body["error"]["pointsman"] = account(failure);
    }
    body
}

/// Returns the code that all providers gave for refusing the request, so that callers find what they look for,
/// for example `context_length_exceeded`. Of other failures it would tell of the operator's accounts.
fn providers_code(failure: &Failure) -> Option<&str> {
    match failure.kind {
        FailureKind::Refused => failure.code(),
        FailureKind::NoTarget
        | FailureKind::BudgetSpent
        | FailureKind::Overloaded
        | FailureKind::RateLimited
        | FailureKind::Unavailable
        | FailureKind::DeadlineExceeded
        | FailureKind::Unconfigured
        | FailureKind::BrokenOff
        | FailureKind::CallerStalled => None,
    }
}

/// What was tried: who asks why gets every attempt, in order.
fn account(failure: &Failure) -> Value {
    json!({
        "kind": failure.kind.as_str(),
        "decision_id": failure.decision.as_ref().map(|decision| decision.decision_id.as_str()),
        "attempts": failure.attempts.iter().map(attempt).collect::<Vec<_>>(),
    })
}

fn attempt(attempt: &Attempt) -> Value {
    let (error, status, message) = match &attempt.outcome {
        Outcome::Failed(error) => (Some(error.kind.as_str()), error.status, Some(error.message.as_str())),
        Outcome::Weak(weakness) => (Some(weakness.check.as_str()), None, Some(weakness.why.as_str())),
        Outcome::Answered | Outcome::Skipped | Outcome::Lost | Outcome::Abandoned => (None, None, None),
    };
    let code = match &attempt.outcome {
        Outcome::Failed(error) => error.code.as_deref(),
        Outcome::Weak(_) | Outcome::Answered | Outcome::Skipped | Outcome::Lost | Outcome::Abandoned => None,
    };
    json!({
        "target": attempt.target.id,
        "cause": attempt.cause.as_str(),
        "outcome": attempt.outcome.as_str(),
        "error": error,
        "status": status,
        "code": code,
        "message": message,
        "latency_ms": attempt.latency.as_millis() as u64,
    })
}

/// Which status a caller gets. Where both dialects' clients read the same from a status, they get the same.
fn status(what: What, dialect: Dialect) -> StatusCode {
    use Dialect::{Anthropic, OpenAi};
    match (what, dialect) {
        (What::BadRequest | What::Failed(FailureKind::Refused), _) => StatusCode::BAD_REQUEST,
        (What::UnknownModel | What::UnknownPath, _) => StatusCode::NOT_FOUND,
        (What::WrongMethod, _) => StatusCode::METHOD_NOT_ALLOWED,
        (What::TooLarge, _) => StatusCode::PAYLOAD_TOO_LARGE,
        (What::ForeignHost, _) => StatusCode::FORBIDDEN,
        (What::NotJson, _) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        (What::TooSlow | What::Failed(FailureKind::CallerStalled), _) => StatusCode::REQUEST_TIMEOUT,
        (What::Feedback(NotTaken::Off), _) => StatusCode::CONFLICT,
        (What::Feedback(NotTaken::NoRoom | NotTaken::Overloaded), _) => StatusCode::TOO_MANY_REQUESTS,
        (What::Feedback(NotTaken::Unavailable), _) => StatusCode::SERVICE_UNAVAILABLE,
        (What::Failed(FailureKind::NoTarget), _) => StatusCode::UNPROCESSABLE_ENTITY,
        (What::Failed(FailureKind::BudgetSpent), OpenAi) => StatusCode::TOO_MANY_REQUESTS,
        // Its billing errors.
        (What::Failed(FailureKind::BudgetSpent), Anthropic) => StatusCode::PAYMENT_REQUIRED,
        (What::Failed(FailureKind::RateLimited), _) => StatusCode::TOO_MANY_REQUESTS,
        (What::Failed(FailureKind::Overloaded), OpenAi) => StatusCode::SERVICE_UNAVAILABLE,
        (What::Failed(FailureKind::Unavailable), OpenAi) => StatusCode::BAD_GATEWAY,
        (What::Failed(FailureKind::Overloaded | FailureKind::Unavailable), Anthropic) => overloaded(),
        (What::Failed(FailureKind::DeadlineExceeded), _) => StatusCode::GATEWAY_TIMEOUT,
        (What::Failed(FailureKind::Unconfigured), _) => StatusCode::SERVICE_UNAVAILABLE,
        (What::Failed(FailureKind::BrokenOff), _) => StatusCode::BAD_GATEWAY,
    }
}

/// Anthropic's own status for it.
fn overloaded() -> StatusCode {
    StatusCode::from_u16(529).expect("529 has three digits")
}

/// `type` and `code` of OpenAI's errors.
fn openai_words(what: What) -> (&'static str, Option<&'static str>) {
    match what {
        What::BadRequest => ("invalid_request_error", None),
        What::UnknownModel => ("invalid_request_error", Some("model_not_found")),
        What::UnknownPath => ("invalid_request_error", Some("unknown_url")),
        What::WrongMethod => ("invalid_request_error", Some("method_not_supported")),
        What::TooLarge => ("invalid_request_error", Some("request_too_large")),
        What::NotJson => ("invalid_request_error", Some("unsupported_content_type")),
        What::TooSlow => ("invalid_request_error", Some("request_timeout")),
        What::ForeignHost => ("invalid_request_error", Some("host_not_allowed")),
        What::Feedback(why) => {
            let kind = match why {
                NotTaken::Off => "invalid_request_error",
                NotTaken::NoRoom | NotTaken::Overloaded => "rate_limit_error",
                NotTaken::Unavailable => "server_error",
            };
            (kind, Some(why.as_str()))
        }
        What::Failed(kind) => match kind {
            FailureKind::NoTarget => ("invalid_request_error", Some("no_target")),
            FailureKind::BudgetSpent => ("insufficient_quota", Some("insufficient_quota")),
            FailureKind::Overloaded => ("server_error", Some("overloaded")),
            FailureKind::Refused => ("invalid_request_error", Some("refused")),
            FailureKind::RateLimited => ("rate_limit_error", Some("rate_limit_exceeded")),
            FailureKind::Unavailable => ("server_error", Some("unavailable")),
            FailureKind::DeadlineExceeded => ("server_error", Some("deadline_exceeded")),
            FailureKind::Unconfigured => ("server_error", Some("unconfigured")),
            FailureKind::BrokenOff => ("server_error", Some("broken_off")),
            FailureKind::CallerStalled => ("server_error", Some("caller_stalled")),
        },
    }
}

fn anthropic_type(what: What) -> ErrorType {
    match what {
        What::BadRequest | What::WrongMethod | What::NotJson => ErrorType::InvalidRequest,
        What::UnknownModel | What::UnknownPath => ErrorType::NotFound,
        What::TooLarge => ErrorType::RequestTooLarge,
        What::TooSlow => ErrorType::Timeout,
        What::ForeignHost => ErrorType::Permission,
        What::Feedback(NotTaken::Off) => ErrorType::InvalidRequest,
        What::Feedback(NotTaken::NoRoom | NotTaken::Overloaded) => ErrorType::RateLimit,
        What::Feedback(NotTaken::Unavailable) => ErrorType::Api,
        What::Failed(kind) => kind.into(),
    }
}

/// Returns whether a client is to give up, whatever the status tells it: the same request will fail again for
/// certain, or every target was tried already, and each further try of the client would try them all again.
fn is_final(what: What, retry_after: Option<Duration>) -> bool {
    match what {
        What::Failed(
            FailureKind::BudgetSpent | FailureKind::Unconfigured | FailureKind::DeadlineExceeded,
        )
        | What::Feedback(NotTaken::Off | NotTaken::NoRoom) => true,
        // Where a target says when it is back, waiting for it is worth a try.
        What::Failed(FailureKind::Unavailable) => retry_after.is_none(),
        What::Failed(
            FailureKind::NoTarget
            | FailureKind::Overloaded
            | FailureKind::Refused
            | FailureKind::RateLimited
            | FailureKind::BrokenOff
            | FailureKind::CallerStalled,
        )
        | What::BadRequest
        | What::UnknownModel
        | What::UnknownPath
        | What::WrongMethod
        | What::TooLarge
        | What::NotJson
        | What::TooSlow
        | What::ForeignHost
        | What::Feedback(NotTaken::Overloaded | NotTaken::Unavailable) => false,
    }
}

impl From<Box<Failure>> for Problem {
    fn from(failure: Box<Failure>) -> Self {
        Self {
            what: What::Failed(failure.kind),
            message: failure.message.clone(),
            field: None,
            retry_after: failure.retry_after,
            failure: Some(failure),
        }
    }
}

impl From<BadRequest> for Problem {
    fn from(bad: BadRequest) -> Self {
        let what = if bad.names_unknown_model() { What::UnknownModel } else { What::BadRequest };
        let named: Vec<String> = bad
            .0
            .iter()
            .take(PROBLEMS_NAMED_MAX)
            .map(|problem| format!("{}: {}", problem.field, problem.problem))
            .collect();
        let unnamed = bad.0.len().saturating_sub(PROBLEMS_NAMED_MAX);
        let more = if unnamed > 0 { format!("; and {unnamed} more") } else { String::new() };
        Self {
            field: bad.0.into_iter().next().map(|problem| problem.field),
            ..Self::new(what, format!("{}{more}", named.join("; ")))
        }
    }
}

impl From<NotTaken> for Problem {
    fn from(why: NotTaken) -> Self {
        let field = matches!(why, NotTaken::NoRoom).then(|| "decision_id".to_owned());
        Self { field, retry_after: why.retry_after(), ..Self::new(What::Feedback(why), why.to_string()) }
    }
}

impl From<RouteError> for Problem {
    fn from(error: RouteError) -> Self {
        let (kind, retry_after) = match &error {
            RouteError::NoTarget(_) => (FailureKind::NoTarget, None),
            RouteError::Overloaded => (FailureKind::Overloaded, Some(OVERLOADED_AGAIN)),
        };
        Self { retry_after, ..Self::new(What::Failed(kind), error.to_string()) }
    }
}

#[cfg(test)]
#[path = "errors_tests.rs"]
mod tests;
