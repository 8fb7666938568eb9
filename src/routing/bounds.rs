//! The tiers that rules, request and spent budgets leave open together. Nothing that follows goes outside
//! them.

use std::{fmt, sync::Arc};

use super::rules::{Hits, LimitBy};
use crate::{
    config::{Config, TargetIndex},
    prompt::{Prompt, Source, Tier, TierCap},
};

/// Who set a bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetBy {
    /// The first or the last tier there is.
    Nobody,
    Rule(Arc<str>),
    Request,
    /// Says which budget is spent.
    Budget(Arc<str>),
}

impl fmt::Display for SetBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("the configuration"),
            Self::Rule(rule) => write!(f, "rule {rule}"),
            Self::Request => f.write_str("the request"),
            Self::Budget(why) => f.write_str(why),
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
    /// The one target that the request allows, where its tier is allowed: both ends are that tier then.
    pub target: Option<TargetIndex>,
}

impl Bounds {
    /// Returns the firm limits of rules, request and budgets, narrowed to the tier of the one target that
    /// the request allows, if it does, and by the rules' yielding ones as far as the firm ones leave room.
    pub fn of(config: &Config, prompt: &Prompt, hits: &Hits) -> Self {
        Self::under(prompt.tier_cap.as_ref(), config, prompt, hits)
    }

    /// Returns what [`Bounds::of`] would if no budget were spent.
    pub fn without_budgets(config: &Config, prompt: &Prompt, hits: &Hits) -> Self {
        Self::under(None, config, prompt, hits)
    }

    fn under(cap: Option<&TierCap>, config: &Config, prompt: &Prompt, hits: &Hits) -> Self {
        let mut bounds = Self {
            min: Bound { tier: Tier(0), by: SetBy::Nobody },
            max: Bound { tier: config.top_tier(), by: SetBy::Nobody },
            target: None,
        };
        let by_rule = |limit: &LimitBy| Bound { tier: limit.tier, by: SetBy::Rule(Arc::clone(&limit.rule)) };
        let by_request = |tier: Tier| Bound { tier, by: SetBy::Request };
        bounds.raise(hits.firm.tier_min.as_ref().map(by_rule));
        bounds.raise(prompt.preferences.tier_min.map(by_request));
        bounds.lower(hits.firm.tier_max.as_ref().map(by_rule));
        bounds.lower(prompt.preferences.tier_max.map(by_request));
        bounds.lower(cap.map(|cap| Bound { tier: cap.tier, by: SetBy::Budget(Arc::clone(&cap.why)) }));
        bounds.narrow_to_target(config, prompt);
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

    /// A caller who allows one target has chosen its tier; of several that list it, the weakest allowed.
    fn narrow_to_target(&mut self, config: &Config, prompt: &Prompt) {
        let [only] = &prompt.preferences.allow_targets[..] else { return };
        let Some(target) = config.target_named(&only.0) else { return };
        let mut tiers = (0..config.tiers.len()).map(Tier);
        if let Some(tier) =
            tiers.find(|&tier| self.allow(tier) && config.tier(tier).targets.contains(&target))
        {
            self.min = Bound { tier, by: SetBy::Request };
            self.max = self.min.clone();
            self.target = Some(target);
        }
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
        let Self { min, max, .. } = self;
        if tier < min.tier {
            return Some(format!("its tier is below {}, set by {}", config.tier(min.tier).name, min.by));
        }
        (tier > max.tier).then(|| match &max.by {
            SetBy::Budget(_) => self.at_most(config),
            SetBy::Nobody | SetBy::Rule(_) | SetBy::Request => {
                format!("its tier is above {}, set by {}", config.tier(max.tier).name, max.by)
            }
        })
    }

    /// Returns why what is wanted gives way, `None` when it is allowed.
    pub fn objection(&self, wanted: Tier, config: &Config) -> Option<String> {
        let bounded = self.clamp(wanted);
        if bounded > wanted {
            return Some(format!("{} allows at least {}", self.min.by, config.tier(bounded).name));
        }
        (bounded < wanted).then(|| self.at_most(config))
    }

    /// Returns the upper limit in words.
    pub fn at_most(&self, config: &Config) -> String {
        let name = &config.tier(self.max.tier).name;
        match &self.max.by {
            SetBy::Budget(why) => format!("{why}: at most tier {name}"),
            SetBy::Nobody | SetBy::Rule(_) | SetBy::Request => {
                format!("{} allows at most {name}", self.max.by)
            }
        }
    }

    /// Returns what decides where one tier is left: caller and budgets go before rules.
    pub fn source(&self) -> Source {
        let by = |wanted: fn(&SetBy) -> bool| wanted(&self.min.by) || wanted(&self.max.by);
        if by(|by| matches!(by, SetBy::Request | SetBy::Budget(_))) {
            Source::Override
        } else if by(|by| matches!(by, SetBy::Rule(_))) {
            Source::Rule
        } else {
            Source::Default
        }
    }
}
