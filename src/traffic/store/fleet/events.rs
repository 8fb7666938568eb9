//! What happened, the latest of it.

use sqlx::{Any, Row, Transaction, any::AnyRow};
use uuid::Uuid;

use super::{EventRow, Store, StoreError};
use crate::traffic::store::statement::ROWS_MAX;

/// As long as records are kept by default.
const AGE_MAX_MS: i64 = 90 * 86_400_000;
/// Some 5 MB; whoever causes events all the time does not fill the store with them.
const EVENTS_MAX: i64 = 10_000;

impl Store {
    /// Adds events; those that are there already are left as they are.
    pub async fn tell(&self, events: &[EventRow]) -> Result<(), StoreError> {
        self.bounded(async {
            let mut transaction = self.begin().await?;
            self.insert_events(&mut transaction, events).await?;
            transaction.commit().await.map_err(|error| self.failed(&error))
        })
        .await
    }

    /// Returns the latest events, at most `most` and 10,000, newest first.
    pub async fn events(&self, most: usize) -> Result<Vec<EventRow>, StoreError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX).min(EVENTS_MAX);
        let mut select = self.statement(
            "SELECT event_id, at_ms, document FROM fleet_events ORDER BY at_ms DESC, event_id DESC LIMIT ",
        );
        select.value(most);
        self.bounded(async {
            let failed = |error: sqlx::Error| self.failed(&error);
            let mut transaction = self.read().await?;
            let rows = select.query().fetch_all(&mut *transaction).await.map_err(failed)?;
            let read = |row: &AnyRow| -> Result<Option<EventRow>, sqlx::Error> {
                let Ok(event_id) = Uuid::try_parse(row.try_get(0)?) else { return Ok(None) };
                Ok(Some(EventRow { event_id, at_ms: row.try_get(1)?, document: row.try_get(2)? }))
            };
            rows.iter().filter_map(|row| read(row).transpose()).collect::<Result<_, _>>().map_err(failed)
        })
        .await
    }

    pub(super) async fn insert_events(
        &self,
        transaction: &mut Transaction<'static, Any>,
        events: &[EventRow],
    ) -> Result<(), StoreError> {
        for event in events {
            self.check_length(&event.document)?;
        }
        for batch in events.chunks(ROWS_MAX) {
            let mut insert = self.statement("INSERT INTO fleet_events (event_id, at_ms, document) VALUES ");
            for (place, event) in batch.iter().enumerate() {
                insert.push(if place == 0 { "(" } else { ", (" }).value(event.event_id.to_string());
                insert.push(", ").value(event.at_ms);
                insert.push(", ").value(event.document.as_str()).push(")");
            }
            insert.push(" ON CONFLICT DO NOTHING");
            let done = insert.query().execute(&mut **transaction).await;
            done.map_err(|error| self.failed(&error))?;
        }
        if events.is_empty() { Ok(()) } else { self.trim_events(transaction).await }
    }

    /// Deletes events that are too old or too many.
    async fn trim_events(&self, transaction: &mut Transaction<'static, Any>) -> Result<(), StoreError> {
        let mut old = self.statement("DELETE FROM fleet_events WHERE at_ms < ");
        old.push(self.clock()).push(" - ").value(AGE_MAX_MS);
        // Where there are not so many, nothing is less than what is not there.
        let mut many = self.statement(
            "DELETE FROM fleet_events WHERE (at_ms, event_id) <= (SELECT at_ms, event_id FROM fleet_events \
             ORDER BY at_ms DESC, event_id DESC LIMIT 1 OFFSET ",
        );
        many.value(EVENTS_MAX).push(")");
        for delete in [old, many] {
            let done = delete.query().execute(&mut **transaction).await;
            done.map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    /// Deletes events that are too old where none are added any more.
    pub(in crate::traffic::store) async fn retain_events(&self) -> Result<(), StoreError> {
        self.bounded(async {
            let mut transaction = self.begin().await?;
            self.trim_events(&mut transaction).await?;
            transaction.commit().await.map_err(|error| self.failed(&error))
        })
        .await
    }
}
