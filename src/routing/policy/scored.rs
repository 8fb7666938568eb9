//! Scores -> the tier that is wanted: by threshold or by value, one up when they are unsure.

use super::{Evidence, Question, wish::Wish};
use crate::{
    config::{LowConfidence, Objective, TargetIndex},
    prompt::Tier,
    routing::{classifier::Scores, cost::estimate_usd, language::Unread, targets::OpenTier},
};

/// The wanted quality at which bundles fit their margin.
const FITTED_QUALITY: f64 = 0.5;

/// Scores as seen through the operator's tiers.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    pub scores: &'a Scores,
    pub unread: Option<Unread>,
    /// Whether the intent comes from a rule or from examples: then it does not matter how well the
    /// bundle's own intents fit.
    pub intent_given: bool,
    /// Of each tier, with what was learned about the target that would answer. Without that it never falls and
    /// ends in 1.
    pub sufficiency: &'a [f64],
}

/// What the scores ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// By the objective alone.
    pub by_objective: Tier,
    /// After one step up, if there was one.
    pub tier: Tier,
    pub unsure: bool,
}

impl Reading<'_> {
    /// Returns the weakest tier whose sufficiency reaches `quality`; where what was learned leaves none, the weakest
    /// of those that come nearest.
    fn weakest_enough(&self, quality: f64) -> Tier {
        let enough = self.sufficiency.iter().position(|&enough| enough >= quality);
        Tier(enough.unwrap_or_else(|| {
            (1..self.sufficiency.len())
                .fold(0, |best, at| if self.sufficiency[at] > self.sufficiency[best] { at } else { best })
        }))
    }

    fn is_unsure(&self, quality: f64) -> bool {
        let Self { scores, unread, intent_given, .. } = self;
        self.is_just_enough(quality) || (scores.intent_unsure && !intent_given) || unread.is_some()
    }

    /// Returns whether the weakest tier that is enough is only just so.
    ///
    /// Measured from the quality that is wanted: one step up for a stricter wish has already answered a
    /// doubt about the tier below. The margin shrinks with the room that the wish leaves above and below
    /// it, or at 0.95 nothing but the last tier could ever be sure.
    fn is_just_enough(&self, quality: f64) -> bool {
        let room = quality.min(1.0 - quality) / FITTED_QUALITY;
        let margin = self.sufficiency[self.weakest_enough(quality).0] - quality;
        margin < self.scores.level_margin_min * room
    }

    /// Returns whether the next tier is there, and not worse than this one by what was learned.
    fn may_step_up(&self, tier: Tier) -> bool {
        self.sufficiency.get(tier.0 + 1).is_some_and(|&above| above >= self.sufficiency[tier.0])
    }
}

/// Returns the probability that `tier` is enough; 1 for the last tier.
pub fn sufficiency(scores: &Scores, levels: &[usize], tier: Tier) -> f64 {
    if tier.0 + 1 == levels.len() { 1.0 } else { scores.sufficiency[levels[tier.0]] }
}

/// Returns the sufficiency that a target should reach.
pub fn wanted_quality(question: &Question<'_>) -> f64 {
    let Question { config, prompt, .. } = question;
    match config.policy.objective {
        Objective::Threshold => prompt.preferences.quality.unwrap_or(config.policy.quality),
        Objective::Value => FITTED_QUALITY,
    }
}

/// Returns what the scores ask for; `firsts` are the targets that would answer, tier by tier.
pub fn ask(
    question: &Question<'_>,
    reading: &Reading<'_>,
    firsts: impl Iterator<Item = Option<TargetIndex>>,
) -> Asked {
    let config = question.config;
    let quality = wanted_quality(question);
    let by_objective = match config.policy.objective {
        Objective::Threshold => reading.weakest_enough(quality),
        Objective::Value => worth_most(question, reading, firsts).unwrap_or(config.policy.default_tier),
    };
    let unsure = reading.is_unsure(quality);
    let steps_up = unsure && config.policy.low_confidence == LowConfidence::OneTierUp;
    let tier =
        if steps_up && reading.may_step_up(by_objective) { Tier(by_objective.0 + 1) } else { by_objective };
    Asked { by_objective, tier, unsure }
}

/// Returns the tier whose answer is worth most after its cost; the cheaper one wins a tie.
fn worth_most(
    question: &Question<'_>,
    reading: &Reading<'_>,
    firsts: impl Iterator<Item = Option<TargetIndex>>,
) -> Option<Tier> {
    let Question { config, prompt, tokens, .. } = question;
    let mut best: Option<(Tier, f64)> = None;
    for (at, first) in firsts.enumerate() {
        let Some(first) = first else { continue };
        let cost = estimate_usd(config.target(first), prompt, tokens.tokens);
        let value = reading.sufficiency[at] * config.policy.value_usd - cost;
        if best.is_none_or(|(_, most)| value > most) {
            best = Some((Tier(at), value));
        }
    }
    best.map(|(tier, _)| tier)
}

/// Sets the tier that the scores ask for.
pub fn wish_by_scores(wish: &mut Wish, question: &Question<'_>, reading: &Reading<'_>, open: &[OpenTier]) {
    let config = question.config;
    let name = |tier: Tier| &config.tier(tier).name;
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let kind = match (question.evidence, &wish.intent) {
        (Evidence::Scores { claim: Some(claim), .. }, Some(intent)) if *intent == claim.intent => {
            format!("{claim}; ")
        }
        (_, Some(intent)) => format!("looks like {intent}; "),
        (_, None) => String::new(),
    };
    let asked = ask(question, reading, open.iter().map(|open| open.targets.first().copied()));
    let tier = asked.by_objective;
    let (quality, enough) = (wanted_quality(question), reading.sufficiency[tier.0]);
    wish.because(match config.policy.objective {
        Objective::Threshold if enough >= quality => format!(
            "{kind}{} is the weakest tier that is enough with at least {} ({})",
            name(tier),
            percent(quality),
            percent(enough)
        ),
        Objective::Threshold => format!(
            "{kind}no tier is enough with at least {}, and {} comes nearest ({})",
            percent(quality),
            name(tier),
            percent(enough)
        ),
        Objective::Value => format!("{kind}{} is worth most after its cost", name(tier)),
    });
    if let Some(usual) = without_learning(question, reading, open).filter(|usual| *usual != tier) {
        wish.because(format!("without what was learned it would be {}", name(usual)));
    }
    wish.tier = asked.tier;
    wish.evident = true;
    wish.by_scores = true;
    wish.confidence = reading.scores.level_confidence;
    wish.low_confidence = asked.unsure;
    let mut unsure = "but the classifier is unsure".to_owned();
    if let Some(unread) = reading.unread {
        unsure = format!("but it is written in {}, which the classifier does not read well", unread.name);
    }
    if asked.tier != tier {
        wish.because(format!("{unsure}: one tier up to {}", name(asked.tier)));
    } else if reading.unread.is_some() {
        wish.because(unsure);
    }
}

/// Returns what the objective alone would ask for had nothing been learned; `None` where nothing was.
fn without_learning(question: &Question<'_>, reading: &Reading<'_>, open: &[OpenTier]) -> Option<Tier> {
    let Evidence::Scores { scores, levels, .. } = question.evidence else { return None };
    if question.offsets.is_empty() {
        return None;
    }
    let base: Vec<f64> = (0..levels.len()).map(|at| sufficiency(scores, levels, Tier(at))).collect();
    let usual = Reading { sufficiency: &base, ..*reading };
    Some(ask(question, &usual, open.iter().map(|open| open.usual)).by_objective)
}
