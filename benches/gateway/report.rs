//! Prints what was measured: one row for each load, gateway and moment of the answer; JSON lines on demand.

use std::{collections::BTreeMap, fs, thread};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    client::Shape,
    drive::Load,
    gateways::{DIRECT, Gateway, POINTSMAN},
    measure::{print_json, table::table},
    tally::{Latencies, Tally},
};

const COLUMNS: [&str; 17] = [
    "gateway",
    "upstream ms",
    "until",
    "req/s",
    "(rounds)",
    "p50 ms",
    "p99 ms",
    "mean ms",
    "over p50",
    "over p99",
    "claimed p50/p99",
    "CPU ms/req",
    "RSS MB",
    "errors",
    "x over p50",
    "x over p99",
    "x req/s",
];
/// Columns of words; numbers stand at the right.
const LEFT: [usize; 2] = [0, 2];

/// The moment in a stream that is no end.
const FIRST: &str = "first text";

const LEGEND: &str = "\
over: latency outside the upstream, less that of direct calls at the same load. claimed: what the gateway
says of itself. x: as a multiple of pointsman's. CPU and RSS: of all its processes together.";

/// What one gateway did under one load, to one moment of its answers.
#[derive(Debug, Serialize)]
struct Row {
    gateway: &'static str,
    upstream_ms: f64,
    callers: usize,
    until: &'static str,
    requests: u64,
    failed: u64,
    requests_per_s: f64,
    requests_per_s_rounds: Vec<f64>,
    /// `None` where nothing was answered.
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    mean_ms: Option<f64>,
    /// `None` for direct calls.
    overhead_p50_ms: Option<f64>,
    overhead_p99_ms: Option<f64>,
    claimed_p50_ms: Option<f64>,
    claimed_p99_ms: Option<f64>,
    cpu_ms_per_request: Option<f64>,
    rss_mb: Option<f64>,
    /// This row's figures as multiples of pointsman's.
    overhead_p50_ratio: Option<f64>,
    overhead_p99_ratio: Option<f64>,
    requests_per_s_ratio: Option<f64>,
    errors: BTreeMap<String, u64>,
}

/// Prints everything; `tallies` by load and gateway.
pub fn print(gateways: &[Gateway], loads: &[Load], tallies: &[Vec<Tally>], json: bool) {
    let rows: Vec<Row> =
        loads.iter().zip(tallies).flat_map(|(load, tallies)| rows(gateways, *load, tallies)).collect();
    if json {
        rows.iter().for_each(print_json);
        return;
    }
    let cells: Vec<[String; COLUMNS.len()]> = rows.iter().map(Row::cells).collect();
    anstream::println!("{}\n{LEGEND}", table(COLUMNS, &cells, &LEFT));
    // Both moments of a stream have the same errors.
    let ended = rows.iter().filter(|row| row.until != FIRST);
    for row in ended {
        for (why, count) in &row.errors {
            anstream::println!("{} with {} ms upstream: {count} x {why}", row.gateway, row.upstream_ms);
        }
    }
}

/// Returns the machine's cores and how busy it is, all programs together.
pub fn machine() -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let averages = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let averages: Vec<&str> = averages.split_whitespace().take(3).collect();
    format!("{cores} cores, load average {}", averages.join(" "))
}

fn rows(gateways: &[Gateway], load: Load, tallies: &[Tally]) -> Vec<Row> {
    type Moment = (&'static str, fn(&Tally) -> &Latencies);
    let moments: &[Moment] = match load.shape {
        Shape::Whole => &[("answer", |tally| &tally.whole)],
        Shape::Stream => &[(FIRST, |tally| &tally.first), ("stream's end", |tally| &tally.whole)],
    };
    let mut rows = Vec::new();
    for &(until, latencies) in moments {
        let outside = |name: &str| -> Option<&Histogram<u64>> {
            let at = gateways.iter().position(|gateway| gateway.name == name)?;
            Some(&latencies(&tallies[at]).outside_us)
        };
        let direct = outside(DIRECT);
        let mut group: Vec<Row> = gateways
            .iter()
            .zip(tallies)
            .map(|(gateway, tally)| Row::new(gateway.name, load, (until, latencies(tally)), tally, direct))
            .collect();
        compare(&mut group);
        rows.append(&mut group);
    }
    rows
}

/// Fills in how the rows compare with pointsman's.
fn compare(rows: &mut [Row]) {
    let Some(own) = rows.iter().find(|row| row.gateway == POINTSMAN) else { return };
    let (p50, p99, rate) = (own.overhead_p50_ms, own.overhead_p99_ms, own.requests_per_s);
    // Against nothing, or less than nothing by noise, there is no ratio.
    let ratio = |value: Option<f64>, own: Option<f64>| Some(value? / own.filter(|&own| own > 0.0)?);
    for row in rows {
        row.overhead_p50_ratio = ratio(row.overhead_p50_ms, p50);
        row.overhead_p99_ratio = ratio(row.overhead_p99_ms, p99);
        row.requests_per_s_ratio = ratio(Some(row.requests_per_s), Some(rate));
    }
}

fn ms(histogram: &Histogram<u64>, quantile: f64) -> Option<f64> {
    (!histogram.is_empty()).then(|| histogram.value_at_quantile(quantile) as f64 / 1000.0)
}

impl Row {
    fn new(
        gateway: &'static str,
        load: Load,
        (until, latencies): (&'static str, &Latencies),
        tally: &Tally,
        direct: Option<&Histogram<u64>>,
    ) -> Self {
        let direct = direct.filter(|_| gateway != DIRECT);
        let over = |quantile| Some(ms(&latencies.outside_us, quantile)? - ms(direct?, quantile)?);
        let answered = tally.answered() > 0;
        let spent = gateway != DIRECT && answered && tally.rss_mb > 0.0;
        Self {
            gateway,
            upstream_ms: load.script.opening.as_secs_f64() * 1000.0,
            callers: load.callers,
            until,
            requests: tally.answered(),
            failed: tally.failed(),
            requests_per_s: tally.rates.iter().sum::<f64>() / tally.rates.len().max(1) as f64,
            requests_per_s_rounds: tally.rates.clone(),
            p50_ms: ms(&latencies.all_us, 0.5),
            p99_ms: ms(&latencies.all_us, 0.99),
            mean_ms: answered.then(|| latencies.all_us.mean() / 1000.0),
            overhead_p50_ms: over(0.5),
            overhead_p99_ms: over(0.99),
            claimed_p50_ms: ms(&tally.claimed_us, 0.5),
            claimed_p99_ms: ms(&tally.claimed_us, 0.99),
            cpu_ms_per_request: spent.then(|| tally.cpu_ms / tally.answered() as f64),
            rss_mb: spent.then_some(tally.rss_mb),
            overhead_p50_ratio: None,
            overhead_p99_ratio: None,
            requests_per_s_ratio: None,
            errors: tally.errors.clone(),
        }
    }

    fn cells(&self) -> [String; COLUMNS.len()] {
        let known = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        let times = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
        let slowest = self.requests_per_s_rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let fastest = self.requests_per_s_rounds.iter().copied().fold(0.0, f64::max);
        let claimed = self.claimed_p50_ms.zip(self.claimed_p99_ms);
        [
            self.gateway.to_owned(),
            self.upstream_ms.to_string(),
            self.until.to_owned(),
            format!("{:.0}", self.requests_per_s),
            format!("{slowest:.0}-{fastest:.0}"),
            known(self.p50_ms),
            known(self.p99_ms),
            known(self.mean_ms),
            known(self.overhead_p50_ms),
            known(self.overhead_p99_ms),
            claimed.map_or_else(|| "-".to_owned(), |(p50, p99)| format!("{p50:.3}/{p99:.3}")),
            known(self.cpu_ms_per_request),
            self.rss_mb.map_or_else(|| "-".to_owned(), |rss_mb| format!("{rss_mb:.0}")),
            self.failed.to_string(),
            times(self.overhead_p50_ratio),
            times(self.overhead_p99_ratio),
            times(self.requests_per_s_ratio),
        ]
    }
}
