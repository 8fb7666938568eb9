//! What bundles that can be exchanged cost a request.

use std::{hint::black_box, sync::Arc};

use criterion::{BenchmarkId, Criterion};
use pointsman::{
    config::{Config, default_config},
    live::{
        Live, Next, Running, Serving,
        observe::{Observer, Watching},
        rollout::BundleRef,
    },
    prompt::Prompt,
    telemetry,
};

use super::{
    route::runtime,
    texts::{prompt, text_of_tokens},
};

/// What a request pays for bundles that can be exchanged: who decides it, and that it is counted.
pub fn live(criterion: &mut Criterion) {
    telemetry::init_metrics();
    let runtime = runtime();
    let mut config = default_config();
    config.traffic.enabled = false;
    let live = Live::start(config).expect("the built-in configuration serves");
    live.load_classifier().expect("the bundle in the binary loads");
    let alone = live.serving();
    let trial = |name: &str| {
        let classifier = alone.active.router.classifier_handle().cloned();
        Running { bundle: BundleRef { name: Arc::from(name), sha256: None }, classifier }
    };
    let canary = Some((trial("canary"), 0.5));
    let beside_canary = live.exchange(|before| Next { canary, ..Next::of(before) }).expect("it fits");
    let shadow = Some(trial("shadow"));
    let next = |before: &Serving| Next { canary: None, shadow, ..Next::of(before) };
    let beside_shadow = live.exchange(next).expect("it fits");

    let mut prompt = prompt(&text_of_tokens(20), &alone.config);
    prompt.context.tenant = "acme".to_owned();
    prompt.context.session_id = "session-1".to_owned();
    let mut group = criterion.benchmark_group("live");
    let id = uuid::Uuid::now_v7();
    for (name, serving) in [("alone", &alone), ("beside a canary", &beside_canary)] {
        group.bench_function(BenchmarkId::new("pick", name), |bencher| {
            bencher.iter(|| Arc::as_ptr(black_box(serving).pick(black_box(&prompt.context), id)));
        });
    }
    // The shadow's queue is soon full: what is measured is mostly a drop, as under load.
    let cases = [
        ("alone", &alone, 0.0),
        ("beside a canary", &beside_canary, 0.0),
        ("beside a shadow of a tenth", &beside_shadow, 0.1),
        ("beside a shadow of all", &beside_shadow, 1.0),
    ];
    for (name, serving, sample) in cases {
        let decision = runtime.block_on(serving.route(&prompt, None)).expect("there are targets");
        assert_eq!(decision.unscored, None);
        let observer = Observer::default();
        observer.exchanged(watching(serving, sample));
        // Each request of its own session, or all would be in the sample or none.
        let prompts: Vec<Prompt> = (0..1000)
            .map(|session: u32| {
                let mut prompt = prompt.clone();
                prompt.context.session_id = session.to_string();
                prompt
            })
            .collect();
        let mut at = 0;
        group.bench_function(BenchmarkId::new("observe", name), |bencher| {
            bencher.iter(|| {
                at = (at + 1) % prompts.len();
                observer.decided(black_box(&prompts[at]), black_box(&decision));
            });
        });
    }
    group.finish();
}

fn watching(serving: &Serving, shadow_sample: f64) -> Watching {
    let mut config = Config::clone(&serving.config);
    config.rollout.shadow_sample = shadow_sample;
    let canary = serving.canary.as_ref().map(|canary| (canary.served.bundle.clone(), canary.share));
    let shadow = serving.shadow.as_ref();
    Watching {
        generation: serving.generation,
        config: Arc::new(config),
        active: serving.active.bundle.clone(),
        canary,
        has_canary_somewhere: serving.canary.is_some(),
        shadow: shadow.map(|shadow| (shadow.bundle.clone(), Arc::clone(&shadow.router))),
        configured: None,
        since_ms: 0,
    }
}
