//! What the store keeps for replicas, in SQLite and in PostgreSQL.

use std::time::Duration;

use pointsman::{
    config::{Retention, StoreConfig},
    traffic::store::{
        Store, StoreError, Whose,
        fleet::{EventRow, ShadowRow, ShadowSelection},
    },
};
use secrecy::ExposeSecret;
use sqlx::{AnyConnection, Connection};
use uuid::Uuid;

use super::World;
use crate::support::{
    PATIENCE,
    traffic::{DAY_MS, NEW_YEAR_MS, both_stores, decision_id, open_store, record},
};

const DAY: Duration = Duration::from_secs(86_400);

both_stores![
    the_wanted_state_is_exchanged_by_who_has_read_it,
    one_of_many_wins_each_revision,
    events_come_with_the_exchange_or_not_at_all,
    events_are_kept_for_a_while_and_so_many,
    replicas_are_seen_by_the_stores_clock,
    too_many_replicas_are_forgotten,
    shadow_scores_are_read_page_by_page,
    shadow_scores_go_with_their_records,
    shadow_scores_of_a_tenant_are_deleted,
    what_is_too_long_is_refused,
];

async fn open(world: &World) -> Store {
    open_store(&world.config).await
}

/// Does something behind the store's back.
pub async fn meddle(world: &World, statement: &'static str) {
    sqlx::any::install_default_drivers();
    let url = match &world.config {
        StoreConfig::Sqlite { path } => format!("sqlite://{}", path.display()),
        StoreConfig::Postgres { url, .. } => url.expose_secret().to_owned(),
    };
    let mut connection = AnyConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

fn event(at_ms: i64, number: u128) -> EventRow {
    EventRow { event_id: Uuid::from_u128(number), at_ms, document: format!("{{\"number\":{number}}}") }
}

fn now_ms() -> i64 {
    pointsman::traffic::now_ms()
}

async fn the_wanted_state_is_exchanged_by_who_has_read_it(world: World) {
    let store = open(&world).await;
    assert_eq!(store.wanted().await.unwrap(), None);
    assert!(!store.exchange_wanted(1, 2, "no", &[]).await.unwrap(), "there is none");
    assert!(store.exchange_wanted(0, 1, "{\"a\":\"\u{2713}\"}", &[]).await.unwrap());
    assert!(!store.exchange_wanted(0, 1, "no", &[]).await.unwrap());
    assert_eq!(store.wanted().await.unwrap(), Some((1, "{\"a\":\"\u{2713}\"}".to_owned())));
    assert!(store.exchange_wanted(1, 2, "two", &[]).await.unwrap());
    assert!(!store.exchange_wanted(1, 2, "no", &[]).await.unwrap());
    // It outlives the process.
    assert_eq!(open(&world).await.wanted().await.unwrap(), Some((2, "two".to_owned())));
    match store.exchange_wanted(2, u64::MAX, "no", &[]).await {
        Err(StoreError::Refused { problem, .. }) => assert!(problem.contains("out of range"), "{problem}"),
        other => panic!("{other:?}"),
    }
}

async fn one_of_many_wins_each_revision(world: World) {
    let mut stores = Vec::new();
    for _ in 0..4 {
        stores.push(open(&world).await);
    }
    for revision in 0..5_u64 {
        let tries = (0..20_usize).map(|number| {
            let store = stores[number % stores.len()].clone();
            async move {
                let document = format!("{revision} by {number}");
                let id = u128::from(revision) * 100 + number as u128 + 1;
                let won =
                    store.exchange_wanted(revision, revision + 1, &document, &[event(now_ms(), id)]).await;
                won.unwrap().then_some(document)
            }
        });
        let won: Vec<String> = futures::future::join_all(tries).await.into_iter().flatten().collect();
        assert_eq!(won.len(), 1, "{won:?}");
        assert_eq!(stores[0].wanted().await.unwrap(), Some((revision + 1, won[0].clone())));
        assert_eq!(stores[0].events(100).await.unwrap().len() as u64, revision + 1, "and its event alone");
    }
}

async fn events_come_with_the_exchange_or_not_at_all(world: World) {
    let store = open(&world).await;
    let at_ms = now_ms();
    assert!(store.exchange_wanted(0, 1, "one", &[event(at_ms, 1), event(at_ms + 1, 2)]).await.unwrap());
    assert!(!store.exchange_wanted(0, 1, "no", &[event(at_ms + 2, 3)]).await.unwrap());
    store.tell(&[event(at_ms + 3, 4), event(at_ms + 1, 2)]).await.unwrap();
    store.tell(&[]).await.unwrap();
    let newest = [event(at_ms + 3, 4), event(at_ms + 1, 2), event(at_ms, 1)];
    assert_eq!(store.events(10).await.unwrap(), newest);
    assert_eq!(store.events(1).await.unwrap(), newest[..1]);
    assert_eq!(store.events(0).await.unwrap(), []);
    // An event that cannot be kept keeps the change from happening.
    let long = EventRow { document: "x".repeat(1 << 20), ..event(at_ms, 5) };
    store.exchange_wanted(1, 2, "two", &[long]).await.unwrap_err();
    assert_eq!(store.wanted().await.unwrap(), Some((1, "one".to_owned())));
}

async fn events_are_kept_for_a_while_and_so_many(world: World) {
    let store = open(&world).await;
    let now_ms = now_ms();
    store.tell(&[event(now_ms - 91 * DAY_MS, 1), event(now_ms - 89 * DAY_MS, 2)]).await.unwrap();
    assert_eq!(store.events(10).await.unwrap(), [event(now_ms - 89 * DAY_MS, 2)]);
    let many: Vec<EventRow> =
        (0..10_100).map(|number| event(now_ms - 20_000 + number, 10 + number as u128)).collect();
    store.tell(&many).await.unwrap();
    let kept = store.events(usize::MAX).await.unwrap();
    assert_eq!(kept.len(), 10_000);
    assert_eq!(kept[0], many[10_099]);
    assert_eq!(kept[9_999], many[100]);
    // And where nothing happens any more, with time.
    meddle(&world, "UPDATE fleet_events SET at_ms = 0 WHERE at_ms < (SELECT MAX(at_ms) FROM fleet_events)")
        .await;
    store.retain(Retention { age_max: None, bytes_max: None }, now_ms).await.unwrap();
    assert_eq!(store.events(usize::MAX).await.unwrap(), [many[10_099].clone()]);
}

async fn replicas_are_seen_by_the_stores_clock(world: World) {
    let store = open(&world).await;
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    store.report(one, "a").await.unwrap();
    store.report(two, "b").await.unwrap();
    store.report(one, "c").await.unwrap();
    let mut seen = store.replicas(DAY).await.unwrap();
    assert!(seen.iter().all(|replica| (0..60_000).contains(&replica.seen_ago_ms)), "{seen:?}");
    seen.sort_by_key(|replica| replica.replica_id);
    let said: Vec<_> = seen.iter().map(|replica| (replica.replica_id, &*replica.document)).collect();
    assert_eq!(said, [(one, "c"), (two, "b")]);
    meddle(
        &world,
        "UPDATE fleet_replicas SET seen_ms = seen_ms - 3600000 WHERE document = 'c'; \
         UPDATE fleet_replicas SET seen_ms = seen_ms + 3600000 WHERE document = 'b'",
    )
    .await;
    let seen = store.replicas(DAY).await.unwrap();
    assert_eq!(seen[0].seen_ago_ms, 0, "a clock that was set back");
    assert!((3_600_000..3_700_000).contains(&seen[1].seen_ago_ms), "{seen:?}");
    let within = store.replicas(Duration::from_secs(60)).await.unwrap();
    assert_eq!(within.iter().map(|replica| replica.replica_id).collect::<Vec<_>>(), [two]);
    assert_eq!(store.forget_replicas(DAY).await.unwrap(), 0);
    assert_eq!(store.forget_replicas(Duration::from_secs(60)).await.unwrap(), 1);
    store.forget_replica(two).await.unwrap();
    store.forget_replica(two).await.unwrap();
    assert_eq!(store.replicas(DAY).await.unwrap(), []);
}

async fn too_many_replicas_are_forgotten(world: World) {
    let store = open(&world).await;
    meddle(
        &world,
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1200) \
         INSERT INTO fleet_replicas (replica_id, seen_ms, document) SELECT 'r' || n, n, '{}' FROM n",
    )
    .await;
    let ages = Duration::from_millis(u64::try_from(i64::MAX).unwrap());
    assert_eq!(store.forget_replicas(ages).await.unwrap(), 200);
    assert_eq!(store.forget_replicas(ages).await.unwrap(), 0);
}

fn shadow(at_ms: i64, number: u64, bundle: &str) -> ShadowRow {
    let decision_id = decision_id(at_ms, number);
    ShadowRow { decision_id, bundle: bundle.to_owned(), document: format!("{{\"of\":\"{bundle}\"}}") }
}

async fn every_shadow(store: &Store, selection: &ShadowSelection) -> Vec<ShadowRow> {
    let mut all: Vec<ShadowRow> = Vec::new();
    loop {
        let page = store.shadow_page(selection, all.last(), 3).await.unwrap();
        assert!(page.len() <= 3);
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

async fn shadow_scores_are_read_page_by_page(world: World) {
    let store = open(&world).await;
    let mut rows: Vec<ShadowRow> = Vec::new();
    for day in 0..3 {
        for number in 0..2 {
            rows.push(shadow(NEW_YEAR_MS + day * DAY_MS, number, "v1"));
            rows.push(shadow(NEW_YEAR_MS + day * DAY_MS, number, "v2"));
        }
    }
    let mut mixed = rows.clone();
    mixed.reverse();
    assert_eq!(store.add_shadow(&mixed).await.unwrap(), 12);
    assert_eq!(store.add_shadow(&rows[3..5]).await.unwrap(), 0, "they are there already");
    assert_eq!(store.add_shadow(&[]).await.unwrap(), 0);
    assert_eq!(every_shadow(&store, &ShadowSelection::default()).await, rows);
    let selection = ShadowSelection {
        bundle: Some("v2".to_owned()),
        from_ms: Some(NEW_YEAR_MS + DAY_MS),
        until_ms: Some(NEW_YEAR_MS + 2 * DAY_MS),
    };
    assert_eq!(every_shadow(&store, &selection).await, [rows[5].clone(), rows[7].clone()]);
    let late = ShadowSelection { from_ms: Some(i64::MAX), ..ShadowSelection::default() };
    assert_eq!(every_shadow(&store, &late).await, []);
    assert_eq!(store.shadow_page(&ShadowSelection::default(), None, 0).await.unwrap(), []);
}

async fn shadow_scores_go_with_their_records(world: World) {
    let store = open(&world).await;
    let records: Vec<_> = (0..4).map(|day| record(NEW_YEAR_MS + day * DAY_MS, 1)).collect();
    let rows: Vec<_> = (0..4).map(|day| shadow(NEW_YEAR_MS + day * DAY_MS, 1, "v1")).collect();
    store.write(&records).await.unwrap();
    store.add_shadow(&rows).await.unwrap();
    // Of a record that was never written.
    store.add_shadow(&[shadow(NEW_YEAR_MS, 7, "v1")]).await.unwrap();
    let by_age = Retention { age_max: Some(2 * DAY), bytes_max: None };
    store.retain(by_age, NEW_YEAR_MS + 4 * DAY_MS).await.unwrap();
    assert_eq!(every_shadow(&store, &ShadowSelection::default()).await, rows[2..]);
    let by_size = Retention { age_max: None, bytes_max: Some(1) };
    store.retain(by_size, NEW_YEAR_MS + 4 * DAY_MS).await.unwrap();
    let left = every_shadow(&store, &ShadowSelection::default()).await;
    match world.config {
        StoreConfig::Sqlite { .. } => assert_eq!(left, []),
        StoreConfig::Postgres { .. } => assert_eq!(left, rows[3..], "the newest day is kept"),
    }
}

async fn shadow_scores_of_a_tenant_are_deleted(world: World) {
    let store = open(&world).await;
    let mut records: Vec<_> = (0..4).map(|number| record(NEW_YEAR_MS, number)).collect();
    records[0].request.tenant = "bolt".to_owned();
    records[1].request.session = "s1".to_owned();
    let rows: Vec<_> = (0..4).map(|number| shadow(NEW_YEAR_MS, number, "v1")).collect();
    store.write(&records).await.unwrap();
    store.add_shadow(&rows).await.unwrap();
    store.delete(&[Whose::Session { tenant: "acme".to_owned(), session: "s1".to_owned() }]).await.unwrap();
    let left = every_shadow(&store, &ShadowSelection::default()).await;
    assert_eq!(left, [rows[0].clone(), rows[2].clone(), rows[3].clone()]);
    store.delete(&[Whose::Tenant("acme".to_owned())]).await.unwrap();
    assert_eq!(every_shadow(&store, &ShadowSelection::default()).await, rows[..1]);
}

#[tokio::test]
async fn who_listens_hears_of_each_exchange() {
    let world = World::postgres().await;
    let (store, other) = (open(&world).await, open(&world).await);
    let mut listener = store.listen().await.unwrap().expect("PostgreSQL tells");
    let short = Duration::from_millis(20);
    let heard = async |listener: &mut pointsman::traffic::store::fleet::Listener| {
        tokio::time::timeout(PATIENCE, listener.heard()).await.expect("it is heard of").unwrap();
    };
    assert!(other.exchange_wanted(0, 1, "one", &[]).await.unwrap());
    heard(&mut listener).await;
    assert!(!other.exchange_wanted(0, 1, "no", &[]).await.unwrap());
    assert!(tokio::time::timeout(short, listener.heard()).await.is_err(), "nothing was exchanged");
    // A wait that was cut short, and a question meanwhile, lose nothing.
    assert!(other.exchange_wanted(1, 2, "two", &[]).await.unwrap());
    listener.check().await.unwrap();
    heard(&mut listener).await;
    listener.check().await.unwrap();
    assert!(other.exchange_wanted(2, 3, "three", &[]).await.unwrap());
    heard(&mut listener).await;
    // The server ends the connection.
    meddle(
        &world,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
         AND pid <> pg_backend_pid()",
    )
    .await;
    let ended = tokio::time::timeout(PATIENCE, async { while listener.heard().await.is_ok() {} });
    ended.await.expect("it is noticed");
}

async fn what_is_too_long_is_refused(world: World) {
    let store = open(&world).await;
    let long = "x".repeat((256 << 10) + 1);
    let row = ShadowRow { document: long.clone(), ..shadow(NEW_YEAR_MS, 1, "v1") };
    for refused in [
        store.exchange_wanted(0, 1, &long, &[]).await.map(drop),
        store.report(Uuid::nil(), &long).await,
        store.tell(&[EventRow { document: long.clone(), ..event(0, 1) }]).await,
        store.add_shadow(&[row]).await.map(drop),
    ] {
        match refused {
            Err(StoreError::Refused { problem, .. }) => assert!(problem.contains("longer than"), "{problem}"),
            other => panic!("{other:?}"),
        }
    }
}
