//! A completion that nobody answered, or not to the end -> gRPC status: code, rich details, and what every
//! attempt met, cut to what trailers may hold.

use std::time::Duration;

use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb::precondition_failure::Violation;

use super::{convert, proto};
use crate::{
    completion::outcome::{Failure, FailureKind},
    config::Config,
    routing::policy::Dropped,
};

/// Details at most, bytes. Trailers carry them in base64, a third longer, and common clients refuse headers and
/// trailers of more than 8 KiB together.
const DETAILS_BYTES_MAX: usize = 4608;

/// Longest message of a status, bytes: trailers carry it twice, once escaped.
const MESSAGE_BYTES_MAX: usize = 512;

/// Longest message of an attempt where there is not room for all, bytes.
const SHORT_BYTES_MAX: usize = 96;

const FAILURE_URL: &str = "type.googleapis.com/pointsman.v1.CompletionFailure";
const RETRY_INFO_URL: &str = "type.googleapis.com/google.rpc.RetryInfo";

/// Of the details, what the targets may take that were out of the question, bytes.
const DROPPED_BYTES_MAX: usize = DETAILS_BYTES_MAX / 2;

const PRECONDITION_FAILURE_URL: &str = "type.googleapis.com/google.rpc.PreconditionFailure";

/// Returns the status of a failed completion.
pub fn status(failure: Failure, config: &Config) -> Status {
    let code = code(failure.kind);
    let mut message = failure.message;
    shorten(&mut message, MESSAGE_BYTES_MAX);
    let mut account = proto::CompletionFailure {
        kind: convert::failure_kind(failure.kind) as i32,
        decision: failure.decision.map(|decision| (*decision).clone().into()),
        attempts: convert::attempts(failure.attempts, config),
        attempts_left_out: 0,
        cost_usd: failure.cost_usd,
    };
    let dropped = (!failure.dropped.is_empty()).then(|| precondition_failure(&failure.dropped));
    let envelope = |account: &proto::CompletionFailure| {
        let mut details = vec![Any { type_url: FAILURE_URL.to_owned(), value: account.encode_to_vec() }];
        details.extend(failure.retry_after.map(retry_info));
        details.extend(dropped.clone());
        tonic_types::pb::Status { code: code as i32, message: message.clone(), details }
    };
    fit(&mut account, |account| envelope(account).encoded_len() <= DETAILS_BYTES_MAX);
    let details = envelope(&account).encode_to_vec();
    Status::with_details(code, message, details.into())
}

/// What a client may do: retrying a call whose answer broke off means to make it anew as a whole, which is what
/// ABORTED says; UNAVAILABLE would invite libraries to repeat it by themselves.
fn code(kind: FailureKind) -> Code {
    match kind {
        FailureKind::NoTarget | FailureKind::Unconfigured => Code::FailedPrecondition,
        FailureKind::BudgetSpent | FailureKind::Overloaded | FailureKind::RateLimited => {
            Code::ResourceExhausted
        }
        FailureKind::Refused => Code::InvalidArgument,
        FailureKind::Unavailable => Code::Unavailable,
        FailureKind::DeadlineExceeded => Code::DeadlineExceeded,
        FailureKind::BrokenOff | FailureKind::CallerStalled => Code::Aborted,
    }
}

/// As a request without a decision has it from `Route`.
fn precondition_failure(dropped: &[Dropped]) -> Any {
    let mut room = DROPPED_BYTES_MAX;
    let violations = dropped
        .iter()
        .map(|dropped| {
            let mut description = dropped.why.clone();
            shorten(&mut description, SHORT_BYTES_MAX);
            let subject = format!("{}/{}", dropped.tier, dropped.target);
            Violation { r#type: "TARGET".to_owned(), subject, description }
        })
        .take_while(|violation| {
            let size = violation.encoded_len();
            room = room.saturating_sub(size);
            room > 0
        })
        .collect();
    let failure = tonic_types::pb::PreconditionFailure { violations };
    Any { type_url: PRECONDITION_FAILURE_URL.to_owned(), value: failure.encode_to_vec() }
}

fn retry_info(after: Duration) -> Any {
    let retry_delay = prost_types::Duration::try_from(after).unwrap_or_default();
    let info = tonic_types::pb::RetryInfo { retry_delay: Some(retry_delay) };
    Any { type_url: RETRY_INFO_URL.to_owned(), value: info.encode_to_vec() }
}

/// Cuts what can be done without, least needed first, until it fits: texts, then details of the decision, then
/// attempts from the middle, then the decision, then the rest.
fn fit(account: &mut proto::CompletionFailure, fits: impl Fn(&proto::CompletionFailure) -> bool) {
    if fits(account) {
        return;
    }
    for attempt in &mut account.attempts {
        shorten_texts(attempt);
    }
    if let Some(decision) = &mut account.decision {
        decision.rule_matches.clear();
        shorten(&mut decision.reason, SHORT_BYTES_MAX);
    }
    while !fits(account) && account.attempts.len() > 2 {
        account.attempts.remove(account.attempts.len() / 2);
        account.attempts_left_out += 1;
    }
    if !fits(account) {
        account.decision = None;
    }
    while !fits(account) && account.attempts.pop().is_some() {
        account.attempts_left_out += 1;
    }
}

fn shorten_texts(attempt: &mut proto::Attempt) {
    attempt.dropped_parameters.clear();
    if let Some(error) = &mut attempt.error {
        shorten(&mut error.message, SHORT_BYTES_MAX);
    }
    if let Some(weakness) = &mut attempt.weakness {
        shorten(&mut weakness.why, SHORT_BYTES_MAX);
    }
}

/// Cuts a text at a character, and shows that it was.
fn shorten(text: &mut String, bytes_max: usize) {
    const MARK: char = '…';
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max - MARK.len_utf8()));
        text.push(MARK);
    }
}

#[cfg(test)]
#[path = "failure_tests.rs"]
mod tests;
