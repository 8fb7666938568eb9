//! How much the log does at once while requests are served.

use std::time::Duration;

use tokio::time::sleep;

/// So much is done between two rests: some tenths of a millisecond of work.
pub const PORTION: usize = 20;
/// Two cores that serve 2,000 requests a second are idle for most of such a time.
const REST: Duration = Duration::from_millis(1);

/// How fast records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speed {
    /// As fast as it goes.
    Full,
    /// With rests, so that a request never waits for a processor until a whole batch is done: it would take the slowest
    /// of 100 twice as long on two cores. Ends at some 6,000 records a second.
    Gentle,
}

/// Returns whether so many records of a batch end a portion.
pub fn ends_portion(done: usize) -> bool {
    done.is_multiple_of(PORTION)
}

impl Speed {
    /// Rests, if so many records of a batch end a portion.
    pub async fn rest_after(self, done: usize) {
        if self == Self::Gentle && ends_portion(done) {
            sleep(REST).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rests_end_portions() {
        let check = async |speed: Speed, done: usize, expected: bool| {
            let before = Instant::now();
            speed.rest_after(done).await;
            assert_eq!(before.elapsed() >= REST, expected, "{speed:?}, {done}");
        };
        check(Speed::Gentle, PORTION - 1, false).await;
        check(Speed::Gentle, PORTION, true).await;
        check(Speed::Gentle, 2 * PORTION, true).await;
        check(Speed::Full, PORTION, false).await;
    }
}
