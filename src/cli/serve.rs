//! `pointsman serve`: load, bind, serve, drain.

use std::{
    io::Write,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use super::{CliError, reloads::Reloads, runtime};
use crate::{
    config::{
        Config, ConfigError, NEEDS_ALLOWING, Problem, ServerConfig, default_config, read::text_of, read_file,
    },
    live::{
        Live,
        bundles::{self, BundleStore},
        deploy::{ConfigRead, ConfigSource, Deployer},
        fleet::Keeper,
    },
    server::{self, Listeners},
    telemetry,
};

/// Exit code when a second signal cuts the drain short.
const CUT_SHORT: i32 = 1;

/// How long the end waits for a classifier that is still loading: some tenths of a second are usual.
const LOAD_END_WAIT_MAX: Duration = Duration::from_secs(5);

/// Before a deployer that broke down begins again.
const BEGIN_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long the end waits for classifiers of earlier generations to be freed.
const FREE_MAX: Duration = Duration::from_secs(2);

/// How long the calls that the drain has cut are given to end.
const CUT_CALLS_MAX: Duration = Duration::from_millis(200);

/// Printed after the addresses, so that nobody takes a demo for the real thing.
const DEMO_NOTICE: &str = "demo  answers are scripted: no model is called, nothing leaves this machine";

#[derive(Debug, Clone, Args)]
pub struct ServeArguments {
    /// Address of the gRPC listener for decisions and completions; port 0 takes a free one
    /// [default: 127.0.0.1:50051].
    #[arg(long, value_name = "ADDRESS")]
    grpc_listen: Option<SocketAddr>,
    /// Address of the HTTP listener for completions, metrics and probes, or "off" [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS", value_parser = address_or_off)]
    http_listen: Option<AddressOrOff>,
    /// Address of the admin gRPC listener, which `pointsman targets`, `bundle`, `reload` and others ask, or "off";
    /// other addresses than loopback need [server.admin] in the configuration [default: 127.0.0.1:50052].
    #[arg(long, value_name = "ADDRESS", value_parser = address_or_off)]
    admin_listen: Option<AddressOrOff>,
    /// Let --grpc-listen and --http-listen be other than loopback. They ask nobody who he is, and whoever reaches
    /// them spends on your keys: put a proxy with authentication in front.
    #[arg(long)]
    allow_unauthenticated: bool,
    /// Answer completions from a built-in script: no key is needed, no model is called. A message that contains
    /// demo:weak, demo:down, demo:rate-limit, demo:cut, demo:slow, demo:json or demo:tool shows what follows. Is
    /// logged as all else; --no-traffic keeps it out.
    #[arg(long)]
    demo: bool,
    /// Log no request and take no feedback, whatever the configuration says; nothing is learned either.
    #[arg(long)]
    no_traffic: bool,
}

#[derive(Debug, Clone, Copy)]
enum AddressOrOff {
    Address(SocketAddr),
    Off,
}

fn address_or_off(text: &str) -> Result<AddressOrOff, String> {
    match text {
        "off" => Ok(AddressOrOff::Off),
        _ => text
            .parse()
            .map(AddressOrOff::Address)
            .map_err(|_| "expected an address such as 127.0.0.1:8080, or off".to_owned()),
    }
}

pub fn run(arguments: &ServeArguments, file: Option<&Path>) -> Result<(), CliError> {
    // The hash comes first: a change in between shows as a difference.
    let source = source(arguments, file)?;
    let config = read(arguments, file)?;
    config.traffic.complete()?;
    telemetry::init_metrics();
    let live = Arc::new(Live::start(config)?);
    live.serving().completer.warn_of_absent_keys(Instant::now());
    let runtime = runtime()?;
    let outcome = runtime.block_on(serve(Arc::clone(&live), source, arguments.demo.then_some(DEMO_NOTICE)));
    // Calls that the drain has cut end here, and the log gets to know of them. Intents by example may take minutes
    // to embed: that must not hold up the end.
    runtime.shutdown_timeout(CUT_CALLS_MAX);
    stop(&live)?;
    live.stop(FREE_MAX);
    outcome
}

/// Returns how the configuration is read again, whenever there is a reason to.
fn source(arguments: &ServeArguments, file: Option<&Path>) -> Result<ConfigSource, ConfigError> {
    let (arguments, path) = (arguments.clone(), file.map(Path::to_owned));
    let reading = path.clone();
    Ok(ConfigSource {
        sha256: sha256(file)?,
        read: Arc::new(move || {
            // First, so that a change in between shows as a difference and not as the same.
            let sha256 = sha256(reading.as_deref())?;
            Ok(ConfigRead { config: read(&arguments, reading.as_deref())?, sha256 })
        }),
        path,
    })
}

/// Returns the hash of the configuration's file, hexadecimal; empty for the built-in one.
fn sha256(file: Option<&Path>) -> Result<String, ConfigError> {
    let Some(file) = file else { return Ok(String::new()) };
    Ok(bundles::sha256(text_of(file)?.as_bytes()))
}

/// Writes what the traffic log still holds.
fn stop(live: &Live) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| CliError::Io { what: "starting the runtime".to_owned(), error })?;
    runtime.block_on(live.traffic().stop());
    Ok(())
}

/// Reads the configuration, with what the command line says otherwise; also whenever it is read again.
fn read(arguments: &ServeArguments, file: Option<&Path>) -> Result<Config, ConfigError> {
    let mut config = match file {
        Some(file) => read_file(file)?,
        None => default_config(),
    };
    if let Some(address) = arguments.grpc_listen {
        config.server.grpc_listen = address;
    }
    let listener = |typed: Option<AddressOrOff>, written: Option<SocketAddr>| match typed {
        Some(AddressOrOff::Address(address)) => Some(address),
        Some(AddressOrOff::Off) => None,
        None => written,
    };
    config.server.http_listen = listener(arguments.http_listen, config.server.http_listen);
    config.server.admin_listen = listener(arguments.admin_listen, config.server.admin_listen);
    config.server.allow_unauthenticated |= arguments.allow_unauthenticated;
    check_reach(&config.server)?;
    if arguments.demo {
        config = config.with_demo_providers();
    }
    if arguments.no_traffic {
        config.traffic.enabled = false;
        config.learning.enabled = false;
    }
    Ok(config)
}

/// Arguments may have moved listeners to where others reach them.
fn check_reach(server: &ServerConfig) -> Result<(), ConfigError> {
    let mut problems = Vec::new();
    let mut problem = |key: &str, address: SocketAddr, message: &str| {
        let path = format!("server.{key} = {address}");
        problems.push(Problem { path, line: None, message: message.to_owned() });
    };
    let listeners = [("grpc_listen", Some(server.grpc_listen)), ("http_listen", server.http_listen)];
    for (key, address) in listeners {
        if let Some(address) = address.filter(|address| !address.ip().is_loopback())
            && !server.allow_unauthenticated
        {
            problem(key, address, &format!("{NEEDS_ALLOWING}, or --allow-unauthenticated"));
        }
    }
    if let Some(address) = server.admin_listen
        && let Some(refusal) = server.admin.refusal(address)
    {
        problem("admin_listen", address, refusal);
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(ConfigError { origin: "command line".to_owned(), problems })
}

async fn serve(live: Arc<Live>, source: ConfigSource, notice: Option<&str>) -> Result<(), CliError> {
    let config = Arc::clone(live.router().config());
    // Before anything is announced: who reads the addresses may send a signal at once.
    let shutdown = first_signal()?;
    let file = source.path.clone();
    let keeper = Keeper::new(Arc::clone(live.traffic()));
    let deployer = Deployer::new(Arc::clone(&live), keeper, BundleStore::open(&config.bundles)?, source);
    let deployer = Arc::new(deployer);
    let reloads = Reloads::listen(Arc::clone(&live), Arc::clone(&deployer), file)?;
    let listeners = Listeners::bind(&config.server).await?;
    announce(&listeners, notice);
    let completer = Arc::clone(&live.serving().completer);
    tokio::task::spawn_blocking(move || completer.prepare_checks());
    let (stop, stopped) = watch::channel(false);
    // Rules serve while the classifier is loaded, and health says when it is ready.
    let following = Arc::clone(&deployer);
    let following = tokio::spawn(follow(following, stopped.clone()));
    let reloads = tokio::spawn(reloads.follow(stopped));
    let outcome = server::run_deploying(listeners, live, Some(deployer), shutdown).await;
    let _ = stop.send(true);
    // A process that ends while ONNX Runtime is still loading pulls it away under that thread's feet.
    let ended = async { (following.await, reloads.await) };
    if tokio::time::timeout(LOAD_END_WAIT_MAX, ended).await.is_err() {
        tracing::warn!("a change of what serves was still in progress and was cut");
    }
    Ok(outcome?)
}

/// Runs the deployer to the end. Should it break down, it begins again: without it nothing could be taken back.
async fn follow(deployer: Arc<Deployer>, stopped: watch::Receiver<bool>) {
    loop {
        let (running, mut over) = (Arc::clone(&deployer), stopped.clone());
        let run = tokio::spawn(async move {
            // An error means that the sender is gone: time to stop as well.
            let over = async move { drop(over.wait_for(|&stopped| stopped).await) };
            running.run(over).await;
        });
        match run.await {
            Ok(()) => return,
            Err(error) => tracing::error!(%error, "what changes bundles broke down and begins again"),
        }
        tokio::time::sleep(BEGIN_AGAIN_AFTER).await;
    }
}

/// Prints the addresses in use, one a line, for people and scripts, and what else they should know.
fn announce(listeners: &Listeners, notice: Option<&str>) {
    let mut lines = vec![format!("gRPC  {}", listeners.grpc_address())];
    lines.extend(listeners.http_address().map(|address| format!("HTTP  {address}")));
    lines.extend(listeners.admin_address().map(|address| format!("admin {address}")));
    lines.extend(notice.map(str::to_owned));
    // Whoever read enough may have closed the pipe: that is no reason to stop.
    let _ = writeln!(anstream::stdout(), "{}", lines.join("\n"));
}

/// Resolves at the first SIGTERM or SIGINT; the second one ends the process at once.
fn first_signal() -> Result<impl Future<Output = ()> + Send, CliError> {
    let listen = |kind| signal(kind).map_err(|error| CliError::Io { what: "signals".to_owned(), error });
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tokio::spawn(async move {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
            tracing::warn!("second signal: stopping at once");
            std::process::exit(CUT_SHORT);
        });
    })
}
