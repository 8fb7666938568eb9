//! `pointsman bundle diff --shadow`: what was decided, and what a bundle said of the same requests while it was the shadow.
//!
//! Loads no bundle and needs no text: both decisions stand in the log.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    super::eval::traffic::notes,
    CliError,
    diff::{BundleName, FORMAT, INSTEAD, Log, Outcome, SEED, few},
    runtime,
};
use crate::{
    config::Config,
    evaluation::{
        notes::listed,
        off_policy::WEIGHT_MAX,
        what_if::{Setting, pair::pair_with_log},
    },
    traffic::replay::{
        Row,
        gather::{Counts, Needs},
        shadow::Shadowed,
    },
};

/// Compares the log with the scores that it keeps of `version`.
pub fn outcome(version: &str, log: &Log, limit: u64, config: &Config) -> Result<Outcome, CliError> {
    let (rows, counts) = log.rows(&runtime()?, Needs::ShadowOf(version.to_owned()), limit)?;
    if rows.is_empty() {
        return Err(CliError::Nothing(nothing(version, log, &counts)));
    }
    let tiers: Vec<Arc<str>> = config.tiers.iter().map(|tier| Arc::clone(&tier.name)).collect();
    let Shadowed { before, intents, after, explored, unknown_tier } = Shadowed::of(&rows, &tiers);
    let compared = before.len() - explored;
    if compared == 0 {
        return Err(CliError::Nothing(format!(
            "none of the {} requests that {version} scored can be compared: {explored} were explored, and of \
             {unknown_tier} the configuration lacks the tier that it chose",
            rows.len()
        )));
    }
    let setting = Setting { name: format!("B {version}"), quality: config.policy.quality, after };
    let notes = few(compared).into_iter().chain(notes(version, &counts, explored, unknown_tier)).collect();
    Ok(Outcome {
        format: FORMAT,
        pointsman: env!("CARGO_PKG_VERSION"),
        source: log.source.name(),
        range: notes::range(&rows),
        a: BundleName {
            side: "A",
            typed: "the log".to_owned(),
            name: "as decided".into(),
            version: versions(&rows).into(),
        },
        b: BundleName {
            side: "B",
            typed: "what it said then".to_owned(),
            name: "shadow".into(),
            version: version.into(),
        },
        notes,
        pair: pair_with_log(&before, &intents, &setting, &tiers, WEIGHT_MAX),
    })
}

fn notes(version: &str, counts: &Counts, explored: usize, unknown_tier: usize) -> Vec<String> {
    let Counts { read, without_shadow, passed_over, duplicates, .. } = *counts;
    let told = [
        (without_shadow, format!("{without_shadow} of {read} records have no scores of {version}: left out")),
        (
            passed_over,
            format!(
                "a sample: {passed_over} records were passed over, whole sessions as far as possible (--limit, seed \
                 {SEED})"
            ),
        ),
        (duplicates, format!("{duplicates} records were in the export twice")),
        (
            explored as u64,
            format!(
                "{explored} requests had been explored: they stand in the figures beside the log, and are left out where \
                 A and B are compared"
            ),
        ),
        (
            unknown_tier as u64,
            format!(
                "of {unknown_tier} requests the configuration lacks the tier that {version} chose: left out"
            ),
        ),
    ];
    told.into_iter().filter(|(count, _)| *count > 0).map(|(_, text)| text).collect()
}

/// Says why there is nothing to compare, and what to do.
fn nothing(version: &str, log: &Log, counts: &Counts) -> String {
    if counts.read == 0 {
        return format!("{}; {INSTEAD}", notes::nothing(&log.source.name(), &log.selection, counts));
    }
    let others: Vec<String> =
        counts.other_shadows.iter().map(|(other, scores)| format!("{other} ({scores})")).collect();
    let others = match &others[..] {
        [] => "nor of any other bundle".to_owned(),
        others => format!("but of {}", others.join(", ")),
    };
    format!(
        "none of the {} records of {} has scores of {version}, {others}: `pointsman bundle shadow {version}` has it \
         score a share of the requests from then on (rollout.shadow_sample)",
        counts.read,
        log.source.name()
    )
}

/// Returns the versions that decided.
fn versions(rows: &[Row]) -> String {
    let versions: BTreeSet<&str> = rows.iter().filter_map(|row| row.bundle_version.as_deref()).collect();
    if versions.is_empty() { "without a bundle".to_owned() } else { listed(versions.into_iter()) }
}
