use super::*;
use crate::completion::{
    chat::Asks,
    quality::tests::{DEFAULT, prompt, prompt_with_system},
};

/// One a line: language, answer, and the request where it matters.
const REFUSALS: &str = include_str!("refusals.tsv");
const ANSWERS: &str = include_str!("answers.tsv");

const REQUEST: &str = "And how is it done?";

struct Case {
    language: &'static str,
    answer: &'static str,
    request: &'static str,
}

fn cases(lines: &'static str) -> Vec<Case> {
    lines
        .lines()
        .map(|line| {
            let mut fields = line.split('\t');
            let language = fields.next().unwrap();
            let answer = fields.next().unwrap_or_else(|| panic!("no answer in {line:?}"));
            Case { language, answer, request: fields.next().unwrap_or(REQUEST) }
        })
        .collect()
}

fn is_refusal(answer: &str, prompt: &Prompt, intent: Option<&Intent>) -> bool {
    let asks = Asks::default();
    let checks = Checks { config: &DEFAULT, asks: &asks, prompt, intent };
    problem(&View { text: answer.to_owned(), ..View::default() }, &checks).is_some()
}

fn start(text: &str) -> Reading {
    let (prompt, asks) = (prompt(REQUEST), Asks::default());
    read_start(text, &Checks { config: &DEFAULT, asks: &asks, prompt: &prompt, intent: None })
}

#[test]
fn refusals_and_answers_are_told_apart() {
    let (refusals, answers) = (cases(REFUSALS), cases(ANSWERS));
    assert!(refusals.len() >= 120 && answers.len() >= 120);
    let found = |case: &&Case| is_refusal(case.answer, &prompt(case.request), None);
    let missed: Vec<&Case> = refusals.iter().filter(|case| !found(case)).collect();
    let wrong: Vec<&Case> = answers.iter().filter(found).collect();
    for (word, cases) in [("missed", &missed), ("wrong", &wrong)] {
        cases.iter().for_each(|case| eprintln!("{word}: {} {}", case.language, case.answer));
    }
    let hits = (refusals.len() - missed.len()) as f64;
    let (precision, recall) = (hits / (hits + wrong.len() as f64), hits / refusals.len() as f64);
    eprintln!(
        "{} refusals, {} answers: precision {precision:.3}, recall {recall:.3}",
        refusals.len(),
        answers.len()
    );
    assert!(precision >= 0.98 && recall >= 0.95, "precision {precision:.3}, recall {recall:.3}");
}

#[test]
fn a_refusal_by_the_provider_needs_no_words() {
    let (prompt, asks) = (prompt("Write a polite letter of refusal"), Asks::default());
    let checks = Checks { config: &DEFAULT, asks: &asks, prompt: &prompt, intent: None };
    let refusal = View { refusal: "I can't.".to_owned(), ..View::default() };
    assert_eq!(problem(&refusal, &checks).as_deref(), Some("the model declined: \"I can't.\""));
    let filtered = View { text: "Dear".to_owned(), finish: Some(Finish::ContentFilter), ..View::default() };
    assert!(problem(&filtered, &checks).unwrap().contains("content filter"));
}

#[test]
fn a_refusal_that_was_asked_for_is_the_answer() {
    let refusal = "I'm sorry, but I can't help with that.";
    for (system, request, intent, expected) in [
        ("", REQUEST, None, true),
        ("You are helpful. Never refuse to answer.", REQUEST, None, true),
        ("Politely decline questions about politics.", REQUEST, None, false),
        ("If it is not about soup, say: I'm sorry, but I can't help with that.", REQUEST, None, false),
        ("", "How do I decline an invitation?", None, false),
        ("", "Translate: Ich mag Hunde.", None, true),
        ("", "Translate: Leider geht es nicht.", None, false),
        ("", "Auf Englisch bitte: Leider geht es nicht.", None, true),
        ("", "Auf Englisch bitte: Leider geht es nicht.", Some("translation"), false),
        ("", "Auf Englisch bitte: Leider geht es nicht.", Some("chitchat"), true),
    ] {
        let intent = intent.map(|name: &str| Intent(name.into()));
        let found = is_refusal(refusal, &prompt_with_system(system, request), intent.as_ref());
        assert_eq!(found, expected, "{system} / {request} / {intent:?}");
    }
}

#[test]
fn an_answer_that_goes_on_to_help_is_none() {
    let lead = "I'm sorry, but I can't help with that. ";
    for (rest, expected) in [
        (String::new(), true),
        ("Ask a lawyer. ".repeat(20), true),
        ("Here is what you can do. ".repeat(60), false),
        ("Use this:\n```\nls\n```\n".to_owned(), false),
    ] {
        assert_eq!(is_refusal(&format!("{lead}{rest}"), &prompt(REQUEST), None), expected, "{rest}");
    }
}

#[test]
fn a_refusal_late_in_an_answer_is_none() {
    for answer in [
        "The clerk replied. I'm sorry, but I can't help with that.",
        "First boil the water. I can't help with that step.",
        "Step 1: open the door.\nI cannot fulfill this request.",
    ] {
        assert!(!is_refusal(answer, &prompt(REQUEST), None), "{answer}");
    }
}

/// An unfinished sentence.
const LONG: &str = "I'm sorry, but I can't help with anything that has to do with the making, the selling or the \
                    using of such things, which may";

#[test]
fn a_start_is_a_refusal_only_when_nothing_can_change_that() {
    for (text, expected) in [
        ("I'm sorry", "open"),
        ("I'm sorry, but I can't hel", "open"),
        ("I'm sorry, but I can't help", "open"),
        ("I'm sorry, but I can't help with", "open"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("I'm sorry, but I can't help with that. Do you have", "refusal"),
        ("I'm sorry, but I can't help without seeing the code", "other"),
        ("I'm sorry. ", "open"),
        ("I'm sorry. Here is the right", "other"),
        ("The cap", "open"),
        ("The capital of France", "other"),
        ("I can't", "open"),
        ("I can't recommend it", "other"),
        ("\"I'm sorry, but I can't help with that", "other"),
        ("抱歉，我", "open"),
        ("抱歉，我无法提供", "open"),
        ("抱歉，我无法提供帮助。", "refusal"),
        ("Es tut mir leid, aber ich kann Ihnen bei dieser ", "open"),
        (LONG, "refusal"),
    ] {
        let found = match start(text) {
            Reading::Refusal(_) => "refusal",
            Reading::Open => "open",
            Reading::Other => "other",
        };
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn sentences_end_where_readers_end_them() {
    for (text, expected) in [
        ("", vec![]),
        ("One. Two!  Three", vec!["One.", "Two!", "Three"]),
        ("Version 3.12 is out. Yes", vec!["Version 3.12 is out.", "Yes"]),
        ("抱歉。我不能", vec!["抱歉。", "我不能"]),
        ("... \n\n One\nTwo", vec!["One\n", "Two"]),
    ] {
        assert_eq!(sentences(text).collect::<Vec<_>>(), expected, "{text}");
    }
}
