//! The second half of a streamed answer: piece by piece to the caller, then its account.
//!
//! A caller who reads slowly slows the upstream side down; one who is gone ends it at once. A stream that
//! breaks ends in a failure, never in a clean end, and the end always has its place in the caller's buffer.

use std::time::Duration;

use tokio::{
    sync::mpsc::Sender,
    time::{Instant, timeout_at},
};

use super::{
    answer::Piece,
    attempt::{ErrorKind, Outcome, ProviderError, Stage, Weakness},
    breaker::Permit,
    ledger::OpenAttempt,
    leg::{Ready, Rest, failed, too_slow},
    outcome::{FailureKind, StreamEvent, Summary},
    quality::check,
    run::Run,
};
use crate::config::StreamQuality;

/// Sends what was held back and what follows, and accounts for the attempt however it ends.
pub async fn forward(mut run: Run, ready: Ready, events: Sender<StreamEvent>) {
    let overhead = run.begin_sending();
    let Ok(end) = events.clone().try_reserve_owned() else {
        run.remember(ready.open.place(), ready.weakness.as_ref());
        ready.open.settle(Outcome::Abandoned);
        return;
    };
    let Ready { mut open, permit, held, rest, weakness, checked, .. } = ready;
    let stall = run.completer.config().completion.stream.caller_stall;
    let link = Link { events: &events, stall, deadline: run.deadline.into() };
    let event = match pass_on(&link, held, rest, &mut open).await {
        Ok(()) => {
            let answered = Answered { open, permit, weakness, checked };
            StreamEvent::Finished(Box::new(answered.account(&run, overhead)))
        }
        Err(Left::HungUp) => {
            run.remember(open.place(), weakness.as_ref());
            open.settle(Outcome::Abandoned);
            return;
        }
        Err(Left::Stalled) => {
            run.remember(open.place(), weakness.as_ref());
            open.settle(Outcome::Abandoned);
            StreamEvent::Failed(run.broken_off(FailureKind::CallerStalled, "the caller did not read it"))
        }
        Err(Left::Broken(error)) => {
            run.remember_need(open.place(), weakness.as_ref());
            let (kind, why) = (broken(&error), error.to_string());
            failed(open, permit, error);
            StreamEvent::Failed(run.broken_off(kind, &why))
        }
    };
    end.send(event);
}

/// Sends every piece; the upstream side is dropped on every way out.
async fn pass_on(
    link: &Link<'_>,
    held: Vec<Piece>,
    rest: Option<Rest>,
    open: &mut OpenAttempt,
) -> Result<(), Left> {
    for piece in held {
        link.send(piece).await?;
    }
    let Some(mut rest) = rest else { return Ok(()) };
    let mut heard = Instant::now();
    loop {
        let piece = tokio::select! {
            biased;
            () = link.events.closed() => return Err(Left::HungUp),
            piece = rest.next(heard) => piece.map_err(Left::Broken)?,
        };
        let Some(piece) = piece else { return Ok(()) };
        open.hear(&piece.delta);
        let before = Instant::now();
        if piece.delta.shows_work() {
            heard = before;
        }
        link.send(piece).await?;
        heard += before.elapsed();
    }
}

/// An answer that was sent to its end.
struct Answered {
    open: OpenAttempt,
    permit: Permit,
    weakness: Option<Weakness>,
    checked: bool,
}

impl Answered {
    fn account(self, run: &Run, overhead: Duration) -> Summary {
        let Self { open, permit, mut weakness, checked } = self;
        permit.succeeded();
        let place = open.place();
        let is_due = match run.completer.config().completion.stream.quality {
            StreamQuality::Guard | StreamQuality::Buffer => !checked && weakness.is_none(),
            StreamQuality::Off => false,
        };
        if is_due {
            // It was sent already: what is wrong with it can only be said, not mended.
            weakness = check(open.view(), &run.checks(open.tier())).err();
            if let Some(weakness) = &weakness {
                open.weak(weakness.clone());
            }
        }
        open.settle(Outcome::Answered);
        run.summary(place, weakness, overhead)
    }
}

fn broken(error: &ProviderError) -> FailureKind {
    match error.kind {
        ErrorKind::Timeout(Stage::Deadline) => FailureKind::DeadlineExceeded,
        _ => FailureKind::BrokenOff,
    }
}

/// Why the rest of a stream is not sent.
#[derive(Debug)]
enum Left {
    /// The caller is gone.
    HungUp,
    /// The caller left a full buffer unread for too long.
    Stalled,
    /// The upstream side failed, or the deadline passed.
    Broken(ProviderError),
}

/// The caller's side of a stream.
struct Link<'a> {
    events: &'a Sender<StreamEvent>,
    stall: Duration,
    /// Of the whole completion.
    deadline: Instant,
}

impl Link<'_> {
    async fn send(&self, piece: Piece) -> Result<(), Left> {
        let stalled = Instant::now() + self.stall;
        let sending = self.events.send(StreamEvent::Piece(Box::new(piece)));
        match timeout_at(stalled.min(self.deadline), sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Left::HungUp),
            Err(_) if self.deadline <= stalled => Err(Left::Broken(too_slow(Stage::Deadline))),
            Err(_) => Err(Left::Stalled),
        }
    }
}
