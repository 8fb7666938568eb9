//! Records to test with.

use serde::Deserialize;
use uuid::Builder;

use super::{
    feedback::Feedback,
    record::{Logged, Record, Shadow},
};

const LOGGED: &str = include_str!("../../tests/fixtures/logged.json");
/// When the record of the fixture was decided: 2026-01-30T10:00:00Z.
pub const AT_MS: i64 = 1_769_767_200_000;
pub const DAY_MS: i64 = super::store::DAY_MS;

#[derive(Deserialize)]
struct Fixture {
    record: Record,
    feedback: Vec<Feedback>,
}

/// Returns an escalated completion with feedback.
pub fn logged() -> Logged {
    let Fixture { record, feedback } = serde_json::from_str(LOGGED).unwrap();
    Logged { record, feedback, shadow: None }
}

/// Returns what a shadow said of a record with three tiers.
pub fn shadow() -> Shadow {
    let text = include_str!("../../tests/golden/traffic/shadow-v1.json");
    Shadow { bundle: "next".into(), score: serde_json::from_str(text).unwrap() }
}

/// Returns the same of another time; `number` tells those of one time apart.
pub fn logged_at(at_ms: i64, number: u32) -> Logged {
    let mut logged = logged();
    let mut rest = [0; 10];
    rest[6..].copy_from_slice(&number.to_be_bytes());
    let id = Builder::from_unix_timestamp_millis(at_ms.try_into().unwrap(), &rest).into_uuid();
    logged.record.decision_id = id;
    logged.record.at_ms = at_ms;
    for (at, feedback) in logged.feedback.iter_mut().enumerate() {
        feedback.decision_id = id;
        feedback.feedback_id = format!("{id}-{at}");
    }
    logged
}
