//! `pointsman serve`: load, bind, serve, drain.

use std::{io::Write, net::SocketAddr, sync::Arc, time::Duration};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{CliError, runtime};
use crate::{
    completion,
    config::{Config, NEEDS_ALLOWING, ServerConfig},
    live::Live,
    server::{self, Listeners},
    telemetry,
};

/// Exit code when a second signal cuts the drain short.
const CUT_SHORT: i32 = 1;

/// How long the end waits for a classifier that is still loading: some tenths of a second are usual.
const LOAD_END_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long the calls that the drain has cut are given to end.
const CUT_CALLS_MAX: Duration = Duration::from_millis(200);

/// Printed after the addresses, so that nobody takes a demo for the real thing.
const DEMO_NOTICE: &str = "demo  answers are scripted: no model is called, nothing leaves this machine";

#[derive(Debug, Args)]
pub struct ServeArguments {
    /// Address of the gRPC listener for decisions and completions; port 0 takes a free one
    /// [default: 127.0.0.1:50051].
    #[arg(long, value_name = "ADDRESS")]
    grpc_listen: Option<SocketAddr>,
    /// Address of the HTTP listener for completions, metrics and probes, or "off" [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS", value_parser = address_or_off)]
    http_listen: Option<AddressOrOff>,
    /// Address of the admin gRPC listener, which `pointsman targets` and `pointsman spend` ask, or "off"
    /// [default: 127.0.0.1:50052].
    #[arg(long, value_name = "ADDRESS", value_parser = loopback_or_off)]
    admin_listen: Option<AddressOrOff>,
    /// Let --grpc-listen and --http-listen be other than loopback. They ask nobody who he is, and whoever reaches
    /// them spends on your keys: put a proxy with authentication in front.
    #[arg(long)]
    allow_unauthenticated: bool,
    /// Answer completions from a built-in script: no key is needed, no model is called. A message that contains
    /// demo:weak, demo:down, demo:rate-limit, demo:cut, demo:slow, demo:json or demo:tool shows what follows.
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

/// The admin listener asks nobody who he is, so that it must be out of reach from elsewhere.
fn loopback_or_off(text: &str) -> Result<AddressOrOff, String> {
    match address_or_off(text)? {
        AddressOrOff::Address(address) if !address.ip().is_loopback() => {
            Err("needs authentication, which is not there yet: keep it on loopback".to_owned())
        }
        found => Ok(found),
    }
}

pub fn run(arguments: &ServeArguments, mut config: Config) -> Result<(), CliError> {
    if let Some(address) = arguments.grpc_listen {
        config.server.grpc_listen = address;
    }
    match arguments.http_listen {
        Some(AddressOrOff::Address(address)) => config.server.http_listen = Some(address),
        Some(AddressOrOff::Off) => config.server.http_listen = None,
        None => {}
    }
    match arguments.admin_listen {
        Some(AddressOrOff::Address(address)) => config.server.admin_listen = Some(address),
        Some(AddressOrOff::Off) => config.server.admin_listen = None,
        None => {}
    }
    config.server.allow_unauthenticated |= arguments.allow_unauthenticated;
    check_reach(&config.server)?;
    if arguments.demo {
        config = config.with_demo_providers();
    }
    if arguments.no_traffic {
        config.traffic.enabled = false;
        config.learning.enabled = false;
    }
    config.traffic.complete()?;
    telemetry::init_metrics();
    let live = Arc::new(Live::start(config)?);
    let runtime = runtime()?;
    let outcome = runtime.block_on(serve(Arc::clone(&live), arguments.demo.then_some(DEMO_NOTICE)));
    // Calls that the drain has cut end here, and the log gets to know of them. Intents by example may take minutes
    // to embed: that must not hold up the end.
    runtime.shutdown_timeout(CUT_CALLS_MAX);
    stop(&live)?;
    outcome
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

/// Arguments may have moved listeners to where others reach them.
fn check_reach(server: &ServerConfig) -> Result<(), CliError> {
    let listeners = [("grpc_listen", Some(server.grpc_listen)), ("http_listen", server.http_listen)];
    for (key, address) in listeners {
        if let Some(address) = address.filter(|address| !address.ip().is_loopback())
            && !server.allow_unauthenticated
        {
            let message = format!("server.{key} = {address}: {NEEDS_ALLOWING}, or --allow-unauthenticated");
            return Err(CliError::Usage(message));
        }
    }
    Ok(())
}

async fn serve(live: Arc<Live>, notice: Option<&str>) -> Result<(), CliError> {
    let config = Arc::clone(live.router().config());
    // Before anything is announced: who reads the addresses may send a signal at once.
    let shutdown = first_signal()?;
    let listeners = Listeners::bind(&config.server).await?;
    announce(&listeners, notice);
    tokio::task::spawn_blocking(completion::prepare);
    // Off the reactor: rules serve meanwhile, and health says when the classifier is ready.
    let loading = config.classifier.enabled.then(|| {
        let live = Arc::clone(&live);
        tokio::task::spawn_blocking(move || load_classifier(&live))
    });
    let outcome = server::run(listeners, live, shutdown).await;
    if let Some(loading) = loading {
        // A process that ends while ONNX Runtime is still loading pulls it away under that thread's feet.
        let _ = tokio::time::timeout(LOAD_END_WAIT_MAX, loading).await;
    }
    Ok(outcome?)
}

fn load_classifier(live: &Live) {
    let Err(error) = live.load_classifier() else { return };
    telemetry::classifier_ready(false);
    let bundle = match &live.router().config().classifier.bundle {
        Some(folder) => folder.display().to_string(),
        None => "the built-in one".to_owned(),
    };
    tracing::error!(
        bundle,
        %error,
        "no classifier: rules and the default tier answer, health says not serving"
    );
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
