//! A bundle on disk or in the binary -> verified bytes: manifest, model, tokenizer, golden samples, and
//! the background where there is one.
//!
//! Nothing of a bundle is used before its size and SHA-256 agree with the manifest.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{background::Background, tokenize::InputLimits};
use crate::routing::language::ReadLanguages;

/// Embeddings of ordinary traffic; the only optional file.
const BACKGROUND: &str = "background.f32";

/// The manifest format that this version reads.
pub const FORMAT: u32 = 1;

/// Largest file of a bundle, bytes: a BERT-large in fp32 fits.
const FILE_BYTES_MAX: u64 = 2 << 30;
const MANIFEST_BYTES_MAX: u64 = 1 << 20;
const BASELINE_BYTES_MAX: u64 = 16 << 20;
const LABELS_MAX: usize = 1000;
const LEVELS_MAX: usize = 16;
const EMBEDDING_WIDTH_MAX: usize = 8192;
const BACKGROUND_ROWS_MAX: usize = 100_000;

/// Why a bundle cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("bundle {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: std::io::Error },
    #[error("bundle {}: {bytes} bytes, at most {most} are read", path.display())]
    TooLarge { path: PathBuf, bytes: u64, most: u64 },
    #[error("bundle: {file}: is not listed in the manifest's files")]
    NotListed { file: &'static str },
    #[error("bundle {}: is a link that leaves the bundle's folder", path.display())]
    Outside { path: PathBuf },
    #[error("bundle {file}: sha256 is {got}, the manifest says {expected}: copy the bundle again")]
    Sha256 { file: String, got: String, expected: String },
    #[error("bundle {file}: {got} bytes, the manifest says {expected}: copy the bundle again")]
    Length { file: String, got: u64, expected: u64 },
    #[error("bundle {file}: {why}")]
    Broken { file: String, why: String },
    #[error("bundle manifest.json: format {got}, this version reads format {FORMAT}")]
    Format { got: u32 },
    #[error("bundle model.onnx: {why}")]
    Graph { why: String },
    #[error(
        "bundle golden.jsonl: line {line} ({id}): {what} is {got:.5}, expected {expected:.5} within {tolerance}"
    )]
    Golden { line: usize, id: String, what: String, got: f64, expected: f64, tolerance: f64 },
}

/// What a bundle says of itself.
#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    pub format: u32,
    pub name: String,
    pub version: String,
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

/// One prompt and the scores it must get before the bundle may serve.
#[derive(Debug, Clone, Deserialize)]
pub struct GoldenSample {
    /// Line in the file, from 1.
    #[serde(skip)]
    pub line: usize,
    pub id: String,
    pub messages: Vec<GoldenMessage>,
    pub tokens: usize,
    pub truncated: bool,
    pub intent: BTreeMap<String, f64>,
    pub sufficiency: Vec<f64>,
}

/// A turn of a golden sample.
#[derive(Debug, Clone, Deserialize)]
pub struct GoldenMessage {
    pub role: String,
    pub content: String,
}

/// A bundle whose files agree with its manifest.
#[derive(Debug)]
pub struct Bundle {
    pub manifest: Manifest,
    pub model: Cow<'static, [u8]>,
    pub tokenizer: Cow<'static, [u8]>,
    pub golden: Vec<GoldenSample>,
    pub background: Option<Background>,
}

impl Bundle {
    /// Returns the bundle inside the binary.
    pub fn embedded() -> Result<Self, BundleError> {
        macro_rules! embedded {
            ($name:literal) => {
                include_bytes!(concat!(env!("POINTSMAN_DEFAULT_BUNDLE"), "/", $name)).as_slice()
            };
        }
        let manifest = parse_manifest(embedded!("manifest.json"))?;
        Self::assemble(manifest, |name| {
            Ok(Cow::Borrowed(match name {
                "model.onnx" => embedded!("model.onnx"),
                "tokenizer.json" => embedded!("tokenizer.json"),
                BACKGROUND => include_bytes!(concat!(env!("OUT_DIR"), "/background.f32")).as_slice(),
                _ => embedded!("golden.jsonl"),
            }))
        })
    }

    /// Reads and verifies the bundle in `folder`.
    pub fn read(folder: &Path) -> Result<Self, BundleError> {
        let unreadable = |error| BundleError::Unreadable { path: folder.to_owned(), error };
        let folder = folder.canonicalize().map_err(unreadable)?;
        let manifest = parse_manifest(&read_inside(&folder, "manifest.json", MANIFEST_BYTES_MAX)?)?;
        Self::assemble(manifest, |name| read_inside(&folder, name, FILE_BYTES_MAX).map(Cow::Owned))
    }

    /// Returns the TF-IDF baseline beside the bundle in `folder` (`None`: the one inside the binary), `None`
    /// when it has none. It never serves, so the manifest need not list it.
    pub fn baseline(folder: Option<&Path>) -> Result<Option<Cow<'static, [u8]>>, BundleError> {
        const FILE: &str = "baseline.json";
        let Some(folder) = folder else {
            let embedded = include_bytes!(concat!(env!("OUT_DIR"), "/baseline.json")).as_slice();
            return Ok((!embedded.is_empty()).then_some(Cow::Borrowed(embedded)));
        };
        let folder = folder
            .canonicalize()
            .map_err(|error| BundleError::Unreadable { path: folder.to_owned(), error })?;
        if !folder.join(FILE).exists() {
            return Ok(None);
        }
        read_inside(&folder, FILE, BASELINE_BYTES_MAX).map(|bytes| Some(Cow::Owned(bytes)))
    }

    fn assemble(
        manifest: Manifest,
        read: impl Fn(&'static str) -> Result<Cow<'static, [u8]>, BundleError>,
    ) -> Result<Self, BundleError> {
        let verified = |file: &'static str| {
            let entry = manifest.files.get(file).ok_or(BundleError::NotListed { file })?;
            let bytes = read(file)?;
            verify(file, &bytes, entry)?;
            Ok(bytes)
        };
        let model = verified("model.onnx")?;
        let tokenizer = verified("tokenizer.json")?;
        let golden = parse_golden(&verified("golden.jsonl")?)?;
        let background = match manifest.embedding {
            Some(EmbeddingSettings { width, background: Some(BackgroundSettings { rows }) }) => {
                let broken = |why| BundleError::Broken { file: BACKGROUND.to_owned(), why };
                Some(Background::new(verified(BACKGROUND)?, rows, width).map_err(broken)?)
            }
            Some(EmbeddingSettings { background: None, .. }) | None => None,
        };
        Ok(Self { manifest, model, tokenizer, golden, background })
    }
}

/// Reads a file of the bundle that really lies in its folder.
fn read_inside(folder: &Path, name: &str, most: u64) -> Result<Vec<u8>, BundleError> {
    let path = folder.join(name);
    let unreadable = |error| BundleError::Unreadable { path: path.clone(), error };
    if !path.canonicalize().map_err(unreadable)?.starts_with(folder) {
        return Err(BundleError::Outside { path });
    }
    let file = fs::File::open(&path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    if bytes > most {
        return Err(BundleError::TooLarge { path, bytes, most });
    }
    let mut content = Vec::with_capacity(bytes as usize);
    file.take(most).read_to_end(&mut content).map_err(unreadable)?;
    Ok(content)
}

fn verify(file: &str, bytes: &[u8], entry: &FileEntry) -> Result<(), BundleError> {
    let got = bytes.len() as u64;
    if got != entry.bytes {
        return Err(BundleError::Length { file: file.to_owned(), got, expected: entry.bytes });
    }
    let got: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if got != entry.sha256 {
        return Err(BundleError::Sha256 { file: file.to_owned(), got, expected: entry.sha256.clone() });
    }
    Ok(())
}

fn parse_manifest(json: &[u8]) -> Result<Manifest, BundleError> {
    let broken = |why: String| BundleError::Broken { file: "manifest.json".to_owned(), why };
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

fn parse_golden(jsonl: &[u8]) -> Result<Vec<GoldenSample>, BundleError> {
    let broken = |why: String| BundleError::Broken { file: "golden.jsonl".to_owned(), why };
    let text = std::str::from_utf8(jsonl).map_err(|error| broken(error.to_string()))?;
    let samples = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(at, line)| {
            let sample: GoldenSample =
                serde_json::from_str(line).map_err(|error| broken(format!("line {}: {error}", at + 1)))?;
            Ok(GoldenSample { line: at + 1, ..sample })
        })
        .collect::<Result<Vec<GoldenSample>, _>>()?;
    if samples.is_empty() {
        return Err(broken("holds no sample: the scores cannot be checked".to_owned()));
    }
    match samples.iter().find(|sample| sample.messages.is_empty()) {
        Some(sample) => Err(broken(format!("line {}: has no messages", sample.line))),
        None => Ok(samples),
    }
}
