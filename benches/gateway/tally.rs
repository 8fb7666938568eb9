//! What the callers of one gateway saw of one load, over all rounds.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

use crate::{
    client::{Seen, Timing},
    measure::{histogram_us, process::Usage},
};

/// Different errors that are kept; the rest is the same trouble in other words.
const ERRORS_KEPT: usize = 4;

/// Latencies to one moment of the answer.
#[derive(Clone)]
pub struct Latencies {
    /// As callers see them.
    pub all_us: Histogram<u64>,
    /// Less what the upstream took.
    pub outside_us: Histogram<u64>,
}

impl Latencies {
    fn new() -> Self {
        Self { all_us: histogram_us(), outside_us: histogram_us() }
    }

    fn note(&mut self, timing: Timing) {
        self.all_us.saturating_record(timing.latency.as_micros() as u64);
        let outside = timing.latency.saturating_sub(timing.held);
        self.outside_us.saturating_record(outside.as_micros() as u64);
    }
}

/// Everything that was seen.
#[derive(Clone)]
pub struct Tally {
    pub whole: Latencies,
    /// Of streams only.
    pub first: Latencies,
    pub claimed_us: Histogram<u64>,
    pub errors: BTreeMap<String, u64>,
    /// Answers a second, of each round.
    pub rates: Vec<f64>,
    pub cpu_ms: f64,
    pub rss_mb: f64,
}

impl Tally {
    pub fn new() -> Self {
        Self {
            whole: Latencies::new(),
            first: Latencies::new(),
            claimed_us: histogram_us(),
            errors: BTreeMap::new(),
            rates: Vec::new(),
            cpu_ms: 0.0,
            rss_mb: 0.0,
        }
    }

    pub fn note(&mut self, outcome: &Result<Seen, String>) {
        match outcome {
            Ok(seen) => {
                self.whole.note(seen.whole);
                if let Some(first) = seen.first {
                    self.first.note(first);
                }
                if let Some(claimed) = seen.claimed {
                    self.claimed_us.saturating_record(claimed.as_micros() as u64);
                }
            }
            Err(why) => {
                let known = self.errors.contains_key(why) || self.errors.len() < ERRORS_KEPT;
                let why = if known { why.clone() } else { "other errors".to_owned() };
                *self.errors.entry(why).or_default() += 1;
            }
        }
    }

    /// Notes the end of a round in which `answered_before` was the count at its start.
    pub fn end_round(&mut self, answered_before: u64, time: Duration, usage: Option<(Usage, Usage)>) {
        self.rates.push((self.answered() - answered_before) as f64 / time.as_secs_f64());
        if let Some((before, after)) = usage {
            self.cpu_ms += after.cpu_ms - before.cpu_ms;
            self.rss_mb = after.rss_mb;
        }
    }

    pub fn answered(&self) -> u64 {
        self.whole.all_us.len()
    }

    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}
