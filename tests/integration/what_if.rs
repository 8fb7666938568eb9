//! `pointsman eval --traffic` from outside: a store or an export in; text, JSON and a report out.

mod bundles;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::LazyLock,
};

use pointsman::{
    config::StoreConfig,
    traffic::{
        feedback::{Feedback, Verdict},
        record::{AttemptRecord, Kind, MessageRecord, Record, TargetRecord},
        store::Store,
    },
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    cli::{pointsman, text},
    support::{
        program::program,
        traffic::{feedback, record},
    },
};

/// Sessions of requests, as `route` takes them.
const REQUESTS: [(&str, &str); 8] = [
    ("", "thanks, bye!"),
    ("s-1", "Translate 'good morning' into French."),
    (
        "",
        "Refactor our billing service to event sourcing without downtime, and plan the migration of the data.",
    ),
    ("s-1", "And 'good night'?"),
    ("", "Prove that there are infinitely many primes of the form 4n+3."),
    ("", "Write a haiku about the zebrafish in my aquarium."),
    ("", "What is the capital of Peru?"),
    ("", "Summarize: sales rose by a tenth, costs fell by a twentieth, and nobody knows why."),
];

/// Two tiers, of which the log knows one.
const OTHER_TIERS: &str = r#"
    rules = []
    [policy]
    default_tier = "cheap"
    [[tiers]]
    name = "cheap"
    level = "simple"
    targets = ["gpt-6-luna"]
    [[tiers]]
    name = "complex"
    level = "complex"
    targets = ["claude-sonnet-5-5"]
"#;

/// What the router decides for each request by itself, as records of a log.
static LOG: LazyLock<Vec<Record>> = LazyLock::new(|| {
    let lines: String =
        REQUESTS.iter().map(|(_, prompt)| format!("{}\n", json!({"prompt": prompt}))).collect();
    let output = pointsman(&["route", "--json", "--input", "-"], lines.as_bytes());
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
        .lines()
        .zip(REQUESTS)
        .map(|(line, (session, prompt))| {
            let line: Value = serde_json::from_str(line).unwrap();
            logged(&line["decision"], session, prompt)
        })
        .collect()
});

fn logged(decision: &Value, session: &str, prompt: &str) -> Record {
    let string = |value: &Value| value.as_str().unwrap().to_owned();
    let mut record = record(0, 0);
    record.decision_id = string(&decision["decision_id"]).parse().unwrap();
    let (seconds, nanos) = record.decision_id.get_timestamp().unwrap().to_unix();
    record.at_ms = seconds as i64 * 1000 + i64::from(nanos) / 1_000_000;
    record.request.session = session.to_owned();
    record.request.text.messages =
        vec![MessageRecord { role: "user".to_owned(), content: prompt.to_owned() }];
    record.request.prompt_tokens = decision["prompt_tokens"].as_u64().unwrap() as u32;
    let made = &mut record.decision;
    made.tier = string(&decision["tier"]).into();
    made.target = TargetRecord {
        id: string(&decision["target"]["id"]).into(),
        provider: string(&decision["target"]["provider"]).into(),
        model: string(&decision["target"]["model"]).into(),
    };
    let scores = decision["tier_scores"].as_array().unwrap();
    made.sufficiency = scores.iter().map(|score| score["sufficiency"].as_f64().unwrap()).collect();
    made.source = string(&decision["source"]).to_lowercase();
    made.low_confidence = decision["low_confidence"].as_bool().unwrap();
    made.cost_usd_estimate = decision["cost_usd_estimate"].as_f64().unwrap();
    made.baseline_cost_usd_estimate = decision["baseline_cost_usd"].as_f64().unwrap();
    made.timings.total_us = decision["timings"]["total_us"].as_u64().unwrap();
    record
}

/// Half of the requests were good, one was bad.
fn said() -> Vec<Feedback> {
    let verdicts = [Verdict::Good, Verdict::Bad, Verdict::Good, Verdict::Good];
    let pairs = LOG.iter().zip(verdicts).enumerate();
    pairs
        .map(|(at, (record, verdict))| Feedback {
            verdict: Some(verdict),
            ..feedback(&format!("f-{at}"), record.decision_id)
        })
        .collect()
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn add(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Fills a store where the program looks for it when nothing was configured.
    fn store(&self, records: &[Record], feedback: &[Feedback]) -> String {
        let path = self.state().join("traffic.sqlite");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Store::open(&StoreConfig::Sqlite { path: path.clone() }).await.unwrap();
            store.write(records).await.unwrap();
            store.add_feedback(feedback, 100).await.unwrap();
            store.close(std::time::Duration::from_secs(5)).await;
        });
        path.to_str().unwrap().to_owned()
    }

    fn state(&self) -> PathBuf {
        let folder = self.0.path().join("state/pointsman");
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Runs `eval` and returns exit code, stdout and stderr.
    fn eval(&self, arguments: &[&str]) -> (i32, String, String) {
        self.run(&["eval"], arguments)
    }

    fn run(&self, command: &[&str], arguments: &[&str]) -> (i32, String, String) {
        let output = program(&self.0.path().join("state"))
            .args(command)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let all: Vec<&str> = ["--json"].into_iter().chain(arguments.iter().copied()).collect();
        let (code, out, error) = self.eval(&all);
        assert_eq!(code, 0, "{error}");
        serde_json::from_str(&out).unwrap()
    }
}

/// Returns the export of the log in lines, with the columns that are read.
fn lines(records: &[Record], feedback: &[Feedback]) -> String {
    let line = |record: &Record| {
        let (request, made) = (&record.request, &record.decision);
        let of_record = feedback.iter().filter(|one| one.decision_id == record.decision_id);
        let said: Vec<Value> = of_record
            .map(|one| json!({"feedback_id": one.feedback_id, "source": one.source, "verdict": one.verdict}))
            .collect();
        json!({
            "record_version": 1, "decision_id": record.decision_id, "tenant": request.tenant,
            "session": request.session, "text_policy": request.text.policy, "messages": request.text.messages,
            "prompt_tokens": request.prompt_tokens, "quality": null, "tiers": made.tiers, "tier": made.tier,
            "target": made.target.id, "sufficiency": made.sufficiency, "source": made.source,
            "low_confidence": made.low_confidence, "propensity": made.propensity, "explored": made.explored,
            "cost_usd_estimate": made.cost_usd_estimate,
            "baseline_cost_usd_estimate": made.baseline_cost_usd_estimate, "total_us": made.timings.total_us,
            "status": record.outcome.status, "feedback": said,
        })
        .to_string()
            + "\n"
    };
    records.iter().map(line).collect()
}

/// Drops what differs from run to run: times, and names of sources.
fn steady(mut figures: Value) -> Value {
    figures["source"].take();
    figures["logged"]["deciding_us"].take();
    for setting in figures["settings"].as_array_mut().into_iter().flatten() {
        setting["side"]["deciding_us"].take();
    }
    figures
}

fn near(value: &Value, expected: f64) {
    assert!(value.as_f64().is_some_and(|value| (value - expected).abs() < 1e-9), "{value} is not {expected}");
}

#[test]
fn the_setting_of_the_log_decides_as_the_log() {
    let files = Files::new();
    let store = files.store(&LOG, &said());
    // Found where nothing was configured, and by its path.
    let figures = files.json(&["--traffic"]);
    assert_eq!(figures["source"], json!(store));
    assert_eq!(steady(figures.clone()), steady(files.json(&["--traffic", &store])));
    let change = &figures["settings"][0];
    assert_eq!((figures["requests"].as_u64(), change["name"].as_str()), (Some(8), Some("quality 0.5")));
    for figure in ["same_tier", "same_target"] {
        assert_eq!(change[figure], json!(1.0), "{figure}: {figures:#}");
    }
    near(&change["saved_against_log"], 0.0);
    near(&change["side"]["cost_usd_per_1000"], figures["logged"]["cost_usd_per_1000"].as_f64().unwrap());
    assert_eq!(change["side"]["tiers"], figures["logged"]["tiers"]);
    // Three of four were good, and every choice is the logged one.
    let off_policy = &change["off_policy"];
    assert_eq!((&off_policy["rewarded"], &off_policy["informative"]), (&json!(4), &json!(4)));
    for estimated in &off_policy["estimates"].as_array().unwrap()[..3] {
        near(&estimated["value"], 0.75);
        near(&estimated["lead"]["value"], 0.0);
    }
    assert_eq!(off_policy["cautions"][0]["kind"], json!("few_effective"));
    let printed = figures.to_string();
    assert!(REQUESTS.iter().all(|(_, prompt)| !printed.contains(prompt)), "no text in the figures");
}

#[test]
fn an_export_in_lines_has_the_figures_of_the_store() {
    let files = Files::new();
    let store = files.store(&LOG, &said());
    let file = files.add("export/day=2026-01-01/part.jsonl", lines(&LOG, &said()));
    let folder = Path::new(&file).parent().unwrap().parent().unwrap().to_str().unwrap();
    let figures = steady(files.json(&["--traffic", &store, "--quality", "0.3"]));
    for path in [folder, &file] {
        assert_eq!(figures, steady(files.json(&["--traffic", path, "--quality", "0.3"])), "{path}");
    }
}

/// What the command writes is what the replay reads, whole.
#[test]
fn exports_of_the_command_have_the_figures_of_the_store() {
    let files = Files::new();
    let mut log = LOG.clone();
    for record in &mut log {
        let attempt = |target: &TargetRecord, outcome: &str| AttemptRecord {
            target: target.clone(),
            tier: record.decision.tier.clone(),
            cause: "first".to_owned(),
            outcome: outcome.to_owned(),
            why: None,
            started_ms: 0.0,
            latency_ms: 1.0,
            first_token_ms: None,
            input_tokens: 1,
            cached_input_tokens: 0,
            output_tokens: 1,
            cost_usd: 0.001,
            estimated: false,
        };
        record.kind = Kind::Complete;
        record.attempts = vec![attempt(&record.decision.target, "answered")];
        record.outcome.status = "answered".to_owned();
        record.outcome.target = Some(record.decision.target.clone());
        record.outcome.tier = Some(record.decision.tier.clone());
    }
    log[5].attempts[0].outcome = "weak".to_owned();
    let store = files.store(&log, &said());
    let figures = files.json(&["--traffic", &store, "--quality", "0.3"]);
    let off_policy = &figures["settings"][0]["off_policy"];
    assert_eq!(off_policy["rewarded"], json!(8), "{figures:#}");
    let figures = steady(figures);
    for format in ["parquet", "jsonl"] {
        let folder = files.0.path().join(format).to_str().unwrap().to_owned();
        let (code, _, error) = files.run(&["traffic", "export"], &["--format", format, "--out", &folder]);
        assert_eq!(code, 0, "{error}");
        assert_eq!(figures, steady(files.json(&["--traffic", &folder, "--quality", "0.3"])), "{format}");
    }
}

#[test]
fn several_qualities_make_a_curve_and_a_report() {
    let files = Files::new();
    let store = files.store(&LOG, &said());
    let report = files.add("what-if.html", "");
    let all = ["--traffic", &store, "--quality", "0.2,0.9", "--out", &report];
    let (code, out, error) = files.eval(&all);
    assert_eq!(code, 0, "{error}");
    assert!(error.contains("report: "), "{error}");
    for part in [
        "8 requests of ",
        "quality 0.2",
        "quality 0.9",
        "as logged",
        "saved against the top tier",
        "predicted quality",
        "tier reasoning",
        "logged \\ chosen",
        "4 requests have a reward",
        " (!)",
        "do not act on these estimates",
        "self-normalised IPS",
    ] {
        assert!(out.contains(part), "{part} is missing in {out}");
    }
    assert!(!out.contains('\u{1b}'), "no colours into a pipe");
    assert!(REQUESTS.iter().all(|(_, prompt)| !out.contains(prompt)), "no text on the terminal: {out}");
    let html = fs::read_to_string(&report).unwrap();
    for part in
        ["Cost and predicted quality", "Requests that would move", "zebrafish", "<svg", "doubly robust"]
    {
        assert!(html.contains(part), "{part} is missing in the report");
    }
    let outside = html.replace("http://www.w3.org/2000/svg", "");
    assert!(!outside.contains("http") && !html.contains("<script"), "the page needs something else");
    let figures = files.json(&all);
    let cost = |at: usize| figures["settings"][at]["side"]["cost_usd_per_1000"].as_f64().unwrap();
    let quality = |at: usize| figures["settings"][at]["side"]["predicted_quality"].as_f64().unwrap();
    assert!(cost(0) < cost(1) && quality(0) < quality(1), "{figures:#}");
}

#[test]
fn other_tiers_are_compared_by_name() {
    let files = Files::new();
    let file = files.add("log.jsonl", lines(&LOG, &said()));
    let config = files.add("other.toml", OTHER_TIERS);
    let figures = files.json(&["--traffic", &file, "--config", &config, "--tenant", "acme"]);
    let notes = figures["notes"].to_string();
    assert!(notes.contains("the configuration has no tier") && notes.contains("simple"), "{notes}");
    let change = &figures["settings"][0];
    assert!(change["unplaced"].as_f64().unwrap() > 0.0);
    assert_eq!(change["confusion"]["chosen"], json!(["cheap", "complex"]));
    let logged = change["confusion"]["logged"].as_array().unwrap();
    assert!(logged.contains(&json!("simple")) && logged[..2] == [json!("cheap"), json!("complex")]);
    // The log was certain, and what it chose then cannot be chosen now.
    assert_eq!(change["off_policy"]["cautions"][0]["kind"], json!("unsupported"));
}

#[test]
fn a_sample_is_of_whole_sessions_and_reproducible() {
    let files = Files::new();
    let file = files.add("log.jsonl", lines(&LOG, &said()));
    let sampled = |seed: &str| files.json(&["--traffic", &file, "--sample", "3", "--seed", seed]);
    let figures = sampled("5");
    assert_eq!(steady(figures.clone()), steady(sampled("5")));
    assert!(figures["requests"].as_u64().unwrap() <= 3);
    assert!(figures["notes"].to_string().contains("a sample: "), "{figures:#}");
}

#[test]
fn what_cannot_be_replayed_is_said() {
    let files = Files::new();
    let log = files.add("log.jsonl", lines(&LOG, &[]));
    let empty = files.add("empty.jsonl", "");
    let odd = files.add("odd.csv", "a,b\n1,2\n");
    let half = files.add("half.jsonl", "{\"decision_id\": \"a secret\"\n");
    let broken = files.add("broken.parquet", "PAR1");
    let textless: Vec<Record> = LOG
        .iter()
        .cloned()
        .map(|mut record| {
            record.request.text.messages.clear();
            record
        })
        .collect();
    let textless = files.add("textless.jsonl", lines(&textless, &[]));
    let small = files.add("small.toml", "[limits]\nprompt_bytes_max = 1\n");
    for (arguments, code, expected) in [
        (vec!["--traffic"], 1, "traffic.sqlite"),
        (vec!["--traffic", "/nowhere/log.jsonl"], 1, "/nowhere/log.jsonl: No such file"),
        (vec!["--traffic", &odd], 1, "neither a SQLite store nor an export"),
        (vec!["--traffic", &half], 1, "half.jsonl:1: not JSON"),
        (vec!["--traffic", &broken], 1, "no complete Parquet file"),
        (vec!["--traffic", &empty], 1, "empty.jsonl holds no record"),
        (
            vec!["--traffic", &log, "--until", "2000-01-01"],
            1,
            "holds no record before 2000-01-01T00:00:00Z; it holds 8 others",
        ),
        (vec!["--traffic", &log, "--tenant", "nobody"], 1, "holds no record of tenant \"nobody\""),
        (vec!["--traffic", &textless], 1, "none of the 8 records"),
        (
            vec!["--traffic", &log, "--config", &small],
            1,
            "the configuration refuses all 8 records: messages[0].content",
        ),
        (vec!["--traffic", &log, "--since", "2999-01-01"], 2, "--since 2999-01-01: is in the future"),
        (vec!["--traffic", &log, "--since", "soon"], 2, "--since soon: neither a time ago"),
        (vec!["--traffic", &log, "--since", "1d", "--until", "2d"], 2, "--until: ends at"),
        (vec!["--traffic", &log, "--quality", "2"], 2, "a number from 0 to 1 is expected"),
        (vec!["--traffic", &log, "--weight-max", "0.5"], 2, "a number of at least 1 is expected"),
        (vec!["--traffic", &log, "--sample", "0"], 2, "0 is not in 1.."),
        (vec!["--traffic", &log, &odd], 2, "cannot be used with"),
        (vec!["--since", "7d", &odd], 2, "add --traffic"),
        (vec!["--traffic", &log, "--bundle", "/nowhere"], 1, "/nowhere"),
    ] {
        let (got, out, error) = files.eval(&arguments);
        assert!(got == code && error.contains(expected), "{arguments:?}: {got} {out} {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
