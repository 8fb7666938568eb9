//! Rule hit or scores -> tier and targets. Pure and total: the same question, the same answer.
//!
//! The order of the steps: what is wanted (a rule's fix, the scores, the default), one tier up when
//! the scores are unsure, the intent's limits, the session's floor, and last the hard limits of
//! rules and request, which nothing overrides. Then the nearest tier that still has a target: above
//! the wanted one first, below it otherwise.

use std::{fmt, sync::Arc};

use super::{
    bounds::{Bounds, SetBy},
    classifier::Scores,
    cost::{TokenCount, estimate_usd},
    intents::Claim,
    language::Unread,
    rules::Hits,
    targets::{nearest, open_targets},
};
use crate::{
    config::{Config, Fixes, IntentConfig, LowConfidence, Objective, TargetIndex},
    prompt::{Intent, Prompt, Source, TargetId, Tier},
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

/// No target is left, and why each dropped out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoTarget {
    pub dropped: Vec<Dropped>,
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

/// Returns whether the intent names a target of a tier that is allowed.
fn chooses(intent: &IntentConfig, bounds: &Bounds, config: &Config) -> bool {
    intent.target.is_some_and(|target| {
        let tiers = (0..config.tiers.len()).map(Tier);
        tiers.filter(|&tier| config.tier(tier).targets.contains(&target)).any(|tier| bounds.allow(tier))
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
    apply_session_floor(&mut wish, question, &bounds);
    let bounded = bounds.clamp(wish.tier);
    if bounded != wish.tier {
        let (bound, word) =
            if bounded < wish.tier { (&bounds.max, "at most") } else { (&bounds.min, "at least") };
        wish.because(format!("{} allows {word} {}", bound.by, config.tier(bounded).name));
    }

    let fixed = wish.target.filter(|target| open.iter().any(|(_, targets)| targets.contains(target)));
    let tier = match fixed {
        Some(target) => open.iter().find(|(_, targets)| targets.contains(&target)).map(|(tier, _)| *tier),
        None => nearest(&open, bounded),
    };
    let Some(tier) = tier else { return Err(NoTarget { dropped }) };
    if let (Some(target), None) = (wish.target, fixed) {
        wish.because(format!("its target {} cannot take this request", config.target(target).id));
    } else if fixed.is_none() && tier != bounded {
        wish.because(format!("no target of {} can take this request", config.tier(bounded).name));
    }

    let mut targets =
        open.into_iter().find(|(at, _)| *at == tier).map_or_else(Vec::new, |(_, targets)| targets);
    if let Some(target) = fixed {
        targets.sort_by_key(|other| *other != target);
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

/// What is wanted, before limits, and why.
struct Wish {
    tier: Tier,
    target: Option<TargetIndex>,
    source: Source,
    rule: Option<Arc<str>>,
    intent: Option<Intent>,
    intent_confidence: f64,
    confidence: f64,
    low_confidence: bool,
    /// Whether the tier follows from the request itself and not from a default.
    evident: bool,
    why: Vec<String>,
}

impl Wish {
    fn because(&mut self, why: String) {
        self.why.push(why);
    }
}

fn wish(question: &Question<'_>, bounds: &Bounds, open: &[(Tier, Vec<TargetIndex>)]) -> Wish {
    let Question { config, hits, .. } = question;
    let mut wish = Wish {
        tier: config.policy.default_tier,
        target: None,
        source: Source::Default,
        rule: None,
        intent: None,
        intent_confidence: 0.0,
        confidence: 0.0,
        low_confidence: false,
        evident: false,
        why: Vec::new(),
    };
    if let Evidence::Scores { scores, claim, .. } = question.evidence {
        let (intent, confidence) = match claim {
            Some(claim) => (&claim.intent, claim.confidence),
            None => (&scores.intent, scores.intent_confidence),
        };
        wish.intent = Some(intent.clone());
        wish.intent_confidence = confidence;
    }
    let fixes = hits.deciding.as_ref().map(|hit| (&hit.rule, &hit.fixes));
    if let Some((rule, fixes)) = fixes {
        wish.rule = Some(Arc::clone(rule));
        if let Some(intent) = &fixes.intent {
            wish.intent = Some(Intent(Arc::clone(intent)));
            wish.intent_confidence = 1.0;
        }
        let fixed_tier = fixes.tier.or_else(|| fixes.target.and_then(|target| config.tier_of(target)));
        let intent = fixes.intent.as_ref().and_then(|intent| config.intent_named(intent));
        if let Some(tier) = fixed_tier.or_else(|| intent?.only_tier()) {
            wish.tier = tier;
            wish.target = fixes.target.or_else(|| intent.filter(|_| fixed_tier.is_none())?.target);
            wish.source = Source::Rule;
            wish.confidence = 1.0;
            wish.evident = true;
            wish.because(format!("rule {rule} matched"));
            return wish;
        }
        wish.because(format!("rule {rule} fixed the intent"));
    } else if wish_by_claim(&mut wish, question, bounds) {
        return wish;
    }
    if !bounds.are_open() {
        wish_by_bounds(&mut wish, bounds, config);
        return wish;
    }
    match question.evidence {
        Evidence::Scores { scores, levels, cached, unread, .. } => {
            wish_by_scores(&mut wish, question, &Reading { scores, levels, unread }, open);
            wish.source = by_scores(cached);
        }
        Evidence::None { why } => wish.because(format!("{why}, which means the default tier")),
        Evidence::NotAsked => wish.because("nothing scored the request".to_owned()),
    }
    wish
}

/// An intent by example that fixes a tier or a target decides; returns whether one did.
fn wish_by_claim(wish: &mut Wish, question: &Question<'_>, bounds: &Bounds) -> bool {
    let config = question.config;
    let Evidence::Scores { claim: Some(claim), cached, .. } = question.evidence else { return false };
    let Some(intent) = config.intent_named(&claim.intent.0) else { return false };
    let Some(tier) = intent.only_tier() else { return false };
    if !bounds.are_open() && !chooses(intent, bounds, config) {
        return false;
    }
    wish.tier = tier;
    wish.target = intent.target;
    wish.source = by_scores(cached);
    wish.confidence = claim.confidence;
    wish.evident = true;
    wish.because(claim.to_string());
    true
}

fn by_scores(cached: bool) -> Source {
    if cached { Source::Cache } else { Source::Classifier }
}

/// The limits have left one tier, or none: who set them decides.
fn wish_by_bounds(wish: &mut Wish, bounds: &Bounds, config: &Config) {
    wish.tier = bounds.max.tier;
    wish.confidence = 1.0;
    let setters = [&bounds.min.by, &bounds.max.by];
    let rule = setters.into_iter().find_map(|by| match by {
        SetBy::Rule(rule) => Some(rule),
        SetBy::Nobody | SetBy::Request => None,
    });
    wish.source = match rule {
        _ if setters.contains(&&SetBy::Request) => Source::Override,
        Some(_) => Source::Rule,
        None => Source::Default,
    };
    if wish.source == Source::Rule {
        wish.rule = wish.rule.take().or_else(|| rule.cloned());
    }
    // What a rule asks for at least, the session has needed.
    wish.evident = matches!(bounds.min.by, SetBy::Rule(_));
    match bounds.only() {
        Some(tier) => wish.because(format!("{} is the only tier allowed", config.tier(tier).name)),
        None => wish.because("the limits contradict each other".to_owned()),
    }
}

/// Scores as seen through the operator's tiers.
struct Reading<'a> {
    scores: &'a Scores,
    levels: &'a [usize],
    unread: Option<Unread>,
}

impl Reading<'_> {
    /// The last tier is always enough.
    fn sufficiency(&self, tier: Tier) -> f64 {
        sufficiency(self.scores, self.levels, tier)
    }
}

/// Returns the probability that `tier` is enough; 1 for the last tier.
pub fn sufficiency(scores: &Scores, levels: &[usize], tier: Tier) -> f64 {
    if tier.0 + 1 == levels.len() { 1.0 } else { scores.sufficiency[levels[tier.0]] }
}

fn wish_by_scores(
    wish: &mut Wish,
    question: &Question<'_>,
    reading: &Reading<'_>,
    open: &[(Tier, Vec<TargetIndex>)],
) {
    let Question { config, prompt, tokens, .. } = question;
    let name = |tier: Tier| &config.tier(tier).name;
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let kind = match (question.evidence, &wish.intent) {
        (Evidence::Scores { claim: Some(claim), .. }, Some(intent)) if *intent == claim.intent => {
            format!("{claim}; ")
        }
        (_, Some(intent)) => format!("looks like {intent}; "),
        (_, None) => String::new(),
    };
    match config.policy.objective {
        Objective::Threshold => {
            let quality = prompt.preferences.quality.unwrap_or(config.policy.quality);
            wish.tier = (0..config.tiers.len())
                .map(Tier)
                .find(|&tier| reading.sufficiency(tier) >= quality)
                .unwrap_or(config.top_tier());
            let enough = percent(reading.sufficiency(wish.tier));
            wish.because(format!(
                "{kind}{} is the weakest tier that is enough with at least {} ({enough})",
                name(wish.tier),
                percent(quality)
            ));
        }
        Objective::Value => {
            let worth = |tier: Tier, targets: &[TargetIndex]| {
                let cost = estimate_usd(config.target(targets[0]), prompt, tokens.tokens);
                reading.sufficiency(tier) * config.policy.value_usd - cost
            };
            let best = open
                .iter()
                .filter(|(_, targets)| !targets.is_empty())
                .map(|(tier, targets)| (*tier, worth(*tier, targets)))
                // The cheaper tier wins a tie.
                .fold(None, |best: Option<(Tier, f64)>, (tier, value)| match best {
                    Some((_, most)) if most >= value => best,
                    _ => Some((tier, value)),
                });
            wish.tier = best.map_or(config.policy.default_tier, |(tier, _)| tier);
            wish.because(format!("{kind}{} is worth most after its cost", name(wish.tier)));
        }
    }
    wish.evident = true;
    wish.confidence = reading.scores.level_confidence;
    wish.low_confidence = reading.scores.unsure || reading.unread.is_some();
    let mut unsure = "but the classifier is unsure".to_owned();
    if let Some(unread) = reading.unread {
        unsure = format!("but it is written in {}, which the classifier does not read well", unread.name);
    }
    if wish.low_confidence
        && config.policy.low_confidence == LowConfidence::OneTierUp
        && wish.tier < config.top_tier()
    {
        wish.tier = Tier(wish.tier.0 + 1);
        wish.because(format!("{unsure}: one tier up to {}", name(wish.tier)));
    } else if reading.unread.is_some() {
        wish.because(unsure);
    }
}

fn apply_intent_limits(wish: &mut Wish, config: &Config) {
    let Some(intent) = wish.intent.clone() else { return };
    let Some(IntentConfig { limits, .. }) = config.intent_named(&intent.0) else { return };
    let limited = limits.tier_min.map_or(wish.tier, |low| wish.tier.max(low));
    let limited = limits.tier_max.map_or(limited, |high| limited.min(high));
    if limited != wish.tier {
        wish.tier = limited;
        wish.because(format!("intent {intent} is limited to {}", config.tier(limited).name));
    }
}

fn apply_session_floor(wish: &mut Wish, question: &Question<'_>, bounds: &Bounds) {
    // A rule that names a target means that target.
    if wish.target.is_some() {
        return;
    }
    if let Some(floor) = question.session_floor.map(|floor| bounds.clamp(floor))
        && wish.tier < floor
    {
        wish.tier = floor;
        wish.source = Source::Session;
        wish.because(format!("the session has needed {}", question.config.tier(floor).name));
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
