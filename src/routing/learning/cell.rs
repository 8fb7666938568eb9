//! What is known of one offset: a normal distribution that observations narrow and time widens.
//!
//! Whatever is observed, the mean stays within `learning.offset_max`, and the distribution never gets wider than
//! the prior nor narrower than [`SD_MIN`].

use super::{Estimate, logit, sigmoid};
use crate::config::LearningConfig;

/// No standard deviation is below this. A world that changes while nothing is forgotten yet is still followed:
/// some 200 observations then weigh as much as all that came before, and the mean wavers by about 0.1.
const SD_MIN: f64 = 0.15;
/// Halvings of the interval that holds the mode; its ends are at most some units apart.
const BISECTIONS: usize = 50;

/// What is known of one offset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cell {
    /// On the logit.
    mean: f64,
    /// 1 / variance.
    precision: f64,
    /// All that ever counted.
    observations: u64,
    /// The time that mean and precision are of, milliseconds since 1970.
    at_ms: i64,
}

/// One answer, judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// Sufficiency that the classifier gave the tier, before any offset.
    pub base: f64,
    /// 0 (useless) to 1 (good); `None` of an answer that passed its checks and about which nobody said more.
    pub good: Option<f64>,
    /// Where 1 is a person's judgement.
    pub weight: f64,
    /// Milliseconds since 1970.
    pub at_ms: i64,
}

impl Cell {
    /// Returns what is known before anything was observed: nothing but the prior, normal around 0.
    pub fn new(config: &LearningConfig, at_ms: i64) -> Self {
        Self { mean: 0.0, precision: prior_precision(config), observations: 0, at_ms }
    }

    /// Returns a cell as it was kept; numbers that another configuration or a hand has put outside the bounds are
    /// brought back into them.
    pub fn restore(
        mean: f64,
        precision: f64,
        observations: u64,
        at_ms: i64,
        config: &LearningConfig,
    ) -> Self {
        let sound = mean.is_finite() && precision.is_finite();
        let prior = Self::new(config, at_ms);
        let (mean, precision) = if sound { (mean, precision) } else { (prior.mean, prior.precision) };
        Self { mean, precision, observations, at_ms }.within(config)
    }

    /// Returns the mean, on the logit.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Returns 1 / variance.
    pub fn precision(&self) -> f64 {
        self.precision
    }

    /// Returns 1 / variance of a moment.
    pub fn precision_at(&self, now_ms: i64, config: &LearningConfig) -> f64 {
        self.after_forgetting(now_ms, config).precision
    }

    /// Returns how many observations ever counted.
    pub fn observations(&self) -> u64 {
        self.observations
    }

    /// Returns when it last changed, milliseconds since 1970.
    pub fn at_ms(&self) -> i64 {
        self.at_ms
    }

    /// Returns the mean and the standard deviation of this moment.
    pub fn estimate(&self, now_ms: i64, config: &LearningConfig) -> Estimate {
        let now = self.after_forgetting(now_ms, config);
        Estimate { mean: now.mean, sd: now.precision.sqrt().recip() }
    }

    /// Returns whether a judgement changes nothing: one without a meaning, and of an answer that only passed its checks
    /// where nothing speaks against the target.
    pub fn ignores(&self, judgement: &Judgement) -> bool {
        let Judgement { base, good, weight, .. } = *judgement;
        let sound = base.is_finite() && good.is_none_or(f64::is_finite) && weight.is_finite() && weight > 0.0;
        !sound || (good.is_none() && self.mean >= 0.0)
    }

    /// Returns what is known after one more judgement.
    ///
    /// Sequential Bayesian logistic regression with one parameter in Laplace's approximation: the new mean is the
    /// mode of N(mean, 1/precision) * likelihood^weight, and the precision grows by the likelihood's curvature
    /// weight * p * (1 - p) there (Spiegelhalter and Lauritzen 1990, "Sequential updating of conditional
    /// probabilities on directed graphical structures"; Chapelle and Li 2011, "An empirical evaluation of Thompson
    /// sampling", algorithm 3).
    ///
    /// An answer that only passed its checks is as good as it was believed to be, and a little better than that: were
    /// it bad, it might have been found weak. So it counts as good by its weight times the probability that it is. It
    /// takes back what weak answers took away, and never raises an offset above 0: most bad answers pass.
    #[must_use]
    pub fn observe(&self, judgement: &Judgement, config: &LearningConfig) -> Self {
        let Judgement { base, good, weight, at_ms } = *judgement;
        if self.ignores(judgement) {
            return *self;
        }
        let now = self.after_forgetting(at_ms, config);
        // One that comes late counts as much as if it had come in time and been forgotten since.
        let weight = weight * kept(now.at_ms.saturating_sub(at_ms), config);
        let base = logit(base);
        let mean = match good {
            Some(good) => now.mode(base, good.clamp(0.0, 1.0), weight),
            None => now.mode(base, 1.0, weight * sigmoid(base + now.mean)).min(0.0),
        };
        let chance = sigmoid(base + mean);
        let weight = if good.is_some() { weight } else { weight * chance };
        let precision = now.precision + weight * chance * (1.0 - chance);
        let observations = now.observations.saturating_add(1);
        Self { mean, precision, observations, ..now }.within(config)
    }

    /// Solves precision * (mean - mode) + weight * (good - sigmoid(base + mode)) = 0, which falls in `mode`: the
    /// root lies between the mean and one full step from it.
    fn mode(&self, base: f64, good: f64, weight: f64) -> f64 {
        let slope = |mode: f64| self.precision * (self.mean - mode) + weight * (good - sigmoid(base + mode));
        let step = weight * (good - sigmoid(base + self.mean)) / self.precision;
        let (mut low, mut high) = (self.mean.min(self.mean + step), self.mean.max(self.mean + step));
        for _ in 0..BISECTIONS {
            let middle = f64::midpoint(low, high);
            if slope(middle) > 0.0 { low = middle } else { high = middle }
        }
        f64::midpoint(low, high)
    }

    /// Returns what is left at a later time: the natural parameters approach those of the prior by half each half
    /// life. An earlier time changes nothing: a clock that was set back makes nobody forget.
    fn after_forgetting(&self, now_ms: i64, config: &LearningConfig) -> Self {
        if now_ms <= self.at_ms {
            return *self;
        }
        let kept = kept(now_ms.saturating_sub(self.at_ms), config);
        let prior = prior_precision(config);
        let precision = prior + kept * (self.precision - prior);
        let mean = kept * self.precision * self.mean / precision;
        Self { mean, precision, at_ms: now_ms, ..*self }.within(config)
    }

    fn within(self, config: &LearningConfig) -> Self {
        let prior = prior_precision(config);
        Self {
            mean: self.mean.clamp(-config.offset_max, config.offset_max),
            precision: self.precision.clamp(prior, prior.max(SD_MIN.powi(-2))),
            ..self
        }
    }
}

fn prior_precision(config: &LearningConfig) -> f64 {
    config.prior_sd.powi(-2)
}

/// Returns the share that is kept after so long, 0 to 1.
fn kept(age_ms: i64, config: &LearningConfig) -> f64 {
    let half_lives = age_ms.max(0) as f64 / 1e3 / config.half_life.as_secs_f64();
    (-half_lives).exp2()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const DAY_MS: i64 = 86_400_000;

    fn config() -> LearningConfig {
        LearningConfig::default()
    }

    fn judged(base: f64, good: f64, weight: f64, at_ms: i64) -> Judgement {
        Judgement { base, good: Some(good), weight, at_ms }
    }

    #[test]
    fn one_judgement_moves_to_the_mode() {
        // With a prior of precision 1 the mode solves -mode = sigmoid(base + mode), at about -0.73.
        let cell = Cell::new(&config(), 0).observe(&judged(0.85, 0.0, 1.0, 0), &config());
        let chance = sigmoid(logit(0.85) + cell.mean());
        assert!((cell.mean() + chance).abs() < 1e-9 && (cell.mean() + 0.73).abs() < 0.01, "{cell:?}");
        assert!((cell.precision() - (1.0 + chance * (1.0 - chance))).abs() < 1e-9, "{cell:?}");
        assert_eq!(cell.observations(), 1);
    }

    #[test]
    fn what_only_passed_takes_back_and_raises_nothing() {
        let config = config();
        let passed = Judgement { good: None, ..judged(0.85, 0.0, 1.0, 0) };
        let fresh = Cell::new(&config, 0);
        assert_eq!(fresh.observe(&passed, &config), fresh);
        let mut cell = fresh.observe(&judged(0.85, 0.0, 1.0, 0), &config);
        let before = cell;
        cell = cell.observe(&passed, &config);
        assert!(cell.mean() > before.mean() && cell.precision() > before.precision(), "{before:?} {cell:?}");
        for _ in 0..10_000 {
            cell = cell.observe(&passed, &config);
        }
        assert!(cell.mean() <= 0.0 && cell.mean() > -0.1, "{cell:?}");
        let raised = fresh.observe(&judged(0.85, 1.0, 1.0, 0), &config);
        assert_eq!(raised.observe(&passed, &config), raised);
    }

    #[test]
    fn half_a_half_life_apart() {
        let config = config();
        let mut cell = Cell::new(&config, 0);
        for _ in 0..50 {
            cell = cell.observe(&judged(0.5, 1.0, 1.0, 0), &config);
        }
        let (mean, precision) = (cell.mean(), cell.precision());
        let later = cell.estimate(14 * DAY_MS, &config);
        let left = 1.0 + (precision - 1.0) / 2.0;
        assert!((later.sd.powi(-2) - left).abs() < 1e-9);
        assert!((later.mean - mean * precision / 2.0 / left).abs() < 1e-9);
        let far = cell.estimate(3650 * DAY_MS, &config);
        assert!(far.mean.abs() < 1e-9 && (far.sd - 1.0).abs() < 1e-9, "{far:?}");
        assert_eq!(cell.estimate(-DAY_MS, &config), cell.estimate(0, &config), "a clock set back");
    }

    #[test]
    fn a_late_judgement_counts_less() {
        let config = config();
        let cell = Cell::new(&config, 14 * DAY_MS);
        let late = cell.observe(&judged(0.5, 0.0, 1.0, 0), &config);
        let half = cell.observe(&judged(0.5, 0.0, 0.5, 14 * DAY_MS), &config);
        assert!((late.mean() - half.mean()).abs() < 1e-12);
    }

    #[test]
    fn nonsense_changes_nothing() {
        let cell = Cell::new(&config(), 0);
        for (base, good, weight) in [
            (f64::NAN, 0.0, 1.0),
            (0.5, f64::NAN, 1.0),
            (0.5, 0.0, f64::INFINITY),
            (0.5, 0.0, -1.0),
            (0.5, 0.0, 0.0),
        ] {
            assert_eq!(cell.observe(&judged(base, good, weight, 9), &config()), cell);
        }
        let restored = Cell::restore(f64::NAN, f64::INFINITY, 7, 5, &config());
        assert_eq!((restored.mean(), restored.precision(), restored.observations()), (0.0, 1.0, 7));
    }

    #[test]
    fn converges_to_the_true_rate() {
        // 3 of 10 are good where the classifier says 0.85.
        let config = LearningConfig { half_life: Duration::from_secs(3650 * 86_400), ..config() };
        let mut cell = Cell::new(&config, 0);
        for at in 0..2000 {
            let good = if at * 7 % 10 < 3 { 1.0 } else { 0.0 };
            cell = cell.observe(&judged(0.85, good, 1.0, at * 60_000), &config);
        }
        let rate = super::super::shifted(0.85, cell.mean());
        assert!((rate - 0.3).abs() < 0.05, "{rate}");
    }

    proptest! {
        #[test]
        fn nothing_leaves_the_bounds(
            judgements in proptest::collection::vec(
                (any::<f64>(), any::<f64>(), prop_oneof![any::<f64>(), 0.0_f64..1e6], any::<i64>()), 0..200,
            ),
            prior_sd in 0.05_f64..10.0,
            offset_max in 0.1_f64..10.0,
            half_life_s in 1_u64..100_000_000,
        ) {
            let half_life = Duration::from_secs(half_life_s);
            let config = LearningConfig { prior_sd, offset_max, half_life, ..config() };
            let mut cell = Cell::new(&config, 0);
            for (base, good, weight, at_ms) in judgements {
                cell = cell.observe(&judged(base, good, weight, at_ms), &config);
                let Estimate { mean, sd } = cell.estimate(at_ms, &config);
                prop_assert!(mean.abs() <= offset_max, "{cell:?}");
                prop_assert!(sd > 0.0 && sd <= prior_sd * (1.0 + 1e-9), "{cell:?}");
                prop_assert!(cell.precision() <= prior_sd.powi(-2).max(SD_MIN.powi(-2)) * (1.0 + 1e-9));
            }
        }

        #[test]
        fn good_news_never_lowers_an_offset(
            base in 0.0_f64..=1.0, first in 0.0_f64..=1.0, weight in 0.01_f64..5.0,
        ) {
            let config = config();
            let cell = Cell::new(&config, 0).observe(&judged(base, first, 1.0, 0), &config);
            let good = cell.observe(&judged(base, 1.0, weight, 0), &config);
            let bad = cell.observe(&judged(base, 0.0, weight, 0), &config);
            prop_assert!(bad.mean() <= cell.mean() && cell.mean() <= good.mean());
        }
    }
}
