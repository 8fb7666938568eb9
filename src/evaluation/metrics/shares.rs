//! Means and what is made of two sums.

use super::{Metric, finite};

/// Weighted mean of the samples that have a value; a share when the values are 0 and 1.
pub struct Mean {
    /// Place of the sample, value.
    values: Vec<(usize, f64)>,
}

impl Mean {
    /// Takes one value a sample, `None` where it has none.
    pub fn new(values: impl Iterator<Item = Option<f64>>) -> Self {
        Self { values: values.enumerate().filter_map(|(at, value)| Some((at, value?))).collect() }
    }

    /// Takes one truth a sample, `None` where it is not known.
    pub fn share(truths: impl Iterator<Item = Option<bool>>) -> Self {
        Self::new(truths.map(|truth| truth.map(|truth| f64::from(u8::from(truth)))))
    }
}

impl Metric for Mean {
    fn value(&self, weights: &[u32]) -> Option<f64> {
        let (mut sum, mut count) = (0.0, 0.0);
        for &(at, value) in &self.values {
            let weight = f64::from(weights[at]);
            sum += weight * value;
            count += weight;
        }
        finite(sum / count)
    }
}

/// 1 - what was paid / what it would have cost otherwise.
pub struct Saving {
    /// Place of the sample, paid, otherwise.
    costs: Vec<(usize, f64, f64)>,
}

impl Saving {
    /// Takes (paid, otherwise) of each sample, `None` where they are not known.
    pub fn new(costs: impl Iterator<Item = Option<(f64, f64)>>) -> Self {
        let costs = costs.enumerate().filter_map(|(at, costs)| costs.map(|(paid, other)| (at, paid, other)));
        Self { costs: costs.collect() }
    }
}

impl Metric for Saving {
    fn value(&self, weights: &[u32]) -> Option<f64> {
        let (mut paid, mut otherwise) = (0.0, 0.0);
        for &(at, this, other) in &self.costs {
            paid += f64::from(weights[at]) * this;
            otherwise += f64::from(weights[at]) * other;
        }
        finite(1.0 - paid / otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_count_what_has_a_value() {
        let mean = Mean::new([Some(1.0), None, Some(4.0)].into_iter());
        assert_eq!(mean.value(&[1, 1, 1]), Some(2.5));
        assert_eq!(mean.value(&[2, 9, 1]), Some(2.0));
        assert_eq!(mean.value(&[0, 1, 0]), None, "no sample left");
        let share = Mean::share([Some(true), Some(false), Some(true), None].into_iter());
        assert_eq!(share.value(&[1; 4]), Some(2.0 / 3.0));
        assert_eq!(Mean::new(std::iter::empty()).value(&[]), None);
    }

    #[test]
    fn savings_compare_sums() {
        let saving = Saving::new([Some((1.0, 4.0)), Some((2.0, 2.0)), None].into_iter());
        assert_eq!(saving.value(&[1, 1, 1]), Some(0.5));
        assert_eq!(saving.value(&[0, 1, 1]), Some(0.0));
        assert_eq!(Saving::new([Some((0.0, 0.0))].into_iter()).value(&[1]), None);
    }
}
