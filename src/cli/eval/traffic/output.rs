//! What becomes of a what-if: text for a terminal, JSON, a report.

use std::{fmt::Write, path::Path, sync::Arc};

use serde::Serialize;

use super::super::super::{
    CliError,
    show::{LABEL, RESET, STRONG, WARN},
};
use crate::{
    evaluation::{
        off_policy::OffPolicy,
        report::what_if::{Head, page},
        what_if::{Grid, WhatIf, table},
    },
    traffic::replay::gather::Counts,
};

/// Format of the JSON that `--json` prints.
const FORMAT: u32 = 1;

/// Everything that text, JSON and report are made from.
pub struct Outcome<'a> {
    pub source: String,
    /// First and last moment.
    pub range: (String, String),
    /// Name and version; `None`: no classifier.
    pub bundle: Option<(Arc<str>, Arc<str>)>,
    pub objective: String,
    pub rules: bool,
    pub reward: &'static str,
    pub weight_max: f64,
    pub seed: u64,
    pub counts: &'a Counts,
    pub notes: Vec<String>,
    pub what_if: WhatIf,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    pointsman: &'static str,
    source: &'a str,
    from: &'a str,
    until: &'a str,
    /// `None`: no classifier.
    bundle: Option<BundleName<'a>>,
    settings: SettingsShown<'a>,
    records: RecordsShown,
    notes: &'a [String],
    #[serde(flatten)]
    what_if: &'a WhatIf,
}

#[derive(Serialize)]
struct BundleName<'a> {
    name: &'a str,
    version: &'a str,
}

#[derive(Serialize)]
struct SettingsShown<'a> {
    rules: bool,
    objective: &'a str,
    reward: &'a str,
    weight_max: f64,
    seed: u64,
}

#[derive(Serialize)]
struct RecordsShown {
    read: u64,
    without_text: u64,
    passed_over: u64,
    duplicates: u64,
}

impl Outcome<'_> {
    pub fn json(&self) -> String {
        let Counts { read, without_text, passed_over, duplicates, .. } = *self.counts;
        let document = Document {
            format: FORMAT,
            pointsman: env!("CARGO_PKG_VERSION"),
            source: &self.source,
            from: &self.range.0,
            until: &self.range.1,
            bundle: self.bundle.as_ref().map(|(name, version)| BundleName { name, version }),
            settings: SettingsShown {
                rules: self.rules,
                objective: &self.objective,
                reward: self.reward,
                weight_max: self.weight_max,
                seed: self.seed,
            },
            records: RecordsShown { read, without_text, passed_over, duplicates },
            notes: &self.notes,
            what_if: &self.what_if,
        };
        serde_json::to_string_pretty(&document).expect("figures are plain data")
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        for line in self.about() {
            let _ = writeln!(text, "{LABEL}{line}{RESET}");
        }
        for note in &self.notes {
            let _ = writeln!(text, "{LABEL}- {note}{RESET}");
        }
        summary(&mut text, &self.what_if);
        for change in &self.what_if.settings {
            let _ = writeln!(text, "\n{STRONG}{}{RESET}", change.name);
            grid(&mut text, &change.confusion, "logged \\ chosen");
            off_policy(&mut text, &change.off_policy);
        }
        let _ = writeln!(
            text,
            "\n{LABEL}predicted quality is the classifier's own belief: docs/traffic.md{RESET}"
        );
        text
    }

    /// Writes the report and says where it is.
    pub fn write_report(&self, path: &Path) -> Result<(), CliError> {
        let html = page(&Head { about: &self.about(), notes: &self.notes }, &self.what_if)?;
        std::fs::write(path, html)
            .map_err(|error| CliError::Io { what: path.display().to_string(), error })?;
        anstream::eprintln!("report: {}", path.display());
        Ok(())
    }

    /// What was replayed, and how.
    fn about(&self) -> Vec<String> {
        let bundle = self
            .bundle
            .as_ref()
            .map_or_else(|| "no classifier".to_owned(), |(name, version)| format!("{name} {version}"));
        let rules = if self.rules { "as when serving" } else { "off" };
        let (from, until) = &self.range;
        vec![
            format!("{} requests of {} from {from} to {until}", self.what_if.requests, self.source),
            format!(
                "tried: {bundle}; objective {}; rules {rules}; reward {}, weights up to {}; seed {}",
                self.objective, self.reward, self.weight_max, self.seed
            ),
        ]
    }
}

/// Writes the settings beside the log.
pub fn summary(text: &mut String, what_if: &WhatIf) {
    let rows = table::summary(what_if);
    let label = rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0);
    let cells = |at: usize, title: &str| {
        let widest = rows.iter().map(|row| row.settings[at].chars().count()).max().unwrap_or(0);
        widest.max(title.chars().count())
    };
    let logged = rows.iter().map(|row| row.logged.chars().count()).max().unwrap_or(0).max("as logged".len());
    let widths: Vec<usize> =
        what_if.settings.iter().enumerate().map(|(at, change)| cells(at, &change.name)).collect();
    let _ = write!(text, "\n{STRONG}{:<label$}  {:>logged$}", "figure", "as logged");
    for (change, width) in what_if.settings.iter().zip(&widths) {
        let _ = write!(text, "  {:>width$}", change.name);
    }
    let _ = writeln!(text, "{RESET}");
    for row in &rows {
        let _ = write!(text, "{:<label$}  {:>logged$}", row.label, row.logged);
        for (value, width) in row.settings.iter().zip(&widths) {
            let _ = write!(text, "  {value:>width$}");
        }
        text.push('\n');
    }
}

/// Writes counts of each tier of a row by the tier of a column; `corner` says what these are.
pub fn grid(text: &mut String, grid: &Grid, corner: &str) {
    let label = grid.logged.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(corner.len());
    let widths: Vec<usize> = grid.chosen.iter().map(|name| name.chars().count().max(7)).collect();
    let _ = write!(text, "  {LABEL}{corner:<label$}");
    for (name, width) in grid.chosen.iter().zip(&widths) {
        let _ = write!(text, "  {name:>width$}");
    }
    let _ = writeln!(text, "{RESET}");
    for (name, counts) in grid.logged.iter().zip(&grid.counts) {
        let _ = write!(text, "  {name:<label$}");
        for (count, width) in counts.iter().zip(&widths) {
            let _ = write!(text, "  {count:>width$}");
        }
        text.push('\n');
    }
}

fn off_policy(text: &mut String, off_policy: &OffPolicy) {
    let OffPolicy { rewarded, supported, informative, effective, logged, estimates, cautions } = off_policy;
    let _ = writeln!(
        text,
        "  {rewarded} requests have a reward; the log could hold this choice for {supported} of them and does for \
         {informative}, worth {effective:.1}"
    );
    for caution in cautions {
        let _ = writeln!(text, "  {WARN}{caution}{RESET}");
    }
    if estimates.is_empty() {
        return;
    }
    let _ = writeln!(text, "  {LABEL}{:<22} {:<24} beyond what was logged{RESET}", "mean reward", "");
    if let Some(logged) = logged {
        let _ = writeln!(text, "  {:<22} {}", "as logged", table::estimate(*logged));
    }
    for estimated in estimates {
        let value = table::estimate(estimated.of_other);
        let _ = writeln!(
            text,
            "  {:<22} {value:<24} {}",
            estimated.method.title(),
            table::difference(estimated.lead)
        );
    }
}
