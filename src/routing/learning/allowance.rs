//! How much one tenant may still say about one intent and target: a bucket that fills with time.
//!
//! No tenant moves an offset further than its bucket holds and one observation more, however much it says at once.
//! Who is taken never depends on what it weighs: where there is room for a part of what is said, it must be an even
//! part, or many light observations would leave none for the few heavy ones that stand against them.

use crate::config::LearningConfig;

const MS_PER_HOUR: f64 = 3.6e6;

/// What is left at a time, in weights of observations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allowance {
    /// Below 0 by what the last observation weighed beyond what was left.
    left: f64,
    /// Milliseconds since 1970.
    at_ms: i64,
}

impl Allowance {
    /// Returns a full one.
    pub fn full(config: &LearningConfig, at_ms: i64) -> Self {
        Self { left: config.tenant_burst, at_ms }
    }

    /// Returns one as it was kept, brought into what the configuration allows.
    pub fn restore(left: f64, at_ms: i64, config: &LearningConfig) -> Self {
        let burst = config.tenant_burst;
        let left = if left.is_finite() { left.clamp(-burst, burst) } else { 0.0 };
        Self { left, at_ms }
    }

    /// Returns what is left, in weights of observations; below 0 where more was taken than there was.
    pub fn left(&self) -> f64 {
        self.left
    }

    /// Returns the time that `left` is of, milliseconds since 1970.
    pub fn at_ms(&self) -> i64 {
        self.at_ms
    }

    /// Takes `weight` out, also where that is more than what is left; or nothing when it is empty, or when `spent_max`
    /// is missing from a full one already. Returns whether it did.
    ///
    /// No weight is above `tenant_burst`.
    pub fn take(&mut self, weight: f64, spent_max: f64, at_ms: i64, config: &LearningConfig) -> bool {
        let passed_ms = at_ms.saturating_sub(self.at_ms).max(0) as f64;
        let filled = self.left + passed_ms / MS_PER_HOUR * config.tenant_per_hour;
        self.left = filled.min(config.tenant_burst);
        self.at_ms = self.at_ms.max(at_ms);
        let spent = config.tenant_burst - self.left;
        let allowed = self.left > 0.0 && spent < spent_max;
        if allowed {
            self.left -= weight;
        }
        allowed
    }

    /// Returns the age from which on an allowance is full again, milliseconds; what was kept of it may go.
    pub fn full_after_ms(config: &LearningConfig) -> i64 {
        // As much may be missing as a burst and one observation that weighs as much. A cast beyond the range saturates:
        // never.
        (2.0 * config.tenant_burst / config.tenant_per_hour * MS_PER_HOUR) as i64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn config() -> LearningConfig {
        LearningConfig { tenant_burst: 10.0, tenant_per_hour: 5.0, ..LearningConfig::default() }
    }

    #[test]
    fn a_burst_then_what_time_brings() {
        let config = config();
        let mut allowance = Allowance::full(&config, 0);
        let mut taken = |at_ms| (0..1000).filter(|_| allowance.take(0.5, f64::MAX, at_ms, &config)).count();
        assert_eq!(taken(0), 20);
        assert_eq!(taken(-HOUR_MS), 0, "a clock set back");
        assert_eq!(taken(HOUR_MS), 10);
        assert_eq!(taken(100 * HOUR_MS), 20, "never more than a burst");
        assert_eq!(Allowance::full_after_ms(&config), 4 * HOUR_MS);
    }

    #[test]
    fn a_small_part_of_a_burst_at_once() {
        let config = config();
        let mut allowance = Allowance::full(&config, 0);
        let mut taken = |most, at_ms| (0..1000).filter(|_| allowance.take(0.5, most, at_ms, &config)).count();
        assert_eq!(taken(2.0, 0), 4);
        assert_eq!(taken(2.0, HOUR_MS / 5), 2, "what time has brought back");
        assert_eq!(taken(3.0, HOUR_MS / 5), 2, "more is known");
    }

    #[test]
    fn what_is_heavy_is_taken_as_what_is_light() {
        let config = config();
        let mut allowance = Allowance::full(&config, 0);
        assert!(allowance.take(9.9, f64::MAX, 0, &config));
        assert!(allowance.take(3.0, f64::MAX, 0, &config), "some was left");
        assert!((allowance.left() + 2.9).abs() < 1e-9, "{allowance:?}");
        assert!(
            !allowance.take(0.001, f64::MAX, HOUR_MS / 2, &config),
            "what was overdrawn comes back first"
        );
        assert!(allowance.take(3.0, f64::MAX, HOUR_MS, &config));
    }

    #[test]
    fn what_was_kept_is_brought_into_bounds() {
        for (kept, expected) in [(3.0, 3.0), (99.0, 10.0), (-1.0, -1.0), (-99.0, -10.0), (f64::NAN, 0.0)] {
            assert_eq!(Allowance::restore(kept, 0, &config()).left(), expected);
        }
    }

    proptest! {
        #[test]
        fn no_more_than_burst_and_refill_and_one(
            asked in proptest::collection::vec((0.0_f64..3.0, -HOUR_MS..10 * HOUR_MS), 0..300),
        ) {
            let config = config();
            let mut allowance = Allowance::full(&config, 0);
            let mut taken = 0.0;
            for &(weight, at_ms) in &asked {
                taken += if allowance.take(weight, f64::MAX, at_ms, &config) { weight } else { 0.0 };
            }
            let hours = asked.iter().map(|&(_, at_ms)| at_ms).max().unwrap_or(0).max(0) as f64 / HOUR_MS as f64;
            prop_assert!(taken <= 10.0 + 5.0 * hours + 3.0 + 1e-6);
        }
    }
}
