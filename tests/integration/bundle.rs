//! A bundle that is not what it says never serves, and the reason names the file.

use std::{
    fs,
    path::{Path, PathBuf},
};

use pointsman::{config::read_text, routing::classifier::OnnxClassifier};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const FILES: [&str; 5] = ["manifest.json", "model.onnx", "tokenizer.json", "golden.jsonl", "background.f32"];

/// A copy of the default bundle to change.
pub struct Copy {
    folder: TempDir,
}

impl Copy {
    pub fn new() -> Self {
        let onnx = Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx");
        let version = fs::read_to_string(onnx.join("default")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for file in FILES {
            fs::copy(onnx.join(version.trim()).join(file), folder.path().join(file)).unwrap();
        }
        Self { folder }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// Changes the manifest.
    pub fn edit(&self, change: impl FnOnce(&mut Value)) {
        let mut manifest: Value =
            serde_json::from_slice(&fs::read(self.path("manifest.json")).unwrap()).unwrap();
        change(&mut manifest);
        fs::write(self.path("manifest.json"), manifest.to_string()).unwrap();
    }

    /// Writes a file and makes the manifest agree with it.
    fn replace(&self, file: &str, bytes: &[u8]) {
        fs::write(self.path(file), bytes).unwrap();
        let sha256: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        self.edit(|manifest| manifest["files"][file] = json!({"sha256": sha256, "bytes": bytes.len()}));
    }

    /// Returns the `[classifier]` section of a configuration that loads the copy.
    pub fn section(&self) -> String {
        format!("[classifier]\nbundle = {:?}\nworkers = 1\ndevice = \"cpu\"\n", self.folder.path())
    }

    fn load(&self) -> Result<(), String> {
        let config = read_text(&self.section()).unwrap();
        OnnxClassifier::load(&config.classifier).map(drop).map_err(|error| error.to_string())
    }

    fn refused(&self, because: &str) {
        let error = self.load().expect_err(because);
        assert!(error.contains(because), "{error:?} does not say {because:?}");
    }
}

#[test]
fn an_untouched_copy_loads() {
    Copy::new().load().unwrap();
}

#[test]
fn a_missing_file_is_named() {
    for file in FILES {
        let copy = Copy::new();
        fs::remove_file(copy.path(file)).unwrap();
        copy.refused(file);
    }
}

#[test]
fn a_half_copied_file_is_named_with_its_length() {
    let copy = Copy::new();
    let model = fs::read(copy.path("model.onnx")).unwrap();
    fs::write(copy.path("model.onnx"), &model[..model.len() / 2]).unwrap();
    copy.refused(&format!("bundle model.onnx: {}", model.len() / 2));
    copy.refused("the manifest says");
}

#[test]
fn a_changed_byte_fails_the_hash() {
    let copy = Copy::new();
    let mut tokenizer = fs::read(copy.path("tokenizer.json")).unwrap();
    tokenizer[1000] ^= 1;
    fs::write(copy.path("tokenizer.json"), tokenizer).unwrap();
    copy.refused("bundle tokenizer.json: sha256 is");
}

#[test]
fn a_truncated_graph_with_the_right_hash_is_refused() {
    let copy = Copy::new();
    let model = fs::read(copy.path("model.onnx")).unwrap();
    copy.replace("model.onnx", &model[..model.len() / 2]);
    copy.refused("bundle model.onnx:");
}

#[test]
fn outputs_of_another_width_are_refused() {
    let copy = Copy::new();
    copy.edit(|manifest| manifest["labels"]["intents"].as_array_mut().unwrap().push(json!("gossip")));
    copy.refused("output intent_logits is");
    copy.refused("[batch, 16] expected by the manifest");
}

/// The graphs under `tests/fixtures` hold constants and differ from a good one in what their name says.
#[test]
fn graphs_with_other_inputs_and_outputs_are_refused() {
    for (name, because) in [
        ("renamed_output", "has no output intent_logits"),
        ("double_output", "output intent_logits is"),
        ("extra_input", "has an input token_type_ids that nothing feeds"),
        ("missing_input", "has no input attention_mask"),
        ("float_input", "input input_ids is"),
        ("nan_output", "output intent_logits holds NaN"),
    ] {
        let copy = Copy::new();
        // Their embeddings are short, which is not what they are about.
        copy.edit(|manifest| drop(manifest.as_object_mut().unwrap().remove("embedding")));
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        copy.replace("model.onnx", &fs::read(fixtures.join(format!("{name}.onnx"))).unwrap());
        copy.refused("bundle model.onnx: ");
        copy.refused(because);
    }
}

#[test]
fn an_embedding_that_is_no_number_is_refused_where_examples_could_be_compared_with_it() {
    let copy = Copy::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nan_embedding.onnx");
    copy.replace("model.onnx", &fs::read(fixture).unwrap());
    // The graph is a constant: any probability will do.
    copy.edit(|manifest| manifest["golden"]["tolerance"] = json!(1.0));
    copy.edit(|manifest| manifest["embedding"] = json!({"width": 4}));
    copy.load().unwrap();
    copy.edit(|manifest| manifest["embedding"] = json!({"width": 4, "background": {"rows": 1}}));
    copy.replace("background.f32", &[1.0_f32, 0.0, 0.0, 0.0].map(f32::to_le_bytes).concat());
    copy.refused("bundle model.onnx: output embedding has length NaN on golden line 1, 1 expected");
}

#[test]
fn golden_samples_must_agree() {
    let copy = Copy::new();
    let golden = fs::read_to_string(copy.path("golden.jsonl")).unwrap();
    let mut first: Value = serde_json::from_str(golden.lines().next().unwrap()).unwrap();
    let moved = (first["sufficiency"][0].as_f64().unwrap() + 0.5) % 1.0;
    first["sufficiency"][0] = json!(moved);
    copy.replace("golden.jsonl", first.to_string().as_bytes());
    copy.refused("bundle golden.jsonl: line 1");
    copy.refused("sufficiency of simple");
}

#[test]
fn calibration_changes_are_caught_by_the_golden_samples() {
    let copy = Copy::new();
    copy.edit(|manifest| manifest["calibration"]["intent_temperature"] = json!(9.0));
    copy.refused("bundle golden.jsonl: line");
}

#[test]
fn manifests_that_make_no_sense_are_refused() {
    let cases: [(&str, &str, Value); 7] = [
        ("/embedding/width", "embedding.width: 0 is not within", json!(0)),
        ("/embedding/background/rows", "bundle background.f32: 921600 bytes are not 3 rows", json!(3)),
        ("/format", "format 2, this version reads format 1", json!(2)),
        ("/labels/levels", "labels.levels", json!(["only"])),
        ("/calibration/intent_temperature", "intent_temperature", json!(0.0)),
        ("/calibration/sufficiency", "calibration.sufficiency", json!([])),
        ("/input/context_tokens_max", "input.context_tokens_max", json!(250)),
    ];
    for (pointer, because, value) in cases {
        let copy = Copy::new();
        copy.edit(|manifest| *manifest.pointer_mut(pointer).unwrap() = value);
        copy.refused(because);
    }
}

#[test]
fn an_embedding_of_another_width_is_refused_by_the_graph_or_the_background() {
    let copy = Copy::new();
    copy.edit(|manifest| manifest["embedding"] = json!({"width": 383}));
    copy.refused("bundle model.onnx: output embedding is");
    copy.edit(|manifest| manifest["embedding"] = json!({"width": 384}));
    copy.load().unwrap();
}

#[test]
fn a_background_of_other_lengths_is_refused() {
    let copy = Copy::new();
    let mut background = fs::read(copy.path("background.f32")).unwrap();
    background[384 * 4..384 * 4 + 4].copy_from_slice(&3.0_f32.to_le_bytes());
    copy.replace("background.f32", &background);
    copy.refused("bundle background.f32: row 1 has length 3.");
}

#[test]
fn languages_that_do_not_exist_are_refused() {
    let copy = Copy::new();
    copy.edit(|manifest| manifest["languages"] = json!({"read": ["en", "xx"]}));
    copy.refused("bundle manifest.json: \"xx\" is no code of ISO 639-1");
    copy.edit(|manifest| manifest["languages"] = json!({"read": ["en", "de"]}));
    copy.load().unwrap();
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_refused() {
    let copy = Copy::new();
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::copy(copy.path("model.onnx"), outside.path()).unwrap();
    fs::remove_file(copy.path("model.onnx")).unwrap();
    std::os::unix::fs::symlink(outside.path(), copy.path("model.onnx")).unwrap();
    copy.refused("is a link that leaves the bundle's folder");
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let copy = Copy::new();
    let tokenizer: Value = serde_json::from_slice(&fs::read(copy.path("tokenizer.json")).unwrap()).unwrap();
    let mut other = tokenizer;
    // Another vocabulary: every id moves by one.
    for id in other["model"]["vocab"].as_object_mut().unwrap().values_mut() {
        *id = json!((id.as_u64().unwrap() + 1) % 30_522);
    }
    copy.replace("tokenizer.json", other.to_string().as_bytes());
    let error = copy.load().unwrap_err();
    assert!(error.contains("golden.jsonl") || error.contains("model.onnx"), "{error}");
}
