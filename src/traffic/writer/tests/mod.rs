//! The writer over a store that misbehaves by script: nothing that was acknowledged is lost, nothing is doubled,
//! nothing waits for ever.

mod outages;
mod refusals;
mod scripted;
mod texts;

use std::path::{Path, PathBuf};

use uuid::Uuid;

use self::scripted::{Mode, Scripted};
use super::*;
use crate::{
    config::Config,
    prompt::Message,
    traffic::{
        FeedbackError, Traffic,
        feedback::{self, Feedback, FeedbackSource, Signal, Verdict},
        observe::tests::{CONFIG, decision, prompt},
        store::Landed,
    },
};

/// A text on which the policies for texts break down.
const UNKEEPABLE: &str = "break down";

pub fn break_down(messages: &[Message]) {
    assert!(messages.iter().all(|message| message.content != UNKEEPABLE), "as asked");
}

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Feedback of a user, named by the first word of its comment.
pub fn feedback(decision_id: Uuid, comment: &str) -> Feedback {
    Feedback {
        version: feedback::VERSION,
        feedback_id: format!("{decision_id}-{}", comment.split(' ').next().unwrap_or_default()),
        decision_id,
        at_ms: 1,
        source: FeedbackSource::User,
        verdict: Some(Verdict::Good),
        score: None,
        right_tier: None,
        right_intent: None,
        comment: Some(comment.to_owned()),
        demonstration: None,
        signal: None,
    }
}

/// A log over the scripted store, with its spool in a folder of its own.
struct World {
    traffic: Traffic,
    store: Scripted,
    folder: tempfile::TempDir,
}

impl World {
    fn start(mode: Mode, change: impl FnOnce(&mut TrafficConfig)) -> Self {
        let store = Scripted::default();
        store.become_(mode);
        Self::start_in(tempfile::tempdir().unwrap(), store, change)
    }

    fn start_in(folder: tempfile::TempDir, store: Scripted, change: impl FnOnce(&mut TrafficConfig)) -> Self {
        let mut config = Config::clone(&CONFIG);
        config.traffic = TrafficConfig::in_folder(folder.path().to_owned());
        config.traffic.flush = Duration::from_millis(20);
        change(&mut config.traffic);
        let traffic = Traffic::start_at(&config, Arc::new(store.clone()));
        Self { traffic, store, folder }
    }

    fn decide(&self, text: &str) -> Uuid {
        let id = Uuid::now_v7();
        self.traffic.decided(&CONFIG, prompt(text), &decision(id));
        id
    }

    async fn stored(&self, id: Uuid) {
        until("a record in the store", || self.store.script(|script| script.records.contains_key(&id))).await;
    }

    async fn spooled(&self, entries: u64) {
        until("entries in the spool", || self.traffic.status().spooled == entries).await;
    }

    fn spool(&self) -> PathBuf {
        self.folder.path().join("traffic.sqlite-spool")
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn records_are_written_when_they_are_due() {
    let world = World::start(Mode::Fine, |_| {});
    let id = world.decide("hello");
    world.stored(id).await;
    world.traffic.stop().await;
    let status = world.traffic.status();
    assert_eq!((status.written, status.dropped, status.waiting, status.spooled), (1, 0, 0, 0));
    assert_eq!(names(&world.spool()), [""; 0], "the spool was not needed");
    assert_eq!(world.store.script(|script| script.closed), 1);
}

#[tokio::test]
async fn a_full_batch_does_not_wait_for_its_time() {
    let world = World::start(Mode::Fine, |config| config.flush = Duration::from_secs(3600));
    let ids: Vec<Uuid> = (0..BATCH_MAX).map(|_| world.decide("hello")).collect();
    world.stored(ids[BATCH_MAX - 1]).await;
    assert_eq!(world.store.script(|script| script.batches.clone()), [BATCH_MAX]);
}

#[tokio::test]
async fn the_end_writes_what_waits() {
    let world = World::start(Mode::Fine, |config| config.flush = Duration::from_secs(3600));
    let id = world.decide("hello");
    world.traffic.stop().await;
    assert!(world.store.script(|script| script.records.contains_key(&id)));
    world.decide("too late");
    assert_eq!(world.traffic.status().dropped, 1);
    let late = world.traffic.feedback(feedback(id, "late")).await;
    assert!(matches!(late, Err(FeedbackError::Unavailable(_))), "{late:?}");
}

#[tokio::test]
async fn feedback_finds_the_record_that_was_logged_just_before() {
    let world = World::start(Mode::Fine, |config| config.flush = Duration::from_secs(3600));
    let id = world.decide("hello");
    assert_eq!(world.traffic.feedback(feedback(id, "fine")).await.unwrap(), Landed::Known);
    assert_eq!(world.traffic.feedback(feedback(id, "fine")).await.unwrap(), Landed::Duplicate);
    assert_eq!(world.traffic.feedback(feedback(Uuid::now_v7(), "fine")).await.unwrap(), Landed::Unknown);
}

#[tokio::test]
async fn a_request_that_is_sent_again_is_noticed_of_the_first() {
    let world = World::start(Mode::Fine, |_| {});
    let ids = [1_000, 9_000].map(|at_ms: u64| {
        let time = uuid::Timestamp::from_unix(uuid::NoContext, at_ms / 1000, 0);
        let id = Uuid::new_v7(time);
        world.traffic.decided(&CONFIG, prompt("compare these two offers"), &decision(id));
        id
    });
    until("a signal", || {
        let found = |given: &Feedback| (given.decision_id, given.signal);
        let noticed = world.store.script(|script| script.feedback.values().map(found).collect::<Vec<_>>());
        noticed == [(ids[0], Some(Signal::Regenerated))]
    })
    .await;
}

#[tokio::test]
async fn feedback_without_room_is_refused() {
    let world = World::start(Mode::Fine, |config| config.unknown_feedback_max = 0);
    let id = Uuid::now_v7();
    let refused = world.traffic.feedback(feedback(id, "fine")).await;
    assert!(matches!(refused, Err(FeedbackError::NoRoom(named)) if named == id), "{refused:?}");
}

#[tokio::test]
async fn a_log_that_is_off_takes_no_feedback() {
    let world = World::start(Mode::Fine, |config| config.enabled = false);
    world.decide("hello");
    assert!(matches!(world.traffic.feedback(feedback(Uuid::nil(), "")).await, Err(FeedbackError::Off)));
    world.traffic.stop().await;
    assert_eq!((world.traffic.status().dropped, names(world.folder.path())), (0, vec![]));
}

#[tokio::test]
async fn a_full_queue_drops_counts_and_never_waits() {
    let world = World::start(Mode::Fine, |config| {
        config.queue_max = 100;
        config.flush = Duration::from_secs(3600);
    });
    let started = std::time::Instant::now();
    let ids: Vec<Uuid> = (0..300).map(|_| world.decide("hello")).collect();
    assert!(started.elapsed() < PATIENCE / 4);
    world.traffic.stop().await;
    let status = world.traffic.status();
    assert_eq!((status.written, status.dropped), (100, 200));
    world.store.script(|script| {
        assert!(ids[..100].iter().all(|id| script.records.contains_key(id)));
    });
}
