//! `pointsman bundle stage`: a bundle's folder is copied into the store, and a running server verifies it.

use std::path::{Path, PathBuf};

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    super::{admin::ChangeArguments, config_file::ConfigFile},
    CliError, delete,
    named::{bytes_bar, telling},
    print,
    remote::{self, NotStaged, Reason},
    runtime,
};
use crate::{
    live::{
        bundles::{BundleStore, BundleStoreError, Copied, Stop, version_problem},
        rollout::BundleRef,
    },
    routing::classifier::Unfit,
};

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct StageArguments {
    /// The bundle's folder, or a version that is in the bundle store already.
    #[arg(value_name = "PATH|VERSION")]
    bundle: PathBuf,
    /// Only copy; no running server is asked, and no event says so.
    #[arg(long)]
    copy_only: bool,
    #[command(flatten)]
    change: ChangeArguments,
}

const HELP: &str = "\
Server and command must name the same bundle store ([bundles] of the configuration).

The manifest is copied last, so nobody sees half a version. A version that is in the store already may only
be the same bundle; a signature is added to it. What the server refuses for a fault of the bundle is taken out
again, where this command has put it there, so that its version is free for a better one. Ctrl-C takes back
what was copied; once the server was asked it ends the command, not the change.

Keys for object stores come from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION,
AWS_ENDPOINT; GOOGLE_SERVICE_ACCOUNT; AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY and so on.";

/// Exit code when Ctrl-C ends the process at once.
const CUT_SHORT: i32 = 1;

pub fn run(arguments: &StageArguments, file: &ConfigFile) -> Result<(), CliError> {
    let StageArguments { bundle, copy_only, change } = arguments;
    let version = bundle.to_str().filter(|typed| version_problem(typed).is_none() && !bundle.exists());
    match version {
        Some(_) if *copy_only => {
            Err(CliError::Usage(format!("{}: --copy-only needs a folder", bundle.display())))
        }
        Some(version) => {
            let server = file.to_ask(&change.admin)?;
            remote::stage(version.to_owned(), change, &server).map_err(|refused| refused.error)
        }
        None => {
            let config = file.whole()?;
            let store = BundleStore::open(&config.bundles)?;
            let copying = runtime()?;
            let (copied, signals) = copying.block_on(copy(&store, bundle))?;
            // Who has listened once is asked for ever: the system ends this process no more.
            copying.spawn(end_at_a_signal(signals, copied.bundle.to_string()));
            if *copy_only {
                return print(&format!("bundle {} is in {}", copied.bundle, store.name()));
            }
            let staged = remote::stage(copied.bundle.name.to_string(), change, &config.server);
            staged.map_err(|NotStaged { error, reason }| {
                let copy = what_of_the_copy(reason, &store, &copied, || {
                    matches!(delete::role(&copied.bundle.name, &change.admin, &config), Ok(None))
                });
                CliError::Admin(format!("{error}\n{copy}"))
            })
        }
    }
}

/// Says what becomes of the copy; where the bundle is at fault and nobody else wants it, it is taken back.
fn what_of_the_copy(
    reason: Reason,
    store: &BundleStore,
    copied: &Copied,
    is_free: impl FnOnce() -> bool,
) -> String {
    let (bundle, place) = (&copied.bundle, store.name());
    match reason {
        Reason::Unfit(_) if !copied.is_new => format!("it had been in {place} before, and stays there"),
        Reason::Unfit(unfit) if !unfit.is_some_and(Unfit::lies_in_bundle) => format!(
            "its copy stays in {place}, as this may not be the bundle's fault: `pointsman bundle stage {bundle}` tries \
             again, `pointsman bundle delete {bundle}` takes it out"
        ),
        Reason::Unfit(_) if is_free() => match removed(store, bundle) {
            Ok(()) => {
                format!("its copy was taken out of {place} again: version {bundle} is free for another")
            }
            Err(error) => format!(
                "its copy in {place} could not be taken back ({error}): `pointsman bundle delete {bundle}` does it"
            ),
        },
        Reason::Unfit(_) => format!(
            "its copy stays in {place}: it cannot be told whether somebody uses it; `pointsman bundle delete {bundle}` \
             takes it out"
        ),
        Reason::UnknownBundle => {
            let put = if copied.is_new { "this command has put it into" } else { "it had been in" };
            format!(
                "{put} {place}, where that server does not look: give both the same bundles.store (--config)"
            )
        }
        Reason::Role => {
            format!("bundle {bundle} is in {place}, and has its role already: `pointsman bundle list`")
        }
        Reason::Unanswered => format!(
            "bundle {bundle} is in {place}; whether it is staged `pointsman bundle list` tells, when the server is done \
             with it"
        ),
        Reason::Other => format!(
            "bundle {bundle} is in {place}, and not staged yet: `pointsman bundle stage {bundle}` has a server verify it"
        ),
    }
}

fn removed(store: &BundleStore, bundle: &BundleRef) -> Result<(), CliError> {
    Ok(runtime()?.block_on(store.remove(bundle))?)
}

/// What asks this process to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self, CliError> {
        let listen = |kind| signal(kind).map_err(|error| CliError::Io { what: "signals".to_owned(), error });
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Ends the process as soon as it is asked to: what the server was asked for goes on there.
async fn end_at_a_signal(mut signals: Signals, bundle: String) {
    signals.any().await;
    anstream::eprintln!("interrupted: `pointsman bundle list` tells what became of bundle {bundle}");
    std::process::exit(CUT_SHORT);
}

/// Copies a bundle's folder into the store, with a bar on a terminal. The first Ctrl-C takes back what was copied.
async fn copy(store: &BundleStore, folder: &Path) -> Result<(Copied, Signals), CliError> {
    let examined = store.examine(folder).await?;
    let bar = bytes_bar(Some(examined.files.iter().map(|(_, bytes)| bytes).sum()), "copying");
    let stop = Stop::default();
    let mut signals = Signals::listen()?;
    let mut copying = std::pin::pin!(store.put_telling(folder, telling(&bar), stop.clone()));
    let mut is_interrupted = false;
    let copied = tokio::select! {
        // A signal that came with the last of the copy counts.
        biased;
        () = signals.any() => {
            is_interrupted = true;
            stop.now();
            tokio::select! {
                copied = &mut copying => copied,
                // Whoever says it twice does not wait for a slow store.
                () = signals.any() => std::process::exit(CUT_SHORT),
            }
        }
        copied = &mut copying => copied,
    };
    bar.finish_and_clear();
    let interrupted = |became: String| CliError::Interrupted(format!("interrupted; {became}"));
    let taken_back = || interrupted(format!("what was copied into {} is taken back", store.name()));
    match copied {
        Err(BundleStoreError::Stopped { .. }) => Err(taken_back()),
        // It was whole before it could be stopped.
        Ok(Copied { bundle, is_new: true }) if is_interrupted => {
            tokio::select! {
                removed = store.remove(&bundle) => removed?,
                () = signals.any() => std::process::exit(CUT_SHORT),
            }
            Err(taken_back())
        }
        Ok(Copied { is_new: false, .. }) if is_interrupted => {
            Err(interrupted(format!("it had been in {} before, and stays there", store.name())))
        }
        copied => Ok((copied?, signals)),
    }
}
