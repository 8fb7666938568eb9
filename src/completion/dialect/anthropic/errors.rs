//! Failures as callers of this dialect know them. Pure.

use serde_json::{Value, json};

use crate::completion::outcome::FailureKind;

/// What went wrong, in the provider's own words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorType {
    InvalidRequest,
    Authentication,
    Billing,
    Permission,
    NotFound,
    RequestTooLarge,
    RateLimit,
    Api,
    Timeout,
    Overloaded,
}

impl ErrorType {
    /// Returns the `type` of the error object.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request_error",
            Self::Authentication => "authentication_error",
            Self::Billing => "billing_error",
            Self::Permission => "permission_error",
            Self::NotFound => "not_found_error",
            Self::RequestTooLarge => "request_too_large",
            Self::RateLimit => "rate_limit_error",
            Self::Api => "api_error",
            Self::Timeout => "timeout_error",
            Self::Overloaded => "overloaded_error",
        }
    }
}

impl From<FailureKind> for ErrorType {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::NoTarget | FailureKind::Refused => Self::InvalidRequest,
            FailureKind::BudgetSpent => Self::Billing,
            FailureKind::RateLimited => Self::RateLimit,
            FailureKind::Overloaded | FailureKind::Unavailable => Self::Overloaded,
            FailureKind::DeadlineExceeded | FailureKind::CallerStalled => Self::Timeout,
            FailureKind::Unconfigured | FailureKind::BrokenOff => Self::Api,
        }
    }
}

/// Returns the body of an error, which is also the data of a stream's `error` event.
pub fn error_body(kind: impl Into<ErrorType>, message: &str, request_id: Option<&str>) -> Value {
    let mut body = json!({ "type": "error", "error": { "type": kind.into().as_str(), "message": message } });
    if let Some(id) = request_id {
        body["request_id"] = json!(id);
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_form_that_clients_read() {
        let check = |kind: FailureKind, name: &str| {
            assert_eq!(error_body(kind, "m", None)["error"]["type"], name, "{}", kind.as_str());
        };
        check(FailureKind::NoTarget, "invalid_request_error");
        check(FailureKind::Refused, "invalid_request_error");
        check(FailureKind::BudgetSpent, "billing_error");
        check(FailureKind::RateLimited, "rate_limit_error");
        check(FailureKind::Overloaded, "overloaded_error");
        check(FailureKind::Unavailable, "overloaded_error");
        check(FailureKind::DeadlineExceeded, "timeout_error");
        check(FailureKind::CallerStalled, "timeout_error");
        check(FailureKind::Unconfigured, "api_error");
        check(FailureKind::BrokenOff, "api_error");
        assert_eq!(
            error_body(ErrorType::Authentication, "no key", Some("req_1")),
            json!({
                "type": "error",
                "error": { "type": "authentication_error", "message": "no key" },
                "request_id": "req_1",
            })
        );
    }
}
