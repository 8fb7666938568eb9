//! Feedback and outcomes -> observations: whose answer it was, how good, and what it counts. Pure.
//!
//! Only requests that were scored say something: an offset moves a score, and a decision that a rule made would have
//! been the same with any. A provider that failed says nothing about how good its answers are.

use std::sync::Arc;

use crate::{
    config::LearningWeights,
    routing::learning::{CellKey, Channel, Judgement, Observation},
    traffic::{
        feedback::{Feedback, Signal, Verdict},
        record::{AttemptRecord, DecisionRecord, Record},
        store::column_text,
    },
};

/// Returns what one piece of feedback says about the target that answered, else about the one decided for; `None`
/// where it says nothing about the answer.
pub fn of_feedback(record: &Record, feedback: &Feedback, weights: &LearningWeights) -> Option<Observation> {
    let decision = &record.decision;
    let outcome = &record.outcome;
    let target = outcome.target.as_ref().unwrap_or(&decision.target);
    let tier = outcome.tier.as_ref().unwrap_or(&decision.tier);
    let judgement = Judgement {
        base: base(decision, tier)?,
        good: Some(good(decision, tier, feedback)?),
        weight: feedback.source.weight(weights),
        at_ms: feedback.at_ms,
    };
    observation(record, &target.id, Channel::Feedback, judgement)
}

/// Returns what became of the answers of a completion: those that a check found weak, and the one that passed. About
/// the target whose answer the caller got, feedback speaks where any says how good it was: it has seen the answer.
pub fn of_outcome(record: &Record, feedback: &[Feedback], weights: &LearningWeights) -> Vec<Observation> {
    let judged = feedback.iter().any(|one| of_feedback(record, one, weights).is_some());
    let served = record.outcome.target.as_ref().map(|target| &target.id);
    let observe = |attempt: &AttemptRecord| {
        if judged && served == Some(&attempt.target.id) {
            return None;
        }
        let (good, weight) = match (attempt.cause.as_str(), attempt.outcome.as_str()) {
            ("judge", _) => return None,
            (_, "answered") if record.outcome.status == "answered" => (None, weights.accepted),
            (_, "weak") => (Some(0.0), weights.weak),
            _ => return None,
        };
        let base = base(&record.decision, &attempt.tier)?;
        let judgement = Judgement { base, good, weight, at_ms: record.at_ms };
        observation(record, &attempt.target.id, Channel::Outcome, judgement)
    };
    record.attempts.iter().filter_map(observe).collect()
}

/// How good the answer was, 0 to 1: by the score, else the verdict, else the tier that would have done, else by what
/// was noticed.
fn good(decision: &DecisionRecord, tier: &str, feedback: &Feedback) -> Option<f64> {
    if let Some(score) = feedback.score {
        return Some(score);
    }
    if let Some(verdict) = feedback.verdict {
        return Some(match verdict {
            Verdict::Good => 1.0,
            Verdict::Bad => 0.0,
        });
    }
    if let Some(right) = &feedback.right_tier {
        let enough = place(decision, right)? <= place(decision, tier)?;
        return Some(if enough { 1.0 } else { 0.0 });
    }
    feedback.signal.filter(|&signal| speaks_against(signal)).map(|_| 0.0)
}

/// Weak answers and escalations are read from the attempts; one who hangs up may have had enough.
fn speaks_against(signal: Signal) -> bool {
    match signal {
        Signal::Retried | Signal::Regenerated => true,
        Signal::Escalated | Signal::Weak | Signal::Abandoned => false,
    }
}

/// What the classifier said of the tier, before any offset.
fn base(decision: &DecisionRecord, tier: &str) -> Option<f64> {
    let DecisionRecord { sufficiency, sufficiency_base, .. } = decision;
    let scores = if sufficiency_base.is_empty() { sufficiency } else { sufficiency_base };
    scores.get(place(decision, tier)?).copied()
}

fn place(decision: &DecisionRecord, tier: &str) -> Option<usize> {
    decision.tiers.iter().position(|name| **name == *tier)
}

fn observation(record: &Record, target: &str, channel: Channel, judgement: Judgement) -> Option<Observation> {
    // A weight of 0 is how an operator says that something does not count.
    if judgement.weight <= 0.0 {
        return None;
    }
    let column = |text: &str| Arc::from(column_text(text));
    let intent = column(record.decision.intent.as_deref()?);
    let tenant = column_text(&record.request.tenant).into_owned();
    Some(Observation { cell: CellKey { intent, target: column(target) }, tenant, channel, judgement })
}

#[cfg(test)]
#[path = "observations_tests.rs"]
mod tests;
