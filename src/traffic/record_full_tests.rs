//! What is stored has every field of today, under the name that it was given. Most fields may be absent, since older
//! documents lack them: one that is renamed would be read as absent, and what was logged would be lost without an error.
//!
//! A new field is first missing in the literals here, then in `tests/golden/traffic/*-v1-full.json`.

use std::{collections::BTreeSet, fmt::Debug};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;
use crate::traffic::feedback::{FeedbackSource, Verdict};

const DECISION_ID: Uuid = Uuid::from_u128(0x019b_76da_a800_7abc_8def_0123_4567_89ab);

fn target(id: &str, provider: &str, model: &str) -> TargetRecord {
    TargetRecord { id: id.into(), provider: provider.into(), model: model.into() }
}

fn message(role: &str, content: &str) -> MessageRecord {
    MessageRecord { role: role.to_owned(), content: content.to_owned() }
}

fn names<const N: usize>(names: [&str; N]) -> Vec<Arc<str>> {
    names.map(Arc::from).to_vec()
}

/// Nothing in it is what a missing field would be read as.
fn record() -> Record {
    Record {
        version: VERSION,
        decision_id: DECISION_ID,
        at_ms: 1_767_225_600_000,
        kind: Kind::Complete,
        request: RequestRecord {
            tenant: "acme".to_owned(),
            session: "s-1".to_owned(),
            task_type: "support".to_owned(),
            tags: vec!["beta".to_owned(), "eu".to_owned()],
            language: "en".to_owned(),
            text: TextRecord {
                policy: "redacted".to_owned(),
                messages: vec![message("system", "Be brief."), message("user", "Write to [EMAIL], please.")],
                hash: Some("00ff".to_owned()),
                bytes: 61,
                cut: true,
                redactions: 1,
            },
            turns: 1,
            prompt_tokens: 14,
            output_tokens_max: Some(200),
            needs_tools: true,
            needs_vision: true,
            needs_json: true,
            quality: Some(0.75),
        },
        decision: DecisionRecord {
            tiers: names(["simple", "moderate", "complex", "reasoning"]),
            tier: "simple".into(),
            target: target("small", "scripted", "small-1"),
            failover: names(["small-b", "medium"]),
            intent: Some("writing".into()),
            intent_confidence: 0.875,
            sufficiency: vec![0.75, 0.875, 0.9375, 1.0],
            sufficiency_base: vec![0.625, 0.75, 0.875, 1.0],
            confidence: 0.75,
            source: "classifier".to_owned(),
            rule: Some("greeting".into()),
            low_confidence: true,
            truncated: true,
            bundle_version: Some("0.1.0".into()),
            config_generation: 3,
            cost_usd_estimate: 0.00025,
            baseline_cost_usd_estimate: 0.01,
            propensity: 0.5,
            explored: true,
            canary: true,
            timings: TimingsRecord {
                rules_us: 4,
                queue_us: 10,
                tokenize_us: 80,
                inference_us: 2500,
                policy_us: 6,
                total_us: 2600,
            },
        },
        attempts: vec![AttemptRecord {
            target: target("small", "scripted", "small-1"),
            tier: "simple".into(),
            cause: "first".to_owned(),
            outcome: "weak".to_owned(),
            why: Some("refusal".to_owned()),
            started_ms: 3.5,
            latency_ms: 250.0,
            first_token_ms: Some(120.5),
            input_tokens: 14,
            cached_input_tokens: 4,
            output_tokens: 9,
            cost_usd: 0.00025,
            estimated: true,
        }],
        outcome: OutcomeRecord {
            status: "answered".to_owned(),
            failure: Some("unavailable".to_owned()),
            tier: Some("moderate".into()),
            target: Some(target("medium", "scripted", "medium-1")),
            escalated: true,
            cost_usd: 0.00125,
            baseline_cost_usd: 0.02,
            latency_ms: 560.0,
            overhead_ms: 5.0,
        },
        signals: vec![
            Signal::Escalated,
            Signal::Weak,
            Signal::Retried,
            Signal::Regenerated,
            Signal::Abandoned,
        ],
    }
}

fn shadow() -> ShadowRecord {
    ShadowRecord {
        version: SHADOW_VERSION,
        active_tier: "simple".into(),
        tier: "reasoning".into(),
        target: "reasoning-target".into(),
        intent: Some("code".into()),
        intent_confidence: 0.9,
        confidence: 0.8,
        low_confidence: true,
        sufficiency: vec![0.1, 0.2, 0.3, 1.0],
        unscored: Some("classifier failed".to_owned()),
        cost_usd_estimate: 0.004,
        propensity: Some(0.5),
        compute_us: 2100,
    }
}

fn feedback() -> Feedback {
    Feedback {
        version: crate::traffic::feedback::VERSION,
        feedback_id: "f-1".to_owned(),
        decision_id: DECISION_ID,
        at_ms: 1_767_225_601_000,
        source: FeedbackSource::Human,
        verdict: Some(Verdict::Bad),
        score: Some(0.25),
        right_tier: Some("complex".to_owned()),
        right_intent: Some("code".to_owned()),
        comment: Some("It missed the point.".to_owned()),
        demonstration: Some("A better answer.".to_owned()),
        signal: Some(Signal::Retried),
    }
}

/// Reads and writes the same document, and neither side has a field that the other lacks.
fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, full: &T) {
    let path = format!("{}/tests/golden/traffic/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let golden: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let written = serde_json::to_value(full).expect("it is JSON");
    let (mut expected, mut found) = (BTreeSet::new(), BTreeSet::new());
    fields(name, &golden, &mut expected);
    fields(name, &written, &mut found);
    let missing: Vec<&String> = expected.difference(&found).collect();
    let unexpected: Vec<&String> = found.difference(&expected).collect();
    assert!(missing.is_empty() && unexpected.is_empty(), "gone: {missing:?}, not in {name}: {unexpected:?}");
    assert_eq!(golden, written, "{name}");
    let read: T = serde_json::from_value(golden).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(read, *full, "{name}");
}

/// Collects every field with its path, and has none that holds what an absent one stands for.
fn fields(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let path = format!("{path}.{name}");
                fields(&path, member, found);
                found.insert(path);
            }
        }
        Value::Array(members) => {
            assert!(!members.is_empty(), "{path} is empty");
            for (place, member) in members.iter().enumerate() {
                fields(&format!("{path}[{place}]"), member, found);
            }
        }
        Value::Null => panic!("{path} is null"),
        Value::Bool(is_set) => assert!(is_set, "{path} is false"),
        Value::Number(number) => assert_ne!(number.as_f64(), Some(0.0), "{path} is 0"),
        Value::String(text) => assert!(!text.is_empty(), "{path} is empty"),
    }
}

#[test]
fn every_field_of_today_is_written_under_its_name() {
    check("record-v1-full.json", &record());
    check("shadow-v1-full.json", &shadow());
    check("feedback-v1-full.json", &feedback());
}
