//! `pointsman traffic`: what was logged, read from its store: figures, lines, files; and its deletion.
//!
//! Nothing here needs a running server, and nothing disturbs one.

mod delete;
mod export;
mod follow;
mod line;
mod pages;
mod progress;
mod stats;
mod stats_table;
mod status;
mod tail;

use clap::{Args, Subcommand};

use super::{CliError, print, runtime, spinner::spinner};
use crate::{
    config::Config,
    traffic::store::{Store, StoreError},
};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
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
    /// Show what the store holds, and what waits for it on local disk.
    Status(status::StatusArguments),
}

const EXAMPLES: &str = "\
Examples:
  pointsman traffic status
  pointsman traffic stats --since 7d
  pointsman traffic tail --follow
  pointsman traffic export --since 1d --out exports
  pointsman traffic delete --tenant acme --session s-17

Which store it is stands in the configuration ([traffic]) that the server has: give the same --config.
Without one it is traffic.sqlite in the state folder of the user. docs/traffic.md says more.";

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

async fn open(config: &Config) -> Result<Store, StoreError> {
    Store::open_existing(&config.traffic.store).await
}

async fn migrate(config: &Config) -> Result<(), CliError> {
    let spinner = spinner("bringing the schema up to date");
    let added = Store::migrate(&config.traffic.store).await;
    spinner.finish_and_clear();
    let added = added?;
    let versions: Vec<String> = added.iter().map(ToString::to_string).collect();
    print(&match added.len() {
        0 => "the schema is up to date".to_owned(),
        1 => format!("the schema is up to date: version {} was added", versions[0]),
        _ => format!("the schema is up to date: versions {} were added", versions.join(", ")),
    })
}
