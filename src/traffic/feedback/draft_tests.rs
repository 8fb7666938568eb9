use secrecy::SecretString;

use super::*;
use crate::config::default_config;

const DECISION: &str = "0199f2a1-7c00-7abc-8def-0123456789ab";
const AT_MS: i64 = 1_760_000_000_000;

fn good() -> FeedbackDraft {
    FeedbackDraft { decision_id: DECISION.to_owned(), verdict: Some(Verdict::Good), ..Default::default() }
}

/// Checks which fields are at fault, and how.
#[track_caller]
fn check(draft: FeedbackDraft, expected: &[&str]) {
    let shown = format!("{draft:?}");
    let got: Vec<String> = match draft.check(&default_config(), AT_MS) {
        Ok(_) => Vec::new(),
        Err(BadRequest(problems)) => {
            problems.iter().map(|problem| format!("{}: {}", problem.field, problem.problem)).collect()
        }
    };
    assert_eq!(got, expected, "{shown}");
}

#[track_caller]
fn id_of(draft: FeedbackDraft) -> String {
    draft.check(&default_config(), AT_MS).unwrap().feedback_id
}

#[test]
fn everything_given_is_taken_over() {
    let draft = FeedbackDraft {
        decision_id: DECISION.to_uppercase(),
        feedback_id: "ticket 7/2".to_owned(),
        source: Some(FeedbackSource::Human),
        verdict: Some(Verdict::Bad),
        score: Some(0.5),
        right_tier: "complex".to_owned(),
        right_intent: "a new one".to_owned(),
        comment: "too short".to_owned(),
        demonstration: "a longer one".to_owned(),
    };
    let feedback = draft.check(&default_config(), AT_MS).unwrap();
    assert_eq!(feedback.name(), "ticket 7/2");
    let expected = Feedback {
        version: VERSION,
        feedback_id: format!("{DECISION}/ticket 7/2"),
        decision_id: DECISION.parse().unwrap(),
        at_ms: AT_MS,
        source: FeedbackSource::Human,
        verdict: Some(Verdict::Bad),
        score: Some(0.5),
        right_tier: Some("complex".to_owned()),
        right_intent: Some("a new one".to_owned()),
        comment: Some("too short".to_owned()),
        demonstration: Some("a longer one".to_owned()),
        signal: None,
    };
    assert_eq!(feedback, expected);
}

#[test]
fn one_word_is_enough() {
    let silent = || FeedbackDraft { verdict: None, ..good() };
    check(good(), &[]);
    check(FeedbackDraft { score: Some(0.0), ..silent() }, &[]);
    check(FeedbackDraft { right_tier: "simple".to_owned(), ..silent() }, &[]);
    check(FeedbackDraft { right_intent: "code".to_owned(), ..silent() }, &[]);
    check(FeedbackDraft { comment: "hm".to_owned(), ..silent() }, &[]);
    check(FeedbackDraft { demonstration: "so".to_owned(), ..silent() }, &[]);
    let problem = "verdict: is missing, and so is all else: give verdict, score, right_tier, right_intent, comment \
                   or demonstration";
    check(silent(), &[problem]);
}

#[test]
fn decisions_are_named_by_their_kind_of_id() {
    let id = |id: &str| FeedbackDraft { decision_id: id.to_owned(), ..good() };
    check(id("0199f2a17c007abc8def0123456789ab"), &[]);
    check(id(""), &["decision_id: is missing: give the decision_id of a decision"]);
    check(id("7"), &["decision_id: is not a UUID"]);
    check(id(&"0".repeat(1 << 20)), &["decision_id: is not a UUID"]);
    let version = "decision_id: is a UUID, but not of version 7 as the ids of decisions are";
    check(id("4f9a2f0e-93c1-4a1e-8d7e-0123456789ab"), &[version]);
    check(id("00000000-0000-0000-0000-000000000000"), &[version]);
}

#[test]
fn scores_are_within_bounds_and_agree_with_the_verdict() {
    let score = |score, verdict| FeedbackDraft { score: Some(score), verdict, ..good() };
    for fine in [0.0, 0.5, 1.0] {
        check(score(fine, None), &[]);
    }
    check(score(1.01, None), &["score: 1.01 is not within 0 to 1"]);
    check(score(-0.1, None), &["score: -0.1 is not within 0 to 1"]);
    check(score(f64::NAN, None), &["score: NaN is not within 0 to 1"]);
    check(score(0.5, Some(Verdict::Good)), &[]);
    check(score(0.5, Some(Verdict::Bad)), &[]);
    check(
        score(0.49, Some(Verdict::Good)),
        &["verdict: is good, and score is below 0.5", "score: is below 0.5, and verdict is good"],
    );
    check(
        score(1.0, Some(Verdict::Bad)),
        &["verdict: is bad, and score is above 0.5", "score: is above 0.5, and verdict is bad"],
    );
}

#[test]
fn texts_have_their_lengths_and_names_are_plain() {
    let of = |bytes: usize| "é".repeat(bytes / 2);
    check(FeedbackDraft { comment: of(16 << 10), ..good() }, &[]);
    check(FeedbackDraft { comment: of(1 << 20), ..good() }, &["comment: 1048576 bytes, at most 16384"]);
    check(FeedbackDraft { demonstration: of(256 << 10), ..good() }, &[]);
    check(
        FeedbackDraft { demonstration: of((256 << 10) + 2), ..good() },
        &["demonstration: 262146 bytes, at most 262144"],
    );
    check(FeedbackDraft { feedback_id: of(128), right_intent: of(128), ..good() }, &[]);
    check(FeedbackDraft { feedback_id: of(130), ..good() }, &["feedback_id: 130 bytes, at most 128"]);
    check(
        FeedbackDraft { feedback_id: "a\nb".to_owned(), ..good() },
        &["feedback_id: holds control characters"],
    );
    check(FeedbackDraft { right_intent: " ".to_owned(), ..good() }, &["right_intent: is blank"]);
    check(
        FeedbackDraft { right_intent: "a\0".to_owned(), ..good() },
        &["right_intent: holds control characters"],
    );
    check(
        FeedbackDraft { right_tier: "huge".to_owned(), ..good() },
        &["right_tier: is no tier; there are simple, moderate, complex, reasoning"],
    );
}

#[test]
fn every_bad_field_is_named_and_no_text_is_repeated() {
    let secret = "hunter2 ".repeat(4000);
    let draft = FeedbackDraft {
        decision_id: secret.clone(),
        feedback_id: secret.clone(),
        score: Some(2.0),
        right_tier: secret.clone(),
        right_intent: secret.clone(),
        comment: secret.clone(),
        demonstration: secret.repeat(10),
        ..Default::default()
    };
    let bad = draft.check(&default_config(), AT_MS).unwrap_err();
    let fields: Vec<&str> = bad.0.iter().map(|problem| problem.field.as_str()).collect();
    let all =
        ["decision_id", "feedback_id", "score", "right_tier", "right_intent", "comment", "demonstration"];
    assert_eq!(fields, all);
    assert!(!bad.to_string().contains("hunter2"), "{bad}");
}

#[test]
fn an_exact_repeat_has_the_same_name_and_anything_else_another() {
    let first = id_of(good());
    let later = good().check(&default_config(), AT_MS + 1).unwrap().feedback_id;
    assert_eq!(first, later);
    assert_eq!(first.len(), DECISION.len() + 1 + 2 * HASH_BYTES);
    let others = [
        FeedbackDraft { decision_id: DECISION.replace("0199", "019a"), ..good() },
        FeedbackDraft { source: Some(FeedbackSource::Human), ..good() },
        FeedbackDraft { verdict: Some(Verdict::Bad), ..good() },
        FeedbackDraft { score: Some(1.0), ..good() },
        FeedbackDraft { right_tier: "simple".to_owned(), ..good() },
        FeedbackDraft { right_intent: "simple".to_owned(), ..good() },
        FeedbackDraft { comment: "simple".to_owned(), ..good() },
        FeedbackDraft { demonstration: "simple".to_owned(), ..good() },
    ];
    let mut ids: Vec<String> = others.into_iter().map(id_of).chain([first]).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 9);
    // What is not said and what is the default are the same.
    assert_eq!(id_of(FeedbackDraft { source: Some(FeedbackSource::User), ..good() }), id_of(good()));
}

#[test]
fn names_by_content_are_keyed_where_there_is_a_key() {
    let mut config = default_config();
    config.traffic.hash_key = Some(SecretString::from("0123456789abcdef"));
    let keyed = good().check(&config, AT_MS).unwrap().feedback_id;
    assert_ne!(keyed, id_of(good()));
}

proptest::proptest! {
    #[test]
    fn any_feedback_is_taken_or_refused(
        decision_id in ".{0,40}",
        feedback_id in ".{0,140}",
        score in proptest::option::of(proptest::num::f64::ANY),
        right_tier in "[a-z]{0,8}",
        comment in ".{0,40}",
    ) {
        let known = FeedbackDraft { score, right_tier, comment, feedback_id, ..good() };
        if let Ok(feedback) = known.clone().check(&default_config(), AT_MS) {
            // What is stored can be read again as it was.
            let text = serde_json::to_string(&feedback).unwrap();
            proptest::prop_assert_eq!(serde_json::from_str::<Feedback>(&text).unwrap(), feedback);
        }
        let _ = FeedbackDraft { decision_id, ..known }.check(&default_config(), AT_MS);
    }
}

#[test]
fn an_intent_that_is_not_known_is_told_with_those_that_are() {
    let known = ["code", "math"].into_iter().map(Arc::from).collect();
    let problem = |intent: &str| {
        let draft = FeedbackDraft { right_intent: intent.to_owned(), ..good() };
        draft.intent_problem(&known).map(|problem| format!("{}: {}", problem.field, problem.problem))
    };
    assert_eq!(problem(""), None);
    assert_eq!(problem("code"), None);
    assert_eq!(problem("nonsense").as_deref(), Some("right_intent: is no intent; there are code, math"));
}
