//! Prints what was measured: lines while a cell runs, one aligned table at the end, or JSON lines.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::Serialize;

use crate::{
    compare::{Ratio, Sample, ratios},
    drive::{Arrivals, Cell},
    measure::{print_json, process::Usage, table::table},
    tally::{Kind, Outcomes, Tally},
};

const COLUMNS: [&str; 14] = [
    "path",
    "tokens",
    "mode",
    "clients",
    "req/s",
    "p50",
    "p90",
    "p99",
    "p99.9",
    "max ms",
    "errors",
    "CPU ms/req",
    "RSS MB",
    "decided by",
];
/// Columns of words; numbers stand at the right.
const LEFT: [usize; 3] = [0, 2, 13];

/// Collects rows and prints them.
pub struct Report {
    json: bool,
    rows: Vec<Row>,
}

/// A stretch of a cell's measured time.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub from: Duration,
    pub to: Duration,
}

/// What one group saw on one path in one cell, or all of a cell together.
#[derive(Debug, Clone, Serialize)]
struct Row {
    path: String,
    #[serde(rename = "with")]
    mark: &'static str,
    tokens: Option<usize>,
    mode: &'static str,
    clients: usize,
    #[serde(flatten)]
    figures: Figures,
    errors: BTreeMap<String, u64>,
    sources: BTreeMap<String, u64>,
    /// Of the whole cell: the server does not know which call its time went to.
    server_cpu_ms_per_request: Option<f64>,
    /// Cores that the server kept busy.
    server_cores: Option<f64>,
    server_rss_mb: Option<f64>,
    server_rss_peak_mb: Option<f64>,
}

/// Throughput and latency.
#[derive(Debug, Clone, Copy, Serialize)]
struct Figures {
    requests_per_s: f64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
    failed: u64,
}

impl Figures {
    /// Calls that began before the time did and ended in it make up for those that outlast it.
    fn of(outcomes: &Outcomes, time: Duration) -> Self {
        let ms = |quantile| outcomes.latency_us.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            requests_per_s: outcomes.answered() as f64 / time.as_secs_f64(),
            p50_ms: ms(0.5),
            p90_ms: ms(0.9),
            p99_ms: ms(0.99),
            p999_ms: ms(0.999),
            max_ms: outcomes.latency_us.max() as f64 / 1000.0,
            failed: outcomes.failed(),
        }
    }
}

impl Report {
    pub fn new(json: bool) -> Self {
        Self { json, rows: Vec::new() }
    }

    /// Prints what one stretch of a running cell was like; `usage` before and after it.
    pub fn interim(&self, cell: &Cell, tallies: &[Arc<Tally>], span: Span, usage: Option<(Usage, Usage)>) {
        let time = span.to - span.from;
        let cores = usage.map(|(before, after)| cores(before, after, time));
        let rss_mb = usage.map(|(_, after)| after.rss_mb);
        let spent = cores.zip(rss_mb).map_or_else(String::new, |(cores, rss_mb)| {
            format!("; server {cores:.2} cores, RSS {rss_mb:.0} MB")
        });
        for (path, _, kind, group) in paths(cell) {
            let path = path + cell.mark;
            let figures = Figures::of(&tallies[group].take_interval(kind), time);
            let (clients, to_s) = (clients(cell, group), span.to.as_secs());
            if self.json {
                print_json(&Interim { interim: true, path, clients, to_s, figures, cores, rss_mb });
                continue;
            }
            let Figures { requests_per_s, p50_ms, p99_ms, max_ms, failed, .. } = figures;
            anstream::println!(
                "{to_s:>5} s  {path}: {requests_per_s:.0} req/s, p50 {p50_ms:.3}, p99 {p99_ms:.3}, \
                 max {max_ms:.1} ms, {failed} errors{spent}"
            );
        }
    }

    /// Notes a finished cell; `usage` before and after it.
    pub fn cell(&mut self, cell: &Cell, tallies: &[Arc<Tally>], usage: Option<(Usage, Usage)>) {
        let mut all = Outcomes::new();
        let mut rows = Vec::new();
        for (path, tokens, kind, group) in paths(cell) {
            let outcomes = tallies[group].outcomes(kind);
            all.add(&outcomes);
            rows.push(Row::new(path, tokens, cell, clients(cell, group), outcomes));
        }
        if rows.len() > 1 {
            let together = (0..cell.groups.len()).map(|group| clients(cell, group)).sum();
            rows.push(Row::new(format!("{} (all)", cell.name), None, cell, together, all.clone()));
        }
        if let (Some((before, after)), Some(row)) = (usage, rows.last_mut()) {
            let cpu_ms = after.cpu_ms - before.cpu_ms;
            row.server_cpu_ms_per_request = Some(cpu_ms / all.answered().max(1) as f64);
            row.server_cores = Some(cores(before, after, cell.measure));
            row.server_rss_mb = Some(after.rss_mb);
            row.server_rss_peak_mb = Some(after.rss_peak_mb);
        }
        if self.json {
            rows.iter().for_each(print_json);
        }
        self.rows.append(&mut rows);
    }

    /// Returns whether a call failed.
    pub fn has_failed(&self) -> bool {
        self.rows.iter().any(|row| row.figures.failed > 0)
    }

    /// Prints the table, what went wrong, and how servers compare; returns the latter.
    pub fn finish(&self) -> Vec<Ratio> {
        let samples: Vec<Sample> = self.rows.iter().map(Row::sample).collect();
        let ratios = ratios(&samples);
        if self.json {
            ratios.iter().for_each(print_json);
            return ratios;
        }
        let cells: Vec<[String; COLUMNS.len()]> = self.rows.iter().map(Row::cells).collect();
        anstream::println!("{}", table(COLUMNS, &cells, &LEFT));
        for row in &self.rows {
            for (why, count) in &row.errors {
                anstream::println!("{} with {} clients: {count} x {why}", row.name(), row.clients);
            }
        }
        for Ratio { row, with, rounds, p50, p90, p99, p99_range: [lowest, highest] } in &ratios {
            anstream::println!(
                "{row}: {with} / without, medians of {rounds} rounds: p50 {p50:.2}, p90 {p90:.2}, p99 {p99:.2} \
                 ({lowest:.2} to {highest:.2})"
            );
        }
        ratios
    }
}

/// A line of the cell that still runs.
#[derive(Serialize)]
struct Interim {
    interim: bool,
    path: String,
    clients: usize,
    to_s: u64,
    #[serde(flatten)]
    figures: Figures,
    #[serde(rename = "server_cores")]
    cores: Option<f64>,
    #[serde(rename = "server_rss_mb")]
    rss_mb: Option<f64>,
}

/// Returns how many cores a process kept busy.
fn cores(before: Usage, after: Usage, time: Duration) -> f64 {
    (after.cpu_ms - before.cpu_ms) / 1000.0 / time.as_secs_f64()
}

/// Returns the name, text length, path and group of each row of a cell.
fn paths(cell: &Cell) -> Vec<(String, Option<usize>, Kind, usize)> {
    let kinds = cell.groups.iter().enumerate().flat_map(|(group, clients)| {
        clients.ask.kinds().iter().map(move |&kind| (clients.ask.tokens(kind), kind, group))
    });
    let several = kinds.clone().count() > 1;
    kinds
        .map(|(tokens, kind, group)| {
            let path = match kind {
                Kind::Fast => "fast",
                Kind::Classifier => "classifier",
            };
            let name = if several { format!("{} ({path})", cell.name) } else { cell.name.clone() };
            (name, tokens, kind, group)
        })
        .collect()
}

fn clients(cell: &Cell, group: usize) -> usize {
    cell.groups[group].arrivals.concurrency()
}

impl Row {
    fn new(path: String, tokens: Option<usize>, cell: &Cell, clients: usize, outcomes: Outcomes) -> Self {
        let mode = match cell.groups[0].arrivals {
            Arrivals::Closed { .. } => "closed",
            Arrivals::Open { .. } => "open",
        };
        let figures = Figures::of(&outcomes, cell.measure);
        let Outcomes { errors, sources, .. } = outcomes;
        Self {
            path,
            mark: cell.mark,
            tokens,
            mode,
            clients,
            figures,
            errors,
            sources,
            server_cpu_ms_per_request: None,
            server_cores: None,
            server_rss_mb: None,
            server_rss_peak_mb: None,
        }
    }

    fn name(&self) -> String {
        format!("{}{}", self.path, self.mark)
    }

    fn sample(&self) -> Sample {
        let Self { path, mark, tokens, mode, clients, figures, .. } = self;
        let tokens = tokens.map_or_else(String::new, |tokens| format!(", {tokens} tokens"));
        let Figures { p50_ms, p90_ms, p99_ms, .. } = *figures;
        Sample { row: format!("{path}{tokens}, {mode}, {clients} clients"), mark, p50_ms, p90_ms, p99_ms }
    }

    fn cells(&self) -> [String; COLUMNS.len()] {
        let ms = |value: f64| format!("{value:.3}");
        let known = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let Figures { requests_per_s, p50_ms, p90_ms, p99_ms, p999_ms, max_ms, failed } = self.figures;
        [
            self.name(),
            known(self.tokens.map(|tokens| tokens.to_string())),
            self.mode.to_owned(),
            self.clients.to_string(),
            format!("{requests_per_s:.1}"),
            ms(p50_ms),
            ms(p90_ms),
            ms(p99_ms),
            ms(p999_ms),
            ms(max_ms),
            failed.to_string(),
            known(self.server_cpu_ms_per_request.map(ms)),
            known(
                self.server_rss_mb
                    .zip(self.server_rss_peak_mb)
                    .map(|(now, peak)| format!("{now:.0}/{peak:.0}")),
            ),
            shares(&self.sources),
        ]
    }
}

/// Returns for example "classifier 98.2 %, default 1.8 %".
fn shares(sources: &BTreeMap<String, u64>) -> String {
    let all: u64 = sources.values().sum();
    let share = |count: u64| count as f64 / all as f64 * 100.0;
    let shares: Vec<String> =
        sources.iter().map(|(name, &count)| format!("{name} {:.1} %", share(count))).collect();
    if shares.is_empty() { "-".to_owned() } else { shares.join(", ") }
}
