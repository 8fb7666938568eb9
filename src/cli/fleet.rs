//! `pointsman fleet`: what all replicas are to run, and who runs what.

use std::{fmt::Write, time::Duration};

use clap::Args;
use serde_json::{Value, json};

use super::{
    CliError,
    admin::{ANSWER_MAX, AdminArguments},
    columns::{Cell, Columns},
    print, runtime,
    show::{ERROR, GOOD, LABEL, RESET, STRONG, WARN},
    when::{ago, shown},
};
use crate::{
    config::Config,
    server::proto::{
        CanaryReach, GetFleetRequest, GetFleetResponse, ReplicaReport, WantedState, canary_reach::Reach,
    },
};

/// How often `--watch` asks again.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// Puts the cursor on top and clears what is below: the table is drawn over the one before.
const CLEAR: &str = "\x1b[H\x1b[J";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct FleetArguments {
    #[command(flatten)]
    admin: AdminArguments,
    /// Ask again every 2 s until stopped; with --json one object a line.
    #[arg(long)]
    watch: bool,
}

const EXAMPLES: &str = "\
Replicas that share a traffic store in PostgreSQL are one fleet, and any of them answers for all; without one the
server that is asked is alone. A replica that cannot load what is wanted keeps what it has and says why.

Examples:
  pointsman fleet
  pointsman fleet --watch
  pointsman fleet --json | jq '.replicas[] | select(.differences != [])'";

pub fn run(arguments: &FleetArguments, config: &Config) -> Result<(), CliError> {
    runtime()?.block_on(async {
        loop {
            let call = arguments.admin.call(&config.server, ANSWER_MAX, async |mut client| {
                client.get_fleet(GetFleetRequest {}).await
            });
            let answer = call.await?;
            match (arguments.admin.json, arguments.watch) {
                (true, false) => print(&format!("{:#}", json(&answer)))?,
                (true, true) => print(&json(&answer).to_string())?,
                (false, false) => print(&table(&answer))?,
                (false, true) => print(&format!("{CLEAR}{}", table(&answer)))?,
            }
            if !arguments.watch {
                return Ok(());
            }
            tokio::time::sleep(WATCH_EVERY).await;
        }
    })
}

/// Returns what is wanted, and a line for each replica.
fn table(fleet: &GetFleetResponse) -> String {
    let mut text = wanted(fleet.wanted.as_ref());
    let mut columns =
        Columns::new(&["host", "process", "active", "canary", "shadow", "revision", "up", "seen", "state"]);
    let cell = |text: &str| Cell::plain(if text.is_empty() { "-" } else { text });
    for replica in &fleet.replicas {
        columns.row(vec![
            cell(&replica.host),
            Cell::plain(replica.process_id.to_string()),
            cell(&replica.active),
            cell(&replica.canary),
            cell(&replica.shadow),
            Cell::plain(replica.revision.to_string()),
            Cell::plain(ago(replica.started_ms, fleet.now_ms)),
            Cell::plain(ago(replica.seen_ms, fleet.now_ms)),
            state(replica),
        ]);
    }
    let _ = write!(text, "\n\n{columns}");
    for replica in fleet.replicas.iter().filter(|replica| !replica.problem.is_empty()) {
        let (host, process) = (&replica.host, replica.process_id);
        let _ = write!(text, "\n{ERROR}problem:{RESET} {host} {process}: {}", replica.problem);
    }
    text
}

fn wanted(wanted: Option<&WantedState>) -> String {
    let Some(wanted) = wanted else {
        return format!(
            "{LABEL}wanted{RESET}  what the configuration names: nothing else was ever asked for"
        );
    };
    let mut text = format!("{LABEL}wanted{RESET}  {STRONG}{}{RESET} active", wanted.active);
    if !wanted.canary.is_empty() {
        let _ = write!(text, ", {} canary for {}", wanted.canary, reach(wanted.canary_reach.as_ref()));
    }
    if !wanted.shadow.is_empty() {
        let _ = write!(text, ", {} shadow", wanted.shadow);
    }
    let _ = write!(text, "; revision {}, active since {}", wanted.revision, shown(wanted.active_since_ms));
    text
}

/// Returns what a canary decides for.
pub fn reach(reach: Option<&CanaryReach>) -> String {
    let percent = |share: f64| format!("{} %", (share * 10_000.0).round() / 100.0);
    match reach.and_then(|reach| reach.reach.as_ref()) {
        Some(Reach::RequestShare(share)) => format!("{} of requests", percent(*share)),
        Some(Reach::ReplicaShare(share)) => format!("{} of replicas", percent(*share)),
        None => "-".to_owned(),
    }
}

fn state(replica: &ReplicaReport) -> Cell {
    match (replica.problem.is_empty(), replica.differences.as_slice()) {
        (true, []) => Cell::coloured(GOOD, "as wanted"),
        (false, []) => Cell::coloured(ERROR, "see below"),
        (true, differences) => Cell::coloured(WARN, differences.join(", ")),
        (false, differences) => Cell::coloured(ERROR, differences.join(", ")),
    }
}

fn json(fleet: &GetFleetResponse) -> Value {
    let replicas: Vec<Value> = fleet.replicas.iter().map(replica_json).collect();
    json!({
        "wanted": fleet.wanted.as_ref().map(wanted_json),
        "replicas": replicas,
        "now": shown(fleet.now_ms),
    })
}

fn replica_json(replica: &ReplicaReport) -> Value {
    json!({
        "replica_id": replica.replica_id,
        "host": replica.host,
        "process_id": replica.process_id,
        "program_version": replica.program_version,
        "started": shown(replica.started_ms),
        "seen": shown(replica.seen_ms),
        "revision": replica.revision,
        "generation": replica.generation,
        "config_sha256": replica.config_sha256,
        "active": replica.active,
        "canary": or_null(&replica.canary),
        "shadow": or_null(&replica.shadow),
        "ready": replica.ready,
        "problem": or_null(&replica.problem),
        "differences": replica.differences,
    })
}

/// Returns what is wanted as JSON.
pub fn wanted_json(wanted: &WantedState) -> Value {
    json!({
        "revision": wanted.revision,
        "active": wanted.active,
        "active_since": shown(wanted.active_since_ms),
        "canary": or_null(&wanted.canary),
        "canary_reach": wanted.canary_reach.as_ref().and_then(reach_json),
        "shadow": or_null(&wanted.shadow),
        "staged": wanted.staged,
        "retired": wanted.retired,
    })
}

/// Returns what a canary decides for as JSON.
pub fn reach_json(reach: &CanaryReach) -> Option<Value> {
    Some(match reach.reach.as_ref()? {
        Reach::RequestShare(share) => json!({"requests": share}),
        Reach::ReplicaShare(share) => json!({"replicas": share}),
    })
}

/// Returns a text, or null for an empty one.
pub fn or_null(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_differs_is_marked() {
        let good = ReplicaReport {
            host: "a".to_owned(),
            process_id: 7,
            active: "0.3.0".to_owned(),
            canary: "0.4.0".to_owned(),
            revision: 12,
            seen_ms: 3_599_000,
            ready: true,
            ..ReplicaReport::default()
        };
        let bad = ReplicaReport {
            host: "host-b".to_owned(),
            revision: 11,
            differences: vec!["at revision 11 of 12".to_owned(), "no canary 0.4.0".to_owned()],
            problem: "bundle 0.4.0: not in onnx".to_owned(),
            canary: String::new(),
            ..good.clone()
        };
        let wanted = WantedState {
            revision: 12,
            active: "0.3.0".to_owned(),
            active_since_ms: 1_769_767_200_000,
            canary: "0.4.0".to_owned(),
            canary_reach: Some(CanaryReach { reach: Some(Reach::RequestShare(0.05)) }),
            ..WantedState::default()
        };
        let fleet = GetFleetResponse { wanted: Some(wanted), replicas: vec![good, bad], now_ms: 3_600_000 };
        let shown = anstream::adapter::strip_str(&table(&fleet)).to_string();
        let lines: Vec<&str> = shown.lines().collect();
        let expected = [
            "wanted  0.3.0 active, 0.4.0 canary for 5 % of requests; revision 12, active since 2026-01-30T10:00:00Z",
            "",
            "host    process  active  canary  shadow  revision  up   seen  state",
            "a       7        0.3.0   0.4.0   -       12        1 h  1 s   as wanted",
            "host-b  7        0.3.0   -       -       11        1 h  1 s   at revision 11 of 12, no canary 0.4.0",
            "problem: host-b 7: bundle 0.4.0: not in onnx",
        ];
        assert_eq!(lines, expected);
    }
}
