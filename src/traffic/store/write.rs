//! Records and feedback -> rows. Each batch is one transaction, and every row is written once, however often it comes.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::Serialize;
use sqlx::{Any, Row, Transaction};
use uuid::Uuid;

use super::{
    Dialect, Landed, Statement, Store, StoreError,
    error::Fault,
    keys::{column_figure, column_text, day, moment},
    postgres,
    statement::ROWS_MAX,
};
use crate::traffic::{
    feedback::Feedback,
    record::{Kind, Record},
    speed::{PORTION, Speed},
};

/// Rows of one statement: one that the database remembers, and of which a batch takes a few.
const INSERT_ROWS: usize = 50;
const INSERT_RECORDS: &str = "INSERT INTO traffic (day, decision_id, at_ms, tenant, session, kind, source, intent, \
     tier, target, answered_tier, answered_target, status, escalated, cost_usd, baseline_cost_usd, latency_ms, \
     bundle_version, document) VALUES ";
/// The column `at_ms` is when it was said, and for what came before its record when it was stored.
const INSERT_FEEDBACK: &str =
    "INSERT INTO feedback (feedback_id, decision_id, day, known, at_ms, source, document) VALUES ";

impl Store {
    /// Writes records, durable when this returns; those that are there already are left as they are. Feedback that
    /// came before its record becomes known. Returns how many were new.
    pub async fn write(&self, records: &[Record]) -> Result<u64, StoreError> {
        self.write_at(records, Speed::Full).await
    }

    /// The same at a speed.
    pub(in crate::traffic) async fn write_at(
        &self,
        records: &[Record],
        speed: Speed,
    ) -> Result<u64, StoreError> {
        let mut new = 0;
        for batch in records.chunks(ROWS_MAX) {
            let mut documents = Vec::with_capacity(batch.len());
            for record in batch {
                documents.push(self.document(record)?);
                speed.rest_after(documents.len()).await;
            }
            new += self.bounded(self.write_batch(batch, &documents, speed)).await?;
        }
        Ok(new)
    }

    async fn write_batch(
        &self,
        records: &[Record],
        documents: &[String],
        speed: Speed,
    ) -> Result<u64, StoreError> {
        if self.dialect() == Dialect::Sqlite {
            return self.insert_batch(records, documents, speed).await?.map_err(|error| self.failed(&error));
        }
        // The work is done elsewhere.
        let speed = Speed::Full;
        let days: BTreeSet<i64> = records.iter().map(|record| day(record.decision_id)).collect();
        self.make_days(&days).await?;
        match self.insert_batch(records, documents, speed).await? {
            // Another replica has dropped a day that is past its time.
            Err(error) if postgres::is_day_missing(&error) => {
                self.forget_days(&days);
                self.make_days(&days).await?;
                self.insert_batch(records, documents, speed).await?.map_err(|error| self.failed(&error))
            }
            other => other.map_err(|error| self.failed(&error)),
        }
    }

    /// The outer error is one of connecting.
    async fn insert_batch(
        &self,
        records: &[Record],
        documents: &[String],
        speed: Speed,
    ) -> Result<Result<u64, sqlx::Error>, StoreError> {
        let mut transaction = self.begin().await?;
        let inserted = self.insert_records(&mut transaction, records, documents, speed).await;
        Ok(match inserted {
            Ok(new) => transaction.commit().await.map(|()| new),
            // Dropping the transaction undoes it.
            Err(error) => Err(error),
        })
    }

    /// Writes feedback, durable when this returns; one answer for each, in order.
    pub async fn add_feedback(
        &self,
        feedback: &[Feedback],
        unknown_max: u64,
    ) -> Result<Vec<Landed>, StoreError> {
        let mut landed = Vec::with_capacity(feedback.len());
        for batch in feedback.chunks(ROWS_MAX) {
            landed.extend(self.bounded(self.add_feedback_batch(batch, unknown_max)).await?);
        }
        Ok(landed)
    }

    async fn add_feedback_batch(
        &self,
        feedback: &[Feedback],
        unknown_max: u64,
    ) -> Result<Vec<Landed>, StoreError> {
        let documents = feedback.iter().map(|one| self.document(one)).collect::<Result<Vec<_>, _>>()?;
        let mut transaction = self.begin().await?;
        let added = self.insert_feedback(&mut transaction, feedback, &documents, unknown_max).await;
        let landed = added.map_err(|error| self.failed(&error))?;
        transaction.commit().await.map_err(|error| self.failed(&error))?;
        Ok(landed)
    }

    /// Makes known what feedback waits for a record that is there: two replicas that write a record and its feedback
    /// at the same moment do not see each other. Returns how many it was.
    pub async fn adopt(&self) -> Result<u64, StoreError> {
        self.bounded(async {
            let mut transaction = self.begin().await?;
            let adopted = sqlx::query(
                "UPDATE feedback SET known = 1 WHERE known = 0 AND EXISTS (SELECT 1 FROM traffic \
                 WHERE traffic.day = feedback.day AND traffic.decision_id = feedback.decision_id)",
            )
            .execute(&mut *transaction)
            .await
            .map_err(|error| self.failed(&error))?
            .rows_affected();
            transaction.commit().await.map_err(|error| self.failed(&error))?;
            Ok(adopted)
        })
        .await
    }

    fn document(&self, value: &impl Serialize) -> Result<String, StoreError> {
        serde_json::to_string(value)
            .map_err(|_| self.inner.address.fault(Fault::Refused, "something cannot be written as JSON"))
    }

    async fn insert_records(
        &self,
        transaction: &mut Transaction<'static, Any>,
        records: &[Record],
        documents: &[String],
        speed: Speed,
    ) -> Result<u64, sqlx::Error> {
        let mut new = 0;
        let rows = match speed {
            Speed::Full => INSERT_ROWS,
            Speed::Gentle => PORTION,
        };
        for (records, documents) in records.chunks(rows).zip(documents.chunks(rows)) {
            let mut insert = self.statement(INSERT_RECORDS);
            for (place, (record, document)) in records.iter().zip(documents).enumerate() {
                if place > 0 {
                    insert.push(", ");
                }
                record_row(&mut insert, record, document);
            }
            insert.push(" ON CONFLICT DO NOTHING");
            let insert = if records.len() == rows { insert.query_again() } else { insert.query() };
            new += insert.execute(&mut **transaction).await?.rows_affected();
            speed.rest_after(records.len()).await;
        }
        let mut adopt = self.statement("UPDATE feedback SET known = 1 WHERE known = 0 AND decision_id IN ");
        adopt.list(records.iter().map(|record| record.decision_id.to_string()));
        adopt.query().execute(&mut **transaction).await?;
        Ok(new)
    }

    async fn insert_feedback(
        &self,
        transaction: &mut Transaction<'static, Any>,
        feedback: &[Feedback],
        documents: &[String],
        unknown_max: u64,
    ) -> Result<Vec<Landed>, sqlx::Error> {
        let ids: Vec<String> =
            feedback.iter().map(|one| column_text(&one.feedback_id).into_owned()).collect();
        let there = self.existing(transaction, &ids).await?;
        let known = self.known_decisions(transaction, feedback).await?;
        let all_known = feedback.iter().all(|one| known.contains(&one.decision_id));
        let mut room =
            if all_known { 0 } else { unknown_max.saturating_sub(unknown_count(transaction).await?) };

        // By id, so that two replicas that write the same ones take their locks in the same order.
        let mut fresh: BTreeMap<&str, (usize, Landed)> = BTreeMap::new();
        let mut landed = Vec::with_capacity(feedback.len());
        for (place, (one, id)) in feedback.iter().zip(&ids).enumerate() {
            let answer = if there.contains(id) || fresh.contains_key(id.as_str()) {
                Landed::Duplicate
            } else if known.contains(&one.decision_id) {
                Landed::Known
            } else if room > 0 {
                room -= 1;
                Landed::Unknown
            } else {
                Landed::Full
            };
            if matches!(answer, Landed::Known | Landed::Unknown) {
                fresh.insert(id, (place, answer));
            }
            landed.push(answer);
        }
        if fresh.is_empty() {
            return Ok(landed);
        }

        let mut insert = self.statement(INSERT_FEEDBACK);
        for (count, (id, (place, answer))) in fresh.iter().enumerate() {
            let one = &feedback[*place];
            insert.push(if count > 0 { ", (" } else { "(" }).value(*id);
            insert.push(", ").value(one.decision_id.to_string());
            insert.push(", ").value(day(one.decision_id));
            insert.push(", ").value(i64::from(*answer == Landed::Known));
            insert.push(", ");
            match answer {
                // From here on its record is waited for, however long it lay in a spool, and whatever clock its replica
                // has. When it was received stands in the document.
                Landed::Unknown => insert.push(self.clock()),
                Landed::Known | Landed::Duplicate | Landed::Full | Landed::Spooled => insert.value(one.at_ms),
            };
            insert.push(", ").value(one.source.as_str());
            insert.push(", ").value(documents[*place].as_str()).push(")");
        }
        insert.push(" ON CONFLICT DO NOTHING RETURNING feedback_id");
        let written: HashSet<String> = texts(transaction, insert).await?.into_iter().collect();
        // Another replica was faster with the rest.
        for (id, (place, _)) in fresh {
            if !written.contains(id) {
                landed[place] = Landed::Duplicate;
            }
        }
        Ok(landed)
    }

    async fn existing(
        &self,
        transaction: &mut Transaction<'static, Any>,
        ids: &[String],
    ) -> Result<HashSet<String>, sqlx::Error> {
        let mut select = self.statement("SELECT feedback_id FROM feedback WHERE feedback_id IN ");
        select.list(ids.iter().map(String::as_str));
        Ok(texts(transaction, select).await?.into_iter().collect())
    }

    async fn known_decisions(
        &self,
        transaction: &mut Transaction<'static, Any>,
        feedback: &[Feedback],
    ) -> Result<HashSet<Uuid>, sqlx::Error> {
        let decisions: BTreeSet<Uuid> = feedback.iter().map(|one| one.decision_id).collect();
        let days: BTreeSet<i64> = decisions.iter().map(|&decision| day(decision)).collect();
        let mut select = self.statement("SELECT decision_id FROM traffic WHERE day IN ");
        select.list(days).push(" AND decision_id IN ").list(decisions.iter().map(Uuid::to_string));
        Ok(texts(transaction, select).await?.iter().filter_map(|id| id.parse().ok()).collect())
    }
}

fn record_row(insert: &mut Statement, record: &Record, document: &str) {
    let (request, decision, outcome) = (&record.request, &record.decision, &record.outcome);
    let text = |text: &str| column_text(text).into_owned();
    let maybe = |maybe: Option<&str>| maybe.map(text);
    let kind = match record.kind {
        Kind::Route => "route",
        Kind::Complete => "complete",
    };
    insert.push("(").value(day(record.decision_id));
    insert.push(", ").value(record.decision_id.to_string());
    insert.push(", ").value(moment(record.decision_id));
    insert.push(", ").value(text(&request.tenant));
    insert.push(", ").value(text(&request.session));
    insert.push(", ").value(kind);
    insert.push(", ").value(text(&decision.source));
    insert.push(", ").value(maybe(decision.intent.as_deref()));
    insert.push(", ").value(text(&decision.tier));
    insert.push(", ").value(text(&decision.target.id));
    insert.push(", ").value(maybe(outcome.tier.as_deref()));
    insert.push(", ").value(maybe(outcome.target.as_ref().map(|target| &*target.id)));
    insert.push(", ").value(text(&outcome.status));
    insert.push(", ").value(i64::from(outcome.escalated));
    insert.push(", ").value(column_figure(outcome.cost_usd));
    insert.push(", ").value(column_figure(outcome.baseline_cost_usd));
    insert.push(", ").value(column_figure(outcome.latency_ms));
    insert.push(", ").value(maybe(decision.bundle_version.as_deref()));
    insert.push(", ").value(document).push(")");
}

async fn unknown_count(transaction: &mut Transaction<'static, Any>) -> Result<u64, sqlx::Error> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM feedback WHERE known = 0")
        .fetch_one(&mut **transaction)
        .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Returns the first column of all rows.
async fn texts(
    transaction: &mut Transaction<'static, Any>,
    statement: Statement,
) -> Result<Vec<String>, sqlx::Error> {
    statement.query().fetch_all(&mut **transaction).await?.iter().map(|row| row.try_get(0)).collect()
}
