//! Which target to try in order to learn about it: Thompson sampling within the policy's limits, and the exact
//! probability of what is chosen.
//!
//! Of each target's offset [`DRAWS`] draws are taken from what is known of it, and for each the policy says who
//! would answer. A share `rate` of the requests takes one of these at random, the others the best by present
//! knowledge. Limits of rules, requests, budgets, intents and sessions, features and breakers hold in every draw.
//! Conversations that somebody has answered are left alone: they do not hop between models for the sake of learning.

use super::{
    Bounds, Choice, Evidence, Question, intent_limits,
    learned::{bar, chance_of_first, of_target},
    limit,
    scored::{Reading, ask, sufficiency, wanted_quality},
    wish::{judged_intent, read},
};
use crate::{
    config::{ExploreConfig, TargetIndex},
    prompt::Tier,
    routing::{
        learning::{DRAWS, Draws, Estimate},
        targets::{OpenTier, nearest, open_targets},
    },
};

/// What exploration depends on beside the question.
#[derive(Debug, Clone, Copy)]
pub struct Exploration<'a> {
    pub config: ExploreConfig,
    /// What is known of a target about which nothing was learned.
    pub prior: Estimate,
    /// By [`TargetIndex`], as [`Question::offsets`], which are their means.
    pub known: &'a [Option<Estimate>],
    pub seed: u64,
}

/// A target in the tier for which it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    pub tier: Tier,
    pub target: TargetIndex,
}

/// Returns whom to try, `None` for whom the policy chose, and the probability with which that was chosen.
pub fn explore(
    question: &Question<'_>,
    best: &Choice,
    exploration: &Exploration<'_>,
) -> (Option<Trial>, f64) {
    let ExploreConfig { rate, quality_min } = exploration.config;
    let open_to_trials = best.by_scores && question.session_last.is_none();
    let Some(picker) = open_to_trials.then(|| Picker::new(question)).flatten() else {
        return (None, best.order_chance);
    };
    let best = Trial { tier: best.tier, target: best.targets[0] };
    let mut draws = Draws::seeded(exploration.seed);
    let allowed =
        |pick: &Trial| of_target(picker.base[pick.tier.0], pick.target, question.offsets) >= quality_min;
    let drawn = picker.draw(&mut draws, exploration);
    let tries = draws.unit() < rate;
    let at = draws.below(DRAWS);
    let pick = |at: usize| picker.pick(&offsets_of(&drawn, at));
    let chosen = if tries { pick(at).filter(allowed).unwrap_or(best) } else { best };
    // Of the target, in whatever tier it answers: that is what the log and its readers compare. Where a tier's order is
    // drawn, over all of its orders.
    let of_best = picker.chance(best, chosen.target, question.offsets, |_| false, 0.0);
    let of_draw = |at: usize| {
        let offsets = offsets_of(&drawn, at);
        let Some(pick) = picker.pick(&offsets) else { return of_best };
        picker.chance(pick, chosen.target, &offsets, |pick| !allowed(pick), of_best)
    };
    let share = (0..DRAWS).map(of_draw).sum::<f64>() / DRAWS as f64;
    let propensity = rate * share + (1.0 - rate) * of_best;
    (Some(chosen).filter(|&chosen| chosen != best), propensity)
}

/// Returns one draw of all targets.
fn offsets_of(drawn: &[Option<[f64; DRAWS]>], at: usize) -> Vec<Option<f64>> {
    drawn.iter().map(|drawn| drawn.as_ref().map(|drawn| drawn[at])).collect()
}

/// The part of the policy on which what was learned has an influence, made ready to be run many times over.
pub(super) struct Picker<'a> {
    question: &'a Question<'a>,
    reading: Reading<'a>,
    quality: f64,
    /// Of each tier, before any offset.
    base: Vec<f64>,
    /// Of each tier, in the usual order.
    open: Vec<OpenTier>,
    /// Where each tier that the scores may ask for ends after limits; `None` where nothing is open.
    settled: Vec<Option<Tier>>,
}

impl<'a> Picker<'a> {
    /// Returns `None` where nothing scored the prompt.
    pub(super) fn new(question: &'a Question<'a>) -> Option<Self> {
        let Question { config, prompt, hits, evidence, session_floor, .. } = question;
        let (reading, limits) = read(question, &[])?;
        let Evidence::Scores { scores, levels, .. } = evidence else { return None };
        let bounds = Bounds::of(config, prompt, hits);
        let open = open_targets(question, &bounds).tiers;
        let intent = judged_intent(hits, *evidence).map(|(intent, _)| intent);
        let limits = intent_limits(intent.as_ref(), limits, config);
        let tiers = (0..levels.len()).map(Tier);
        let settle = |asked: Tier| {
            let limited = limit(asked, limits);
            let floor = session_floor.map(|floor| bounds.clamp(floor));
            nearest(&open, bounds.clamp(floor.map_or(limited, |floor| limited.max(floor))))
        };
        let settled = tiers.clone().map(settle).collect();
        let base = tiers.map(|tier| sufficiency(scores, levels, tier)).collect();
        Some(Self { question, reading, quality: wanted_quality(question), base, open, settled })
    }

    /// Draws the offsets of every target that is open.
    fn draw(&self, draws: &mut Draws, exploration: &Exploration<'_>) -> Vec<Option<[f64; DRAWS]>> {
        let targets = self.question.config.targets.len();
        let mut drawn: Vec<Option<[f64; DRAWS]>> = vec![None; targets];
        for &target in self.open.iter().flat_map(|open| &open.targets) {
            let known = exploration.known.get(target.0).copied().flatten().unwrap_or(exploration.prior);
            drawn[target.0].get_or_insert_with(|| draws.of(known));
        }
        drawn
    }

    /// Returns the probability that `target` answers where `pick` is who would: over all orders of its tier, were these
    /// the offsets. Whom `refuses` refuses gives way to another, who is `target` with the probability `instead`.
    fn chance(
        &self,
        pick: Trial,
        target: TargetIndex,
        offsets: &[Option<f64>],
        refuses: impl Fn(&Trial) -> bool,
        instead: f64,
    ) -> f64 {
        let tier = pick.tier;
        let (base, open) = (self.base[tier.0], &self.open[tier.0]);
        let bar = bar(base, &open.targets, offsets, self.quality);
        let may = |target: TargetIndex| of_target(base, target, offsets) >= bar;
        let of_one = |first: TargetIndex| {
            let answers = if refuses(&Trial { tier, target: first }) {
                instead
            } else {
                f64::from(u8::from(first == target))
            };
            if answers > 0.0 { answers * chance_of_first(first, open, self.question, may) } else { 0.0 }
        };
        open.targets.iter().copied().map(of_one).sum()
    }

    /// Returns who would answer, were these the offsets; the same as [`super::decide`] chooses where scores decide.
    pub(super) fn pick(&self, offsets: &[Option<f64>]) -> Option<Trial> {
        let tiers = self.base.iter().zip(&self.open);
        let (firsts, sufficiency): (Vec<_>, Vec<_>) = tiers
            .map(|(&base, open)| {
                let bar = bar(base, &open.targets, offsets, self.quality);
                let may = |target: &TargetIndex| of_target(base, *target, offsets) >= bar;
                let first = open.targets.iter().copied().find(may);
                (first, first.map_or(base, |first| of_target(base, first, offsets)))
            })
            .unzip();
        let reading = Reading { sufficiency: &sufficiency, ..self.reading };
        let asked = ask(self.question, &reading, firsts.iter().copied());
        let tier = self.settled[asked.tier.0]?;
        Some(Trial { tier, target: firsts[tier.0]? })
    }
}
