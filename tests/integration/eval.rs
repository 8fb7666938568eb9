//! `pointsman eval` from outside: labelled files in; table, JSON, report and gates out.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
};

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    cli::{pointsman, text},
    support::program::program,
};

/// Few resamples: these tests look at form, not at figures.
const FAST: [&str; 2] = ["--resamples", "50"];

const LABELLED: &str = r#"{"prompt": "thanks, bye!", "intent": "chitchat", "tier": "simple", "language": "en"}
{"prompt": "Translate 'good morning' into French.", "intent": "translation", "tier": "simple", "language": "en", "src": 1}

{"prompt": "Refactor our billing service to event sourcing without downtime.", "intent": "code", "tier": "complex", "language": "en"}
{"messages": [{"role": "user", "content": "Fasse den Bericht in drei Sätzen zusammen: Umsatz stieg, Kosten fielen."}], "intent": "summarization", "tier": "simple", "language": "de"}
{"prompt": "Prove that there are infinitely many primes of the form 4n+3.", "intent": "math", "tier": "reasoning", "language": "en"}
{"prompt": "Write a haiku about rain.", "intent": "writing", "tier": "simple", "language": "en"}
"#;

const OUTCOMES: &str = r#"{"prompt": "What is 2 + 2?", "tier": "simple", "p_small": 1.0, "p_mid": 1.0, "p_strong": 1.0}
{"prompt": "Prove that every finite integral domain is a field, and discuss the infinite case.", "tier": "complex", "outcomes": {"simple": 0, "moderate": {"score": 0.5, "cost": 0.002}, "claude-sonnet-5-5": {"score": 1, "cost": 0.01}}}
{"prompt": "What is the capital of Peru?", "tier": "simple", "p_small": 1, "p_mid": 1, "p_strong": 1}
{"prompt": "Derive the closed form of the sum of k^4 for k = 1..n by induction.", "tier": "complex", "p_small": 0, "p_mid": 0, "p_strong": 1, "outcomes": {"old-model": 0.3}}
"#;

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn add(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), content).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }
}

/// Runs `eval` with few resamples and returns exit code, stdout and stderr.
fn eval(arguments: &[&str], input: &str) -> (i32, String, String) {
    let all: Vec<&str> = ["eval"].into_iter().chain(FAST).chain(arguments.iter().copied()).collect();
    let output = pointsman(&all, input.as_bytes());
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn json(arguments: &[&str]) -> Value {
    let all: Vec<&str> = ["--json"].into_iter().chain(arguments.iter().copied()).collect();
    let (code, out, error) = eval(&all, "");
    assert_eq!(code, 0, "{error}");
    serde_json::from_str(&out).unwrap()
}

/// Returns every path of an object with the kind of what is there; items of a list are alike.
fn shape(value: &Value, path: &str, lines: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                shape(value, &format!("{path}.{key}"), lines);
            }
        }
        Value::Array(items) => match items.first() {
            Some(first) => shape(first, &format!("{path}[]"), lines),
            None => lines.push(format!("{path}[] empty")),
        },
        Value::Null => lines.push(format!("{path} null")),
        Value::Bool(_) => lines.push(format!("{path} bool")),
        Value::Number(_) => lines.push(format!("{path} number")),
        Value::String(_) => lines.push(format!("{path} string")),
    }
}

#[test]
fn labels_become_a_table() {
    let files = Files::new();
    let file = files.add("small.jsonl", LABELLED);
    let (code, out, error) = eval(&[&file], "");
    assert_eq!(code, 0, "{error}");
    let settings = "rules as when serving; objective threshold, wanted quality 0.5; 50 resamples, seed 1\n";
    assert!(out.starts_with(settings) && out.contains("\nsmall  6 samples"), "{out}");
    assert!(out.contains("TF-IDF was trained on corpus"), "{out}");
    for name in
        ["intent.accuracy", "tier.within_one", "coverage.classified", "sufficiency_ece.simple", "TF-IDF"]
    {
        assert!(out.contains(name), "{name} is missing in {out}");
    }
    assert!(!out.contains("cost.aiq"), "no outcomes, no costs: {out}");
    assert!(out.contains("by language") && !out.contains('\u{1b}'), "{out}");
}

#[test]
fn figures_of_the_router_are_those_of_route() {
    let files = Files::new();
    let file = files.add("small.jsonl", LABELLED);
    let output = pointsman(&["route", "--json", "--labelled", "--input", &file], b"");
    let labels = LABELLED.lines().filter(|line| !line.is_empty());
    let hits = text(&output.stdout)
        .lines()
        .zip(labels)
        .filter(|(decision, label)| {
            let decision: Value = serde_json::from_str(decision).unwrap();
            let label: Value = serde_json::from_str(label).unwrap();
            decision["decision"]["tier"] == label["tier"]
        })
        .count();
    let figures = json(&[&file]);
    let accuracy = figures["sections"][0]["metrics"]["tier.accuracy"]["router"]["value"].as_f64().unwrap();
    assert!((accuracy - hits as f64 / 6.0).abs() < 1e-9, "{accuracy}, {hits} hits");
}

#[test]
fn json_keeps_its_form() {
    let files = Files::new();
    // Enough lines for intervals.
    let file = files.add("both.jsonl", format!("{}{OUTCOMES}", LABELLED.repeat(4)));
    let gates = files.add("gates.toml", "\"tier.accuracy\".min = 0.0\n");
    // Every line needs outcomes for the cost figures, so labels come from a file of their own.
    let outcomes = files.add("outcomes.jsonl", OUTCOMES.repeat(5));
    let figures = json(&["--no-rules", "--gates", &gates, &outcomes, &file]);
    let mut lines = Vec::new();
    shape(&figures, "", &mut lines);
    let mut of_labels = Vec::new();
    shape(&figures["sections"][1], ".sections[1]", &mut of_labels);
    lines.extend(of_labels.into_iter().filter(|line| line.contains("language") || line.contains(".intent.")));
    let got = lines.join("\n") + "\n";
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/eval.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &got).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap();
    assert_eq!(got, expected, "the JSON of eval has another form: UPDATE_GOLDEN=1 accepts it");
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    let files = Files::new();
    let file = files.add("small.jsonl", LABELLED);
    assert_eq!(json(&["--seed", "5", &file]), json(&["--seed", "5", &file]));
    assert_ne!(json(&["--seed", "5", &file]), json(&["--seed", "6", &file]));
}

#[test]
fn outcomes_are_placed_and_costs_are_said_to_be_estimated() {
    let files = Files::new();
    let file = files.add("outcomes.jsonl", OUTCOMES);
    let figures = json(&["--no-rules", &file]);
    let section = &figures["sections"][0];
    let notes = section["notes"].to_string();
    for note in ["old-model; --models", "10 of 12 costs were not measured", "complex is the top tier"] {
        assert!(notes.contains(note), "{note:?} is missing in {notes}");
    }
    let singles = section["cost_quality"]["single_tiers"].as_array().unwrap();
    let scores: Vec<f64> = singles.iter().map(|single| single["score"].as_f64().unwrap()).collect();
    assert_eq!(scores, [0.5, 0.625, 1.0]);
    let placed = json(&["--no-rules", "--models", "old-model=reasoning", &file]);
    assert!(!placed["sections"][0]["notes"].to_string().contains("old-model"));
    assert!(!placed["notes"].to_string().contains("--models"), "{}", placed["notes"]);
    let misspelt = json(&["--no-rules", "--models", "odd-model=reasoning", &file]);
    assert!(misspelt["notes"].to_string().contains("--models odd-model: no outcome is called so"));
    let (code, _, error) = eval(&["--models", "old-model=giant", &file], "");
    assert!(code == 2 && error.contains("there is no tier \"giant\""), "{error}");
}

#[test]
fn every_bad_line_is_told_with_file_line_and_field() {
    let files = Files::new();
    let one =
        files.add("one.jsonl", "{\"prompt\": \"x\", \"tier\": \"medium\", \"intent\": \"poetry\"}\n\n{\n");
    let two = files.add("two.jsonl", "{\"prompt\": \"x\", \"p_small\": 7}\n{\"tier\": \"simple\"}\n");
    let (code, out, error) = eval(&[&one, &two], "");
    assert_eq!((code, out.as_str()), (1, ""));
    for problem in [
        "5 problems",
        "one.jsonl:1: tier: no tier or level is named \"medium\"",
        "one.jsonl:1: intent: the bundle has no intent \"poetry\"",
        "one.jsonl:3: not JSON",
        "two.jsonl:1: p_small: 7 is not a number from 0 to 1",
        "two.jsonl:2: messages: is empty",
    ] {
        assert!(error.contains(problem), "{problem:?} is missing in {error}");
    }
}

#[test]
fn an_empty_file_is_told() {
    let files = Files::new();
    let file = files.add("empty.jsonl", "\n");
    let (code, _, error) = eval(&[&file], "");
    assert!(code == 1 && error.contains("empty.jsonl: holds no sample"), "{error}");
    let (code, _, error) = eval(&["/nowhere.jsonl"], "");
    assert!(code == 1 && error.contains("/nowhere.jsonl"), "{error}");
}

#[test]
fn gzip_and_stdin_are_read_and_sections_named() {
    let files = Files::new();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(LABELLED.as_bytes()).unwrap();
    let file = files.add("packed.jsonl.gz", packed.finish().unwrap());
    let (code, out, error) = eval(&["--json", "--name", "first", &file, "-"], LABELLED);
    assert_eq!(code, 0, "{error}");
    let figures: Value = serde_json::from_str(&out).unwrap();
    let names: Vec<&str> =
        figures["sections"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["first", "stdin"]);
    assert_eq!(figures["sections"][0]["metrics"], figures["sections"][1]["metrics"]);
    let (code, _, error) = eval(&[&file, &file], "");
    assert!(code == 2 && error.contains("two sections are called \"packed\""), "{error}");
}

#[test]
fn the_report_is_one_page_with_its_plots() {
    let files = Files::new();
    let file = files.add("outcomes.jsonl", OUTCOMES);
    let folder = files.path("out/report");
    let (code, _, error) = eval(&["--report", folder.to_str().unwrap(), &file], "");
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("report: "), "{error}");
    let page = fs::read_to_string(folder.join("index.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 3, "curve, reliability, confusion");
    for part in [
        "Cost and quality",
        "Reliability",
        "Confusion of the tier",
        "cost.aiq",
        "prefers-color-scheme",
        "objective threshold",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
    for link in ["http:", "https:", "src=", "href=", "@import", "url(", "<script"] {
        assert!(!elsewhere.contains(link), "the page asks for {link}");
    }
    assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
}

#[test]
fn gates_stop_what_falls_short_and_name_it() {
    let files = Files::new();
    let file = files.add("small.jsonl", LABELLED);
    let kept = files.add("kept.toml", "\"tier.within_one\".min = 0.1\n\"tier.over_routing\".max = 1.0\n");
    let (code, out, error) = eval(&["--gates", &kept, &file], "");
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("tier.within_one"));
    let missed = files.add(
        "missed.toml",
        "\"tier.accuracy\".min = 1.1\n\"cost.aiq\".min = 0.5\n[sections.other]\n\"tier.accuracy\".min = 0\n",
    );
    let (code, out, error) = eval(&["--gates", &missed, &file], "");
    assert_eq!(code, 1);
    assert!(out.contains("tier.accuracy"), "the figures are printed all the same");
    for line in [
        "3 gates missed",
        "small: tier.accuracy is 0.",
        "cost.aiq was not measured",
        "other: tier.accuracy was",
    ] {
        assert!(error.contains(line), "{line:?} is missing in {error}");
    }
    let wrong = files.add("wrong.toml", "\"tier.accuracy\".minimum = 1\n");
    let (code, _, error) = eval(&["--gates", &wrong, &file], "");
    assert!(code == 2 && error.contains("tier.accuracy.minimum"), "{error}");
}

#[test]
fn a_missed_gate_is_told_to_a_reader_that_has_gone() {
    let files = Files::new();
    let file = files.add("small.jsonl", LABELLED);
    let gates = files.add("gates.toml", "\"tier.accuracy\".min = 1.1\n");
    let mut child = program(files.0.path())
        .args(["eval", "--resamples", "0", "--gates", &gates, &file])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("1 gate missed"), "{}", text(&output.stderr));
}

#[test]
fn levels_of_the_bundle_are_labels_of_any_tiers() {
    let files = Files::new();
    let config = files.add(
        "two.toml",
        r#"
        rules = []
        [policy]
        default_tier = "cheap"
        [[tiers]]
        name = "cheap"
        level = "simple"
        targets = ["gpt-6-luna"]
        [[tiers]]
        name = "good"
        level = "complex"
        targets = ["claude-sonnet-5-5"]
        "#,
    );
    let line = r#"{"prompt": "Prove Fermat's little theorem.", "tier": "moderate", "p_small": 0, "p_mid": 1, "p_strong": 1}"#;
    let file = files.add("levels.jsonl", line);
    let figures = json(&["--config", &config, &file]);
    let section = &figures["sections"][0];
    assert_eq!(section["confusion"][0]["labels"], serde_json::json!(["cheap", "good"]));
    let good: u64 =
        section["confusion"][0]["counts"][1].as_array().unwrap().iter().filter_map(Value::as_u64).sum();
    assert_eq!(good, 1, "moderate asks for more than cheap");
    let notes = section["notes"].to_string();
    assert!(notes.contains("gain compares cheap with good"), "{notes}");
    assert!(notes.contains("no tier stands for the level of p_mid"), "{notes}");
}

#[test]
fn own_intents_are_labels_too() {
    let files = Files::new();
    let config = files.add(
        "own.toml",
        r#"
        rules = []
        [[intents]]
        name = "refund_request"
        examples = ["I want my money back for the jacket I returned", "Please refund my last order, it broke"]
        "#,
    );
    let file = files.add(
        "own.jsonl",
        "{\"prompt\": \"Please refund my last order, it broke\", \"intent\": \"refund_request\"}\n",
    );
    let figures = json(&["--config", &config, &file]);
    let section = &figures["sections"][0];
    let accuracy = section["metrics"]["intent.accuracy"]["router"]["value"].as_f64();
    assert_eq!(accuracy, Some(1.0), "{section}");
}

#[test]
fn a_bundle_without_a_baseline_leaves_that_row_out() {
    let files = Files::new();
    let version = include_str!("../../onnx/default").trim();
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx").join(version);
    fs::create_dir(files.path("bundle")).unwrap();
    for file in ["manifest.json", "model.onnx", "tokenizer.json", "golden.jsonl", "background.f32"] {
        fs::copy(bundle.join(file), files.path("bundle").join(file)).unwrap();
    }
    let config = files.add("pointsman.toml", "[classifier]\nbundle = \"bundle\"\n");
    let file = files.add("small.jsonl", LABELLED);
    let (code, out, error) = eval(&["--config", &config, &file], "");
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("no TF-IDF baseline") && !out.contains("  TF-IDF"), "{out}");
}

#[test]
fn without_a_classifier_rules_are_judged() {
    let files = Files::new();
    let config = files.add("pointsman.toml", "[classifier]\nenabled = false\n");
    let file = files.add("small.jsonl", LABELLED);
    let figures = json(&["--config", &config, &file]);
    let metrics = &figures["sections"][0]["metrics"];
    assert_eq!(metrics["coverage.classified"]["router"]["value"], 0.0);
    assert!(metrics["tier.accuracy"]["router"]["value"].is_number());
    assert!(metrics.get("difficulty.spearman").is_none_or(|figure| figure.get("router").is_none()));
}
