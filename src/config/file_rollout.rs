//! The section on how versions of the classifier take over, as it is written in TOML.
//!
//! Like `file`: every key may be absent, unknown keys are errors, and nothing is checked here.

use schemars::JsonSchema;
use serde::Deserialize;

/// How another version of the classifier takes over by itself.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutFile {
    /// Whether shadows and canaries are promoted and taken back without an operator. Default false.
    pub automatic: Option<bool>,
    /// Share of requests that a shadow scores too, 0 to 1. Default 0.1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub shadow_sample: Option<f64>,
    /// Shares of requests of a canary, ascending, each above 0 and below 1; after the last one it becomes active. Empty:
    /// a shadow becomes active at once. Default [0.05, 0.25, 0.5].
    pub steps: Option<Vec<f64>>,
    /// How long each step, and a new active version, is watched, seconds. Default 600.
    pub window_s: Option<u64>,
    /// While fewer requests than this were scored, the window is extended. Default 200.
    pub samples_min: Option<u64>,
    /// How much worse than the active version a watched one may be.
    pub limits: RolloutLimitsFile,
}

/// How much worse than the active version a watched one may be.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutLimitsFile {
    /// Rise of the share of prompts on which the classifier failed, 0 to 1. Default 0.01.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub error_rate_rise_max: Option<f64>,
    /// Ratio of the 95 % latencies of the classifier, 1 to 1000. Default 1.5.
    #[schemars(range(min = 1.0, max = 1000.0))]
    pub latency_ratio_max: Option<f64>,
    /// Fall of the share of requests that got scores, 0 to 1. Default 0.02.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub coverage_fall_max: Option<f64>,
    /// Total variation distance of the shares of tiers, 0 to 1. Default 0.15.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub tier_shift_max: Option<f64>,
    /// Rise of the share of completions that were escalated or weak, 0 to 1. Default 0.05.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub escalation_rise_max: Option<f64>,
    /// Fall of the share of good feedback, 0 to 1. Default 0.1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub feedback_fall_max: Option<f64>,
}
