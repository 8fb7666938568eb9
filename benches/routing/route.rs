//! The whole way of a request: decided by a rule, and by the classifier.

use std::{hint::black_box, sync::Arc};

use criterion::{BenchmarkId, Criterion};
use pointsman::{
    config::{Config, default_config},
    prompt::{Decision, Prompt, Source},
    routing::{
        Router,
        classifier::{Classifier, OnnxClassifier},
        health::TargetHealth,
        sessions::Sessions,
    },
    telemetry,
};
use tokio::runtime::Runtime;

use super::{
    rules::{LAST_WORDS, Style, with_50_rules},
    texts::{ENGLISH, GERMAN, JAPANESE, PROMPT_BYTES, prompt, text, text_of_tokens},
};

pub fn route(criterion: &mut Criterion) {
    // As in the server: without a recorder, counting would cost nothing.
    telemetry::init_metrics();
    let runtime = runtime();
    let decide = |router: &Router, prompt: &Prompt| -> Decision {
        runtime.block_on(router.route(prompt, None)).expect("every prompt of this file has a target")
    };

    let mut group = criterion.benchmark_group("route");
    let config = with_50_rules(Style::Plain);
    let fast = router(config.clone(), None);
    for (name, passage) in [("2 KB English", ENGLISH), ("2 KB German", GERMAN), ("2 KB Japanese", JAPANESE)] {
        let prompt = prompt(&(text(passage, PROMPT_BYTES - LAST_WORDS.len()) + LAST_WORDS), &config);
        assert_eq!(decide(&fast, &prompt).source, Source::Rule, "the last of 50 rules finds {LAST_WORDS:?}");
        group.bench_function(BenchmarkId::new("rule, 50 rules", name), |bencher| {
            bencher.iter(|| decide(&fast, black_box(&prompt)));
        });
    }

    let mut config = default_config();
    config.classifier.cache_entries = 0;
    let classifier = OnnxClassifier::load(&config.classifier).expect("the bundle in the binary loads");
    let slow = router(config.clone(), Some(Arc::new(classifier)));
    for tokens in [20, 32, 128] {
        let prompt = prompt(&text_of_tokens(tokens), &config);
        assert_eq!(decide(&slow, &prompt).source, Source::Classifier, "no rule matches plain words");
        group.bench_function(BenchmarkId::new("classifier", format!("{tokens} tokens")), |bencher| {
            bencher.iter(|| decide(&slow, black_box(&prompt)));
        });
    }
    group.finish();
}

pub fn router(config: Config, classifier: Option<Arc<dyn Classifier>>) -> Router {
    let sessions = Arc::new(Sessions::new(&config.sessions));
    let health = Arc::new(TargetHealth::new(config.targets.len()));
    Router::new(Arc::new(config), classifier, sessions, health, 1)
        .expect("the configurations of this file fit")
}

/// Returns what routes are awaited on: one thread, as nothing here waits for a socket.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
}
