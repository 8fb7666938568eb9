//! Metrics of how a replica knows what the fleet wants.

use metrics::{describe_gauge, gauge};

/// 1 while the store says what the fleet is to run, 0 while the last that is known of it holds on.
const FOLLOWING: &str = "pointsman_fleet_following";
/// Since when the store does not say it, seconds since 1970; 0 while it does.
const APART_SINCE: &str = "pointsman_fleet_apart_since_seconds";
/// 1 for where what is known of it is from, 0 for the others.
const WANTED_FROM: &str = "pointsman_fleet_wanted_from";

pub(super) fn describe() {
    describe_gauge!(FOLLOWING, "1 while the store says what the fleet is to run, else 0");
    describe_gauge!(
        APART_SINCE,
        "Since when the store does not say what the fleet is to run, seconds since 1970; 0 while it does"
    );
    describe_gauge!(WANTED_FROM, "1 for where it is known from what the fleet is to run, else 0");
}

/// Notes where it is known from what the fleet is to run, one of `all`, and since when the store does not say it,
/// milliseconds since 1970; `None` while it does.
pub fn fleet_wanted(from: &'static str, all: &[&'static str], apart_since_ms: Option<i64>) {
    gauge!(FOLLOWING).set(if apart_since_ms.is_none() { 1.0 } else { 0.0 });
    gauge!(APART_SINCE).set(apart_since_ms.map_or(0.0, |since_ms| since_ms as f64 / 1000.0));
    for &each in all {
        gauge!(WANTED_FROM, "from" => each).set(if each == from { 1.0 } else { 0.0 });
    }
}
