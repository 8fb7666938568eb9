//! A store that refuses what it is given: one bad record holds up no other, and none is tried for ever.

use std::time::Duration;

use sqlx::{ConnectOptions, Connection, sqlite::SqliteConnectOptions};
use uuid::Uuid;

use super::{super::REFUSED_WHOLE_MAX, Mode, World, feedback, until};
use crate::traffic::{feedback::Feedback, store::Landed};

#[tokio::test]
async fn a_record_that_is_refused_holds_up_no_other() {
    let world = World::start(Mode::Fine, |config| config.flush = Duration::from_secs(3600));
    let ids: Vec<Uuid> = (0..5).map(|_| world.decide("hello")).collect();
    world.store.script(|script| script.refused.insert(ids[2]));
    let last = world.traffic.feedback(feedback(ids[4], "fine")).await.unwrap();
    assert_eq!(last, Landed::Known);
    let status = world.traffic.status();
    assert_eq!((status.written, status.dropped), (4, 1));
}

#[tokio::test]
async fn a_lone_record_is_given_up_only_by_a_store_that_was_opened_again() {
    let world = World::start(Mode::Fine, |config| config.flush = Duration::from_secs(3600));
    let id = world.decide("hello");
    world.store.script(|script| script.refused.insert(id));
    assert_eq!(world.traffic.feedback(feedback(Uuid::now_v7(), "fine")).await.unwrap(), Landed::Spooled);
    until("the drop", || world.traffic.status().dropped == 1).await;
    until("feedback", || world.store.script(|script| script.feedback.len() == 1)).await;
    assert_eq!(world.store.script(|script| script.opened), 2);
}

#[tokio::test]
async fn a_store_that_refuses_everything_is_down() {
    let world = World::start(Mode::Fine, |config| config.flush = Duration::from_secs(3600));
    let ids: Vec<Uuid> = (0..5).map(|_| world.decide("hello")).collect();
    world.store.script(|script| script.refused.extend(&ids));
    assert_eq!(world.traffic.feedback(feedback(ids[4], "fine")).await.unwrap(), Landed::Spooled);
    world.store.script(|script| script.refused.clear());
    world.stored(ids[0]).await;
    world.spooled(0).await;
    assert_eq!(world.traffic.status().dropped, 0);
}

#[tokio::test]
async fn a_batch_that_is_refused_again_and_again_is_given_up_and_feedback_is_left_aside() {
    let world = World::start(Mode::Down, |_| {});
    let ids: Vec<Uuid> = (0..3).map(|_| world.decide("hello")).collect();
    world.spooled(3).await;
    let given: Vec<Feedback> = ["one", "two"].map(|name| feedback(ids[0], name)).into();
    for one in &given {
        world.traffic.feedback(one.clone()).await.unwrap();
    }
    world.store.script(|script| {
        script.refused.extend(&ids);
        script.refuses_feedback = true;
        script.mode = Mode::Fine;
    });
    world.spooled(0).await;
    until("all counted", || world.traffic.status().dropped == 5).await;
    assert_eq!(world.store.script(|script| script.opened), 1 + REFUSED_WHOLE_MAX as usize);
    let aside = std::fs::read_to_string(world.spool().join("refused-feedback.jsonl")).unwrap();
    let names: Vec<String> =
        aside.lines().map(|line| serde_json::from_str::<Feedback>(line).unwrap().feedback_id).collect();
    assert!(names.iter().eq(given.iter().map(|one| &one.feedback_id)), "{names:?}");
    world.store.script(|script| script.refuses_feedback = false);
    let next = world.decide("hello");
    world.stored(next).await;
}

#[tokio::test]
async fn what_cannot_be_removed_from_the_spool_is_left_aside_and_counted_once() {
    let world = World::start(Mode::Down, |_| {});
    let id = world.decide("hello");
    world.traffic.feedback(feedback(id, "fine")).await.unwrap();
    world.spooled(2).await;
    let file = std::fs::read_dir(world.spool()).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| path.extension().is_some_and(|end| end == "sqlite")).unwrap();
    let meddle = async |text: &'static str| {
        let mut connection = SqliteConnectOptions::new().filename(&file).connect().await.unwrap();
        sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    };
    meddle("CREATE TRIGGER stays BEFORE DELETE ON spool BEGIN SELECT RAISE(ABORT, 'it stays'); END").await;
    world.store.script(|script| {
        script.refused.insert(id);
        script.refuses_feedback = true;
        script.mode = Mode::Fine;
    });
    let aside = world.spool().join("refused-feedback.jsonl");
    until("feedback to be left aside", || aside.exists()).await;
    // Each try asks the store for the record.
    until("another try", || world.store.script(|script| script.refusals > 2)).await;
    assert_eq!(world.traffic.status().dropped, 0, "it may still be taken");
    meddle("DROP TRIGGER stays").await;
    world.spooled(0).await;
    until("all counted", || world.traffic.status().dropped == 2).await;
    assert_eq!(std::fs::read_to_string(aside).unwrap().lines().count(), 1);
}
