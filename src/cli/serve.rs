//! `pointsman serve`: load, bind, serve, drain.

use std::{net::SocketAddr, sync::Arc};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{CliError, runtime};
use crate::{
    config::Config,
    live::Live,
    server::{self, Listeners},
    telemetry,
};

/// Exit code when a second signal cuts the drain short.
const CUT_SHORT: i32 = 1;

#[derive(Debug, Args)]
pub struct ServeArguments {
    /// Address of the gRPC listener; port 0 takes a free one [default: 127.0.0.1:50051].
    #[arg(long, value_name = "ADDRESS")]
    grpc_listen: Option<SocketAddr>,
    /// Address of the HTTP listener for metrics and probes, or "off" [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS", value_parser = address_or_off)]
    http_listen: Option<AddressOrOff>,
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

pub fn run(arguments: &ServeArguments, mut config: Config) -> Result<(), CliError> {
    if let Some(address) = arguments.grpc_listen {
        config.server.grpc_listen = address;
    }
    match arguments.http_listen {
        Some(AddressOrOff::Address(address)) => config.server.http_listen = Some(address),
        Some(AddressOrOff::Off) => config.server.http_listen = None,
        None => {}
    }
    telemetry::init_metrics();
    let live = Arc::new(Live::start(config)?);
    let runtime = runtime()?;
    let outcome = runtime.block_on(serve(live));
    // A bundle that is still loading must not hold up the end.
    runtime.shutdown_background();
    outcome
}

async fn serve(live: Arc<Live>) -> Result<(), CliError> {
    let config = Arc::clone(live.router().config());
    // Before anything is announced: who reads the addresses may send a signal at once.
    let shutdown = first_signal()?;
    let listeners = Listeners::bind(&config.server).await?;
    announce(&listeners);
    if config.classifier.enabled {
        // Off the reactor: rules serve meanwhile, and health says when the classifier is ready.
        let loading = Arc::clone(&live);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = loading.load_classifier() {
                telemetry::classifier_ready(false);
                let bundle = match &config.classifier.bundle {
                    Some(folder) => folder.display().to_string(),
                    None => "the built-in one".to_owned(),
                };
                tracing::error!(
                    bundle,
                    %error,
                    "no classifier: rules and the default tier answer, health says not serving"
                );
            }
        });
    }
    Ok(server::run(listeners, live, shutdown).await?)
}

/// Prints the addresses in use, one a line, for people and scripts.
fn announce(listeners: &Listeners) {
    anstream::println!("gRPC  {}", listeners.grpc_address());
    if let Some(address) = listeners.http_address() {
        anstream::println!("HTTP  {address}");
    }
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
