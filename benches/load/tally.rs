//! What came back: latencies, errors, and who decided.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use pointsman::server::proto;

use crate::measure::histogram_us;

/// Different errors that are kept; the rest is the same trouble in other words.
const ERRORS_KEPT: usize = 8;

/// Which of the two paths a call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Fast,
    Classifier,
}

/// What a group of clients saw on one path.
#[derive(Clone)]
pub struct Outcomes {
    pub latency_us: Histogram<u64>,
    /// Decisions by source.
    pub sources: BTreeMap<String, u64>,
    /// Failed calls by what went wrong.
    pub errors: BTreeMap<String, u64>,
}

impl Outcomes {
    pub fn new() -> Self {
        Self { latency_us: histogram_us(), sources: BTreeMap::new(), errors: BTreeMap::new() }
    }

    pub fn answered(&self) -> u64 {
        self.latency_us.len()
    }

    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Adds what others saw.
    pub fn add(&mut self, other: &Self) {
        self.latency_us.add(&other.latency_us).expect("all histograms have the same bounds");
        for (from, to) in [(&other.sources, &mut self.sources), (&other.errors, &mut self.errors)] {
            for (name, count) in from {
                *to.entry(name.clone()).or_default() += count;
            }
        }
    }

    fn note(&mut self, latency: Duration, outcome: &Result<String, String>) {
        match outcome {
            Ok(source) => {
                self.latency_us.saturating_record(latency.as_micros() as u64);
                *self.sources.entry(source.clone()).or_default() += 1;
            }
            Err(why) => {
                let known = self.errors.contains_key(why) || self.errors.len() < ERRORS_KEPT;
                let why = if known { why.clone() } else { "other errors".to_owned() };
                *self.errors.entry(why).or_default() += 1;
            }
        }
    }
}

/// Collects what the clients of a cell see from `start` on.
pub struct Tally {
    start: Instant,
    paths: Mutex<[Running; 2]>,
}

/// Since the start, and since the last interim report.
struct Running {
    all: Outcomes,
    interval: Outcomes,
}

impl Tally {
    /// Counts calls that are made, or due, at `start` or later.
    pub fn new(start: Instant) -> Self {
        let running = || Running { all: Outcomes::new(), interval: Outcomes::new() };
        Self { start, paths: Mutex::new([running(), running()]) }
    }

    /// Notes a call that was made, or due, at `since` and has just ended.
    pub fn note(
        &self,
        kind: Kind,
        since: Instant,
        answer: Result<tonic::Response<proto::RouteResponse>, tonic::Status>,
    ) {
        let latency = since.elapsed();
        let outcome = match answer {
            Ok(answer) => Ok(source(&answer.into_inner())),
            Err(status) => Err(format!("{:?}: {}", status.code(), status.message())),
        };
        self.note_outcome(kind, since, latency, &outcome);
    }

    /// Notes a call that was due and could not be made.
    pub fn note_unsent(&self, kind: Kind, since: Instant, why: &str) {
        self.note_outcome(kind, since, Duration::ZERO, &Err(why.to_owned()));
    }

    fn note_outcome(&self, kind: Kind, since: Instant, latency: Duration, outcome: &Result<String, String>) {
        if since < self.start {
            return;
        }
        let running = &mut self.paths()[kind as usize];
        running.all.note(latency, outcome);
        running.interval.note(latency, outcome);
    }

    /// Returns what was seen since the start.
    pub fn outcomes(&self, kind: Kind) -> Outcomes {
        self.paths()[kind as usize].all.clone()
    }

    /// Returns what was seen since the last call of this.
    pub fn take_interval(&self, kind: Kind) -> Outcomes {
        std::mem::replace(&mut self.paths()[kind as usize].interval, Outcomes::new())
    }

    fn paths(&self) -> MutexGuard<'_, [Running; 2]> {
        self.paths.lock().expect("no client panics while it counts")
    }
}

/// Returns the name of what decided, for example "classifier".
fn source(answer: &proto::RouteResponse) -> String {
    let source = answer.decision.as_ref().map_or(proto::Source::Unspecified, proto::Decision::source);
    source.as_str_name().trim_start_matches("SOURCE_").to_lowercase()
}
