//! What is particular to a file: its rights, its breaking, its being shared, and what is left in it.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
};

use pointsman::{
    config::{Retention, StoreConfig},
    traffic::store::{Deleted, Selection, Store, StoreError, Whose, sqlite},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{World, all};
use crate::support::{
    PATIENCE,
    traffic::{NEW_YEAR_MS, feedback, record},
};

#[tokio::test]
async fn only_its_owner_may_read_it() {
    let world = World::sqlite().await;
    world.store.write(&[record(NEW_YEAR_MS, 1)]).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(world.path().parent().unwrap()), 0o700);
    for path in beside(&world.path()) {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_made_by_who_reads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none/traffic.sqlite");
    let problem = refused(Store::open_existing(&at(&path)).await);
    assert!(problem.contains("no such file"), "{problem}");
    assert!(!path.parent().unwrap().exists());

    let path = folder.path().join("traffic.sqlite");
    File::create(&path).unwrap();
    let problem = refused(Store::open_existing(&at(&path)).await);
    assert!(problem.contains("holds no traffic log"), "{problem}");
    assert_eq!(Store::migrate(&at(&path)).await.unwrap(), [1, 2, 3]);
    Store::open_existing(&at(&path)).await.unwrap();
}

#[tokio::test]
async fn odd_names_of_files_and_folders() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", folder.path().join("link")).unwrap();
    for name in ["a b?c#d%20.sqlite", "ü/ö.sqlite", "link/../e.sqlite", "x.sqlite?mode=memory"] {
        let path = folder.path().join(name);
        let store = Store::open(&at(&path)).await.unwrap();
        assert_eq!(store.write(&[record(NEW_YEAR_MS, 1)]).await.unwrap(), 1, "{name}");
        assert!(path.exists(), "{name}");
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_may_be_made_later() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    File::create(&file).unwrap();
    match Store::open(&at(&file.join("traffic.sqlite"))).await {
        Err(StoreError::Down { problem, .. }) => {
            assert!(problem.contains("folder cannot be made"), "{problem}");
        }
        other => panic!("{other:?}"),
    }
    fs::remove_file(&file).unwrap();
    Store::open(&at(&file.join("traffic.sqlite"))).await.unwrap();

    // For root there is no folder that is read-only but those that the kernel makes.
    match Store::open(&at(Path::new("/proc/pointsman/traffic.sqlite"))).await {
        Err(StoreError::Down { .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn no_database_is_corrupt_and_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("traffic.sqlite");
    fs::write(&path, "this is no database, and longer than a header of one is".repeat(100)).unwrap();
    corrupt(Store::open(&at(&path)).await.map(drop));
    corrupt(Store::open_existing(&at(&path)).await.map(drop));
    let broken = sqlite::Identity::of(&path).unwrap();
    let aside = sqlite::set_aside(&path, broken).unwrap().unwrap();
    assert!(aside.to_str().unwrap().contains("traffic.sqlite.corrupt-"));
    let store = Store::open(&at(&path)).await.unwrap();
    store.write(&[record(NEW_YEAR_MS, 1)]).await.unwrap();
    assert!(fs::read_to_string(&aside).unwrap().starts_with("this is no database"));
}

#[tokio::test]
async fn a_truncated_file_is_corrupt() {
    for keep in [4_096, 10_000, 40_960] {
        let world = filled().await;
        File::options().write(true).open(world.path()).unwrap().set_len(keep).unwrap();
        let read = async {
            let store = Store::open(&world.config).await?;
            store.page(&Selection::default(), None, 1_000).await.map(drop)
        };
        corrupt(read.await);
    }
}

#[tokio::test]
async fn a_page_that_was_overwritten_is_corrupt() {
    let world = filled().await;
    let file = File::options().write(true).open(world.path()).unwrap();
    let pages = file.metadata().unwrap().len() / 4_096;
    for page in 12..pages {
        file.write_all_at(&[0xa5; 4_096], page * 4_096).unwrap();
    }
    drop(file);
    let read = async {
        let store = Store::open(&world.config).await?;
        store.page(&Selection::default(), None, 1_000).await.map(drop)
    };
    corrupt(read.await);
}

/// A store that was closed, some hundred pages long.
async fn filled() -> World {
    let world = World::sqlite().await;
    let mut records: Vec<_> = (0..300).map(|place| record(NEW_YEAR_MS, place)).collect();
    for record in &mut records {
        record.request.text.messages[0].content = "x".repeat(2_000);
    }
    world.store.write(&records).await.unwrap();
    world.store.close(PATIENCE).await;
    world
}

#[test]
fn many_may_open_a_new_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log/traffic.sqlite");
    let opened: Vec<_> = (0..8)
        .map(|number| {
            let config = at(&path);
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let store = Store::open(&config).await?;
                    let records: Vec<_> = (0..50).map(|place| record(NEW_YEAR_MS + number, place)).collect();
                    for record in records {
                        store.write(&[record]).await?;
                    }
                    store.close(PATIENCE).await;
                    Ok::<(), StoreError>(())
                })
            })
        })
        .collect();
    for thread in opened {
        thread.join().unwrap().unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let holdings = runtime.block_on(async { Store::open(&at(&path)).await?.holdings().await });
    assert_eq!(holdings.unwrap().records, 400);
}

/// Rows of all sizes among others, so that pages are split, merged and half filled.
#[tokio::test]
async fn nothing_of_what_was_deleted_is_left_in_the_files() {
    let mut random = StdRng::seed_from_u64(5);
    let world = World::sqlite().await;
    for round in 0..6 {
        let mut records = Vec::new();
        let mut said = Vec::new();
        for place in 0..400 {
            let at_ms = NEW_YEAR_MS + random.random_range(0..200_000_000);
            let mut record = record(at_ms, round * 1_000 + place);
            let theirs = random.random_bool(0.4);
            let name = if theirs { "globexxx" } else { "acme" };
            record.request.tenant = name.to_owned();
            record.request.session = format!("{name} session {place}");
            let size = *[10, 100, 700, 3_000, 9_000, 40_000].get(random.random_range(0..6)).unwrap();
            record.request.text.messages[0].content = format!("{name} ").repeat(size / 9);
            let mut one = feedback(&format!("{name} {round} {place}"), record.decision_id);
            one.comment = Some(format!("{name} ").repeat(random.random_range(1..300)));
            said.push(one);
            records.push(record);
        }
        world.store.write(&records).await.unwrap();
        world.store.add_feedback(&said, 0).await.unwrap();
        if round % 2 == 1 {
            let deleted = world.store.delete(&[Whose::Tenant("globexxx".to_owned())]).await.unwrap();
            assert!(deleted.records > 200 && deleted.feedback == deleted.records, "{deleted:?}");
            for path in beside(&world.path()) {
                let bytes = fs::read(&path).unwrap();
                let found = bytes.windows(8).filter(|window| window == b"globexxx").count();
                assert_eq!(found, 0, "round {round}: {}", path.display());
            }
        }
    }
    assert!(all(&world.store, &Selection::default(), 1_000).await.len() > 1_000);
}

#[tokio::test]
async fn a_deletion_says_when_somebody_still_reads_it() {
    let world = World::sqlite().await;
    world.store.write(&[record(NEW_YEAR_MS, 1)]).await.unwrap();
    let mut reader = super::connect(&world.config).await;
    sqlx::raw_sql("BEGIN; SELECT COUNT(*) FROM traffic").execute(&mut reader).await.unwrap();
    let whose = Whose::Tenant("acme".to_owned());
    match world.store.delete(std::slice::from_ref(&whose)).await {
        Err(StoreError::Down { problem, .. }) => assert!(problem.contains("delete again"), "{problem}"),
        other => panic!("{other:?}"),
    }
    sqlx::raw_sql("COMMIT").execute(&mut reader).await.unwrap();
    assert_eq!(world.store.delete(std::slice::from_ref(&whose)).await.unwrap(), Deleted::default());
}

#[tokio::test]
async fn retention_makes_the_file_smaller() {
    let world = World::sqlite().await;
    let mut records: Vec<_> = (0..1_000).map(|place| record(NEW_YEAR_MS, place)).collect();
    for record in &mut records {
        record.request.text.messages[0].content = "x".repeat(3_000);
    }
    world.store.write(&records).await.unwrap();
    let length = || beside(&world.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum::<u64>();
    let before = length();
    let retention = Retention { age_max: None, bytes_max: Some(1 << 20) };
    world.store.retain(retention, NEW_YEAR_MS).await.unwrap();
    let after = length();
    assert!(before > 4 << 20 && after < (1 << 20) + (64 << 10), "{before} -> {after}");
    assert!(world.store.holdings().await.unwrap().records > 100);
}

fn at(path: &Path) -> StoreConfig {
    StoreConfig::Sqlite { path: path.to_owned() }
}

/// Returns the file and those beside it.
fn beside(path: &Path) -> Vec<PathBuf> {
    let folder = path.parent().unwrap();
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.contains(&path.to_owned()) && files.len() == 3, "{files:?}");
    files
}

#[track_caller]
fn refused(opened: Result<Store, StoreError>) -> String {
    match opened {
        Err(StoreError::Refused { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn corrupt(read: Result<(), StoreError>) {
    match read {
        Err(StoreError::Corrupt { .. }) => {}
        other => panic!("{other:?}"),
    }
}
