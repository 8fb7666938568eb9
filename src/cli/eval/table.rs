//! Figures as aligned columns for a terminal.

use std::fmt::Write;

use super::super::show::{LABEL, RESET, STRONG};
use crate::evaluation::{
    Better, Comparison, Evaluation, Row,
    bootstrap::Interval,
    report::{figure, lead},
    views::Language,
};

/// Width of a baseline's column: a value and a mark.
const BASELINE_CELLS: usize = 12;

/// Returns the settings and every section as a table.
pub fn text(settings: &str, notes: &[String], evaluations: &[Evaluation]) -> String {
    let mut text = format!("{LABEL}{settings}{RESET}\n");
    for note in notes {
        let _ = writeln!(text, "{LABEL}{note}{RESET}");
    }
    for evaluation in evaluations {
        section(&mut text, evaluation);
    }
    text
}

fn section(text: &mut String, evaluation: &Evaluation) {
    let Evaluation { name, file, samples, .. } = evaluation;
    let _ = writeln!(text, "\n{STRONG}{name}{RESET}  {samples} samples from {file}");
    for note in &evaluation.notes {
        let _ = writeln!(text, "{LABEL}  {note}{RESET}");
    }
    let rows: Vec<Row> = Row::ALL
        .into_iter()
        .filter(|row| evaluation.metrics.iter().any(|comparison| comparison.rows.contains_key(row)))
        .collect();
    let _ = write!(text, "{STRONG}  {:<28} {:>7}  {:<30}", "figure", "samples", "router");
    for row in rows.iter().filter(|row| **row != Row::Router) {
        let _ = write!(text, "{:<BASELINE_CELLS$}", row.title());
    }
    let _ = writeln!(text, "{RESET}");
    for comparison in &evaluation.metrics {
        line(text, comparison, &rows);
    }
    languages(text, &evaluation.languages);
}

fn line(text: &mut String, comparison: &Comparison, rows: &[Row]) {
    let shown = |value: f64| figure(&comparison.name, value);
    let better = if comparison.better == Better::Lower { " ↓" } else { "" };
    let name = format!("{}{better}", comparison.name);
    let mut cells = String::new();
    for row in rows {
        let Some(value) = comparison.rows.get(row) else {
            let _ = write!(cells, "{:<BASELINE_CELLS$}", "-");
            continue;
        };
        let number = shown(value.value);
        if *row == Row::Router {
            let interval = brackets(&comparison.name, value.interval);
            let _ = write!(cells, "{:>7}  {:<30}", value.samples, format!("{number} {interval}"));
        } else {
            let mark = lead(value, comparison.better);
            let _ = write!(cells, "{:<BASELINE_CELLS$}", format!("{number} {mark}"));
        }
    }
    let _ = writeln!(text, "  {name:<28} {}", cells.trim_end());
}

fn languages(text: &mut String, languages: &[Language]) {
    if languages.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n  {STRONG}{:<28} {:>7}  by language{RESET}", "language", "samples");
    for language in languages {
        let figures: Vec<String> = language
            .metrics
            .iter()
            .filter(|(name, _)| name.ends_with("accuracy") || name.ends_with("under_routing"))
            .map(|(name, value)| {
                format!("{name} {} {}", figure(name, value.value), brackets(name, value.interval))
            })
            .collect();
        let _ = writeln!(text, "  {:<28} {:>7}  {}", language.language, language.samples, figures.join("  "));
    }
}

fn brackets(metric: &str, interval: Option<Interval>) -> String {
    interval.map_or_else(String::new, |interval| {
        format!("[{}, {}]", figure(metric, interval.low), figure(metric, interval.high))
    })
}
