use super::*;
use crate::{
    config::{BundleStoreConfig, ConfigError, read_text},
    live::{
        Live,
        bundles::BundleStore,
        deploy::{ConfigRead, ConfigSource, Who},
        fleet::Keeper,
        rollout::{Guard, Observed},
    },
};

/// One without a classifier, a log and bundles.
pub(in crate::live::deploy) fn deployer() -> Deployer {
    let mut config = read_text("[classifier]\nenabled = false").unwrap();
    config.traffic.enabled = false;
    config.rollout.automatic = true;
    config.bundles.store = BundleStoreConfig::Folder("nowhere".into());
    let bundles = BundleStore::open(&config.bundles).unwrap();
    let reading = config.clone();
    let live = Arc::new(Live::start(config).unwrap());
    let keeper = Keeper::new(Arc::clone(live.traffic()));
    let read = move || -> Result<ConfigRead, ConfigError> {
        Ok(ConfigRead { config: reading.clone(), sha256: String::new() })
    };
    let source = ConfigSource { path: None, sha256: String::new(), read: Arc::new(read) };
    Deployer::new(live, keeper, bundles, source)
}

#[tokio::test]
async fn what_two_replicas_take_back_at_once_is_taken_back_once() {
    let deployer = deployer();
    let mut work = deployer.turn().await.unwrap();
    let version = |name: &str| BundleRef { name: Arc::from(name), sha256: Some(Arc::from(name)) };
    let cause = || Cause { who: Who("rollout".to_owned()), why: String::new() };
    for change in [Change::Activate(version("a")), Change::Canary(version("b"), Reach::Requests(0.5))] {
        let before = deployer.kept().await.unwrap();
        deployer.make(&mut work, before, &change, &cause()).await.unwrap();
    }
    let seen = deployer.kept().await.unwrap();
    deployer.make(&mut work, seen.clone(), &Change::Rollback, &cause()).await.unwrap();
    // The other one saw the same canary; by now the next thing to go would be the active bundle.
    let late = deployer.make(&mut work, seen, &Change::Rollback, &cause()).await;
    assert!(matches!(late, Err(DeployError::Overtaken)), "{late:?}");
    assert_eq!(deployer.kept().await.unwrap().active, version("a"));
}

#[tokio::test]
async fn who_activates_a_guarded_bundle_is_told_that_it_is_kept() {
    let deployer = deployer();
    let mut work = deployer.turn().await.unwrap();
    let bundle = BundleRef { name: Arc::from("a"), sha256: Some(Arc::from("a")) };
    let guard = Box::new(Guard::of(&Observed::default(), ""));
    let cause = |who: &str| Cause { who: Who(who.to_owned()), why: String::new() };
    let promote = Change::Promote(bundle.clone(), guard);
    for (change, who) in [(promote, "rollout"), (Change::Activate(bundle), "bob")] {
        let before = deployer.kept().await.unwrap();
        deployer.make(&mut work, before, &change, &cause(who)).await.unwrap();
    }
    assert_eq!(deployer.kept().await.unwrap().guard, None);
    let events = deployer.events(9).await.events;
    let told: Vec<(EventKind, &str)> = events.iter().map(|event| (event.kind, event.who.as_str())).collect();
    let expected = [EventKind::GuardEnded, EventKind::Activated].map(|kind| (kind, "bob"));
    assert_eq!(told[..2], expected);
    assert_eq!((&*events[0].from, &*events[0].to), ("default", "a"));
    assert!(events[0].why.contains("is kept"), "{}", events[0].why);
}

#[tokio::test]
async fn a_rollback_takes_back_what_was_meant() {
    let deployer = deployer();
    let mut work = deployer.turn().await.unwrap();
    let version = |name: &str| BundleRef { name: Arc::from(name), sha256: Some(Arc::from(name)) };
    let cause = Cause { who: Who("local".to_owned()), why: String::new() };
    let before = deployer.kept().await.unwrap();
    deployer.make(&mut work, before, &Change::Activate(version("a")), &cause).await.unwrap();
    drop(work);
    let rollback = async |version: &str| {
        let wish = Wish::Rollback { version: Some(version.to_owned()) };
        deployer.change(wish, Who("local".to_owned())).await
    };
    let refused = rollback("b").await;
    assert!(matches!(refused, Err(DeployError::Change(ChangeError::NotThat { .. }))), "{refused:?}");
    assert_eq!(rollback("a").await.unwrap().desired.active, BundleRef::configured());
}
