//! Metrics of the shadow: a bundle that scores beside the active one.

use metrics::{counter, describe_counter};

/// Requests that the shadow scored, by what came of it.
const SCORED: &str = "pointsman_shadow_scored_total";
/// What the shadow's bounds cost, by where it was dropped.
const DROPPED: &str = "pointsman_shadow_dropped_total";

pub(super) fn describe() {
    describe_counter!(
        SCORED,
        "Requests that the shadow was asked for, by how its tier compares with the active one's"
    );
    describe_counter!(
        DROPPED,
        "Requests of the shadow's sample, or scores of it, that were dropped, by reason"
    );
}

/// Counts a request of the shadow: "same_tier", "moved_up", "moved_down", "unscored", or "alone" where the active bundle
/// has no scores.
pub fn shadow_scored(outcome: &'static str) {
    counter!(SCORED, "outcome" => outcome).increment(1);
}

/// Counts how much was dropped because of "queue" (too many requests wait for the shadow) or "store" (too many scores
/// wait to be written).
pub fn shadow_dropped(reason: &'static str, count: u64) {
    counter!(DROPPED, "reason" => reason).increment(count);
}
