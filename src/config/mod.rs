//! Configuration: TOML in, a checked [`Config`] or every problem out.
//!
//! [`Config`] is complete and consistent: names are resolved, numbers are in range, every tier has
//! a target. Nothing downstream checks it again. Never opens a bundle or a socket.

mod admin;
mod check;
mod check_admin;
mod check_budgets;
mod check_bundles;
mod check_completion;
mod check_drop;
mod check_intents;
mod check_providers;
mod check_rollout;
mod check_rules;
mod check_server;
mod check_targets;
mod check_traffic;
pub mod completion;
mod file;
mod file_bundles;
mod file_completion;
mod file_rollout;
mod file_traffic;
mod live;
mod provider;
mod provider_kinds;
pub mod read;
mod secret;
mod traffic;

use std::{collections::HashMap, fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

pub use self::{admin::*, live::*, traffic::*};
pub use self::{
    check_providers::{BETA_MAX, is_beta, is_loopback, key_source},
    check_rules::compile as compile_pattern,
    check_server::NEEDS_ALLOWING,
    check_targets::USUAL_TIMES_MIN,
    completion::*,
    provider::*,
    read::{read_file, read_server, read_text},
    secret::read_secret,
};
use crate::prompt::{Features, TargetId, Tier};

/// The configuration that is compiled in, and that a file replaces section by section.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// Returns the compiled-in configuration.
pub fn default_config() -> Config {
    read_text("").expect("the compiled-in configuration is checked by a test")
}

/// Returns the JSON Schema of a configuration file.
pub fn schema() -> serde_json::Value {
    serde_json::to_value(schemars::schema_for!(file::File)).expect("a schema is plain JSON")
}

/// A complete, consistent configuration.
#[derive(Debug, Clone)]
pub struct Config {
    pub server: ServerConfig,
    pub limits: Limits,
    pub classifier: ClassifierConfig,
    pub policy: PolicyConfig,
    pub sessions: SessionsConfig,
    /// Weakest first, never empty; a [`Tier`] indexes it.
    pub tiers: Vec<TierConfig>,
    /// Every target; a [`TargetIndex`] indexes it.
    pub targets: Vec<TargetConfig>,
    /// In the order in which they are tried.
    pub rules: Vec<RuleConfig>,
    /// In the order in which they are written, names unique.
    pub intents: Vec<IntentConfig>,
    /// Every provider that completions can be made with; a [`ProviderIndex`] indexes it.
    pub providers: Vec<ProviderConfig>,
    pub completion: CompletionConfig,
    /// All that fit a request count.
    pub budgets: Vec<BudgetConfig>,
    /// Where spend is kept across restarts; `None`: nowhere.
    pub spend_file: Option<PathBuf>,
    pub traffic: TrafficConfig,
    pub learning: LearningConfig,
    pub bundles: BundlesConfig,
    pub rollout: RolloutConfig,
}

impl Config {
    /// Returns the names of the operator's own intents, those with examples.
    pub fn own_intents(&self) -> impl Iterator<Item = &Arc<str>> {
        self.intents.iter().filter(|intent| intent.examples.is_some()).map(|intent| &intent.name)
    }

    /// Returns the tier of this name.
    pub fn tier_named(&self, name: &str) -> Option<Tier> {
        self.tiers.iter().position(|tier| &*tier.name == name).map(Tier)
    }

    /// Returns the index of the target with this id.
    pub fn target_named(&self, id: &str) -> Option<TargetIndex> {
        self.targets.iter().position(|target| &*target.id.0 == id).map(TargetIndex)
    }

    /// Returns what the operator set for the intent of this name.
    pub fn intent_named(&self, name: &str) -> Option<&IntentConfig> {
        self.intents.iter().find(|intent| &*intent.name == name)
    }

    /// Returns the strongest tier.
    pub fn top_tier(&self) -> Tier {
        Tier(self.tiers.len() - 1)
    }

    /// Returns what the operator set for this tier.
    pub fn tier(&self, tier: Tier) -> &TierConfig {
        &self.tiers[tier.0]
    }

    /// Returns what the operator set for this target.
    pub fn target(&self, index: TargetIndex) -> &TargetConfig {
        &self.targets[index.0]
    }

    /// Returns the provider of this target; `None` when it can only be decided for.
    pub fn provider_of(&self, index: TargetIndex) -> Option<&ProviderConfig> {
        self.target(index).provider_index.map(|provider| &self.providers[provider.0])
    }

    /// Returns the same configuration with every target answered by the built-in script: nobody is called, nothing
    /// is paid for, and spend is kept nowhere. Decisions stay what they are.
    #[must_use]
    pub fn with_demo_providers(mut self) -> Self {
        self.providers = vec![ProviderConfig::demo()];
        for target in &mut self.targets {
            target.provider_index = Some(ProviderIndex(0));
        }
        self.spend_file = None;
        self
    }

    /// Returns the weakest tier that lists this target; `None` when no tier does.
    pub fn tier_of(&self, index: TargetIndex) -> Option<Tier> {
        self.tiers.iter().position(|tier| tier.targets.contains(&index)).map(Tier)
    }
}

/// A target's place in [`Config::targets`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetIndex(pub usize);

/// Listeners, sizes and shutdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    pub grpc_listen: SocketAddr,
    /// `None`: no HTTP listener.
    pub http_listen: Option<SocketAddr>,
    /// `None`: no admin listener.
    pub admin_listen: Option<SocketAddr>,
    /// Who may use the admin listener.
    pub admin: AdminConfig,
    /// Whether changes of the configuration file and of the bundle that it names are followed.
    pub watch: bool,
    /// Names, in lower case, by which the HTTP listener on loopback may be called, beside its own.
    pub hosts: Vec<String>,
    /// Whether listeners for callers may be reached from other machines.
    pub allow_unauthenticated: bool,
    pub drain: Duration,
    pub message_bytes_max: usize,
}

/// The most that one request may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub messages_max: usize,
    pub prompt_bytes_max: usize,
    pub batch_requests_max: usize,
}

/// The bundle, and how it is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassifierConfig {
    pub enabled: bool,
    /// `None`: the bundle inside the binary.
    pub bundle: Option<PathBuf>,
    pub device: Device,
    /// `None`: as many as suit the device.
    pub workers: Option<usize>,
    pub queue_max: usize,
    pub queue_full: QueueFull,
    pub wait_max: Duration,
    pub cache_entries: u64,
}

pub use self::file::{
    DeviceFile as Device, LowConfidenceFile as LowConfidence, ObjectiveFile as Objective, OrderFile as Order,
    QueueFullFile as QueueFull, SessionFloorFile as SessionFloor, TextSourceFile as TextSource,
};

/// How scores become a tier.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyConfig {
    pub objective: Objective,
    /// 0 to 1.
    pub quality: f64,
    pub value_usd: f64,
    pub default_tier: Tier,
    pub low_confidence: LowConfidence,
}

/// What is remembered of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionsConfig {
    pub floor: SessionFloor,
    /// Whether a session keeps its target while its tier stays.
    pub sticky: bool,
    pub idle: Duration,
    pub sessions_max: u64,
}

/// One tier.
#[derive(Debug, Clone, PartialEq)]
pub struct TierConfig {
    pub name: Arc<str>,
    /// The bundle's level whose sufficiency stands for this tier.
    pub level: Arc<str>,
    /// Never empty.
    pub targets: Vec<TargetIndex>,
    pub order: Order,
}

/// One place that serves one explicit model version.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetConfig {
    pub id: TargetId,
    pub provider: Arc<str>,
    /// The provider of that name; `None`: it can be decided for, not completed with.
    pub provider_index: Option<ProviderIndex>,
    pub model: Arc<str>,
    pub input_usd_per_mtok: f64,
    /// For the part of a prompt that the provider reads from its cache.
    pub cached_input_usd_per_mtok: f64,
    /// For the part of a prompt that the provider writes to its cache.
    pub cache_write_usd_per_mtok: f64,
    pub output_usd_per_mtok: f64,
    /// YYYY-MM-DD.
    pub price_date: String,
    pub context_tokens: u32,
    pub output_tokens_max: u32,
    pub output_tokens_typical: u32,
    pub latency_ms_typical: Option<u32>,
    pub features: Features,
    pub weight: f64,
    /// Fields of requests that are not sent, its provider's among them.
    pub drop: Vec<String>,
    pub timeouts: Timeouts,
}

/// One rule: conditions that must all hold, and what follows.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleConfig {
    pub id: Arc<str>,
    pub description: String,
    pub patterns: Patterns,
    pub conditions: Conditions,
    pub fixes: Option<Fixes>,
    pub limits: TierLimits,
    /// Whether the limits give way to the request's own.
    pub yields: bool,
}

/// The regular expressions of one rule, all over the same text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patterns {
    pub on: TextSource,
    pub any: Vec<String>,
    pub all: Vec<String>,
    pub none: Vec<String>,
}

/// What a rule asks of a request's metadata; an empty list or `None` asks nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    pub task_type: Vec<String>,
    pub tags: Vec<String>,
    pub tenant: Vec<String>,
    pub language: Vec<String>,
    pub prompt_tokens_min: Option<u32>,
    pub prompt_tokens_max: Option<u32>,
    pub turns_min: Option<usize>,
    pub turns_max: Option<usize>,
    pub needs_tools: Option<bool>,
    pub needs_vision: Option<bool>,
    pub needs_json: Option<bool>,
    pub latency_ms_max: Option<u32>,
}

/// What a deciding rule fixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixes {
    pub tier: Option<Tier>,
    pub target: Option<TargetIndex>,
    pub intent: Option<Arc<str>>,
}

/// What follows from one intent: of the bundle, or the operator's own.
#[derive(Debug, Clone, PartialEq)]
pub struct IntentConfig {
    pub name: Arc<str>,
    /// Both ends are one where the intent fixes a tier or a target.
    pub limits: TierLimits,
    pub target: Option<TargetIndex>,
    /// What makes it the operator's own; `None` for one of the bundle's.
    pub examples: Option<ExamplesConfig>,
}

impl IntentConfig {
    /// Returns the tier that the intent leaves alone, `None` when there are several.
    pub fn only_tier(&self) -> Option<Tier> {
        self.limits.tier_min.filter(|min| self.limits.tier_max == Some(*min))
    }
}

/// Prompts that an intent is recognised by.
#[derive(Debug, Clone, PartialEq)]
pub struct ExamplesConfig {
    /// At least two, none empty.
    pub texts: Vec<String>,
    /// Share of ordinary prompts that may be claimed by mistake, 0 to 0.5.
    pub false_positives_max: f64,
}

/// Limits on the tier that a rule, an intent or a request sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TierLimits {
    pub tier_min: Option<Tier>,
    pub tier_max: Option<Tier>,
}

/// One thing wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, for example `tiers[2].targets[0]`; empty for the file as a whole.
    pub path: String,
    /// Line in the file, from 1; `None` where the problem has no place in it.
    pub line: Option<usize>,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Every problem of a configuration at once.
#[derive(Debug, thiserror::Error)]
#[error("{origin}: {} problem{}{}", .problems.len(), if .problems.len() == 1 { "" } else { "s" }, list(.problems))]
pub struct ConfigError {
    /// The file's path, or what else was read.
    pub origin: String,
    /// In the order of their lines, never empty.
    pub problems: Vec<Problem>,
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}

/// Returns the places of names that occurred before.
fn duplicates<'a>(names: impl Iterator<Item = &'a str>) -> Vec<usize> {
    let mut first: HashMap<&str, usize> = HashMap::new();
    names
        .enumerate()
        .filter_map(|(index, name)| match first.entry(name) {
            std::collections::hash_map::Entry::Occupied(_) => Some(index),
            std::collections::hash_map::Entry::Vacant(slot) => {
                slot.insert(index);
                None
            }
        })
        .collect()
}
