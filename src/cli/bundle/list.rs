//! `pointsman bundle list`: every version and what it is, as a running server tells it, or the versions in the store.

use std::fmt::Write;

use clap::Args;
use indicatif::HumanBytes;
use serde::Serialize;

use super::{
    super::{
        admin::{AdminArguments, Client},
        show::{LABEL, RESET, STRONG, WARN},
    },
    CliError, print, remote_show, runtime,
};
use crate::{
    config::Config,
    live::bundles::{BundleStore, Listed},
    server::proto::ListBundlesRequest,
};

#[derive(Debug, Args)]
pub struct ListArguments {
    /// Read the bundle store itself instead of asking a running server.
    #[arg(long)]
    store: bool,
    #[command(flatten)]
    admin: AdminArguments,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    store: String,
    bundles: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    version: &'a str,
    sha256: Option<&'a str>,
    name: &'a str,
    created: &'a str,
    bytes: u64,
    signed_by: Option<&'a str>,
    problem: Option<&'a str>,
}

pub fn run(arguments: &ListArguments, config: &Config) -> Result<(), CliError> {
    let as_json = arguments.admin.json;
    if !arguments.store {
        let ask = async |mut client: Client| client.list_bundles(ListBundlesRequest {}).await;
        let answer = arguments.admin.ask(&config.server, ask)?;
        return print(&remote_show::bundles(&answer.bundles, as_json));
    }
    let store = BundleStore::open(&config.bundles)?;
    let listed = runtime()?.block_on(store.list())?;
    if as_json {
        let bundles = listed.iter().map(Line::of).collect();
        let document = Document { store: store.name(), bundles };
        return print(&serde_json::to_string_pretty(&document).expect("a list is plain data"));
    }
    print(text(&store.name(), &listed).trim_end())
}

impl<'a> Line<'a> {
    fn of(listed: &'a Listed) -> Self {
        Self {
            version: &listed.bundle.name,
            sha256: listed.bundle.sha256.as_deref(),
            name: &listed.name,
            created: &listed.created,
            bytes: listed.bytes,
            signed_by: listed.signed_by.as_deref(),
            problem: listed.problem.as_deref(),
        }
    }
}

fn text(store: &str, listed: &[Listed]) -> String {
    if listed.is_empty() {
        return format!("no versions in {store}: `pointsman bundle stage PATH` copies one there");
    }
    let mut text = format!("{LABEL}{store}{RESET}\n");
    let width = |of: fn(&Listed) -> &str, title: &str| {
        let widest = listed.iter().map(|one| of(one).chars().count()).max().unwrap_or(0);
        widest.max(title.len())
    };
    let (version, name) = (width(|one| &one.bundle.name, "version"), width(|one| &one.name, "name"));
    let created = width(|one| &one.created, "created");
    let _ = writeln!(
        text,
        "{STRONG}{:<version$}  {:<name$}  {:<created$}  {:>10}  signed by{RESET}",
        "version", "name", "created", "size"
    );
    for one in listed {
        let called = &one.bundle.name;
        if let Some(problem) = &one.problem {
            let _ = writeln!(text, "{called:<version$}  {WARN}{problem}{RESET}");
            continue;
        }
        let size = HumanBytes(one.bytes).to_string();
        let signed = one.signed_by.as_deref().unwrap_or("–");
        let _ = writeln!(
            text,
            "{called:<version$}  {:<name$}  {:<created$}  {size:>10}  {signed}",
            one.name, one.created
        );
    }
    text
}
