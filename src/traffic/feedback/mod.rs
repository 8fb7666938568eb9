//! What somebody, or something, says about an answer afterwards.
//!
//! Plain data, and its checking: nothing here reads a clock or writes anything.

mod draft;

pub use self::draft::FeedbackDraft;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::config::LearningWeights;

/// Version of [`Feedback`] as it is stored.
pub const VERSION: u32 = 1;

/// One judgement about one decision. Stored as JSON: fields are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    pub version: u32,
    /// The decision's id, a slash, and a name given by the caller or made from the content: the same feedback twice is
    /// one, and the same name at two decisions is two.
    pub feedback_id: String,
    pub decision_id: Uuid,
    /// When it was received, milliseconds since 1970.
    pub at_ms: i64,
    pub source: FeedbackSource,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// 0 (useless) to 1 (as good as can be).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// The weakest tier that would have done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right_tier: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right_intent: Option<String>,
    /// Kept by the tenant's policy for texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// A better answer; kept by the tenant's policy for texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub demonstration: Option<String>,
    /// What was noticed without anybody saying it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
}

impl Feedback {
    /// Returns what tells it from other feedback about the same decision: the caller's name for it, if there is one.
    pub fn name(&self) -> &str {
        self.feedback_id.split_once('/').map_or(&self.feedback_id, |(_, name)| name)
    }
}

/// Whose judgement it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeedbackSource {
    /// Who asked the question.
    User,
    /// Somebody whose job it is: a reviewer, a labeller.
    Human,
    /// A program: a test, a judge, pointsman itself.
    Automatic,
}

impl FeedbackSource {
    /// Returns what one piece of its feedback counts.
    pub fn weight(self, weights: &LearningWeights) -> f64 {
        match self {
            Self::Human => weights.human,
            Self::User => weights.user,
            Self::Automatic => weights.automatic,
        }
    }
}

/// A thumb up or down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Good,
    Bad,
}

/// What an answer's fate says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// A higher tier than the decided one answered.
    Escalated,
    /// A check found an answer weak.
    Weak,
    /// The user asked the same thing again, in other words.
    Retried,
    /// The same request was sent again.
    Regenerated,
    /// The caller hung up before the end.
    Abandoned,
}

impl Signal {
    /// Returns the name used in records and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Escalated => "escalated",
            Self::Weak => "weak",
            Self::Retried => "retried",
            Self::Regenerated => "regenerated",
            Self::Abandoned => "abandoned",
        }
    }
}

impl FeedbackSource {
    /// Returns the name used in records and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Human => "human",
            Self::Automatic => "automatic",
        }
    }
}
