//! Metrics of what serves: generations, exchanges of bundles, reloads of the configuration.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// Counts the exchanges of what serves, as decisions name it.
const GENERATION: &str = "pointsman_config_generation";
/// Changes of bundles by what became of them.
const SWAPS: &str = "pointsman_bundle_changes_total";
/// From the wish to the first request, seconds.
pub(super) const SWAP_SECONDS: &str = "pointsman_bundle_change_seconds";
/// 1 for each bundle that is loaded, by version and role.
pub(super) const BUNDLE: &str = "pointsman_bundle_info";
/// Reloads of the configuration by what became of them.
const RELOADS: &str = "pointsman_config_reloads_total";
/// Classifiers that serve no new request and still work on an old one.
const TO_FREE: &str = "pointsman_classifiers_to_free";

pub(super) fn describe() {
    describe_gauge!(
        GENERATION,
        "Exchanges of bundles and configuration since the start, as decisions name them"
    );
    describe_counter!(SWAPS, "Changes of bundles, by outcome");
    describe_histogram!(SWAP_SECONDS, metrics::Unit::Seconds, "Changes of bundles, from the wish to serving");
    describe_gauge!(BUNDLE, "1 for each bundle that is loaded, by version and role");
    describe_counter!(RELOADS, "Reloads of the configuration, by outcome");
    describe_gauge!(TO_FREE, "Classifiers that serve no new request and still work on an old one");
}

/// What became of a change of bundles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwapOutcome {
    Staged,
    Shadowed,
    Canaried,
    Activated,
    RolledBack,
    Forgotten,
    Refused,
}

impl SwapOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Shadowed => "shadow",
            Self::Canaried => "canary",
            Self::Activated => "activated",
            Self::RolledBack => "rolled_back",
            Self::Forgotten => "forgotten",
            Self::Refused => "refused",
        }
    }
}

/// Counts a change of bundles, or one that was refused.
pub fn bundle_change(outcome: SwapOutcome, took: Duration) {
    counter!(SWAPS, "outcome" => outcome.as_str()).increment(1);
    histogram!(SWAP_SECONDS).record(took.as_secs_f64());
}

/// What became of reading the configuration again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadOutcome {
    Applied,
    Unchanged,
    Refused,
}

/// Counts a reload of the configuration.
pub fn config_reload(outcome: ReloadOutcome) {
    let outcome = match outcome {
        ReloadOutcome::Applied => "applied",
        ReloadOutcome::Unchanged => "unchanged",
        ReloadOutcome::Refused => "refused",
    };
    counter!(RELOADS, "outcome" => outcome).increment(1);
}

/// Notes the generation that serves.
pub fn generation(generation: u64) {
    gauge!(GENERATION).set(generation as f64);
}

/// Notes that a bundle begins, or ceases, to have a role: active, canary or shadow.
pub fn bundle_role(version: &str, role: &'static str, is_held: bool) {
    gauge!(BUNDLE, "version" => version.to_owned(), "role" => role).set(if is_held { 1.0 } else { 0.0 });
}

/// Notes how many classifiers wait for their last request.
pub fn classifiers_to_free(waiting: usize) {
    gauge!(TO_FREE).set(waiting as f64);
}
