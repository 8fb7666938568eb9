//! A completion that ended, in whatever way: what the traffic log gets to know.

use std::{sync::Arc, time::Duration};

use super::{
    attempt::{Attempt, Weakness},
    outcome::FailureKind,
};
use crate::{
    config::Config,
    prompt::{Decision, Prompt, TargetRef},
};

/// Takes completions that ended. Called once for each, from wherever it ended: it must not wait.
pub type OnEnd = Arc<dyn Fn(Ended) + Send + Sync>;

/// One completion from its decision to its end.
#[derive(Debug, Clone)]
pub struct Ended {
    pub config: Arc<Config>,
    pub prompt: Prompt,
    pub decision: Arc<Decision>,
    /// In the order in which they were started.
    pub attempts: Vec<Attempt>,
    pub how: Ending,
    /// All attempts together.
    pub cost_usd: f64,
    /// From the request's arrival to its end.
    pub latency: Duration,
    /// Time in pointsman itself.
    pub overhead: Duration,
}

/// How a completion ended.
#[derive(Debug, Clone)]
pub enum Ending {
    Answered {
        target: TargetRef,
        tier: Arc<str>,
        escalated: bool,
        /// Why the answer is not good enough, when no better one was had.
        weak: Option<Weakness>,
        baseline_cost_usd: f64,
    },
    Failed(FailureKind),
    /// The caller hung up before the end.
    HungUp,
}
