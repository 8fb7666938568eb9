//! One logged request, as it is stored: a versioned JSON document. Fields are only ever added, and every version
//! stays readable (`tests/golden/traffic/`).

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::feedback::{Feedback, Signal};

/// Version of [`Record`] as it is written.
pub const VERSION: u32 = 1;

/// Version of [`ShadowRecord`] as it is written.
pub const SHADOW_VERSION: u32 = 1;

/// One logged request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub version: u32,
    /// A UUIDv7; its time is the record's time.
    pub decision_id: Uuid,
    /// When it was decided, milliseconds since 1970: the time in `decision_id`.
    pub at_ms: i64,
    pub kind: Kind,
    pub request: RequestRecord,
    pub decision: DecisionRecord,
    /// In the order in which they were started; empty for [`Kind::Route`].
    #[serde(default)]
    pub attempts: Vec<AttemptRecord>,
    pub outcome: OutcomeRecord,
    #[serde(default)]
    pub signals: Vec<Signal>,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A decision; the caller asks the target itself.
    Route,
    /// An answer.
    Complete,
}

/// The request's shape and, by policy, its text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    #[serde(default)]
    pub tenant: String,
    /// As given, or hashed where the policy is to keep no text.
    #[serde(default)]
    pub session: String,
    #[serde(default)]
    pub task_type: String,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub language: String,
    pub text: TextRecord,
    /// Turns of the conversation, at least 1.
    pub turns: u32,
    pub prompt_tokens: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens_max: Option<u32>,
    #[serde(default)]
    pub needs_tools: bool,
    #[serde(default)]
    pub needs_vision: bool,
    #[serde(default)]
    pub needs_json: bool,
    /// The quality that was asked for, 0 to 1; `None`: the configured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<f64>,
}

/// A conversation as the tenant's policy lets it be kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextRecord {
    /// "full", "redacted", "hash" or "none".
    pub policy: String,
    /// Oldest first; empty with "hash" and "none".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<MessageRecord>,
    /// Of the whole conversation, hexadecimal; with "hash" only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Of the original texts.
    pub bytes: u64,
    /// Whether something was cut off to fit `traffic.text_bytes_max`.
    #[serde(default)]
    pub cut: bool,
    /// How many places were replaced.
    #[serde(default)]
    pub redactions: u32,
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRecord {
    pub role: String,
    pub content: String,
}

/// What was decided, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// The operator's tiers of that time, weakest first.
    pub tiers: Vec<Arc<str>>,
    pub tier: Arc<str>,
    pub target: TargetRecord,
    #[serde(default)]
    pub failover: Vec<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Arc<str>>,
    pub intent_confidence: f64,
    /// One for each of `tiers`, in their order; empty when the classifier was not asked.
    #[serde(default)]
    pub sufficiency: Vec<f64>,
    /// The same before what was learned online; empty where that is the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sufficiency_base: Vec<f64>,
    pub confidence: f64,
    /// "rule", "classifier", "cache", "session", "default" or "override".
    pub source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
    pub low_confidence: bool,
    pub truncated: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_version: Option<Arc<str>>,
    pub config_generation: u64,
    pub cost_usd_estimate: f64,
    /// Of the top tier, estimated.
    pub baseline_cost_usd_estimate: f64,
    /// Probability, above 0 to 1, with which this target was chosen for this request.
    pub propensity: f64,
    /// Whether it was chosen to learn about it.
    #[serde(default)]
    pub explored: bool,
    /// Whether the classifier that was on trial decided.
    #[serde(default)]
    pub canary: bool,
    pub timings: TimingsRecord,
}

/// A target, by what it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRecord {
    pub id: Arc<str>,
    pub provider: Arc<str>,
    pub model: Arc<str>,
}

/// Microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimingsRecord {
    pub rules_us: u64,
    pub queue_us: u64,
    pub tokenize_us: u64,
    pub inference_us: u64,
    pub policy_us: u64,
    pub total_us: u64,
}

/// One try of one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    pub target: TargetRecord,
    pub tier: Arc<str>,
    /// "first", "retry", "failover", "climb", "escalation", "hedge" or "judge".
    pub cause: String,
    /// "answered", "weak", "failed", "skipped", "lost" or "abandoned".
    pub outcome: String,
    /// The kind of error, or the check that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    pub started_ms: f64,
    pub latency_ms: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<f64>,
    pub input_tokens: u64,
    pub cached_input_tokens: u64,
    pub output_tokens: u64,
    pub cost_usd: f64,
    /// Whether tokens and cost are estimates.
    pub estimated: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutcomeRecord {
    /// "decided" (only a decision was asked for), "answered", "weak", "failed" or "hung_up".
    pub status: String,
    /// Of a failure: "unavailable", "deadline_exceeded" and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The tier that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Arc<str>>,
    /// The target that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetRecord>,
    #[serde(default)]
    pub escalated: bool,
    /// All attempts together; of a decision alone it is not known and 0.
    pub cost_usd: f64,
    /// The same answer from the top tier's first target.
    pub baseline_cost_usd: f64,
    /// From the request's arrival to the end of its answer.
    pub latency_ms: f64,
    /// Time in pointsman itself.
    pub overhead_ms: f64,
}

/// A record and what was said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged {
    pub record: Record,
    /// Oldest first.
    pub feedback: Vec<Feedback>,
    /// `None` where no shadow was asked, or what it said is not there (yet).
    pub shadow: Option<Shadow>,
}

/// What a bundle that did not serve said of one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Shadow {
    /// Its version, as it was named when it became the shadow.
    pub bundle: Arc<str>,
    pub score: ShadowRecord,
}

/// What a shadow decided, as it is stored: a versioned document beside the record. Fields are only ever added. Holds no
/// text of the request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShadowRecord {
    pub version: u32,
    /// Of the active bundle's decision.
    pub active_tier: Arc<str>,
    pub tier: Arc<str>,
    pub target: Arc<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Arc<str>>,
    pub intent_confidence: f64,
    pub confidence: f64,
    pub low_confidence: bool,
    /// One for each tier, weakest first; empty without scores.
    #[serde(default)]
    pub sufficiency: Vec<f64>,
    /// Why there are no scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unscored: Option<String>,
    pub cost_usd_estimate: f64,
    /// Probability with which the target was chosen; absent in the oldest documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub propensity: Option<f64>,
    /// What the processor spent on tokenizer and model, microseconds; 0 in the oldest documents.
    #[serde(default)]
    pub compute_us: u64,
}

#[cfg(test)]
#[path = "record_full_tests.rs"]
mod full_tests;

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::Value;

    use super::*;

    /// Reads what an older version wrote, and finds all of it again in what this one writes.
    fn check<T: Serialize + DeserializeOwned>(name: &str) {
        let path = format!("{}/tests/golden/traffic/{name}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let read: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let written = serde_json::to_value(&read).expect("it is JSON");
        let golden: Value = serde_json::from_str(&text).expect("it is JSON");
        holds(name, &written, &golden);
    }

    fn holds(path: &str, written: &Value, golden: &Value) {
        match (written, golden) {
            (Value::Object(written), Value::Object(golden)) => {
                for (name, golden) in golden {
                    let path = format!("{path}.{name}");
                    let written = written.get(name).unwrap_or_else(|| panic!("{path} is gone"));
                    holds(&path, written, golden);
                }
            }
            (Value::Array(written), Value::Array(golden)) => {
                assert_eq!(written.len(), golden.len(), "{path}");
                for (place, (written, golden)) in written.iter().zip(golden).enumerate() {
                    holds(&format!("{path}[{place}]"), written, golden);
                }
            }
            _ => assert_eq!(written, golden, "{path}"),
        }
    }

    #[test]
    fn old_records_stay_readable() {
        check::<Record>("record-v1.json");
        check::<ShadowRecord>("shadow-v1.json");
        check::<ShadowRecord>("shadow-v1-least.json");
        check::<Record>("record-v1-least.json");
        check::<Feedback>("feedback-v1.json");
        check::<Feedback>("feedback-v1-least.json");
    }

    #[test]
    fn fields_of_later_versions_are_passed_over() {
        let text = include_str!("../../tests/golden/traffic/record-v1-least.json");
        let later = text.replacen("\"version\": 1", "\"version\": 9, \"later\": {\"a\": 1}", 1);
        let read: Record = serde_json::from_str(&later).expect("it can be read");
        assert_eq!(read.version, 9);
    }
}
