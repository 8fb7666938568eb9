//! The other parts of a decision, each alone: tokens, policy, the operator's own intents, the language.

use std::{hint::black_box, sync::Arc};

use criterion::{BenchmarkId, Criterion, Throughput};
use pointsman::{
    config::{ExploreConfig, default_config},
    prompt::{Intent, TokenCountSource},
    routing::{
        classifier::{Bundle, Encoder, Excerpt, Scores, TokenDensity},
        cost::TokenCount,
        intents::ExampleIntents,
        language::detect,
        learning::Estimate,
        policy::{Evidence, Exploration, Question, decide, explore},
        rules::Hits,
    },
};

use super::texts::{ENGLISH, GERMAN, JAPANESE, PROMPT_BYTES, prompt, text, text_of_tokens};

pub fn tokenize(criterion: &mut Criterion) {
    let bundle = Bundle::embedded().expect("the bundle in the binary is checked by a test");
    let encoder = Encoder::new(&bundle.tokenizer, bundle.manifest.input).expect("its tokenizer loads");
    let config = default_config();
    let mut group = criterion.benchmark_group("excerpt and tokenize");
    for tokens in [20, 128, 2000] {
        let prompt = prompt(&text_of_tokens(tokens), &config);
        group.throughput(Throughput::Elements(tokens as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{tokens} tokens")), |bencher| {
            bencher.iter(|| {
                let excerpt = Excerpt::of(black_box(&prompt), &bundle.manifest.input);
                encoder.encode(&excerpt).expect("plain words are tokenised")
            });
        });
    }
    group.finish();
}

pub fn policy(criterion: &mut Criterion) {
    let config = default_config();
    let prompt = prompt("Compare two ways to store sessions", &config);
    let levels: Vec<usize> = (0..config.tiers.len()).collect();
    let scores = Scores {
        intent: Intent(Arc::from("open_qa")),
        intent_confidence: 0.8,
        sufficiency: vec![0.2, 0.6, 0.9, 1.0],
        level_confidence: 0.7,
        intent_unsure: false,
        level_margin_min: 0.0,
        truncated: false,
        density: TokenDensity { tokens: 8, bytes: 34 },
    };
    let hits = Hits::default();
    let evidences = [
        (
            "scores",
            Evidence::Scores { scores: &scores, levels: &levels, cached: false, claim: None, unread: None },
        ),
        ("no scores", Evidence::None { why: "the classifier's queue is full" }),
    ];
    let question = |evidence| Question {
        config: &config,
        prompt: &prompt,
        tokens: TokenCount { tokens: 12, source: TokenCountSource::Tokenizer },
        hits: &hits,
        evidence,
        session_floor: None,
        session_last: None,
        refusing: &[],
        seed: 7,
        offsets: &[],
    };
    let mut group = criterion.benchmark_group("policy");
    for (name, evidence) in evidences {
        group.bench_function(name, |bencher| {
            bencher.iter(|| decide(black_box(&question(evidence))));
        });
    }
    let scored = evidences[0].1;
    let known: Vec<Option<Estimate>> =
        config.targets.iter().map(|_| Some(Estimate { mean: -0.1, sd: 0.4 })).collect();
    let offsets: Vec<Option<f64>> = known.iter().map(|known| known.map(|known| known.mean)).collect();
    let learned = Question { offsets: &offsets, ..question(scored) };
    group.bench_function("scores and offsets", |bencher| bencher.iter(|| decide(black_box(&learned))));
    let best = decide(&learned).expect("targets are open");
    let mut seed = 0;
    group.bench_function("explore, beside deciding", |bencher| {
        bencher.iter(|| {
            seed += 1;
            let config = ExploreConfig { rate: 0.05, quality_min: 0.3 };
            let prior = Estimate { mean: 0.0, sd: 1.0 };
            explore(black_box(&learned), &best, &Exploration { config, prior, known: &known, seed })
        });
    });
    group.finish();
}

pub fn intents(criterion: &mut Criterion) {
    const INTENTS: usize = 50;
    const EXAMPLES: usize = 20;
    const WIDTH: usize = 384;
    let points = points(INTENTS * EXAMPLES + 1, WIDTH);
    let (prompt, examples) = points.split_first().expect("more than one point");
    let groups = examples.chunks(EXAMPLES).map(<[Vec<f32>]>::to_vec).collect();
    let intents = ExampleIntents::new(groups, 0.01, &examples[..EXAMPLES]);
    let mut group = criterion.benchmark_group("intents by example");
    group.bench_function(format!("{INTENTS} intents of {EXAMPLES} examples"), |bencher| {
        bencher.iter(|| intents.claim(black_box(prompt)));
    });
    group.finish();
}

/// Returns points that spread over the unit sphere, always the same.
fn points(count: usize, width: usize) -> Vec<Vec<f32>> {
    let mut state = 1_u32;
    let mut number = || {
        // Numerical Recipes' linear congruential generator: any spread will do.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state as f32 / u32::MAX as f32 - 0.5
    };
    (0..count)
        .map(|_| {
            let point: Vec<f32> = (0..width).map(|_| number()).collect();
            let length = point.iter().map(|x| x * x).sum::<f32>().sqrt();
            point.into_iter().map(|x| x / length).collect()
        })
        .collect()
}

pub fn language(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("language");
    for (name, passage) in [("2 KB English", ENGLISH), ("2 KB German", GERMAN), ("2 KB Japanese", JAPANESE)] {
        let text = text(passage, PROMPT_BYTES);
        group.bench_function(name, |bencher| bencher.iter(|| detect(black_box(&text))));
    }
    group.finish();
}
