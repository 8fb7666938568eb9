//! A Parquet file of an export -> rows, by way of the JSON that an export in lines would have.

use std::{fs::File, path::Path};

use arrow::json::LineDelimitedWriter;
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};

use super::{AttemptRow, FeedbackRow, Row, SourceError};

/// Rows decoded at once: a conversation may be large.
const BATCH_ROWS: usize = 256;
const FEEDBACK: &str = "feedback";
const ATTEMPTS: &str = "attempts";

/// Hands every record of a file to `take`.
pub fn read(path: &Path, take: &mut impl FnMut(Row)) -> Result<(), SourceError> {
    let failed = |error| SourceError::Io { path: path.to_owned(), error };
    let broken = |problem: String| SourceError::Parquet { path: path.to_owned(), problem };
    let file = File::open(path).map_err(failed)?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)
        .map_err(|error| broken(format!("no complete Parquet file: {error}")))?;
    let names = builder.schema().fields();
    if let Some(missing) = Row::REQUIRED.into_iter().find(|name| names.find(name).is_none()) {
        return Err(broken(format!("no export of `pointsman traffic export`: it has no column {missing}")));
    }
    let columns = builder.parquet_schema().columns().iter().enumerate();
    let leaves: Vec<usize> =
        columns.filter(|(_, column)| is_read(column.path().parts())).map(|(at, _)| at).collect();
    let mask = ProjectionMask::leaves(builder.parquet_schema(), leaves);
    let batches = builder
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(|error| broken(error.to_string()))?;
    for batch in batches {
        let batch = batch.map_err(|error| broken(error.to_string()))?;
        let mut lines = LineDelimitedWriter::new(Vec::new());
        lines.write(&batch).map_err(|error| broken(error.to_string()))?;
        lines.finish().map_err(|error| broken(error.to_string()))?;
        for row in serde_json::Deserializer::from_slice(&lines.into_inner()).into_iter::<Row>() {
            // The error itself would quote what the record holds.
            let row = row
                .map_err(|_| broken("a column is not as `pointsman traffic export` writes it".to_owned()))?;
            take(row);
        }
    }
    Ok(())
}

/// Returns whether a leaf is of a column that is read; of feedback not what was said in words, which may be long.
fn is_read(path: &[String]) -> bool {
    let (Some(root), Some(leaf)) = (path.first(), path.last()) else { return false };
    Row::COLUMNS.contains(&root.as_str())
        && (root != FEEDBACK || FeedbackRow::COLUMNS.contains(&leaf.as_str()))
        && (root != ATTEMPTS || AttemptRow::COLUMNS.contains(&leaf.as_str()))
}

#[cfg(test)]
mod tests {
    use std::{io::Cursor, sync::Arc};

    use arrow::{
        datatypes::{DataType, Field, Schema, TimeUnit},
        json::ReaderBuilder,
        record_batch::RecordBatch,
    };
    use parquet::arrow::ArrowWriter;
    use serde_json::{Value, json};
    use tempfile::NamedTempFile;

    use super::*;
    use crate::traffic::{
        feedback::{FeedbackSource, Verdict},
        replay::MessageRow,
    };

    fn list(of: DataType) -> DataType {
        DataType::List(Arc::new(Field::new("item", of, true)))
    }

    /// Some of an export's columns, of every type among them.
    fn schema() -> Schema {
        let texts = |names: &[&str]| {
            DataType::Struct(names.iter().map(|name| Field::new(*name, DataType::Utf8, true)).collect())
        };
        let feedback = DataType::Struct(
            vec![
                Field::new("feedback_id", DataType::Utf8, true),
                Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into())), true),
                Field::new("source", DataType::Utf8, true),
                Field::new("verdict", DataType::Utf8, true),
                Field::new("score", DataType::Float64, true),
            ]
            .into(),
        );
        let columns = [
            ("record_version", DataType::Int32),
            ("decision_id", DataType::Utf8),
            ("at", DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()))),
            ("tier", DataType::Utf8),
            ("target", DataType::Utf8),
            ("tiers", list(DataType::Utf8)),
            ("sufficiency", list(DataType::Float64)),
            ("messages", list(texts(&["role", "content"]))),
            ("prompt_tokens", DataType::Int64),
            ("needs_json", DataType::Boolean),
            ("quality", DataType::Float64),
            ("feedback", list(feedback)),
        ];
        Schema::new(columns.map(|(name, of)| Field::new(name, of, true)).to_vec())
    }

    fn file(schema: Schema, rows: &[Value]) -> NamedTempFile {
        let schema = Arc::new(schema);
        let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
        let batches: Vec<RecordBatch> = ReaderBuilder::new(Arc::clone(&schema))
            .build(Cursor::new(lines))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let file = NamedTempFile::new().unwrap();
        let mut writer = ArrowWriter::try_new(file.reopen().unwrap(), schema, None).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.close().unwrap();
        file
    }

    fn rows_of(file: &NamedTempFile) -> Result<Vec<Row>, SourceError> {
        let mut rows = Vec::new();
        read(file.path(), &mut |row| rows.push(row))?;
        Ok(rows)
    }

    #[test]
    fn columns_become_rows() {
        let full = json!({
            "record_version": 1, "decision_id": "01932c07-e4f0-7a2b-8c3d-000000000001", "at": 1_731_000_000_000_i64,
            "tier": "simple", "target": "s1", "tiers": ["simple", "complex"], "sufficiency": [0.5, 1.0],
            "messages": [{"role": "user", "content": "hello"}], "prompt_tokens": 7, "needs_json": true, "quality": 0.25,
            "feedback": [{"feedback_id": "f", "at": 1_731_000_000_000_i64, "source": "user", "verdict": "good", "score": null}],
        });
        let sparse =
            json!({"decision_id": "01932c07-e4f0-7a2b-8c3d-000000000002", "tier": "complex", "target": "c1"});
        let rows = rows_of(&file(schema(), &[full, sparse])).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].messages, [MessageRow { role: "user".into(), content: "hello".into() }]);
        assert_eq!((rows[0].quality, rows[0].needs_json, rows[0].prompt_tokens), (Some(0.25), true, 7));
        assert_eq!(rows[0].sufficiency, [0.5, 1.0]);
        assert_eq!(rows[0].feedback[0].verdict, Some(Verdict::Good));
        assert_eq!(rows[0].feedback[0].source, FeedbackSource::User);
        assert_eq!((rows[1].propensity, rows[1].quality, rows[1].messages.len()), (None, None, 0));
    }

    #[test]
    fn other_files_say_what_is_missing() {
        let names = Schema::new(vec![Field::new("name", DataType::Utf8, true)]);
        let error = rows_of(&file(names, &[json!({"name": "x"})])).unwrap_err().to_string();
        assert!(error.ends_with("it has no column decision_id"), "{error}");
        let mut fields = schema().fields().to_vec();
        fields.retain(|field| field.name() != "quality");
        fields.push(Arc::new(Field::new("quality", DataType::Utf8, true)));
        let wrong = json!({
            "decision_id": "01932c07-e4f0-7a2b-8c3d-000000000001", "tier": "simple", "target": "s1",
            "quality": "a secret",
        });
        let error = rows_of(&file(Schema::new(fields), &[wrong])).unwrap_err().to_string();
        assert!(
            error.contains("not as `pointsman traffic export` writes it") && !error.contains("secret"),
            "{error}"
        );
    }
}
