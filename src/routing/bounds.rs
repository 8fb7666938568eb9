//! The tiers that rules and request leave open together. Nothing that follows goes outside them.

use std::{fmt, sync::Arc};

use super::rules::{Hits, LimitBy};
use crate::{
    config::Config,
    prompt::{Prompt, Tier},
};

/// Who set a bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetBy {
    /// The first or the last tier there is.
    Nobody,
    Rule(Arc<str>),
    Request,
}

impl fmt::Display for SetBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("the configuration"),
            Self::Rule(rule) => write!(f, "rule {rule}"),
            Self::Request => f.write_str("the request"),
        }
    }
}

/// The lowest or the highest tier allowed, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    pub tier: Tier,
    pub by: SetBy,
}

/// The tiers allowed; none when `min` is above `max`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    pub min: Bound,
    pub max: Bound,
}

impl Bounds {
    /// Returns the firm limits of rules and request, narrowed by the rules' yielding ones as far as
    /// the firm ones leave room.
    pub fn of(config: &Config, prompt: &Prompt, hits: &Hits) -> Self {
        let mut bounds = Self {
            min: Bound { tier: Tier(0), by: SetBy::Nobody },
            max: Bound { tier: config.top_tier(), by: SetBy::Nobody },
        };
        let by_rule = |limit: &LimitBy| Bound { tier: limit.tier, by: SetBy::Rule(Arc::clone(&limit.rule)) };
        let by_request = |tier: Tier| Bound { tier, by: SetBy::Request };
        bounds.raise(hits.firm.tier_min.as_ref().map(by_rule));
        bounds.raise(prompt.preferences.tier_min.map(by_request));
        bounds.lower(hits.firm.tier_max.as_ref().map(by_rule));
        bounds.lower(prompt.preferences.tier_max.map(by_request));
        let (min, max) = (bounds.min.tier, bounds.max.tier);
        let within = |limit: &LimitBy| Bound { tier: limit.tier.max(min).min(max), ..by_rule(limit) };
        if min <= max {
            bounds.raise(hits.yielding.tier_min.as_ref().map(within));
            let min = bounds.min.tier;
            let above = |limit: &LimitBy| Bound { tier: within(limit).tier.max(min), ..within(limit) };
            bounds.lower(hits.yielding.tier_max.as_ref().map(above));
        }
        bounds
    }

    fn raise(&mut self, bound: Option<Bound>) {
        if let Some(bound) = bound.filter(|bound| bound.tier > self.min.tier) {
            self.min = bound;
        }
    }

    fn lower(&mut self, bound: Option<Bound>) {
        if let Some(bound) = bound.filter(|bound| bound.tier < self.max.tier) {
            self.max = bound;
        }
    }

    /// Returns the only tier allowed, `None` when there are several or none.
    pub fn only(&self) -> Option<Tier> {
        (self.min.tier == self.max.tier).then_some(self.min.tier)
    }

    /// Returns whether a choice is left.
    pub fn are_open(&self) -> bool {
        self.min.tier < self.max.tier
    }

    /// Returns whether this tier is allowed.
    pub fn allow(&self, tier: Tier) -> bool {
        self.min.tier <= tier && tier <= self.max.tier
    }

    /// Returns the tier itself or the nearest allowed one; the highest allowed when none is.
    pub fn clamp(&self, tier: Tier) -> Tier {
        tier.max(self.min.tier).min(self.max.tier)
    }

    /// Returns why this tier is not allowed, `None` when it is.
    pub fn problem(&self, tier: Tier, config: &Config) -> Option<String> {
        let Self { min, max } = self;
        if tier < min.tier {
            return Some(format!("its tier is below {}, set by {}", config.tier(min.tier).name, min.by));
        }
        (tier > max.tier)
            .then(|| format!("its tier is above {}, set by {}", config.tier(max.tier).name, max.by))
    }
}
