//! Labelled requests -> how good the router is, and whether it is better than chance, length and words.
//!
//! The way of a file: each line becomes a [`sample::Sample`], the router is asked about each
//! ([`judge::ask`]), baselines judge the same samples, every figure is taken of every row and of the same
//! resamples, and views for plots are added. Nothing here prints, and nothing here reads a file.

pub mod baselines;
pub mod bootstrap;
mod figures;
pub mod gates;
pub mod judge;
pub mod metrics;
mod outcomes;
pub mod report;
pub mod sample;
pub mod tfidf;
pub mod views;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Serialize, Serializer};

use self::{
    bootstrap::{Interval, Resampling, interval, resample},
    figures::{Material, Measure},
    judge::{Facts, Judged},
    sample::Sample,
    tfidf::Tfidf,
    views::{Confusion, CostCurves, Language, Reliability},
};
use crate::config::Config;

/// Who judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Row {
    Router,
    Random,
    Length,
    Tfidf,
}

impl Row {
    pub const ALL: [Self; 4] = [Self::Router, Self::Random, Self::Length, Self::Tfidf];

    /// Returns the name for a person.
    pub fn title(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Random => "random",
            Self::Length => "length",
            Self::Tfidf => "TF-IDF",
        }
    }
}

/// Which way a figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    Higher,
    Lower,
    Neither,
}

/// Which tiers gain and difficulty compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    pub tiers: usize,
    pub weak: usize,
    pub strong: usize,
    /// The tier whose insufficiency stands for difficulty; `None` with a single tier.
    pub middle: Option<usize>,
}

impl Scale {
    /// Compares the weakest tier with the strongest but one, which is the strongest that has a probability
    /// of its own; with other outcomes, the weakest and strongest that have some.
    fn of(tiers: usize, answering: &[usize]) -> Self {
        let usual = if tiers > 2 { tiers - 2 } else { tiers - 1 };
        let (weak, strong) = match answering {
            [weak, .., last] if answering[1..].contains(&usual) || *last < usual => (*weak, usual.min(*last)),
            [weak, .., last] => (*weak, *last),
            _ => (0, usual),
        };
        Self { tiers, weak, strong, middle: (tiers > 1).then(|| (tiers.max(2) - 2) / 2) }
    }
}

/// One file's samples with the router's decisions, in the same order.
pub struct Section {
    pub name: String,
    /// As it was given.
    pub file: String,
    pub samples: Vec<Sample>,
    pub facts: Vec<Facts>,
}

/// What is the same for every section.
pub struct Settings<'a> {
    pub config: &'a Config,
    pub baseline: Option<&'a Tfidf>,
    pub resampling: Resampling,
}

/// One row's value of one figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figure {
    pub value: f64,
    /// Samples that have what the figure needs.
    pub samples: usize,
    /// Middle 95 % of the resamples.
    pub interval: Option<Interval>,
    /// Interval of the router's value less this one's, over the same resamples; not on the router's row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router_lead: Option<Interval>,
}

/// One figure of all rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    #[serde(skip)]
    pub name: String,
    pub better: Better,
    #[serde(flatten)]
    pub rows: BTreeMap<Row, Figure>,
}

/// Everything that is said of one file.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    pub name: String,
    pub file: String,
    pub samples: usize,
    /// What a reader of the figures must know.
    pub notes: Vec<String>,
    #[serde(serialize_with = "by_name")]
    pub metrics: Vec<Comparison>,
    pub languages: Vec<Language>,
    pub confusion: Vec<Confusion>,
    pub reliability: Vec<Reliability>,
    pub cost_quality: Option<CostCurves>,
}

impl Evaluation {
    /// Returns the router's value of a figure.
    pub fn router_value(&self, metric: &str) -> Option<f64> {
        let comparison = self.metrics.iter().find(|comparison| comparison.name == metric)?;
        comparison.rows.get(&Row::Router).map(|figure| figure.value)
    }
}

fn by_name<S: Serializer>(metrics: &[Comparison], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(metrics.iter().map(|comparison| (&comparison.name, comparison)))
}

/// Takes every figure of a section.
pub fn evaluate(section: &Section, settings: &Settings<'_>) -> Evaluation {
    let tiers: Vec<Arc<str>> = settings.config.tiers.iter().map(|tier| Arc::clone(&tier.name)).collect();
    let material = Material::new(&section.samples, &section.facts, &tiers);
    let rows = rows(section, settings, &material.scale);
    let measures: Vec<(Row, Vec<Measure>)> =
        rows.iter().map(|(row, judged)| (*row, material.measures(*row, judged))).collect();
    let languages = views::languages(&section.samples);
    let weights = vec![1; section.samples.len()];
    let measure_all = |weights: &[u32]| Values::of(&measures, &languages, weights);
    let values = measure_all(&weights);
    let resamples = resample(settings.resampling, weights.len(), measure_all);
    Evaluation {
        name: section.name.clone(),
        file: section.file.clone(),
        samples: section.samples.len(),
        notes: views::notes(&material),
        metrics: comparisons(&measures, &values, &resamples),
        languages: views::language_table(&languages, &measures[0].1, &values, &resamples),
        confusion: views::confusions(&material, &rows[0].1),
        reliability: views::reliabilities(&material, &rows[0].1),
        cost_quality: views::cost_curves(&material, &rows),
    }
}

/// Returns each row's judgement of every sample, the router's first.
fn rows(section: &Section, settings: &Settings<'_>, scale: &Scale) -> Vec<(Row, Vec<Judged>)> {
    let Section { samples, facts, .. } = section;
    let router: Vec<Judged> = facts.iter().map(|facts| facts.judged(scale)).collect();
    let labels: Vec<usize> = samples.iter().filter_map(|sample| Some(sample.tier?.0)).collect();
    let decided = || router.iter().map(|judged| judged.tier).collect();
    let tiers = if labels.is_empty() { decided() } else { labels };
    let tfidf = settings.baseline.and_then(|baseline| {
        let level = |name: &Arc<str>| baseline.levels().iter().position(|known| known == name);
        let levels: Option<Vec<usize>> =
            settings.config.tiers.iter().map(|tier| level(&tier.level)).collect();
        let quality = settings.config.policy.quality;
        Some((Row::Tfidf, baselines::tfidf(samples, baseline, &levels?, scale, quality)))
    });
    let mut rows = vec![
        (Row::Random, baselines::random(samples, &tiers, scale, settings.resampling.seed)),
        (Row::Length, baselines::length(samples, &tiers, scale)),
    ];
    rows.insert(0, (Row::Router, router));
    rows.extend(tfidf);
    rows
}

/// Every figure under one set of weights.
struct Values {
    /// By row, then by figure.
    rows: Vec<Vec<Option<f64>>>,
    /// By language, then by figure; the router's only.
    languages: Vec<Vec<Option<f64>>>,
}

impl Values {
    fn of(measures: &[(Row, Vec<Measure>)], languages: &[(Arc<str>, Vec<bool>)], weights: &[u32]) -> Self {
        let all = |measures: &[Measure]| -> Vec<Option<f64>> {
            measures.iter().map(|measure| measure.metric.value(weights)).collect()
        };
        let of_language = |speaks: &[bool]| -> Vec<Option<f64>> {
            let weights: Vec<u32> = weights
                .iter()
                .zip(speaks)
                .map(|(&weight, &speaks)| if speaks { weight } else { 0 })
                .collect();
            let shown = |measure: &Measure| {
                views::is_told_by_language(&measure.name).then(|| measure.metric.value(&weights)).flatten()
            };
            measures[0].1.iter().map(shown).collect()
        };
        Self {
            rows: measures.iter().map(|(_, measures)| all(measures)).collect(),
            languages: languages.iter().map(|(_, speaks)| of_language(speaks)).collect(),
        }
    }
}

/// Puts the rows' values of each figure side by side; a figure that no row has is left out.
fn comparisons(measures: &[(Row, Vec<Measure>)], values: &Values, resamples: &[Values]) -> Vec<Comparison> {
    let router = &measures[0].1;
    let figure = |row: usize, at: usize| {
        let over = |row: usize| resamples.iter().map(move |values| values.rows[row][at]);
        let lead = over(0).zip(over(row)).map(|(router, other)| Some(router? - other?));
        Some(Figure {
            value: values.rows[row][at]?,
            samples: measures[row].1[at].samples,
            interval: interval(over(row)),
            router_lead: if row > 0 { interval(lead) } else { None },
        })
    };
    (0..router.len())
        .map(|at| Comparison {
            name: router[at].name.clone(),
            better: router[at].better,
            rows: measures
                .iter()
                .enumerate()
                .filter_map(|(row, (name, _))| Some((*name, figure(row, at)?)))
                .collect(),
        })
        .filter(|comparison| comparison.rows.contains_key(&Row::Router))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gain_compares_the_tiers_that_have_outcomes() {
        for (tiers, answering, expected) in [
            (4, vec![0, 1, 2, 3], (0, 2)),
            (4, vec![0, 1, 2], (0, 2)),
            (4, vec![], (0, 2)),
            (4, vec![0], (0, 2)),
            (4, vec![0, 3], (0, 3)),
            (4, vec![1, 2], (1, 2)),
            (4, vec![0, 1], (0, 1)),
            (4, vec![2, 3], (2, 3)),
            (2, vec![0, 1], (0, 1)),
            (1, vec![0], (0, 0)),
        ] {
            let scale = Scale::of(tiers, &answering);
            assert_eq!((scale.weak, scale.strong), expected, "{tiers} tiers, {answering:?}");
        }
        assert_eq!([4, 3, 2].map(|tiers| Scale::of(tiers, &[]).middle), [Some(1), Some(0), Some(0)]);
        assert_eq!(Scale::of(1, &[]).middle, None);
    }
}
