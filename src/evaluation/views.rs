//! What plots and tables show beside the figures: confusion, reliability, cost and quality, languages.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Serialize;

use super::{
    Row, Values,
    bootstrap::{Interval, interval},
    figures::{Material, Measure},
    judge::Judged,
    metrics::{Bin, CalibrationError, CostQuality, Point, confusion},
    sample::Sample,
};

/// Names of models told in a note.
const NAMES_MAX: usize = 5;
/// Points of a curve that is shown; figures are made from all of them.
const CURVE_POINTS: usize = 201;

/// How often each label was given each class by the router.
#[derive(Debug, Clone, Serialize)]
pub struct Confusion {
    /// "tier" or "intent".
    pub of: &'static str,
    pub labels: Vec<Arc<str>>,
    /// Row: label; column: prediction.
    pub counts: Vec<Vec<u32>>,
}

/// Bins of a reliability diagram of the router.
#[derive(Debug, Clone, Serialize)]
pub struct Reliability {
    /// "intent" or "sufficiency of TIER".
    pub of: String,
    pub bins: Vec<Bin>,
}

/// Mean cost and mean score along each row's wanted quality.
#[derive(Debug, Clone, Serialize)]
pub struct CostCurves {
    pub rows: BTreeMap<Row, Vec<Point>>,
    pub single_tiers: Vec<SingleTier>,
    /// The router as it is configured.
    pub decided: Point,
}

/// Always the same tier.
#[derive(Debug, Clone, Serialize)]
pub struct SingleTier {
    pub tier: Arc<str>,
    #[serde(flatten)]
    pub point: Point,
}

/// The router's figures on the samples of one language.
#[derive(Debug, Clone, Serialize)]
pub struct Language {
    pub language: Arc<str>,
    pub samples: usize,
    pub metrics: BTreeMap<String, LanguageFigure>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct LanguageFigure {
    pub value: f64,
    pub interval: Option<Interval>,
}

/// Returns the confusions that the labels allow, of tiers first.
pub fn confusions(material: &Material<'_>, router: &[Judged]) -> Vec<Confusion> {
    let pairs = || material.samples.iter().zip(router);
    let tiers: Vec<(usize, usize)> =
        pairs().filter_map(|(sample, judged)| Some((sample.tier?.0, judged.tier))).collect();
    let intents: Vec<(usize, usize)> = pairs()
        .filter_map(|(sample, judged)| {
            Some((material.class(sample.intent.as_ref()?)?, material.class(judged.intent.as_ref()?)?))
        })
        .collect();
    let view = |of: &'static str, pairs: &[(usize, usize)], labels: &[Arc<str>]| {
        let counts = confusion(pairs.iter().copied(), labels.len());
        (!pairs.is_empty()).then(|| Confusion { of, labels: labels.to_vec(), counts })
    };
    [view("tier", &tiers, material.tiers), view("intent", &intents, &material.classes)]
        .into_iter()
        .flatten()
        .collect()
}

/// Returns the reliability of each sufficiency against tier labels, and of the intent's confidence.
pub fn reliabilities(material: &Material<'_>, router: &[Judged]) -> Vec<Reliability> {
    let levels = material.sufficiency_pairs(Row::Router, router);
    let names = material.tiers.iter().map(|tier| format!("sufficiency of {tier}"));
    let intents: Vec<Option<(f64, bool)>> = material
        .samples
        .iter()
        .zip(router)
        .map(|(sample, judged)| {
            Some((judged.intent_confidence?, sample.intent.as_ref()? == judged.intent.as_ref()?))
        })
        .collect();
    names
        .zip(levels)
        .chain([("intent".to_owned(), intents)])
        .map(|(of, pairs)| Reliability { of, bins: CalibrationError::new(pairs.into_iter()).bins() })
        .filter(|reliability| !reliability.bins.is_empty())
        .collect()
}

/// Returns the curves of all rows; `None` without outcomes of two tiers.
pub fn cost_curves(material: &Material<'_>, rows: &[(Row, Vec<Judged>)]) -> Option<CostCurves> {
    let weights = vec![1; material.samples.len()];
    let of_row = |judged: &[Judged]| CostQuality::aiq(&material.answers_by(judged));
    let answers: Vec<_> = material.answers_by(&rows.first()?.1).into_iter().flatten().collect();
    if answers.is_empty() {
        return None;
    }
    let mean = |values: &dyn Fn(&(f64, f64)) -> f64| {
        answers.iter().map(|answer| values(&answer.by_tier[answer.chosen])).sum::<f64>()
            / answers.len() as f64
    };
    let singles = of_row(&rows[0].1).single_tiers(&weights);
    Some(CostCurves {
        rows: rows.iter().map(|(row, judged)| (*row, thinned(&of_row(judged).curve(&weights)))).collect(),
        single_tiers: material
            .answering
            .iter()
            .zip(singles)
            .map(|(&tier, point)| SingleTier { tier: Arc::clone(&material.tiers[tier]), point })
            .collect(),
        decided: Point { cost_usd: mean(&|(_, cost)| *cost), score: mean(&|(score, _)| *score) },
    })
}

/// Returns evenly chosen points, both ends among them.
fn thinned(curve: &[Point]) -> Vec<Point> {
    let shown = curve.len().min(CURVE_POINTS);
    (0..shown).map(|at| curve[at * (curve.len() - 1) / (shown - 1).max(1)]).collect()
}

/// Returns which samples are of each language, by name.
pub fn languages(samples: &[Sample]) -> Vec<(Arc<str>, Vec<bool>)> {
    let names: BTreeSet<Arc<str>> = samples.iter().filter_map(|sample| sample.language.clone()).collect();
    let speaks =
        |name: &Arc<str>| samples.iter().map(|sample| sample.language.as_ref() == Some(name)).collect();
    names.into_iter().map(|name| (Arc::clone(&name), speaks(&name))).collect()
}

/// Whether a figure stands in the table of languages.
pub fn is_told_by_language(metric: &str) -> bool {
    let (family, name) = metric.split_once('.').unwrap_or((metric, ""));
    match family {
        "tier" => true,
        "intent" => name != "ece",
        _ => false,
    }
}

/// Returns the router's figures by language, most samples first.
pub(super) fn language_table(
    languages: &[(Arc<str>, Vec<bool>)],
    measures: &[Measure],
    values: &Values,
    resamples: &[Values],
) -> Vec<Language> {
    let figure = |language: usize, at: usize| {
        Some(LanguageFigure {
            value: values.languages[language][at]?,
            interval: interval(resamples.iter().map(|values| values.languages[language][at])),
        })
    };
    let mut table: Vec<Language> = languages
        .iter()
        .enumerate()
        .map(|(place, (language, speaks))| Language {
            language: Arc::clone(language),
            samples: speaks.iter().filter(|speaks| **speaks).count(),
            metrics: measures
                .iter()
                .enumerate()
                .filter_map(|(at, measure)| Some((measure.name.clone(), figure(place, at)?)))
                .collect(),
        })
        .collect();
    table.sort_by_key(|language| std::cmp::Reverse(language.samples));
    table
}

/// Returns what a reader of the figures must know.
pub(super) fn notes(material: &Material<'_>) -> Vec<String> {
    let Material { samples, answering, tiers, .. } = material;
    let mut notes = Vec::new();
    let foreign = samples.iter().filter(|sample| sample.foreign_outcomes).count();
    if foreign > 0 {
        notes.push(format!("`outcomes` is no object on {foreign} lines and was left alone there"));
    }
    let unplaced: BTreeSet<&str> =
        samples.iter().flat_map(|sample| sample.unplaced.iter().map(String::as_str)).collect();
    if !unplaced.is_empty() {
        let shown: Vec<&str> = unplaced.iter().copied().take(NAMES_MAX).collect();
        let more = unplaced.len().saturating_sub(NAMES_MAX);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        notes.push(format!(
            "outcomes of models that belong to no tier were left alone: {}{rest}; --models NAME=TIER places them",
            shown.join(", ")
        ));
    }
    if let [.., _, top] = answering[..] {
        let answered = |sample: &&Sample| answering.iter().all(|&tier| sample.outcomes[tier].is_some());
        let complete: Vec<&Sample> = samples.iter().filter(answered).collect();
        let names: Vec<&str> = answering.iter().map(|&tier| &*tiers[tier]).collect();
        notes.push(format!(
            "outcomes of {} on {} of {} lines; {} is the top tier of the cost figures",
            names.join(", "),
            complete.len(),
            samples.len(),
            tiers[top]
        ));
        let outcomes = complete.len() * answering.len();
        let estimated = complete
            .iter()
            .flat_map(|sample| answering.iter().filter_map(|&tier| sample.outcomes[tier]))
            .filter(|outcome| outcome.cost_usd.is_none())
            .count();
        if estimated > 0 {
            notes.push(format!(
                "{estimated} of {outcomes} costs were not measured: they are estimated from the configuration's \
                 prices of each tier's first target"
            ));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thinned_curve_keeps_its_ends() {
        for length in [0, 1, 2, 200, 5000] {
            let point = |at: u32| Point { cost_usd: f64::from(at), score: 0.0 };
            let curve: Vec<Point> = (0..length).map(point).collect();
            let shown = thinned(&curve);
            assert!(
                shown.len() <= CURVE_POINTS && shown.first() == curve.first() && shown.last() == curve.last()
            );
        }
    }
}
