//! The listeners: gRPC and HTTP for callers, gRPC for operators, HTTP also for metrics and probes.
//!
//! `run` takes bound listeners and a shutdown future, so that tests bind port 0. Nothing here
//! decides anything.

mod admin_auth;
mod convert;
mod deploy_status;
mod failure;
mod feedback;
mod grpc;
mod http;
mod in_flight;
mod status;

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tonic::{codec::CompressionEncoding, transport::server::TcpIncoming};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::layer::util::{Identity, Stack};

use crate::{
    config::{AdminConfig, ServerConfig},
    live::{Live, deploy::Deployer},
    server::{
        admin_auth::{
            Guard, connection,
            tls::{self, Tls},
        },
        grpc::{AdminGrpc, RouterGrpc},
        in_flight::InFlight,
        proto::{admin_service_server::AdminServiceServer, router_service_server::RouterServiceServer},
    },
    telemetry,
};

pub use self::admin_auth::{AuthError, USER_HEADER, problems as admin_problems};

/// The generated protobuf and gRPC types; domain code never names them.
pub mod proto {
    #![allow(clippy::all, unused_qualifications)]
    tonic::include_proto!("pointsman.v1");

    /// The compiled protos, for reflection and the golden test.
    pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pointsman_descriptor.bin"));
}

/// Name of the service in health checks.
pub const ROUTER_SERVICE: &str = "pointsman.v1.RouterService";
/// Name of the operators' service in health checks of its own listener.
pub const ADMIN_SERVICE: &str = "pointsman.v1.AdminService";

const HEALTH_SERVICE: &str = "grpc.health.v1.Health";
const REFLECTION_V1: &str = "grpc.reflection.v1.ServerReflection";
const REFLECTION_V1ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

// Dead peers are noticed within a minute and cost no traffic to speak of.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(30);
const KEEPALIVE_WAIT: Duration = Duration::from_secs(20);
/// A connection outlasts the stream on it that a caller leaves unread, so that the stream's own account says why
/// it ended.
const WRITE_STALL_MORE: Duration = Duration::from_secs(10);
/// Calls that one connection may have open.
const STREAMS_MAX: u32 = 1024;

/// Why a server cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("{key} = {address}: {error}")]
    Bind { key: &'static str, address: SocketAddr, error: std::io::Error },
    #[error("gRPC listener: {0}")]
    Grpc(#[from] tonic::transport::Error),
    #[error("gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    #[error(transparent)]
    Admin(#[from] AuthError),
    #[error("HTTP listener: {0}")]
    Http(std::io::Error),
}

/// The operators' socket, and who may use it.
struct AdminListener {
    tcp: TcpListener,
    guard: Guard,
    tls: Option<Arc<Tls>>,
}

/// Bound sockets.
pub struct Listeners {
    grpc: TcpListener,
    admin: Option<AdminListener>,
    http: Option<TcpListener>,
}

impl Listeners {
    /// Binds what the configuration names; port 0 takes a free one. Tokens and certificates of the admin listener are
    /// read before it opens, and one that is missing is an error.
    pub async fn bind(config: &ServerConfig) -> Result<Self, ServerError> {
        let grpc = bind("server.grpc_listen", config.grpc_listen).await?;
        let admin = match config.admin_listen {
            Some(address) => Some(bind_admin(address, &config.admin).await?),
            None => None,
        };
        let http = match config.http_listen {
            Some(address) => Some(bind("server.http_listen", address).await?),
            None => None,
        };
        Ok(Self { grpc, admin, http })
    }

    /// Returns the address of the gRPC listener.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc.local_addr().expect("a bound socket has an address")
    }

    /// Returns the address of the admin listener, if there is one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.tcp.local_addr().expect("a bound socket has an address"))
    }

    /// Returns the address of the HTTP listener, if there is one.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(|http| http.local_addr().expect("a bound socket has an address"))
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|error| ServerError::Bind { key, address, error })
}

async fn bind_admin(address: SocketAddr, config: &AdminConfig) -> Result<AdminListener, ServerError> {
    let guard = Guard::new(config, address)?;
    let tls = config.tls.as_ref().map(Tls::load).transpose()?.map(Arc::new);
    Ok(AdminListener { tcp: bind("server.admin_listen", address).await?, guard, tls })
}

/// Serves until `shutdown` resolves, then lets running calls end within the configured time. Operators see, and change
/// nothing.
pub async fn run(
    listeners: Listeners,
    live: Arc<Live>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServerError> {
    run_deploying(listeners, live, None, shutdown).await
}

/// As [`run`]; operators change what serves by the deployer.
pub async fn run_deploying(
    listeners: Listeners,
    live: Arc<Live>,
    deployer: Option<Arc<Deployer>>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServerError> {
    let config = live.router().config().server.clone();
    let (stop, stopped) = watch::channel(false);
    let (health, health_service) = tonic_health::server::health_reporter();
    set_health(&health, live.is_ready()).await;
    let (admin_health, admin_health_service) = tonic_health::server::health_reporter();
    admin_health.set_service_status(ADMIN_SERVICE, ServingStatus::Serving).await;

    let in_flight = InFlight::default();
    let router_service = RouterServiceServer::new(RouterGrpc::new(Arc::clone(&live)))
        .max_decoding_message_size(config.message_bytes_max)
        .accept_compressed(CompressionEncoding::Gzip);
    let grpc = transport(&in_flight)
        .add_service(router_service)
        .add_service(health_service)
        .add_service(reflection(ROUTER_SERVICE, REFLECTION_V1).build_v1()?)
        .add_service(reflection(ROUTER_SERVICE, REFLECTION_V1ALPHA).build_v1alpha()?);

    let mut tasks: JoinSet<Result<(), ServerError>> = JoinSet::new();
    let (incoming, grpc_stop) = (incoming_of(listeners.grpc), wait_for(stopped.clone()));
    tasks.spawn(async move { Ok(grpc.serve_with_incoming_shutdown(incoming, grpc_stop).await?) });
    let mut follows_credentials = JoinSet::new();
    if let Some(listener) = listeners.admin {
        follows_credentials.spawn(listener.guard.clone().follow_tokens());
        let admin = transport(&in_flight)
            .max_connection_age(connection::AGE_MAX)
            .layer(listener.guard)
            .add_service(AdminServiceServer::new(AdminGrpc::new(
                Arc::clone(&live),
                deployer,
                in_flight.clone(),
            )))
            .add_service(admin_health_service)
            .add_service(reflection(ADMIN_SERVICE, REFLECTION_V1).build_v1()?)
            .add_service(reflection(ADMIN_SERVICE, REFLECTION_V1ALPHA).build_v1alpha()?);
        let (incoming, admin_stop) = (incoming_of(listener.tcp), wait_for(stopped.clone()));
        match listener.tls {
            Some(tls) => {
                follows_credentials.spawn(Arc::clone(&tls).follow_files());
                let incoming = connection::limited(tls::encrypted(incoming, tls));
                tasks.spawn(
                    async move { Ok(admin.serve_with_incoming_shutdown(incoming, admin_stop).await?) },
                );
            }
            None => {
                let incoming = connection::limited(incoming);
                tasks.spawn(
                    async move { Ok(admin.serve_with_incoming_shutdown(incoming, admin_stop).await?) },
                );
            }
        }
    }
    if let Some(listener) = listeners.http {
        let address = listener.local_addr().map_err(ServerError::Http)?;
        let service = http::Service {
            app: http::app(Arc::clone(&live), http::Hosts::of(address, &config.hosts)),
            in_flight: in_flight.clone(),
            write_stall: write_stall(Arc::clone(&live)),
        };
        let http_stop = stopped.clone();
        tasks.spawn(async move {
            http::serve(listener, service, http_stop).await;
            Ok(())
        });
    }
    let follow = tokio::spawn(follow_readiness(health.clone(), live.readiness()));
    let upkeep = tokio::spawn(keep_metrics_small());

    let outcome = tokio::select! {
        Some(ended) = tasks.join_next() => flatten(ended),
        () = shutdown => Ok(()),
    };
    follow.abort();
    upkeep.abort();
    follows_credentials.abort_all();
    set_health(&health, false).await;
    tracing::info!(grace_ms = config.drain.as_millis() as u64, "draining");
    // Ends open health watches, which would hold up the drain otherwise.
    for (mut reporter, service) in [(health, ROUTER_SERVICE), (admin_health, ADMIN_SERVICE)] {
        reporter.clear_service_status("").await;
        reporter.clear_service_status(service).await;
    }
    let _ = stop.send(true);
    if tokio::time::timeout(config.drain, drained(&mut tasks, &in_flight)).await.is_err() {
        tracing::warn!(
            calls = in_flight.count(),
            "calls still ran at the end of the grace period and were cut"
        );
    }
    outcome
}

/// Returns how long a caller may leave his answer unread by the configuration of that moment.
fn write_stall(live: Arc<Live>) -> http::WriteStall {
    Arc::new(move || live.serving().config.completion.stream.caller_stall + WRITE_STALL_MORE)
}

/// Returns a gRPC server without services, whose calls are counted.
fn transport(in_flight: &InFlight) -> tonic::transport::Server<Stack<InFlight, Identity>> {
    tonic::transport::Server::builder()
        .layer(in_flight.clone())
        .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
        .http2_keepalive_timeout(Some(KEEPALIVE_WAIT))
        .max_concurrent_streams(STREAMS_MAX)
}

/// Describes one listener's services: one of ours, health, and what describes them.
fn reflection(service: &str, itself: &str) -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTOR)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name(service)
        .with_service_name(HEALTH_SERVICE)
        .with_service_name(itself)
}

/// Without TCP_NODELAY small answers wait for the peer's delayed acknowledgement, some 40 ms.
fn incoming_of(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}

/// Waits until the listeners have closed or, with idle connections still open, no call runs.
async fn drained(tasks: &mut JoinSet<Result<(), ServerError>>, in_flight: &InFlight) {
    // Long enough for the last answers to be written after their calls have ended.
    const QUIET: Duration = Duration::from_millis(100);
    let closed = async { while tasks.join_next().await.is_some() {} };
    let quiet = async {
        loop {
            tokio::time::sleep(QUIET).await;
            if in_flight.count() == 0 {
                break;
            }
        }
    };
    tokio::select! { () = closed => {}, () = quiet => {} }
}

fn flatten(ended: Result<Result<(), ServerError>, tokio::task::JoinError>) -> Result<(), ServerError> {
    match ended {
        Ok(result) => result,
        Err(error) => Err(ServerError::Http(std::io::Error::other(error))),
    }
}

async fn wait_for(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone: time to stop as well.
    let _ = stopped.wait_for(|&stopped| stopped).await;
}

/// Tells health checks whenever the readiness changes, until the sender is gone.
async fn follow_readiness(health: HealthReporter, mut ready: watch::Receiver<bool>) {
    loop {
        let now = *ready.borrow_and_update();
        set_health(&health, now).await;
        if ready.changed().await.is_err() {
            break;
        }
    }
}

/// Histograms keep every sample until somebody reads them or this runs.
async fn keep_metrics_small() {
    const EVERY: Duration = Duration::from_secs(5);
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        telemetry::init_metrics().run_upkeep();
    }
}

async fn set_health(health: &HealthReporter, ready: bool) {
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in ["", ROUTER_SERVICE] {
        health.set_service_status(service, status).await;
    }
}
