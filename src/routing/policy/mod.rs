//! Rule hit or scores -> tier and targets. Pure and total: the same question, the same answer.
//!
//! The order of the steps: what is wanted (a rule's fix, an intent's examples, the scores, the default),
//! one tier up when the scores are unsure, the intent's limits unless a rule named the tier, the
//! session's floor unless a rule named the target, and last the hard limits of rules, request and budgets,
//! which nothing overrides. Then the nearest tier that still has a target: above the wanted one first, below
//! it otherwise. Within the tier the session's last target goes first, unless a rule or an intent names one, or
//! what was learned says that it does not do.

mod explore;
mod learned;
mod no_target;
mod scored;
mod wish;

use std::sync::Arc;

pub use self::{
    explore::{Exploration, Trial, explore},
    no_target::{Dropped, NoTarget, SpentBudget},
    scored::sufficiency,
    wish::judged_intent,
};
use self::{
    learned::{chance_of_order, prefer_sufficient, sufficiencies},
    wish::{IntentLimits, Wish, wish},
};
use super::{
    Rung,
    bounds::Bounds,
    classifier::Scores,
    cost::{TokenCount, estimate_usd, switch_usd},
    intents::Claim,
    language::Unread,
    rules::Hits,
    targets::{OpenTargets, OpenTier, nearest, open_targets},
};
use crate::{
    config::{Config, Fixes, IntentConfig, TargetIndex, TierLimits},
    prompt::{Intent, Preferences, Prompt, Source, Tier},
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
    /// Who answered the session last.
    pub session_last: Option<Last>,
    /// The targets that refuse calls at this moment: their breakers are open.
    pub refusing: &'a [TargetIndex],
    /// Orders the targets of tiers whose order is "weight".
    pub seed: u64,
    /// What was learned about each target at the prompt's intent, on the logit of its tier's sufficiency, by
    /// [`TargetIndex`]; empty when that is nothing.
    pub offsets: &'a [Option<f64>],
}

/// The target that answered a session last, and how long the conversation was then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    pub target: TargetIndex,
    pub prompt_tokens: u32,
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
    /// Stronger tiers that may answer when this one does not, weakest first.
    pub above: Vec<Rung>,
    pub source: Source,
    pub rule: Option<Arc<str>>,
    pub intent: Option<Intent>,
    pub intent_confidence: f64,
    pub confidence: f64,
    pub low_confidence: bool,
    /// Of each tier, by the target that would answer; empty without scores.
    pub sufficiency: Vec<f64>,
    /// Whether the tier follows from the scores, limited or not.
    pub by_scores: bool,
    /// The tier that the request itself needed, for the session's memory; `None` when unknown.
    pub needed: Option<Tier>,
    pub reason: String,
    pub cost_usd: f64,
    pub baseline_usd: f64,
    /// The session's last target, when that is not the chosen one.
    pub switched_from: Option<TargetIndex>,
    /// What leaving it costs, see [`switch_usd`].
    pub switch_cost_usd: f64,
    /// Probability with which the order of its tier put the chosen target first: below 1 where that is drawn.
    pub order_chance: f64,
}

/// Returns whether the scores could change the decision.
pub fn needs_scores(config: &Config, prompt: &Prompt, hits: &Hits) -> bool {
    let bounds = Bounds::of(config, prompt, hits);
    if bounds.target.is_some() {
        return false;
    }
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
    decide_or_try(question, None)
}

/// Decides, but has the trial's target answer where that one is open.
pub fn decide_trial(question: &Question<'_>, trial: Trial) -> Result<Choice, NoTarget> {
    decide_or_try(question, Some(trial))
}

fn decide_or_try(question: &Question<'_>, trial: Option<Trial>) -> Result<Choice, NoTarget> {
    let Question { config, prompt, tokens, hits, .. } = question;
    let bounds = Bounds::of(config, prompt, hits);
    let mut open = open_targets(question, &bounds);
    prefer_sufficient(&mut open.tiers, question);
    let sufficiency = sufficiencies(&open.tiers, question);
    let mut wish = wish(question, &bounds, &open.tiers, &sufficiency);
    let intent_max = apply_intent_limits(&mut wish, config);
    let needed = wish.evident.then(|| bounds.clamp(wish.tier));
    let named = named_target(&mut wish, &open.tiers, config);
    let named = apply_session_floor(&mut wish, named, question, &bounds);
    let bounded = bounds.clamp(wish.tier);
    if let Some(objection) = bounds.objection(wish.tier, config) {
        wish.because(objection);
        if bounds.only().is_some() && bounds.source() == Source::Override {
            wish.overridden(question);
        }
    }

    let tier = named.map_or_else(|| nearest(&open.tiers, bounded), |named| Some(named.tier));
    let Some(tier) = tier else { return Err(no_target(question, open.dropped)) };
    let missed = (named.is_none() && tier != bounded).then_some(bounded);
    explain_tier(&mut wish, &open, tier, missed, config);
    let trial = trial.filter(|trial| open.tiers[trial.tier.0].targets.contains(&trial.target));
    let tier = trial.map_or(tier, |trial| trial.tier);

    let order_chance = if named.is_some() { 1.0 } else { chance_of_order(&open.tiers[tier.0], question) };
    let above = ladder_above(&mut open.tiers, tier, intent_max);
    let OpenTier { mut targets, session_moved, usual, .. } = open.tiers.swap_remove(tier.0);
    if let Some(first) = trial.map(|trial| trial.target).or(named.map(|named| named.target)) {
        targets.sort_by_key(|other| *other != first);
    }
    if trial.is_some() {
        wish.because("this one is tried to learn about it");
    } else if let Some(usual) = usual.filter(|usual| named.is_none() && *usual != targets[0]) {
        wish.because(format!("what was learned speaks against {}", config.target(usual).id));
    }
    let left = question.session_last.filter(|last| last.target != targets[0]);
    if session_moved && left.is_none() {
        wish.because(format!("the session stays with {}", config.target(targets[0]).id));
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
        switched_from: left.map(|left| left.target),
        // What was cut from the conversation since then is not read by anyone.
        switch_cost_usd: left.map_or(0.0, |left| switch_usd(first, left.prompt_tokens.min(tokens.tokens))),
        targets,
        above,
        source: wish.source,
        rule: wish.rule,
        intent: wish.intent,
        intent_confidence: wish.intent_confidence,
        confidence: wish.confidence,
        low_confidence: wish.low_confidence,
        sufficiency,
        by_scores: wish.by_scores,
        needed,
        order_chance,
    })
}

/// Takes the tiers that may answer when `tier` does not: stronger, with targets, and within what the intent
/// allows; limits of rules, request and budgets have left nothing else open.
fn ladder_above(open: &mut [OpenTier], tier: Tier, intent_max: Option<Tier>) -> Vec<Rung> {
    open.iter_mut()
        .filter(|open| open.tier > tier && intent_max.is_none_or(|max| open.tier <= max))
        .filter(|open| !open.targets.is_empty())
        .map(|open| Rung { tier: open.tier, targets: std::mem::take(&mut open.targets) })
        .collect()
}

/// Says why the tier is not the one that was `missed`, and which breakers had a part in it.
fn explain_tier(wish: &mut Wish, open: &OpenTargets, tier: Tier, missed: Option<Tier>, config: &Config) {
    if let Some(missed) = missed {
        wish.because(format!("no target of {} can take this request", config.tier(missed).name));
        explain_breakers(wish, &open.tiers[missed.0], config);
    }
    explain_breakers(wish, &open.tiers[tier.0], config);
    if open.breakers_ignored {
        wish.because("every target that could answer has an open breaker, so breakers do not count");
    }
}

fn explain_breakers(wish: &mut Wish, open: &OpenTier, config: &Config) {
    let ids: Vec<&str> = open.broken.iter().map(|&target| &*config.target(target).id.0).collect();
    match ids[..] {
        [] => {}
        [only] => wish.because(format!("the breaker of {only} is open")),
        _ => wish.because(format!("the breakers of {} are open", ids.join(", "))),
    }
}

/// Names the spent budget when that is what left nothing.
fn no_target(question: &Question<'_>, dropped: Vec<Dropped>) -> NoTarget {
    let Question { config, prompt, hits, .. } = question;
    let spent = prompt.tier_cap.as_ref().filter(|_| {
        let bounds = Bounds::without_budgets(config, prompt, hits);
        open_targets(question, &bounds).tiers.iter().any(|open| !open.targets.is_empty())
    });
    let spent = spent
        .map(|cap| SpentBudget { why: Arc::clone(&cap.why), tier: Arc::clone(&config.tier(cap.tier).name) });
    NoTarget { dropped: asked_for_first(question, dropped), spent }
}

/// Puts those that the caller asks for before those that it rules out itself: why it does not get the former is what it
/// does not know. Of a single target that it asks for, nothing else is told.
fn asked_for_first(question: &Question<'_>, mut dropped: Vec<Dropped>) -> Vec<Dropped> {
    let Preferences { allow_targets, deny_targets, tier_min, tier_max, .. } = &question.prompt.preferences;
    let is_asked_for = |dropped: &Dropped| {
        let tier = question.config.tier_named(&dropped.tier);
        (allow_targets.is_empty() || allow_targets.contains(&dropped.target))
            && !deny_targets.contains(&dropped.target)
            && tier.is_none_or(|tier| {
                tier_min.is_none_or(|low| tier >= low) && tier_max.is_none_or(|high| tier <= high)
            })
    };
    if allow_targets.len() == 1 && dropped.iter().any(is_asked_for) {
        dropped.retain(is_asked_for);
    }
    dropped.sort_by_key(|dropped| !is_asked_for(dropped));
    dropped
}

/// Returns the strongest tier that the intent allows.
fn apply_intent_limits(wish: &mut Wish, config: &Config) -> Option<Tier> {
    let intent = wish.intent.clone()?;
    let limits = intent_limits(Some(&intent), wish.intent_limits, config);
    let limited = limit(wish.tier, limits);
    if limited != wish.tier {
        wish.tier = limited;
        wish.because(format!("intent {intent} is limited to {}", config.tier(limited).name));
    }
    limits.tier_max
}

/// Returns those limits of the intent that apply.
fn intent_limits(intent: Option<&Intent>, which: IntentLimits, config: &Config) -> TierLimits {
    let Some(intent) = intent.and_then(|intent| config.intent_named(&intent.0)) else {
        return TierLimits::default();
    };
    match which {
        IntentLimits::Both => intent.limits,
        IntentLimits::MinimumOnly => TierLimits { tier_max: None, ..intent.limits },
        IntentLimits::Neither => TierLimits::default(),
    }
}

fn limit(tier: Tier, limits: TierLimits) -> Tier {
    let tier = limits.tier_min.map_or(tier, |low| tier.max(low));
    limits.tier_max.map_or(tier, |high| tier.min(high))
}

/// A target that a rule or an intent names and that can take the request, in the weakest tier where it
/// can.
#[derive(Debug, Clone, Copy)]
struct Named {
    target: TargetIndex,
    tier: Tier,
}

fn named_target(wish: &mut Wish, open: &[OpenTier], config: &Config) -> Option<Named> {
    let target = wish.target?;
    let found = open.iter().find(|open| open.targets.contains(&target));
    if found.is_none() {
        wish.because(format!("its target {} cannot take this request", config.target(target).id));
    }
    found.map(|open| Named { target, tier: open.tier })
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
