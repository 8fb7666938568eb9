//! Changes of bundles through the deployer, one after the other as an operator makes them: alone, and beside another
//! replica on the same store.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use pointsman::{
    config::{Config, StoreConfig, TrafficConfig},
    live::{
        Live,
        bundles::BundleStore,
        deploy::{ConfigRead, ConfigSource, Deployed, Deployer, Who, Wish},
        fleet::{Event, EventKind, Exchanged, Keeper, ReplicaReport},
        rollout::{BundleRef, Change, Desired, Reach},
    },
    traffic::now_ms,
};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::support::{
    PATIENCE, config,
    onnx::{INTENTS, TinyBundle},
    until,
};

/// Far more than what never counts as slower, also on the fastest processor: some 20 ms a prompt and more, on most.
const SLOW_STEPS: usize = 20;
/// Bundles that are compared, until a machine that is busy has time to.
const COMPARED_MAX: usize = 10;
/// Machines of tests are busy: how fast a tiny bundle is says nothing where that is not the question.
const LATENCY_RATIO_MAX: f64 = 1e6;
/// Names an intent that [`narrow`] does not have.
const SUMS: &str = "[[rules]]\nid = \"sums\"\nany = ['^sums$']\nintent = \"math\"\n";
const NO_RULES: &str = "rules = []\n";

/// A process that serves bundles of a folder.
struct World {
    live: Arc<Live>,
    deployer: Arc<Deployer>,
    /// What is read when the configuration is read again, and how often it was.
    next: Arc<Mutex<Config>>,
    reads: Arc<AtomicUsize>,
    stop: oneshot::Sender<()>,
    following: tokio::task::JoinHandle<()>,
}

/// Bundles of a folder, beginning with the `first`; wishes are kept in memory.
fn alone(rules: &str, store: &Path, first: &Path) -> Config {
    config(&format!(
        "{rules}[bundles]\nstore = {store:?}\n[classifier]\nbundle = {first:?}\nworkers = 1\n\
         [traffic]\nenabled = false\n"
    ))
}

/// The same on a store that others share.
fn sharing(folder: &Path, machine: &str, rules: &str, first: &Path) -> Config {
    let mut config = alone(rules, &folder.join("versions"), first);
    config.traffic = TrafficConfig {
        store: StoreConfig::Sqlite { path: folder.join("traffic.sqlite") },
        ..TrafficConfig::in_folder(folder.to_owned())
    };
    config.traffic.spool.folder = folder.join(machine);
    config.bundles.latency_ratio_max = LATENCY_RATIO_MAX;
    config
}

/// One that lacks an intent.
fn narrow(version: &str) -> TinyBundle {
    let intents: Vec<&str> = INTENTS.into_iter().filter(|&intent| intent != "math").collect();
    TinyBundle::new(version).intents(&intents)
}

impl World {
    async fn start(config: Config) -> Self {
        let live = Arc::new(Live::start(config.clone()).unwrap());
        if config.traffic.enabled {
            live.traffic().store_within(PATIENCE).await.expect("the store is opened");
        }
        let keeper = Keeper::new(Arc::clone(live.traffic()));
        let bundles = BundleStore::open(&config.bundles).unwrap();
        let (next, reads) = (Arc::new(Mutex::new(config)), Arc::<AtomicUsize>::default());
        let (reading, counted) = (Arc::clone(&next), Arc::clone(&reads));
        let read = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(ConfigRead { config: reading.lock().unwrap().clone(), sha256: String::new() })
        };
        let source = ConfigSource { path: None, sha256: String::new(), read: Arc::new(read) };
        let deployer = Arc::new(Deployer::new(Arc::clone(&live), keeper, bundles, source));
        let (stop, stopped) = oneshot::channel();
        let follower = Arc::clone(&deployer);
        let following = tokio::spawn(async move { follower.run(async { drop(stopped.await) }).await });
        until("the first bundle serves", async || live.is_ready()).await;
        Self { live, deployer, next, reads, stop, following }
    }

    async fn change(&self, wish: Wish) -> Deployed {
        self.deployer.change(wish, who()).await.expect("the change is made")
    }

    async fn activate(&self, version: &str) -> u64 {
        self.change(Wish::Activate { version: version.to_owned() }).await.generation
    }

    async fn canary(&self, version: &str) {
        self.change(Wish::Canary { version: version.to_owned(), reach: Reach::Requests(0.5) }).await;
    }

    fn active(&self) -> String {
        self.live.serving().active.bundle.name.to_string()
    }

    fn has_canary(&self) -> bool {
        self.live.serving().canary.is_some()
    }

    /// Returns the version that the active classifier says it is.
    fn runs(&self) -> String {
        self.live.router().classifier().expect("something serves").version.to_string()
    }

    fn problem(&self) -> Option<String> {
        self.deployer.report().problem
    }

    async fn bundle(&self, version: &str) -> BundleRef {
        let listed = self.deployer.bundles().await.unwrap().into_iter().map(|report| report.listed.bundle);
        listed.into_iter().find(|bundle| *bundle.name == *version).expect("it is in the store")
    }

    /// What others see and say.
    fn keeper(&self) -> Keeper {
        Keeper::new(Arc::clone(self.live.traffic()))
    }

    /// Changes what is wanted as another replica does, all of it seen at once.
    async fn wanted_elsewhere(&self, changes: &[Change]) {
        let keeper = self.keeper();
        let nothing = || Desired { revision: 0, ..Desired::first(now_ms()) };
        let before = keeper.desired().await.unwrap().unwrap_or_else(nothing);
        let after =
            changes.iter().fold(before.clone(), |desired, change| desired.changed(change, 1, 3).unwrap());
        let after = Desired { revision: before.revision + 1, ..after };
        assert_eq!(keeper.exchange(before.revision, &after, &[]).await.unwrap(), Exchanged::Done);
    }

    async fn desired(&self) -> Desired {
        self.deployer.desired().await.unwrap()
    }

    async fn events_of(&self, kind: EventKind) -> Vec<Event> {
        let events = self.deployer.events(100).await.events;
        events.into_iter().filter(|event| event.kind == kind).collect()
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        self.following.await.unwrap();
        self.live.traffic().stop().await;
    }
}

fn who() -> Who {
    Who("test".to_owned())
}

/// Waits until one replica has heard of another.
async fn hears_of(one: &World, other: &World) {
    let (keeper, id) = (one.keeper(), other.deployer.replica_id());
    until("a replica to be known", async || {
        keeper.live_replicas().await.unwrap().iter().any(|replica| replica.replica_id == id)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollback_to_a_much_slower_bundle_is_never_refused() {
    let folder = tempfile::tempdir().unwrap();
    let slow = TinyBundle::new("1.0.0").slow(SLOW_STEPS).write_under(folder.path());
    TinyBundle::new("2.0.0").write_under(folder.path());
    let world = World::start(alone("", folder.path(), &slow)).await;
    world.activate("2.0.0").await;
    world.change(Wish::Rollback { version: None }).await;
    assert_eq!(world.active(), "default");
    // Another one that is as slow has not proven anything. What a machine was too busy to compare is taken: then the
    // next one is tried, because that one has served.
    for number in 0..COMPARED_MAX {
        world.activate("2.0.0").await;
        let version = format!("3.0.{number}");
        TinyBundle::new(&version).slow(SLOW_STEPS).write_under(folder.path());
        if let Err(refused) = world.deployer.change(Wish::Activate { version }, who()).await {
            assert_eq!(refused.unfit().map(pointsman::routing::classifier::Unfit::as_str), Some("latency"));
            assert_eq!(world.active(), "2.0.0");
            world.end().await;
            return;
        }
    }
    panic!("none was refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_in_a_row_are_never_undone_by_what_was_wanted_before() {
    const CHANGES: u64 = 20;
    let folder = tempfile::tempdir().unwrap();
    let first = TinyBundle::new("1.0.0").write_under(folder.path());
    TinyBundle::new("2.0.0").write_under(folder.path());
    let world = World::start(alone("", folder.path(), &first)).await;
    let before = world.live.serving().generation;
    for at in 1..=CHANGES {
        // The follower hears of each change while the next one is being made.
        let version = if at % 2 == 1 { "2.0.0" } else { "default" };
        assert_eq!(world.activate(version).await, before + at);
    }
    assert_eq!(world.deployer.report().revision, CHANGES);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_is_taken_back_whatever_became_of_the_configured_bundles_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = TinyBundle::new("1.0.0").write_under(folder.path());
    let store = folder.path().join("versions");
    TinyBundle::new("2.0.0").write_under(&store);
    let mut config = alone("", &store, &first);
    config.bundles.latency_ratio_max = LATENCY_RATIO_MAX;
    let world = World::start(config).await;
    world.canary("2.0.0").await;
    fs::remove_dir_all(&first).unwrap();
    world.change(Wish::Rollback { version: None }).await;
    assert!(!world.has_canary());
    assert_eq!((world.runs(), world.problem()), ("1.0.0".to_owned(), None));
    // Who names it wants what lies there.
    let wish = Wish::Activate { version: "default".to_owned() };
    world.deployer.change(wish, who()).await.unwrap_err();
    assert_eq!(world.runs(), "1.0.0");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_reload_refused_does_not_come_in_with_the_next_change() {
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("configured");
    TinyBundle::new("1.0.0").write(&first);
    let store = folder.path().join("versions");
    TinyBundle::new("2.0.0").write_under(&store);
    let world = World::start(alone("", &store, &first)).await;
    // What a machine was too busy to compare is taken.
    let mut refused = None;
    for _ in 0..COMPARED_MAX {
        TinyBundle::new("1.0.1").slow(SLOW_STEPS).write(&first);
        refused = world.deployer.reload(who()).await.err();
        if refused.is_some() {
            break;
        }
        TinyBundle::new("1.0.0").write(&first);
        world.deployer.reload(who()).await.unwrap();
    }
    let refused = refused.expect("it is refused");
    assert_eq!(refused.unfit().map(pointsman::routing::classifier::Unfit::as_str), Some("latency"));
    world.canary("2.0.0").await;
    world.change(Wish::Rollback { version: None }).await;
    assert_eq!(world.runs(), "1.0.0");
    world.activate("default").await;
    assert_eq!(world.runs(), "1.0.1", "an operator may take it all the same");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_activates_default_again_has_every_replica_look_at_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    TinyBundle::new("2.0.0").write_under(&folder.path().join("versions"));
    let at = |machine: &str| folder.path().join("configured").join(machine);
    for machine in ["one", "other"] {
        TinyBundle::new("1.0.0").write(&at(machine));
    }
    let one = World::start(sharing(folder.path(), "one", "", &at("one"))).await;
    let other = World::start(sharing(folder.path(), "other", "", &at("other"))).await;
    TinyBundle::new("1.0.1").write(&at("other"));
    one.activate("default").await;
    until("what lies in its folder", async || other.runs() == "1.0.1").await;

    // Nothing else does.
    TinyBundle::new("1.0.2").write(&at("other"));
    one.canary("2.0.0").await;
    until("the canary", async || other.has_canary()).await;
    assert_eq!(other.runs(), "1.0.1");

    // Where there is nothing, it goes on with what it has, says so, and follows all else.
    fs::remove_dir_all(at("other")).unwrap();
    one.activate("default").await;
    until("it to be told", async || other.problem().is_some()).await;
    one.change(Wish::Rollback { version: None }).await;
    until("the canary to be taken back", async || !other.has_canary()).await;
    *other.next.lock().unwrap() = sharing(folder.path(), "other", SUMS, &at("other"));
    hears_of(&one, &other).await;
    one.deployer.reload_all(who()).await.unwrap();
    until("the other file", async || other.live.serving().config.rules.len() == 1).await;
    assert_eq!(other.runs(), "1.0.1");
    assert!(other.problem().is_some(), "it is still to be looked at");
    TinyBundle::new("1.0.3").write(&at("other"));
    other.canary("2.0.0").await;
    assert_eq!((other.runs(), other.problem()), ("1.0.3".to_owned(), None));
    one.end().await;
    other.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_by_another_one_is_not_lost_on_who_makes_a_change_just_then() {
    let folder = tempfile::tempdir().unwrap();
    let first = TinyBundle::new("1.0.0").write_under(folder.path());
    TinyBundle::new("2.0.0").write_under(&folder.path().join("versions"));
    let changing = World::start(sharing(folder.path(), "changing", NO_RULES, &first)).await;
    let asking = World::start(sharing(folder.path(), "asking", NO_RULES, &first)).await;
    hears_of(&asking, &changing).await;
    *changing.next.lock().unwrap() = sharing(folder.path(), "changing", SUMS, &first);
    asking.deployer.reload_all(who()).await.unwrap();
    // It looks every two seconds, and has not looked yet.
    changing.activate("2.0.0").await;
    until("the other file", async || changing.live.serving().config.rules.len() == 1).await;
    assert_eq!(changing.reads.load(Ordering::Relaxed), 1, "once");
    asking.end().await;
    changing.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_made_for_a_version_is_read_when_both_come_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("configured");
    narrow("1.0.0").write(&first);
    TinyBundle::new("2.0.0").write_under(&folder.path().join("versions"));
    let world = World::start(sharing(folder.path(), "one", NO_RULES, &first)).await;
    *world.next.lock().unwrap() = sharing(folder.path(), "one", SUMS, &first);
    let second = world.bundle("2.0.0").await;
    world.wanted_elsewhere(&[Change::ReloadConfig, Change::Activate(second)]).await;
    until("the version", async || world.active() == "2.0.0").await;
    until("its configuration", async || world.live.serving().config.rules.len() == 1).await;
    until("it to be told", async || world.events_of(EventKind::ConfigReloaded).await.len() == 1).await;
    assert_eq!(world.events_of(EventKind::ConfigRefused).await, []);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_made_for_a_version_waits_until_that_can_be_had() {
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("configured");
    narrow("1.0.0").write(&first);
    let (store, away) = (folder.path().join("versions"), folder.path().join("away"));
    let written = TinyBundle::new("2.0.0").write_under(&store);
    let world = World::start(sharing(folder.path(), "one", NO_RULES, &first)).await;
    let second = world.bundle("2.0.0").await;
    fs::rename(&written, &away).unwrap();
    *world.next.lock().unwrap() = sharing(folder.path(), "one", SUMS, &first);
    world.wanted_elsewhere(&[Change::Activate(second), Change::ReloadConfig]).await;
    let refused = async || world.events_of(EventKind::ConfigRefused).await.len();
    until("it to be told", async || refused().await == 1).await;
    let staged = |version: &str| {
        Change::Stage(BundleRef { name: version.into(), sha256: Some("ab".repeat(32).into()) })
    };
    // Whatever else is wanted has it try again.
    let reads = world.reads.load(Ordering::Relaxed);
    world.wanted_elsewhere(&[staged("8.0.0")]).await;
    until("another try", async || world.reads.load(Ordering::Relaxed) > reads).await;
    assert!(world.problem().is_some());
    fs::rename(&away, &written).unwrap();
    world.wanted_elsewhere(&[staged("9.0.0")]).await;
    until("the version", async || world.active() == "2.0.0").await;
    until("its configuration", async || world.live.serving().config.rules.len() == 1).await;
    until("it to be told", async || world.events_of(EventKind::ConfigReloaded).await.len() == 1).await;
    assert_eq!((refused().await, world.problem()), (1, None));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_have_the_active_bundle_still_changes_what_has_nothing_to_do_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let first = TinyBundle::new("1.0.0").write_under(folder.path());
    TinyBundle::new("2.0.0").write_under(&folder.path().join("versions"));
    let world = World::start(sharing(folder.path(), "one", NO_RULES, &first)).await;
    let absent = BundleRef { name: "9.9.9".into(), sha256: Some("ab".repeat(32).into()) };
    let second = world.bundle("2.0.0").await;
    world.wanted_elsewhere(&[Change::Stage(second), Change::Activate(absent)]).await;
    until("it to be told", async || world.problem().is_some()).await;
    let other = ReplicaReport { replica_id: Uuid::now_v7(), ..world.deployer.report() };
    world.keeper().report(&other).await.unwrap();

    world.deployer.reload_all(who()).await.expect("the others are asked");
    assert_eq!(world.desired().await.config_reloads, 1);
    let forgotten = world.change(Wish::Forget { version: "2.0.0".to_owned() }).await.desired;
    assert_eq!(forgotten.staged, []);
    assert_eq!((&*forgotten.active.name, world.active()), ("9.9.9", "default".to_owned()));
    assert!(world.problem().is_some_and(|problem| problem.contains("9.9.9")));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_does_not_fit_here_keeps_no_change_away() {
    let folder = tempfile::tempdir().unwrap();
    let first = TinyBundle::new("1.0.0").write_under(folder.path());
    for bundle in [TinyBundle::new("2.0.0"), narrow("3.0.0")] {
        bundle.write_under(&folder.path().join("versions"));
    }
    let world = World::start(sharing(folder.path(), "one", SUMS, &first)).await;
    let shadow = world.bundle("3.0.0").await;
    world.wanted_elsewhere(&[Change::Shadow(shadow)]).await;
    until("it to be told", async || world.problem().is_some()).await;
    world.activate("2.0.0").await;
    assert_eq!(world.active(), "2.0.0");
    assert!(world.desired().await.shadow.is_some(), "others have it");
    assert!(world.problem().is_some_and(|problem| problem.contains("math")));
    world.change(Wish::Rollback { version: Some("3.0.0".to_owned()) }).await;
    assert_eq!(world.problem(), None);
    world.end().await;
}
