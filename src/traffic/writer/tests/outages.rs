//! A store that is down, silent or broken: what was acknowledged is spooled and replayed, once.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{Mode, World, feedback, names, until};
use crate::traffic::{FeedbackError, store::Landed};

#[tokio::test]
async fn what_comes_while_the_store_is_down_is_spooled_and_replayed() {
    for mode in [Mode::Down, Mode::Full] {
        let world = World::start(mode, |_| {});
        let ids: Vec<Uuid> = (0..3).map(|_| world.decide("hello")).collect();
        world.spooled(3).await;
        // However often it is sent.
        for _ in 0..2 {
            assert_eq!(world.traffic.feedback(feedback(ids[0], "fine")).await.unwrap(), Landed::Spooled);
        }
        world.spooled(5).await;
        world.store.become_(Mode::Fine);
        world.spooled(0).await;
        world.store.script(|script| {
            assert_eq!(script.records.keys().copied().collect::<Vec<_>>(), ids);
            assert_eq!(script.feedback.len(), 1);
        });
        let status = world.traffic.status();
        assert!(status.store_up && status.written == 3 && status.dropped == 0, "{status:?}");
        let next = world.decide("again");
        world.stored(next).await;
        assert_eq!(world.traffic.feedback(feedback(ids[1], "fine")).await.unwrap(), Landed::Known);
        assert_eq!(names(&world.spool()), [""; 0]);
    }
}

#[tokio::test]
async fn a_silent_store_counts_as_down_and_what_it_took_is_not_doubled() {
    let world = World::start(Mode::Fine, |_| {});
    let first = world.decide("hello");
    world.stored(first).await;
    world.store.become_(Mode::Silent);
    let second = world.decide("hello");
    let given = feedback(second, "fine");
    let landed = world.traffic.feedback(given.clone()).await.unwrap();
    assert_eq!(landed, Landed::Spooled);
    world.store.become_(Mode::Fine);
    until("the feedback", || world.store.script(|script| !script.feedback.is_empty())).await;
    world.spooled(0).await;
    assert_eq!(world.store.script(|script| (script.records.len(), script.feedback.len())), (2, 1));
    assert_eq!(world.traffic.feedback(given).await.unwrap(), Landed::Duplicate);
}

#[tokio::test]
async fn a_silent_store_is_given_up_before_the_queue_is_full() {
    let mut fastest = Duration::MAX;
    // The system may not let the writer run in time.
    for _ in 0..3 {
        let world = World::start(Mode::Fine, |config| config.queue_max = 100);
        let first = world.decide("hello");
        until("the answer about the first", || world.traffic.status().written == 1).await;
        world.store.become_(Mode::Silent);
        let began = Instant::now();
        // Two thirds of what may wait; a store is waited for longer where nothing is in danger.
        let ids: Vec<Uuid> = (0..66).map(|_| world.decide("hello")).collect();
        world.spooled(66).await;
        fastest = fastest.min(began.elapsed());
        let more: Vec<Uuid> = (0..66).map(|_| world.decide("hello")).collect();
        world.spooled(132).await;
        assert_eq!(world.traffic.status().dropped, 0);
        world.store.become_(Mode::Fine);
        world.spooled(0).await;
        let all: BTreeSet<Uuid> = [first].into_iter().chain(ids).chain(more).collect();
        assert!(world.store.script(|script| script.records.keys().eq(&all)));
        if fastest < super::STORE_MAX {
            break;
        }
    }
    assert!(fastest >= super::CROWDED_AFTER && fastest < super::STORE_MAX, "{fastest:?}");
}

#[tokio::test]
async fn a_store_that_is_too_slow_for_a_batch_of_the_spool_gets_smaller_ones() {
    let world = World::start(Mode::Down, |_| {});
    let ids: Vec<Uuid> = (0..100).map(|_| world.decide("hello")).collect();
    world.spooled(100).await;
    // All at once take longer than the store is waited for, a half of them does not.
    world.store.become_(Mode::Slow(super::STORE_MAX.mul_f64(1.2) / 100));
    world.spooled(0).await;
    world.store.script(|script| {
        assert!(script.records.keys().eq(&ids));
        assert!(script.batches.iter().all(|batch| *batch <= 50), "{:?}", script.batches);
    });
    assert_eq!(world.traffic.status().dropped, 0);
}

#[tokio::test]
async fn a_broken_store_is_moved_aside_and_the_batch_is_in_the_new_one() {
    let world = World::start(Mode::Fine, |_| {});
    let first = world.decide("hello");
    world.stored(first).await;
    world.store.become_(Mode::Corrupt);
    let second = world.decide("hello");
    world.stored(second).await;
    world.store.script(|script| {
        assert_eq!((script.moved_aside, script.closed), (1, 1));
        assert_eq!(script.records.keys().copied().collect::<Vec<_>>(), [second]);
    });
    world.spooled(0).await;

    let world = World::start(Mode::Corrupt, |_| {});
    let id = world.decide("hello");
    world.stored(id).await;
    assert_eq!(world.store.script(|script| script.moved_aside), 1);
}

#[tokio::test]
async fn a_full_spool_drops_records_and_refuses_feedback() {
    let world = World::start(Mode::Down, |config| config.spool.bytes_max = 5_000);
    let decided: Vec<Uuid> = (0..20).map(|_| world.decide("hello")).collect();
    let last = decided[19];
    until("drops", || world.traffic.status().dropped > 0).await;
    let mut refused = false;
    for at in 0..50 {
        match world.traffic.feedback(feedback(last, &at.to_string())).await {
            Ok(landed) => assert_eq!(landed, Landed::Spooled),
            Err(FeedbackError::Unavailable(_)) => refused = true,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused);
}

#[tokio::test]
async fn without_a_place_for_the_spool_feedback_is_refused() {
    let world = World::start(Mode::Down, |config| config.spool.folder = PathBuf::from("/dev/null/spool"));
    let id = world.decide("hello");
    let refused = world.traffic.feedback(feedback(id, "fine")).await;
    assert!(matches!(refused, Err(FeedbackError::Unavailable(_))), "{refused:?}");
    until("drops", || world.traffic.status().dropped == 1).await;
}

#[tokio::test]
async fn the_next_process_replays_what_this_one_spooled() {
    let world = World::start(Mode::Down, |_| {});
    let id = world.decide("hello");
    world.traffic.feedback(feedback(id, "fine")).await.unwrap();
    world.traffic.stop().await;
    let World { store, folder, .. } = world;
    store.become_(Mode::Fine);
    let next = World::start_in(folder, store, |_| {});
    next.stored(id).await;
    until("feedback", || next.store.script(|script| script.feedback.len() == 1)).await;
}

#[tokio::test]
async fn a_store_that_comes_and_goes_loses_nothing_that_was_acknowledged() {
    let world = World::start(Mode::Fine, |_| {});
    let (mut decided, mut acknowledged) = (BTreeSet::new(), BTreeSet::new());
    for (at, mode) in
        [Mode::Fine, Mode::Down, Mode::Full, Mode::Fine].into_iter().cycle().take(24).enumerate()
    {
        world.store.become_(mode);
        for _ in 0..20 {
            decided.insert(world.decide("hello"));
        }
        let given = feedback(*decided.last().unwrap(), &at.to_string());
        world.traffic.feedback(given.clone()).await.unwrap();
        acknowledged.insert(given.feedback_id);
    }
    world.store.become_(Mode::Fine);
    until("all records", || world.store.script(|script| script.records.len() == decided.len())).await;
    world.spooled(0).await;
    world.store.script(|script| {
        assert!(script.records.keys().eq(&decided) && script.feedback.keys().eq(&acknowledged));
    });
    assert_eq!(world.traffic.status().written, decided.len() as u64);
}
