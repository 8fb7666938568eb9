//! Why nobody answered, for callers: of which kind, after which attempts, and when asking again may help.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    super::{
        attempt::{Again, Attempt, ErrorKind, Outcome, ProviderError, Stage},
        clock,
        ended::Ending,
        outcome::{Failure, FailureKind},
        step::Stop,
    },
    Run,
};
use crate::{config::TargetIndex, telemetry};

/// Targets that an error message names; all attempts stand in the failure itself.
const TARGETS_NAMED_MAX: usize = 6;

impl Run {
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
        let now = clock();
        let left_alone = |attempt: &Attempt| self.completer.breakers.left_alone(attempt.index, now);
        let mut skipped = attempts.iter().filter(|attempt| attempt.outcome == Outcome::Skipped).peekable();
        let skipped = if skipped.peek().is_none() {
            Skipped::None
        } else if skipped.all(|attempt| left_alone(attempt).is_some_and(|it| it.rate_limited)) {
            Skipped::RateLimited
        } else {
            Skipped::Failing
        };
        let kind = failure_kind(stop, attempts.is_empty(), &errors, skipped);
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
        let retry_after = self.retry_after(&attempts, now);
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

    /// Returns when the first target may answer again, as far as somebody said.
    fn retry_after(&self, attempts: &[Attempt], now: Instant) -> Option<Duration> {
        let mut targets: Vec<TargetIndex> = attempts.iter().map(|attempt| attempt.index).collect();
        targets.sort_unstable();
        targets.dedup();
        let of = |target: TargetIndex| attempts.iter().filter(move |attempt| attempt.index == target);
        targets.into_iter().filter_map(|target| self.again_in(target, of(target), now)).min()
    }

    /// Returns when this target may answer again: when its provider said, but not before its breaker lets anybody
    /// through, which the very attempts of this request may have opened.
    fn again_in<'a>(
        &self,
        target: TargetIndex,
        attempts: impl Iterator<Item = &'a Attempt>,
        now: Instant,
    ) -> Option<Duration> {
        let mut was_refused = false;
        let mut said = None;
        for attempt in attempts {
            match &attempt.outcome {
                Outcome::Failed(error) => {
                    was_refused = true;
                    said = match error.again {
                        // It was said when that attempt ended.
                        Again::After(wait) => {
                            let age = self.ledger.elapsed().saturating_sub(attempt.started + attempt.latency);
                            Some(wait.saturating_sub(age))
                        }
                        Again::Usual | Again::Now => None,
                    };
                }
                Outcome::Skipped => was_refused = true,
                Outcome::Answered | Outcome::Weak(_) | Outcome::Lost | Outcome::Abandoned => {}
            }
        }
        let alone = self.completer.breakers.left_alone(target, now).filter(|_| was_refused);
        said.max(alone.map(|alone| alone.remaining))
    }
}

/// Those who were left alone, taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Skipped {
    None,
    /// All of them for 429s and nothing else.
    RateLimited,
    Failing,
}

/// The common kind of all errors where they have one, else that nobody was available.
fn failure_kind(stop: Stop, nobody_asked: bool, errors: &[&ProviderError], skipped: Skipped) -> FailureKind {
    let all = |kind: ErrorKind| !errors.is_empty() && errors.iter().all(|error| error.kind == kind);
    match stop {
        Stop::Deadline => FailureKind::DeadlineExceeded,
        // Nobody was asked, and asking later would cost the same.
        Stop::Cost if nobody_asked => FailureKind::NoTarget,
        Stop::Exhausted | Stop::AttemptsMax | Stop::Cost => {
            // It passed within the last attempt, and there was nobody else to ask anyway.
            if errors.last().is_some_and(|error| error.kind == ErrorKind::Timeout(Stage::Deadline)) {
                FailureKind::DeadlineExceeded
            } else if !errors.is_empty() && errors.iter().all(|error| is_refusal(error.kind)) {
                FailureKind::Refused
            } else if all(ErrorKind::RateLimited) || (errors.is_empty() && skipped == Skipped::RateLimited) {
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

/// Names every target once, with how its last attempt ended: those who need a person first, since waiting does not
/// mend a wrong key.
fn told(attempts: &[Attempt]) -> String {
    let mut last: Vec<(&Attempt, Need, String)> = Vec::new();
    for attempt in attempts {
        let (need, how) = match &attempt.outcome {
            Outcome::Failed(error) => (need(error.kind), error.to_string()),
            Outcome::Weak(weakness) => (Need::Time, weakness.why.clone()),
            Outcome::Skipped => (Need::Time, "left alone, its breaker is open".to_owned()),
            Outcome::Answered | Outcome::Lost | Outcome::Abandoned => continue,
        };
        // What came of a target before says more than that it was passed over then.
        let is_news = attempt.outcome != Outcome::Skipped;
        match last.iter().position(|(before, ..)| before.index == attempt.index) {
            Some(_) if !is_news => continue,
            Some(at) => drop(last.remove(at)),
            None => {}
        }
        last.push((attempt, need, how));
    }
    last.sort_by_key(|(_, need, _)| *need);
    let more = last.len().saturating_sub(TARGETS_NAMED_MAX);
    last.truncate(TARGETS_NAMED_MAX);
    let mut text = String::new();
    for (attempt, _, how) in last {
        text.push_str(if text.is_empty() { ": " } else { "; " });
        text.push_str(&format!("{}: {how}", attempt.target.id));
    }
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

/// Who has to do something about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// The operator: a key, an account, a name or an address is wrong.
    Operator,
    /// Nobody: it may pass, or another request may do.
    Time,
}

fn need(kind: ErrorKind) -> Need {
    match kind {
        ErrorKind::Unauthorized
        | ErrorKind::Unpaid
        | ErrorKind::NoKey
        | ErrorKind::NotFound
        | ErrorKind::Redirect
        | ErrorKind::Tls => Need::Operator,
        ErrorKind::Connect
        | ErrorKind::Timeout(_)
        | ErrorKind::RateLimited
        | ErrorKind::Refused
        | ErrorKind::TooLong
        | ErrorKind::Server
        | ErrorKind::Overloaded
        | ErrorKind::Malformed
        | ErrorKind::Cut
        | ErrorKind::ErrorEvent
        | ErrorKind::TooLarge => Need::Time,
    }
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
