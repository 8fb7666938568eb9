//! What is deleted, by name or by age, and what stays.

use std::time::Duration;

use pointsman::{
    config::{Retention, StoreConfig},
    traffic::{
        record::Record,
        store::{Deleted, Landed, Selection, Whose},
    },
};

use super::{World, all};
use crate::support::traffic::{DAY_MS, NEW_YEAR_MS, both_stores, decision_id, feedback, record};

both_stores![
    a_tenant_is_deleted,
    a_session_is_deleted,
    what_is_too_old_goes,
    a_clock_that_was_set_back_deletes_nothing,
    what_does_not_fit_goes_oldest_first,
    unknown_feedback_goes_after_a_day,
    feedback_that_waited_in_a_spool_waits_for_its_record,
    feedback_that_a_deletion_missed_goes,
];

pub const DAY: Duration = Duration::from_secs(86_400);

/// Three days, on each one record of acme's session, one of another session of its, one of globex' session.
pub async fn three_by_three(world: &World) -> Vec<Record> {
    let mut records = Vec::new();
    for day in 0..3 {
        for (number, (tenant, session)) in (0..).zip([("acme", "s"), ("acme", ""), ("globex", "s")]) {
            let mut record = record(NEW_YEAR_MS + day * DAY_MS, number);
            record.request.tenant = tenant.to_owned();
            record.request.session = session.to_owned();
            records.push(record);
        }
    }
    world.store.write(&records).await.unwrap();
    let said: Vec<_> = (0..)
        .zip(&records)
        .map(|(place, record)| feedback(&format!("f{place}"), record.decision_id))
        .collect();
    world.store.add_feedback(&said, 0).await.unwrap();
    records
}

async fn left(world: &World) -> Vec<(String, String)> {
    let left = all(&world.store, &Selection::default(), 100).await;
    assert!(left.iter().all(|logged| logged.feedback.len() == 1), "what is left keeps its feedback");
    assert_eq!(
        world.store.holdings().await.unwrap().feedback,
        left.len() as u64,
        "what went took its feedback"
    );
    left.into_iter().map(|logged| (logged.record.request.tenant, logged.record.request.session)).collect()
}

async fn a_tenant_is_deleted(world: World) {
    three_by_three(&world).await;
    let whose = Whose::Tenant("acme".to_owned());
    assert_eq!(
        world.store.delete(std::slice::from_ref(&whose)).await.unwrap(),
        Deleted { records: 6, feedback: 6 }
    );
    assert_eq!(left(&world).await, vec![("globex".to_owned(), "s".to_owned()); 3]);
    assert_eq!(world.store.delete(std::slice::from_ref(&whose)).await.unwrap(), Deleted::default());
    // More than one batch.
    let records: Vec<_> = (100..1_300).map(|place| record(NEW_YEAR_MS, place)).collect();
    world.store.write(&records).await.unwrap();
    assert_eq!(
        world.store.delete(std::slice::from_ref(&whose)).await.unwrap(),
        Deleted { records: 1_200, feedback: 0 }
    );
    assert_eq!(left(&world).await.len(), 3);
}

async fn a_session_is_deleted(world: World) {
    three_by_three(&world).await;
    let whose = |session: &str| Whose::Session { tenant: "acme".to_owned(), session: session.to_owned() };
    assert_eq!(world.store.delete(&[whose("")]).await.unwrap(), Deleted::default(), "no session is nobody's");
    assert_eq!(world.store.delete(&[whose("s")]).await.unwrap(), Deleted { records: 3, feedback: 3 });
    let left = left(&world).await;
    assert_eq!(left.len(), 6);
    assert!(!left.contains(&("acme".to_owned(), "s".to_owned())));
}

async fn what_is_too_old_goes(world: World) {
    let records = three_by_three(&world).await;
    let lost = [0, 2].map(|day| feedback(&format!("lost{day}"), decision_id(NEW_YEAR_MS, 99 + day)));
    world.store.add_feedback(&lost, 9).await.unwrap();
    // As if the second had come on the third day, and the first on the first.
    world
        .meddle(
            "UPDATE feedback SET at_ms = 1767225600000 WHERE feedback_id = 'lost0'; \
             UPDATE feedback SET at_ms = 1767225600000 + 2 * 86400000 WHERE feedback_id = 'lost2'",
        )
        .await;
    let retention = Retention { age_max: Some(DAY), bytes_max: None };
    // On the third day at noon all of the first one is older than a day, and half of the second.
    let noon_ms = NEW_YEAR_MS + 2 * DAY_MS + DAY_MS / 2;
    let deleted = world.store.retain(retention, noon_ms).await.unwrap();
    assert_eq!(deleted, Deleted { records: 3, feedback: 4 }, "three known and one that was never known");
    let read = all(&world.store, &Selection::default(), 100).await;
    assert_eq!(
        read.iter().map(|logged| &logged.record).collect::<Vec<_>>(),
        records[3..].iter().collect::<Vec<_>>()
    );
    assert!(read.iter().all(|logged| logged.feedback.len() == 1));
    assert_eq!(world.store.holdings().await.unwrap().unknown_feedback, 1);
    assert_eq!(world.store.retain(retention, noon_ms).await.unwrap(), Deleted::default());
    // What comes late for a day that is gone is taken, and goes next time.
    assert_eq!(world.store.write(&records[..3]).await.unwrap(), 3);
    assert_eq!(world.store.retain(retention, noon_ms).await.unwrap(), Deleted { records: 3, feedback: 0 });
    let everything = world.store.retain(retention, NEW_YEAR_MS + 40 * DAY_MS).await.unwrap();
    assert_eq!(everything, Deleted { records: 6, feedback: 7 });
    assert_eq!(world.store.holdings().await.unwrap().feedback, 0);
}

async fn a_clock_that_was_set_back_deletes_nothing(world: World) {
    three_by_three(&world).await;
    for now_ms in [NEW_YEAR_MS - 10 * DAY_MS, 0, -5, i64::MIN] {
        for age in [DAY, Duration::ZERO, Duration::MAX] {
            let retention = Retention { age_max: Some(age), bytes_max: Some(u64::MAX) };
            let deleted = world.store.retain(retention, now_ms).await.unwrap();
            assert_eq!(deleted, Deleted::default(), "at {now_ms}, {age:?}");
        }
    }
    let never = Retention { age_max: None, bytes_max: None };
    assert_eq!(world.store.retain(never, i64::MAX).await.unwrap(), Deleted::default());
}

async fn what_does_not_fit_goes_oldest_first(world: World) {
    let empty = world.store.holdings().await.unwrap().bytes;
    let mut records = Vec::new();
    for day in 0..4 {
        for number in 0..300 {
            let mut record = record(NEW_YEAR_MS + day * DAY_MS, number);
            record.request.text.messages[0].content = "x".repeat(1_500);
            records.push(record);
        }
    }
    world.store.write(&records).await.unwrap();
    let before = world.store.holdings().await.unwrap();
    let retention = Retention { age_max: None, bytes_max: Some(before.bytes / 2) };
    let deleted = world.store.retain(retention, NEW_YEAR_MS + 3 * DAY_MS).await.unwrap();
    let after = world.store.holdings().await.unwrap();
    assert!(after.bytes <= before.bytes / 2 + empty, "{before:?} {after:?}");
    assert!(after.records >= 300, "no more than was needed: {after:?}");
    assert_eq!(deleted.records + after.records, 1_200);
    let read = all(&world.store, &Selection::default(), 1_000).await;
    let kept = &records[1_200 - read.len()..];
    assert!(
        read.iter().map(|logged| logged.record.decision_id).eq(kept.iter().map(|record| record.decision_id))
    );
}

async fn unknown_feedback_goes_after_a_day(world: World) {
    let known = record(NEW_YEAR_MS, 0);
    world.store.write(std::slice::from_ref(&known)).await.unwrap();
    let said = [0, 1, 2].map(|place| feedback(&format!("f{place}"), decision_id(NEW_YEAR_MS, place)));
    world.store.add_feedback(&said, 2).await.unwrap();
    // As if it had come then, one a little later than the other.
    world
        .meddle(
            "UPDATE feedback SET at_ms = 1767225600000 WHERE feedback_id = 'f1'; \
             UPDATE feedback SET at_ms = 1767225600002 WHERE feedback_id = 'f2'",
        )
        .await;
    let never = Retention { age_max: None, bytes_max: None };
    let next = said[1].at_ms + DAY_MS;
    assert_eq!(world.store.retain(never, next).await.unwrap(), Deleted::default());
    assert_eq!(world.store.retain(never, next + 1).await.unwrap(), Deleted { records: 0, feedback: 1 });
    let more = feedback("f3", decision_id(NEW_YEAR_MS, 3));
    assert_eq!(world.store.add_feedback(&[more], 2).await.unwrap(), [Landed::Unknown], "there is room again");
    assert_eq!(world.store.holdings().await.unwrap().feedback, 3);
}

async fn feedback_that_waited_in_a_spool_waits_for_its_record(world: World) {
    // After an outage of days one replica's spool is replayed before another's, where the record is.
    let late = record(NEW_YEAR_MS, 1);
    let mut said = [1, 2].map(|place| feedback(&format!("f{place}"), late.decision_id));
    said[1].at_ms += 1;
    assert_eq!(world.store.add_feedback(&said[..1], 9).await.unwrap(), [Landed::Unknown]);
    let never = Retention { age_max: None, bytes_max: None };
    let soon_ms = world.store.now_ms().await.unwrap() + DAY_MS / 2;
    assert_eq!(world.store.retain(never, soon_ms).await.unwrap(), Deleted::default());
    world.store.write(std::slice::from_ref(&late)).await.unwrap();
    assert_eq!(world.store.add_feedback(&said[1..], 9).await.unwrap(), [Landed::Known]);
    let read = all(&world.store, &Selection::default(), 10).await;
    assert_eq!(read[0].feedback, said, "each says when it was received, and they stand in that order");
}

async fn feedback_that_a_deletion_missed_goes(world: World) {
    let records = three_by_three(&world).await;
    // As if it had come between the selection of its record and its end.
    world.meddle("UPDATE feedback SET decision_id = 'x' || decision_id WHERE feedback_id LIKE '%f0'").await;
    let whose = Whose::Tenant("acme".to_owned());
    let Deleted { records: gone, .. } = world.store.delete(std::slice::from_ref(&whose)).await.unwrap();
    assert_eq!(gone, 6);
    let left = world.store.holdings().await.unwrap();
    // A file has one writer at a time, so there nothing comes between.
    let missed = u64::from(matches!(world.config, StoreConfig::Sqlite { .. }));
    assert_eq!((left.records, left.feedback), (3, 3 + missed), "of {}", records.len());
}
