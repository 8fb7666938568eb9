//! A server process of its own: its metrics, its log and its end belong to one test alone.

use std::{fs::File, net::SocketAddr, path::Path, process::Command};

use reqwest::Client;
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::support::{
    PATIENCE,
    program::{ServerProcess, isolate},
    until,
};

/// A server without anything in flight ends well within its drain time: longer than any test waits for its end.
const DRAIN_MS: u128 = 10 * PATIENCE.as_millis();
const IN_PROGRESS: &str = "pointsman_completions_in_progress";

/// A running server in a folder of its own.
pub struct Process {
    process: ServerProcess,
    pub http: SocketAddr,
    pub admin: String,
    pub channel: Channel,
    /// One connection pool for all callers of the test.
    pub client: Client,
    folder: TempDir,
    /// The last section of its configuration.
    server: String,
}

/// What a server leaves behind.
pub struct Left {
    pub metrics: String,
    pub log: String,
}

impl Process {
    /// Starts a server with these sections and environment variables, logging everything.
    pub async fn start(sections: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start_in(folder, sections, environment).await
    }

    /// Starts a server whose configuration lies in this folder.
    pub async fn start_in(folder: TempDir, sections: &str, environment: &[(&str, &str)]) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_pointsman"));
        Self::start_command(folder, command, sections, "", environment).await
    }

    /// As [`Self::start_in`], with more keys of its `[server]`.
    pub async fn start_with(
        folder: TempDir,
        sections: &str,
        server_keys: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_pointsman"));
        Self::start_command(folder, command, sections, server_keys, environment).await
    }

    /// Starts a server by a script for the shell, which gets the program and its arguments as its own.
    pub async fn start_by(script: &str, sections: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_pointsman")]);
        Self::start_command(tempfile::tempdir().unwrap(), command, sections, "", environment).await
    }

    async fn start_command(
        folder: TempDir,
        command: Command,
        sections: &str,
        server_keys: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let file = folder.path().join("pointsman.toml");
        let server = format!(
            "[server]\ngrpc_listen = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\n\
             admin_listen = \"127.0.0.1:0\"\ndrain_ms = {DRAIN_MS}\n{server_keys}"
        );
        std::fs::write(&file, format!("{sections}\n{server}")).unwrap();
        Self::launch(folder, server, command, environment).await
    }

    /// Starts a server with the configuration that lies in this folder.
    pub async fn start_as_written(folder: TempDir) -> Self {
        let command = Command::new(env!("CARGO_BIN_EXE_pointsman"));
        Self::launch(folder, String::new(), command, &[]).await
    }

    async fn launch(
        folder: TempDir,
        server: String,
        mut command: Command,
        environment: &[(&str, &str)],
    ) -> Self {
        let file = folder.path().join("pointsman.toml");
        let log = File::create(log_file(folder.path())).unwrap();
        isolate(&mut command, &folder.path().join("state"));
        command
            .args(["--config", file.to_str().unwrap(), "serve"])
            // Its log lies in the folder that it watches: a line about each line would never end.
            .env("RUST_LOG", "trace,notify=info")
            .env("NO_PROXY", "*")
            .envs(environment.iter().copied())
            .stderr(log);
        let process = ServerProcess::start(&mut command).unwrap_or_else(|error| {
            panic!("{error}: {}", std::fs::read_to_string(log_file(folder.path())).unwrap())
        });
        let (http, admin) = (process.http, process.admin.to_string());
        let channel =
            Channel::from_shared(format!("http://{}", process.grpc)).unwrap().connect().await.unwrap();
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .unwrap();
        Self { process, http, admin, channel, client, folder, server }
    }

    /// Returns the folder of its configuration.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Returns what it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_file(self.folder.path())).unwrap()
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Writes its configuration anew, with other sections.
    pub fn rewrite(&self, sections: &str) {
        let file = self.folder.path().join("pointsman.toml");
        std::fs::write(file, format!("{sections}\n{}", self.server)).unwrap();
    }

    /// Returns its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Returns the folder of its configuration, which outlives it.
    pub fn into_folder(mut self) -> TempDir {
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }

    /// Returns an address of the HTTP listener.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    pub async fn metrics(&self) -> String {
        self.client.get(self.url("/metrics")).send().await.unwrap().text().await.unwrap()
    }

    /// Asserts that nothing is in flight, ends the server and returns what it left.
    pub async fn stop(self) -> Left {
        self.stop_and_keep().await.0
    }

    /// As [`Self::stop`], with the folder of its configuration.
    pub async fn stop_and_keep(mut self) -> (Left, TempDir) {
        let mut metrics = String::new();
        until("all completions to have ended", async || {
            metrics = self.metrics().await;
            metric(&metrics, IN_PROGRESS, &[]) == 0.0
        })
        .await;
        self.signal("TERM");
        let mut status = None;
        until("the server to end, with nothing in flight", async || {
            status = self.process.ended();
            status.is_some()
        })
        .await;
        let log = std::fs::read_to_string(log_file(self.folder.path())).unwrap();
        assert_eq!(status.unwrap().code(), Some(0), "{log}");
        assert!(!log.contains("panicked"), "{log}");
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        (Left { metrics, log }, folder)
    }
}

fn log_file(folder: &Path) -> std::path::PathBuf {
    folder.join("log")
}

/// Returns the sum of all values of a metric that carry these labels; none is 0.
pub fn metric(metrics: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    metrics
        .lines()
        .filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        })
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}
