//! `pointsman traffic export`: records -> Parquet or JSONL for engines that analyse, and for retraining.

use clap::{Args, ValueEnum};
use indicatif::HumanBytes;

use super::{
    super::{
        CliError, print,
        show::{RESET, WARN},
        when::{SpanArguments, shown},
    },
    open,
    pages::{Pages, end_ms, tell_unreadable},
    progress::counted,
};
use crate::{
    config::Config,
    traffic::{
        export::{Destination, ExportError, Exporter, Format, Summary},
        now_ms,
        store::{Selection, Store},
    },
};

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct ExportArguments {
    #[command(flatten)]
    span: SpanArguments,
    /// Only this tenant's records.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// How rows are written.
    #[arg(long, value_enum, default_value_t = FormatName::Parquet)]
    format: FormatName,
    /// A folder, or file://, s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH.
    #[arg(long, value_name = "DIR|URL")]
    out: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormatName {
    /// Columns, compressed with zstd.
    Parquet,
    /// One JSON object a line, with the same names.
    Jsonl,
}

const HELP: &str = "\
Files go to one folder a day (day=2026-01-31) under names that no other export has; nothing is overwritten, and a \
file is seen only when it is whole. An export that fails takes its files back. Where spans overlap, a decision_id \
stands in several files.

Keys for object stores come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT; \
GOOGLE_SERVICE_ACCOUNT; AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY and so on.

Examples:
  pointsman traffic export --since 1d --out exports
  pointsman traffic export --since 2026-01-01 --until 2026-02-01 --out s3://bucket/pointsman
  pointsman traffic export --format jsonl --tenant acme --out acme

docs/traffic.md says what the columns are and how to query them.";

pub async fn run(arguments: &ExportArguments, config: &Config) -> Result<(), CliError> {
    let now_ms = now_ms();
    let span = arguments.span.span(None, now_ms)?;
    let store = open(config).await?;
    let destination = Destination::open(&arguments.out).map_err(|error| match error {
        ExportError::Destination(why) => CliError::Usage(format!("--out {why}")),
        ExportError::Write { .. } => CliError::Export(error),
    })?;
    let tenant = arguments.tenant.clone();
    let mut selection = Selection { from_ms: span.from_ms, until_ms: span.until_ms, tenant };
    if selection.until_ms.is_none() {
        selection.until_ms = Some(end_ms(&store, arguments.tenant.as_deref(), now_ms).await?);
    }
    let format = match arguments.format {
        FormatName::Parquet => Format::Parquet,
        FormatName::Jsonl => Format::Jsonl,
    };
    let mut exporter = Exporter::new(destination.clone(), format);
    let copied = tokio::select! {
        copied = copy(&store, &selection, &mut exporter) => copied,
        _ = tokio::signal::ctrl_c() => {
            Err(CliError::Interrupted(format!("interrupted; what was written to {destination} is taken back")))
        }
    };
    match copied {
        Ok(summary) => {
            tell_unreadable(&store);
            tell(&summary, &destination, &selection)
        }
        Err(error) => {
            exporter.discard().await;
            Err(error)
        }
    }
}

async fn copy(store: &Store, selection: &Selection, exporter: &mut Exporter) -> Result<Summary, CliError> {
    let mut pages = Pages::new(store, selection.clone());
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            break;
        }
        exporter.write(&page).await?;
    }
    Ok(exporter.finish(selection.from_ms.unwrap_or_else(now_ms)).await?)
}

fn tell(summary: &Summary, destination: &Destination, selection: &Selection) -> Result<(), CliError> {
    let Summary { rows, files, bytes, days_held_before } = *summary;
    if rows == 0 {
        let span = [("from", selection.from_ms), ("before", selection.until_ms)]
            .map(|(word, at)| at.map(|at| format!(" {word} {}", shown(at))).unwrap_or_default())
            .concat();
        let tenant =
            selection.tenant.as_ref().map(|tenant| format!(" of tenant {tenant:?}")).unwrap_or_default();
        let written =
            if files == 0 { "nothing was written" } else { "wrote a file with columns and no rows" };
        return print(&format!("no records{span}{tenant}: {written} to {destination}"));
    }
    if days_held_before > 0 {
        anstream::eprintln!(
            "{WARN}warning:{RESET} {} had files of earlier exports: where spans overlap, a decision_id stands twice",
            counted(days_held_before, "day")
        );
    }
    let (rows, files) = (counted(rows, "record"), counted(files, "file"));
    print(&format!("{rows} in {files}, {}, to {destination}", HumanBytes(bytes)))
}
