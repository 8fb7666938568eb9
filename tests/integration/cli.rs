//! The built binary: what it prints, where, and how it exits.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Output, Stdio},
    time::Instant,
};

use serde_json::Value;

use crate::support::PATIENCE;

fn pointsman(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pointsman"))
        .args(arguments)
        // Not the working directory: nothing may depend on it.
        .current_dir(std::env::temp_dir())
        .env_remove("POINTSMAN_CONFIG")
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

fn text(bytes: &[u8]) -> String {
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
    add(r#"{"id": "two", "prompt": "", "label": "ignored"}"#);
    add(r#"{"id": [3], "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}"#);
    add(&format!(r#"{{"id": 4, "prompt": "{emoji}"}}"#));
    add(&format!(r#"{{"id": 5, "prompt": "{huge}"}}"#));
    add(r#"{"id": 6, "prompt": "\u0000\u0007\u200b\ufeff control"}"#);
    add(r#"{"id": 7, "messages": []}"#);
    add(r#"{"id": 8, "messages": [{"role": "robot", "content": "x"}]}"#);
    add(r#"{"id": 9, "prompt": "x", "preferences": {"quality": 2.0}}"#);
    add("not json");
    input.extend_from_slice(b"{\"id\": 11, \"prompt\": \"\xff\"}\n\n");
    input.extend_from_slice(br#"{"id": 12, "prompt": "what is the capital of Peru?"}"#);

    let output = pointsman(&["route", "--json", "--input", "-"], &input);
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 12, "{}", text(&output.stdout));
    for good in [0, 1, 2, 3, 4, 5, 11] {
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
    ] {
        assert!(lines[at]["error"].as_str().unwrap().contains(because), "{}", lines[at]);
    }
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("5 of 12 lines got no decision"), "{}", text(&output.stderr));
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

#[cfg(unix)]
#[test]
fn serve_prints_its_addresses_and_ends_well_on_sigterm() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pointsman"))
        .args(["serve", "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let grpc = lines.next().unwrap().unwrap();
    let address: std::net::SocketAddr = grpc.strip_prefix("gRPC  ").unwrap().parse().unwrap();
    assert_ne!(address.port(), 0);
    let http = lines.next().unwrap().unwrap();
    assert!(http.starts_with("HTTP  127.0.0.1:"), "{http}");
    // An idle connection must not hold up the drain.
    let _idle = std::net::TcpStream::connect(address).unwrap();
    let killed = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(killed.success());
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(started.elapsed() < PATIENCE, "the server did not stop");
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(0));
}
