//! That an answer is incomplete because the store that replicas share is away, for people, as JSON and for scripts.

use serde_json::{Value, json};

use super::{
    CliError,
    show::{RESET, WARN},
    when::shown,
};
use crate::server::proto::{StoreAway, WantedFrom};

/// Returns a line that says so, and what is shown instead.
pub fn line(away: &StoreAway, instead: &str) -> String {
    let StoreAway { since_ms, why, .. } = away;
    format!("{WARN}incomplete{RESET}  {instead}; the store is away since {}: {why}", shown(*since_ms))
}

/// Returns a line that says that only what is wanted is not known for certain.
pub fn unread_line(away: &StoreAway) -> String {
    let StoreAway { since_ms, why, .. } = away;
    let from = wanted_from(away.wanted_from());
    let since = shown(*since_ms);
    format!("{WARN}incomplete{RESET}  what is wanted is {from}: since {since} it cannot be read: {why}")
}

/// Returns an error for an answer that was shown and is incomplete: who asks by a script must not take it for a whole one.
pub fn complete(away: Option<&StoreAway>) -> Result<(), CliError> {
    match away {
        None => Ok(()),
        Some(away) if away.replicas_known => Err(CliError::Incomplete("what is wanted cannot be read")),
        Some(_) => Err(CliError::Incomplete("the store is away, and one replica was asked alone")),
    }
}

/// Returns where it is known from what is wanted, in words.
pub fn wanted_from(from: WantedFrom) -> &'static str {
    match from {
        WantedFrom::Unspecified | WantedFrom::Store => "as the store last said",
        WantedFrom::Memory => "as this replica last heard it",
        WantedFrom::Copy => "as an earlier process here last heard it",
        WantedFrom::Nowhere => "not known",
    }
}

/// Returns the same as JSON; null while the store answers.
pub fn json(away: Option<&StoreAway>) -> Value {
    let Some(away) = away else { return Value::Null };
    let wanted_from = match away.wanted_from() {
        WantedFrom::Unspecified => "unknown",
        WantedFrom::Store => "store",
        WantedFrom::Memory => "memory",
        WantedFrom::Copy => "copy",
        WantedFrom::Nowhere => "nowhere",
    };
    json!({
        "since": shown(away.since_ms),
        "why": away.why,
        "wanted_from": wanted_from,
        "replicas_known": away.replicas_known,
    })
}
