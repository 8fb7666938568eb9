//! One try of one target: why it was made, how it ended, what it took.

use std::{fmt, time::Duration};

use super::answer::Usage;
use crate::{
    config::TargetIndex,
    prompt::{TargetRef, Tier},
};

/// Why a provider did not answer, or not to the end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}{}: {message}", .status.map(|status| format!(" (status {status})")).unwrap_or_default())]
pub struct ProviderError {
    pub kind: ErrorKind,
    /// HTTP status, where there was one.
    pub status: Option<u16>,
    /// For the caller; never holds a key or an address beyond the configured one, but may repeat the prompt where it is
    /// in the provider's words. At most [`MESSAGE_BYTES_MAX`].
    pub message: String,
    /// The provider's own name for the error, for example `context_length_exceeded`; letters, digits and "_.-",
    /// at most [`CODE_BYTES_MAX`].
    pub code: Option<String>,
    pub again: Again,
}

impl ProviderError {
    /// Returns what a log line may say of it. The words of a provider may repeat the prompt, so they are the caller's
    /// alone; its name for the error says what an operator needs.
    pub fn to_log(&self) -> String {
        if !self.may_quote() {
            return self.to_string();
        }
        let told = [self.status.map(|status| format!("status {status}")), self.code.clone()];
        let told: Vec<String> = told.into_iter().flatten().collect();
        if told.is_empty() { self.kind.to_string() } else { format!("{} ({})", self.kind, told.join(", ")) }
    }

    /// Returns whether the message may hold words of the provider: where it sent an error, not where there was none.
    fn may_quote(&self) -> bool {
        match self.kind {
            ErrorKind::Connect
            | ErrorKind::Tls
            | ErrorKind::Timeout(
                Stage::Connect | Stage::FirstToken | Stage::BetweenTokens | Stage::Deadline,
            )
            | ErrorKind::NoKey
            | ErrorKind::Redirect
            | ErrorKind::Malformed
            | ErrorKind::Cut
            | ErrorKind::TooLarge => false,
            ErrorKind::Timeout(Stage::Total)
            | ErrorKind::RateLimited
            | ErrorKind::Unauthorized
            | ErrorKind::Unpaid
            | ErrorKind::NotFound
            | ErrorKind::Refused
            | ErrorKind::TooLong
            | ErrorKind::Server
            | ErrorKind::Overloaded
            | ErrorKind::ErrorEvent => self.status.is_some(),
        }
    }
}

/// Upstream error texts are cut to this length, bytes.
pub const MESSAGE_BYTES_MAX: usize = 512;
/// A longer error code is none, bytes.
pub const CODE_BYTES_MAX: usize = 64;

/// What went wrong, as far as retrying, failing over and the breaker care.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// No connection: refused, unreachable, name not found.
    Connect,
    Tls,
    /// Connecting, the first token, a pause between tokens, or the whole took too long.
    Timeout(Stage),
    /// 429.
    RateLimited,
    /// 401 and 403: the key is wrong or may not.
    Unauthorized,
    /// 402: the account is out of credit.
    Unpaid,
    /// No usable key is left.
    NoKey,
    /// 404: no such model or path.
    NotFound,
    /// 400, 413, 422 and other client errors: this target refuses the request as it stands.
    Refused,
    /// The prompt does not fit this target's context window; a larger one may take it.
    TooLong,
    /// 500 and other server errors.
    Server,
    /// 503 and 529.
    Overloaded,
    /// A redirect; they are not followed.
    Redirect,
    /// A 200 that is not what the protocol promises: no JSON, another content type, a bad stream line.
    Malformed,
    /// The connection ended before the answer did.
    Cut,
    /// An error event inside a stream that began well.
    ErrorEvent,
    /// A line or an answer above its limit.
    TooLarge,
}

/// Which wait was too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    Connect,
    FirstToken,
    BetweenTokens,
    Total,
    /// The whole completion's deadline passed; the target may have done well until then.
    Deadline,
}

impl ErrorKind {
    /// Returns the name used in metric labels, logs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout(Stage::Connect) => "timeout_connect",
            Self::Timeout(Stage::FirstToken) => "timeout_first_token",
            Self::Timeout(Stage::BetweenTokens) => "timeout_between_tokens",
            Self::Timeout(Stage::Total) => "timeout_total",
            Self::Timeout(Stage::Deadline) => "deadline",
            Self::RateLimited => "rate_limited",
            Self::Unauthorized => "unauthorized",
            Self::Unpaid => "unpaid",
            Self::NoKey => "no_key",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::TooLong => "too_long",
            Self::Server => "server",
            Self::Overloaded => "overloaded",
            Self::Redirect => "redirect",
            Self::Malformed => "malformed",
            Self::Cut => "cut",
            Self::ErrorEvent => "error_event",
            Self::TooLarge => "too_large",
        }
    }

    /// Returns whether the same target may do better on another try.
    pub fn is_transient(self) -> bool {
        match self {
            Self::Connect
            | Self::Timeout(Stage::Connect | Stage::FirstToken | Stage::BetweenTokens | Stage::Total)
            | Self::RateLimited
            | Self::Server
            | Self::Overloaded
            | Self::Malformed
            | Self::Cut
            | Self::ErrorEvent => true,
            Self::Tls
            | Self::Timeout(Stage::Deadline)
            | Self::Unauthorized
            | Self::Unpaid
            | Self::NoKey
            | Self::NotFound
            | Self::Refused
            | Self::TooLong
            | Self::Redirect
            | Self::TooLarge => false,
        }
    }

    /// Returns whether the target is to blame, so that its breaker counts it; a refused request is not.
    pub fn blames_target(self) -> bool {
        match self {
            Self::Refused | Self::TooLong | Self::TooLarge | Self::Timeout(Stage::Deadline) => false,
            Self::Connect
            | Self::Tls
            | Self::Timeout(Stage::Connect | Stage::FirstToken | Stage::BetweenTokens | Stage::Total)
            | Self::RateLimited
            | Self::Unauthorized
            | Self::Unpaid
            | Self::NoKey
            | Self::NotFound
            | Self::Server
            | Self::Overloaded
            | Self::Redirect
            | Self::Malformed
            | Self::Cut
            | Self::ErrorEvent => true,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// When the same target may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// By the kind of the error, after the usual back-off.
    Usual,
    /// At once: another key is ready.
    Now,
    /// Not before this, as the provider asked (Retry-After).
    After(Duration),
}

/// Why an answer is not good enough.
#[derive(Debug, Clone, PartialEq)]
pub struct Weakness {
    pub check: Check,
    /// One sentence for a person; never quotes the answer at length.
    pub why: String,
}

pub use crate::config::Check;

/// Why an attempt was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The decision's own target.
    First,
    /// The same target again.
    Retry,
    /// Another target of the tier, after an error.
    Failover,
    /// A higher tier, because every target of the one below failed.
    Climb,
    /// A higher tier, after a weak answer.
    Escalation,
    /// A second target beside a slow one.
    Hedge,
    /// Scores an answer by the operator's rubric.
    Judge,
}

impl Cause {
    /// Returns the name used in metric labels and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Retry => "retry",
            Self::Failover => "failover",
            Self::Climb => "climb",
            Self::Escalation => "escalation",
            Self::Hedge => "hedge",
            Self::Judge => "judge",
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The answer was sent, or the judge's verdict taken.
    Answered,
    Weak(Weakness),
    Failed(ProviderError),
    /// The target's breaker was open: nothing was sent.
    Skipped,
    /// A hedge's other side answered first.
    Lost,
    /// The caller hung up.
    Abandoned,
}

impl Outcome {
    /// Returns the name used in metric labels and answers.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Weak(_) => "weak",
            Self::Failed(_) => "failed",
            Self::Skipped => "skipped",
            Self::Lost => "lost",
            Self::Abandoned => "abandoned",
        }
    }
}

/// One try of one target.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    pub index: TargetIndex,
    pub target: TargetRef,
    pub tier: Tier,
    pub cause: Cause,
    pub outcome: Outcome,
    /// From the start of the completion to the start of this attempt.
    pub started: Duration,
    pub latency: Duration,
    /// From the attempt's start to the first token of the answer; `None` where none came, or where the
    /// answer came whole.
    pub first_token: Option<Duration>,
    pub usage: Usage,
    /// Whether `usage`, and with it `cost_usd`, was estimated because the provider did not say, or what it
    /// said cannot be.
    pub estimated: bool,
    pub cost_usd: f64,
    pub dropped_parameters: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_holds_no_words_of_a_provider() {
        let check = |kind: ErrorKind, status: Option<u16>, code: Option<&str>, expected: &str| {
            let (message, code) = ("what was said".to_owned(), code.map(str::to_owned));
            let error = ProviderError { kind, status, message, code, again: Again::Usual };
            assert_eq!(error.to_log(), expected);
        };
        check(ErrorKind::Refused, Some(400), Some("invalid_value"), "refused (status 400, invalid_value)");
        check(ErrorKind::Server, Some(500), None, "server (status 500)");
        check(ErrorKind::ErrorEvent, Some(200), None, "error_event (status 200)");
        check(ErrorKind::Timeout(Stage::Total), Some(504), None, "timeout_total (status 504)");
        // Nothing was sent, or no answer came: the words are pointsman's own.
        check(ErrorKind::Refused, None, None, "refused: what was said");
        check(ErrorKind::Timeout(Stage::Total), None, None, "timeout_total: what was said");
        check(ErrorKind::Connect, None, None, "connect: what was said");
        check(ErrorKind::Malformed, Some(200), None, "malformed (status 200): what was said");
        check(ErrorKind::Redirect, Some(302), None, "redirect (status 302): what was said");
    }
}
