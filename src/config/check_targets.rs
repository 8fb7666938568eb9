//! The targets and tiers of a [`File`](super::file::File): prices, limits, which target serves which tier.

use std::sync::Arc;

use super::{
    Order, TargetConfig, TierConfig,
    check::{TOKENS_MAX, name, target_named, unique, within},
    duplicates,
    file::{FeatureFile, TargetFile, TierFile},
    read::SourceText,
};
use crate::prompt::{Features, TargetId};

/// The most that a configuration may hold.
const TIERS_MAX: usize = 16;
const TARGETS_MAX: usize = 1000;
const OUTPUT_TOKENS_TYPICAL: u64 = 500;

/// Returns every target; what is wrong with them is noted in `source`.
pub fn check_targets(written: &[TargetFile], source: &mut SourceText<'_>) -> Vec<TargetConfig> {
    if written.is_empty() {
        source.problem("targets", "there is none: nothing could answer");
    }
    if written.len() > TARGETS_MAX {
        source.problem("targets", format!("{} targets, at most {TARGETS_MAX}", written.len()));
    }
    let targets: Vec<TargetConfig> =
        written.iter().enumerate().map(|(at, target)| check_target(at, target, source)).collect();
    unique(targets.iter().map(|target| &*target.id.0), |at| format!("targets[{at}].id"), source);
    targets
}

fn check_target(at: usize, written: &TargetFile, source: &mut SourceText<'_>) -> TargetConfig {
    let path = |key: &str| format!("targets[{at}].{key}");
    let mut price = |value: Option<f64>, key: &str| match value {
        Some(price) if price.is_finite() && price >= 0.0 => price,
        Some(price) => {
            source.problem(path(key), format!("{price} is not a price of at least 0"));
            0.0
        }
        None => {
            source.problem(path(key), "is missing: without a price no cost can be told");
            0.0
        }
    };
    let input_usd_per_mtok = price(written.input_usd_per_mtok, "input_usd_per_mtok");
    let output_usd_per_mtok = price(written.output_usd_per_mtok, "output_usd_per_mtok");
    match &written.price_date {
        Some(date) if is_date(date) => {}
        Some(date) => source.problem(path("price_date"), format!("{date:?} is not a day as YYYY-MM-DD")),
        None => source.problem(path("price_date"), "is missing: say when the prices were read"),
    }
    if written.context_tokens.is_none() {
        source.problem(path("context_tokens"), "is missing");
    }
    let context_tokens =
        within(written.context_tokens, TOKENS_MAX, 1..=TOKENS_MAX, &path("context_tokens"), source);
    let output_tokens_max = within(
        written.output_tokens_max,
        context_tokens,
        1..=context_tokens,
        &path("output_tokens_max"),
        source,
    );
    let output_tokens_typical = within(
        written.output_tokens_typical,
        OUTPUT_TOKENS_TYPICAL.min(output_tokens_max),
        1..=output_tokens_max,
        &path("output_tokens_typical"),
        source,
    );
    let latency_ms_typical = written
        .latency_ms_typical
        .map(|latency| within(Some(latency), 1, 1..=86_400_000, &path("latency_ms_typical"), source) as u32);
    let weight = written.weight.unwrap_or(1.0);
    if !weight.is_finite() || weight <= 0.0 {
        source.problem(path("weight"), format!("{weight} is not above 0"));
    }
    let has = |feature| written.features.contains(&feature);
    TargetConfig {
        id: TargetId(name(written.id.as_ref(), path("id"), source)),
        provider: name(written.provider.as_ref(), path("provider"), source),
        model: name(written.model.as_ref(), path("model"), source),
        input_usd_per_mtok,
        output_usd_per_mtok,
        price_date: written.price_date.clone().unwrap_or_default(),
        context_tokens: context_tokens as u32,
        output_tokens_max: output_tokens_max as u32,
        output_tokens_typical: output_tokens_typical as u32,
        latency_ms_typical,
        features: Features {
            tools: has(FeatureFile::Tools),
            vision: has(FeatureFile::Vision),
            json: has(FeatureFile::Json),
        },
        weight,
    }
}

/// Whether the text is a day of the calendar, YYYY-MM-DD.
fn is_date(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut number = |digits: usize| {
        parts.next().filter(|part| part.len() == digits).and_then(|part| part.parse::<u32>().ok())
    };
    let (year, month, day) = (number(4), number(2), number(2));
    let leap = year.is_some_and(|y| (y % 4 == 0 && y % 100 != 0) || y % 400 == 0);
    let days = match month {
        Some(1 | 3 | 5 | 7 | 8 | 10 | 12) => 31,
        Some(4 | 6 | 9 | 11) => 30,
        Some(2) if leap => 29,
        Some(2) => 28,
        _ => 0,
    };
    year.is_some() && day.is_some_and(|day| (1..=days).contains(&day)) && parts.next().is_none()
}

/// Returns every tier; what is wrong with them is noted in `source`.
pub fn check_tiers(
    written: &[TierFile],
    targets: &[TargetConfig],
    source: &mut SourceText<'_>,
) -> Vec<TierConfig> {
    if written.is_empty() {
        source.problem("tiers", "there is none: nothing could be chosen");
    }
    if written.len() > TIERS_MAX {
        source.problem("tiers", format!("{} tiers, at most {TIERS_MAX}", written.len()));
    }
    let tiers: Vec<TierConfig> = written
        .iter()
        .enumerate()
        .map(|(at, tier)| {
            let tier_name = name(tier.name.as_ref(), format!("tiers[{at}].name"), source);
            let ids = tier.targets.as_deref().unwrap_or_default();
            if ids.is_empty() {
                source.problem(format!("tiers[{at}].targets"), "is empty: the tier could not answer");
            }
            for twice in duplicates(ids.iter().map(String::as_str)) {
                source.problem(format!("tiers[{at}].targets[{twice}]"), "is listed twice");
            }
            TierConfig {
                level: tier.level.as_deref().map_or_else(|| tier_name.clone(), Arc::from),
                name: tier_name,
                targets: ids
                    .iter()
                    .enumerate()
                    .filter_map(|(index, id)| {
                        target_named(targets, id, format!("tiers[{at}].targets[{index}]"), source)
                    })
                    .collect(),
                order: tier.order.unwrap_or(Order::Listed),
            }
        })
        .collect();
    unique(tiers.iter().map(|tier| &*tier.name), |at| format!("tiers[{at}].name"), source);
    tiers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for good in ["2026-11-21", "2024-02-29", "2000-02-29"] {
            assert!(is_date(good), "{good}");
        }
        for bad in ["2026-13-01", "2026-02-29", "1900-02-29", "26-01-01", "2026-1-1", "2026-01-01-01", ""] {
            assert!(!is_date(bad), "{bad}");
        }
    }
}
