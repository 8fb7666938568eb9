//! `pointsman traffic`: what was logged, read from its store: figures, lines, files; and its deletion.
//!
//! Nothing here needs a running server, and nothing disturbs one.

mod delete;
mod export;
mod line;
mod pages;
mod stats;
mod stats_table;
mod status;
mod tail;

use clap::{Args, Subcommand};

use super::{CliError, print, runtime};
use crate::{config::Config, traffic::store::Store};

#[derive(Debug, Args)]
pub struct TrafficArguments {
    #[command(subcommand)]
    command: TrafficCommand,
}

#[derive(Debug, Subcommand)]
enum TrafficCommand {
    /// Write records as Parquet or JSONL to a folder or an object store.
    Export(export::ExportArguments),
    /// Show requests, cost, savings, latency, feedback and drift of a span of time.
    Stats(stats::StatsArguments),
    /// Show the newest records, one a line.
    Tail(tail::TailArguments),
    /// Delete everything that was logged of a tenant or session, for good.
    Delete(delete::DeleteArguments),
    /// Bring the store's schema up to date; makes the store where there is none.
    Migrate,
    /// Show what the store holds.
    Status(status::StatusArguments),
}

pub fn run(arguments: &TrafficArguments, config: &Config) -> Result<(), CliError> {
    config.traffic.readable()?;
    let runtime = runtime()?;
    match &arguments.command {
        TrafficCommand::Export(export) => runtime.block_on(export::run(export, config)),
        TrafficCommand::Stats(stats) => runtime.block_on(stats::run(stats, config)),
        TrafficCommand::Tail(tail) => runtime.block_on(tail::run(tail, config)),
        TrafficCommand::Delete(delete) => runtime.block_on(delete::run(delete, config)),
        TrafficCommand::Migrate => runtime.block_on(migrate(config)),
        TrafficCommand::Status(status) => runtime.block_on(status::run(status, config)),
    }
}

async fn open(config: &Config) -> Result<Store, CliError> {
    Ok(Store::open_existing(&config.traffic.store).await?)
}

async fn migrate(config: &Config) -> Result<(), CliError> {
    let added = Store::migrate(&config.traffic.store).await?;
    let versions: Vec<String> = added.iter().map(ToString::to_string).collect();
    print(&match added.len() {
        0 => "the schema is up to date".to_owned(),
        1 => format!("the schema is up to date: version {} was added", versions[0]),
        _ => format!("the schema is up to date: versions {} were added", versions.join(", ")),
    })
}
