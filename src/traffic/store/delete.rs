//! One tenant's or session's data -> gone, from the rows and from the pages on which they stood.
//!
//! Feedback about decisions that are not in the store has no tenant, and stays until it is too old.

use std::collections::{BTreeSet, HashSet};

use sqlx::Row;
use uuid::Uuid;

use super::{
    BATCH_PAUSE, Deleted, Deleting, Dialect, Statement, Store, StoreError, Whose,
    keys::{column_text, day},
    statement::ROWS_MAX,
};

impl Store {
    /// Deletes the data of these tenants or sessions for good: nothing of it is left anywhere in the file. SQLite
    /// writes the whole file anew for that, once, which takes room for two more copies, and time in which others
    /// cannot write. Cut short, or told that somebody is reading, it is simply done again.
    pub async fn delete(&self, all: &[Whose]) -> Result<Deleted, StoreError> {
        self.delete_telling(all, &|_| {}).await
    }

    /// The same, and tells how far it is: what it does takes up to half an hour.
    pub(in crate::traffic) async fn delete_telling(
        &self,
        all: &[Whose],
        tell: &(dyn Fn(Deleting) + Sync),
    ) -> Result<Deleted, StoreError> {
        let mut deleted = Deleted::default();
        let mut days = BTreeSet::new();
        // Every row before the first wait for the file.
        for whose in all {
            loop {
                let (batch, selected, of_days) = self.bounded(self.delete_batch(whose)).await?;
                deleted.records += batch.records;
                deleted.feedback += batch.feedback;
                days.extend(of_days);
                tell(Deleting::Rows(deleted));
                // Others may have deleted some of them meanwhile.
                if selected < ROWS_MAX {
                    break;
                }
                tokio::time::sleep(BATCH_PAUSE).await;
            }
            if let Whose::Tenant(tenant) = whose {
                self.bounded(self.drop_tenant_allowances(tenant)).await?;
            }
        }
        match self.dialect() {
            Dialect::Sqlite => {
                tell(Deleting::Rewriting(deleted));
                self.scrub().await?;
            }
            Dialect::Postgres => {
                // What came between the selection and the deletion of its record.
                for day in &days {
                    deleted.feedback += self.bounded(self.delete_orphans_of(*day)).await?;
                }
                tell(Deleting::Vacuuming(deleted));
                self.vacuum(&days).await?;
            }
        }
        Ok(deleted)
    }

    /// Returns which of these decisions are theirs, as far as they are in the store.
    pub(in crate::traffic) async fn theirs(
        &self,
        all: &[Whose],
        decisions: &[Uuid],
    ) -> Result<HashSet<Uuid>, StoreError> {
        let failed = |error: sqlx::Error| self.failed(&error);
        let mut theirs = HashSet::new();
        for whose in all {
            for batch in decisions.chunks(ROWS_MAX) {
                let found = self.bounded(async {
                    let mut select = self.selected(whose);
                    select
                        .push(" AND day IN ")
                        .list(batch.iter().map(|&id| day(id)).collect::<BTreeSet<i64>>());
                    select.push(" AND decision_id IN ").list(batch.iter().map(Uuid::to_string));
                    let mut transaction = self.read().await?;
                    let rows = select.query().fetch_all(&mut *transaction).await.map_err(failed)?;
                    rows.iter()
                        .map(|row| row.try_get::<String, _>(1))
                        .collect::<Result<Vec<String>, _>>()
                        .map_err(failed)
                });
                theirs.extend(found.await?.iter().filter_map(|id| Uuid::try_parse(id).ok()));
            }
        }
        Ok(theirs)
    }

    async fn delete_batch(&self, whose: &Whose) -> Result<(Deleted, usize, BTreeSet<i64>), StoreError> {
        let failed = |error: sqlx::Error| self.failed(&error);
        let mut transaction = self.begin().await?;
        let mut select = self.selected(whose);
        select.push(" LIMIT ").value(i64::try_from(ROWS_MAX).expect("it is a small number"));
        let rows = select.query().fetch_all(&mut *transaction).await.map_err(failed)?;
        let days =
            rows.iter().map(|row| row.try_get(0)).collect::<Result<BTreeSet<i64>, _>>().map_err(failed)?;
        let decisions =
            rows.iter().map(|row| row.try_get(1)).collect::<Result<Vec<String>, _>>().map_err(failed)?;
        self.delete_shadow_of(&mut transaction, &days, &decisions).await?;
        let decisions = || decisions.iter().map(String::as_str);

        let mut feedback = self.statement("DELETE FROM feedback WHERE decision_id IN ");
        feedback.list(decisions());
        let mut records = self.statement("DELETE FROM traffic WHERE day IN ");
        records.list(days.iter().copied()).push(" AND decision_id IN ").list(decisions());
        let mut gone = [0; 2];
        for (gone, statement) in gone.iter_mut().zip([feedback, records]) {
            *gone = statement.query().execute(&mut *transaction).await.map_err(failed)?.rows_affected();
        }
        transaction.commit().await.map_err(failed)?;
        Ok((Deleted { records: gone[1], feedback: gone[0] }, rows.len(), days))
    }

    /// Deletes a day's feedback whose record was there and is not any more, and its shadow scores without a record.
    async fn delete_orphans_of(&self, day: i64) -> Result<u64, StoreError> {
        let failed = |error: sqlx::Error| self.failed(&error);
        let mut shadow = self.statement("DELETE FROM shadow_scores WHERE day = ");
        shadow.value(day).push(
            " AND NOT EXISTS (SELECT 1 FROM traffic WHERE traffic.day = shadow_scores.day \
             AND traffic.decision_id = shadow_scores.decision_id)",
        );
        let mut delete = self.statement("DELETE FROM feedback WHERE known = 1 AND day = ");
        delete.value(day).push(
            " AND NOT EXISTS (SELECT 1 FROM traffic WHERE traffic.day = feedback.day \
             AND traffic.decision_id = feedback.decision_id)",
        );
        let mut transaction = self.begin().await?;
        // Also those that are ahead of their record, a few: a sample of a sample.
        shadow.query().execute(&mut *transaction).await.map_err(failed)?;
        let gone = delete.query().execute(&mut *transaction).await.map_err(failed)?.rows_affected();
        transaction.commit().await.map_err(failed)?;
        Ok(gone)
    }

    fn selected(&self, whose: &Whose) -> Statement {
        let mut select = self.statement("SELECT day, decision_id FROM traffic WHERE tenant = ");
        match whose {
            Whose::Tenant(tenant) => {
                select.value(column_text(tenant).into_owned());
            }
            Whose::Session { tenant, session } => {
                select.value(column_text(tenant).into_owned());
                // No session is nobody's.
                select.push(" AND session <> '' AND session = ").value(column_text(session).into_owned());
            }
        }
        select
    }
}
