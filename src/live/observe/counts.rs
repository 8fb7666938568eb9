//! Counts of one bundle, cheap enough for the path of a request: every one is an atomic of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{
    live::rollout::{Latencies, Observed},
    prompt::{Decision, Source},
    routing::TOO_LATE,
};

use super::score::Moved;

/// Feedback is counted in thousandths of what a person's counts.
const WEIGHT_PARTS: f64 = 1000.0;

/// What is counted.
pub struct Counts {
    asked: AtomicU64,
    scored: AtomicU64,
    overloaded: AtomicU64,
    too_late: AtomicU64,
    failed: AtomicU64,
    stopped: AtomicU64,
    absent: AtomicU64,
    /// One for each tier of the configuration, by place.
    tiers: Vec<(Arc<str>, AtomicU64)>,
    latencies: Vec<AtomicU64>,
    completions: AtomicU64,
    escalated: AtomicU64,
    weak: AtomicU64,
    good_parts: AtomicU64,
    bad_parts: AtomicU64,
    compared: AtomicU64,
    same_tier: AtomicU64,
    moved_up: AtomicU64,
    moved_down: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    /// Returns counts for decisions for these tiers.
    pub fn new(tiers: impl Iterator<Item = Arc<str>>) -> Self {
        let zero = AtomicU64::default;
        Self {
            asked: zero(),
            scored: zero(),
            overloaded: zero(),
            too_late: zero(),
            failed: zero(),
            stopped: zero(),
            absent: zero(),
            tiers: tiers.map(|tier| (tier, zero())).collect(),
            latencies: (0..Latencies::BUCKETS).map(|_| zero()).collect(),
            completions: zero(),
            escalated: zero(),
            weak: zero(),
            good_parts: zero(),
            bad_parts: zero(),
            compared: zero(),
            same_tier: zero(),
            moved_up: zero(),
            moved_down: zero(),
            dropped: zero(),
        }
    }

    /// Counts a decision that the classifier was asked for.
    pub fn decided(&self, decision: &Decision) {
        self.asked.fetch_add(1, Relaxed);
        if let Some(reason) = decision.unscored {
            self.unscored(reason);
            return;
        }
        self.scored.fetch_add(1, Relaxed);
        if let Some((_, count)) = self.tiers.iter().find(|(tier, _)| *tier == decision.tier) {
            count.fetch_add(1, Relaxed);
        }
        // Kept scores took no time, and a new bundle has none yet.
        if decision.source != Source::Cache && decision.timings.compute_us > 0 {
            // Not by the clock: a shadow lets others go first, and load would make any bundle look slow.
            let bucket = Latencies::bucket_of(Duration::from_micros(decision.timings.compute_us));
            self.latencies[usize::from(bucket)].fetch_add(1, Relaxed);
        }
    }

    /// Counts a shadow's request for which nobody was free in the shadow's own queue.
    pub fn shadow_overloaded(&self) {
        self.asked.fetch_add(1, Relaxed);
        self.overloaded.fetch_add(1, Relaxed);
    }

    /// Counts a shadow's request on which it broke down.
    pub fn shadow_failed(&self) {
        self.asked.fetch_add(1, Relaxed);
        self.failed.fetch_add(1, Relaxed);
    }

    /// Counts a completion that was answered.
    pub fn completed(&self, escalated: bool, weak: bool) {
        self.completions.fetch_add(1, Relaxed);
        if escalated {
            self.escalated.fetch_add(1, Relaxed);
        } else if weak {
            self.weak.fetch_add(1, Relaxed);
        }
    }

    /// Counts a judgement, from 0 (bad) to 1 (good).
    pub fn judged(&self, goodness: f64, weight: f64) {
        self.good_parts.fetch_add((goodness * weight * WEIGHT_PARTS).round() as u64, Relaxed);
        self.bad_parts.fetch_add(((1.0 - goodness) * weight * WEIGHT_PARTS).round() as u64, Relaxed);
    }

    /// Counts a shadow's decision beside the active bundle's.
    pub fn compared(&self, moved: Moved) {
        self.compared.fetch_add(1, Relaxed);
        let count = match moved {
            Moved::Not => &self.same_tier,
            Moved::Up => &self.moved_up,
            Moved::Down => &self.moved_down,
        };
        count.fetch_add(1, Relaxed);
    }

    /// Counts a request that the shadow was not given.
    pub fn dropped(&self) {
        self.dropped.fetch_add(1, Relaxed);
    }

    /// Returns the sums. Requests go on meanwhile, so that one may be in a part of them only: what a request is a part
    /// of is read after the parts.
    pub fn observed(&self) -> Observed {
        let of = |count: &AtomicU64| count.load(Relaxed);
        let weight = |parts: &AtomicU64| parts.load(Relaxed) as f64 / WEIGHT_PARTS;
        let mut seen = Observed {
            escalated: of(&self.escalated),
            weak: of(&self.weak),
            good: weight(&self.good_parts),
            bad: weight(&self.bad_parts),
            same_tier: of(&self.same_tier),
            moved_up: of(&self.moved_up),
            moved_down: of(&self.moved_down),
            dropped: of(&self.dropped),
            ..Observed::default()
        };
        seen.unscored.overloaded = of(&self.overloaded);
        seen.unscored.too_late = of(&self.too_late);
        seen.unscored.failed = of(&self.failed);
        seen.unscored.stopped = of(&self.stopped);
        seen.unscored.absent = of(&self.absent);
        for (tier, count) in &self.tiers {
            match of(count) {
                0 => {}
                count => seen.add_tier(tier, count),
            }
        }
        for (bucket, count) in (0_u8..).zip(&self.latencies) {
            seen.latencies.add_to(bucket, of(count));
        }
        seen.completions = of(&self.completions);
        seen.compared = of(&self.compared);
        seen.scored = of(&self.scored);
        seen.asked = of(&self.asked);
        seen
    }

    fn unscored(&self, reason: &str) {
        let count = match reason {
            "overloaded" => &self.overloaded,
            TOO_LATE => &self.too_late,
            "stopped" => &self.stopped,
            "absent" => &self.absent,
            // "failed", and whatever else keeps a classifier from answering.
            _ => &self.failed,
        };
        count.fetch_add(1, Relaxed);
    }
}
