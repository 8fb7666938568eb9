//! The built binary: what it prints, where, and how it exits.

mod serving;

use std::{
    io::Write,
    process::{Output, Stdio},
};

use serde_json::Value;

use crate::support::program::program;

pub fn pointsman(arguments: &[&str], input: &[u8]) -> Output {
    let state = tempfile::tempdir().unwrap();
    let mut child = program(state.path())
        .args(arguments)
        .env_remove("GEMINI_API_KEY")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json_lines(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn route_prints_a_decision_for_a_person_and_for_a_program() {
    let output =
        pointsman(&["route", "Refactor our billing service to event sourcing without downtime"], b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    for label in ["tier", "target", "reason", "sufficient", "cost", "time"] {
        assert!(shown.contains(label), "{shown}");
    }
    assert!(!shown.contains('\u{1b}'), "no colours into a pipe");
    let output = pointsman(&["route", "--json", "thanks,", "bye!"], b"");
    let decision: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((decision["tier"].as_str(), decision["source"].as_str()), (Some("simple"), Some("RULE")));
}

#[test]
fn route_explains_every_rule_that_matched() {
    let output = pointsman(&["route", "--explain", "thanks!"], b"");
    let shown = text(&output.stdout);
    assert!(shown.contains("thanks decides"), "{shown}");
}

#[test]
fn every_line_of_input_gets_one_line_in_order() {
    let emoji = "🧨".repeat(3000);
    let huge = "a".repeat(300_000);
    let mut input = Vec::new();
    let mut add = |line: &str| {
        input.extend_from_slice(line.as_bytes());
        input.push(b'\n');
    };
    add(r#"{"id": 1, "prompt": "thanks"}"#);
    add(r#"{"id": "two", "prompt": ""}"#);
    add(r#"{"id": [3], "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}"#);
    add(&format!(r#"{{"id": 4, "prompt": "{emoji}"}}"#));
    add(&format!(r#"{{"id": 5, "prompt": "{huge}"}}"#));
    add(r#"{"id": 6, "prompt": "\u0000\u0007\u200b\ufeff control"}"#);
    add(r#"{"id": 7, "messages": []}"#);
    add(r#"{"id": 8, "messages": [{"role": "robot", "content": "x"}]}"#);
    add(r#"{"id": 9, "prompt": "x", "preferences": {"quality": 2.0}}"#);
    add("not json");
    input.extend_from_slice(b"{\"id\": 11, \"prompt\": \"\xff\"}\n\n");
    input.extend_from_slice(b"{\"id\": 13, \"prompt\": \"x\", \"label\": 1}\n");
    input.extend_from_slice(br#"{"id": 12, "prompt": "what is the capital of Peru?"}"#);

    let output = pointsman(&["route", "--json", "--input", "-"], &input);
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 13, "{}", text(&output.stdout));
    for good in [0, 1, 2, 3, 4, 5, 12] {
        assert!(lines[good]["decision"]["tier"].is_string(), "{}", lines[good]);
    }
    assert_eq!(
        (&lines[0]["id"], &lines[1]["id"], &lines[2]["id"]),
        (&1.into(), &"two".into(), &vec![3].into())
    );
    for (at, because) in [
        (6, "messages: is empty"),
        (7, "messages[0].role"),
        (8, "preferences.quality"),
        (9, "line 10: not JSON"),
        (10, "line 11: not UTF-8 at byte"),
        (11, "label: is unknown; id, prompt, messages"),
    ] {
        assert!(lines[at]["error"].as_str().unwrap().contains(because), "{}", lines[at]);
    }
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("6 of 13 lines got no decision"), "{}", text(&output.stderr));
}

#[test]
fn labels_are_passed_over_where_that_is_asked_for() {
    let line = br#"{"id": 1, "prompt": "thanks", "label": 1, "model": "whoever-answered"}"#;
    let output = pointsman(&["route", "--json", "--labelled", "--input", "-"], line);
    assert!(output.status.success(), "{}", text(&output.stdout));
}

#[test]
fn a_prompt_may_come_from_stdin_and_none_is_told() {
    let output = pointsman(&["route", "--json", "-"], b"thanks!");
    let decision: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((decision["tier"].as_str(), decision["source"].as_str()), (Some("simple"), Some("RULE")));
    for (arguments, expected) in [
        (&["route"][..], "--input FILE.jsonl"),
        (&["eval"][..], "or --traffic"),
        (&["route", "--quality", "high", "x"][..], "a number from 0 to 1 is expected"),
        (&["route", "--input", "x.jsonl", "text"][..], "cannot be used with"),
    ] {
        let output = pointsman(arguments, b"");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
    }
}

#[test]
fn check_prints_a_summary_every_problem_or_the_schema() {
    let output = pointsman(&["check"], b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("bundle     pointsman-minilm"), "{}", text(&output.stdout));

    let file = tempfile::NamedTempFile::new().unwrap();
    let mistakes = "[policy]\nquality = 7\nkwality = 1\n\n[[rules]]\nid = \"a\"\nany = [\"(\"]\ntier = \"big\"\n\n\
                    [server]\ngrpc_listen = \"nowhere\"\n";
    std::fs::write(file.path(), mistakes).unwrap();
    let output = pointsman(&["check", file.path().to_str().unwrap()], b"");
    assert_eq!(output.status.code(), Some(2));
    let problems = text(&output.stderr);
    for problem in [
        "5 problems",
        "line 2: policy.quality",
        "line 3: policy.kwality",
        "line 7: rules[0].any[0]",
        "line 8: rules[0].tier",
        "line 11: server.grpc_listen",
    ] {
        assert!(problems.contains(problem), "{problem:?} is missing in {problems}");
    }

    let output = pointsman(&["check", "--schema"], b"");
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(schema["properties"]["tiers"].is_object());
    assert_eq!(schema["properties"]["intents"]["type"], "array");
    assert!(schema["$defs"]["IntentFile"]["properties"]["examples"].is_object(), "{schema}");
}

#[test]
fn check_says_which_completions_could_be_made_and_never_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pointsman.toml");
    std::fs::write(folder.path().join("key"), "secret-4f9a\n").unwrap();
    std::fs::write(folder.path().join("empty"), "\n").unwrap();
    let sections = r#"
[[providers]]
name = "openai"
keys = ["file:key", "file:empty", "env:POINTSMAN_TEST_NO_SUCH_KEY", "file:."]
[[providers]]
name = "mistral"
keys = ["file:key"]
[[providers]]
name = "idle"
kind = "vllm"
[[budgets]]
name = "all"
day_usd = 1.0
"#;
    let targets = pointsman::config::DEFAULT_TOML.replace("provider = \"groq\"", "provider = \"acme\"");
    std::fs::write(&file, format!("{targets}\n{sections}")).unwrap();
    let output = pointsman(&["check", "--no-bundle", file.to_str().unwrap()], b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    let words = shown.split_whitespace().collect::<Vec<&str>>().join(" ");
    let empty = folder.path().join("empty");
    for expected in [
        &format!(
            "providers openai openai https://api.openai.com/v1 1 of 4 keys, cannot read file:{}",
            empty.display()
        ),
        "env:POINTSMAN_TEST_NO_SUCH_KEY",
        "mistral openai https://api.mistral.ai/v1 1 key",
        "idle openai http://127.0.0.1:8000/v1 no key",
        "google gemini 0 of 1 keys, cannot read env:GEMINI_API_KEY",
        "warning: target gpt-oss-120b: no provider is named \"acme\": it can be decided for, but not completed with",
        "warning: provider idle: serves no target",
        "warning: budgets: without spend.file a restart forgets what was spent",
    ] {
        assert!(words.contains(expected), "{expected:?} is missing in {shown}");
    }
    assert!(!shown.contains("4f9a"), "{shown}");
}

#[test]
fn the_example_in_the_docs_has_no_problem() {
    let folder = tempfile::tempdir().unwrap();
    // Not where it is: checking tries whether the spend file beside it could be written.
    let file = folder.path().join("completions.toml");
    std::fs::write(&file, include_str!("../../docs/examples/completions.toml")).unwrap();
    let output = pointsman(&["check", file.to_str().unwrap()], b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.contains("our-vllm") && shown.contains("of 2 keys"), "{shown}");
    assert!(!shown.contains("warning"), "{shown}");
}

#[test]
fn check_finds_intents_of_checks_that_nobody_has() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[[completion.checks]]\nintents = [\"code\", \"poems\"]\n").unwrap();
    let output = pointsman(&["check", file.path().to_str().unwrap()], b"");
    assert_eq!(output.status.code(), Some(2));
    let problem = text(&output.stderr);
    let expected = "completion.checks[0].intents[1]: the bundle has no intent \"poems\"";
    assert!(problem.contains(expected), "{problem}");
}

#[test]
fn usage_errors_exit_with_two() {
    for arguments in
        [vec!["route"], vec!["route", "--nonsense"], vec!["--config", "/nowhere.toml", "route", "x"]]
    {
        let output = pointsman(&arguments, b"");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn a_broken_bundle_is_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pointsman.toml");
    // Relative to the file, not to the working directory.
    std::fs::write(&file, "[classifier]\nbundle = \"bundle\"\n").unwrap();
    std::fs::create_dir(folder.path().join("bundle")).unwrap();
    std::fs::write(folder.path().join("bundle/manifest.json"), "{").unwrap();
    let output = pointsman(&["--config", file.to_str().unwrap(), "route", "compare the offers"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("error: bundle manifest.json: "), "{}", text(&output.stderr));
}

#[test]
fn completions_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let output = pointsman(&["completions", shell], b"");
        assert!(output.status.success() && text(&output.stdout).contains("pointsman"));
    }
}
