//! The sections on completions as they are written in TOML: providers, attempts, checks, budgets.
//!
//! Like `file`: every key may be absent, unknown keys are errors, and nothing is checked here.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    completion::{Check, Exhausted, OnWeak, StreamQuality},
    provider::{AssistantExtra, OutputLimit},
};

/// One account with one provider.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderFile {
    /// The operator's name for it, unique; a target's `provider` names it.
    #[schemars(required)]
    pub name: Option<String>,
    /// Who it is: protocol and the defaults below follow from it. Default: the kind that is called like `name`.
    pub kind: Option<ProviderKind>,
    /// Where it is called, up to and without the last step of the path ("https://api.openai.com/v1", not
    /// ".../chat/completions"). Default: the kind's own; required for "azure_openai", "openai_compatible",
    /// "vertex" and "bedrock".
    pub base_url: Option<String>,
    /// Where keys are read from, in the order in which they are used: "env:NAME" or "file:PATH", relative to
    /// this file; [] sends none. Default: the environment variable that the provider's own tools read.
    pub keys: Option<Vec<String>>,
    /// How a key is sent: "bearer", or the name of a header that holds it alone, for example "api-key"; only
    /// for kinds that speak OpenAI's protocol and for "anthropic". Default "bearer"; "api-key" for "azure_openai",
    /// "x-api-key" for "anthropic".
    pub key_header: Option<String>,
    /// Headers sent with every call. Never keys.
    pub headers: BTreeMap<String, String>,
    /// Parameters added to every URL, for example `api-version`. Never keys.
    pub query: BTreeMap<String, String>,
    /// Whether streams are asked for their usage (`stream_options`); only for kinds that speak OpenAI's protocol.
    /// Default true; false for "mistral", which refuses the question and states its usage unasked.
    pub stream_usage: Option<bool>,
    /// Beta features that callers may ask for by the header `anthropic-beta`, or ["*"] for all; only for the kind
    /// "anthropic", and only where the caller speaks Anthropic's dialect. Others are dropped. Default: none.
    pub beta: Vec<String>,
    /// What its servers call the most tokens of an answer; a request's limit is sent under this name, whichever
    /// of both it has. Only for kinds that speak OpenAI's protocol. Default "max_completion_tokens" for "openai"
    /// and "azure_openai", else "max_tokens".
    pub output_limit: Option<OutputLimit>,
    /// Extras of earlier answers that its servers take back in assistant messages; others are taken out. Only for
    /// kinds that speak OpenAI's protocol. Default ["reasoning_content"] for "deepseek", "openrouter" and "vllm",
    /// ["reasoning_content", "extra_content"] for "openai_compatible", else [].
    pub replay: Option<Vec<AssistantExtra>>,
    /// Fields of requests that its models refuse, for example ["temperature"]: they are not sent, and the answer
    /// names them as dropped. A target may name more. Default: none.
    pub drop: Vec<String>,
    /// Whether `base_url` may be plain http to another machine: keys and prompts can be read on the way.
    /// Default false.
    pub allow_http: Option<bool>,
    /// The script of a "scripted" provider, relative to this file. Default: the built-in demo.
    pub script: Option<String>,
}

/// Who a provider is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// https://api.openai.com/v1, OPENAI_API_KEY.
    Openai,
    /// A resource at Azure: `base_url` such as "https://NAME.openai.azure.com/openai/v1", AZURE_OPENAI_API_KEY.
    AzureOpenai,
    /// https://api.mistral.ai/v1, MISTRAL_API_KEY.
    Mistral,
    /// https://api.groq.com/openai/v1, GROQ_API_KEY.
    Groq,
    /// https://api.deepseek.com/v1, DEEPSEEK_API_KEY.
    Deepseek,
    /// https://api.x.ai/v1, XAI_API_KEY.
    Xai,
    /// https://api.together.xyz/v1, TOGETHER_API_KEY.
    Together,
    /// https://api.fireworks.ai/inference/v1, FIREWORKS_API_KEY.
    Fireworks,
    /// https://openrouter.ai/api/v1, OPENROUTER_API_KEY.
    Openrouter,
    /// http://127.0.0.1:11434/v1, no key.
    Ollama,
    /// http://127.0.0.1:8000/v1, no key.
    Vllm,
    /// Whatever else speaks OpenAI's chat completions; no key unless `keys` names one.
    OpenaiCompatible,
    /// https://api.anthropic.com/v1, ANTHROPIC_API_KEY.
    Anthropic,
    /// Google AI Studio, GEMINI_API_KEY. A target's provider "google" is this one too.
    Gemini,
    /// Google Cloud: `base_url` such as
    /// "https://REGION-aiplatform.googleapis.com/v1/projects/PROJECT/locations/REGION"; an access token in
    /// VERTEX_API_KEY, or better in a file that is renewed.
    Vertex,
    /// AWS: `base_url` such as "https://bedrock-runtime.REGION.amazonaws.com", AWS_BEARER_TOKEN_BEDROCK.
    Bedrock,
    /// Cohere, COHERE_API_KEY.
    Cohere,
    /// Answers from a file, for tests, demos and load.
    Scripted,
}

/// How completions are made.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CompletionFile {
    /// From the call to the last byte, whatever is tried meanwhile, milliseconds. Default 300000.
    pub deadline_ms: Option<u64>,
    /// Calls for one request: retries, failover, escalation and hedges together. Default 6.
    pub attempts_max: Option<u64>,
    /// Further tries of one target after errors that may pass. Default 1.
    pub retries_max: Option<u64>,
    /// The most that all attempts for one request may cost, US dollars. Default: no limit.
    pub cost_usd_max: Option<f64>,
    /// What follows when every target of a tier failed. Default "climb".
    pub exhausted: Option<Exhausted>,
    /// What follows a weak answer. Default "escalate".
    pub on_weak: Option<OnWeak>,
    /// Completions in progress; more are refused at once. Default 4096.
    pub concurrent_max: Option<u64>,
    /// Largest whole answer read from a provider, bytes. Default 16777216.
    pub answer_bytes_max: Option<u64>,
    /// Longest line of a provider's stream, bytes. Default 4194304.
    pub line_bytes_max: Option<u64>,
    /// Waits between tries of one target.
    pub backoff: BackoffFile,
    /// The longest waits of one attempt; a target may have its own.
    pub timeouts: TimeoutsFile,
    /// How streams are held back and checked.
    pub stream: StreamFile,
    /// A second target beside a slow one. Default: none.
    pub hedge: Option<HedgeFile>,
    /// When a target is left alone.
    pub breaker: BreakerFile,
    /// Which checks an answer must pass: the first entry that fits the request's tier and intent counts; no entry
    /// that fits means no checks. Default: one entry for all answers.
    pub checks: Option<Vec<ChecksFile>>,
    /// A target that scores answers. Default: none.
    pub judge: Option<JudgeFile>,
}

/// Waits between tries of one target: a random part of `first_ms` * 2^n, at most `max_ms`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackoffFile {
    /// Before the first retry, milliseconds. Default 250.
    pub first_ms: Option<u64>,
    /// The longest, milliseconds. Default 4000.
    pub max_ms: Option<u64>,
    /// A Retry-After of the provider up to this is waited for; above it the target is left, milliseconds.
    /// Default 10000.
    pub retry_after_ms_max: Option<u64>,
}

/// The longest waits of one attempt.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TimeoutsFile {
    /// For a connection, TLS included, milliseconds. Default 5000.
    pub connect_ms: Option<u64>,
    /// To the first token of a streamed answer, milliseconds. Default 60000, and for a target at least three times
    /// its `latency_ms_typical`.
    pub first_token_ms: Option<u64>,
    /// Between two pieces of a stream, milliseconds. Default 20000.
    pub between_tokens_ms: Option<u64>,
    /// To the end of a whole answer, milliseconds; ends the others early where it is shorter. A stream that flows
    /// is ended by the deadline alone. Default 240000, and for a target at least three times its
    /// `latency_ms_typical`.
    pub total_ms: Option<u64>,
}

/// How streams are held back and checked.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StreamFile {
    /// When a stream's answer is checked. Default "guard".
    pub quality: Option<StreamQuality>,
    /// Characters that are held back and checked before the first is sent. Default 48.
    pub guard_chars: Option<u64>,
    /// The most that is held back of one stream, bytes; at least four for each of `guard_chars`. Default 1048576.
    pub hold_bytes_max: Option<u64>,
    /// Longest that a caller may leave a full buffer unread, milliseconds. Default 60000.
    pub caller_stall_ms: Option<u64>,
}

/// A second target beside a slow one: the first good answer wins, both are paid for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HedgeFile {
    /// Quantile of the target's own recent waits after which the second starts, 0.5 to 0.999. Default 0.95.
    #[schemars(range(min = 0.5, max = 0.999))]
    pub quantile: Option<f64>,
    /// Never sooner than this, milliseconds; also the wait while too few are known. Default 2000.
    pub delay_ms_min: Option<u64>,
    /// Tiers that hedge. Default: all.
    pub tiers: Vec<String>,
}

/// When a target is left alone.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerFile {
    /// Failures in a row that open it. Default 5.
    pub failures: Option<u64>,
    /// Share of failures in the window that opens it, above 0 to 1. Default 0.5.
    pub error_ratio: Option<f64>,
    /// The window, milliseconds. Default 30000.
    pub window_ms: Option<u64>,
    /// Calls in the window before the share counts. Default 20.
    pub calls_min: Option<u64>,
    /// How long it stays open, milliseconds; doubles each time a probe fails. Default 10000.
    pub cooldown_ms: Option<u64>,
    /// The longest that it stays open, milliseconds. Default 120000.
    pub cooldown_ms_max: Option<u64>,
    /// How long after a good probe the target's share of calls takes to grow back to all, milliseconds.
    /// Default 10000.
    pub ramp_ms: Option<u64>,
}

/// Which checks an answer must pass.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ChecksFile {
    /// Tiers whose answers are checked so. Default: all.
    pub tiers: Vec<String>,
    /// Intents whose answers are checked so. Default: all, also unknown ones.
    pub intents: Vec<String>,
    /// The checks. Default: "empty", "refusal", "truncated", "json", "schema", "tool_call", "repetition" and
    /// "too_short"; "logprob", "pattern" and "judge" too where `logprob_min`, `reject` or `require`, and
    /// `[completion.judge]` are given.
    pub checks: Option<Vec<Check>>,
    /// Least mean log-probability of an answer's tokens, natural logarithm, below 0. Default -1.5.
    pub logprob_min: Option<f64>,
    /// An answer that one of these regular expressions matches is weak.
    pub reject: Vec<String>,
    /// An answer that none of these matches is weak.
    pub require: Vec<String>,
}

/// A target that scores answers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JudgeFile {
    /// Id of the target that judges.
    #[schemars(required)]
    pub target: Option<String>,
    /// What a good answer is, in the operator's words. Default: one that is correct, complete and to the point.
    pub rubric: Option<String>,
    /// Answers scored below are weak, 0 to 1. Default 0.5.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub score_min: Option<f64>,
    /// Share of answers that are judged, 0 to 1. Default 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: Option<f64>,
    /// Tiers whose answers are judged. Default: all but the top one.
    pub tiers: Vec<String>,
    /// The most that judging may cost in a day (UTC), US dollars.
    #[schemars(required)]
    pub day_usd_max: Option<f64>,
    /// A judge that takes longer is done without, milliseconds. Default 10000.
    pub timeout_ms: Option<u64>,
}

/// What one tenant or tag may spend. All budgets that fit a request count.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetFile {
    /// The operator's name for it, unique.
    #[schemars(required)]
    pub name: Option<String>,
    /// Whose spend it counts: "all" (everybody's together), "each_tenant" (each one's by itself), { tenant = "..." }
    /// or { tag = "..." }. Default "all".
    pub scope: Option<ScopeFile>,
    /// Limit per day (UTC), US dollars; this or `month_usd` is required.
    pub day_usd: Option<f64>,
    /// Limit per calendar month (UTC), US dollars.
    pub month_usd: Option<f64>,
    /// What follows at the limit: "refuse", or { tier_max = "..." } for no tier above that one. Default "refuse".
    pub at_limit: Option<AtLimitFile>,
}

/// Whose spend a budget counts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScopeFile {
    /// Everybody's together.
    All,
    /// Each tenant's by itself.
    EachTenant,
    /// One tenant's.
    Tenant(String),
    /// Of requests with this tag.
    Tag(String),
}

/// What follows when a budget is spent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AtLimitFile {
    /// Requests are refused.
    Refuse,
    /// Only tiers up to this one answer.
    TierMax(String),
}

/// What is kept of what was spent.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SpendFile {
    /// File that keeps spend across restarts, relative to this file. Default: none, a restart forgets.
    pub file: Option<String>,
}
