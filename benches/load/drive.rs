//! The clients: closed loops, open loops, and both of several kinds at once.
//!
//! Each group of clients has a thread of its own, so that one group's work does not show in
//! another's latency.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use pointsman::server::proto::{RouteRequest, router_service_client::RouterServiceClient};
use tokio::{runtime::Handle, sync::Semaphore, task::JoinSet};
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};

use crate::{
    LoadError,
    measure::{
        process::{Process, Usage},
        runtime,
    },
    report::{Report, Span},
    tally::{Kind, Tally},
    texts::Texts,
};

/// Deadline of each call.
const CALL_MAX: Duration = Duration::from_secs(10);
/// After a failed call a closed-loop client waits; else a server that is gone would be asked at
/// full speed.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(5);
/// A sleeping thread wakes up late by some 60 microseconds: the last stretch is waited awake.
const AWAKE: Duration = Duration::from_micros(150);
/// Shorter cells have no interim reports.
const INTERIM_FROM: Duration = Duration::from_secs(10);
const INTERIM_EVERY: Duration = Duration::from_secs(5);

/// What is measured together: one or more groups of clients at the same time.
#[derive(Clone)]
pub struct Cell {
    pub name: String,
    /// What the server does that others of the run do not.
    pub mark: &'static str,
    pub groups: Vec<Group>,
    pub warm_up: Duration,
    pub measure: Duration,
}

/// Clients that ask the same.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    pub ask: Ask,
    pub arrivals: Arrivals,
    pub connections: usize,
}

/// What is asked; `tokens` is the length of the classifier's texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    Fast,
    Classifier { tokens: usize },
    Cached { tokens: usize },
    Mixed { tokens: usize },
}

impl Ask {
    /// Returns the paths that this asks for.
    pub fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Fast => &[Kind::Fast],
            Self::Classifier { .. } | Self::Cached { .. } => &[Kind::Classifier],
            Self::Mixed { .. } => &[Kind::Fast, Kind::Classifier],
        }
    }

    /// Returns the length of the texts of `kind`, where it is set.
    pub fn tokens(self, kind: Kind) -> Option<usize> {
        match (self, kind) {
            (
                Self::Classifier { tokens } | Self::Cached { tokens } | Self::Mixed { tokens },
                Kind::Classifier,
            ) => Some(tokens),
            (Self::Classifier { .. } | Self::Cached { .. } | Self::Mixed { .. } | Self::Fast, _) => None,
        }
    }

    /// Returns the `turn`th text, and which path it asks for.
    fn text(self, texts: &Texts, turn: u64) -> (Kind, String) {
        match self {
            Self::Classifier { tokens } => (Kind::Classifier, texts.classifier(tokens)),
            Self::Cached { tokens } => (Kind::Classifier, texts.cached(tokens, turn)),
            Self::Mixed { tokens } if turn % 2 == 1 => (Kind::Classifier, texts.classifier(tokens)),
            Self::Fast | Self::Mixed { .. } => (Kind::Fast, texts.fast()),
        }
    }
}

/// When calls are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrivals {
    /// Each client makes its next call when it has its answer.
    Closed { clients: usize },
    /// Calls are due at a fixed rate, whatever becomes of them; a call that is due while
    /// `waiting_max` others wait is not made and counts as an error.
    Open { per_second: f64, waiting_max: usize },
}

impl Arrivals {
    /// Returns the most calls that wait at once.
    pub fn concurrency(self) -> usize {
        match self {
            Self::Closed { clients } => clients,
            Self::Open { waiting_max, .. } => waiting_max,
        }
    }
}

/// Connects once; fails when nothing answers.
pub fn probe(endpoint: &Endpoint) -> Result<(), String> {
    let connected = runtime().map_err(|error| error.to_string())?.block_on(endpoint.connect());
    connected.map(|_| ()).map_err(|error| format!("{error}; is a server running there?"))
}

/// Runs one cell and reports it.
pub fn run(
    cell: &Cell,
    endpoint: &Endpoint,
    texts: &Arc<Texts>,
    process: Option<Process>,
    report: &mut Report,
) -> Result<(), LoadError> {
    let start = Instant::now() + cell.warm_up;
    let end = start + cell.measure;
    let tallies: Vec<Arc<Tally>> = cell.groups.iter().map(|_| Arc::new(Tally::new(start))).collect();
    thread::scope(|scope| {
        let running: Vec<_> = cell
            .groups
            .iter()
            .zip(&tallies)
            .map(|(group, tally)| {
                let (texts, tally) = (Arc::clone(texts), Arc::clone(tally));
                let client = Client { ask: group.ask, texts, tally, end };
                scope.spawn(move || drive(*group, endpoint, &client))
            })
            .collect();
        sleep_until(start);
        let before = process.and_then(Process::usage);
        if cell.measure >= INTERIM_FROM {
            watch(cell, &tallies, Watched { start, process, usage: before }, report);
        }
        sleep_until(end);
        let after = process.and_then(Process::usage);
        for group in running {
            group.join().expect("a client thread does not panic")?;
        }
        report.cell(cell, &tallies, before.zip(after));
        Ok(())
    })
}

/// When a cell began, and what its server had used by then.
struct Watched {
    start: Instant,
    process: Option<Process>,
    usage: Option<Usage>,
}

/// Reports every few seconds, so that a collapse shows when it happens.
fn watch(cell: &Cell, tallies: &[Arc<Tally>], mut watched: Watched, report: &Report) {
    let mut from = Duration::ZERO;
    while from < cell.measure {
        let to = (from + INTERIM_EVERY).min(cell.measure);
        sleep_until(watched.start + to);
        let usage = watched.process.and_then(Process::usage);
        report.interim(cell, tallies, Span { from, to }, watched.usage.zip(usage));
        watched.usage = usage;
        from = to;
    }
}

/// What every client of a group holds.
#[derive(Clone)]
struct Client {
    ask: Ask,
    texts: Arc<Texts>,
    tally: Arc<Tally>,
    end: Instant,
}

/// Runs one group until its end, on this thread.
fn drive(group: Group, endpoint: &Endpoint, client: &Client) -> Result<(), LoadError> {
    let runtime = runtime().map_err(|error| LoadError::Io { what: "starting a runtime", error })?;
    runtime.block_on(async {
        let mut services = Vec::with_capacity(group.connections);
        for _ in 0..group.connections {
            let channel = endpoint.connect().await.map_err(|error| LoadError::Server {
                address: endpoint.uri().to_string(),
                why: error.to_string(),
            })?;
            services.push(RouterServiceClient::new(channel));
        }
        match group.arrivals {
            Arrivals::Closed { clients } => {
                let running: JoinSet<()> = (0..clients)
                    .map(|at| closed_loop(services[at % services.len()].clone(), client.clone()))
                    .collect();
                running.join_all().await;
            }
            Arrivals::Open { per_second, waiting_max } => {
                open_loop(services, client.clone(), per_second, waiting_max).await;
            }
        }
        Ok(())
    })
}

async fn closed_loop(mut service: RouterServiceClient<Channel>, client: Client) {
    let mut turn = 0;
    while Instant::now() < client.end {
        let (kind, text) = client.ask.text(&client.texts, turn);
        turn += 1;
        let request = request(text);
        let since = Instant::now();
        let answer = service.route(request).await;
        let failed = answer.is_err();
        client.tally.note(kind, since, answer);
        if failed {
            tokio::time::sleep(PAUSE_AFTER_ERROR).await;
        }
    }
}

/// Makes each call when it is due and counts its latency from then: a server that stalls is
/// charged for every call that came meanwhile (no coordinated omission).
async fn open_loop(
    services: Vec<RouterServiceClient<Channel>>,
    client: Client,
    per_second: f64,
    waiting_max: usize,
) {
    let places = Arc::new(Semaphore::new(waiting_max));
    let pacer_places = Arc::clone(&places);
    let handle = Handle::current();
    let begin = Instant::now();
    // The reactor's timers count milliseconds, too coarse for calls of a tenth of one.
    let pacer = tokio::task::spawn_blocking(move || {
        for turn in 0_u64.. {
            let due = begin + Duration::from_secs_f64(turn as f64 / per_second);
            if due >= client.end {
                return;
            }
            wait_awake_until(due);
            let (kind, text) = client.ask.text(&client.texts, turn);
            let Ok(place) = Arc::clone(&pacer_places).try_acquire_owned() else {
                client.tally.note_unsent(kind, due, "not made: too many calls wait");
                continue;
            };
            let mut service = services[turn as usize % services.len()].clone();
            let tally = Arc::clone(&client.tally);
            handle.spawn(async move {
                let answer = service.route(request(text)).await;
                tally.note(kind, due, answer);
                drop(place);
            });
        }
    });
    pacer.await.expect("the pacer does not panic");
    // Each call has a deadline, so every place comes free; COUNT_MAX of them fit a u32.
    let _ = places.acquire_many(waiting_max as u32).await;
}

fn request(text: String) -> Request<RouteRequest> {
    let mut request = Request::new(RouteRequest { prompt: Some(text), ..RouteRequest::default() });
    request.set_timeout(CALL_MAX);
    request
}

fn sleep_until(at: Instant) {
    thread::sleep(at.saturating_duration_since(Instant::now()));
}

fn wait_awake_until(at: Instant) {
    sleep_until(at - AWAKE);
    while Instant::now() < at {
        thread::yield_now();
    }
}
