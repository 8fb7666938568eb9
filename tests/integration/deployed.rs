//! Changes of bundles through the deployer, one after the other as an operator makes them.

use std::{path::Path, sync::Arc};

use pointsman::{
    config::Config,
    live::{
        Live,
        bundles::BundleStore,
        deploy::{ConfigRead, ConfigSource, Deployer, Who, Wish},
        fleet::Keeper,
    },
};
use tokio::sync::oneshot;

use crate::support::{config, onnx::TinyBundle, until};

/// A process that serves bundles of a folder, beginning with its `first`; wishes are kept in memory.
struct World {
    live: Arc<Live>,
    deployer: Arc<Deployer>,
    stop: oneshot::Sender<()>,
    following: tokio::task::JoinHandle<()>,
}

impl World {
    async fn start(store: &Path, first: &Path) -> Self {
        let text = format!(
            "[bundles]\nstore = {store:?}\n[classifier]\nbundle = {first:?}\nworkers = 1\n\
             [traffic]\nenabled = false\n"
        );
        let config = config(&text);
        let live = Arc::new(Live::start(config.clone()).unwrap());
        let keeper = Keeper::new(Arc::clone(live.traffic()));
        let bundles = BundleStore::open(&config.bundles).unwrap();
        let deployer = Arc::new(Deployer::new(Arc::clone(&live), keeper, bundles, unchanging(config)));
        let (stop, stopped) = oneshot::channel();
        let follower = Arc::clone(&deployer);
        let following = tokio::spawn(async move { follower.run(async { drop(stopped.await) }).await });
        until("the first bundle serves", async || live.is_ready()).await;
        Self { live, deployer, stop, following }
    }

    async fn change(&self, wish: Wish) -> u64 {
        let who = Who("test".to_owned());
        self.deployer.change(wish, who).await.expect("the change is made").generation
    }

    async fn activate(&self, version: &str) -> u64 {
        self.change(Wish::Activate { version: version.to_owned() }).await
    }

    fn active(&self) -> String {
        self.live.serving().active.bundle.name.to_string()
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.following.await.unwrap();
    }
}

fn unchanging(config: Config) -> ConfigSource {
    let read = move || Ok(ConfigRead { config: config.clone(), sha256: String::new() });
    ConfigSource { path: None, sha256: String::new(), read: Arc::new(read) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollback_to_a_much_slower_bundle_is_never_refused() {
    let folder = tempfile::tempdir().unwrap();
    let slow = TinyBundle::new("1.0.0").slow(4).write_under(folder.path());
    TinyBundle::new("2.0.0").write_under(folder.path());
    TinyBundle::new("3.0.0").slow(4).write_under(folder.path());
    let world = World::start(folder.path(), &slow).await;
    world.activate("2.0.0").await;
    world.change(Wish::Rollback { version: None }).await;
    assert_eq!(world.active(), "default");
    // Another one that is as slow has not proven anything.
    world.activate("2.0.0").await;
    let wish = Wish::Activate { version: "3.0.0".to_owned() };
    let refused = world.deployer.change(wish, Who("test".to_owned())).await.unwrap_err();
    assert_eq!(refused.unfit().map(pointsman::routing::classifier::Unfit::as_str), Some("latency"));
    assert_eq!(world.active(), "2.0.0");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_in_a_row_are_never_undone_by_what_was_wanted_before() {
    const CHANGES: u64 = 20;
    let folder = tempfile::tempdir().unwrap();
    let first = TinyBundle::new("1.0.0").write_under(folder.path());
    TinyBundle::new("2.0.0").write_under(folder.path());
    let world = World::start(folder.path(), &first).await;
    let before = world.live.serving().generation;
    for at in 1..=CHANGES {
        // The follower hears of each change while the next one is being made.
        let version = if at % 2 == 1 { "2.0.0" } else { "default" };
        assert_eq!(world.activate(version).await, before + at);
    }
    assert_eq!(world.deployer.report().revision, CHANGES);
    world.end().await;
}
