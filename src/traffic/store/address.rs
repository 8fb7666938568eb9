//! Where a store is, and how connections to it are made. What is shown of an address is never its password.

use std::{future::ready, time::Duration};

use secrecy::ExposeSecret;
use sqlx::{
    AnyConnection, AnyPool, ConnectOptions, Connection,
    any::{AnyConnectOptions, AnyPoolOptions, install_default_drivers},
    postgres::PgConnectOptions,
};
use tokio::time::timeout;

use super::{
    error::{Dialect, Fault, StoreError, explain},
    postgres, sqlite,
};
use crate::config::StoreConfig;

/// Longest wait for a connection. A server on the same continent answers within a tenth of a second; a writer that
/// waits longer had better use its spool.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before a busy file is tried again.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// What to do where there is no file yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::traffic) enum Missing {
    Create,
    Refuse,
}

/// Where a store is.
pub(in crate::traffic) struct Address {
    pub dialect: Dialect,
    /// As it is shown.
    pub name: String,
    options: AnyConnectOptions,
    connections_max: u32,
}

impl Address {
    /// Returns a store's address; makes file and folder where asked to.
    pub fn of(config: &StoreConfig, missing: Missing) -> Result<Self, StoreError> {
        install_default_drivers();
        match config {
            StoreConfig::Sqlite { path } => Ok(Self {
                dialect: Dialect::Sqlite,
                name: path.display().to_string(),
                options: sqlite::options(path, missing)?.disable_statement_logging(),
                connections_max: sqlite::CONNECTIONS_MAX,
            }),
            StoreConfig::Postgres { url, connections_max } => {
                let (name, options) = postgres::options(url.expose_secret())?;
                Ok(Self {
                    dialect: Dialect::Postgres,
                    name,
                    options: options.disable_statement_logging(),
                    connections_max: *connections_max,
                })
            }
        }
    }

    /// Returns a connection outside of any pool, with the exact reason where none can be made.
    pub async fn connect(&self) -> Result<AnyConnection, StoreError> {
        timeout(CONNECT_TIMEOUT, self.connect_patiently())
            .await
            .map_err(|_| self.fault(Fault::Down, "no connection could be had in time"))?
            .map_err(|error| self.failed(&error))
    }

    /// Two that make one file at the same time find it busy where SQLite itself does not wait.
    async fn connect_patiently(&self) -> Result<AnyConnection, sqlx::Error> {
        loop {
            match self.connect_once().await {
                Err(error) if self.dialect == Dialect::Sqlite && sqlite::is_busy(&error) => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                other => return other,
            }
        }
    }

    async fn connect_once(&self) -> Result<AnyConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        prepare(self.dialect, &mut connection).await?;
        Ok(connection)
    }

    /// Returns a pool that connects when it is first used, and again when a connection broke.
    pub fn pool(&self) -> AnyPool {
        let dialect = self.dialect;
        let pool = AnyPoolOptions::new()
            .max_connections(self.connections_max.max(1))
            .acquire_timeout(CONNECT_TIMEOUT)
            .after_connect(move |connection, _| Box::pin(prepare(dialect, connection)))
            // SQLite rolls back by itself where a disk is full or broken. The driver does not notice, and would begin
            // nothing on this connection again.
            .before_acquire(|connection, _| Box::pin(ready(Ok(!connection.is_in_transaction()))));
        let pool = match dialect {
            // A file does not move; its connections need not be renewed.
            Dialect::Sqlite => pool.idle_timeout(None).max_lifetime(None),
            Dialect::Postgres => pool,
        };
        pool.connect_lazy_with(self.options.clone())
    }

    /// Returns how PostgreSQL's own driver connects to the same place.
    pub(super) fn postgres_options(&self) -> Result<PgConnectOptions, StoreError> {
        PgConnectOptions::from_url(&self.options.database_url).map_err(|error| self.failed(&error))
    }

    /// Returns an error of this store.
    pub(super) fn fault(&self, fault: Fault, problem: impl Into<String>) -> StoreError {
        fault.of(&self.name, problem)
    }

    /// Returns what an error of the driver means for this store.
    pub fn failed(&self, error: &sqlx::Error) -> StoreError {
        let (fault, problem) = explain(self.dialect, error);
        self.fault(fault, problem)
    }
}

async fn prepare(dialect: Dialect, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let settings = match dialect {
        Dialect::Sqlite => sqlite::SETTINGS,
        Dialect::Postgres => postgres::SETTINGS,
    };
    sqlx::raw_sql(settings).execute(connection).await.map(drop)
}
