//! The rollout by itself, with real figures: what is good takes over step by step, what is not is taken back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use pointsman::{
    config::Config,
    live::{
        deploy::Wish,
        fleet::{Event, EventKind},
        rollout::Reach,
    },
    server::proto::{CompleteRequest, RouteRequest},
    traffic::feedback::{FeedbackSource, Verdict},
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
/// More than one of the looks that are made every two seconds fits into it, and into the guard after it.
const WINDOW: Duration = Duration::from_secs(3);
/// A look may come so much later than a window ends: two seconds, and what a busy machine adds.
const LOOK_MAX_MS: i64 = 8_000;
/// Until a record is in the store: feedback about one that is not there yet does not count.
const WRITTEN_AFTER: Duration = Duration::from_millis(300);

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
    let window = Duration::from_secs(20);
    let bundles = [TinyBundle::new("random").random(7)];
    let world = World::start(automatic(window), &bundles).await;
    let callers = Callers::start(&world.server, CALLERS, mixed, |_| {});
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
    let callers = Callers::start(&world.server, CALLERS, mixed, |_| {});
    world.change(Wish::Shadow { version: "good".to_owned() }).await.unwrap();
    let promoted = world.event_of_rollout(EventKind::Promoted, "good").await;
    assert!(promoted.why.contains("scored requests"), "{}", promoted.why);
    let events = world.deployer.events(100).await.unwrap();
    let told: Vec<(EventKind, &str, &str)> =
        events.iter().rev().map(|event| (event.kind, event.who.as_str(), event.to.as_str())).collect();
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
    let mut config = automatic(WINDOW);
    config.rollout.steps = vec![0.5];
    let world = World::start_logging(config, &[TinyBundle::new("pleasing")]).await;
    let (told, mut decided) = mpsc::channel::<(Instant, String, String)>(64);
    let callers = Callers::start(&world.server, 2, mixed, move |decision| {
        // A sample: what does not fit is not judged.
        let _ = told.try_send((Instant::now(), decision.decision_id, decision.bundle_version));
    });
    let is_bad = Arc::<AtomicBool>::default();
    let judging = tokio::spawn({
        let (live, is_bad) = (Arc::clone(&world.server.live), Arc::clone(&is_bad));
        async move {
            while let Some((made, id, version)) = decided.recv().await {
                tokio::time::sleep_until((made + WRITTEN_AFTER).into()).await;
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
    check_taken_back(&event, promoted.at_ms, 2 * WINDOW, "bad feedback is");
    assert!(event.why.starts_with("after it became active"), "{}", event.why);
    assert_eq!(&*world.desired().await.active.name, "default");
    serves_alone(&world, "default").await;
    callers.stop().await;
    judging.await.unwrap();
    world.stop().await;
}
