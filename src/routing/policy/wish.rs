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

/// Returns what is wanted.
pub fn wish(question: &Question<'_>, bounds: &Bounds, open: &[OpenTier]) -> Wish {
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
        Evidence::Scores { scores, levels, cached, claim, unread } => {
            let by_rule = fixes.is_some_and(|(_, fixes)| fixes.intent.is_some());
            if unread.is_some() && !by_rule {
                wish.intent_limits = IntentLimits::MinimumOnly;
            }
            let reading = Reading { scores, levels, unread, intent_given: by_rule || claim.is_some() };
            wish_by_scores(&mut wish, question, &reading, open);
            wish.source = by_scores(cached);
        }
        Evidence::None { why } => wish.because(format!("{why}, which means the default tier")),
        Evidence::NotAsked => wish.because("nothing scored the request"),
    }
    wish
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
