//! Metrics of what serves: generations, bundles and their exchanges, reloads of the configuration, who may ask for them.

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
/// Bundles that were not taken, by reason: the labels of `routing::classifier::Unfit`.
const BUNDLES_UNFIT: &str = "pointsman_bundles_unfit_total";
/// Versions of the classifier that were asked for, by where they came from: in_place, cached, downloaded, failed.
pub(super) const BUNDLES_FETCHED: &str = "pointsman_bundles_fetched_total";
/// Calls of the admin listener that were refused, by reason: no_credential, unreadable, wrong_token, tls.
pub(super) const ADMIN_REFUSED: &str = "pointsman_admin_refused_total";

pub(super) fn describe() {
    describe_counter!(BUNDLES_UNFIT, "Bundles that were not taken, by reason");
    describe_counter!(BUNDLES_FETCHED, "Versions of the classifier asked for, by where they came from");
    describe_counter!(ADMIN_REFUSED, "Calls of the admin listener that were refused, by reason");
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

/// Counts a version of the classifier that was asked for, by where it came from.
pub fn bundle_fetched(from: &'static str) {
    counter!(BUNDLES_FETCHED, "from" => from).increment(1);
}

/// Counts a call of the admin listener that was refused.
pub fn admin_refused(reason: &'static str) {
    counter!(ADMIN_REFUSED, "reason" => reason).increment(1);
}

/// Counts a bundle that was not taken.
pub fn bundle_unfit(reason: &'static str) {
    counter!(BUNDLES_UNFIT, "reason" => reason).increment(1);
}
