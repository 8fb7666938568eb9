//! What is particular to PostgreSQL: its address and settings, and a partition for each day.

use std::{
    collections::BTreeSet,
    str::FromStr,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::{
    Any, AnyConnection, AssertSqlSafe, Connection, Row, Transaction, any::AnyConnectOptions,
    postgres::PgConnectOptions,
};
use tokio::time::timeout;

use super::{
    Dialect, Store, StoreError,
    error::{Fault, explain},
};

/// A statement of a batch takes milliseconds; one that takes this long holds up others. Locks are waited for less long
/// than a partition is allowed to be in the way.
pub(super) const SETTINGS: &str = "SET statement_timeout = '30s'; SET lock_timeout = '5s'; \
     SET idle_in_transaction_session_timeout = '60s'; SET client_min_messages = 'warning'; \
     SET application_name = 'pointsman'";

/// Parameters of an address that the driver takes; it would write others, with their values, into the log.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// Returns the name by which a database is shown, and how to connect to it.
pub(super) fn options(url: &str) -> Result<(String, AnyConnectOptions), StoreError> {
    let refused = |problem: &str| Fault::Refused.of("PostgreSQL", problem);
    let shape = "its address must be postgres://USER:PASSWORD@HOST:PORT/DATABASE, with parameters such as \
                 ?sslmode=verify-full";
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(refused(shape));
    }
    let options = AnyConnectOptions::from_str(url).map_err(|_| refused(shape))?;
    let is_known =
        |name: &str| PARAMETERS.contains(&name) || name.starts_with("options[") && name.ends_with(']');
    let unknown = options.database_url.query_pairs().map(|(name, _)| name).find(|name| !is_known(name));
    if let Some(name) = unknown {
        return Err(refused(&format!("its address has the unknown parameter {name:?}")));
    }
    let read = PgConnectOptions::from_str(url).map_err(|_| refused(shape))?;
    let database = read.get_database().unwrap_or("(default)");
    Ok((format!("PostgreSQL {}:{}/{database}", read.get_host(), read.get_port()), options))
}

/// A partition's name before its day, counted from 1970.
pub(super) const PARTITION: &str = "traffic_day_";
const PARTITIONS: &str = "SELECT CAST(relname AS TEXT) FROM pg_class \
     WHERE oid IN (SELECT relid FROM pg_partition_tree('traffic') WHERE isleaf)";
/// Names the advisory lock under which partitions are made and dropped; any number that no other program takes.
const PARTITIONS_LOCK: i64 = 0x706f_696e_7473_6d61;
/// Records of a day that are counted one by one: some 10 ms.
const COUNTED_MAX: i64 = 100_000;
/// Longest time for making room after a deletion.
const VACUUM_TIMEOUT: Duration = Duration::from_secs(600);

/// The days whose partitions are known to be there.
pub(super) type Days = BTreeSet<i64>;

/// Whether a row found no partition.
pub(super) fn is_day_missing(error: &sqlx::Error) -> bool {
    // A row that no partition takes violates a check, as PostgreSQL says it.
    const CHECK_VIOLATION: &str = "23514";
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == CHECK_VIOLATION)
}

impl Store {
    /// Makes the partitions of these days where they are missing.
    pub(super) async fn make_days(&self, days: &Days) -> Result<(), StoreError> {
        let unseen: Days = days.difference(&self.days()).copied().collect();
        if unseen.is_empty() {
            return Ok(());
        }
        let failed = |error: sqlx::Error| self.failed(&error);
        // Without the lock first, which another replica may hold while it waits to drop a day.
        let missing: Days = unseen.difference(&self.partitions().await?).copied().collect();
        self.days().extend(unseen.difference(&missing));
        if missing.is_empty() {
            return Ok(());
        }
        let mut transaction = self.begin_alone().await?;
        for &day in &missing {
            if !is_there(&mut transaction, day).await.map_err(failed)? {
                run(&mut transaction, create(day)).await.map_err(failed)?;
            }
        }
        transaction.commit().await.map_err(failed)?;
        self.days().extend(missing);
        Ok(())
    }

    /// Takes these days for missing.
    pub(super) fn forget_days(&self, days: &Days) {
        self.days().retain(|day| !days.contains(day));
    }

    /// Returns the days that have a partition.
    pub(super) async fn partitions(&self) -> Result<Days, StoreError> {
        let failed = |error: sqlx::Error| self.failed(&error);
        let mut transaction = self.read().await?;
        let names: Vec<String> =
            sqlx::query_scalar(PARTITIONS).fetch_all(&mut *transaction).await.map_err(failed)?;
        Ok(names.iter().filter_map(|name| name.strip_prefix(PARTITION)?.parse().ok()).collect())
    }

    /// Drops a day's partition with all that is in it, and returns how many records that were, about.
    pub(super) async fn drop_day(&self, day: i64) -> Result<u64, StoreError> {
        let records = self.count_day(day).await?;
        let failed = |error: sqlx::Error| self.failed(&error);
        let mut transaction = self.begin_alone().await?;
        if !is_there(&mut transaction, day).await.map_err(failed)? {
            return Ok(0);
        }
        // Nobody may read or write any day until the lock is had; so it is not waited for long.
        run(&mut transaction, "SET LOCAL lock_timeout = '2s'".to_owned()).await.map_err(failed)?;
        run(&mut transaction, format!("DROP TABLE {PARTITION}{day}")).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        self.forget_days(&Days::from([day]));
        Ok(records)
    }

    /// Returns how many records a day has; of many what PostgreSQL takes them for.
    async fn count_day(&self, day: i64) -> Result<u64, StoreError> {
        let failed = |error: sqlx::Error| self.failed(&error);
        let mut transaction = self.read().await?;
        let mut count = self.statement("SELECT COUNT(*) FROM (SELECT 1 FROM traffic WHERE day = ");
        count.value(day).push(" LIMIT ").value(COUNTED_MAX).push(") AS counted");
        let count = count.query().fetch_one(&mut *transaction).await.map_err(failed)?;
        let records: i64 = count.try_get(0).map_err(failed)?;
        if records < COUNTED_MAX {
            return Ok(u64::try_from(records).unwrap_or(0));
        }
        let about: Option<i64> =
            sqlx::query_scalar("SELECT CAST(reltuples AS BIGINT) FROM pg_class WHERE oid = to_regclass($1)")
                .bind(format!("{PARTITION}{day}"))
                .fetch_optional(&mut *transaction)
                .await
                .map_err(failed)?;
        Ok(u64::try_from(about.unwrap_or(0).max(records)).unwrap_or(0))
    }

    /// Makes room of deleted rows usable again, so that what stood there is overwritten in time.
    pub(super) async fn vacuum(&self, days: &Days) -> Result<(), StoreError> {
        let address = &self.inner.address;
        let vacuum = async {
            let mut connection = address.connect().await?;
            let tables = days.iter().map(|day| format!("VACUUM {PARTITION}{day}"));
            let statements = ["SET statement_timeout = 0", "VACUUM feedback", "VACUUM shadow_scores"];
            let statements = statements.map(str::to_owned);
            for text in statements.into_iter().chain(tables) {
                match run(&mut connection, text).await {
                    // A day that was dropped meanwhile leaves nothing at all.
                    Err(error) if explain(Dialect::Postgres, &error).0 != Fault::Refused => {
                        return Err(self.failed(&error));
                    }
                    _ => {}
                }
            }
            let _ = connection.close().await;
            Ok(())
        };
        let late = || {
            address
                .fault(Fault::Down, "rows are deleted, but not vacuumed in time; it does so by itself later")
        };
        timeout(VACUUM_TIMEOUT, vacuum).await.map_err(|_| late())?
    }

    /// Begins to change partitions, which one replica does at a time.
    async fn begin_alone(&self) -> Result<Transaction<'static, Any>, StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(PARTITIONS_LOCK)
            .execute(&mut *transaction)
            .await
            .map_err(|error| self.failed(&error))?;
        Ok(transaction)
    }

    fn days(&self) -> MutexGuard<'_, Days> {
        self.inner.days.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A table that is attached afterwards; to make it as a partition would hold up everybody who reads or writes.
fn create(day: i64) -> String {
    let next = day + 1;
    format!(
        "CREATE TABLE {PARTITION}{day} (LIKE traffic INCLUDING DEFAULTS INCLUDING INDEXES); \
         ALTER TABLE traffic ATTACH PARTITION {PARTITION}{day} FOR VALUES FROM ({day}) TO ({next})"
    )
}

async fn is_there(transaction: &mut Transaction<'static, Any>, day: i64) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(format!("{PARTITION}{day}"))
        .fetch_one(&mut **transaction)
        .await
}

/// Runs statements without values; names of partitions are made of numbers alone.
async fn run(connection: &mut AnyConnection, text: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(text)).execute(connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |url: &str, expected: &str| {
            let shown = match options(url) {
                Ok((name, _)) => name,
                Err(error) => error.to_string(),
            };
            assert!(shown.contains(expected), "{url}: {shown}");
            assert!(!shown.contains("secret"), "{url}: {shown}");
        };
        check("postgres://me:secret@db.internal:6000/log", "PostgreSQL db.internal:6000/log");
        check("postgresql://me:secret@db.internal/log?sslmode=require", "PostgreSQL db.internal:5432/log");
        check("postgres://me:secret@db/log?options[search_path]=x", "db:5432/log");
        check("mysql://me:secret@db/log", "its address must be");
        check("me:secret@db", "its address must be");
        check("postgres://me:secret@db:port/log", "its address must be");
        check("postgres://me:secret@db/log?sslmode=secret", "its address must be");
        check("postgres://me@db/log?pasword=secret", "unknown parameter \"pasword\"");
    }
}
