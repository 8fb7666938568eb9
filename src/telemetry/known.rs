//! Counters whose labels are all known beforehand, shown as 0 from the start: a series that appears with its first
//! event has no step that a rate or an alert could see.

use metrics::counter;

use super::{
    COMPLETIONS, COMPLETIONS_FAILED, ESCALATED, REFUSED, SKIPPED, UNSCORED,
    live::{ADMIN_REFUSED, BUNDLES_FETCHED},
    traffic::{EXPLORED, FEEDBACK, TRAFFIC_DROPPED, TRAFFIC_WRITTEN},
};

/// Counters without labels.
const PLAIN: [&str; 3] = [SKIPPED, EXPLORED, TRAFFIC_WRITTEN];

/// Counters with one label, and all that it may be.
const BY_ONE: [(&str, &str, &[&str]); 6] = [
    (REFUSED, "reason", &["bad_request", "no_target", "overloaded"]),
    (UNSCORED, "reason", &["absent", "overloaded", "too_late", "failed", "stopped"]),
    (
        COMPLETIONS_FAILED,
        "kind",
        &[
            "no_target",
            "budget_spent",
            "overloaded",
            "refused",
            "rate_limited",
            "unavailable",
            "deadline_exceeded",
            "unconfigured",
            "broken_off",
            "caller_stalled",
            "hung_up",
        ],
    ),
    (
        TRAFFIC_DROPPED,
        "reason",
        &[
            "queue_full",
            "queue_bytes_full",
            "stopped",
            "not_kept",
            "spool_full",
            "spool_failed",
            "spool_broken",
            "refused",
            "feedback_refused",
        ],
    ),
    (BUNDLES_FETCHED, "from", &["in_place", "cached", "downloaded", "failed"]),
    (ADMIN_REFUSED, "reason", &["no_credential", "unreadable", "wrong_token", "tls"]),
];

const FEEDBACK_SOURCES: [&str; 3] = ["user", "human", "automatic"];
const FEEDBACK_STATUSES: [&str; 8] = [
    "recorded",
    "unknown_decision",
    "duplicate",
    "invalid",
    "feedback_off",
    "unknown_feedback_full",
    "feedback_overloaded",
    "feedback_unavailable",
];

/// Shows all of them, once the recorder is there.
pub(super) fn show() {
    for name in PLAIN {
        counter!(name).increment(0);
    }
    for (name, label, values) in BY_ONE {
        for &value in values {
            counter!(name, label => value).increment(0);
        }
    }
    for source in FEEDBACK_SOURCES {
        for status in FEEDBACK_STATUSES {
            counter!(FEEDBACK, "source" => source, "status" => status).increment(0);
        }
    }
    for channel in ["feedback", "outcome"] {
        super::observed(channel, 0, 0);
    }
}

/// Shows the completions of each tier of a configuration.
pub fn completions_of<'a>(tiers: impl IntoIterator<Item = &'a str>) {
    for tier in tiers {
        let tier = tier.to_owned();
        for outcome in ["answered", "weak"] {
            counter!(COMPLETIONS, "tier" => tier.clone(), "outcome" => outcome).increment(0);
        }
        counter!(ESCALATED, "tier" => tier).increment(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{init_metrics, render};

    /// They used to appear at their first event.
    #[test]
    fn what_may_be_counted_is_shown_before_it_is() {
        init_metrics();
        completions_of(["known-only-here"]);
        let shown = render();
        for line in [
            "pointsman_completions_total{tier=\"known-only-here\",outcome=\"weak\"} 0",
            "pointsman_completions_escalated_total{tier=\"known-only-here\"} 0",
        ] {
            assert!(shown.contains(line), "{line} is missing in {shown}");
        }
        for (name, label, values) in BY_ONE {
            for value in values {
                let series = format!("{name}{{{label}=\"{value}\"}}");
                assert!(shown.contains(&series), "{series} is missing");
            }
        }
        assert!(shown.contains("pointsman_feedback_total{source=\"human\",status=\"unknown_decision\"}"));
    }
}
