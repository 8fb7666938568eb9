//! The shared words of the crate: what is asked ([`Draft`], [`Prompt`]) and what is answered
//! ([`Decision`]).
//!
//! Plain data. Nothing here reads a file, a clock or the network, and nothing here decides.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// Who speaks in a [`Message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
    Tool,
}

impl Role {
    /// Returns the role that `name` stands for; "developer" is another word for system.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "system" | "developer" => Some(Self::System),
            "user" => Some(Self::User),
            "assistant" => Some(Self::Assistant),
            "tool" => Some(Self::Tool),
            _ => None,
        }
    }

    /// Returns the role's name as it stands in requests and in the classifier's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

/// A request as it came in, before anything was checked.
///
/// Every entry point (gRPC, command line) builds one of these; `routing::admit` turns it into a
/// [`Prompt`] or names each bad field.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// Shorthand for one user message.
    pub prompt: Option<String>,
    pub messages: Vec<DraftMessage>,
    pub context: Context,
    pub shape: DraftShape,
    pub preferences: DraftPreferences,
    /// Empty, absent or "auto" routes; "tier:NAME" fixes a tier, the id of a target fixes that target.
    pub model: Option<String>,
    /// Whether the decision lists every rule that matched.
    pub explain: bool,
}

impl Draft {
    /// Returns a draft of one user message and nothing else.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self { prompt: Some(text.into()), ..Self::default() }
    }
}

/// A message whose role has not been checked.
#[derive(Debug, Clone, Default)]
pub struct DraftMessage {
    pub role: String,
    pub content: String,
}

/// What the caller knows about a request beside its text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Context {
    pub task_type: String,
    pub tags: Vec<String>,
    pub tenant: String,
    pub session_id: String,
    /// ISO 639-1; empty when the caller did not say.
    pub language: String,
}

/// [`Shape`] before its numbers were checked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DraftShape {
    pub prompt_tokens: Option<i64>,
    pub max_output_tokens: Option<i64>,
    pub needs_tools: bool,
    pub needs_vision: bool,
    pub needs_json: bool,
    /// See [`Shape`]; read from the request itself, never stated by a caller.
    #[serde(skip)]
    pub beside_text_tokens: u32,
    #[serde(skip)]
    pub choices: u32,
}

/// [`Preferences`] before numbers and names were checked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DraftPreferences {
    pub quality: Option<f64>,
    pub cost_usd_max: Option<f64>,
    pub latency_ms_max: Option<i64>,
    pub tier_min: String,
    pub tier_max: String,
    pub allow_targets: Vec<String>,
    pub deny_targets: Vec<String>,
}

/// A checked request: at least one message, known roles, numbers in range, names that exist.
#[derive(Debug, Clone)]
pub struct Prompt {
    /// Oldest first, never empty.
    pub messages: Vec<Message>,
    pub context: Context,
    pub shape: Shape,
    pub preferences: Preferences,
    /// Set where a budget is spent, never by the request itself.
    pub tier_cap: Option<TierCap>,
    pub explain: bool,
}

impl Prompt {
    /// Takes everything, and leaves an empty one that nobody may ask.
    #[must_use]
    pub fn take(&mut self) -> Self {
        Self {
            messages: std::mem::take(&mut self.messages),
            context: std::mem::take(&mut self.context),
            shape: self.shape,
            preferences: std::mem::take(&mut self.preferences),
            tier_cap: self.tier_cap.take(),
            explain: self.explain,
        }
    }

    /// Returns the index of the message to judge: the last user turn, else the last message.
    pub fn judged_index(&self) -> usize {
        self.messages
            .iter()
            .rposition(|message| message.role == Role::User)
            .unwrap_or(self.messages.len() - 1)
    }

    /// Returns the text of the message to judge.
    pub fn last_user_text(&self) -> &str {
        &self.messages[self.judged_index()].content
    }

    /// Returns the first system message, empty when there is none.
    pub fn system_text(&self) -> &str {
        self.messages
            .iter()
            .find(|message| message.role == Role::System)
            .map_or("", |message| &message.content)
    }

    /// Returns how many turns the conversation has: those of the user, and one more when the
    /// assistant opened it, since "ok" then answers something.
    pub fn turns(&self) -> usize {
        let user_turns = self.messages.iter().filter(|message| message.role == Role::User).count();
        let opener = self.messages.iter().find(|message| message.role != Role::System);
        user_turns + usize::from(opener.is_some_and(|message| message.role == Role::Assistant))
    }
}

/// Size and features of the completion that will follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    pub prompt_tokens: Option<u32>,
    pub max_output_tokens: Option<u32>,
    pub needs: Features,
    /// About how many tokens go upstream beside the texts of the messages: tools and calls of them, the answer's
    /// schema, images and files.
    pub beside_text_tokens: u32,
    /// Answers asked for at once; 0 counts as 1.
    pub choices: u32,
}

/// Features that a request needs or a target has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    pub tools: bool,
    pub vision: bool,
    pub json: bool,
}

impl Features {
    /// Returns the names of those in `self` that `offered` lacks.
    pub fn missing_from(self, offered: Self) -> Vec<&'static str> {
        [
            ("tools", self.tools && !offered.tools),
            ("vision", self.vision && !offered.vision),
            ("json", self.json && !offered.json),
        ]
        .into_iter()
        .filter_map(|(name, missing)| missing.then_some(name))
        .collect()
    }
}

/// What the caller wants of the decision.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Preferences {
    /// 0 to 1.
    pub quality: Option<f64>,
    pub cost_usd_max: Option<f64>,
    pub latency_ms_max: Option<u32>,
    pub tier_min: Option<Tier>,
    pub tier_max: Option<Tier>,
    /// Empty allows all.
    pub allow_targets: Vec<TargetId>,
    pub deny_targets: Vec<TargetId>,
}

/// The strongest tier that a spent budget leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierCap {
    pub tier: Tier,
    /// Which budget is spent, as the beginning of a sentence: "budget team-a of this month is spent".
    pub why: Arc<str>,
}

/// A tier's place in the operator's order; 0 is the weakest and cheapest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tier(pub usize);

/// The predicted or fixed kind of task, one of the bundle's closed set or named by a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Intent(pub Arc<str>);

impl fmt::Display for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The operator's name for one target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TargetId(pub Arc<str>);

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which model should answer, and why. Field meanings stand in `decision.proto`.
///
/// Serialises to the JSON that `pointsman route --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    pub decision_id: String,
    pub tier: Arc<str>,
    pub target: TargetRef,
    pub failover: Vec<TargetRef>,
    pub intent: Option<Intent>,
    pub intent_confidence: f64,
    pub tier_scores: Vec<TierScore>,
    /// What `tier_scores` would be had nothing been learned online; empty where that is the same.
    #[serde(skip)]
    pub sufficiency_base: Vec<f64>,
    pub confidence: f64,
    pub source: Source,
    pub rule: Option<Arc<str>>,
    pub reason: String,
    pub low_confidence: bool,
    pub truncated: bool,
    pub bundle_version: Option<Arc<str>>,
    pub config_generation: u64,
    pub prompt_tokens: u32,
    pub prompt_tokens_source: TokenCountSource,
    pub cost_usd_estimate: f64,
    pub baseline_cost_usd: f64,
    /// Probability, above 0 to 1, with which this target was chosen for this request; 1 unless exploration is on.
    pub propensity: f64,
    /// Whether it was chosen to learn about it.
    pub explored: bool,
    /// Whether the classifier that was on trial decided, instead of the active one.
    pub canary: bool,
    /// Why the classifier that was asked gave no scores: "overloaded", "too_late", "failed", "stopped" or "absent".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unscored: Option<&'static str>,
    pub timings: Timings,
    /// The target that answered the session last, when that is another one.
    pub switched_from: Option<TargetRef>,
    pub switch_cost_usd: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rule_matches: Vec<RuleMatch>,
}

/// A target as a decision names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TargetRef {
    pub id: TargetId,
    pub provider: Arc<str>,
    pub model: Arc<str>,
}

/// Calibrated probability, 0 to 1, that `tier` answers acceptably.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TierScore {
    pub tier: Arc<str>,
    pub sufficiency: f64,
}

/// A rule that matched, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleMatch {
    pub rule: Arc<str>,
    pub effect: RuleEffect,
}

/// What came of a rule that matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleEffect {
    Decides,
    Limits,
    /// It would have decided, but an earlier rule did.
    Late,
}

impl RuleEffect {
    /// Returns the effect in words for a person.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decides => "decides",
            Self::Limits => "limits",
            Self::Late => "matches, but an earlier rule decided",
        }
    }
}

/// What made a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Source {
    Rule,
    Classifier,
    Cache,
    Session,
    Default,
    Override,
}

impl Source {
    /// Returns the name used in metric labels and on the terminal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Classifier => "classifier",
            Self::Cache => "cache",
            Self::Session => "session",
            Self::Default => "default",
            Self::Override => "override",
        }
    }
}

/// Where a count of prompt tokens comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TokenCountSource {
    Caller,
    Tokenizer,
    Length,
}

/// Where the time of a decision went, microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Timings {
    pub rules_us: u64,
    pub queue_us: u64,
    pub tokenize_us: u64,
    pub inference_us: u64,
    pub policy_us: u64,
    pub total_us: u64,
    /// What the processor spent on tokenizing and inference, which bundles are compared by; told to no caller.
    #[serde(skip)]
    pub compute_us: u64,
}
