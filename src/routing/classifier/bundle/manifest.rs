//! `manifest.json`: what a bundle says of itself. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{BundleError, FORMAT};
use crate::routing::{classifier::tokenize::InputLimits, language::ReadLanguages};

const LABELS_MAX: usize = 1000;
const LEVELS_MAX: usize = 16;
const EMBEDDING_WIDTH_MAX: usize = 8192;
const BACKGROUND_ROWS_MAX: usize = 100_000;

/// What a bundle says of itself.
#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub name: String,
    pub version: String,
    /// When it was made, as it says.
    #[serde(default)]
    pub created: String,
    pub labels: Labels,
    pub input: InputLimits,
    pub calibration: Calibration,
    pub thresholds: Thresholds,
    pub golden: GoldenSettings,
    /// Absent: the width is what the graph has, and intents by example cannot be calibrated.
    pub embedding: Option<EmbeddingSettings>,
    /// Absent: every language counts as read.
    pub languages: Option<LanguageSettings>,
    pub files: BTreeMap<String, FileEntry>,
}

/// The closed sets that the graph's outputs stand for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Labels {
    /// In the order of `intent_logits`.
    pub intents: Vec<String>,
    /// Weakest first; `sufficiency_logits` has one column for each but the last.
    pub levels: Vec<String>,
}

/// Logits to probabilities.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Calibration {
    /// Softmax temperature (Guo et al. 2017, arXiv 1706.04599), above 0.
    pub intent_temperature: f64,
    /// One per level but the last.
    pub sufficiency: Vec<PlattScale>,
}

/// sigmoid(scale * logit + bias) (Platt 1999).
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct PlattScale {
    pub scale: f64,
    pub bias: f64,
}

/// Below these the classifier is unsure.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Thresholds {
    /// Probability of the best intent, 0 to 1.
    pub intent_confidence_min: f64,
    /// How far the sufficiency of the weakest level that is enough must exceed 0.5; 0 to 1.
    pub level_margin_min: f64,
}

/// How golden samples are compared.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct GoldenSettings {
    /// Largest difference of a probability.
    pub tolerance: f64,
}

/// The graph's third output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct EmbeddingSettings {
    /// Numbers of one embedding.
    pub width: usize,
    /// What `background.f32` holds; absent without that file.
    pub background: Option<BackgroundSettings>,
}

/// Embeddings of ordinary traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct BackgroundSettings {
    pub rows: usize,
}

/// What the classifier was measured to read well.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LanguageSettings {
    pub read: ReadLanguages,
}

/// What the manifest says of one file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FileEntry {
    pub sha256: String,
    pub bytes: u64,
}

impl Manifest {
    /// Reads and checks `manifest.json`.
    pub fn parse(json: &[u8]) -> Result<Self, BundleError> {
        let broken = |why: String| BundleError::Manifest { why };
        // The format comes first: a newer one may have other fields.
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let head: Head = serde_json::from_slice(json).map_err(|error| broken(error.to_string()))?;
        if head.format != FORMAT {
            return Err(BundleError::Format { got: head.format });
        }
        let manifest: Manifest = serde_json::from_slice(json).map_err(|error| broken(error.to_string()))?;
        match manifest_problem(&manifest) {
            Some(why) => Err(broken(why)),
            None => Ok(manifest),
        }
    }
}

fn manifest_problem(manifest: &Manifest) -> Option<String> {
    let Labels { intents, levels } = &manifest.labels;
    let probability = |value: f64| (0.0..=1.0).contains(&value);
    let temperature = manifest.calibration.intent_temperature;
    if intents.is_empty() || intents.len() > LABELS_MAX {
        return Some(format!("labels.intents: {} intents, 1 to {LABELS_MAX} expected", intents.len()));
    }
    if levels.len() < 2 || levels.len() > LEVELS_MAX {
        return Some(format!("labels.levels: {} levels, 2 to {LEVELS_MAX} expected", levels.len()));
    }
    if !(temperature.is_finite() && temperature > 0.0) {
        return Some(format!("calibration.intent_temperature: {temperature} is not above 0"));
    }
    let scales = &manifest.calibration.sufficiency;
    if scales.len() != levels.len() - 1 {
        return Some(format!(
            "calibration.sufficiency: {} entries for {} levels",
            scales.len(),
            levels.len()
        ));
    }
    if scales.iter().any(|platt| !platt.scale.is_finite() || !platt.bias.is_finite()) {
        return Some("calibration.sufficiency: a number is not finite".to_owned());
    }
    let Thresholds { intent_confidence_min, level_margin_min } = manifest.thresholds;
    if !probability(intent_confidence_min) || !probability(level_margin_min) {
        return Some("thresholds: not within 0 to 1".to_owned());
    }
    if !probability(manifest.golden.tolerance) {
        return Some("golden.tolerance: not within 0 to 1".to_owned());
    }
    manifest.input.problem().or_else(|| embedding_problem(manifest))
}

fn embedding_problem(manifest: &Manifest) -> Option<String> {
    let EmbeddingSettings { width, background } = manifest.embedding?;
    if !(1..=EMBEDDING_WIDTH_MAX).contains(&width) {
        return Some(format!("embedding.width: {width} is not within 1 to {EMBEDDING_WIDTH_MAX}"));
    }
    let rows = background?.rows;
    (!(1..=BACKGROUND_ROWS_MAX).contains(&rows))
        .then(|| format!("embedding.background.rows: {rows} is not within 1 to {BACKGROUND_ROWS_MAX}"))
}
