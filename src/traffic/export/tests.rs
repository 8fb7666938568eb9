#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{DataType, Float64Type, Int32Type, TimestampMillisecondType},
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::traffic::{
    feedback::Signal,
    record::{
        AttemptRecord, DecisionRecord, Kind, MessageRecord, OutcomeRecord, Record, RequestRecord,
        TargetRecord, TextRecord, TimingsRecord,
    },
    samples::{AT_MS, DAY_MS, logged, logged_at, shadow},
};

fn exporter(folder: &TempDir, format: Format) -> Exporter {
    Exporter::new(Destination::open(folder.path().to_str().unwrap()).unwrap(), format)
}

/// Every file below a folder, hidden ones too, with its folder; in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn days(folder: &TempDir) -> Vec<String> {
    let day = |file: PathBuf| file.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
    files(folder.path()).into_iter().map(day).collect()
}

fn read(file: &Path) -> Vec<RecordBatch> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(file).unwrap()).unwrap();
    builder.build().unwrap().map(Result::unwrap).collect()
}

fn names(schema: &arrow::datatypes::Schema) -> Vec<String> {
    schema.fields().iter().map(|field| field.name().clone()).collect()
}

fn row_groups(file: &Path) -> Vec<i64> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(file).unwrap()).unwrap();
    builder.metadata().row_groups().iter().map(|group| group.num_rows()).collect()
}

#[tokio::test]
async fn parquet_holds_every_value() {
    let folder = tempfile::tempdir().unwrap();
    let mut exporter = exporter(&folder, Format::Parquet);
    exporter.write(&[logged()]).await.unwrap();
    let summary = exporter.finish(AT_MS).await.unwrap();
    let file = &files(folder.path())[0];
    assert_eq!(
        summary,
        Summary { rows: 1, files: 1, bytes: fs::metadata(file).unwrap().len(), days_held_before: 0 }
    );
    let batches = read(file);
    let row = &batches[0];
    assert_eq!(names(&row.schema()), names(&schema()));
    let text = |name: &str| row.column_by_name(name).unwrap().as_string::<i32>().value(0).to_owned();
    assert_eq!(text("decision_id"), "019c0e58-6500-7000-8000-000000000001");
    assert_eq!(text("kind"), "complete");
    assert_eq!(text("prompt"), "Number 17, \"blue\"\nplease 📦");
    assert_eq!(text("served_model"), "mid-1");
    let at = row.column_by_name("at").unwrap();
    assert_eq!(at.as_primitive::<TimestampMillisecondType>().value(0), AT_MS);
    assert_eq!(
        at.data_type(),
        &DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, Some("UTC".into()))
    );
    assert_eq!(row.column_by_name("turns").unwrap().as_primitive::<Int32Type>().value(0), 2);
    assert_eq!(row.column_by_name("propensity").unwrap().as_primitive::<Float64Type>().value(0), 0.95);
    assert!(row.column_by_name("rule").unwrap().is_null(0));
    let sufficiency = row.column_by_name("sufficiency").unwrap().as_list::<i32>().value(0);
    assert_eq!(sufficiency.as_primitive::<Float64Type>().values(), &[0.72, 0.88, 1.0]);
    let attempts = row.column_by_name("attempts").unwrap().as_list::<i32>().value(0);
    let whys = attempts.as_struct().column_by_name("why").unwrap();
    assert_eq!((whys.as_string::<i32>().value(0), whys.is_null(1)), ("refusal", true));
    let feedback = row.column_by_name("feedback").unwrap().as_list::<i32>().value(0);
    let said = feedback.as_struct().column_by_name("at").unwrap();
    assert_eq!(said.as_primitive::<TimestampMillisecondType>().value(0), 1_769_767_260_123);
}

#[tokio::test]
async fn jsonl_has_the_columns_of_parquet_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut exporter = exporter(&folder, Format::Jsonl);
    exporter.write(&[logged(), logged_at(AT_MS + 1, 2)]).await.unwrap();
    exporter.finish(AT_MS).await.unwrap();
    let text = fs::read_to_string(&files(folder.path())[0]).unwrap();
    assert_eq!(text.lines().count(), 2);
    let first = text.lines().next().unwrap();
    let row: Value = serde_json::from_str(first).unwrap();
    assert_eq!(row["at"], "2026-01-30T10:00:00.000Z");
    assert_eq!(row["feedback"][0]["at"], "2026-01-30T10:01:00.123Z");
    assert_eq!(row["feedback"][1]["signal"], "retried");
    assert_eq!(row["rule"], Value::Null);
    let mut before = 0;
    for field in schema().fields() {
        let place = first[before..].find(&format!("\"{}\":", field.name()));
        before += place.unwrap_or_else(|| panic!("{} is missing or misplaced", field.name()));
    }
    let names: BTreeSet<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names.len(), schema().fields().len());
}

/// A record in which nothing is left out: a field that is added to it does not compile here until it has a value.
fn full_record() -> Record {
    let target = TargetRecord { id: "t".into(), provider: "p".into(), model: "m".into() };
    let Record { decision_id, at_ms, attempts, .. } = logged().record;
    let [AttemptRecord { cause, outcome: ended, .. }, ..] = &attempts[..] else { panic!("it has attempts") };
    Record {
        version: 1,
        decision_id,
        at_ms,
        kind: Kind::Complete,
        request: RequestRecord {
            tenant: "t".into(),
            session: "s".into(),
            task_type: "t".into(),
            tags: vec!["t".into()],
            language: "de".into(),
            text: TextRecord {
                policy: "full".into(),
                messages: vec![MessageRecord { role: "user".into(), content: "c".into() }],
                hash: Some("h".into()),
                bytes: 1,
                cut: true,
                redactions: 1,
            },
            turns: 1,
            prompt_tokens: 1,
            output_tokens_max: Some(1),
            needs_tools: true,
            needs_vision: true,
            needs_json: true,
            quality: Some(0.5),
        },
        decision: DecisionRecord {
            tiers: vec!["t".into()],
            tier: "t".into(),
            target: target.clone(),
            failover: vec!["f".into()],
            intent: Some("i".into()),
            intent_confidence: 0.5,
            sufficiency: vec![1.0],
            sufficiency_base: vec![0.5],
            confidence: 0.5,
            source: "rule".into(),
            rule: Some("r".into()),
            low_confidence: true,
            truncated: true,
            bundle_version: Some("b".into()),
            config_generation: 1,
            cost_usd_estimate: 0.5,
            baseline_cost_usd_estimate: 0.5,
            propensity: 0.5,
            explored: true,
            canary: false,
            timings: TimingsRecord {
                rules_us: 1,
                queue_us: 1,
                tokenize_us: 1,
                inference_us: 1,
                policy_us: 1,
                total_us: 1,
            },
        },
        attempts: vec![AttemptRecord {
            target: target.clone(),
            tier: "t".into(),
            cause: cause.clone(),
            outcome: ended.clone(),
            why: Some("w".into()),
            started_ms: 0.5,
            latency_ms: 0.5,
            first_token_ms: Some(0.5),
            input_tokens: 1,
            cached_input_tokens: 1,
            output_tokens: 1,
            cost_usd: 0.5,
            estimated: true,
        }],
        outcome: OutcomeRecord {
            status: "failed".into(),
            failure: Some("f".into()),
            tier: Some("t".into()),
            target: Some(target),
            escalated: true,
            cost_usd: 0.5,
            baseline_cost_usd: 0.5,
            latency_ms: 0.5,
            overhead_ms: 0.5,
        },
        signals: vec![Signal::Weak],
    }
}

/// The paths of all values, without the numbers of items.
fn leaves(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                leaves(&format!("{path}.{name}"), value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| leaves(path, item, found)),
        _ => {
            found.insert(path.trim_start_matches('.').to_owned());
        }
    }
}

#[test]
fn every_value_of_a_record_has_a_column() {
    // Where the column is not called as the value.
    let renamed = BTreeMap::from([
        ("version", "record_version"),
        ("at_ms", "at"),
        ("request.text.policy", "text_policy"),
        ("request.text.hash", "text_hash"),
        ("request.text.bytes", "text_bytes"),
        ("request.text.cut", "text_cut"),
        ("request.text.messages.role", "messages.role"),
        ("request.text.messages.content", "messages.content"),
        ("decision.target.id", "target"),
        ("outcome.tier", "served_tier"),
        ("outcome.target.id", "served_target"),
        ("outcome.target.provider", "served_provider"),
        ("outcome.target.model", "served_model"),
        ("attempts.target.id", "attempts.target"),
        ("attempts.target.provider", "attempts.provider"),
        ("attempts.target.model", "attempts.model"),
    ]);
    let one = Logged { record: full_record(), feedback: Vec::new(), shadow: None };
    let (mut values, mut columns) = (BTreeSet::new(), BTreeSet::new());
    leaves("", &serde_json::to_value(&one.record).unwrap(), &mut values);
    leaves("", &serde_json::to_value(Row::of(&one)).unwrap(), &mut columns);
    for value in &values {
        let own = match value.strip_prefix("attempts.") {
            Some(_) => value.as_str(),
            None => value.rsplit('.').next().unwrap(),
        };
        let column = renamed.get(value.as_str()).copied().unwrap_or(own);
        assert!(columns.contains(column), "{value} has no column {column}");
    }
    assert!(values.len() > 60, "{values:?}");
}

#[test]
fn what_a_shadow_said_has_columns_and_is_null_without_one() {
    // Told by the record itself, by others, or of no use beside these.
    let left_out = ["version", "active_tier", "intent_confidence", "unscored", "compute_us"];
    let said = shadow();
    let with = Logged { shadow: Some(said.clone()), ..logged() };
    let batch = columns::batch(&[with.clone(), logged()]).unwrap().unwrap();
    let row = serde_json::to_value(Row::of(&with)).unwrap();
    let Value::Object(score) = serde_json::to_value(&said.score).unwrap() else { panic!("it has fields") };
    for (name, value) in score.iter().filter(|(name, _)| !left_out.contains(&name.as_str())) {
        assert_eq!(&row[format!("shadow_{name}")], value, "{name}");
    }
    assert_eq!(row["shadow_bundle"], "next");
    for field in batch.schema().fields().iter().filter(|field| field.name().starts_with("shadow_")) {
        let column = batch.column_by_name(field.name()).unwrap();
        assert_eq!((column.is_null(0), column.is_null(1)), (false, true), "{}", field.name());
    }
    let sufficiency = batch.column_by_name("shadow_sufficiency").unwrap().as_list::<i32>().value(0);
    assert_eq!(sufficiency.as_primitive::<Float64Type>().values(), &said.score.sufficiency[..]);
}

#[tokio::test]
async fn texts_that_are_not_kept_are_null() {
    let mut logged = logged();
    let text = &mut logged.record.request.text;
    text.messages.clear();
    text.policy = "hash".to_owned();
    text.hash = Some("ab12".to_owned());
    let batch = columns::batch(&[logged]).unwrap().unwrap();
    assert!(batch.column_by_name("prompt").unwrap().is_null(0));
    assert_eq!(batch.column_by_name("messages").unwrap().as_list::<i32>().value_length(0), 0);
    assert_eq!(batch.column_by_name("text_hash").unwrap().as_string::<i32>().value(0), "ab12");
}

#[tokio::test]
async fn each_day_has_its_folder_and_each_run_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let midnight = AT_MS / DAY_MS * DAY_MS + DAY_MS;
    let records: Vec<Logged> =
        [midnight - 1, midnight, midnight + 1, midnight + 3 * DAY_MS].map(|at| logged_at(at, 1)).to_vec();
    let mut first = exporter(&folder, Format::Parquet);
    first.write(&records[..2]).await.unwrap();
    first.write(&records[2..]).await.unwrap();
    let summary = first.finish(AT_MS).await.unwrap();
    assert_eq!((summary.rows, summary.files, summary.days_held_before), (4, 3, 0));
    assert_eq!(days(&folder), ["day=2026-01-30", "day=2026-01-31", "day=2026-02-03"]);
    let mut second = exporter(&folder, Format::Parquet);
    second.write(&records[..1]).await.unwrap();
    assert_eq!(second.finish(AT_MS).await.unwrap().days_held_before, 1);
    assert_eq!(files(folder.path()).len(), 4, "nothing is overwritten");
}

#[tokio::test]
async fn an_unfinished_export_shows_nothing_and_a_discarded_one_leaves_nothing() {
    for format in [Format::Parquet, Format::Jsonl] {
        let folder = tempfile::tempdir().unwrap();
        let mut exporter = exporter(&folder, format);
        exporter.file_rows_max = 3;
        // The second file is open, and long enough to be on the disk already.
        let mut long = logged();
        long.record.request.text.messages[0].content = noise(20 << 20);
        exporter.write(&[logged(), logged(), logged()]).await.unwrap();
        exporter.write(&[long]).await.unwrap();
        let seen: Vec<PathBuf> = files(folder.path());
        let whole = |path: &&PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            !name.starts_with('.') && name.ends_with(format.ending())
        };
        assert_eq!(seen.iter().filter(whole).count(), 1, "{seen:?}");
        assert!(
            seen.iter()
                .all(|path| whole(&path) || path.file_name().unwrap().to_str().unwrap().starts_with('.'))
        );
        exporter.discard().await;
        assert_eq!(files(folder.path()), Vec::<PathBuf>::new());
    }
}

/// Text that does not compress.
fn noise(bytes: usize) -> String {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + ((state >> 33) % 90) as u8)
    };
    (0..bytes).map(|_| next()).collect()
}

#[tokio::test]
async fn rows_beyond_a_files_limit_go_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let mut exporter = exporter(&folder, Format::Jsonl);
    exporter.file_rows_max = 4;
    for number in 0..10 {
        exporter.write(&[logged_at(AT_MS, number)]).await.unwrap();
    }
    let summary = exporter.finish(AT_MS).await.unwrap();
    assert_eq!((summary.rows, summary.files), (10, 3));
}

#[tokio::test]
async fn an_empty_parquet_export_has_columns_and_an_empty_jsonl_export_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let summary = exporter(&folder, Format::Parquet).finish(AT_MS).await.unwrap();
    assert_eq!((summary.rows, summary.files), (0, 1));
    assert_eq!(days(&folder), ["day=2026-01-30"]);
    let file = fs::File::open(&files(folder.path())[0]).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    assert_eq!(names(builder.schema()), names(&schema()));
    assert_eq!(builder.metadata().file_metadata().num_rows(), 0);
    let folder = tempfile::tempdir().unwrap();
    let summary = exporter(&folder, Format::Jsonl).finish(AT_MS).await.unwrap();
    assert_eq!((summary, files(folder.path()).len()), (Summary::default(), 0));
}

/// Of 50,000 rows at most a row group waits in memory.
#[tokio::test]
async fn row_groups_bound_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    let mut exporter = exporter(&folder, Format::Parquet);
    let page: Vec<Logged> = (0..500).map(|number| logged_at(AT_MS, number)).collect();
    for _ in 0..100 {
        exporter.write(&page).await.unwrap();
    }
    assert_eq!(exporter.finish(AT_MS).await.unwrap().rows, 50_000);
    assert_eq!(row_groups(&files(folder.path())[0]), [file::ROW_GROUP_ROWS_MAX as i64; 5]);
}

#[tokio::test]
async fn long_texts_end_a_row_group_earlier() {
    let folder = tempfile::tempdir().unwrap();
    let mut exporter = exporter(&folder, Format::Parquet);
    let mut long = logged();
    long.record.request.text.messages[0].content = noise(1 << 20);
    for _ in 0..100 {
        exporter.write(std::slice::from_ref(&long)).await.unwrap();
    }
    exporter.finish(AT_MS).await.unwrap();
    let groups = row_groups(&files(folder.path())[0]);
    assert!(groups.len() > 2 && groups.iter().sum::<i64>() == 100, "{groups:?}");
}

#[test]
fn a_folder_that_cannot_be_made_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Destination::open(file.join("below").to_str().unwrap()).unwrap_err();
    assert!(matches!(error, ExportError::Write { .. }) && error.to_string().contains("below"), "{error}");
}
