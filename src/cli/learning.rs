//! `pointsman learning`: what was learned online, straight from the store, and forgetting it.

use std::{collections::BTreeSet, fmt::Write};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    CliError,
    agree::agreed,
    print, runtime,
    show::{GOOD, LABEL, RESET, STRONG, WARN},
};
use crate::{
    config::Config,
    routing::learning::{Cell, CellKey, Estimate, shifted},
    traffic::{now_ms, store::Store},
};

#[derive(Debug, Args)]
pub struct LearningArguments {
    #[command(subcommand)]
    command: LearningCommand,
}

#[derive(Debug, Subcommand)]
enum LearningCommand {
    /// Show every learned offset.
    #[command(after_help = LEGEND)]
    Show {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Forget what was learned: everything (asks first), or of one intent, one target or both.
    ///
    /// Running servers follow within `learning.refresh_ms`. Feedback that was learned from once is not learned from
    /// again; it stays in the log.
    Reset {
        /// Only this intent.
        #[arg(long)]
        intent: Option<String>,
        /// Only this target.
        #[arg(long)]
        target: Option<String>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

const LEGEND: &str = "\
An offset is added to the logit of the sufficiency that the classifier gives a target's tier; the last column says \
what it makes of 80 %. After +- stands one standard deviation. One at its limit (learning.offset_max) moves no further: \
where the classifier is surer than that outweighs, what was learned does not change the choice.

Observations are what was learned from. There may be far fewer of them than feedback: each tenant has an allowance, so \
that none moves an offset alone, and what is beyond it is not learned from. docs/learning.md says how much.";

/// The sufficiency by which an offset is shown to a person.
const SHOWN_BASE: f64 = 0.8;

/// Part of `learning.offset_max` from which an offset is shown as at its limit: some of it fades between observations.
const AT_LIMIT: f64 = 0.98;

pub fn run(arguments: &LearningArguments, config: &Config) -> Result<(), CliError> {
    config.traffic.readable()?;
    let text = runtime()?.block_on(answer(&arguments.command, config))?;
    print(&text)
}

async fn answer(command: &LearningCommand, config: &Config) -> Result<String, CliError> {
    let store = Store::open_existing(&config.traffic.store).await?;
    match command {
        LearningCommand::Show { json } => {
            let now_ms = now_ms();
            let cells = store.cells(&config.learning, now_ms).await?;
            let mut rows: Vec<Row> = cells
                .into_iter()
                .map(|(key, cell)| {
                    let estimate = cell.estimate(now_ms, &config.learning);
                    let at_limit = estimate.mean.abs() >= AT_LIMIT * config.learning.offset_max;
                    Row { key, cell, estimate, at_limit }
                })
                .collect();
            rows.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(if *json { written(&rows) } else { table(&rows, config.learning.enabled, now_ms) })
        }
        LearningCommand::Reset { intent, target, yes } => {
            let cells = store.cells(&config.learning, now_ms()).await?;
            let keys: Vec<&CellKey> = cells.keys().collect();
            known("--intent", intent.as_deref(), keys.iter().map(|key| &*key.intent))?;
            known("--target", target.as_deref(), keys.iter().map(|key| &*key.target))?;
            if intent.is_none() && target.is_none() && !yes {
                let question = format!("Forget all {} learned offsets of {}?", keys.len(), store.name());
                if !agreed(&question, "to forget")? {
                    return Ok("nothing was forgotten".to_owned());
                }
            }
            let forgotten = store.forget(intent.as_deref(), target.as_deref()).await?;
            let plural = if forgotten == 1 { "" } else { "s" };
            Ok(format!("{forgotten} offset{plural} forgotten"))
        }
    }
}

/// Returns an error where a name is given of which nothing was learned: it is most likely mistyped.
fn known<'a>(
    option: &str,
    name: Option<&str>,
    learned: impl Iterator<Item = &'a str>,
) -> Result<(), CliError> {
    let learned: BTreeSet<&str> = learned.collect();
    let Some(name) = name.filter(|name| !learned.contains(name)) else { return Ok(()) };
    let of = match learned.len() {
        0 => "nothing was learned yet".to_owned(),
        _ => format!("something was learned of {}", learned.into_iter().collect::<Vec<_>>().join(", ")),
    };
    Err(CliError::Usage(format!("{option} {name:?}: nothing was learned of it; {of}")))
}

/// One offset.
struct Row {
    key: CellKey,
    cell: Cell,
    estimate: Estimate,
    /// Whether it has come as far as `learning.offset_max` lets it.
    at_limit: bool,
}

fn written(rows: &[Row]) -> String {
    let offsets: Vec<_> = rows
        .iter()
        .map(|Row { key, cell, estimate, at_limit }| {
            json!({
                "intent": key.intent,
                "target": key.target,
                "offset": estimate.mean,
                "sd": estimate.sd,
                "at_limit": at_limit,
                "observations": cell.observations(),
                "last_ms": cell.at_ms(),
            })
        })
        .collect();
    format!("{:#}", json!({"offsets": offsets}))
}

fn table(rows: &[Row], enabled: bool, now_ms: i64) -> String {
    let mut text = String::new();
    if !enabled {
        let _ = writeln!(
            text,
            "{LABEL}learning is off in this configuration ([learning] enabled): what is shown changes no decision{RESET}"
        );
    }
    if rows.is_empty() {
        let _ = write!(text, "nothing was learned yet");
        return text;
    }
    let width = |name: fn(&Row) -> &str, title: &str| {
        rows.iter().map(|row| name(row).chars().count()).chain([title.len()]).max().unwrap_or_default()
    };
    let (intents, targets) = (width(|row| &row.key.intent, "intent"), width(|row| &row.key.target, "target"));
    let _ = write!(
        text,
        "{STRONG}{:<intents$}  {:<targets$}  {:>13}  {:>12}  {:>8}  {:>12}{RESET}",
        "intent", "target", "offset", "observations", "last", "80 % becomes"
    );
    for Row { key, cell, estimate: Estimate { mean, sd }, at_limit } in rows {
        let colour = if *mean < 0.0 { WARN } else { GOOD };
        let offset = format!("{mean:+.2} +-{sd:.2}");
        let becomes = format!("{:.0} %", shifted(SHOWN_BASE, *mean) * 100.0);
        let _ = write!(
            text,
            "\n{:<intents$}  {:<targets$}  {colour}{offset:>13}{RESET}  {:>12}  {:>8}  {becomes:>12}",
            key.intent,
            key.target,
            cell.observations(),
            ago(now_ms.saturating_sub(cell.at_ms())),
        );
        if *at_limit {
            let _ = write!(text, "  {WARN}at its limit{RESET}");
        }
    }
    text
}

/// Returns an age in its largest whole unit.
fn ago(age_ms: i64) -> String {
    let age_s = age_ms.max(0) / 1000;
    match age_s {
        0..60 => format!("{age_s} s"),
        60..3600 => format!("{} min", age_s / 60),
        3600..86_400 => format!("{} h", age_s / 3600),
        _ => format!("{} d", age_s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::LearningConfig;

    fn row(intent: &str, target: &str, mean: f64, age_ms: i64) -> Row {
        let cell = Cell::restore(mean, 4.0, 120, -age_ms, &LearningConfig::default());
        let key = CellKey { intent: Arc::from(intent), target: Arc::from(target) };
        Row { key, cell, estimate: Estimate { mean, sd: 0.5 }, at_limit: mean <= -2.95 }
    }

    fn check(rows: &[Row], enabled: bool, expected: &[&str]) {
        let shown = anstream::adapter::strip_str(&table(rows, enabled, 0)).to_string();
        assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn offsets_are_shown() {
        check(&[], true, &["nothing was learned yet"]);
        check(
            &[],
            false,
            &[
                "learning is off in this configuration ([learning] enabled): what is shown changes no decision",
                "nothing was learned yet",
            ],
        );
        check(
            &[
                row("code", "small", -1.5, 90_000),
                row("math", "small", -3.0, 90_000),
                row("open_qa", "medium", 0.4, 200_000_000),
            ],
            true,
            &[
                "intent   target         offset  observations      last  80 % becomes",
                "code     small    -1.50 +-0.50           120     1 min          47 %",
                "math     small    -3.00 +-0.50           120     1 min          17 %  at its limit",
                "open_qa  medium   +0.40 +-0.50           120       2 d          86 %",
            ],
        );
    }

    #[test]
    fn an_unknown_name_is_told_with_those_that_are_known() {
        let learned = || ["code", "math", "code"].into_iter();
        assert!(known("--intent", Some("code"), learned()).is_ok());
        assert!(known("--intent", None, learned()).is_ok());
        let error = known("--intent", Some("nope"), learned()).unwrap_err().to_string();
        assert_eq!(
            error,
            "--intent \"nope\": nothing was learned of it; something was learned of code, math"
        );
        let error = known("--target", Some("a"), [].into_iter()).unwrap_err().to_string();
        assert_eq!(error, "--target \"a\": nothing was learned of it; nothing was learned yet");
    }

    #[test]
    fn json_has_every_figure() {
        let text = written(&[row("code", "small", -1.5, 90_000)]);
        let read: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        let expected = json!({"intent": "code", "target": "small", "offset": -1.5, "sd": 0.5, "at_limit": false,
                              "observations": 120, "last_ms": -90_000});
        assert_eq!(read["offsets"][0], expected);
    }
}
