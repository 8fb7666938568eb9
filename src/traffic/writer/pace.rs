//! How much of the spool is given to the store at once: less after it was too slow, more while it is quick. Pure.

use std::time::Duration;

/// As much as may be, at least one entry, and what a store took its time for stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    rows: usize,
    bytes: usize,
    most: (usize, usize),
    patience: Duration,
}

/// Of the longest wait a batch may take at most this part for the next one to be twice as large: that then takes half of
/// it, so that growing does not end in being too slow again.
const QUICK: u32 = 4;

impl Pace {
    /// Begins with the most, for a store that is waited for so long.
    pub fn new(rows_max: usize, bytes_max: usize, patience: Duration) -> Self {
        Self { rows: rows_max, bytes: bytes_max, most: (rows_max, bytes_max), patience }
    }

    /// Returns how many entries are given at once.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns how many bytes of documents are given at once, but for one entry that is longer.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes that the store did not take a batch of this size in time.
    pub fn was_too_slow(&mut self, rows: usize, bytes: usize) {
        // What was given may have been far less than the most.
        self.rows = (self.rows.min(rows) / 2).max(1);
        self.bytes = (self.bytes.min(bytes) / 2).max(1);
    }

    /// Notes how long the store took for a batch.
    pub fn took(&mut self, elapsed: Duration) {
        if elapsed <= self.patience / QUICK {
            self.rows = self.rows.saturating_mul(2).min(self.most.0);
            self.bytes = self.bytes.saturating_mul(2).min(self.most.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(3);

    #[test]
    fn it_shrinks_to_one_entry_and_grows_to_the_most() {
        let mut pace = Pace::new(500, 4 << 20, PATIENCE);
        pace.was_too_slow(100, 1 << 20);
        assert_eq!((pace.rows(), pace.bytes()), (50, 1 << 19));
        for _ in 0..40 {
            pace.was_too_slow(pace.rows(), pace.bytes());
        }
        assert_eq!((pace.rows(), pace.bytes()), (1, 1));
        for _ in 0..40 {
            pace.took(Duration::ZERO);
        }
        assert_eq!(pace, Pace::new(500, 4 << 20, PATIENCE));
    }

    #[test]
    fn it_comes_to_rest_at_what_a_slow_store_takes() {
        for rows_a_second in [1, 7, 50, 130, 1_000] {
            let mut pace = Pace::new(500, 4 << 20, PATIENCE);
            let mut slow = Vec::new();
            for round in 0..50 {
                let needs = Duration::from_secs(1) * pace.rows() as u32 / rows_a_second;
                if needs > PATIENCE {
                    pace.was_too_slow(pace.rows(), pace.bytes());
                    slow.push(round);
                } else {
                    pace.took(needs);
                }
            }
            assert!(slow.last().is_none_or(|round| *round < 10), "{rows_a_second}: {slow:?}");
        }
    }
}
