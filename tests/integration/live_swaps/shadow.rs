//! A shadow: its scores land beside the records, no text does, and nothing that it does is felt by callers.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use pointsman::{
    config::{Config, TextPolicy},
    live::{
        Next, Running,
        deploy::Wish,
        observe::Watching,
        rollout::{BundleRef, Observed},
    },
    routing::classifier::{Classifier, ClassifyError, Description, Excerpt, Scored},
    traffic::store::{Selection, fleet::ShadowSelection},
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{Callers, World, plain, route};
use crate::{
    cli::text,
    support::{Behaviour, Scripted, onnx::TinyBundle, program::program, until},
};

/// In every prompt, and nowhere else.
const SECRET: &str = "xylophonegrandmother";

fn sampling_all(sections: &str) -> Config {
    let mut config = plain(sections);
    config.rollout.shadow_sample = 1.0;
    config
}

fn shadow(version: &str) -> Wish {
    Wish::Shadow { version: version.to_owned() }
}

fn watched(world: &World) -> Observed {
    world.server.live.observer().observed().1
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scores_land_in_the_store_without_any_text() {
    let bundles = [TinyBundle::new("next").always("reasoning")];
    let world = World::start_logging(sampling_all(""), &bundles).await;
    world.change(shadow("next")).await.unwrap();
    let mut service = world.server.client();
    let mut decided = Vec::new();
    for at in 0..40 {
        let request = route(format!("{SECRET} number {at}"), "");
        let decision = service.route(request).await.unwrap().into_inner().decision.unwrap();
        assert_eq!((decision.tier.as_str(), decision.bundle_version.as_str()), ("simple", "configured"));
        decided.push(decision.decision_id);
    }
    let store = world.server.live.traffic().store().unwrap();
    let selection = ShadowSelection { bundle: Some("next".to_owned()), ..ShadowSelection::default() };
    let mut rows = Vec::new();
    until("the shadow's scores", async || {
        rows = store.shadow_page(&selection, None, 1000).await.unwrap();
        rows.len() >= decided.len()
    })
    .await;
    for row in &rows {
        assert!(decided.contains(&row.decision_id.to_string()));
        let document: Value = serde_json::from_str(&row.document).unwrap();
        assert_eq!((&document["active_tier"], &document["tier"]), (&"simple".into(), &"reasoning".into()));
        assert_eq!(document["sufficiency"].as_array().unwrap().len(), 4);
        assert!(document.get("unscored").is_none());
        assert!(!row.document.contains(SECRET), "{}", row.document);
    }
    let seen = watched(&world);
    assert_eq!((seen.compared, seen.moved_up, seen.dropped), (40, 40, 0));
    // The log's own records are redacted by policy, not empty: the page has none of the text, that is all.
    world.stop().await;
}

/// Where no text is kept, what the shadow said is all the more wanted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_said_is_exported_and_compared() {
    const REQUESTS: usize = 12;
    let mut config = sampling_all("");
    config.traffic.text = TextPolicy::None;
    let bundles = [TinyBundle::new("next").always("reasoning")];
    let world = World::start_logging(config, &bundles).await;
    let mut service = world.server.client();
    let unseen = service.route(route(format!("{SECRET} before"), "")).await.unwrap().into_inner();
    let unseen = unseen.decision.unwrap().decision_id;
    world.change(shadow("next")).await.unwrap();
    for at in 0..REQUESTS {
        service.route(route(format!("{SECRET} number {at}"), "")).await.unwrap();
    }
    let store = world.server.live.traffic().store().unwrap();
    until("records and scores", async || {
        let page = store.page(&Selection::default(), None, 1000).await.unwrap();
        page.iter().filter(|logged| logged.shadow.is_some()).count() == REQUESTS && page.len() > REQUESTS
    })
    .await;
    let state = world.state();
    let run = |arguments: &[&str]| {
        let output = program(&state).args(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let exports = state.join("exports");
    run(&["traffic", "export", "--format", "jsonl", "--out", exports.to_str().unwrap()]);
    let mut lines = String::new();
    for day in std::fs::read_dir(&exports).unwrap() {
        for file in std::fs::read_dir(day.unwrap().path()).unwrap() {
            lines.push_str(&std::fs::read_to_string(file.unwrap().path()).unwrap());
        }
    }
    assert!(!lines.contains(SECRET));
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), REQUESTS + 1);
    for row in &rows {
        if row["decision_id"] == unseen.as_str() {
            assert!(row["shadow_bundle"].is_null() && row["shadow_sufficiency"].is_null(), "{row:#}");
            continue;
        }
        assert_eq!((&row["tier"], &row["bundle_version"]), (&json!("simple"), &json!("configured")));
        assert_eq!((&row["shadow_bundle"], &row["shadow_tier"]), (&json!("next"), &json!("reasoning")));
        assert_eq!(row["shadow_sufficiency"].as_array().unwrap().len(), 4, "{row:#}");
        assert!(row["shadow_cost_usd_estimate"].as_f64() > row["cost_usd_estimate"].as_f64(), "{row:#}");
        assert_eq!((&row["shadow_propensity"], row["shadow_target"].is_string()), (&json!(1.0), true));
    }
    let figures = run(&["bundle", "diff", "--shadow", "next", "--json"]);
    let figures: Value = serde_json::from_str(&figures).unwrap();
    assert_eq!(figures["beside_log"]["requests"], json!(REQUESTS), "{figures:#}");
    assert_eq!((&figures["agreement"]["tier"], &figures["stronger"]), (&json!(0.0), &json!(1.0)));
    assert_eq!(figures["tiers"]["counts"][0], json!([0, 0, 0, REQUESTS]));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_shadow_drops_and_counts_and_is_not_waited_for() {
    const CALLS: u64 = 600;
    /// What its queue holds.
    const QUEUE_MAX: u64 = 256;
    let bundles = [TinyBundle::new("slow").slow(100)];
    let world = World::start(sampling_all(""), &bundles).await;
    world.change(shadow("slow")).await.unwrap();
    let wrong = Arc::<AtomicUsize>::default();
    let counting = Arc::clone(&wrong);
    let callers = Callers::start(
        &world.server,
        8,
        |caller, turn| route(format!("question {caller} {turn}"), ""),
        move |decision| {
            if decision.bundle_version != "configured" || decision.tier != "simple" || decision.canary {
                counting.fetch_add(1, Ordering::Relaxed);
            }
        },
    );
    until("calls beside a slow shadow", async || callers.made() as u64 >= CALLS).await;
    let scored = watched(&world).asked;
    assert!(scored < CALLS / 2, "{scored}: they waited for the shadow");
    until("something is dropped", async || watched(&world).dropped > 0).await;
    let made = callers.stop().await as u64;
    assert_eq!(wrong.load(Ordering::Relaxed), 0);
    let seen = watched(&world);
    assert!(seen.dropped + seen.asked + QUEUE_MAX + 1 >= made, "{seen:?} of {made}");
    let metrics = pointsman::telemetry::init_metrics().render();
    let dropped =
        metrics.lines().any(|line| line.starts_with("pointsman_shadow") && line.contains("\"queue\""));
    assert!(dropped, "a metric says so");
    // Taken back, what waits is left at once, and its classifier is freed.
    let held = world.server.live.serving().shadow.as_ref().unwrap().router.classifier_handle().cloned();
    let left = held.as_ref().map(Arc::downgrade).unwrap();
    drop(held);
    world.change(Wish::Rollback { version: None }).await.unwrap();
    until("the shadow to be freed", async || left.strong_count() == 0).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_has_more_time_than_callers_would_wait() {
    let mut config = sampling_all("");
    config.classifier.wait_max = Duration::from_millis(100);
    let world = World::start(config, &[TinyBundle::new("slow").slow(400)]).await;
    world.change(shadow("slow")).await.unwrap();
    let mut service = world.server.client();
    service.route(route("question".to_owned(), "")).await.unwrap();
    // Its time is what is counted last.
    let is_counted = |seen: &Observed| seen.latencies.count() > 0 || seen.unscored.total() > 0;
    until("its scores", async || is_counted(&watched(&world))).await;
    let seen = watched(&world);
    assert_eq!((seen.scored, seen.dropped, seen.latencies.count()), (1, 0, 1), "{seen:?}");
    world.stop().await;
}

/// Breaks down at every prompt.
struct Panicking(Arc<Scripted>);

impl Classifier for Panicking {
    fn describe(&self) -> &Description {
        self.0.describe()
    }

    fn submit(
        &self,
        _: Excerpt,
        _: Instant,
    ) -> Result<oneshot::Receiver<Result<Scored, ClassifyError>>, ClassifyError> {
        panic!("scripted");
    }
}

/// Has a classifier shadow the active one, beside the deployer, which would not take it.
fn put_beside(world: &World, classifier: Arc<dyn Classifier>, since_ms: i64) {
    let bundle = BundleRef { name: "scripted".into(), sha256: None };
    let running = Running { bundle, classifier: Some(classifier) };
    let live = &world.server.live;
    let serving = live.exchange(|before| Next { shadow: Some(running), ..Next::of(before) }).unwrap();
    live.observer().exchanged(Watching {
        generation: serving.generation,
        config: Arc::clone(&serving.config),
        active: serving.active.bundle.clone(),
        canary: None,
        has_canary_somewhere: false,
        shadow: serving.shadow.as_ref().map(|shadow| (shadow.bundle.clone(), Arc::clone(&shadow.router))),
        configured: None,
        since_ms,
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_that_panics_costs_neither_answers_nor_the_next_shadow() {
    let world = World::start(sampling_all(""), &[]).await;
    let reading = Scripted::versioned("scripted", Behaviour::Answer([0.9, 0.9, 0.9]));
    put_beside(&world, Arc::new(Panicking(Arc::clone(&reading))), 1);
    let mut service = world.server.client();
    let mut ask = async |count: usize| {
        for at in 0..count {
            let decision = service.route(route(format!("question {at}"), "")).await.unwrap();
            assert_eq!(decision.into_inner().decision.unwrap().bundle_version, "configured");
        }
    };
    ask(5).await;
    until("five failures", async || watched(&world).unscored.failed == 5).await;
    put_beside(&world, reading, 2);
    ask(5).await;
    until("the next one's scores", async || watched(&world).scored == 5).await;
    world.stop().await;
}
