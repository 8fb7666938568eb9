//! Which targets refuse calls at this moment: written by the breakers of `completion`, read by every decision.
//!
//! A table of atomics: reading it costs nothing and never waits.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::config::TargetIndex;

/// One slot per target of the configuration.
#[derive(Debug)]
pub struct TargetHealth {
    started: Instant,
    /// Milliseconds since `started` until which the target refuses; 0: it does not. Shared with the tables of other
    /// configurations that have the target too.
    refuses_until_ms: Vec<Arc<AtomicU64>>,
}

impl TargetHealth {
    /// Starts with every target open for calls.
    pub fn new(targets: usize) -> Self {
        Self { started: Instant::now(), refuses_until_ms: (0..targets).map(|_| Arc::default()).collect() }
    }

    /// Returns a table for other targets, each of which is one of these or starts open for calls.
    pub fn after(&self, continues: &[Option<TargetIndex>]) -> Self {
        let slot = |before: &Option<TargetIndex>| {
            before.map(|at| Arc::clone(&self.refuses_until_ms[at.0])).unwrap_or_default()
        };
        Self { started: self.started, refuses_until_ms: continues.iter().map(slot).collect() }
    }

    /// Returns whether the target refuses calls at `now`; when its time is over a probe may go there.
    pub fn refuses(&self, target: TargetIndex, now: Instant) -> bool {
        self.refuses_until_ms[target.0].load(Ordering::Relaxed) > self.millis(now)
    }

    /// Returns the targets that refuse calls at `now`, in their order; costs no memory while there are none.
    pub fn refusing(&self, now: Instant) -> Vec<TargetIndex> {
        (0..self.refuses_until_ms.len())
            .map(TargetIndex)
            .filter(|&target| self.refuses(target, now))
            .collect()
    }

    /// Notes that the target refuses calls until then.
    pub fn refuse_until(&self, target: TargetIndex, until: Instant) {
        self.refuses_until_ms[target.0].store(self.millis(until).max(1), Ordering::Relaxed);
    }

    /// Notes that the target takes calls again.
    pub fn reopen(&self, target: TargetIndex) {
        self.refuses_until_ms[target.0].store(0, Ordering::Relaxed);
    }

    fn millis(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).max(Duration::ZERO).as_millis() as u64
    }
}
