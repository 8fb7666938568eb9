//! Bundles and configuration changed by the deployer while requests flow: by operators, and by the rollout itself.

mod load;
mod model;
mod rollout;
mod shadow;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use pointsman::{
    config::{BundleStoreConfig, Config, TrafficConfig},
    live::{
        bundles::BundleStore,
        deploy::{ConfigRead, ConfigSource, DeployError, Deployed, Deployer, Who, Wish},
        fleet::{Event, EventKind, Keeper},
        rollout::Desired,
    },
    server::proto::{Context, Decision, RouteRequest},
};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::support::{PATIENCE, TestServer, config, onnx::TinyBundle, until, until_within};

/// Who changes things here.
const OPERATOR: &str = "operator";
/// Machines of tests are busy: how fast a tiny bundle is says nothing here.
const LATENCY_RATIO_MAX: f64 = 1e6;
/// The same for what is waited for.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Longest wait for a step of a rollout: three windows lie before some, and a shadow has what time others leave it.
const ROLLOUT_MAX: Duration = Duration::from_secs(300);

/// A configuration in which only the classifier decides, its answers scripted, everything kept as it comes.
fn plain(sections: &str) -> Config {
    let mut config = config(&format!("rules = []\n{sections}")).with_demo_providers();
    config.classifier.cache_entries = 0;
    config.classifier.workers = Some(1);
    config.classifier.wait_max = WAIT_MAX;
    config.bundles.latency_ratio_max = LATENCY_RATIO_MAX;
    config.rollout.limits.latency_ratio_max = LATENCY_RATIO_MAX;
    config
}

/// A server with a deployer, and tiny bundles in its store.
struct World {
    server: TestServer,
    deployer: Arc<Deployer>,
    /// What is read when the configuration is read again.
    next: Arc<Mutex<Config>>,
    folder: TempDir,
    stop: oneshot::Sender<()>,
    following: JoinHandle<()>,
}

impl World {
    /// Without a log: the wanted state is in memory.
    async fn start(config: Config, bundles: &[TinyBundle]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), config, bundles).await
    }

    /// With a log of its own, which keeps shadow scores and takes feedback; commands find it in [`World::state`].
    async fn start_logging(mut config: Config, bundles: &[TinyBundle]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = config.traffic.text;
        config.traffic =
            TrafficConfig { text, ..TrafficConfig::in_folder(folder.path().join("state/pointsman")) };
        config.traffic.flush = Duration::from_millis(5);
        let world = Self::start_in(folder, config, bundles).await;
        until("the store", async || world.server.live.traffic().store().is_some()).await;
        world
    }

    /// The folder that a command is to keep its state in.
    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    async fn start_in(folder: TempDir, mut config: Config, bundles: &[TinyBundle]) -> Self {
        let configured = folder.path().join("configured");
        TinyBundle::new("configured").write(&configured);
        let store = folder.path().join("bundles");
        std::fs::create_dir_all(&store).unwrap();
        for bundle in bundles {
            bundle.write_under(&store);
        }
        config.classifier.bundle = Some(configured);
        config.bundles.store = BundleStoreConfig::Folder(store);
        let next = Arc::new(Mutex::new(config.clone()));
        let reading = Arc::clone(&next);
        let source = ConfigSource {
            path: None,
            sha256: String::new(),
            read: Arc::new(move || {
                Ok(ConfigRead { config: reading.lock().unwrap().clone(), sha256: String::new() })
            }),
        };
        let bundles = BundleStore::open(&config.bundles).unwrap();
        let server = TestServer::start(config, None).await;
        let keeper = Keeper::new(Arc::clone(server.live.traffic()));
        let deployer = Arc::new(Deployer::new(Arc::clone(&server.live), keeper, bundles, source));
        let (stop, stopped) = oneshot::channel();
        let follower = Arc::clone(&deployer);
        let following = tokio::spawn(async move {
            follower.run(async { drop(stopped.await) }).await;
        });
        until("the configured bundle", async || server.live.is_ready()).await;
        // It serves a moment before the deployer says so to the observer, which would begin a test's own step anew.
        until("its first step", async || !server.live.observer().watch().lasted.is_zero()).await;
        Self { server, deployer, next, folder, stop, following }
    }

    async fn change(&self, wish: Wish) -> Result<Deployed, DeployError> {
        self.deployer.change(wish, operator()).await
    }

    async fn desired(&self) -> Desired {
        self.deployer.desired().await.unwrap()
    }

    /// Waits for an event of this kind that the rollout made about this version, and returns it.
    async fn event_of_rollout(&self, kind: EventKind, version: &str) -> Event {
        let mut found = None;
        until_within(ROLLOUT_MAX, &format!("{kind:?} of {version}"), async || {
            let events = self.deployer.events(100).await.events;
            found = events.into_iter().find(|event| {
                let about = format!("{} {}", event.from, event.to);
                event.kind == kind && event.who == "rollout" && about.contains(version)
            });
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        tokio::time::timeout(PATIENCE, self.following).await.expect("the deployer ends").unwrap();
        let live = Arc::clone(&self.server.live);
        self.server.stop().await.unwrap();
        live.traffic().stop().await;
    }
}

fn operator() -> Who {
    Who(OPERATOR.to_owned())
}

fn activate(version: &str) -> Wish {
    Wish::Activate { version: version.to_owned() }
}

fn route(text: String, session: &str) -> RouteRequest {
    let context = Context { session_id: session.to_owned(), ..Context::default() };
    RouteRequest { prompt: Some(text), context: Some(context), ..RouteRequest::default() }
}

/// Callers that ask again when they have their answer, until told to stop.
struct Callers {
    ends: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    callers: Vec<JoinHandle<()>>,
}

impl Callers {
    /// Each decision, with how it went on, is told to `seen`; a call that fails panics in [`Callers::stop`].
    fn start(
        server: &TestServer,
        count: usize,
        ask: impl Fn(usize, usize) -> RouteRequest + Send + Sync + 'static,
        seen: impl Fn(Decision) + Send + Sync + 'static,
    ) -> Self {
        Self::pausing(Duration::ZERO, server, count, ask, seen)
    }

    /// The same with a pause after each answer, which leaves a shadow time: all others go before it.
    fn pausing(
        pause: Duration,
        server: &TestServer,
        count: usize,
        ask: impl Fn(usize, usize) -> RouteRequest + Send + Sync + 'static,
        seen: impl Fn(Decision) + Send + Sync + 'static,
    ) -> Self {
        let (ends, made) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (ask, seen) = (Arc::new(ask), Arc::new(seen));
        let callers = (0..count)
            .map(|caller| {
                let mut service = server.client();
                let (ends, made) = (Arc::clone(&ends), Arc::clone(&made));
                let (ask, seen) = (Arc::clone(&ask), Arc::clone(&seen));
                tokio::spawn(async move {
                    for turn in 0.. {
                        if ends.load(Ordering::Relaxed) {
                            break;
                        }
                        let answer = service.route(ask(caller, turn)).await.expect("no request fails");
                        seen(answer.into_inner().decision.unwrap());
                        made.fetch_add(1, Ordering::Relaxed);
                        if !pause.is_zero() {
                            tokio::time::sleep(pause).await;
                        }
                    }
                })
            })
            .collect();
        Self { ends, made, callers }
    }

    fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    async fn stop(self) -> usize {
        self.ends.store(true, Ordering::Relaxed);
        for caller in self.callers {
            tokio::time::timeout(PATIENCE, caller).await.expect("a caller ends").unwrap();
        }
        self.made.load(Ordering::Relaxed)
    }
}
