//! Draws of offsets from what is known of them, for choosing what to try. Seeded: the same seed, the same draws.

use std::array;

use super::Estimate;
use crate::routing::chance::{GOLDEN_RATIO, fraction, mix};

/// Draws of all offsets together. The least chance that a target can have is one in so many.
pub const DRAWS: usize = 64;

/// The upper half of the standard normal's quantiles at (k + 1/2) / 64, scaled to variance 1.
const QUANTILES: [f64; DRAWS / 2] = [
    0.019_78, 0.059_37, 0.099_052, 0.138_887, 0.178_94, 0.219_276, 0.259_965, 0.301_081, 0.342_702,
    0.384_913, 0.427_808, 0.471_49, 0.516_071, 0.561_682, 0.608_469, 0.656_6, 0.706_27, 0.757_711, 0.811_198,
    0.867_062, 0.925_715, 0.987_669, 1.053_581, 1.124_317, 1.201_046, 1.285_415, 1.379_855, 1.488_19,
    1.617_006, 1.779_273, 2.007_286, 2.441_715,
];

/// Random numbers that follow from a seed.
pub struct Draws {
    state: u64,
}

impl Draws {
    /// Starts a sequence.
    pub fn seeded(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Returns the next number, 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        fraction(self.next())
    }

    /// Returns the next number, 0 to below `end`; `end` is far below 2^32, so that no number is favoured.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// Returns draws of one offset, one from each of [`DRAWS`] equally likely strata, in random order: a Latin
    /// hypercube over several offsets (McKay, Beckman and Conover 1979), whose shares waver less than those of
    /// independent draws, and which needs no logarithm a draw.
    pub fn of(&mut self, estimate: Estimate) -> [f64; DRAWS] {
        let mut drawn: [f64; DRAWS] = array::from_fn(|at| {
            let quantile = QUANTILES[at % QUANTILES.len()];
            let standard = if at < QUANTILES.len() { quantile } else { -quantile };
            estimate.mean + estimate.sd * standard
        });
        for last in (1..DRAWS).rev() {
            drawn.swap(last, self.below(last + 1));
        }
        drawn
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN_RATIO);
        mix(self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_mean_and_the_deviation_asked_for() {
        let drawn = Draws::seeded(7).of(Estimate { mean: -1.5, sd: 0.4 });
        let mean = drawn.iter().sum::<f64>() / DRAWS as f64;
        let variance = drawn.iter().map(|offset| (offset - mean).powi(2)).sum::<f64>() / DRAWS as f64;
        assert!((mean + 1.5).abs() < 1e-9 && (variance.sqrt() - 0.4).abs() < 1e-4, "{mean} {variance}");
    }

    #[test]
    fn the_order_is_random_and_follows_from_the_seed() {
        let estimate = Estimate { mean: 0.0, sd: 1.0 };
        assert_eq!(Draws::seeded(7).of(estimate), Draws::seeded(7).of(estimate));
        assert_ne!(Draws::seeded(7).of(estimate), Draws::seeded(8).of(estimate));
        let mut draws = Draws::seeded(1);
        // Each place gets each half of the distribution about equally often.
        let positive = (0..4000).filter(|_| draws.of(estimate)[0] > 0.0).count();
        assert!((1850..2150).contains(&positive), "{positive}");
        let mean = (0..4000).map(|_| draws.unit()).sum::<f64>() / 4000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }
}
