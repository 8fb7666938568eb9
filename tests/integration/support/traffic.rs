//! Records and feedback for tests of the traffic log.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pointsman::{
    config::StoreConfig,
    traffic::{
        feedback::{self, Feedback, FeedbackSource, Verdict},
        record::{
            self, DecisionRecord, Kind, MessageRecord, OutcomeRecord, Record, RequestRecord, TargetRecord,
            TextRecord, TimingsRecord,
        },
        store::{Store, StoreError},
    },
};
use uuid::Uuid;

use super::PATIENCE;

/// 2026-01-01T00:00:00Z.
pub const NEW_YEAR_MS: i64 = 1_767_225_600_000;
pub const DAY_MS: i64 = 86_400_000;

/// Returns the identifier of the decision `number` of a millisecond.
pub fn decision_id(at_ms: i64, number: u64) -> Uuid {
    let time = u128::try_from(at_ms).unwrap() << 80;
    Uuid::from_u128(time | 7 << 76 | 2 << 62 | u128::from(number))
}

/// Returns a record with a text of its own.
pub fn record(at_ms: i64, number: u64) -> Record {
    let target = TargetRecord { id: "small".into(), provider: "scripted".into(), model: "small-1".into() };
    let tiers: Vec<Arc<str>> = ["simple", "moderate", "complex", "reasoning"].map(Arc::from).to_vec();
    Record {
        version: record::VERSION,
        decision_id: decision_id(at_ms, number),
        at_ms,
        kind: Kind::Route,
        request: RequestRecord {
            tenant: "acme".to_owned(),
            session: String::new(),
            task_type: String::new(),
            tags: Vec::new(),
            language: String::new(),
            text: TextRecord {
                policy: "full".to_owned(),
                messages: vec![MessageRecord {
                    role: "user".to_owned(),
                    content: format!("question {number}"),
                }],
                hash: None,
                bytes: 12,
                cut: false,
                redactions: 0,
            },
            turns: 1,
            prompt_tokens: 3,
            output_tokens_max: None,
            needs_tools: false,
            needs_vision: false,
            needs_json: false,
            quality: None,
        },
        decision: DecisionRecord {
            tier: Arc::clone(&tiers[0]),
            tiers,
            target,
            failover: Vec::new(),
            intent: Some("code".into()),
            intent_confidence: 0.9,
            sufficiency: vec![0.8, 0.9, 0.95, 1.0],
            sufficiency_base: Vec::new(),
            confidence: 0.8,
            source: "classifier".to_owned(),
            rule: None,
            low_confidence: false,
            truncated: false,
            bundle_version: Some("1".into()),
            config_generation: 1,
            cost_usd_estimate: 0.001,
            baseline_cost_usd_estimate: 0.01,
            propensity: 1.0,
            explored: false,
            canary: false,
            timings: TimingsRecord::default(),
        },
        attempts: Vec::new(),
        outcome: OutcomeRecord {
            status: "decided".to_owned(),
            failure: None,
            tier: None,
            target: None,
            escalated: false,
            cost_usd: 0.0,
            baseline_cost_usd: 0.0,
            latency_ms: 2.5,
            overhead_ms: 2.5,
        },
        signals: Vec::new(),
    }
}

/// Opens a store, which a busy machine may not manage within the time that a connection may take.
pub async fn open_store(config: &StoreConfig) -> Store {
    let started = Instant::now();
    loop {
        match Store::open(config).await {
            Ok(store) => return store,
            Err(error @ StoreError::Down { .. }) => assert!(started.elapsed() < PATIENCE, "{error}"),
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Returns a user's thumb down.
pub fn feedback(feedback_id: &str, decision_id: Uuid) -> Feedback {
    Feedback {
        version: feedback::VERSION,
        feedback_id: feedback_id.to_owned(),
        decision_id,
        at_ms: NEW_YEAR_MS,
        source: FeedbackSource::User,
        verdict: Some(Verdict::Bad),
        score: None,
        right_tier: None,
        right_intent: None,
        comment: None,
        demonstration: None,
        signal: None,
    }
}

/// Runs each check against each store: what is named here takes a `World`, which the caller has.
macro_rules! both_stores {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::World::sqlite().await).await;
            })*
        }

        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::World::postgres().await).await;
            })*
        }
    };
}

pub(crate) use both_stores;
