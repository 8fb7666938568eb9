//! The account of one completion: every attempt from the moment it starts, settled exactly once.
//!
//! An attempt that is dropped unsettled, because its caller hung up or a hedge's other side won, is settled
//! by its `Drop` from what had been heard until then. So no way out of the loop forgets a cost.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use super::{
    answer::{Delta, Usage, View},
    attempt::{Attempt, Cause, ErrorKind, Outcome, Stage, Weakness},
    clock,
    cost::{checked_usage, cost_usd, estimated_usage},
    pace::usual_latency,
    spend::Spend,
    step::Next,
};
use crate::{
    config::{TargetConfig, TargetIndex},
    prompt::{Context, TargetRef, Tier},
    telemetry,
};

/// A request cannot have reached a provider sooner: a connection and a round trip take longer.
const SENT_AFTER: Duration = Duration::from_millis(3);

/// All attempts of one completion, in the order in which they were started.
pub struct Ledger {
    /// When the request came in.
    received: Instant,
    context: Context,
    prompt_tokens: u32,
    choices: u32,
    spend: Arc<Spend>,
    attempts: Mutex<Vec<Attempt>>,
    /// Time that attempts spent in pointsman itself, nanoseconds.
    worked_ns: AtomicU64,
}

impl Ledger {
    /// Starts an empty account.
    pub fn new(
        received: Instant,
        context: Context,
        prompt_tokens: u32,
        choices: u32,
        spend: Arc<Spend>,
    ) -> Arc<Self> {
        Arc::new(Self {
            received,
            context,
            prompt_tokens,
            choices,
            spend,
            attempts: Mutex::default(),
            worked_ns: AtomicU64::new(0),
        })
    }

    /// Returns every attempt as it stands now.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.lock().clone()
    }

    /// Looks at every attempt as it stands now; not for anything that takes long.
    pub fn look<T>(&self, at: impl FnOnce(&[Attempt]) -> T) -> T {
        at(&self.lock())
    }

    /// Returns the time that attempts spent in pointsman itself so far: checks of answers, verdicts of judges.
    pub fn worked(&self) -> Duration {
        Duration::from_nanos(self.worked_ns.load(Ordering::Relaxed))
    }

    /// Does work that no provider is waited for in.
    pub fn working<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = clock();
        let done = work();
        let took = u64::try_from((clock() - begun).as_nanos()).unwrap_or(u64::MAX);
        self.worked_ns.fetch_add(took, Ordering::Relaxed);
        done
    }

    /// Returns what all attempts cost so far, US dollars: those that still run as if they ended now.
    pub fn cost_usd(&self) -> f64 {
        self.lock().iter().map(|attempt| attempt.cost_usd).sum()
    }

    /// Returns the time since the request came in.
    pub fn elapsed(&self) -> Duration {
        clock().saturating_duration_since(self.received)
    }

    /// Notes a target that was passed over because its breaker was open.
    pub fn skipped(&self, next: &Next, target: &TargetConfig) {
        let mut attempt = self.blank(next.cause, next.tier, next.target, target);
        attempt.outcome = Outcome::Skipped;
        count(&attempt);
        self.lock().push(attempt);
    }

    /// Starts an attempt.
    pub fn open(
        self: &Arc<Self>,
        cause: Cause,
        tier: Tier,
        index: TargetIndex,
        target: &Arc<TargetConfig>,
    ) -> OpenAttempt {
        let mut attempts = self.lock();
        attempts.push(self.blank(cause, tier, index, target));
        OpenAttempt {
            at: attempts.len() - 1,
            ledger: Arc::clone(self),
            tier,
            target: Arc::clone(target),
            begun: clock(),
            prompt_tokens: self.prompt_tokens,
            choices: self.choices,
            output_tokens: None,
            view: View::default(),
            first_token: None,
            heard: None,
            shows_work: false,
            settled: false,
        }
    }

    /// Marks every attempt that still runs, but the one at `winner`, as the losing side of a hedge.
    pub fn others_lost(&self, winner: usize) {
        for (at, attempt) in self.lock().iter_mut().enumerate() {
            // Abandoned is what a running attempt would be if it were dropped now; nothing else is, since who
            // hangs up ends the completion.
            if at != winner && attempt.outcome == Outcome::Abandoned {
                attempt.outcome = Outcome::Lost;
            }
        }
    }

    fn blank(&self, cause: Cause, tier: Tier, index: TargetIndex, target: &TargetConfig) -> Attempt {
        Attempt {
            index,
            target: TargetRef {
                id: target.id.clone(),
                provider: Arc::clone(&target.provider),
                model: Arc::clone(&target.model),
            },
            tier,
            cause,
            outcome: Outcome::Abandoned,
            started: self.elapsed(),
            latency: Duration::ZERO,
            first_token: None,
            usage: Usage::default(),
            estimated: false,
            cost_usd: 0.0,
            dropped_parameters: Vec::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Attempt>> {
        // A panic while the lock was held leaves whole attempts: the list is only pushed to and assigned.
        self.attempts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// An attempt that runs.
pub struct OpenAttempt {
    ledger: Arc<Ledger>,
    at: usize,
    tier: Tier,
    target: Arc<TargetConfig>,
    begun: Instant,
    prompt_tokens: u32,
    /// Answers asked for at once.
    choices: u32,
    /// Expected of an answer that comes whole, of which nothing is heard before its end.
    output_tokens: Option<u32>,
    /// What was heard so far.
    view: View,
    first_token: Option<Duration>,
    /// When the latest of it came, from the attempt's start.
    heard: Option<Duration>,
    shows_work: bool,
    settled: bool,
}

impl OpenAttempt {
    /// Sets the length of a prompt that is not the completion's own and asks for one answer, for estimates, tokens.
    #[must_use]
    pub fn with_prompt_tokens(mut self, tokens: u32) -> Self {
        self.prompt_tokens = tokens;
        self.choices = 1;
        self
    }

    /// Sets the expected length of an answer that comes whole, for estimates of one that was left, tokens.
    #[must_use]
    pub fn with_output_tokens(mut self, tokens: u32) -> Self {
        self.output_tokens = Some(tokens);
        self
    }

    /// Returns everything that was heard so far.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Returns how long the attempt has run.
    pub fn age(&self) -> Duration {
        clock().saturating_duration_since(self.begun)
    }

    /// Returns the tier that it is made for.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Returns whether nothing that shows work was heard.
    pub fn is_silent(&self) -> bool {
        !self.shows_work
    }

    /// Does work of pointsman's own, see [`Ledger::working`].
    pub fn working<T>(&self, work: impl FnOnce() -> T) -> T {
        self.ledger.working(work)
    }

    /// Adds a piece of a stream; the first one that says something stops the clock of the first token.
    pub fn hear(&mut self, delta: &Delta) {
        let age = self.age();
        self.heard = Some(age);
        self.shows_work |= delta.shows_work();
        if self.first_token.is_none() && (delta.has_content() || !delta.reasoning.is_empty()) {
            self.first_token = Some(age);
            self.edit(|attempt| attempt.first_token = Some(age));
        }
        self.view.add(delta);
    }

    /// Takes over the view of an answer that came whole.
    pub fn hear_all(&mut self, view: View) {
        self.heard = Some(self.age());
        self.view = view;
    }

    /// Notes what was heard so far as the attempt's cost: while it is kept at hand it counts like one that ended.
    pub fn price(&self) {
        let (usage, estimated) = self.usage();
        self.edit(|attempt| {
            attempt.cost_usd = cost_usd(&self.target, &usage);
            (attempt.usage, attempt.estimated) = (usage, estimated);
        });
    }

    /// Notes what the provider could not be told.
    pub fn dropped_parameters(&self, names: &[String]) {
        self.edit(|attempt| attempt.dropped_parameters = names.to_vec());
    }

    /// Notes that the answer is weak; it may still be the one that is sent.
    pub fn weak(&self, weakness: Weakness) {
        self.edit(|attempt| attempt.outcome = Outcome::Weak(weakness));
    }

    /// Returns the attempt's place in the ledger.
    pub fn place(&self) -> usize {
        self.at
    }

    /// Returns when the first token came, from the attempt's start.
    pub fn first_token(&self) -> Option<Duration> {
        self.first_token
    }

    /// Ends it; what was noted as weak stays weak when it was answered.
    pub fn settle(mut self, outcome: Outcome) {
        self.edit(|attempt| match (&attempt.outcome, &outcome) {
            (Outcome::Weak(_), Outcome::Answered) => {}
            _ => attempt.outcome = outcome,
        });
        self.close();
    }

    fn usage(&self) -> (Usage, bool) {
        checked_usage(self.view.usage, estimated_usage(self.prompt_tokens, self.choices, &self.view))
    }

    /// Returns about how much of an answer that comes whole the model had written by this age: nothing of it was
    /// heard, and all of it is charged for.
    fn unheard_output_tokens(&self, age: Duration) -> u64 {
        let Some(expected) = self.output_tokens.filter(|_| self.view.bytes() == 0) else { return 0 };
        let per_second =
            f64::from(self.target.output_tokens_typical) / usual_latency(&self.target).as_secs_f64();
        u64::from(expected).min((age.as_secs_f64() * per_second).ceil() as u64)
    }

    fn edit(&self, change: impl FnOnce(&mut Attempt)) {
        change(&mut self.ledger.lock()[self.at]);
    }

    fn close(&mut self) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let age = self.age();
        let (mut usage, estimated) = self.usage();
        let mut attempts = self.ledger.lock();
        let attempt = &mut attempts[self.at];
        attempt.latency = match attempt.outcome {
            // What was kept at hand while others were asked took no longer for that.
            Outcome::Answered | Outcome::Weak(_) => self.heard.unwrap_or(age),
            Outcome::Failed(_) | Outcome::Skipped | Outcome::Lost | Outcome::Abandoned => age,
        };
        if estimated && was_left(&attempt.outcome) {
            usage.output_tokens = usage.output_tokens.max(self.unheard_output_tokens(age));
        }
        (attempt.usage, attempt.estimated) = if was_billed(&attempt.outcome, &self.view, age) {
            (usage, estimated)
        } else {
            (Usage::default(), false)
        };
        attempt.cost_usd = cost_usd(&self.target, &attempt.usage);
        let attempt = attempt.clone();
        drop(attempts);
        count(&attempt);
        let now = SystemTime::now();
        self.ledger.spend.add(&self.ledger.context, attempt.tier, attempt.cost_usd, 0.0, now);
        if attempt.cause == Cause::Judge {
            self.ledger.spend.add_judge(attempt.cost_usd, now);
        }
    }
}

impl Drop for OpenAttempt {
    fn drop(&mut self) {
        self.close();
    }
}

/// Returns whether the model may have gone on writing when its answer was no longer waited for.
fn was_left(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Lost | Outcome::Abandoned => true,
        Outcome::Failed(error) => {
            matches!(error.kind, ErrorKind::Timeout(Stage::Total | Stage::Deadline))
        }
        Outcome::Answered | Outcome::Weak(_) | Outcome::Skipped => false,
    }
}

/// Returns whether the provider will have charged for this: it took the request and worked on it. A call that
/// was left sooner than a request takes to be sent cost nothing.
fn was_billed(outcome: &Outcome, view: &View, age: Duration) -> bool {
    match outcome {
        Outcome::Skipped => false,
        Outcome::Answered | Outcome::Weak(_) => true,
        Outcome::Lost | Outcome::Abandoned => view.usage.is_some() || view.bytes() > 0 || age >= SENT_AFTER,
        Outcome::Failed(error) => {
            view.usage.is_some()
                || view.bytes() > 0
                || matches!(
                    error.kind,
                    ErrorKind::TooLarge
                        | ErrorKind::Timeout(
                            Stage::FirstToken | Stage::BetweenTokens | Stage::Total | Stage::Deadline
                        )
                )
        }
    }
}

fn count(attempt: &Attempt) {
    let failure = match &attempt.outcome {
        Outcome::Failed(error) => error.kind.as_str(),
        Outcome::Weak(weakness) => weakness.check.as_str(),
        Outcome::Answered | Outcome::Skipped | Outcome::Lost | Outcome::Abandoned => "",
    };
    telemetry::attempted(&telemetry::AttemptMetrics {
        target: &attempt.target.id.0,
        cause: attempt.cause.as_str(),
        outcome: attempt.outcome.as_str(),
        why: failure,
        took: attempt.latency,
        first_token: attempt.first_token,
        tokens_in: attempt.usage.input_tokens,
        tokens_cached: attempt.usage.cached_input_tokens,
        tokens_out: attempt.usage.output_tokens,
        cost_usd: attempt.cost_usd,
    });
    match &attempt.outcome {
        Outcome::Failed(error) => {
            tracing::warn!(
                target = %attempt.target.id,
                cause = attempt.cause.as_str(),
                error = error.to_log(),
                "attempt failed"
            );
        }
        Outcome::Weak(weakness) => {
            tracing::info!(
                target = %attempt.target.id,
                cause = attempt.cause.as_str(),
                check = weakness.check.as_str(),
                "weak answer"
            );
        }
        Outcome::Answered | Outcome::Skipped | Outcome::Lost | Outcome::Abandoned => {
            tracing::debug!(
                target = %attempt.target.id,
                cause = attempt.cause.as_str(),
                outcome = attempt.outcome.as_str(),
                "attempt ended"
            );
        }
    }
}
