//! The schema's versions and the steps from one to the next. A step that was released never changes.

use std::sync::LazyLock;

use sqlx::{
    AnyConnection, Connection,
    migrate::{Migration, MigrationType, Migrator},
};

use super::{
    address::Address,
    error::{Dialect, Fault, StoreError, explain, explain_migration},
};

/// Of its own name, for a database may be shared.
const TABLE: &str = "pointsman_migrations";
const VERSIONS: &str = "SELECT version FROM pointsman_migrations ORDER BY version";

static SQLITE: LazyLock<Migrator> = LazyLock::new(|| {
    steps(&[
        ("traffic", include_str!("migrations/sqlite/0001_traffic.sql")),
        ("learning", include_str!("migrations/sqlite/0002_learning.sql")),
        ("live", include_str!("migrations/sqlite/0003_live.sql")),
    ])
});
static POSTGRES: LazyLock<Migrator> = LazyLock::new(|| {
    steps(&[
        ("traffic", include_str!("migrations/postgres/0001_traffic.sql")),
        ("learning", include_str!("migrations/postgres/0002_learning.sql")),
        ("live", include_str!("migrations/postgres/0003_live.sql")),
    ])
});

/// Versions count from 1, in order.
fn steps(steps: &[(&'static str, &'static str)]) -> Migrator {
    let steps = (1..).zip(steps).map(|(version, &(name, text))| {
        let text = sqlx::SqlSafeStr::into_sql_str(text);
        Migration::new(version, name.into(), MigrationType::Simple, text, false)
    });
    let mut migrator = Migrator::with_migrations(steps.collect());
    migrator.dangerous_set_table_name(TABLE);
    migrator
}

fn migrator(dialect: Dialect) -> &'static Migrator {
    match dialect {
        Dialect::Sqlite => &SQLITE,
        Dialect::Postgres => &POSTGRES,
    }
}

/// Brings the schema up to date and returns the versions that were added.
pub(super) async fn upgrade(
    address: &Address,
    connection: &mut AnyConnection,
) -> Result<Vec<i64>, StoreError> {
    let before = versions(address, connection).await?;
    let migrator = migrator(address.dialect);
    let failed = |error: &sqlx::Error| address.failed(error);
    let done = match address.dialect {
        // All or nothing, and one process after the other.
        Dialect::Sqlite => {
            let mut transaction =
                connection.begin_with("BEGIN IMMEDIATE").await.map_err(|error| failed(&error))?;
            let done = migrator.run_direct(None, &mut *transaction, false).await;
            if done.is_ok() {
                transaction.commit().await.map_err(|error| failed(&error))?;
            }
            done
        }
        // The migrator takes a lock of its own, and each step is a transaction.
        Dialect::Postgres => migrator.run_direct(None, connection, false).await,
    };
    done.map_err(|error| {
        let (fault, problem) = explain_migration(address.dialect, &error);
        address.fault(fault, problem)
    })?;
    let after = versions(address, connection).await?;
    Ok(after.into_iter().filter(|version| !before.contains(version)).collect())
}

/// Refuses a schema that is not exactly the one that this program reads.
pub(super) async fn check(address: &Address, connection: &mut AnyConnection) -> Result<(), StoreError> {
    let there = versions(address, connection).await?;
    let known = migrator(address.dialect).iter().map(|step| step.version).max().unwrap_or(0);
    let problem = match there.last() {
        None => "holds no traffic log; `pointsman serve` or `pointsman traffic migrate` makes one".to_owned(),
        Some(&version) if version > known => {
            format!("its schema has version {version}, made by a newer pointsman; upgrade this one")
        }
        Some(&version) if version < known => {
            format!(
                "its schema has version {version}, and {known} is needed; run `pointsman traffic migrate`"
            )
        }
        Some(_) => return Ok(()),
    };
    Err(address.fault(Fault::Refused, problem))
}

/// Returns the versions that were added so far; none where there is no table of them.
async fn versions(address: &Address, connection: &mut AnyConnection) -> Result<Vec<i64>, StoreError> {
    match sqlx::query_scalar::<_, i64>(VERSIONS).persistent(false).fetch_all(connection).await {
        Ok(versions) => Ok(versions),
        Err(error) if explain(address.dialect, &error).0 == Fault::Refused => Ok(Vec::new()),
        Err(error) => Err(address.failed(&error)),
    }
}
