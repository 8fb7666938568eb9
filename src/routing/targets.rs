//! Which targets can take a request, and in which order. Pure.

use std::sync::Arc;

use super::{
    bounds::Bounds,
    chance::{GOLDEN_RATIO, fraction, mix},
    cost::{estimate_usd, expected_output_tokens},
    policy::{Dropped, Question},
};
use crate::{
    config::{Config, Order, TargetConfig, TargetIndex},
    prompt::Tier,
};

/// The targets that can take a request.
pub struct OpenTargets {
    /// Every tier, weakest first.
    pub tiers: Vec<OpenTier>,
    pub dropped: Vec<Dropped>,
    /// Whether every target that could take it has an open breaker; a probe is better than no decision.
    pub breakers_ignored: bool,
}

/// What of one tier can take a request.
pub struct OpenTier {
    pub tier: Tier,
    /// In the order in which they are tried; may be empty.
    pub targets: Vec<TargetIndex>,
    /// Left out for their breaker alone.
    pub broken: Vec<TargetIndex>,
    /// Whether the session's last target was moved to the front.
    pub session_moved: bool,
    /// Who came first before what was learned moved others ahead.
    pub usual: Option<TargetIndex>,
}

/// Returns the targets that can take the request, and why the others cannot.
pub fn open_targets(question: &Question<'_>, bounds: &Bounds) -> OpenTargets {
    let open = open_beside(question.refusing, question, bounds);
    let only_breakers = open.tiers.iter().all(|tier| tier.targets.is_empty())
        && open.tiers.iter().any(|tier| !tier.broken.is_empty());
    if only_breakers {
        return OpenTargets { breakers_ignored: true, ..open_beside(&[], question, bounds) };
    }
    open
}

/// Leaves out those that refuse calls.
fn open_beside(refusing: &[TargetIndex], question: &Question<'_>, bounds: &Bounds) -> OpenTargets {
    let config = question.config;
    let mut dropped = Vec::new();
    let mut open_tier = |at: usize| {
        let tier = &config.tiers[at];
        let outside = bounds.problem(Tier(at), config);
        let (mut targets, mut broken) = (Vec::new(), Vec::new());
        for &index in &tier.targets {
            let target = config.target(index);
            let why = outside.clone().or_else(|| why_not(question, target)).or_else(|| {
                let refuses = refusing.contains(&index);
                refuses.then(|| {
                    broken.push(index);
                    "its breaker is open".to_owned()
                })
            });
            match why {
                None => targets.push(index),
                Some(why) => {
                    let (tier, target) = (Arc::clone(&tier.name), target.id.clone());
                    dropped.push(Dropped { tier, target, why });
                }
            }
        }
        let session_moved = put_in_order(&mut targets, tier.order, question);
        let usual = targets.first().copied();
        OpenTier { tier: Tier(at), targets, broken, session_moved, usual }
    };
    let tiers = (0..config.tiers.len()).map(&mut open_tier).collect();
    OpenTargets { tiers, dropped, breakers_ignored: false }
}

/// Orders as the operator asks, the session's last target first; returns whether that one moved.
fn put_in_order(targets: &mut [TargetIndex], order: Order, question: &Question<'_>) -> bool {
    let Question { config, seed, .. } = question;
    match order {
        Order::Listed => {}
        Order::Latency => {
            targets.sort_by_key(|&index| config.target(index).latency_ms_typical.unwrap_or(u32::MAX));
        }
        Order::Weight => sort_by_weight(targets, config, *seed),
    }
    let Some(last) = question.session_last.map(|last| last.target) else { return false };
    let moves = targets.iter().position(|&target| target == last).is_some_and(|at| at > 0);
    if moves {
        targets.sort_by_key(|&target| target != last);
    }
    moves
}

/// Returns why this target cannot take the request, `None` when it can.
fn why_not(question: &Question<'_>, target: &TargetConfig) -> Option<String> {
    let Question { prompt, tokens, .. } = question;
    let wanted = &prompt.preferences;
    if !wanted.allow_targets.is_empty() && !wanted.allow_targets.contains(&target.id) {
        return Some("not in allow_targets".to_owned());
    }
    if wanted.deny_targets.contains(&target.id) {
        return Some("in deny_targets".to_owned());
    }
    let missing = prompt.shape.needs.missing_from(target.features);
    if !missing.is_empty() {
        return Some(format!("lacks {}", missing.join(", ")));
    }
    if let Some(asked) = prompt.shape.max_output_tokens.filter(|&asked| asked > target.output_tokens_max) {
        return Some(format!("answers at most {} tokens, {asked} are asked for", target.output_tokens_max));
    }
    let output = prompt.shape.max_output_tokens.unwrap_or_else(|| expected_output_tokens(target, prompt));
    let needed = u64::from(tokens.tokens) + u64::from(output);
    if needed > u64::from(target.context_tokens) {
        return Some(format!("context window of {} tokens, {needed} are needed", target.context_tokens));
    }
    let cost = estimate_usd(target, prompt, tokens.tokens);
    if let Some(most) = wanted.cost_usd_max.filter(|&most| cost > most) {
        return Some(format!("costs an estimated {}, at most {} is allowed", usd(cost), usd(most)));
    }
    let latency = target.latency_ms_typical?;
    let most = wanted.latency_ms_max.filter(|&most| latency > most)?;
    Some(format!("takes some {latency} ms, at most {most} ms are allowed"))
}

/// Returns an amount that shows at least one digit of what it is.
fn usd(amount: f64) -> String {
    /// Six digits would show less of it than that.
    const TINY_USD: f64 = 1e-5;
    if amount == 0.0 {
        "$0".to_owned()
    } else if amount < TINY_USD {
        format!("${amount:.1e}")
    } else {
        format!("${amount:.6}")
    }
}

/// Orders by chance in proportion to weight: keys u^(1/w), largest first (Efraimidis and Spirakis
/// 2006, "Weighted random sampling with a reservoir").
pub fn sort_by_weight(targets: &mut [TargetIndex], config: &Config, seed: u64) {
    let key = |index: TargetIndex| {
        let chance = fraction(mix(seed ^ (index.0 as u64).wrapping_mul(GOLDEN_RATIO)));
        chance.powf(1.0 / config.target(index).weight)
    };
    targets.sort_by(|&a, &b| key(b).total_cmp(&key(a)));
}

/// Returns the weakest tier at or above `wanted` with a target, else the strongest below it.
pub fn nearest(open: &[OpenTier], wanted: Tier) -> Option<Tier> {
    let mut filled = open.iter().filter(|open| !open.targets.is_empty()).map(|open| open.tier);
    let below_or_at: Vec<Tier> = filled.clone().take_while(|&tier| tier < wanted).collect();
    filled.find(|&tier| tier >= wanted).or(below_or_at.last().copied())
}
