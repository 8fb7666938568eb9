//! What people, checks and the answer's fate said of one request -> how good its choice of a target was. Pure.

use super::{FeedbackRow, Row};
use crate::traffic::feedback::{FeedbackSource, Signal, Verdict};

/// Whose word counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewardBy {
    /// Only what was reported about an answer.
    Feedback,
    /// Only whether the answer passed its checks.
    Outcome,
    /// What was reported, else the outcome.
    Both,
}

/// Returns how good the decided target's answer was, 0 to 1; `None` where nothing says so.
///
/// Of several reports the latest of the most trusted source counts: a person whose job it is, then the user, then
/// programs. The outcome is that of the decided target's own attempts: 0 where a check found its answer weak, whoever
/// answered then and whatever was said of that other answer; after a failover nothing is known of it.
pub fn reward(row: &Row, by: RewardBy) -> Option<f64> {
    match by {
        RewardBy::Feedback => reported(row),
        RewardBy::Outcome => outcome(row),
        RewardBy::Both => reported(row).or_else(|| outcome(row)),
    }
}

fn reported(row: &Row) -> Option<f64> {
    [FeedbackSource::Human, FeedbackSource::User, FeedbackSource::Automatic].into_iter().find_map(|source| {
        row.feedback.iter().rev().filter(|one| one.source == source).find_map(|one| judgement(one, row))
    })
}

/// Returns what one report says of the decided target, `None` where it says nothing of that.
fn judgement(feedback: &FeedbackRow, row: &Row) -> Option<f64> {
    let place = |name: &str| row.tiers.iter().position(|tier| &**tier == name);
    // The weakest tier that would have done judges a tier, whoever answered.
    let by_tier = || {
        let right = place(feedback.right_tier.as_deref()?)?;
        Some(f64::from(u8::from(place(&row.tier)? >= right)))
    };
    if !served_by_decided(row) {
        return by_tier();
    }
    let score = feedback.score.filter(|score| (0.0..=1.0).contains(score));
    let by_verdict = || {
        feedback.verdict.map(|verdict| match verdict {
            Verdict::Good => 1.0,
            Verdict::Bad => 0.0,
        })
    };
    let by_signal = || match feedback.signal? {
        Signal::Retried | Signal::Regenerated | Signal::Escalated | Signal::Weak => Some(0.0),
        // Who hangs up may have read enough.
        Signal::Abandoned => None,
    };
    score.or_else(by_verdict).or_else(by_tier).or_else(by_signal)
}

fn outcome(row: &Row) -> Option<f64> {
    // A judge may be the same target, but judges another's answer.
    let mut its =
        row.attempts.iter().filter(|attempt| attempt.target == row.target && attempt.cause != "judge");
    if its.clone().any(|attempt| attempt.outcome == "weak") {
        return Some(0.0);
    }
    (row.status == "answered" && its.any(|attempt| attempt.outcome == "answered")).then_some(1.0)
}

/// Whether the answer is the decided target's; of a decision alone, the caller is taken to have asked it.
fn served_by_decided(row: &Row) -> bool {
    row.served_target.as_ref().is_none_or(|served| *served == row.target)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::row::tests::row, *};

    fn check(fields: &Value, feedback: Option<f64>, outcome: Option<f64>) {
        let row = row(fields.clone());
        assert_eq!(reward(&row, RewardBy::Feedback), feedback, "feedback of {fields}");
        assert_eq!(reward(&row, RewardBy::Outcome), outcome, "outcome of {fields}");
        assert_eq!(reward(&row, RewardBy::Both), feedback.or(outcome), "both of {fields}");
    }

    #[test]
    fn outcomes_tell_accepted_from_weak() {
        let attempts = |attempts: &[(&str, &str, &str)]| {
            let attempts = attempts.iter().map(
                |(target, cause, outcome)| json!({"target": target, "cause": cause, "outcome": outcome}),
            );
            json!({"attempts": attempts.collect::<Vec<Value>>()})
        };
        check(&json!({}), None, Some(1.0));
        check(&attempts(&[("m1", "first", "weak")]), None, Some(0.0));
        let escalated = [("m1", "first", "weak"), ("c1", "escalation", "answered")];
        check(&attempts(&escalated), None, Some(0.0));
        let lost = [("m1", "first", "lost"), ("m2", "hedge", "answered")];
        check(&attempts(&lost), None, None);
        // A failover, then a weak answer of the other one: nothing is known of the decided one.
        let other = [("m1", "first", "failed"), ("m2", "failover", "weak"), ("c1", "escalation", "answered")];
        check(&attempts(&other), None, None);
        let judge = [("m2", "failover", "weak"), ("m1", "judge", "answered")];
        check(&attempts(&judge), None, None);
        for status in ["decided", "failed", "hung_up", "unheard_of"] {
            check(&json!({"status": status}), None, None);
        }
        check(&json!({"attempts": []}), None, None);
    }

    #[test]
    fn a_score_goes_before_a_verdict_and_that_before_a_tier() {
        let of =
            |feedback: Value| json!({"status": "decided", "served_target": null, "feedback": [feedback]});
        for (feedback, expected) in [
            (json!({"source": "user", "score": 0.3, "verdict": "good"}), Some(0.3)),
            (json!({"source": "user", "verdict": "bad", "right_tier": "simple"}), Some(0.0)),
            (json!({"source": "user", "right_tier": "simple"}), Some(1.0)),
            (json!({"source": "user", "right_tier": "moderate"}), Some(1.0)),
            (json!({"source": "user", "right_tier": "complex"}), Some(0.0)),
            (json!({"source": "user", "right_tier": "unknown"}), None),
            (json!({"source": "automatic", "signal": "retried"}), Some(0.0)),
            (json!({"source": "automatic", "signal": "abandoned"}), None),
            (json!({"source": "user", "score": 7.0}), None),
            (json!({"source": "user", "comment": "thanks"}), None),
        ] {
            check(&of(feedback), expected, None);
        }
    }

    #[test]
    fn the_latest_word_of_the_most_trusted_counts() {
        let said =
            |feedback: Value, expected| check(&json!({"feedback": feedback}), Some(expected), Some(1.0));
        said(json!([{"source": "human", "score": 0.2}, {"source": "user", "score": 0.9}]), 0.2);
        said(json!([{"source": "user", "score": 0.2}, {"source": "user", "score": 0.9}]), 0.9);
        said(json!([{"source": "human"}, {"source": "automatic", "verdict": "bad"}]), 0.0);
    }

    #[test]
    fn feedback_about_another_targets_answer_says_nothing_of_the_decided_one() {
        let good = json!([{"source": "user", "verdict": "good"}]);
        let failed = json!([{"target": "m1", "cause": "first", "outcome": "failed"}]);
        let weak = json!([{"target": "m1", "cause": "first", "outcome": "weak"}]);
        check(&json!({"served_target": "m2", "attempts": failed, "feedback": good}), None, None);
        check(&json!({"served_target": "c1", "attempts": weak, "feedback": good}), None, Some(0.0));
        let tier = json!([{"source": "human", "right_tier": "simple"}]);
        check(&json!({"served_target": "m2", "attempts": failed, "feedback": tier}), Some(1.0), None);
    }
}
