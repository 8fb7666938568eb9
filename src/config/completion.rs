//! How completions are made: attempts, timeouts, checks, budgets. Domain types with their defaults;
//! `check_completion` fills them from TOML.

use std::{sync::Arc, time::Duration};

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TargetIndex;
use crate::prompt::Tier;

/// How completions are made.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionConfig {
    /// From the call to the last byte, whatever is tried meanwhile.
    pub deadline: Duration,
    /// Calls for one request, retries, failover, escalation and hedges together.
    pub attempts_max: usize,
    /// Further tries of one target after transient errors.
    pub retries_max: usize,
    pub backoff: Backoff,
    /// The most that all attempts for one request may cost; `None`: no limit.
    pub cost_usd_max: Option<f64>,
    pub exhausted: Exhausted,
    pub on_weak: OnWeak,
    /// Completions in progress; more are refused at once.
    pub concurrent_max: usize,
    /// Largest whole answer read from a provider.
    pub answer_bytes_max: usize,
    /// Longest line of a provider's stream.
    pub line_bytes_max: usize,
    pub stream: StreamConfig,
    pub hedge: Option<HedgeConfig>,
    pub breaker: BreakerConfig,
    /// The first that fits a request's tier and intent counts.
    pub checks: Vec<ChecksConfig>,
    pub judge: Option<JudgeConfig>,
}

/// Waits between tries of one target: `first * 2^n`, at most `max`, with full jitter; a longer Retry-After of
/// the provider is honoured up to `retry_after_max`, above it the target is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub max: Duration,
    pub retry_after_max: Duration,
}

/// The longest waits of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    /// To the first token of a streamed answer.
    pub first_token: Duration,
    pub between_tokens: Duration,
    /// To the end of a whole answer, or to the first token of a streamed one.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_token: Duration::from_secs(60),
            between_tokens: Duration::from_secs(20),
            total: Duration::from_secs(240),
        }
    }
}

/// What follows when every target of a tier failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Exhausted {
    /// The next tier answers.
    Climb,
    /// The completion fails.
    Fail,
}

/// What follows a weak answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnWeak {
    /// The next tier answers; the best weak answer when none is better.
    Escalate,
    /// It is returned, marked.
    Mark,
}

/// How streams are held back and checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamConfig {
    pub quality: StreamQuality,
    /// Characters of the answer that are held back and checked before the first is sent.
    pub guard_chars: usize,
    /// The most that is held back of one stream.
    pub hold_bytes_max: usize,
    /// Longest that a caller may leave a full buffer unread.
    pub caller_stall: Duration,
}

/// When a stream's answer is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamQuality {
    /// Its first characters, before they are sent.
    Guard,
    /// The whole, before anything is sent.
    Buffer,
    /// Only for having any content.
    Off,
}

/// A second target beside a slow one.
#[derive(Debug, Clone, PartialEq)]
pub struct HedgeConfig {
    /// Quantile of the target's own recent first-token times (latencies for whole answers) after which the
    /// second starts, 0.5 to 0.999.
    pub quantile: f64,
    /// Never sooner than this; also the delay while too few times are known.
    pub delay_min: Duration,
    /// Tiers that hedge; empty: all.
    pub tiers: Vec<Tier>,
}

/// When a target is left alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerConfig {
    /// Failures in a row that open it.
    pub failures: u32,
    /// Share of failures in the window that opens it, above 0 to 1.
    pub error_ratio: f64,
    pub window: Duration,
    /// Calls in the window before the share counts.
    pub calls_min: u32,
    /// How long it stays open; doubles each time a probe fails, up to `cooldown_max`.
    pub cooldown: Duration,
    pub cooldown_max: Duration,
    /// How long after a good probe the target's share of calls takes to grow back to all.
    pub ramp: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            failures: 5,
            error_ratio: 0.5,
            window: Duration::from_secs(30),
            calls_min: 20,
            cooldown: Duration::from_secs(10),
            cooldown_max: Duration::from_secs(120),
            ramp: Duration::from_secs(10),
        }
    }
}

/// One check of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Nothing was said.
    Empty,
    /// The model declined.
    Refusal,
    /// The limit of output tokens cut the answer.
    Truncated,
    /// JSON was asked for and the answer is none.
    Json,
    /// A schema was asked for and the answer does not match it.
    Schema,
    /// A tool call was required and none came, or its arguments are no JSON.
    ToolCall,
    /// The same words over and over.
    Repetition,
    /// Far shorter than what was asked for.
    TooShort,
    /// The model was unsure of its words.
    Logprob,
    /// One of the operator's patterns matched.
    Pattern,
    /// The judge's score was too low.
    Judge,
}

impl Check {
    /// Returns the name used in the configuration, metric labels and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Refusal => "refusal",
            Self::Truncated => "truncated",
            Self::Json => "json",
            Self::Schema => "schema",
            Self::ToolCall => "tool_call",
            Self::Repetition => "repetition",
            Self::TooShort => "too_short",
            Self::Logprob => "logprob",
            Self::Pattern => "pattern",
            Self::Judge => "judge",
        }
    }
}

/// Which checks an answer must pass.
#[derive(Debug, Clone)]
pub struct ChecksConfig {
    /// Tiers whose answers are checked so; empty: all.
    pub tiers: Vec<Tier>,
    /// Intents whose answers are checked so; empty: all, also unknown ones.
    pub intents: Vec<Arc<str>>,
    pub checks: Vec<Check>,
    /// Least mean log-probability of an answer's tokens, natural logarithm, below 0.
    pub logprob_min: f64,
    /// An answer that one of them matches is weak.
    pub reject: Vec<Regex>,
    /// An answer that none of them matches is weak; empty: nothing is required.
    pub require: Vec<Regex>,
}

impl PartialEq for ChecksConfig {
    fn eq(&self, other: &Self) -> bool {
        let texts = |patterns: &[Regex]| -> Vec<String> {
            patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect()
        };
        self.tiers == other.tiers
            && self.intents == other.intents
            && self.checks == other.checks
            && self.logprob_min == other.logprob_min
            && texts(&self.reject) == texts(&other.reject)
            && texts(&self.require) == texts(&other.require)
    }
}

impl Default for ChecksConfig {
    fn default() -> Self {
        Self {
            tiers: Vec::new(),
            intents: Vec::new(),
            checks: vec![
                Check::Empty,
                Check::Refusal,
                Check::Truncated,
                Check::Json,
                Check::Schema,
                Check::ToolCall,
                Check::Repetition,
                Check::TooShort,
            ],
            logprob_min: -1.5,
            reject: Vec::new(),
            require: Vec::new(),
        }
    }
}

/// A target that scores answers.
#[derive(Debug, Clone, PartialEq)]
pub struct JudgeConfig {
    pub target: TargetIndex,
    /// What a good answer is, in the operator's words.
    pub rubric: String,
    /// Answers scored below are weak, 0 to 1.
    pub score_min: f64,
    /// Share of answers that are judged, 0 to 1.
    pub share: f64,
    /// Tiers whose answers are judged; empty: all but the top one.
    pub tiers: Vec<Tier>,
    /// The most that judging may cost in a day (UTC).
    pub day_usd_max: f64,
    /// A judge that takes longer is done without.
    pub timeout: Duration,
}

/// What one tenant or tag may spend.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetConfig {
    pub name: Arc<str>,
    pub scope: BudgetScope,
    /// Limits per day and calendar month (UTC); at least one is set.
    pub day_usd: Option<f64>,
    pub month_usd: Option<f64>,
    pub at_limit: AtLimit,
}

/// Whose spend a budget counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BudgetScope {
    /// Everybody's together.
    All,
    /// Each tenant's by itself.
    EachTenant,
    Tenant(String),
    Tag(String),
}

/// What follows when a budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtLimit {
    /// Only tiers up to this one answer.
    TierMax(Tier),
    /// Requests are refused.
    Refuse,
}

impl Default for CompletionConfig {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(300),
            attempts_max: 6,
            retries_max: 1,
            backoff: Backoff {
                first: Duration::from_millis(250),
                max: Duration::from_secs(4),
                retry_after_max: Duration::from_secs(10),
            },
            cost_usd_max: None,
            exhausted: Exhausted::Climb,
            on_weak: OnWeak::Escalate,
            concurrent_max: 4096,
            answer_bytes_max: 16 << 20,
            line_bytes_max: 4 << 20,
            stream: StreamConfig {
                quality: StreamQuality::Guard,
                guard_chars: 48,
                hold_bytes_max: 1 << 20,
                caller_stall: Duration::from_secs(60),
            },
            hedge: None,
            breaker: BreakerConfig::default(),
            checks: vec![ChecksConfig::default()],
            judge: None,
        }
    }
}
