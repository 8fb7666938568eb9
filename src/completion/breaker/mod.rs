//! Per-target health: closed, open, half-open, ramping back.
//!
//! [`machine`] is one target's breaker, pure; [`Breakers`] holds one for each target, counts and logs where
//! each stands, and tells [`TargetHealth`] who refuses, so that decisions pass over it. It never calls a
//! target by itself: the first request after the cooldown is the probe.

pub mod machine;
mod window;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

pub use self::machine::Phase;
use self::machine::{Breaker, Ticket, Verdict};
use super::{attempt::ErrorKind, clock};
use crate::{
    config::{BreakerConfig, Config, TargetConfig, TargetIndex},
    prompt::TargetId,
    routing::health::TargetHealth,
    telemetry,
};

/// Decisions pass over a target that is being probed for at most this long; the probe's end, also when its
/// caller hangs up, ends it sooner.
const PROBE_MAX: Duration = Duration::from_secs(3600);

/// A probe is over within a few seconds, as a rule: whether the target is back is known then.
const PROBE_USUAL: Duration = Duration::from_secs(2);

/// Numbers of the golden-ratio sequence: of any run of them, a share s lies below s as evenly as can be, so
/// that a ramp needs no random numbers.
const GOLDEN: f64 = 0.618_033_988_749_894_9;

/// The breakers of all targets.
pub struct Breakers {
    shared: Arc<Shared>,
}

struct Shared {
    health: Arc<TargetHealth>,
    /// By [`TargetIndex`].
    targets: Vec<Arc<Target>>,
}

/// One target's breaker, shared by the completers of several configurations.
struct Target {
    id: TargetId,
    guarded: Mutex<Guarded>,
}

struct Guarded {
    breaker: Breaker,
    /// As last logged and counted.
    phase: Phase,
    /// The next number for a ramp.
    chance: f64,
}

/// Whether another target could take a call that this one is spared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Substitute {
    Ready,
    None,
}

/// Why and for how long a target is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftAlone {
    /// For a running probe a guess.
    pub remaining: Duration,
    /// Whether nothing but 429s led to it.
    pub rate_limited: bool,
}

/// Where one target's breaker stands.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetState {
    pub index: TargetIndex,
    pub state: Phase,
    /// Since the last success; begins again when the breaker opens.
    pub failures: u32,
    /// In the window.
    pub calls: u64,
    /// Of `calls`, 0 to 1.
    pub error_ratio: f64,
    /// Until a probe may be made; `None` unless open.
    pub remaining: Option<Duration>,
}

impl Breakers {
    /// Starts with every breaker closed.
    pub fn new(config: BreakerConfig, targets: &[TargetConfig], health: Arc<TargetHealth>) -> Self {
        let now = clock();
        let targets: Vec<_> = targets.iter().map(|target| Target::closed(&target.id, config, now)).collect();
        for target in &targets {
            show(&target.id, Phase::Closed);
        }
        Self { shared: Arc::new(Shared { health, targets }) }
    }

    /// Returns the breakers of another configuration's targets, each of which goes on from one of these or starts
    /// closed. Those that go on are shared: a call that was admitted before counts for both. `health` shares its slots
    /// in the same way.
    pub fn after(
        &self,
        config: &Config,
        continues: &[Option<TargetIndex>],
        health: Arc<TargetHealth>,
    ) -> Self {
        let now = clock();
        let target = |(target, before): (&TargetConfig, &Option<TargetIndex>)| match before {
            Some(before) => Arc::clone(&self.shared.targets[before.0]),
            None => Target::closed(&target.id, config.completion.breaker, now),
        };
        let targets = config.targets.iter().zip(continues).map(target).collect();
        Self { shared: Arc::new(Shared { health, targets }) }
    }

    /// Has those that go on follow these limits too, and shows in metrics where all of them stand: until now another target
    /// may have served under the name of one.
    pub fn take_over(&self, config: BreakerConfig) {
        let now = clock();
        for index in (0..self.shared.targets.len()).map(TargetIndex) {
            let mut guarded = self.shared.guarded(index);
            guarded.breaker.configure(config, now);
            show(&self.shared.targets[index.0].id, guarded.phase);
        }
    }

    /// Admits a call of the target, or not: it is then left alone for now. A ramp spares a target only calls
    /// that somebody else can take.
    pub fn admit(&self, index: TargetIndex, now: Instant, substitute: Substitute) -> Option<Permit> {
        let mut guarded = self.shared.guarded(index);
        let chance = match substitute {
            Substitute::Ready => {
                guarded.chance = (guarded.chance + GOLDEN).fract();
                guarded.chance
            }
            Substitute::None => 0.0,
        };
        let ticket = guarded.breaker.admit(now, chance);
        self.shared.note(index, &mut guarded, now);
        let ticket = ticket?;
        drop(guarded);
        Some(Permit { shared: Arc::clone(&self.shared), index, ticket: Some(ticket) })
    }

    /// Returns why and for how long a target takes no calls; `None` where it takes some.
    pub fn left_alone(&self, index: TargetIndex, now: Instant) -> Option<LeftAlone> {
        let mut guarded = self.shared.guarded(index);
        let refuses = guarded.breaker.refuses(now);
        let remaining = match guarded.breaker.open_until() {
            Some(until) => until.saturating_duration_since(now),
            None => PROBE_USUAL,
        };
        refuses.then(|| LeftAlone { remaining, rate_limited: guarded.breaker.is_rate_limited() })
    }

    /// Returns where every breaker stands, by target.
    pub fn states(&self, now: Instant) -> Vec<TargetState> {
        (0..self.shared.targets.len())
            .map(TargetIndex)
            .map(|index| {
                let mut guarded = self.shared.guarded(index);
                self.shared.note(index, &mut guarded, now);
                let (calls, failed) = guarded.breaker.counts(now);
                TargetState {
                    index,
                    state: guarded.phase,
                    failures: guarded.breaker.failures(),
                    calls,
                    error_ratio: if calls == 0 { 0.0 } else { failed as f64 / calls as f64 },
                    remaining: guarded.breaker.open_until().map(|until| until.saturating_duration_since(now)),
                }
            })
            .collect()
    }
}

/// An admitted call. Dropped without a verdict - the caller hung up, another attempt won - it says nothing
/// about the target.
#[must_use = "a permit that is dropped says nothing about the target"]
pub struct Permit {
    shared: Arc<Shared>,
    index: TargetIndex,
    /// `None` when it was settled.
    ticket: Option<Ticket>,
}

impl Permit {
    /// Notes that the first part of an answer is there: a probe is a good one from now on. How the call ends
    /// is still to be noted.
    pub fn answers(&mut self) {
        if let Some(ticket) = self.ticket {
            let now = clock();
            let mut guarded = self.shared.guarded(self.index);
            guarded.breaker.answers(ticket, now);
            self.shared.note(self.index, &mut guarded, now);
        }
    }

    /// Notes that the target answered, well or badly.
    pub fn succeeded(self) {
        self.settle(Verdict::Good);
    }

    /// Notes that the target failed; only where [`super::attempt::ErrorKind::blames_target`] says so.
    pub fn failed(self, kind: ErrorKind) {
        let verdict = if kind == ErrorKind::RateLimited { Verdict::RateLimited } else { Verdict::Bad };
        self.settle(verdict);
    }

    fn settle(mut self, verdict: Verdict) {
        if let Some(ticket) = self.ticket.take() {
            let now = clock();
            let mut guarded = self.shared.guarded(self.index);
            guarded.breaker.settle(ticket, verdict, now);
            self.shared.note(self.index, &mut guarded, now);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let mut guarded = self.shared.guarded(self.index);
            guarded.breaker.release(ticket);
            self.shared.note(self.index, &mut guarded, clock());
        }
    }
}

impl Target {
    fn closed(id: &TargetId, config: BreakerConfig, now: Instant) -> Arc<Self> {
        let guarded = Guarded { breaker: Breaker::new(config, now), phase: Phase::Closed, chance: 0.0 };
        Arc::new(Self { id: id.clone(), guarded: Mutex::new(guarded) })
    }
}

impl Shared {
    fn guarded(&self, index: TargetIndex) -> MutexGuard<'_, Guarded> {
        // A breaker is whole after each of its steps, also if a thread died elsewhere with the lock.
        self.targets[index.0].guarded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells health, and on a change log and metrics, where a breaker stands. Under the breaker's lock, so
    /// that what is told last is how it is.
    fn note(&self, index: TargetIndex, guarded: &mut Guarded, now: Instant) {
        let phase = guarded.breaker.phase(now);
        match guarded.breaker.open_until() {
            Some(until) => self.health.refuse_until(index, until),
            None if guarded.breaker.refuses(now) => self.health.refuse_until(index, now + PROBE_MAX),
            None => self.health.reopen(index),
        }
        if phase == guarded.phase {
            return;
        }
        let id = &self.targets[index.0].id;
        show(id, phase);
        let from = guarded.phase.as_str();
        match (phase, guarded.breaker.open_until()) {
            (Phase::Open, until) => {
                let open_ms =
                    until.map_or(0, |until| until.saturating_duration_since(now).as_millis() as u64);
                tracing::warn!(target_id = %id, from, open_ms, "target failed too often: it is left alone");
            }
            (Phase::HalfOpen, _) => tracing::info!(target_id = %id, from, "target may be probed"),
            (Phase::Ramping, _) => tracing::info!(target_id = %id, from, "target answers again"),
            (Phase::Closed, _) => tracing::info!(target_id = %id, from, "target takes all calls again"),
        }
        guarded.phase = phase;
    }
}

fn show(id: &TargetId, phase: Phase) {
    telemetry::target_state(&id.0, phase.as_str(), &Phase::ALL.map(Phase::as_str));
}

#[cfg(test)]
mod tests;
