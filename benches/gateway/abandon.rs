//! Streams that callers give up: nothing of them may stay behind, in the server or at its upstream.
//!
//! Several equal cycles are run, and the state in between is compared. Memory needs more than two: what the
//! allocator keeps grows for some cycles and stops, while a leak takes as much in every one.

use std::{
    fs,
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    GatewayError,
    client::{Callee, Connection, Shape, next_data},
    gateways::Gateway,
    measure::{print_json, runtime, table::table},
    mock::{Mock, Script},
};

/// Slow enough that no stream ends before its caller is gone.
const SCRIPT: Script =
    Script { opening: Duration::from_millis(40), chunks: 10_000, chunk_every: Duration::from_millis(100) };
/// When the impatient callers hang up, before anything has come; the multiples of a number that shares no
/// factor with the width give each its own.
const IMPATIENT_MS: RangeInclusive<u64> = 0..=40;
/// Pieces that the patient callers read.
const PIECES_READ: usize = 4;
/// Longest that one caller waits for what it wants to see.
const CALLER_MAX: Duration = Duration::from_secs(30);
/// Until everything is still after the last caller is gone.
const QUIET_MAX: Duration = Duration::from_secs(30);
const QUIET_POLL: Duration = Duration::from_millis(50);
/// After it is still, until memory is read.
const SETTLE: Duration = Duration::from_secs(1);
/// What every cycle after the first may add to the memory: 200 bytes for each of 10,000 streams. An allocator's
/// arenas settle within five such cycles, with one or two that add nothing.
const RSS_GROWTH_MB_MAX: f64 = 2.0;
/// Open files that come and go by themselves, for example the connection that metrics are read on.
const FILES_SLACK: usize = 8;
/// Threads that come and go by themselves, of the pool for blocking work.
const THREADS_SLACK: usize = 4;
/// Idle connections that pointsman keeps to one upstream.
const POOL_MAX: usize = 256;
const IN_PROGRESS: &str = "pointsman_completions_in_progress";
/// Share of the callers that may fail for other reasons before the cycle proves nothing.
const FAILED_SHARE_MAX: f64 = 0.01;

const COLUMNS: [&str; 12] = [
    "after",
    "opened",
    "failed",
    "cancelled upstream",
    "still after ms",
    "RSS MB",
    "peak MB",
    "files",
    "threads",
    "in progress",
    "upstream answers",
    "upstream connections",
];

/// How many streams.
#[derive(Debug, Clone, Copy)]
pub struct Abandon {
    pub streams: usize,
    pub at_once: usize,
    pub cycles: usize,
}

/// What there is once everything is still, or should be.
#[derive(Debug, Clone, Serialize)]
struct State {
    after: String,
    /// Streams whose opening was seen, before this.
    opened: usize,
    failed: usize,
    cancelled_upstream: usize,
    still_after_ms: Option<u64>,
    rss_mb: f64,
    rss_peak_mb: f64,
    files: usize,
    threads: usize,
    completions_in_progress: Option<f64>,
    upstream_answers: usize,
    upstream_connections: usize,
}

/// Runs all cycles and returns what leaked, one sentence each.
pub fn run(
    mock: &Mock,
    gateway: &Gateway,
    abandon: Abandon,
    json: bool,
) -> Result<Vec<String>, GatewayError> {
    mock.play(SCRIPT);
    let runtime = runtime().map_err(|error| GatewayError::Io { what: "starting a runtime", error })?;
    let mut states = vec![runtime.block_on(settled(mock, gateway, "start".to_owned()))?];
    for cycle in 1..=abandon.cycles {
        let cancelled_before = mock.counts().abandoned.load(Ordering::Relaxed);
        let seen = runtime.block_on(cycle_of(abandon, &gateway.callee));
        let mut state = runtime.block_on(settled(mock, gateway, format!("cycle {cycle}")))?;
        state.opened = seen.opened.load(Ordering::Relaxed);
        state.failed = seen.failed.load(Ordering::Relaxed);
        state.cancelled_upstream = mock.counts().abandoned.load(Ordering::Relaxed) - cancelled_before;
        states.push(state);
    }
    if json {
        states.iter().for_each(print_json);
    } else {
        let cells: Vec<[String; COLUMNS.len()]> = states.iter().map(State::cells).collect();
        anstream::println!("{}", table(COLUMNS, &cells, &[0]));
    }
    Ok(leaks(&states, abandon))
}

/// What the callers of a cycle saw.
#[derive(Debug, Default)]
struct Seen {
    opened: AtomicUsize,
    failed: AtomicUsize,
}

/// Opens and abandons all streams of a cycle.
async fn cycle_of(abandon: Abandon, callee: &Callee) -> Arc<Seen> {
    let places = Arc::new(Semaphore::new(abandon.at_once));
    let seen = Arc::new(Seen::default());
    let mut callers = JoinSet::new();
    for turn in 0..abandon.streams {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        let (callee, seen) = (callee.clone(), Arc::clone(&seen));
        callers.spawn(async move {
            let outcome = tokio::time::timeout(CALLER_MAX, leave(turn, &callee, &seen)).await;
            if !matches!(outcome, Ok(Ok(()))) {
                seen.failed.fetch_add(1, Ordering::Relaxed);
            }
            drop(place);
        });
        while callers.try_join_next().is_some() {}
    }
    callers.join_all().await;
    seen
}

/// Opens one stream and leaves it at one of four moments, by closing the connection.
async fn leave(turn: usize, callee: &Callee, seen: &Seen) -> Result<(), String> {
    let mut connection = Connection::open(callee).await?;
    if turn.is_multiple_of(4) {
        let wait_ms = (turn as u64 / 4 * 17) % (IMPATIENT_MS.end() + 1);
        // A response that came all the same is dropped too.
        let _ = tokio::time::timeout(Duration::from_millis(wait_ms), connection.send(Shape::Stream)).await;
        return Ok(());
    }
    let mut response = connection.send(Shape::Stream).await?;
    if !response.status().is_success() {
        return Err(response.status().to_string());
    }
    seen.opened.fetch_add(1, Ordering::Relaxed);
    let pieces = match turn % 4 {
        1 => 0,
        2 => 1,
        _ => PIECES_READ,
    };
    for _ in 0..pieces {
        next_data(&mut response).await?.ok_or("the stream ended by itself")?;
    }
    Ok(())
}

/// Waits until nothing is in progress any more and returns what there is then.
async fn settled(mock: &Mock, gateway: &Gateway, after: String) -> Result<State, GatewayError> {
    let since = Instant::now();
    let still_after_ms = loop {
        let answering = mock.counts().answering.load(Ordering::Relaxed);
        let in_progress = in_progress(&gateway.callee).await?;
        if answering == 0 && in_progress.is_none_or(|count| count == 0.0) {
            break Some(since.elapsed().as_millis() as u64);
        }
        if since.elapsed() > QUIET_MAX {
            break None;
        }
        tokio::time::sleep(QUIET_POLL).await;
    };
    tokio::time::sleep(SETTLE).await;
    let gone = || GatewayError::NotReady { name: gateway.name, why: "ended by itself".to_owned() };
    let usage = gateway.usage().ok_or_else(gone)?;
    let pid = gateway.pid().ok_or_else(gone)?;
    let entries = |folder: &str| fs::read_dir(format!("/proc/{pid}/{folder}")).map_or(0, Iterator::count);
    Ok(State {
        after,
        opened: 0,
        failed: 0,
        cancelled_upstream: 0,
        still_after_ms,
        rss_mb: usage.rss_mb,
        rss_peak_mb: usage.rss_peak_mb,
        files: entries("fd"),
        threads: entries("task"),
        completions_in_progress: in_progress(&gateway.callee).await?,
        upstream_answers: mock.counts().answering.load(Ordering::Relaxed),
        upstream_connections: mock.counts().connections.load(Ordering::Relaxed),
    })
}

/// Reads how many completions the server itself believes to be in progress.
async fn in_progress(callee: &Callee) -> Result<Option<f64>, GatewayError> {
    let page = async { Connection::open(callee).await?.get("/metrics").await }.await;
    let page =
        page.map_err(|why| GatewayError::NotReady { name: "pointsman", why: format!("/metrics: {why}") })?;
    let line = page.lines().find_map(|line| line.strip_prefix(IN_PROGRESS));
    Ok(line.and_then(|value| value.trim().parse().ok()))
}

/// Returns what the cycles left behind.
fn leaks(states: &[State], abandon: Abandon) -> Vec<String> {
    let mut leaks = Vec::new();
    let [start, first, ..] = states else { return leaks };
    for state in &states[1..] {
        let State { after, failed, files, threads, upstream_answers, upstream_connections, .. } = state;
        let mut leaked = |what: String| leaks.push(format!("{after}: {what}"));
        if *failed as f64 > abandon.streams as f64 * FAILED_SHARE_MAX {
            leaked(format!("{failed} streams failed before they could be abandoned: this proves nothing"));
        }
        match state.completions_in_progress {
            None => leaked(format!("the metric {IN_PROGRESS} is missing")),
            Some(0.0) => {}
            Some(count) => leaked(format!("{count} completions are still in progress")),
        }
        if *upstream_answers > 0 {
            leaked(format!("{upstream_answers} answers are still being given upstream"));
        }
        if *upstream_connections > POOL_MAX {
            leaked(format!("{upstream_connections} upstream connections, the pool holds {POOL_MAX}"));
        }
        let files_max = start.files + upstream_connections + FILES_SLACK;
        if *files > files_max {
            leaked(format!("{files} open files where {files_max} are explained"));
        }
        if *threads > first.threads + THREADS_SLACK {
            leaked(format!("{threads} threads, {} after the first cycle", first.threads));
        }
    }
    let growth = states[1..].windows(2).map(|pair| pair[1].rss_mb - pair[0].rss_mb);
    let least_mb = growth.fold(f64::INFINITY, f64::min);
    if least_mb.is_finite() && least_mb > RSS_GROWTH_MB_MAX {
        leaks.push(format!("every cycle took at least {least_mb:.1} MB more"));
    }
    leaks
}

impl State {
    fn cells(&self) -> [String; COLUMNS.len()] {
        let or_never =
            |value: Option<u64>| value.map_or_else(|| "never".to_owned(), |value| value.to_string());
        [
            self.after.clone(),
            self.opened.to_string(),
            self.failed.to_string(),
            self.cancelled_upstream.to_string(),
            or_never(self.still_after_ms),
            format!("{:.1}", self.rss_mb),
            format!("{:.1}", self.rss_peak_mb),
            self.files.to_string(),
            self.threads.to_string(),
            self.completions_in_progress.map_or_else(|| "-".to_owned(), |count| count.to_string()),
            self.upstream_answers.to_string(),
            self.upstream_connections.to_string(),
        ]
    }
}
