//! Calls and failures of the last while, in a fixed number of buckets. Pure.

use std::time::{Duration, Instant};

/// Steps in which the window slides: old calls leave it a tenth at a time.
const BUCKETS: usize = 10;
/// Shortest bucket: a window of nothing would have no place for a call.
const BUCKET_MIN: Duration = Duration::from_millis(1);

/// A sliding window.
#[derive(Debug, Clone)]
pub struct Window {
    started: Instant,
    bucket: Duration,
    buckets: [Bucket; BUCKETS],
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    /// Which step since the start it counts.
    step: u64,
    calls: u64,
    failed: u64,
}

impl Window {
    /// Starts empty.
    pub fn new(length: Duration, now: Instant) -> Self {
        let bucket = (length / BUCKETS as u32).max(BUCKET_MIN);
        Self { started: now, bucket, buckets: [Bucket::default(); BUCKETS] }
    }

    /// Counts a call.
    pub fn add(&mut self, failed: bool, now: Instant) {
        let step = self.step(now);
        let bucket = &mut self.buckets[(step % BUCKETS as u64) as usize];
        // A later step may be there already: threads read the clock before they come here.
        if bucket.step < step {
            *bucket = Bucket { step, ..Bucket::default() };
        }
        bucket.calls += 1;
        bucket.failed += u64::from(failed);
    }

    /// Returns the calls of the window and those of them that failed.
    pub fn counts(&self, now: Instant) -> (u64, u64) {
        let step = self.step(now);
        self.buckets
            .iter()
            .filter(|bucket| bucket.step + BUCKETS as u64 > step)
            .fold((0, 0), |(calls, failed), bucket| (calls + bucket.calls, failed + bucket.failed))
    }

    fn step(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.started).as_nanos() / self.bucket.as_nanos();
        u64::try_from(passed).unwrap_or(u64::MAX - BUCKETS as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_leave_the_window_a_tenth_at_a_time() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut window = Window::new(Duration::from_secs(10), start);
        window.add(true, at(0));
        window.add(false, at(999));
        window.add(true, at(1000));
        for (ms, expected) in [
            (0, (3, 2)),
            (1000, (3, 2)),
            (9_999, (3, 2)),
            (10_000, (1, 1)),
            (11_000, (0, 0)),
            (99_000, (0, 0)),
        ] {
            assert_eq!(window.counts(at(ms)), expected, "{ms}");
        }
        // Its bucket is used again.
        window.add(false, at(20_500));
        assert_eq!(window.counts(at(20_500)), (1, 0));
        window.add(true, at(10_700));
        assert_eq!(window.counts(at(20_500)), (2, 1), "a late call counts as one of now");
    }

    #[test]
    fn a_window_of_nothing_still_counts() {
        let start = Instant::now();
        let mut window = Window::new(Duration::ZERO, start);
        window.add(true, start);
        assert_eq!(window.counts(start), (1, 1));
        assert_eq!(window.counts(start + Duration::from_secs(1)), (0, 0));
    }
}
