//! Intents by example: the operator's own kinds of prompts, recognised by a few examples, no training.
//!
//! A prompt is like an intent by the cosine of its embedding with the two nearest examples. How like
//! it must be comes from the bundle's background: ordinary prompts, of which only a chosen share may
//! be claimed by mistake.

mod learn;
mod review;

use std::fmt;

pub use self::{
    learn::{LearnError, learn},
    review::{IntentReview, Review, review},
};
use crate::prompt::Intent;

/// Nearest examples whose mean cosine counts. One alone lets a stray example claim its surroundings:
/// on bundle 0.1.0, with ten intents of six examples, two recognised 52 of 80 new paraphrases and
/// claimed 13 of 300 corpus prompts, one recognised 51 and claimed 19.
const NEAREST: usize = 2;

/// The operator's intents with what they are recognised by.
#[derive(Debug)]
pub struct ExampleIntents {
    /// In the order of the configuration.
    intents: Vec<ExampleIntent>,
}

#[derive(Debug)]
struct ExampleIntent {
    /// Place in `Config::intents`.
    place: usize,
    intent: Intent,
    examples: Vec<Vec<f32>>,
    /// Only prompts that are more like the examples are claimed; at least `THRESHOLD_MIN`.
    threshold: f32,
    /// Similarities of the background, ascending, never empty.
    background: Vec<f32>,
}

/// An intent whose examples a prompt is like.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    pub intent: Intent,
    /// Mean cosine with the nearest examples, -1 to 1.
    pub similarity: f64,
    /// What had to be exceeded.
    pub threshold: f64,
    /// Share of ordinary prompts that are less like the examples, 0 to 1.
    pub confidence: f64,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { intent, similarity, threshold, .. } = self;
        write!(f, "nearest to the examples of {intent} (similarity {similarity:.2}, {threshold:.2} needed)")
    }
}

impl ExampleIntents {
    /// Calibrates groups of embedded examples that need no names, for measurements.
    pub fn new(groups: Vec<Vec<Vec<f32>>>, false_positives_max: f64, background: &[Vec<f32>]) -> Self {
        let intents = groups.into_iter().enumerate().map(|(place, examples)| {
            let intent = Intent(place.to_string().into());
            learn::calibrated(place, intent, examples, false_positives_max, background)
        });
        Self { intents: intents.collect() }
    }

    /// Returns the intent that this embedding exceeds the threshold of by most, relative to what is
    /// left above it; the first of equals.
    pub fn claim(&self, embedding: &[f32]) -> Option<Claim> {
        let mut best: Option<(f32, f32, &ExampleIntent)> = None;
        for intent in &self.intents {
            let similarity = intent.similarity(embedding);
            let margin = intent.margin(similarity);
            if margin > 0.0 && best.is_none_or(|(most, ..)| margin > most) {
                best = Some((margin, similarity, intent));
            }
        }
        best.map(|(_, similarity, intent)| Claim {
            intent: intent.intent.clone(),
            similarity: f64::from(similarity),
            threshold: f64::from(intent.threshold),
            confidence: intent.share_below(similarity),
        })
    }
}

impl ExampleIntent {
    fn similarity(&self, embedding: &[f32]) -> f32 {
        similarity(self.examples.iter(), embedding)
    }

    /// Returns how far a similarity exceeds the threshold, as a share of what is possible; above 0 only
    /// when it does.
    fn margin(&self, similarity: f32) -> f32 {
        // A threshold of 1 cannot be exceeded.
        (similarity - self.threshold) / (1.0 - self.threshold).max(f32::EPSILON)
    }

    fn share_below(&self, similarity: f32) -> f64 {
        self.background.partition_point(|&other| other < similarity) as f64 / self.background.len() as f64
    }
}

/// Returns the mean cosine of `embedding` with the nearest of `examples`; -1 without examples.
fn similarity<'a>(examples: impl Iterator<Item = &'a Vec<f32>>, embedding: &[f32]) -> f32 {
    let mut nearest = [-1.0_f32; NEAREST];
    let mut count = 0;
    for example in examples {
        let cosine = cosine(example, embedding);
        if cosine > nearest[0] {
            nearest = [cosine, nearest[0]];
        } else if cosine > nearest[1] {
            nearest[1] = cosine;
        }
        count += 1;
    }
    let counted = &nearest[..count.clamp(1, NEAREST)];
    counted.iter().sum::<f32>() / counted.len() as f32
}

/// Returns the cosine of two vectors of length 1; -1 when it is no number.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    // Eight sums side by side: one sum could not be computed in vectors.
    const LANES: usize = 8;
    let mut sums = [0.0_f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let dot = sums.iter().sum::<f32>() + rest;
    if dot.is_nan() { -1.0 } else { dot.clamp(-1.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{learn::calibrated, *};

    /// A point on the unit circle.
    fn at(degrees: f32) -> Vec<f32> {
        vec![degrees.to_radians().cos(), degrees.to_radians().sin()]
    }

    fn intents(examples: &[(&str, &[f32])], background: &[f32]) -> ExampleIntents {
        let background: Vec<Vec<f32>> = background.iter().copied().map(at).collect();
        let learned = examples.iter().enumerate().map(|(place, (name, degrees))| {
            let examples = degrees.iter().copied().map(at).collect();
            calibrated(place, Intent((*name).into()), examples, 0.1, &background)
        });
        ExampleIntents { intents: learned.collect() }
    }

    #[test]
    fn the_intent_that_is_exceeded_by_most_claims() {
        let intents = intents(&[("east", &[0.0, 10.0]), ("north", &[80.0, 90.0])], &[150.0, 200.0, 250.0]);
        let claimed = |degrees| intents.claim(&at(degrees)).map(|claim| claim.intent.0.to_string());
        assert_eq!(claimed(5.0).as_deref(), Some("east"));
        assert_eq!(claimed(85.0).as_deref(), Some("north"));
        assert_eq!(claimed(60.0).as_deref(), Some("north"));
        // Ordinary traffic is far from both.
        assert_eq!(claimed(200.0), None);
    }

    #[test]
    fn a_claim_says_how_sure_it_is() {
        let intents = intents(&[("east", &[0.0, 10.0])], &[150.0, 200.0, 250.0, 5.0]);
        // One of four rows is right among the examples, and a tenth of four is none.
        assert_eq!(intents.claim(&at(5.0)), None);
        let intents = self::intents(&[("east", &[0.0, 10.0])], &[150.0, 200.0, 250.0, 100.0]);
        let claim = intents.claim(&at(4.0)).unwrap();
        assert_eq!(claim.confidence, 1.0);
        assert!(
            claim.to_string().starts_with("nearest to the examples of east (similarity 1.00, 0.30"),
            "{claim}"
        );
    }

    #[test]
    fn the_two_nearest_examples_count() {
        let examples = [at(0.0), at(30.0), at(180.0)];
        let expected = f32::midpoint(1.0, 30.0_f32.to_radians().cos());
        assert!((similarity(examples.iter(), &at(0.0)) - expected).abs() < 1e-6);
        assert!((similarity(examples[..1].iter(), &at(60.0)) - 0.5).abs() < 1e-6);
        assert_eq!(similarity([].iter(), &at(0.0)), -1.0);
    }

    proptest! {
        #[test]
        fn a_similarity_is_always_a_number(
            a in proptest::collection::vec(any::<f32>(), 0..40),
            b in proptest::collection::vec(any::<f32>(), 0..40),
        ) {
            let got = similarity([a].iter(), &b);
            prop_assert!((-1.0..=1.0).contains(&got), "{got}");
        }

        #[test]
        fn what_is_claimed_is_above_its_threshold(
            east in proptest::collection::vec(-60.0_f32..60.0, 2..6),
            north in proptest::collection::vec(30.0_f32..150.0, 2..6),
            background in proptest::collection::vec(0.0_f32..360.0, 1..40),
            prompt in 0.0_f32..360.0,
        ) {
            let intents = intents(&[("east", &east), ("north", &north)], &background);
            if let Some(claim) = intents.claim(&at(prompt)) {
                prop_assert!(claim.similarity > claim.threshold);
                prop_assert!((0.3..=1.0).contains(&claim.threshold));
                prop_assert!((0.0..=1.0).contains(&claim.confidence));
            }
        }

        #[test]
        fn the_background_is_claimed_at_most_as_often_as_allowed(
            east in proptest::collection::vec(0.0_f32..90.0, 2..6),
            background in proptest::collection::vec(0.0_f32..360.0, 1..60),
        ) {
            let intents = intents(&[("east", &east)], &background);
            let claimed = background.iter().filter(|&&row| intents.claim(&at(row)).is_some()).count();
            // One less than of a background that holds the next prompt too: that one may be claimed.
            prop_assert!(claimed as f64 <= (0.1 * (background.len() + 1) as f64 - 1.0).max(0.0));
        }
    }
}
