//! `pointsman bundle diff`: two bundles on logged requests, and what a shadow said of them.

use std::fs;

use pointsman::{
    config::StoreConfig,
    traffic::{
        record::Record,
        store::{Store, fleet::ShadowRow},
    },
};
use serde_json::{Value, json};

use super::{Files, LOG, REQUESTS, near, said};
use crate::bundle::Copy;

#[test]
fn bundles_are_compared_on_logged_requests() {
    let files = Files::new();
    let store = files.store(&LOG, &said());
    // The same scores, and never sure of itself: what is unsure goes one tier up.
    let unsure = Copy::new();
    unsure.edit(|manifest| {
        manifest["version"] = json!("unsure");
        manifest["thresholds"]["level_margin_min"] = json!(1.0);
    });
    let other = unsure.path("").to_str().unwrap().to_owned();
    let report = files.add("diff.html", "");
    let asked = ["default", &other, "--traffic", &store, "--since", "3650d", "--html", &report];
    let diff = |more: &[&str]| {
        let arguments: Vec<&str> = asked.iter().chain(more).copied().collect();
        let (code, out, error) = files.run(&["bundle", "diff"], &arguments);
        assert_eq!(code, 0, "{error}");
        out
    };
    let figures: Value = serde_json::from_str(&diff(&["--json"])).unwrap();
    assert_eq!((&figures["b"]["version"], &figures["beside_log"]["requests"]), (&json!("unsure"), &json!(8)));
    assert!(figures["stronger"].as_f64().unwrap() > 0.0, "{figures:#}");
    near(&figures["weaker"], 0.0);
    assert!(figures["saved"].as_f64().unwrap() < 0.0, "what is stronger costs more");
    near(&figures["agreement"]["intent"], 1.0);
    let printed = figures.to_string();
    assert!(REQUESTS.iter().all(|(_, prompt)| !printed.contains(prompt)), "no text in the figures");
    let out = diff(&[]);
    for part in
        ["A: pointsman", "B unsure", "A and B agree on tier", "A \\ B", "Moved furthest", "requests are few"]
    {
        assert!(out.contains(part), "{part} is missing in {out}");
    }
    let html = fs::read_to_string(&report).unwrap();
    assert!(html.contains("B unsure") && html.contains("A and B agree on tier"));
}

/// What bundle "next" said of all but the last request as the shadow: one tier up where it can.
fn shadow_rows(log: &[Record]) -> Vec<ShadowRow> {
    let last = log.len() - 1;
    let row = |record: &Record| {
        let made = &record.decision;
        let at = made.tiers.iter().position(|tier| *tier == made.tier).unwrap();
        let tier = made.tiers.get(at + 1).unwrap_or(&made.tier);
        let document = json!({
            "version": 1, "active_tier": made.tier, "tier": tier, "target": format!("{tier}-target"),
            "intent": made.intent, "intent_confidence": 0.5, "confidence": 0.5, "low_confidence": true,
            "sufficiency": made.sufficiency, "cost_usd_estimate": 2.0 * made.cost_usd_estimate,
            "propensity": 1.0, "compute_us": 900,
        });
        ShadowRow {
            decision_id: record.decision_id,
            bundle: "next".to_owned(),
            document: document.to_string(),
        }
    };
    log[..last].iter().map(row).collect()
}

#[test]
fn what_a_shadow_said_is_compared_without_texts() {
    let files = Files::new();
    let mut log = LOG.clone();
    for record in &mut log {
        record.request.text.policy = "none".to_owned();
        record.request.text.messages.clear();
    }
    log[0].decision.explored = true;
    let store = files.store(&log, &said());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&StoreConfig::Sqlite { path: store.clone().into() }).await.unwrap();
        store.add_shadow(&shadow_rows(&log)).await.unwrap();
        store.close(std::time::Duration::from_secs(5)).await;
    });
    let diff = |more: &[&str]| {
        let asked = ["--shadow", "next", "--since", "3650d"];
        let (code, out, error) = files.run(&["bundle", "diff"], &[&asked, more].concat());
        assert_eq!(code, 0, "{error}");
        out
    };
    let figures = |more: &[&str]| -> Value {
        let mut figures: Value = serde_json::from_str(&diff(&[&["--json"], more].concat())).unwrap();
        figures["source"].take();
        figures
    };
    let of_store = figures(&[]);
    assert_eq!((&of_store["beside_log"]["requests"], &of_store["b"]["version"]), (&json!(7), &json!("next")));
    near(&of_store["saved"], -1.0);
    near(&of_store["agreement"]["intent"], 1.0);
    near(&of_store["beside_log"]["settings"][0]["side"]["low_confidence"], 1.0);
    let agreed = of_store["agreement"]["tier"].as_f64().unwrap();
    near(&of_store["stronger"], 1.0 - agreed);
    let notes = of_store["notes"].to_string();
    for part in
        ["1 of 8 records have no scores of next", "1 requests had been explored", "6 requests are few"]
    {
        assert!(notes.contains(part), "{part} is missing in {notes}");
    }
    let report = files.add("shadow.html", "");
    let out = diff(&["--html", &report]);
    for part in ["A: as decided", "B: shadow next", "A and B agree on tier", "B costs 100.0 % more", "A \\ B"]
    {
        assert!(out.contains(part), "{part} is missing in {out}");
    }
    assert!(fs::read_to_string(&report).unwrap().contains("B next"));
    // An export has all that it takes.
    for format in ["parquet", "jsonl"] {
        let folder = files.0.path().join(format).to_str().unwrap().to_owned();
        let (code, _, error) = files.run(&["traffic", "export"], &["--format", format, "--out", &folder]);
        assert_eq!(code, 0, "{error}");
        assert_eq!(of_store, figures(&["--traffic", &folder]), "{format}");
    }
    for (arguments, code, expected) in [
        (
            &["--shadow", "0.9.9", "--since", "3650d"][..],
            1,
            "has scores of 0.9.9, but of next (7): `pointsman bundle",
        ),
        (&["--shadow", "next", "--tenant", "nobody"], 1, "holds no record"),
        (&["--shadow", "next", "default", "0.9.9"], 2, "cannot be used with"),
        (&["default"], 2, "required"),
        (&[], 2, "required"),
    ] {
        let (got, out, error) = files.run(&["bundle", "diff"], arguments);
        assert!(got == code && error.contains(expected), "{arguments:?}: {got} {out} {error}");
    }
}

#[test]
fn a_bundle_agrees_with_itself_and_no_traffic_says_so() {
    let files = Files::new();
    let (code, _, error) = files.run(&["bundle", "diff"], &["default", "default"]);
    assert!(code == 1 && error.contains("`pointsman bundle verify` tries golden samples"), "{error}");
    files.store(&LOG, &said());
    let all = ["default", "default", "--since", "3650d", "--limit", "5", "--json"];
    let (code, out, error) = files.run(&["bundle", "diff"], &all);
    assert_eq!(code, 0, "{error}");
    let figures: Value = serde_json::from_str(&out).unwrap();
    for figure in ["tier", "target", "intent"] {
        near(&figures["agreement"][figure], 1.0);
    }
    assert_eq!(figures["furthest"], json!([]));
    assert!(figures["notes"].to_string().contains("--limit"), "{figures:#}");
    let (code, _, error) = files.run(&["bundle", "diff"], &["default", "0.9.9", "--since", "3650d"]);
    assert!(code == 1 && error.contains("bundle 0.9.9: not in"), "{error}");
}
