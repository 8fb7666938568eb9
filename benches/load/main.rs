//! Loads a running server with `Route` calls and prints what callers see: latency, throughput,
//! errors, who decided, and what the server's process spends.
//!
//! `cargo bench --bench load -- --spawn target/release/pointsman` starts a server for the run.
//! Client and server share the machine's cores unless `--address` names another machine: the
//! figures are then what the machine does for both, not what the server alone could do.

#[path = "../bundles/mod.rs"]
mod bundles;
mod compare;
mod drive;
#[path = "../measure/mod.rs"]
mod measure;
mod report;
mod servers;
mod tally;
mod texts;

use std::{io, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{Parser, ValueEnum};
use tonic::transport::Endpoint;

use compare::Ratio;
use drive::{Arrivals, Ask, Cell, Group};
use measure::process::ProcessError;
use report::Report;
use texts::Texts;

const DEFAULT_ADDRESS: &str = "http://127.0.0.1:50051";
/// A server is there or it is not.
const CONNECT_MAX: Duration = Duration::from_secs(2);
const CLIENTS_BY_DEFAULT: [usize; 3] = [1, 8, 64];
/// Calls of an open loop that wait at once; with more, the server has long been overrun.
const WAITING_BY_DEFAULT: usize = 512;
/// Clients that keep the classifier busy while one measures the fast path.
const SATURATING_CLIENTS: usize = 64;
const CONNECTIONS_BY_DEFAULT: usize = 8;
/// Most clients or connections: one process has no more open files.
const COUNT_MAX: usize = 10_000;

/// Loads a pointsman server with Route calls; prints latency, throughput and the server's CPU time.
#[derive(Debug, Parser)]
#[command(name = "load", max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    /// Server to load [default: http://127.0.0.1:50051].
    #[arg(long, value_name = "URL", conflicts_with = "spawn")]
    address: Option<String>,
    /// Start this server binary on a free port, and stop it at the end.
    #[arg(long, value_name = "PATH")]
    spawn: Option<PathBuf>,
    /// Configuration file of the spawned server.
    #[arg(long, value_name = "FILE", requires = "spawn")]
    config: Option<PathBuf>,
    /// Process whose CPU time and memory are read; that of a spawned server is known.
    #[arg(long, conflicts_with = "spawn")]
    pid: Option<u32>,
    /// Whether the spawned server keeps a traffic log, in a folder of its own; both: two servers in turn, one
    /// without and one with it.
    #[arg(long, value_enum, default_value = "off")]
    traffic: Either,
    /// Whether a bundle scores beside the active one on the spawned server; both: two servers in turn, one without
    /// and one with it.
    #[arg(long, value_enum, default_value = "off", requires = "spawn")]
    shadow: Either,
    /// The bundle that scores beside the active one [default: the shipped one, once more].
    #[arg(long, value_name = "FOLDER", requires = "shadow")]
    shadow_bundle: Option<PathBuf>,
    /// Share of requests that it scores too.
    #[arg(long, default_value = "0.1", value_parser = share)]
    shadow_sample: f64,
    /// How often everything is measured, in turn.
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// What is asked; several make several rows.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "fast,classifier")]
    path: Vec<Traffic>,
    /// closed: each client waits for its answer; open: calls arrive at --rate, and latency counts
    /// from when a call was due.
    #[arg(long, value_enum, default_value = "closed")]
    mode: Mode,
    /// Clients; in an open loop, calls that wait at once [default: 1,8,64; open: 512].
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = count)]
    concurrency: Vec<usize>,
    /// Calls a second of an open loop.
    #[arg(long, value_name = "PER_SECOND", default_value = "200", value_parser = rate)]
    rate: f64,
    /// Tokens of each text for the classifier, [CLS] and [SEP] included.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "20",
          value_parser = clap::value_parser!(u16).range(texts::TOKENS_MIN..=4096))]
    tokens: Vec<u16>,
    /// Measured length of each cell, seconds; from 10 on, a line is printed every 5 seconds.
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Seconds before each cell that are not measured.
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u64).range(0..=3600))]
    warmup: u64,
    /// Connections that the clients share [default: one a client, at most 8].
    #[arg(long, value_parser = count)]
    connections: Option<usize>,
    /// Highest ratio of 99th percentiles, with what is measured by "both" and without, as the median of the rounds, of
    /// which one is too few. Above it, or where a call failed, the exit code is 1.
    #[arg(long, value_name = "RATIO", requires = "spawn", value_parser = ratio)]
    p99_ratio_max: Option<f64>,
    /// Print JSON lines instead of a table.
    #[arg(long)]
    json: bool,
    /// What `cargo bench` gives to every bench.
    #[arg(long, hide = true)]
    bench: bool,
    /// What test runners give: nothing is loaded.
    #[arg(long, hide = true)]
    test: bool,
}

const EXAMPLES: &str = "\
Examples:
  cargo bench --bench load -- --spawn target/release/pointsman
  cargo bench --bench load -- --spawn target/release/pointsman --path fast-under-load
  cargo bench --bench load -- --path classifier --tokens 20,32,128 --concurrency 1
  cargo bench --bench load -- --path classifier --concurrency 64 --seconds 60
  cargo bench --bench load -- --path classifier --mode open --rate 300
  cargo bench --bench load -- --spawn target/release/pointsman --traffic both --rounds 5 \
    --path fast,cached --mode open --rate 2000
  cargo bench --bench load -- --spawn target/release/pointsman --shadow both --rounds 5 \
    --path classifier,mixed --mode open --rate 150";

const HINT: &str =
    "load: no server to load. Start one with --spawn target/release/pointsman, or name one with --address.";

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Traffic {
    /// Short texts that a default rule decides.
    Fast,
    /// Texts that no default rule knows, each of them new.
    Classifier,
    /// Texts of the classifier that it has read before: its cache answers.
    Cached,
    /// Fast and classifier in turn.
    Mixed,
    /// One client on the fast path while 64 others saturate the classifier.
    FastUnderLoad,
}

/// Whether a spawned server does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Either {
    Off,
    On,
    Both,
}

impl Either {
    fn each(self) -> &'static [bool] {
        match self {
            Self::Off => &[false],
            Self::On => &[true],
            Self::Both => &[false, true],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Closed,
    Open,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("{address}: {why}")]
    Server { address: String, why: String },
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("{what}: {error}")]
    Io { what: &'static str, error: io::Error },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let named = arguments.address.is_some() || arguments.spawn.is_some();
    // `cargo test --benches` gives no argument at all: it must not load whatever listens here.
    if arguments.test || !(named || arguments.bench) {
        anstream::println!("{HINT}");
        return ExitCode::SUCCESS;
    }
    if arguments.p99_ratio_max.is_some() && ![arguments.traffic, arguments.shadow].contains(&Either::Both) {
        anstream::eprintln!("load: --p99-ratio-max needs --traffic both or --shadow both");
        return ExitCode::from(2);
    }
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // A plain `cargo bench` runs every bench, with or without a server.
        Err(LoadError::Server { .. }) if !named => {
            anstream::println!("{HINT}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            anstream::eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether ratios are no higher than they may be, and nothing failed, where that was asked.
fn run(arguments: &Arguments) -> Result<bool, LoadError> {
    let servers = servers::servers(arguments)?;
    let texts = Arc::new(Texts::new());
    let mut report = Report::new(arguments.json);
    let outcome = (0..arguments.rounds).try_for_each(|_| {
        cells(arguments).into_iter().try_for_each(|cell| {
            servers.iter().try_for_each(|server| {
                let cell = Cell { mark: server.mark, ..cell.clone() };
                drive::run(&cell, &server.endpoint, &texts, server.process, &mut report)
            })
        })
    });
    // What was measured before a server went away is worth its line.
    let ratios = report.finish();
    outcome?;
    let Some(most) = arguments.p99_ratio_max else { return Ok(true) };
    let is_within = |ratio: &Ratio| ratio.p99 <= most;
    Ok(!ratios.is_empty() && ratios.iter().all(is_within) && !report.has_failed())
}

fn endpoint(address: &str) -> Result<Endpoint, LoadError> {
    Endpoint::from_shared(address.to_owned())
        .map(|endpoint| endpoint.connect_timeout(CONNECT_MAX))
        .map_err(|error| LoadError::Server { address: address.to_owned(), why: error.to_string() })
}

/// Returns every combination that was asked for, in the order in which it is printed.
fn cells(arguments: &Arguments) -> Vec<Cell> {
    let concurrency = match (arguments.concurrency.as_slice(), arguments.mode) {
        ([], Mode::Closed) => CLIENTS_BY_DEFAULT.to_vec(),
        ([], Mode::Open) => vec![WAITING_BY_DEFAULT],
        (given, _) => given.to_vec(),
    };
    let group = |ask, arrivals| Group {
        ask,
        arrivals,
        connections: arguments.connections.unwrap_or(CONNECTIONS_BY_DEFAULT.min(arrivals.concurrency())),
    };
    let cell = |name: &str, groups| Cell {
        name: name.to_owned(),
        mark: "",
        groups,
        warm_up: Duration::from_secs(arguments.warmup),
        measure: Duration::from_secs(arguments.seconds),
    };
    let arrivals = |concurrency| match arguments.mode {
        Mode::Closed => Arrivals::Closed { clients: concurrency },
        Mode::Open => Arrivals::Open { per_second: arguments.rate, waiting_max: concurrency },
    };
    let every = |name: &str, ask: Ask| -> Vec<Cell> {
        concurrency.iter().map(|&concurrency| cell(name, vec![group(ask, arrivals(concurrency))])).collect()
    };
    let tokens = || arguments.tokens.iter().map(|&tokens| usize::from(tokens));
    arguments
        .path
        .iter()
        .flat_map(|traffic| match traffic {
            Traffic::Fast => every("fast", Ask::Fast),
            Traffic::Classifier => {
                tokens().flat_map(|tokens| every("classifier", Ask::Classifier { tokens })).collect()
            }
            Traffic::Cached => tokens().flat_map(|tokens| every("cached", Ask::Cached { tokens })).collect(),
            Traffic::Mixed => tokens().flat_map(|tokens| every("mixed", Ask::Mixed { tokens })).collect(),
            Traffic::FastUnderLoad => tokens()
                .map(|tokens| {
                    let others = Arrivals::Closed { clients: SATURATING_CLIENTS };
                    let one = Arrivals::Closed { clients: 1 };
                    let groups = vec![group(Ask::Fast, one), group(Ask::Classifier { tokens }, others)];
                    cell("fast-under-load", groups)
                })
                .collect(),
        })
        .collect()
}

fn count(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=COUNT_MAX).contains(count))
        .ok_or_else(|| format!("expected a number from 1 to {COUNT_MAX}"))
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio| (0.1..=1000.0).contains(ratio));
    ratio.ok_or_else(|| "expected a number from 0.1 to 1000".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|rate| (0.01..=1e6).contains(rate))
        .ok_or_else(|| "expected a number from 0.01 to 1000000".to_owned())
}
