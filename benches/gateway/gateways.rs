//! Those that are compared: the upstream itself, pointsman, and others that are installed here.
//!
//! Each is started with what its own documentation gives for one OpenAI-compatible upstream and no extras, so
//! that nobody pays for what another does not do. Logs go to a file, for all of them.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use hyper::header::{HeaderName, HeaderValue};
use tonic::transport::Endpoint;

use crate::{
    GatewayError,
    client::{Callee, Connection, Shape},
    measure::{
        process::{Process, SpawnedServer, Usage},
        runtime,
    },
};

/// Until a gateway gives its first answer; those in Python import for long.
const READY_MAX: Duration = Duration::from_secs(120);
const READY_POLL: Duration = Duration::from_millis(100);
/// Lines of its log that are shown of a gateway that does not start.
const LOG_LINES_SHOWN: usize = 12;
/// Names of the default rules' tiers.
const TIERS: [&str; 4] = ["simple", "moderate", "complex", "reasoning"];

/// The name in the rows of what is measured against.
pub const DIRECT: &str = "direct";
pub const POINTSMAN: &str = "pointsman";

/// Somebody who answers.
pub struct Gateway {
    pub name: &'static str,
    pub callee: Callee,
    processes: Vec<Process>,
    /// Stops it when this is dropped.
    _server: Option<SpawnedServer>,
}

/// Where gateways find what they need.
pub struct Setting<'a> {
    pub upstream: SocketAddr,
    /// For configurations and logs.
    pub folder: &'a Path,
}

impl Gateway {
    /// The upstream without any gateway.
    pub fn direct(upstream: SocketAddr) -> Self {
        Self { name: DIRECT, callee: Callee::new(upstream), processes: Vec::new(), _server: None }
    }

    /// Starts pointsman with its default rules, all tiers at the upstream, and JSON logs.
    pub fn pointsman(binary: &Path, log_level: &str, setting: &Setting<'_>) -> Result<Self, GatewayError> {
        let config = setting.write("pointsman.toml", &pointsman_config(setting.upstream))?;
        let log = setting.path("pointsman.log");
        let mut command = Command::new(binary);
        command.args(["--log-format", "json", "--log-level", log_level, "serve"]);
        command.args(["--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
        command.env("XDG_STATE_HOME", setting.path("state"));
        command.args(["--admin-listen", "off", "--config"]).arg(config).stderr(create(&log)?);
        let (server, [grpc, http]) =
            SpawnedServer::start_announcing(&mut command, ["gRPC", "HTTP"]).map_err(|error| {
                GatewayError::NotReady { name: POINTSMAN, why: format!("{error}{}", log_end(&log)) }
            })?;
        let not_ready = |why: String| GatewayError::NotReady { name: POINTSMAN, why };
        let endpoint =
            Endpoint::from_shared(format!("http://{grpc}")).map_err(|error| not_ready(error.to_string()))?;
        server
            .wait_until_serving(&endpoint)
            .map_err(|error| not_ready(format!("{error}{}", log_end(&log))))?;
        let address = http.parse().map_err(|_| not_ready(format!("printed {http:?} as its address")))?;
        ready(POINTSMAN, Callee::new(address), server, &log)
    }

    /// Starts LiteLLM's proxy, with one worker a core as it advises.
    pub fn litellm(program: &Path, setting: &Setting<'_>) -> Result<Self, GatewayError> {
        let config = setting.write("litellm.yaml", &litellm_config(setting.upstream))?;
        let log = setting.path("litellm.log");
        let port = free_port()?;
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let mut command = Command::new(program);
        command.arg("--config").arg(config);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--num_workers", &workers.to_string()]);
        // On a busy machine it takes a worker that still imports for a dead one.
        command.args(["--timeout_worker_healthcheck", &READY_MAX.as_secs().to_string()]);
        // Prices come with the package; nothing here may ask for newer ones.
        command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").env("LITELLM_MODE", "PRODUCTION");
        command.stdout(create(&log)?).stderr(append(&log)?);
        let server = SpawnedServer::start(&mut command)?;
        ready("litellm", Callee::new(SocketAddr::from(([127, 0, 0, 1], port))), server, &log)
    }

    /// Starts Portkey's gateway from its package's folder; it runs in one process.
    pub fn portkey(package: &Path, setting: &Setting<'_>) -> Result<Self, GatewayError> {
        let log = setting.path("portkey.log");
        let port = free_port()?;
        let mut command = Command::new("node");
        command.arg(package.join("build/start-server.js"));
        command.args(["--headless", &format!("--port={port}")]).env("NODE_ENV", "production");
        command.stdout(create(&log)?).stderr(append(&log)?);
        let server = SpawnedServer::start(&mut command)?;
        let mut callee = Callee::new(SocketAddr::from(([127, 0, 0, 1], port)));
        let host = HeaderValue::from_str(&format!("http://{}/v1", setting.upstream));
        for (name, value) in [
            ("x-portkey-provider", HeaderValue::from_static("openai")),
            ("x-portkey-custom-host", host.expect("an address is ASCII")),
        ] {
            callee.headers.insert(HeaderName::from_static(name), value);
        }
        ready("portkey", callee, server, &log)
    }

    /// Returns what all processes of it have used, `None` where that cannot be read.
    pub fn usage(&self) -> Option<Usage> {
        self.processes.iter().filter_map(|process| process.usage()).reduce(|one, other| Usage {
            cpu_ms: one.cpu_ms + other.cpu_ms,
            rss_mb: one.rss_mb + other.rss_mb,
            rss_peak_mb: one.rss_peak_mb + other.rss_peak_mb,
        })
    }

    /// Returns the id of its first process.
    pub fn pid(&self) -> Option<u32> {
        self.processes.first().map(|process| process.0)
    }
}

impl Setting<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, GatewayError> {
        let path = self.path(name);
        fs::write(&path, text).map_err(|error| GatewayError::File { path: path.clone(), error })?;
        Ok(path)
    }
}

/// Waits for the first answer. All processes have been started by then.
fn ready(
    name: &'static str,
    callee: Callee,
    server: SpawnedServer,
    log: &Path,
) -> Result<Gateway, GatewayError> {
    let since = Instant::now();
    let runtime = runtime().map_err(|error| GatewayError::Io { what: "starting a runtime", error })?;
    loop {
        let answered = runtime.block_on(async { Connection::open(&callee).await?.call(Shape::Whole).await });
        let Err(why) = answered else { break };
        if since.elapsed() > READY_MAX || has_ended(server.pid()) {
            return Err(GatewayError::NotReady { name, why: format!("{why}{}", log_end(log)) });
        }
        thread::sleep(READY_POLL);
    }
    Ok(Gateway { name, callee, processes: family(server.pid()), _server: Some(server) })
}

/// Returns a process and all that it started, itself first.
fn family(root: u32) -> Vec<Process> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut seen = BTreeSet::from([root]);
    let mut at = 0;
    while at < found.len() {
        let next = children.get(&found[at]).cloned().unwrap_or_default();
        found.extend(next.into_iter().filter(|&pid| seen.insert(pid)));
        at += 1;
    }
    found.into_iter().map(Process).collect()
}

fn parent(pid: u32) -> Option<u32> {
    status(pid, "PPid:")?.parse().ok()
}

/// Returns whether a process that was started here is over; it stays a zombie until it is waited for.
fn has_ended(pid: u32) -> bool {
    status(pid, "State:").is_some_and(|state| state.starts_with('Z'))
}

fn status(pid: u32, key: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix(key))?.trim().to_owned())
}

fn free_port() -> Result<u16, GatewayError> {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = address.map_err(|error| GatewayError::Io { what: "looking for a free port", error })?;
    Ok(address.port())
}

fn create(path: &Path) -> Result<Stdio, GatewayError> {
    let file = File::create(path).map_err(|error| GatewayError::File { path: path.to_owned(), error })?;
    Ok(file.into())
}

fn append(path: &Path) -> Result<Stdio, GatewayError> {
    let file = File::options().append(true).open(path);
    Ok(file.map_err(|error| GatewayError::File { path: path.to_owned(), error })?.into())
}

fn log_end(path: &Path) -> String {
    let log = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
    shown.iter().map(|line| format!("\n  {line}")).collect()
}

fn pointsman_config(upstream: SocketAddr) -> String {
    let mut config = format!(
        "[[providers]]\nname = \"upstream\"\nkind = \"openai_compatible\"\nbase_url = \"http://{upstream}/v1\"\n"
    );
    for tier in TIERS {
        config.push_str(&format!(
            r#"
[[tiers]]
name = "{tier}"
targets = ["upstream-{tier}"]

[[targets]]
id = "upstream-{tier}"
provider = "upstream"
model = "mock"
input_usd_per_mtok = 1.0
output_usd_per_mtok = 5.0
price_date = "2026-01-01"
context_tokens = 100_000
output_tokens_max = 10_000
output_tokens_typical = 150
latency_ms_typical = 100
features = ["tools", "json"]
"#
        ));
    }
    config
}

fn litellm_config(upstream: SocketAddr) -> String {
    format!(
        "model_list:
  - model_name: auto
    litellm_params:
      model: openai/mock
      api_base: http://{upstream}/v1
      api_key: none
litellm_settings:
  telemetry: false
general_settings:
  # It checks no keys, like the others here, and listens on this machine alone.
  dangerously_permit_weak_or_unset_master_key: true
"
    )
}
