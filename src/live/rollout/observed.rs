//! What was seen of one bundle: sums that add up over requests and replicas. Pure.
//!
//! Never holds a text, a tenant or an id.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

/// Tiers told apart; those of replicas with other configurations come together as [`OTHER_TIERS`].
const TIERS_MAX: usize = 64;
const OTHER_TIERS: &str = "(other)";

/// What was seen of one bundle since its step began. Sums of several replicas add up. Stored as JSON; fields are only
/// ever added.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Observed {
    /// Requests that asked the classifier; of a shadow those that it was given.
    #[serde(skip_serializing_if = "is_zero")]
    pub asked: u64,
    /// Of `asked`, those that got scores.
    #[serde(skip_serializing_if = "is_zero")]
    pub scored: u64,
    /// Of `asked`, those that got none, by reason.
    #[serde(skip_serializing_if = "is_default")]
    pub unscored: Unscored,
    /// Tiers that were decided for requests with scores, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tiers: BTreeMap<String, u64>,
    /// What tokenizer and model together took of the processor, or where they run elsewhere of the clock: without any
    /// wait, for a free session or for a processor.
    #[serde(skip_serializing_if = "is_default")]
    pub latencies: Latencies,
    /// Completions that were answered; one that nobody answered says nothing about a tier.
    #[serde(skip_serializing_if = "is_zero")]
    pub completions: u64,
    /// Of `completions`, those that a higher tier than the decided one answered.
    #[serde(skip_serializing_if = "is_zero")]
    pub escalated: u64,
    /// Of `completions`, those that stayed weak and were not escalated: nothing is in both.
    #[serde(skip_serializing_if = "is_zero")]
    pub weak: u64,
    /// Weight of feedback that calls an answer good.
    #[serde(skip_serializing_if = "is_none_of")]
    pub good: f64,
    /// Weight of feedback that calls an answer bad.
    #[serde(skip_serializing_if = "is_none_of")]
    pub bad: f64,
    /// Requests that active bundle and shadow both scored.
    #[serde(skip_serializing_if = "is_zero")]
    pub compared: u64,
    /// Of `compared`, those for which both decided the same tier.
    #[serde(skip_serializing_if = "is_zero")]
    pub same_tier: u64,
    /// Of `compared`, those for which the shadow decided a stronger tier.
    #[serde(skip_serializing_if = "is_zero")]
    pub moved_up: u64,
    /// Of `compared`, those for which the shadow decided a weaker tier.
    #[serde(skip_serializing_if = "is_zero")]
    pub moved_down: u64,
    /// Requests of the shadow's sample that it was not given: too much waited.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropped: u64,
}

/// Requests without scores, by the reasons that decisions give.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unscored {
    #[serde(skip_serializing_if = "is_zero")]
    pub overloaded: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub too_late: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub failed: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub stopped: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub absent: u64,
}

impl Observed {
    /// Adds what another replica saw.
    pub fn add(&mut self, other: &Self) {
        self.asked += other.asked;
        self.scored += other.scored;
        self.unscored.add(&other.unscored);
        for (tier, &count) in &other.tiers {
            self.add_tier(tier, count);
        }
        self.latencies.add(&other.latencies);
        self.completions += other.completions;
        self.escalated += other.escalated;
        self.weak += other.weak;
        self.good += other.good;
        self.bad += other.bad;
        self.compared += other.compared;
        self.same_tier += other.same_tier;
        self.moved_up += other.moved_up;
        self.moved_down += other.moved_down;
        self.dropped += other.dropped;
    }

    /// Adds decisions for a tier.
    pub fn add_tier(&mut self, tier: &str, count: u64) {
        if let Some(known) = self.tiers.get_mut(tier) {
            *known += count;
            return;
        }
        let name = if self.tiers.len() < TIERS_MAX { tier } else { OTHER_TIERS };
        *self.tiers.entry(name.to_owned()).or_default() += count;
    }

    /// Returns on how many requests the classifier itself failed; a full queue or a late answer is no failure, but
    /// leaves a request without scores all the same.
    pub fn failures(&self) -> u64 {
        self.unscored.failed + self.unscored.stopped
    }

    /// Returns the share of the shadow's decisions that agree with the active bundle's, 0 to 1; `None` without any.
    pub fn agreement(&self) -> Option<f64> {
        (self.compared > 0).then(|| self.same_tier as f64 / self.compared as f64)
    }
}

impl Unscored {
    /// Returns how many requests got no scores, for whatever reason.
    pub fn total(&self) -> u64 {
        self.overloaded + self.too_late + self.failed + self.stopped + self.absent
    }

    fn add(&mut self, other: &Self) {
        self.overloaded += other.overloaded;
        self.too_late += other.too_late;
        self.failed += other.failed;
        self.stopped += other.stopped;
        self.absent += other.absent;
    }
}

/// How long something took: counts in buckets that each end 9 % above where they begin (a factor of 2^(1/8)), from one
/// microsecond to two minutes. A quantile is therefore off by at most that much, and never too low.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Latencies {
    /// Empty buckets are left out; a bucket's number is a byte, so that nothing grows beyond 256.
    buckets: BTreeMap<u8, u64>,
}

impl Latencies {
    /// Buckets of each doubling.
    const PER_OCTAVE: f64 = 8.0;
    /// The last one takes whatever took longer than about two minutes.
    pub const BUCKETS: usize = 217;

    /// Returns the bucket of a duration.
    pub fn bucket_of(took: Duration) -> u8 {
        let micros = took.as_micros().max(1) as f64;
        let at = (micros.log2() * Self::PER_OCTAVE).floor();
        (at as usize).min(Self::BUCKETS - 1) as u8
    }

    /// Adds counts to a bucket.
    pub fn add_to(&mut self, bucket: u8, count: u64) {
        if count > 0 {
            *self.buckets.entry(bucket).or_default() += count;
        }
    }

    pub fn add(&mut self, other: &Self) {
        for (&bucket, &count) in &other.buckets {
            self.add_to(bucket, count);
        }
    }

    pub fn count(&self) -> u64 {
        self.buckets.values().sum()
    }

    /// Returns the end of the bucket that holds the quantile, microseconds; `None` without any.
    pub fn quantile_us(&self, quantile: f64) -> Option<f64> {
        let wanted = (quantile.clamp(0.0, 1.0) * self.count() as f64).ceil().max(1.0);
        let mut below = 0;
        for (&bucket, &count) in &self.buckets {
            below += count;
            if below as f64 >= wanted {
                return Some(2_f64.powf((f64::from(bucket) + 1.0) / Self::PER_OCTAVE));
            }
        }
        None
    }

    /// Returns how many took certainly longer than this: those of buckets that begin there or above.
    pub fn above_us(&self, limit_us: f64) -> u64 {
        let begins = |bucket: u8| 2_f64.powf(f64::from(bucket) / Self::PER_OCTAVE);
        // A limit that is a bucket's end is the next one's beginning, up to rounding.
        let reaches = |bucket: u8| begins(bucket) >= limit_us * (1.0 - f64::EPSILON * 8.0);
        self.buckets.iter().filter(|&(&bucket, _)| reaches(bucket)).map(|(_, count)| count).sum()
    }
}

// serde hands references to them.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_none_of(weight: &f64) -> bool {
    *weight == 0.0
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(micros: &[u64], quantile: f64, expected_us: f64) {
        let mut latencies = Latencies::default();
        for &micros in micros {
            latencies.add_to(Latencies::bucket_of(Duration::from_micros(micros)), 1);
        }
        let got = latencies.quantile_us(quantile).unwrap();
        assert!((expected_us..=expected_us * 1.1).contains(&got), "{got} for {expected_us}");
    }

    #[test]
    fn quantiles_are_at_most_a_bucket_too_high() {
        let thousand: Vec<u64> = (1..=1000).collect();
        check(&thousand, 0.95, 950.0);
        check(&thousand, 0.5, 500.0);
        check(&[7], 0.95, 7.0);
        check(&[0], 0.95, 1.0);
        check(&[5, 4_000_000], 1.0, 4_000_000.0);
        assert_eq!(Latencies::default().quantile_us(0.95), None);
        assert_eq!(usize::from(Latencies::bucket_of(Duration::MAX)), Latencies::BUCKETS - 1);
        assert!(Latencies::BUCKETS <= usize::from(u8::MAX) + 1);
    }

    #[test]
    fn what_lies_above_its_own_quantile_is_the_rest() {
        let mut latencies = Latencies::default();
        for micros in 1..=1000 {
            latencies.add_to(Latencies::bucket_of(Duration::from_micros(micros)), 1);
        }
        let limit = latencies.quantile_us(0.95).unwrap();
        assert!(latencies.above_us(limit) <= 50);
        assert_eq!(latencies.above_us(0.5), 1000);
        assert_eq!(latencies.above_us(1e9), 0);
    }

    #[test]
    fn sums_of_replicas_add_up_and_stay_bounded() {
        let mut one = Observed { asked: 3, scored: 2, good: 0.5, ..Observed::default() };
        one.unscored.failed = 1;
        one.add_tier("simple", 2);
        one.latencies.add_to(80, 2);
        let mut sum = Observed::default();
        sum.add(&one);
        sum.add(&one);
        assert_eq!((sum.asked, sum.scored, sum.failures(), sum.good), (6, 4, 2, 1.0));
        assert_eq!((sum.tiers["simple"], sum.latencies.count()), (4, 4));
        for other in 0..1000 {
            sum.add_tier(&format!("tier-{other}"), 1);
        }
        assert!(sum.tiers.len() <= TIERS_MAX + 1);
        assert_eq!(sum.tiers.values().sum::<u64>(), 1004);
    }

    #[test]
    fn documents_are_small_and_older_ones_are_read() {
        assert_eq!(serde_json::to_string(&Observed::default()).unwrap(), "{}");
        let read: Observed = serde_json::from_str(r#"{"asked": 4, "later": true}"#).unwrap();
        assert_eq!(read, Observed { asked: 4, ..Observed::default() });
        let mut full = Observed { asked: 9, scored: 8, bad: 0.3, ..Observed::default() };
        full.unscored.too_late = 1;
        full.latencies.add_to(101, 8);
        full.add_tier("simple", 8);
        let text = serde_json::to_string(&full).unwrap();
        assert_eq!(
            text,
            r#"{"asked":9,"scored":8,"unscored":{"too_late":1},"tiers":{"simple":8},"latencies":{"101":8},"bad":0.3}"#
        );
        assert_eq!(serde_json::from_str::<Observed>(&text).unwrap(), full);
    }
}
