//! Which targets can take a request, and in which order. Pure.

use std::sync::Arc;

use super::{
    bounds::Bounds,
    cost::{estimate_usd, expected_output_tokens},
    policy::{Dropped, Question},
};
use crate::{
    config::{Config, Order, TargetConfig, TargetIndex},
    prompt::Tier,
};

/// Returns the targets that can take the request, by tier in their order, and those that cannot.
pub fn open_targets(
    question: &Question<'_>,
    bounds: &Bounds,
) -> (Vec<(Tier, Vec<TargetIndex>)>, Vec<Dropped>) {
    let Question { config, seed, .. } = question;
    let mut dropped = Vec::new();
    let open = config
        .tiers
        .iter()
        .enumerate()
        .map(|(at, tier)| {
            let outside = bounds.problem(Tier(at), config);
            let mut targets: Vec<TargetIndex> = tier
                .targets
                .iter()
                .copied()
                .filter(|&index| {
                    let target = config.target(index);
                    let why = outside.clone().or_else(|| why_not(question, target));
                    let keep = why.is_none();
                    if let Some(why) = why {
                        dropped.push(Dropped {
                            tier: Arc::clone(&tier.name),
                            target: target.id.clone(),
                            why,
                        });
                    }
                    keep
                })
                .collect();
            match tier.order {
                Order::Listed => {}
                Order::Latency => {
                    targets.sort_by_key(|&index| config.target(index).latency_ms_typical.unwrap_or(u32::MAX));
                }
                Order::Weight => sort_by_weight(&mut targets, config, *seed),
            }
            (Tier(at), targets)
        })
        .collect();
    (open, dropped)
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
        return Some(format!("costs an estimated ${cost:.6}, at most ${most:.6} is allowed"));
    }
    let latency = target.latency_ms_typical?;
    let most = wanted.latency_ms_max.filter(|&most| latency > most)?;
    Some(format!("takes some {latency} ms, at most {most} ms are allowed"))
}

/// Orders by chance in proportion to weight: keys u^(1/w), largest first (Efraimidis and Spirakis
/// 2006, "Weighted random sampling with a reservoir").
pub fn sort_by_weight(targets: &mut [TargetIndex], config: &Config, seed: u64) {
    let key = |index: TargetIndex| {
        let chance = (mix(seed ^ (index.0 as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 11) as f64
            / (1_u64 << 53) as f64;
        chance.powf(1.0 / config.target(index).weight)
    };
    targets.sort_by(|&a, &b| key(b).total_cmp(&key(a)));
}

/// SplitMix64's output function: neighbouring seeds give unrelated numbers.
pub fn mix(seed: u64) -> u64 {
    let z = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Returns the weakest tier at or above `wanted` with a target, else the strongest below it.
pub fn nearest(open: &[(Tier, Vec<TargetIndex>)], wanted: Tier) -> Option<Tier> {
    let mut filled = open.iter().filter(|(_, targets)| !targets.is_empty()).map(|(tier, _)| *tier);
    let below_or_at: Vec<Tier> = filled.clone().take_while(|&tier| tier < wanted).collect();
    filled.find(|&tier| tier >= wanted).or(below_or_at.last().copied())
}
