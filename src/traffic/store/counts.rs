//! How often something was, counted by the database itself. Never reads a document.

use std::collections::BTreeMap;

use sqlx::Row;

use super::{
    Store, StoreError,
    keys::{column_text, day, first_at},
};

impl Store {
    /// Returns how many requests each intent had from `from_ms` on and before `until_ms`; those of which the intent is
    /// not known are left out. A day at a time, so that no statement takes long.
    pub async fn intents_between(
        &self,
        from_ms: i64,
        until_ms: i64,
        tenant: Option<&str>,
    ) -> Result<BTreeMap<String, u64>, StoreError> {
        let mut counts = BTreeMap::new();
        let (Some(from), Some(until)) = (first_at(from_ms), first_at(until_ms)) else { return Ok(counts) };
        for day in day(from)..=day(until) {
            let mut select = self.statement("SELECT intent, COUNT(*) FROM traffic WHERE day = ");
            select.value(day).push(" AND decision_id >= ").value(from.to_string());
            select.push(" AND decision_id < ").value(until.to_string()).push(" AND intent IS NOT NULL");
            if let Some(tenant) = tenant {
                select.push(" AND tenant = ").value(column_text(tenant).into_owned());
            }
            select.push(" GROUP BY intent");
            self.bounded(async {
                let failed = |error: sqlx::Error| self.failed(&error);
                let mut transaction = self.read().await?;
                for row in select.query().fetch_all(&mut *transaction).await.map_err(failed)? {
                    let (intent, count): (String, i64) =
                        (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
                    *counts.entry(intent).or_default() += u64::try_from(count).unwrap_or(0);
                }
                Ok(())
            })
            .await?;
        }
        Ok(counts)
    }
}
