//! How the log does: what was written and lost since the start, and what waits. Read by operators, written by requests
//! and the writer; costs no more than a few atomics.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::telemetry;

/// A log that is overrun says so, but not once for each request.
const DROPS_TOLD_EVERY: Duration = Duration::from_secs(60);

/// How the log does at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrafficStatus {
    pub store_up: bool,
    /// Records that wait to be written.
    pub waiting: usize,
    /// Records and feedback on local disk until the store is back.
    pub spooled: u64,
    /// Records lost since the start.
    pub dropped: u64,
    /// Records that the store took since the start.
    pub written: u64,
}

/// What is counted.
#[derive(Default)]
pub struct Totals {
    store_up: AtomicBool,
    waiting: AtomicUsize,
    spooled: AtomicU64,
    dropped: AtomicU64,
    written: AtomicU64,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    last: Option<Instant>,
    untold: u64,
}

impl Totals {
    /// Counts records that are lost, and says so once in a while.
    pub fn dropped(&self, reason: &'static str, records: u64, why: &dyn fmt::Display) {
        self.dropped.fetch_add(records, Ordering::Relaxed);
        telemetry::traffic_dropped(reason, records);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.untold += records;
        if told.last.is_some_and(|last| last.elapsed() < DROPS_TOLD_EVERY) {
            return;
        }
        told.last = Some(Instant::now());
        let records = std::mem::take(&mut told.untold);
        drop(told);
        tracing::warn!(reason, records, %why, "requests are missing in the traffic log");
    }

    /// Counts records that the store took.
    pub fn written(&self, records: u64) {
        self.written.fetch_add(records, Ordering::Relaxed);
        telemetry::traffic_written(records);
    }

    /// Notes what waits, and whether the store is there.
    pub fn note(&self, waiting: usize, spooled: u64, store_up: bool) {
        self.waiting.store(waiting, Ordering::Relaxed);
        self.spooled.store(spooled, Ordering::Relaxed);
        self.store_up.store(store_up, Ordering::Relaxed);
        telemetry::traffic_waiting(waiting, spooled, store_up);
    }

    /// Returns how the log does.
    pub fn status(&self) -> TrafficStatus {
        TrafficStatus {
            store_up: self.store_up.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            spooled: self.spooled.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            written: self.written.load(Ordering::Relaxed),
        }
    }
}
