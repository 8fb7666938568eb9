//! What online learning reads and keeps. One replica learns at a time, and in one transaction: observations are taken,
//! offsets and allowances changed, and what was seen marked, or nothing of it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use sqlx::{Any, Row, Transaction, any::AnyRow};
use uuid::Uuid;

use super::{
    Dialect, Statement, Store, StoreError,
    keys::{column_text, day, first_at},
    statement::ROWS_MAX,
};
use crate::{
    config::LearningConfig,
    routing::learning::{Allowance, AllowanceKey, Cell, CellKey, Channel, State},
    traffic::{feedback::Feedback, record::Record},
};

/// Any number that nothing else locks: "pointsln" as bytes.
const LOCK: i64 = 0x706f_696e_7473_6c6e;

const CELLS: &str = "SELECT intent, target, mean, certainty, observations, at_ms FROM learning_cells";
const ALLOWANCES: &str =
    "SELECT intent, target, tenant, channel, remaining, at_ms FROM learning_allowances WHERE tenant IN ";
const FEEDBACK: &str = "SELECT feedback.feedback_id, feedback.document, traffic.document FROM feedback \
     JOIN traffic ON traffic.day = feedback.day AND traffic.decision_id = feedback.decision_id \
     WHERE feedback.learned = 0 AND feedback.known = 1 ORDER BY feedback.at_ms, feedback.feedback_id LIMIT ";
const OUTCOMES: &str = "SELECT decision_id, document FROM traffic WHERE learned = 0 AND kind = 'complete' AND (day, decision_id) < ";
const KEEP_CELLS: &str =
    "INSERT INTO learning_cells (intent, target, mean, certainty, observations, at_ms) VALUES ";
const OVER_CELLS: &str = " ON CONFLICT (intent, target) DO UPDATE SET mean = excluded.mean, \
     certainty = excluded.certainty, observations = excluded.observations, at_ms = excluded.at_ms";
const KEEP_ALLOWANCES: &str =
    "INSERT INTO learning_allowances (intent, target, tenant, channel, remaining, at_ms) VALUES ";
const OVER_ALLOWANCES: &str = " ON CONFLICT (tenant, channel, intent, target) DO UPDATE SET \
     remaining = excluded.remaining, at_ms = excluded.at_ms";

/// Feedback that was not learned from yet.
pub(in crate::traffic) struct Unlearned {
    feedback_id: String,
    /// `None` where one of them cannot be read.
    pub both: Option<(Feedback, Record)>,
}

/// A completion whose outcome was not learned from yet.
pub(in crate::traffic) struct UnlearnedOutcome {
    decision_id: String,
    /// `None` where it cannot be read.
    pub record: Option<Record>,
    /// All that was said about it and can be read.
    pub feedback: Vec<Feedback>,
}

/// A transaction that learns. Dropped without [`Learning::commit`], it has changed nothing.
pub(in crate::traffic) struct Learning<'a> {
    store: &'a Store,
    transaction: Transaction<'static, Any>,
}

impl Store {
    /// Begins to learn; `None` while another replica does.
    pub(in crate::traffic) async fn learn(&self) -> Result<Option<Learning<'_>>, StoreError> {
        // Of SQLite the transaction itself is the lock.
        let mut transaction = self.begin().await?;
        if self.dialect() == Dialect::Postgres {
            let mut lock = self.statement("SELECT CASE WHEN pg_try_advisory_xact_lock(");
            lock.value(LOCK).push(") THEN 1 ELSE 0 END");
            let row = lock.query().fetch_one(&mut *transaction).await.map_err(|error| self.failed(&error))?;
            let got: i32 = row.try_get(0).map_err(|error| self.failed(&error))?;
            if got == 0 {
                return Ok(None);
            }
        }
        Ok(Some(Learning { store: self, transaction }))
    }

    /// Returns all that is known of offsets; nothing of it is later than now, whatever clock it was kept by.
    pub async fn cells(
        &self,
        config: &LearningConfig,
        now_ms: i64,
    ) -> Result<HashMap<CellKey, Cell>, StoreError> {
        self.bounded(async {
            let mut transaction = self.read().await?;
            read_cells(&mut transaction, config, now_ms).await.map_err(|error| self.failed(&error))
        })
        .await
    }

    /// Forgets what a tenant may still say. What it has said is part of what all have taught, and stays.
    pub(super) async fn drop_tenant_allowances(&self, tenant: &str) -> Result<(), StoreError> {
        let mut delete = self.statement("DELETE FROM learning_allowances WHERE tenant = ");
        delete.value(column_text(tenant).into_owned());
        let mut transaction = self.begin().await?;
        // Whoever learns at this moment has read what is about to go, and would keep it again.
        self.wait_for_learners(&mut transaction).await?;
        let done = delete.query().execute(&mut *transaction).await.map(drop);
        done.map_err(|error| self.failed(&error))?;
        transaction.commit().await.map_err(|error| self.failed(&error))
    }

    /// Forgets what was learned, of all or of one intent, target or both; returns how many offsets that was. What was
    /// learned from once is not learned from again.
    pub async fn forget(&self, intent: Option<&str>, target: Option<&str>) -> Result<u64, StoreError> {
        let chosen = |mut delete: Statement| {
            if let Some(intent) = intent {
                delete.push(" AND intent = ").value(intent.to_owned());
            }
            if let Some(target) = target {
                delete.push(" AND target = ").value(target.to_owned());
            }
            delete.query()
        };
        self.bounded(async {
            let failed = |error: sqlx::Error| self.failed(&error);
            let mut transaction = self.begin().await?;
            self.wait_for_learners(&mut transaction).await?;
            let allowances = self.statement("DELETE FROM learning_allowances WHERE 1 = 1");
            chosen(allowances).execute(&mut *transaction).await.map_err(failed)?;
            let cells = self.statement("DELETE FROM learning_cells WHERE 1 = 1");
            let forgotten = chosen(cells).execute(&mut *transaction).await.map_err(failed)?.rows_affected();
            transaction.commit().await.map_err(failed)?;
            Ok(forgotten)
        })
        .await
    }

    /// Waits until nobody learns, and lets nobody learn until the transaction ends; of SQLite it is the lock itself.
    async fn wait_for_learners(&self, transaction: &mut Transaction<'static, Any>) -> Result<(), StoreError> {
        if self.dialect() == Dialect::Postgres {
            let mut lock = self.statement("SELECT pg_advisory_xact_lock(");
            lock.value(LOCK).push(")");
            lock.query().execute(&mut **transaction).await.map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }
}

impl Learning<'_> {
    /// Returns feedback whose decision is known, oldest first, at most `limit`.
    pub async fn feedback(&mut self, limit: u32) -> Result<Vec<Unlearned>, StoreError> {
        let mut select = self.store.statement(FEEDBACK);
        select.value(i64::from(limit));
        let rows = self.fetch(select).await?;
        let read = |row: &AnyRow| {
            let (feedback, record): (String, String) = (row.try_get(1)?, row.try_get(2)?);
            let both = serde_json::from_str(&feedback).ok().zip(serde_json::from_str(&record).ok());
            Ok(Unlearned { feedback_id: row.try_get(0)?, both })
        };
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| self.store.failed(&error))
    }

    /// Returns completions that were decided before a time, oldest first, at most `limit`.
    pub async fn outcomes(
        &mut self,
        before_ms: i64,
        limit: u32,
    ) -> Result<Vec<UnlearnedOutcome>, StoreError> {
        let before = first_at(before_ms).unwrap_or(Uuid::max());
        let mut select = self.store.statement(OUTCOMES);
        select.push("(").value(day(before)).push(", ").value(before.to_string());
        select.push(") ORDER BY day, decision_id LIMIT ").value(i64::from(limit));
        let rows = self.fetch(select).await?;
        let ids: Vec<String> = self.column(&rows)?;
        let mut about = self.store.statement("SELECT document FROM feedback WHERE decision_id IN ");
        about.list(ids.iter().cloned());
        let said = self.fetch(about).await?;
        let mut said_of: HashMap<String, Vec<Feedback>> = HashMap::new();
        for feedback in
            self.column(&said)?.iter().filter_map(|text| serde_json::from_str::<Feedback>(text).ok())
        {
            said_of.entry(feedback.decision_id.to_string()).or_default().push(feedback);
        }
        let mut read = |(row, id): (&AnyRow, String)| {
            let document: String = row.try_get(1)?;
            let record = serde_json::from_str(&document).ok();
            Ok(UnlearnedOutcome {
                feedback: said_of.remove(&id).unwrap_or_default(),
                decision_id: id,
                record,
            })
        };
        rows.iter()
            .zip(ids)
            .map(&mut read)
            .collect::<Result<_, _>>()
            .map_err(|error| self.store.failed(&error))
    }

    /// Returns what is known of all offsets, and of the allowances of these tenants.
    pub async fn state(
        &mut self,
        tenants: &BTreeSet<&str>,
        config: &LearningConfig,
        now_ms: i64,
    ) -> Result<State, StoreError> {
        let cells = read_cells(&mut self.transaction, config, now_ms)
            .await
            .map_err(|error| self.store.failed(&error))?;
        let mut select = self.store.statement(ALLOWANCES);
        select.list(tenants.iter().map(|&tenant| tenant.to_owned()));
        let rows = self.fetch(select).await?;
        let read = |row: &AnyRow| -> Result<Option<(AllowanceKey, Allowance)>, sqlx::Error> {
            let cell = cell_key(row)?;
            let Some(channel) = Channel::parse(row.try_get(3)?) else { return Ok(None) };
            let at_ms = row.try_get::<i64, _>(5)?.min(now_ms);
            let allowance = Allowance::restore(row.try_get(4)?, at_ms, config);
            Ok(Some((AllowanceKey { cell, tenant: row.try_get(2)?, channel }, allowance)))
        };
        let allowances = rows.iter().filter_map(|row| read(row).transpose());
        let allowances = allowances.collect::<Result<_, _>>().map_err(|error| self.store.failed(&error))?;
        Ok(State { cells, allowances })
    }

    /// Keeps what these observed cells and allowances are now.
    pub async fn keep(
        &mut self,
        state: &State,
        cells: &BTreeSet<CellKey>,
        allowances: &BTreeSet<AllowanceKey>,
    ) -> Result<(), StoreError> {
        let cells: Vec<_> = cells.iter().filter_map(|key| Some((key, state.cells.get(key)?))).collect();
        for batch in cells.chunks(ROWS_MAX) {
            let mut insert = self.store.statement(KEEP_CELLS);
            for (place, (key, cell)) in batch.iter().enumerate() {
                insert.push(if place == 0 { "(" } else { ", (" }).value(key.intent.to_string());
                insert.push(", ").value(key.target.to_string());
                insert.push(", ").value(cell.mean());
                insert.push(", ").value(cell.precision());
                insert.push(", ").value(i64::try_from(cell.observations()).unwrap_or(i64::MAX));
                insert.push(", ").value(cell.at_ms()).push(")");
            }
            insert.push(OVER_CELLS);
            self.execute(insert).await?;
        }
        let allowances: Vec<_> =
            allowances.iter().filter_map(|key| Some((key, state.allowances.get(key)?))).collect();
        for batch in allowances.chunks(ROWS_MAX) {
            let mut insert = self.store.statement(KEEP_ALLOWANCES);
            for (place, (key, allowance)) in batch.iter().enumerate() {
                insert.push(if place == 0 { "(" } else { ", (" }).value(key.cell.intent.to_string());
                insert.push(", ").value(key.cell.target.to_string());
                insert.push(", ").value(key.tenant.clone());
                insert.push(", ").value(key.channel.as_str());
                insert.push(", ").value(allowance.left());
                insert.push(", ").value(allowance.at_ms()).push(")");
            }
            insert.push(OVER_ALLOWANCES);
            self.execute(insert).await?;
        }
        Ok(())
    }

    /// Drops allowances that were last used before a time, when they are full again.
    pub async fn drop_allowances(&mut self, channel: Channel, before_ms: i64) -> Result<(), StoreError> {
        let mut delete = self.store.statement("DELETE FROM learning_allowances WHERE channel = ");
        delete.value(channel.as_str()).push(" AND at_ms < ").value(before_ms);
        self.execute(delete).await
    }

    /// Marks what was seen, so that it is never seen again.
    pub async fn mark(
        &mut self,
        feedback: &[Unlearned],
        outcomes: &[UnlearnedOutcome],
    ) -> Result<(), StoreError> {
        for batch in feedback.chunks(ROWS_MAX) {
            let mut update = self.store.statement("UPDATE feedback SET learned = 1 WHERE feedback_id IN ");
            update.list(batch.iter().map(|one| one.feedback_id.clone()));
            self.execute(update).await?;
        }
        for batch in outcomes.chunks(ROWS_MAX) {
            let ids = batch.iter().map(|one| one.decision_id.clone());
            let days: BTreeSet<i64> = ids.clone().filter_map(|id| Some(day(id.parse().ok()?))).collect();
            let mut update = self.store.statement("UPDATE traffic SET learned = 1 WHERE day IN ");
            update.list(days).push(" AND decision_id IN ").list(ids);
            self.execute(update).await?;
        }
        Ok(())
    }

    /// Makes all of it last.
    pub async fn commit(self) -> Result<(), StoreError> {
        let Self { store, transaction } = self;
        transaction.commit().await.map_err(|error| store.failed(&error))
    }

    async fn fetch(&mut self, statement: Statement) -> Result<Vec<AnyRow>, StoreError> {
        let rows = statement.query().fetch_all(&mut *self.transaction).await;
        rows.map_err(|error| self.store.failed(&error))
    }

    async fn execute(&mut self, statement: Statement) -> Result<(), StoreError> {
        let done = statement.query().execute(&mut *self.transaction).await;
        done.map(drop).map_err(|error| self.store.failed(&error))
    }

    fn column(&self, rows: &[AnyRow]) -> Result<Vec<String>, StoreError> {
        let texts = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>();
        texts.map_err(|error| self.store.failed(&error))
    }
}

async fn read_cells(
    transaction: &mut Transaction<'static, Any>,
    config: &LearningConfig,
    now_ms: i64,
) -> Result<HashMap<CellKey, Cell>, sqlx::Error> {
    let rows = sqlx::query(CELLS).fetch_all(&mut **transaction).await?;
    let read = |row: &AnyRow| {
        let observations: i64 = row.try_get(4)?;
        let observations = u64::try_from(observations).unwrap_or(0);
        let at_ms = row.try_get::<i64, _>(5)?.min(now_ms);
        let cell = Cell::restore(row.try_get(2)?, row.try_get(3)?, observations, at_ms, config);
        Ok((cell_key(row)?, cell))
    };
    rows.iter().map(read).collect()
}

/// Of a row that begins with intent and target.
fn cell_key(row: &AnyRow) -> Result<CellKey, sqlx::Error> {
    let (intent, target): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    Ok(CellKey { intent: Arc::from(intent), target: Arc::from(target) })
}
