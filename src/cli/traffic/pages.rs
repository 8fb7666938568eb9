//! Records page by page, with a bar on a terminal.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    super::{
        CliError,
        show::{RESET, WARN},
    },
    progress::counted,
};
use crate::traffic::{
    now_ms,
    record::Logged,
    store::{Cursor, Selection, Store},
};

/// Records in memory at once; with long texts some 16 MB.
pub const PAGE_ROWS: usize = 500;

/// Reads a selection from its oldest record to its newest.
pub struct Pages<'a> {
    store: &'a Store,
    selection: Selection,
    after: Option<Cursor>,
    progress: Option<ProgressBar>,
    rows: u64,
}

impl<'a> Pages<'a> {
    pub fn new(store: &'a Store, selection: Selection) -> Self {
        Self { store, selection, after: None, progress: None, rows: 0 }
    }

    /// The same without a bar, between lines that are printed.
    pub fn unseen(store: &'a Store, selection: Selection) -> Self {
        Self { progress: Some(ProgressBar::hidden()), ..Self::new(store, selection) }
    }

    /// Begins after this place.
    pub fn after(self, place: Cursor) -> Self {
        Self { after: Some(place), ..self }
    }

    /// Returns the next records; empty at the end.
    pub async fn next(&mut self) -> Result<Vec<Logged>, CliError> {
        let page = self.store.page(&self.selection, self.after, PAGE_ROWS).await?;
        let Some(last) = page.last() else {
            if let Some(progress) = &self.progress {
                progress.finish_and_clear();
            }
            return Ok(page);
        };
        let at_ms = last.record.at_ms;
        self.after = Some(Cursor { at_ms, decision_id: last.record.decision_id });
        self.rows += page.len() as u64;
        // How many are still to come is not known without counting them, but how much time is.
        let first_ms = page[0].record.at_ms;
        let progress = self.progress.get_or_insert_with(|| bar(&self.selection, first_ms));
        progress.set_position(at_ms.saturating_sub(self.selection.from_ms.unwrap_or(first_ms)).max(0) as u64);
        progress.set_message(format!("{} records", self.rows));
        Ok(page)
    }
}

/// Returns the end of a span that was given none, one that stands still: after now, and after the newest record, whose
/// clock may have been ahead.
pub async fn end_ms(store: &Store, tenant: Option<&str>, now_ms: i64) -> Result<i64, CliError> {
    let of_tenant = Selection { tenant: tenant.map(str::to_owned), ..Selection::default() };
    let newest = store.newest_ms(&of_tenant, 0).await?.unwrap_or(now_ms);
    Ok(newest.max(now_ms).saturating_add(1))
}

/// Says how many rows could not be read, where there are any.
pub fn tell_unreadable(store: &Store) {
    match store.unreadable() {
        0 => {}
        rows => anstream::eprintln!(
            "{WARN}warning:{RESET} {} of {} cannot be read and {} passed over",
            counted(rows as u64, "row"),
            store.name(),
            if rows == 1 { "was" } else { "were" }
        ),
    }
}

/// A bar on stderr; nothing when that is no terminal.
fn bar(selection: &Selection, first_ms: i64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let until_ms = selection.until_ms.unwrap_or_else(now_ms);
    let length = until_ms.saturating_sub(selection.from_ms.unwrap_or(first_ms)).max(1);
    let style = ProgressStyle::with_template("{bar:40} {percent:>3} % of the time, {msg}")
        .expect("the template is a constant");
    let bar = ProgressBar::new(length as u64).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
