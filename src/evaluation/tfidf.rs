//! The TF-IDF baseline that `training/baseline.py` trains: logistic regression over the words of the last
//! user turn. Whatever a network is worth, it is worth more than this.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

use regex::Regex;
use serde::Deserialize;

/// The file format that this version reads.
const FORMAT: u32 = 2;

/// Letters and numbers as Python's `\w` has them, two or more.
static WORD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[\p{L}\p{N}_]{2,}").expect("the pattern is a constant"));

#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// `baseline.json`.
#[derive(Debug, Deserialize)]
struct File {
    intents: Vec<Arc<str>>,
    levels: Vec<Arc<str>>,
    intent_bias: Vec<f64>,
    level_bias: Vec<f64>,
    words: Vec<String>,
    idf: Vec<f64>,
    intent_weights: Vec<Vec<f64>>,
    level_weights: Vec<Vec<f64>>,
    /// Names of the sets; empty in files that do not say.
    #[serde(default)]
    trained_on: Vec<String>,
}

/// A trained baseline.
#[derive(Debug)]
pub struct Tfidf {
    file: File,
    places: HashMap<String, usize>,
}

/// What the baseline says of one text.
#[derive(Debug, Clone, PartialEq)]
pub struct Guess {
    pub intent: Arc<str>,
    /// Probability of `intent`, 0 to 1.
    pub intent_confidence: f64,
    /// Probability that each level is enough; never falls, ends in 1.
    pub sufficiency: Vec<f64>,
}

impl Tfidf {
    /// Reads `baseline.json`, or says what is wrong with it.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        // The format comes first: a newer one may have other fields.
        let head: Head = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if head.format != FORMAT {
            return Err(format!("format {}, this version reads format {FORMAT}", head.format));
        }
        let file: File = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let (intents, levels, words) = (file.intents.len(), file.levels.len(), file.words.len());
        let sizes = [
            ("intents", intents > 0),
            ("levels", levels > 1),
            ("intent_bias", file.intent_bias.len() == intents),
            ("level_bias", file.level_bias.len() + 1 == levels),
            ("idf", file.idf.len() == words),
            ("intent_weights", is_table(&file.intent_weights, words, intents)),
            ("level_weights", is_table(&file.level_weights, words, levels.saturating_sub(1))),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, fits)| !fits) {
            return Err(format!("{name}: another size than the rest of the file asks for"));
        }
        let places = file.words.iter().enumerate().map(|(at, word)| (word.clone(), at)).collect();
        Ok(Self { file, places })
    }

    /// Returns the levels that its sufficiencies stand for, weakest first.
    pub fn levels(&self) -> &[Arc<str>] {
        &self.file.levels
    }

    /// Returns the names of the sets that it was trained on; empty when the file does not say.
    pub fn trained_on(&self) -> &[String] {
        &self.file.trained_on
    }

    /// Returns the baseline's view of a text.
    pub fn guess(&self, text: &str) -> Guess {
        let features = self.features(text);
        let logits = self.logits(&features, &self.file.intent_weights, &self.file.intent_bias);
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
        let best = logits.iter().position(|&logit| logit >= largest).unwrap_or(0);
        let mut highest = 0.0_f64;
        let sufficiency = self
            .logits(&features, &self.file.level_weights, &self.file.level_bias)
            .into_iter()
            .map(|logit| {
                highest = highest.max(1.0 / (1.0 + (-logit).exp()));
                highest
            })
            .chain([1.0])
            .collect();
        Guess { intent: Arc::clone(&self.file.intents[best]), intent_confidence: 1.0 / sum, sufficiency }
    }

    /// Returns (word, (1 + ln count) times inverse document frequency) of the known words, of length 1.
    fn features(&self, text: &str) -> Vec<(usize, f64)> {
        let lower = text.to_lowercase();
        let mut counts: BTreeMap<usize, f64> = BTreeMap::new();
        for word in WORD.find_iter(&lower) {
            if let Some(&place) = self.places.get(word.as_str()) {
                *counts.entry(place).or_default() += 1.0;
            }
        }
        let weighted: Vec<(usize, f64)> = counts
            .into_iter()
            .map(|(place, count)| (place, (1.0 + f64::ln(count)) * self.file.idf[place]))
            .collect();
        let length = weighted.iter().map(|(_, value)| value * value).sum::<f64>().sqrt();
        weighted.into_iter().map(|(place, value)| (place, value / length)).collect()
    }

    fn logits(&self, features: &[(usize, f64)], weights: &[Vec<f64>], bias: &[f64]) -> Vec<f64> {
        let mut logits = bias.to_vec();
        for &(place, value) in features {
            for (logit, weight) in logits.iter_mut().zip(&weights[place]) {
                *logit += value * weight;
            }
        }
        logits
    }
}

fn is_table(rows: &[Vec<f64>], height: usize, width: usize) -> bool {
    rows.len() == height && rows.iter().all(|row| row.len() == width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        prompt: String,
        intent: BTreeMap<String, f64>,
        sufficiency: Vec<f64>,
    }

    #[test]
    fn the_reader_agrees_with_scikit_learn() {
        let file = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/baseline.json"));
        let baseline = Tfidf::read(file).unwrap();
        assert_eq!(baseline.trained_on(), ["corpus"]);
        let golden = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/baseline.jsonl"));
        for line in golden.lines() {
            let expected: Golden = serde_json::from_str(line).unwrap();
            let got = baseline.guess(&expected.prompt);
            let likeliest = expected.intent.values().copied().fold(0.0, f64::max);
            assert!((got.intent_confidence - likeliest).abs() < 2e-6, "{}: {got:?}", expected.prompt);
            assert_eq!(expected.intent[&*got.intent], likeliest, "{}", expected.prompt);
            for (got, expected) in got.sufficiency.iter().zip(&expected.sufficiency) {
                assert!((got - expected).abs() < 2e-6, "{line}: {got}");
            }
        }
    }

    #[test]
    fn a_broken_file_is_told() {
        for (json, expected) in [
            ("{", "EOF"),
            (r#"{"format": 3}"#, "format 3, this version reads format 2"),
            (
                r#"{"format":2,"intents":["a"],"levels":["x","y"],"intent_bias":[0],"level_bias":[0],
                    "words":["w"],"idf":[1],"intent_weights":[[1]],"level_weights":[[1,2]]}"#,
                "level_weights: another size",
            ),
        ] {
            let error = Tfidf::read(json.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
