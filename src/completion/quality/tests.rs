use std::sync::Arc;

use proptest::prelude::*;
use regex::Regex;

use super::*;
use crate::{
    completion::{
        answer::{Finish, LogprobSum, ToolCall, Usage},
        chat::{AnswerSchema, JsonAsk, ToolAsk},
    },
    prompt::{Context, Message, Preferences, Role, Shape},
};

/// The checks of a configuration that names none.
pub static DEFAULT: std::sync::LazyLock<ChecksConfig> = std::sync::LazyLock::new(ChecksConfig::default);

/// Returns a request of one user turn.
pub fn prompt(text: &str) -> Prompt {
    prompt_with_system("", text)
}

/// Returns a request of one user turn after a system message, where there is one.
pub fn prompt_with_system(system: &str, text: &str) -> Prompt {
    let message = |role, content: &str| Message { role, content: content.to_owned() };
    let mut messages = vec![message(Role::User, text)];
    if !system.is_empty() {
        messages.insert(0, message(Role::System, system));
    }
    Prompt {
        messages,
        context: Context::default(),
        shape: Shape::default(),
        preferences: Preferences::default(),
        tier_cap: None,
        explain: false,
    }
}

fn text(text: &str) -> View {
    View { text: text.to_owned(), finish: Some(Finish::Stop), ..View::default() }
}

fn config(checks: &[Check]) -> ChecksConfig {
    ChecksConfig { checks: checks.to_vec(), ..ChecksConfig::default() }
}

fn patterns(reject: &[&str], require: &[&str]) -> ChecksConfig {
    let compile = |patterns: &[&str]| patterns.iter().map(|pattern| Regex::new(pattern).unwrap()).collect();
    ChecksConfig { reject: compile(reject), require: compile(require), ..config(&[]) }
}

/// Returns the check that the answer fails, against a request for nothing in particular.
fn failed(view: &View, config: &ChecksConfig, asks: &Asks) -> Option<Check> {
    let prompt = prompt("Tell me about bees");
    let checks = Checks { config, asks, prompt: &prompt, intent: None };
    check(view, &checks).err().map(|weakness| weakness.check)
}

fn start_of(text: &str, config: &ChecksConfig, asks: &Asks) -> &'static str {
    let prompt = prompt("Tell me about bees");
    let view = View { text: text.to_owned(), ..View::default() };
    match check_start(&view, &Checks { config, asks, prompt: &prompt, intent: None }) {
        Start::Fine => "fine",
        Start::Open => "open",
        Start::Weak(weakness) => weakness.check.as_str(),
    }
}

#[test]
fn the_first_configured_checks_that_fit_count() {
    let of = |tiers: &[usize], intents: &[&str], check| ChecksConfig {
        tiers: tiers.iter().copied().map(Tier).collect(),
        intents: intents.iter().map(|name| Arc::from(*name)).collect(),
        ..config(&[check])
    };
    let config = CompletionConfig {
        checks: vec![
            of(&[0], &["code"], Check::Json),
            of(&[0, 1], &[], Check::Empty),
            of(&[], &["code"], Check::Refusal),
        ],
        ..CompletionConfig::default()
    };
    for (tier, intent, expected) in [
        (0, Some("code"), Some(Check::Json)),
        (0, Some("math"), Some(Check::Empty)),
        (0, None, Some(Check::Empty)),
        (2, Some("code"), Some(Check::Refusal)),
        (2, Some("math"), None),
        (2, None, None),
    ] {
        let intent = intent.map(|name: &str| Intent(name.into()));
        let found = checks_for(&config, Tier(tier), intent.as_ref()).map(|checks| checks.checks[0]);
        assert_eq!(found, expected, "{tier} {intent:?}");
    }
}

#[test]
fn the_gravest_problem_is_told() {
    let asks = Asks { json: JsonAsk::Object, tool: ToolAsk::Any, ..Asks::default() };
    let cut = |view: View| View { finish: Some(Finish::Length), ..view };
    for (view, expected) in [
        (cut(text(" \n\u{200b}")), Check::Empty),
        (cut(text("I'm sorry, but I can't help with that.")), Check::Refusal),
        (cut(text(&"And so on. ".repeat(100))), Check::Repetition),
        (cut(text("{\"a\":")), Check::Truncated),
        (text("{\"a\":"), Check::ToolCall),
    ] {
        assert_eq!(failed(&view, &DEFAULT, &asks), Some(expected), "{}", view.text);
    }
    let json = Asks { tool: ToolAsk::Free, ..asks };
    assert_eq!(failed(&text("{\"a\":"), &DEFAULT, &json), Some(Check::Json));
    assert_eq!(failed(&text("Bees fly."), &DEFAULT, &Asks::default()), None);
    let mut ranks = GRAVEST_FIRST.map(rank);
    assert!(ranks.is_sorted());
    ranks.sort_unstable();
    assert_eq!(ranks.to_vec(), (0..GRAVEST_FIRST.len()).collect::<Vec<_>>());
}

#[test]
fn only_configured_checks_run() {
    let refusal = text("I'm sorry, but I can't help with that.");
    assert_eq!(failed(&refusal, &UNCHECKED, &Asks::default()), None);
    assert_eq!(failed(&refusal, &config(&[Check::Empty]), &Asks::default()), None);
    assert_eq!(failed(&refusal, &config(&[Check::Refusal]), &Asks::default()), Some(Check::Refusal));
}

#[test]
fn an_answer_is_empty_without_text_and_calls() {
    let call = ToolCall { name: "search".to_owned(), ..ToolCall::default() };
    for (view, expected) in [
        (View::default(), true),
        (text("\u{feff} \n"), true),
        (text("<think>Hmm. Bees.</think>\n"), true),
        (text("<think>Hmm. Bees"), true),
        (text("<think>Hmm.</think> Bees fly."), false),
        (View { reasoning: "Bees".to_owned(), ..View::default() }, true),
        (View { tool_calls: vec![call], ..View::default() }, false),
        (View { tool_calls: vec![ToolCall::default()], ..View::default() }, true),
        (View { refusal: "No.".to_owned(), ..View::default() }, false),
    ] {
        let found = failed(&view, &config(&[Check::Empty]), &Asks::default());
        assert_eq!(found.is_some(), expected, "{view:?}");
    }
}

#[test]
fn what_the_callers_own_limit_cut_is_not_held_against_the_answer() {
    let asks = Asks { json: JsonAsk::Object, output_tokens_max: Some(50), ..Asks::default() };
    let view = |output_tokens| View {
        finish: Some(Finish::Length),
        usage: Some(Usage { output_tokens, ..Usage::default() }),
        ..text("{\"bees\": [")
    };
    assert_eq!(failed(&view(50), &DEFAULT, &asks), None);
    assert_eq!(failed(&view(20), &DEFAULT, &asks), Some(Check::Truncated));
    let prose = View { text: "Here are the bees: {".to_owned(), ..view(50) };
    assert_eq!(failed(&prose, &DEFAULT, &asks), Some(Check::Json));
    assert_eq!(failed(&view(50), &patterns(&[], &["]"]), &asks), None);
    assert_eq!(failed(&view(50), &patterns(&["bees"], &[]), &asks), Some(Check::Pattern));
}

#[test]
fn unsure_words_are_weak() {
    let view = |sum, tokens| View { logprobs: LogprobSum { sum, tokens }, ..text("Bees fly.") };
    let config = config(&[Check::Logprob]);
    for (sum, tokens, expected) in
        [(-16.0, 10, true), (-15.0, 10, false), (0.0, 0, false), (f64::NAN, 3, false)]
    {
        assert_eq!(failed(&view(sum, tokens), &config, &Asks::default()).is_some(), expected, "{sum}");
    }
}

#[test]
fn the_operators_patterns() {
    for (reject, require, expected) in [
        (vec!["(?i)bees"], vec![], true),
        (vec!["wasps"], vec![], false),
        (vec![], vec!["wasps"], true),
        (vec![], vec!["wasps", "fly"], false),
        (vec!["^fly"], vec![], false),
        (vec![], vec!["fly\\.$"], false),
    ] {
        let found = failed(&text("Bees fly."), &patterns(&reject, &require), &Asks::default());
        assert_eq!(found.is_some(), expected, "{reject:?} {require:?}");
    }
}

#[test]
fn patterns_read_both_ends_of_a_very_long_answer() {
    let long = format!("start {} end", "word ".repeat(PATTERN_BYTES_MAX));
    for (reject, expected) in
        [("^start", true), ("end$", true), ("^end", false), ("^word", false), ("start", true)]
    {
        let found = failed(&text(&long), &patterns(&[reject], &[]), &Asks::default());
        assert_eq!(found.is_some(), expected, "{reject}");
    }
}

#[test]
fn a_start_shows_some_problems() {
    let object = Asks { json: JsonAsk::Object, ..Asks::default() };
    let free = Asks::default();
    for (start, asks, expected) in [
        ("", &free, "open"),
        (" \n ", &free, "open"),
        ("<think>I'm sorry", &free, "open"),
        ("<think>x</think>Bees are insects that", &free, "fine"),
        ("Bees are insects that", &free, "fine"),
        ("I'm sorry, but I can't help with that.", &free, "refusal"),
        ("{\"bees\": ", &object, "fine"),
        ("```json\n", &object, "json"),
        ("Here is", &object, "json"),
    ] {
        assert_eq!(start_of(start, &DEFAULT, asks), expected, "{start}");
    }
    assert_eq!(start_of("I'm sorry, but I can't help with that.", &UNCHECKED, &free), "fine");
}

#[test]
fn a_start_is_rejected_only_when_no_end_could_change_that() {
    for (pattern, start, expected) in [
        ("^Bees", "Bees are insects", "pattern"),
        ("insects", "Bees are insects and", "pattern"),
        ("^Bees$", "Bees", "open"),
        ("^Bees\\b", "Bees", "open"),
        ("^Bees.*", "Bees are insects", "pattern"),
    ] {
        let config = ChecksConfig { checks: vec![Check::Refusal], ..patterns(&[pattern], &[]) };
        assert_eq!(start_of(start, &config, &Asks::default()), expected, "{pattern} {start}");
    }
}

#[test]
fn no_reason_quotes_an_answer_at_length() {
    let secret: String = (0..400).map(|n| format!("w{n}ord ")).collect();
    let validator = jsonschema::validator_for(
        &serde_json::json!({"additionalProperties": {"additionalProperties": {"type": "number"}}}),
    )
    .unwrap();
    let schema = Arc::new(AnswerSchema { validator, values: 4, refers_to_itself: false });
    let object = Asks { json: JsonAsk::Object, ..Asks::default() };
    let schema = Asks { json: JsonAsk::Schema(schema), ..Asks::default() };
    let call = ToolCall { name: secret.clone(), arguments: format!("[\"{secret}"), ..ToolCall::default() };
    let named = Asks { tool: ToolAsk::Named("search".to_owned()), ..Asks::default() };
    for (view, asks) in [
        (View { refusal: secret.clone(), ..View::default() }, &object),
        (text(&format!("I'm sorry, but I can't help with {secret}")[..900]), &object),
        (text(&format!("Well, {secret}")), &object),
        (text(&secret.repeat(30)), &object),
        (text(&format!("{{\"{secret}\": {{\"{secret}\": \"{secret}\"}}}}")), &schema),
        (text(&format!("{{\"{secret}\": {secret}}}")), &schema),
        (View { tool_calls: vec![call.clone()], ..View::default() }, &named),
        (View { tool_calls: vec![call], ..View::default() }, &Asks { tool: ToolAsk::Any, ..Asks::default() }),
    ] {
        let prompt = prompt("Tell me about bees");
        let why =
            check(&view, &Checks { config: &DEFAULT, asks, prompt: &prompt, intent: None }).unwrap_err().why;
        let quoted = secret
            .char_indices()
            .filter_map(|(at, _)| secret.get(at..=at + QUOTE_CHARS_MAX))
            .find(|part| why.contains(part));
        assert_eq!(quoted, None, "{why}");
        assert!(why.chars().count() < 200 && !why.contains('\n'), "{why}");
    }
}

#[test]
fn quotes_are_short_and_on_one_line() {
    assert_eq!(quote(" a\n\tb "), "a  b");
    assert_eq!(quote(&"é".repeat(60)), "é".repeat(60));
    assert_eq!(quote(&"é".repeat(61)), "é".repeat(59) + "…");
}

proptest! {
    #[test]
    fn any_answer_is_checked(
        answer in "\\PC{0,80}|(I'm sorry|, but|I can't help with|that|without more|抱歉|我无法提供|<think>|```|\\{|[. \n\"'’a-z]){0,9}",
        request in "\\PC{0,40}|(write 500 words|list 20 |繰り返){0,3}",
        cut in 0_usize..80,
    ) {
        let (prompt, asks) = (prompt(&request), Asks { json: JsonAsk::Object, ..Asks::default() });
        for asks in [&asks, &Asks::default()] {
            let checks = Checks { config: &DEFAULT, asks, prompt: &prompt, intent: None };
            let whole = check(&text(&answer), &checks);
            let start = check_start(&text(&answer[..answer.floor_char_boundary(cut)]), &checks);
            // What a start shows holds of every answer that begins so and does not go on to help.
            if let Start::Weak(weakness) = start {
                prop_assert!(whole.is_err() || answer.contains("```"), "{weakness:?}");
            }
        }
    }
}
