//! Feedback and outcomes in a store -> offsets, shared and counted once.

use std::sync::Arc;

use arc_swap::ArcSwap;
use pointsman::{
    config::{LearningConfig, StoreConfig},
    routing::learning::{Estimate, Offsets, Tally},
    traffic::{
        feedback::Feedback,
        learn::{Learned, Learner},
        record::{AttemptRecord, Kind, Record},
        store::{Store, Whose},
    },
};
use secrecy::ExposeSecret;
use sqlx::Connection;
use tempfile::TempDir;

use crate::support::{
    postgres::shared_database,
    traffic::{DAY_MS, NEW_YEAR_MS, both_stores, feedback, open_store, record},
};

/// Later than any outcome has to wait.
const LATER_MS: i64 = NEW_YEAR_MS + 3_600_000;

/// A store, and replicas that learn from it.
struct World {
    config: StoreConfig,
    store: Store,
    _folder: Option<TempDir>,
}

both_stores![
    feedback_moves_offsets_once_and_every_replica_takes_them_up,
    replicas_that_learn_at_once_count_everything_once,
    one_tenant_counts_only_so_much_across_batches,
    outcomes_wait_for_complaints_which_go_before_them,
    feedback_about_a_decision_that_is_not_there_waits_for_it,
    more_than_one_step_is_said,
    others_write_while_it_learns,
    a_clock_that_was_ahead_freezes_nothing,
    what_is_forgotten_stays_forgotten,
    a_deleted_tenant_leaves_no_name,
];

impl World {
    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig::Sqlite { path: folder.path().join("traffic.sqlite") };
        Self { store: open_store(&config).await, config, _folder: Some(folder) }
    }

    async fn postgres() -> Self {
        let config = shared_database().await;
        Self { store: open_store(&config).await, config, _folder: None }
    }

    /// Returns the tenants of whom allowances are kept.
    async fn tenants(&self) -> Vec<String> {
        const TENANTS: &str = "SELECT DISTINCT tenant FROM learning_allowances";
        match &self.config {
            StoreConfig::Sqlite { path } => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
                let mut store = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
                sqlx::query_scalar(TENANTS).fetch_all(&mut store).await.unwrap()
            }
            StoreConfig::Postgres { url, .. } => {
                let mut store = sqlx::PgConnection::connect(url.expose_secret()).await.unwrap();
                sqlx::query_scalar(TENANTS).fetch_all(&mut store).await.unwrap()
            }
        }
    }

    async fn replica(&self) -> (Learner, Arc<ArcSwap<Offsets>>) {
        let offsets: Arc<ArcSwap<Offsets>> = Arc::default();
        let store = open_store(&self.config).await;
        (Learner::new(store, config(), Arc::clone(&offsets)), offsets)
    }

    /// Writes decisions for small at code, each of a tenant of its own and with a thumb down.
    async fn complaints(&self, numbers: std::ops::Range<u64>) {
        self.complaints_at(NEW_YEAR_MS, numbers, None).await;
    }

    async fn complaints_at(&self, at_ms: i64, numbers: std::ops::Range<u64>, tenant: Option<&str>) {
        let of = |number| {
            let mut record = record(at_ms, number);
            record.request.tenant = tenant.map_or_else(|| format!("t{number}"), str::to_owned);
            record
        };
        let records: Vec<Record> = numbers.clone().map(of).collect();
        let feedback: Vec<Feedback> = records
            .iter()
            .zip(numbers)
            .map(|(record, number)| Feedback { at_ms, ..feedback(&format!("f{number}"), record.decision_id) })
            .collect();
        self.store.write(&records).await.unwrap();
        self.store.add_feedback(&feedback, 0).await.unwrap();
    }
}

fn config() -> LearningConfig {
    LearningConfig { enabled: true, ..LearningConfig::default() }
}

fn small(offsets: &ArcSwap<Offsets>) -> Option<Estimate> {
    offsets.load().get("code", "small")
}

/// A completion that small answered, as a check found it.
fn completion(number: u64, outcome: &str) -> Record {
    let mut record = record(NEW_YEAR_MS, number);
    record.kind = Kind::Complete;
    record.attempts = vec![AttemptRecord {
        target: record.decision.target.clone(),
        tier: "simple".into(),
        cause: "first".to_owned(),
        outcome: outcome.to_owned(),
        why: None,
        started_ms: 0.0,
        latency_ms: 1.0,
        first_token_ms: None,
        input_tokens: 1,
        cached_input_tokens: 0,
        output_tokens: 1,
        cost_usd: 0.0,
        estimated: false,
    }];
    record.outcome.status = outcome.to_owned();
    record.outcome.target = Some(record.decision.target.clone());
    record.outcome.tier = Some("simple".into());
    record
}

async fn feedback_moves_offsets_once_and_every_replica_takes_them_up(world: World) {
    world.complaints(0..30).await;
    let (one, its) = world.replica().await;
    let (other, others) = world.replica().await;
    let learned = one.step(LATER_MS).await.unwrap();
    assert_eq!(learned.feedback, Tally { applied: 30, refused: 0 });
    let estimate = small(&its).unwrap();
    assert!(estimate.mean < -1.0, "{estimate:?}");
    assert_eq!(other.step(LATER_MS).await.unwrap(), Learned::default(), "nothing is left to learn");
    assert_eq!(small(&others), Some(estimate));
    assert_eq!(one.step(LATER_MS).await.unwrap(), Learned::default());
    assert_eq!(small(&its), Some(estimate));
}

async fn replicas_that_learn_at_once_count_everything_once(world: World) {
    world.complaints(0..90).await;
    let (one, _) = world.replica().await;
    let (other, _) = world.replica().await;
    let (a, b) = tokio::join!(one.step(LATER_MS), other.step(LATER_MS));
    // One that finds the other at it leaves the work to it.
    let tally = a.unwrap().feedback.and(b.unwrap().feedback);
    assert_eq!(tally, Tally { applied: 90, refused: 0 });
    let cells = world.store.cells(&config(), LATER_MS).await.unwrap();
    assert_eq!(cells.values().map(|cell| cell.observations()).collect::<Vec<_>>(), [90]);
}

async fn one_tenant_counts_only_so_much_across_batches(world: World) {
    // Others have said enough for a whole burst to count.
    world.complaints(0..200).await;
    let (learner, _) = world.replica().await;
    assert_eq!(learner.step(LATER_MS).await.unwrap().feedback.refused, 0);
    world.complaints_at(NEW_YEAR_MS, 1000..2000, Some("acme")).await;
    let learned = learner.step(LATER_MS).await.unwrap();
    assert_eq!(learned.feedback, Tally { applied: 20, refused: 980 }, "a burst of 10, at half a weight each");
    assert!(!learned.more);
}

async fn outcomes_wait_for_complaints_which_go_before_them(world: World) {
    let records = [completion(1, "answered"), completion(2, "answered"), completion(3, "weak")];
    world.store.write(&records).await.unwrap();
    let (learner, offsets) = world.replica().await;
    assert_eq!(learner.step(NEW_YEAR_MS + 1000).await.unwrap(), Learned::default(), "it is too early");
    world.store.add_feedback(&[feedback("f", records[0].decision_id)], 0).await.unwrap();
    let learned = learner.step(LATER_MS).await.unwrap();
    assert_eq!(learned.feedback.applied, 1, "the complaint");
    assert_eq!(learned.outcomes.applied, 2, "the other answer, and the weak one");
    // What says nothing of how good it was leaves the word to the outcome.
    let commented = completion(4, "answered");
    world.store.write(std::slice::from_ref(&commented)).await.unwrap();
    let comment = Feedback {
        verdict: None,
        comment: Some("thanks".to_owned()),
        ..feedback("c", commented.decision_id)
    };
    world.store.add_feedback(&[comment], 0).await.unwrap();
    let learned = learner.step(LATER_MS).await.unwrap();
    assert_eq!((learned.feedback.applied, learned.outcomes.applied), (0, 1));
    assert!(small(&offsets).unwrap().mean < 0.0);
    assert_eq!(learner.step(LATER_MS).await.unwrap(), Learned::default());
}

async fn feedback_about_a_decision_that_is_not_there_waits_for_it(world: World) {
    let late = record(NEW_YEAR_MS, 1);
    world.store.add_feedback(&[feedback("f", late.decision_id)], 10).await.unwrap();
    let (learner, _) = world.replica().await;
    assert_eq!(learner.step(LATER_MS).await.unwrap(), Learned::default());
    world.store.write(&[late]).await.unwrap();
    assert_eq!(learner.step(LATER_MS).await.unwrap().feedback.applied, 1);
}

async fn more_than_one_step_is_said(world: World) {
    world.complaints(0..4100).await;
    let (learner, _) = world.replica().await;
    let learned = learner.step(LATER_MS).await.unwrap();
    assert!(learned.more);
    let rest = learner.step(LATER_MS).await.unwrap();
    assert!(!rest.more);
    let all = learned.feedback.and(rest.feedback);
    assert_eq!(all.applied + all.refused, 4100);
}

async fn others_write_while_it_learns(world: World) {
    world.complaints(0..4100).await;
    let (learner, _) = world.replica().await;
    let writes = async {
        for number in 0..3 {
            world.store.write(&[record(LATER_MS, number)]).await.unwrap();
        }
    };
    tokio::select! {
        biased;
        () = writes => {}
        learned = learner.step(LATER_MS) => panic!("nobody could write meanwhile: {learned:?}"),
    }
}

async fn a_clock_that_was_ahead_freezes_nothing(world: World) {
    const AHEAD_MS: i64 = LATER_MS + 365 * DAY_MS;
    world.complaints_at(AHEAD_MS, 0..4, Some("acme")).await;
    let (learner, offsets) = world.replica().await;
    learner.step(AHEAD_MS).await.unwrap();
    // It is right again; what it has dated is not later than now.
    learner.refresh(LATER_MS).await.unwrap();
    let before = small(&offsets).unwrap();
    world.complaints(10..20).await;
    world.complaints_at(AHEAD_MS, 20..30, None).await;
    let learned = learner.step(LATER_MS).await.unwrap();
    assert_eq!(learned.feedback, Tally { applied: 20, refused: 0 });
    let after = small(&offsets).unwrap();
    assert!(after.mean < before.mean - 0.3, "{before:?} {after:?}");
    learner.refresh(LATER_MS + 60 * DAY_MS).await.unwrap();
    assert!(small(&offsets).unwrap().mean.abs() < 0.5, "it is forgotten from now on, not from then");
    world.complaints_at(LATER_MS + 3_600_000, 40..42, Some("acme")).await;
    let learned = learner.step(LATER_MS + 3_600_000).await.unwrap();
    assert_eq!(learned.feedback, Tally { applied: 2, refused: 0 }, "allowances fill again");
}

async fn what_is_forgotten_stays_forgotten(world: World) {
    world.complaints(0..10).await;
    let (learner, offsets) = world.replica().await;
    learner.step(LATER_MS).await.unwrap();
    assert_eq!(world.store.forget(Some("math"), None).await.unwrap(), 0);
    assert_eq!(world.store.forget(Some("code"), Some("small")).await.unwrap(), 1);
    learner.step(LATER_MS).await.unwrap();
    assert_eq!(small(&offsets), None);
}

async fn a_deleted_tenant_leaves_no_name(world: World) {
    world.complaints_at(NEW_YEAR_MS, 0..10, Some("acme")).await;
    let (learner, offsets) = world.replica().await;
    learner.step(LATER_MS).await.unwrap();
    let before = small(&offsets);
    assert_eq!(world.tenants().await, ["acme"]);
    world.store.delete(&[Whose::Tenant("acme".to_owned())]).await.unwrap();
    assert_eq!(world.tenants().await, [""; 0]);
    learner.step(LATER_MS).await.unwrap();
    assert_eq!(small(&offsets), before, "what it has taught stays");
    // Also when somebody learns from it at this moment.
    world.complaints_at(NEW_YEAR_MS, 1000..1200, Some("acme")).await;
    let whose = [Whose::Tenant("acme".to_owned())];
    let (learned, deleted) = tokio::join!(learner.step(LATER_MS), world.store.delete(&whose));
    learned.unwrap();
    deleted.unwrap();
    assert_eq!(world.tenants().await, [""; 0]);
    if let StoreConfig::Sqlite { path } = &world.config {
        let bytes = std::fs::read(path).unwrap();
        assert!(!bytes.windows(4).any(|window| window == b"acme"));
    }
}
