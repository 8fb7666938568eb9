//! What a decision costs in process: rules, tokens, policy, the whole route; and what logging it costs afterwards.
//!
//! `cargo bench --bench routing` takes about a minute; a filter after `--` picks a group. Nothing
//! here goes over a socket: `benches/load` does.

use std::{
    fmt::Write,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pointsman::{
    config::{Config, ExploreConfig, TrafficConfig, default_config, read_text},
    live::{
        Live, Next, Running, Serving,
        observe::{Observer, Watching},
        rollout::BundleRef,
    },
    prompt::{Decision, Draft, Intent, Message, Prompt, Role, Source, TokenCountSource},
    routing::{
        Router,
        admit::admit,
        classifier::{Bundle, Classifier, Encoder, Excerpt, OnnxClassifier, Scores, TokenDensity},
        cost::{TokenCount, count_by_length},
        health::TargetHealth,
        intents::ExampleIntents,
        language::detect,
        learning::Estimate,
        policy::{Evidence, Exploration, Question, decide, explore},
        rules::{Hits, RuleSet},
        sessions::Sessions,
    },
    telemetry,
    traffic::{
        Traffic,
        signals::{Asked, Signals},
        text::redact::redact,
    },
};

const WARM_UP: Duration = Duration::from_millis(300);
const MEASURE: Duration = Duration::from_millis(1200);
/// Fewer than the default of 100: a single run over 300,000 characters takes milliseconds.
const SAMPLES: usize = 20;

/// Each record takes thousands of times longer to be written than to be queued, and all are waited for.
const LOG_MEASURE: Duration = Duration::from_millis(30);
/// Fewer than a batch: what is measured is what the request pays, not the writer beside it.
const LOGGED_AT_ONCE: u64 = 400;

const PROMPT_BYTES: usize = 2048;
const LONG_PROMPT_CHARS: usize = 300_000;
/// Ends the texts that a rule must find, so that finding it takes reading them whole.
const LAST_WORDS: &str = " Ticket SUP-204817.";
/// Finds [`LAST_WORDS`]; the last rule of every synthetic set.
const LAST_PATTERN: &str = r"(?i)ticket sup-[0-9]{6}";

fn rules(criterion: &mut Criterion) {
    let sets = [
        ("default", default_config()),
        ("50 rules", with_50_rules(Style::Plain)),
        ("50 rules, word boundaries", with_50_rules(Style::WordBoundaries)),
        ("50 rules, a language", with_50_rules(Style::Language)),
    ];
    let texts = [
        ("20 chars", "Sort my list, please".to_owned()),
        ("2 KB English", text(ENGLISH, PROMPT_BYTES)),
        ("2 KB German", text(GERMAN, PROMPT_BYTES)),
        ("2 KB Japanese", text(JAPANESE, PROMPT_BYTES)),
        ("300,000 chars", long_text()),
    ];
    let mut group = criterion.benchmark_group("rules");
    for (set, config) in &sets {
        let rules = RuleSet::compile(config).expect("the rules of this file compile");
        for (name, text) in &texts {
            let prompt = prompt(text, config);
            let tokens = count_by_length(&prompt).tokens;
            group.throughput(Throughput::Bytes(text.len() as u64));
            group.bench_function(BenchmarkId::new(*set, name), |bencher| {
                bencher.iter(|| rules.hits(black_box(&prompt), tokens));
            });
        }
    }
    group.finish();
}

fn tokenize(criterion: &mut Criterion) {
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

fn policy(criterion: &mut Criterion) {
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

fn intents(criterion: &mut Criterion) {
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

fn language(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("language");
    for (name, passage) in [("2 KB English", ENGLISH), ("2 KB German", GERMAN), ("2 KB Japanese", JAPANESE)] {
        let text = text(passage, PROMPT_BYTES);
        group.bench_function(name, |bencher| bencher.iter(|| detect(black_box(&text))));
    }
    group.finish();
}

fn redaction(criterion: &mut Criterion) {
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

fn signals(criterion: &mut Criterion) {
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

/// What a request pays for being logged.
fn logging(criterion: &mut Criterion) {
    telemetry::init_metrics();
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let mut config = default_config();
    config.traffic = TrafficConfig::in_folder(folder.path().to_owned());
    config.traffic.flush = Duration::from_millis(5);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
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

fn route(criterion: &mut Criterion) {
    // As in the server: without a recorder, counting would cost nothing.
    telemetry::init_metrics();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
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

/// What a request pays for bundles that can be exchanged: who decides it, and that it is counted.
fn live(criterion: &mut Criterion) {
    telemetry::init_metrics();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
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
        shadow: shadow.map(|shadow| (shadow.bundle.clone(), Arc::clone(&shadow.router))),
        since_ms: 0,
    }
}

fn router(config: Config, classifier: Option<Arc<dyn Classifier>>) -> Router {
    let sessions = Arc::new(Sessions::new(&config.sessions));
    let health = Arc::new(TargetHealth::new(config.targets.len()));
    Router::new(Arc::new(config), classifier, sessions, health, 1)
        .expect("the configurations of this file fit")
}

fn prompt(text: &str, config: &Config) -> Prompt {
    admit(Draft::from_text(text), config).expect("the texts of this file are within the limits")
}

/// How the synthetic rules are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// As the default rules: no `\b`.
    Plain,
    /// As many people write keywords: `\bword\b`.
    WordBoundaries,
    /// Plain, and one rule asks for the language.
    Language,
}

/// Returns the default configuration with 50 synthetic rules, which only [`LAST_WORDS`] meet.
fn with_50_rules(style: Style) -> Config {
    let mut toml = String::new();
    for (at, words) in TOPICS.iter().enumerate() {
        let [a, b, c, d] = words;
        let edge = if style == Style::WordBoundaries { r"\b" } else { "" };
        write!(
            toml,
            r#"
            [[rules]]
            id = "keyword-{at}"
            any = ['(?i){edge}(?:{a}|{b}|{c})s?{edge} (?:{d}|{a})', '{edge}{d}-[0-9]{{2,6}}{edge}']
            tier = "simple"
            [[rules]]
            id = "opening-{at}"
            any = ['(?i)^\s*(?:please\s+|bitte\s+)?{a} (?:the|this|my|die|das) {b}', '^{c}:']
            turns_max = 1
            tier = "moderate"
            [[rules]]
            id = "near-{at}"
            any = ['(?i){edge}{b} [^.!?\n]{{0,20}} {c}{edge}']
            none = ['(?i)(?:not|never|kein\p{{L}}*) {b}']
            tier_min = "moderate"
            [[rules]]
            id = "both-{at}"
            all = ['(?i){c}\p{{L}}* {a}', '(?i){d} [\p{{L}}\p{{N}}]+ {b}']
            tier = "complex"
            "#
        )
        .expect("writing to a string");
    }
    let metadata = match style {
        Style::Language => r#"language = ["fi"]"#,
        Style::Plain | Style::WordBoundaries => r#"tenant = ["acme"]"#,
    };
    write!(
        toml,
        r#"
        [[rules]]
        id = "metadata"
        {metadata}
        tier_max = "complex"
        [[rules]]
        id = "size"
        prompt_tokens_min = 1_000_000
        tier_min = "complex"
        "#
    )
    .expect("writing to a string");
    for (at, pattern) in WHOLE.iter().enumerate() {
        write!(toml, "[[rules]]\nid = \"whole-{at}\"\nany = ['{pattern}']\ntier = \"simple\"\n")
            .expect("writing to a string");
    }
    write!(toml, "[[rules]]\nid = \"last\"\nany = ['{LAST_PATTERN}']\ntier = \"moderate\"\n")
        .expect("writing to a string");
    let config = read_text(&toml).expect("the synthetic rules are a configuration");
    assert_eq!(config.rules.len(), 50);
    config
}

/// Four words a topic; lower case, found in no text of this file in the order of a pattern.
const TOPICS: [[&str; 4]; 10] = [
    ["refund", "invoice", "payment", "order"],
    ["translate", "sentence", "paragraph", "letter"],
    ["summarise", "meeting", "minutes", "report"],
    ["deploy", "cluster", "rollback", "release"],
    ["prove", "theorem", "lemma", "equation"],
    ["diagnose", "symptom", "dosage", "patient"],
    ["draft", "contract", "clause", "liability"],
    ["plan", "journey", "hotel", "flight"],
    ["lösche", "konto", "rechnung", "kündigung"],
    ["optimise", "query", "index", "schema"],
];

/// Whole short texts in several scripts, like the default rules.
const WHOLE: [&str; 7] = [
    r"(?i)^\s*(?:hello|hi|hey|bonjour|hola|ciao|привет|こんにちは|你好)[\s!.,]*$",
    r"(?i)^\s*(?:thanks|thank you|danke|merci|gracias|grazie|спасибо|ありがとう)[\s!.,]*$",
    r"(?i)^\s*(?:bye|goodbye|tschüss|au revoir|adiós|arrivederci|さようなら)[\s!.,]*$",
    r"(?i)^\s*(?:ok|okay|got it|alles klar|d.accord|vale|了解)[\s!.,]*$",
    r"^\s*[0-9]{1,6}(?:\s?[-+*/]\s?[0-9]{1,6}){1,4}\s*=?\s*$",
    r"^[\s\p{P}\p{S}]*$",
    r"^(?:\p{Lu}\p{L}+ ){1,3}\?$",
];

/// Returns `passage` over and over, cut at `bytes` or at the character before.
fn text(passage: &str, bytes: usize) -> String {
    let mut text = passage.repeat(bytes / passage.len() + 1);
    text.truncate(text.floor_char_boundary(bytes));
    text
}

/// Returns three languages in turn, 300,000 characters.
fn long_text() -> String {
    [ENGLISH, GERMAN, JAPANESE].concat().chars().cycle().take(LONG_PROMPT_CHARS).collect()
}

/// Returns a text that the default bundle reads as about this many tokens, [CLS] and [SEP] included.
fn text_of_tokens(tokens: usize) -> String {
    ENGLISH
        .split_whitespace()
        .map(|word| word.trim_matches(|letter: char| !letter.is_ascii_alphabetic()))
        .filter(|word| !word.is_empty())
        .cycle()
        .take(tokens - 2)
        .collect::<Vec<_>>()
        .join(" ")
}

const ENGLISH: &str = "\
Our support team answers about four hundred mails a day, and most of them ask for the same three things: where a \
parcel is, how to change an address, and why a card was charged twice. We tried a small search over old answers \
last year. It found the right page for two questions out of three, but people stopped using it because the text it \
showed was long and half of it was out of date. What we would like now is different. A mail comes in, somebody \
reads who wrote it and what they bought, and a short reply is suggested that names the parcel and the day. Nobody \
should have to copy numbers by hand. Where the mail is angry or talks about a lawyer, no reply is suggested at all \
and a person from the second floor takes it. Could you think about which parts of this are easy, which are hard, \
and where such projects usually go wrong in their first half year? ";

const GERMAN: &str = "\
Unser Lager in Köln führt ungefähr zwölftausend Artikel, und jeden Abend läuft eine Prüfung, die fehlende Stücke \
meldet. Seit dem Umzug dauert sie über drei Stunden, früher waren es höchstens vierzig Minuten. Die Kollegen \
vermuten, dass die neue Abfrage für jedes Fach einzeln läuft, während sie zuvor gebündelt war. Außerdem müssen wir \
künftig auch Größen und Farben unterscheiden, was die Menge ungefähr verdreifacht. Wir möchten zunächst verstehen, \
wo die Zeit bleibt, ohne den laufenden Betrieb zu stören, und danach entscheiden, ob sich ein Umbau lohnt. Könnten \
Sie bitte beschreiben, wie Sie vorgehen würden, welche Messungen nötig wären und worauf man dabei achten müsste? ";

const JAPANESE: &str = "\
私たちの会社では、毎週およそ三百件の問い合わせを受けています。その多くは配送状況や返品の方法についてのもので、\
担当者は同じ説明を何度も書いています。昨年、過去の回答を検索する仕組みを作りましたが、内容が古いことが多く、\
あまり使われませんでした。今年は、メールの内容を読み取り、購入履歴と照らし合わせて、短い返信案を示す仕組みを\
考えています。ただし、怒っているお客様への対応は必ず人が行います。この計画のうち、どの部分が簡単で、どの部分が\
難しいのか、また、最初の半年で失敗しやすい点は何かを教えてください。";

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(WARM_UP)
        .measurement_time(MEASURE)
        .sample_size(SAMPLES)
        .without_plots();
    targets = rules, tokenize, policy, intents, language, redaction, signals, logging, route, live
}
criterion_main!(benches);
