//! Why nothing changed -> gRPC status, with the reason as a detail for programs.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::{
    config::ConfigError,
    live::{ExchangeError, bundles::BundleStoreError, deploy::DeployError, rollout::ChangeError},
    traffic::store::StoreError,
};

/// Whose reasons they are, in google.rpc.ErrorInfo.
const DOMAIN: &str = "pointsman";
/// Problems of a configuration that an answer lists, and characters of a message: clients refuse trailers of more than
/// some kilobytes.
const PROBLEMS_MAX: usize = 24;
const PROBLEM_CHARS_MAX: usize = 200;
const MESSAGE_CHARS_MAX: usize = 2000;

/// Returns the status of a change that did not happen.
pub fn status(error: &DeployError) -> Status {
    let (code, reason) = match error {
        DeployError::Bundles(error) | DeployError::NoBundle(error) => of_bundles(error),
        DeployError::Load(_) | DeployError::Fit(ExchangeError::Router(_)) => {
            (Code::FailedPrecondition, "UNFIT")
        }
        DeployError::Fit(ExchangeError::Completer(_)) => (Code::FailedPrecondition, "CONFIG"),
        DeployError::Change(error) => of_change(error),
        DeployError::Store(error) | DeployError::Alone(error) => of_store(error),
        DeployError::Config(_) => (Code::FailedPrecondition, "CONFIG"),
        DeployError::Busy => (Code::Unavailable, "BUSY"),
        DeployError::Overtaken => (Code::Aborted, "OVERTAKEN"),
    };
    let unfit = error.unfit().map(|unfit| ("unfit".to_owned(), unfit.as_str().to_owned()));
    let mut details =
        ErrorDetails::with_error_info(reason, DOMAIN, unfit.into_iter().collect::<HashMap<_, _>>());
    if let DeployError::Config(error) = error {
        details.set_bad_request(violations(error));
    }
    Status::with_error_details(code, cut(&error.to_string(), MESSAGE_CHARS_MAX), details)
}

fn of_bundles(error: &BundleStoreError) -> (Code, &'static str) {
    match error {
        BundleStoreError::Unknown { .. } => (Code::NotFound, "UNKNOWN_BUNDLE"),
        BundleStoreError::Version { .. } => (Code::InvalidArgument, "VERSION"),
        BundleStoreError::Manifest { .. }
        | BundleStoreError::Changed { .. }
        | BundleStoreError::Signature { .. }
        | BundleStoreError::File { .. }
        | BundleStoreError::Taken { .. } => (Code::FailedPrecondition, "UNFIT"),
        BundleStoreError::Stopped { .. } => (Code::Cancelled, "STOPPED"),
        BundleStoreError::Late { .. } | BundleStoreError::Store { .. } => (Code::Unavailable, "BUNDLE_STORE"),
        BundleStoreError::Place(_) | BundleStoreError::Disk { .. } => {
            (Code::FailedPrecondition, "BUNDLE_STORE")
        }
        BundleStoreError::DiskFull { .. }
        | BundleStoreError::StoreFull { .. }
        | BundleStoreError::CacheFull { .. } => (Code::ResourceExhausted, "NO_ROOM"),
    }
}

fn of_change(error: &ChangeError) -> (Code, &'static str) {
    match error {
        ChangeError::NothingToRollBack => (Code::FailedPrecondition, "NOTHING_TO_ROLL_BACK"),
        ChangeError::Share { .. } => (Code::InvalidArgument, "SHARE"),
        ChangeError::NotKnown { .. } => (Code::NotFound, "UNKNOWN_BUNDLE"),
        ChangeError::NotThat { .. } => (Code::FailedPrecondition, "NOT_THAT"),
        ChangeError::NoOthers => (Code::FailedPrecondition, "NO_OTHER_REPLICA"),
        ChangeError::IsActive { .. }
        | ChangeError::NeedsNoStaging { .. }
        | ChangeError::InUse { .. }
        | ChangeError::Configured => (Code::FailedPrecondition, "ROLE"),
    }
}

fn of_store(error: &StoreError) -> (Code, &'static str) {
    match error {
        StoreError::Down { .. } => (Code::Unavailable, "STORE_DOWN"),
        StoreError::Corrupt { .. } => (Code::Internal, "STORE_CORRUPT"),
        StoreError::Refused { .. } => (Code::FailedPrecondition, "STORE_REFUSED"),
    }
}

fn violations(error: &ConfigError) -> Vec<FieldViolation> {
    let violation = |problem: &crate::config::Problem| {
        let line = problem.line.map(|line| format!("line {line}: ")).unwrap_or_default();
        FieldViolation::new(&problem.path, cut(&format!("{line}{}", problem.message), PROBLEM_CHARS_MAX))
    };
    error.problems.iter().take(PROBLEMS_MAX).map(violation).collect()
}

fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read_text;

    #[track_caller]
    fn check(error: impl Into<DeployError>, code: Code, reason: &str) -> Status {
        let status = status(&error.into());
        assert_eq!(status.code(), code, "{status:?}");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "pointsman"));
        status
    }

    #[test]
    fn every_kind_has_its_code() {
        let unknown = BundleStoreError::Unknown { version: "9".to_owned(), store: "onnx".to_owned() };
        check(unknown, Code::NotFound, "UNKNOWN_BUNDLE");
        check(ChangeError::NothingToRollBack, Code::FailedPrecondition, "NOTHING_TO_ROLL_BACK");
        let down = StoreError::Down { store: "a".to_owned(), problem: "gone".to_owned() };
        check(down, Code::Unavailable, "STORE_DOWN");
    }

    #[test]
    fn every_problem_of_a_configuration_is_told() {
        let error = read_text("[server]\ngrpc_listen = 1\ndrain_ms = \"ten\"\n").unwrap_err();
        let status = check(error, Code::FailedPrecondition, "CONFIG");
        let details = status.get_error_details();
        let violations = &details.bad_request().unwrap().field_violations;
        let fields: Vec<&str> = violations.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["server.grpc_listen", "server.drain_ms"]);
        assert!(violations[0].description.starts_with("line 2: "), "{violations:?}");
    }

    #[test]
    fn a_configuration_full_of_problems_still_fits_an_answer() {
        let text =
            format!("[server]\n{}", (0..100).map(|at| format!("unknown_{at} = 1\n")).collect::<String>());
        let status = check(read_text(&text).unwrap_err(), Code::FailedPrecondition, "CONFIG");
        assert!(status.message().len() < 2100 && status.details().len() < 8000, "{}", status.details().len());
    }
}
