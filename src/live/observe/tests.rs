use std::{sync::Arc, time::Duration};

use uuid::Uuid;

use super::*;
use crate::{
    config::{Config, default_config},
    live::rollout::DEFAULT,
    prompt::Draft,
    routing::{
        admit::admit,
        classifier::scripted::{Outcome, Scripted},
        health::TargetHealth,
        sessions::Sessions,
    },
    traffic::feedback::{FeedbackSource, VERSION},
};

/// Longest wait for the shadow's thread.
const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "the heron nests in Zanzibar";

fn config(change: impl FnOnce(&mut Config)) -> Arc<Config> {
    let mut config = default_config();
    config.rollout.shadow_sample = 1.0;
    config.classifier.cache_entries = 0;
    config.classifier.wait_max = PATIENCE;
    // They name intents that the scripted classifier does not have.
    config.rules.clear();
    config.intents.clear();
    config.completion.checks.clear();
    change(&mut config);
    Arc::new(config)
}

fn version(name: &str) -> BundleRef {
    BundleRef { name: Arc::from(name), sha256: Some(Arc::from(format!("sha of {name}"))) }
}

/// A router whose classifier says the same of everything.
fn router(config: &Arc<Config>, generation: u64) -> Router {
    router_of(config, generation, Scripted::embedding(|_| vec![1.0, 0.0]))
}

fn router_of(config: &Arc<Config>, generation: u64, classifier: Scripted) -> Router {
    let (sessions, health) = (Sessions::new(&config.sessions), TargetHealth::new(config.targets.len()));
    let classifier = Arc::new(classifier);
    Router::new(Arc::clone(config), Some(classifier), Arc::new(sessions), Arc::new(health), generation)
        .unwrap()
}

fn prompt(config: &Config, text: &str) -> Prompt {
    admit(Draft::from_text(text), config).unwrap()
}

fn watching(config: &Arc<Config>, generation: u64) -> Watching {
    Watching {
        generation,
        config: Arc::clone(config),
        active: BundleRef { name: DEFAULT.into(), sha256: None },
        canary: None,
        has_canary_somewhere: false,
        shadow: None,
        configured: None,
        since_ms: 0,
    }
}

/// Counts the decisions of this router for so many different questions; returns the last one's.
async fn ask(observer: &Observer, router: &Router, count: usize) -> Decision {
    let mut last = None;
    for at in 0..count {
        let prompt = prompt(router.config(), &format!("Explain to me why {SECRET}, question {at} of many"));
        let decision = router.route(&prompt, None).await.unwrap();
        observer.see(&prompt, &decision);
        last = Some(decision);
    }
    last.unwrap()
}

fn feedback(decision: &Decision, verdict: Verdict) -> Feedback {
    let decision_id = decision.decision_id.parse().unwrap();
    Feedback {
        version: VERSION,
        feedback_id: String::new(),
        decision_id,
        at_ms: 0,
        source: FeedbackSource::Human,
        verdict: Some(verdict),
        score: None,
        right_tier: None,
        right_intent: None,
        comment: None,
        demonstration: None,
        signal: None,
    }
}

/// Waits until the shadow has said so much.
async fn scores(observer: &Observer, count: usize) -> Vec<ShadowScore> {
    let mut scores = Vec::new();
    while scores.len() < count {
        let more =
            tokio::time::timeout(PATIENCE, observer.shadow_scores(3)).await.expect("the shadow scores");
        assert!((1..=3).contains(&more.len()));
        scores.extend(more);
    }
    scores
}

#[tokio::test]
async fn each_side_gets_its_own_counts() {
    let (observer, config) = (Observer::default(), config(|_| {}));
    let (active, canary) = (router(&config, 2), router(&config, 2).on_trial());
    ask(&observer, &active, 1).await;
    assert_eq!(observer.observed(), Default::default());
    observer.exchanged(Watching {
        canary: Some((version("a"), 0.05)),
        has_canary_somewhere: true,
        ..watching(&config, 2)
    });
    let by_active = ask(&observer, &active, 3).await;
    let by_canary = ask(&observer, &canary, 2).await;
    observer.feedback(&feedback(&by_active, Verdict::Good));
    observer.feedback(&feedback(&by_canary, Verdict::Bad));
    let unknown = Decision { decision_id: Uuid::now_v7().to_string(), ..by_active.clone() };
    observer.feedback(&feedback(&unknown, Verdict::Bad));
    let (active_seen, watched) = observer.observed();
    assert_eq!((active_seen.asked, active_seen.scored, active_seen.tiers["moderate"]), (3, 3, 3));
    assert_eq!((active_seen.good, active_seen.bad), (1.0, 0.0));
    assert_eq!((watched.asked, watched.scored, watched.tiers["moderate"]), (2, 2, 2));
    assert_eq!((watched.good, watched.bad), (0.0, 1.0));
    // A rule's decision says nothing about a classifier.
    let ruled = Decision { tier_scores: Vec::new(), ..by_active };
    observer.see(&prompt(&config, "hello"), &ruled);
    assert_eq!(observer.observed().0.asked, 3);
    let failing = router_of(&config, 2, Scripted::new(8, 0, |_| Outcome::Failed("broken"))).on_trial();
    ask(&observer, &failing, 1).await;
    let (_, watched) = observer.observed();
    assert_eq!((watched.asked, watched.scored, watched.failures()), (3, 2, 1));
}

#[tokio::test]
async fn completions_count_where_they_were_decided() {
    let (observer, config) = (Observer::default(), config(|_| {}));
    observer.exchanged(Watching {
        canary: Some((version("a"), 0.5)),
        has_canary_somewhere: true,
        ..watching(&config, 1)
    });
    let prompt = prompt(&config, "Explain to me why the heron nests there");
    let decision = Arc::new(router(&config, 1).on_trial().route(&prompt, None).await.unwrap());
    let answered = |escalated| Ending::Answered {
        target: decision.target.clone(),
        tier: Arc::clone(&decision.tier),
        escalated,
        weak: None,
        baseline_cost_usd: 0.0,
    };
    for how in [answered(true), answered(false), Ending::HungUp] {
        let zero = Duration::ZERO;
        let ended = Ended {
            config: Arc::clone(&config),
            prompt: prompt.clone(),
            decision: Arc::clone(&decision),
            attempts: Vec::new(),
            how,
            cost_usd: 0.0,
            latency: zero,
            overhead: zero,
        };
        observer.ended(&ended);
    }
    let (active, watched) = observer.observed();
    assert_eq!(active, Observed::default());
    assert_eq!((watched.asked, watched.completions, watched.escalated, watched.weak), (3, 2, 1, 0));
}

#[tokio::test]
async fn another_comparison_begins_with_nothing_and_the_same_goes_on() {
    let (observer, config) = (Observer::default(), config(|_| {}));
    let canary = |generation, share| Watching {
        canary: Some((version("a"), share)),
        has_canary_somewhere: true,
        ..watching(&config, generation)
    };
    let asked = |observer: &Observer| observer.observed().0.asked;
    observer.exchanged(canary(1, 0.05));
    ask(&observer, &router(&config, 1), 2).await;
    // The configuration was read again.
    observer.exchanged(canary(2, 0.05));
    ask(&observer, &router(&config, 1), 1).await;
    ask(&observer, &router(&config, 2), 1).await;
    assert_eq!(asked(&observer), 4);
    observer.exchanged(canary(3, 0.25));
    assert_eq!(asked(&observer), 0);
    // A request that took long was decided in the step before.
    ask(&observer, &router(&config, 2), 1).await;
    assert_eq!(asked(&observer), 0);
    ask(&observer, &router(&config, 3), 1).await;
    // Told too late.
    observer.exchanged(canary(2, 0.05));
    assert_eq!(asked(&observer), 1);
    observer.exchanged(Watching { since_ms: 5, ..canary(4, 0.25) });
    assert_eq!(asked(&observer), 0);
    // Another bundle lies where the configuration says.
    let classifiers =
        [router(&config, 5), router(&config, 6)].map(|router| router.classifier_handle().cloned().unwrap());
    let configured = |generation, at: usize| Watching {
        configured: Some(Arc::downgrade(&classifiers[at])),
        ..canary(generation, 0.25)
    };
    observer.exchanged(configured(5, 0));
    ask(&observer, &router(&config, 5), 1).await;
    observer.exchanged(configured(6, 0));
    assert_eq!(asked(&observer), 1);
    observer.exchanged(configured(7, 1));
    assert_eq!(asked(&observer), 0);
}

#[tokio::test]
async fn a_shadow_is_compared_and_keeps_no_text() {
    let (observer, config_now) = (Observer::default(), config(|_| {}));
    let wants_more = config(|config| config.policy.quality = 0.8);
    let shadow = Some((version("s"), Arc::new(router(&wants_more, 1))));
    observer.exchanged(Watching { shadow, ..watching(&config_now, 1) });
    let last = ask(&observer, &router(&config_now, 1), 5).await;
    let rows = scores(&observer, 5).await;
    let ids: Vec<String> = rows.iter().map(|row| row.decision_id.to_string()).collect();
    assert_eq!(ids[4], last.decision_id);
    for row in &rows {
        assert_eq!(&*row.bundle, "s");
        assert!(!row.document.contains("heron"), "{}", row.document);
        let document: serde_json::Value = serde_json::from_str(&row.document).unwrap();
        assert_eq!((&document["active_tier"], &document["tier"]), (&"moderate".into(), &"complex".into()));
        assert_eq!(document["sufficiency"].as_array().unwrap().len(), config_now.tiers.len());
    }
    let (active, watched) = observer.observed();
    assert_eq!((active.asked, active.compared), (5, 0));
    assert_eq!((watched.asked, watched.scored, watched.compared, watched.moved_up), (5, 5, 5, 5));
    assert_eq!(watched.agreement(), Some(0.0));
}

#[tokio::test]
async fn beside_a_canary_a_shadow_scores_and_is_not_judged() {
    let (observer, config) = (Observer::default(), config(|_| {}));
    let shadow = Some((version("s"), Arc::new(router(&config, 1))));
    let canary = Some((version("a"), 0.5));
    observer.exchanged(Watching { shadow, canary, has_canary_somewhere: true, ..watching(&config, 1) });
    ask(&observer, &router(&config, 1), 2).await;
    ask(&observer, &router(&config, 1).on_trial(), 1).await;
    assert_eq!(scores(&observer, 2).await.len(), 2);
    let (_, watched) = observer.observed();
    assert_eq!((watched.asked, watched.compared), (1, 0));
}

#[tokio::test]
async fn beside_a_canary_that_other_replicas_run_a_shadow_is_not_judged_either() {
    let (observer, config) = (Observer::default(), config(|_| {}));
    let broken = router_of(&config, 1, Scripted::new(8, 0, |_| Outcome::Failed("broken")));
    let shadow = Some((version("s"), Arc::new(broken)));
    observer.exchanged(Watching { shadow, has_canary_somewhere: true, ..watching(&config, 1) });
    ask(&observer, &router(&config, 1), 3).await;
    assert_eq!(scores(&observer, 3).await.len(), 3);
    let (active, watched) = observer.observed();
    assert_eq!((active.asked, watched), (3, Observed::default()));
}

#[tokio::test]
async fn a_shadow_that_fails_is_counted_and_harms_nobody() {
    let (observer, config) = (Observer::default(), config(|_| {}));
    let broken = router_of(&config, 1, Scripted::new(8, 0, |_| Outcome::Failed("broken")));
    observer.exchanged(Watching { shadow: Some((version("s"), Arc::new(broken))), ..watching(&config, 1) });
    ask(&observer, &router(&config, 1), 3).await;
    let rows = scores(&observer, 3).await;
    assert!(rows[0].document.contains(r#""unscored":"failed""#), "{}", rows[0].document);
    let (active, watched) = observer.observed();
    assert_eq!((active.asked, active.failures()), (3, 0));
    assert_eq!((watched.asked, watched.failures(), watched.compared), (3, 3, 0));
}

#[tokio::test]
async fn what_a_shadow_says_too_late_counts_against_it() {
    let (observer, config) = (Observer::default(), config(|_| {}));
    let silent = router_of(&config, 1, Scripted::new(8, 0, |_| Outcome::Kept));
    let shadow = Some((version("s"), Arc::new(silent.waiting(Duration::from_millis(20)))));
    observer.exchanged(Watching { shadow, ..watching(&config, 1) });
    ask(&observer, &router(&config, 1), 2).await;
    let rows = scores(&observer, 2).await;
    assert!(rows[0].document.contains(r#""unscored":"too_late""#), "{}", rows[0].document);
    let (active, watched) = observer.observed();
    assert_eq!((active.asked, active.unscored.total()), (2, 0));
    assert_eq!((watched.asked, watched.unscored.too_late, watched.dropped), (2, 2, 0));
}

#[tokio::test]
async fn what_does_not_fit_is_dropped_and_the_step_before_is_left() {
    let (observer, config) = (Observer::default(), config(|_| {}));
    // It never answers, so that the first request keeps the thread.
    let slow = router_of(&config, 1, Scripted::new(8, 0, |_| Outcome::Kept));
    let slow = Arc::new(slow.waiting(Duration::from_millis(500)));
    let shadow = Some((version("s"), Arc::clone(&slow)));
    observer.exchanged(Watching { shadow, ..watching(&config, 1) });
    let active = router(&config, 1);
    let long = prompt(&config, &"why does the heron nest there? ".repeat(2000));
    let decision = active.route(&long, None).await.unwrap();
    for _ in 0..1000 {
        observer.see(&long, &decision);
    }
    let (_, watched) = observer.observed();
    assert!(watched.dropped >= 700, "{watched:?}");
    observer.exchanged(watching(&config, 2));
    assert_eq!(observer.observed(), Default::default());
    let freed = async {
        while Arc::strong_count(&slow) > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, freed).await.expect("the old router is free");
}

#[test]
fn of_a_session_the_shadow_gets_all_or_nothing() {
    let config = config(|config| config.rollout.shadow_sample = 0.2);
    let shadow = Some((version("s"), Arc::new(router(&config, 1))));
    let watching = Watching { shadow, ..watching(&config, 1) };
    let sampled = |session: &str| {
        let context = Context { session_id: session.to_owned(), ..Context::default() };
        watching.is_sampled(&context, Uuid::now_v7())
    };
    for session in 0..50 {
        let first = sampled(&session.to_string());
        assert!((0..5).all(|_| sampled(&session.to_string()) == first));
    }
    let share =
        |name: &dyn Fn(u32) -> String| (0..5000).filter(|&at| sampled(&name(at))).count() as f64 / 5000.0;
    assert!((0.17..0.23).contains(&share(&|at| at.to_string())));
    assert!((0.17..0.23).contains(&share(&|_| String::new())));
}
