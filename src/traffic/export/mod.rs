//! Logged records -> Parquet or JSONL in a folder or an object store, one folder a day (`day=2026-01-31`).
//!
//! Records come page by page and are held no longer than a row group. A file is seen only when it is whole, and an
//! export that fails takes back what it wrote. Nothing here reads the store or prints.

mod columns;
mod destination;
mod file;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use uuid::Uuid;

use self::file::OpenFile;
pub use self::{
    columns::{Row, schema},
    destination::{Destination, Remote, credentials, told},
};
use crate::traffic::record::Logged;

/// A day's traffic goes to several files of at most this, so that engines share the work.
const FILE_ROWS_MAX: u64 = 1_000_000;
const FILE_BYTES_MAX: u64 = 512 << 20;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Columns, compressed with zstd.
    Parquet,
    /// One JSON object a line, with the same names.
    Jsonl,
}

impl Format {
    fn ending(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Jsonl => "jsonl",
        }
    }
}

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// What was asked for is no place to write to.
    #[error("{0}")]
    Destination(String),
    #[error("cannot write {place}: {problem}")]
    Write { place: String, problem: String },
}

/// What an export wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    pub rows: u64,
    pub files: u64,
    pub bytes: u64,
    /// Days that had files of earlier exports: their records may be there twice.
    pub days_held_before: u64,
}

/// One export. After an error, call [`Self::discard`].
pub struct Exporter {
    destination: Destination,
    format: Format,
    /// In the name of every file: no two exports write the same one.
    run: Uuid,
    file_rows_max: u64,
    open: Option<OpenFile>,
    written: Vec<Path>,
    summary: Summary,
    /// The last day of which it is known whether files were there.
    looked_at: Option<String>,
}

impl Exporter {
    pub fn new(destination: Destination, format: Format) -> Self {
        Self {
            destination,
            format,
            run: Uuid::now_v7(),
            file_rows_max: FILE_ROWS_MAX,
            open: None,
            written: Vec::new(),
            summary: Summary::default(),
            looked_at: None,
        }
    }

    /// Adds records; best in the order of their time, so that each day's file is opened once.
    pub async fn write(&mut self, logged: &[Logged]) -> Result<(), ExportError> {
        for of_one_day in logged.chunk_by(|one, other| day(one.record.at_ms) == day(other.record.at_ms)) {
            let day = day(of_one_day[0].record.at_ms);
            if self.open.as_ref().is_some_and(|file| file.day != day) {
                self.close().await?;
            }
            if self.open.is_none() {
                self.begin(day).await?;
            }
            let Some(file) = &mut self.open else { continue };
            file.write(of_one_day).await?;
            if file.rows >= self.file_rows_max || file.bytes() >= FILE_BYTES_MAX {
                self.close().await?;
            }
        }
        Ok(())
    }

    /// Ends the last file. Without any record, Parquet gets a file with the columns and no row, in the folder of the
    /// day of `from_ms`: a reader of an empty export then finds no rows, and not no table.
    pub async fn finish(&mut self, from_ms: i64) -> Result<Summary, ExportError> {
        if self.summary.files == 0 && self.open.is_none() && self.format == Format::Parquet {
            self.begin(day(from_ms)).await?;
        }
        self.close().await?;
        Ok(self.summary)
    }

    /// Takes back everything that this export wrote, as far as that is possible.
    pub async fn discard(mut self) {
        if let Some(file) = self.open.take() {
            file.abandon().await;
        }
        for path in &self.written {
            let _ = self.destination.store.delete(path).await;
        }
    }

    async fn begin(&mut self, day: String) -> Result<(), ExportError> {
        if self.looked_at.as_ref() != Some(&day) {
            self.summary.days_held_before += u64::from(self.holds(&day).await);
            self.looked_at = Some(day.clone());
        }
        let (run, part, ending) = (self.run.simple(), self.summary.files, self.format.ending());
        let name = format!("pointsman-{run}-{part:04}.{ending}");
        self.open = Some(OpenFile::begin(&self.destination, self.format, day, &name)?);
        Ok(())
    }

    async fn close(&mut self) -> Result<(), ExportError> {
        let Some(file) = self.open.take() else { return Ok(()) };
        let rows = file.rows;
        // Before it is there: whoever stops this in between takes both names back.
        self.written.extend(file.places());
        let bytes = file.close().await?;
        self.summary.rows += rows;
        self.summary.files += 1;
        self.summary.bytes += bytes;
        Ok(())
    }

    /// Whether an earlier export left files of this day. A store that may be written but not listed holds none: this
    /// is for a note only.
    async fn holds(&self, day: &str) -> bool {
        let folder = self.destination.prefix.parts().chain([format!("day={day}").into()]).collect();
        let listed = self.destination.store.list_with_delimiter(Some(&folder)).await;
        let (run, ending) = (self.run.simple().to_string(), self.format.ending());
        listed.is_ok_and(|listed| {
            let mut names = listed.objects.iter().filter_map(|object| object.location.filename());
            names.any(|name| !name.starts_with('.') && name.ends_with(ending) && !name.contains(&run))
        })
    }
}

/// Returns the day of a moment in UTC, as it stands in folders' names.
fn day(at_ms: i64) -> String {
    DateTime::<Utc>::from_timestamp_millis(at_ms).unwrap_or_default().format("%Y-%m-%d").to_string()
}
