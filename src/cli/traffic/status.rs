//! `pointsman traffic status`: what the store holds.

use clap::Args;
use indicatif::HumanBytes;
use serde_json::json;

use super::{
    super::{
        CliError, print,
        show::{LABEL, RESET, WARN},
        when::shown,
    },
    open,
};
use crate::{config::Config, traffic::store::Holdings};

#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub async fn run(arguments: &StatusArguments, config: &Config) -> Result<(), CliError> {
    let store = open(config).await?;
    let holdings = store.holdings().await?;
    let Holdings { records, feedback, unknown_feedback, bytes, oldest_ms, newest_ms } = holdings;
    if arguments.json {
        return print(&format!(
            "{:#}",
            json!({
                "store": store.name(),
                "records": records,
                "feedback": feedback,
                "unknown_feedback": unknown_feedback,
                "unknown_feedback_max": config.traffic.unknown_feedback_max,
                "bytes": bytes,
                "oldest": oldest_ms.map(shown),
                "newest": newest_ms.map(shown),
            })
        ));
    }
    print(&table(store.name(), &holdings, config.traffic.unknown_feedback_max))
}

fn table(store: &str, holdings: &Holdings, unknown_max: u64) -> String {
    let moment = |at_ms: Option<i64>| at_ms.map_or_else(|| "-".to_owned(), shown);
    let mut unknown = format!("{} of at most {unknown_max}", holdings.unknown_feedback);
    if holdings.unknown_feedback >= unknown_max {
        unknown = format!("{WARN}{unknown}: more is refused{RESET}");
    }
    let lines = [
        ("store", store.to_owned()),
        ("size", HumanBytes(holdings.bytes).to_string()),
        ("records", holdings.records.to_string()),
        ("oldest", moment(holdings.oldest_ms)),
        ("newest", moment(holdings.newest_ms)),
        ("feedback", holdings.feedback.to_string()),
        ("unknown", format!("{unknown}, about decisions that are not in the store")),
    ];
    let lines: Vec<String> =
        lines.into_iter().map(|(label, value)| format!("{LABEL}{label:<9}{RESET} {value}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(holdings: &Holdings, expected: &[&str]) {
        let shown = anstream::adapter::strip_str(&table("file.sqlite", holdings, 10)).to_string();
        for line in expected {
            assert!(shown.lines().any(|shown| shown == *line), "{line:?} is missing in\n{shown}");
        }
    }

    #[test]
    fn holdings_are_told() {
        check(&Holdings::default(), &["store     file.sqlite", "records   0", "oldest    -"]);
        let full = Holdings {
            records: 3,
            bytes: 4096,
            unknown_feedback: 10,
            oldest_ms: Some(1_769_767_200_000),
            ..Holdings::default()
        };
        check(
            &full,
            &[
                "size      4.00 KiB",
                "oldest    2026-01-30T10:00:00Z",
                "unknown   10 of at most 10: more is refused, about decisions that are not in the store",
            ],
        );
    }
}
