//! `pointsman bundle list`: every version and what it is, as a running server tells it, or the versions in the store.

use clap::Args;
use indicatif::HumanBytes;
use serde::Serialize;

use super::{
    super::{
        admin::{AdminArguments, Client, Patience},
        columns::{Cell, Columns},
        config_file::ConfigFile,
        show::{ERROR, LABEL, RESET},
    },
    CliError, print, remote_show, runtime,
};
use crate::{
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

pub fn run(arguments: &ListArguments, file: &ConfigFile) -> Result<(), CliError> {
    let as_json = arguments.admin.json;
    if !arguments.store {
        let ask = async |mut client: Client| client.list_bundles(ListBundlesRequest {}).await;
        let server = file.to_ask(&arguments.admin)?;
        let answer =
            arguments.admin.wait_for(&server, Patience::Store, "looking at the bundle store", ask)?;
        return print(&remote_show::bundles(&answer.bundles, as_json));
    }
    let store = BundleStore::open(&file.whole()?.bundles)?;
    let listed = runtime()?.block_on(store.list())?;
    if as_json {
        let bundles = listed.iter().map(Line::of).collect();
        let document = Document { store: store.name(), bundles };
        return print(&serde_json::to_string_pretty(&document).expect("a list is plain data"));
    }
    if listed.is_empty() && runtime()?.block_on(store.is_missing()) {
        let store = store.name();
        return print(&format!(
            "{store} is not there: is bundles.store (or --config) as you mean it? `pointsman bundle stage PATH` makes it"
        ));
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
    let mut columns = Columns::new(&["version", "name", "created", "size", "signed by", "problem"]);
    for one in listed {
        columns.row(vec![
            Cell::plain(&*one.bundle.name),
            or_dash(&one.name),
            or_dash(&one.created),
            size(one.bytes),
            or_dash(one.signed_by.as_deref().unwrap_or_default()),
            Cell::coloured(ERROR, one.problem.as_deref().unwrap_or_default()),
        ]);
    }
    format!("{LABEL}{store}{RESET}\n{columns}")
}

/// Returns what is known, and a dash for nothing.
pub fn or_dash(text: &str) -> Cell {
    Cell::plain(if text.is_empty() { "-" } else { text })
}

/// Returns a size, and a dash where it is not known.
pub fn size(bytes: u64) -> Cell {
    or_dash(&if bytes == 0 { String::new() } else { HumanBytes(bytes).to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::rollout::BundleRef;

    #[test]
    fn the_store_is_a_table() {
        let listed = |version: &str, problem: Option<&str>| Listed {
            bundle: BundleRef { name: version.into(), sha256: None },
            name: if problem.is_some() { String::new() } else { "tiny".to_owned() },
            created: String::new(),
            bytes: if problem.is_some() { 0 } else { 4096 },
            signed_by: None,
            problem: problem.map(str::to_owned),
        };
        let shown = text("onnx", &[listed("1.0.0", None), listed("0.9", Some("no manifest"))]);
        let shown = anstream::adapter::strip_str(&shown).to_string();
        let expected = [
            "onnx",
            "version  name  created  size      signed by  problem",
            "1.0.0    tiny  -        4.00 KiB  -",
            "0.9      -     -        -         -          no manifest",
        ];
        assert_eq!(shown.lines().map(str::trim_end).collect::<Vec<_>>(), expected);
    }
}
