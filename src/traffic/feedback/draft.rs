//! [`FeedbackDraft`] -> [`Feedback`]: checks feedback once, for every entry point, and names every bad field at once.

use std::{collections::BTreeSet, sync::Arc};

use hmac::{Hmac, KeyInit, Mac};
use secrecy::ExposeSecret;
use sha2::Sha256;
use uuid::{Uuid, Version};

use super::{Feedback, FeedbackSource, VERSION, Verdict};
use crate::{
    config::Config,
    routing::admit::{BadRequest, FieldProblem},
};

/// Longest name of feedback or of an intent, bytes.
const NAME_BYTES_MAX: usize = 128;
/// A long letter; what is longer is no remark.
const COMMENT_BYTES_MAX: usize = 16 << 10;
/// As long as the longest answers of models.
const DEMONSTRATION_BYTES_MAX: usize = 256 << 10;
/// Intents that an error names; all stand in the bundle and the configuration.
const INTENTS_NAMED_MAX: usize = 30;
/// Between bad and good.
const SCORE_MIDDLE: f64 = 0.5;
/// Bytes of the hash that names feedback without a name: among so many, two of one decision never meet.
const HASH_BYTES: usize = 16;

/// Feedback as it came in, before anything was checked. Empty texts are texts that were not given.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FeedbackDraft {
    pub decision_id: String,
    pub feedback_id: String,
    /// `None`: the user.
    pub source: Option<FeedbackSource>,
    pub verdict: Option<Verdict>,
    pub score: Option<f64>,
    pub right_tier: String,
    pub right_intent: String,
    pub comment: String,
    pub demonstration: String,
}

impl FeedbackDraft {
    /// Returns the checked feedback, or every bad field; `at_ms` is when it was received.
    pub fn check(self, config: &Config, at_ms: i64) -> Result<Feedback, BadRequest> {
        let problems: Vec<FieldProblem> = [
            self.decision_problem(),
            name_problem("feedback_id", &self.feedback_id),
            self.score_problem(),
            self.tier_problem(config),
            name_problem("right_intent", &self.right_intent),
            length_problem("comment", &self.comment, COMMENT_BYTES_MAX),
            length_problem("demonstration", &self.demonstration, DEMONSTRATION_BYTES_MAX),
        ]
        .into_iter()
        .flatten()
        .chain(self.contradiction())
        .chain(self.silence())
        .collect();
        let decision_id = match Uuid::try_parse(&self.decision_id) {
            Ok(decision_id) if problems.is_empty() => decision_id,
            Ok(_) | Err(_) => return Err(BadRequest(problems)),
        };
        let given = |text: String| (!text.is_empty()).then_some(text);
        let mut feedback = Feedback {
            version: VERSION,
            feedback_id: String::new(),
            decision_id,
            at_ms,
            source: self.source.unwrap_or(FeedbackSource::User),
            verdict: self.verdict,
            score: self.score,
            right_tier: given(self.right_tier),
            right_intent: given(self.right_intent),
            comment: given(self.comment),
            demonstration: given(self.demonstration),
            signal: None,
        };
        let name = given(self.feedback_id).unwrap_or_else(|| name_by_content(&feedback, config));
        feedback.feedback_id = format!("{decision_id}/{name}");
        Ok(feedback)
    }

    fn decision_problem(&self) -> Option<FieldProblem> {
        let problem = match Uuid::try_parse(&self.decision_id) {
            Ok(id) if id.get_version() == Some(Version::SortRand) => return None,
            Ok(_) => "is a UUID, but not of version 7 as the ids of decisions are",
            Err(_) if self.decision_id.is_empty() => "is missing: give the decision_id of a decision",
            Err(_) => "is not a UUID",
        };
        Some(FieldProblem::new("decision_id", problem))
    }

    fn score_problem(&self) -> Option<FieldProblem> {
        let score = self.score.filter(|score| !(0.0..=1.0).contains(score))?;
        Some(FieldProblem::new("score", format!("{score} is not within 0 to 1")))
    }

    fn tier_problem(&self, config: &Config) -> Option<FieldProblem> {
        if self.right_tier.is_empty() || config.tier_named(&self.right_tier).is_some() {
            return None;
        }
        let tiers: Vec<&str> = config.tiers.iter().map(|tier| &*tier.name).collect();
        Some(FieldProblem::new("right_tier", format!("is no tier; there are {}", tiers.join(", "))))
    }

    /// Returns what is wrong with an intent that is none of those that are known.
    pub fn intent_problem(&self, known: &BTreeSet<Arc<str>>) -> Option<FieldProblem> {
        let intent = self.right_intent.as_str();
        if intent.is_empty() || known.contains(intent) {
            return None;
        }
        let mut names: Vec<&str> = known.iter().take(INTENTS_NAMED_MAX).map(|name| &**name).collect();
        let more = known.len().saturating_sub(names.len());
        let and_more = format!("and {more} more");
        if more > 0 {
            names.push(&and_more);
        }
        // What was sent is not repeated: it may be anything, such as a remark in the wrong field.
        let problem = format!("is no intent; there are {}", names.join(", "));
        Some(FieldProblem::new("right_intent", problem))
    }

    /// Two fields at fault: both are named, since either may be the mistake.
    fn contradiction(&self) -> Vec<FieldProblem> {
        let (verdict, side) = match (self.verdict, self.score) {
            (Some(Verdict::Good), Some(score)) if score < SCORE_MIDDLE => ("good", "below"),
            (Some(Verdict::Bad), Some(score)) if score > SCORE_MIDDLE => ("bad", "above"),
            _ => return Vec::new(),
        };
        vec![
            FieldProblem::new("verdict", format!("is {verdict}, and score is {side} {SCORE_MIDDLE}")),
            FieldProblem::new("score", format!("is {side} {SCORE_MIDDLE}, and verdict is {verdict}")),
        ]
    }

    fn silence(&self) -> Option<FieldProblem> {
        let texts = [&self.right_tier, &self.right_intent, &self.comment, &self.demonstration];
        let says_something =
            self.verdict.is_some() || self.score.is_some() || texts.iter().any(|text| !text.is_empty());
        let problem = "is missing, and so is all else: give verdict, score, right_tier, right_intent, comment or demonstration";
        (!says_something).then(|| FieldProblem::new("verdict", problem))
    }
}

fn name_problem(field: &str, name: &str) -> Option<FieldProblem> {
    length_problem(field, name, NAME_BYTES_MAX).or_else(|| {
        if name.chars().any(char::is_control) {
            Some(FieldProblem::new(field, "holds control characters"))
        } else if !name.is_empty() && name.trim().is_empty() {
            Some(FieldProblem::new(field, "is blank"))
        } else {
            None
        }
    })
}

fn length_problem(field: &str, text: &str, bytes_max: usize) -> Option<FieldProblem> {
    (text.len() > bytes_max)
        .then(|| FieldProblem::new(field, format!("{} bytes, at most {bytes_max}", text.len())))
}

/// Returns a name that is the same for the same content, whenever it comes. Keyed where the operator has a key for
/// hashes: comments are part of it.
fn name_by_content(feedback: &Feedback, config: &Config) -> String {
    let content = Feedback { version: 0, at_ms: 0, ..feedback.clone() };
    let content = serde_json::to_vec(&content).expect("feedback is plain JSON");
    let key = config.traffic.hash_key.as_ref().map_or("", |key| key.expose_secret());
    let mut hash = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key of any length will do");
    // The same key makes the hashes of conversations: none of those is ever one of these.
    hash.update(b"feedback\0");
    hash.update(&content);
    hash.finalize().into_bytes()[..HASH_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "draft_tests.rs"]
mod tests;
