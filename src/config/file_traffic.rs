//! The sections on the traffic log and on learning as they are written in TOML.
//!
//! Like `file`: every key may be absent, unknown keys are errors, and nothing is checked here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::traffic::TextPolicy;

/// The log of requests and of feedback about them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrafficFile {
    /// Whether requests are logged and feedback is taken. Default true.
    pub enabled: Option<bool>,
    /// File of the SQLite database, relative to this file. Default: pointsman/traffic.sqlite in the user's folder for
    /// state (XDG_STATE_HOME).
    pub store: Option<String>,
    /// Where the address of a PostgreSQL database is read from, instead of `store`: "env:NAME" or "file:PATH", relative
    /// to this file. The address is such as postgres://USER:PASSWORD@HOST/DATABASE?sslmode=require.
    pub postgres_url: Option<String>,
    /// Connections to PostgreSQL. Default 8.
    pub postgres_connections_max: Option<u64>,
    /// How texts of requests, comments and demonstrations are kept. Default "redacted".
    pub text: Option<TextPolicy>,
    /// The same for single tenants, by name.
    pub tenant_text: BTreeMap<String, TextPolicy>,
    /// Where the key of hashes is read from: "env:NAME" or "file:PATH", relative to this file; at least 16 bytes, the
    /// same for all replicas. Default: none, and hashes of likely texts can be found out by trying.
    pub hash_key: Option<String>,
    /// What is kept of one request's texts, bytes. Default 32768.
    pub text_bytes_max: Option<u64>,
    /// Requests that may wait to be written; more are not logged, and counted. Default 10000.
    pub queue_max: Option<u64>,
    /// The same in bytes of their texts, at least `text_bytes_max`. Default 67108864.
    pub queue_bytes_max: Option<u64>,
    /// A request is written at the latest this long after its end, milliseconds: what a crash may lose. Default 500.
    pub flush_ms: Option<u64>,
    /// Folder for what comes while the store is down, relative to this file. Default: beside the SQLite file, else in
    /// the user's folder for state.
    pub spool: Option<String>,
    /// The most that the spool may hold, bytes. Default 536870912.
    pub spool_bytes_max: Option<u64>,
    /// Older requests are deleted, days; 0 keeps them for ever. Default 90.
    pub retention_days: Option<u64>,
    /// The oldest requests are deleted when the store grows beyond this, bytes; 0 lets it grow. Default 10737418240.
    pub retention_bytes_max: Option<u64>,
    /// Feedback kept about decisions that are not in the store; more is refused. Default 10000.
    pub unknown_feedback_max: Option<u64>,
}

/// Learning from feedback and outcomes, while serving.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LearningFile {
    /// Whether what is learned of a target moves decisions. Needs the traffic log. Default false.
    pub enabled: Option<bool>,
    /// Standard deviation of an offset before anything is known, on the logit, 0.01 to 10. Default 1.
    #[schemars(range(min = 0.01, max = 10.0))]
    pub prior_sd: Option<f64>,
    /// No offset leaves plus or minus this, on the logit, 0.01 to 20. Default 3.
    #[schemars(range(min = 0.01, max = 20.0))]
    pub offset_max: Option<f64>,
    /// After this long half of what was learned is forgotten, days, 0.01 to 3650. Default 14.
    #[schemars(range(min = 0.01, max = 3650.0))]
    pub half_life_days: Option<f64>,
    /// How often replicas take up what was learned, milliseconds. Default 2000.
    pub refresh_ms: Option<u64>,
    /// Observations of one tenant about one intent and target that count at once. Default 50.
    pub tenant_burst: Option<f64>,
    /// Observations that a tenant has again after an hour. Default 50.
    pub tenant_per_hour: Option<f64>,
    /// What one observation counts.
    pub weights: WeightsFile,
    /// Trying other targets now and then. Default: never.
    pub explore: Option<ExploreFile>,
}

/// What one observation counts, 0 to 10, where 1 is a person's judgement.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WeightsFile {
    /// Feedback of source "human". Default 1.
    pub human: Option<f64>,
    /// Feedback of source "user". Default 0.5.
    pub user: Option<f64>,
    /// Feedback of source "automatic", and what was noticed. Default 0.3.
    pub automatic: Option<f64>,
    /// An answer that passed its checks and that nobody complained about. Default 0.1.
    pub accepted: Option<f64>,
    /// An answer that a check found weak. Default 0.5.
    pub weak: Option<f64>,
}

/// Trying other targets now and then, to learn about them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ExploreFile {
    /// Share of requests that explore, 0 to 1. Default 0.02.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub rate: Option<f64>,
    /// No target that is believed to be worse than this is tried, 0 to 1. Default 0.5.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub quality_min: Option<f64>,
}
