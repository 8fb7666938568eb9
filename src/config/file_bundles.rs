//! The section on versions of the classifier as it is written in TOML.
//!
//! Like `file`: every key may be absent, unknown keys are errors, and nothing is checked here.

use schemars::JsonSchema;
use serde::Deserialize;

/// Where versions of the classifier are kept, and what one must satisfy before it may serve.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BundlesFile {
    /// Folder with one folder per version, relative to this file, or such a place in an object store: s3://, gs:// or
    /// az://, whose keys come from the environment. Default: pointsman/bundles in the user's folder for state
    /// (XDG_STATE_HOME).
    pub store: Option<String>,
    /// Folder for versions that were fetched of an object store, relative to this file. Default:
    /// pointsman/bundle-cache in the user's folder for state.
    pub cache: Option<String>,
    /// The most that the cache may hold, bytes; versions in use are never dropped. Default 4294967296.
    pub cache_bytes_max: Option<u64>,
    /// Public keys of minisign, the second line of a minisign.pub: who may sign versions.
    pub public_keys: Vec<String>,
    /// Whether a version must be signed by one of `public_keys`. Default false.
    pub require_signature: Option<bool>,
    /// A version whose prompts take more than so many times as long as the running one's is refused, 1 to 1000.
    /// Default 3.
    #[schemars(range(min = 1.0, max = 1000.0))]
    pub latency_ratio_max: Option<f64>,
    /// Versions kept for rollback, 1 to 100. Default 5.
    pub retired_max: Option<u64>,
}
