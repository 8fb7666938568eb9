//! What is older than the limits allow -> gone, oldest first and whole days by age. What claims to be newer than now is
//! never too old.

use sqlx::Row;

use super::{
    BATCH_PAUSE, Deleted, Dialect, Store, StoreError,
    keys::{DAY_MS, first_at},
};
use crate::config::Retention;

/// Rows deleted at once: a tenth of a second in which nobody else writes to a file.
const BATCH_ROWS: u64 = 5_000;
/// The same in bytes of documents: all that is overwritten goes through the log, and to the disk twice.
const BATCH_BYTES: i64 = 4 << 20;
/// Pieces of feedback deleted at once: a comment may be long.
const FEEDBACK_ROWS: u64 = 500;
/// Feedback about a decision that is not there is as a rule seconds ahead of it, and hours where another replica has it
/// in its spool. So long after the store got it, it goes, so that what nobody ever decided makes room again.
const UNKNOWN_AGE_MAX_MS: i64 = DAY_MS;

impl Store {
    /// Deletes what is older than the limits allow, oldest first: whole days of which every record is too old, then
    /// as much as it takes to fit. PostgreSQL keeps the newest day up to now, however large, and counts what is in its
    /// tables for all days, not their size, which stays the same. Feedback about unknown decisions goes after a day in
    /// any case.
    pub async fn retain(&self, retention: Retention, now_ms: i64) -> Result<Deleted, StoreError> {
        let mut deleted = Deleted::default();
        if let Some(age_max) = retention.age_max {
            let age_ms = i64::try_from(age_max.as_millis()).unwrap_or(i64::MAX);
            let oldest_ms = now_ms.saturating_sub(age_ms);
            match self.dialect() {
                Dialect::Sqlite => self.delete_before(oldest_ms, &mut deleted).await?,
                Dialect::Postgres => self.drop_before(oldest_ms, &mut deleted).await?,
            }
            deleted.feedback += self.delete_unknown(oldest_ms).await?;
        }
        deleted.feedback += self.delete_unknown(now_ms.saturating_sub(UNKNOWN_AGE_MAX_MS)).await?;
        if let Some(bytes_max) = retention.bytes_max {
            match self.dialect() {
                Dialect::Sqlite => self.delete_to_fit(bytes_max, &mut deleted).await?,
                Dialect::Postgres => self.drop_to_fit(bytes_max, now_ms, &mut deleted).await?,
            }
        }
        match self.dialect() {
            Dialect::Sqlite if deleted != Deleted::default() => self.shrink().await?,
            Dialect::Sqlite => {}
            Dialect::Postgres => deleted.feedback += self.delete_orphans(now_ms).await?,
        }
        self.retain_shadow(now_ms).await?;
        self.retain_events().await?;
        Ok(deleted)
    }

    async fn delete_before(&self, oldest_ms: i64, deleted: &mut Deleted) -> Result<(), StoreError> {
        let midnight_ms = oldest_ms.div_euclid(DAY_MS).saturating_mul(DAY_MS);
        let Some(first) = first_at(midnight_ms) else { return Ok(()) };
        loop {
            let batch =
                self.delete_oldest(BATCH_ROWS, Some((midnight_ms / DAY_MS, first.to_string()))).await?;
            deleted.records += batch.records;
            deleted.feedback += batch.feedback;
            if batch.records == 0 {
                return Ok(());
            }
            tokio::time::sleep(BATCH_PAUSE).await;
        }
    }

    async fn delete_to_fit(&self, bytes_max: u64, deleted: &mut Deleted) -> Result<(), StoreError> {
        let holdings = self.holdings().await?;
        let (mut bytes, mut records) = (holdings.bytes, holdings.records);
        while bytes > bytes_max && records > 0 {
            // So many as take up what is too much, if all are of one size.
            let surplus = (bytes - bytes_max).saturating_mul(records).div_ceil(bytes);
            let batch = self.delete_oldest(surplus.clamp(1, BATCH_ROWS), None).await?;
            deleted.records += batch.records;
            deleted.feedback += batch.feedback;
            records = if batch.records == 0 { 0 } else { records.saturating_sub(batch.records) };
            bytes = self.bytes().await?;
            tokio::time::sleep(BATCH_PAUSE).await;
        }
        Ok(())
    }

    /// Deletes the oldest records with their feedback, at most `rows` and so many as are short enough, at least one,
    /// and only those before a place in their order.
    async fn delete_oldest(&self, rows: u64, before: Option<(i64, String)>) -> Result<Deleted, StoreError> {
        self.bounded(async {
            let failed = |error: sqlx::Error| self.failed(&error);
            let rows = i64::try_from(rows).unwrap_or(i64::MAX);
            let mut gone = [0; 3];
            let mut transaction = self.begin().await?;
            let mut short = self.statement(
                "SELECT COUNT(*) FROM (SELECT SUM(bytes) OVER (ORDER BY day, decision_id) AS bytes FROM \
                 (SELECT day, decision_id, octet_length(document) AS bytes FROM traffic \
                 ORDER BY day, decision_id LIMIT ",
            );
            short.value(rows).push(")) WHERE bytes <= ").value(BATCH_BYTES);
            let short = short.query().fetch_one(&mut *transaction).await.map_err(failed)?;
            let rows = short.try_get::<i64, _>(0).map_err(failed)?.max(1);
            for (gone, text) in gone.iter_mut().zip([
                "DELETE FROM feedback WHERE decision_id IN (SELECT decision_id FROM traffic",
                "DELETE FROM shadow_scores WHERE (day, decision_id) IN (SELECT day, decision_id FROM traffic",
                "DELETE FROM traffic WHERE (day, decision_id) IN (SELECT day, decision_id FROM traffic",
            ]) {
                let mut delete = self.statement(text);
                if let Some((day, decision_id)) = &before {
                    delete.push(" WHERE (day, decision_id) < (").value(*day).push(", ");
                    delete.value(decision_id.as_str()).push(")");
                }
                delete.push(" ORDER BY day, decision_id LIMIT ").value(rows).push(")");
                *gone = delete.query().execute(&mut *transaction).await.map_err(failed)?.rows_affected();
            }
            transaction.commit().await.map_err(failed)?;
            Ok(Deleted { records: gone[2], feedback: gone[0] })
        })
        .await
    }

    async fn drop_before(&self, oldest_ms: i64, deleted: &mut Deleted) -> Result<(), StoreError> {
        let today = oldest_ms.div_euclid(DAY_MS);
        for day in self.bounded(self.partitions()).await?.range(..today) {
            deleted.records += self.bounded(self.drop_day(*day)).await?;
        }
        Ok(())
    }

    async fn drop_to_fit(
        &self,
        bytes_max: u64,
        now_ms: i64,
        deleted: &mut Deleted,
    ) -> Result<(), StoreError> {
        // What the tables take is known at once, and what is in them is hardly more.
        if self.bytes().await? <= bytes_max {
            return Ok(());
        }
        let mut sizes = self.sizes().await?;
        for day in sizes.droppable(now_ms.div_euclid(DAY_MS)) {
            if sizes.total() <= bytes_max {
                return Ok(());
            }
            deleted.records += self.bounded(self.drop_day(day)).await?;
            deleted.feedback += self
                .delete_feedback("SELECT feedback_id FROM feedback WHERE known = 1 AND day = ", day)
                .await?;
            self.drop_shadow_of(day).await?;
            sizes.forget(day);
        }
        let bytes = sizes.total();
        if bytes > bytes_max {
            tracing::warn!(
                bytes,
                bytes_max,
                no_day_bytes = sizes.of_no_day(),
                "the newest day and what belongs to no day, as feedback that waits for its record, are larger than \
                 retention allows; they are kept"
            );
        }
        Ok(())
    }

    /// Deletes feedback whose decision was never there, and that waited for too long.
    async fn delete_unknown(&self, oldest_ms: i64) -> Result<u64, StoreError> {
        self.delete_feedback("SELECT feedback_id FROM feedback WHERE known = 0 AND at_ms < ", oldest_ms).await
    }

    /// Deletes feedback about records that went with a partition.
    async fn delete_orphans(&self, now_ms: i64) -> Result<u64, StoreError> {
        let first = self.bounded(self.partitions()).await?.first().copied();
        let day = first.unwrap_or_else(|| now_ms.div_euclid(DAY_MS));
        self.delete_feedback("SELECT feedback_id FROM feedback WHERE known = 1 AND day < ", day).await
    }

    async fn delete_feedback(&self, selected: &'static str, limit: i64) -> Result<u64, StoreError> {
        let mut deleted = 0;
        loop {
            let batch = self
                .bounded(async {
                    let failed = |error: sqlx::Error| self.failed(&error);
                    let mut delete = self.statement("DELETE FROM feedback WHERE feedback_id IN (");
                    delete.push(selected).value(limit).push(" LIMIT ");
                    delete.value(i64::try_from(FEEDBACK_ROWS).unwrap_or(i64::MAX)).push(")");
                    let mut transaction = self.begin().await?;
                    let gone = delete.query().execute(&mut *transaction).await.map_err(failed)?;
                    transaction.commit().await.map_err(failed)?;
                    Ok(gone.rows_affected())
                })
                .await?;
            deleted += batch;
            if batch < FEEDBACK_ROWS {
                return Ok(deleted);
            }
            tokio::time::sleep(BATCH_PAUSE).await;
        }
    }
}
