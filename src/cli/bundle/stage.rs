//! `pointsman bundle stage`: a bundle's folder is copied into the store, and a running server verifies it.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{
    super::admin::AdminArguments,
    CliError,
    named::{bytes_bar, telling},
    print, remote, runtime,
};
use crate::{
    config::Config,
    live::{
        bundles::{BundleStore, version_problem},
        rollout::BundleRef,
    },
};

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct StageArguments {
    /// The bundle's folder, or a version that is in the bundle store already.
    #[arg(value_name = "PATH|VERSION")]
    bundle: PathBuf,
    /// Only copy; no running server is asked.
    #[arg(long)]
    copy_only: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

const HELP: &str = "\
Server and command must name the same bundle store ([bundles] of the configuration).

The manifest is copied last, so nobody sees half a version. A version that is in the store already may only
be the same bundle; a signature is added to it.

Keys for object stores come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION,
AWS_ENDPOINT; GOOGLE_SERVICE_ACCOUNT; AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY and so on.";

pub fn run(arguments: &StageArguments, config: &Config) -> Result<(), CliError> {
    let StageArguments { bundle, copy_only, admin } = arguments;
    let version = match bundle.to_str().filter(|typed| version_problem(typed).is_none() && !bundle.exists()) {
        Some(_) if *copy_only => {
            return Err(CliError::Usage(format!("{}: --copy-only needs a folder", bundle.display())));
        }
        Some(version) => version.to_owned(),
        None => {
            let store = BundleStore::open(&config.bundles)?;
            let copied = runtime()?.block_on(copy(&store, bundle))?;
            if *copy_only {
                return print(&format!("bundle {} is in {}", copied.name, store.name()));
            }
            copied.name.to_string()
        }
    };
    remote::stage(version, admin, config)
}

/// Copies a bundle's folder into the store, with a bar on a terminal.
pub async fn copy(store: &BundleStore, folder: &Path) -> Result<BundleRef, CliError> {
    let examined = store.examine(folder).await?;
    let bar = bytes_bar(Some(examined.files.iter().map(|(_, bytes)| bytes).sum()), "copying");
    let copied = store.put_telling(folder, telling(&bar)).await;
    bar.finish_and_clear();
    Ok(copied?)
}
