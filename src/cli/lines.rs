//! `pointsman route --input`: JSON lines in, one JSON line each out, input order kept.
//!
//! A bad line gets an error line in its place and the others go on. Memory is bounded: a few lines
//! are in flight at once, each of bounded length.

use std::{
    fs::File,
    io::{IsTerminal, Read, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio_stream::wrappers::ReceiverStream;

use super::CliError;
use crate::{
    live::Live,
    prompt::Draft,
    routing::{
        Router,
        admit::{BadRequest, admit},
        line::{Line, read_lines, take_draft, take_request},
    },
};

/// Lines that are being decided at once: enough for every session; the queue is made to hold them.
pub const IN_FLIGHT: usize = 64;

/// How lines are read.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Whether every rule that matched is listed.
    pub explain: bool,
    pub others: Others,
}

/// What becomes of keys that are no part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// Most are mistyped.
    Refused,
    /// They are labels; a `model` says who answered then, and is no wish.
    Ignored,
}

/// Decides for every line of `input` ("-": stdin).
pub async fn run(input: &Path, reading: Reading, live: &Live) -> Result<(), CliError> {
    let source: Box<dyn Read + Send> = if input == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(
            File::open(input).map_err(|error| CliError::Io { what: input.display().to_string(), error })?,
        )
    };
    let progress = progress_bar(input);
    let (sender, receiver) = tokio::sync::mpsc::channel(IN_FLIGHT);
    let reader = std::thread::spawn(move || read_lines(source, |line| sender.blocking_send(line).is_ok()));

    let router = live.router();
    let mut outcomes = ReceiverStream::new(receiver)
        .map(|line| {
            let router = Arc::clone(&router);
            // A task each: parsing and matching of one line runs beside those of another.
            tokio::spawn(async move { answer(&router, line, reading).await })
        })
        .buffered(IN_FLIGHT);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let broken = |error| CliError::Io { what: "stdout".to_owned(), error };
    let (mut all, mut failed) = (0, 0);
    loop {
        // Who writes a line and waits for its answer must get it: flush before waiting.
        let outcome = match outcomes.next().now_or_never() {
            Some(outcome) => outcome,
            None => {
                out.flush().map_err(broken)?;
                outcomes.next().await
            }
        };
        let Some(outcome) = outcome else { break };
        let (bytes, answer) = outcome.expect("a line's task neither panics nor is cancelled");
        all += 1;
        failed += usize::from(answer.get("error").is_some());
        writeln!(out, "{answer}").map_err(broken)?;
        progress.inc(bytes as u64);
    }
    out.flush().map_err(broken)?;
    progress.finish_and_clear();
    let read = reader.join().expect("the reader does not panic");
    read.map_err(|error| CliError::Io { what: input.display().to_string(), error })?;
    if failed > 0 { Err(CliError::Lines { failed, all }) } else { Ok(()) }
}

/// Returns the bytes read and the answer for one line: `{"id", "decision"}` or `{"id", "line", "error"}`.
async fn answer(router: &Router, line: Line, reading: Reading) -> (usize, Value) {
    let (number, bytes) = (line.number, line.bytes.len());
    let failed = |id: Value, message: String| (bytes, json!({"id": id, "line": number, "error": message}));
    let mut value = match line.json() {
        Ok(value) => value,
        Err(problem) => return failed(Value::Null, format!("line {number}: {problem}")),
    };
    let id = value.get_mut("id").map_or(Value::Null, Value::take);
    let Some(object) = value.as_object_mut() else {
        return failed(id, format!("line {number}: not an object"));
    };
    let taken: Result<Draft, BadRequest> = match reading.others {
        Others::Refused => take_request(object),
        Others::Ignored => take_draft(object),
    };
    let draft = match taken {
        Ok(draft) => Draft { explain: draft.explain || reading.explain, ..draft },
        Err(error) => return failed(id, format!("line {number}: {error}")),
    };
    let prompt = match admit(draft, router.config()) {
        Ok(prompt) => prompt,
        Err(error) => return failed(id, format!("line {number}: {error}")),
    };
    match router.route(&prompt, None).await {
        Ok(decision) => (bytes, json!({"id": id, "decision": decision})),
        Err(error) => failed(id, format!("line {number}: {error}")),
    }
}

/// A bar over the file's bytes, or a count for stdin; nothing when stderr is no terminal.
fn progress_bar(input: &Path) -> ProgressBar {
    if !std::io::stderr().is_terminal() || std::io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = match std::fs::metadata(input) {
        Ok(file) if file.is_file() => ProgressBar::new(file.len()).with_style(
            ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {eta} left")
                .expect("the template is a constant"),
        ),
        _ => ProgressBar::new_spinner().with_style(
            ProgressStyle::with_template("{spinner} {bytes} read, {elapsed}")
                .expect("the template is a constant"),
        ),
    };
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
