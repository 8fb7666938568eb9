//! Rules: the default ones, and sets of 50 as operators write them, over short and long texts.

use std::{fmt::Write, hint::black_box};

use criterion::{BenchmarkId, Criterion, Throughput};
use pointsman::{
    config::{Config, default_config, read_text},
    routing::{cost::count_by_length, rules::RuleSet},
};

use super::texts::{ENGLISH, GERMAN, JAPANESE, PROMPT_BYTES, long_text, prompt, text};

/// Ends the texts that a rule must find, so that finding it takes reading them whole.
pub const LAST_WORDS: &str = " Ticket SUP-204817.";
/// Finds [`LAST_WORDS`]; the last rule of every synthetic set.
const LAST_PATTERN: &str = r"(?i)ticket sup-[0-9]{6}";

pub fn rules(criterion: &mut Criterion) {
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

/// How the synthetic rules are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As the default rules: no `\b`.
    Plain,
    /// As many people write keywords: `\bword\b`.
    WordBoundaries,
    /// Plain, and one rule asks for the language.
    Language,
}

/// Returns the default configuration with 50 synthetic rules, which only [`LAST_WORDS`] meet.
pub fn with_50_rules(style: Style) -> Config {
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
