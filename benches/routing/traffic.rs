//! What logging a decision costs: the request, and the writer beside it.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput};
use pointsman::{
    config::{TrafficConfig, default_config},
    prompt::{Message, Role},
    telemetry,
    traffic::{
        Traffic,
        signals::{Asked, Signals},
        text::redact::redact,
    },
};

use super::{
    route::{router, runtime},
    texts::{ENGLISH, GERMAN, JAPANESE, PROMPT_BYTES, long_text, prompt, text},
};

/// Each record takes thousands of times longer to be written than to be queued, and all are waited for.
const LOG_MEASURE: Duration = Duration::from_millis(30);
/// Fewer than a batch: what is measured is what the request pays, not the writer beside it.
const LOGGED_AT_ONCE: u64 = 400;

/// What a request pays for being logged.
pub fn logging(criterion: &mut Criterion) {
    telemetry::init_metrics();
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let mut config = default_config();
    config.traffic = TrafficConfig::in_folder(folder.path().to_owned());
    config.traffic.flush = Duration::from_millis(5);
    let runtime = runtime();
    let router = router(config.clone(), None);
    let traffic = Traffic::start(&config);
    let mut group = criterion.benchmark_group("logging");
    group.warm_up_time(LOG_MEASURE).measurement_time(LOG_MEASURE).sample_size(10);
    for (name, text) in [("200 chars", text(ENGLISH, 200)), ("300,000 chars", long_text())] {
        let prompt = prompt(&text, &config);
        let decision = runtime.block_on(router.route(&prompt, None)).expect("the default rules have targets");
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let (mut left, mut took) = (iterations, Duration::ZERO);
                while left > 0 {
                    let prompts = vec![prompt.clone(); left.min(LOGGED_AT_ONCE) as usize];
                    left -= prompts.len() as u64;
                    let started = Instant::now();
                    prompts.into_iter().for_each(|prompt| traffic.decided(&config, prompt, &decision));
                    took += started.elapsed();
                    while traffic.status().waiting > 0 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                took
            });
        });
    }
    group.finish();
    runtime.block_on(traffic.stop());
}

pub fn redaction(criterion: &mut Criterion) {
    let letter = " Mail anna@example.org or call +49 151 23456789.\n\nBest regards,\nAnna Schmidt\n";
    let texts = [
        ("2 KB English", text(ENGLISH, PROMPT_BYTES)),
        ("2 KB German", text(GERMAN, PROMPT_BYTES)),
        ("2 KB Japanese", text(JAPANESE, PROMPT_BYTES)),
        ("2 KB English, a letter's end", text(ENGLISH, PROMPT_BYTES) + letter),
        ("300,000 chars", long_text()),
    ];
    let mut group = criterion.benchmark_group("redaction");
    for (name, text) in &texts {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(*name, |bencher| bencher.iter(|| redact(black_box(text))));
    }
    group.finish();
}

pub fn signals(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("signals");
    for (name, text) in [("200 chars", text(ENGLISH, 200)), ("2 KB", text(ENGLISH, PROMPT_BYTES))] {
        let memory = Signals::new();
        let messages = [Message { role: Role::User, content: text }];
        let mut at_ms = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                at_ms += 2000;
                let decision_id = uuid::Uuid::from_u128(at_ms as u128);
                let asked = Asked {
                    decision_id,
                    at_ms,
                    tenant: "t",
                    session: "s",
                    messages: black_box(&messages),
                    bytes: 200,
                };
                memory.asked(&asked)
            });
        });
    }
    group.finish();
}
