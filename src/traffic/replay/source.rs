//! A store or an export -> rows, one after the other: memory stays that of one page.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;

use super::{Row, SourceError, parquet_file};
use crate::{
    config::StoreConfig,
    routing::line::{Line, read_lines},
    traffic::store::{Cursor, Selection, Store},
};

/// Records fetched of a store at once.
const PAGE_ROWS: usize = 500;
/// Bad lines told one by one; a file with more of them is no export.
const BAD_LINES_MAX: usize = 20;
/// Files of one export: beyond that a folder is not what was meant.
const FILES_MAX: usize = 100_000;
/// Folders within folders: exports have one level of them.
const DEPTH_MAX: usize = 4;

const SQLITE: &[u8] = b"SQLite format 3\0";
const PARQUET: &[u8] = b"PAR1";
/// First bytes of a gzip file (RFC 1952).
const GZIP: &[u8] = &[0x1f, 0x8b];

/// Where a log is read from.
#[derive(Debug, Clone)]
pub enum Source {
    Store(StoreConfig),
    /// Files of an export, in the order of their names.
    Files(Vec<(PathBuf, Kind)>),
}

/// What a file of an export holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Parquet,
    /// JSON lines, plain or gzip.
    Lines,
}

impl Source {
    /// Finds out what lies at a path: a SQLite store, a file of an export, or a folder of such files.
    pub fn find(path: &Path) -> Result<Self, SourceError> {
        let failed = |error| SourceError::Io { path: path.to_owned(), error };
        if std::fs::metadata(path).map_err(failed)?.is_dir() {
            return Self::folder(path);
        }
        let mut start = Vec::new();
        File::open(path)
            .map_err(failed)?
            .take(SQLITE.len() as u64)
            .read_to_end(&mut start)
            .map_err(failed)?;
        let object = start.iter().find(|byte| !byte.is_ascii_whitespace()).is_none_or(|&byte| byte == b'{');
        if start == SQLITE {
            Ok(Self::Store(StoreConfig::Sqlite { path: path.to_owned() }))
        } else if start.starts_with(PARQUET) {
            Ok(Self::Files(vec![(path.to_owned(), Kind::Parquet)]))
        } else if start.starts_with(GZIP) || object {
            Ok(Self::Files(vec![(path.to_owned(), Kind::Lines)]))
        } else {
            Err(SourceError::UnknownKind { path: path.to_owned() })
        }
    }

    fn folder(path: &Path) -> Result<Self, SourceError> {
        let mut files = Vec::new();
        walk(path, DEPTH_MAX, &mut files)?;
        files.sort();
        let files: Vec<(PathBuf, Kind)> = files
            .into_iter()
            .filter_map(|path| Some((kind_by_name(&path)?, path)))
            .map(|(kind, path)| (path, kind))
            .collect();
        if files.is_empty() {
            let problem =
                "holds no .parquet or .jsonl file of an export; of a store give the file itself".to_owned();
            return Err(SourceError::Folder { path: path.to_owned(), problem });
        }
        Ok(Self::Files(files))
    }

    /// Returns what a person calls it; nothing of an address that holds a password.
    pub fn name(&self) -> String {
        match self {
            Self::Store(StoreConfig::Sqlite { path }) => path.display().to_string(),
            Self::Store(StoreConfig::Postgres { .. }) => "the configured PostgreSQL store".to_owned(),
            Self::Files(files) => match &files[..] {
                [(path, _)] => path.display().to_string(),
                files => format!("{} exported files", files.len()),
            },
        }
    }

    /// Hands every record to `take`; of a store only those of the selection.
    pub async fn read(&self, selection: &Selection, mut take: impl FnMut(Row)) -> Result<(), SourceError> {
        match self {
            Self::Store(config) => read_store(config, selection, take).await,
            Self::Files(files) => files.iter().try_for_each(|(path, kind)| match kind {
                Kind::Parquet => parquet_file::read(path, &mut take),
                Kind::Lines => read_file(path, &mut take),
            }),
        }
    }
}

/// Collects the files below a folder; names that begin with `_` or `.` belong to those who write exports.
fn walk(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), SourceError> {
    let failed = |error| SourceError::Io { path: folder.to_owned(), error };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(['_', '.']) {
            continue;
        }
        let path = entry.path();
        // Links are not followed into folders: they could lead round in a circle.
        if entry.file_type().map_err(failed)?.is_dir() {
            if depth > 1 {
                walk(&path, depth - 1, files)?;
            }
        } else if files.len() < FILES_MAX {
            files.push(path);
        } else {
            let problem = format!("holds more than {FILES_MAX} files; give a part of it");
            return Err(SourceError::Folder { path: folder.to_owned(), problem });
        }
    }
    Ok(())
}

fn kind_by_name(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_string_lossy();
    if name.ends_with(".parquet") {
        Some(Kind::Parquet)
    } else {
        [".jsonl", ".jsonl.gz"].iter().any(|end| name.ends_with(end)).then_some(Kind::Lines)
    }
}

async fn read_store(
    config: &StoreConfig,
    selection: &Selection,
    mut take: impl FnMut(Row),
) -> Result<(), SourceError> {
    let store = Store::open_existing(config).await?;
    let mut after: Option<Cursor> = None;
    loop {
        let page = store.page(selection, after, PAGE_ROWS).await?;
        let Some(last) = page.last() else { break };
        after = Some(Cursor { at_ms: last.record.at_ms, decision_id: last.record.decision_id });
        page.into_iter().map(Row::from).for_each(&mut take);
    }
    store.close(CLOSE_MAX).await;
    Ok(())
}

/// Longest wait for connections to end: nothing was written.
const CLOSE_MAX: std::time::Duration = std::time::Duration::from_secs(2);

fn read_file(path: &Path, take: &mut impl FnMut(Row)) -> Result<(), SourceError> {
    let failed = |error| SourceError::Io { path: path.to_owned(), error };
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    let source: Box<dyn Read> = if reader.fill_buf().map_err(failed)?.starts_with(GZIP) {
        Box::new(MultiGzDecoder::new(reader))
    } else {
        Box::new(reader)
    };
    let mut bad = Vec::new();
    read_lines(source, |line| {
        match row(&line) {
            Ok(row) => take(row),
            Err(problem) => bad.push(format!("{}:{}: {problem}", path.display(), line.number)),
        }
        bad.len() < BAD_LINES_MAX
    })
    .map_err(failed)?;
    if bad.is_empty() { Ok(()) } else { Err(SourceError::BadLines(bad)) }
}

/// Returns the record of a line, or why it is none; nothing of what the line holds.
fn row(line: &Line) -> Result<Row, String> {
    let value = line.json()?;
    let Some(object) = value.as_object() else { return Err("not an object".to_owned()) };
    if let Some(missing) = Row::REQUIRED.into_iter().find(|name| !object.contains_key(*name)) {
        return Err(format!("no record of `pointsman traffic export`: {missing} is missing"));
    }
    // A field that fails names itself: serde's own message would quote it.
    serde_json::from_value(value.clone()).map_err(|_| {
        let wrong = Row::COLUMNS.into_iter().filter(|name| !Row::REQUIRED.contains(name)).find(|name| {
            let mut without = value.clone();
            let removed = without.as_object_mut().and_then(|object| object.remove(*name));
            removed.is_some() && serde_json::from_value::<Row>(without).is_ok()
        });
        let wrong = wrong.unwrap_or("decision_id, tier or target, or several fields");
        format!("{wrong}: not as `pointsman traffic export` writes it")
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;

    fn record(number: u32) -> Value {
        json!({"decision_id": format!("01932c07-e4f0-7a2b-8c3d-{number:012}"), "tier": "simple", "target": "s1"})
    }

    async fn read(path: &Path) -> Result<usize, SourceError> {
        let mut rows = 0;
        Source::find(path)?.read(&Selection::default(), |_| rows += 1).await?;
        Ok(rows)
    }

    fn write(folder: &TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    #[tokio::test]
    async fn files_are_told_by_what_they_hold() {
        let folder = TempDir::new().unwrap();
        let lines = format!("{}\n\n{}\n", record(1), record(2));
        assert_eq!(read(&write(&folder, "plain.txt", &lines)).await.unwrap(), 2);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(lines.as_bytes()).unwrap();
        assert_eq!(read(&write(&folder, "packed", gzip.finish().unwrap())).await.unwrap(), 2);
        assert_eq!(read(&write(&folder, "empty.jsonl", "")).await.unwrap(), 0);
        let store = Source::find(&write(&folder, "a.db", b"SQLite format 3\0rest")).unwrap();
        assert!(matches!(store, Source::Store(StoreConfig::Sqlite { .. })));
        let odd = read(&write(&folder, "odd.csv", "a,b\n1,2\n")).await.unwrap_err().to_string();
        assert!(odd.contains("odd.csv: neither a SQLite store nor an export"), "{odd}");
        let broken = read(&write(&folder, "broken.parquet", "PAR1 and no more")).await.unwrap_err();
        assert!(matches!(broken, SourceError::Parquet { .. }), "{broken}");
        let missing = read(&folder.path().join("gone")).await.unwrap_err();
        assert!(matches!(missing, SourceError::Io { .. }), "{missing}");
    }

    #[tokio::test]
    async fn folders_are_read_with_their_days() {
        let folder = TempDir::new().unwrap();
        let empty = read(folder.path()).await.unwrap_err().to_string();
        assert!(empty.contains("holds no .parquet or .jsonl file"), "{empty}");
        for (name, number) in [("day=2026-01-31/b.jsonl", 1), ("day=2026-02-01/a.jsonl", 2)] {
            write(&folder, name, record(number).to_string());
        }
        write(&folder, "_schema.jsonl", "no record");
        write(&folder, "day=2026-02-01/.a.jsonl.part", "half a rec");
        write(&folder, "notes.txt", "for people");
        assert_eq!(read(folder.path()).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn bad_lines_are_named_and_not_quoted() {
        let folder = TempDir::new().unwrap();
        let mut secret = record(2);
        secret["tenant"] = json!(["a secret"]);
        let lines = format!(
            "{}\n{secret}\nnot json\n[1]\n{}\n{}\n",
            record(1),
            json!({"prompt": "a secret"}),
            json!({"decision_id": "a secret", "tier": "x", "target": "y"}),
        );
        let error = read(&write(&folder, "a.jsonl", lines)).await.unwrap_err().to_string();
        for part in [
            "5 bad lines",
            "a.jsonl:2: tenant: not as",
            "a.jsonl:3: not JSON",
            "a.jsonl:4: not an object",
            "a.jsonl:5: no record of `pointsman traffic export`: decision_id is missing",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(!error.contains("secret"), "{error}");
        let flood = "{\n".repeat(1000);
        let error = read(&write(&folder, "b.jsonl", flood)).await.unwrap_err();
        assert!(matches!(error, SourceError::BadLines(lines) if lines.len() == BAD_LINES_MAX));
    }
}
