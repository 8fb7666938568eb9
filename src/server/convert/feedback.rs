//! `ReportFeedbackRequest` -> [`FeedbackDraft`], what became of it -> its message.

use super::super::{
    feedback::{FeedbackStatus, Taken},
    proto,
};
use crate::{
    routing::admit::{BadRequest, FieldProblem},
    traffic::feedback::{FeedbackDraft, FeedbackSource, Verdict},
};

/// Returns the draft, or the enums whose numbers stand for nothing.
pub fn feedback(request: proto::ReportFeedbackRequest) -> Result<FeedbackDraft, BadRequest> {
    let mut problems = Vec::new();
    let source = match proto::FeedbackSource::try_from(request.source) {
        Ok(proto::FeedbackSource::Unspecified) => None,
        Ok(proto::FeedbackSource::User) => Some(FeedbackSource::User),
        Ok(proto::FeedbackSource::Human) => Some(FeedbackSource::Human),
        Ok(proto::FeedbackSource::Automatic) => Some(FeedbackSource::Automatic),
        Err(_) => {
            problems.push(FieldProblem::new("source", format!("{} is unknown", request.source)));
            None
        }
    };
    let verdict = match proto::Verdict::try_from(request.verdict) {
        Ok(proto::Verdict::Unspecified) => None,
        Ok(proto::Verdict::Good) => Some(Verdict::Good),
        Ok(proto::Verdict::Bad) => Some(Verdict::Bad),
        Err(_) => {
            problems.push(FieldProblem::new("verdict", format!("{} is unknown", request.verdict)));
            None
        }
    };
    if !problems.is_empty() {
        return Err(BadRequest(problems));
    }
    Ok(FeedbackDraft {
        decision_id: request.decision_id,
        feedback_id: request.feedback_id,
        source,
        verdict,
        score: request.score,
        right_tier: request.right_tier,
        right_intent: request.right_intent,
        comment: request.comment,
        demonstration: request.demonstration,
    })
}

/// Returns what became of feedback.
pub fn taken(taken: Taken) -> proto::ReportFeedbackResponse {
    let status = match taken.status {
        FeedbackStatus::Recorded => proto::FeedbackStatus::Recorded,
        FeedbackStatus::UnknownDecision => proto::FeedbackStatus::UnknownDecision,
        FeedbackStatus::Duplicate => proto::FeedbackStatus::Duplicate,
    };
    proto::ReportFeedbackResponse { feedback_id: taken.feedback_id, status: status as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> proto::ReportFeedbackRequest {
        proto::ReportFeedbackRequest {
            decision_id: "a".to_owned(),
            feedback_id: "b".to_owned(),
            source: proto::FeedbackSource::Automatic as i32,
            verdict: proto::Verdict::Bad as i32,
            score: Some(0.25),
            right_tier: "c".to_owned(),
            right_intent: "d".to_owned(),
            comment: "e".to_owned(),
            demonstration: "f".to_owned(),
        }
    }

    #[test]
    fn everything_is_taken_over() {
        let expected = FeedbackDraft {
            decision_id: "a".to_owned(),
            feedback_id: "b".to_owned(),
            source: Some(FeedbackSource::Automatic),
            verdict: Some(Verdict::Bad),
            score: Some(0.25),
            right_tier: "c".to_owned(),
            right_intent: "d".to_owned(),
            comment: "e".to_owned(),
            demonstration: "f".to_owned(),
        };
        assert_eq!(feedback(request()), Ok(expected));
        assert_eq!(feedback(proto::ReportFeedbackRequest::default()), Ok(FeedbackDraft::default()));
    }

    #[test]
    fn numbers_that_stand_for_nothing_are_named() {
        let BadRequest(problems) =
            feedback(proto::ReportFeedbackRequest { source: 9, verdict: -1, ..request() }).unwrap_err();
        let named: Vec<String> =
            problems.iter().map(|problem| format!("{}: {}", problem.field, problem.problem)).collect();
        assert_eq!(named, ["source: 9 is unknown", "verdict: -1 is unknown"]);
    }
}
