//! What the shadow said of one decision, as it is kept beside the record. Pure.
//!
//! Holds no text of the request.

use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use crate::{config::Config, prompt::Decision};

/// Version of the document.
const VERSION: u32 = 1;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowScore {
    pub decision_id: Uuid,
    pub bundle: Arc<str>,
    /// JSON; fields are only ever added.
    pub document: String,
}

/// Where the shadow's tier stands beside the active bundle's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    Not,
    Up,
    Down,
}

impl Moved {
    /// Compares by the order of the configuration.
    pub fn between(config: &Config, active: &str, shadow: &str) -> Self {
        match config.tier_named(shadow).cmp(&config.tier_named(active)) {
            std::cmp::Ordering::Equal => Self::Not,
            std::cmp::Ordering::Greater => Self::Up,
            std::cmp::Ordering::Less => Self::Down,
        }
    }

    /// Returns the name used in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Not => "same_tier",
            Self::Up => "moved_up",
            Self::Down => "moved_down",
        }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    /// Of the active bundle's decision.
    active_tier: &'a str,
    tier: &'a str,
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<&'a str>,
    intent_confidence: f64,
    confidence: f64,
    low_confidence: bool,
    /// One for each tier, weakest first; empty without scores.
    sufficiency: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unscored: Option<&'static str>,
    cost_usd_estimate: f64,
    /// Tokenizer and model, microseconds.
    took_us: u64,
}

/// Returns what is kept of the shadow's decision.
pub fn score(id: Uuid, bundle: &Arc<str>, active_tier: &str, decision: &Decision) -> ShadowScore {
    let document = Document {
        version: VERSION,
        active_tier,
        tier: &decision.tier,
        target: &decision.target.id.0,
        intent: decision.intent.as_ref().map(|intent| &*intent.0),
        intent_confidence: decision.intent_confidence,
        confidence: decision.confidence,
        low_confidence: decision.low_confidence,
        sufficiency: decision.tier_scores.iter().map(|score| score.sufficiency).collect(),
        unscored: decision.unscored,
        cost_usd_estimate: decision.cost_usd_estimate,
        took_us: decision.timings.tokenize_us.saturating_add(decision.timings.inference_us),
    };
    // Numbers that JSON does not have become null.
    let document = serde_json::to_string(&document).unwrap_or_default();
    ShadowScore { decision_id: id, bundle: Arc::clone(bundle), document }
}
