//! What of a text may last: by its tenant's policy, in the store and in the spool.

use std::time::Duration;

use uuid::Uuid;

use super::{Mode, UNKEEPABLE, World, feedback, names, until};
use crate::{
    config::TextPolicy,
    traffic::{FeedbackError, store::Landed},
};

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
    assert_eq!(world.traffic.feedback(silent).await.unwrap(), Landed::Spooled);
    // The spool knows whose this one is.
    let spooled = world.decide("hello");
    world.spooled(2).await;
    assert_eq!(world.traffic.feedback(feedback(spooled, "of a")).await.unwrap(), Landed::Spooled);
    world.store.become_(Mode::Fine);
    world.stored(spooled).await;
    assert_eq!(world.traffic.feedback(feedback(id, "of whom?")).await.unwrap(), Landed::Unknown);
}
