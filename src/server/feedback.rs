//! Feedback from any edge -> what became of it. Checks and stores nothing itself: `traffic` does.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crate::{
    live::{Live, Serving},
    routing::admit::BadRequest,
    telemetry,
    traffic::{
        self, FeedbackError,
        feedback::{FeedbackDraft, FeedbackSource},
        store::Landed,
    },
};

/// Feedback that is durable.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// The caller's name for it, or the one made from its content.
    pub feedback_id: String,
    pub status: FeedbackStatus,
}

/// What became of durable feedback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedbackStatus {
    Recorded,
    /// Kept apart: its decision is not in the log.
    UnknownDecision,
    Duplicate,
}

impl FeedbackStatus {
    /// Returns the name used in answers and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recorded => "recorded",
            Self::UnknownDecision => "unknown_decision",
            Self::Duplicate => "duplicate",
        }
    }
}

/// Why there is no durable feedback.
#[derive(Debug)]
pub enum Refusal {
    Invalid(BadRequest),
    NotTaken(NotTaken),
}

/// Why valid feedback was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    #[error("the traffic log is off (traffic.enabled): there is nothing to give feedback about")]
    Off,
    #[error(
        "decision_id: is not in the log, and there is no room for more feedback about unknown decisions \
         (traffic.unknown_feedback_max)"
    )]
    NoRoom,
    #[error("too much feedback is waiting to be stored; try again in a second")]
    Overloaded,
    /// What the store said stands in the log: it may tell of the operator's machines.
    #[error("feedback cannot be stored at this moment; try again, under the same feedback_id")]
    Unavailable,
}

impl NotTaken {
    /// Returns the name used in metric labels and as HTTP's error code.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "feedback_off",
            Self::NoRoom => "unknown_feedback_full",
            Self::Overloaded => "feedback_overloaded",
            Self::Unavailable => "feedback_unavailable",
        }
    }

    /// Returns when another try is worth while; `None` where it is not known to be.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Off | Self::NoRoom => None,
            // A full queue is written in less.
            Self::Overloaded => Some(Duration::from_secs(1)),
            Self::Unavailable => Some(Duration::from_secs(5)),
        }
    }
}

impl From<FeedbackError> for NotTaken {
    fn from(error: FeedbackError) -> Self {
        match error {
            FeedbackError::Off => Self::Off,
            FeedbackError::NoRoom(_) => Self::NoRoom,
            FeedbackError::Overloaded => Self::Overloaded,
            FeedbackError::Unavailable(problem) => {
                tracing::debug!(problem, "feedback not stored");
                Self::Unavailable
            }
        }
    }
}

/// Checks feedback, if it could be read, and has it stored. Durable when this returns well.
pub async fn take(live: &Live, draft: Result<FeedbackDraft, BadRequest>) -> Result<Taken, Refusal> {
    let source = draft.as_ref().ok().and_then(|draft| draft.source).unwrap_or(FeedbackSource::User).as_str();
    let outcome = match draft {
        Ok(draft) => store(live, draft).await,
        Err(bad) => Err(Refusal::Invalid(bad)),
    };
    let status = match &outcome {
        Ok(taken) => taken.status.as_str(),
        Err(Refusal::Invalid(_)) => "invalid",
        Err(Refusal::NotTaken(why)) => why.as_str(),
    };
    telemetry::feedback(source, status);
    outcome
}

/// Returns every intent that a decision of now may name: of each bundle that serves, and the operator's own. `None` while
/// no bundle says what it knows.
fn known_intents(serving: &Serving) -> Option<BTreeSet<Arc<str>>> {
    let canary = serving.canary.as_ref().map(|canary| &canary.served);
    let served = [Some(&serving.active), canary, serving.shadow.as_ref()].into_iter().flatten();
    let bundles: Vec<_> = served.filter_map(|served| served.router.classifier()).collect();
    if bundles.is_empty() {
        return None;
    }
    let of_bundles =
        bundles.iter().flat_map(|bundle| bundle.intents.iter().map(|intent| Arc::clone(&intent.0)));
    let own = serving.config.intents.iter().map(|intent| Arc::clone(&intent.name));
    let of_rules = serving.config.rules.iter().filter_map(|rule| rule.fixes.as_ref()?.intent.clone());
    Some(of_bundles.chain(own).chain(of_rules).collect())
}

async fn store(live: &Live, draft: FeedbackDraft) -> Result<Taken, Refusal> {
    let serving = live.serving();
    // One of a bundle that was exchanged meanwhile was an intent when its decision was made.
    let unknown = known_intents(&serving)
        .filter(|_| !live.traffic().knows(&draft.right_intent))
        .and_then(|known| draft.intent_problem(&known));
    let feedback = match draft.check(&serving.config, traffic::now_ms()) {
        Ok(feedback) => match unknown {
            None => feedback,
            Some(problem) => return Err(Refusal::Invalid(BadRequest(vec![problem]))),
        },
        Err(BadRequest(mut problems)) => {
            problems.extend(unknown);
            return Err(Refusal::Invalid(BadRequest(problems)));
        }
    };
    drop(serving);
    let feedback_id = feedback.name().to_owned();
    // Bounded by the log itself, which knows how long store and spool may take.
    let landed = live.feedback(feedback).await.map_err(|error| Refusal::NotTaken(error.into()))?;
    let status = match landed {
        Landed::Known => FeedbackStatus::Recorded,
        // Of a spooled one nobody can be asked, just now, whether its decision is in the log.
        Landed::Unknown | Landed::Spooled => FeedbackStatus::UnknownDecision,
        Landed::Duplicate => FeedbackStatus::Duplicate,
        Landed::Full => return Err(Refusal::NotTaken(NotTaken::NoRoom)),
    };
    Ok(Taken { feedback_id, status })
}
