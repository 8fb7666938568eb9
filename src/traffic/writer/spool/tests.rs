//! What is put there comes back in order, once, whoever puts and whoever takes.

use super::*;
use crate::traffic::{observe::tests::pending, writer::tests::feedback};

fn spool(folder: &Path, bytes_max: u64) -> Spool {
    Spool::new(SpoolConfig { folder: folder.join("spool"), bytes_max })
}

fn record(tenant: &str) -> Record {
    let mut record = pending("hello").record;
    record.request.tenant = tenant.to_owned();
    record
}

fn entry(record: &Record) -> Entry {
    Entry::record(record).unwrap()
}

async fn drain(spool: &mut Spool, at_once: usize) -> Vec<String> {
    let mut tenants = Vec::new();
    while let Some(batch) = spool.oldest(at_once, 1 << 20).await.unwrap() {
        tenants.extend(batch.records.iter().map(|record| record.request.tenant.clone()));
        spool.remove(&batch).await.unwrap();
    }
    tenants
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("spool")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn oldest_first_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = spool(folder.path(), 1 << 20);
    assert!(spool.oldest(10, 1 << 20).await.unwrap().is_none());
    assert!(!folder.path().join("spool").exists(), "an idle spool touches no disk");
    spool.put(&[entry(&record("1")), entry(&record("2"))]).await.unwrap();
    spool.put(&[entry(&record("3"))]).await.unwrap();
    assert_eq!(spool.len(), 3);
    assert_eq!(drain(&mut spool, 2).await, ["1", "2", "3"]);
    assert_eq!((spool.len(), files(folder.path())), (0, Vec::new()));
}

#[tokio::test]
async fn what_is_read_stays_until_it_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = spool(folder.path(), 1 << 20);
    spool.put(&[entry(&record("1"))]).await.unwrap();
    for _ in 0..2 {
        assert_eq!(spool.oldest(10, 1 << 20).await.unwrap().unwrap().records.len(), 1);
    }
    let given = feedback(Uuid::now_v7(), "fine");
    spool.put(&[Entry::feedback(&given).unwrap()]).await.unwrap();
    let batch = spool.oldest(10, 1 << 20).await.unwrap().unwrap();
    assert_eq!((batch.records.len(), batch.feedback), (1, vec![given]));
    let first = spool.oldest(10, 1).await.unwrap().unwrap();
    assert_eq!((first.records.len(), first.feedback.len()), (1, 0), "a long one goes alone");
}

#[tokio::test]
async fn it_is_bounded_and_leaves_room_for_feedback() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = spool(folder.path(), 20_000);
    let mut put = 0;
    while spool.put(&[entry(&record("1"))]).await.is_ok() {
        put += 1;
        assert!(put < 100);
    }
    assert!(put > 5, "{put}");
    let given = Entry::feedback(&feedback(Uuid::now_v7(), "fine")).unwrap();
    spool.put(std::slice::from_ref(&given)).await.unwrap();
    for _ in 0..100 {
        if spool.put(std::slice::from_ref(&given)).await.is_err() {
            let message = spool.put(&[given]).await.unwrap_err().to_string();
            assert!(message.ends_with("is full (20000 bytes)"), "{message}");
            return;
        }
    }
    panic!("no bound");
}

#[tokio::test]
async fn what_a_dead_process_left_is_taken_over_and_a_living_ones_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut living = spool(folder.path(), 1 << 20);
    living.put(&[entry(&record("living"))]).await.unwrap();
    for name in ["1", "2"] {
        let mut dead = spool(folder.path(), 1 << 20);
        dead.put(&[entry(&record(name))]).await.unwrap();
        // A process that is killed closes nothing, but its locks end.
        dead.close().await;
    }
    let mut heir = spool(folder.path(), 1 << 20);
    heir.put(&[entry(&record("own"))]).await.unwrap();
    heir.take_over().await.unwrap();
    assert_eq!(heir.len(), 3);
    heir.take_over().await.unwrap();
    assert_eq!(heir.len(), 3, "what is open already is not taken twice");
    assert_eq!(drain(&mut heir, 10).await, ["1", "2", "own"]);
    assert_eq!(living.len(), 1);
    assert_eq!(drain(&mut living, 10).await, ["living"]);
    assert_eq!(files(folder.path()), Vec::<String>::new());
}

#[tokio::test]
async fn tenants_are_known() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = spool(folder.path(), 1 << 20);
    let known = record("team-a");
    spool.put(&[entry(&known)]).await.unwrap();
    let tenants = spool.tenants_of(&[Uuid::now_v7(), known.decision_id]).await;
    assert_eq!(tenants, [None, Some("team-a".to_owned())]);
}

#[tokio::test]
async fn a_broken_file_is_moved_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("spool-0.sqlite"), "no database at all, but long enough to be read as one").unwrap();
    let mut spool = spool(folder.path(), 1 << 20);
    spool.take_over().await.unwrap();
    assert_eq!((spool.len(), spool.take_lost(), spool.take_lost()), (0, 1, 0));
    let left = files(folder.path());
    assert!(left.len() == 1 && left[0].starts_with("spool-0.sqlite.corrupt-"), "{left:?}");
    assert_eq!(left_aside(&path), [path.join(&left[0])]);
    spool.put(&[entry(&record("1"))]).await.unwrap();
    assert_eq!(drain(&mut spool, 10).await, ["1"]);
}

#[tokio::test]
async fn a_file_that_fails_and_fails_does_not_hold_up_the_others() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["1", "2"] {
        let mut dead = spool(folder.path(), 1 << 20);
        dead.put(&[entry(&record(name))]).await.unwrap();
        dead.close().await;
    }
    let mut heir = spool(folder.path(), 1 << 20);
    heir.take_over().await.unwrap();
    let rename = async |text: &'static str, path: &Path| {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
        let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
        sqlx::raw_sql(text).execute(&mut connection).await.unwrap();
        sqlx::Connection::close(connection).await.unwrap();
    };
    let path = heir.files[0].path().to_owned();
    rename("ALTER TABLE spool RENAME COLUMN document TO other", &path).await;
    for _ in 0..FAILURES_MAX {
        assert!(heir.oldest(10, 1 << 20).await.is_err());
    }
    let batch = heir.oldest(10, 1 << 20).await.unwrap().unwrap();
    assert_eq!(batch.records[0].request.tenant, "2");
    heir.remove(&batch).await.unwrap();
    assert!(heir.oldest(10, 1 << 20).await.is_err(), "it is tried again when no other waits");
    rename("ALTER TABLE spool RENAME COLUMN other TO document", &path).await;
    assert_eq!(drain(&mut heir, 10).await, ["1"]);
}

#[tokio::test]
async fn what_is_left_aside_is_kept_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = spool(folder.path(), 1 << 20);
    spool.put(&[entry(&record("1"))]).await.unwrap();
    let given = [feedback(Uuid::now_v7(), "one"), feedback(Uuid::now_v7(), "two")];
    for one in &given {
        spool.leave_aside(std::slice::from_ref(one)).unwrap();
    }
    let path = folder.path().join("spool").join(ASIDE);
    let lines = fs::read_to_string(&path).unwrap();
    let read: Vec<Feedback> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read, given);
    assert_eq!(left_aside(&folder.path().join("spool")), std::slice::from_ref(&path));
    fs::File::options().write(true).open(&path).unwrap().set_len(ASIDE_BYTES_MAX).unwrap();
    spool.leave_aside(&given).unwrap();
    let more = [feedback(Uuid::now_v7(), "three")];
    assert!(spool.leave_aside(&more).unwrap_err().to_string().contains("is full"));
}

#[tokio::test]
async fn what_is_left_aside_already_is_not_written_again_until_it_was_removed() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = spool(folder.path(), 1 << 20);
    let given = feedback(Uuid::now_v7(), "one");
    let lines = || fs::read_to_string(folder.path().join("spool").join(ASIDE)).unwrap().lines().count();
    for expected in 1..3 {
        spool.put(&[Entry::feedback(&given).unwrap()]).await.unwrap();
        for _ in 0..3 {
            let batch = spool.oldest(10, 1 << 20).await.unwrap().unwrap();
            spool.leave_aside(&batch.feedback).unwrap();
        }
        assert_eq!(lines(), expected);
        let batch = spool.oldest(10, 1 << 20).await.unwrap().unwrap();
        spool.remove(&batch).await.unwrap();
    }
    assert!(spool.aside.is_empty());
}

#[tokio::test]
async fn a_file_that_cannot_be_begun_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool-1.sqlite");
    // Nothing can be written to what is a folder.
    fs::create_dir(folder.path().join("spool-1.sqlite-wal")).unwrap();
    let lock = Lock::take(&path).unwrap().unwrap();
    assert!(begin_at(path, lock).await.is_err());
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["spool-1.sqlite-wal"]);
}

#[tokio::test]
async fn empty_files_are_removed_and_no_more_are_open_than_may() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    fs::create_dir(&path).unwrap();
    let begin = async |number: usize, entries: &[Entry]| {
        let path = path.join(format!("spool-{number:03}.sqlite"));
        let mut file = begin_at(path.clone(), Lock::take(&path).unwrap().unwrap()).await.unwrap();
        file.put(entries).await.unwrap();
        file.close().await;
    };
    for number in 0..3 {
        begin(number, &[]).await;
    }
    for number in 3..TAKEN_OVER_MAX + 5 {
        begin(number, &[entry(&record("1"))]).await;
    }
    let mut heir = spool(folder.path(), 1 << 20);
    heir.take_over().await.unwrap();
    assert_eq!(heir.files.len(), TAKEN_OVER_MAX - 3, "empty ones are removed");
    heir.put(&[entry(&record("own"))]).await.unwrap();
    for _ in 0..2 {
        heir.take_over().await.unwrap();
        assert_eq!(heir.files.len(), TAKEN_OVER_MAX + 1);
    }
    assert_eq!(drain(&mut heir, 10).await.len(), TAKEN_OVER_MAX + 1);
    heir.take_over().await.unwrap();
    assert_eq!(drain(&mut heir, 10).await.len(), 2);
    let left = files(folder.path());
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn entries_that_cannot_be_read_are_counted_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = spool(folder.path(), 1 << 20);
    let broken = Entry { document: "{\"version\":1}".to_owned(), ..entry(&record("1")) };
    spool.put(&[broken, entry(&record("2"))]).await.unwrap();
    let batch = spool.oldest(10, 1 << 20).await.unwrap().unwrap();
    assert_eq!((batch.broken, batch.records.len()), (1, 1));
    spool.remove(&batch).await.unwrap();
    assert_eq!(spool.len(), 0);
}

#[cfg(unix)]
#[tokio::test]
async fn only_its_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mut spool = spool(folder.path(), 1 << 20);
    spool.put(&[entry(&record("1"))]).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.path().join("spool")), 0o700);
    for file in files(folder.path()) {
        assert_eq!(mode(&folder.path().join("spool").join(&file)), 0o600, "{file}");
    }
}
