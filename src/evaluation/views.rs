//! What plots and tables show beside the figures: reliability, cost and quality, languages.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Serialize;

use super::{
    Row,
    bootstrap::{Interval, interval},
    compare::Values,
    figures::{Material, Measures},
    judge::Judged,
    metrics::{Bin, CalibrationError, CostQuality, Point},
    sample::Sample,
};

/// Languages told one by one; each is measured on every resample.
pub const LANGUAGES_MAX: usize = 50;
/// Name of those that are left.
pub const OTHER: &str = "other";
/// Points of a curve that is shown; figures are made from all of them.
const CURVE_POINTS: usize = 201;

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

/// Some of the samples.
pub struct Group {
    pub name: Arc<str>,
    /// Whether each sample is one of them.
    pub members: Vec<bool>,
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
    /// Samples of the language that have what the figure needs.
    pub samples: usize,
    pub interval: Option<Interval>,
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
    let of_row = |judged: &[Judged]| CostQuality::new(&material.answers_by(judged));
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

/// Returns which samples are of each language, by name; all but the most frequent are one group.
pub fn languages(samples: &[Sample]) -> Vec<Group> {
    let mut counts: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
    for language in samples.iter().filter_map(|sample| sample.language.as_ref()) {
        *counts.entry(language).or_default() += 1;
    }
    let mut names: Vec<(&Arc<str>, usize)> = counts.into_iter().collect();
    let too_many = names.len() > LANGUAGES_MAX;
    if too_many {
        names.sort_by_key(|&(_, count)| Reverse(count));
        names.retain(|(name, _)| &***name != OTHER);
        names.truncate(LANGUAGES_MAX);
        names.sort();
    }
    let group = |name: Arc<str>, belongs: &dyn Fn(&Arc<str>) -> bool| Group {
        name,
        members: samples.iter().map(|sample| sample.language.as_ref().is_some_and(belongs)).collect(),
    };
    let told: BTreeSet<&Arc<str>> = names.iter().map(|&(name, _)| name).collect();
    let rest = too_many.then(|| group(Arc::from(OTHER), &|language| !told.contains(language)));
    let of_each = told.iter().map(|&name| group(Arc::clone(name), &|language| language == name));
    of_each.chain(rest).collect()
}

/// Returns the router's figures by language, most samples first.
pub(super) fn language_table(
    samples: &[Sample],
    languages: &[Group],
    measures: &Measures,
    values: &Values,
    resamples: &[Values],
) -> Vec<Language> {
    let of_language = |(place, group): (usize, &Group)| {
        let members =
            || samples.iter().zip(&group.members).filter_map(|(one, &member)| member.then_some(one));
        let figure = |at: usize, metric: &str| {
            let samples = members().filter(|sample| is_labelled_for(sample, metric)).count();
            Some(LanguageFigure {
                value: values.languages[place][at]?,
                samples,
                interval: interval(samples, resamples.iter().map(|values| values.languages[place][at])),
            })
        };
        let told = measures.told_by_language().enumerate();
        Language {
            language: Arc::clone(&group.name),
            samples: members().count(),
            metrics: told
                .filter_map(|(at, told)| Some((told.name.clone(), figure(at, &told.name)?)))
                .collect(),
        }
    };
    let mut table: Vec<Language> = languages.iter().enumerate().map(of_language).collect();
    table.sort_by_key(|language| Reverse(language.samples));
    table
}

/// Whether a sample has the label that a figure told by language needs.
fn is_labelled_for(sample: &Sample, metric: &str) -> bool {
    if metric.starts_with("intent.") { sample.intent.is_some() } else { sample.tier.is_some() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::sample::tests::sample;

    #[test]
    fn rare_languages_are_one_group() {
        let speaker = |name: String| sample(&serde_json::json!({"prompt": "x", "language": name}));
        let mut samples: Vec<Sample> = (0..LANGUAGES_MAX + 10)
            .flat_map(|at| [speaker(format!("l{at:02}")), speaker(format!("l{at:02}"))])
            .collect();
        let all = languages(&samples[..2 * LANGUAGES_MAX]);
        assert!(all.len() == LANGUAGES_MAX && all.iter().all(|group| &*group.name != OTHER));
        samples.extend([speaker("rare".to_owned()), speaker(OTHER.to_owned())]);
        samples.push(sample(&serde_json::json!({"prompt": "x"})));
        let groups = languages(&samples);
        assert_eq!(groups.len(), LANGUAGES_MAX + 1);
        let rest = groups.last().unwrap();
        assert_eq!(&*rest.name, OTHER);
        assert_eq!(rest.members.iter().filter(|member| **member).count(), 10 * 2 + 2);
    }

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
