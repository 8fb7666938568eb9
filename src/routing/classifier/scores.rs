//! Logits -> calibrated [`Scores`]. Pure.

use super::{
    bundle::manifest::{Calibration, Manifest},
    session::Outputs,
    tokenize::TokenDensity,
};
use crate::prompt::Intent;

/// What the classifier says of one prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    pub intent: Intent,
    /// Calibrated probability of `intent`, 0 to 1.
    pub intent_confidence: f64,
    /// Calibrated probability that each level is enough; one per level, never falls, ends in 1.
    pub sufficiency: Vec<f64>,
    /// Calibrated probability of the level held for the most likely, 0 to 1.
    pub level_confidence: f64,
    /// Whether `intent_confidence` is below its calibrated threshold: none of the intents fits well.
    pub intent_unsure: bool,
    /// The bundle's calibrated threshold, 0 to 1: a level whose sufficiency exceeds a wanted 0.5 by less is
    /// only just enough.
    pub level_margin_min: f64,
    /// Whether part of the last user turn was left out.
    pub truncated: bool,
    pub density: TokenDensity,
}

/// Returns the probability of every intent: softmax(logits / temperature).
pub fn intent_probabilities(logits: &[f32], temperature: f64) -> Vec<f64> {
    let scaled: Vec<f64> = logits.iter().map(|&logit| f64::from(logit) / temperature).collect();
    let largest = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponents: Vec<f64> = scaled.iter().map(|&logit| (logit - largest).exp()).collect();
    let sum: f64 = exponents.iter().sum();
    exponents.into_iter().map(|exponent| exponent / sum).collect()
}

/// Returns the sufficiency of every level: sigmoid(scale * logit + bias), running maximum, then 1.
pub fn sufficiencies(logits: &[f32], calibration: &Calibration) -> Vec<f64> {
    let mut highest = 0.0_f64;
    logits
        .iter()
        .zip(&calibration.sufficiency)
        .map(|(&logit, platt)| {
            let probability = 1.0 / (1.0 + (-(platt.scale * f64::from(logit) + platt.bias)).exp());
            highest = highest.max(probability);
            highest
        })
        .chain([1.0])
        .collect()
}

/// Returns the calibrated scores of one prompt; `intents` are the manifest's, in logit order.
pub fn calibrate(
    outputs: &Outputs,
    intents: &[Intent],
    manifest: &Manifest,
    truncated: bool,
    density: TokenDensity,
) -> Scores {
    let probabilities = intent_probabilities(&outputs.intent_logits, manifest.calibration.intent_temperature);
    let best = index_of_largest(&probabilities);
    let sufficiency = sufficiencies(&outputs.sufficiency_logits, &manifest.calibration);
    let masses = level_masses(&sufficiency);
    let likeliest = index_of_largest(&masses);
    let thresholds = manifest.thresholds;
    Scores {
        intent: intents[best].clone(),
        intent_confidence: probabilities[best],
        level_confidence: masses[likeliest],
        intent_unsure: probabilities[best] < thresholds.intent_confidence_min,
        level_margin_min: thresholds.level_margin_min,
        sufficiency,
        truncated,
        density,
    }
}

/// Returns the probability that each level is the weakest that is enough.
fn level_masses(sufficiency: &[f64]) -> Vec<f64> {
    let mut below = 0.0;
    sufficiency
        .iter()
        .map(|&enough| {
            let mass = enough - below;
            below = enough;
            mass
        })
        .collect()
}

fn index_of_largest(values: &[f64]) -> usize {
    // The first of equals, so that ties do not depend on the iteration order.
    (1..values.len()).fold(0, |best, at| if values[at] > values[best] { at } else { best })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::routing::classifier::bundle::{
        Bundle,
        manifest::{PlattScale, Thresholds},
    };

    #[test]
    fn each_threshold_is_about_its_own_scores() {
        let mut manifest = Bundle::embedded().unwrap().manifest;
        let intents: Vec<Intent> =
            manifest.labels.intents.iter().map(|name| Intent(name.as_str().into())).collect();
        let outputs = Outputs {
            intent_logits: vec![0.0; intents.len()],
            sufficiency_logits: vec![0.0; manifest.labels.levels.len() - 1],
            embedding: Vec::new(),
        };
        for (intent_confidence_min, level_margin_min, expected) in
            [(0.0, 0.0, (false, 0.0)), (1.0, 0.0, (true, 0.0)), (0.0, 0.1, (false, 0.1))]
        {
            manifest.thresholds = Thresholds { intent_confidence_min, level_margin_min };
            let density = TokenDensity { tokens: 1, bytes: 4 };
            let scores = calibrate(&outputs, &intents, &manifest, false, density);
            assert_eq!((scores.intent_unsure, scores.level_margin_min), expected);
        }
    }

    proptest! {
        #[test]
        fn sufficiency_never_falls_and_ends_in_one(
            logits in proptest::collection::vec(-30.0_f32..30.0, 1..8),
            scale in 0.1_f64..3.0,
            bias in -3.0_f64..3.0,
        ) {
            let calibration = Calibration {
                intent_temperature: 1.0,
                sufficiency: vec![PlattScale { scale, bias }; logits.len()],
            };
            let got = sufficiencies(&logits, &calibration);
            prop_assert_eq!(got.len(), logits.len() + 1);
            prop_assert_eq!(*got.last().unwrap(), 1.0);
            prop_assert!(got.windows(2).all(|pair| pair[0] <= pair[1]));
            prop_assert!(got.iter().all(|p| (0.0..=1.0).contains(p)));
            let sum: f64 = level_masses(&got).iter().sum();
            prop_assert!((sum - 1.0).abs() < 1e-9);
        }

        #[test]
        fn intent_probabilities_sum_to_one(
            logits in proptest::collection::vec(-50.0_f32..50.0, 1..20),
            temperature in 0.1_f64..5.0,
        ) {
            let got = intent_probabilities(&logits, temperature);
            prop_assert!((got.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }
}
