//! One file of the spool, a small SQLite database.

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::TryStreamExt;
use sqlx::{
    ConnectOptions, Connection, Row as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use uuid::Uuid;

use super::{Entry, EntryKind, lock::Lock};
use crate::traffic::store::sqlite::is_corrupt;

/// The form that is written.
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS spool (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, \
                      decision_id TEXT NOT NULL, tenant TEXT, document TEXT NOT NULL)";
const INDEX: &str = "CREATE INDEX IF NOT EXISTS spool_decision_id ON spool (decision_id)";
const COUNT: &str = "SELECT count(*), coalesce(sum(length(CAST(document AS BLOB))), 0) FROM spool";
const INSERT: &str = "INSERT INTO spool (kind, decision_id, tenant, document) VALUES ($1, $2, $3, $4)";
const OLDEST: &str = "SELECT id, kind, document FROM spool ORDER BY id LIMIT $1";
const REMOVE: &str = "DELETE FROM spool WHERE id <= $1";
const TENANT: &str = "SELECT tenant FROM spool WHERE decision_id = $1 AND tenant IS NOT NULL LIMIT 1";
/// A document that cannot be read is of the tenant as a whole.
const DECISIONS_OF: &str = "SELECT DISTINCT decision_id FROM spool WHERE kind = 'record' AND tenant = $1 AND \
     ($2 IS NULL OR CASE WHEN json_valid(document) THEN json_extract(document, '$.request.session') END = $2)";
const JUDGED: &str = "SELECT DISTINCT decision_id FROM spool WHERE kind = 'feedback'";
const ERASE: &str = "DELETE FROM spool WHERE decision_id = $1";

/// What a row takes beside its document, bytes: keys, index, headers.
const ROW_BYTES: u64 = 160;
/// Nobody else writes the file; a backup may read it.
const BUSY_MAX: Duration = Duration::from_secs(2);

/// Why a file did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("{0}")]
    Corrupt(String),
    #[error("{0}")]
    Io(String),
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        if is_corrupt(&error) { Self::Corrupt(error.to_string()) } else { Self::Io(error.to_string()) }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// A row as it lies there.
#[derive(Debug)]
pub struct Row {
    pub id: i64,
    /// `None`: of a kind that this program does not know.
    pub kind: Option<EntryKind>,
    pub document: String,
    pub weight: u64,
}

/// An open file, and the right to it.
pub struct SpoolFile {
    path: PathBuf,
    lock: Lock,
    /// `None` after a failure: SQLite may have rolled back without the driver, and what is held is counted again.
    connection: Option<SqliteConnection>,
    rows: u64,
    bytes: u64,
    /// In a row.
    failures: u32,
}

impl SpoolFile {
    /// Opens a file or makes it; what is left of one that could not be made is the caller's to remove.
    pub async fn open(path: PathBuf, lock: Lock) -> Result<Self, (Trouble, Lock)> {
        match Self::connect(&path).await {
            Ok((connection, rows, bytes)) => {
                Ok(Self { path, lock, connection: Some(connection), rows, bytes, failures: 0 })
            }
            Err(trouble) => Err((trouble, lock)),
        }
    }

    async fn connect(path: &Path) -> Result<(SqliteConnection, u64, u64), Trouble> {
        // SQLite gives the files beside it the same rights.
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("secure_delete", "ON")
            .busy_timeout(BUSY_MAX)
            .disable_statement_logging();
        let mut connection = options.connect().await?;
        match Self::prepare(&mut connection).await {
            Ok((rows, bytes)) => Ok((connection, rows, bytes)),
            Err(error) => {
                // It has let go of the file when this returns.
                let _ = connection.close().await;
                Err(error.into())
            }
        }
    }

    /// Makes what is missing, and returns how many entries there are and about how many bytes they take.
    async fn prepare(connection: &mut SqliteConnection) -> Result<(u64, u64), sqlx::Error> {
        sqlx::query(SCHEMA).execute(&mut *connection).await?;
        sqlx::query(INDEX).execute(&mut *connection).await?;
        let (rows, bytes): (i64, i64) = sqlx::query_as(COUNT).fetch_one(&mut *connection).await?;
        let (rows, bytes) = (rows.cast_unsigned(), bytes.cast_unsigned());
        Ok((rows, bytes + rows * ROW_BYTES))
    }

    /// Returns the connection, a new one after a failure.
    async fn connection(&mut self) -> Result<&mut SqliteConnection, Trouble> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let (connection, rows, bytes) = Self::connect(&self.path).await?;
                (self.rows, self.bytes) = (rows, bytes);
                connection
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// Counts a failure, and gives the connection up with which it came.
    async fn noted<T>(&mut self, done: Result<T, Trouble>) -> Result<T, Trouble> {
        if done.is_ok() {
            self.failures = 0;
        } else {
            self.failures = self.failures.saturating_add(1);
            if let Some(connection) = self.connection.take() {
                let _ = connection.close().await;
            }
        }
        done
    }

    /// Returns how often it failed since something worked.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how many entries it holds.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns about how many bytes it holds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds entries, all or none; durable when this returns.
    pub async fn put(&mut self, entries: &[Entry]) -> Result<(), Trouble> {
        let done = self.try_put(entries).await;
        self.noted(done).await
    }

    async fn try_put(&mut self, entries: &[Entry]) -> Result<(), Trouble> {
        let mut transaction = self.connection().await?.begin().await?;
        for entry in entries {
            sqlx::query(INSERT)
                .bind(name(entry.kind))
                .bind(entry.decision_id.to_string())
                .bind(entry.tenant.as_deref())
                .bind(&entry.document)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        self.rows += entries.len() as u64;
        self.bytes += entries.iter().map(weight).sum::<u64>();
        Ok(())
    }

    /// Returns its oldest entries, at most `rows_max`, and no more once they are `bytes_max` long.
    pub async fn oldest(&mut self, rows_max: usize, bytes_max: usize) -> Result<Vec<Row>, Trouble> {
        let done = self.try_oldest(rows_max, bytes_max).await;
        self.noted(done).await
    }

    async fn try_oldest(&mut self, rows_max: usize, bytes_max: usize) -> Result<Vec<Row>, Trouble> {
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut rows = sqlx::query(OLDEST).bind(rows_max as i64).fetch(self.connection().await?);
        while let Some(row) = rows.try_next().await? {
            let document: String = row.try_get(2)?;
            bytes += document.len();
            found.push(Row {
                id: row.try_get(0)?,
                kind: kind(row.try_get(1)?),
                weight: document.len() as u64 + ROW_BYTES,
                document,
            });
            if bytes >= bytes_max {
                break;
            }
        }
        drop(rows);
        if found.is_empty() {
            // It was emptied by somebody else.
            (self.rows, self.bytes) = (0, 0);
        }
        Ok(found)
    }

    /// Removes the entries up to this one: so many, of this weight.
    pub async fn remove(&mut self, through: i64, rows: u64, bytes: u64) -> Result<(), Trouble> {
        let done = self.try_remove(through).await;
        self.noted(done).await?;
        self.rows = self.rows.saturating_sub(rows);
        self.bytes = self.bytes.saturating_sub(bytes);
        Ok(())
    }

    async fn try_remove(&mut self, through: i64) -> Result<(), Trouble> {
        sqlx::query(REMOVE).bind(through).execute(self.connection().await?).await?;
        Ok(())
    }

    /// Returns the tenant of a decision whose record is here.
    pub async fn tenant_of(&mut self, decision: Uuid) -> Result<Option<String>, Trouble> {
        let done = self.try_tenant_of(decision).await;
        self.noted(done).await
    }

    async fn try_tenant_of(&mut self, decision: Uuid) -> Result<Option<String>, Trouble> {
        let tenant = sqlx::query_scalar(TENANT).bind(decision.to_string());
        Ok(tenant.fetch_optional(self.connection().await?).await?)
    }

    /// Returns the decisions of a tenant's records, of all or of one session.
    pub async fn decisions_of(&mut self, tenant: &str, session: Option<&str>) -> Result<Vec<Uuid>, Trouble> {
        let select = sqlx::query_scalar(DECISIONS_OF).bind(tenant).bind(session);
        let found: Vec<String> = select.fetch_all(self.connection().await?).await?;
        Ok(found.iter().filter_map(|id| Uuid::try_parse(id).ok()).collect())
    }

    /// Returns the decisions that feedback is about.
    pub async fn judged(&mut self) -> Result<Vec<Uuid>, Trouble> {
        let found: Vec<String> = sqlx::query_scalar(JUDGED).fetch_all(self.connection().await?).await?;
        Ok(found.iter().filter_map(|id| Uuid::try_parse(id).ok()).collect())
    }

    /// Deletes everything about these decisions, and returns how many entries that were.
    pub async fn erase(&mut self, decisions: impl Iterator<Item = Uuid>) -> Result<u64, Trouble> {
        let mut transaction = self.connection().await?.begin().await?;
        let mut erased = 0;
        for decision in decisions {
            let gone = sqlx::query(ERASE).bind(decision.to_string()).execute(&mut *transaction).await?;
            erased += gone.rows_affected();
        }
        transaction.commit().await?;
        self.rows = self.rows.saturating_sub(erased);
        Ok(erased)
    }

    /// Ends its use; what it holds stays for a later process.
    pub async fn close(self) {
        if let Some(connection) = self.connection
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "a file of the spool was not closed well");
        }
        drop(self.lock);
    }

    /// Ends its use and removes it.
    pub async fn delete(self) {
        if let Some(connection) = self.connection {
            let _ = connection.close().await;
        }
        remove(self.lock);
    }
}

/// Removes a file that nobody uses, with what lies beside it, and gives up the right to it.
pub fn remove(lock: Lock) {
    for end in ["", "-wal", "-shm"] {
        let mut path = lock.guarded().as_os_str().to_owned();
        path.push(end);
        let _ = std::fs::remove_file(path);
    }
    lock.remove();
}

/// Returns about how much room an entry takes on disk, bytes.
pub fn weight(entry: &Entry) -> u64 {
    entry.document.len() as u64 + ROW_BYTES
}

/// Returns what an entry's kind is called in the file.
pub fn name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Record => "record",
        EntryKind::Feedback => "feedback",
    }
}

fn kind(name: &str) -> Option<EntryKind> {
    [EntryKind::Record, EntryKind::Feedback].into_iter().find(|&kind| self::name(kind) == name)
}
