//! How much is found and how much is taken for something else, on a fixed set of written examples.
//!
//! `tests/fixtures/redaction.jsonl`: in each text `⟦kind:…⟧` encloses what is to be replaced; half of the texts hold
//! nothing, but look like it. The part "held_out" was written before the patterns were tried on it, its texts are
//! printed nowhere, and nothing is tuned on it. Names in running text are marked nowhere: they have no format and are not found.

#![allow(clippy::print_stdout, reason = "the figures are what this is for: --nocapture shows them")]

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

const SET: &str = include_str!("../../../../tests/fixtures/redaction.jsonl");
/// Precision and recall: below what was measured by about one text, so that a change for the worse is seen.
const FLOORS: [(Part, f64, f64); 2] = [(Part::HeldOut, 0.93, 0.95), (Part::Tuning, 0.97, 0.98)];
/// The same for each kind alone; there are as few as five texts of one.
const KIND_MIN: f64 = 0.75;

#[derive(Deserialize)]
struct Line {
    part: Part,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Part {
    HeldOut,
    Tuning,
}

struct Example {
    part: Part,
    text: String,
    expected: Vec<Find>,
}

#[derive(Default)]
struct Counts {
    found: u32,
    missed: u32,
    wrong: u32,
}

impl Counts {
    fn precision(&self) -> f64 {
        share(self.found, self.wrong)
    }

    fn recall(&self) -> f64 {
        share(self.found, self.missed)
    }
}

fn share(good: u32, bad: u32) -> f64 {
    if good + bad == 0 { 1.0 } else { f64::from(good) / f64::from(good + bad) }
}

#[test]
fn redaction_finds_enough_and_takes_little_else() {
    let examples = examples();
    assert!(examples.len() >= 300, "{}", examples.len());
    let harmless = examples.iter().filter(|example| example.expected.is_empty()).count();
    println!("{} texts, {harmless} of them with nothing to find", examples.len());
    for (part, precision_min, recall_min) in FLOORS {
        let (kinds, all) = counted(examples.iter().filter(|example| example.part == part));
        println!("{part:?}: kind, found, missed, wrong, precision, recall");
        for (name, counts) in kinds.iter().map(|(kind, counts)| (kind.mark(), counts)).chain([("all", &all)])
        {
            println!(
                "{name:>10} {:4} {:4} {:4}  {:.3}  {:.3}",
                counts.found,
                counts.missed,
                counts.wrong,
                counts.precision(),
                counts.recall()
            );
            assert!(counts.precision() >= KIND_MIN && counts.recall() >= KIND_MIN, "{part:?} {name}");
        }
        assert!(all.precision() >= precision_min, "{part:?}: precision {}", all.precision());
        assert!(all.recall() >= recall_min, "{part:?}: recall {}", all.recall());
    }
}

#[test]
fn redacting_the_set_twice_changes_nothing() {
    for example in examples() {
        let once = redact(&example.text);
        let twice = redact(&once.text);
        assert_eq!((twice.count, &twice.text), (0, &once.text));
    }
}

#[test]
fn no_gate_hides_a_find() {
    let every: Vec<usize> = (0..PATTERNS.expressions.len()).collect();
    for example in examples() {
        let open: Vec<usize> = PATTERNS.gates.matches(&example.text).into_iter().collect();
        assert_eq!(read(&example.text, 0, &open), read(&example.text, 0, &every), "{}", example.text);
    }
}

/// A find counts only where place and kind are exactly right.
fn counted<'a>(examples: impl Iterator<Item = &'a Example>) -> (BTreeMap<Kind, Counts>, Counts) {
    let mut kinds: BTreeMap<Kind, Counts> = BTreeMap::new();
    for example in examples {
        let finds = find(&example.text);
        for expected in &example.expected {
            let counts = kinds.entry(expected.kind).or_default();
            if finds.contains(expected) {
                counts.found += 1;
            } else {
                counts.missed += 1;
                show("missed", example, expected);
            }
        }
        for find in finds.iter().filter(|find| !example.expected.contains(find)) {
            kinds.entry(find.kind).or_default().wrong += 1;
            show("wrong", example, find);
        }
    }
    let mut all = Counts::default();
    for counts in kinds.values() {
        all.found += counts.found;
        all.missed += counts.missed;
        all.wrong += counts.wrong;
    }
    (kinds, all)
}

/// Prints what went wrong, but not of the part that nobody is to look at.
fn show(what: &str, example: &Example, find: &Find) {
    match example.part {
        Part::Tuning => {
            println!(
                "{what} {} {:?} in {:?}",
                find.kind.mark(),
                &example.text[find.range.clone()],
                example.text
            );
        }
        Part::HeldOut => {}
    }
}

fn examples() -> Vec<Example> {
    SET.lines()
        .map(|line| {
            let Line { part, text: marked } = serde_json::from_str(line).unwrap();
            let mut text = String::new();
            let mut expected = Vec::new();
            let mut rest = marked.as_str();
            while let Some((before, inside)) = rest.split_once('⟦') {
                text.push_str(before);
                let (kind, inside) = inside.split_once(':').unwrap();
                let (value, after) = inside.split_once('⟧').unwrap();
                let kind =
                    Kind::ALL.into_iter().find(|one| one.mark() == format!("[{}]", kind.to_uppercase()));
                expected.push(Find { kind: kind.unwrap(), range: text.len()..text.len() + value.len() });
                text.push_str(value);
                rest = after;
            }
            text.push_str(rest);
            Example { part, text, expected }
        })
        .collect()
}
