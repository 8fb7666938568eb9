//! One completion on its way: what was decided, what was tried, and the account at its end.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant, SystemTime},
};

use super::{
    Completer, Job,
    answer::View,
    attempt::{Again, Attempt, Cause, ErrorKind, Outcome, ProviderError, Stage, Weakness},
    chat::Chat,
    clock,
    cost::baseline_cost_usd,
    ended::{Ended, Ending},
    ledger::{Ledger, OpenAttempt},
    leg::{Ready, Whole},
    outcome::{Completion, Failure, FailureKind, Opening, Summary},
    pace::usual_latency,
    quality::{Checks, UNCHECKED, checks_for},
    slots::Slot,
    step::{self, Limits, Moment, Next, Plan, Step, Stop},
};
use crate::{
    config::{TargetConfig, TargetIndex},
    prompt::{Decision, Prompt, Tier},
    routing::{Routed, Rung, cost::estimate_usd, sessions::Sessions},
    telemetry,
};

/// Attempts that an error message names; all stand in the failure itself.
const ATTEMPTS_NAMED_MAX: usize = 4;
/// Of the time that is left once a weak stream is at hand: this part of it is kept to send the rest of that stream
/// when nothing better comes.
const RESERVE_PART: u32 = 5;
/// Less would not do to send anything, more than this is seldom needed.
const RESERVE_MIN: Duration = Duration::from_millis(300);
const RESERVE_MAX: Duration = Duration::from_secs(15);
/// An attempt is not cut shorter than this for the sake of others: many good answers take as long.
const ATTEMPT_MIN: Duration = Duration::from_secs(5);
/// Nor shorter than so many times what the target's answers take as a rule.
const USUAL_TIMES_MIN: u32 = 3;

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

/// An answer that may be sent.
pub enum Taken {
    Whole(Box<Whole>),
    Ready(Box<Ready>),
}

impl Taken {
    /// Returns why it is weak, `None` when it is not known to be.
    pub fn weakness(&self) -> Option<&Weakness> {
        match self {
            Self::Whole(whole) => whole.weakness.as_ref(),
            Self::Ready(ready) => ready.weakness.as_ref(),
        }
    }

    /// Notes that it is weak.
    pub fn weaken(&mut self, weakness: Weakness) {
        self.open().weak(weakness.clone());
        match self {
            Self::Whole(whole) => whole.weakness = Some(weakness),
            Self::Ready(ready) => ready.weakness = Some(weakness),
        }
    }

    /// Returns its attempt's place in the ledger.
    pub fn place(&self) -> usize {
        self.open().place()
    }

    /// Returns the tier that it comes from.
    pub fn tier(&self) -> Tier {
        self.open().tier()
    }

    /// Returns whether some of it is still to come.
    pub fn is_partial(&self) -> bool {
        match self {
            Self::Whole(_) => false,
            Self::Ready(ready) => ready.rest.is_some(),
        }
    }

    /// Returns the whole answer's view, `None` while some of it is still to come.
    pub fn whole_view(&self) -> Option<&View> {
        match self {
            Self::Whole(whole) => Some(&whole.answer.view),
            Self::Ready(ready) => ready.rest.is_none().then(|| ready.open.view()),
        }
    }

    /// Keeps the better of two weak answers and leaves the other.
    pub fn better(self, other: Self) -> Self {
        let goodness = |taken: &Self| {
            taken.weakness().map(|weakness| step::goodness(weakness, taken.tier(), taken.place()))
        };
        let (kept, left) = if goodness(&self) > goodness(&other) { (self, other) } else { (other, self) };
        left.leave();
        kept
    }

    /// Leaves a weak answer for another one: its target did answer.
    pub fn leave(self) {
        match self {
            Self::Whole(_) => {}
            Self::Ready(ready) => {
                let Ready { permit, .. } = *ready;
                permit.succeeded();
            }
        }
    }

    fn open(&self) -> &OpenAttempt {
        match self {
            Self::Whole(whole) => &whole.open,
            Self::Ready(ready) => &ready.open,
        }
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
    /// left, so that a target that hangs does not use up all of it.
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
            escalated: self.is_escalated(this.tier),
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
            escalated: self.is_escalated(this.tier),
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

    /// Returns why nobody answered.
    pub fn failed(&self, stop: Stop) -> Box<Failure> {
        let attempts = self.ledger.attempts();
        let errors: Vec<&ProviderError> = attempts
            .iter()
            .filter_map(|attempt| match &attempt.outcome {
                Outcome::Failed(error) => Some(error),
                Outcome::Answered
                | Outcome::Weak(_)
                | Outcome::Skipped
                | Outcome::Lost
                | Outcome::Abandoned => None,
            })
            .collect();
        let kind = failure_kind(stop, &attempts, &errors);
        let why = match stop {
            Stop::Exhausted => "no target answered",
            Stop::AttemptsMax => "no target answered within completion.attempts_max",
            Stop::Deadline => "no target answered before the deadline",
            Stop::Cost => {
                "a further attempt would cost more than the request or completion.cost_usd_max allows"
            }
        };
        self.failure(kind, format!("{why}{}", told(&attempts)), attempts)
    }

    /// Returns a stream's failure after its first part was sent.
    pub fn broken_off(&self, kind: FailureKind, why: &str) -> Box<Failure> {
        self.failure(kind, format!("the answer broke off: {why}"), self.ledger.attempts())
    }

    fn failure(&self, kind: FailureKind, message: String, attempts: Vec<Attempt>) -> Box<Failure> {
        self.end(Ending::Failed(kind));
        telemetry::completion_failed(kind.as_str());
        let now = clock();
        let retry_after = attempts.iter().filter_map(|attempt| self.again_in(attempt, now)).min();
        Box::new(Failure {
            kind,
            message,
            decision: Some(Arc::clone(&self.decision)),
            cost_usd: attempts.iter().map(|attempt| attempt.cost_usd).sum(),
            dropped: Vec::new(),
            retry_after,
            attempts,
        })
    }

    fn end(&self, ending: Ending) {
        let first = self.ending.set(ending).is_ok();
        debug_assert!(first, "a completion ends once");
    }

    /// Returns when this attempt's target may answer again, as far as somebody said.
    fn again_in(&self, attempt: &Attempt, now: Instant) -> Option<Duration> {
        match &attempt.outcome {
            Outcome::Failed(error) => match error.again {
                Again::After(wait) => Some(wait),
                Again::Usual | Again::Now => None,
            },
            Outcome::Skipped => self.completer.health.refuses_for(attempt.index, now),
            Outcome::Answered | Outcome::Weak(_) | Outcome::Lost | Outcome::Abandoned => None,
        }
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

    fn is_escalated(&self, tier: Tier) -> bool {
        *self.tier_name(tier) != *self.decision.tier
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

/// Returns the tier that a good answer shows to have been needed: the one right above the strongest weak answer.
/// What was climbed beyond it because of an outage was not needed.
fn needed_tier(ladder: &[Rung], attempts: &[Attempt], place: usize) -> Option<Tier> {
    let reached = attempts[place].tier;
    let weak = |attempt: &&Attempt| {
        attempt.cause != Cause::Judge && matches!(attempt.outcome, Outcome::Weak(_)) && attempt.tier < reached
    };
    let strongest = attempts.iter().filter(weak).map(|attempt| attempt.tier).max()?;
    ladder.iter().map(|rung| rung.tier).find(|tier| *tier > strongest)
}

/// The common kind of all errors where they have one, else that nobody was available.
fn failure_kind(stop: Stop, attempts: &[Attempt], errors: &[&ProviderError]) -> FailureKind {
    let all = |kind: ErrorKind| !errors.is_empty() && errors.iter().all(|error| error.kind == kind);
    match stop {
        Stop::Deadline => FailureKind::DeadlineExceeded,
        // Nobody was asked, and asking later would cost the same.
        Stop::Cost if attempts.is_empty() => FailureKind::NoTarget,
        Stop::Exhausted | Stop::AttemptsMax | Stop::Cost => {
            // It passed within the last attempt, and there was nobody else to ask anyway.
            if errors.last().is_some_and(|error| error.kind == ErrorKind::Timeout(Stage::Deadline)) {
                FailureKind::DeadlineExceeded
            } else if !errors.is_empty() && errors.iter().all(|error| is_refusal(error.kind)) {
                FailureKind::Refused
            } else if all(ErrorKind::RateLimited) {
                FailureKind::RateLimited
            } else {
                FailureKind::Unavailable
            }
        }
    }
}

/// Returns whether the request is at fault, by what it says or by its length.
fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Refused | ErrorKind::TooLong)
}

/// Names the last attempts, for a message.
fn told(attempts: &[Attempt]) -> String {
    let from = attempts.len().saturating_sub(ATTEMPTS_NAMED_MAX);
    let mut text = String::new();
    for attempt in &attempts[from..] {
        let how = match &attempt.outcome {
            Outcome::Failed(error) => error.to_string(),
            Outcome::Weak(weakness) => weakness.why.clone(),
            Outcome::Skipped => "left alone, its breaker is open".to_owned(),
            Outcome::Answered | Outcome::Lost | Outcome::Abandoned => continue,
        };
        text.push_str(if text.is_empty() { ": " } else { "; " });
        text.push_str(&format!("{}: {how}", attempt.target.id));
    }
    text
}

impl Failure {
    /// Returns a failure before anything was tried.
    pub fn before(kind: FailureKind, message: String, retry_after: Option<Duration>) -> Box<Self> {
        telemetry::completion_failed(kind.as_str());
        Box::new(Self {
            kind,
            message,
            decision: None,
            attempts: Vec::new(),
            cost_usd: 0.0,
            dropped: Vec::new(),
            retry_after,
        })
    }
}
