//! What rules say of one prompt: who decided, which limits hold, what else matched.

use std::sync::Arc;

use crate::{
    config::{Fixes, TierLimits},
    prompt::{RuleMatch, Tier},
};

/// What the rules say of one prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hits {
    pub deciding: Option<DecidingHit>,
    /// Limits that hold whatever the request says.
    pub firm: RuleLimits,
    /// Limits that give way to the request's own.
    pub yielding: RuleLimits,
    /// Every rule that matched, in order.
    pub matches: Vec<RuleMatch>,
}

/// Limits of several rules together: the highest minimum and the lowest maximum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleLimits {
    pub tier_min: Option<LimitBy>,
    pub tier_max: Option<LimitBy>,
}

/// A limit and the rule that set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitBy {
    pub tier: Tier,
    pub rule: Arc<str>,
}

impl RuleLimits {
    /// Adds the limits of one more rule; the first of equals is named.
    pub fn add(&mut self, limits: TierLimits, rule: &Arc<str>) {
        let by = |tier| LimitBy { tier, rule: Arc::clone(rule) };
        if let Some(min) = limits.tier_min
            && self.tier_min.as_ref().is_none_or(|old| min > old.tier)
        {
            self.tier_min = Some(by(min));
        }
        if let Some(max) = limits.tier_max
            && self.tier_max.as_ref().is_none_or(|old| max < old.tier)
        {
            self.tier_max = Some(by(max));
        }
    }
}

/// The rule that decided, and what it fixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecidingHit {
    pub rule: Arc<str>,
    pub fixes: Fixes,
}
