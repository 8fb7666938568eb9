//! Exchanges bundles and configurations under full load, and prints what callers notice: failed calls, decisions that
//! mix two states, latency beside an undisturbed run, and memory before and after.
//!
//! `cargo bench --bench swap -- --spawn target/release/pointsman`

#[path = "../bundles/mod.rs"]
mod bundles;
mod clients;
#[allow(dead_code, reason = "other benches print tables")]
#[path = "../measure/mod.rs"]
mod measure;
#[allow(dead_code, reason = "the load bench asks more kinds of texts")]
#[path = "../load/texts.rs"]
mod texts;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use clap::Parser;
use pointsman::server::proto::{
    ActivateBundleRequest, ReloadConfigRequest, admin_service_client::AdminServiceClient,
};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use clients::{Clients, Seen};
use measure::{
    process::{Process, ProcessError, SpawnedServer},
    runtime,
};

/// Longest wait for one exchange: a bundle is loaded and verified while all cores are busy.
const EXCHANGE_MAX: Duration = Duration::from_secs(120);
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// Old sessions are freed soon after their last request; so long is waited for the memory to come back.
const SETTLE_MAX: Duration = Duration::from_secs(20);

/// Exchanges bundles and configurations under full load; prints what callers notice.
#[derive(Debug, Parser)]
#[command(name = "swap", max_term_width = 100)]
struct Arguments {
    /// Start this server binary on free ports, and stop it at the end.
    #[arg(long, value_name = "PATH")]
    spawn: Option<PathBuf>,
    /// Bundles that are activated in turn, at least two of different versions [default: the shipped one, and the same
    /// under another version].
    #[arg(long, value_name = "FOLDER")]
    bundle: Vec<PathBuf>,
    /// Callers of Route, each waiting for its answer; half of what they ask needs the classifier.
    #[arg(long, default_value = "64", value_parser = clap::value_parser!(u16).range(1..=1000))]
    clients: u16,
    /// Exchanges of the bundle, and reloads of the configuration beside them.
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    exchanges: u16,
    /// Highest ratio of the 99th percentiles with exchanges and without; above it the exit code is 1.
    #[arg(long, value_name = "RATIO", default_value = "2")]
    p99_ratio_max: f64,
    /// Highest ratio of memory after the last exchange and before the first; above it the exit code is 1.
    #[arg(long, value_name = "RATIO", default_value = "1.1")]
    memory_ratio_max: f64,
    /// Seconds of the undisturbed run before.
    #[arg(long, default_value = "20", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// What `cargo bench` gives to every bench.
    #[arg(long, hide = true)]
    bench: bool,
    /// What test runners give: nothing is loaded.
    #[arg(long, hide = true)]
    test: bool,
}

const HINT: &str = "swap: nothing to load. Name a server with --spawn target/release/pointsman.";
/// Version of the shipped bundle's second copy.
const RENAMED: &str = "0.0.0-copy";

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
enum SwapError {
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("{what}: {error}")]
    Io { what: &'static str, error: io::Error },
    #[error("{}: {error}", folder.display())]
    Bundle { folder: PathBuf, error: io::Error },
    #[error("{0}")]
    Server(String),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (Some(binary), false) = (&arguments.spawn, arguments.test) else {
        anstream::println!("{HINT}");
        return ExitCode::SUCCESS;
    };
    match run(&arguments, binary) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            anstream::eprintln!("swap: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether no call failed, no decision mixed two states, and latency and memory stayed within their ratios.
fn run(arguments: &Arguments, binary: &Path) -> Result<bool, SwapError> {
    let server = Served::start(binary, &arguments.bundle)?;
    let clients = Clients::start(&server.grpc, arguments.clients)?;
    // What is read for the first time, and pools that grow, are no part of what is compared.
    std::thread::sleep(Duration::from_secs(3));
    clients.take();
    std::thread::sleep(Duration::from_secs(arguments.seconds));
    let undisturbed = clients.take();
    let before_mb = server.resident_mb();
    let exchanged = exchange(arguments, &server)?;
    let disturbed = clients.take();
    clients.stop();
    let after_mb = settled(&server, before_mb);
    let mixed = disturbed.mixed();
    report(arguments, &undisturbed, &disturbed, &exchanged, &mixed, [before_mb, after_mb]);
    let within = p99_ratio(&undisturbed, &disturbed) <= arguments.p99_ratio_max
        && after_mb <= before_mb * arguments.memory_ratio_max;
    Ok(within && mixed.is_empty() && disturbed.failed() == 0 && undisturbed.failed() == 0)
}

/// How long every exchange took.
struct Exchanged {
    activations: Vec<Duration>,
    reloads: Vec<Duration>,
}

/// Activates bundles in turn, and reloads the configuration beside that.
fn exchange(arguments: &Arguments, server: &Served) -> Result<Exchanged, SwapError> {
    let runtime = runtime().map_err(|error| SwapError::Io { what: "starting the runtime", error })?;
    runtime.block_on(async {
        let connect = || async { AdminServiceClient::connect(server.admin.clone()).await };
        let failed = |what: &str, why: String| SwapError::Server(format!("{what}: {why}"));
        let mut admin = connect().await.map_err(|error| failed("admin listener", error.to_string()))?;
        let mut other: AdminServiceClient<Channel> =
            connect().await.map_err(|error| failed("admin listener", error.to_string()))?;
        let activate = async {
            let mut took = Vec::new();
            for turn in 0..usize::from(arguments.exchanges) {
                let version = server.versions[turn % server.versions.len()].clone();
                let started = Instant::now();
                let answer = admin
                    .activate_bundle(ActivateBundleRequest { version: version.clone(), why: String::new() })
                    .await;
                answer.map_err(|status| failed(&version, status.message().to_owned()))?;
                took.push(started.elapsed());
            }
            Ok::<_, SwapError>(took)
        };
        let reload = async {
            let mut took = Vec::new();
            for turn in 0..arguments.exchanges {
                server.write_config(turn + 1)?;
                let started = Instant::now();
                let answer = other.reload_config(ReloadConfigRequest::default()).await;
                answer.map_err(|status| failed("reload", status.message().to_owned()))?;
                took.push(started.elapsed());
            }
            Ok::<_, SwapError>(took)
        };
        let (activations, reloads) = tokio::try_join!(activate, reload)?;
        Ok(Exchanged { activations, reloads })
    })
}

/// Waits until memory is back, or for as long as it may take.
fn settled(server: &Served, before_mb: f64) -> f64 {
    let started = Instant::now();
    loop {
        let now = server.resident_mb();
        if now <= before_mb || started.elapsed() > SETTLE_MAX {
            return now;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn percentile_ms(seen: &Seen, at: f64) -> f64 {
    seen.latency_us.value_at_quantile(at) as f64 / 1e3
}

fn p99_ratio(undisturbed: &Seen, disturbed: &Seen) -> f64 {
    percentile_ms(disturbed, 0.99) / percentile_ms(undisturbed, 0.99)
}

fn report(
    arguments: &Arguments,
    undisturbed: &Seen,
    disturbed: &Seen,
    exchanged: &Exchanged,
    mixed: &[String],
    [before_mb, after_mb]: [f64; 2],
) {
    let longest = |all: &[Duration]| all.iter().max().copied().unwrap_or_default().as_secs_f64() * 1e3;
    let middle = |all: &[Duration]| {
        let mut all = all.to_vec();
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    let line = serde_json::json!({
        "clients": arguments.clients,
        "activations": exchanged.activations.len(),
        "reloads": exchanged.reloads.len(),
        "undisturbed": {"calls": undisturbed.latency_us.len(), "failed": undisturbed.failed(),
            "p50_ms": percentile_ms(undisturbed, 0.5), "p99_ms": percentile_ms(undisturbed, 0.99),
            "per_second": undisturbed.per_second()},
        "disturbed": {"calls": disturbed.latency_us.len(), "failed": disturbed.failed(),
            "p50_ms": percentile_ms(disturbed, 0.5), "p99_ms": percentile_ms(disturbed, 0.99),
            "per_second": disturbed.per_second(), "generations": disturbed.generations(), "errors": disturbed.errors},
        "p99_ratio": p99_ratio(undisturbed, disturbed),
        "mixed": mixed,
        "activation_ms": {"median": middle(&exchanged.activations), "longest": longest(&exchanged.activations)},
        "reload_ms": {"median": middle(&exchanged.reloads), "longest": longest(&exchanged.reloads)},
        "resident_mb": {"before": before_mb, "after": after_mb, "ratio": after_mb / before_mb},
    });
    if arguments.json {
        measure::print_json(&line);
        return;
    }
    anstream::println!(
        "{} clients, {} activations and {} reloads beside them",
        arguments.clients,
        exchanged.activations.len(),
        exchanged.reloads.len()
    );
    for (name, seen) in [("undisturbed", undisturbed), ("disturbed", disturbed)] {
        anstream::println!(
            "  {name:<12} {:>8} calls, {:>6.0} a second, {} failed, p50 {:.2} ms, p99 {:.2} ms",
            seen.latency_us.len(),
            seen.per_second(),
            seen.failed(),
            percentile_ms(seen, 0.5),
            percentile_ms(seen, 0.99)
        );
        for (why, count) in &seen.errors {
            anstream::println!("    {count} x {why}");
        }
    }
    anstream::println!("  p99 ratio    {:.2}", p99_ratio(undisturbed, disturbed));
    anstream::println!("  generations  {} seen, {} mixed", disturbed.generations(), mixed.len());
    for one in mixed.iter().take(10) {
        anstream::println!("    {one}");
    }
    anstream::println!(
        "  activation   median {:.0} ms, longest {:.0} ms; reload median {:.0} ms, longest {:.0} ms",
        middle(&exchanged.activations),
        longest(&exchanged.activations),
        middle(&exchanged.reloads),
        longest(&exchanged.reloads)
    );
    anstream::println!(
        "  memory       {before_mb:.0} MB before, {after_mb:.0} MB after, ratio {:.2}",
        after_mb / before_mb
    );
}

/// A server with a bundle store and a configuration of its own.
struct Served {
    grpc: Endpoint,
    admin: Endpoint,
    versions: Vec<String>,
    folder: TempDir,
    process: SpawnedServer,
}

impl Served {
    fn start(binary: &Path, bundles: &[PathBuf]) -> Result<Self, SwapError> {
        let io = |what| move |error| SwapError::Io { what, error };
        let folder = tempfile::tempdir().map_err(io("making a folder"))?;
        let store = folder.path().join("bundles");
        let copy = |folder: &Path, renamed| {
            bundles::copy(folder, &store, renamed)
                .map_err(|error| SwapError::Bundle { folder: folder.to_owned(), error })
        };
        let versions = match bundles {
            [] => {
                let shipped = bundles::shipped().map_err(io("finding the shipped bundle"))?;
                vec![copy(&shipped, None)?, copy(&shipped, Some(RENAMED))?]
            }
            [_] => {
                return Err(SwapError::Server("name at least two bundles with --bundle, or none".to_owned()));
            }
            several => several.iter().map(|folder| copy(folder, None)).collect::<Result<Vec<_>, _>>()?,
        };
        let config = folder.path().join("pointsman.toml");
        write_config(&config, &store, 0)?;
        let mut command = Command::new(binary);
        command.args(["--log-level", "warn", "serve", "--http-listen", "off"]);
        command.args(["--grpc-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.arg("--config").arg(&config).env("XDG_STATE_HOME", folder.path());
        let (process, [grpc, admin]) = SpawnedServer::start_announcing(&mut command, ["gRPC", "admin"])?;
        let endpoint = |address: String| {
            Endpoint::from_shared(format!("http://{address}"))
                .map(|endpoint| endpoint.connect_timeout(CONNECT_MAX))
                .map_err(|error| SwapError::Server(error.to_string()))
        };
        let (grpc, admin) = (endpoint(grpc)?, endpoint(admin)?.timeout(EXCHANGE_MAX));
        process.wait_until_serving(&grpc)?;
        Ok(Self { grpc, admin, versions, folder, process })
    }

    fn write_config(&self, number: u16) -> Result<(), SwapError> {
        write_config(&self.folder.path().join("pointsman.toml"), &self.folder.path().join("bundles"), number)
    }

    fn resident_mb(&self) -> f64 {
        Process(self.process.pid()).usage().map_or(0.0, |usage| usage.rss_mb)
    }
}

/// Writes a configuration whose number shows in the decisions of its only rule.
fn write_config(path: &Path, store: &Path, number: u16) -> Result<(), SwapError> {
    let text = format!(
        "[server]\nwatch = false\n\n[bundles]\nstore = {store:?}\n\n[[rules]]\nid = \"config-{number}\"\nany = [\"^ping\"]\ntier = \"simple\"\n"
    );
    let next = path.with_extension("next");
    fs::write(&next, text)
        .and_then(|()| fs::rename(&next, path))
        .map_err(|error| SwapError::Io { what: "writing the configuration", error })
}
