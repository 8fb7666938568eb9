//! Figures of all rows side by side, each with its interval and the router's lead over it.

use std::collections::BTreeMap;

use rand::rngs::StdRng;

use super::{
    Comparison, Figure, Row,
    baselines::Chance,
    bootstrap::{Domain, Resampling, generator, interval},
    figures::{Material, Measures},
    judge::Judged,
    views::Group,
};

/// Draws of the random baseline, of whose figures its value is the mean.
pub const CHANCE_DRAWS: usize = 20;

/// Every row, ready to be measured.
pub struct Contest<'a> {
    material: &'a Material<'a>,
    /// The random row's is its first draw.
    rows: BTreeMap<Row, Measures>,
    chance: &'a Chance<'a>,
    languages: &'a [Group],
    seed: u64,
}

/// Every figure under one set of weights.
pub struct Values {
    /// By row, then by figure.
    rows: BTreeMap<Row, Vec<Option<f64>>>,
    /// By language, then by figure; the router's only, and those that are told by language.
    pub languages: Vec<Vec<Option<f64>>>,
}

impl<'a> Contest<'a> {
    pub fn new(
        material: &'a Material<'a>,
        judged: &[(Row, Vec<Judged>)],
        chance: &'a Chance<'a>,
        languages: &'a [Group],
        resampling: Resampling,
    ) -> Self {
        let rows = judged.iter().map(|(row, judged)| (*row, material.measures(*row, judged))).collect();
        Self { material, rows, chance, languages, seed: resampling.seed }
    }

    /// Returns the router's figures, to be measured.
    pub fn router(&self) -> &Measures {
        &self.rows[&Row::Router]
    }

    /// Returns the figures of the samples themselves.
    pub fn values(&self, samples: usize) -> Values {
        let weights = vec![1; samples];
        let draws: Vec<Vec<Option<f64>>> = (0..CHANCE_DRAWS)
            .map(|number| self.by_chance(&mut generator(self.seed, number, Domain::Chance), &weights))
            .collect();
        self.weighted(&weights, means(&draws))
    }

    /// Returns the figures of one resample. The random row is drawn, and so sorted, anew for each: an interval over
    /// one draw would leave out its luck.
    pub fn resampled(&self, number: usize, weights: &[u32]) -> Values {
        let random = &mut generator(self.seed, number, Domain::ChanceOfResample);
        self.weighted(weights, self.by_chance(random, weights))
    }

    fn by_chance(&self, random: &mut StdRng, weights: &[u32]) -> Vec<Option<f64>> {
        self.material.measures(Row::Random, &self.chance.draw(random)).values(weights)
    }

    fn weighted(&self, weights: &[u32], by_chance: Vec<Option<f64>>) -> Values {
        let fixed = self.rows.iter().filter(|(row, _)| **row != Row::Random);
        let mut rows: BTreeMap<Row, Vec<Option<f64>>> =
            fixed.map(|(row, measures)| (*row, measures.values(weights))).collect();
        rows.insert(Row::Random, by_chance);
        let of_language = |group: &Group| {
            let pairs = weights.iter().zip(&group.members);
            let weights: Vec<u32> = pairs.map(|(&weight, &member)| if member { weight } else { 0 }).collect();
            self.router().values_by_language(&weights)
        };
        Values { rows, languages: self.languages.iter().map(of_language).collect() }
    }

    /// Puts the rows' values of each figure side by side; a figure that the router lacks is left out.
    pub fn comparisons(&self, values: &Values, resamples: &[Values]) -> Vec<Comparison> {
        let figure = |row: Row, at: usize, samples: usize| {
            let over = |row: Row| resamples.iter().map(move |values| values.rows[&row][at]);
            let lead = || over(Row::Router).zip(over(row)).map(|(router, other)| Some(router? - other?));
            Some(Figure {
                value: values.rows[&row][at]?,
                samples,
                interval: interval(samples, over(row)),
                router_lead: (row != Row::Router).then(|| interval(samples, lead())).flatten(),
            })
        };
        let mut comparisons: Vec<Comparison> = self
            .router()
            .told()
            .map(|told| Comparison { name: told.name.clone(), better: told.better, rows: BTreeMap::new() })
            .collect();
        for (&row, measures) in &self.rows {
            for (at, (comparison, told)) in comparisons.iter_mut().zip(measures.told()).enumerate() {
                comparison.rows.extend(figure(row, at, told.samples).map(|figure| (row, figure)));
            }
        }
        comparisons.retain(|comparison| comparison.rows.contains_key(&Row::Router));
        comparisons
    }
}

/// Returns the mean of each figure over the draws that gave it.
fn means(draws: &[Vec<Option<f64>>]) -> Vec<Option<f64>> {
    let figures = draws.first().map_or(0, Vec::len);
    let mean = |at: usize| {
        let given: Vec<f64> = draws.iter().filter_map(|draw| draw[at]).collect();
        (!given.is_empty()).then(|| given.iter().sum::<f64>() / given.len() as f64)
    };
    (0..figures).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_over_the_draws_that_gave_a_value() {
        let draws = [vec![Some(1.0), None, None], vec![Some(3.0), Some(5.0), None]];
        assert_eq!(means(&draws), [Some(2.0), Some(5.0), None]);
        assert!(means(&[]).is_empty());
    }
}
