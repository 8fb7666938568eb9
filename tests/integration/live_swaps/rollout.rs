//! The rollout by itself, with real figures: what is good takes over step by step, what is not is taken back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use pointsman::{
    config::Config,
    live::{
        deploy::Wish,
        fleet::{Event, EventKind, Exchanged, Keeper},
        rollout::{Change, Guard, Observed, Reach},
    },
    prompt::Draft,
    routing::admit::admit,
    server::proto::{CompleteRequest, RouteRequest},
    traffic::{
        feedback::{FeedbackSource, Verdict},
        now_ms,
        store::Landed,
    },
};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Callers, World, plain, route};
use crate::support::{
    onnx::{LEVELS, TinyBundle},
    traffic::feedback,
    until,
};

const CALLERS: usize = 6;
/// After each answer: some hundred requests a second are more than enough for every window.
const PAUSE: Duration = Duration::from_millis(10);
/// More than one of the looks that are made every two seconds fits into it, and into the guard after it.
const WINDOW: Duration = Duration::from_secs(3);
/// A look may come so much later than a window ends: two seconds, and what a busy machine adds.
const LOOK_MAX_MS: i64 = 30_000;

fn automatic(window: Duration) -> Config {
    let mut config = plain("");
    config.rollout.automatic = true;
    config.rollout.window = window;
    config.rollout.samples_min = 50;
    config.rollout.steps = vec![0.3, 0.6];
    config.rollout.shadow_sample = 1.0;
    // Machines of tests are busy: a prompt may wait for its turn as long as it likes.
    config.rollout.limits.coverage_fall_max = 0.2;
    config
}

fn half(version: &str) -> Wish {
    Wish::Canary { version: version.to_owned(), reach: Reach::Requests(0.5) }
}

/// Prompts of all levels in turn.
fn mixed(caller: usize, turn: usize) -> RouteRequest {
    route(format!("explain {} of {caller} {turn}", LEVELS[turn % LEVELS.len()]), "")
}

/// What a rollback tells must hold figures, and have been in time.
fn check_taken_back(event: &Event, since_ms: i64, window: Duration, about: &str) {
    assert!(event.why.contains(about) && event.why.contains('%'), "{}", event.why);
    let took_ms = event.at_ms - since_ms;
    assert!(took_ms <= window.as_millis() as i64 + LOOK_MAX_MS, "{took_ms} ms");
}

/// Waits until one bundle decides everything: what was written down serves a moment later.
async fn serves_alone(world: &World, bundle: &str) {
    until("a bundle to serve alone", async || {
        let serving = world.server.live.serving();
        *serving.active.bundle.name == *bundle && serving.canary.is_none() && serving.shadow.is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_random_head_is_taken_back_within_its_window() {
    let window = Duration::from_secs(60);
    let bundles = [TinyBundle::new("random").random(7)];
    let world = World::start(automatic(window), &bundles).await;
    let callers = Callers::pausing(PAUSE, &world.server, CALLERS, mixed, |_| {});
    world.change(half("random")).await.unwrap();
    let since_ms = world.desired().await.canary.unwrap().since_ms;
    let event = world.event_of_rollout(EventKind::RolledBack, "random").await;
    check_taken_back(&event, since_ms, Duration::ZERO, "tier");
    assert!(event.at_ms - since_ms < window.as_millis() as i64, "it need not wait for the end");
    let desired = world.desired().await;
    assert_eq!((desired.canary, &*desired.active.name), (None, "default"));
    serves_alone(&world, "default").await;
    callers.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_good_one_goes_from_shadow_through_every_step_to_active() {
    let world = World::start(automatic(WINDOW), &[TinyBundle::new("good")]).await;
    let callers = Callers::pausing(PAUSE, &world.server, CALLERS, mixed, |_| {});
    world.change(Wish::Shadow { version: "good".to_owned() }).await.unwrap();
    let promoted = world.event_of_rollout(EventKind::Promoted, "good").await;
    assert!(promoted.why.contains("scored requests"), "{}", promoted.why);
    let events = world.deployer.events(100).await.events;
    // On a busy machine it is slow to see enough, and says so.
    let steps = events.iter().rev().filter(|event| event.kind != EventKind::RolloutWaits);
    let told: Vec<(EventKind, &str, &str)> =
        steps.map(|event| (event.kind, event.who.as_str(), event.to.as_str())).collect();
    assert_eq!(
        told,
        [
            (EventKind::ShadowStarted, "operator", "good"),
            (EventKind::CanaryStarted, "rollout", "good at 30 % of requests"),
            (EventKind::CanaryMoved, "rollout", "good at 60 % of requests"),
            (EventKind::Promoted, "rollout", "good"),
        ]
    );
    let by_itself = events.iter().filter(|event| event.who == "rollout");
    for event in by_itself {
        assert!(event.why.chars().any(|char| char.is_ascii_digit()), "no figures: {}", event.why);
    }
    serves_alone(&world, "good").await;
    callers.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_answers_are_weak_is_taken_back_for_escalations() {
    const COMPLETING: usize = 40;
    let window = Duration::from_secs(60);
    let mut config = automatic(window);
    // Else the tiers alone would tell.
    config.rollout.limits.tier_shift_max = 1.0;
    let world = World::start(config, &[TinyBundle::new("stingy").always("simple")]).await;
    world.change(half("stingy")).await.unwrap();
    let since_ms = world.desired().await.canary.unwrap().since_ms;
    let ends = Arc::<AtomicBool>::default();
    let completing: Vec<_> = (0..COMPLETING)
        .map(|caller| {
            let (mut service, ends) = (world.server.client(), Arc::clone(&ends));
            tokio::spawn(async move {
                for turn in 0.. {
                    if ends.load(Ordering::Relaxed) {
                        break;
                    }
                    let prompt = Some(format!("reasoning please, demo:weak {caller} {turn}"));
                    let request = CompleteRequest { prompt, ..CompleteRequest::default() };
                    service.complete(request).await.expect("an answer");
                }
            })
        })
        .collect();
    let event = world.event_of_rollout(EventKind::RolledBack, "stingy").await;
    check_taken_back(&event, since_ms, window, "escalated or weak completions are");
    ends.store(true, Ordering::Relaxed);
    for caller in completing {
        caller.await.unwrap();
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_displeases_once_it_is_active_is_taken_back_by_the_guard() {
    // Long enough for a busy machine to hear what is said.
    let window = 5 * WINDOW;
    let mut config = automatic(window);
    config.rollout.steps = vec![0.5];
    let world = World::start_logging(config, &[TinyBundle::new("pleasing")]).await;
    let (told, mut decided) = mpsc::channel::<(String, String)>(64);
    let callers = Callers::pausing(PAUSE, &world.server, 2, mixed, move |decision| {
        // A sample: what does not fit is not judged.
        let _ = told.try_send((decision.decision_id, decision.bundle_version));
    });
    let is_bad = Arc::<AtomicBool>::default();
    let judging = tokio::spawn({
        let (live, is_bad) = (Arc::clone(&world.server.live), Arc::clone(&is_bad));
        async move {
            while let Some((id, version)) = decided.recv().await {
                let bad = is_bad.load(Ordering::Relaxed) && version == "pleasing";
                let id: Uuid = id.parse().unwrap();
                let mut feedback = feedback(&format!("{id}/thumb"), id);
                feedback.source = FeedbackSource::Human;
                feedback.verdict = Some(if bad { Verdict::Bad } else { Verdict::Good });
                live.feedback(feedback).await.unwrap();
            }
        }
    });
    world.change(half("pleasing")).await.unwrap();
    let promoted = world.event_of_rollout(EventKind::Promoted, "pleasing").await;
    is_bad.store(true, Ordering::Relaxed);
    let event = world.event_of_rollout(EventKind::RolledBack, "pleasing").await;
    check_taken_back(&event, promoted.at_ms, 2 * window, "bad feedback is");
    assert!(event.why.starts_with("after it became active"), "{}", event.why);
    assert_eq!(&*world.desired().await.active.name, "default");
    serves_alone(&world, "default").await;
    callers.stop().await;
    judging.await.unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feedback_that_is_faster_than_its_record_counts() {
    let world = World::start_logging(automatic(Duration::from_secs(3600)), &[TinyBundle::new("new")]).await;
    world.change(Wish::Shadow { version: "new".to_owned() }).await.unwrap();
    let (live, serving) = (&world.server.live, world.server.live.serving());
    let prompt = admit(Draft::from_text("explain the borrow checker"), &serving.config).unwrap();
    let decision = serving.route(&prompt, None).await.unwrap();
    // Counted, and not logged yet.
    live.observer().decided(&prompt, &decision);
    let id: Uuid = decision.decision_id.parse().unwrap();
    let mut early = feedback("thumb", id);
    early.source = FeedbackSource::Human;
    assert_eq!(live.feedback(early.clone()).await.unwrap(), Landed::Unknown);
    assert_eq!(live.observer().observed().0.bad, 1.0);
    assert_eq!(live.feedback(early).await.unwrap(), Landed::Duplicate);
    live.feedback(feedback("of nobody", Uuid::now_v7())).await.unwrap();
    assert_eq!(live.observer().observed().0.bad, 1.0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_promoted_that_is_gone_is_guarded_by_any_other() {
    let window = Duration::from_secs(20);
    let world = World::start_logging(automatic(window), &[TinyBundle::new("next")]).await;
    world.change(half("next")).await.unwrap();
    let mut before = Observed { asked: 5_000, scored: 5_000, good: 500.0, ..Observed::default() };
    before.bad = 5.0;
    // As that one wrote it down before it was killed.
    let seen = world.desired().await;
    let bundle = seen.canary.clone().unwrap().bundle;
    let guard = Box::new(Guard::of(&before, ""));
    let promoted = seen.changed(&Change::Promote(bundle, guard), now_ms(), 3).unwrap();
    let store = Keeper::new(Arc::clone(world.server.live.traffic()));
    assert_eq!(store.exchange(seen.revision, &promoted, &[]).await.unwrap(), Exchanged::Done);
    serves_alone(&world, "next").await;
    let (told, mut decided) = mpsc::channel::<String>(64);
    let callers = Callers::pausing(PAUSE, &world.server, 2, mixed, move |decision| {
        let _ = told.try_send(decision.decision_id);
    });
    let judging = tokio::spawn({
        let live = Arc::clone(&world.server.live);
        async move {
            while let Some(id) = decided.recv().await {
                let mut feedback = feedback(&format!("{id}/thumb"), id.parse().unwrap());
                feedback.source = FeedbackSource::Human;
                live.feedback(feedback).await.unwrap();
            }
        }
    });
    let event = world.event_of_rollout(EventKind::RolledBack, "next").await;
    assert!(event.why.starts_with("after it became active"), "{}", event.why);
    assert!(event.why.contains("bad feedback is"), "{}", event.why);
    let desired = world.desired().await;
    assert_eq!((&*desired.active.name, desired.guard), ("default", None));
    callers.stop().await;
    judging.await.unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_without_anything_to_compare_with_says_what_it_waits_for() {
    let world = World::start(automatic(Duration::from_secs(5)), &[TinyBundle::new("only")]).await;
    // The one session that there is falls to the canary.
    let reach = Reach::Requests(0.999_999);
    world.change(Wish::Canary { version: "only".to_owned(), reach }).await.unwrap();
    let one = |caller, turn| route(format!("explain simple {caller} {turn}"), "the only session");
    let callers = Callers::pausing(PAUSE, &world.server, 2, one, |_| {});
    let event = world.event_of_rollout(EventKind::RolloutWaits, "only").await;
    assert!(event.why.starts_with("all traffic is on the watched bundle"), "{}", event.why);
    assert!(world.deployer.waits().starts_with("all traffic is on"), "{}", world.deployer.waits());
    let canary = world.desired().await.canary.unwrap();
    assert_eq!(&*canary.bundle.name, "only");
    world.change(Wish::Rollback { version: None }).await.unwrap();
    until("nothing to wait for", async || world.deployer.waits().is_empty()).await;
    let events = world.deployer.events(100).await.events;
    assert_eq!(events.iter().filter(|event| event.kind == EventKind::RolloutWaits).count(), 1);
    callers.stop().await;
    world.stop().await;
}
