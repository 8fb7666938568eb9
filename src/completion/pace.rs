//! How fast targets answer, to tell when one is slow enough for a hedge.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::config::{HedgeConfig, TargetConfig, TargetIndex};

/// Times kept per target: enough for a 0.98 quantile, few enough to follow a changing target.
const TIMES_KEPT: usize = 64;
/// Fewer times tell nothing of a tail.
const TIMES_MIN: usize = 16;
/// The longest delay: so many times the shortest one, or the time that the target takes as a rule. A target that
/// is slow for long must not become one that nobody is asked beside.
const DELAY_FACTOR_MAX: u32 = 4;
/// About what today's models write, where a target's usual latency is not configured.
const TOKENS_PER_SECOND: f64 = 50.0;

/// Returns how long a typical whole answer of the target takes, above zero.
pub fn usual_latency(target: &TargetConfig) -> Duration {
    target.latency_ms_typical.map_or_else(
        || Duration::from_secs_f64(f64::from(target.output_tokens_typical.max(1)) / TOKENS_PER_SECOND),
        |latency_ms| Duration::from_millis(u64::from(latency_ms.max(1))),
    )
}

/// The latest times to the first token, or to a whole answer, of every target.
pub struct Pace {
    streamed: Vec<Times>,
    whole: Vec<Times>,
}

/// Of one target; shared by the completers of several configurations.
type Times = Arc<Mutex<VecDeque<Duration>>>;

impl Pace {
    /// Starts without any times.
    pub fn new(targets: usize) -> Self {
        let empty = || (0..targets).map(|_| Times::default()).collect();
        Self { streamed: empty(), whole: empty() }
    }

    /// Returns the times of other targets, each of which goes on from one of these or starts without any.
    pub fn after(&self, continues: &[Option<TargetIndex>]) -> Self {
        let of = |times: &[Times]| {
            continues
                .iter()
                .map(|before| before.map(|at| Arc::clone(&times[at.0])).unwrap_or_default())
                .collect()
        };
        Self { streamed: of(&self.streamed), whole: of(&self.whole) }
    }

    /// Notes how long a target took.
    pub fn note(&self, target: TargetIndex, streamed: Streamed, took: Duration) {
        let mut times = self.times(target, streamed);
        if times.len() == TIMES_KEPT {
            times.pop_front();
        }
        times.push_back(took);
    }

    /// Returns how long to wait for a target before a second one is asked; `usual` is what its answers take as
    /// a rule.
    pub fn delay(
        &self,
        target: TargetIndex,
        streamed: Streamed,
        hedge: &HedgeConfig,
        usual: Duration,
    ) -> Duration {
        let mut times: Vec<Duration> = self.times(target, streamed).iter().copied().collect();
        if times.len() < TIMES_MIN {
            return hedge.delay_min;
        }
        times.sort_unstable();
        let at = ((times.len() - 1) as f64 * hedge.quantile).ceil() as usize;
        let most = hedge.delay_min.max(usual).saturating_mul(DELAY_FACTOR_MAX);
        times[at.min(times.len() - 1)].clamp(hedge.delay_min, most)
    }

    fn times(
        &self,
        target: TargetIndex,
        streamed: Streamed,
    ) -> std::sync::MutexGuard<'_, VecDeque<Duration>> {
        let all = match streamed {
            Streamed::Yes => &self.streamed,
            Streamed::No => &self.whole,
        };
        all[target.0].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an answer comes in pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streamed {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_slow_by_its_own_times() {
        let pace = Pace::new(2);
        let hedge = HedgeConfig { quantile: 0.9, delay_min: Duration::from_millis(50), tiers: Vec::new() };
        let delay = |target| pace.delay(TargetIndex(target), Streamed::Yes, &hedge, Duration::ZERO);
        assert_eq!(delay(0), hedge.delay_min);
        for millis in 0..200 {
            pace.note(TargetIndex(0), Streamed::Yes, Duration::from_millis(millis));
            pace.note(TargetIndex(1), Streamed::Yes, Duration::from_millis(1));
        }
        // The last 64 are 136 to 199 ms: 0.9 of the way from the first to the last.
        assert_eq!(delay(0), Duration::from_millis(136 + 57));
        for _ in 0..200 {
            pace.note(TargetIndex(0), Streamed::Yes, Duration::from_secs(60));
        }
        assert_eq!(delay(0), 4 * hedge.delay_min, "there is a longest one");
        let usual = Duration::from_millis(100);
        assert_eq!(pace.delay(TargetIndex(0), Streamed::Yes, &hedge, usual), 4 * usual);
        assert_eq!(delay(1), hedge.delay_min);
        assert_eq!(pace.delay(TargetIndex(0), Streamed::No, &hedge, Duration::ZERO), hedge.delay_min);
    }
}
