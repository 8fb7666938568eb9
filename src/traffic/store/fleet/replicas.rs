//! What each replica says of itself, and when it said so by the database's clock.

use std::time::Duration;

use sqlx::{Row, any::AnyRow};
use uuid::Uuid;

use super::{ReplicaRow, Store, StoreError};
use crate::traffic::store::Statement;

/// Far more than one database serves. Each start of a process is a replica of its own, so one that crashes in a loop
/// leaves many.
const REPLICAS_MAX: i64 = 1_000;

impl Store {
    /// Keeps what a replica says in place of what it said before.
    pub async fn report(&self, replica_id: Uuid, document: &str) -> Result<(), StoreError> {
        self.check_length(document)?;
        let mut upsert =
            self.statement("INSERT INTO fleet_replicas (replica_id, seen_ms, document) VALUES (");
        upsert.value(replica_id.to_string()).push(", ").push(self.clock()).push(", ").value(document);
        upsert.push(
            ") ON CONFLICT (replica_id) DO UPDATE SET seen_ms = excluded.seen_ms, document = excluded.document",
        );
        self.change(upsert).await.map(drop)
    }

    /// Returns what replicas said within a time, the latest first, at most 1,000.
    pub async fn replicas(&self, within: Duration) -> Result<Vec<ReplicaRow>, StoreError> {
        let mut select = self.statement("SELECT replica_id, ");
        select.push(self.clock()).push(" - seen_ms, document FROM fleet_replicas WHERE seen_ms >= ");
        select.push(self.clock()).push(" - ").value(milliseconds(within));
        select.push(" ORDER BY seen_ms DESC, replica_id LIMIT ").value(REPLICAS_MAX);
        self.bounded(async {
            let failed = |error: sqlx::Error| self.failed(&error);
            let mut transaction = self.read().await?;
            let rows = select.query().fetch_all(&mut *transaction).await.map_err(failed)?;
            let read = |row: &AnyRow| -> Result<Option<ReplicaRow>, sqlx::Error> {
                let Ok(replica_id) = Uuid::try_parse(row.try_get(0)?) else { return Ok(None) };
                // A clock that was set back has seen it in what is now the future.
                let seen_ago_ms = row.try_get::<i64, _>(1)?.max(0);
                Ok(Some(ReplicaRow { replica_id, seen_ago_ms, document: row.try_get(2)? }))
            };
            rows.iter().filter_map(|row| read(row).transpose()).collect::<Result<_, _>>().map_err(failed)
        })
        .await
    }

    /// Forgets a replica that ends.
    pub async fn forget_replica(&self, replica_id: Uuid) -> Result<(), StoreError> {
        let mut delete = self.statement("DELETE FROM fleet_replicas WHERE replica_id = ");
        delete.value(replica_id.to_string());
        self.change(delete).await.map(drop)
    }

    /// Forgets replicas that were not seen for so long, and all but the latest 1,000; returns how many.
    pub async fn forget_replicas(&self, unseen: Duration) -> Result<u64, StoreError> {
        let mut old = self.statement("DELETE FROM fleet_replicas WHERE seen_ms < ");
        old.push(self.clock()).push(" - ").value(milliseconds(unseen));
        let mut many = self.statement(
            "DELETE FROM fleet_replicas WHERE seen_ms < (SELECT seen_ms FROM fleet_replicas \
             ORDER BY seen_ms DESC LIMIT 1 OFFSET ",
        );
        many.value(REPLICAS_MAX - 1).push(")");
        Ok(self.change(old).await? + self.change(many).await?)
    }

    /// Runs one statement by itself and returns how many rows it changed.
    pub(super) async fn change(&self, statement: Statement) -> Result<u64, StoreError> {
        self.bounded(async {
            let failed = |error: sqlx::Error| self.failed(&error);
            let mut transaction = self.begin().await?;
            let done = statement.query().execute(&mut *transaction).await.map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
            Ok(done.rows_affected())
        })
        .await
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
