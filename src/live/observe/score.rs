//! What the shadow said of one decision, as it is kept beside the record. Pure.
//!
//! Holds no text of the request.

use std::sync::Arc;

use uuid::Uuid;

use crate::{config::Config, prompt::Decision, traffic::shadow_record};

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowScore {
    pub decision_id: Uuid,
    pub bundle: Arc<str>,
    /// A [`ShadowRecord`](crate::traffic::record::ShadowRecord) as JSON.
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

/// Returns what is kept of the shadow's decision.
pub fn score(id: Uuid, bundle: &Arc<str>, active_tier: &Arc<str>, decision: &Decision) -> ShadowScore {
    let document = shadow_record(active_tier, decision);
    let document = serde_json::to_string(&document).expect("names and finite figures are JSON");
    ShadowScore { decision_id: id, bundle: Arc::clone(bundle), document }
}
