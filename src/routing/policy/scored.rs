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
pub struct Reading<'a> {
    pub scores: &'a Scores,
    pub levels: &'a [usize],
    pub unread: Option<Unread>,
    /// Whether the intent comes from a rule or from examples: then it does not matter how well the
    /// bundle's own intents fit.
    pub intent_given: bool,
}

impl Reading<'_> {
    /// The last tier is always enough.
    fn sufficiency(&self, tier: Tier) -> f64 {
        sufficiency(self.scores, self.levels, tier)
    }

    /// Returns the weakest tier whose sufficiency reaches `quality`.
    fn weakest_enough(&self, quality: f64) -> Tier {
        (0..self.levels.len())
            .map(Tier)
            .find(|&tier| self.sufficiency(tier) >= quality)
            .unwrap_or(Tier(self.levels.len() - 1))
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
        let margin = self.sufficiency(self.weakest_enough(quality)) - quality;
        margin < self.scores.level_margin_min * room
    }
}

/// Returns the probability that `tier` is enough; 1 for the last tier.
pub fn sufficiency(scores: &Scores, levels: &[usize], tier: Tier) -> f64 {
    if tier.0 + 1 == levels.len() { 1.0 } else { scores.sufficiency[levels[tier.0]] }
}

/// Sets the tier that the scores ask for.
pub fn wish_by_scores(wish: &mut Wish, question: &Question<'_>, reading: &Reading<'_>, open: &[OpenTier]) {
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
    let quality = match config.policy.objective {
        Objective::Threshold => prompt.preferences.quality.unwrap_or(config.policy.quality),
        Objective::Value => FITTED_QUALITY,
    };
    match config.policy.objective {
        Objective::Threshold => {
            wish.tier = reading.weakest_enough(quality);
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
                .filter(|open| !open.targets.is_empty())
                .map(|open| (open.tier, worth(open.tier, &open.targets)))
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
    wish.low_confidence = reading.is_unsure(quality);
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
