//! Embedding and calibrating examples, by a classifier that answers by script.

use super::*;
use crate::{
    config::read_text,
    routing::classifier::scripted::{Outcome as Answer, Scripted},
};

/// Longer than any test takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn texts(count: usize) -> Vec<(String, String)> {
    (0..count).map(|at| (format!("examples[{at}]"), at.to_string())).collect()
}

/// Embeds the numbers from 0 on.
fn embed_numbers(count: usize, scripted: &Scripted, wait_max: Duration) -> Result<Vec<Vec<f32>>, LearnError> {
    let texts = texts(count);
    let texts: Vec<(String, &str)> =
        texts.iter().map(|(place, text)| (place.clone(), text.as_str())).collect();
    embed(&texts, scripted, wait_max)
}

/// A text that is a number, as an embedding.
fn number(text: &str) -> Answer {
    Answer::Embedded(vec![text.parse().unwrap(), 1.0])
}

fn error(answer: impl Fn(&str) -> Answer + Send + Sync + 'static, wait_max: Duration) -> String {
    embed_numbers(5, &Scripted::new(8, 0, answer), wait_max).unwrap_err().to_string()
}

#[test]
fn embeddings_come_in_the_order_of_their_texts() {
    // More than are in flight at once, with queues that are smaller, and with others in the queue.
    for (queue_max, refusals) in [(128, 0), (2, 0), (1, 0), (128, 3), (2, 5)] {
        let count = 2 * IN_FLIGHT_MAX + 7;
        let scripted = Scripted::new(queue_max, refusals, number);
        let got = embed_numbers(count, &scripted, PATIENCE).unwrap();
        let expected: Vec<Vec<f32>> = (0..count).map(|at| vec![at as f32, 1.0]).collect();
        assert_eq!(got, expected, "queue of {queue_max}");
    }
}

#[test]
fn a_queue_that_stays_full_is_waited_for_with_a_bound() {
    let scripted = Scripted::new(8, usize::MAX, number);
    let error = embed_numbers(1, &scripted, Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.to_string(), "examples[0]: the classifier's queue is full");
}

#[test]
fn an_answer_that_does_not_come_is_waited_for_with_a_bound() {
    assert_eq!(error(|_| Answer::Kept, Duration::from_millis(20)), "examples[0]: no scores within 20 ms");
    // A reply that is dropped after the deadline was late, not stopped.
    assert_eq!(error(|_| Answer::Dropped, Duration::ZERO), "examples[0]: no scores within 0 ms");
}

#[test]
fn what_goes_wrong_is_said_with_the_place_of_the_example() {
    let fail = |text: &str| if text == "2" { Answer::Failed("no memory") } else { number(text) };
    assert_eq!(error(fail, PATIENCE), "examples[2]: the classifier failed: no memory");
    let stop = |text: &str| if text == "4" { Answer::Dropped } else { number(text) };
    assert_eq!(error(stop, PATIENCE), "examples[4]: the classifier has stopped");
    let broken = |_: &str| Answer::Embedded(vec![f32::INFINITY, 0.0]);
    assert_eq!(error(broken, PATIENCE), "examples[0]: the classifier failed: output embedding holds inf");
}

#[test]
fn intents_are_learned_in_their_order_and_errors_name_their_place() {
    let config = read_text(
        r#"
        [[intents]]
        name = "code"
        tier_min = "moderate"
        [[intents]]
        name = "east"
        examples = ["1", "2"]
        [[intents]]
        name = "north"
        examples = ["3", "4", "5"]
        "#,
    )
    .unwrap();
    let learned = learn(&config, &Scripted::new(8, 0, number)).unwrap().unwrap();
    let places: Vec<(usize, &str, usize)> = learned
        .intents
        .iter()
        .map(|intent| (intent.place, &*intent.intent.0, intent.examples.len()))
        .collect();
    assert_eq!(places, [(1, "east", 2), (2, "north", 3)]);
    assert_eq!(learned.intents[1].examples[2], [5.0, 1.0]);
    let fail = |text: &str| if text == "5" { Answer::Failed("no memory") } else { number(text) };
    let error = learn(&config, &Scripted::new(8, 0, fail)).unwrap_err().to_string();
    assert_eq!(error, "intents[2].examples[2]: the classifier failed: no memory");
}

#[test]
fn no_examples_ask_nothing() {
    let config = read_text("[[intents]]\nname = \"code\"\ntier_min = \"moderate\"\n").unwrap();
    assert!(learn(&config, &Scripted::new(1, usize::MAX, number)).unwrap().is_none());
}

#[test]
fn the_threshold_counts_the_prompt_itself() {
    // Similarities to one example at 0 degrees: 0.50, 0.51, ... 0.99, a hundredth apart.
    let background: Vec<Vec<f32>> = (0..50).map(|at| point(0.5 + at as f32 / 100.0)).collect();
    let threshold = |share: f64| {
        let examples = vec![vec![1.0, 0.0]];
        calibrated(0, Intent("east".into()), examples, share, &background).threshold
    };
    for (share, expected) in [
        // Of 51 prompts: less than one, one, one and a half, two, ten, half of them.
        (0.0, 0.99),
        (0.01, 0.99),
        (1.0 / 51.0, 0.99),
        (1.5 / 51.0, 0.99),
        (2.01 / 51.0, 0.98),
        (10.01 / 51.0, 0.90),
        (0.5, 0.75),
    ] {
        let got = threshold(share);
        assert!((got - expected).abs() < 1e-4, "share {share}: {got}, expected {expected}");
    }
}

fn point(cosine: f32) -> Vec<f32> {
    vec![cosine, (1.0 - cosine * cosine).sqrt()]
}
