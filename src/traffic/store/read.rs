//! Rows -> records and feedback, a page at a time. Never changes anything.

use std::{
    collections::{BTreeSet, HashMap},
    sync::PoisonError,
};

use futures::TryStreamExt;
use serde::de::DeserializeOwned;
use sqlx::{Any, Row, Transaction, any::AnyRow};
use uuid::Uuid;

use super::{
    Cursor, Dialect, Holdings, Selection, Statement, Store, StoreError,
    keys::{column_text, day, first_at, moment},
    statement::ROWS_MAX,
};
use crate::traffic::{
    feedback::Feedback,
    record::{Logged, Record, Shadow},
};

/// Records of one page: some megabytes of text.
const PAGE_ROWS_MAX: usize = 1_000;
/// Bytes of documents of one page; one record is given however long it is.
const PAGE_BYTES_MAX: usize = 32 << 20;
/// Feedback that is read of one decision, the latest: a flood about one decision must not fill the memory.
const FEEDBACK_ROWS_MAX: i64 = 100;

/// Rows that cannot be read, told and counted one by one.
const UNREADABLE_MAX: usize = 1_000;

const OLDEST: &str = "SELECT at_ms FROM traffic ORDER BY day, decision_id LIMIT 1";
const NEWEST: &str = "SELECT at_ms FROM traffic ORDER BY day DESC, decision_id DESC LIMIT 1";

/// Pages in use; free ones wait to be cut off or used again.
const SQLITE_BYTES: &str = "SELECT (page_count - freelist_count) * page_size \
     FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
const POSTGRES_BYTES: &str = "SELECT CAST(COALESCE(SUM(pg_total_relation_size(relid)), 0) AS BIGINT) FROM \
     (SELECT relid FROM pg_partition_tree('traffic') UNION ALL SELECT CAST('feedback' AS regclass) \
     UNION ALL SELECT CAST('shadow_scores' AS regclass)) AS parts";

impl Store {
    /// Returns the next records with their feedback and what a shadow said, oldest first, at most `limit` (and 1,000), fewer where they are
    /// long; empty at the end. Of the feedback about one decision the latest 100 are given.
    pub async fn page(
        &self,
        selection: &Selection,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<Logged>, StoreError> {
        let mut after = after;
        loop {
            let Some(statement) = self.page_statement(selection, after, limit) else { return Ok(Vec::new()) };
            let (page, last) = self.bounded(self.read_page(statement)).await?;
            match last {
                // Rows that cannot be read are not the end.
                Some(last) if page.is_empty() => after = Some(last),
                Some(_) | None => return Ok(page),
            }
        }
    }

    /// Returns the records that can be read, and the place of the last row.
    async fn read_page(&self, statement: Statement) -> Result<(Vec<Logged>, Option<Cursor>), StoreError> {
        let mut transaction = self.read().await?;
        let failed = |error: sqlx::Error| self.failed(&error);
        let (mut records, mut bytes) = (Vec::<Record>::new(), 0);
        let mut last = None;
        let mut rows = statement.query().fetch(&mut *transaction);
        while bytes < PAGE_BYTES_MAX
            && let Some(row) = rows.try_next().await.map_err(failed)?
        {
            let (id, text) = id_and_document(&row).map_err(failed)?;
            bytes += text.len();
            last = Uuid::try_parse(&id).ok().map(|id| Cursor { at_ms: moment(id), decision_id: id });
            records.extend(self.readable(&id, &text));
        }
        drop(rows);
        let (mut feedback, mut shadows) = (HashMap::new(), HashMap::new());
        for batch in records.chunks(ROWS_MAX) {
            self.feedback_of(&mut transaction, batch, &mut feedback).await?;
            self.shadows_of(&mut transaction, batch, &mut shadows).await?;
        }
        let with_feedback = |record: Record| {
            let feedback = feedback.remove(&record.decision_id).unwrap_or_default();
            let shadow = shadows.remove(&record.decision_id);
            Logged { record, feedback, shadow }
        };
        Ok((records.into_iter().map(with_feedback).collect(), last))
    }

    /// Returns how many rows could not be read since it was opened; beyond a thousand they are not counted.
    pub fn unreadable(&self) -> usize {
        self.inner.unreadable.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Returns the statement that reads a page; `None` where nothing can be in it.
    fn page_statement(
        &self,
        selection: &Selection,
        after: Option<Cursor>,
        limit: usize,
    ) -> Option<Statement> {
        let limit = i64::try_from(limit.min(PAGE_ROWS_MAX)).ok().filter(|limit| *limit > 0)?;
        let from = match selection.from_ms {
            Some(from_ms) => first_at(from_ms)?,
            None => Uuid::nil(),
        };
        let after = after.map(|cursor| cursor.decision_id);
        let mut select =
            self.statement("SELECT decision_id, document FROM traffic WHERE (day, decision_id) ");
        let from = match after.filter(|after| *after >= from) {
            Some(after) => {
                select.push("> (").value(day(after)).push(", ").value(after.to_string()).push(")");
                after
            }
            None => {
                select.push(">= (").value(day(from)).push(", ").value(from.to_string()).push(")");
                from
            }
        };
        // PostgreSQL passes over partitions only by this; SQLite would look for the rows by this alone.
        if self.dialect() == Dialect::Postgres {
            select.push(" AND day >= ").value(day(from));
        }
        if let Some(until) = selection.until_ms.and_then(first_at) {
            select.push(" AND day <= ").value(day(until)).push(" AND (day, decision_id) < (");
            select.value(day(until)).push(", ").value(until.to_string()).push(")");
        }
        if let Some(tenant) = &selection.tenant {
            select.push(" AND tenant = ").value(column_text(tenant).into_owned());
        }
        select.push(" ORDER BY day, decision_id LIMIT ").value(limit);
        Some(select)
    }

    async fn feedback_of(
        &self,
        transaction: &mut Transaction<'static, Any>,
        records: &[Record],
        into: &mut HashMap<Uuid, Vec<Feedback>>,
    ) -> Result<(), StoreError> {
        let failed = |error: sqlx::Error| self.failed(&error);
        let mut select = self.statement(
            "SELECT feedback_id, document FROM (SELECT feedback_id, at_ms, document, ROW_NUMBER() OVER \
             (PARTITION BY decision_id ORDER BY at_ms DESC, feedback_id DESC) AS place FROM feedback \
             WHERE decision_id IN ",
        );
        select.list(records.iter().map(|record| record.decision_id.to_string()));
        select.push(") AS recent WHERE place <= ").value(FEEDBACK_ROWS_MAX);
        select.push(" ORDER BY at_ms, feedback_id");
        for row in select.query().fetch_all(&mut **transaction).await.map_err(failed)? {
            let (id, text) = id_and_document(&row).map_err(failed)?;
            if let Some(feedback) = self.readable::<Feedback>(&id, &text) {
                into.entry(feedback.decision_id).or_default().push(feedback);
            }
        }
        for given in into.values_mut() {
            // The column says when the store got it, where it came before its record.
            given.sort_by(|a, b| (a.at_ms, &a.feedback_id).cmp(&(b.at_ms, &b.feedback_id)));
        }
        Ok(())
    }

    /// Reads what shadows said of records that stand in the page's order. A decision is given to one shadow; where another
    /// bundle's score is there all the same, the last by name counts.
    async fn shadows_of(
        &self,
        transaction: &mut Transaction<'static, Any>,
        records: &[Record],
        into: &mut HashMap<Uuid, Shadow>,
    ) -> Result<(), StoreError> {
        let failed = |error: sqlx::Error| self.failed(&error);
        let (Some(first), Some(last)) = (records.first(), records.last()) else { return Ok(()) };
        let (first, last) = (first.decision_id, last.decision_id);
        // By the range first: a look-up for each identifier takes three times as long where there is no shadow, and pairs
        // of day and identifier have SQLite read the whole table.
        let mut select = self.statement(
            "SELECT decision_id, document, bundle FROM shadow_scores WHERE (day, decision_id) >= (",
        );
        select.value(day(first)).push(", ").value(first.to_string());
        select.push(") AND (day, decision_id) <= (").value(day(last)).push(", ").value(last.to_string());
        select
            .push(") AND decision_id IN ")
            .list(records.iter().map(|record| record.decision_id.to_string()));
        select.push(" ORDER BY day, decision_id, bundle");
        for row in select.query().fetch_all(&mut **transaction).await.map_err(failed)? {
            let (id, text) = id_and_document(&row).map_err(failed)?;
            let bundle: String = row.try_get(2).map_err(failed)?;
            if let (Some(score), Ok(id)) = (self.readable(&id, &text), Uuid::try_parse(&id)) {
                into.insert(id, Shadow { bundle: bundle.into(), score });
            }
        }
        Ok(())
    }

    /// Returns the tenants of these decisions, `None` where a decision is not in the store.
    pub async fn tenants_of(&self, decisions: &[Uuid]) -> Result<Vec<Option<String>>, StoreError> {
        let mut tenants = HashMap::new();
        for batch in decisions.chunks(ROWS_MAX) {
            self.bounded(async {
                let days: BTreeSet<i64> = batch.iter().map(|&decision| day(decision)).collect();
                let mut select = self.statement("SELECT decision_id, tenant FROM traffic WHERE day IN ");
                select.list(days).push(" AND decision_id IN ").list(batch.iter().map(Uuid::to_string));
                let failed = |error: sqlx::Error| self.failed(&error);
                let mut transaction = self.read().await?;
                for row in select.query().fetch_all(&mut *transaction).await.map_err(failed)? {
                    let id: String = row.try_get(0).map_err(failed)?;
                    tenants.insert(id, row.try_get::<String, _>(1).map_err(failed)?);
                }
                Ok(())
            })
            .await?;
        }
        Ok(decisions.iter().map(|decision| tenants.get(&decision.to_string()).cloned()).collect())
    }

    /// Returns what the store holds.
    pub async fn holdings(&self) -> Result<Holdings, StoreError> {
        let bytes = self.bytes().await?;
        self.bounded(async {
            let failed = |error: sqlx::Error| self.failed(&error);
            let mut transaction = self.read().await?;
            let row = sqlx::query(
                "SELECT (SELECT COUNT(*) FROM traffic), (SELECT COUNT(*) FROM feedback), \
                 (SELECT COUNT(*) FROM feedback WHERE known = 0)",
            )
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed)?;
            let count = |place: usize| -> Result<u64, StoreError> {
                let count: i64 = row.try_get(place).map_err(failed)?;
                Ok(u64::try_from(count).unwrap_or(0))
            };
            let mut ends = [None; 2];
            for (end, text) in ends.iter_mut().zip([OLDEST, NEWEST]) {
                let row = sqlx::query(text).fetch_optional(&mut *transaction).await.map_err(failed)?;
                *end = row.map(|row| row.try_get(0)).transpose().map_err(failed)?;
            }
            Ok(Holdings {
                records: count(0)?,
                feedback: count(1)?,
                unknown_feedback: count(2)?,
                bytes,
                oldest_ms: ends[0],
                newest_ms: ends[1],
            })
        })
        .await
    }

    /// Returns the size of the store with all it holds.
    pub(super) async fn bytes(&self) -> Result<u64, StoreError> {
        self.bounded(async {
            let failed = |error: sqlx::Error| self.failed(&error);
            let mut transaction = self.read().await?;
            let text = match self.dialect() {
                Dialect::Sqlite => SQLITE_BYTES,
                Dialect::Postgres => POSTGRES_BYTES,
            };
            let bytes: i64 = sqlx::query_scalar(text).fetch_one(&mut *transaction).await.map_err(failed)?;
            Ok(u64::try_from(bytes).unwrap_or(0))
        })
        .await
    }

    /// `None` where a document cannot be read: one broken row is no reason to read no other. It is told by its name
    /// and the place in it; what stands there may be a text that nobody may see.
    fn readable<T: DeserializeOwned>(&self, id: &str, text: &str) -> Option<T> {
        let error = match serde_json::from_str(text) {
            Ok(document) => return Some(document),
            Err(error) => error,
        };
        let mut unreadable = self.inner.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        if unreadable.len() < UNREADABLE_MAX && unreadable.insert(id.to_owned()) {
            let place = error.column();
            tracing::warn!(
                store = self.name(),
                row = id,
                place,
                "a row cannot be read and is passed over: its JSON is wrong"
            );
        }
        None
    }
}

fn id_and_document(row: &AnyRow) -> Result<(String, String), sqlx::Error> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}
