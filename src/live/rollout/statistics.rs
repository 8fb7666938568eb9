//! Whether a share is higher than another one, as far as few samples can tell. Pure.
//!
//! Bounds are those of Wilson (1927, Journal of the American Statistical Association 22) for one share and the hybrid
//! score bound of Newcombe (1998, Statistics in Medicine 17, method 10) for the difference of two. Unlike the textbook's
//! normal interval they hold for small samples and for shares of 0 and 1, where misbehaviour is looked for.

/// So many of so many; counts may be weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    of: f64,
    count: f64,
}

impl Share {
    /// Returns `count` of `of`; what the sums of replicas cannot be is cut to what they can.
    pub fn new(count: f64, of: f64) -> Self {
        let of = if of.is_finite() { of.max(0.0) } else { 0.0 };
        let count = if count.is_finite() { count.clamp(0.0, of) } else { 0.0 };
        Self { of, count }
    }

    /// Returns the share, 0 to 1; 0 without samples.
    pub fn value(self) -> f64 {
        if self.of > 0.0 { self.count / self.of } else { 0.0 }
    }

    /// Returns the Wilson score interval; everything is possible without samples.
    fn interval(self, z: f64) -> (f64, f64) {
        if self.of <= 0.0 {
            return (0.0, 1.0);
        }
        let (n, p) = (self.of, self.value());
        let middle = p + z * z / (2.0 * n);
        let half = z * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + z * z / n;
        (((middle - half) / scale).max(0.0), ((middle + half) / scale).min(1.0))
    }

    /// Returns the least that the true share may be.
    pub fn at_least(self, z: f64) -> f64 {
        self.interval(z).0
    }

    /// Returns the least that the true rise from `before` to this share may be; below 0 it may be none.
    pub fn risen_at_least(self, before: Self, z: f64) -> f64 {
        let (rise, low) = (self.value() - before.value(), self.interval(z).0);
        let high = before.interval(z).1;
        rise - (self.value() - low).hypot(high - before.value())
    }
}

/// Returns the standard normal deviate that is exceeded with this probability, above 0 and at most 0.5; off by less
/// than 0.00045 (Abramowitz and Stegun 1964, formula 26.2.23).
pub fn deviate(probability: f64) -> f64 {
    let t = (-2.0 * probability.clamp(f64::MIN_POSITIVE, 0.5).ln()).sqrt();
    let above = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let below = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    t - above / below
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn near(got: f64, expected: f64, within: f64) {
        assert!((got - expected).abs() <= within, "{got} for {expected}");
    }

    #[test]
    fn deviates_are_those_of_the_tables() {
        for (probability, expected) in [(0.5, 0.0), (0.05, 1.6449), (0.025, 1.96), (0.001, 3.0902)] {
            near(deviate(probability), expected, 5e-4);
        }
    }

    #[test]
    fn bounds_are_those_of_the_papers() {
        // Newcombe 1998, table II, (a) and (e), method 10.
        let (more, less) = (Share::new(56.0, 70.0), Share::new(48.0, 80.0));
        near(more.risen_at_least(less, 1.959_96), 0.0524, 1e-4);
        near(Share::new(5.0, 56.0).risen_at_least(Share::new(0.0, 29.0), 1.959_96), -0.0381, 1e-4);
        near(Share::new(10.0, 10.0).at_least(1.959_96), 0.7225, 1e-4);
        assert_eq!(Share::new(0.0, 0.0).at_least(1.0), 0.0);
        assert!(Share::new(9.0, 9.0).risen_at_least(Share::new(0.0, 0.0), 1.0) <= 0.0);
    }

    proptest! {
        #[test]
        fn more_of_it_never_looks_like_less(
            of in 1_u32..400, count in 0_u32..400, before_of in 0_u32..400, before in 0_u32..400, z in 0.1_f64..6.0,
        ) {
            let before = Share::new(f64::from(before), f64::from(before_of));
            let (count, of) = (f64::from(count.min(of)), f64::from(of));
            let one = Share::new(count, of).risen_at_least(before, z);
            prop_assert!(one <= Share::new(count, of).value() - before.value() + 1e-12);
            // One more request, and it counts.
            prop_assert!(Share::new(count + 1.0, of + 1.0).risen_at_least(before, z) >= one - 1e-12);
        }
    }
}
