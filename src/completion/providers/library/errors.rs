//! The library's errors -> ours.
//!
//! Never shows the library's own words for an error: they may hold the request, the whole answer or an
//! address. Messages are made of the kind, the status and what the provider said, credentials taken out.

use genai::{Error, webc};
use serde_json::Value;

use super::{adapter::Adapter, frames::Excess, request::Unfit};
use crate::completion::{
    attempt::{ErrorKind, ProviderError},
    providers::{
        WireLimits,
        wire::{
            Redactor, error_object,
            errors::{cut, failed_call, json_problem},
            failed_status, failed_with,
        },
    },
};

/// Every answer that is read came with this status.
const OK: u16 = 200;

/// Returns what a failure of the library means.
pub(super) fn failed(error: &Error, adapter: Adapter, redactor: &Redactor) -> ProviderError {
    let plain = |kind: ErrorKind, message: &str| failed_with(kind, None, message);
    match error {
        Error::HttpError { status, body, headers, .. } => {
            status_error(status.as_u16(), headers, body, redactor)
        }
        Error::WebModelCall { webc_error, .. } | Error::WebAdapterCall { webc_error, .. } => {
            web_error(webc_error, redactor)
        }
        Error::WebStream { error, .. } => {
            if let Some(inner) = error.downcast_ref::<Error>() {
                failed(inner, adapter, redactor)
            } else if let Some(inner) = error.downcast_ref::<reqwest::Error>() {
                transport_error(inner, redactor)
            } else if error.is::<std::string::FromUtf8Error>() || error.is::<std::str::Utf8Error>() {
                malformed("the answer is no valid UTF-8")
            } else {
                failed_with(ErrorKind::Cut, Some(OK), "reading the answer failed")
            }
        }
        Error::ChatResponse { body, .. } => error_in_answer(body, adapter, redactor),
        Error::StreamParse { serde_error, .. } => {
            malformed(&format!("an event holds no valid JSON: {}", json_problem(serde_error)))
        }
        Error::SerdeJson(_)
        | Error::JsonValueExt(_)
        | Error::InvalidJsonResponseElement { .. }
        | Error::NoChatResponse { .. }
        | Error::ChatResponseGeneration { .. } => malformed("an event lacks what the protocol promises"),
        Error::LastChatMessageIsNotUser { .. } => {
            plain(ErrorKind::Refused, "the last message must be the user's for this target")
        }
        Error::ChatReqHasNoMessages { .. } => plain(ErrorKind::Refused, "messages is empty"),
        Error::MessageRoleNotSupported { .. } | Error::MessageContentTypeNotSupported { .. } => {
            plain(ErrorKind::Refused, "messages hold what cannot be sent to this target")
        }
        Error::RequiresApiKey { .. }
        | Error::NoAuthResolver { .. }
        | Error::NoAuthData { .. }
        | Error::Resolver { .. } => plain(ErrorKind::NoKey, "the call has no key"),
        Error::JsonModeWithoutInstruction
        | Error::VerbosityParsing { .. }
        | Error::ReasoningParsingError { .. }
        | Error::ServiceTierParsing { .. }
        | Error::PromptCacheRetentionParsing { .. }
        | Error::ModelMapperFailed { .. }
        | Error::AdapterNotSupported { .. }
        | Error::CacheBreakpointNoEligibleContent { .. }
        | Error::AdapterKindMismatch { .. }
        | Error::Internal(_)
        | Error::ClientBuildFail { .. } => {
            plain(ErrorKind::Refused, "the request cannot be sent to this target")
        }
    }
}

/// Returns the error of a request that does not fit the target; nothing was sent.
pub(super) fn unfit(unfit: &Unfit) -> ProviderError {
    failed_with(ErrorKind::Refused, None, &unfit.to_string())
}

/// Returns the error of an answer above a limit.
pub(super) fn too_large(excess: Excess, limits: WireLimits) -> ProviderError {
    let message = match excess {
        Excess::Answer => {
            format!(
                "the answer is larger than {} bytes (completion.answer_bytes_max)",
                limits.answer_bytes_max
            )
        }
        Excess::Frame => format!(
            "an event of the answer is longer than {} bytes (completion.line_bytes_max)",
            limits.line_bytes_max
        ),
        Excess::Unfinished => "an event of the answer goes on and on".to_owned(),
    };
    failed_with(ErrorKind::TooLarge, Some(OK), &message)
}

/// Returns the error of an event that does not say which it is.
pub(super) fn unnamed() -> ProviderError {
    malformed("an event of the stream has no name")
}

fn malformed(message: &str) -> ProviderError {
    failed_with(ErrorKind::Malformed, Some(OK), message)
}

fn status_error(status: u16, headers: &http::HeaderMap, body: &str, redactor: &Redactor) -> ProviderError {
    if (300..400).contains(&status) {
        let message = "the provider redirects, which is not followed: set the address that it redirects to";
        return failed_with(ErrorKind::Redirect, Some(status), message);
    }
    failed_status(status, headers, body, redactor)
}

fn web_error(error: &webc::Error, redactor: &Redactor) -> ProviderError {
    match error {
        webc::Error::ResponseFailedStatus { status, body, headers } => {
            status_error(status.as_u16(), headers, body, redactor)
        }
        webc::Error::Reqwest(error) => transport_error(error, redactor),
        webc::Error::ResponseFailedNotJson { .. } => malformed("the answer is no JSON"),
        webc::Error::ResponseFailedInvalidJson { .. } | webc::Error::JsonValueExt(_) => {
            malformed("the answer is no valid JSON")
        }
    }
}

fn transport_error(error: &reqwest::Error, redactor: &Redactor) -> ProviderError {
    if error.is_body() || error.is_decode() { cut(error, OK) } else { failed_call(error, redactor) }
}

/// Returns what an error object in the place of an answer means. Two of them the library makes itself.
fn error_in_answer(body: &Value, adapter: Adapter, redactor: &Redactor) -> ProviderError {
    if adapter == Adapter::Bedrock && body["error"].is_string() {
        return malformed("the answer is no AWS event stream, or a broken one");
    }
    if adapter.is_gemini() && body["error"].is_null() {
        return malformed("an event lacks what the protocol promises");
    }
    let mut error = error_object(body, redactor);
    if error.kind != ErrorKind::TooLong {
        error.kind = ErrorKind::ErrorEvent;
    }
    error
}
