//! Prompts in languages that the bundle says it does not read well: said, and one tier up.

use std::sync::Arc;

use pointsman::{
    prompt::{Decision, Draft, DraftMessage},
    routing::{
        Router,
        admit::admit,
        classifier::{Classifier, Description, OnnxClassifier},
        health::TargetHealth,
        language::detect,
        sessions::Sessions,
    },
};
use serde_json::json;

use crate::{
    bundle::Copy,
    support::{Behaviour, Scripted, config, real_classifier},
};

const THAI: &str = "ช่วยสรุปรายงานการประชุมนี้ให้หน่อย";

const GERMAN: &str = "Könnten Sie mir bitte erklären, wie die Umsatzsteuer berechnet wird?";

async fn decide(read: &[&str], text: &str, stated: &str) -> Decision {
    let mut draft = Draft::from_text(text);
    draft.context.language = stated.to_owned();
    decide_draft(read, draft).await
}

/// Decides by scores that are sure of themselves, with a classifier that reads these languages.
async fn decide_draft(read: &[&str], draft: Draft) -> Decision {
    let scripted = Scripted::reading(read, Behaviour::Answer([0.1, 0.9, 0.95]));
    let config = Arc::new(config("rules = []\n"));
    let sessions = Arc::new(Sessions::new(&config.sessions));
    let health = Arc::new(TargetHealth::new(config.targets.len()));
    let router = Router::new(Arc::clone(&config), Some(scripted), sessions, health, 1).unwrap();
    let prompt = admit(draft, &config).unwrap();
    let first = router.route(&prompt, None).await.unwrap();
    let kept = router.route(&prompt, None).await.unwrap();
    assert_eq!((&first.tier, &first.reason), (&kept.tier, &kept.reason), "a kept score decides as a new one");
    first
}

#[tokio::test]
async fn what_is_not_read_well_goes_one_tier_up_and_says_so() {
    pointsman::telemetry::init_metrics();
    let decision = decide(&["en", "de"], THAI, "").await;
    assert_eq!((&*decision.tier, decision.low_confidence), ("complex", true));
    let because = "it is written in Thai, which the classifier does not read well";
    assert!(decision.reason.contains(because), "{}", decision.reason);
    let metrics = pointsman::telemetry::init_metrics().render();
    assert!(metrics.contains("pointsman_classifier_unread_total{language=\"th\"}"), "{metrics}");
}

#[tokio::test]
async fn what_is_read_and_what_cannot_be_told_stays() {
    for (read, text, stated) in [
        (&["en"][..], "Please summarise the minutes of this meeting for the board", ""),
        (&["en", "th"], THAI, ""),
        (&["en"], "Taxi, bitte", ""),
        (&["en"], "```\nfn main() { println!(\"Grüße\"); }\n```", ""),
        (&["en"], "12 * 7 + 3", ""),
        (&["en"], "Please summarise the minutes of this meeting for the board", "de"),
    ] {
        let decision = decide(read, text, stated).await;
        assert_eq!((&*decision.tier, decision.low_confidence), ("moderate", false), "{text}");
    }
}

#[tokio::test]
async fn a_stated_language_counts_only_in_doubt() {
    let decision = decide(&["en"], "ok, go", "pl-PL").await;
    assert!(decision.reason.contains("written in Polish"), "{}", decision.reason);
    let decision = decide(&["en", "de"], THAI, "de").await;
    assert!(decision.reason.contains("written in Thai"), "{}", decision.reason);
}

#[tokio::test]
async fn a_short_turn_is_read_with_those_before() {
    let message =
        |role: &str, content: &str| DraftMessage { role: role.to_owned(), content: content.to_owned() };
    let conversation = |first: &str| Draft {
        messages: vec![message("user", first), message("assistant", "…"), message("user", "ok")],
        ..Draft::default()
    };
    let decision = decide_draft(&["en"], conversation(GERMAN)).await;
    assert!(decision.reason.contains("written in German"), "{}", decision.reason);
    let decision =
        decide_draft(&["en"], conversation("Who wrote the minutes of that meeting, please?")).await;
    assert!(!decision.low_confidence, "{}", decision.reason);
}

#[test]
fn the_embedded_bundle_states_what_it_reads() {
    let classifier = real_classifier();
    let languages = classifier.describe().languages.as_ref().expect("its manifest has the section languages");
    let english = "Please summarise the minutes of this meeting for the board";
    assert_eq!(languages.unread_text(detect(english)), None);
}

#[test]
fn the_bundle_says_what_it_reads() {
    let copy = Copy::new();
    copy.edit(|manifest| manifest["languages"] = json!({"read": ["en", "de"]}));
    let config = config(&copy.section());
    let classifier = OnnxClassifier::load(&config.classifier).unwrap();
    let Description { languages, background, .. } = classifier.describe();
    assert!(languages.is_some() && background.is_some());
    copy.edit(|manifest| drop(manifest.as_object_mut().unwrap().remove("languages")));
    assert!(OnnxClassifier::load(&config.classifier).unwrap().describe().languages.is_none());
}
