//! Measures pointsman as a gateway: what it adds to the latency of chat completions, how many it passes on a
//! second, and what callers leave behind who hang up amid a stream; side by side with direct calls and with
//! other gateways, in one run.
//!
//! ```sh
//! cargo bench --bench gateway -- --spawn target/release/pointsman
//! cargo bench --bench gateway -- --spawn target/release/pointsman --stream
//! cargo bench --bench gateway -- --spawn target/release/pointsman --abandon 10000
//! cargo bench --bench gateway -- --spawn target/release/pointsman \
//!     --litellm venv/bin/litellm --portkey node_modules/@portkey-ai/gateway
//! ```
//!
//! The upstream is a mock in this process. Two loads are run by default. With an upstream that takes 20 ms the
//! callers mostly wait, as they do for a model: the latency beyond the upstream's own time is the overhead of a
//! gateway at that many calls in flight. With one that answers at once everything is as busy as it can be: that
//! shows the throughput, and its latencies are queues. Callers, gateway and upstream share the machine's cores.
//!
//! All callers ask the same greeting, which a default rule of pointsman decides; its logs are on, as JSON. Its
//! stream guard holds back the first characters of a stream; the mock's first piece is longer than that.

mod abandon;
mod client;
mod drive;
mod gateways;
mod mark;
#[path = "../measure/mod.rs"]
mod measure;
mod mock;
mod pauses;
mod report;
mod tally;

use std::{io, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;

use abandon::Abandon;
use client::Shape;
use drive::{Load, Times};
use gateways::{DIRECT, Gateway, POINTSMAN, Setting};
use measure::process::ProcessError;
use mock::{Mock, Script};
use tally::Tally;

/// Measures pointsman as a gateway, beside direct calls and other gateways.
#[derive(Debug, Parser)]
#[command(name = "gateway", max_term_width = 100)]
struct Arguments {
    /// The pointsman binary to measure.
    #[arg(long, value_name = "PATH")]
    spawn: Option<PathBuf>,
    /// LiteLLM's program, for example venv/bin/litellm of `pip install 'litellm[proxy]'`.
    #[arg(long, value_name = "PATH")]
    litellm: Option<PathBuf>,
    /// The folder of Portkey's package, for example node_modules/@portkey-ai/gateway; needs node.
    #[arg(long, value_name = "FOLDER")]
    portkey: Option<PathBuf>,
    /// Callers; each makes its next call when it has its answer.
    #[arg(long, default_value = "16", value_parser = clap::value_parser!(u16).range(1..=4096))]
    concurrency: u16,
    /// How long the upstream takes, milliseconds; several make several loads.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "20,0",
          value_parser = clap::value_parser!(u16).range(0..=10_000))]
    upstream_ms: Vec<u16>,
    /// Measured length of each load, gateway and round, seconds.
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Milliseconds before each that are not measured.
    #[arg(long, default_value = "1000", value_parser = clap::value_parser!(u64).range(0..=60_000))]
    warmup_ms: u64,
    /// How often each gateway has its turn.
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Ask for streams: time to the first text and to the end.
    #[arg(long)]
    stream: bool,
    /// Pieces of each stream.
    #[arg(long, default_value = "32", value_parser = clap::value_parser!(u16).range(2..=10_000))]
    chunks: u16,
    /// Milliseconds between two pieces.
    #[arg(long, default_value = "0", value_parser = clap::value_parser!(u16).range(0..=1000))]
    chunk_ms: u16,
    /// Instead, open this many streams of pointsman and hang up; exits with 1 when something stays behind.
    #[arg(long, value_name = "STREAMS", requires = "spawn",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    abandon: Option<u32>,
    /// Streams to abandon that are open at the same time; each takes two files of this process.
    #[arg(long, default_value = "500", value_parser = clap::value_parser!(u16).range(1..=4096))]
    at_once: u16,
    /// How often all streams are opened and abandoned.
    #[arg(long, default_value = "6", value_parser = clap::value_parser!(u16).range(3..=100))]
    cycles: u16,
    /// Level of pointsman's log.
    #[arg(long, default_value = "info")]
    log_level: String,
    /// Print JSON lines instead of a table.
    #[arg(long)]
    json: bool,
    /// What `cargo bench` gives to every bench.
    #[arg(long, hide = true)]
    bench: bool,
    /// What test runners give: nothing is measured.
    #[arg(long, hide = true)]
    test: bool,
}

const HINT: &str = "gateway: nothing to measure. Name a binary with --spawn target/release/pointsman.";

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
enum GatewayError {
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("{name}: {why}")]
    NotReady { name: &'static str, why: String },
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{what}: {error}")]
    Io { what: &'static str, error: io::Error },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let named = arguments.spawn.is_some() || arguments.litellm.is_some() || arguments.portkey.is_some();
    // `cargo test --benches` and a plain `cargo bench` run every bench.
    if arguments.test || !named {
        anstream::println!("{HINT}");
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(problems) if problems.is_empty() => ExitCode::SUCCESS,
        Ok(problems) => {
            problems.iter().for_each(|problem| anstream::eprintln!("gateway: {problem}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            anstream::eprintln!("gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns what went wrong that ought not to.
fn run(arguments: &Arguments) -> Result<Vec<String>, GatewayError> {
    let folder = tempfile::tempdir().map_err(|error| GatewayError::Io { what: "making a folder", error })?;
    let loads = loads(arguments);
    let mock = Mock::start(loads[0].script)
        .map_err(|error| GatewayError::Io { what: "starting the upstream", error })?;
    let setting = Setting { upstream: mock.address, folder: folder.path() };
    let pointsman = arguments.spawn.as_deref();
    let pointsman =
        pointsman.map(|binary| Gateway::pointsman(binary, &arguments.log_level, &setting)).transpose()?;
    if let (Some(streams), Some(pointsman)) = (arguments.abandon, &pointsman) {
        let abandon = Abandon {
            streams: streams as usize,
            at_once: usize::from(arguments.at_once),
            cycles: usize::from(arguments.cycles),
        };
        let leaks = abandon::run(&mock, pointsman, abandon, arguments.json)?;
        if leaks.is_empty() {
            anstream::eprintln!("nothing stays behind");
        }
        return Ok(leaks);
    }

    let mut gateways = vec![Gateway::direct(mock.address)];
    gateways.extend(pointsman);
    if let Some(program) = &arguments.litellm {
        gateways.push(Gateway::litellm(program, &setting)?);
    }
    if let Some(package) = &arguments.portkey {
        gateways.push(Gateway::portkey(package, &setting)?);
    }
    anstream::eprintln!("{} callers; at the start {}", arguments.concurrency, report::machine());
    let times = Times {
        rounds: usize::from(arguments.rounds),
        warm_up: Duration::from_millis(arguments.warmup_ms),
        measure: Duration::from_secs(arguments.seconds),
    };
    let tallies = drive::run(&mock, &gateways, &loads, times)?;
    anstream::eprintln!("at the end {}", report::machine());
    report::print(&gateways, &loads, &tallies, arguments.json);
    Ok(failures(&gateways, &tallies))
}

fn loads(arguments: &Arguments) -> Vec<Load> {
    let shape = if arguments.stream { Shape::Stream } else { Shape::Whole };
    let load = |&upstream_ms: &u16| Load {
        shape,
        script: Script {
            opening: Duration::from_millis(u64::from(upstream_ms)),
            chunks: usize::from(arguments.chunks),
            chunk_every: Duration::from_millis(u64::from(arguments.chunk_ms)),
        },
        callers: usize::from(arguments.concurrency),
    };
    arguments.upstream_ms.iter().map(load).collect()
}

/// Returns how many calls of pointsman, and direct ones, failed; the errors of others are in the table only.
fn failures(gateways: &[Gateway], tallies: &[Vec<Tally>]) -> Vec<String> {
    let mut failures = Vec::new();
    for (at, gateway) in gateways.iter().enumerate() {
        let failed: u64 = tallies.iter().map(|tallies| tallies[at].failed()).sum();
        if failed > 0 && (gateway.name == POINTSMAN || gateway.name == DIRECT) {
            failures.push(format!("{}: {failed} calls failed", gateway.name));
        }
    }
    failures
}
