//! What is particular to PostgreSQL: partitions, many replicas, a server that goes away and comes back.

use std::{collections::BTreeSet, fs, time::Duration};

use pointsman::{
    config::{Retention, StoreConfig},
    traffic::{
        feedback::Feedback,
        store::{
            Deleted, Selection, Store, StoreError,
            fleet::{ShadowRow, ShadowSelection},
        },
    },
};
use secrecy::ExposeSecret;
use sqlx::Connection;

use super::{World, all, connect};
use crate::support::{
    postgres::{Postgres, Stop},
    traffic::{DAY_MS, NEW_YEAR_MS, feedback, open_store, record},
    until,
};

#[tokio::test]
async fn each_day_has_a_partition_until_it_is_dropped() {
    let world = World::postgres().await;
    assert!(partitions(&world).await.is_empty());
    let records: Vec<_> = (0..3).map(|day| record(NEW_YEAR_MS + day * DAY_MS, 1)).collect();
    world.store.write(&records).await.unwrap();
    let first = NEW_YEAR_MS / DAY_MS;
    let names = |days: std::ops::Range<i64>| days.map(|day| format!("traffic_day_{day}")).collect();
    assert_eq!(partitions(&world).await, names(first..first + 3));
    let retention = Retention { age_max: Some(Duration::from_secs(86_400)), bytes_max: None };
    world.store.retain(retention, NEW_YEAR_MS + 3 * DAY_MS).await.unwrap();
    assert_eq!(partitions(&world).await, names(first + 2..first + 3));
    // Each has its parent's indexes.
    let mut connection = connect(&world.config).await;
    let indexes: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM pg_index JOIN pg_inherits ON indexrelid = inhrelid \
         WHERE CAST(indrelid AS regclass) = CAST($1 AS regclass)",
    )
    .bind(format!("traffic_day_{}", first + 2))
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(indexes, 4);
    connection.close().await.unwrap();
}

#[tokio::test]
async fn feedback_counts_as_what_is_in_it_and_makes_room_with_its_day() {
    /// Half of what the feedback takes.
    const BYTES_MAX: u64 = 2 << 20;
    let world = World::postgres().await;
    let records: Vec<_> =
        (0..400).map(|number| record(NEW_YEAR_MS + number % 4 * DAY_MS, number.cast_unsigned())).collect();
    world.store.write(&records).await.unwrap();
    let first = records.iter().step_by(4);
    let said: Vec<Feedback> = first
        .flat_map(|record| {
            ["a", "b"].map(|name| Feedback {
                // What cannot be made shorter.
                comment: Some((0..600).map(|_| format!("{:032x}", rand::random::<u128>())).collect()),
                ..feedback(&format!("{}/{name}", record.decision_id), record.decision_id)
            })
        })
        .collect();
    world.store.add_feedback(&said, 0).await.unwrap();
    let retention = Retention { age_max: None, bytes_max: Some(BYTES_MAX) };
    let now_ms = NEW_YEAR_MS + 3 * DAY_MS;
    let deleted = world.store.retain(retention, now_ms).await.unwrap();
    assert_eq!(deleted, Deleted { records: 100, feedback: 200 }, "the first day alone");
    // A table does not shrink, and that is no reason to delete more.
    assert!(world.store.holdings().await.unwrap().bytes > BYTES_MAX);
    assert_eq!(world.store.retain(retention, now_ms).await.unwrap(), Deleted::default());
}

#[tokio::test]
async fn a_day_that_a_wrong_clock_made_keeps_neither_itself_nor_the_oldest() {
    let world = World::postgres().await;
    let first = NEW_YEAR_MS / DAY_MS;
    let records: Vec<_> = [0, 1, 2, 900].iter().map(|day| record(NEW_YEAR_MS + day * DAY_MS, 1)).collect();
    world.store.write(&records).await.unwrap();
    let said: Vec<Feedback> =
        records.iter().map(|record| feedback(&record.decision_id.to_string(), record.decision_id)).collect();
    world.store.add_feedback(&said, 0).await.unwrap();
    let scores: Vec<ShadowRow> = records
        .iter()
        .map(|record| ShadowRow {
            decision_id: record.decision_id,
            bundle: "v1".to_owned(),
            document: "{}".to_owned(),
        })
        .collect();
    world.store.add_shadow(&scores).await.unwrap();
    let retention = Retention { age_max: None, bytes_max: Some(1) };
    let deleted = world.store.retain(retention, NEW_YEAR_MS + 2 * DAY_MS).await.unwrap();
    assert_eq!(deleted, Deleted { records: 3, feedback: 3 });
    assert_eq!(partitions(&world).await, BTreeSet::from([format!("traffic_day_{}", first + 2)]));
    let left = world.store.shadow_page(&ShadowSelection::default(), None, 10).await.unwrap();
    assert_eq!(left, scores[2..3]);
}

async fn partitions(world: &World) -> BTreeSet<String> {
    let mut connection = connect(&world.config).await;
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT CAST(relid AS TEXT) FROM (SELECT CAST(relid AS TEXT) AS relid FROM pg_partition_tree('traffic') \
         WHERE isleaf) AS leaves",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    names.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_may_start_and_begin_a_day_at_once() {
    let config = crate::support::postgres::shared_database().await;
    let replicas: Vec<_> = (0..8)
        .map(|number| {
            let config = config.clone();
            tokio::spawn(async move {
                let store = open_store(&config).await;
                for day in 0..4 {
                    let records: Vec<_> = (0..20)
                        .map(|place| record(NEW_YEAR_MS + day * DAY_MS, number * 10 + place))
                        .collect();
                    store.write(&records).await?;
                }
                Ok::<(), StoreError>(())
            })
        })
        .collect();
    for replica in replicas {
        replica.await.unwrap().unwrap();
    }
    let store = Store::open_existing(&config).await.unwrap();
    assert_eq!(store.holdings().await.unwrap().records, 4 * 90);
}

#[tokio::test]
async fn a_day_that_another_replica_dropped_is_made_again() {
    let world = World::postgres().await;
    let other = Store::open(&world.config).await.unwrap();
    world.store.write(&[record(NEW_YEAR_MS, 1)]).await.unwrap();
    let retention = Retention { age_max: Some(Duration::ZERO), bytes_max: None };
    assert_eq!(other.retain(retention, NEW_YEAR_MS + DAY_MS).await.unwrap().records, 1);
    assert_eq!(world.store.write(&[record(NEW_YEAR_MS, 2)]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_server_that_crashed_is_found_again() {
    let mut server = Postgres::start().await;
    let config = server.database().await;
    let store = Store::open(&config).await.unwrap();
    let records: Vec<_> = (0..3).map(|place| record(NEW_YEAR_MS, place)).collect();
    store.write(&records[..1]).await.unwrap();
    for (stop, next) in [(Stop::Immediate, 1), (Stop::Fast, 2)] {
        server.stop(stop);
        let said = feedback(&format!("f{next}"), records[0].decision_id);
        for error in [
            store.write(&records).await.map(drop).unwrap_err(),
            store.add_feedback(&[said], 1).await.map(drop).unwrap_err(),
            store.page(&Selection::default(), None, 1).await.map(drop).unwrap_err(),
            Store::open(&config).await.map(drop).unwrap_err(),
        ] {
            match &error {
                StoreError::Down { store, problem } => {
                    assert!(store.contains("PostgreSQL 127.0.0.1:") && store.contains("/test_"), "{store}");
                    assert!(!problem.contains("sslmode"), "{problem}");
                }
                other => panic!("{other:?}"),
            }
        }
        server.resume().await;
        until("the store to be back", async || store.write(&records[..=next]).await.is_ok()).await;
        assert_eq!(all(&store, &Selection::default(), 10).await.len(), next + 1);
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_yet_is_down() {
    let StoreConfig::Postgres { url, .. } = crate::support::postgres::shared_database().await else {
        panic!()
    };
    let url = url.expose_secret().replace("/test_", "/missing_").replace("pointsman@", "pointsman:hush@");
    let config = StoreConfig::Postgres { url: url.into(), connections_max: 1 };
    until("the server to say so", async || match Store::open(&config).await {
        Err(error @ StoreError::Down { .. }) => {
            let text = format!("{error} {error:?}");
            assert!(!text.contains("hush"), "{text}");
            // A server that is busy may also not answer in time.
            text.contains("does not exist")
        }
        other => panic!("{other:?}"),
    })
    .await;
}

#[tokio::test]
async fn a_connection_is_encrypted_where_its_address_says_so() {
    let mut server = Postgres::start().await;
    let plain = server.database().await;
    let StoreConfig::Postgres { url, .. } = &plain else { panic!() };
    let with = |mode: &str| {
        let url = url.expose_secret().replace("sslmode=disable", mode);
        StoreConfig::Postgres { url: url.into(), connections_max: 1 }
    };
    match Store::open(&with("sslmode=require")).await {
        Err(StoreError::Down { problem, .. }) => assert!(problem.contains("TLS"), "{problem}"),
        other => panic!("{other:?}"),
    }

    server.stop(Stop::Fast);
    let signed = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = signed.cert.pem();
    server.configure(
        "ssl = on\n",
        &[("server.crt", &certificate), ("server.key", &signed.signing_key.serialize_pem())],
    );
    server.resume().await;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root.pem");
    fs::write(&root, certificate).unwrap();
    let known = with(&format!("sslmode=verify-full&sslrootcert={}", root.display()));
    let mut opened = None;
    until("a server that was just started to answer in time", async || {
        opened = Store::open(&known).await.ok();
        opened.is_some()
    })
    .await;
    let store = opened.unwrap();
    store.write(&[record(NEW_YEAR_MS, 1)]).await.unwrap();
    store.listen().await.unwrap().unwrap().check().await.unwrap();
    Store::open(&with("sslmode=require")).await.unwrap();
    match Store::open(&with("sslmode=verify-full")).await {
        Err(StoreError::Down { .. }) => {}
        other => panic!("an unknown certificate is taken: {other:?}"),
    }
}
