//! What comes of a completion: the answer or a failure, and an honest account of every attempt.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    answer::{Answer, Piece, Usage},
    attempt::{Attempt, Outcome, Weakness},
};
use crate::{
    prompt::{Decision, TargetRef},
    routing::policy::Dropped,
};

/// A whole answer and its account.
#[derive(Debug, Clone)]
pub struct Completion {
    pub answer: Answer,
    pub summary: Summary,
}

/// The account of a completion that was answered.
#[derive(Debug, Clone)]
pub struct Summary {
    pub decision: Arc<Decision>,
    /// In the order in which they were started.
    pub attempts: Vec<Attempt>,
    /// Who answered, which need not be who was decided for.
    pub target: TargetRef,
    /// Its tier.
    pub tier: Arc<str>,
    /// Whether a tier above the decided one answered since an answer below was weak; not after an outage.
    pub escalated: bool,
    /// Why the answer is not good enough, when no better one was had.
    pub weak: Option<Weakness>,
    /// Of the answer, not of other attempts.
    pub usage: Usage,
    /// Whether any cost or usage in here is an estimate.
    pub estimated: bool,
    /// All attempts together.
    pub cost_usd: f64,
    /// The same answer from the first target of the top tier.
    pub baseline_cost_usd: f64,
    /// Time in pointsman itself: from the request's arrival to the account, without waiting for providers.
    pub overhead: Duration,
}

/// Why nobody answered, or not to the end.
#[derive(Debug, Clone)]
pub struct Failure {
    pub kind: FailureKind,
    /// One sentence for a person.
    pub message: String,
    /// `None` when there was none.
    pub decision: Option<Arc<Decision>>,
    pub attempts: Vec<Attempt>,
    pub cost_usd: f64,
    /// Why each target was out of the question, where none was left to decide for.
    pub dropped: Vec<Dropped>,
    /// When it may be worth trying again.
    pub retry_after: Option<Duration>,
}

/// What a caller can do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// No target may take this request: limits of request, rules or budgets contradict.
    NoTarget,
    /// A budget is spent.
    BudgetSpent,
    /// Too many completions in progress, or the classifier's queue is full and the operator refuses then.
    Overloaded,
    /// Every target refused the request as it stands.
    Refused,
    /// Every target is rate-limited.
    RateLimited,
    /// No target answered.
    Unavailable,
    /// The overall deadline passed.
    DeadlineExceeded,
    /// None of the targets has a provider that can be called.
    Unconfigured,
    /// The answer broke off after its first part was sent.
    BrokenOff,
    /// The caller left a full buffer unread for too long.
    CallerStalled,
}

impl Failure {
    /// Returns the provider's code that all failed attempts share, where each has one.
    pub fn code(&self) -> Option<&str> {
        let mut codes = self.attempts.iter().filter_map(|attempt| match &attempt.outcome {
            Outcome::Failed(error) => Some(error.code.as_deref()),
            Outcome::Answered | Outcome::Weak(_) | Outcome::Skipped | Outcome::Lost | Outcome::Abandoned => {
                None
            }
        });
        let first = codes.next()??;
        codes.all(|code| code == Some(first)).then_some(first)
    }
}

impl FailureKind {
    /// Returns the name used in metric labels and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoTarget => "no_target",
            Self::BudgetSpent => "budget_spent",
            Self::Overloaded => "overloaded",
            Self::Refused => "refused",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Unconfigured => "unconfigured",
            Self::BrokenOff => "broken_off",
            Self::CallerStalled => "caller_stalled",
        }
    }
}

/// A stream whose first part is there: from here on the target is fixed.
#[derive(Debug)]
pub struct Streaming {
    pub opening: Opening,
    /// Pieces, then exactly one `Finished` or `Failed`. Dropping it ends the upstream call at once. A channel
    /// that closes without an end means that the server is stopping: never a clean end.
    pub events: mpsc::Receiver<StreamEvent>,
}

/// What is known when a stream's first part is there.
#[derive(Debug, Clone)]
pub struct Opening {
    pub decision: Arc<Decision>,
    pub target: TargetRef,
    pub tier: Arc<str>,
    /// As in a [`Summary`].
    pub escalated: bool,
    /// Those that ended before; the one that answers is not among them.
    pub attempts: Vec<Attempt>,
    /// Why its beginning is not good enough, when no better answer was had.
    pub weak: Option<Weakness>,
    pub dropped_parameters: Vec<String>,
    /// So far, of attempts that ended.
    pub cost_usd: f64,
    pub overhead: Duration,
}

/// What follows the opening.
#[derive(Debug, Clone)]
pub enum StreamEvent {
    Piece(Box<Piece>),
    Finished(Box<Summary>),
    Failed(Box<Failure>),
}
