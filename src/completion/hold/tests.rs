use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::completion::{
    answer::{Finish, ToolDelta},
    chat::{Asks, JsonAsk},
    quality::{
        UNCHECKED,
        tests::{DEFAULT, prompt},
    },
};

const REFUSAL: &str = "I'm sorry, but I can't help with that.";
const ANSWER: &str = "Bees are insects that fly, and they live in hives together with many others.";

fn config(quality: StreamQuality) -> StreamConfig {
    StreamConfig { quality, guard_chars: 48, hold_bytes_max: 2000, caller_stall: Duration::from_secs(60) }
}

fn piece(delta: Delta) -> Piece {
    Piece { raw: Raw::OpenAi(json!({"choices": []})), delta }
}

fn text(text: &str) -> Delta {
    Delta { text: text.to_owned(), ..Delta::default() }
}

fn reasoning(text: &str) -> Delta {
    Delta { reasoning: text.to_owned(), ..Delta::default() }
}

fn refusal(text: &str) -> Delta {
    Delta { refusal: text.to_owned(), ..Delta::default() }
}

fn tool(name: &str, arguments: &str) -> Delta {
    let call = ToolDelta { name: name.to_owned(), arguments: arguments.to_owned(), ..ToolDelta::default() };
    Delta { tool_calls: vec![call], ..Delta::default() }
}

fn finish() -> Delta {
    Delta { finish: Some(Finish::Stop), ..Delta::default() }
}

/// Pushes until there is a verdict, ends the stream if there is none; returns it with the number of pieces
/// that were taken.
fn drive(config: StreamConfig, deltas: &[Delta], checks: &Checks<'_>) -> (Ruling, usize) {
    let (mut hold, mut view) = (Hold::new(config), View::default());
    for (at, delta) in deltas.iter().enumerate() {
        view.add(delta);
        let verdict = hold.push(piece(delta.clone()), &view, checks);
        if verdict != Ruling::Wait {
            return (verdict, at + 1);
        }
    }
    (hold.end(&view, checks), deltas.len())
}

fn word(verdict: &Ruling) -> &'static str {
    match verdict {
        Ruling::Wait => "wait",
        Ruling::Release => "release",
        Ruling::Weak(weakness) => weakness.check.as_str(),
        Ruling::TooMuch => "too_much",
    }
}

#[track_caller]
fn check_config(config: StreamConfig, deltas: &[Delta], expected: (&str, usize)) {
    let (prompt, asks) = (prompt("Tell me about bees"), Asks::default());
    let checks = Checks { config: &DEFAULT, asks: &asks, prompt: &prompt, intent: None };
    let (verdict, taken) = drive(config, deltas, &checks);
    assert_eq!((word(&verdict), taken), expected, "{deltas:?}");
}

#[track_caller]
fn check_verdict(quality: StreamQuality, deltas: &[Delta], expected: (&str, usize)) {
    check_config(config(quality), deltas, expected);
}

#[test]
fn off_releases_at_the_first_content() {
    use StreamQuality::Off;
    check_verdict(Off, &[Delta::default(), text(" \n"), text("B"), text("ees")], ("release", 3));
    check_verdict(Off, &[reasoning("Hm."), refusal("No."), finish()], ("release", 2));
    check_verdict(Off, &[tool("", ""), tool("search", ""), finish()], ("release", 2));
    check_verdict(Off, &[text(REFUSAL), finish()], ("release", 1));
    check_verdict(Off, &[Delta::default(), reasoning("Hm."), finish()], ("empty", 3));
}

#[test]
fn the_guard_holds_until_enough_was_seen() {
    use StreamQuality::Guard;
    check_verdict(Guard, &[text("Bees are insects"), text(" that fly, "), text(ANSWER)], ("release", 3));
    check_verdict(Guard, &[text(ANSWER), text(ANSWER)], ("release", 1));
    check_verdict(Guard, &[text(&" ".repeat(100)), text("Bees"), text(ANSWER)], ("release", 3));
    check_verdict(Guard, &[Delta::default(), reasoning(ANSWER), text(ANSWER)], ("release", 3));
    check_verdict(Guard, &[text("Let me look."), tool("search", ""), tool("", "{}")], ("release", 2));
}

#[test]
fn the_guard_sees_a_weak_start() {
    use StreamQuality::Guard;
    check_verdict(
        Guard,
        &[text("I'm sorry, but I can't"), text(" help with that. Ask a lawyer.")],
        ("refusal", 2),
    );
    check_verdict(Guard, &[refusal("I can't"), refusal(" do that.")], ("refusal", 1));
    // Longer than the guard: a start that apologises is held on.
    let long =
        "Es tut mir leid, aber ich kann Ihnen bei dieser heiklen Anfrage wirklich nicht helfen. Fragen Sie";
    check_verdict(Guard, &[text(long), text(" Ihren Anwalt.")], ("refusal", 2));
    let sorry = "I'm sorry for the delay, the mail went to the wrong folder. ";
    check_verdict(Guard, &[text(sorry), text("Here are the numbers that you wanted.")], ("release", 2));
    check_verdict(Guard, &[text(&"I'm sorry. ".repeat(40))], ("release", 1));
}

#[test]
fn an_answer_shorter_than_the_guard_gets_the_whole_check() {
    use StreamQuality::Guard;
    check_verdict(Guard, &[text(REFUSAL), finish()], ("refusal", 2));
    check_verdict(Guard, &[text("42"), finish()], ("release", 2));
    check_verdict(Guard, &[text(" \n"), finish()], ("empty", 2));
    check_verdict(Guard, &[], ("empty", 0));
    let cut = Delta { finish: Some(Finish::Length), ..Delta::default() };
    check_verdict(Guard, &[text("Bees are"), cut], ("truncated", 2));
}

#[test]
fn the_buffer_holds_to_the_end() {
    use StreamQuality::Buffer;
    check_verdict(Buffer, &[text(ANSWER), text(ANSWER), finish()], ("release", 3));
    check_verdict(Buffer, &[text(REFUSAL), text(" Ask a lawyer."), finish()], ("refusal", 3));
    check_verdict(Buffer, &[tool("search", "{\"q\""), finish()], ("tool_call", 2));
}

#[test]
fn what_is_held_has_a_bound() {
    let long = "x ".repeat(600);
    for (quality, expected) in [
        (StreamQuality::Off, "release"),
        (StreamQuality::Guard, "release"),
        (StreamQuality::Buffer, "too_much"),
    ] {
        check_verdict(quality, &[reasoning(&long), reasoning(&long), finish()], (expected, 2));
        let silent = vec![Delta::default(); 20_000];
        let mut hold = Hold::new(config(quality));
        let (prompt, asks) = (prompt(""), Asks::default());
        let checks = Checks { config: &DEFAULT, asks: &asks, prompt: &prompt, intent: None };
        let mut view = View::default();
        let mut push = |delta: Delta| {
            view.add(&delta);
            hold.push(piece(delta), &view, &checks)
        };
        let end = silent.into_iter().map(&mut push).find(|v| *v != Ruling::Wait);
        assert_eq!(end.as_ref().map(word), Some(expected), "pieces that say nothing");
    }
    check_config(
        StreamConfig { hold_bytes_max: 20, ..config(StreamQuality::Guard) },
        &[text("Bees are insects"), text(" that fly")],
        ("release", 2),
    );
}

#[test]
fn a_guard_of_no_characters_releases_at_the_first_content() {
    let config = StreamConfig { guard_chars: 0, ..config(StreamQuality::Guard) };
    check_config(config, &[text(" "), text("I"), text("'m sorry")], ("release", 2));
}

#[test]
fn a_code_fence_is_seen_where_json_was_asked_for() {
    let (prompt, asks) = (prompt("Bees"), Asks { json: JsonAsk::Object, ..Asks::default() });
    let checks = Checks { config: &DEFAULT, asks: &asks, prompt: &prompt, intent: None };
    let deltas = [text("```json\n{\"bees\": ["), text(&"{\"kind\": \"honey\"}, ".repeat(4))];
    assert_eq!(word(&drive(config(StreamQuality::Guard), &deltas, &checks).0), "json");
    let unchecked = Checks { config: &UNCHECKED, ..checks };
    assert_eq!(word(&drive(config(StreamQuality::Guard), &deltas, &unchecked).0), "release");
}

#[test]
fn a_verdict_stays_and_pieces_are_kept() {
    let (prompt, asks) = (prompt("Bees"), Asks::default());
    let checks = Checks { config: &DEFAULT, asks: &asks, prompt: &prompt, intent: None };
    let mut hold = Hold::new(config(StreamQuality::Guard));
    let deltas = [refusal("No."), text(ANSWER), finish()];
    let mut view = View::default();
    let mut push = |delta: &Delta| {
        view.add(delta);
        hold.push(piece(delta.clone()), &view, &checks)
    };
    let verdicts: Vec<Ruling> = deltas.iter().map(&mut push).collect();
    assert!(verdicts.iter().all(|verdict| word(verdict) == "refusal"), "{verdicts:?}");
    assert_eq!(word(&hold.end(&view, &checks)), "refusal");
    assert_eq!(hold.into_pieces(), deltas.map(piece));
}

/// What a stream says, before it is cut into pieces.
fn script() -> impl Strategy<Value = Vec<Delta>> {
    let words = prop_oneof![
        Just("I'm sorry, but ".to_owned()),
        Just("I can't help with that. ".to_owned()),
        Just("Es tut mir leid, ".to_owned()),
        Just("抱歉，我无法提供帮助。".to_owned()),
        Just("申し訳ありませんが、お答えできません。".to_owned()),
        Just(ANSWER.to_owned()),
        Just("```json\n{\"a\": 1}".to_owned()),
        "[ \n\t\u{200b}]{0,5}",
        "\\PC{0,60}",
        "[éßИ👍🏽z\u{301}]{0,40}",
    ];
    let said = prop_oneof![
        12 => words.prop_map(|words| text(&words)),
        2 => "\\PC{0,30}".prop_map(|words| reasoning(&words)),
        1 => Just(refusal("No.")),
        1 => Just(tool("search", "{}")),
        1 => Just(tool("", "{")),
        2 => Just(Delta::default()),
    ];
    prop::collection::vec(said, 0..8).prop_map(|mut deltas| {
        deltas.push(finish());
        deltas
    })
}

/// Cuts the text of each delta after some of its characters, by the bits of `cuts`.
fn cut(deltas: &[Delta], cuts: &[bool]) -> Vec<Delta> {
    let mut cuts = cuts.iter().copied().cycle();
    let mut pieces = Vec::new();
    for delta in deltas {
        if delta.text.is_empty() {
            pieces.push(delta.clone());
            continue;
        }
        let mut part = String::new();
        for c in delta.text.chars() {
            part.push(c);
            if cuts.next().unwrap_or_default() {
                pieces.push(text(&std::mem::take(&mut part)));
            }
        }
        pieces.push(text(&part));
    }
    pieces
}

proptest! {
    #[test]
    fn the_verdict_does_not_depend_on_where_pieces_end(
        script in script(),
        cuts in prop::collection::vec(any::<bool>(), 1..40),
        quality in prop_oneof![
            Just(StreamQuality::Off), Just(StreamQuality::Guard), Just(StreamQuality::Buffer)
        ],
        guard_chars in prop_oneof![Just(48_usize), 0_usize..100],
        hold_bytes_max in prop_oneof![Just(100_000_usize), 40_usize..400],
        json in any::<bool>(),
    ) {
        let asks =
            Asks { json: if json { JsonAsk::Object } else { JsonAsk::No }, ..Asks::default() };
        let prompt = prompt("Tell me about bees");
        let checks = Checks { config: &DEFAULT, asks: &asks, prompt: &prompt, intent: None };
        let config = StreamConfig { guard_chars, hold_bytes_max, ..config(quality) };
        let pieces = cut(&script, &cuts);
        prop_assert_eq!(drive(config, &script, &checks).0, drive(config, &pieces, &checks).0);
    }

    #[test]
    fn nothing_is_lost_or_reordered(script in script(), cuts in prop::collection::vec(any::<bool>(), 1..40)) {
        let (prompt, asks) = (prompt("Tell me about bees"), Asks::default());
        let checks = Checks { config: &DEFAULT, asks: &asks, prompt: &prompt, intent: None };
        let mut hold = Hold::new(config(StreamQuality::Guard));
        let pieces: Vec<Piece> = cut(&script, &cuts)
            .into_iter()
            .enumerate()
            .map(|(at, delta)| Piece { raw: Raw::OpenAi(json!(at)), delta })
            .collect();
        let mut whole = View::default();
        for piece in &pieces {
            whole.add(&piece.delta);
            hold.push(piece.clone(), &whole, &checks);
        }
        prop_assert_eq!(hold.into_pieces(), pieces);
    }
}
