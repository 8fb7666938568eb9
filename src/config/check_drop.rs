//! Names of fields that a target is not sent.

use super::{duplicates, read::SourceText};

/// More than any request has.
const DROP_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 64;
/// Without them there is no call.
const REQUIRED: [&str; 3] = ["model", "messages", "stream"];

/// Returns the names; what is wrong with them is noted in `source`.
pub fn check_drop(written: &[String], path: &str, source: &mut SourceText<'_>) -> Vec<String> {
    if written.len() > DROP_MAX {
        source.problem(path, format!("{} fields, at most {DROP_MAX}", written.len()));
    }
    for twice in duplicates(written.iter().map(String::as_str)) {
        source.problem(format!("{path}[{twice}]"), "is listed twice");
    }
    for (at, name) in written.iter().enumerate() {
        let is_name = !name.is_empty()
            && name.len() <= NAME_BYTES_MAX
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if !is_name {
            source.problem(format!("{path}[{at}]"), "is not the name of a request's field");
        } else if REQUIRED.contains(&name.as_str()) {
            source.problem(format!("{path}[{at}]"), format!("{name:?} is part of every call"));
        }
    }
    written.to_vec()
}
