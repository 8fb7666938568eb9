//! What holds of either store.

use std::{collections::BTreeSet, time::Duration};

use pointsman::{
    config::Retention,
    traffic::{
        record::{Logged, Record, ShadowRecord},
        store::{Deleted, Holdings, Landed, Selection, Store, StoreError, fleet::ShadowRow},
    },
};
use proptest::prelude::*;
use uuid::Uuid;

use super::{
    World, all, cursor,
    deletion::{DAY, three_by_three},
};
use crate::support::traffic::{DAY_MS, NEW_YEAR_MS, both_stores, decision_id, feedback, record};

both_stores![
    records_come_back_as_they_were,
    pages_have_what_a_shadow_said,
    pages_follow_one_another_over_equal_times,
    a_selection_has_its_bounds,
    the_same_again_changes_nothing,
    feedback_lands_and_is_read_with_its_record,
    feedback_that_came_first_becomes_known,
    unknown_feedback_has_a_limit,
    tenants_are_found,
    more_than_one_batch,
    odd_texts_are_kept,
    a_flood_about_one_decision_is_not_all_read,
    two_write_the_same_at_once,
    a_race_between_replicas_is_mended,
    long_records_make_short_pages_and_short_batches,
    holdings_are_counted,
    a_newer_schema_is_refused,
    a_schema_is_made_once,
    a_broken_document_is_passed_over_and_counted_once,
];

async fn records_come_back_as_they_were(world: World) {
    let records = vec![record(NEW_YEAR_MS, 1), record(NEW_YEAR_MS + DAY_MS, 2)];
    assert_eq!(world.store.write(&records).await.unwrap(), 2);
    let read = all(&world.store, &Selection::default(), 10).await;
    let expected: Vec<Logged> =
        records.into_iter().map(|record| Logged { record, feedback: Vec::new(), shadow: None }).collect();
    assert_eq!(read, expected);
}

async fn pages_have_what_a_shadow_said(world: World) {
    let golden = include_str!("../../golden/traffic/shadow-v1-least.json");
    let score = |bundle: &str, day: i64, number: u64, document: &str| ShadowRow {
        decision_id: decision_id(NEW_YEAR_MS + day * DAY_MS, number),
        bundle: bundle.to_owned(),
        document: document.to_owned(),
    };
    let records: Vec<Record> =
        (0..3).flat_map(|day| (0..2).map(move |number| record(NEW_YEAR_MS + day * DAY_MS, number))).collect();
    world.store.write(&records).await.unwrap();
    let rows = [
        score("v1", 0, 0, golden),
        score("v2", 1, 1, golden),
        // Two of one decision: the last by name counts.
        score("v1", 1, 1, golden),
        // Neither keeps its record from being read.
        score("v1", 2, 0, "{\"version\":"),
        score("v1", 2, 7, golden),
    ];
    world.store.add_shadow(&rows).await.unwrap();
    for limit in [1, 4, 100] {
        let read = all(&world.store, &Selection::default(), limit).await;
        let said = |logged: &Logged| logged.shadow.as_ref().map(|shadow| shadow.bundle.to_string());
        let said: Vec<Option<String>> = read.iter().map(said).collect();
        assert_eq!(said, [Some("v1".to_owned()), None, None, Some("v2".to_owned()), None, None], "{limit}");
        let shadow = read[0].shadow.as_ref().unwrap();
        let golden: ShadowRecord = serde_json::from_str(golden).unwrap();
        assert_eq!((&shadow.score, &*shadow.score.target), (&golden, "simple-target"));
    }
    assert_eq!(world.store.unreadable(), 1);
}

async fn pages_follow_one_another_over_equal_times(world: World) {
    let at_ms = |place: u64| NEW_YEAR_MS + i64::try_from(place / 5).unwrap() * (DAY_MS / 2);
    let mut records: Vec<_> = (0..23).map(|place| record(at_ms(place), place)).collect();
    let expected: Vec<Uuid> = records.iter().map(|record| record.decision_id).collect();
    records.reverse();
    world.store.write(&records).await.unwrap();
    for limit in [1, 2, 7, 23, 100] {
        let read = all(&world.store, &Selection::default(), limit).await;
        let ids: Vec<Uuid> = read.iter().map(|logged| logged.record.decision_id).collect();
        assert_eq!(ids, expected, "{limit} at a time");
    }
    assert!(world.store.page(&Selection::default(), None, 0).await.unwrap().is_empty());
}

async fn a_selection_has_its_bounds(world: World) {
    let mut other = record(NEW_YEAR_MS + 1, 9);
    other.request.tenant = "globex".to_owned();
    let days = [0, 1, 2].map(|day| record(NEW_YEAR_MS + day * DAY_MS, 1));
    world.store.write(&[days.to_vec(), vec![other]].concat()).await.unwrap();
    let check = async |from_ms, until_ms, tenant: Option<&str>, expected: usize| {
        let selection = Selection { from_ms, until_ms, tenant: tenant.map(str::to_owned) };
        for limit in [1, 10] {
            assert_eq!(all(&world.store, &selection, limit).await.len(), expected, "{selection:?}");
        }
    };
    check(None, None, None, 4).await;
    check(None, None, Some("acme"), 3).await;
    check(None, None, Some("nobody"), 0).await;
    check(Some(NEW_YEAR_MS), Some(NEW_YEAR_MS + 1), None, 1).await;
    check(Some(NEW_YEAR_MS + 1), Some(NEW_YEAR_MS + DAY_MS), None, 1).await;
    check(Some(NEW_YEAR_MS + 1), Some(NEW_YEAR_MS + DAY_MS + 1), Some("acme"), 1).await;
    check(Some(NEW_YEAR_MS), Some(NEW_YEAR_MS), None, 0).await;
    check(Some(NEW_YEAR_MS + DAY_MS), Some(NEW_YEAR_MS), None, 0).await;
    check(Some(i64::MIN), Some(i64::MAX), None, 4).await;
    check(Some(i64::MAX), None, None, 0).await;
    check(None, Some(i64::MIN), None, 0).await;
}

async fn the_same_again_changes_nothing(world: World) {
    let records = [record(NEW_YEAR_MS, 1), record(NEW_YEAR_MS, 2)];
    assert_eq!(world.store.write(&records[..1]).await.unwrap(), 1);
    let mut changed = records.clone();
    changed[0].request.language = "xx".to_owned();
    assert_eq!(world.store.write(&[changed, records.clone()].concat()).await.unwrap(), 1);
    let read = all(&world.store, &Selection::default(), 10).await;
    assert_eq!(
        read.iter().map(|logged| &logged.record).collect::<Vec<_>>(),
        records.iter().collect::<Vec<_>>()
    );

    let thumb = feedback("f", records[0].decision_id);
    assert_eq!(world.store.add_feedback(std::slice::from_ref(&thumb), 0).await.unwrap(), [Landed::Known]);
    assert_eq!(
        world.store.add_feedback(&[thumb.clone(), thumb], 0).await.unwrap(),
        [Landed::Duplicate, Landed::Duplicate]
    );
    assert_eq!(world.store.write(&[]).await.unwrap(), 0);
    assert!(world.store.add_feedback(&[], 0).await.unwrap().is_empty());
}

async fn feedback_lands_and_is_read_with_its_record(world: World) {
    let records = [record(NEW_YEAR_MS, 1), record(NEW_YEAR_MS, 2)];
    world.store.write(&records).await.unwrap();
    let mut said = [1, 0].map(|place| feedback(&format!("f{place}"), records[0].decision_id));
    said[0].at_ms += 1;
    said[0].comment = Some("no".to_owned());
    let nowhere = feedback("lost", decision_id(NEW_YEAR_MS, 77));
    let landed = world.store.add_feedback(&[said[0].clone(), nowhere, said[1].clone()], 1).await.unwrap();
    assert_eq!(landed, [Landed::Known, Landed::Unknown, Landed::Known]);
    said.reverse();
    let read = all(&world.store, &Selection::default(), 10).await;
    assert_eq!(read[0].feedback, said, "oldest first");
    assert!(read[1].feedback.is_empty());
}

async fn feedback_that_came_first_becomes_known(world: World) {
    let records = [record(NEW_YEAR_MS, 1), record(NEW_YEAR_MS, 2)];
    let said = [1, 2, 3].map(|place| feedback(&format!("f{place}"), decision_id(NEW_YEAR_MS, place)));
    assert_eq!(world.store.add_feedback(&said, 10).await.unwrap(), [Landed::Unknown; 3]);
    assert_eq!(world.store.holdings().await.unwrap().unknown_feedback, 3);
    world.store.write(&records).await.unwrap();
    assert_eq!(world.store.holdings().await.unwrap().unknown_feedback, 1);
    assert_eq!(world.store.adopt().await.unwrap(), 0, "there was no race");
    let read = all(&world.store, &Selection::default(), 10).await;
    assert!(read.iter().all(|logged| logged.feedback.len() == 1));
}

async fn unknown_feedback_has_a_limit(world: World) {
    let known = record(NEW_YEAR_MS, 0);
    world.store.write(std::slice::from_ref(&known)).await.unwrap();
    let say = |place: u64| feedback(&format!("f{place}"), decision_id(NEW_YEAR_MS, place));
    let landed = world.store.add_feedback(&[say(1), say(1), say(2), say(3), say(0)], 2).await.unwrap();
    assert_eq!(landed, [Landed::Unknown, Landed::Duplicate, Landed::Unknown, Landed::Full, Landed::Known]);
    let landed = world.store.add_feedback(&[say(1), say(3)], 2).await.unwrap();
    assert_eq!(landed, [Landed::Duplicate, Landed::Full], "what is there needs no room");
    // Its record makes room for another.
    world.store.write(&[record(NEW_YEAR_MS, 1)]).await.unwrap();
    assert_eq!(world.store.add_feedback(&[say(3)], 2).await.unwrap(), [Landed::Unknown]);
}

async fn tenants_are_found(world: World) {
    let mut other = record(NEW_YEAR_MS + DAY_MS, 2);
    other.request.tenant = String::new();
    world.store.write(&[record(NEW_YEAR_MS, 1), other.clone()]).await.unwrap();
    let asked = [other.decision_id, decision_id(NEW_YEAR_MS, 3), decision_id(NEW_YEAR_MS, 1)];
    let tenants = world.store.tenants_of(&asked).await.unwrap();
    assert_eq!(tenants, [Some(String::new()), None, Some("acme".to_owned())]);
    assert!(world.store.tenants_of(&[]).await.unwrap().is_empty());
}

async fn more_than_one_batch(world: World) {
    let records: Vec<_> = (0..1_203).map(|place| record(NEW_YEAR_MS, place)).collect();
    assert_eq!(world.store.write(&records).await.unwrap(), 1_203);
    let said: Vec<_> =
        (0..1_203).map(|place| feedback(&format!("f{place}"), decision_id(NEW_YEAR_MS, place))).collect();
    let landed = world.store.add_feedback(&said, 0).await.unwrap();
    assert_eq!(landed, vec![Landed::Known; 1_203]);
    let ids: Vec<Uuid> = records.iter().map(|record| record.decision_id).collect();
    let tenants = world.store.tenants_of(&ids).await.unwrap();
    assert!(tenants.iter().all(|tenant| tenant.as_deref() == Some("acme")));
    let page = world.store.page(&Selection::default(), None, 5_000).await.unwrap();
    assert_eq!(page.len(), 1_000, "a page has its limit");
    assert!(page.iter().all(|logged| logged.feedback.len() == 1));
    let after = Some(cursor(&page[999].record));
    assert_eq!(world.store.page(&Selection::default(), after, 5_000).await.unwrap().len(), 203);
}

/// NUL, which PostgreSQL does not take in a text, a megabyte, quotes, and what looks like a place of a statement.
async fn odd_texts_are_kept(world: World) {
    let odd = ["a\0b", "'; DROP TABLE traffic; --", "$1 ?1 \\ \" ü 🚂 \u{feff} \u{7f}", ""];
    let records: Vec<_> = (0..)
        .zip(odd)
        .map(|(place, text)| {
            let mut record = record(NEW_YEAR_MS, place);
            record.request.tenant = text.to_owned();
            record.request.session = text.to_owned();
            record.request.text.messages[0].content = text.to_owned();
            record.decision.intent = Some(text.into());
            record
        })
        .collect();
    world.store.write(&records).await.unwrap();
    let mut said = feedback("f\0", records[0].decision_id);
    said.comment = Some("x".repeat(1 << 20));
    said.demonstration = Some(odd.concat());
    assert_eq!(world.store.add_feedback(&[said.clone()], 0).await.unwrap(), [Landed::Known]);
    assert_eq!(world.store.add_feedback(&[said.clone()], 0).await.unwrap(), [Landed::Duplicate]);
    for (place, text) in odd.into_iter().enumerate() {
        let selection = Selection { tenant: Some(text.to_owned()), ..Selection::default() };
        let read = all(&world.store, &selection, 10).await;
        assert_eq!(read.len(), 1, "{text:?}");
        assert_eq!(read[0].record, records[place]);
        assert_eq!(read[0].feedback, if place == 0 { vec![said.clone()] } else { Vec::new() });
    }
}

async fn a_flood_about_one_decision_is_not_all_read(world: World) {
    world.store.write(&[record(NEW_YEAR_MS, 1)]).await.unwrap();
    let mut said: Vec<_> =
        (0..1_000).map(|place| feedback(&format!("f{place:03}"), decision_id(NEW_YEAR_MS, 1))).collect();
    for (place, one) in (0..).zip(&mut said) {
        one.at_ms += place;
    }
    world.store.add_feedback(&said, 0).await.unwrap();
    let read = all(&world.store, &Selection::default(), 10).await;
    assert_eq!(read[0].feedback, said[900..], "the latest");
}

async fn two_write_the_same_at_once(world: World) {
    let other = Store::open(&world.config).await.unwrap();
    let records: Vec<_> = (0..2_000).map(|place| record(NEW_YEAR_MS, place)).collect();
    let said: Vec<_> =
        (0..500).map(|place| feedback(&format!("f{place}"), decision_id(NEW_YEAR_MS, place))).collect();
    let run = async |store: &Store| {
        let mut new = 0;
        let mut landed = Vec::new();
        for (records, said) in records.chunks(400).zip(said.chunks(100)) {
            landed.extend(store.add_feedback(said, 10_000).await.unwrap());
            new += store.write(records).await.unwrap();
        }
        (new, landed)
    };
    let ((new_here, here), (new_there, there)) = tokio::join!(run(&world.store), run(&other));
    assert_eq!(new_here + new_there, 2_000);
    for (here, there) in here.iter().zip(&there) {
        assert!((*here == Landed::Duplicate) != (*there == Landed::Duplicate), "{here:?} and {there:?}");
    }
    world.store.adopt().await.unwrap();
    let read = all(&world.store, &Selection::default(), 700).await;
    let ids: BTreeSet<Uuid> = read.iter().map(|logged| logged.record.decision_id).collect();
    assert_eq!((read.len(), ids.len()), (2_000, 2_000));
    assert_eq!(read.iter().map(|logged| logged.feedback.len()).sum::<usize>(), 500);
    assert_eq!(world.store.holdings().await.unwrap().unknown_feedback, 0);
}

async fn a_race_between_replicas_is_mended(world: World) {
    world.store.write(&[record(NEW_YEAR_MS, 1)]).await.unwrap();
    let said = [1, 2].map(|place| feedback(&format!("f{place}"), decision_id(NEW_YEAR_MS, place)));
    assert_eq!(world.store.add_feedback(&said, 9).await.unwrap(), [Landed::Known, Landed::Unknown]);
    // As if the record had been committed between the question for it and the feedback.
    world.meddle("UPDATE feedback SET known = 0").await;
    assert_eq!(world.store.adopt().await.unwrap(), 1);
    assert_eq!(world.store.holdings().await.unwrap().unknown_feedback, 1);
}

async fn long_records_make_short_pages_and_short_batches(world: World) {
    let mut records: Vec<_> = (0..9).map(|place| record(NEW_YEAR_MS, place)).collect();
    for record in &mut records {
        record.request.text.messages[0].content = "x".repeat(5 << 20);
    }
    world.store.write(&records).await.unwrap();
    let page = world.store.page(&Selection::default(), None, 100).await.unwrap();
    assert_eq!(page.len(), 7, "as many as reach 32 MB");
    let ids: Vec<Uuid> = all(&world.store, &Selection::default(), 100)
        .await
        .iter()
        .map(|logged| logged.record.decision_id)
        .collect();
    assert!(ids.iter().eq(records.iter().map(|record| &record.decision_id)));
    let retention = Retention { age_max: Some(DAY), bytes_max: None };
    let deleted = world.store.retain(retention, NEW_YEAR_MS + 3 * DAY_MS).await.unwrap();
    assert_eq!(deleted, Deleted { records: 9, feedback: 0 }, "one at a time");
}

async fn holdings_are_counted(world: World) {
    let empty = world.store.holdings().await.unwrap();
    assert!(empty.bytes > 0);
    assert_eq!(empty, Holdings { bytes: empty.bytes, ..Holdings::default() });
    three_by_three(&world).await;
    world.store.add_feedback(&[feedback("lost", decision_id(NEW_YEAR_MS, 99))], 1).await.unwrap();
    let full = world.store.holdings().await.unwrap();
    let expected = Holdings {
        records: 9,
        feedback: 10,
        unknown_feedback: 1,
        bytes: full.bytes,
        oldest_ms: Some(NEW_YEAR_MS),
        newest_ms: Some(NEW_YEAR_MS + 2 * DAY_MS),
    };
    assert_eq!(full, expected);
}

async fn a_newer_schema_is_refused(world: World) {
    world
        .meddle(
            "INSERT INTO pointsman_migrations (version, description, success, checksum, execution_time) \
             VALUES (99, 'later', TRUE, 'x', 0)",
        )
        .await;
    for opened in [
        Store::open(&world.config).await.map(drop),
        Store::open_existing(&world.config).await.map(drop),
        Store::migrate(&world.config).await.map(drop),
    ] {
        match opened {
            Err(StoreError::Refused { problem, .. }) => {
                assert!(problem.contains("newer pointsman"), "{problem}");
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn a_schema_is_made_once(world: World) {
    assert_eq!(Store::migrate(&world.config).await.unwrap(), [0_i64; 0]);
    let existing = Store::open_existing(&world.config).await.unwrap();
    existing.write(&[record(NEW_YEAR_MS, 1)]).await.unwrap();
    existing.close(Duration::from_secs(5)).await;
    match existing.holdings().await {
        Err(StoreError::Down { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(world.store.holdings().await.unwrap().records, 1);
}

async fn a_broken_document_is_passed_over_and_counted_once(world: World) {
    let records: Vec<Record> = (0..5).map(|number| record(NEW_YEAR_MS + number, number as u64)).collect();
    world.store.write(&records).await.unwrap();
    // More broken ones in a row than a page takes, and one at the end.
    world
        .meddle(
            r#"UPDATE traffic SET document = '{"version": "a secret text"}'
               WHERE decision_id NOT IN (SELECT decision_id FROM traffic ORDER BY decision_id LIMIT 1 OFFSET 3)"#,
        )
        .await;
    let mut after = None;
    let mut found = Vec::new();
    loop {
        let page = world.store.page(&Selection::default(), after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(cursor(&last.record));
        found.extend(page.iter().map(|logged| logged.record.at_ms));
    }
    assert_eq!((found, world.store.unreadable()), (vec![NEW_YEAR_MS + 3], 4));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is selected is what a list of records would give.
    #[test]
    fn a_page_is_what_a_list_would_give(
        times in proptest::collection::vec(0_i64..4, 0..40),
        from in proptest::option::of(-1_i64..5),
        until in proptest::option::of(-1_i64..5),
        limit in 1_usize..9,
    ) {
        let at_ms = |time: i64| NEW_YEAR_MS + time * (DAY_MS / 3);
        let records: Vec<_> = (0..).zip(&times).map(|(place, &time)| record(at_ms(time), place)).collect();
        let selection = Selection { from_ms: from.map(at_ms), until_ms: until.map(at_ms), tenant: None };
        let mut expected: Vec<Uuid> = records
            .iter()
            .filter(|record| selection.from_ms.is_none_or(|from| record.at_ms >= from))
            .filter(|record| selection.until_ms.is_none_or(|until| record.at_ms < until))
            .map(|record| record.decision_id)
            .collect();
        expected.sort();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let read = runtime.block_on(async {
            let world = World::sqlite().await;
            world.store.write(&records).await.unwrap();
            all(&world.store, &selection, limit).await
        });
        let ids: Vec<Uuid> = read.iter().map(|logged| logged.record.decision_id).collect();
        prop_assert_eq!(ids, expected);
    }
}
