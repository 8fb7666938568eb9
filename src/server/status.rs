//! Errors -> gRPC status: code, message and rich details, each decided in one exhaustive match.

use tonic::{Code, Status};
use tonic_types::{
    BadRequest as BadRequestDetail, ErrorDetails, FieldViolation, PreconditionViolation, StatusExt,
};

use super::{feedback::NotTaken, proto};
use crate::routing::{RouteError, admit::BadRequest};

/// How long a client should wait after RESOURCE_EXHAUSTED: a full queue of short prompts is worked
/// off in about that time.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_millis(250);

/// Targets that an error names: clients refuse trailers of more than some kilobytes.
const DROPPED_MAX: usize = 24;

/// Returns INVALID_ARGUMENT with one violation per bad field.
pub fn bad_request(error: &BadRequest) -> Status {
    let violations: Vec<FieldViolation> = error
        .0
        .iter()
        .map(|problem| FieldViolation::new(problem.field.as_str(), problem.problem.as_str()))
        .collect();
    let mut details = ErrorDetails::new();
    details.set_bad_request(violations);
    Status::with_error_details(Code::InvalidArgument, error.to_string(), details)
}

/// Returns INVALID_ARGUMENT for one field of a batch as a whole.
pub fn bad_field(field: &str, problem: &str) -> Status {
    let details =
        ErrorDetails::with_bad_request(BadRequestDetail::with_violation(field, problem).field_violations);
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {problem}"), details)
}

/// Returns the status of a request that got no decision.
pub fn no_decision(error: &RouteError) -> Status {
    let mut details = ErrorDetails::new();
    match error {
        RouteError::NoTarget(no_target) => {
            let violations: Vec<PreconditionViolation> = no_target
                .dropped
                .iter()
                .take(DROPPED_MAX)
                .map(|dropped| {
                    let subject = format!("{}/{}", dropped.tier, dropped.target);
                    PreconditionViolation::new("TARGET", subject, dropped.why.as_str())
                })
                .collect();
            details.set_precondition_failure(violations);
        }
        RouteError::Overloaded => {
            details.set_retry_info(Some(RETRY_AFTER));
        }
    }
    Status::with_error_details(code(error), error.to_string(), details)
}

fn code(error: &RouteError) -> Code {
    match error {
        RouteError::NoTarget(_) => Code::FailedPrecondition,
        RouteError::Overloaded => Code::ResourceExhausted,
    }
}

/// Returns the status of feedback that is valid and was not taken.
pub fn not_taken(why: NotTaken) -> Status {
    let mut details = ErrorDetails::new();
    let code = match why {
        NotTaken::Off => {
            let violation = PreconditionViolation::new("TRAFFIC_LOG", "traffic.enabled", why.to_string());
            details.set_precondition_failure(vec![violation]);
            Code::FailedPrecondition
        }
        NotTaken::NoRoom | NotTaken::Overloaded => Code::ResourceExhausted,
        NotTaken::Unavailable => Code::Unavailable,
    };
    if let Some(after) = why.retry_after() {
        details.set_retry_info(Some(after));
    }
    Status::with_error_details(code, why.to_string(), details)
}

/// Returns a bad request as the error of one item of a batch.
pub fn bad_item(at: usize, error: &BadRequest) -> proto::RouteError {
    proto::RouteError {
        code: Code::InvalidArgument as i32,
        message: error.to_string(),
        field: error
            .0
            .first()
            .map_or_else(String::new, |problem| format!("requests[{at}].{}", problem.field)),
    }
}

/// Returns a missing decision as the error of one item of a batch.
pub fn failed_item(error: &RouteError) -> proto::RouteError {
    proto::RouteError { code: code(error) as i32, message: error.to_string(), field: String::new() }
}
