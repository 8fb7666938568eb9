//! The configuration as it is written in TOML.
//!
//! Everything optional or required is decided in `check`; here every key may be absent, so that
//! one missing key does not hide the other problems. Unknown keys are errors.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    file_bundles::BundlesFile,
    file_completion::{BudgetFile, CompletionFile, ProviderFile, SpendFile, TimeoutsFile},
    file_rollout::RolloutFile,
    file_traffic::{LearningFile, TrafficFile},
};

/// A whole configuration file. A section that is present replaces the built-in one.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "pointsman configuration")]
pub struct File {
    /// Listeners, sizes and shutdown.
    pub server: ServerFile,
    /// The most that one request may hold.
    pub limits: LimitsFile,
    /// The bundle, and how it is run.
    pub classifier: ClassifierFile,
    /// How scores become a tier.
    pub policy: PolicyFile,
    /// What is remembered of a conversation.
    pub sessions: SessionsFile,
    /// Tiers, weakest and cheapest first; at least one.
    pub tiers: Vec<TierFile>,
    /// Every place that can answer; at least one.
    pub targets: Vec<TargetFile>,
    /// Rules, in order: the first that decides wins, limits add up.
    pub rules: Vec<RuleFile>,
    /// What follows from an intent: of the bundle, or of your own by a few examples.
    pub intents: Vec<IntentFile>,
    /// Accounts with providers, for completions. A target whose provider is called like a kind of provider needs
    /// no entry.
    pub providers: Vec<ProviderFile>,
    /// How completions are made.
    pub completion: CompletionFile,
    /// What may be spent.
    pub budgets: Vec<BudgetFile>,
    /// What is kept of what was spent.
    pub spend: SpendFile,
    /// The log of requests and of feedback about them.
    pub traffic: TrafficFile,
    /// Learning from feedback and outcomes, while serving.
    pub learning: LearningFile,
    /// Where versions of the classifier are kept, and what one must satisfy before it may serve.
    pub bundles: BundlesFile,
    /// How another version of the classifier takes over by itself.
    pub rollout: RolloutFile,
}

/// Listeners, sizes and shutdown.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerFile {
    /// Address of the gRPC listener; port 0 takes a free one. Default "127.0.0.1:50051".
    pub grpc_listen: Option<String>,
    /// Address of the HTTP listener (completions, metrics, health), or "off". Default "127.0.0.1:8080".
    pub http_listen: Option<String>,
    /// Address of the admin gRPC listener, or "off". Other addresses than loopback need `admin`. Default
    /// "127.0.0.1:50052".
    pub admin_listen: Option<String>,
    /// Names by which the HTTP listener on loopback may be called ("gateway.internal"), beside "localhost" and
    /// loopback addresses; every other one is refused, so that no page of a foreign site gets in by a name that
    /// it points at this machine. Default: none.
    pub hosts: Vec<String>,
    /// Whether `grpc_listen` and `http_listen` may be other than loopback. Whoever reaches them spends on your
    /// keys: put a proxy with authentication in front. Default false.
    pub allow_unauthenticated: Option<bool>,
    /// How long running calls may go on after SIGTERM, milliseconds. Default 10000.
    pub drain_ms: Option<u64>,
    /// Largest gRPC message accepted, bytes. Default 16777216.
    pub message_bytes_max: Option<u64>,
    /// Whether `serve` follows the configuration file and the pointer to its bundle. Default true.
    pub watch: Option<bool>,
    /// Who may use the admin listener. Default: everybody who reaches it, which is this machine alone.
    pub admin: AdminFile,
}

/// Who may use the admin listener. Where tokens and client certificates are configured, either lets in.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdminFile {
    /// Operators, and programs that act for them. Default: none.
    pub tokens: Vec<AdminTokenFile>,
    /// Encryption, and certificates of callers. Default: none.
    pub tls: Option<AdminTlsFile>,
    /// Whether tokens may cross a network unencrypted, because something else encrypts. Default false.
    pub allow_plaintext: Option<bool>,
}

/// One operator.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdminTokenFile {
    /// Name by which changes are recorded; required.
    pub name: Option<String>,
    /// Where the token is, "env:NAME" or "file:PATH"; at least 24 bytes; required.
    pub token: Option<String>,
}

/// Certificates and keys, paths of files in PEM, relative to the configuration file.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AdminTlsFile {
    /// The listener's certificate, and those between it and its CA; required.
    pub cert: Option<String>,
    /// The certificate's key; required.
    pub key: Option<String>,
    /// CA whose certificates let a caller in. Default: none do.
    pub client_ca: Option<String>,
}

/// The most that one request may hold.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsFile {
    /// Messages of one conversation. Default 4096.
    pub messages_max: Option<u64>,
    /// Bytes of all messages of one conversation. Default 4194304.
    pub prompt_bytes_max: Option<u64>,
    /// Requests in one batch. Default 1024.
    pub batch_requests_max: Option<u64>,
}

/// The bundle, and how it is run.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClassifierFile {
    /// Whether a classifier runs at all. Default true.
    pub enabled: Option<bool>,
    /// Folder of the bundle. Default: the bundle inside the binary.
    pub bundle: Option<String>,
    /// Where the model runs. Default "auto": CUDA where it works, else the CPU.
    pub device: Option<DeviceFile>,
    /// Sessions, each on a thread of its own. Default 0: one per core, at most 8; one on CUDA.
    pub workers: Option<u64>,
    /// Requests that may wait for a session. Default 128.
    pub queue_max: Option<u64>,
    /// What a full queue means. Default "default_tier".
    pub queue_full: Option<QueueFullFile>,
    /// Longest wait for scores before the default tier is taken, milliseconds. Default 2000.
    pub wait_ms_max: Option<u64>,
    /// Scores of identical texts kept, entries; 0 keeps none. Default 10000.
    pub cache_entries: Option<u64>,
}

/// Where the model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeviceFile {
    /// CUDA where it works, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA, or the bundle does not load.
    Cuda,
}

/// What a full classifier queue means for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueueFullFile {
    /// The default tier answers, and a metric counts it.
    DefaultTier,
    /// The call fails with RESOURCE_EXHAUSTED.
    Refuse,
}

/// How scores become a tier.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyFile {
    /// What the choice maximises. Default "threshold".
    pub objective: Option<ObjectiveFile>,
    /// Wanted probability that the tier answers acceptably, 0 to 1. Default 0.5: the tier that is
    /// more likely than not enough.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub quality: Option<f64>,
    /// Worth of one acceptable answer, US dollars; objective "value" only. Default 0.05.
    pub value_usd: Option<f64>,
    /// Tier that answers when nothing scored the request. Default: the second tier, or the only one.
    pub default_tier: Option<String>,
    /// What follows when the classifier is unsure. Default "one_tier_up".
    pub low_confidence: Option<LowConfidenceFile>,
}

/// What the choice of a tier maximises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ObjectiveFile {
    /// The cheapest tier whose sufficiency reaches the wanted quality.
    Threshold,
    /// The tier with the largest sufficiency * value_usd - expected cost.
    Value,
}

/// What follows when the classifier is unsure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LowConfidenceFile {
    /// The next tier up, within the limits.
    OneTierUp,
    /// Nothing; the decision still says so.
    Ignore,
}

/// What is remembered of a conversation.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SessionsFile {
    /// Whether a session may drop below the tier it has needed. Default "keep".
    pub floor: Option<SessionFloorFile>,
    /// Whether a session keeps its target while its tier stays, so that the provider's prompt cache helps.
    /// Default true.
    pub sticky: Option<bool>,
    /// How long an idle session is remembered, seconds. Default 3600.
    pub idle_s: Option<u64>,
    /// Sessions remembered at once. Default 100000.
    pub sessions_max: Option<u64>,
}

/// Whether a session may drop below the tier it has needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SessionFloorFile {
    /// It never does, as long as it is remembered.
    Keep,
    /// It may.
    Off,
}

/// One tier.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TierFile {
    /// The operator's name for it, unique.
    #[schemars(required)]
    pub name: Option<String>,
    /// The bundle's level whose sufficiency stands for this tier ("simple", "moderate", "complex",
    /// "reasoning"). Default: the level of the same name.
    pub level: Option<String>,
    /// Ids of the targets that serve it, at least one.
    #[schemars(required)]
    pub targets: Option<Vec<String>>,
    /// How targets are ordered. Default "listed".
    pub order: Option<OrderFile>,
}

/// How the targets of a tier are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OrderFile {
    /// As listed: the first is the usual one, the rest take over when it fails.
    Listed,
    /// By chance in proportion to each target's `weight`; a session keeps its order.
    Weight,
    /// By `latency_ms_typical`, fastest first.
    Latency,
}

/// One place that serves one explicit model version.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TargetFile {
    /// The operator's name for it, unique.
    #[schemars(required)]
    pub id: Option<String>,
    /// Who serves it: the name of one of `[[providers]]`, or a kind of provider that needs no settings, for example
    /// "openai". Any other name can be decided for, but not completed with.
    #[schemars(required)]
    pub provider: Option<String>,
    /// The provider's name of the model, an explicit version.
    #[schemars(required)]
    pub model: Option<String>,
    /// Price of a million prompt tokens, US dollars.
    #[schemars(required)]
    pub input_usd_per_mtok: Option<f64>,
    /// Price of a million prompt tokens that the provider reads from its cache, US dollars. Default: the price
    /// of other prompt tokens.
    pub cached_input_usd_per_mtok: Option<f64>,
    /// Price of a million prompt tokens that the provider writes to its cache, US dollars. Default: the price
    /// of other prompt tokens.
    pub cache_write_usd_per_mtok: Option<f64>,
    /// Price of a million answer tokens, US dollars.
    #[schemars(required)]
    pub output_usd_per_mtok: Option<f64>,
    /// Day on which the prices were read, YYYY-MM-DD.
    #[schemars(required)]
    pub price_date: Option<String>,
    /// Prompt and answer together, tokens.
    #[schemars(required)]
    pub context_tokens: Option<u64>,
    /// Longest answer, tokens. Default: the context window.
    pub output_tokens_max: Option<u64>,
    /// Usual length of an answer, reasoning included, for cost estimates, tokens. Default 500.
    pub output_tokens_typical: Option<u64>,
    /// Usual time to a whole answer, milliseconds; a request's `latency_ms_max` is held against it.
    pub latency_ms_typical: Option<u64>,
    /// What it can do: "tools", "vision", "json". Default: none.
    pub features: Vec<FeatureFile>,
    /// Share of the tier's requests where its order is "weight", above 0. Default 1.
    pub weight: Option<f64>,
    /// Fields of requests that the model refuses, for example ["temperature", "reasoning_effort"]: they are not
    /// sent, and the answer names them as dropped. Those of its provider are dropped too. Default: none.
    pub drop: Vec<String>,
    /// Its own longest waits. Default: those of `[completion.timeouts]`.
    pub timeouts: TimeoutsFile,
}

/// What a target can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FeatureFile {
    /// Tool calls.
    Tools,
    /// Images in the prompt.
    Vision,
    /// JSON or schema-bound answers.
    Json,
}

/// One rule: conditions that must all hold, and what follows.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RuleFile {
    /// Its name in decisions and logs, unique.
    #[schemars(required)]
    pub id: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// The text its patterns read. Default "last_user".
    pub on: Option<TextSourceFile>,
    /// At least one of these regular expressions matches.
    pub any: Vec<String>,
    /// All of these match.
    pub all: Vec<String>,
    /// None of these matches.
    pub none: Vec<String>,
    /// The request's `context.task_type` is one of these.
    pub task_type: Vec<String>,
    /// The request has at least one of these tags.
    pub tags: Vec<String>,
    /// The request's tenant is one of these.
    pub tenant: Vec<String>,
    /// The user's language (ISO 639-1, as stated, else detected) is one of these. Latin and Esperanto are
    /// never detected.
    pub language: Vec<String>,
    /// The prompt has at least this many tokens.
    pub prompt_tokens_min: Option<u64>,
    /// The prompt has at most this many tokens.
    pub prompt_tokens_max: Option<u64>,
    /// The conversation has at least this many user turns; an opening by the assistant counts as one.
    pub turns_min: Option<u64>,
    /// The conversation has at most this many user turns; an opening by the assistant counts as one.
    pub turns_max: Option<u64>,
    /// The request needs tools, or does not.
    pub needs_tools: Option<bool>,
    /// The request needs vision, or does not.
    pub needs_vision: Option<bool>,
    /// The request needs JSON, or does not.
    pub needs_json: Option<bool>,
    /// The request states a `latency_ms_max` of at most this.
    pub latency_ms_max: Option<u64>,
    /// Decides: this tier.
    pub tier: Option<String>,
    /// Decides: this target.
    pub target: Option<String>,
    /// Decides: this intent; its tier comes from `[[intents]]` or from the classifier.
    pub intent: Option<String>,
    /// Limits: no tier below this.
    pub tier_min: Option<String>,
    /// Limits: no tier above this.
    pub tier_max: Option<String>,
    /// Whether the limits give way to `tier_min` and `tier_max` of the request; firm limits that
    /// contradict them leave no target. Default false.
    pub yields: Option<bool>,
}

/// The text that a rule's patterns read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TextSourceFile {
    /// The last user message.
    LastUser,
    /// All messages, oldest first, each on lines of its own.
    Conversation,
    /// The first system message.
    System,
}

/// What follows from one intent: of the bundle, or the operator's own when it has examples.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IntentFile {
    /// One of the bundle's intents; with `examples` a name that the bundle does not have. Unique.
    #[schemars(required)]
    pub name: Option<String>,
    /// Prompts of this kind, as users would write them, at least two: it becomes an intent of your own.
    pub examples: Option<Vec<String>>,
    /// Share of ordinary prompts that it may claim by mistake, 0 to 0.5; with `examples` only. Default 0.01.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub false_positives_max: Option<f64>,
    /// Always this tier.
    pub tier: Option<String>,
    /// Always this target, where it can take the request; with `examples` only.
    pub target: Option<String>,
    /// No tier below this.
    pub tier_min: Option<String>,
    /// No tier above this.
    pub tier_max: Option<String>,
}
