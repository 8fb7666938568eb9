//! Where records and feedback are kept: SQLite in a file, or PostgreSQL for a fleet, behind one path of code.
//!
//! Every write is idempotent by id, so that what was spooled can be replayed without thought. A decision's time is the
//! one in its identifier.

pub(in crate::traffic) mod address;
mod counts;
mod delete;
mod error;
pub mod fleet;
mod keys;
mod learning;
mod newest;
mod postgres;
mod read;
mod retain;
mod schema;
mod sizes;
pub mod sqlite;
mod statement;
mod write;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use sqlx::{Any, AnyPool, Connection, Row, Transaction, pool::PoolConnection};
use tokio::time::timeout;
use uuid::Uuid;

pub use self::error::StoreError;
use self::{
    address::{Address, Missing},
    error::Fault,
};
pub(in crate::traffic) use self::{
    error::Dialect,
    keys::{DAY_MS, column_text, moment},
    statement::Statement,
};
use crate::config::StoreConfig;

/// Longest wait for the schema to be brought up to date.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two batches of deletions, or of what is learned from, so that those who write get their turn: SQLite does not queue them.
pub(super) const BATCH_PAUSE: Duration = Duration::from_millis(10);
/// Longest time for one batch; a little longer than the server's own limit, which says why.
const BATCH_TIMEOUT: Duration = Duration::from_secs(40);

/// What became of one piece of feedback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landed {
    /// Its decision is in the store.
    Known,
    /// Its decision is not in the store (yet).
    Unknown,
    /// It was there already.
    Duplicate,
    /// Its decision is unknown, and there is no room for more of that kind.
    Full,
    /// It waits for a store that is down; whether that has it already is not known.
    Spooled,
}

/// Which records: from `from_ms` on and before `until_ms`, milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    pub from_ms: Option<i64>,
    pub until_ms: Option<i64>,
    pub tenant: Option<String>,
}

/// Where a page ended; the next one follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    pub at_ms: i64,
    pub decision_id: Uuid,
}

/// Whose data is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    Tenant(String),
    Session { tenant: String, session: String },
}

/// How much was deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deleted {
    pub records: u64,
    pub feedback: u64,
}

/// How far a deletion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleting {
    /// So much is deleted, more follows.
    Rows(Deleted),
    /// SQLite's file is written anew, after so much was deleted.
    Rewriting(Deleted),
    /// PostgreSQL's tables are vacuumed, after so much was deleted.
    Vacuuming(Deleted),
}

/// What the store holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Holdings {
    pub records: u64,
    pub feedback: u64,
    pub unknown_feedback: u64,
    pub bytes: u64,
    pub oldest_ms: Option<i64>,
    pub newest_ms: Option<i64>,
}

/// An open store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    address: Address,
    pool: AnyPool,
    /// Partitions that were seen; unused in SQLite.
    days: Mutex<postgres::Days>,
    /// Rows that cannot be read, the first of them: each is told once.
    unreadable: Mutex<BTreeSet<String>>,
}

impl Store {
    /// Opens it, makes the file if there is none, and brings its schema up to date.
    pub async fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        let address = Address::of(config, Missing::Create)?;
        upgrade(&address).await?;
        Ok(Self::at(address))
    }

    /// Opens what is there, and changes nothing of its schema; a missing file is an error that says so.
    pub async fn open_existing(config: &StoreConfig) -> Result<Self, StoreError> {
        let address = Address::of(config, Missing::Refuse)?;
        let mut connection = address.connect().await?;
        schema::check(&address, &mut connection).await?;
        let _ = connection.close().await;
        Ok(Self::at(address))
    }

    /// Brings its schema up to date, makes the file if there is none, and returns the versions that were added.
    pub async fn migrate(config: &StoreConfig) -> Result<Vec<i64>, StoreError> {
        upgrade(&Address::of(config, Missing::Create)?).await
    }

    fn at(address: Address) -> Self {
        let pool = address.pool();
        Self {
            inner: Arc::new(Inner { address, pool, days: Mutex::default(), unreadable: Mutex::default() }),
        }
    }

    /// Ends its connections; waits at most `within`.
    pub async fn close(&self, within: Duration) {
        let _ = timeout(within, self.inner.pool.close()).await;
    }

    /// Returns what people call it: its file, or its host and database.
    pub fn name(&self) -> &str {
        &self.inner.address.name
    }

    /// Which database it is.
    pub(in crate::traffic) fn dialect(&self) -> Dialect {
        self.inner.address.dialect
    }

    /// Begins a statement.
    pub(in crate::traffic) fn statement(&self, text: &'static str) -> Statement {
        Statement::new(self.dialect(), text)
    }

    /// Returns the SQL for the database's own time, milliseconds since 1970, so that the clocks of replicas do not
    /// matter.
    fn clock(&self) -> &'static str {
        match self.dialect() {
            Dialect::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            Dialect::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }

    /// Returns what the database's clock says, milliseconds since 1970.
    pub async fn now_ms(&self) -> Result<i64, StoreError> {
        self.bounded(async {
            let mut select = self.statement("SELECT ");
            select.push(self.clock());
            let mut transaction = self.read().await?;
            let now = select.query().fetch_one(&mut *transaction).await;
            now.and_then(|row| row.try_get(0)).map_err(|error| self.failed(&error))
        })
        .await
    }

    /// Begins to read.
    pub(in crate::traffic) async fn read(&self) -> Result<Transaction<'static, Any>, StoreError> {
        match self.inner.pool.begin().await {
            Ok(transaction) => Ok(transaction),
            Err(error) => Err(self.unconnected(&error).await),
        }
    }

    /// Begins to write. SQLite takes its lock at once: it would not wait for one that is needed only later.
    pub(in crate::traffic) async fn begin(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let begun = match self.dialect() {
            Dialect::Sqlite => self.inner.pool.begin_with("BEGIN IMMEDIATE").await,
            Dialect::Postgres => self.inner.pool.begin().await,
        };
        match begun {
            Ok(transaction) => Ok(transaction),
            Err(error) => Err(self.unconnected(&error).await),
        }
    }

    /// Takes a connection, for statements that stand outside of transactions.
    async fn connection(&self) -> Result<PoolConnection<Any>, StoreError> {
        match self.inner.pool.acquire().await {
            Ok(connection) => Ok(connection),
            Err(error) => Err(self.unconnected(&error).await),
        }
    }

    /// A pool does not say why it could not connect, but another attempt does.
    async fn unconnected(&self, error: &sqlx::Error) -> StoreError {
        if matches!(error, sqlx::Error::PoolTimedOut)
            && let Err(reason) = self.inner.address.connect().await
        {
            return reason;
        }
        self.failed(error)
    }

    /// Returns what an error of the driver means for this store.
    pub(in crate::traffic) fn failed(&self, error: &sqlx::Error) -> StoreError {
        self.inner.address.failed(error)
    }

    /// Runs one batch for a bounded time, since a server that vanished answers nothing at all.
    pub(in crate::traffic) async fn bounded<T>(
        &self,
        batch: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        match timeout(BATCH_TIMEOUT, batch).await {
            Ok(result) => result,
            Err(_) => Err(self
                .inner
                .address
                .fault(Fault::Down, format!("no answer within {} seconds", BATCH_TIMEOUT.as_secs()))),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.inner.address.name).finish()
    }
}

async fn upgrade(address: &Address) -> Result<Vec<i64>, StoreError> {
    let upgrade = async {
        let mut connection = address.connect().await?;
        let added = schema::upgrade(address, &mut connection).await?;
        let _ = connection.close().await;
        Ok(added)
    };
    timeout(UPGRADE_TIMEOUT, upgrade)
        .await
        .map_err(|_| address.fault(Fault::Down, "its schema could not be brought up to date in time"))?
}
