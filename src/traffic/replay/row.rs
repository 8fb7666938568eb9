//! One record as exports hold it, flat: what of it a replay needs. Records of a store take the same form.

use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use crate::traffic::{
    feedback::{Feedback, FeedbackSource, Signal, Verdict},
    record::{AttemptRecord, Logged, Record},
    store::moment,
};

/// One logged request. Columns that an older export lacks are empty.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Row {
    pub decision_id: Uuid,
    #[serde(default, deserialize_with = "or_default")]
    pub tenant: String,
    #[serde(default, deserialize_with = "or_default")]
    pub session: String,
    #[serde(default, deserialize_with = "or_default")]
    pub task_type: String,
    #[serde(default, deserialize_with = "or_default")]
    pub tags: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub language: String,
    #[serde(default, deserialize_with = "or_default")]
    pub text_policy: String,
    #[serde(default, deserialize_with = "or_default")]
    pub messages: Vec<MessageRow>,
    #[serde(default, deserialize_with = "or_default")]
    pub text_cut: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub redactions: u64,
    #[serde(default, deserialize_with = "or_default")]
    pub prompt_tokens: i64,
    #[serde(default)]
    pub output_tokens_max: Option<i64>,
    #[serde(default, deserialize_with = "or_default")]
    pub needs_tools: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub needs_vision: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub needs_json: bool,
    #[serde(default)]
    pub quality: Option<f64>,
    #[serde(default, deserialize_with = "or_default")]
    pub tiers: Vec<Arc<str>>,
    pub tier: Arc<str>,
    pub target: Arc<str>,
    #[serde(default)]
    pub intent: Option<Arc<str>>,
    /// One for each of `tiers`; empty where nothing was scored.
    #[serde(default, deserialize_with = "or_default")]
    pub sufficiency: Vec<f64>,
    /// The same before what was learned online; empty where that is the same.
    #[serde(default, deserialize_with = "or_default")]
    pub sufficiency_base: Vec<f64>,
    #[serde(default, deserialize_with = "or_default")]
    pub source: String,
    #[serde(default, deserialize_with = "or_default")]
    pub low_confidence: bool,
    #[serde(default)]
    pub bundle_version: Option<Arc<str>>,
    /// `None` in a file that lacks it: then nothing off-policy can be said.
    #[serde(default)]
    pub propensity: Option<f64>,
    #[serde(default, deserialize_with = "or_default")]
    pub explored: bool,
    #[serde(default, deserialize_with = "or_default")]
    pub cost_usd_estimate: f64,
    #[serde(default, deserialize_with = "or_default")]
    pub baseline_cost_usd_estimate: f64,
    #[serde(default, deserialize_with = "or_default")]
    pub queue_us: u64,
    #[serde(default, deserialize_with = "or_default")]
    pub total_us: u64,
    #[serde(default, deserialize_with = "or_default")]
    pub status: String,
    #[serde(default)]
    pub served_target: Option<Arc<str>>,
    /// In the order in which they were begun.
    #[serde(default, deserialize_with = "or_default")]
    pub attempts: Vec<AttemptRow>,
    #[serde(default, deserialize_with = "or_default")]
    pub cost_usd: f64,
    /// Oldest first.
    #[serde(default, deserialize_with = "or_default")]
    pub feedback: Vec<FeedbackRow>,
    /// Of the bundle that scored it as a shadow; `None` where none did.
    #[serde(default)]
    pub shadow_bundle: Option<Arc<str>>,
    #[serde(default)]
    pub shadow_tier: Option<Arc<str>>,
    #[serde(default)]
    pub shadow_target: Option<Arc<str>>,
    #[serde(default)]
    pub shadow_intent: Option<Arc<str>>,
    /// One for each of `tiers`; empty where it scored nothing.
    #[serde(default, deserialize_with = "or_default")]
    pub shadow_sufficiency: Vec<f64>,
    #[serde(default, deserialize_with = "or_default")]
    pub shadow_low_confidence: bool,
    #[serde(default)]
    pub shadow_propensity: Option<f64>,
    #[serde(default, deserialize_with = "or_default")]
    pub shadow_cost_usd_estimate: f64,
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct MessageRow {
    pub role: String,
    #[serde(default, deserialize_with = "or_default")]
    pub content: String,
}

/// One call, as far as it says who answered how well.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AttemptRow {
    pub target: Arc<str>,
    #[serde(default, deserialize_with = "or_default")]
    pub cause: String,
    #[serde(default, deserialize_with = "or_default")]
    pub outcome: String,
}

/// One judgement, without what was said in words.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct FeedbackRow {
    pub source: FeedbackSource,
    #[serde(default)]
    pub verdict: Option<Verdict>,
    #[serde(default)]
    pub score: Option<f64>,
    #[serde(default)]
    pub right_tier: Option<String>,
    #[serde(default)]
    pub signal: Option<Signal>,
}

impl Row {
    /// The columns that are read, as exports name them.
    pub const COLUMNS: [&str; 44] = [
        "decision_id",
        "tenant",
        "session",
        "task_type",
        "tags",
        "language",
        "text_policy",
        "messages",
        "text_cut",
        "redactions",
        "prompt_tokens",
        "output_tokens_max",
        "needs_tools",
        "needs_vision",
        "needs_json",
        "quality",
        "tiers",
        "tier",
        "target",
        "intent",
        "sufficiency",
        "sufficiency_base",
        "source",
        "low_confidence",
        "bundle_version",
        "propensity",
        "explored",
        "cost_usd_estimate",
        "baseline_cost_usd_estimate",
        "queue_us",
        "total_us",
        "status",
        "served_target",
        "attempts",
        "cost_usd",
        "feedback",
        "shadow_bundle",
        "shadow_tier",
        "shadow_target",
        "shadow_intent",
        "shadow_sufficiency",
        "shadow_low_confidence",
        "shadow_propensity",
        "shadow_cost_usd_estimate",
    ];
    /// Those without which there is no record.
    pub const REQUIRED: [&str; 3] = ["decision_id", "tier", "target"];

    /// Returns when it was decided, milliseconds since 1970: the time in its id.
    pub fn at_ms(&self) -> i64 {
        moment(self.decision_id)
    }
}

impl From<Logged> for Row {
    fn from(Logged { record, feedback, shadow }: Logged) -> Self {
        let (shadow_bundle, score) = shadow.map(|shadow| (shadow.bundle, shadow.score)).unzip();
        let Record { decision_id, request, decision, attempts, outcome, .. } = record;
        let messages = request.text.messages.into_iter();
        Self {
            decision_id,
            tenant: request.tenant,
            session: request.session,
            task_type: request.task_type,
            tags: request.tags,
            language: request.language,
            text_policy: request.text.policy,
            messages: messages
                .map(|message| MessageRow { role: message.role, content: message.content })
                .collect(),
            text_cut: request.text.cut,
            redactions: u64::from(request.text.redactions),
            prompt_tokens: i64::from(request.prompt_tokens),
            output_tokens_max: request.output_tokens_max.map(i64::from),
            needs_tools: request.needs_tools,
            needs_vision: request.needs_vision,
            needs_json: request.needs_json,
            quality: request.quality,
            tiers: decision.tiers,
            tier: decision.tier,
            target: decision.target.id,
            intent: decision.intent,
            sufficiency: decision.sufficiency,
            sufficiency_base: decision.sufficiency_base,
            source: decision.source,
            low_confidence: decision.low_confidence,
            bundle_version: decision.bundle_version,
            propensity: Some(decision.propensity),
            explored: decision.explored,
            cost_usd_estimate: decision.cost_usd_estimate,
            baseline_cost_usd_estimate: decision.baseline_cost_usd_estimate,
            queue_us: decision.timings.queue_us,
            total_us: decision.timings.total_us,
            status: outcome.status,
            served_target: outcome.target.map(|target| target.id),
            attempts: attempts.into_iter().map(AttemptRow::from).collect(),
            cost_usd: outcome.cost_usd,
            feedback: feedback.into_iter().map(FeedbackRow::from).collect(),
            shadow_bundle,
            shadow_low_confidence: score.as_ref().is_some_and(|score| score.low_confidence),
            shadow_propensity: score.as_ref().and_then(|score| score.propensity),
            shadow_cost_usd_estimate: score.as_ref().map_or(0.0, |score| score.cost_usd_estimate),
            shadow_tier: score.as_ref().map(|score| Arc::clone(&score.tier)),
            shadow_target: score.as_ref().map(|score| Arc::clone(&score.target)),
            shadow_intent: score.as_ref().and_then(|score| score.intent.clone()),
            shadow_sufficiency: score.map(|score| score.sufficiency).unwrap_or_default(),
        }
    }
}

impl AttemptRow {
    /// What is read of it, as exports name it.
    pub const COLUMNS: [&str; 3] = ["target", "cause", "outcome"];
}

impl From<AttemptRecord> for AttemptRow {
    fn from(AttemptRecord { target, cause, outcome, .. }: AttemptRecord) -> Self {
        Self { target: target.id, cause, outcome }
    }
}

impl FeedbackRow {
    /// What is read of it, as exports name it.
    pub const COLUMNS: [&str; 5] = ["source", "verdict", "score", "right_tier", "signal"];
}

impl From<Feedback> for FeedbackRow {
    fn from(Feedback { source, verdict, score, right_tier, signal, .. }: Feedback) -> Self {
        Self { source, verdict, score, right_tier, signal }
    }
}

/// Takes null for the empty value: exports write both.
fn or_default<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(field: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(field)?.unwrap_or_default())
}

#[cfg(test)]
pub mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;

    /// A row of a small request that a complete answer followed.
    pub fn row(fields: Value) -> Row {
        let mut row = json!({
            "decision_id": "01932c07-e4f0-7a2b-8c3d-000000000001",
            "tiers": ["simple", "moderate", "complex", "reasoning"],
            "tier": "moderate", "target": "m1", "propensity": 1.0, "status": "answered", "served_target": "m1",
            "messages": [{"role": "user", "content": "hello"}], "text_policy": "full", "prompt_tokens": 10,
            "attempts": [{"target": "m1", "cause": "first", "outcome": "answered"}],
        });
        let Value::Object(fields) = fields else { panic!("fields are an object") };
        row.as_object_mut().unwrap().extend(fields);
        serde_json::from_value(row).unwrap()
    }

    #[test]
    fn null_and_absent_columns_are_empty() {
        let sparse = row(
            json!({"tenant": null, "tags": null, "sufficiency": null, "feedback": null, "total_us": null}),
        );
        assert_eq!(sparse, row(json!({})));
        assert_eq!((sparse.quality, sparse.total_us, sparse.explored), (None, 0, false));
    }

    #[test]
    fn the_time_is_that_of_the_id() {
        assert_eq!(row(json!({})).at_ms(), 0x0193_2c07_e4f0);
        assert_eq!(row(json!({"decision_id": Uuid::nil()})).at_ms(), 0);
    }

    #[test]
    fn every_field_has_its_column() {
        // A column that is not read would be missing from what is taken out of a Parquet file.
        let feedback = json!([{"source": "user"}]);
        let shown = format!("{:#?}", row(json!({"feedback": feedback})));
        // Fields of the row stand one step in, those of what it holds three.
        let fields = |depth: usize| {
            let names = shown.lines().filter_map(move |line| {
                let field = line.strip_prefix(&" ".repeat(depth)).filter(|rest| !rest.starts_with(' '))?;
                Some(field.split_once(": ")?.0)
            });
            names.collect::<BTreeSet<&str>>()
        };
        assert_eq!(fields(4), BTreeSet::from(Row::COLUMNS));
        let held = [&["role", "content"][..], &AttemptRow::COLUMNS, &FeedbackRow::COLUMNS].concat();
        assert_eq!(fields(12), BTreeSet::from_iter(held));
        assert!(Row::REQUIRED.iter().all(|name| Row::COLUMNS.contains(name)));
    }
}
