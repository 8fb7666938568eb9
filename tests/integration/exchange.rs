//! Bundles and configuration exchanged while requests flow: none fails, and none sees a mix of two.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use pointsman::{
    config::Config,
    live::{Next, Running},
    server::proto::{Context, Decision, RouteRequest},
};

use crate::support::{Behaviour, Scripted, TestServer, config, until};

const CLIENTS: usize = 8;
const EXCHANGES: usize = 40;
/// Decisions that are waited for between two exchanges, so that each generation is seen.
const DECISIONS_BETWEEN: usize = 10;

fn request(session: usize) -> RouteRequest {
    RouteRequest {
        prompt: Some(format!("explain the borrow checker of question {session}")),
        context: Some(Context { session_id: session.to_string(), ..Context::default() }),
        ..RouteRequest::default()
    }
}

/// The same, of no session: none keeps the tier that it has needed.
fn alone(client: usize) -> RouteRequest {
    RouteRequest { context: None, ..request(client) }
}

/// What a decision shows of what it was made by.
type Shown = (String, String, bool);

fn shown(decision: &Decision) -> Shown {
    let tier = decision.tier.clone();
    (decision.bundle_version.clone(), tier, decision.canary)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exchanges_under_load_lose_nothing_and_mix_nothing() {
    // One says that the weakest tier will do, the other that none below the top will.
    let bundles = [
        Scripted::versioned("weak", Behaviour::Answer([0.99, 0.99, 0.99])),
        Scripted::versioned("strong", Behaviour::Answer([0.01, 0.01, 0.01])),
    ];
    let config = Config { rules: Vec::new(), ..config("[classifier]\ncache_entries = 0\n") };
    let server = TestServer::start(config, Some(bundles[0].clone())).await;
    let ends = Arc::new(AtomicBool::new(false));
    let made = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (mut service, ends, made) = (server.client(), Arc::clone(&ends), Arc::clone(&made));
            tokio::spawn(async move {
                let mut seen: BTreeMap<u64, Vec<Shown>> = BTreeMap::new();
                while !ends.load(Ordering::Relaxed) {
                    let answer = service.route(alone(client)).await.expect("no request fails");
                    let decision = answer.into_inner().decision.unwrap();
                    let of = seen.entry(decision.config_generation).or_default();
                    let shown = shown(&decision);
                    if !of.contains(&shown) {
                        of.push(shown);
                    }
                    made.fetch_add(1, Ordering::Relaxed);
                }
                seen
            })
        })
        .collect();

    let mut serves: BTreeMap<u64, String> = BTreeMap::new();
    serves.insert(server.live.serving().generation, "weak".to_owned());
    for at in 1..=EXCHANGES {
        let before = made.load(Ordering::Relaxed);
        let live = Arc::clone(&server.live);
        let classifier = bundles[at / 2 % 2].clone();
        let version = ["weak", "strong"][at / 2 % 2];
        let exchanged = tokio::task::spawn_blocking(move || {
            live.exchange(|before| {
                let mut next = Next::of(before);
                if at % 2 == 0 {
                    let bundle = next.active.bundle.clone();
                    next.active = Running { bundle, classifier: Some(classifier) };
                } else {
                    let mut config = Config::clone(&next.config);
                    config.limits.messages_max += 1;
                    next.config = Arc::new(config);
                }
                next
            })
        });
        let serving = exchanged.await.unwrap().unwrap();
        serves.insert(serving.generation, version.to_owned());
        until("requests of this generation", async || {
            made.load(Ordering::Relaxed) >= before + DECISIONS_BETWEEN
        })
        .await;
    }
    ends.store(true, Ordering::Relaxed);
    let mut generations = 0;
    for client in clients {
        for (generation, of) in client.await.unwrap() {
            let version = &serves[&generation];
            let tier = if version == "weak" { "simple" } else { "reasoning" };
            assert_eq!(of, [(version.clone(), tier.to_owned(), false)], "generation {generation}");
            generations += 1;
        }
    }
    assert!(generations >= EXCHANGES, "{generations} seen");
    assert_eq!(server.live.serving().generation, 2 + EXCHANGES as u64);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_decides_its_share_and_keeps_its_sessions() {
    let active = Scripted::versioned("active", Behaviour::Answer([0.99, 0.99, 0.99]));
    let canary = Scripted::versioned("canary", Behaviour::Answer([0.99, 0.99, 0.99]));
    let config = Config { rules: Vec::new(), ..config("[classifier]\ncache_entries = 0\n") };
    let server = TestServer::start(config, Some(active)).await;
    let share_of = |share: f64| {
        let (live, canary) = (Arc::clone(&server.live), canary.clone());
        tokio::task::spawn_blocking(move || {
            let canary = || {
                let bundle = live.serving().active.bundle.clone();
                Running { bundle, classifier: Some(canary.clone() as Arc<_>) }
            };
            let canary = (share > 0.0).then(|| (canary(), share));
            live.exchange(|before| Next { canary, ..Next::of(before) }).map(|_| ())
        })
    };
    let mut service = server.client();
    let mut on_trial = async || {
        let mut sessions = Vec::new();
        for session in 0..200 {
            let decision = service.route(request(session)).await.unwrap().into_inner().decision.unwrap();
            let version = decision.bundle_version.as_str();
            assert_eq!(version, if decision.canary { "canary" } else { "active" });
            if decision.canary {
                sessions.push(session);
            }
        }
        sessions
    };
    assert!(on_trial().await.is_empty());
    share_of(0.2).await.unwrap().unwrap();
    let few = on_trial().await;
    assert!((15..=70).contains(&few.len()), "{}", few.len());
    assert_eq!(on_trial().await, few, "a session stays");
    share_of(0.6).await.unwrap().unwrap();
    let more = on_trial().await;
    assert!(few.iter().all(|session| more.contains(session)) && more.len() > few.len());
    share_of(0.0).await.unwrap().unwrap();
    assert!(on_trial().await.is_empty());
    server.stop().await.unwrap();
}
