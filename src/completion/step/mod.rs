//! (plan, attempts so far) -> call this target, or done.
//!
//! Pure: it reads no clock, draws no random number and knows no breaker. Whoever runs the attempts appends
//! each to the list when it has ended and asks again; a target whose breaker is open is appended as skipped.
//! It ends whatever the attempts bring, never goes down a tier, and never calls a target that failed but for
//! a retry.

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::{
    attempt::{Again, Attempt, Cause, ErrorKind, Outcome, ProviderError, Weakness},
    breaker::Substitute,
    quality,
};
use crate::{
    config::{Backoff, CompletionConfig, Exhausted, OnWeak, TargetConfig, TargetIndex},
    prompt::{Preferences, Tier},
    routing::Rung,
};

/// Who may be called for one request, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// Lowest tier first; see [`crate::routing::Routed::ladder`].
    pub ladder: &'a [Rung],
    /// By [`TargetIndex`]: their context windows say where a prompt that was too long for one may fit.
    pub targets: &'a [TargetConfig],
    pub limits: Limits,
}

/// What all attempts for one request share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Calls; neither judges nor targets that were skipped count.
    pub attempts_max: usize,
    /// Further calls of one target.
    pub retries_max: usize,
    pub backoff: Backoff,
    /// From the start of the completion: no call begins later.
    pub deadline: Duration,
    /// No call is made whose expected cost would lead beyond it.
    pub cost_usd_max: Option<f64>,
    pub exhausted: Exhausted,
    pub on_weak: OnWeak,
}

impl Limits {
    /// Returns what the operator set, the cost narrowed to what the request allows: to each of its calls, and so
    /// to all together. The deadline is for the caller to narrow.
    pub fn of(config: &CompletionConfig, preferences: &Preferences) -> Self {
        let costs_usd = [config.cost_usd_max, preferences.cost_usd_max];
        Self {
            attempts_max: config.attempts_max,
            retries_max: config.retries_max,
            backoff: config.backoff,
            deadline: config.deadline,
            cost_usd_max: costs_usd.into_iter().flatten().reduce(f64::min),
            exhausted: config.exhausted,
            on_weak: config.on_weak,
        }
    }
}

/// When the next step is asked for.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    /// Since the start of the completion.
    pub elapsed: Duration,
    /// A fresh random number, 0 to 1.
    pub jitter: f64,
    /// By all attempts so far, judges included.
    pub spent_usd: f64,
    /// What one call of a target is expected to cost, US dollars.
    pub cost_of: &'a dyn Fn(TargetIndex) -> f64,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Call(Next),
    Done(End),
}

/// A call to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    pub target: TargetIndex,
    pub tier: Tier,
    pub cause: Cause,
    /// Before the call; it ends before the deadline.
    pub wait: Duration,
}

/// How a completion ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The attempt that answered is the answer.
    Answered,
    /// Nothing better was had than this weak answer: its place among the attempts.
    Weak(usize),
    Failed(Stop),
}

/// Why no further target is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stop {
    /// No target is left that may be called, or nobody waits for an answer any more.
    Exhausted,
    AttemptsMax,
    Deadline,
    Cost,
}

/// Returns what follows the attempts so far.
pub fn step(plan: &Plan<'_>, attempts: &[Attempt], moment: Moment<'_>) -> Step {
    Course { plan, attempts, moment }.step()
}

/// Returns the target that may be called beside a slow one: the next untried of its tier.
pub fn hedge(plan: &Plan<'_>, attempts: &[Attempt], slow: &Next, moment: Moment<'_>) -> Option<Next> {
    let spent_usd = moment.spent_usd + (moment.cost_of)(slow.target);
    let course = Course { plan, attempts, moment: Moment { spent_usd, ..moment } };
    let rung = plan.ladder.iter().find(|rung| rung.tier == slow.tier)?;
    // The slow one is not among the attempts yet.
    if course.calls_made() + 1 >= plan.limits.attempts_max || moment.elapsed >= plan.limits.deadline {
        return None;
    }
    let target = course.untried(rung).find(|&target| target != slow.target && course.fits_cost(target))?;
    Some(Next { target, tier: rung.tier, cause: Cause::Hedge, wait: Duration::ZERO })
}

/// Returns whether another target could take this call at once: an untried one of its tier that does not refuse,
/// or, for a hedge, the slow one that runs beside it.
pub fn substitute(
    plan: &Plan<'_>,
    attempts: &[Attempt],
    next: &Next,
    refuses: &dyn Fn(TargetIndex) -> bool,
) -> Substitute {
    let cost_of = &|_| 0.0;
    let moment = Moment { elapsed: Duration::ZERO, jitter: 0.0, spent_usd: 0.0, cost_of };
    let course = Course { plan, attempts, moment };
    let rungs = plan.ladder.iter().filter(|rung| rung.tier == next.tier);
    let other =
        rungs.flat_map(|rung| course.untried(rung)).any(|target| target != next.target && !refuses(target));
    if other || next.cause == Cause::Hedge { Substitute::Ready } else { Substitute::None }
}

/// Returns whether another target could still be called if this call brings nothing: one of its tier, or of a
/// higher one where tiers are climbed. The call itself is not among the attempts yet.
pub fn has_substitute(plan: &Plan<'_>, attempts: &[Attempt], next: &Next, moment: Moment<'_>) -> bool {
    let course = Course { plan, attempts, moment };
    if course.calls_made() + 1 >= plan.limits.attempts_max {
        return false;
    }
    let climbs = plan.limits.exhausted == Exhausted::Climb;
    let mut rungs =
        plan.ladder.iter().filter(|rung| rung.tier == next.tier || (climbs && rung.tier > next.tier));
    rungs.any(|rung| course.untried(rung).any(|target| target != next.target && course.fits_cost(target)))
}

/// Returns how good a weak answer is beside others: by the check that it failed, then by its tier, then by its
/// place among the attempts.
pub fn goodness(weakness: &Weakness, tier: Tier, place: usize) -> (usize, Tier, usize) {
    (quality::rank(weakness.check), tier, place)
}

/// Returns the place of the weak answer that is least bad.
pub fn best_weak(attempts: &[Attempt]) -> Option<usize> {
    attempts
        .iter()
        .enumerate()
        .filter(|(_, attempt)| attempt.cause != Cause::Judge)
        .filter_map(|(at, attempt)| match &attempt.outcome {
            Outcome::Weak(weakness) => Some(goodness(weakness, attempt.tier, at)),
            Outcome::Answered
            | Outcome::Failed(_)
            | Outcome::Skipped
            | Outcome::Lost
            | Outcome::Abandoned => None,
        })
        .max()
        .map(|(_, _, at)| at)
}

/// One question: the plan, what was tried, and when.
struct Course<'a> {
    plan: &'a Plan<'a>,
    attempts: &'a [Attempt],
    moment: Moment<'a>,
}

/// Whether the target that failed last is called again.
enum Retry {
    Call(Next),
    /// Another try would not help, or another target is the better bet.
    Leave,
    /// It would be called again but for this limit.
    Barred(Stop),
}

impl Course<'_> {
    fn step(&self) -> Step {
        let ended = |outcome: &Outcome| self.calls().any(|attempt| attempt.outcome == *outcome);
        if ended(&Outcome::Answered) {
            return Step::Done(End::Answered);
        }
        if ended(&Outcome::Abandoned) {
            return self.stop(Stop::Exhausted);
        }
        // Also where no target is left: that the time was up is why.
        if self.moment.elapsed >= self.plan.limits.deadline {
            return self.stop(Stop::Deadline);
        }
        let Some(tier) = self.calls().map(|attempt| attempt.tier).max() else {
            return self.first_of(0, Cause::First, Stop::Exhausted);
        };
        let at = self.plan.ladder.iter().take_while(|rung| rung.tier < tier).count();
        let Some(rung) = self.plan.ladder.get(at) else { return self.stop(Stop::Exhausted) };

        if self.calls().any(|attempt| attempt.tier == tier && matches!(attempt.outcome, Outcome::Weak(_))) {
            return match self.plan.limits.on_weak {
                OnWeak::Mark => self.stop(Stop::Exhausted),
                OnWeak::Escalate => self.first_of(at + 1, Cause::Escalation, Stop::Exhausted),
            };
        }
        let barred = match self.retry(rung) {
            Retry::Call(next) => return Step::Call(next),
            Retry::Leave => Stop::Exhausted,
            Retry::Barred(stop) => stop,
        };
        if self.untried(rung).next().is_some() {
            return self.enter(rung, Cause::Failover);
        }
        // What every target of a tier refuses, a dearer one would most likely refuse as well.
        if self.all_refused(rung) {
            return self.stop(Stop::Exhausted);
        }
        match self.plan.limits.exhausted {
            Exhausted::Fail => self.stop(barred),
            Exhausted::Climb => self.first_of(at + 1, Cause::Climb, barred),
        }
    }

    /// Ends with the best weak answer, else with a failure.
    fn stop(&self, stop: Stop) -> Step {
        Step::Done(best_weak(self.attempts).map_or(End::Failed(stop), End::Weak))
    }

    /// Calls into the first rung from this place on that has an untried target; stops when none has.
    fn first_of(&self, at: usize, cause: Cause, otherwise: Stop) -> Step {
        let above = self.plan.ladder.get(at..).unwrap_or_default();
        match above.iter().find(|rung| self.untried(rung).next().is_some()) {
            Some(rung) => self.enter(rung, cause),
            None => self.stop(otherwise),
        }
    }

    /// Calls the first untried target of the rung that the limits allow. A tier is not left because its
    /// targets are too dear: those above seldom cost less.
    fn enter(&self, rung: &Rung, cause: Cause) -> Step {
        if self.calls_made() >= self.plan.limits.attempts_max {
            return self.stop(Stop::AttemptsMax);
        }
        match self.untried(rung).find(|&target| self.fits_cost(target)) {
            Some(target) => Step::Call(Next { target, tier: rung.tier, cause, wait: Duration::ZERO }),
            None => self.stop(Stop::Cost),
        }
    }

    /// Says whether the target that was called last is called again. Targets that were skipped since then, or
    /// lost a race, took no time and change nothing.
    fn retry(&self, rung: &Rung) -> Retry {
        let last = self.calls().rfind(|attempt| !matches!(attempt.outcome, Outcome::Skipped | Outcome::Lost));
        let Some(Attempt { index: target, tier, outcome: Outcome::Failed(error), .. }) = last else {
            return Retry::Leave;
        };
        let of_target = || self.calls().filter(|attempt| attempt.index == *target);
        let retries = of_target().filter(|attempt| attempt.cause == Cause::Retry).count();
        if *tier != rung.tier
            || retries >= self.plan.limits.retries_max
            || of_target().any(|attempt| attempt.outcome == Outcome::Skipped)
        {
            return Retry::Leave;
        }
        let sibling = self.untried(rung).any(|target| self.fits_cost(target))
            || (matches!(error.kind, ErrorKind::Timeout(_)) && self.can_climb(rung));
        let Some(wait) = self.wait(error, retries, sibling) else { return Retry::Leave };
        if self.calls_made() >= self.plan.limits.attempts_max {
            Retry::Barred(Stop::AttemptsMax)
        } else if self.moment.elapsed.saturating_add(wait) >= self.plan.limits.deadline {
            Retry::Barred(Stop::Deadline)
        } else if !self.fits_cost(*target) {
            Retry::Barred(Stop::Cost)
        } else {
            Retry::Call(Next { target: *target, tier: rung.tier, cause: Cause::Retry, wait })
        }
    }

    /// Returns whether a tier above may be tried instead: whoever timed out once has taken long enough.
    fn can_climb(&self, from: &Rung) -> bool {
        let mut above = self.plan.ladder.iter().filter(|rung| rung.tier > from.tier);
        self.plan.limits.exhausted == Exhausted::Climb
            && above.any(|rung| self.untried(rung).any(|target| self.fits_cost(target)))
    }

    /// Returns how long to wait before the target is called again; `None` when it is left. With a sibling
    /// that could answer at once, only short waits are worth it.
    fn wait(&self, error: &ProviderError, retries: usize, sibling: bool) -> Option<Duration> {
        let backoff = &self.plan.limits.backoff;
        match error.again {
            Again::Now => Some(Duration::ZERO),
            Again::After(asked) => {
                // Other errors come again however long one waits; keys that rest come back.
                let helps = error.kind.is_transient() || error.kind == ErrorKind::NoKey;
                let longest = if sibling { backoff.max } else { backoff.retry_after_max };
                let wait =
                    (helps && asked <= longest && asked <= backoff.retry_after_max).then_some(asked)?;
                // Everybody was told the same time: come back one after the other.
                Some(wait.saturating_add(scale(backoff.first, self.moment.jitter)))
            }
            Again::Usual if !error.kind.is_transient() || (sibling && lasts(error.kind)) => None,
            Again::Usual => {
                let doublings = u32::try_from(retries).unwrap_or(u32::MAX);
                let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
                let most = backoff.first.checked_mul(factor).unwrap_or(Duration::MAX).min(backoff.max);
                Some(scale(most, self.moment.jitter))
            }
        }
    }

    /// Attempts to answer, without those of judges.
    fn calls(&self) -> impl DoubleEndedIterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| attempt.cause != Cause::Judge)
    }

    fn calls_made(&self) -> usize {
        self.calls().filter(|attempt| attempt.outcome != Outcome::Skipped).count()
    }

    /// Targets of the rung that nothing is known of: neither tried in it nor in a lower one, and with a larger
    /// context window than any that the prompt was too long for. One that only lost a race may be called again.
    fn untried<'a>(&'a self, rung: &'a Rung) -> impl Iterator<Item = TargetIndex> + 'a {
        rung.targets.iter().copied().filter(|&target| {
            !self.calls().any(|attempt| {
                (attempt.index == target && attempt.outcome != Outcome::Lost)
                    || (is_too_long(&attempt.outcome) && !self.is_larger(target, attempt.index))
            })
        })
    }

    fn is_larger(&self, target: TargetIndex, other: TargetIndex) -> bool {
        let window = |index: TargetIndex| self.plan.targets.get(index.0).map(|target| target.context_tokens);
        window(target) > window(other)
    }

    fn all_refused(&self, rung: &Rung) -> bool {
        let refused = |attempt: &Attempt| match &attempt.outcome {
            Outcome::Failed(error) => error.kind == ErrorKind::Refused,
            Outcome::Answered | Outcome::Weak(_) | Outcome::Skipped | Outcome::Lost | Outcome::Abandoned => {
                false
            }
        };
        rung.targets
            .iter()
            .all(|target| self.calls().any(|attempt| attempt.index == *target && refused(attempt)))
    }

    /// Returns whether a call keeps within the cost limit; a cost that is no number does not.
    fn fits_cost(&self, target: TargetIndex) -> bool {
        self.plan.limits.cost_usd_max.is_none_or(|most| {
            let would_be = self.moment.spent_usd + (self.moment.cost_of)(target);
            would_be <= most
        })
    }
}

fn is_too_long(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Failed(error) => error.kind == ErrorKind::TooLong,
        Outcome::Answered | Outcome::Weak(_) | Outcome::Skipped | Outcome::Lost | Outcome::Abandoned => false,
    }
}

/// Returns whether this error tends to outlast a short back-off, so that a sibling is the better bet: a
/// refused connection or a broken answer is often gone at once, an overload is not, and whoever timed out has
/// taken long enough.
fn lasts(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Timeout(_) | ErrorKind::RateLimited | ErrorKind::Overloaded => true,
        ErrorKind::Connect
        | ErrorKind::Tls
        | ErrorKind::Unauthorized
        | ErrorKind::Unpaid
        | ErrorKind::NoKey
        | ErrorKind::NotFound
        | ErrorKind::Refused
        | ErrorKind::TooLong
        | ErrorKind::Server
        | ErrorKind::Redirect
        | ErrorKind::Malformed
        | ErrorKind::Cut
        | ErrorKind::ErrorEvent
        | ErrorKind::TooLarge => false,
    }
}

/// Full jitter: anything from nothing to the whole.
fn scale(most: Duration, jitter: f64) -> Duration {
    Duration::try_from_secs_f64(most.as_secs_f64() * jitter.clamp(0.0, 1.0)).unwrap_or(most)
}
