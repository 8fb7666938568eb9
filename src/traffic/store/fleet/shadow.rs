//! Scores of a bundle beside the decisions of the one that served: kept and deleted with their records.

use std::collections::BTreeSet;

use sqlx::{Any, Row, Transaction, any::AnyRow};
use uuid::Uuid;

use super::{Dialect, ShadowRow, ShadowSelection, Store, StoreError};
use crate::traffic::store::{
    BATCH_PAUSE,
    keys::{DAY_MS, column_text, day, first_at},
    statement::ROWS_MAX,
};

/// Rows of one page: some hundred kilobytes of text.
const PAGE_ROWS_MAX: usize = 1_000;
/// Rows deleted at once, as of records.
const BATCH_ROWS: u64 = 5_000;

impl Store {
    /// Adds shadow scores; those that are there already are left as they are. Returns how many were new.
    pub async fn add_shadow(&self, rows: &[ShadowRow]) -> Result<u64, StoreError> {
        let mut new = 0;
        for batch in rows.chunks(ROWS_MAX) {
            let mut insert =
                self.statement("INSERT INTO shadow_scores (day, decision_id, bundle, document) VALUES ");
            for (place, row) in batch.iter().enumerate() {
                self.check_length(&row.document)?;
                insert.push(if place == 0 { "(" } else { ", (" }).value(day(row.decision_id));
                insert.push(", ").value(row.decision_id.to_string());
                insert.push(", ").value(column_text(&row.bundle).into_owned());
                insert.push(", ").value(row.document.as_str()).push(")");
            }
            insert.push(" ON CONFLICT DO NOTHING");
            new += self.change(insert).await?;
        }
        Ok(new)
    }

    /// Returns the next shadow scores, oldest decision first, at most `limit` (and 1,000); empty at the end. `after` is
    /// the last row of the page before.
    pub async fn shadow_page(
        &self,
        selection: &ShadowSelection,
        after: Option<&ShadowRow>,
        limit: usize,
    ) -> Result<Vec<ShadowRow>, StoreError> {
        let limit = i64::try_from(limit.min(PAGE_ROWS_MAX)).unwrap_or(0);
        let Some(from) = first_at(selection.from_ms.unwrap_or(0)) else { return Ok(Vec::new()) };
        let mut select = self.statement(
            "SELECT decision_id, bundle, document FROM shadow_scores WHERE (day, decision_id) >= (",
        );
        select.value(day(from)).push(", ").value(from.to_string()).push(")");
        if let Some(after) = after {
            select.push(" AND (day, decision_id, bundle) > (").value(day(after.decision_id));
            select.push(", ").value(after.decision_id.to_string());
            select.push(", ").value(column_text(&after.bundle).into_owned()).push(")");
        }
        if let Some(until) = selection.until_ms.and_then(first_at) {
            select.push(" AND (day, decision_id) < (").value(day(until));
            select.push(", ").value(until.to_string()).push(")");
        }
        if let Some(bundle) = &selection.bundle {
            select.push(" AND bundle = ").value(column_text(bundle).into_owned());
        }
        select.push(" ORDER BY day, decision_id, bundle LIMIT ").value(limit);
        self.bounded(async {
            let failed = |error: sqlx::Error| self.failed(&error);
            let mut transaction = self.read().await?;
            let rows = select.query().fetch_all(&mut *transaction).await.map_err(failed)?;
            let read = |row: &AnyRow| -> Result<Option<ShadowRow>, sqlx::Error> {
                let Ok(decision_id) = Uuid::try_parse(row.try_get(0)?) else { return Ok(None) };
                Ok(Some(ShadowRow { decision_id, bundle: row.try_get(1)?, document: row.try_get(2)? }))
            };
            rows.iter().filter_map(|row| read(row).transpose()).collect::<Result<_, _>>().map_err(failed)
        })
        .await
    }

    /// Deletes the shadow scores of these decisions.
    pub(in crate::traffic::store) async fn delete_shadow_of(
        &self,
        transaction: &mut Transaction<'static, Any>,
        days: &BTreeSet<i64>,
        decisions: &[String],
    ) -> Result<(), StoreError> {
        let mut delete = self.statement("DELETE FROM shadow_scores WHERE day IN ");
        delete.list(days.iter().copied()).push(" AND decision_id IN ");
        delete.list(decisions.iter().map(String::as_str));
        let done = delete.query().execute(&mut **transaction).await;
        done.map(drop).map_err(|error| self.failed(&error))
    }

    /// Deletes the shadow scores that are older than the oldest record; where there is no record, those of past days.
    pub(in crate::traffic::store) async fn retain_shadow(&self, now_ms: i64) -> Result<(), StoreError> {
        let (day, decision_id) = match self.dialect() {
            Dialect::Sqlite => self.oldest_record().await?,
            // Of the day it is nearly the oldest, and a partition goes as a whole.
            Dialect::Postgres => {
                let first = self.bounded(self.partitions()).await?.first().copied();
                first.map(|day| (day, String::new()))
            }
        }
        .unwrap_or((now_ms.div_euclid(DAY_MS), String::new()));
        self.drop_shadow((0, ""), (day, &decision_id)).await
    }

    /// Deletes the shadow scores of a day.
    pub(in crate::traffic::store) async fn drop_shadow_of(&self, day: i64) -> Result<(), StoreError> {
        self.drop_shadow((day, ""), (day + 1, "")).await
    }

    /// Deletes the shadow scores from one place in their order to before another, some thousands at once.
    async fn drop_shadow(&self, from: (i64, &str), until: (i64, &str)) -> Result<(), StoreError> {
        loop {
            let mut delete = self.statement(
                "DELETE FROM shadow_scores WHERE (day, decision_id, bundle) IN \
                 (SELECT day, decision_id, bundle FROM shadow_scores WHERE (day, decision_id) >= (",
            );
            delete.value(from.0).push(", ").value(from.1.to_owned());
            delete.push(") AND (day, decision_id) < (").value(until.0).push(", ").value(until.1.to_owned());
            delete.push(") ORDER BY day, decision_id LIMIT ");
            delete.value(i64::try_from(BATCH_ROWS).unwrap_or(i64::MAX)).push(")");
            if self.change(delete).await? < BATCH_ROWS {
                return Ok(());
            }
            tokio::time::sleep(BATCH_PAUSE).await;
        }
    }

    async fn oldest_record(&self) -> Result<Option<(i64, String)>, StoreError> {
        const OLDEST: &str = "SELECT day, decision_id FROM traffic ORDER BY day, decision_id LIMIT 1";
        self.bounded(async {
            let failed = |error: sqlx::Error| self.failed(&error);
            let mut transaction = self.read().await?;
            let row = sqlx::query(OLDEST).fetch_optional(&mut *transaction).await.map_err(failed)?;
            row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose().map_err(failed)
        })
        .await
    }
}
