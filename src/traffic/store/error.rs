//! What a database says -> whether it is down, corrupt or will never do what was asked. Pure.
//!
//! Nothing of a row, an address or a key stands in what is said.

use std::borrow::Cow;

use sqlx::migrate::MigrateError;

use super::sqlite;

/// Which database is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::traffic) enum Dialect {
    Sqlite,
    Postgres,
}

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It may work later: no connection, busy, disk full.
    #[error("traffic store {store}: {problem}")]
    Down { store: String, problem: String },
    /// The file is no database, or a broken one.
    #[error("traffic store {store} is corrupt: {problem}")]
    Corrupt { store: String, problem: String },
    /// It will never work as it is: another schema, a rejected value.
    #[error("traffic store {store}: {problem}")]
    Refused { store: String, problem: String },
}

/// The kinds of [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Down,
    Corrupt,
    Refused,
}

impl Fault {
    /// Returns the error of this kind.
    pub(super) fn of(self, store: &str, problem: impl Into<String>) -> StoreError {
        let (store, problem) = (store.to_owned(), problem.into());
        match self {
            Self::Down => StoreError::Down { store, problem },
            Self::Corrupt => StoreError::Corrupt { store, problem },
            Self::Refused => StoreError::Refused { store, problem },
        }
    }
}

/// Returns what an error of the driver means, and says it in words.
pub(super) fn explain(dialect: Dialect, error: &sqlx::Error) -> (Fault, String) {
    use sqlx::Error;

    match error {
        Error::Database(database) => {
            let code = database.code().unwrap_or(Cow::Borrowed(""));
            let fault = match dialect {
                Dialect::Sqlite => sqlite_fault(&code),
                Dialect::Postgres => postgres_fault(&code),
            };
            (fault, format!("{} (code {code})", database.message()))
        }
        Error::Io(io) => (Fault::Down, io.to_string()),
        Error::Tls(_) => {
            (Fault::Down, "no TLS connection could be made; see sslmode in its address".to_owned())
        }
        Error::PoolTimedOut => (Fault::Down, "no connection could be had in time".to_owned()),
        Error::PoolClosed => (Fault::Down, "it was closed".to_owned()),
        Error::WorkerCrashed | Error::BeginFailed | Error::Protocol(_) => {
            (Fault::Down, "the connection broke".to_owned())
        }
        Error::Migrate(error) => explain_migration(dialect, error),
        // The address may stand in what it says.
        Error::Configuration(_) => (Fault::Refused, "its address cannot be used".to_owned()),
        Error::ColumnDecode { index, .. } => (Fault::Refused, format!("column {index} has another type")),
        Error::ColumnNotFound(name) => (Fault::Refused, format!("column {name} is missing")),
        // What they say quotes values.
        Error::RowNotFound
        | Error::TypeNotFound { .. }
        | Error::ColumnIndexOutOfBounds { .. }
        | Error::Encode(_)
        | Error::Decode(_) => (Fault::Refused, "it does not hold what was expected".to_owned()),
        // What is left is about the connection. Whatever it is, keeping a record for later loses nothing.
        _ => (Fault::Down, "the connection cannot be used".to_owned()),
    }
}

/// Returns what it means that the schema could not be brought up to date.
pub(super) fn explain_migration(dialect: Dialect, error: &MigrateError) -> (Fault, String) {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => explain(dialect, error),
        MigrateError::VersionMissing(version) => (
            Fault::Refused,
            format!("its schema has version {version}, made by a newer pointsman; upgrade this one"),
        ),
        MigrateError::VersionMismatch(version) => (
            Fault::Refused,
            format!("version {version} of its schema was made by something else; use another database"),
        ),
        other => (Fault::Refused, format!("its schema cannot be brought up to date: {other}")),
    }
}

fn sqlite_fault(code: &str) -> Fault {
    match sqlite::primary(code) {
        _ if sqlite::is_corrupt_code(code) => Fault::Corrupt,
        // ERROR (no such table or column), MISMATCH, MISUSE, RANGE, TOOBIG, CONSTRAINT.
        Some(1 | 18 | 19 | 20 | 21 | 25) => Fault::Refused,
        // PERM, BUSY, LOCKED, NOMEM, READONLY, IOERR, FULL, CANTOPEN, PROTOCOL, SCHEMA, AUTH ... and what is not known:
        // keeping a record for later loses nothing.
        _ => Fault::Down,
    }
}

/// Classes of SQLSTATE, <https://www.postgresql.org/docs/15/errcodes-appendix.html>.
fn postgres_fault(code: &str) -> Fault {
    match code {
        // Rights can be granted, and a standby becomes a primary.
        "42501" | "25006" => Fault::Down,
        _ => match code.get(..2) {
            // Feature not supported, data exception, integrity, another schema, limit exceeded.
            Some("0A" | "22" | "23" | "42" | "54") => Fault::Refused,
            // Connection, authorization (passwords are rotated), no such database yet, rollback, resources, locks,
            // shutdown, disk. What PostgreSQL finds corrupt in itself (XX) only its operator can mend.
            _ => Fault::Down,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_sqlite() {
        let check = |code: &str, expected| assert_eq!(sqlite_fault(code), expected, "{code}");
        check("5", Fault::Down); // busy
        check("517", Fault::Down); // busy: snapshot
        check("8", Fault::Down); // read-only
        check("10", Fault::Down); // I/O
        check("13", Fault::Down); // full
        check("14", Fault::Down); // cannot open
        check("11", Fault::Corrupt);
        check("267", Fault::Corrupt); // corrupt: virtual table
        check("26", Fault::Corrupt); // not a database
        check("1", Fault::Refused); // no such table
        check("1555", Fault::Refused); // primary key
        check("", Fault::Down);
    }

    #[test]
    fn codes_of_postgres() {
        let check = |code: &str, expected| assert_eq!(postgres_fault(code), expected, "{code}");
        check("08006", Fault::Down); // connection failure
        check("28P01", Fault::Down); // wrong password
        check("3D000", Fault::Down); // no such database
        check("40P01", Fault::Down); // deadlock
        check("53100", Fault::Down); // disk full
        check("53300", Fault::Down); // too many connections
        check("55P03", Fault::Down); // lock not available
        check("57014", Fault::Down); // statement timeout
        check("57P01", Fault::Down); // shutdown
        check("57P03", Fault::Down); // starting up
        check("25006", Fault::Down); // read-only: a standby
        check("42501", Fault::Down); // no right
        check("XX001", Fault::Down); // data corrupted
        check("22021", Fault::Refused); // NUL in a text
        check("23514", Fault::Refused); // no partition
        check("42P01", Fault::Refused); // no such table
        check("", Fault::Down);
    }

    #[test]
    fn what_the_driver_says_itself() {
        let check = |error: sqlx::Error, expected| {
            assert_eq!(explain(Dialect::Sqlite, &error).0, expected, "{error}");
        };
        check(sqlx::Error::InvalidSavePointStatement, Fault::Down);
        check(sqlx::Error::PoolTimedOut, Fault::Down);
        check(sqlx::Error::WorkerCrashed, Fault::Down);
        check(sqlx::Error::Decode("a secret text".into()), Fault::Refused);
        check(sqlx::Error::RowNotFound, Fault::Refused);
    }

    #[test]
    fn an_address_is_not_repeated() {
        let error = sqlx::Error::Configuration("postgres://user:secret@host".into());
        let (fault, problem) = explain(Dialect::Postgres, &error);
        assert_eq!(fault, Fault::Refused);
        assert!(!problem.contains("secret"), "{problem}");
    }
}
