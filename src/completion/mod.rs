//! Decision -> answer: the only attempt loop.
//!
//! `step` says which target is called next, a breaker whether it may be, a provider makes the call, `quality`
//! and the judge say whether the answer is good enough, and the ledger accounts for every attempt however it
//! ends. This module only turns the crank. It never changes the target of a stream whose first part was sent,
//! and never ends a broken one cleanly.

mod absent_keys;
pub mod answer;
pub mod attempt;
pub mod breaker;
pub mod chat;
pub mod cost;
pub mod dialect;
pub mod ended;
mod forward;
mod hold;
mod judge;
pub mod keys;
mod ledger;
mod leg;
pub mod outcome;
mod pace;
pub mod providers;
mod quality;
mod race;
pub mod report;
mod run;
mod slots;
pub mod spend;
mod step;
mod succession;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::sync::mpsc;
use uuid::Uuid;

use self::{
    breaker::Breakers,
    chat::Chat,
    ended::OnEnd,
    forward::forward,
    outcome::{Completion, Failure, FailureKind, Opening, Streaming},
    pace::{Pace, Streamed},
    providers::{Provider, ProviderSetupError},
    run::{Run, Taken},
    slots::Slots,
    spend::{Spend, SpendError, Verdict},
    step::{End, Step},
};
use crate::{
    config::{Config, TargetConfig, TargetIndex},
    prompt::{Prompt, TierCap},
    routing::{RouteError, Router, health::TargetHealth},
    telemetry,
};

/// Pieces between the upstream side and a caller who reads slowly; then the upstream side waits.
const PIECES_WAITING_MAX: usize = 32;

/// A completion to make.
#[derive(Debug, Clone)]
pub struct Job {
    /// Of the decision; who decides may follow from it.
    pub decision_id: Uuid,
    pub chat: Arc<Chat>,
    pub prompt: Prompt,
    /// When the request came in: deadline and overhead count from here.
    pub received: Instant,
    /// When the caller stops waiting, if it said.
    pub deadline: Option<Instant>,
}

/// Everything that completions share: providers, breakers, spend.
pub struct Completer {
    config: Arc<Config>,
    health: Arc<TargetHealth>,
    targets: Vec<Arc<TargetConfig>>,
    /// One for each target; `None`: the target cannot be called.
    providers: Vec<Option<Arc<dyn Provider>>>,
    breakers: Breakers,
    spend: Arc<Spend>,
    pace: Pace,
    slots: Slots,
    on_end: Option<OnEnd>,
    absent_told: absent_keys::Told,
}

/// Why completions cannot be made at all.
#[derive(Debug, thiserror::Error)]
pub enum CompleterError {
    #[error(transparent)]
    Provider(#[from] ProviderSetupError),
    #[error(transparent)]
    Spend(#[from] SpendError),
}

impl Completer {
    /// Sets up every provider of the configuration. Keys that cannot be read are no error: their targets fail
    /// with `NoKey` until a key file appears.
    pub fn new(config: Arc<Config>, health: Arc<TargetHealth>) -> Result<Self, CompleterError> {
        let providers = providers::set_up(&config)?;
        Self::with_providers(config, health, providers)
    }

    /// Starts with these providers, one for each target.
    fn with_providers(
        config: Arc<Config>,
        health: Arc<TargetHealth>,
        providers: Vec<Option<Arc<dyn Provider>>>,
    ) -> Result<Self, CompleterError> {
        telemetry::completions_of(config.tiers.iter().map(|tier| &*tier.name));
        let completer = Self {
            targets: config.targets.iter().cloned().map(Arc::new).collect(),
            breakers: Breakers::new(config.completion.breaker, &config.targets, Arc::clone(&health)),
            spend: Arc::new(Spend::open(&config)?),
            pace: Pace::new(config.targets.len()),
            slots: Slots::default(),
            on_end: None,
            absent_told: absent_keys::Told::default(),
            providers,
            health,
            config,
        };
        completer.show_keys();
        Ok(completer)
    }

    /// Tells `on_end` of every completion that was decided for, however it ends.
    #[must_use]
    pub fn telling(mut self, on_end: OnEnd) -> Self {
        self.on_end = Some(on_end);
        self
    }

    /// Compiles what the checks of answers match with, if any target can be called: 30 ms of work that the first answer
    /// would wait for. Who routes alone is spared its 8 MB.
    pub fn prepare_checks(&self) {
        if self.has_key(Instant::now()) {
            quality::prepare();
        }
    }

    /// Returns the configuration that completions follow.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Returns which targets refuse calls.
    pub fn health(&self) -> &Arc<TargetHealth> {
        &self.health
    }

    /// Makes a whole answer; the router is let go of when it has decided. Dropping the future ends what runs upstream at once, and accounts for it.
    pub async fn complete(
        self: &Arc<Self>,
        router: Arc<Router>,
        job: Job,
    ) -> Result<Completion, Box<Failure>> {
        let mut run = self.start(router, job).await?;
        let taken = self.drive(&mut run, Streamed::No).await?;
        let Taken::Whole(whole) = taken else { unreachable!("whole answers were asked for") };
        Ok(run.finish_whole(*whole))
    }

    /// Makes a streamed answer; resolves when its first part may be sent, or when there will be none.
    pub async fn stream(self: &Arc<Self>, router: Arc<Router>, job: Job) -> Result<Streaming, Box<Failure>> {
        let mut run = self.start(router, job).await?;
        let taken = self.drive(&mut run, Streamed::Yes).await?;
        let Taken::Ready(ready) = taken else { unreachable!("a stream was asked for") };
        let opening: Opening = run.opening(&ready);
        // One more: the end of the stream has its own place.
        let (events, receiver) = mpsc::channel(PIECES_WAITING_MAX + 1);
        // Whoever holds the receiver waits for this task: it ends when the receiver is dropped.
        tokio::spawn(forward(run, *ready, events));
        Ok(Streaming { opening, events: receiver })
    }

    /// Admits the request: a free slot, an unspent budget, a decision, and targets that can be called.
    async fn start(self: &Arc<Self>, router: Arc<Router>, mut job: Job) -> Result<Run, Box<Failure>> {
        let most = self.config.completion.concurrent_max;
        let Some(slot) = self.slots.take(most) else {
            return Err(Failure::before(
                FailureKind::Overloaded,
                format!("{most} completions are in progress (completion.concurrent_max); try again later"),
                Some(Duration::from_secs(1)),
            ));
        };
        match self.spend.verdict(&job.prompt.context, SystemTime::now()) {
            Verdict::Free => {}
            Verdict::TierMax { tier, why } => {
                job.prompt.tier_cap = Some(TierCap { tier, why: why.into() });
            }
            Verdict::Refuse { why, retry_after } => {
                return Err(Failure::before(FailureKind::BudgetSpent, why, Some(retry_after)));
            }
        }
        let deadline = job.received + self.config.completion.deadline;
        let deadline = job.deadline.map_or(deadline, |caller| caller.min(deadline));
        let routed = router.plan(job.decision_id, &job.prompt, Some(deadline)).await.map_err(no_decision)?;
        Run::new(Arc::clone(self), Arc::clone(router.sessions()), job, routed, deadline, slot)
    }

    /// Turns the crank until there is an answer to send, weak or not.
    async fn drive(&self, run: &mut Run, streamed: Streamed) -> Result<Taken, Box<Failure>> {
        let mut fallback: Option<Taken> = None;
        loop {
            let next = match run.step() {
                Step::Call(next) => next,
                Step::Done(End::Failed(stop)) => return Err(run.failed(stop)),
                Step::Done(End::Weak(place)) => {
                    let weak = fallback.expect("the best weak answer is kept");
                    debug_assert_eq!(weak.place(), place, "both go by `step::goodness`");
                    return Ok(weak);
                }
                Step::Done(End::Answered) => unreachable!("a good answer is returned at once"),
            };
            run.wait();
            // A timer of no time still waits for the clock's next millisecond.
            if !next.wait.is_zero() {
                tokio::time::sleep(next.wait).await;
            }
            let mut taken = race::call(self, run, &next, streamed).await;
            if let Some(taken) = taken.as_mut().filter(|taken| taken.weakness().is_none())
                && let Some(weakness) = race::judged(self, run, taken).await
            {
                taken.weaken(weakness);
            }
            run.go_on();
            let Some(taken) = taken else { continue };
            if taken.weakness().is_none() {
                if let Some(weak) = fallback {
                    weak.leave();
                }
                return Ok(taken);
            }
            // The best weak answer stays at hand, its stream paused: better than none.
            fallback = Some(match fallback.take() {
                Some(weak) => weak.better(taken),
                None => taken,
            });
            if fallback.as_ref().is_some_and(Taken::is_partial) {
                run.keep_reserve();
            }
        }
    }

    /// Returns whether a target can be called at all.
    fn is_callable(&self, target: TargetIndex) -> bool {
        self.providers[target.0].is_some()
    }
}

/// Returns the failure of a completion that nobody may make.
fn no_decision(error: RouteError) -> Box<Failure> {
    let message = error.to_string();
    match error {
        RouteError::NoTarget(no_target) => {
            let kind =
                if no_target.spent.is_some() { FailureKind::BudgetSpent } else { FailureKind::NoTarget };
            let mut failure = Failure::before(kind, message, None);
            failure.dropped = no_target.dropped;
            failure
        }
        RouteError::Overloaded => {
            Failure::before(FailureKind::Overloaded, message, Some(Duration::from_secs(1)))
        }
    }
}

/// The clock that timeouts follow too: tests that pause it pause both.
fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod loop_tests;
