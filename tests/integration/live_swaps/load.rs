//! Exchanges by the deployer at full load: no call fails, no decision mixes two states, and what was left is freed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use pointsman::{
    config::{Config, read_text},
    routing::classifier::Classifier,
    server::proto::{CompleteRequest, Decision, StreamCompleteResponse, stream_complete_response::Event},
};
use tokio::task::JoinHandle;

use super::{Callers, World, activate, operator, plain};
use crate::support::{PATIENCE, TestServer, onnx::TinyBundle, until};

const CLIENTS: usize = 64;
const EXCHANGES: usize = 30;
const COMPLETIONS: usize = 6;
/// Decisions that are waited for between two exchanges, so that most generations are seen.
const DECISIONS_BETWEEN: usize = 30;

/// The configuration whose number shows in the decisions of its only rule.
fn numbered(base: &Config, number: usize) -> Config {
    let text = format!("[[rules]]\nid = \"config-{number}\"\nany = [\"^ping\"]\ntier = \"simple\"\n");
    Config { rules: read_text(&text).unwrap().rules, ..base.clone() }
}

/// What decisions of one generation said: bundles with the tiers that they decided, and rules.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    bundles: BTreeSet<(String, String)>,
    rules: BTreeSet<String>,
}

type Generations = Arc<Mutex<BTreeMap<u64, Said>>>;

fn note(seen: &Generations, decision: Decision) {
    let mut seen = seen.lock().unwrap();
    let said = seen.entry(decision.config_generation).or_default();
    if decision.bundle_version.is_empty() {
        said.rules.insert(decision.rule);
    } else {
        said.bundles.insert((decision.bundle_version, decision.tier));
    }
}

fn tier_of(version: &str) -> &'static str {
    match version {
        "weak" => "simple",
        "strong" => "reasoning",
        other => panic!("{other}"),
    }
}

/// Streams and whole answers in turn; each must be answered to its end.
fn completions(server: &TestServer, seen: &Generations, ends: &Arc<AtomicBool>) -> Vec<JoinHandle<usize>> {
    (0..COMPLETIONS)
        .map(|caller| {
            let (mut service, seen, ends) = (server.client(), Arc::clone(seen), Arc::clone(ends));
            tokio::spawn(async move {
                let mut made = 0;
                while !ends.load(Ordering::Relaxed) {
                    // The first takes some seconds, across many exchanges.
                    let slow = if made == 0 { "demo:slow" } else { "" };
                    let prompt = Some(format!("what became of parcel {caller} {made} {slow}"));
                    let request = CompleteRequest { prompt, ..CompleteRequest::default() };
                    if caller % 2 == 0 {
                        let answer = service.complete(request).await.expect("an answer").into_inner();
                        note(&seen, answer.decision.unwrap());
                    } else {
                        let mut messages = service.stream_complete(request).await.unwrap().into_inner();
                        let (mut opening, mut finished) = (None, false);
                        while let Some(StreamCompleteResponse { event }) = messages.message().await.unwrap() {
                            assert!(!finished, "nothing follows the end");
                            match event.unwrap() {
                                Event::Opening(told) => opening = Some(told),
                                Event::Delta(_) => {}
                                Event::Finished(_) => finished = true,
                            }
                        }
                        assert!(finished, "a stream has an end");
                        note(&seen, opening.unwrap().decision.unwrap());
                    }
                    made += 1;
                }
                made
            })
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn activations_and_reloads_at_full_load_lose_nothing_and_mix_nothing() {
    let base = plain("");
    let bundles = [TinyBundle::new("weak").always("simple"), TinyBundle::new("strong").always("reasoning")];
    let mut first = numbered(&base, 0);
    // Kept scores of one bundle must not serve under the other.
    first.classifier.cache_entries = 1000;
    let world = Arc::new(World::start(first, &bundles).await);
    let base = world.next.lock().unwrap().clone();
    world.change(activate("weak")).await.unwrap();
    let mut facts: BTreeMap<u64, Fact> = BTreeMap::new();
    facts.insert(world.server.live.serving().generation, Fact::Bundle("weak".to_owned()));
    let first_generation = world.server.live.serving().generation;

    let (seen, ends) = (Generations::default(), Arc::<AtomicBool>::default());
    let noting = Arc::clone(&seen);
    let ask = |caller, turn| {
        super::route(
            match turn % 3 {
                0 => format!("ping {caller} {turn}"),
                1 => "the same question over and over".to_owned(),
                _ => format!("question {caller} {turn}"),
            },
            "",
        )
    };
    let callers = Callers::start(&world.server, CLIENTS, ask, move |decision| note(&noting, decision));
    let completing = completions(&world.server, &seen, &ends);

    let reloading = tokio::spawn({
        let (world, base) = (Arc::clone(&world), base.clone());
        async move {
            let mut facts = Vec::new();
            for number in 1..=EXCHANGES {
                *world.next.lock().unwrap() = numbered(&base, number);
                let reloaded = world.deployer.reload(operator()).await.unwrap();
                assert_eq!(reloaded.changed, ["rules"]);
                facts.push((reloaded.generation, Fact::Rule(format!("config-{number}"))));
            }
            facts
        }
    });
    let mut left: Vec<Weak<dyn Classifier>> = Vec::new();
    for at in 1..=EXCHANGES {
        let classifier = world.server.live.router().classifier_handle().map(Arc::downgrade);
        left.extend(classifier);
        let version = ["weak", "strong"][at % 2];
        let deployed = world.change(activate(version)).await.unwrap();
        facts.insert(deployed.generation, Fact::Bundle(version.to_owned()));
        let before = callers.made();
        until("decisions", async || callers.made() >= before + DECISIONS_BETWEEN).await;
    }
    facts.extend(reloading.await.unwrap());
    ends.store(true, Ordering::Relaxed);
    let mut completed = 0;
    for caller in completing {
        completed += tokio::time::timeout(PATIENCE, caller).await.expect("a completion ends").unwrap();
    }
    let made = callers.stop().await;
    assert!(made >= EXCHANGES * DECISIONS_BETWEEN, "{made}");
    assert!(completed >= COMPLETIONS, "{completed}");

    assert_eq!(facts.len(), 1 + 2 * EXCHANGES, "each exchange has a generation of its own");
    let (mut bundle, mut rule) = (String::new(), "config-0".to_owned());
    let mut states = BTreeMap::new();
    for (generation, fact) in facts {
        match fact {
            Fact::Bundle(version) => bundle = version,
            Fact::Rule(id) => rule = id,
        }
        states.insert(generation, (bundle.clone(), rule.clone()));
    }
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    for (generation, said) in &seen {
        assert!(*generation >= first_generation);
        let (bundle, rule) = &states[generation];
        let tier = tier_of(bundle).to_owned();
        let bundles = BTreeSet::from([(bundle.clone(), tier)]);
        let rules = BTreeSet::from([rule.clone()]);
        assert!(said.bundles.is_subset(&bundles), "generation {generation}: {said:?}, {bundles:?}");
        assert!(said.rules.is_subset(&rules), "generation {generation}: {said:?}, {rules:?}");
    }
    assert!(seen.len() > EXCHANGES, "{} generations seen", seen.len());

    until("the classifiers that were left to be freed", async || {
        left.iter().all(|classifier| classifier.strong_count() == 0)
    })
    .await;
    assert!(world.server.live.router().classifier().is_some());
    Arc::into_inner(world).unwrap().stop().await;
}

/// What an exchange changed.
enum Fact {
    Bundle(String),
    Rule(String),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_told_of_all_bundles_together() {
    /// Prompts that wait for the slow bundle, which has one session.
    const WAITING: usize = 100;
    let folder = tempfile::tempdir().unwrap();
    TinyBundle::new("slow").slow(60).write(&folder.path().join("slow"));
    TinyBundle::new("fast").write(&folder.path().join("fast"));
    let slow = crate::support::load_bundle(&folder.path().join("slow")).unwrap();
    let fast = crate::support::load_bundle(&folder.path().join("fast")).unwrap();
    let waiting = || {
        let metrics = pointsman::telemetry::init_metrics().render();
        let line = metrics.lines().find_map(|line| line.strip_prefix("pointsman_classifier_waiting "));
        line.map_or(0.0, |value| value.parse::<f64>().unwrap())
    };
    let config = plain("");
    let excerpt = |classifier: &dyn Classifier| {
        let draft = pointsman::prompt::Draft::from_text("a question");
        let prompt = pointsman::routing::admit::admit(draft, &config).unwrap();
        pointsman::routing::classifier::Excerpt::of(&prompt, &classifier.describe().input)
    };
    let deadline = std::time::Instant::now() + PATIENCE;
    let asked: Vec<_> = (0..WAITING).map(|_| slow.submit(excerpt(&slow), deadline).unwrap()).collect();
    for _ in 0..5 {
        fast.submit(excerpt(&fast), deadline).unwrap().await.unwrap().unwrap();
    }
    // The fast one's empty queue does not hide the slow one's; other tests of this process may add to it.
    assert!(waiting() >= WAITING as f64 / 2.0, "{}", waiting());
    drop(asked);
}
