//! `pointsman targets`: every target of a running server, and whether it takes calls.

use std::fmt::Write;

use anstyle::Style;
use clap::Args;
use serde_json::{Value, json};

use super::{
    CliError,
    admin::AdminArguments,
    config_file::ConfigFile,
    print,
    show::{ERROR, GOOD, LABEL, RESET, STRONG, WARN},
};
use crate::server::proto::{ListTargetsRequest, TargetReport, TargetState};

#[derive(Debug, Args)]
#[command(after_help = LEGEND)]
pub struct TargetsArguments {
    #[command(flatten)]
    admin: AdminArguments,
}

const LEGEND: &str = "\
Columns:
  state   closed        takes all calls
          open          failed too often: left alone for the time shown
          half_open     one call probes it
          ramping       answers again and takes a growing share of calls
          unconfigured  has no provider that could be called: decisions only
  calls   ended within completion.breaker.window_ms; counted anew when a target opens
  errors  share of those that failed; in brackets how many since the last success
  keys    live/resting/dead of its provider: rate-limited ones rest, refused or missing ones
          are dead";

pub fn run(arguments: &TargetsArguments, file: &ConfigFile) -> Result<(), CliError> {
    let server = file.to_ask(&arguments.admin)?;
    let answer =
        arguments.admin.ask(&server, async |mut client| client.list_targets(ListTargetsRequest {}).await)?;
    if arguments.admin.json {
        let targets: Vec<Value> = answer.targets.iter().map(json).collect();
        print(&format!("{:#}", json!({"targets": targets})))
    } else {
        print(&table(&answer.targets))
    }
}

/// Returns a line for each target.
fn table(reports: &[TargetReport]) -> String {
    let rows: Vec<Row> = reports.iter().map(row).collect();
    let width = |title: &str, cell: fn(&Row) -> &str| {
        rows.iter().map(|row| cell(row).chars().count()).chain([title.len()]).max().unwrap_or_default()
    };
    let target = width("target", |row| &row.id);
    let tier = width("tier", |row| &row.tiers);
    let provider = width("provider", |row| &row.provider);
    let model = width("model", |row| &row.model);
    let state = width("state", |row| &row.state);
    let mut text = format!(
        "{STRONG}{:<target$}  {:<tier$}  {:<provider$}  {:<model$}  {:<state$}  {:>6}  {:>10}  keys{RESET}",
        "target", "tier", "provider", "model", "state", "calls", "errors"
    );
    for row in &rows {
        let colour = row.colour;
        let _ = write!(
            text,
            "\n{:<target$}  {:<tier$}  {:<provider$}  {:<model$}  {colour}{:<state$}{RESET}  {:>6}  {:>10}  {}",
            row.id, row.tiers, row.provider, row.model, row.state, row.calls, row.errors, row.keys
        );
    }
    text
}

/// A target's cells.
struct Row {
    id: String,
    tiers: String,
    provider: String,
    model: String,
    state: String,
    colour: Style,
    calls: u64,
    errors: String,
    keys: String,
}

fn row(report: &TargetReport) -> Row {
    let target = report.target.clone().unwrap_or_default();
    let state = report.state();
    let name = state_name(state);
    Row {
        id: target.id,
        tiers: if report.tiers.is_empty() { "-".to_owned() } else { report.tiers.join(", ") },
        provider: target.provider,
        model: target.model,
        state: match report.open_ms {
            Some(ms) => format!("{name}, {:.1} s", ms as f64 / 1000.0),
            None => name.to_owned(),
        },
        colour: colour(state),
        calls: report.calls,
        errors: match (report.calls, report.failures) {
            (0, 0) => "-".to_owned(),
            (_, failures) => format!("{:.0} % ({failures})", report.error_ratio * 100.0),
        },
        keys: report
            .keys
            .map_or_else(|| "-".to_owned(), |keys| format!("{}/{}/{}", keys.live, keys.resting, keys.dead)),
    }
}

fn colour(state: TargetState) -> Style {
    match state {
        TargetState::Closed => GOOD,
        TargetState::Open => ERROR,
        TargetState::HalfOpen | TargetState::Ramping => WARN,
        TargetState::Unconfigured | TargetState::Unspecified => LABEL,
    }
}

/// Returns the word for a state in tables, JSON and metrics.
pub fn state_name(state: TargetState) -> &'static str {
    match state {
        TargetState::Unspecified => "unknown",
        TargetState::Closed => "closed",
        TargetState::Open => "open",
        TargetState::HalfOpen => "half_open",
        TargetState::Ramping => "ramping",
        TargetState::Unconfigured => "unconfigured",
    }
}

fn json(report: &TargetReport) -> Value {
    let target = report.target.clone().unwrap_or_default();
    let prices = report.prices.clone().unwrap_or_default();
    json!({
        "id": target.id,
        "provider": target.provider,
        "model": target.model,
        "tiers": report.tiers,
        "state": state_name(report.state()),
        "open_ms": report.open_ms,
        "failures": report.failures,
        "calls": report.calls,
        "error_ratio": report.error_ratio,
        "keys": report.keys.map(|keys| json!({"live": keys.live, "resting": keys.resting, "dead": keys.dead})),
        "prices": {
            "input_usd_per_mtok": prices.input_usd_per_mtok,
            "output_usd_per_mtok": prices.output_usd_per_mtok,
            "cached_input_usd_per_mtok": prices.cached_input_usd_per_mtok,
            "cache_write_usd_per_mtok": prices.cache_write_usd_per_mtok,
            "date": prices.date,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::proto::{Keys, Target};

    #[test]
    fn a_table_has_a_line_for_each_target() {
        let open = TargetReport {
            target: Some(Target { id: "a".to_owned(), provider: "p".to_owned(), model: "m-1".to_owned() }),
            tiers: vec!["simple".to_owned()],
            state: TargetState::Open as i32,
            failures: 5,
            calls: 8,
            error_ratio: 0.625,
            open_ms: Some(9_400),
            keys: Some(Keys { live: 1, resting: 2, dead: 0 }),
            ..TargetReport::default()
        };
        let judge = TargetReport { state: TargetState::Unconfigured as i32, ..TargetReport::default() };
        let shown = anstream::adapter::strip_str(&table(&[open, judge])).to_string();
        let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "target  tier    provider  model  state          calls      errors  keys",
                "a       simple  p         m-1    open, 9.4 s        8    62 % (5)  1/2/0",
                "        -                        unconfigured       0           -  -",
            ]
        );
    }
}
