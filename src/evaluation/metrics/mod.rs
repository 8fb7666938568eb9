//! Figures over weighted samples. Pure, and defined nowhere else; `docs/metrics.md` says what each is for.
//!
//! A weight is how often a resample drew the sample: all ones is the sample itself. Whatever needs sorting
//! is sorted when a metric is made, so that each of a thousand resamples costs one pass.

mod calibration;
mod cost;
mod gain;
mod labels;
mod ranks;
mod shares;

pub use self::{
    calibration::{Bin, CalibrationError},
    cost::{Answer, CostFigures, CostQuality, Point},
    gain::{GainCurve, Graded},
    labels::{MacroF1, confusion},
    ranks::RankCorrelation,
    shares::{Mean, Saving},
};

/// A figure of a set of samples.
pub trait Metric: Send + Sync {
    /// Returns the figure with sample `i` counted `weights[i]` times; `None` where it has no meaning, for
    /// example without samples. Never NaN.
    fn value(&self, weights: &[u32]) -> Option<f64>;
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
