//! Intents by example on the real bundle: what is claimed, what limits hold, and what `check` says.

use std::{fs, sync::Arc};

use pointsman::{
    config::{Config, read_text},
    live::Live,
    routing::classifier::OnnxClassifier,
    server::proto::{Decision, Preferences, RouteRequest, Source},
};
use serde_json::json;

use crate::{
    bundle::Copy,
    cli::{pointsman, text},
    support::{TestServer, config, real_classifier},
};

const REFUND: &str = r#"
[[intents]]
name = "refund_request"
target = "mistral-large-4-0"
examples = [
  "I want my money back for the jacket I returned last week",
  "Please refund my last order, it arrived broken",
  "I was charged twice, can you reverse one of the payments?",
  "How do I get a refund for a subscription I cancelled?",
  "Return the 49 euros to my card, the product never worked",
]
"#;
const SCHEDULING: &str = r#"
[[intents]]
name = "interview_scheduling"
tier_min = "complex"
examples = [
  "Find a slot next week for the interview with the backend candidate",
  "Move Anna's second interview to Thursday afternoon",
  "Invite the candidate to an on-site interview with three interviewers",
  "Send the applicant two proposals for an interview time",
]
"#;

const WANTS_MONEY_BACK: &str = "my parcel came damaged and I'd like a refund please";
/// Too short to tell its language for certain.
const REFUND_IN_DOUBT: &str = "refund my order";
const WANTS_AN_INTERVIEW: &str = "propose three interview dates to the applicant";
const ORDINARY: &str = "explain how vaccines train the immune system";

fn with_intents(sections: &str) -> Config {
    config(&format!("{sections}\n{REFUND}\n{SCHEDULING}\n[classifier]\nwait_ms_max = 60000\n"))
}

fn ask(text: &str) -> RouteRequest {
    RouteRequest { prompt: Some(text.to_owned()), ..RouteRequest::default() }
}

async fn decide(server: &TestServer, request: RouteRequest) -> Decision {
    server.client().route(request).await.unwrap().into_inner().decision.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paraphrase_goes_where_the_intent_says_and_an_ordinary_prompt_does_not() {
    let server = TestServer::start(with_intents(""), Some(real_classifier())).await;
    let decision = decide(&server, ask(WANTS_MONEY_BACK)).await;
    assert_eq!((decision.intent.as_str(), decision.source()), ("refund_request", Source::Classifier));
    assert_eq!(
        (decision.tier.as_str(), decision.target.unwrap().id.as_str()),
        ("complex", "mistral-large-4-0")
    );
    assert!(decision.reason.starts_with("nearest to the examples of refund_request (similarity 0."));
    assert!(decision.intent_confidence > 0.98 && !decision.low_confidence);
    let decision = decide(&server, ask(WANTS_AN_INTERVIEW)).await;
    assert_eq!((decision.intent.as_str(), decision.tier.as_str()), ("interview_scheduling", "complex"));
    let decision = decide(&server, ask(ORDINARY)).await;
    assert_eq!(decision.intent, "open_qa", "{}", decision.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_of_rules_and_request_hold() {
    let cap = "[[rules]]\nid = \"cap\"\ntenant = [\"small\"]\ntier_max = \"moderate\"\n";
    let server = TestServer::start(with_intents(cap), Some(real_classifier())).await;
    let preferences = Preferences { tier_max: "simple".to_owned(), ..Preferences::default() };
    let decision =
        decide(&server, RouteRequest { preferences: Some(preferences), ..ask(WANTS_MONEY_BACK) }).await;
    assert_eq!(decision.tier, "simple", "{}", decision.reason);
    let preferences = Preferences { tier_max: "moderate".to_owned(), ..Preferences::default() };
    let decision =
        decide(&server, RouteRequest { preferences: Some(preferences), ..ask(WANTS_MONEY_BACK) }).await;
    assert_eq!((decision.tier.as_str(), decision.intent.as_str()), ("moderate", "refund_request"));
    assert!(decision.reason.contains("its target mistral-large-4-0 cannot take this request"));
    let mut small = ask(WANTS_AN_INTERVIEW);
    small.context.get_or_insert_default().tenant = "small".to_owned();
    let decision = decide(&server, small).await;
    assert_eq!(decision.tier, "moderate", "{}", decision.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_claim_decides_as_a_new_one() {
    let server = TestServer::start(with_intents(""), Some(real_classifier())).await;
    for text in [WANTS_MONEY_BACK, WANTS_AN_INTERVIEW, ORDINARY] {
        let first = decide(&server, ask(text)).await;
        let second = decide(&server, ask(text)).await;
        assert_eq!((first.source(), second.source()), (Source::Classifier, Source::Cache));
        assert_eq!(
            Decision { decision_id: String::new(), source: 0, timings: None, ..first },
            Decision { decision_id: String::new(), source: 0, timings: None, ..second }
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_claimed_in_a_language_that_is_not_read() {
    let copy = Copy::new();
    copy.edit(|manifest| manifest["languages"] = json!({"read": ["de"]}));
    let config = config(&format!("{REFUND}{}wait_ms_max = 60000\n", copy.section()));
    let classifier = OnnxClassifier::load(&config.classifier).unwrap();
    let server = TestServer::start(config, Some(Arc::new(classifier))).await;
    let stated = |text: &str, language: &str| {
        let mut request = ask(text);
        request.context.get_or_insert_default().language = language.to_owned();
        request
    };
    let certain = "I would like to have my money back, the things that you sent me arrived broken";
    for (text, language) in [(certain, ""), (certain, "de"), (REFUND_IN_DOUBT, "en")] {
        let decision = decide(&server, stated(text, language)).await;
        assert_ne!(decision.intent, "refund_request", "{text}");
        assert!(decision.low_confidence, "{text}");
        assert!(decision.reason.contains("written in English"), "{}", decision.reason);
    }
    // The same text in another language, by what the caller says: its scores are kept, the claim counts.
    let decision = decide(&server, stated(REFUND_IN_DOUBT, "de")).await;
    assert_eq!((decision.intent.as_str(), decision.source()), ("refund_request", Source::Cache));
}

fn load(text: &str) -> Result<(), String> {
    let mut config = read_text(text).unwrap();
    config.traffic.enabled = false;
    Live::start(config).unwrap().load_classifier().map_err(|error| error.to_string())
}

#[test]
fn a_bundle_without_background_says_what_to_do() {
    let copy = Copy::new();
    copy.edit(|manifest| drop(manifest["embedding"].as_object_mut().unwrap().remove("background")));
    fs::remove_file(copy.path("background.f32")).unwrap();
    let error = load(&format!("{}{REFUND}", copy.section())).unwrap_err();
    for part in
        ["intents[0].examples: bundle pointsman-minilm", "has no background.f32", "training/background.py"]
    {
        assert!(error.contains(part), "{part:?} is missing in {error:?}");
    }
    // Nothing is asked of it without examples.
    load(&format!("{}[[intents]]\nname = \"code\"\ntier_min = \"moderate\"\n", copy.section())).unwrap();
}

#[test]
fn names_are_the_bundles_or_have_examples() {
    let named = |name: &str| REFUND.replace("refund_request", name);
    for (text, because) in [
        (named("code"), "intents[0].name: the bundle has an intent \"code\" of its own"),
        (
            "[[intents]]\nname = \"gossip\"\ntier = \"simple\"\n".to_owned(),
            "intents[0].name: the bundle has no intent \"gossip\"; known are chitchat",
        ),
        (
            format!("{REFUND}[[rules]]\nid = \"r\"\nintent = \"gossip\"\n"),
            "rules[0].intent: the bundle has no intent \"gossip\"; known are chitchat",
        ),
    ] {
        let error = load(&text).unwrap_err();
        assert!(error.contains(because), "{error:?} does not say {because:?}");
    }
    load(&format!("{REFUND}[[rules]]\nid = \"r\"\nintent = \"refund_request\"\n")).unwrap();
}

#[test]
fn check_warns_of_overlaps_and_strangers() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let sections = format!(
        r#"{SCHEDULING}
[[intents]]
name = "money_back"
examples = ["Refund my last order please, it arrived broken", "I'd like my money back for the shoes"]
{}"#,
        REFUND.replace("\n]", "\n  \"Who painted the ceiling of the chapel?\",\n]")
    );
    fs::write(file.path(), sections).unwrap();
    let output = pointsman(&["check", file.path().to_str().unwrap()], b"");
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for part in [
        "interview_scheduling  4 examples, threshold 0.",
        "refund_request        6 examples, threshold 0.",
        "warning: intent money_back: overlaps with refund_request: \"Refund my last order please, it arrived broken\"",
        "would go there, nearest to \"Please refund my last order, it arrived broken\" (similarity 0.",
        "warning: intent refund_request: \"Who painted the ceiling of the chapel?\" is unlike its siblings",
    ] {
        assert!(shown.contains(part), "{part:?} is missing in {shown}");
    }
}
