//! What was learned about targets, as the policy uses it: who goes first within a tier, and how sufficient each
//! tier then is. Where nothing was learned, nothing here changes anything.

use super::{
    Evidence, Question,
    scored::{sufficiency, wanted_quality},
};
use crate::{
    config::{Order, TargetIndex},
    prompt::Tier,
    routing::{learning::shifted, targets::OpenTier},
};

/// Moves the targets that do for the wanted quality before those that do not, in every tier; otherwise the order
/// stays. Where none does, those that come nearest go first and stand for the tier.
pub fn prefer_sufficient(open: &mut [OpenTier], question: &Question<'_>) {
    let Evidence::Scores { scores, levels, .. } = question.evidence else { return };
    if question.offsets.is_empty() {
        return;
    }
    let quality = wanted_quality(question);
    for OpenTier { tier, targets, .. } in open {
        let base = sufficiency(scores, levels, *tier);
        let enough = |target: TargetIndex| of_target(base, target, question.offsets);
        if targets.iter().any(|&target| enough(target) >= quality) {
            targets.sort_by_key(|&target| enough(target) < quality);
        } else {
            targets.sort_by(|&one, &other| enough(other).total_cmp(&enough(one)));
        }
    }
}

/// Returns the sufficiency from which on a target of a tier may stand for it: the wanted quality where one reaches
/// that, else what the nearest reaches. The first in order of those that reach it does.
pub fn bar(base: f64, targets: &[TargetIndex], offsets: &[Option<f64>], quality: f64) -> f64 {
    let most = targets.iter().map(|&target| of_target(base, target, offsets)).fold(0.0, f64::max);
    most.min(quality)
}

/// Returns the probability with which a tier's order puts `first` before all others that may stand for the tier, which
/// `may` says: 1, but where the order is drawn by weight, its share of their weights.
pub fn chance_of_first(
    first: TargetIndex,
    open: &OpenTier,
    question: &Question<'_>,
    may: impl Fn(TargetIndex) -> bool,
) -> f64 {
    let config = question.config;
    let is_last = |target: TargetIndex| question.session_last.is_some_and(|last| last.target == target);
    let contenders = || open.targets.iter().copied().filter(|&target| may(target));
    match config.tier(open.tier).order {
        Order::Listed | Order::Latency => f64::from(u8::from(contenders().next() == Some(first))),
        // A session's last target goes first, whatever was drawn.
        Order::Weight if contenders().any(is_last) => f64::from(u8::from(is_last(first))),
        Order::Weight if !contenders().any(|target| target == first) => 0.0,
        Order::Weight => {
            let weight = |target: TargetIndex| config.target(target).weight;
            weight(first) / contenders().map(weight).sum::<f64>()
        }
    }
}

/// Returns the same of the target that the order has put first, by what was learned.
pub fn chance_of_order(open: &OpenTier, question: &Question<'_>) -> f64 {
    let Some(&first) = open.targets.first() else { return 1.0 };
    let base = match question.evidence {
        Evidence::Scores { scores, levels, .. } => sufficiency(scores, levels, open.tier),
        // Without scores nothing that was learned takes part: all are alike.
        Evidence::NotAsked | Evidence::None { .. } => {
            return chance_of_first(first, open, question, |_| true);
        }
    };
    let bar = bar(base, &open.targets, question.offsets, wanted_quality(question));
    chance_of_first(first, open, question, |target| of_target(base, target, question.offsets) >= bar)
}

/// Returns each tier's sufficiency, by the target that would answer; empty without scores.
pub fn sufficiencies(open: &[OpenTier], question: &Question<'_>) -> Vec<f64> {
    let Evidence::Scores { scores, levels, .. } = question.evidence else { return Vec::new() };
    (0..levels.len())
        .map(|at| {
            let base = sufficiency(scores, levels, Tier(at));
            let first = open[at].targets.first();
            first.map_or(base, |&first| of_target(base, first, question.offsets))
        })
        .collect()
}

/// Returns the probability that this target does, where its tier's sufficiency is `base`; exactly that when nothing
/// was learned about it.
pub fn of_target(base: f64, target: TargetIndex, offsets: &[Option<f64>]) -> f64 {
    match offsets.get(target.0) {
        Some(&Some(offset)) => shifted(base, offset),
        Some(None) | None => base,
    }
}
