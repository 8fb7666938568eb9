//! Records -> rows with the columns that readers of exports rely on. Pure.
//!
//! Both formats come from the one [`Row`], so that they cannot drift apart: its fields are the names in JSONL, and
//! [`schema`] gives the same names their types in Parquet. Columns are only ever added.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
    json::ReaderBuilder,
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::traffic::{
    feedback::{Feedback, FeedbackSource, Signal, Verdict},
    record::{AttemptRecord, Kind, Logged, MessageRecord},
};

/// 9999-12-31T23:59:59.999Z, the last moment that RFC 3339 can write.
const AT_MS_MAX: i64 = 253_402_300_799_999;
/// The zone by its offset: reading names of zones takes a database. Parquet has no name for it either, only a flag.
const UTC: &str = "+00:00";
const USER: &str = "user";

/// One record, flat where readers filter and group.
#[derive(Debug, Serialize)]
pub struct Row<'a> {
    record_version: u32,
    decision_id: Uuid,
    at: Moment,
    kind: Kind,
    tenant: &'a str,
    session: &'a str,
    task_type: &'a str,
    tags: &'a [String],
    language: &'a str,
    text_policy: &'a str,
    messages: &'a [MessageRecord],
    /// The last user message, where texts are kept.
    prompt: Option<&'a str>,
    text_hash: Option<&'a str>,
    text_bytes: u64,
    text_cut: bool,
    redactions: u32,
    turns: u32,
    prompt_tokens: u32,
    output_tokens_max: Option<u32>,
    needs_tools: bool,
    needs_vision: bool,
    needs_json: bool,
    quality: Option<f64>,
    tiers: &'a [Arc<str>],
    tier: &'a str,
    target: &'a str,
    provider: &'a str,
    model: &'a str,
    failover: &'a [Arc<str>],
    intent: Option<&'a str>,
    intent_confidence: f64,
    sufficiency: &'a [f64],
    /// Before what was learned online, also where that is the same.
    sufficiency_base: &'a [f64],
    confidence: f64,
    source: &'a str,
    rule: Option<&'a str>,
    low_confidence: bool,
    truncated: bool,
    bundle_version: Option<&'a str>,
    config_generation: u64,
    propensity: f64,
    explored: bool,
    canary: bool,
    cost_usd_estimate: f64,
    baseline_cost_usd_estimate: f64,
    rules_us: u64,
    queue_us: u64,
    tokenize_us: u64,
    inference_us: u64,
    policy_us: u64,
    total_us: u64,
    status: &'a str,
    failure: Option<&'a str>,
    served_tier: Option<&'a str>,
    served_target: Option<&'a str>,
    served_provider: Option<&'a str>,
    served_model: Option<&'a str>,
    escalated: bool,
    attempts: Vec<AttemptRow<'a>>,
    cost_usd: f64,
    baseline_cost_usd: f64,
    latency_ms: f64,
    overhead_ms: f64,
    signals: &'a [Signal],
    feedback: Vec<FeedbackRow<'a>>,
    /// What a bundle that did not serve would have decided; all null where none was asked.
    shadow_bundle: Option<&'a str>,
    shadow_tier: Option<&'a str>,
    shadow_target: Option<&'a str>,
    shadow_intent: Option<&'a str>,
    shadow_sufficiency: Option<&'a [f64]>,
    shadow_confidence: Option<f64>,
    shadow_low_confidence: Option<bool>,
    shadow_propensity: Option<f64>,
    shadow_cost_usd_estimate: Option<f64>,
}

#[derive(Debug, Serialize)]
struct AttemptRow<'a> {
    target: &'a str,
    provider: &'a str,
    model: &'a str,
    tier: &'a str,
    cause: &'a str,
    outcome: &'a str,
    why: Option<&'a str>,
    started_ms: f64,
    latency_ms: f64,
    first_token_ms: Option<f64>,
    input_tokens: u64,
    cached_input_tokens: u64,
    output_tokens: u64,
    cost_usd: f64,
    estimated: bool,
}

#[derive(Debug, Serialize)]
struct FeedbackRow<'a> {
    feedback_id: &'a str,
    at: Moment,
    source: FeedbackSource,
    verdict: Option<Verdict>,
    score: Option<f64>,
    right_tier: Option<&'a str>,
    right_intent: Option<&'a str>,
    comment: Option<&'a str>,
    demonstration: Option<&'a str>,
    signal: Option<Signal>,
}

/// Milliseconds since 1970, written as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy)]
struct Moment(i64);

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let moment = DateTime::<Utc>::from_timestamp_millis(self.0.clamp(0, AT_MS_MAX)).unwrap_or_default();
        serializer.serialize_str(&moment.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl<'a> Row<'a> {
    pub fn of(logged: &'a Logged) -> Self {
        let record = &logged.record;
        let (request, decision, outcome) = (&record.request, &record.decision, &record.outcome);
        let (text, timings) = (&request.text, &decision.timings);
        let served = outcome.target.as_ref();
        let score = logged.shadow.as_ref().map(|shadow| &shadow.score);
        let prompt = text.messages.iter().rev().find(|message| message.role == USER);
        Self {
            record_version: record.version,
            decision_id: record.decision_id,
            at: Moment(record.at_ms),
            kind: record.kind,
            tenant: &request.tenant,
            session: &request.session,
            task_type: &request.task_type,
            tags: &request.tags,
            language: &request.language,
            text_policy: &text.policy,
            messages: &text.messages,
            prompt: prompt.map(|message| &*message.content),
            text_hash: text.hash.as_deref(),
            text_bytes: text.bytes,
            text_cut: text.cut,
            redactions: text.redactions,
            turns: request.turns,
            prompt_tokens: request.prompt_tokens,
            output_tokens_max: request.output_tokens_max,
            needs_tools: request.needs_tools,
            needs_vision: request.needs_vision,
            needs_json: request.needs_json,
            quality: request.quality,
            tiers: &decision.tiers,
            tier: &decision.tier,
            target: &decision.target.id,
            provider: &decision.target.provider,
            model: &decision.target.model,
            failover: &decision.failover,
            intent: decision.intent.as_deref(),
            intent_confidence: decision.intent_confidence,
            sufficiency: &decision.sufficiency,
            sufficiency_base: match &decision.sufficiency_base[..] {
                [] => &decision.sufficiency,
                base => base,
            },
            confidence: decision.confidence,
            source: &decision.source,
            rule: decision.rule.as_deref(),
            low_confidence: decision.low_confidence,
            truncated: decision.truncated,
            bundle_version: decision.bundle_version.as_deref(),
            config_generation: decision.config_generation,
            propensity: decision.propensity,
            explored: decision.explored,
            canary: decision.canary,
            cost_usd_estimate: decision.cost_usd_estimate,
            baseline_cost_usd_estimate: decision.baseline_cost_usd_estimate,
            rules_us: timings.rules_us,
            queue_us: timings.queue_us,
            tokenize_us: timings.tokenize_us,
            inference_us: timings.inference_us,
            policy_us: timings.policy_us,
            total_us: timings.total_us,
            status: &outcome.status,
            failure: outcome.failure.as_deref(),
            served_tier: outcome.tier.as_deref(),
            served_target: served.map(|target| &*target.id),
            served_provider: served.map(|target| &*target.provider),
            served_model: served.map(|target| &*target.model),
            escalated: outcome.escalated,
            attempts: record.attempts.iter().map(AttemptRow::of).collect(),
            cost_usd: outcome.cost_usd,
            baseline_cost_usd: outcome.baseline_cost_usd,
            latency_ms: outcome.latency_ms,
            overhead_ms: outcome.overhead_ms,
            signals: &record.signals,
            feedback: logged.feedback.iter().map(FeedbackRow::of).collect(),
            shadow_bundle: logged.shadow.as_ref().map(|shadow| &*shadow.bundle),
            shadow_tier: score.map(|score| &*score.tier),
            shadow_target: score.map(|score| &*score.target),
            shadow_intent: score.and_then(|score| score.intent.as_deref()),
            shadow_sufficiency: score.map(|score| &score.sufficiency[..]),
            shadow_confidence: score.map(|score| score.confidence),
            shadow_low_confidence: score.map(|score| score.low_confidence),
            shadow_propensity: score.and_then(|score| score.propensity),
            shadow_cost_usd_estimate: score.map(|score| score.cost_usd_estimate),
        }
    }
}

impl<'a> AttemptRow<'a> {
    fn of(attempt: &'a AttemptRecord) -> Self {
        Self {
            target: &attempt.target.id,
            provider: &attempt.target.provider,
            model: &attempt.target.model,
            tier: &attempt.tier,
            cause: &attempt.cause,
            outcome: &attempt.outcome,
            why: attempt.why.as_deref(),
            started_ms: attempt.started_ms,
            latency_ms: attempt.latency_ms,
            first_token_ms: attempt.first_token_ms,
            input_tokens: attempt.input_tokens,
            cached_input_tokens: attempt.cached_input_tokens,
            output_tokens: attempt.output_tokens,
            cost_usd: attempt.cost_usd,
            estimated: attempt.estimated,
        }
    }
}

impl<'a> FeedbackRow<'a> {
    fn of(feedback: &'a Feedback) -> Self {
        Self {
            feedback_id: &feedback.feedback_id,
            at: Moment(feedback.at_ms),
            source: feedback.source,
            verdict: feedback.verdict,
            score: feedback.score,
            right_tier: feedback.right_tier.as_deref(),
            right_intent: feedback.right_intent.as_deref(),
            comment: feedback.comment.as_deref(),
            demonstration: feedback.demonstration.as_deref(),
            signal: feedback.signal,
        }
    }
}

/// Returns the columns of an export. All may be null: a column that is added later reads as null in older files,
/// and readers that join old and new files want one type for it.
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| Arc::new(Schema::new(columns())));
    Arc::clone(&SCHEMA)
}

fn columns() -> Fields {
    let text = DataType::Utf8;
    let moment = DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into()));
    let messages = fields([("role", text.clone()), ("content", text.clone())]);
    let attempts = fields([
        ("target", text.clone()),
        ("provider", text.clone()),
        ("model", text.clone()),
        ("tier", text.clone()),
        ("cause", text.clone()),
        ("outcome", text.clone()),
        ("why", text.clone()),
        ("started_ms", DataType::Float64),
        ("latency_ms", DataType::Float64),
        ("first_token_ms", DataType::Float64),
        ("input_tokens", DataType::Int64),
        ("cached_input_tokens", DataType::Int64),
        ("output_tokens", DataType::Int64),
        ("cost_usd", DataType::Float64),
        ("estimated", DataType::Boolean),
    ]);
    let feedback = fields([
        ("feedback_id", text.clone()),
        ("at", moment.clone()),
        ("source", text.clone()),
        ("verdict", text.clone()),
        ("score", DataType::Float64),
        ("right_tier", text.clone()),
        ("right_intent", text.clone()),
        ("comment", text.clone()),
        ("demonstration", text.clone()),
        ("signal", text.clone()),
    ]);
    fields([
        ("record_version", DataType::Int32),
        ("decision_id", text.clone()),
        ("at", moment),
        ("kind", text.clone()),
        ("tenant", text.clone()),
        ("session", text.clone()),
        ("task_type", text.clone()),
        ("tags", list(text.clone())),
        ("language", text.clone()),
        ("text_policy", text.clone()),
        ("messages", list(DataType::Struct(messages))),
        ("prompt", text.clone()),
        ("text_hash", text.clone()),
        ("text_bytes", DataType::Int64),
        ("text_cut", DataType::Boolean),
        ("redactions", DataType::Int32),
        ("turns", DataType::Int32),
        ("prompt_tokens", DataType::Int64),
        ("output_tokens_max", DataType::Int64),
        ("needs_tools", DataType::Boolean),
        ("needs_vision", DataType::Boolean),
        ("needs_json", DataType::Boolean),
        ("quality", DataType::Float64),
        ("tiers", list(text.clone())),
        ("tier", text.clone()),
        ("target", text.clone()),
        ("provider", text.clone()),
        ("model", text.clone()),
        ("failover", list(text.clone())),
        ("intent", text.clone()),
        ("intent_confidence", DataType::Float64),
        ("sufficiency", list(DataType::Float64)),
        ("sufficiency_base", list(DataType::Float64)),
        ("confidence", DataType::Float64),
        ("source", text.clone()),
        ("rule", text.clone()),
        ("low_confidence", DataType::Boolean),
        ("truncated", DataType::Boolean),
        ("bundle_version", text.clone()),
        ("config_generation", DataType::Int64),
        ("propensity", DataType::Float64),
        ("explored", DataType::Boolean),
        ("canary", DataType::Boolean),
        ("cost_usd_estimate", DataType::Float64),
        ("baseline_cost_usd_estimate", DataType::Float64),
        ("rules_us", DataType::Int64),
        ("queue_us", DataType::Int64),
        ("tokenize_us", DataType::Int64),
        ("inference_us", DataType::Int64),
        ("policy_us", DataType::Int64),
        ("total_us", DataType::Int64),
        ("status", text.clone()),
        ("failure", text.clone()),
        ("served_tier", text.clone()),
        ("served_target", text.clone()),
        ("served_provider", text.clone()),
        ("served_model", text.clone()),
        ("escalated", DataType::Boolean),
        ("attempts", list(DataType::Struct(attempts))),
        ("cost_usd", DataType::Float64),
        ("baseline_cost_usd", DataType::Float64),
        ("latency_ms", DataType::Float64),
        ("overhead_ms", DataType::Float64),
        ("signals", list(text.clone())),
        ("feedback", list(DataType::Struct(feedback))),
        ("shadow_bundle", text.clone()),
        ("shadow_tier", text.clone()),
        ("shadow_target", text.clone()),
        ("shadow_intent", text),
        ("shadow_sufficiency", list(DataType::Float64)),
        ("shadow_confidence", DataType::Float64),
        ("shadow_low_confidence", DataType::Boolean),
        ("shadow_propensity", DataType::Float64),
        ("shadow_cost_usd_estimate", DataType::Float64),
    ])
}

fn fields<const N: usize>(columns: [(&str, DataType); N]) -> Fields {
    columns.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect()
}

/// A list as the Parquet format names its items.
fn list(items: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", items, true)))
}

/// Returns the records as one batch; `None` where there are none.
pub fn batch(logged: &[Logged]) -> Result<Option<RecordBatch>, ArrowError> {
    let rows: Vec<Row<'_>> = logged.iter().map(Row::of).collect();
    // Strict: a field of `Row` without a column is an error and not a loss.
    let mut decoder = ReaderBuilder::new(schema()).with_strict_mode(true).build_decoder()?;
    decoder.serialize(&rows)?;
    decoder.flush()
}
