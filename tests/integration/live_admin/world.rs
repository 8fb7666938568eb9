//! A server with its own configuration file, bundle and bundle store in a folder, changed as `serve` lets it be.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use pointsman::{
    config::read_file,
    live::{
        Live,
        bundles::BundleStore,
        deploy::{ConfigRead, ConfigSource, Deployer},
        fleet::Keeper,
    },
    server::{
        Listeners,
        proto::{
            Decision, GetFleetRequest, ListEventsRequest, LiveEvent, LiveEventKind, RouteRequest,
            WantedState, admin_service_client::AdminServiceClient,
            router_service_client::RouterServiceClient,
        },
        run_deploying,
    },
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::support::{PATIENCE, onnx::TinyBundle, until};

/// A server's files.
pub struct World {
    pub folder: TempDir,
    /// Lines of the configuration before any section.
    pub top: String,
    /// Lines of `[server]`.
    pub server: String,
    /// Lines of `[traffic]`.
    pub traffic: String,
    /// Lines of `[bundles]`.
    pub bundles: String,
    /// Sections.
    pub more: String,
}

impl World {
    /// With one bundle that the configuration names, and a store without any.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        TinyBundle::new("0.1.0").write(&folder.path().join("own"));
        fs::create_dir(folder.path().join("store")).unwrap();
        let top = "rules = []\n".to_owned();
        let traffic = "enabled = false\n".to_owned();
        Self { folder, top, traffic, server: String::new(), bundles: String::new(), more: String::new() }
    }

    /// With these versions in the store, which read the prompt as the configured one does.
    pub fn with(versions: &[&str]) -> Self {
        let world = Self::new();
        for version in versions {
            TinyBundle::new(version).write_under(&world.store());
        }
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    pub fn file(&self) -> PathBuf {
        self.path("pointsman.toml")
    }

    pub fn text(&self) -> String {
        let Self { folder, top, server, traffic, bundles, more } = self;
        let (own, store) = (folder.path().join("own"), folder.path().join("store"));
        let mut text = top.clone();
        // Dotted, so that sections of these names may follow.
        text += "server.grpc_listen = \"127.0.0.1:0\"\nserver.http_listen = \"127.0.0.1:0\"\n";
        for (key, value) in [("admin_listen", "\"127.0.0.1:0\""), ("drain_ms", "2000")] {
            if !server.contains(key) {
                text += &format!("server.{key} = {value}\n");
            }
        }
        text += &server.lines().map(|line| format!("server.{line}\n")).collect::<String>();
        text += &traffic.lines().map(|line| format!("traffic.{line}\n")).collect::<String>();
        text += "learning.enabled = false\n";
        text + &format!(
            "[classifier]\nbundle = {own:?}\nworkers = 1\ndevice = \"cpu\"\ncache_entries = 0\nwait_ms_max = 30000\n\
             [bundles]\nstore = {store:?}\nlatency_ratio_max = 1000.0\n{bundles}\n{more}"
        )
    }

    pub fn write(&self) {
        fs::write(self.file(), self.text()).unwrap();
    }
}

/// A running server; it stops with its runtime.
pub struct Server {
    pub world: World,
    pub grpc: Channel,
    pub http: SocketAddr,
    pub admin: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts it and waits until its bundle serves.
    pub async fn start(world: World) -> Self {
        pointsman::telemetry::init_metrics();
        world.write();
        let file = world.file();
        let config = read_file(&file).unwrap_or_else(|error| panic!("{error}"));
        let live = Arc::new(Live::start(config.clone()).unwrap());
        let reading = file.clone();
        let source = ConfigSource {
            sha256: sha256(&file),
            read: Arc::new(move || Ok(ConfigRead { config: read_file(&reading)?, sha256: sha256(&reading) })),
            path: Some(file),
        };
        let keeper = Keeper::new(Arc::clone(live.traffic()));
        let bundles = BundleStore::open(&config.bundles).unwrap();
        let deployer = Arc::new(Deployer::new(Arc::clone(&live), keeper, bundles, source));
        let listeners = Listeners::bind(&config.server).await.unwrap_or_else(|error| panic!("{error}"));
        let (grpc, http) = (listeners.grpc_address(), listeners.http_address().unwrap());
        let admin = listeners.admin_address().unwrap();
        let (stop, stopped) = watch::channel(false);
        let over = |mut stopped: watch::Receiver<bool>| async move {
            let _ = stopped.wait_for(|&stopped| stopped).await;
        };
        let following = Arc::clone(&deployer);
        let follow = over(stopped.clone());
        let follow = tokio::spawn(async move { following.run(follow).await });
        let serving = run_deploying(listeners, Arc::clone(&live), Some(deployer), over(stopped));
        let serve = tokio::spawn(async move { serving.await.unwrap() });
        until("the configured bundle to serve", async || live.is_ready()).await;
        let grpc = Channel::from_shared(format!("http://{grpc}")).unwrap().connect().await.unwrap();
        Self { world, grpc, http, admin, stop, tasks: vec![follow, serve] }
    }

    pub async fn admin_channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.admin)).unwrap().connect().await.unwrap()
    }

    pub async fn client(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.admin_channel().await)
    }

    pub async fn decide(&self, text: &str) -> Decided {
        decide(&self.grpc, text).await
    }

    /// Stops it and waits for its end.
    pub async fn stop(self) -> World {
        self.stop.send(true).unwrap();
        for task in self.tasks {
            tokio::time::timeout(PATIENCE, task).await.expect("it ends").unwrap();
        }
        self.world
    }
}

/// SHA-256 of a file; empty where it is not there.
fn sha256(file: &Path) -> String {
    let bytes = fs::read(file).unwrap_or_default();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a decision says of who made it, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    pub tier: String,
    pub bundle: String,
    pub generation: u64,
    pub canary: bool,
    pub scores: String,
}

pub async fn decide(grpc: &Channel, text: &str) -> Decided {
    let asked = RouteRequest { prompt: Some(text.to_owned()), ..RouteRequest::default() };
    let answer = RouterServiceClient::new(grpc.clone()).route(asked).await.unwrap().into_inner();
    let Decision { tier, bundle_version, config_generation, canary, tier_scores, .. } =
        answer.decision.unwrap();
    Decided {
        tier,
        bundle: bundle_version,
        generation: config_generation,
        canary,
        scores: format!("{tier_scores:?}"),
    }
}

/// Returns the latest events, newest first.
pub async fn events(client: &mut AdminServiceClient<Channel>) -> Vec<LiveEvent> {
    client.list_events(ListEventsRequest { events_max: 1000 }).await.unwrap().into_inner().events
}

/// Returns their kinds, the oldest first.
pub fn kinds(events: &[LiveEvent]) -> Vec<LiveEventKind> {
    events.iter().rev().map(LiveEvent::kind).collect()
}

/// Returns what is wanted; nothing was ever asked for: the default.
pub async fn wanted(client: &mut AdminServiceClient<Channel>) -> WantedState {
    client.get_fleet(GetFleetRequest {}).await.unwrap().into_inner().wanted.unwrap_or_default()
}

/// What a call was refused with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub code: Code,
    /// Of `google.rpc.ErrorInfo`; empty without.
    pub reason: String,
    /// Of its metadata.
    pub unfit: String,
    /// Fields of `google.rpc.BadRequest`, each with what is wrong with it.
    pub fields: Vec<(String, String)>,
    pub message: String,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        if let Some(info) = info {
            assert_eq!(info.domain, "pointsman");
        }
        let unfit = info.and_then(|info| info.metadata.get("unfit")).cloned().unwrap_or_default();
        let fields = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
        Self {
            code: status.code(),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            unfit,
            fields: fields.into_iter().map(|field| (field.field, field.description)).collect(),
            message: status.message().to_owned(),
        }
    }
}
