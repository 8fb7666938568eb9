//! A bundle that is not what it says never serves, and the reason names the file.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use pointsman::{
    config::read_text,
    prompt::Draft,
    routing::{
        Router,
        admit::admit,
        classifier::{
            Available, Beside, Checks, Classifier, Excerpt, Loading, OnnxClassifier, Probe, SessionError,
            Unfit,
        },
        health::TargetHealth,
        sessions::Sessions,
    },
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::{
    PATIENCE, load_bundle, loading,
    onnx::{Fault, LEVELS, TinyBundle},
};

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
    pub fn replace(&self, file: &str, bytes: &[u8]) {
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
    copy.refused("bundle model.onnx: output embedding holds NaN on golden line 1");
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

#[test]
fn tiny_bundles_score_as_their_words_say() {
    let tiny = || TinyBundle::new("1.0.0");
    for bundle in [tiny(), tiny().random(3).background(), tiny().always("complex"), tiny().slow(1)] {
        let folder = tempfile::tempdir().unwrap();
        bundle.write(folder.path());
        load_bundle(folder.path()).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Loads the bundle beside nothing, with all the memory there is.
fn load(folder: &Path) -> Result<OnnxClassifier, (Unfit, String)> {
    load_bundle(folder).map_err(|error| (error.unfit(), error.to_string()))
}

#[test]
fn every_kind_of_bad_bundle_is_refused_with_its_reason() {
    use Unfit as R;
    let cases = [
        (Fault::Missing("manifest.json"), R::Unreadable, "manifest.json"),
        (Fault::Missing("model.onnx"), R::Unreadable, "model.onnx"),
        (Fault::Missing("tokenizer.json"), R::Unreadable, "tokenizer.json"),
        (Fault::Missing("golden.jsonl"), R::Unreadable, "golden.jsonl"),
        (Fault::NotListed("tokenizer.json"), R::NotListed, "tokenizer.json: is not listed"),
        (Fault::ManifestBroken, R::Manifest, "bundle manifest.json: EOF"),
        (Fault::FormatOfTheFuture, R::Format, "format 2, this version reads format 1"),
        (Fault::HalfCopied("model.onnx"), R::Length, "bundle model.onnx: "),
        (Fault::HalfCopied("golden.jsonl"), R::Length, "copy the bundle again"),
        (Fault::ByteFlipped("model.onnx"), R::Sha256, "bundle model.onnx: sha256 is"),
        (Fault::ByteFlipped("golden.jsonl"), R::Sha256, "copy the bundle again"),
        (Fault::ModelTruncated, R::Graph, "bundle model.onnx: is no ONNX graph, or not all of one"),
        (Fault::OpsetOfTheFuture, R::Opset, "was written for opset 99 (format 8) of ONNX"),
        (Fault::WeightsElsewhere, R::Graph, "tensor \"level_weights\" lies in another file"),
        (Fault::OutputRenamed, R::Outputs, "has no output intent_logits"),
        (Fault::OutputTooWide, R::Outputs, "float32 [batch, 15] expected by the manifest"),
        (Fault::OutputOfAnotherRank, R::Outputs, "float32 [batch, 15] expected by the manifest"),
        (Fault::ScoresNotANumber, R::NotFinite, "output intent_logits holds NaN on golden line 1"),
        (Fault::Huge, R::TooLarge, "model.onnx: 68719476736 bytes, at most 2147483648 are read"),
        (
            Fault::LinkOutside("model.onnx"),
            R::Outside,
            "model.onnx: is a link that leaves the bundle's folder",
        ),
        (Fault::LinkOutside("golden.jsonl"), R::Outside, "put the file itself there"),
        (Fault::TokenizerOfAnother, R::Tokenizer, "it is the tokenizer of another model"),
        (Fault::TokenizerShuffled, R::Tokenizer, "(golden.jsonl line 1: is read as other 4 ids)"),
        (Fault::TokenizerTooLarge, R::Tokenizer, "it is the tokenizer of another model"),
        (Fault::TokenizerBroken, R::Tokenizer, "bundle tokenizer.json: "),
        (
            Fault::GoldenOfAnother,
            R::Golden,
            "line 3 (golden_2): sufficiency of simple is 0.01799, expected 0.5",
        ),
        (Fault::GoldenEmpty, R::Golden, "holds no sample"),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (at, (fault, expected, because)) in cases.into_iter().enumerate() {
        let version = format!("1.0.{at}");
        let bundle = TinyBundle::new(&version).fault(fault).write_under(folder.path());
        let (unfit, why) = load(&bundle).map(drop).expect_err(because);
        assert_eq!(unfit, expected, "{fault:?}: {why}");
        assert!(why.contains(because), "{fault:?}: {why:?} does not say {because:?}");
    }
}

#[test]
fn files_that_are_too_large_only_together_are_refused_before_any_is_read() {
    let folder = tempfile::tempdir().unwrap();
    TinyBundle::new("1.0.0").write(folder.path());
    let path = folder.path().join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for file in ["model.onnx", "tokenizer.json"] {
        manifest["files"][file]["bytes"] = json!(2_u64 << 30);
    }
    fs::write(&path, manifest.to_string()).unwrap();
    let (unfit, why) = load(folder.path()).map(drop).unwrap_err();
    assert_eq!(unfit, Unfit::TooLarge, "{why}");
    assert!(why.contains("bytes together, at most 3221225472"), "{why}");
}

#[test]
fn a_bundle_that_does_not_fit_into_memory_is_refused_before_its_model_is_read() {
    let folder = tempfile::tempdir().unwrap();
    TinyBundle::new("1.0.0").fault(Fault::Missing("model.onnx")).write(folder.path());
    let checks = Checks { memory: Available::Bytes(5_000_000), beside: None };
    let error = OnnxClassifier::load_verified(&loading(folder.path()), &checks).map(drop).unwrap_err();
    assert_eq!(error.unfit(), Unfit::Memory, "{error}");
    let error = error.to_string();
    assert!(error.contains("(sessions: 1)") && error.contains("5 MB are left"), "{error}");
}

#[test]
fn another_manifest_than_the_wanted_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    TinyBundle::new("1.0.0").write(folder.path());
    let manifest = fs::read(folder.path().join("manifest.json")).unwrap();
    let sha256: String = Sha256::digest(manifest).iter().map(|byte| format!("{byte:02x}")).collect();
    let load = |sha256: &str| {
        let loading = Loading { manifest_sha256: Some(sha256), ..loading(folder.path()) };
        OnnxClassifier::load_verified(&loading, &Checks { memory: Available::Enough, beside: None }).map(drop)
    };
    load(&sha256).unwrap();
    TinyBundle::new("1.0.0").always("complex").write(folder.path());
    let error = load(&sha256).unwrap_err();
    assert_eq!(error.unfit(), Unfit::Sha256);
    assert!(error.to_string().contains("bundle manifest.json: sha256 is"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_a_file_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    TinyBundle::new("1.0.0").fault(Fault::Missing("model.onnx")).write(folder.path());
    std::os::unix::net::UnixListener::bind(folder.path().join("model.onnx")).unwrap();
    let (unfit, why) = load(folder.path()).map(drop).unwrap_err();
    assert_eq!(unfit, Unfit::Unreadable);
    assert!(why.contains("is no plain file"), "{why}");
}

#[test]
fn labels_that_the_configuration_does_not_know_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    TinyBundle::new("1.0.0").name("other").intents(&["gossip", "other"]).levels(&LEVELS).write(folder.path());
    let classifier: Arc<dyn Classifier> = Arc::new(load(folder.path()).unwrap());
    assert_eq!(&*classifier.describe().name, "other");
    let config = read_text("").unwrap();
    let (sessions, health) = (Sessions::new(&config.sessions), TargetHealth::new(config.targets.len()));
    let (sessions, health) = (Arc::new(sessions), Arc::new(health));
    let error = Router::new(Arc::new(config), Some(classifier), sessions, health, 1).map(drop).unwrap_err();
    assert_eq!(error.unfit(), Unfit::Labels, "{error}");
}

/// Comparisons, until a machine that is busy has time for one.
const COMPARED_MAX: usize = 10;

/// Writes and loads a bundle, compared with a running one.
fn beside(running: &TinyBundle, new: &TinyBundle, ratio_max: f64) -> Result<Probe, SessionError> {
    for _ in 1..COMPARED_MAX {
        match beside_once(running, new, ratio_max) {
            Ok(Probe::TooBusy) => {}
            compared => return compared,
        }
    }
    beside_once(running, new, ratio_max)
}

fn beside_once(running: &TinyBundle, new: &TinyBundle, ratio_max: f64) -> Result<Probe, SessionError> {
    let folder = tempfile::tempdir().unwrap();
    let running = load(&running.write_under(folder.path())).unwrap();
    let beside = Some(Beside { running: Arc::new(running), ratio_max });
    let new = new.write_under(folder.path());
    let checks = Checks { memory: Available::Measured, beside };
    Ok(OnnxClassifier::load_verified(&loading(&new), &checks)?.probe)
}

#[test]
fn a_bundle_that_is_much_slower_than_the_running_one_is_refused() {
    let (fast, slow) = (TinyBundle::new("1.0.0"), TinyBundle::new("1.1.0").slow(20));
    let error = beside(&fast, &slow, 2.0).unwrap_err();
    assert_eq!(error.unfit(), Unfit::Latency);
    assert!(error.to_string().contains("at most 2 times as long"), "{error}");
    assert!(
        matches!(beside(&slow, &fast, 2.0).unwrap(), Probe::Timed { new_us, running_us } if new_us < running_us)
    );
    // Both are quick: many times next to nothing is next to nothing.
    assert!(matches!(beside(&fast, &TinyBundle::new("1.2.0"), 1.0).unwrap(), Probe::Timed { .. }));
}

#[test]
fn load_on_the_running_bundle_does_not_make_the_new_one_look_slow() {
    const CLIENTS: usize = 16;
    let folder = tempfile::tempdir().unwrap();
    let running = load(&TinyBundle::new("1.0.0").slow(2).write_under(folder.path())).unwrap();
    let running: Arc<dyn Classifier> = Arc::new(running);
    let new = TinyBundle::new("1.1.0").slow(2).write_under(folder.path());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| hammer(running.as_ref(), &stop));
        }
        let beside = Some(Beside { running: Arc::clone(&running), ratio_max: 2.0 });
        let checks = Checks { memory: Available::Measured, beside };
        let loaded = OnnxClassifier::load_verified(&loading(&new), &checks);
        stop.store(true, Ordering::Relaxed);
        // A machine that is busy with other things may leave no time to compare, and never a reason to refuse.
        let probe = loaded.map(|loaded| loaded.probe).unwrap_or_else(|error| panic!("{error}"));
        assert!(matches!(probe, Probe::Timed { .. } | Probe::TooBusy), "{probe:?}");
    });
}

/// Asks again as soon as an answer is there.
fn hammer(classifier: &dyn Classifier, stop: &AtomicBool) {
    let prompt = admit(Draft::from_text("code complex"), &read_text("").unwrap()).unwrap();
    let excerpt = Excerpt::of(&prompt, &classifier.describe().input);
    while !stop.load(Ordering::Relaxed) {
        if let Ok(answer) = classifier.submit(excerpt.clone(), Instant::now() + PATIENCE) {
            let _ = answer.blocking_recv();
        }
    }
}
