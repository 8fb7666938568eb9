//! `pointsman bundle`: versions of the classifier, in the bundle store and in a running server.
//!
//! Commands that only read, and copying into the store, need no running server.

mod delete;
mod diff;
mod diff_shadow;
mod list;
mod named;
mod remote;
mod remote_show;
mod remote_verify;
mod stage;
mod verify;
mod verify_steps;
mod wait;

use clap::{Args, Subcommand};

use super::{CliError, config_file::ConfigFile, print, runtime};

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct BundleArguments {
    #[command(subcommand)]
    command: BundleCommand,
}

const EXAMPLES: &str = "\
Examples:
  pointsman bundle verify onnx/0.4.0
  pointsman bundle verify 0.4.0 --admin 127.0.0.1:50052  # by that server, beside what serves
  pointsman bundle stage onnx/0.4.0           # copied into the bundle store, verified by the server
  pointsman bundle diff default 0.4.0         # what logged requests would have become
  pointsman bundle shadow 0.4.0
  pointsman bundle diff --shadow 0.4.0        # what it said of the requests since
  pointsman bundle canary 0.4.0 5%
  pointsman bundle canary 0.4.0 --replicas 30%
  pointsman bundle activate 0.4.0 --wait --why 'OPS-17: better with French'
  pointsman bundle activate default           # what the configuration names, loaded anew
  pointsman bundle rollback
  pointsman bundle list
  pointsman bundle events";

#[derive(Debug, Subcommand)]
enum BundleCommand {
    /// Show every version and what it is: active, canary, shadow, staged, retired.
    List(list::ListArguments),
    /// Check a bundle: manifest, files, signature, graph, golden samples, configuration; with --admin, have a server do it.
    Verify(verify::VerifyArguments),
    /// Copy a bundle into the bundle store, and have a running server verify it and keep it ready.
    Stage(stage::StageArguments),
    /// Decide for logged requests with two bundles, or take what a shadow said of them, and compare.
    Diff(Box<diff::DiffArguments>),
    /// Delete a version from the bundle store that is in no use.
    Delete(delete::DeleteArguments),
    #[command(flatten)]
    Remote(remote::RemoteCommand),
}

pub fn run(arguments: &BundleArguments, file: &ConfigFile) -> Result<(), CliError> {
    match &arguments.command {
        BundleCommand::List(list) => list::run(list, file),
        BundleCommand::Verify(verify) => verify::run(verify, file),
        BundleCommand::Stage(stage) => stage::run(stage, file),
        BundleCommand::Delete(delete) => delete::run(delete, &file.whole()?),
        BundleCommand::Diff(diff) => diff::run(diff, file.whole()?),
        BundleCommand::Remote(remote) => remote::run(remote, file),
    }
}
