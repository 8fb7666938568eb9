//! What is wanted before limits: by a rule, by an intent's examples, by the only tier left, by scores,
//! or by default; and why.

use std::sync::Arc;

use super::{
    Evidence, Question, chooses,
    scored::{Reading, wish_by_scores},
};
use crate::{
    config::{Config, TargetIndex},
    prompt::{Intent, Source, Tier},
    routing::{
        bounds::{Bounds, SetBy},
        rules::Hits,
        targets::OpenTier,
    },
};

/// What is wanted, before limits, and why.
pub struct Wish {
    pub tier: Tier,
    pub target: Option<TargetIndex>,
    pub source: Source,
    pub rule: Option<Arc<str>>,
    pub intent: Option<Intent>,
    pub intent_limits: IntentLimits,
    pub intent_confidence: f64,
    pub confidence: f64,
    pub low_confidence: bool,
    /// Whether the tier follows from the request itself and not from a default.
    pub evident: bool,
    /// Whether it follows from the scores.
    pub by_scores: bool,
    pub why: Vec<String>,
}

/// Which limits of the intent apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntentLimits {
    Both,
    /// The intent is read from a text that the classifier does not read well: it may ask for more, not
    /// take back what was added for that.
    MinimumOnly,
    /// A rule, the request or limits named the tier themselves.
    Neither,
}

impl Wish {
    pub fn because(&mut self, why: impl Into<String>) {
        self.why.push(why.into());
    }

    /// Notes that the request itself or a budget decided; a rule stays named for the intent it fixed.
    pub fn overridden(&mut self, question: &Question<'_>) {
        self.source = Source::Override;
        self.confidence = 1.0;
        let fixes_intent = question.hits.deciding.as_ref().is_some_and(|hit| hit.fixes.intent.is_some());
        self.rule = self.rule.take().filter(|_| fixes_intent);
    }
}

/// Returns the prompt's intent and its confidence: as a rule fixes it, else as its examples claim it, else as the
/// classifier reads it.
pub fn judged_intent(hits: &Hits, evidence: Evidence<'_>) -> Option<(Intent, f64)> {
    if let Some(intent) = hits.deciding.as_ref().and_then(|hit| hit.fixes.intent.as_ref()) {
        return Some((Intent(Arc::clone(intent)), 1.0));
    }
    match evidence {
        Evidence::Scores { claim: Some(claim), .. } => Some((claim.intent.clone(), claim.confidence)),
        Evidence::Scores { scores, claim: None, .. } => {
            Some((scores.intent.clone(), scores.intent_confidence))
        }
        Evidence::NotAsked | Evidence::None { .. } => None,
    }
}

/// Returns what is wanted; `sufficiency` is that of each tier.
pub fn wish(question: &Question<'_>, bounds: &Bounds, open: &[OpenTier], sufficiency: &[f64]) -> Wish {
    let Question { config, hits, .. } = question;
    let mut wish = Wish {
        tier: config.policy.default_tier,
        target: None,
        source: Source::Default,
        rule: None,
        intent: None,
        intent_limits: IntentLimits::Both,
        intent_confidence: 0.0,
        confidence: 0.0,
        low_confidence: false,
        evident: false,
        by_scores: false,
        why: Vec::new(),
    };
    if let Some((intent, confidence)) = judged_intent(hits, question.evidence) {
        wish.intent = Some(intent);
        wish.intent_confidence = confidence;
    }
    let fixes = hits.deciding.as_ref().map(|hit| (&hit.rule, &hit.fixes));
    if let Some((rule, _)) = fixes {
        wish.rule = Some(Arc::clone(rule));
    }
    if let Some(target) = bounds.target {
        wish_by_target(&mut wish, target, question, bounds);
        return wish;
    }
    if let Some((rule, fixes)) = fixes {
        let fixed_tier = fixes.tier.or_else(|| fixes.target.and_then(|target| config.tier_of(target)));
        let intent = fixes.intent.as_ref().and_then(|intent| config.intent_named(intent));
        if let Some(tier) = fixed_tier.or_else(|| intent?.only_tier()) {
            wish.tier = tier;
            wish.target = fixes.target.or_else(|| intent.filter(|_| fixed_tier.is_none())?.target);
            if fixed_tier.is_some() {
                wish.intent_limits = IntentLimits::Neither;
            }
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
        Evidence::Scores { cached, .. } => {
            if let Some((reading, limits)) = read(question, sufficiency) {
                wish.intent_limits = limits;
                wish_by_scores(&mut wish, question, &reading, open);
                wish.source = by_scores(cached);
            }
        }
        Evidence::None { why } => wish.because(format!("{why}, which means the default tier")),
        Evidence::NotAsked => wish.because("nothing scored the request"),
    }
    wish
}

/// Returns how the scores are read, and which limits of the intent hold for what they ask for; `None` without
/// scores.
pub fn read<'a>(question: &Question<'a>, sufficiency: &'a [f64]) -> Option<(Reading<'a>, IntentLimits)> {
    let Evidence::Scores { scores, claim, unread, .. } = question.evidence else { return None };
    let by_rule = question.hits.deciding.as_ref().is_some_and(|hit| hit.fixes.intent.is_some());
    let limits = if unread.is_some() && !by_rule { IntentLimits::MinimumOnly } else { IntentLimits::Both };
    let intent_given = by_rule || claim.is_some();
    Some((Reading { scores, unread, intent_given, sufficiency }, limits))
}

/// The request names the one target that may answer: who else was wanted does not matter.
fn wish_by_target(wish: &mut Wish, target: TargetIndex, question: &Question<'_>, bounds: &Bounds) {
    wish.overridden(question);
    wish.tier = bounds.max.tier;
    wish.intent_limits = IntentLimits::Neither;
    wish.because(format!("{} is the only target that the request allows", question.config.target(target).id));
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
    wish.intent_limits = IntentLimits::Neither;
    wish.confidence = 1.0;
    let setters = [&bounds.min.by, &bounds.max.by];
    let rule = setters.into_iter().find_map(|by| match by {
        SetBy::Rule(rule) => Some(rule),
        SetBy::Nobody | SetBy::Request | SetBy::Budget(_) => None,
    });
    wish.source = bounds.source();
    if wish.source == Source::Rule {
        wish.rule = wish.rule.take().or_else(|| rule.cloned());
    }
    // What a rule asks for at least, the session has needed.
    wish.evident = matches!(bounds.min.by, SetBy::Rule(_));
    if let SetBy::Budget(_) = bounds.max.by {
        wish.because(bounds.at_most(config));
    }
    match bounds.only() {
        Some(tier) => wish.because(format!("{} is the only tier allowed", config.tier(tier).name)),
        None => wish.because("the limits contradict each other"),
    }
}
