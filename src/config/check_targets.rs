//! The targets and tiers of a [`File`](super::file::File): prices, limits, which target serves which tier.

use std::{sync::Arc, time::Duration};

use super::{
    Order, TargetConfig, TierConfig, Timeouts,
    check::{TOKENS_MAX, name, target_named, unique, within},
    check_completion::check_timeouts,
    check_drop::check_drop,
    duplicates,
    file::{FeatureFile, TargetFile, TierFile},
    file_completion::TimeoutsFile,
    read::SourceText,
};
use crate::prompt::{Features, TargetId};

/// The most that a configuration may hold.
const TIERS_MAX: usize = 16;
const TARGETS_MAX: usize = 1000;
const OUTPUT_TOKENS_TYPICAL: u64 = 500;
/// A target is not given up before so many times what its answers usually take, unless the operator says so.
pub const USUAL_TIMES_MIN: u32 = 3;

/// Returns every target, without its provider; what is wrong with them is noted in `source`. A target waits as
/// long as `timeouts` say, as written and checked, where it has none of its own, and never longer than `deadline`.
pub fn check_targets(
    written: &[TargetFile],
    (timeouts_written, timeouts): (&TimeoutsFile, Timeouts),
    deadline: Duration,
    source: &mut SourceText<'_>,
) -> Vec<TargetConfig> {
    if written.is_empty() {
        source.problem("targets", "there is none: nothing could answer");
    }
    if written.len() > TARGETS_MAX {
        source.problem("targets", format!("{} targets, at most {TARGETS_MAX}", written.len()));
    }
    let targets: Vec<TargetConfig> = written
        .iter()
        .enumerate()
        .map(|(at, target)| {
            let prefix = format!("targets[{at}].timeouts");
            let config = check_target(at, target, source);
            let base = patient(timeouts, timeouts_written, config.latency_ms_typical);
            let timeouts = check_timeouts(&target.timeouts, base, deadline, &prefix, source);
            TargetConfig { timeouts, ..config }
        })
        .collect();
    unique(targets.iter().map(|target| &*target.id.0), |at| format!("targets[{at}].id"), source);
    targets
}

/// Returns the waits for a target that usually takes so long: those that nobody wrote are long enough for it.
fn patient(base: Timeouts, written: &TimeoutsFile, latency_ms_typical: Option<u32>) -> Timeouts {
    let least = Duration::from_millis(u64::from(latency_ms_typical.unwrap_or(0))) * USUAL_TIMES_MIN;
    let first_token =
        if written.first_token_ms.is_none() { base.first_token.max(least) } else { base.first_token };
    let total = if written.total_ms.is_none() { base.total.max(least) } else { base.total };
    Timeouts { first_token: first_token.min(total), total, ..base }
}

fn check_target(at: usize, written: &TargetFile, source: &mut SourceText<'_>) -> TargetConfig {
    let path = |key: &str| format!("targets[{at}].{key}");
    let prices = check_prices(at, written, source);
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
        provider_index: None,
        model: name(written.model.as_ref(), path("model"), source),
        input_usd_per_mtok: prices.input,
        cached_input_usd_per_mtok: prices.cached_input,
        cache_write_usd_per_mtok: prices.cache_write,
        output_usd_per_mtok: prices.output,
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
        drop: check_drop(&written.drop, &path("drop"), source),
        timeouts: Timeouts::default(),
    }
}

/// US dollars per million tokens.
struct Prices {
    input: f64,
    cached_input: f64,
    cache_write: f64,
    output: f64,
}

fn check_prices(at: usize, written: &TargetFile, source: &mut SourceText<'_>) -> Prices {
    let path = |key: &str| format!("targets[{at}].{key}");
    let mut price = |value: Option<f64>, key: &str| match value {
        Some(price) if price.is_finite() && price >= 0.0 => Some(price),
        Some(price) => {
            source.problem(path(key), format!("{price} is not a price of at least 0"));
            None
        }
        None => None,
    };
    let input = price(written.input_usd_per_mtok, "input_usd_per_mtok");
    let cached_input = price(written.cached_input_usd_per_mtok, "cached_input_usd_per_mtok");
    let cache_write = price(written.cache_write_usd_per_mtok, "cache_write_usd_per_mtok");
    let output = price(written.output_usd_per_mtok, "output_usd_per_mtok");
    for (value, key) in [
        (written.input_usd_per_mtok, "input_usd_per_mtok"),
        (written.output_usd_per_mtok, "output_usd_per_mtok"),
    ] {
        if value.is_none() {
            source.problem(path(key), "is missing: without a price no cost can be told");
        }
    }
    let input = input.unwrap_or_default();
    // No discount is assumed: an estimate that is too high misleads nobody into spending.
    Prices {
        input,
        cached_input: cached_input.unwrap_or(input),
        cache_write: cache_write.unwrap_or(input),
        output: output.unwrap_or_default(),
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
