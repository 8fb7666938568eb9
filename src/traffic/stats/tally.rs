//! Sums over requests: of all, of a day, of a tier. Pure.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::traffic::{
    feedback::{Feedback, Verdict},
    record::{Kind, Logged},
};

/// Names told apart in one grouping; a configuration has far fewer, and a log must not fill the memory.
const NAMES_MAX: usize = 1_000;
const OTHERS: &str = "(others)";
/// From this on a score without a verdict counts as good.
const GOOD_FROM: f64 = 0.5;
/// Longest time that is told from a longer one, microseconds: a day.
const TIME_US_MAX: u64 = 86_400_000_000;
/// Percentiles are right to one in a thousand.
const DIGITS: u8 = 3;

/// Requests and what came of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Tally {
    pub requests: u64,
    /// Requests that asked for an answer, not only for a decision.
    pub completions: u64,
    /// What completions cost, and what decisions alone would cost by estimate.
    pub cost_usd: f64,
    /// The part of `cost_usd` that is an estimate for decisions alone.
    pub estimated_usd: f64,
    /// The same from the top tier; of what was not answered nothing is known.
    pub baseline_cost_usd: f64,
    /// The part of `cost_usd` that bought no answer: of requests that failed or whose caller hung up. Nothing can be
    /// compared with it.
    pub unanswered_usd: f64,
    /// A higher tier than the decided one answered.
    pub escalated: u64,
    /// Ended with an answer that a check found weak.
    pub weak: u64,
    pub failed: u64,
    pub hung_up: u64,
    /// Judgements, not requests.
    pub good: u64,
    pub bad: u64,
}

impl Tally {
    pub fn add(&mut self, logged: &Logged) {
        let record = &logged.record;
        let (decision, outcome) = (&record.decision, &record.outcome);
        self.requests += 1;
        match record.kind {
            Kind::Complete => {
                self.completions += 1;
                self.cost_usd += outcome.cost_usd;
                if matches!(outcome.status.as_str(), "failed" | "hung_up") {
                    self.unanswered_usd += outcome.cost_usd;
                } else {
                    self.baseline_cost_usd += outcome.baseline_cost_usd;
                }
            }
            Kind::Route => {
                self.cost_usd += decision.cost_usd_estimate;
                self.estimated_usd += decision.cost_usd_estimate;
                self.baseline_cost_usd += decision.baseline_cost_usd_estimate;
            }
        }
        self.escalated += u64::from(outcome.escalated);
        self.weak += u64::from(outcome.status == "weak");
        self.failed += u64::from(outcome.status == "failed");
        self.hung_up += u64::from(outcome.status == "hung_up");
        for good in logged.feedback.iter().filter_map(is_good) {
            self.good += u64::from(good);
            self.bad += u64::from(!good);
        }
    }

    /// Returns what was saved against the top tier, of answers and decisions; negative where more was spent.
    pub fn saved_usd(&self) -> f64 {
        self.baseline_cost_usd - (self.cost_usd - self.unanswered_usd)
    }

    /// Returns the same as a share of the top tier's cost; `None` where that is 0.
    pub fn saved_share(&self) -> Option<f64> {
        (self.baseline_cost_usd > 0.0).then(|| self.saved_usd() / self.baseline_cost_usd)
    }

    /// Returns the share of good judgements; `None` where nobody judged.
    pub fn good_share(&self) -> Option<f64> {
        share(self.good, self.good + self.bad)
    }
}

/// Returns whether a judgement is good; `None` where it says nothing about that.
fn is_good(feedback: &Feedback) -> Option<bool> {
    match (feedback.verdict, feedback.score) {
        (Some(verdict), _) => Some(verdict == Verdict::Good),
        (None, Some(score)) => Some(score >= GOOD_FROM),
        (None, None) => None,
    }
}

/// Returns a part of a whole; `None` where there is no whole.
pub fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Something counted by name, within a bound.
#[derive(Debug, Clone)]
pub struct Named<T>(BTreeMap<String, T>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Default> Named<T> {
    /// Returns what is counted under a name; beyond the bound, under one name for all others.
    pub fn of(&mut self, name: &str) -> &mut T {
        let name = if self.0.len() < NAMES_MAX || self.0.contains_key(name) { name } else { OTHERS };
        // Most names are there: the lookup spares each of them an allocation.
        if !self.0.contains_key(name) {
            self.0.insert(name.to_owned(), T::default());
        }
        self.0.get_mut(name).expect("it was just put there")
    }

    pub fn into_map(self) -> BTreeMap<String, T> {
        self.0
    }
}

/// Times as percentiles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    pub count: u64,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

/// Times, kept by size in bounded memory.
#[derive(Debug, Clone)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new_with_max(TIME_US_MAX, DIGITS).expect("the bounds are constants"))
    }
}

impl Times {
    pub fn add_us(&mut self, us: u64) {
        self.0.saturating_record(us);
    }

    /// What is no time counts as none.
    pub fn add_ms(&mut self, ms: f64) {
        self.add_us((ms.max(0.0) * 1000.0) as u64);
    }

    /// Returns `None` where there was no time.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let at = |quantile: f64| self.0.value_at_quantile(quantile) as f64 / 1000.0;
        (!self.0.is_empty()).then(|| Percentiles {
            count: self.0.len(),
            p50_ms: at(0.5),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            max_ms: self.0.max() as f64 / 1000.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded() {
        let mut named = Named::<u64>::default();
        for name in 0..NAMES_MAX * 3 {
            *named.of(&name.to_string()) += 1;
        }
        *named.of("0") += 1;
        let map = named.into_map();
        assert_eq!(map.len(), NAMES_MAX + 1);
        assert_eq!((map["0"], map[OTHERS]), (2, 2 * NAMES_MAX as u64));
    }

    #[test]
    fn times_are_right_to_a_thousandth() {
        let mut times = Times::default();
        assert_eq!(times.percentiles(), None);
        for ms in 1..=1000 {
            times.add_ms(f64::from(ms));
        }
        times.add_ms(f64::NAN);
        times.add_ms(1e30);
        let found = times.percentiles().unwrap();
        for (found, expected) in [(found.p50_ms, 500.0), (found.p95_ms, 951.0), (found.p99_ms, 991.0)] {
            assert!((found - expected).abs() <= expected / 500.0, "{found} for {expected}");
        }
        assert_eq!(found.count, 1002);
    }
}
