//! One target's breaker: closed, open, half-open, ramping back.
//!
//! Pure: times and chances are passed in. Calls that began before the state last changed over no longer
//! count, so that what was in flight when it opened neither closes it nor keeps it open.

use std::time::{Duration, Instant};

use super::window::Window;
use crate::config::BreakerConfig;

/// Share of calls that is admitted at once after a good probe.
const SHARE_MIN: f64 = 0.05;
/// Longest cooldown whatever is configured, so that adding it to a time cannot overflow.
const COOLDOWN_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Every call is admitted.
    Closed,
    /// None is.
    Open,
    /// One call at a time finds out whether the target is back.
    HalfOpen,
    /// A growing share of calls is admitted.
    Ramping,
}

impl Phase {
    pub const ALL: [Self; 4] = [Self::Closed, Self::Open, Self::HalfOpen, Self::Ramping];

    /// Returns the name used in metric labels, logs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Ramping => "ramping",
        }
    }
}

/// An admitted call: what [`Breaker::settle`] and [`Breaker::release`] know it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    era: u64,
}

/// How an admitted call ended, as far as its target is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Good,
    Bad,
    /// Bad too, but only asked to slow down.
    RateLimited,
}

/// One target's breaker.
#[derive(Debug, Clone)]
pub struct Breaker {
    config: BreakerConfig,
    state: State,
    /// Times that it opened: what was admitted in an earlier era has no say.
    era: u64,
    /// Failures since the last success.
    failures: u32,
    /// Whether those that opened it, or would, were all asked to slow down.
    rate_limited: bool,
    /// Times in a row that it opened without having closed between; the exponent of the cooldown.
    reopened: u32,
    window: Window,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { probing: bool },
    Ramping { since: Instant },
}

impl Breaker {
    /// Starts closed.
    pub fn new(config: BreakerConfig, now: Instant) -> Self {
        let window = Window::new(config.window, now);
        Self { config, state: State::Closed, era: 0, failures: 0, rate_limited: false, reopened: 0, window }
    }

    /// Follows other limits from now on; where it stands does not change.
    pub fn configure(&mut self, config: BreakerConfig, now: Instant) {
        if config.window != self.config.window {
            self.window = Window::new(config.window, now);
        }
        self.config = config;
    }

    /// Admits a call or not; of those of a ramp, the ones whose `chance`, 0 to 1, is below the share.
    pub fn admit(&mut self, now: Instant, chance: f64) -> Option<Ticket> {
        self.pass_time(now);
        match self.state {
            State::Open { .. } | State::HalfOpen { probing: true } => return None,
            State::Ramping { since } if chance >= share(since, now, self.config.ramp) => return None,
            State::HalfOpen { probing: false } => {
                self.state = State::HalfOpen { probing: true };
            }
            State::Closed | State::Ramping { .. } => {}
        }
        Some(Ticket { era: self.era })
    }

    /// Takes how an admitted call ended.
    pub fn settle(&mut self, ticket: Ticket, verdict: Verdict, now: Instant) {
        self.pass_time(now);
        if ticket.era != self.era {
            return;
        }
        match (self.state, verdict) {
            (State::HalfOpen { .. }, Verdict::Good) => self.answers(ticket, now),
            (State::HalfOpen { .. }, Verdict::Bad | Verdict::RateLimited) => {
                self.rate_limited = verdict == Verdict::RateLimited;
                self.open(now);
            }
            (State::Closed | State::Ramping { .. }, Verdict::Good) => {
                self.failures = 0;
                self.window.add(false, now);
            }
            (State::Closed | State::Ramping { .. }, Verdict::Bad | Verdict::RateLimited) => {
                let is_first = self.failures == 0;
                self.rate_limited = verdict == Verdict::RateLimited && (is_first || self.rate_limited);
                self.failures = self.failures.saturating_add(1);
                self.window.add(true, now);
                if self.is_failing(now) {
                    // By their share of calls alone: others of them may have been no 429s.
                    self.rate_limited &= self.failures >= self.config.failures;
                    self.open(now);
                }
            }
            // Opening begins a new era: nothing that was admitted before settles here.
            (State::Open { .. }, _) => {}
        }
    }

    /// Takes that an admitted call is being answered: a probe is a good one from its first part on, and others
    /// need not wait for its last. How the call ends is still to be settled, and counts.
    pub fn answers(&mut self, ticket: Ticket, now: Instant) {
        self.pass_time(now);
        if ticket.era == self.era
            && let State::HalfOpen { .. } = self.state
        {
            self.state = State::Ramping { since: now };
            self.pass_time(now);
        }
    }

    /// Takes back a call that says nothing about the target, and frees the place of the probe if it was one.
    pub fn release(&mut self, ticket: Ticket) {
        if ticket.era == self.era
            && let State::HalfOpen { .. } = self.state
        {
            self.state = State::HalfOpen { probing: false };
        }
    }

    /// Returns where the breaker stands.
    pub fn phase(&mut self, now: Instant) -> Phase {
        self.pass_time(now);
        match self.state {
            State::Closed => Phase::Closed,
            State::Open { .. } => Phase::Open,
            State::HalfOpen { .. } => Phase::HalfOpen,
            State::Ramping { .. } => Phase::Ramping,
        }
    }

    /// Returns whether no call is admitted at this moment, whatever its chance.
    pub fn refuses(&mut self, now: Instant) -> bool {
        self.pass_time(now);
        matches!(self.state, State::Open { .. } | State::HalfOpen { probing: true })
    }

    /// Returns when a call may be admitted again; `None` where one may be now, or after the running probe.
    pub fn open_until(&self) -> Option<Instant> {
        match self.state {
            State::Open { until } => Some(until),
            State::Closed | State::HalfOpen { .. } | State::Ramping { .. } => None,
        }
    }

    /// Returns whether it is open, or being probed, for nothing but 429s: since its last success for one that was
    /// closed, by its latest probe for one that opened again.
    pub fn is_rate_limited(&self) -> bool {
        match self.state {
            State::Open { .. } | State::HalfOpen { .. } => self.rate_limited,
            State::Closed | State::Ramping { .. } => false,
        }
    }

    /// Returns the failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns the calls of the window and those of them that failed.
    pub fn counts(&self, now: Instant) -> (u64, u64) {
        self.window.counts(now)
    }

    /// Takes the steps that need nothing but time.
    fn pass_time(&mut self, now: Instant) {
        match self.state {
            State::Open { until } if now >= until => self.state = State::HalfOpen { probing: false },
            State::Ramping { since } if share(since, now, self.config.ramp) >= 1.0 => {
                self.state = State::Closed;
                self.reopened = 0;
            }
            State::Open { .. } | State::Ramping { .. } | State::Closed | State::HalfOpen { .. } => {}
        }
    }

    fn is_failing(&self, now: Instant) -> bool {
        let (calls, failed) = self.window.counts(now);
        self.failures >= self.config.failures
            || (calls >= u64::from(self.config.calls_min)
                && failed as f64 >= self.config.error_ratio * calls as f64)
    }

    /// Opens; each time longer until it has been closed between.
    fn open(&mut self, now: Instant) {
        let until = now + cooldown(&self.config, self.reopened);
        self.state = State::Open { until };
        self.era += 1;
        self.reopened = self.reopened.saturating_add(1);
        // What comes after the probe is judged by itself.
        self.failures = 0;
        self.window = Window::new(self.config.window, now);
    }
}

/// Returns the share of calls that is admitted so long after a good probe: from a first few to all. It does
/// not begin at nothing, since a target with little traffic would then seem gone.
fn share(since: Instant, now: Instant, ramp: Duration) -> f64 {
    let passed = now.saturating_duration_since(since);
    if passed >= ramp {
        return 1.0;
    }
    (passed.as_secs_f64() / ramp.as_secs_f64()).max(SHARE_MIN)
}

/// Returns how long it stays open after so many openings in a row: `cooldown * 2^n`, at most the maximum.
fn cooldown(config: &BreakerConfig, reopened: u32) -> Duration {
    let factor = 2_u32.checked_pow(reopened).unwrap_or(u32::MAX);
    let most = config.cooldown_max.max(config.cooldown).min(COOLDOWN_MAX);
    config.cooldown.checked_mul(factor).unwrap_or(most).min(most)
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
