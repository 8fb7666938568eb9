//! `pointsman serve` as a user starts it, and the commands that ask a running server.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{ChildStderr, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{pointsman, text};
use crate::support::{
    NOBODY, PATIENCE,
    program::{ServerProcess, program},
};

/// A server process, as a user starts it.
struct Served {
    process: ServerProcess,
    log: BufReader<ChildStderr>,
    _state: TempDir,
}

impl Served {
    fn start(arguments: &[&str]) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut command = program(state.path());
        command
            .args(["serve", "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
            .args(["--admin-listen", "127.0.0.1:0"])
            .args(arguments)
            .stderr(Stdio::piped());
        let mut process = ServerProcess::start(&mut command).unwrap();
        let log = process.log().unwrap();
        Self { process, log, _state: state }
    }

    fn terminate(&self) {
        self.process.signal("TERM");
    }

    /// Reads the log up to a line that holds `text`.
    fn log_until(&mut self, text: &str) {
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "the log ended without {text:?}");
        }
    }

    fn exit_code(mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.process.ended() {
                return status.code();
            }
            assert!(started.elapsed() < PATIENCE, "the server did not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Returns a configuration whose drain lasts longer than any test waits, and the folder that it lies in.
fn long_drain() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pointsman.toml");
    let drain_ms = 10 * PATIENCE.as_millis();
    std::fs::write(&file, format!("[server]\ndrain_ms = {drain_ms}\n")).unwrap();
    (folder, file.to_str().unwrap().to_owned())
}

#[cfg(unix)]
#[test]
fn serve_prints_its_addresses_and_ends_well_on_sigterm() {
    let (_folder, file) = long_drain();
    let served = Served::start(&["--config", &file]);
    for address in [served.process.grpc, served.process.http] {
        assert!(address.ip().is_loopback() && address.port() != 0, "{address}");
    }
    // An idle connection must not hold up the drain.
    let _idle = TcpStream::connect(served.process.grpc).unwrap();
    served.terminate();
    // Far less than running calls would get.
    assert_eq!(served.exit_code(), Some(0));
}

#[cfg(unix)]
#[test]
fn a_second_signal_cuts_the_drain_short() {
    let (_folder, file) = long_drain();
    let mut served = Served::start(&["--config", &file]);
    // A call whose request never ends keeps the server draining.
    let mut call = TcpStream::connect(served.process.grpc).unwrap();
    call.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    call.write_all(&frame(4, 0, 0, &[])).unwrap();
    let headers: Vec<u8> = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", "/pointsman.v1.RouterService/Route"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ]
    .iter()
    .flat_map(|(name, value)| literal_header(name, value))
    .collect();
    call.write_all(&frame(1, 0x4, 1, &headers)).unwrap();
    // The answer to a ping shows that everything before it was read.
    call.write_all(&frame(6, 0, 0, &[7; 8])).unwrap();
    call.set_read_timeout(Some(PATIENCE)).unwrap();
    loop {
        let mut head = [0; 9];
        call.read_exact(&mut head).unwrap();
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        call.read_exact(&mut vec![0; length]).unwrap();
        if head[3] == 6 && head[4] == 1 {
            break;
        }
    }
    served.terminate();
    served.log_until("draining");
    served.terminate();
    // The drain itself may take far longer.
    assert_eq!(served.exit_code(), Some(1));
}

#[cfg(unix)]
#[test]
fn a_server_with_a_broken_bundle_goes_on_with_rules_and_default_tier() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pointsman.toml");
    std::fs::write(&file, "[classifier]\nbundle = \"nowhere\"\n").unwrap();
    let mut served = Served::start(&["--config", file.to_str().unwrap()]);
    served.log_until("no classifier: rules and the default tier answer");
    let answer = ready(served.process.http);
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    served.terminate();
    assert_eq!(served.exit_code(), Some(0));
}

/// A log file on a full disk, or one whose reader has gone, costs lines and nothing else.
#[cfg(target_os = "linux")]
#[test]
fn a_log_that_cannot_be_written_costs_no_more_than_the_log() {
    let state = tempfile::tempdir().unwrap();
    let mut command = program(state.path());
    command
        .args(["serve", "--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"])
        .args(["--admin-listen", "127.0.0.1:0"])
        .stderr(File::options().write(true).open("/dev/full").unwrap());
    let mut process = ServerProcess::start(&mut command).unwrap();
    let started = Instant::now();
    // That the classifier was loaded is logged.
    while !ready(process.http).starts_with("HTTP/1.1 200") {
        assert!(started.elapsed() < PATIENCE, "no classifier");
        std::thread::sleep(Duration::from_millis(20));
    }
    process.signal("TERM");
    let status = loop {
        if let Some(status) = process.ended() {
            break status;
        }
        assert!(started.elapsed() < 2 * PATIENCE, "the server did not stop");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(0));
}

/// Returns what the server says of its being ready.
fn ready(http: SocketAddr) -> String {
    let mut probe = TcpStream::connect(http).unwrap();
    probe.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    probe.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_demo_says_that_its_answers_are_scripted() {
    let mut served = Served::start(&["--demo"]);
    let notice =
        served.process.printed.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("demo  ")));
    assert!(notice.unwrap().unwrap().contains("no model is called"));
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let listeners = ["--grpc-listen", &address, "--http-listen", "off", "--admin-listen", "off"];
    let output = pointsman(&[&["serve"], &listeners[..]].concat(), b"");
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("server.grpc_listen") && error.contains(&address), "{error}");
}

/// An HTTP/2 frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header field without indexing and without Huffman coding (RFC 7541, section 6.2.2).
fn literal_header(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        bytes.push(u8::try_from(text.len()).unwrap());
        bytes.extend(text.as_bytes());
    }
    bytes
}

#[cfg(unix)]
#[test]
fn targets_and_spend_ask_a_running_server() {
    let served = Served::start(&["--demo"]);
    let admin = served.process.admin.to_string();
    let output = pointsman(&["targets", "--admin", &admin], b"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.starts_with("target "), "{shown}");
    let row = shown.lines().find(|line| line.starts_with("gpt-6-luna ")).unwrap();
    for cell in [" simple ", " openai ", " closed "] {
        assert!(row.contains(cell), "{row}");
    }
    let output = pointsman(&["targets", "--admin", &admin, "--json"], b"");
    let targets: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(targets["targets"][0]["state"], "closed");
    let output = pointsman(&["spend", "--admin", &admin], b"");
    assert!(text(&output.stdout).starts_with("today  $0.0000 instead of"), "{}", text(&output.stdout));
    let output = pointsman(&["spend", "--admin", &admin, "--json"], b"");
    let spend: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&spend["today"]["spent_usd"], &spend["budgets"]), (&0.0.into(), &Value::Array(vec![])));

    // The listener for callers is no listener for operators.
    let output = pointsman(&["targets", "--admin", &served.process.grpc.to_string()], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("this is no admin listener"), "{}", text(&output.stderr));
}

#[test]
fn asking_where_nobody_listens_is_one_clear_error() {
    for command in ["targets", "spend"] {
        let output = pointsman(&[command, "--admin", NOBODY], b"");
        assert_eq!(output.status.code(), Some(1));
        let error = text(&output.stderr);
        assert!(error.contains(&format!("{NOBODY}: nobody listens there")), "{error}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[server]\nadmin_listen = \"off\"\n").unwrap();
    let output = pointsman(&["targets", "--config", file.path().to_str().unwrap()], b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("name a server with --admin"), "{}", text(&output.stderr));
}

#[test]
fn an_admin_listener_elsewhere_asks_who_calls() {
    let output = pointsman(&["serve", "--admin-listen", "0.0.0.0:0"], b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("give server.admin.tokens"), "{}", text(&output.stderr));
}

#[test]
fn listeners_that_others_reach_must_be_allowed() {
    for flag in ["--grpc-listen", "--http-listen"] {
        let output = pointsman(&["serve", flag, "0.0.0.0:0"], b"");
        assert_eq!(output.status.code(), Some(2));
        let error = text(&output.stderr);
        assert!(
            error.contains("proxy with authentication") && error.contains("--allow-unauthenticated"),
            "{error}"
        );
    }
}
