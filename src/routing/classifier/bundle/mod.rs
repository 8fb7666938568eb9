//! A bundle on disk or in the binary -> verified bytes: manifest, model, tokenizer, golden samples, and
//! the background where there is one.
//!
//! Nothing of a bundle is used before its size and SHA-256 agree with the manifest, and no file is read before it is
//! known to be a plain one of the size that the manifest says.

pub mod manifest;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest, Sha256};

pub use self::manifest::Manifest;
use self::manifest::{BackgroundSettings, EmbeddingSettings, FileEntry};
use super::background::Background;

const MANIFEST: &str = "manifest.json";
const MODEL: &str = "model.onnx";
const TOKENIZER: &str = "tokenizer.json";
const GOLDEN: &str = "golden.jsonl";
/// Embeddings of ordinary traffic; the only optional file.
const BACKGROUND: &str = "background.f32";

/// The manifest format that this version reads.
pub const FORMAT: u32 = 1;

/// Largest file of a bundle, bytes: a BERT-large in fp32 fits.
const FILE_BYTES_MAX: u64 = 2 << 30;
/// All files of a bundle together, bytes.
const BUNDLE_BYTES_MAX: u64 = 3 << 30;
const MANIFEST_BYTES_MAX: u64 = 1 << 20;
const BASELINE_BYTES_MAX: u64 = 16 << 20;
/// Every one is run before a bundle may serve.
const GOLDEN_SAMPLES_MAX: usize = 1000;

/// Why a bundle cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("bundle {}: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("bundle {}: {bytes} bytes, at most {most} are read", path.display())]
    TooLarge { path: PathBuf, bytes: u64, most: u64 },
    #[error("bundle: its files have {bytes} bytes together, at most {most} are read")]
    TooLargeTogether { bytes: u64, most: u64 },
    #[error("bundle: {file}: is not listed in the manifest's files: export the bundle again")]
    NotListed { file: &'static str },
    #[error("bundle {}: is a link that leaves the bundle's folder: put the file itself there", path.display())]
    Outside { path: PathBuf },
    #[error("bundle {file}: sha256 is {got}, the manifest says {expected}: copy the bundle again")]
    Sha256 { file: String, got: String, expected: String },
    #[error("bundle {file}: {got} bytes, the manifest says {expected}: copy the bundle again")]
    Length { file: String, got: u64, expected: u64 },
    #[error("bundle manifest.json: {why}")]
    Manifest { why: String },
    #[error("bundle manifest.json: format {got}, this version reads format {FORMAT}")]
    Format { got: u32 },
    #[error("bundle tokenizer.json: {why}")]
    Tokenizer { why: String },
    #[error(
        "bundle tokenizer.json: it is the tokenizer of another model (golden.jsonl line {line}: {why}): take the one \
         that the model was trained with"
    )]
    OtherTokenizer { line: usize, why: String },
    #[error("bundle background.f32: {why}")]
    Background { why: String },
    #[error("bundle model.onnx: {why}")]
    Graph { why: String },
    #[error(
        "bundle model.onnx: was written for opset {opset} (format {ir_version}) of ONNX, which this ONNX Runtime does \
         not read: export it with opset 17: {why}"
    )]
    Opset { opset: i64, ir_version: i64, why: String },
    #[error("bundle model.onnx: {why}")]
    Outputs { why: String },
    #[error("bundle model.onnx: output {output} holds {value}{}: the weights are broken, train or export again",
        line.map(|line| format!(" on golden line {line}")).unwrap_or_default())]
    NotFinite { output: &'static str, value: f32, line: Option<usize> },
    #[error("bundle golden.jsonl: {why}")]
    GoldenFile { why: String },
    #[error(
        "bundle golden.jsonl: line {line} ({id}): {what} is {got:.5}, expected {expected:.5} within {tolerance}: graph, \
         tokenizer or calibration are not those that the golden samples were made with"
    )]
    Golden { line: usize, id: String, what: String, got: f64, expected: f64, tolerance: f64 },
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
    /// What the tokenizer makes of it; absent in older bundles.
    #[serde(default)]
    pub ids: Option<Vec<i64>>,
}

/// A turn of a golden sample.
#[derive(Debug, Clone, Deserialize)]
pub struct GoldenMessage {
    pub role: String,
    pub content: String,
}

/// Sizes of a bundle's files, bytes, as far as memory depends on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    pub model: u64,
    pub tokenizer: u64,
    pub others: u64,
}

/// A bundle's manifest, and where its files are; none of them was read yet.
#[derive(Debug)]
pub struct Opened {
    pub manifest: Manifest,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Embedded,
    /// Canonical.
    Folder(PathBuf),
}

/// A bundle whose files agree with its manifest.
#[derive(Debug)]
pub struct Bundle {
    pub manifest: Manifest,
    pub model: Bytes,
    pub tokenizer: Cow<'static, [u8]>,
    pub golden: Vec<GoldenSample>,
    pub background: Option<Background>,
}

macro_rules! embedded {
    ($name:literal) => {
        include_bytes!(concat!(env!("POINTSMAN_DEFAULT_BUNDLE"), "/", $name)).as_slice()
    };
}

impl Opened {
    /// Opens the bundle inside the binary.
    pub fn embedded() -> Result<Self, BundleError> {
        let manifest = Manifest::parse(embedded!("manifest.json"))?;
        Ok(Self { manifest, place: Place::Embedded })
    }

    /// Opens the bundle in `folder`. With `sha256` (hexadecimal) its manifest must be exactly that one.
    pub fn folder(folder: &Path, sha256: Option<&str>) -> Result<Self, BundleError> {
        let unreadable = |error| BundleError::Unreadable { path: folder.to_owned(), error };
        let folder = folder.canonicalize().map_err(unreadable)?;
        let json = read_inside(&folder, MANIFEST, None, MANIFEST_BYTES_MAX)?;
        if let Some(expected) = sha256 {
            check_sha256(MANIFEST, &json, expected)?;
        }
        Ok(Self { manifest: Manifest::parse(&json)?, place: Place::Folder(folder) })
    }

    /// Returns what the manifest says of the files' sizes; an error when one of them or all together are too large to
    /// be read.
    pub fn sizes(&self) -> Result<Sizes, BundleError> {
        let bytes = |file: &'static str| {
            let bytes = entry(&self.manifest, file)?.bytes;
            if bytes > FILE_BYTES_MAX {
                return Err(BundleError::TooLarge { path: PathBuf::from(file), bytes, most: FILE_BYTES_MAX });
            }
            Ok(bytes)
        };
        let background = self.background_rows().map_or(Ok(0), |_| bytes(BACKGROUND))?;
        let (model, tokenizer) = (bytes(MODEL)?, bytes(TOKENIZER)?);
        let sizes = Sizes { model, tokenizer, others: bytes(GOLDEN)? + background };
        let together = sizes.model + sizes.tokenizer + sizes.others;
        if together > BUNDLE_BYTES_MAX {
            return Err(BundleError::TooLargeTogether { bytes: together, most: BUNDLE_BYTES_MAX });
        }
        Ok(sizes)
    }

    /// Reads and verifies every file.
    pub fn read(self) -> Result<Bundle, BundleError> {
        self.sizes()?;
        let verified = |file: &'static str| {
            let entry = entry(&self.manifest, file)?;
            let bytes = match &self.place {
                Place::Embedded => Cow::Borrowed(embedded(file)),
                Place::Folder(folder) => {
                    Cow::Owned(read_inside(folder, file, Some(entry.bytes), FILE_BYTES_MAX)?)
                }
            };
            check_length(file, bytes.len() as u64, entry.bytes)?;
            check_sha256(file, &bytes, &entry.sha256)?;
            Ok(bytes)
        };
        let model = match verified(MODEL)? {
            Cow::Borrowed(embedded) => Bytes::from_static(embedded),
            Cow::Owned(read) => Bytes::from(read),
        };
        let tokenizer = verified(TOKENIZER)?;
        let golden = parse_golden(&verified(GOLDEN)?)?;
        let background = match self.background_rows() {
            Some((rows, width)) => {
                let broken = |why| BundleError::Background { why };
                Some(Background::new(verified(BACKGROUND)?, rows, width).map_err(broken)?)
            }
            None => None,
        };
        Ok(Bundle { manifest: self.manifest, model, tokenizer, golden, background })
    }

    fn background_rows(&self) -> Option<(usize, usize)> {
        match self.manifest.embedding {
            Some(EmbeddingSettings { width, background: Some(BackgroundSettings { rows }) }) => {
                Some((rows, width))
            }
            Some(EmbeddingSettings { background: None, .. }) | None => None,
        }
    }
}

impl Bundle {
    /// Returns the bundle inside the binary.
    pub fn embedded() -> Result<Self, BundleError> {
        Opened::embedded()?.read()
    }

    /// Reads and verifies the bundle in `folder`.
    pub fn read(folder: &Path) -> Result<Self, BundleError> {
        Opened::folder(folder, None)?.read()
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
        read_inside(&folder, FILE, None, BASELINE_BYTES_MAX).map(|bytes| Some(Cow::Owned(bytes)))
    }
}

/// Returns the graph of the bundle inside the binary.
pub fn embedded_model() -> &'static [u8] {
    embedded(MODEL)
}

fn embedded(file: &'static str) -> &'static [u8] {
    match file {
        MODEL => embedded!("model.onnx"),
        TOKENIZER => embedded!("tokenizer.json"),
        BACKGROUND => include_bytes!(concat!(env!("OUT_DIR"), "/background.f32")).as_slice(),
        _ => embedded!("golden.jsonl"),
    }
}

fn entry<'a>(manifest: &'a Manifest, file: &'static str) -> Result<&'a FileEntry, BundleError> {
    manifest.files.get(file).ok_or(BundleError::NotListed { file })
}

/// Reads a file of the bundle that really lies in its folder and has `expected` bytes, where that is known.
fn read_inside(folder: &Path, name: &str, expected: Option<u64>, most: u64) -> Result<Vec<u8>, BundleError> {
    let path = folder.join(name);
    let unreadable = |error| BundleError::Unreadable { path: path.clone(), error };
    let real = path.canonicalize().map_err(unreadable)?;
    if !real.starts_with(folder) {
        return Err(BundleError::Outside { path });
    }
    // Before it is opened: opening a pipe would wait for who writes to it.
    let metadata = fs::metadata(&real).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(io::Error::other("is no plain file")));
    }
    let bytes = metadata.len();
    if bytes > most {
        return Err(BundleError::TooLarge { path, bytes, most });
    }
    if let Some(expected) = expected {
        check_length(name, bytes, expected)?;
    }
    let mut content = Vec::with_capacity(bytes as usize);
    let file = fs::File::open(&real).map_err(unreadable)?;
    file.take(most).read_to_end(&mut content).map_err(unreadable)?;
    Ok(content)
}

fn check_length(file: &str, got: u64, expected: u64) -> Result<(), BundleError> {
    if got == expected { Ok(()) } else { Err(BundleError::Length { file: file.to_owned(), got, expected }) }
}

fn check_sha256(file: &str, bytes: &[u8], expected: &str) -> Result<(), BundleError> {
    let got: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if got == expected {
        return Ok(());
    }
    Err(BundleError::Sha256 { file: file.to_owned(), got, expected: expected.to_owned() })
}

fn parse_golden(jsonl: &[u8]) -> Result<Vec<GoldenSample>, BundleError> {
    let broken = |why: String| BundleError::GoldenFile { why };
    let text = std::str::from_utf8(jsonl).map_err(|error| broken(error.to_string()))?;
    let samples = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .take(GOLDEN_SAMPLES_MAX + 1)
        .map(|(at, line)| {
            let sample: GoldenSample =
                serde_json::from_str(line).map_err(|error| broken(format!("line {}: {error}", at + 1)))?;
            Ok(GoldenSample { line: at + 1, ..sample })
        })
        .collect::<Result<Vec<GoldenSample>, _>>()?;
    if samples.is_empty() {
        return Err(broken("holds no sample: the scores cannot be checked".to_owned()));
    }
    if samples.len() > GOLDEN_SAMPLES_MAX {
        return Err(broken(format!("holds more than {GOLDEN_SAMPLES_MAX} samples")));
    }
    match samples.iter().find(|sample| sample.messages.is_empty()) {
        Some(sample) => Err(broken(format!("line {}: has no messages", sample.line))),
        None => Ok(samples),
    }
}
