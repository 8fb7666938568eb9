//! `pointsman fleet`: what all replicas are to run, and who runs what.

use std::{fmt::Write, time::Duration};

use clap::Args;
use serde_json::{Value, json};

use super::{
    CliError,
    admin::{AdminArguments, Patience},
    columns::{Cell, Columns},
    config_file::ConfigFile,
    print, runtime,
    show::{ERROR, GOOD, LABEL, RESET, STRONG, WARN},
    store_away,
    when::{ago, shown},
};
use crate::{
    live::rollout::DEFAULT,
    server::proto::{
        CanaryReach, GetFleetRequest, GetFleetResponse, ReplicaReport, WantedFrom, WantedState,
        canary_reach::Reach,
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
Replicas that share a traffic store are one fleet, and any of them answers for all: on any number of machines with
PostgreSQL, on one machine with SQLite. Without a store the server that is asked is alone. A replica that cannot load
what is wanted keeps what it has and says why. While the store is away the one that is asked shows what it knows by
itself, says that this is incomplete, and the command exits with 3; so it does where the wanted state cannot be read.
With --watch it goes on.

Examples:
  pointsman fleet
  pointsman fleet --watch
  pointsman fleet --json | jq '.replicas[] | select(.differences != [])'";

pub fn run(arguments: &FleetArguments, file: &ConfigFile) -> Result<(), CliError> {
    let server = file.to_ask(&arguments.admin)?;
    runtime()?.block_on(async {
        loop {
            let call = arguments.admin.call(&server, Patience::AtHand, async |mut client| {
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
                return store_away::complete(answer.store_away.as_ref());
            }
            tokio::time::sleep(WATCH_EVERY).await;
        }
    })
}

/// Returns what is wanted, and a line for each replica.
fn table(fleet: &GetFleetResponse) -> String {
    let mut text = match &fleet.store_away {
        None => wanted(fleet.wanted.as_ref()),
        Some(away) => {
            let from = away.wanted_from();
            let line = if away.replicas_known {
                store_away::unread_line(away)
            } else {
                let from = store_away::wanted_from(from);
                store_away::line(away, &format!("one replica is asked alone, what is wanted is {from}"))
            };
            let known = match from {
                WantedFrom::Nowhere => {
                    format!("{LABEL}wanted{RESET}  not known: the configured bundle serves")
                }
                WantedFrom::Unspecified | WantedFrom::Store | WantedFrom::Memory | WantedFrom::Copy => {
                    wanted(fleet.wanted.as_ref())
                }
            };
            format!("{line}\n{known}")
        }
    };
    if !fleet.rollout_waits.is_empty() {
        let _ = write!(text, "\n{LABEL}rollout{RESET} waits: {}", fleet.rollout_waits);
    }
    let mut columns =
        Columns::new(&["host", "process", "active", "canary", "shadow", "revision", "up", "seen", "state"]);
    let cell = |text: &str| Cell::plain(if text.is_empty() { "-" } else { text });
    for replica in &fleet.replicas {
        columns.row(vec![
            cell(&replica.host),
            Cell::plain(replica.process_id.to_string()),
            cell(&active(replica)),
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
    let answered_by = fleet.replicas.iter().find(|replica| replica.replica_id == fleet.answered_by);
    if let Some(replica) = answered_by.filter(|_| fleet.replicas.len() > 1) {
        let _ = write!(text, "\n{LABEL}answered by {} {}{RESET}", replica.host, replica.process_id);
    }
    text
}

/// Returns what decides there; of the one that its configuration names, also which that is.
fn active(replica: &ReplicaReport) -> String {
    let ReplicaReport { active, configured, .. } = replica;
    if active == DEFAULT && !configured.is_empty() {
        format!("{active} ({configured})")
    } else {
        active.clone()
    }
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
    for (what, since_ms) in [("canary", wanted.canary_since_ms), ("shadow", wanted.shadow_since_ms)] {
        if since_ms != 0 {
            let _ = write!(text, ", {what} since {}", shown(since_ms));
        }
    }
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
        "rollout_waits": or_null(&fleet.rollout_waits),
        "replicas": replicas,
        "now": shown(fleet.now_ms),
        "store_away": store_away::json(fleet.store_away.as_ref()),
        "answered_by": or_null(&fleet.answered_by),
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
        "configured": or_null(&replica.configured),
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
        "canary_since": since(wanted.canary_since_ms),
        "shadow": or_null(&wanted.shadow),
        "shadow_since": since(wanted.shadow_since_ms),
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

/// Returns when something began, or null where nothing did.
fn since(ms: i64) -> Option<String> {
    (ms != 0).then(|| shown(ms))
}

/// Returns a text, or null for an empty one.
pub fn or_null(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::proto::StoreAway;

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
            active: "default".to_owned(),
            configured: "tiny 1".to_owned(),
            replica_id: "b".to_owned(),
            ..good.clone()
        };
        let wanted = WantedState {
            revision: 12,
            active: "0.3.0".to_owned(),
            active_since_ms: 1_769_767_200_000,
            canary: "0.4.0".to_owned(),
            canary_reach: Some(CanaryReach { reach: Some(Reach::RequestShare(0.05)) }),
            canary_since_ms: 1_769_767_260_000,
            ..WantedState::default()
        };
        let fleet = GetFleetResponse {
            wanted: Some(wanted),
            replicas: vec![good, bad],
            now_ms: 3_600_000,
            rollout_waits: "40 of 200 scored requests".to_owned(),
            store_away: None,
            answered_by: "b".to_owned(),
        };
        let shown = anstream::adapter::strip_str(&table(&fleet)).to_string();
        let lines: Vec<&str> = shown.lines().collect();
        let expected = [
            "wanted  0.3.0 active, 0.4.0 canary for 5 % of requests; revision 12, active since 2026-01-30T10:00:00Z, \
             canary since 2026-01-30T10:01:00Z",
            "rollout waits: 40 of 200 scored requests",
            "",
            "host    process  active            canary  shadow  revision  up   seen  state",
            "a       7        0.3.0             0.4.0   -       12        1 h  1 s   as wanted",
            "host-b  7        default (tiny 1)  -       -       11        1 h  1 s   at revision 11 of 12, no canary 0.4.0",
            "problem: host-b 7: bundle 0.4.0: not in onnx",
            "answered by host-b 7",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_is_incomplete_says_so() {
        let away = |from: WantedFrom| StoreAway {
            since_ms: 1_769_767_200_000,
            why: "PostgreSQL at db: refused".to_owned(),
            wanted_from: from as i32,
            replicas_known: false,
        };
        let first_lines = |from: WantedFrom| {
            let fleet = GetFleetResponse { store_away: Some(away(from)), ..GetFleetResponse::default() };
            let shown = anstream::adapter::strip_str(&table(&fleet)).to_string();
            let json = json(&fleet)["store_away"].clone();
            assert_eq!(json["since"], "2026-01-30T10:00:00Z");
            assert_eq!(json["why"], "PostgreSQL at db: refused");
            shown.lines().take(2).map(str::to_owned).collect::<Vec<_>>()
        };
        let expected = [
            "incomplete  one replica is asked alone, what is wanted is as this replica last heard it; the store is away \
             since 2026-01-30T10:00:00Z: PostgreSQL at db: refused",
            "wanted  what the configuration names: nothing else was ever asked for",
        ];
        assert_eq!(first_lines(WantedFrom::Memory), expected);
        assert_eq!(first_lines(WantedFrom::Nowhere)[1], "wanted  not known: the configured bundle serves");
        let unread = StoreAway { replicas_known: true, ..away(WantedFrom::Copy) };
        let fleet = GetFleetResponse { store_away: Some(unread), ..GetFleetResponse::default() };
        let shown = anstream::adapter::strip_str(&table(&fleet)).to_string();
        let expected = "incomplete  what is wanted is as an earlier process here last heard it: since \
                        2026-01-30T10:00:00Z it cannot be read: PostgreSQL at db: refused";
        assert_eq!(shown.lines().next(), Some(expected), "the store is there, and so are all replicas");
        assert_eq!(json(&fleet)["store_away"]["replicas_known"], true);
        assert_eq!(json(&GetFleetResponse::default())["store_away"], Value::Null);
    }
}
