//! Predicted against true classes.

use super::{Metric, finite};

/// Mean F1 over the classes that occur among the labels, each counting alike; a class that is never
/// predicted has F1 0. F1 = 2 hits / (predicted + labelled) (van Rijsbergen 1979).
pub struct MacroF1 {
    /// Place of the sample, label, prediction.
    pairs: Vec<(usize, usize, usize)>,
    classes: usize,
}

impl MacroF1 {
    /// Takes (label, prediction) of each sample, `None` where one is missing; both below `classes`.
    pub fn new(pairs: impl Iterator<Item = Option<(usize, usize)>>, classes: usize) -> Self {
        let pairs = pairs.enumerate().filter_map(|(at, pair)| pair.map(|(label, got)| (at, label, got)));
        Self { pairs: pairs.collect(), classes }
    }
}

impl Metric for MacroF1 {
    fn value(&self, weights: &[u32]) -> Option<f64> {
        let mut counts = vec![(0_u64, 0_u64, 0_u64); self.classes];
        for &(at, label, got) in &self.pairs {
            let weight = u64::from(weights[at]);
            counts[label].1 += weight;
            counts[got].2 += weight;
            if label == got {
                counts[label].0 += weight;
            }
        }
        let scores: Vec<f64> = counts
            .into_iter()
            .filter(|&(_, labelled, _)| labelled > 0)
            .map(|(hits, labelled, predicted)| 2.0 * hits as f64 / (labelled + predicted) as f64)
            .collect();
        finite(scores.iter().sum::<f64>() / scores.len() as f64)
    }
}

/// Returns how often each label (row) was given each prediction (column).
pub fn confusion(
    pairs: impl Iterator<Item = (usize, usize)>,
    labels: usize,
    predictions: usize,
) -> Vec<Vec<u32>> {
    let mut counts = vec![vec![0; predictions]; labels];
    for (label, got) in pairs {
        counts[label][got] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(usize, usize)], weights: &[u32], expected: Option<f64>) {
        let got = MacroF1::new(pairs.iter().copied().map(Some), 3).value(weights);
        let same = match (got, expected) {
            (Some(got), Some(expected)) => (got - expected).abs() < 1e-12,
            (got, expected) => got == expected,
        };
        assert!(same, "{pairs:?} {weights:?}: {got:?}, expected {expected:?}");
    }

    #[test]
    fn macro_f1_is_the_mean_over_labels_that_occur() {
        // Class 0: 1 hit, 2 labelled, 1 predicted: 2/3. Class 1: 1 hit, 1 labelled, 2 predicted: 2/3.
        check(&[(0, 0), (0, 1), (1, 1)], &[1; 3], Some(2.0 / 3.0));
        // Class 2 is predicted but never a label: it lowers class 0 only.
        check(&[(0, 2), (1, 1)], &[1; 2], Some(0.5));
        check(&[(1, 1), (1, 1)], &[1; 2], Some(1.0));
        check(&[(0, 0), (1, 0)], &[3, 0], Some(1.0));
        check(&[], &[], None);
        check(&[(0, 0)], &[0], None);
    }

    #[test]
    fn confusion_counts_rows_by_label() {
        assert_eq!(confusion([(0, 1), (0, 1), (1, 2)].into_iter(), 2, 3), [[0, 2, 0], [0, 0, 1]]);
    }
}
