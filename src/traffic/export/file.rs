//! One file of an export while it is written. It is seen by readers only when it is whole.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use object_store::{ObjectStoreExt, buffered::BufWriter, path::Path};
use parquet::{
    arrow::{AsyncArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};
use tokio::io::AsyncWriteExt;

use super::{
    ExportError, Format,
    columns::{self, Row},
    destination::{Destination, Publish, told},
};
use crate::traffic::record::Logged;

/// Engines skip and share work by row groups; 10,000 rows with texts are some 10 to 30 MB before compression.
pub(super) const ROW_GROUP_ROWS_MAX: usize = 10_000;
/// What a row group may hold in memory, encoded: long texts make it end earlier.
const ROW_GROUP_BYTES_MAX: usize = 32 << 20;
/// An upload's part; the stores' limit of 10,000 parts is then far away.
const PART_BYTES: usize = 8 << 20;
/// Parts on their way at once; each is held in memory.
const PARTS_IN_FLIGHT_MAX: usize = 2;

/// A file that is being written.
pub(super) struct OpenFile {
    pub day: String,
    pub rows: u64,
    sink: Sink,
    path: Path,
    /// Where it is written until it is whole.
    writing: Path,
    destination: Destination,
}

enum Sink {
    Parquet(Box<AsyncArrowWriter<BufWriter>>),
    Jsonl { upload: Box<BufWriter>, bytes: u64 },
}

impl OpenFile {
    pub fn begin(
        destination: &Destination,
        format: Format,
        day: String,
        name: &str,
    ) -> Result<Self, ExportError> {
        let folder = format!("day={day}");
        let path = destination.file(&folder, name);
        let writing = match destination.publish {
            // Readers pass over names that begin with a dot, and take no other ending.
            Publish::Rename => destination.file(&folder, &format!(".{name}.part")),
            Publish::Complete => path.clone(),
        };
        let upload = BufWriter::with_capacity(Arc::clone(&destination.store), writing.clone(), PART_BYTES)
            .with_max_concurrency(PARTS_IN_FLIGHT_MAX);
        let sink = match format {
            Format::Jsonl => Sink::Jsonl { upload: Box::new(upload), bytes: 0 },
            Format::Parquet => {
                let writer = AsyncArrowWriter::try_new_with_options(upload, columns::schema(), options())
                    .map_err(|error| failed(destination, &path, &error))?;
                Sink::Parquet(Box::new(writer))
            }
        };
        Ok(Self { day, rows: 0, sink, path, writing, destination: destination.clone() })
    }

    /// Adds records, and holds no more of them than a row group.
    pub async fn write(&mut self, logged: &[Logged]) -> Result<(), ExportError> {
        let failed = |error: &dyn std::error::Error| failed(&self.destination, &self.path, error);
        match &mut self.sink {
            Sink::Parquet(writer) => {
                if let Some(batch) = columns::batch(logged).map_err(|error| failed(&error))? {
                    writer.write(&batch).await.map_err(|error| failed(inner(&error)))?;
                    if writer.memory_size() > ROW_GROUP_BYTES_MAX {
                        writer.flush().await.map_err(|error| failed(inner(&error)))?;
                    }
                }
            }
            Sink::Jsonl { upload, bytes } => {
                let lines = lines(logged).map_err(|error| failed(&error))?;
                *bytes += lines.len() as u64;
                upload.put(lines).await.map_err(|error| failed(&error))?;
            }
        }
        self.rows += logged.len() as u64;
        Ok(())
    }

    /// Returns how long the file is by now; what waits in memory does not count.
    pub fn bytes(&self) -> u64 {
        match &self.sink {
            Sink::Parquet(writer) => writer.bytes_written() as u64,
            Sink::Jsonl { bytes, .. } => *bytes,
        }
    }

    /// Returns every place at which something of it may be: its own, and that at which it is being written.
    pub fn places(&self) -> BTreeSet<Path> {
        BTreeSet::from([self.writing.clone(), self.path.clone()])
    }

    /// Ends the file and shows it to readers. Returns its size.
    pub async fn close(mut self) -> Result<u64, ExportError> {
        let failed = |error: &dyn std::error::Error| failed(&self.destination, &self.path, error);
        match &mut self.sink {
            Sink::Parquet(writer) => {
                writer.finish().await.map_err(|error| failed(inner(&error)))?;
            }
            Sink::Jsonl { upload, .. } => upload.shutdown().await.map_err(|error| failed(&error))?,
        }
        if self.writing != self.path {
            let renamed = self.destination.store.rename(&self.writing, &self.path).await;
            renamed.map_err(|error| failed(&error))?;
        }
        Ok(self.bytes())
    }

    /// Leaves nothing of the file. Call it only on a file that was not closed.
    pub async fn abandon(self) {
        let mut upload = match self.sink {
            Sink::Parquet(writer) => writer.into_inner(),
            Sink::Jsonl { upload, .. } => *upload,
        };
        // What cannot be taken back is under a name that no reader takes, or an upload that was never completed.
        let _ = upload.abort().await;
    }
}

fn options() -> ArrowWriterOptions {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX))
        .set_created_by(concat!("pointsman ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    // Parquet's own types say all; a second schema inside would only tell Arrow how ours was held in memory.
    ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true)
}

fn lines(logged: &[Logged]) -> Result<Bytes, serde_json::Error> {
    let mut lines = Vec::new();
    for one in logged {
        serde_json::to_writer(&mut lines, &Row::of(one))?;
        lines.push(b'\n');
    }
    Ok(lines.into())
}

/// Returns what the store said, where Parquet only passed it on.
fn inner(error: &ParquetError) -> &dyn std::error::Error {
    match error {
        ParquetError::External(inner) => inner.as_ref(),
        other => other,
    }
}

fn failed(destination: &Destination, path: &Path, error: &dyn std::error::Error) -> ExportError {
    let problem = match destination.missing {
        Some(hint) => format!("{} ({hint})", told(error)),
        None => told(error),
    };
    ExportError::Write { place: destination.name_of(path), problem }
}
