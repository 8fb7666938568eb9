//! The writer over a store that misbehaves by script: nothing that was acknowledged is lost, nothing is doubled,
//! nothing waits for ever.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Mutex,
};

use futures::future::BoxFuture;
use uuid::Uuid;

use super::*;
use crate::{
    config::{Config, Retention, TextPolicy},
    prompt::Message,
    traffic::{
        FeedbackError, Traffic,
        feedback::{self, Feedback, FeedbackSource, Signal, Verdict},
        observe::tests::{CONFIG, decision, prompt},
        store::{Deleted, Landed, Store},
    },
};

/// A text on which the policies for texts break down.
const UNKEEPABLE: &str = "break down";

pub fn break_down(messages: &[Message]) {
    assert!(messages.iter().all(|message| message.content != UNKEEPABLE), "as asked");
}

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

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

/// What the scripted store does with every write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    #[default]
    Fine,
    /// Opens, but takes nothing, as with a full disk.
    Full,
    /// Does not open.
    Down,
    /// Takes it and never says so.
    Silent,
    /// Until it is moved aside.
    Corrupt,
}

#[derive(Default)]
struct Script {
    mode: Mode,
    records: BTreeMap<Uuid, Record>,
    feedback: BTreeMap<String, Feedback>,
    /// Records, and feedback about them.
    refused: BTreeSet<Uuid>,
    refuses_feedback: bool,
    batches: Vec<usize>,
    opened: usize,
    moved_aside: usize,
    closed: usize,
}

/// A store in memory.
#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

impl Scripted {
    fn script<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    fn become_(&self, mode: Mode) {
        self.script(|script| script.mode = mode);
    }

    fn fails(&self) -> Result<(), StoreError> {
        let (store, problem) = ("scripted".to_owned(), "by script".to_owned());
        match self.script(|script| script.mode) {
            Mode::Fine | Mode::Silent => Ok(()),
            Mode::Full | Mode::Down => Err(StoreError::Down { store, problem }),
            Mode::Corrupt => Err(StoreError::Corrupt { store, problem }),
        }
    }

    /// Does what the script says after the store has done its part.
    async fn answer<T>(&self, answer: T) -> Result<T, StoreError> {
        if self.script(|script| script.mode) == Mode::Silent {
            std::future::pending::<()>().await;
        }
        Ok(answer)
    }
}

impl Place for Scripted {
    fn open(&self) -> BoxFuture<'static, Result<Arc<dyn Shelf>, StoreError>> {
        let scripted = self.clone();
        Box::pin(async move {
            match scripted.script(|script| script.mode) {
                Mode::Down | Mode::Corrupt => scripted.fails()?,
                Mode::Fine | Mode::Full | Mode::Silent => {}
            }
            scripted.script(|script| script.opened += 1);
            Ok(Arc::new(scripted) as Arc<dyn Shelf>)
        })
    }

    fn set_aside(&self) -> io::Result<Option<PathBuf>> {
        self.script(|script| {
            script.moved_aside += 1;
            script.mode = Mode::Fine;
            script.records.clear();
        });
        Ok(Some(PathBuf::from("aside")))
    }
}

impl Shelf for Scripted {
    fn write<'a>(&'a self, records: &'a [Record]) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            self.fails()?;
            let new = self.script(|script| {
                if records.iter().any(|record| script.refused.contains(&record.decision_id)) {
                    return None;
                }
                script.batches.push(records.len());
                let before = script.records.len();
                for record in records {
                    script.records.entry(record.decision_id).or_insert_with(|| record.clone());
                }
                Some((script.records.len() - before) as u64)
            });
            let refused =
                || StoreError::Refused { store: "scripted".to_owned(), problem: "by script".to_owned() };
            self.answer(new.ok_or_else(refused)?).await
        })
    }

    fn add_feedback<'a>(
        &'a self,
        feedback: &'a [Feedback],
        unknown_max: u64,
    ) -> BoxFuture<'a, Result<Vec<Landed>, StoreError>> {
        Box::pin(async move {
            self.fails()?;
            if self.script(|script| script.refuses_feedback) {
                let problem = "by script".to_owned();
                return Err(StoreError::Refused { store: "scripted".to_owned(), problem });
            }
            let landed = self.script(|script| {
                let land = |given: &Feedback| {
                    if script.feedback.contains_key(&given.feedback_id) {
                        return Landed::Duplicate;
                    }
                    let known = script.records.contains_key(&given.decision_id);
                    if !known && unknown_max == 0 {
                        return Landed::Full;
                    }
                    script.feedback.insert(given.feedback_id.clone(), given.clone());
                    if known { Landed::Known } else { Landed::Unknown }
                };
                feedback.iter().map(land).collect()
            });
            self.answer(landed).await
        })
    }

    fn tenants_of<'a>(
        &'a self,
        decisions: &'a [Uuid],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, StoreError>> {
        Box::pin(async move {
            self.fails()?;
            let tenants = self.script(|script| {
                let tenant = |id| script.records.get(id).map(|record| record.request.tenant.clone());
                decisions.iter().map(tenant).collect()
            });
            self.answer(tenants).await
        })
    }

    fn retain(&self, _: Retention, _: i64) -> BoxFuture<'_, Result<Deleted, StoreError>> {
        Box::pin(async { Ok(Deleted::default()) })
    }

    fn close(&self, _: Duration) -> BoxFuture<'_, ()> {
        self.script(|script| script.closed += 1);
        Box::pin(async {})
    }

    fn store(&self) -> Option<&Store> {
        None
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
async fn what_comes_while_the_store_is_down_is_spooled_and_replayed() {
    for mode in [Mode::Down, Mode::Full] {
        let world = World::start(mode, |_| {});
        let ids: Vec<Uuid> = (0..3).map(|_| world.decide("hello")).collect();
        world.spooled(3).await;
        assert_eq!(world.traffic.feedback(feedback(ids[0], "fine")).await.unwrap(), Landed::Unknown);
        world.spooled(4).await;
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
    assert_eq!(landed, Landed::Unknown);
    world.store.become_(Mode::Fine);
    until("the feedback", || world.store.script(|script| !script.feedback.is_empty())).await;
    world.spooled(0).await;
    assert_eq!(world.store.script(|script| (script.records.len(), script.feedback.len())), (2, 1));
    assert_eq!(world.traffic.feedback(given).await.unwrap(), Landed::Duplicate);
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
    assert_eq!(world.traffic.feedback(feedback(Uuid::now_v7(), "fine")).await.unwrap(), Landed::Unknown);
    until("the drop", || world.traffic.status().dropped == 1).await;
    until("feedback", || world.store.script(|script| script.feedback.len() == 1)).await;
    assert_eq!(world.store.script(|script| script.opened), 2);
}

#[tokio::test]
async fn a_store_that_refuses_everything_is_down() {
    let world = World::start(Mode::Fine, |config| config.flush = Duration::from_secs(3600));
    let ids: Vec<Uuid> = (0..5).map(|_| world.decide("hello")).collect();
    world.store.script(|script| script.refused.extend(&ids));
    assert_eq!(world.traffic.feedback(feedback(ids[4], "fine")).await.unwrap(), Landed::Unknown);
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
async fn a_text_on_which_the_policies_break_down_costs_one_record() {
    let world = World::start(Mode::Fine, |config| config.flush = Duration::from_secs(3600));
    let ids = ["hello", UNKEEPABLE, "hello"].map(|text| world.decide(text));
    assert_eq!(world.traffic.feedback(feedback(ids[2], "fine")).await.unwrap(), Landed::Known);
    world.store.script(|script| {
        assert_eq!(script.records.keys().copied().collect::<Vec<_>>(), [ids[0], ids[2]]);
    });
    until("the store is noted", || world.traffic.status().store_up).await;
    let status = world.traffic.status();
    assert_eq!((status.written, status.dropped), (2, 1));
    world.traffic.stop().await;
    assert!(!world.traffic.status().store_up);
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

#[tokio::test]
async fn a_full_spool_drops_records_and_refuses_feedback() {
    let world = World::start(Mode::Down, |config| config.spool.bytes_max = 5_000);
    let decided: Vec<Uuid> = (0..20).map(|_| world.decide("hello")).collect();
    let last = decided[19];
    until("drops", || world.traffic.status().dropped > 0).await;
    let mut refused = false;
    for at in 0..50 {
        match world.traffic.feedback(feedback(last, &at.to_string())).await {
            Ok(landed) => assert_eq!(landed, Landed::Unknown),
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

#[tokio::test]
async fn texts_are_kept_by_the_policy_of_the_decisions_tenant() {
    let world = World::start(Mode::Fine, |config| {
        config.text = TextPolicy::None;
        config.tenant_text = [("a".to_owned(), TextPolicy::Full)].into();
    });
    let id = world.decide("the secret hunter2");
    world.stored(id).await;
    let comments = [(id, "of a"), (Uuid::now_v7(), "of nobody knows whom")];
    for (id, comment) in comments {
        world.traffic.feedback(feedback(id, comment)).await.unwrap();
    }
    world.store.script(|script| {
        let record = &script.records[&id];
        assert_eq!(record.request.text.messages[0].content, "the secret hunter2");
        let comments: Vec<_> = script.feedback.values().map(|given| given.comment.as_deref()).collect();
        assert!(comments.contains(&Some("of a")), "{comments:?}");
        assert!(!comments.contains(&Some("of nobody knows whom")), "{comments:?}");
    });
}

#[tokio::test]
async fn what_the_policy_forbids_is_not_in_the_spool_either() {
    let world = World::start(Mode::Down, |config| config.text = TextPolicy::None);
    let id = world.decide("the secret hunter2");
    world.traffic.feedback(feedback(id, "also hunter2")).await.unwrap();
    world.spooled(2).await;
    for name in names(&world.spool()) {
        let bytes = std::fs::read(world.spool().join(&name)).unwrap();
        assert!(!bytes.windows(7).any(|window| window == b"hunter2"), "{name}");
    }
}

#[tokio::test]
async fn a_remark_is_not_taken_while_nobody_knows_what_of_it_may_be_kept() {
    let world = World::start(Mode::Down, |config| {
        config.text = TextPolicy::None;
        config.tenant_text = [("a".to_owned(), TextPolicy::Full)].into();
    });
    let id = Uuid::now_v7();
    let refused = world.traffic.feedback(feedback(id, "of whom?")).await;
    assert!(matches!(refused, Err(FeedbackError::Unavailable(_))), "{refused:?}");
    let mut silent = feedback(id, "silent");
    silent.comment = None;
    assert_eq!(world.traffic.feedback(silent).await.unwrap(), Landed::Unknown);
    // The spool knows whose this one is.
    let spooled = world.decide("hello");
    world.spooled(2).await;
    assert_eq!(world.traffic.feedback(feedback(spooled, "of a")).await.unwrap(), Landed::Unknown);
    world.store.become_(Mode::Fine);
    world.stored(spooled).await;
    assert_eq!(world.traffic.feedback(feedback(id, "of whom?")).await.unwrap(), Landed::Unknown);
}
