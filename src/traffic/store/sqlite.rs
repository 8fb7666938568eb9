//! What is particular to SQLite: making the file, its settings, and what a broken one is moved to.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{Connection, Row, any::AnyConnectOptions};
use tokio::time::timeout;

use super::{BATCH_PAUSE, Store, StoreError, address::Missing, error::Fault};
use crate::traffic::now_ms;

/// One writes at a time; the others read meanwhile.
pub(super) const CONNECTIONS_MAX: u32 = 4;

/// `synchronous = FULL` makes what was committed survive a power cut. `secure_delete` overwrites what is deleted with
/// zeros, and `auto_vacuum` lets the file become smaller; it counts only for a file that is still empty. The wait for
/// another one's write, 5 seconds, is the driver's default.
pub(super) const SETTINGS: &str = "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; \
     PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY; \
     PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -8000; PRAGMA trusted_schema = OFF";

/// Files that SQLite keeps beside the one it was given.
const BESIDE: [&str; 2] = ["-wal", "-shm"];
/// What follows the name of a broken file that was moved aside, before the seconds since 1970.
pub const ASIDE: &str = ".corrupt-";
/// Attempts to find a free name for a file that is set aside.
const NAMES_MAX: i64 = 1_000;

/// Pages that are cut off at once: 8 MB.
const VACUUM: &str = "PRAGMA incremental_vacuum(2000)";

/// The copy is too large for memory; it stands in a file without a name until it is done.
const REWRITE: &str = "PRAGMA temp_store = FILE; VACUUM";
/// Longest time for that; 10 GB take some minutes.
const REWRITE_TIMEOUT: Duration = Duration::from_secs(1_800);

impl Store {
    /// Gives free pages back to the file system, as far as nobody is in the way.
    pub(super) async fn shrink(&self) -> Result<(), StoreError> {
        self.cut_free_pages().await?;
        self.empty_log().await.map(drop)
    }

    /// Leaves nothing of what was deleted in any file, by writing the whole file anew: `secure_delete` clears rows where
    /// they stand, but not what is left of those that were moved from page to page before. Meanwhile nobody else can
    /// write. Then the log, which still has the pages as they were, is emptied.
    pub(super) async fn scrub(&self) -> Result<(), StoreError> {
        let address = &self.inner.address;
        let rewrite = async {
            let mut connection = address.connect().await?;
            let done = sqlx::raw_sql(REWRITE).execute(&mut connection).await;
            let _ = connection.close().await;
            done.map_err(|error| self.failed(&error))
        };
        let unfinished = |problem: &str| {
            address.fault(Fault::Down, format!("rows are deleted, but {problem}; delete again"))
        };
        timeout(REWRITE_TIMEOUT, rewrite)
            .await
            .map_err(|_| unfinished("the file could not be written anew in time"))??;
        if self.empty_log().await? {
            return Ok(());
        }
        Err(unfinished("their pages are still in its log while somebody is reading"))
    }

    async fn cut_free_pages(&self) -> Result<(), StoreError> {
        let failed = |error: sqlx::Error| self.failed(&error);
        let mut before = i64::MAX;
        loop {
            let free = self
                .bounded(async {
                    let mut connection = self.connection().await?;
                    sqlx::raw_sql(VACUUM).execute(&mut *connection).await.map_err(failed)?;
                    let free = sqlx::query_scalar("SELECT freelist_count FROM pragma_freelist_count");
                    free.fetch_one(&mut *connection).await.map_err(failed)
                })
                .await?;
            // A file that was not made by this program may be of a kind that does not shrink.
            if free == 0 || free >= before {
                return Ok(());
            }
            before = free;
            tokio::time::sleep(BATCH_PAUSE).await;
        }
    }

    /// Returns whether everything that was in the log is in the file now.
    async fn empty_log(&self) -> Result<bool, StoreError> {
        self.bounded(async {
            let failed = |error: sqlx::Error| self.failed(&error);
            let mut connection = self.connection().await?;
            let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)");
            let row = row.fetch_one(&mut *connection).await.map_err(failed)?;
            Ok(row.try_get::<i64, _>(0).map_err(failed)? == 0)
        })
        .await
    }
}

/// Returns how to open the file; makes it, for its owner only, where asked to.
pub(super) fn options(path: &Path, missing: Missing) -> Result<AnyConnectOptions, StoreError> {
    let name = path.display().to_string();
    let cannot = |what: &str, error: &io::Error| Fault::Down.of(&name, format!("{what}: {error}"));
    let absolute = std::path::absolute(path).map_err(|error| cannot("cannot be found", &error))?;
    let (Some(folder), Some(file)) = (absolute.parent(), absolute.file_name()) else {
        return Err(Fault::Refused.of(&name, "is no path of a file"));
    };
    match missing {
        Missing::Create => {
            make_folder(folder).map_err(|error| cannot("its folder cannot be made", &error))?;
            make_file(&absolute).map_err(|error| cannot("cannot be made", &error))?;
        }
        Missing::Refuse if !absolute.exists() => {
            return Err(Fault::Refused.of(&name, "there is no such file; `pointsman serve` makes it"));
        }
        Missing::Refuse => {}
    }
    // The address is normalised as a URL is, which would take ".." for what it is not where there are links.
    let folder = folder.canonicalize().map_err(|error| cannot("its folder cannot be found", &error))?;
    let whole = folder.join(file);
    let Some(text) = whole.to_str() else {
        return Err(Fault::Refused.of(&name, "its path must be UTF-8"));
    };
    format!("sqlite://{}?mode=rw", percent_encoded(text))
        .parse()
        .map_err(|_| Fault::Refused.of(&name, "its path cannot be used"))
}

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Returns that of the file at a path.
    pub fn of(path: &Path) -> io::Result<Self> {
        let found = fs::metadata(path)?;
        Ok(Self { device: found.dev(), inode: found.ino() })
    }
}

/// Moves a broken file out of the way, with what SQLite keeps beside it, and returns where to. Nobody may have it open.
/// `None` where another file stands there by now: another process that shares it was faster.
pub fn set_aside(path: &Path, broken: Identity) -> io::Result<Option<PathBuf>> {
    match Identity::of(path) {
        Ok(found) if found == broken => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let now_s = now_ms() / 1_000;
    let aside = (now_s..=now_s + NAMES_MAX)
        .map(|at_s| with_suffix(path, &format!("{ASIDE}{at_s}")))
        .find(|aside| !aside.exists())
        .ok_or_else(|| io::Error::from(io::ErrorKind::AlreadyExists))?;
    fs::rename(path, &aside)?;
    for suffix in BESIDE {
        match fs::rename(with_suffix(path, suffix), with_suffix(&aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(Some(aside))
}

/// Returns the broken files that were moved aside from a path and are still there, in order.
pub fn aside_of(path: &Path) -> Vec<PathBuf> {
    let Some(begin) = path.file_name().and_then(|name| Some(format!("{}{ASIDE}", name.to_str()?))) else {
        return Vec::new();
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let is_aside =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&begin));
    let mut aside: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_aside).collect();
    aside.sort_unstable();
    aside
}

/// Whether another one holds a lock that SQLite did not wait for.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    const BUSY: i32 = 5;
    error.as_database_error().and_then(|error| primary(&error.code()?)) == Some(BUSY)
}

/// Whether a file is no database or a broken one.
pub(in crate::traffic) fn is_corrupt(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| is_corrupt_code(&code))
}

/// Whether a code means that a file is no database or a broken one.
pub(super) fn is_corrupt_code(code: &str) -> bool {
    const CORRUPT: i32 = 11;
    const NOTADB: i32 = 26;
    matches!(primary(code), Some(CORRUPT | NOTADB))
}

/// Returns the primary result code, <https://sqlite.org/rescode.html>: the lower byte of an extended one.
pub(super) fn primary(code: &str) -> Option<i32> {
    code.parse::<i32>().ok().map(|code| code & 0xff)
}

fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// A file that is there is not even opened: closing it again would drop the locks that this process holds on it.
fn make_file(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut whole = path.as_os_str().to_owned();
    whole.push(suffix);
    whole.into()
}

fn percent_encoded(path: &str) -> String {
    path.bytes().fold(String::with_capacity(path.len()), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{config::StoreConfig, traffic::record::Record};

    #[test]
    fn paths_in_addresses() {
        let check = |path: &str, expected: &str| assert_eq!(percent_encoded(path), expected);
        check("/var/lib/x.sqlite", "/var/lib/x.sqlite");
        check("/a b/ü?#%", "/a%20b/%C3%BC%3F%23%25");
    }

    fn record() -> Record {
        let text = include_str!("../../../tests/golden/traffic/record-v1.json");
        serde_json::from_str(text).expect("it is a record")
    }

    #[tokio::test]
    async fn a_full_disk_is_down_until_there_is_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = StoreConfig::Sqlite { path: folder.path().join("traffic.sqlite") };
        let store = Store::open(&config).await.expect("it opens");
        // A limit holds for one connection; there is only one while nobody asks before it was given back.
        let given_back = async || {
            let waiting = async {
                while store.inner.pool.num_idle() == 0 {
                    tokio::task::yield_now().await;
                }
            };
            timeout(Duration::from_secs(30), waiting).await.expect("it is given back");
            assert_eq!(store.inner.pool.size(), 1);
        };
        let limit = async |pages: &'static str| {
            let mut connection = store.connection().await.expect("a connection");
            sqlx::raw_sql(pages).execute(&mut *connection).await.expect("it is a pragma");
            drop(connection);
            given_back().await;
        };
        limit("PRAGMA max_page_count = 40").await;
        let records: Vec<Record> =
            (0..400).map(|_| Record { decision_id: Uuid::now_v7(), ..record() }).collect();
        match store.write(&records).await {
            Err(StoreError::Down { problem, .. }) => assert!(problem.contains("full"), "{problem}"),
            other => panic!("{other:?}"),
        }
        given_back().await;
        limit("PRAGMA max_page_count = 100000").await;
        assert_eq!(store.write(&records[..1]).await.expect("there is room"), 1, "none was half written");
        given_back().await;
        assert_eq!(store.write(&records).await.expect("there is room"), 399);
    }

    #[tokio::test]
    async fn a_transaction_that_the_database_ended_itself_spoils_no_connection() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = StoreConfig::Sqlite { path: folder.path().join("traffic.sqlite") };
        let store = Store::open(&config).await.expect("it opens");
        for _ in 0..CONNECTIONS_MAX {
            let mut transaction = store.begin().await.expect("it begins");
            // As SQLite does it when a disk is full, without the driver.
            sqlx::raw_sql("ROLLBACK").execute(&mut *transaction).await.expect("it is undone");
            drop(transaction);
            store.write(&[Record { decision_id: Uuid::now_v7(), ..record() }]).await.expect("it is written");
        }
    }

    #[test]
    fn a_broken_file_is_moved_with_what_is_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("traffic.sqlite");
        for _ in 0..2 {
            fs::write(&path, "x").expect("a file");
            fs::write(with_suffix(&path, "-wal"), "y").expect("a file");
            let identity = Identity::of(&path).expect("it is there");
            let aside = set_aside(&path, identity).expect("it is moved").expect("it is the same");
            assert!(!path.exists() && aside.exists());
            assert!(with_suffix(&aside, "-wal").exists() && !with_suffix(&path, "-wal").exists());
        }
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 4, "none replaced another");
        assert_eq!(aside_of(&path).len(), 4);
        assert_eq!(aside_of(&folder.path().join("traffic")), [""; 0].map(PathBuf::from));
    }

    #[test]
    fn a_file_that_took_the_place_of_a_broken_one_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("traffic.sqlite");
        fs::write(&path, "broken").expect("a file");
        let broken = Identity::of(&path).expect("it is there");
        fs::rename(&path, folder.path().join("aside")).expect("another one moves it");
        assert_eq!(set_aside(&path, broken).expect("nothing is to do"), None);
        fs::write(&path, "new").expect("a file");
        assert_eq!(set_aside(&path, broken).expect("nothing is to do"), None);
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "new");
    }
}
