//! `pointsman traffic delete`: everything of one tenant or session, for good.

use std::path::Path;

use clap::Args;

use super::{
    super::{
        CliError,
        agree::agreed,
        print,
        show::{RESET, WARN},
    },
    open,
    progress::{DeletionProgress, rows},
};
use crate::{
    config::Config,
    traffic::{
        erase::{Erased, SpoolErased, erase},
        store::{Deleted, Whose},
        text::TextKeeper,
    },
};

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct DeleteArguments {
    /// Whose records and feedback; "" for those without a tenant.
    #[arg(long, value_name = "TENANT")]
    tenant: String,
    /// Only this session of the tenant.
    #[arg(long, value_name = "SESSION")]
    session: Option<String>,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

const HELP: &str = "\
Records and feedback are gone from the store, with what the file keeps in free pages, and from the spool. SQLite \
writes its whole file anew for that, and servers write to their spool meanwhile; PostgreSQL vacuums its tables. On a \
large store that takes minutes.

Exports, backups, broken files that were moved aside and refused-feedback.jsonl in the spool are not touched: delete \
there what you made. What a running server still holds back, for a moment or while the store is down, lands \
afterwards: delete again when it has.

Examples:
  pointsman traffic delete --tenant acme
  pointsman traffic delete --tenant acme --session s-17 --yes";

pub async fn run(arguments: &DeleteArguments, config: &Config) -> Result<(), CliError> {
    let what = match &arguments.session {
        None => format!("tenant {:?}", arguments.tenant),
        Some(session) => format!("session {session:?} of tenant {:?}", arguments.tenant),
    };
    if arguments.session.as_ref().is_some_and(String::is_empty) {
        return Err(CliError::Usage("--session: is empty; leave it out for all of the tenant".to_owned()));
    }
    let store = open(config).await?;
    if !arguments.yes && !agreed(&format!("Delete everything of {what} from {}?", store.name()), "to delete")?
    {
        return print("nothing was deleted");
    }
    let progress = DeletionProgress::begin();
    let erased = erase(&config.traffic, &store, &whose(arguments, config), &|at| progress.tell(at)).await;
    progress.clear();
    let Erased { store: deleted, spool, set_aside } = erased?;
    let spooled = match spool.entries {
        0 => String::new(),
        1 => ", 1 entry of the spool".to_owned(),
        entries => format!(", {entries} entries of the spool"),
    };
    if deleted == Deleted::default() && spool == SpoolErased::default() {
        anstream::eprintln!(
            "{WARN}warning:{RESET} nothing was found: names of tenants and sessions are compared exactly"
        );
    }
    let warn = |path: &Path, why: &str| anstream::eprintln!("{WARN}warning:{RESET} {} {why}", path.display());
    for path in &spool.locked {
        warn(
            path,
            "belongs to a running server and was not looked at: delete again when the server has written it",
        );
    }
    for path in &spool.broken {
        warn(path, "cannot be read and was not looked at");
    }
    for path in &set_aside {
        warn(path, "is a broken file that was moved aside: it may hold the same, and was not touched");
    }
    print(&format!("deleted {}{spooled} of {what}; exports and backups are not touched", rows(deleted)))
}

/// Returns every name under which the data may stand: where a policy keeps no names, sessions are hashed.
fn whose(arguments: &DeleteArguments, config: &Config) -> Vec<Whose> {
    let tenant = &arguments.tenant;
    match &arguments.session {
        None => vec![Whose::Tenant(tenant.clone())],
        Some(session) => TextKeeper::new(&config.traffic)
            .session_names(tenant, session)
            .into_iter()
            .map(|session| Whose::Session { tenant: tenant.clone(), session })
            .collect(),
    }
}
