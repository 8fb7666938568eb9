//! The traffic log's store: the same behaviour in SQLite and in PostgreSQL, and what is particular to each.

mod behaviour;
mod deletion;
mod files;
mod fleet;

use std::path::PathBuf;

use pointsman::{
    config::StoreConfig,
    traffic::{
        record::{Logged, Record},
        store::{Cursor, Selection, Store},
    },
};
use sqlx::{AnyConnection, Connection};
use tempfile::TempDir;

use crate::support::{postgres, traffic::open_store};

/// An empty store of its own.
struct World {
    config: StoreConfig,
    store: Store,
    _folder: Option<TempDir>,
}

impl World {
    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig::Sqlite { path: folder.path().join("log/traffic.sqlite") };
        let store = open_store(&config).await;
        Self { config, store, _folder: Some(folder) }
    }

    async fn postgres() -> Self {
        let config = postgres::shared_database().await;
        let store = open_store(&config).await;
        Self { config, store, _folder: None }
    }

    /// Where the file is.
    fn path(&self) -> PathBuf {
        match &self.config {
            StoreConfig::Sqlite { path } => path.clone(),
            StoreConfig::Postgres { .. } => panic!("that is no file"),
        }
    }

    /// Does something behind the store's back.
    async fn meddle(&self, statement: &'static str) {
        let mut connection = connect(&self.config).await;
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

async fn connect(config: &StoreConfig) -> AnyConnection {
    sqlx::any::install_default_drivers();
    let url = match config {
        StoreConfig::Sqlite { path } => format!("sqlite://{}", path.display()),
        StoreConfig::Postgres { url, .. } => secrecy::ExposeSecret::expose_secret(url).to_owned(),
    };
    AnyConnection::connect(&url).await.unwrap()
}

/// Reads everything, `limit` records at a time.
async fn all(store: &Store, selection: &Selection, limit: usize) -> Vec<Logged> {
    let mut read: Vec<Logged> = Vec::new();
    loop {
        let after = read.last().map(|last| cursor(&last.record));
        let page = store.page(selection, after, limit).await.unwrap();
        assert!(page.len() <= limit);
        if page.is_empty() {
            return read;
        }
        read.extend(page);
    }
}

fn cursor(record: &Record) -> Cursor {
    Cursor { at_ms: record.at_ms, decision_id: record.decision_id }
}
