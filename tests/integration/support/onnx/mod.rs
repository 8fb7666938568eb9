//! Tiny complete bundles, written in milliseconds: what tests swap, compare, watch and refuse.
//!
//! ```ignore
//! TinyBundle::new("1.0.0").always("simple").write(folder);            // folder/manifest.json ...
//! TinyBundle::new("1.1.0").write_under(store);                        // store/1.1.0/manifest.json ...
//! TinyBundle::new("1.2.0").random(7).write_under(store);              // a head that knows nothing
//! TinyBundle::new("1.3.0").slow(20).write_under(store);               // some 20 ms a prompt and more
//! TinyBundle::new("1.4.0").fault(Fault::GoldenOfAnother).write(folder); // one that must not serve
//! ```
//!
//! A real graph behind a real tokenizer, but one whose scores can be told by looking at the prompt. Unless told
//! otherwise it *reads*: the name of an intent in the prompt ("code", "closed_qa", ...) makes it that intent, else it
//! is the last one ("other"); the strongest level that is named ("simple", "moderate", "complex", "reasoning") is the
//! one needed, else the weakest is enough. Words are matched from their start, and in lower case: "Complexity" is
//! "complex" and some letters. With [`TinyBundle::always`] one level is needed whatever stands there; with
//! [`TinyBundle::random`] random weights of words and letters decide, so that other texts get other scores. Golden
//! samples are computed in closed form, not by running the graph.
//!
//! Labels and names are those of the shipped bundle, so that the default configuration fits. Nothing here names the
//! crate under test: unit tests and benches may include this folder too, by `#[path]`.

mod graph;
mod head;
mod proto;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::head::{SPECIAL, Weights};

/// Intents of the shipped bundle; the last one takes what fits nowhere.
pub const INTENTS: [&str; 15] = [
    "chitchat",
    "command",
    "translation",
    "summarization",
    "extraction",
    "classification",
    "rewrite",
    "closed_qa",
    "code",
    "math",
    "brainstorming",
    "writing",
    "analysis_planning",
    "open_qa",
    "other",
];
/// Levels of the shipped bundle, the weakest first.
pub const LEVELS: [&str; 4] = ["simple", "moderate", "complex", "reasoning"];

/// Longest sequence that a tiny bundle reads, special tokens included.
pub const TOKENS_MAX: usize = 64;
const HEAD_SHARE_PERCENT: usize = 60;
const TOLERANCE: f64 = 0.02;
/// More than any file of a bundle may have; sparse, so that it takes no room on the disk.
const HUGE_BYTES: u64 = 64 << 30;

/// What is wrong with a bundle. One at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The file is not there; the manifest lists it.
    Missing(&'static str),
    /// The manifest does not list the file, which is there.
    NotListed(&'static str),
    /// The manifest is no JSON.
    ManifestBroken,
    /// The manifest is of a format that comes later.
    FormatOfTheFuture,
    /// Half of the file is there; the manifest tells of the whole.
    HalfCopied(&'static str),
    /// One byte is another one than the manifest's SHA-256 says.
    ByteFlipped(&'static str),
    /// Half of the graph; the manifest agrees.
    ModelTruncated,
    OpsetOfTheFuture,
    /// The graph keeps weights in a file that no hash of the manifest holds.
    WeightsElsewhere,
    /// `intent_logits` has another name.
    OutputRenamed,
    /// `intent_logits` has one column more than there are intents.
    OutputTooWide,
    /// `intent_logits` has three dimensions.
    OutputOfAnotherRank,
    ScoresNotANumber,
    /// `model.onnx` claims 64 GiB, and has them (as a hole).
    Huge,
    /// The file is a link to one outside the folder, beside it.
    LinkOutside(&'static str),
    /// The tokenizer splits words into letters: other numbers of tokens.
    TokenizerOfAnother,
    /// The tokenizer has the same words with other ids: as many tokens.
    TokenizerShuffled,
    /// The tokenizer has ids that the graph does not know.
    TokenizerTooLarge,
    /// The tokenizer is no JSON.
    TokenizerBroken,
    /// The golden samples tell of other scores.
    GoldenOfAnother,
    /// There is no golden sample.
    GoldenEmpty,
}

/// Names of what a bundle tells apart.
#[derive(Debug, Clone)]
struct Labels {
    intents: Vec<String>,
    levels: Vec<String>,
}

#[derive(Debug, Clone)]
enum Head {
    Reading,
    Always(String),
    Random(u64),
}

/// A bundle to write.
#[derive(Debug, Clone)]
pub struct TinyBundle {
    name: String,
    version: String,
    labels: Labels,
    head: Head,
    slow_steps: usize,
    background: bool,
    fault: Option<Fault>,
}

impl TinyBundle {
    /// One that reads the prompt and fits the default configuration.
    pub fn new(version: &str) -> Self {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self {
            name: "tiny".to_owned(),
            version: version.to_owned(),
            labels: Labels { intents: names(&INTENTS), levels: names(&LEVELS) },
            head: Head::Reading,
            slow_steps: 0,
            background: false,
            fault: None,
        }
    }

    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Every prompt needs this level.
    pub fn always(mut self, level: &str) -> Self {
        self.head = Head::Always(level.to_owned());
        self
    }

    /// Scores that mean nothing and differ from text to text.
    pub fn random(mut self, seed: u64) -> Self {
        self.head = Head::Random(seed);
        self
    }

    pub fn intents(mut self, intents: &[&str]) -> Self {
        self.labels.intents = intents.iter().map(|&name| name.to_owned()).collect();
        self
    }

    pub fn levels(mut self, levels: &[&str]) -> Self {
        self.labels.levels = levels.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// Each prompt takes as long as this many products of two 256 x 256 matrices: about a millisecond each.
    pub fn slow(mut self, steps: usize) -> Self {
        self.slow_steps = steps;
        self
    }

    /// With embeddings of ordinary traffic, so that intents by example can be had.
    pub fn background(mut self) -> Self {
        self.background = true;
        self
    }

    pub fn fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// Writes it into the folder `<store>/<version>` and returns that.
    pub fn write_under(&self, store: &Path) -> PathBuf {
        let folder = store.join(&self.version);
        self.write(&folder);
        folder
    }

    /// Writes it into this folder, which is made if need be.
    pub fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        let weights = Weights::new(&self.labels, &self.head);
        let mut files = BTreeMap::from([
            ("model.onnx", graph::model(&weights, self.slow_steps, self.fault)),
            ("tokenizer.json", self.tokenizer(&weights)),
            ("golden.jsonl", self.golden(&weights)),
        ]);
        if self.background {
            files.insert("background.f32", background(&weights));
        }
        if self.fault == Some(Fault::ModelTruncated) {
            let model = files.get_mut("model.onnx").unwrap();
            model.truncate(model.len() / 2);
        }
        let mut listed: BTreeMap<&str, Value> =
            files.iter().map(|(&file, bytes)| (file, entry(bytes))).collect();
        let mut format = 1;
        match self.fault {
            Some(Fault::Missing(file)) => drop(files.remove(file)),
            Some(Fault::NotListed(file)) => drop(listed.remove(file)),
            Some(Fault::FormatOfTheFuture) => format = 2,
            Some(Fault::HalfCopied(file)) => {
                let bytes = files.get_mut(file).unwrap();
                bytes.truncate(bytes.len() / 2);
            }
            Some(Fault::ByteFlipped(file)) => {
                let bytes = files.get_mut(file).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            Some(Fault::Huge) => listed.get_mut("model.onnx").unwrap()["bytes"] = json!(HUGE_BYTES),
            _ => {}
        }
        for (file, bytes) in &files {
            fs::write(folder.join(file), bytes).unwrap();
        }
        let manifest = self.manifest(&weights, format, &listed).to_string();
        let manifest = match self.fault {
            Some(Fault::ManifestBroken) => &manifest[..manifest.len() / 2],
            Some(Fault::Missing("manifest.json")) => "",
            _ => &manifest,
        };
        if !manifest.is_empty() {
            fs::write(folder.join("manifest.json"), manifest).unwrap();
        }
        match self.fault {
            Some(Fault::Huge) => {
                let model = fs::OpenOptions::new().write(true).open(folder.join("model.onnx")).unwrap();
                model.set_len(HUGE_BYTES).unwrap();
            }
            Some(Fault::LinkOutside(file)) => link_outside(folder, file),
            _ => {}
        }
    }

    fn manifest(&self, weights: &Weights, format: u32, listed: &BTreeMap<&str, Value>) -> Value {
        let scale = json!({"scale": 1.0, "bias": 0.0});
        let mut embedding = json!({"width": weights.features});
        if self.background {
            embedding["background"] = json!({"rows": self.labels.intents.len()});
        }
        json!({
            "format": format,
            "name": self.name,
            "version": self.version,
            "created": "2026-01-01T00:00:00Z",
            "labels": {"intents": self.labels.intents, "levels": self.labels.levels},
            "input": {
                "tokens_max": TOKENS_MAX,
                "context_tokens_max": 16,
                "system_tokens_max": 8,
                "system_chars_max": 100,
                "turns_max": 2,
                "turn_head_chars": 40,
                "turn_tail_chars": 40,
                "window_chars": 1024,
                "head_share_percent": HEAD_SHARE_PERCENT,
            },
            "calibration": {
                "intent_temperature": 1.0,
                "sufficiency": vec![scale; self.labels.levels.len() - 1],
            },
            "thresholds": {"intent_confidence_min": 0.2, "level_margin_min": 0.05},
            "golden": {"tolerance": TOLERANCE},
            "embedding": embedding,
            "files": listed,
        })
    }

    fn tokenizer(&self, weights: &Weights) -> Vec<u8> {
        if self.fault == Some(Fault::TokenizerBroken) {
            return b"[CLS] [SEP]".to_vec();
        }
        let count = weights.vocabulary.len();
        let id = |at: usize| match self.fault {
            Some(Fault::TokenizerShuffled) if at >= SPECIAL.len() => {
                // The next one's, in a circle.
                SPECIAL.len() + (at + 1 - SPECIAL.len()) % (count - SPECIAL.len())
            }
            Some(Fault::TokenizerTooLarge) => at + count,
            _ => at,
        };
        let letters_only = self.fault == Some(Fault::TokenizerOfAnother);
        let vocabulary: BTreeMap<&str, usize> = weights
            .vocabulary
            .iter()
            .enumerate()
            .filter(|(at, word)| {
                let letter = word.trim_start_matches("##").len() == 1;
                *at < SPECIAL.len() || letter || !letters_only
            })
            .map(|(at, word)| (word.as_str(), id(at)))
            .collect();
        let added: Vec<Value> = SPECIAL
            .iter()
            .enumerate()
            .map(|(at, word)| {
                json!({
                    "id": id(at), "content": word, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": true,
                })
            })
            .collect();
        let tokenizer = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": null,
            "decoder": null,
            "model": {
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocabulary,
            },
        });
        tokenizer.to_string().into_bytes()
    }

    /// A prompt for each intent with the levels in turn, and one that is too long.
    fn golden(&self, weights: &Weights) -> Vec<u8> {
        if self.fault == Some(Fault::GoldenEmpty) {
            return Vec::new();
        }
        let Labels { intents, levels } = &self.labels;
        let mut prompts: Vec<Vec<&str>> = intents
            .iter()
            .enumerate()
            .map(|(at, intent)| vec![intent.as_str(), levels[at % levels.len()].as_str()])
            .collect();
        prompts.push(vec![intents[0].as_str(); TOKENS_MAX]);
        let lines = prompts.iter().enumerate().map(|(at, words)| {
            let ids = weights.ids(words);
            let (probabilities, mut sufficiency) = weights.expected(&ids);
            if self.fault == Some(Fault::GoldenOfAnother) && at == 2 {
                sufficiency[0] = (sufficiency[0] + 0.5) % 1.0;
            }
            let line = json!({
                "id": format!("golden_{at}"),
                "messages": [{"role": "user", "content": words.join(" ").to_lowercase()}],
                "tokens": ids.len().min(TOKENS_MAX),
                "truncated": ids.len() > TOKENS_MAX,
                "intent": intents.iter().zip(probabilities).collect::<BTreeMap<_, _>>(),
                "sufficiency": sufficiency,
                "ids": read_ids(&ids),
            });
            format!("{line}\n")
        });
        lines.collect::<String>().into_bytes()
    }
}

/// What is left of a sequence that is too long: the start and the end of its last turn.
fn read_ids(ids: &[usize]) -> Vec<usize> {
    if ids.len() <= TOKENS_MAX {
        return ids.to_vec();
    }
    let head = (TOKENS_MAX - 2) * HEAD_SHARE_PERCENT / 100;
    let tail = TOKENS_MAX - 1 - head;
    ids[..=head].iter().chain(&ids[ids.len() - tail..]).copied().collect()
}

fn entry(bytes: &[u8]) -> Value {
    let sha256: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    json!({"sha256": sha256, "bytes": bytes.len()})
}

/// One row for each intent: the embedding of its name.
fn background(weights: &Weights) -> Vec<u8> {
    let rows = weights.intents.len() / weights.features;
    let on = std::f32::consts::FRAC_1_SQRT_2;
    let number =
        |row: usize, column: usize| if column == row || column + 1 == weights.features { on } else { 0.0 };
    (0..rows)
        .flat_map(|row| (0..weights.features).flat_map(move |column| number(row, column).to_le_bytes()))
        .collect()
}

fn link_outside(folder: &Path, file: &str) {
    let outside = folder.with_extension("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::rename(folder.join(file), outside.join(file)).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(outside.join(file), folder.join(file)).unwrap();
}
