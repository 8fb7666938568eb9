//! Where the newest records begin. Never changes anything.

use sqlx::Row;

use super::{Selection, Store, StoreError, keys::column_text};

impl Store {
    /// Returns when the newest record but `skip` was decided, milliseconds since 1970; `None` where there are no
    /// more than `skip`. Only the tenant of the selection counts.
    pub async fn newest_ms(&self, selection: &Selection, skip: u32) -> Result<Option<i64>, StoreError> {
        let mut select = self.statement("SELECT at_ms FROM traffic");
        if let Some(tenant) = &selection.tenant {
            select.push(" WHERE tenant = ").value(column_text(tenant).into_owned());
        }
        select.push(" ORDER BY day DESC, decision_id DESC LIMIT 1 OFFSET ").value(i64::from(skip));
        self.bounded(async {
            let failed = |error: sqlx::Error| self.failed(&error);
            let mut transaction = self.read().await?;
            let row = select.query().fetch_optional(&mut *transaction).await.map_err(failed)?;
            row.map(|row| row.try_get(0)).transpose().map_err(failed)
        })
        .await
    }
}
