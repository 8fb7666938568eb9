//! How far probabilities are from frequencies.

use super::{Metric, finite};

/// Bins of equal width; as many as in Guo et al. 2017.
const BINS: usize = 15;

/// Expected calibration error: the mean gap between predicted probability and observed frequency over 15
/// bins of equal width, each weighted by its samples (Naeini et al. 2015; Guo et al. 2017, arXiv 1706.04599).
pub struct CalibrationError {
    /// Place of the sample, bin, probability, outcome.
    samples: Vec<(usize, usize, f64, f64)>,
}

/// What a reliability diagram shows of one bin.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Bin {
    /// Mean predicted probability, 0 to 1.
    pub predicted: f64,
    /// Share that came true, 0 to 1.
    pub observed: f64,
    pub samples: u64,
}

impl CalibrationError {
    /// Takes (probability, whether it came true) of each sample, `None` where one is missing.
    pub fn new(pairs: impl Iterator<Item = Option<(f64, bool)>>) -> Self {
        let bin = |probability: f64| ((probability * BINS as f64) as usize).min(BINS - 1);
        let samples = pairs.enumerate().filter_map(|(at, pair)| {
            let (probability, truth) = pair?;
            Some((at, bin(probability), probability, f64::from(u8::from(truth))))
        });
        Self { samples: samples.collect() }
    }

    /// Returns the bins that hold a sample, lowest probability first.
    pub fn bins(&self) -> Vec<Bin> {
        let weights = vec![1; self.samples.last().map_or(0, |&(at, ..)| at + 1)];
        self.sums(&weights)
            .into_iter()
            .filter(|&[count, ..]| count > 0.0)
            .map(|[count, predicted, observed]| Bin {
                predicted: predicted / count,
                observed: observed / count,
                samples: count as u64,
            })
            .collect()
    }

    /// Returns count, sum of probabilities and sum of outcomes of each bin.
    fn sums(&self, weights: &[u32]) -> [[f64; 3]; BINS] {
        let mut sums = [[0.0; 3]; BINS];
        for &(at, bin, probability, truth) in &self.samples {
            let weight = f64::from(weights[at]);
            for (sum, term) in sums[bin].iter_mut().zip([1.0, probability, truth]) {
                *sum += weight * term;
            }
        }
        sums
    }
}

impl Metric for CalibrationError {
    fn value(&self, weights: &[u32]) -> Option<f64> {
        let sums = self.sums(weights);
        let count: f64 = sums.iter().map(|[count, ..]| count).sum();
        let gaps: f64 = sums.iter().map(|[_, predicted, observed]| (predicted - observed).abs()).sum();
        finite(gaps / count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(f64, bool)], weights: &[u32], expected: Option<f64>) {
        let got = CalibrationError::new(pairs.iter().copied().map(Some)).value(weights);
        match (got, expected) {
            (Some(got), Some(expected)) => assert!((got - expected).abs() < 1e-12, "{got}, not {expected}"),
            (got, expected) => assert_eq!(got, expected),
        }
    }

    #[test]
    fn the_error_is_the_weighted_gap_of_each_bin() {
        // One bin: mean probability 0.81, half came true.
        check(&[(0.80, true), (0.82, false)], &[1; 2], Some(0.31));
        // Two bins: gaps 0.1 of one sample and 0.3 of three.
        check(&[(0.1, false), (0.7, true), (0.7, true), (0.7, true)], &[1; 4], Some(0.25));
        check(&[(0.1, false), (0.7, true)], &[1, 3], Some(0.25));
        check(&[(1.0, true), (0.0, false)], &[1; 2], Some(0.0));
        check(&[], &[], None);
    }

    #[test]
    fn bins_hold_means_and_counts() {
        let pairs = [Some((0.8, true)), None, Some((0.82, false)), Some((1.0, true))];
        let bins = CalibrationError::new(pairs.into_iter()).bins();
        assert_eq!(bins.len(), 2);
        assert!((bins[0].predicted - 0.81).abs() < 1e-12 && bins[0].observed == 0.5 && bins[0].samples == 2);
        assert_eq!(bins[1], Bin { predicted: 1.0, observed: 1.0, samples: 1 });
    }
}
