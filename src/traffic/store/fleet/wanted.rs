//! The one document that says what all replicas are to run: read, and exchanged by who has read it.

use sqlx::Row;

use super::{CHANNEL, Dialect, EventRow, Fault, Store, StoreError};

const WANTED: &str = "SELECT revision, document FROM fleet_wanted WHERE place = 1";

impl Store {
    /// Returns the wanted state and its revision; `None` where there never was one.
    pub async fn wanted(&self) -> Result<Option<(u64, String)>, StoreError> {
        self.bounded(async {
            let failed = |error: sqlx::Error| self.failed(&error);
            let mut transaction = self.read().await?;
            let Some(row) = sqlx::query(WANTED).fetch_optional(&mut *transaction).await.map_err(failed)?
            else {
                return Ok(None);
            };
            let revision: i64 = row.try_get(0).map_err(failed)?;
            Ok(Some((u64::try_from(revision).unwrap_or(0), row.try_get(1).map_err(failed)?)))
        })
        .await
    }

    /// Exchanges the wanted state where its revision is still `from`, 0 where there is none, and adds the events with
    /// it; else changes nothing and returns false. Who listens is told when it lasts.
    pub async fn exchange_wanted(
        &self,
        from: u64,
        to: u64,
        document: &str,
        events: &[EventRow],
    ) -> Result<bool, StoreError> {
        self.check_length(document)?;
        let revision = |revision: u64| {
            i64::try_from(revision).map_err(|_| {
                self.inner.address.fault(Fault::Refused, format!("revision {revision} is out of range"))
            })
        };
        let (from, to) = (revision(from)?, revision(to)?);
        self.bounded(async {
            let failed = |error: sqlx::Error| self.failed(&error);
            let mut transaction = self.begin().await?;
            let mut exchange;
            if from == 0 {
                exchange = self.statement(
                    "INSERT INTO fleet_wanted (place, revision, updated_ms, document) VALUES (1, ",
                );
                exchange.value(to).push(", ").push(self.clock()).push(", ").value(document);
                exchange.push(") ON CONFLICT DO NOTHING");
            } else {
                exchange = self.statement("UPDATE fleet_wanted SET revision = ");
                exchange.value(to).push(", updated_ms = ").push(self.clock());
                exchange.push(", document = ").value(document);
                exchange.push(" WHERE place = 1 AND revision = ").value(from);
            }
            // PostgreSQL waits here for whoever exchanges it at this moment, and then looks again.
            let done = exchange.query().execute(&mut *transaction).await.map_err(failed)?;
            if done.rows_affected() == 0 {
                return Ok(false);
            }
            self.insert_events(&mut transaction, events).await?;
            if self.dialect() == Dialect::Postgres {
                let mut notify = self.statement("SELECT pg_notify(");
                notify.value(CHANNEL).push(", ").value(to.to_string()).push(")");
                notify.query().execute(&mut *transaction).await.map_err(failed)?;
            }
            transaction.commit().await.map_err(failed)?;
            Ok(true)
        })
        .await
    }
}
