//! One attempt, from the call to an answer that can be judged: whole, or a stream whose first part is there.
//!
//! Owns the timeouts of an attempt. Never decides what happens next.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::{
    answer::{Answer, Piece},
    attempt::{Again, ErrorKind, Outcome, ProviderError, Stage, Weakness},
    breaker::Permit,
    hold::{Hold, Ruling},
    ledger::OpenAttempt,
    providers::{Call, Pieces, Provider},
    quality::{Checks, check},
};
use crate::config::{StreamConfig, Timeouts};

/// What an attempt needs beside its account.
pub struct Ask<'a> {
    pub provider: Arc<dyn Provider>,
    pub call: Call,
    pub permit: Permit,
    /// Longest that a whole answer may take, or a stream up to its first token.
    pub total: Duration,
    /// When there must be something to send, so that others can still be asked.
    pub until: Instant,
    /// Of the whole completion.
    pub deadline: Instant,
    /// A target that has shown nothing for so long has failed, whoever's deadline ended the wait.
    pub silence_max: Duration,
    pub checks: Checks<'a>,
}

/// An answer that came whole.
pub struct Whole {
    pub answer: Answer,
    pub open: OpenAttempt,
    pub weakness: Option<Weakness>,
}

/// A stream whose first part may be sent.
pub struct Ready {
    pub open: OpenAttempt,
    pub permit: Permit,
    pub held: Vec<Piece>,
    /// `None`: the stream ended within what was held.
    pub rest: Option<Rest>,
    pub weakness: Option<Weakness>,
    pub dropped_parameters: Vec<String>,
    /// Whether the whole answer was checked.
    pub checked: bool,
}

/// The part of a stream that is still to come, with its clocks.
pub struct Rest {
    pieces: Pieces,
    clocks: Clocks,
    /// Whether the model said that it is done.
    is_finished: bool,
}

/// The limits of a running attempt.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    timeouts: Timeouts,
    /// When the first token must have come: a stream that flows may take as long as the completion may.
    total: Instant,
    /// Of the whole completion.
    deadline: Instant,
}

impl Clocks {
    /// Returns what comes first, this moment or one at which all has to end, and what to call it.
    fn first_of(&self, until: Instant, stage: Stage) -> (Instant, Stage) {
        let is_late = stage == Stage::FirstToken && self.total < until;
        let (until, stage) = if is_late { (self.total, Stage::Total) } else { (until, stage) };
        first_of(until, stage, self.deadline)
    }
}

/// Asks for a whole answer and checks it; `None`: the attempt failed, and is settled and counted.
pub async fn whole(ask: Ask<'_>, mut open: OpenAttempt) -> Option<Whole> {
    let Ask { provider, call, permit, total, until, deadline: _, silence_max, checks } = ask;
    let (until, stage) = first_of(Instant::now() + total, Stage::Total, until);
    let answered = timeout_at(until, provider.complete(call)).await;
    let answer = match answered.unwrap_or_else(|_| Err(too_slow(stage))) {
        Ok(answer) => answer,
        Err(error) => {
            failed_after(open, permit, error, silence_max);
            return None;
        }
    };
    permit.succeeded();
    open.hear_all(answer.view.clone());
    open.dropped_parameters(&answer.dropped_parameters);
    open.price();
    let weakness = open.working(|| check(&answer.view, &checks).err());
    if let Some(weakness) = &weakness {
        open.weak(weakness.clone());
    }
    Some(Whole { answer, open, weakness })
}

/// Asks for a stream and waits until its first part may be sent; `None`: the attempt failed, and is settled and
/// counted.
pub async fn streamed(ask: Ask<'_>, stream: StreamConfig, mut open: OpenAttempt) -> Option<Ready> {
    let Ask { provider, call, mut permit, total, until, deadline, silence_max, checks } = ask;
    let clocks = Clocks { timeouts: call.target.timeouts, total: Instant::now() + total, deadline: until };
    let mut begun = match begin(provider, call, clocks, Hold::new(stream), &checks, &mut open).await {
        Ok(begun) => begun,
        Err(error) => {
            failed_after(open, permit, error, silence_max);
            return None;
        }
    };
    // From here on the whole deadline is its own, and a probe has told what it was made for.
    if let Some(rest) = &mut begun.rest {
        rest.clocks.deadline = deadline;
    }
    permit.answers();
    open.price();
    let weakness = match begun.verdict {
        Ruling::Weak(weakness) => Some(weakness),
        Ruling::Wait | Ruling::Release | Ruling::TooMuch => None,
    };
    if let Some(weakness) = &weakness {
        open.weak(weakness.clone());
    }
    Some(Ready {
        open,
        permit,
        held: begun.hold.into_pieces(),
        checked: begun.rest.is_none(),
        rest: begun.rest,
        weakness,
        dropped_parameters: begun.dropped_parameters,
    })
}

/// A stream of which enough was seen.
struct Begun {
    hold: Hold,
    verdict: Ruling,
    /// `None`: it ended.
    rest: Option<Rest>,
    dropped_parameters: Vec<String>,
}

async fn begin(
    provider: Arc<dyn Provider>,
    call: Call,
    clocks: Clocks,
    mut hold: Hold,
    checks: &Checks<'_>,
    open: &mut OpenAttempt,
) -> Result<Begun, ProviderError> {
    let first = Instant::now() + clocks.timeouts.first_token;
    let (until, stage) = clocks.first_of(first, Stage::FirstToken);
    let started = timeout_at(until, provider.stream(call)).await.unwrap_or_else(|_| Err(too_slow(stage)))?;
    open.dropped_parameters(&started.dropped_parameters);
    let dropped_parameters = started.dropped_parameters;
    let mut rest = Rest { pieces: started.pieces, clocks, is_finished: false };
    let (mut until, mut stage) = (first, Stage::FirstToken);
    loop {
        let Some(piece) = rest.next_until(until, stage).await? else {
            let verdict = open.working(|| hold.end(open.view(), checks));
            return Ok(Begun { hold, verdict, rest: None, dropped_parameters });
        };
        open.hear(&piece.delta);
        if piece.delta.shows_work() {
            (until, stage) = (Instant::now() + clocks.timeouts.between_tokens, Stage::BetweenTokens);
        }
        match open.working(|| hold.push(piece, open.view(), checks)) {
            Ruling::Wait => {}
            verdict @ (Ruling::Release | Ruling::Weak(_) | Ruling::TooMuch) => {
                return Ok(Begun { hold, verdict, rest: Some(rest), dropped_parameters });
            }
        }
    }
}

impl Rest {
    /// Returns the next piece, `None` after the last one of a stream that ended well; a pause longer than
    /// the target may take between tokens is an error.
    ///
    /// A piece that says nothing, such as a ping, does not stop the clock.
    pub async fn next(&mut self, since: Instant) -> Result<Option<Piece>, ProviderError> {
        self.next_until(since + self.clocks.timeouts.between_tokens, Stage::BetweenTokens).await
    }

    async fn next_until(&mut self, until: Instant, stage: Stage) -> Result<Option<Piece>, ProviderError> {
        let (until, stage) = self.clocks.first_of(until, stage);
        match timeout_at(until, self.pieces.next()).await {
            Ok(Some(Ok(piece))) => {
                self.is_finished |= piece.delta.finish.is_some();
                Ok(Some(piece))
            }
            Ok(Some(Err(error))) => Err(error),
            Ok(None) if self.is_finished => Ok(None),
            Ok(None) => Err(cut()),
            Err(_) => Err(too_slow(stage)),
        }
    }
}

/// Settles an attempt that failed before anything of it could be sent: a deadline that ended a long silence
/// counts against the target, as its own timeout would have, had it come first.
fn failed_after(open: OpenAttempt, permit: Permit, error: ProviderError, silence_max: Duration) {
    let passed = error.kind == ErrorKind::Timeout(Stage::Deadline);
    if passed && open.is_silent() && open.age() >= silence_max {
        permit.failed(ErrorKind::Timeout(Stage::Deadline));
        open.settle(Outcome::Failed(error));
    } else {
        failed(open, permit, error);
    }
}

/// Settles a failed attempt: a refused request does not count against the target, and a deadline that passed
/// tells nothing of it.
pub fn failed(open: OpenAttempt, permit: Permit, error: ProviderError) {
    if error.kind.blames_target() {
        permit.failed(error.kind);
    } else if error.kind != ErrorKind::Timeout(Stage::Deadline) {
        permit.succeeded();
    }
    open.settle(Outcome::Failed(error));
}

/// Providers tell a cut stream from a whole one; one that does not must not make a broken answer look whole.
fn cut() -> ProviderError {
    ProviderError {
        kind: ErrorKind::Cut,
        status: None,
        message: "the stream ended before the answer did".to_owned(),
        code: None,
        again: Again::Usual,
    }
}

/// Returns what comes first, an attempt's own limit or the completion's deadline, and what to call it.
fn first_of(until: Instant, stage: Stage, deadline: Instant) -> (Instant, Stage) {
    if deadline <= until { (deadline, Stage::Deadline) } else { (until, stage) }
}

/// Returns the error of a wait that was too long.
pub fn too_slow(stage: Stage) -> ProviderError {
    let what = match stage {
        Stage::Connect => "no connection in time",
        Stage::FirstToken => "no first token in time",
        Stage::BetweenTokens => "the answer stalled",
        Stage::Total => "the answer took too long",
        Stage::Deadline => "the deadline passed",
    };
    ProviderError {
        kind: ErrorKind::Timeout(stage),
        status: None,
        message: what.to_owned(),
        code: None,
        again: Again::Usual,
    }
}
