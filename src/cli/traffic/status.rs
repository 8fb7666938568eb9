//! `pointsman traffic status`: what the store holds, and what waits for it on local disk, also while it is away.

use std::{
    io,
    path::{Path, PathBuf},
};

use clap::Args;
use indicatif::HumanBytes;
use serde_json::{Value, json};

use super::{
    super::{
        CliError, print,
        show::{LABEL, RESET, WARN},
        spinner::spinner,
        when::shown,
    },
    open,
    progress::counted,
};
use crate::{
    config::{Config, TrafficConfig},
    traffic::{
        SpoolHoldings, left_aside, spool_holdings,
        store::{Holdings, StoreError},
    },
};

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct StatusArguments {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
What a server cannot write to its store waits in its spool, on the disk of that machine, and this command looks at \
the one where it runs. A running server is not disturbed. What only waits in a server's memory is in its metrics.

While the store is away the rest is shown, and the command exits with 3.";

/// Files beside a database, which have its name and these endings.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// Everything that is known.
struct Status {
    /// Its name, where it could be opened.
    store: Option<String>,
    holdings: Result<Holdings, StoreError>,
    spool: Result<SpoolHoldings, io::Error>,
    /// Broken files of store and spool.
    set_aside: Vec<PathBuf>,
}

pub async fn run(arguments: &StatusArguments, config: &Config) -> Result<(), CliError> {
    let spinner = spinner("counting");
    let (store, holdings) = holdings(config).await;
    let spool = spool_holdings(&config.traffic.spool.folder).await;
    spinner.finish_and_clear();
    let status = Status { store, holdings, spool, set_aside: set_aside(&config.traffic) };
    print(&if arguments.json {
        format!("{:#}", written(&status, &config.traffic))
    } else {
        table(&status, &config.traffic)
    })?;
    match (status.holdings, status.spool) {
        (Err(StoreError::Down { .. }), _) => Err(CliError::Incomplete("the store is away")),
        (Err(error @ (StoreError::Corrupt { .. } | StoreError::Refused { .. })), _) => Err(error.into()),
        (Ok(_), Err(_)) => Err(CliError::Incomplete("the spool cannot be read")),
        (Ok(_), Ok(spool)) if !spool.unreadable.is_empty() => {
            Err(CliError::Incomplete("files of the spool cannot be read"))
        }
        (Ok(_), Ok(_)) => Ok(()),
    }
}

async fn holdings(config: &Config) -> (Option<String>, Result<Holdings, StoreError>) {
    let store = match open(config).await {
        Ok(store) => store,
        Err(error) => return (None, Err(error)),
    };
    (Some(store.name().to_owned()), store.holdings().await)
}

/// Returns the broken files that were moved aside, each once.
fn set_aside(config: &TrafficConfig) -> Vec<PathBuf> {
    let mut files = left_aside(config);
    files.retain(|path| {
        let name = path.to_string_lossy();
        // What was refused is no broken file, and is counted.
        !name.ends_with(".jsonl") && BESIDE.iter().all(|end| !name.ends_with(end))
    });
    files
}

fn written(status: &Status, config: &TrafficConfig) -> Value {
    let known = status.holdings.as_ref().ok();
    let figure = |of: fn(&Holdings) -> u64| known.map(of);
    let moment = |of: fn(&Holdings) -> Option<i64>| known.and_then(of).map(shown);
    let spool = status.spool.as_ref().ok();
    let waits = |of: fn(&SpoolHoldings) -> u64| spool.map(of);
    let unreadable: Vec<&Path> =
        spool.into_iter().flat_map(|spool| &spool.unreadable).map(|(path, _)| &**path).collect();
    json!({
        "store": status.store,
        "store_problem": status.holdings.as_ref().err().map(ToString::to_string),
        "records": figure(|held| held.records),
        "feedback": figure(|held| held.feedback),
        "unknown_feedback": figure(|held| held.unknown_feedback),
        "unknown_feedback_max": config.unknown_feedback_max,
        "bytes": figure(|held| held.bytes),
        "oldest": moment(|held| held.oldest_ms),
        "newest": moment(|held| held.newest_ms),
        "spool": {
            "folder": config.spool.folder,
            "problem": status.spool.as_ref().err().map(ToString::to_string),
            "files": waits(|held| held.files),
            "records": waits(|held| held.records),
            "feedback": waits(|held| held.feedback),
            "bytes": waits(|held| held.bytes),
            "bytes_max": config.spool.bytes_max,
            "unreadable": unreadable,
        },
        "refused_feedback": waits(|held| held.refused_feedback),
        "set_aside": status.set_aside,
    })
}

fn table(status: &Status, config: &TrafficConfig) -> String {
    let mut lines = Vec::new();
    if let Some(name) = &status.store {
        lines.push(("store", name.clone()));
    }
    match &status.holdings {
        Ok(holdings) => lines.extend(of_store(holdings, config.unknown_feedback_max)),
        Err(StoreError::Down { store, problem }) => {
            lines.push(("away", format!("{WARN}{store}: {problem}{RESET}")));
        }
        // Why is said at the end.
        Err(StoreError::Corrupt { store, .. } | StoreError::Refused { store, .. }) => {
            lines.push(("unread", format!("{WARN}{store}{RESET}")));
        }
    }
    lines.extend(of_spool(&status.spool, config));
    lines.extend(
        status
            .set_aside
            .iter()
            .map(|path| ("aside", format!("{WARN}{} is broken and was moved aside{RESET}", path.display()))),
    );
    let lines: Vec<String> =
        lines.into_iter().map(|(label, value)| format!("{LABEL}{label:<9}{RESET} {value}")).collect();
    lines.join("\n")
}

fn of_store(holdings: &Holdings, unknown_max: u64) -> [(&'static str, String); 6] {
    let moment = |at_ms: Option<i64>| at_ms.map_or_else(|| "-".to_owned(), shown);
    let mut unknown = format!("{} of at most {unknown_max}", holdings.unknown_feedback);
    if holdings.unknown_feedback >= unknown_max {
        unknown = format!("{WARN}{unknown}: more is refused{RESET}");
    }
    [
        ("size", HumanBytes(holdings.bytes).to_string()),
        ("records", holdings.records.to_string()),
        ("oldest", moment(holdings.oldest_ms)),
        ("newest", moment(holdings.newest_ms)),
        ("feedback", holdings.feedback.to_string()),
        ("unknown", format!("{unknown}, about decisions that are not in the store")),
    ]
}

fn of_spool(spool: &Result<SpoolHoldings, io::Error>, config: &TrafficConfig) -> Vec<(&'static str, String)> {
    let folder = config.spool.folder.display();
    let spool = match spool {
        Ok(spool) => spool,
        Err(error) => return vec![("spool", format!("{WARN}{folder}: {error}{RESET}"))],
    };
    let mut lines = Vec::new();
    lines.push(match spool.files {
        0 => ("spool", format!("empty: nothing waits for the store in {folder}")),
        files => (
            "spool",
            format!(
                "{WARN}{} and {} of feedback wait for the store{RESET}, {} of at most {}, {} in {folder}",
                counted(spool.records, "record"),
                counted(spool.feedback, "piece"),
                HumanBytes(spool.bytes),
                HumanBytes(config.spool.bytes_max),
                counted(files, "file"),
            ),
        ),
    });
    for (path, problem) in &spool.unreadable {
        lines.push(("uncounted", format!("{WARN}{}: {problem}{RESET}", path.display())));
    }
    if spool.refused_feedback > 0 {
        let pieces = counted(spool.refused_feedback, "piece");
        lines.push((
            "refused",
            format!("{WARN}{pieces} of feedback that the store will never take{RESET}, in {folder}"),
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> TrafficConfig {
        let mut config = TrafficConfig::in_folder("/state".into());
        config.unknown_feedback_max = 10;
        config.spool.folder = "/spool".into();
        config.spool.bytes_max = 1 << 20;
        config
    }

    fn check(status: &Status, expected: &[&str]) {
        let shown = anstream::adapter::strip_str(&table(status, &config())).to_string();
        assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    }

    fn known(holdings: Holdings, spool: SpoolHoldings) -> Status {
        Status {
            store: Some("file".to_owned()),
            holdings: Ok(holdings),
            spool: Ok(spool),
            set_aside: Vec::new(),
        }
    }

    #[test]
    fn holdings_are_told() {
        let full = Holdings {
            records: 3,
            bytes: 4096,
            unknown_feedback: 10,
            oldest_ms: Some(1_769_767_200_000),
            ..Holdings::default()
        };
        check(
            &known(full, SpoolHoldings::default()),
            &[
                "store     file",
                "size      4.00 KiB",
                "records   3",
                "oldest    2026-01-30T10:00:00Z",
                "newest    -",
                "feedback  0",
                "unknown   10 of at most 10: more is refused, about decisions that are not in the store",
                "spool     empty: nothing waits for the store in /spool",
            ],
        );
    }

    #[test]
    fn what_waits_is_told_while_the_store_is_away() {
        let away =
            StoreError::Down { store: "PostgreSQL db:5432/log".to_owned(), problem: "gone".to_owned() };
        let spool = SpoolHoldings {
            files: 2,
            records: 1,
            feedback: 7,
            bytes: 4096,
            refused_feedback: 1,
            unreadable: vec![("/spool/spool-1.sqlite".into(), "no database".to_owned())],
        };
        let set_aside = vec!["/spool/spool-0.sqlite.corrupt-1".into()];
        let status = Status { store: None, holdings: Err(away), spool: Ok(spool), set_aside };
        check(
            &status,
            &[
                "away      PostgreSQL db:5432/log: gone",
                "spool     1 record and 7 pieces of feedback wait for the store, 4.00 KiB of at most 1.00 MiB, 2 files \
                 in /spool",
                "uncounted /spool/spool-1.sqlite: no database",
                "refused   1 piece of feedback that the store will never take, in /spool",
                "aside     /spool/spool-0.sqlite.corrupt-1 is broken and was moved aside",
            ],
        );
        let written = written(&status, &config());
        assert_eq!((&written["records"], &written["store"]), (&Value::Null, &Value::Null));
        assert_eq!((&written["spool"]["feedback"], &written["refused_feedback"]), (&json!(7), &json!(1)));
        assert!(written["store_problem"].as_str().is_some_and(|problem| problem.ends_with("gone")));
    }
}
