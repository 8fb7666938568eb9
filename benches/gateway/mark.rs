//! How long the upstream itself kept an answer, written into the answer's text: every gateway hands text on,
//! while headers and identifiers may be replaced.
//!
//! What a call took beyond that is the way there and back, and is compared between gateways.

use std::time::Duration;

const BEGIN: &[u8] = b"[held ";
const END: &[u8] = b" us]";

/// Returns the mark to write; it needs no escaping in JSON.
pub fn write(held: Duration) -> String {
    format!("[held {} us]", held.as_micros())
}

/// Returns the first mark of an answer, `None` while it is not there as a whole.
pub fn first(answer: &[u8]) -> Option<Duration> {
    let begin = answer.windows(BEGIN.len()).position(|window| window == BEGIN)?;
    read(&answer[begin + BEGIN.len()..])
}

/// Returns the last mark of an answer.
pub fn last(answer: &[u8]) -> Option<Duration> {
    let begin = answer.windows(BEGIN.len()).rposition(|window| window == BEGIN)?;
    read(&answer[begin + BEGIN.len()..])
}

fn read(after: &[u8]) -> Option<Duration> {
    let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&after[..digits]).ok()?.parse().ok()?;
    after[digits..].starts_with(END).then(|| Duration::from_micros(number))
}
