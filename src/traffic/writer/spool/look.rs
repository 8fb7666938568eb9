//! What waits in a spool, counted from outside. Takes no lock of the processes that write it, and changes nothing.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::time::timeout;

use super::{ASIDE, ASIDE_BYTES_MAX, EntryKind, erase::paths, file::name};

/// Longest time for one file: some gigabytes are counted in it.
const COUNT_TIMEOUT: Duration = Duration::from_secs(30);
/// A table that is not there yet holds nothing.
const TABLES: &str = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'spool'";
const COUNT: &str = "SELECT count(*) FROM spool WHERE kind = $1";

/// What waits for the store, and what it will never take.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SpoolHoldings {
    pub files: u64,
    pub records: u64,
    pub feedback: u64,
    /// On disk.
    pub bytes: u64,
    /// Pieces of acknowledged feedback that the store refused for good.
    pub refused_feedback: u64,
    /// Files that could not be counted, and why.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// Returns what is in a spool's folder; nothing where there is no folder.
pub async fn holdings(folder: &Path) -> io::Result<SpoolHoldings> {
    let mut holdings = SpoolHoldings { refused_feedback: refused(folder)?, ..SpoolHoldings::default() };
    for path in paths(folder)? {
        let bytes = bytes(&path);
        match timeout(COUNT_TIMEOUT, counted(&path)).await {
            // It was emptied meanwhile.
            _ if !path.exists() => continue,
            Ok(Ok([records, feedback])) => {
                holdings.records += records;
                holdings.feedback += feedback;
            }
            Ok(Err(error)) => holdings.unreadable.push((path, error.to_string())),
            Err(_) => holdings.unreadable.push((path, "it could not be counted in time".to_owned())),
        }
        holdings.files += 1;
        holdings.bytes += bytes;
    }
    Ok(holdings)
}

async fn counted(path: &Path) -> Result<[u64; 2], sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        // Nobody has it open who has no log of changes: then even files beside it are not needed.
        .immutable(!with_suffix(path, "-wal").exists())
        .disable_statement_logging();
    let mut connection = options.connect().await?;
    let counts = counts(&mut connection).await;
    let _ = connection.close().await;
    counts
}

async fn counts(connection: &mut SqliteConnection) -> Result<[u64; 2], sqlx::Error> {
    let mut counts = [0; 2];
    let tables: i64 = sqlx::query_scalar(TABLES).fetch_one(&mut *connection).await?;
    if tables == 0 {
        return Ok(counts);
    }
    for (count, kind) in counts.iter_mut().zip([EntryKind::Record, EntryKind::Feedback]) {
        let rows: i64 = sqlx::query_scalar(COUNT).bind(name(kind)).fetch_one(&mut *connection).await?;
        *count = u64::try_from(rows).unwrap_or(0);
    }
    Ok(counts)
}

fn bytes(path: &Path) -> u64 {
    let size = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    size(path) + size(&with_suffix(path, "-wal"))
}

fn refused(folder: &Path) -> io::Result<u64> {
    let file = match File::open(folder.join(ASIDE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        file => file?,
    };
    let mut lines = BufReader::new(file.take(ASIDE_BYTES_MAX));
    let mut count = 0;
    loop {
        let read = lines.fill_buf()?;
        if read.is_empty() {
            return Ok(count);
        }
        count += read.iter().filter(|byte| **byte == b'\n').count() as u64;
        let length = read.len();
        lines.consume(length);
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut whole = path.as_os_str().to_owned();
    whole.push(suffix);
    whole.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::SpoolConfig,
        traffic::{
            observe::tests::pending,
            writer::{
                spool::{Entry, Spool},
                tests::feedback,
            },
        },
    };

    fn names(folder: &Path) -> Vec<PathBuf> {
        let mut names: Vec<PathBuf> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort_unstable();
        names
    }

    #[tokio::test]
    async fn what_waits_is_counted_while_it_is_written_and_after() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("spool");
        assert_eq!(holdings(&folder).await.unwrap(), SpoolHoldings::default(), "there is no spool");

        let config = SpoolConfig { folder: folder.clone(), bytes_max: 1 << 20 };
        let mut spool = Spool::new(config.clone());
        let records = ["a", "b"].map(|text| Entry::record(&pending(text).record).unwrap());
        spool.put(&records).await.unwrap();
        let said = feedback(records[0].decision_id, "f");
        spool.put(&[Entry::feedback(&said).unwrap()]).await.unwrap();
        spool.leave_aside(&[said.clone(), said.clone()]).unwrap();
        let waits = |held: &SpoolHoldings| (held.files, held.records, held.feedback, held.refused_feedback);

        let held = holdings(&folder).await.unwrap();
        assert_eq!(waits(&held), (1, 2, 1, 2));
        assert!(held.bytes > 0 && held.unreadable.is_empty(), "{held:?}");
        spool.put(&records).await.unwrap();
        assert_eq!(holdings(&folder).await.unwrap().records, 4, "its process was not disturbed");

        spool.close().await;
        let before = names(&folder);
        assert_eq!(waits(&holdings(&folder).await.unwrap()), (1, 4, 1, 2), "its process has ended");
        assert_eq!(names(&folder), before, "looking leaves nothing behind");
        let mut spool = Spool::new(config);
        spool.take_over().await.unwrap();
        assert_eq!(spool.len(), 5, "it can be taken over");
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("spool-1.sqlite");
        fs::write(&path, "no database, and longer than the header of one would be ".repeat(4)).unwrap();
        // One that was begun and not written.
        fs::write(folder.path().join("spool-2.sqlite"), "").unwrap();
        let held = holdings(folder.path()).await.unwrap();
        assert_eq!((held.files, held.records, held.unreadable.len()), (2, 0, 1), "{held:?}");
        assert_eq!(held.unreadable[0].0, path);
    }
}
