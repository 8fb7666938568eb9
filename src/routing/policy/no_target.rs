//! Why nothing can answer a request, target by target.

use std::{fmt, sync::Arc};

use crate::prompt::TargetId;

/// No target is left, and why each dropped out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoTarget {
    /// Every target of every tier.
    pub dropped: Vec<Dropped>,
    /// The spent budget without which one would be left.
    pub spent: Option<SpentBudget>,
}

/// A spent budget that leaves weaker tiers only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpentBudget {
    /// As [`TierCap`](crate::prompt::TierCap) says it.
    pub why: Arc<str>,
    /// The strongest tier left.
    pub tier: Arc<str>,
}

/// A target that cannot answer, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    pub tier: Arc<str>,
    pub target: TargetId,
    pub why: String,
}

impl fmt::Display for NoTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A person reads a few of them; the details of an error hold more.
        const SHOWN_MAX: usize = 12;
        if let Some(SpentBudget { why, tier }) = &self.spent {
            write!(f, "{why}: at most tier {tier}; ")?;
        }
        f.write_str("no target is left")?;
        for (at, Dropped { tier, target, why }) in self.dropped.iter().take(SHOWN_MAX).enumerate() {
            let separator = if at == 0 { ": " } else { "; " };
            write!(f, "{separator}{target} ({tier}): {why}")?;
        }
        match self.dropped.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
