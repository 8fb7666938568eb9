//! Labelled requests -> how good the router is, and whether it is better than chance, length and words.
//!
//! The way of a file: each line becomes a [`sample::Sample`], the router is asked about each
//! ([`judge::ask`]), baselines judge the same samples, every figure is taken of every row and of the same
//! resamples, and views for plots are added. Nothing here prints, and nothing here reads a file.

pub mod baselines;
pub mod bootstrap;
mod compare;
pub mod confusions;
mod figures;
pub mod gates;
pub mod judge;
pub mod metrics;
pub mod notes;
pub mod off_policy;
mod outcomes;
pub mod report;
pub mod sample;
pub mod tfidf;
pub mod views;
pub mod what_if;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Serialize, Serializer};

use self::{
    baselines::Chance,
    bootstrap::{Domain, Interval, Resampling, generator, resample},
    compare::Contest,
    confusions::Confusion,
    figures::Material,
    judge::{Facts, Judged},
    sample::Sample,
    tfidf::Tfidf,
    views::{CostCurves, Language, Reliability},
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
    /// Compares the weakest tier with the strongest but one of four and more, which is the strongest that has a
    /// probability of its own, and with the strongest of two or three, where the one but last is weak or in the
    /// middle; with other outcomes, the weakest and strongest that have some.
    fn of(tiers: usize, answering: &[usize]) -> Self {
        let usual = if tiers > 3 { tiers - 2 } else { tiers - 1 };
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
    /// Middle 95 % of the resamples; `None` for few samples.
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

/// Takes every figure of a section; `done` is called after each resample.
pub fn evaluate(section: &Section, settings: &Settings<'_>, done: impl Fn() + Sync) -> Evaluation {
    let tiers: Vec<Arc<str>> = settings.config.tiers.iter().map(|tier| Arc::clone(&tier.name)).collect();
    let material = Material::new(&section.samples, &section.facts, &tiers);
    let decided: Vec<usize> = section.facts.iter().map(|facts| facts.tier.0).collect();
    let labelled: Vec<usize> = section.samples.iter().filter_map(|sample| Some(sample.tier?.0)).collect();
    let usual = if labelled.is_empty() { decided } else { labelled };
    let chance = Chance::new(&section.samples, &usual, material.scale);
    let judged = rows(section, settings, &material.scale, &chance, &usual);
    let router = &judged[0].1;
    let languages = views::languages(&section.samples);
    let contest = Contest::new(&material, &judged, &chance, &languages, settings.resampling);
    let values = contest.values(section.samples.len());
    let resamples = resample(settings.resampling, section.samples.len(), |number, weights| {
        let values = contest.resampled(number, weights);
        done();
        values
    });
    Evaluation {
        name: section.name.clone(),
        file: section.file.clone(),
        samples: section.samples.len(),
        notes: notes::notes(&material, router),
        metrics: contest.comparisons(&values, &resamples),
        languages: views::language_table(&section.samples, &languages, contest.router(), &values, &resamples),
        confusion: confusions::confusions(&material, router),
        reliability: views::reliabilities(&material, router),
        cost_quality: views::cost_curves(&material, &judged),
    }
}

/// Returns each row's judgement of every sample, the router's first; `usual` are the tiers that length and
/// chance may know the shares of.
fn rows(
    section: &Section,
    settings: &Settings<'_>,
    scale: &Scale,
    chance: &Chance<'_>,
    usual: &[usize],
) -> Vec<(Row, Vec<Judged>)> {
    let Section { samples, facts, .. } = section;
    let tfidf = settings.baseline.and_then(|baseline| {
        let level = |name: &Arc<str>| baseline.levels().iter().position(|known| known == name);
        let levels: Option<Vec<usize>> =
            settings.config.tiers.iter().map(|tier| level(&tier.level)).collect();
        let quality = settings.config.policy.quality;
        Some((Row::Tfidf, baselines::tfidf(samples, baseline, &levels?, scale, quality)))
    });
    let first_draw = &mut generator(settings.resampling.seed, 0, Domain::Chance);
    let mut rows = vec![
        (Row::Router, facts.iter().map(|facts| facts.judged(scale)).collect()),
        (Row::Random, chance.draw(first_draw)),
        (Row::Length, baselines::length(samples, usual, scale)),
    ];
    rows.extend(tfidf);
    rows
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
            (5, vec![0, 1, 2, 3, 4], (0, 3)),
            (3, vec![0, 1, 2], (0, 2)),
            (3, vec![], (0, 2)),
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

#[cfg(test)]
#[path = "section_tests.rs"]
mod section_tests;
