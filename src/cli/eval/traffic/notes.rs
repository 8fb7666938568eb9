//! What a reader of the figures must know about the log and the replay. Pure.

use std::{collections::BTreeMap, collections::BTreeSet, sync::Arc};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::{
    config::{Config, Objective},
    evaluation::{notes::listed, what_if::Before},
    traffic::{
        replay::{Row, gather::Counts, request::Peculiarities},
        store::Selection,
    },
};

/// Reasons and names told one by one; the rest is counted.
const TOLD_MAX: usize = 5;

/// Everything that notes are made from.
pub struct Findings<'a> {
    pub config: &'a Config,
    pub rows: &'a [Row],
    /// Of the requests that are compared.
    pub before: &'a [Before],
    pub counts: &'a Counts,
    pub peculiarities: &'a Peculiarities,
    pub undecided: &'a BTreeMap<String, usize>,
    pub quality_given: bool,
    /// The option that says how many records are replayed.
    pub sampled_by: &'a str,
    pub seed: u64,
}

/// Returns the notes, those on what was left out first.
pub fn notes(findings: &Findings<'_>) -> Vec<String> {
    let Findings { config, rows, before, counts, peculiarities, undecided, quality_given, sampled_by, seed } =
        findings;
    let Counts { read, without_text, passed_over, duplicates, .. } = **counts;
    let Peculiarities { redacted, cut, own_quality, fixed, fixed_unknown, explored, .. } = **peculiarities;
    let mut notes = Vec::new();
    let mut note = |count: u64, text: String| {
        if count > 0 {
            notes.push(text);
        }
    };
    note(
        without_text,
        format!("{without_text} of {read} records hold no text (policy hash or none): left out"),
    );
    note(
        passed_over,
        format!(
            "a sample: {passed_over} records were passed over, whole sessions as far as possible ({sampled_by}, seed {seed})"
        ),
    );
    note(duplicates, format!("{duplicates} records were in the export twice"));
    let refused = peculiarities.refused as u64;
    let why = peculiarities.refused_why.as_deref().unwrap_or_default();
    note(
        refused,
        format!("{refused} requests are refused by the configuration, the first for {why}: left out"),
    );
    for (why, requests) in undecided.iter().take(TOLD_MAX) {
        note(1, format!("{requests} requests get no decision: {why}"));
    }
    let untold: usize = undecided.values().skip(TOLD_MAX).sum();
    note(untold as u64, format!("{untold} more requests get no decision, for other reasons"));
    note(
        redacted as u64,
        format!("{} redacted: the router sees the placeholders", texts(redacted, "is", "are")),
    );
    note(
        cut as u64,
        format!("{} cut by the log: the router sees less than it did", texts(cut, "was", "were")),
    );
    let quality = own_quality as u64 * u64::from(*quality_given);
    note(quality, format!("{own_quality} requests asked for a quality of their own and keep it"));
    note(fixed as u64, format!("{fixed} requests, or their budgets, had fixed their tier and keep it"));
    note(
        fixed_unknown as u64,
        format!("of these, {fixed_unknown} had a tier that the configuration lacks: they are decided anew"),
    );
    note(explored as u64, format!("{explored} requests had been explored"));
    let bare = peculiarities.without_propensity as u64;
    note(bare, format!("{bare} records lack a propensity: nothing off-policy can be said of them"));
    notes.extend(unknown_names(config, before));
    notes.extend(estimated_and_paid(rows));
    if config.policy.objective == Objective::Value && *quality_given {
        notes.push("the objective is value: --quality changes nothing".to_owned());
    }
    if !config.classifier.enabled {
        notes.push("the classifier is off: rules and the default tier decide".to_owned());
    }
    notes
}

/// Names of the log that the configuration lacks: nothing can be the same there.
fn unknown_names(config: &Config, before: &[Before]) -> Vec<String> {
    let told = |what: &str, names: BTreeSet<&Arc<str>>, requests: usize| {
        let more = names.len().saturating_sub(TOLD_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let names = listed(names.into_iter().take(TOLD_MAX).map(|name| &**name));
        format!("the configuration has no {what} {names}{more}, which {requests} logged requests went to")
    };
    let tier = |before: &&Before| config.tier_named(&before.choice.tier).is_none();
    let target = |before: &&Before| config.target_named(&before.choice.target).is_none();
    let tiers: BTreeSet<&Arc<str>> = before.iter().filter(tier).map(|before| &before.choice.tier).collect();
    let targets: BTreeSet<&Arc<str>> =
        before.iter().filter(target).map(|before| &before.choice.target).collect();
    let mut notes = Vec::new();
    if !tiers.is_empty() {
        notes.push(told("tier", tiers, before.iter().filter(tier).count()));
    }
    if !targets.is_empty() {
        notes.push(told("target", targets, before.iter().filter(target).count()));
    }
    notes
}

/// How far the expected costs were from those that were paid.
fn estimated_and_paid(rows: &[Row]) -> Option<String> {
    let paid: Vec<&Row> = rows.iter().filter(|row| row.cost_usd > 0.0).collect();
    let (expected, cost) = paid
        .iter()
        .fold((0.0, 0.0), |(expected, cost), row| (expected + row.cost_usd_estimate, cost + row.cost_usd));
    (!paid.is_empty() && expected > 0.0).then(|| {
        format!(
            "{} logged answers cost ${cost:.4}, and were expected to cost ${expected:.4}: read expected costs with that \
             in mind",
            paid.len()
        )
    })
}

/// Says why there is nothing to replay, and what to do.
pub fn nothing(source: &str, selection: &Selection, counts: &Counts) -> String {
    if counts.read > 0 {
        return format!(
            "none of the {} records of {source} holds a text: there is nothing to decide about. Set traffic.text to \
             \"redacted\" or \"full\", and replay what is logged from then on",
            counts.read
        );
    }
    let Selection { from_ms, until_ms, tenant } = selection;
    let parts = [
        from_ms.map(|at| format!(" since {}", moment(at))),
        until_ms.map(|at| format!(" before {}", moment(at))),
        tenant.as_ref().map(|tenant| format!(" of tenant {tenant:?}")),
    ];
    let asked: String = parts.into_iter().flatten().collect();
    let others = match counts.outside {
        0 => String::new(),
        others => format!("; it holds {others} others"),
    };
    format!("{source} holds no record{asked}{others}")
}

/// Returns the first and the last moment of rows, which are not empty and oldest first.
pub fn range(rows: &[Row]) -> (String, String) {
    let at = |row: Option<&Row>| moment(row.map_or(0, Row::at_ms));
    (at(rows.first()), at(rows.last()))
}

fn moment(at_ms: i64) -> String {
    let moment = DateTime::<Utc>::from_timestamp_millis(at_ms).unwrap_or_default();
    moment.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Returns a count of texts with its verb.
fn texts(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 text {one}") } else { format!("{count} texts {many}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_says_what_was_asked() {
        let check = |selection: Selection, read: u64, outside: u64, expected: &str| {
            let counts = Counts { read, outside, without_text: read, ..Counts::default() };
            let said = nothing("a.sqlite", &selection, &counts);
            assert!(said.starts_with(expected), "{said}");
        };
        check(Selection::default(), 0, 0, "a.sqlite holds no record");
        check(Selection::default(), 7, 0, "none of the 7 records of a.sqlite holds a text");
        let tenant = Some("a".to_owned());
        check(
            Selection { from_ms: Some(0), until_ms: Some(1000), tenant },
            0,
            3,
            "a.sqlite holds no record since 1970-01-01T00:00:00Z before 1970-01-01T00:00:01Z of tenant \"a\"; it holds 3 others",
        );
    }
}
