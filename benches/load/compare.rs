//! What is measured with and without something, in turn: ratios of each round, and the middle one of them.
//!
//! Rounds of one run share the state of the machine, so that their ratios hold where absolute times do not.

use std::collections::BTreeMap;

use serde::Serialize;

/// What one round saw on one path of one server.
#[derive(Debug, Clone)]
pub struct Sample {
    /// What rows must share to be compared: path, length of texts, mode, clients.
    pub row: String,
    /// What the server does; the first server's is what the others are compared with.
    pub mark: &'static str,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
}

/// How one server's latency stands to the first one's: medians of the rounds' ratios.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ratio {
    pub row: String,
    /// What the server does that the first one does not.
    pub with: String,
    pub rounds: usize,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    /// Lowest and highest ratio of a round's 99th percentiles.
    pub p99_range: [f64; 2],
}

/// Returns the ratios of every row that several servers have, in order; samples come in the order of their rounds.
pub fn ratios(samples: &[Sample]) -> Vec<Ratio> {
    let Some(first) = samples.first() else { return Vec::new() };
    let mut rows: BTreeMap<(&str, &str), Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        rows.entry((&sample.row, sample.mark)).or_default().push(sample);
    }
    let compared = rows.iter().filter(|((_, mark), _)| *mark != first.mark);
    compared
        .filter_map(|(&(row, mark), with)| {
            let without = rows.get(&(row, first.mark))?;
            let of = |figure: fn(&Sample) -> f64| {
                let pairs = with.iter().zip(without).map(|(with, without)| figure(with) / figure(without));
                let mut ratios: Vec<f64> = pairs.collect();
                ratios.sort_by(f64::total_cmp);
                ratios
            };
            let p99 = of(|sample| sample.p99_ms);
            Some(Ratio {
                row: row.to_owned(),
                with: mark.strip_prefix(first.mark).unwrap_or(mark).trim().to_owned(),
                rounds: p99.len(),
                p50: middle(&of(|sample| sample.p50_ms)),
                p90: middle(&of(|sample| sample.p90_ms)),
                p99: middle(&p99),
                p99_range: [p99.first().copied()?, p99.last().copied()?],
            })
        })
        .collect()
}

/// Returns the median of sorted numbers.
fn middle(sorted: &[f64]) -> f64 {
    let at = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 0 => f64::midpoint(sorted[at - 1], sorted[at]),
        _ => sorted[at],
    }
}
