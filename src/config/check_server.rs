//! The section on listeners: who can reach them, and how much they take.

use std::{net::SocketAddr, path::Path, time::Duration};

use super::{ServerConfig, check::within, check_admin::check_admin, file::ServerFile, read::SourceText};

// Loopback: nothing is reachable from outside until the operator says so.
const GRPC_LISTEN: &str = "127.0.0.1:50051";
const HTTP_LISTEN: &str = "127.0.0.1:8080";
const ADMIN_LISTEN: &str = "127.0.0.1:50052";
// Kubernetes kills after 30 s; this leaves room for a second signal.
const DRAIN_MS: u64 = 10_000;
// Above prompt_bytes_max, so that a prompt that is too long gets an error that names it.
const MESSAGE_BYTES_MAX: u64 = 16 << 20;
/// Longest name of a host.
const HOST_BYTES_MAX: usize = 253;

/// What it means to listen where others can reach it.
pub const NEEDS_ALLOWING: &str = "can be reached from other machines, and asks nobody who he is: whoever reaches it \
    spends on your keys. Put a proxy with authentication in front, and then allow it with \
    server.allow_unauthenticated = true";

/// Returns the section, or `None` when `source` has noted problems that leave none.
pub fn check_server(
    file: &ServerFile,
    folder: Option<&Path>,
    source: &mut SourceText<'_>,
) -> Option<ServerConfig> {
    let allow_unauthenticated = file.allow_unauthenticated.unwrap_or(false);
    let grpc_listen =
        address(file.grpc_listen.as_deref().unwrap_or(GRPC_LISTEN), "server.grpc_listen", source);
    let http_listen =
        or_off(file.http_listen.as_deref().unwrap_or(HTTP_LISTEN), "server.http_listen", source);
    for (listen, path) in [(grpc_listen, "server.grpc_listen"), (http_listen, "server.http_listen")] {
        if listen.is_some_and(|address| !address.ip().is_loopback()) && !allow_unauthenticated {
            source.problem(path, NEEDS_ALLOWING);
        }
    }
    let admin_listen =
        or_off(file.admin_listen.as_deref().unwrap_or(ADMIN_LISTEN), "server.admin_listen", source);
    let admin = check_admin(&file.admin, folder, source);
    if let Some(refusal) = admin_listen.and_then(|address| admin.refusal(address)) {
        source.problem("server.admin_listen", refusal);
    }
    let drain = within(file.drain_ms, DRAIN_MS, 0..=3_600_000, "server.drain_ms", source);
    let bytes =
        within(file.message_bytes_max, MESSAGE_BYTES_MAX, 1024..=1 << 30, "server.message_bytes_max", source);
    Some(ServerConfig {
        hosts: hosts(&file.hosts, source),
        allow_unauthenticated,
        grpc_listen: grpc_listen?,
        http_listen,
        admin_listen,
        admin,
        watch: file.watch.unwrap_or(true),
        drain: Duration::from_millis(drain),
        message_bytes_max: bytes as usize,
    })
}

fn or_off(text: &str, path: &str, source: &mut SourceText<'_>) -> Option<SocketAddr> {
    if text == "off" { None } else { address(text, path, source) }
}

fn address(text: &str, path: &str, source: &mut SourceText<'_>) -> Option<SocketAddr> {
    let parsed = text.parse().ok();
    if parsed.is_none() {
        source.problem(path, format!("{text:?} is not an address such as 127.0.0.1:50051"));
    }
    parsed
}

/// Returns the names in lower case.
fn hosts(written: &[String], source: &mut SourceText<'_>) -> Vec<String> {
    for (at, host) in written.iter().enumerate() {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if host.is_empty() || host.len() > HOST_BYTES_MAX || !host.bytes().all(is_plain) {
            source.problem(
                format!("server.hosts[{at}]"),
                format!(
                    "{host:?} is no name of a host, without scheme and port, such as \"gateway.internal\""
                ),
            );
        }
    }
    written.iter().map(|host| host.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::read::read_text;

    #[track_caller]
    fn check(keys: &str, expected: &[&str]) {
        let got: Vec<String> = match read_text(&format!("[server]\n{keys}")) {
            Ok(_) => Vec::new(),
            Err(error) => error.problems.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(got.len(), expected.len(), "{keys}: {got:?}");
        for (got, expected) in got.iter().zip(expected) {
            assert!(got.starts_with(expected), "{got}");
        }
    }

    #[test]
    fn what_others_can_reach_must_be_allowed() {
        check("", &[]);
        check("http_listen = \"[::1]:8080\"\ngrpc_listen = \"127.8.0.1:1\"", &[]);
        check(
            "http_listen = \"0.0.0.0:8080\"",
            &["line 2: server.http_listen: can be reached from other machines"],
        );
        check(
            "grpc_listen = \"[::]:50051\"",
            &["line 2: server.grpc_listen: can be reached from other machines"],
        );
        let both = "http_listen = \"0.0.0.0:8080\"\ngrpc_listen = \"10.0.0.1:50051\"\n";
        check(&format!("{both}allow_unauthenticated = true"), &[]);
        check(both, &["line 2: server.http_listen", "line 3: server.grpc_listen"]);
    }

    #[test]
    fn hosts_are_names_alone() {
        check("hosts = [\"Gateway.internal\", \"host.docker.internal\"]", &[]);
        check("hosts = [\"gateway:8080\"]", &["line 2: server.hosts[0]: \"gateway:8080\" is no name"]);
        check("hosts = [\"a\", \"http://b\"]", &["line 2: server.hosts[1]"]);
        let config = read_text("[server]\nhosts = [\"Gateway.internal\"]").unwrap();
        assert_eq!(config.server.hosts, ["gateway.internal"]);
    }
}
