//! The log read again, to ask what another configuration, bundle or quality would have decided.
//!
//! A store or an export becomes [`Row`]s ([`source`]), of which a bounded, reproducible sample is kept ([`gather`]);
//! rows with a text become prompts ([`request`]), which a router decides for ([`run`]); rows that a shadow scored need
//! neither ([`shadow`]). Nothing here writes, and no
//! error quotes what a record holds.

pub mod gather;
mod parquet_file;
pub mod request;
pub mod reward;
mod row;
pub mod run;
pub mod scores;
pub mod shadow;
pub mod source;

use std::path::PathBuf;

pub use self::row::{AttemptRow, FeedbackRow, MessageRow, Row};
use super::store::StoreError;

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: std::io::Error },
    #[error(
        "{}: neither a SQLite store nor an export in Parquet or JSON lines (`pointsman traffic export` writes these)",
        path.display()
    )]
    UnknownKind { path: PathBuf },
    #[error("{}: {problem}", path.display())]
    Folder { path: PathBuf, problem: String },
    #[error("{}: {problem}", path.display())]
    Parquet { path: PathBuf, problem: String },
    /// Lines that are no records, each with its place.
    #[error("{} bad line{} in an export: {}", .0.len(), if .0.len() == 1 { "" } else { "s" }, .0.join("; "))]
    BadLines(Vec<String>),
    #[error(transparent)]
    Store(#[from] StoreError),
}
