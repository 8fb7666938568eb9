//! Server processes: started and stopped, and what they spend.

use std::{
    fs, io,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use tonic::transport::Endpoint;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// Until a server that was just started says that it serves.
const READY_MAX: Duration = Duration::from_secs(30);
const READY_POLL: Duration = Duration::from_millis(5);
/// From SIGTERM to SIGKILL; the server's own grace period is 10 s.
const STOP_MAX: Duration = Duration::from_secs(15);
const STOP_POLL: Duration = Duration::from_millis(10);
/// The unit of times in /proc, the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("{program}: {error}")]
    Spawn { program: String, error: io::Error },
    #[error("the spawned server {0}")]
    NotReady(String),
    #[error("starting a runtime: {0}")]
    Runtime(io::Error),
}

/// A server of our own; dropping it stops it.
pub struct SpawnedServer {
    child: Child,
    started: Instant,
}

impl SpawnedServer {
    /// Starts a server; where its output goes is the command's to say.
    pub fn start(command: &mut Command) -> Result<Self, ProcessError> {
        let started = Instant::now();
        let child = command.stdin(Stdio::null()).spawn().map_err(|error| ProcessError::Spawn {
            program: command.get_program().to_string_lossy().into_owned(),
            error,
        })?;
        Ok(Self { child, started })
    }

    /// Starts a server that prints its addresses, one a line after a label, and returns once it has printed
    /// one for each of the labels; the addresses are in the order of the labels.
    pub fn start_announcing<const LABELS: usize>(
        command: &mut Command,
        labels: [&'static str; LABELS],
    ) -> Result<(Self, [String; LABELS]), ProcessError> {
        let mut server = Self::start(command.stdout(Stdio::piped()))?;
        let stdout = server.child.stdout.take().expect("stdout is piped");
        let (sender, announced) = mpsc::channel();
        // Reads to the end, so that the server never waits for a full pipe.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                for (at, label) in labels.iter().enumerate() {
                    if let Some(address) = line.strip_prefix(label) {
                        let _ = sender.send((at, address.trim().to_owned()));
                    }
                }
            }
        });
        let mut addresses = [const { String::new() }; LABELS];
        while let Some(missing) = addresses.iter().position(String::is_empty) {
            let (at, address) = announced.recv_timeout(READY_MAX).map_err(|_| {
                ProcessError::NotReady(format!("ended or printed no {} address", labels[missing]))
            })?;
            addresses[at] = address;
        }
        Ok((server, addresses))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the server's health check says SERVING; returns the time since its start.
    pub fn wait_until_serving(&self, endpoint: &Endpoint) -> Result<Duration, ProcessError> {
        super::runtime().map_err(ProcessError::Runtime)?.block_on(async {
            let mut last = "no answer".to_owned();
            while self.started.elapsed() < READY_MAX {
                match status(endpoint).await {
                    Ok(ServingStatus::Serving) => return Ok(self.started.elapsed()),
                    Ok(status) => last = status.as_str_name().to_owned(),
                    Err(why) => last = why,
                }
                tokio::time::sleep(READY_POLL).await;
            }
            Err(ProcessError::NotReady(format!("is not ready after {} s: {last}", READY_MAX.as_secs())))
        })
    }
}

async fn status(endpoint: &Endpoint) -> Result<ServingStatus, String> {
    let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
    let request = HealthCheckRequest { service: pointsman::server::ROUTER_SERVICE.to_owned() };
    let answer = HealthClient::new(channel).check(request).await.map_err(|error| error.to_string())?;
    Ok(answer.into_inner().status())
}

impl Drop for SpawnedServer {
    fn drop(&mut self) {
        // The shell's own kill: the standard library sends no other signal than SIGKILL.
        let _ = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", self.pid())).status();
        let asked = Instant::now();
        while asked.elapsed() < STOP_MAX {
            if let Ok(Some(_)) | Err(_) = self.child.try_wait() {
                return;
            }
            thread::sleep(STOP_POLL);
        }
        anstream::eprintln!("the server did not stop within {} s of SIGTERM", STOP_MAX.as_secs());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process whose use of the machine is read, by its id.
#[derive(Debug, Clone, Copy)]
pub struct Process(pub u32);

/// What a process has used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Of all threads, in user and kernel, since its start.
    pub cpu_ms: f64,
    /// Resident now.
    pub rss_mb: f64,
    /// The most that was ever resident.
    pub rss_peak_mb: f64,
}

impl Process {
    /// Returns the usage so far, `None` where there is no /proc or no such process.
    pub fn usage(self) -> Option<Usage> {
        let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", self.0)).ok();
        let status = read("status")?;
        let megabytes = |key: &str| -> Option<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            Some(line.trim_end_matches("kB").trim().parse::<f64>().ok()? * 1024.0 / 1e6)
        };
        Some(Usage {
            cpu_ms: cpu_ms(&read("stat")?)?,
            rss_mb: megabytes("VmRSS:")?,
            rss_peak_mb: megabytes("VmHWM:")?,
        })
    }
}

/// Reads user and system time; the name before them is in brackets and may hold anything.
fn cpu_ms(stat: &str) -> Option<f64> {
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND * 1000.0)
}
