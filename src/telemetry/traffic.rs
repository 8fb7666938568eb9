//! Metrics of the traffic log, of feedback, and of what is learned from both.

use metrics::{counter, describe_counter, describe_gauge, gauge};

/// Observations for learning, by how they came and whether they counted: applied, over_allowance.
const OBSERVATIONS: &str = "pointsman_learning_observations_total";
/// Learned offset on the logit of sufficiency, by intent and target.
pub(super) const OFFSET: &str = "pointsman_learning_offset";
/// Decisions that try a target to learn about it.
pub(super) const EXPLORED: &str = "pointsman_explored_total";
/// Requests that are not in the traffic log, by reason.
pub(super) const TRAFFIC_DROPPED: &str = "pointsman_traffic_dropped_total";
/// Requests that the traffic store took.
pub(super) const TRAFFIC_WRITTEN: &str = "pointsman_traffic_written_total";
/// Requests that wait to be written, those included that are being written.
const TRAFFIC_QUEUE: &str = "pointsman_traffic_queue";
/// Records and feedback that wait on local disk until the store is back.
const TRAFFIC_SPOOLED: &str = "pointsman_traffic_spooled";
/// 1 while the traffic store is there, else 0.
const TRAFFIC_STORE_UP: &str = "pointsman_traffic_store_up";
/// Feedback by whose it is and what became of it: recorded, unknown_decision, duplicate, invalid, or why not.
pub(super) const FEEDBACK: &str = "pointsman_feedback_total";

pub(super) fn describe() {
    describe_counter!(OBSERVATIONS, "Observations for learning, by channel and fate");
    describe_gauge!(OFFSET, "Learned offset on the logit of sufficiency, by intent and target");
    describe_counter!(EXPLORED, "Decisions that try a target to learn about it");
    describe_counter!(TRAFFIC_DROPPED, "Requests that are not in the traffic log, by reason");
    describe_counter!(TRAFFIC_WRITTEN, "Requests that the traffic store took");
    describe_gauge!(TRAFFIC_QUEUE, "Requests that wait to be written");
    describe_gauge!(TRAFFIC_SPOOLED, "Records and feedback that wait on local disk until the store is back");
    describe_gauge!(TRAFFIC_STORE_UP, "1 while the traffic store is there, else 0");
    describe_counter!(FEEDBACK, "Feedback by source and what became of it");
}

/// Counts observations for learning that came by `channel`.
pub fn observed(channel: &'static str, applied: u64, over_allowance: u64) {
    for (fate, count) in [("applied", applied), ("over_allowance", over_allowance)] {
        counter!(OBSERVATIONS, "channel" => channel, "fate" => fate).increment(count);
    }
}

/// Notes a learned offset.
pub fn offset(intent: &str, target: &str, mean: f64) {
    gauge!(OFFSET, "intent" => intent.to_owned(), "target" => target.to_owned()).set(mean);
}

/// Counts a decision that tries a target to learn about it.
pub fn explored() {
    counter!(EXPLORED).increment(1);
}

/// Counts one piece of feedback.
pub fn feedback(source: &'static str, status: &'static str) {
    counter!(FEEDBACK, "source" => source, "status" => status).increment(1);
}

/// Counts requests that are not logged.
pub fn traffic_dropped(reason: &'static str, records: u64) {
    counter!(TRAFFIC_DROPPED, "reason" => reason).increment(records);
}

/// Counts requests that the traffic store took.
pub fn traffic_written(records: u64) {
    counter!(TRAFFIC_WRITTEN).increment(records);
}

/// Notes what waits to be written and in the spool, and whether the traffic store is there.
pub fn traffic_waiting(queue: usize, spooled: u64, store_up: bool) {
    gauge!(TRAFFIC_QUEUE).set(queue as f64);
    gauge!(TRAFFIC_SPOOLED).set(spooled as f64);
    gauge!(TRAFFIC_STORE_UP).set(if store_up { 1.0 } else { 0.0 });
}
