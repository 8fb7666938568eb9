//! Keepers that share a store: a change by one is seen by all, one of many at once wins, memory is for one alone.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pointsman::{
    live::fleet::{Exchanged, Keeper, Known, ReplicaReport, WantedFrom},
    traffic::Traffic,
};

use super::{World, desired, event, follow, report, store::meddle};
use crate::support::{PATIENCE, allowed, config, traffic::both_stores, until};

/// What is promised of a fleet.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

both_stores![
    a_change_by_one_is_seen_by_all,
    one_of_many_exchanges_wins_each_revision,
    a_replica_that_comes_back_finds_what_is_wanted,
    replicas_say_what_they_run_and_go,
    what_a_newer_program_wrote_is_told_and_left_alone,
    a_change_that_nobody_is_told_of_is_followed,
];

async fn a_change_by_one_is_seen_by_all(world: World) {
    let replicas = [world.replica("a").await, world.replica("b").await, world.replica("c").await];
    for replica in &replicas {
        assert_eq!(replica.keeper.desired().await.unwrap(), None);
    }
    // They begin to listen.
    futures::future::join_all(replicas.iter().map(|replica| replica.keeper.changed())).await;
    let mut took = Vec::new();
    for revision in 1..=5 {
        let by = &replicas[revision as usize % 3];
        let wanted = desired(revision, &format!("v{revision}"));
        let changes = async {
            let changed = Instant::now();
            let exchanged = by.keeper.exchange(revision - 1, &wanted, &[event(1, "v")]).await.unwrap();
            assert_eq!(exchanged, Exchanged::Done);
            changed
        };
        let [a, b, c] = &replicas;
        let (changed, a, b, c) =
            tokio::join!(changes, follow(a, revision), follow(b, revision), follow(c, revision));
        took.push(a.max(b).max(c).duration_since(changed));
        for replica in &replicas {
            assert_eq!(replica.keeper.desired().await.unwrap().as_ref(), Some(&wanted));
            assert_eq!(replica.keeper.apart(), None);
        }
    }
    eprintln!("changes were seen by all after {took:?}");
    assert!(took.iter().all(|took| *took < allowed(SEEN_WITHIN)), "{took:?}");
}

async fn one_of_many_exchanges_wins_each_revision(world: World) {
    let replicas = [world.replica("a").await, world.replica("b").await, world.replica("c").await];
    for revision in 0..4_u64 {
        let tries = (0..20).map(|number| {
            let keeper = Arc::clone(&replicas[number % 3].keeper);
            async move {
                let wanted = desired(revision + 1, &format!("v{number}"));
                (keeper.exchange(revision, &wanted, &[]).await.unwrap(), wanted)
            }
        });
        let tried = futures::future::join_all(tries).await;
        let won: Vec<_> = tried.iter().filter(|(exchanged, _)| *exchanged == Exchanged::Done).collect();
        assert_eq!(won.len(), 1, "{won:?}");
        let winner = &won[0].1;
        for (exchanged, _) in &tried {
            match exchanged {
                Exchanged::Done => {}
                Exchanged::Behind(now) => assert_eq!(&**now, winner),
            }
        }
    }
}

async fn a_replica_that_comes_back_finds_what_is_wanted(world: World) {
    let first = world.replica("a").await;
    first.keeper.exchange(0, &desired(1, "v1"), &[]).await.unwrap();
    first.traffic.stop().await;
    drop(first);
    // Without waiting for its store: that is done for it.
    let again = world.unconnected("elsewhere");
    assert_eq!(again.keeper.desired().await.unwrap(), Some(desired(1, "v1")));
}

async fn replicas_say_what_they_run_and_go(world: World) {
    let (a, b) = (world.replica("a").await, world.replica("b").await);
    let first = report(1);
    tokio::select! {
        () = a.keeper.keep_reporting(|| first.clone()) => {}
        () = b.keeper.keep_reporting(|| ReplicaReport { problem: Some("no memory".to_owned()), ..report(2) }) => {}
        () = until("both to be known", async || a.keeper.replicas().await.unwrap().len() == 2) => {}
    }
    let known = b.keeper.replicas().await.unwrap();
    assert_eq!(known.iter().map(|known| &*known.host).collect::<Vec<_>>(), ["host-1", "host-2"]);
    let now_ms = pointsman::traffic::now_ms();
    assert!(known.iter().all(|known| known.is_live(now_ms)), "{known:?}");
    assert!(!known[0].is_live(now_ms + 16_000));
    assert_eq!(known[1].problem.as_deref(), Some("no memory"));
    assert_eq!(b.keeper.live_replicas().await.unwrap().len(), 2);
    b.keeper.leave(report(2).replica_id).await.unwrap();
    assert_eq!(a.keeper.replicas().await.unwrap().len(), 1);
}

async fn what_a_newer_program_wrote_is_told_and_left_alone(world: World) {
    let replica = world.replica("a").await;
    replica.keeper.exchange(0, &desired(1, "v1"), &[event(1, "v1")]).await.unwrap();
    let store = replica.traffic.store().unwrap();
    let strange = "{\"something\":\"new\"}";
    let row = pointsman::traffic::store::fleet::EventRow {
        event_id: uuid::Uuid::now_v7(),
        at_ms: 2,
        document: strange.to_owned(),
    };
    assert!(store.exchange_wanted(1, 2, strange, &[row]).await.unwrap());
    store.report(uuid::Uuid::from_u128(9), strange).await.unwrap();
    // What was known holds on.
    assert_eq!(replica.keeper.desired().await.unwrap(), Some(desired(1, "v1")));
    assert!(replica.keeper.apart().unwrap().why.contains("upgrade this one"));
    let Known { wanted, apart } = replica.keeper.known().await;
    assert_eq!((wanted, apart.unwrap().wanted_from), (Some(desired(1, "v1")), WantedFrom::Memory));
    let error = replica.keeper.exchange(1, &desired(2, "v2"), &[]).await.unwrap_err();
    assert!(error.to_string().contains("revision 2"), "{error}");
    assert_eq!(replica.keeper.events(10).await.unwrap().len(), 0, "both are years old, and so are gone");
    assert_eq!(replica.keeper.replicas().await.unwrap(), []);
    assert_eq!(store.wanted().await.unwrap(), Some((2, strange.to_owned())));
}

/// As behind a pooler that passes no notifications on: who listens hears nothing, and looks.
async fn a_change_that_nobody_is_told_of_is_followed(world: World) {
    let replicas = [world.replica("a").await, world.replica("b").await];
    replicas[0].keeper.exchange(0, &desired(1, "v1"), &[]).await.unwrap();
    for replica in &replicas {
        follow(replica, 1).await;
        // It listens, and has heard what there is to hear.
        replica.keeper.changed().await;
    }
    let changed = Instant::now();
    meddle(
        &world,
        "UPDATE fleet_wanted SET revision = 2, document = \
         REPLACE(REPLACE(document, '\"revision\":1', '\"revision\":2'), '\"v1\"', '\"v2\"')",
    )
    .await;
    let seen = replicas.iter().map(|replica| tokio::time::timeout(PATIENCE, follow(replica, 2)));
    for seen in futures::future::join_all(seen).await {
        let took = seen.expect("it is followed").duration_since(changed);
        assert!(took < allowed(SEEN_WITHIN), "{took:?}");
    }
    for replica in &replicas {
        assert_eq!(replica.keeper.desired().await.unwrap(), Some(desired(2, "v2")));
        assert_eq!(replica.keeper.apart(), None);
    }
}

#[tokio::test]
async fn without_a_log_memory_keeps_it() {
    let traffic = Arc::new(Traffic::start(&config("")));
    let keeper = Keeper::new(traffic);
    assert_eq!(keeper.desired().await.unwrap(), None);
    assert_eq!(keeper.exchange(0, &desired(1, "v1"), &[event(1, "v1")]).await.unwrap(), Exchanged::Done);
    let behind = Exchanged::Behind(Box::new(desired(1, "v1")));
    assert_eq!(keeper.exchange(0, &desired(1, "v2"), &[]).await.unwrap(), behind);
    tokio::time::timeout(PATIENCE, keeper.changed()).await.unwrap();
    assert_eq!(keeper.desired().await.unwrap(), Some(desired(1, "v1")));
    keeper.report(&report(1)).await.unwrap();
    assert_eq!(keeper.replicas().await.unwrap().len(), 1);
    assert_eq!(keeper.events(10).await.unwrap().len(), 1);
    assert_eq!(keeper.apart(), None);
}
