//! One completion on its way: what was decided, what was tried, and the account at its end.

mod failed;
mod taken;

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime},
};

pub use self::taken::Taken;
use super::{
    Completer, Job,
    attempt::{Attempt, Cause, Outcome, Weakness},
    chat::Chat,
    clock,
    cost::baseline_cost_usd,
    ended::{Ended, Ending},
    ledger::Ledger,
    leg::{Ready, Whole},
    outcome::{Completion, Failure, FailureKind, Opening, Summary},
    pace::usual_latency,
    quality::{Checks, UNCHECKED, checks_for},
    slots::Slot,
    step::{self, Limits, Moment, Next, Plan, Step},
};
use crate::{
    config::{TargetConfig, TargetIndex, USUAL_TIMES_MIN},
    prompt::{Decision, Prompt, Tier},
    routing::{Routed, Rung, cost::estimate_usd, sessions::Sessions},
    telemetry,
};

/// Of the time that is left once a weak stream is at hand: this part of it is kept to send the rest of that stream
/// when nothing better comes.
const RESERVE_PART: u32 = 5;
/// Less would not do to send anything, more than this is seldom needed.
const RESERVE_MIN: Duration = Duration::from_millis(300);
const RESERVE_MAX: Duration = Duration::from_secs(15);
/// An attempt is not cut shorter than this for the sake of others: many good answers take as long.
const ATTEMPT_MIN: Duration = Duration::from_secs(5);

/// One completion on its way.
pub struct Run {
    pub completer: Arc<Completer>,
    /// Told who answered. Not by the router: it would keep its classifier to the last byte.
    sessions: Arc<Sessions>,
    pub chat: Arc<Chat>,
    pub prompt: Prompt,
    pub decision: Arc<Decision>,
    /// Callable targets only; never empty.
    pub ladder: Vec<Rung>,
    pub ledger: Arc<Ledger>,
    pub deadline: Instant,
    /// From the request's arrival to the deadline.
    allowed: Duration,
    /// Kept at the end of the deadline to send a weak stream that is at hand.
    reserve: Duration,
    /// Time spent waiting for providers and back-off, as far as that is over.
    waited: Duration,
    /// When the wait of now began, and what attempts had worked by then.
    waits: Option<(Instant, Duration)>,
    /// What the time in pointsman itself was when the answer began to be sent: what follows is the caller's and the
    /// provider's time.
    overhead_kept: Option<Duration>,
    /// Set where it ended with an account; one without was hung up on.
    ending: OnceLock<Ending>,
    _slot: Slot,
    _progress: telemetry::InProgress,
}

impl Drop for Run {
    fn drop(&mut self) {
        let ending = self.ending.take().unwrap_or_else(|| {
            telemetry::completion_failed("hung_up");
            Ending::HungUp
        });
        let Some(on_end) = &self.completer.on_end else { return };
        let attempts = self.ledger.attempts();
        on_end(Ended {
            config: Arc::clone(&self.completer.config),
            prompt: self.prompt.take(),
            decision: Arc::clone(&self.decision),
            cost_usd: attempts.iter().map(|attempt| attempt.cost_usd).sum(),
            attempts,
            how: ending,
            latency: self.ledger.elapsed(),
            overhead: self.overhead(),
        });
    }
}

impl Run {
    /// Starts; fails when none of the targets can be called.
    pub fn new(
        completer: Arc<Completer>,
        sessions: Arc<Sessions>,
        job: Job,
        routed: Routed,
        deadline: Instant,
        slot: Slot,
    ) -> Result<Self, Box<Failure>> {
        let Routed { decision, mut ladder } = routed;
        let is_callable = |rung: &Rung| rung.targets.iter().any(|&target| completer.is_callable(target));
        let decision = Arc::new(decision);
        if !ladder.iter().any(is_callable) {
            let targets = ladder.iter().flat_map(|rung| &rung.targets);
            let named: Vec<&str> = targets.map(|&target| &*completer.config.target(target).id.0).collect();
            let message = format!(
                "none of the targets {} names a provider that can be called: add [[providers]] entries",
                named.join(", ")
            );
            if let Some(on_end) = &completer.on_end {
                on_end(Ended {
                    config: Arc::clone(&completer.config),
                    prompt: job.prompt,
                    decision: Arc::clone(&decision),
                    attempts: Vec::new(),
                    how: Ending::Failed(FailureKind::Unconfigured),
                    cost_usd: 0.0,
                    latency: clock().saturating_duration_since(job.received),
                    overhead: clock().saturating_duration_since(job.received),
                });
            }
            let mut failure = Failure::before(FailureKind::Unconfigured, message, None);
            failure.decision = Some(decision);
            return Err(failure);
        }
        ladder.retain_mut(|rung| {
            rung.targets.retain(|&target| completer.is_callable(target));
            !rung.targets.is_empty()
        });
        let allowed = deadline.saturating_duration_since(job.received);
        let ledger = Ledger::new(
            job.received,
            job.prompt.context.clone(),
            decision.prompt_tokens,
            job.chat.asks.choices,
            Arc::clone(&completer.spend),
        );
        Ok(Self {
            completer,
            sessions,
            chat: job.chat,
            prompt: job.prompt,
            decision,
            ladder,
            ledger,
            deadline,
            allowed,
            reserve: Duration::ZERO,
            waited: Duration::ZERO,
            waits: None,
            overhead_kept: None,
            ending: OnceLock::new(),
            _slot: slot,
            _progress: telemetry::in_progress(),
        })
    }

    /// Returns what `step` plans with.
    pub fn plan(&self) -> Plan<'_> {
        let limits = Limits::of(&self.completer.config.completion, &self.prompt.preferences);
        Plan {
            ladder: &self.ladder,
            targets: &self.completer.config.targets,
            limits: Limits { deadline: self.allowed.saturating_sub(self.reserve), ..limits },
        }
    }

    /// Keeps some of the time that is left for the rest of a weak stream, when nothing better comes.
    pub fn keep_reserve(&mut self) {
        if self.reserve.is_zero() {
            let left = self.deadline.saturating_duration_since(clock());
            self.reserve = (left / RESERVE_PART).clamp(RESERVE_MIN, RESERVE_MAX).min(left / 2);
        }
    }

    /// Returns when every call must have brought something to send.
    pub fn calls_end(&self) -> Instant {
        self.deadline.checked_sub(self.reserve).unwrap_or(self.deadline)
    }

    /// Returns when this call must have: while others could answer in its place it has half of the time that is
    /// left, so that a target that hangs does not use up all of it, but never less than good answers take.
    pub fn attempt_end(&self, next: &Next, target: &TargetConfig) -> Instant {
        let end = self.calls_end();
        let cost_of = |target| self.estimate_usd(target);
        let moment = self.moment(&cost_of);
        if !self.ledger.look(|attempts| step::has_substitute(&self.plan(), attempts, next, moment)) {
            return end;
        }
        let now = clock();
        let usual = usual_latency(target).saturating_mul(USUAL_TIMES_MIN);
        let share = (end.saturating_duration_since(now) / 2).max(ATTEMPT_MIN).max(usual);
        now.checked_add(share).map_or(end, |until| until.min(end))
    }

    /// Returns what `step` needs to know of this moment.
    pub fn moment<'a>(&self, cost_of: &'a dyn Fn(TargetIndex) -> f64) -> Moment<'a> {
        Moment {
            elapsed: self.ledger.elapsed(),
            jitter: rand::random(),
            spent_usd: self.ledger.cost_usd(),
            cost_of,
        }
    }

    /// Returns what follows the attempts so far.
    pub fn step(&self) -> Step {
        let cost_of = |target| self.estimate_usd(target);
        let moment = self.moment(&cost_of);
        self.ledger.look(|attempts| step::step(&self.plan(), attempts, moment))
    }

    /// Returns what an answer of this tier is checked against.
    pub fn checks(&self, tier: Tier) -> Checks<'_> {
        let intent = self.decision.intent.as_ref();
        let config = checks_for(&self.completer.config.completion, tier, intent).unwrap_or(&UNCHECKED);
        Checks { config, asks: &self.chat.asks, prompt: &self.prompt, intent }
    }

    /// Returns the expected cost of this request on a target, US dollars.
    pub fn estimate_usd(&self, target: TargetIndex) -> f64 {
        estimate_usd(self.completer.config.target(target), &self.prompt, self.decision.prompt_tokens)
    }

    /// Returns what is known when a stream's first part is there.
    pub fn opening(&self, ready: &Ready) -> Opening {
        let mut attempts = self.ledger.attempts();
        let this = attempts.remove(ready.open.place());
        Opening {
            decision: Arc::clone(&self.decision),
            target: this.target,
            tier: self.tier_name(this.tier),
            escalated: self.ledger.look(|attempts| is_escalated(attempts, ready.open.place())),
            weak: ready.weakness.clone(),
            dropped_parameters: ready.dropped_parameters.clone(),
            cost_usd: attempts.iter().map(|attempt| attempt.cost_usd).sum(),
            attempts,
            overhead: self.overhead(),
        }
    }

    /// Ends with a whole answer.
    pub fn finish_whole(self, whole: Whole) -> Completion {
        let Whole { answer, open, weakness } = whole;
        let place = open.place();
        open.settle(Outcome::Answered);
        let overhead = self.overhead();
        let summary = self.summary(place, weakness, overhead);
        Completion { answer, summary }
    }

    /// Returns the account, after the attempt at `place` answered and was settled.
    pub fn summary(&self, place: usize, weak: Option<Weakness>, overhead: Duration) -> Summary {
        let attempts = self.ledger.attempts();
        let this = &attempts[place];
        let summary = Summary {
            decision: Arc::clone(&self.decision),
            target: this.target.clone(),
            tier: self.tier_name(this.tier),
            escalated: is_escalated(&attempts, place),
            weak,
            usage: this.usage,
            estimated: attempts.iter().any(|attempt| attempt.estimated),
            cost_usd: attempts.iter().map(|attempt| attempt.cost_usd).sum(),
            baseline_cost_usd: baseline_cost_usd(&self.completer.config, &this.usage),
            overhead,
            attempts: attempts.clone(),
        };
        let baseline_usd = summary.baseline_cost_usd;
        self.completer.spend.add(&self.prompt.context, this.tier, 0.0, baseline_usd, SystemTime::now());
        self.remember(place, summary.weak.as_ref());
        self.end(Ending::Answered {
            target: summary.target.clone(),
            tier: Arc::clone(&summary.tier),
            escalated: summary.escalated,
            weak: summary.weak.clone(),
            baseline_cost_usd: summary.baseline_cost_usd,
        });
        telemetry::completed(&telemetry::CompletionMetrics {
            tier: &summary.tier,
            outcome: if summary.weak.is_some() { "weak" } else { "answered" },
            escalated: summary.escalated,
            overhead: summary.overhead,
            attempts: summary.attempts.len(),
        });
        summary
    }

    /// Tells the session whose turn it is after the attempt at `place` answered, and which tier it turned out
    /// to need.
    pub fn remember(&self, place: usize, weak: Option<&Weakness>) {
        let target = self.ledger.look(|attempts| session_target(attempts, place));
        let target = &self.completer.config.target(target).id;
        self.sessions.served(&self.prompt.context, target, self.decision.prompt_tokens);
        self.remember_need(place, weak);
    }

    /// Tells the session which tier it turned out to need, of an answer that need not have come to its end.
    pub fn remember_need(&self, place: usize, weak: Option<&Weakness>) {
        if weak.is_some() {
            return;
        }
        if let Some(tier) = self.ledger.look(|attempts| needed_tier(&self.ladder, attempts, place)) {
            self.sessions.needed(&self.prompt.context, tier, &self.completer.config.tiers);
        }
    }

    fn end(&self, ending: Ending) {
        let first = self.ending.set(ending).is_ok();
        debug_assert!(first, "a completion ends once");
    }

    /// Notes that from now on a provider, or back-off, is waited for.
    pub fn wait(&mut self) {
        self.waits = Some((clock(), self.ledger.worked()));
    }

    /// Notes that the wait is over.
    pub fn go_on(&mut self) {
        self.waited += self.waiting();
        self.waits = None;
    }

    /// Returns how long the wait of now has been; what was done meanwhile is pointsman's own time.
    fn waiting(&self) -> Duration {
        let Some((since, worked)) = self.waits else { return Duration::ZERO };
        let worked = self.ledger.worked().saturating_sub(worked);
        clock().saturating_duration_since(since).saturating_sub(worked)
    }

    /// Returns the time spent in pointsman itself so far, or until the answer began to be sent.
    pub fn overhead(&self) -> Duration {
        let spent = || self.ledger.elapsed().saturating_sub(self.waited + self.waiting());
        self.overhead_kept.unwrap_or_else(spent)
    }

    /// Notes that the answer begins to be sent; returns the time spent in pointsman itself.
    pub fn begin_sending(&mut self) -> Duration {
        let overhead = self.overhead();
        *self.overhead_kept.get_or_insert(overhead)
    }

    fn tier_name(&self, tier: Tier) -> Arc<str> {
        Arc::clone(&self.completer.config.tier(tier).name)
    }
}

/// Returns whom the session stays with: a hedge that won leaves it with the target that was only slow this once,
/// and whose cache has the prompt as well.
fn session_target(attempts: &[Attempt], place: usize) -> TargetIndex {
    let this = &attempts[place];
    let slow = attempts[..place].iter().rfind(|attempt| attempt.outcome == Outcome::Lost);
    match (this.cause, slow) {
        (Cause::Hedge, Some(slow)) => slow.index,
        (
            Cause::Hedge
            | Cause::First
            | Cause::Retry
            | Cause::Failover
            | Cause::Climb
            | Cause::Escalation
            | Cause::Judge,
            _,
        ) => this.index,
    }
}

/// Returns whether the attempt at `place` answers in a higher tier since an answer below was too weak. That a lower tier
/// failed says nothing against the decision for it.
fn is_escalated(attempts: &[Attempt], place: usize) -> bool {
    strongest_weak(attempts, attempts[place].tier).is_some()
}

/// Returns the highest tier below this one whose answer was weak.
fn strongest_weak(attempts: &[Attempt], reached: Tier) -> Option<Tier> {
    let weak = |attempt: &&Attempt| {
        attempt.cause != Cause::Judge && matches!(attempt.outcome, Outcome::Weak(_)) && attempt.tier < reached
    };
    attempts.iter().filter(weak).map(|attempt| attempt.tier).max()
}

/// Returns the tier that a good answer shows to have been needed: the one right above the strongest weak answer.
/// What was climbed beyond it because of an outage was not needed.
fn needed_tier(ladder: &[Rung], attempts: &[Attempt], place: usize) -> Option<Tier> {
    let strongest = strongest_weak(attempts, attempts[place].tier)?;
    ladder.iter().map(|rung| rung.tier).find(|tier| *tier > strongest)
}
