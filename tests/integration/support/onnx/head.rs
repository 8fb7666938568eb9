//! What a tiny bundle computes: words -> features -> logits, as weights for the graph and in closed form for the
//! golden samples.
//!
//! A feature is 1 where its word or letter occurs and 0 elsewhere, so that every score can be told by looking at the
//! prompt.

use super::{Head, Labels};

/// Logit of an intent whose word occurs.
const INTENT_LOGIT: f32 = 8.0;
/// Logit of the last intent, which takes prompts without any intent's word.
const LAST_INTENT_LOGIT: f32 = 4.0;
/// Logit of a level that is enough; the negative one of a level that is not.
const LEVEL_LOGIT: f32 = 4.0;

pub const SPECIAL: [&str; 4] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];
const START: usize = 2;
const LETTERS: std::ops::RangeInclusive<char> = 'a'..='z';

/// Which word turns on which feature, and what follows from features.
pub struct Weights {
    /// Entries of the tokenizer, by id.
    pub vocabulary: Vec<String>,
    pub features: usize,
    /// `[vocabulary, features]`, each 0 or 1.
    pub table: Vec<f32>,
    /// `[features, intents]`.
    pub intents: Vec<f32>,
    /// `[features, levels - 1]`.
    pub levels: Vec<f32>,
    labels: Labels,
}

impl Weights {
    pub fn new(labels: &Labels, head: &Head) -> Self {
        let names: Vec<&str> = labels.intents.iter().chain(&labels.levels).map(String::as_str).collect();
        let letters = LETTERS.count();
        // One for each name, one for each letter, and one that is always on.
        let features = names.len() + letters + 1;
        let mut rows: Vec<(String, Option<usize>)> =
            SPECIAL.iter().map(|&name| (name.to_owned(), None)).collect();
        rows[START].1 = Some(features - 1);
        rows.extend(names.iter().enumerate().map(|(at, name)| (name.to_lowercase(), Some(at))));
        for (at, letter) in LETTERS.enumerate() {
            let feature = Some(names.len() + at);
            rows.extend([(letter.to_string(), feature), (format!("##{letter}"), feature)]);
        }
        let mut table = vec![0.0; rows.len() * features];
        for (id, (_, feature)) in rows.iter().enumerate() {
            if let Some(feature) = feature {
                table[id * features + feature] = 1.0;
            }
        }
        let (intents, levels) = match head {
            Head::Reading => (reading_intents(labels, features), reading_levels(labels, features)),
            Head::Always(level) => (reading_intents(labels, features), always(labels, features, level)),
            Head::Random(seed) => {
                let mut random = Random(*seed);
                let mut weights = |count: usize| (0..count).map(|_| random.next()).collect::<Vec<f32>>();
                (weights(features * labels.intents.len()), weights(features * (labels.levels.len() - 1)))
            }
        };
        let vocabulary = rows.into_iter().map(|(word, _)| word).collect();
        Self { vocabulary, features, table, intents, levels, labels: labels.clone() }
    }

    /// Returns the ids of words that all are in the vocabulary, with special tokens.
    pub fn ids(&self, words: &[&str]) -> Vec<usize> {
        let id = |word: &str| self.vocabulary.iter().position(|known| known == word).expect("a known word");
        let words = words.iter().map(|word| id(word));
        [START].into_iter().chain(words).chain([START + 1]).collect()
    }

    /// Returns the probability of each intent and the sufficiency of each level for these ids.
    pub fn expected(&self, ids: &[usize]) -> (Vec<f64>, Vec<f64>) {
        let on = |feature: usize| ids.iter().any(|id| self.table[id * self.features + feature] > 0.0);
        let on: Vec<usize> = (0..self.features).filter(|&feature| on(feature)).collect();
        let logits = |weights: &[f32], width: usize| -> Vec<f64> {
            let logit = |column| on.iter().map(|row| f64::from(weights[row * width + column])).sum();
            (0..width).map(logit).collect()
        };
        let intents = logits(&self.intents, self.labels.intents.len());
        let highest = intents.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = intents.iter().map(|logit| (logit - highest).exp()).sum();
        let intents = intents.iter().map(|logit| (logit - highest).exp() / sum).collect();
        let mut largest = 0.0_f64;
        let sufficiency = logits(&self.levels, self.labels.levels.len() - 1).into_iter().map(|logit| {
            largest = largest.max(1.0 / (1.0 + (-logit).exp()));
            largest
        });
        (intents, sufficiency.chain([1.0]).collect())
    }
}

fn reading_intents(labels: &Labels, features: usize) -> Vec<f32> {
    let width = labels.intents.len();
    let mut weights = vec![0.0; features * width];
    for intent in 0..width {
        weights[intent * width + intent] = INTENT_LOGIT;
    }
    weights[(features - 1) * width + width - 1] = LAST_INTENT_LOGIT;
    weights
}

/// The strongest level whose word occurs is needed; without any, the weakest one is enough.
fn reading_levels(labels: &Labels, features: usize) -> Vec<f32> {
    let mut weights = always(labels, features, &labels.levels[0]);
    let width = labels.levels.len() - 1;
    for level in 0..labels.levels.len() {
        for weaker in 0..level {
            weights[(labels.intents.len() + level) * width + weaker] = -2.0 * LEVEL_LOGIT;
        }
    }
    weights
}

fn always(labels: &Labels, features: usize, level: &str) -> Vec<f32> {
    let width = labels.levels.len() - 1;
    let level = labels.levels.iter().position(|known| known == level).expect("a level of the bundle");
    let mut weights = vec![0.0; features * width];
    for column in 0..width {
        let enough = column >= level;
        weights[(features - 1) * width + column] = if enough { LEVEL_LOGIT } else { -LEVEL_LOGIT };
    }
    weights
}

/// Numbers from -4 to 4 that only the seed decides (SplitMix64, Steele et al. 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 40) as f32 / (1_u64 << 24) as f32 * 8.0 - 4.0
    }
}
