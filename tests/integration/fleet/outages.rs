//! The database goes away: what is known holds on, changes are refused, and when it is back all goes on.

use std::{
    fs,
    time::{Duration, Instant},
};

use pointsman::{
    live::fleet::{Exchanged, WantedFrom},
    traffic::{
        now_ms,
        store::{Store, StoreError},
    },
};

use super::{World, desired, event, follow, report};
use crate::support::{
    postgres::{Postgres, Stop},
    until,
};

/// Sooner than who polls finds it.
const HEARD_WITHIN: Duration = Duration::from_secs(1);

#[tokio::test]
async fn keepers_go_on_while_the_server_is_away() {
    let mut server = Postgres::start().await;
    let world = World { config: server.database().await, folder: tempfile::tempdir().unwrap() };
    let replicas = [world.replica("a").await, world.replica("b").await, world.replica("c").await];
    replicas[0].keeper.exchange(0, &desired(1, "v1"), &[]).await.unwrap();
    futures::future::join_all(replicas.iter().map(|replica| replica.keeper.changed())).await;
    for replica in &replicas {
        assert_eq!(replica.revision().await, 1);
    }
    for (stop, revision) in [(Stop::Immediate, 1), (Stop::Fast, 2)] {
        let began_ms = now_ms();
        server.stop(stop);
        let [a, b, c] = &replicas;
        let wanted = desired(revision + 1, "later");
        let (known_a, known_b, known_c, exchanged, reported, told, asked) = tokio::join!(
            a.revision(),
            b.revision(),
            c.revision(),
            async { b.keeper.exchange(revision, &wanted, &[]).await.map(drop) },
            async { b.keeper.report(&report(1)).await },
            async { b.keeper.tell(&[event(1, "v9")]).await },
            async { b.keeper.replicas().await.map(drop) },
        );
        assert_eq!([known_a, known_b, known_c], [revision; 3], "the last that is known");
        for replica in &replicas {
            let apart = replica.keeper.apart().unwrap();
            assert!(apart.why.contains("PostgreSQL"), "{apart:?}");
            assert_eq!(apart.wanted_from, WantedFrom::Memory);
            assert!((began_ms..=now_ms()).contains(&apart.since_ms), "{apart:?}");
        }
        for refused in [exchanged, reported, told, asked] {
            match refused {
                Err(error @ StoreError::Down { .. }) => {
                    let told = error.to_string();
                    assert!(told.contains("PostgreSQL") && !told.contains("sslmode"), "{told}");
                }
                other => panic!("{other:?}"),
            }
        }
        // One that starts meanwhile, where another one has run before, and one on a new machine.
        let again = world.unconnected("a");
        assert_eq!(again.revision().await, revision);
        assert_eq!(again.keeper.apart().unwrap().wanted_from, WantedFrom::Copy);
        let new = world.unconnected(&format!("new-{revision}"));
        new.keeper.desired().await.unwrap_err();
        assert_eq!(new.keeper.apart().unwrap().wanted_from, WantedFrom::Nowhere);

        server.resume().await;
        until("a change to be taken", async || {
            matches!(replicas[2].keeper.exchange(revision, &wanted, &[]).await, Ok(Exchanged::Done))
        })
        .await;
        let back = Instant::now();
        for replica in replicas.iter().chain([&again, &new]) {
            until("the change to be seen", async || {
                replica.keeper.desired().await.ok().flatten().as_ref() == Some(&wanted)
            })
            .await;
            assert_eq!(replica.keeper.apart(), None);
        }
        eprintln!("all have seen the change {:?} after it was made", back.elapsed());
    }
    // They listen again: a change is heard of at once, and not only found two seconds later.
    let mut revision = 3;
    until("a change to be heard of", async || {
        revision += 1;
        let wanted = desired(revision, "heard");
        let changed = Instant::now();
        let [a, b, c] = &replicas;
        let change = async { a.keeper.exchange(revision - 1, &wanted, &[]).await.unwrap() };
        let (_, b, c) =
            tokio::join!(Box::pin(change), Box::pin(follow(b, revision)), Box::pin(follow(c, revision)));
        b.max(c).duration_since(changed) < HEARD_WITHIN
    })
    .await;
}

#[tokio::test]
async fn a_store_that_was_begun_anew_learns_what_was_wanted() {
    let world = World::sqlite().await;
    let first = world.replica("a").await;
    first.keeper.exchange(0, &desired(1, "v1"), &[]).await.unwrap();
    first.keeper.exchange(1, &desired(2, "v2"), &[]).await.unwrap();
    first.traffic.stop().await;
    drop(first);
    for entry in fs::read_dir(world.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("traffic.sqlite") {
            fs::remove_file(path).unwrap();
        }
    }
    // One that knows nothing takes nothing for wanted, and takes nothing away.
    let stranger = world.replica("b").await;
    assert_eq!(stranger.keeper.desired().await.unwrap(), None);
    let again = world.replica("a").await;
    assert_eq!(again.keeper.desired().await.unwrap(), Some(desired(2, "v2")));
    assert_eq!(stranger.keeper.desired().await.unwrap(), Some(desired(2, "v2")));
    assert_eq!(again.keeper.exchange(2, &desired(3, "v3"), &[]).await.unwrap(), Exchanged::Done);
}

#[tokio::test]
async fn what_the_store_says_counts_more_than_a_copy() {
    let world = World::sqlite().await;
    let first = world.replica("a").await;
    first.keeper.exchange(0, &desired(1, "v1"), &[]).await.unwrap();
    first.traffic.stop().await;
    drop(first);
    // Meanwhile others have gone on, or a backup was restored.
    let store = Store::open(&world.config).await.unwrap();
    let other = serde_json::to_string(&desired(7, "v7")).unwrap();
    assert!(store.exchange_wanted(1, 7, &other, &[]).await.unwrap());
    let again = world.unconnected("a");
    assert_eq!(again.keeper.desired().await.unwrap(), Some(desired(7, "v7")));
    assert_eq!(again.keeper.apart(), None);
}
