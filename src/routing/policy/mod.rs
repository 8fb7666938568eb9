//! Rule hit or scores -> tier and targets. Pure and total: the same question, the same answer.
//!
//! The order of the steps: what is wanted (a rule's fix, an intent's examples, the scores, the default),
//! one tier up when the scores are unsure, the intent's limits unless a rule named the tier, the
//! session's floor unless a rule named the target, and last the hard limits of rules and request, which
//! nothing overrides. Then the nearest tier that still has a target: above the wanted one first, below
//! it otherwise.

mod no_target;
mod scored;
mod wish;

use std::sync::Arc;

use self::wish::{IntentLimits, Wish, wish};
pub use self::{
    no_target::{Dropped, NoTarget},
    scored::sufficiency,
};
use super::{
    bounds::Bounds,
    classifier::Scores,
    cost::{TokenCount, estimate_usd},
    intents::Claim,
    language::Unread,
    rules::Hits,
    targets::{nearest, open_targets},
};
use crate::{
    config::{Config, Fixes, IntentConfig, TargetIndex},
    prompt::{Intent, Prompt, Source, Tier},
};

/// Everything that a decision depends on.
pub struct Question<'a> {
    pub config: &'a Config,
    pub prompt: &'a Prompt,
    pub tokens: TokenCount,
    pub hits: &'a Hits,
    pub evidence: Evidence<'a>,
    /// The tier that the session has needed.
    pub session_floor: Option<Tier>,
    /// Orders the targets of tiers whose order is "weight".
    pub seed: u64,
}

/// What is known of the prompt beside rules and limits.
#[derive(Debug, Clone, Copy)]
pub enum Evidence<'a> {
    /// Rules or limits had left nothing to ask.
    NotAsked,
    Scores {
        scores: &'a Scores,
        /// Level of each tier, as a place in `scores.sufficiency`; never falls.
        levels: &'a [usize],
        /// Whether they were kept from an earlier request.
        cached: bool,
        /// The operator's intent whose examples the prompt is like.
        claim: Option<&'a Claim>,
        /// The prompt's language, when the classifier does not read it well.
        unread: Option<Unread>,
    },
    /// The classifier was asked and did not answer, or there is none.
    None { why: &'a str },
}

/// The chosen tier and its targets.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    pub tier: Tier,
    /// The chosen one, then those that take over; never empty.
    pub targets: Vec<TargetIndex>,
    pub source: Source,
    pub rule: Option<Arc<str>>,
    pub intent: Option<Intent>,
    pub intent_confidence: f64,
    pub confidence: f64,
    pub low_confidence: bool,
    /// The tier that the request itself needed, for the session's memory; `None` when unknown.
    pub needed: Option<Tier>,
    pub reason: String,
    pub cost_usd: f64,
    pub baseline_usd: f64,
}

/// Returns whether the scores could change the decision.
pub fn needs_scores(config: &Config, prompt: &Prompt, hits: &Hits) -> bool {
    let bounds = Bounds::of(config, prompt, hits);
    match hits.deciding.as_ref().map(|hit| &hit.fixes) {
        Some(fixes) if fixes.tier.is_some() || fixes.target.is_some() => false,
        Some(Fixes { intent: Some(intent), .. }) => {
            let fixed = config.intent_named(intent).and_then(IntentConfig::only_tier);
            bounds.are_open() && fixed.is_none()
        }
        // The only tier may still leave a choice of targets.
        Some(_) | None => {
            bounds.are_open() || config.intents.iter().any(|intent| chooses(intent, &bounds, config))
        }
    }
}

/// Returns whether the intent names a target of an allowed tier that has others.
fn chooses(intent: &IntentConfig, bounds: &Bounds, config: &Config) -> bool {
    intent.target.is_some_and(|target| {
        (0..config.tiers.len()).map(Tier).filter(|&tier| bounds.allow(tier)).any(|tier| {
            let targets = &config.tier(tier).targets;
            targets.len() > 1 && targets.contains(&target)
        })
    })
}

/// Decides, or says why nothing can answer.
pub fn decide(question: &Question<'_>) -> Result<Choice, NoTarget> {
    let Question { config, prompt, tokens, hits, .. } = question;
    let bounds = Bounds::of(config, prompt, hits);
    let (open, dropped) = open_targets(question, &bounds);
    let mut wish = wish(question, &bounds, &open);
    apply_intent_limits(&mut wish, config);
    let needed = wish.evident.then(|| bounds.clamp(wish.tier));
    let named = named_target(&mut wish, &open, config);
    let named = apply_session_floor(&mut wish, named, question, &bounds);
    let bounded = bounds.clamp(wish.tier);
    if bounded != wish.tier {
        let (bound, word) =
            if bounded < wish.tier { (&bounds.max, "at most") } else { (&bounds.min, "at least") };
        wish.because(format!("{} allows {word} {}", bound.by, config.tier(bounded).name));
    }

    let tier = named.map_or_else(|| nearest(&open, bounded), |named| Some(named.tier));
    let Some(tier) = tier else { return Err(NoTarget { dropped }) };
    if named.is_none() && tier != bounded {
        wish.because(format!("no target of {} can take this request", config.tier(bounded).name));
    }

    let mut targets =
        open.into_iter().find(|(at, _)| *at == tier).map_or_else(Vec::new, |(_, targets)| targets);
    if let Some(named) = named {
        targets.sort_by_key(|other| *other != named.target);
    }
    let first = config.target(targets[0]);
    let baseline = config.target(config.tier(config.top_tier()).targets[0]);
    Ok(Choice {
        tier,
        reason: format!(
            "{}, so {} of tier {} answers",
            wish.why.join("; "),
            first.id,
            config.tier(tier).name
        ),
        cost_usd: estimate_usd(first, prompt, tokens.tokens),
        baseline_usd: estimate_usd(baseline, prompt, tokens.tokens),
        targets,
        source: wish.source,
        rule: wish.rule,
        intent: wish.intent,
        intent_confidence: wish.intent_confidence,
        confidence: wish.confidence,
        low_confidence: wish.low_confidence,
        needed,
    })
}

fn apply_intent_limits(wish: &mut Wish, config: &Config) {
    let Some(intent) = wish.intent.clone() else { return };
    let Some(IntentConfig { limits, .. }) = config.intent_named(&intent.0) else { return };
    let (tier_min, tier_max) = match wish.intent_limits {
        IntentLimits::Both => (limits.tier_min, limits.tier_max),
        IntentLimits::MinimumOnly => (limits.tier_min, None),
        IntentLimits::Neither => return,
    };
    let limited = tier_min.map_or(wish.tier, |low| wish.tier.max(low));
    let limited = tier_max.map_or(limited, |high| limited.min(high));
    if limited != wish.tier {
        wish.tier = limited;
        wish.because(format!("intent {intent} is limited to {}", config.tier(limited).name));
    }
}

/// A target that a rule or an intent names and that can take the request, in the weakest tier where it
/// can.
#[derive(Debug, Clone, Copy)]
struct Named {
    target: TargetIndex,
    tier: Tier,
}

fn named_target(wish: &mut Wish, open: &[(Tier, Vec<TargetIndex>)], config: &Config) -> Option<Named> {
    let target = wish.target?;
    let found = open.iter().find(|(_, targets)| targets.contains(&target));
    if found.is_none() {
        wish.because(format!("its target {} cannot take this request", config.target(target).id));
    }
    found.map(|(tier, _)| Named { target, tier: *tier })
}

/// Raises what is wanted to what the session has needed; a named target below that is given up.
fn apply_session_floor(
    wish: &mut Wish,
    named: Option<Named>,
    question: &Question<'_>,
    bounds: &Bounds,
) -> Option<Named> {
    // A rule that names a target means that target.
    if named.is_some() && wish.source == Source::Rule {
        return named;
    }
    let tier = named.map_or(wish.tier, |named| named.tier);
    match question.session_floor.map(|floor| bounds.clamp(floor)) {
        Some(floor) if tier < floor => {
            wish.tier = floor;
            wish.source = Source::Session;
            wish.because(format!("the session has needed {}", question.config.tier(floor).name));
            None
        }
        Some(_) | None => named,
    }
}

#[cfg(test)]
mod tests;
