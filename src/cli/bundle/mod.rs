//! `pointsman bundle`: versions of the classifier, in the bundle store and in a running server.
//!
//! Commands that only read, and copying into the store, need no running server.

mod diff;
mod list;
mod named;
mod remote;
mod remote_show;
mod stage;
mod verify;

use clap::{Args, Subcommand};

use super::{CliError, print, runtime};
use crate::config::Config;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BundleArguments {
    #[command(subcommand)]
    command: BundleCommand,
}

const EXAMPLES: &str = "\
Examples:
  pointsman bundle verify onnx/0.4.0
  pointsman bundle stage onnx/0.4.0           # copied into the bundle store, verified by the server
  pointsman bundle diff default 0.4.0         # what logged requests would have become
  pointsman bundle shadow 0.4.0
  pointsman bundle canary 0.4.0 5%
  pointsman bundle canary 0.4.0 --replicas 30%
  pointsman bundle activate 0.4.0
  pointsman bundle activate default           # what the configuration names, loaded anew
  pointsman bundle rollback
  pointsman bundle list
  pointsman bundle events";

#[derive(Debug, Subcommand)]
enum BundleCommand {
    /// Show every version and what it is: active, canary, shadow, staged, retired.
    List(list::ListArguments),
    /// Check a bundle as before serving it: manifest, files, signature, graph, golden samples, configuration.
    Verify(verify::VerifyArguments),
    /// Copy a bundle into the bundle store, and have a running server verify it and keep it ready.
    Stage(stage::StageArguments),
    /// Decide for logged requests with two bundles, and compare.
    Diff(Box<diff::DiffArguments>),
    #[command(flatten)]
    Remote(remote::RemoteCommand),
}

pub fn run(arguments: &BundleArguments, config: Config) -> Result<(), CliError> {
    match &arguments.command {
        BundleCommand::List(list) => list::run(list, &config),
        BundleCommand::Verify(verify) => verify::run(verify, config),
        BundleCommand::Stage(stage) => stage::run(stage, &config),
        BundleCommand::Diff(diff) => diff::run(diff, config),
        BundleCommand::Remote(remote) => remote::run(remote, &config),
    }
}
