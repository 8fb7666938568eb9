//! Where versions of the classifier are kept, what one must satisfy, and how one takes over: the checked `[bundles]`
//! and `[rollout]`.

use std::{path::PathBuf, time::Duration};

use url::Url;

/// Schemes of object stores; the others that the library knows are no places to keep anything.
pub const OBJECT_STORE_SCHEMES: [&str; 7] = ["s3", "s3a", "gs", "az", "azure", "abfs", "abfss"];

/// Where versions of the classifier are kept, and what one must satisfy before it may serve.
#[derive(Debug, Clone, PartialEq)]
pub struct BundlesConfig {
    pub store: BundleStoreConfig,
    /// Where versions of an object store are kept on this machine; a folder is read where it is.
    pub cache: PathBuf,
    /// Of the cache. Versions in use are never dropped from it.
    pub cache_bytes_max: u64,
    /// minisign public keys; a version must be signed by one of them where `require_signature` is set.
    pub public_keys: Vec<String>,
    pub require_signature: bool,
    /// A version whose prompts take more than so many times as long as the running one's is refused; at least 1.
    pub latency_ratio_max: f64,
    /// Versions kept for rollback, at least 1.
    pub retired_max: usize,
}

/// A place with one folder per version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BundleStoreConfig {
    Folder(PathBuf),
    /// `s3://`, `gs://`, `az://` or `file://`, without credentials in it.
    Url(Url),
}

/// How a version takes over by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutConfig {
    /// Whether shadows and canaries are promoted and taken back without an operator.
    pub automatic: bool,
    /// Share of requests that a shadow scores too, 0 to 1.
    pub shadow_sample: f64,
    /// Shares of requests of a canary, ascending, each above 0 and below 1; after the last one it is activated.
    pub steps: Vec<f64>,
    /// How long each step, and a new active version, is watched.
    pub window: Duration,
    /// Fewer requests than this of the watched version within a window prove nothing: the window is extended.
    pub samples_min: u64,
    pub limits: RolloutLimits,
}

/// How much worse than the active version a watched one may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RolloutLimits {
    /// Rise of the share of prompts on which the classifier failed, 0 to 1.
    pub error_rate_rise_max: f64,
    /// Ratio of 95 % latencies of the classifier.
    pub latency_ratio_max: f64,
    /// Fall of the share of requests that got scores, 0 to 1.
    pub coverage_fall_max: f64,
    /// Total variation distance of the shares of tiers, 0 to 1.
    pub tier_shift_max: f64,
    /// Rise of the share of completions that were escalated or weak, 0 to 1.
    pub escalation_rise_max: f64,
    /// Fall of the share of good feedback, 0 to 1.
    pub feedback_fall_max: f64,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        Self {
            automatic: false,
            // A shadow costs as much as the active bundle; a tenth is enough for a hundred samples in a thousand requests.
            shadow_sample: 0.1,
            steps: vec![0.05, 0.25, 0.5],
            window: Duration::from_secs(600),
            // Enough to see that a random head is one (`live::rollout`'s simulation tests).
            samples_min: 200,
            limits: RolloutLimits::default(),
        }
    }
}

impl Default for RolloutLimits {
    fn default() -> Self {
        Self {
            error_rate_rise_max: 0.01,
            latency_ratio_max: 1.5,
            coverage_fall_max: 0.02,
            // A retrained bundle moves some requests; one that moves more should be looked at.
            tier_shift_max: 0.15,
            escalation_rise_max: 0.05,
            feedback_fall_max: 0.1,
        }
    }
}
