//! Rank correlation.

use super::{Metric, finite};

/// Spearman's rho (1904): Pearson's correlation of ranks, ties sharing their mean rank.
pub struct RankCorrelation {
    /// Place of each pair in the set of samples.
    places: Vec<usize>,
    x: Order,
    y: Order,
}

impl RankCorrelation {
    /// Takes (predicted, true) of each sample, `None` where one is missing.
    pub fn new(pairs: impl Iterator<Item = Option<(f64, f64)>>) -> Self {
        let mut places = Vec::new();
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for (at, pair) in pairs.enumerate() {
            if let Some((first, second)) = pair {
                places.push(at);
                x.push(first);
                y.push(second);
            }
        }
        Self { x: Order::of(&x, &places), y: Order::of(&y, &places), places }
    }
}

impl Metric for RankCorrelation {
    fn value(&self, weights: &[u32]) -> Option<f64> {
        let (x, y) = (self.x.ranks(weights), self.y.ranks(weights));
        let n: f64 = self.places.iter().map(|&at| f64::from(weights[at])).sum();
        // Ranks from 1 to n, ties at their mean, always have this mean; less it, no digits are lost in the sums.
        let mean = (n + 1.0) / 2.0;
        let mut sums = [0.0; 3];
        for (&at, (x, y)) in self.places.iter().zip(x.iter().zip(&y)) {
            let (weight, x, y) = (f64::from(weights[at]), x - mean, y - mean);
            for (sum, term) in sums.iter_mut().zip([x * x, y * y, x * y]) {
                *sum += weight * term;
            }
        }
        let [spread_x, spread_y, common] = sums;
        // One value only has no order: its ranks are the mean.
        if n < 2.0 || spread_x < 0.1 || spread_y < 0.1 {
            return None;
        }
        finite(common / (spread_x * spread_y).sqrt())
    }
}

/// Samples in ascending order of a value.
struct Order {
    /// Place in the set, whether it equals the one before; ascending.
    sorted: Vec<(usize, bool)>,
    /// Place in `sorted` of each pair.
    inverse: Vec<usize>,
}

impl Order {
    fn of(values: &[f64], places: &[usize]) -> Self {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
        let mut inverse = vec![0; values.len()];
        let mut sorted = Vec::with_capacity(order.len());
        for (rank, &at) in order.iter().enumerate() {
            inverse[at] = rank;
            let tied = rank > 0 && values[order[rank - 1]] == values[at];
            sorted.push((places[at], tied));
        }
        Self { sorted, inverse }
    }

    /// Returns the mean rank of each, in input order.
    fn ranks(&self, weights: &[u32]) -> Vec<f64> {
        let mut ranks = vec![0.0; self.sorted.len()];
        let mut before = 0.0;
        let mut start = 0;
        while start < self.sorted.len() {
            let mut end = start + 1;
            while end < self.sorted.len() && self.sorted[end].1 {
                end += 1;
            }
            let count: f64 = self.sorted[start..end].iter().map(|&(at, _)| f64::from(weights[at])).sum();
            ranks[start..end].fill(before + (count + 1.0) / 2.0);
            before += count;
            start = end;
        }
        self.inverse.iter().map(|&rank| ranks[rank]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(x: &[f64], y: &[f64], weights: &[u32], expected: Option<f64>) {
        let pairs = x.iter().zip(y).map(|(&x, &y)| Some((x, y)));
        let got = RankCorrelation::new(pairs).value(weights);
        match (got, expected) {
            (Some(got), Some(expected)) => assert!((got - expected).abs() < 1e-12, "{got}, not {expected}"),
            (got, expected) => assert_eq!(got, expected, "{x:?} {y:?}"),
        }
    }

    #[test]
    fn orders_agree_or_not() {
        check(&[1.0, 2.0, 3.0], &[10.0, 20.0, 99.0], &[1; 3], Some(1.0));
        check(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0], &[1; 3], Some(-1.0));
        // d = (0, 1, -1, 0): 1 - 6 * 2 / (4 * 15) = 0.8.
        check(&[1.0, 2.0, 3.0, 4.0], &[1.0, 3.0, 2.0, 4.0], &[1; 4], Some(0.8));
    }

    #[test]
    fn ties_share_their_mean_rank() {
        // Ranks 1.5, 1.5, 3 against 1, 2, 3: covariance 1.5, spreads 1.5 and 2.
        check(&[5.0, 5.0, 7.0], &[1.0, 2.0, 3.0], &[1; 3], Some(1.5 / 3.0_f64.sqrt()));
    }

    #[test]
    fn a_weight_is_a_repeated_sample() {
        let (x, y) = ([3.0, 1.0, 2.0, 2.0], [1.0, 5.0, 2.0, 4.0]);
        let repeated =
            |values: &[f64]| vec![values[0], values[0], values[1], values[3], values[3], values[3]];
        let pairs: Vec<_> = repeated(&x).into_iter().zip(repeated(&y)).map(Some).collect();
        let expected = RankCorrelation::new(pairs.into_iter()).value(&[1; 6]);
        check(&x, &y, &[2, 1, 0, 3], expected);
    }

    #[test]
    fn many_samples_lose_no_digits() {
        let rising: Vec<f64> = (0..200_000).map(f64::from).collect();
        check(&rising, &rising, &vec![3; rising.len()], Some(1.0));
        let mut last_two_turned = rising.clone();
        last_two_turned.swap(199_998, 199_999);
        let n = 200_000.0_f64;
        let expected = 1.0 - 6.0 * 2.0 / (n * (n * n - 1.0));
        check(&rising, &last_two_turned, &vec![1; rising.len()], Some(expected));
    }

    #[test]
    fn one_value_or_none_has_no_order() {
        check(&[1.0, 1.0], &[1.0, 2.0], &[1; 2], None);
        check(&[1.0], &[1.0], &[1], None);
        check(&[], &[], &[], None);
        check(&[1.0, 2.0], &[1.0, 2.0], &[0, 5], None);
    }
}
