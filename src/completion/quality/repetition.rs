//! Whether an answer fell into a loop: the same words, sentence or paragraph over and over.
//!
//! Looks for stretches that repeat exactly, by the failure function of string matching, in windows of several
//! sizes; linear, and of a very long answer both ends only. Never a measure of how varied a text is: tables,
//! code, lists and songs are not varied either.

use std::sync::LazyLock;

use regex::Regex;

use super::{Checks, fold, quote};
use crate::completion::{
    answer::View,
    chat::{Asks, JsonAsk},
};

/// Bytes at each end of an answer that are looked at: a loop does not end before the answer does.
const LOOKED_BYTES_MAX: usize = 32 << 10;
/// Characters at each end of a request that may ask for repetition.
const ASK_CHARS_MAX: usize = 1000;

/// A stretch of `bytes` in which one unit stands at least `times` is a loop.
struct Scale {
    bytes: usize,
    times: usize,
}

/// Loops of words, of sentences, of paragraphs, in prose.
const PROSE: [Scale; 3] =
    [Scale { bytes: 512, times: 5 }, Scale { bytes: 2048, times: 5 }, Scale { bytes: 8192, times: 4 }];
/// Units with fewer letters than a word: laughter, "aaaa".
const LETTERS: Scale = Scale { bytes: 2048, times: 16 };
/// Whitespace without end, as models that must write JSON fall into.
const BLANK: Scale = Scale { bytes: 2048, times: 16 };
/// Code, tables, rules and numbers repeat by nature; no reader wants this much of one unit.
const ANYTHING: Scale = Scale { bytes: 16 << 10, times: 16 };

/// Equal lines in a row that make a loop although numbers before them count on.
const LINES_MAX: usize = 8;
/// Letters from which on a line says something.
const LINE_LETTERS_MIN: usize = 20;
/// Letters from which on a unit is a word; one is enough in scripts beyond ASCII.
const UNIT_LETTERS_MIN: usize = 3;
/// Characters that stand in code, markup and tables rather than in prose.
const CODE: [char; 13] = ['{', '}', '[', ']', '<', '>', ';', '=', '|', '\\', '\t', '`', '_'];

/// Requests that repetition answers.
static ASKS_REPETITION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        " (?:repeat[^ ]*|over and over|wiederhol[^ ]*|repet[^ ]*|ripet[^ ]*|herhaal|powtarz[^ ]*|powtorz[^ ]*|повтор[^ ]*",
        "|tekrar[^ ]*|كرر|song|songs|lyrics|poem|poems|chorus|chant|mantra|refrain|rap|lied|gedicht|songtext|chanson|poeme",
        "|paroles|cancion|poema|letra|canzone|poesia|musica|liedje|piosenk[^ ]*|wiersz[^ ]*|песн[^ ]*|стих[^ ]*|sarki[^ ]*|siir",
        "|اغنيه|قصيده|dummy|placeholder|lorem|padding|filler|ascii",
        "|(?:\\d+|hundred|thousand) (?:times|mal|fois|veces|volte|vezes|keer|razy|раз|kez|kere|defa|مره|مرات|copies)) ",
        "|重复|重複|繰り返|반복|歌|诗|詩|노래|가사|\\d+ ?(?:次|遍|回|번)",
    ))
    .expect("the patterns of this file are tested")
});

/// Compiles this file's patterns.
pub fn prepare() {
    LazyLock::force(&ASKS_REPETITION);
}

/// Returns what an answer repeats without end, unless the request asked for repetition.
pub fn problem(view: &View, checks: &Checks<'_>) -> Option<String> {
    let why = repeated(&view.text)?;
    let excused = asks_repetition(checks.prompt.last_user_text()) || is_asked_json(view, checks.asks);
    (!excused).then_some(why)
}

fn repeated(text: &str) -> Option<String> {
    let head = text.floor_char_boundary(LOOKED_BYTES_MAX);
    let tail = text.ceil_char_boundary(text.len().saturating_sub(LOOKED_BYTES_MAX)).max(head);
    let mut fenced = false;
    for (at, part) in [(0, &text[..head]), (tail, &text[tail..])] {
        if at > 0 {
            fenced = text[..at].split('\n').filter(|line| is_fence(line)).count() % 2 == 1;
        }
        if let Some(why) = repeated_in(part, fenced) {
            return Some(why);
        }
    }
    None
}

fn repeated_in(part: &str, fenced: bool) -> Option<String> {
    let prose = prose(part, fenced);
    let found = PROSE
        .iter()
        .find_map(|scale| find_loop(&prose, scale, |unit| is_prose(unit) && is_word(unit)))
        .or_else(|| find_loop(&prose, &LETTERS, |unit| is_prose(unit) && unit.contains(char::is_alphabetic)))
        .or_else(|| find_loop(part, &BLANK, |unit| unit.trim().is_empty()))
        .or_else(|| find_loop(part, &ANYTHING, |_| true));
    match found {
        Some(unit) if unit.trim().is_empty() => Some("whitespace is repeated without end".to_owned()),
        Some(unit) => Some(format!("\"{}\" is repeated without end", quote(unit))),
        None => {
            let line = repeated_line(&prose)?;
            Some(format!("the line \"{}\" is repeated without end", quote(line)))
        }
    }
}

/// Returns the unit of the first loop of this scale whose unit `counts`.
fn find_loop<'a>(text: &'a str, scale: &Scale, counts: impl Fn(&str) -> bool) -> Option<&'a str> {
    let last = text.len().checked_sub(scale.bytes)?;
    let mut failure = vec![0_usize; scale.bytes];
    let starts = (0..last).step_by(scale.bytes / 2).chain([last]);
    for start in starts {
        // At most three bytes further on, so a window never ends before the text by more than that.
        let start = text.ceil_char_boundary(start);
        let window = &text.as_bytes()[start..(start + scale.bytes).min(text.len())];
        let unit = period(window, &mut failure);
        if unit * scale.times > scale.bytes {
            continue;
        }
        let unit = &text[start..text.ceil_char_boundary(start + unit)];
        if counts(unit) {
            return Some(unit);
        }
    }
    None
}

/// Returns the length of the shortest unit that the window repeats, its whole length when none: the window
/// less its longest proper border, after Knuth, Morris and Pratt.
fn period(window: &[u8], failure: &mut [usize]) -> usize {
    let mut border = 0;
    for at in 1..window.len() {
        while border > 0 && window[at] != window[border] {
            border = failure[border - 1];
        }
        if window[at] == window[border] {
            border += 1;
        }
        failure[at] = border;
    }
    window.len() - border
}

/// Returns the line that stands more than [`LINES_MAX`] times in a row, list markers aside.
fn repeated_line(prose: &str) -> Option<&str> {
    let mut run: (&str, usize) = ("", 0);
    for line in prose.lines().map(without_marker).filter(|line| !line.is_empty()) {
        run = if line == run.0 { (line, run.1 + 1) } else { (line, 1) };
        if run.1 > LINES_MAX
            && is_prose(line)
            && line.chars().filter(|c| c.is_alphabetic()).count() >= LINE_LETTERS_MIN
        {
            return Some(line);
        }
    }
    None
}

/// Takes off a bullet, then a number and its "." or ")" or ":" before a space: times of day stay.
fn without_marker(line: &str) -> &str {
    let line = line.trim().trim_start_matches(['-', '*', '+', '•', '#']).trim_start();
    let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
    match number.strip_prefix(['.', ')', ':']) {
        Some(rest) if number.len() < line.len() && rest.starts_with(' ') => rest.trim_start(),
        _ => line,
    }
}

/// Returns the text outside code fences.
fn prose(part: &str, mut fenced: bool) -> String {
    let mut prose = String::with_capacity(part.len());
    for line in part.split_inclusive('\n') {
        if is_fence(line) {
            fenced = !fenced;
        } else if !fenced {
            prose.push_str(line);
        }
    }
    prose
}

fn is_fence(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("```") || line.starts_with("~~~")
}

fn is_prose(unit: &str) -> bool {
    !unit.contains(CODE)
}

fn is_word(unit: &str) -> bool {
    let (ascii, beyond) = unit.chars().filter(|c| c.is_alphabetic()).fold((0, 0), |(ascii, beyond), c| {
        if c.is_ascii() { (ascii + 1, beyond) } else { (ascii, beyond + 1) }
    });
    beyond > 0 || ascii >= UNIT_LETTERS_MIN
}

fn asks_repetition(request: &str) -> bool {
    ASKS_REPETITION.is_match(&fold::words_of_ends(request, ASK_CHARS_MAX))
}

/// JSON that was asked for and is whole holds what the data holds.
fn is_asked_json(view: &View, asks: &Asks) -> bool {
    !matches!(asks.json, JsonAsk::No)
        && serde_json::from_str::<serde::de::IgnoredAny>(view.text.trim()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::completion::quality::tests::{DEFAULT, prompt};

    #[track_caller]
    fn check(answer: &str, expected: bool) {
        let start: String = answer.chars().take(80).collect();
        assert_eq!(repeated(answer).is_some(), expected, "{start}: {:?}", repeated(answer));
    }

    #[test]
    fn loops_are_found() {
        let essay: String =
            (0..200).map(|n| format!("Sentence number {n} says a thing of its own. ")).collect();
        for answer in [
            "I think so. ".repeat(60),
            "the cat and ".repeat(50),
            "It is important to note that the answer depends on the context of the question. ".repeat(12),
            "我不知道答案。".repeat(60),
            "Это очень важно. ".repeat(40),
            "好".repeat(400),
            "a".repeat(4_000),
            "ha ".repeat(1_000),
            "\n".repeat(5_000),
            "{\"a\": ".to_owned() + &" \n".repeat(3_000),
            "0, ".repeat(10_000),
            format!("{essay}{}", "And so it goes on. ".repeat(60)),
            format!("{}{essay}", "And so it goes on. ".repeat(60)),
            format!("{essay}{}", "First this is said.\nThen that is said.\n\nThen it begins anew.\n".repeat(20)),
            (1..40).map(|n| format!("{n}. Drink enough water every day.\n")).collect(),
            (1..40).map(|n| format!("- {n}: Drink enough water every day.\n\n")).collect(),
            format!("```rust\n{}", "    println!(\"x\");\n".repeat(2_000)),
            format!("{}{}", "A long text. ".repeat(0), "Ein Absatz, der sich Wort für Wort wiederholt, ist keine Antwort mehr, auch wenn er lang ist und für sich genommen gut klingt, weil niemand ihn zweimal lesen will. ".repeat(14)),
        ] {
            check(&answer, true);
        }
    }

    #[test]
    fn what_repeats_by_nature_is_no_loop() {
        let table: String =
            (0..200).map(|n| format!("| {n} | open | open | open | - | - | n/a | n/a | yes |\n")).collect();
        let poem = "Row, row, row your boat,\nGently down the stream.\nMerrily, merrily, merrily, merrily,\n\
                    Life is but a dream.\n\n"
            .repeat(3);
        let numbers: String = (0..3_000).map(|n| format!("{n}, ")).collect();
        let log: String =
            (0..60).map(|n| format!("12:00:{n:02} INFO connection established from client\n")).collect();
        for answer in [
            String::new(),
            "No.".to_owned(),
            "I think so. ".repeat(6),
            "Ha ha ha ha ha ha ha ha!".to_owned(),
            table,
            "|   |   |   |   |   |   |\n".repeat(60),
            "<tr><td></td><td></td><td></td></tr>\n".repeat(60),
            format!("```\n{}```\nDone.", "0 0 0 0 0 0 0 0 0 0\n".repeat(100)),
            format!("```python\n{}```\n", "    pass\n\n    def handler(self):\n".repeat(40)),
            poem,
            numbers,
            log,
            "-".repeat(3_000),
            "Introduction ".to_owned() + &".".repeat(900) + " 4",
            (1..60).map(|n| format!("{n}. Item {n} is a thing of kind {}.\n", n * 7 % 13)).collect(),
            (1..8).map(|n| format!("{n}. Drink enough water every day.\n")).collect(),
            "- [ ] \n".repeat(100),
            "Yes\nNo\nYes\nYes\nNo\nNo\nYes\nYes\nYes\nYes\nYes\nYes\nYes\nYes\nYes\nYes\n".to_owned(),
        ] {
            check(&answer, false);
        }
    }

    #[test]
    fn repetition_that_was_asked_for_is_none() {
        for (request, expected) in [
            ("Tell me about cats", true),
            ("Write \"I think so\" 100 times", false),
            ("Repeat after me", false),
            ("Schreib ein Lied über Katzen", false),
            ("把这句话写100遍", false),
            ("Напиши 50 раз", false),
            ("How many times did Rome fall?", true),
        ] {
            let (prompt, asks) = (prompt(request), Asks::default());
            let checks = Checks { config: &DEFAULT, asks: &asks, prompt: &prompt, intent: None };
            let view = View { text: "I think so. ".repeat(60), ..View::default() };
            assert_eq!(problem(&view, &checks).is_some(), expected, "{request}");
        }
    }

    #[test]
    fn data_that_was_asked_for_as_json_may_repeat() {
        let prompt = prompt("Which of the rows are empty?");
        let view = View { text: format!("[{}null]", "null, ".repeat(9_000)), ..View::default() };
        for (json, expected) in [(JsonAsk::No, true), (JsonAsk::Object, false)] {
            let asks = Asks { json, ..Asks::default() };
            let checks = Checks { config: &DEFAULT, asks: &asks, prompt: &prompt, intent: None };
            assert_eq!(problem(&view, &checks).is_some(), expected);
        }
    }

    #[test]
    fn a_period_is_the_shortest_unit() {
        for (window, expected) in
            [("abcabcab", 3), ("aaaa", 1), ("abcd", 4), ("abab", 2), ("a", 1), ("aab", 3)]
        {
            assert_eq!(period(window.as_bytes(), &mut vec![0; window.len()]), expected, "{window}");
        }
    }
}
