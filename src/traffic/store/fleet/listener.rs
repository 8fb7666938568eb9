//! A connection of its own that hears when the wanted state was exchanged. PostgreSQL alone can tell.
//!
//! What is said while nobody listens is lost: who begins to listen reads the state afterwards.

use std::time::Duration;

use sqlx::{
    ConnectOptions, Executor,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::time::timeout;

use super::{CHANNEL, Dialect, Fault, Store, StoreError};
use crate::traffic::store::{address::CONNECT_TIMEOUT, postgres};

/// A connection on which nothing was heard for so long is asked whether it is still there: one that a firewall has
/// forgotten says nothing at all.
const QUIET_MAX: Duration = Duration::from_secs(30);
/// Longest wait for its answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Hears exchanges of the wanted state.
pub struct Listener {
    store: Store,
    /// Of one connection, which is not made anew by itself: the state has to be read after that.
    listener: PgListener,
}

impl Store {
    /// Begins to listen; `None` where the database cannot tell and has to be asked.
    pub async fn listen(&self) -> Result<Option<Listener>, StoreError> {
        let options = match self.dialect() {
            Dialect::Sqlite => return Ok(None),
            Dialect::Postgres => self.inner.address.postgres_options()?.disable_statement_logging(),
        };
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(CONNECT_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            .after_connect(|connection, _| {
                Box::pin(async move { connection.execute(postgres::SETTINGS).await.map(drop) })
            })
            .connect_lazy_with(options);
        let begin = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.ignore_pool_close_event(true);
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            Ok(listener)
        };
        let listener = timeout(CONNECT_TIMEOUT, begin).await.map_err(|_| self.silent("nobody answers"))?;
        let listener = listener.map_err(|error: sqlx::Error| self.failed(&error))?;
        Ok(Some(Listener { store: self.clone(), listener }))
    }

    fn silent(&self, problem: &str) -> StoreError {
        self.inner.address.fault(Fault::Down, format!("it cannot be listened to: {problem}"))
    }
}

impl Listener {
    /// Resolves when the wanted state was exchanged; on an error nothing is heard any more. May be cancelled.
    pub async fn heard(&mut self) -> Result<(), StoreError> {
        loop {
            match timeout(QUIET_MAX, self.listener.try_recv()).await {
                Ok(Ok(Some(_))) => {
                    // One reading of the state is enough for all.
                    while self.listener.next_buffered().is_some() {}
                    return Ok(());
                }
                Ok(Ok(None)) => return Err(self.store.silent("the connection broke")),
                Ok(Err(error)) => return Err(self.store.failed(&error)),
                Err(_) => self.check().await?,
            }
        }
    }

    /// Asks whether the connection is still there; what is heard meanwhile is kept.
    pub async fn check(&mut self) -> Result<(), StoreError> {
        match timeout(ANSWER_MAX, self.listener.execute("SELECT 1")).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.store.failed(&error)),
            Err(_) => Err(self.store.silent("the connection is dead")),
        }
    }
}
