//! `pointsman route --input`: JSON lines in, one JSON line each out, input order kept.
//!
//! A bad line gets an error line in its place and the others go on. Memory is bounded: a few lines
//! are in flight at once, each of bounded length.

use std::{
    fs::File,
    io::{BufRead, BufReader, IsTerminal, Read, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_stream::wrappers::ReceiverStream;

use super::CliError;
use crate::{
    live::Live,
    prompt::{Context, Draft, DraftMessage, DraftPreferences, DraftShape},
    routing::{Router, admit::admit},
};

/// Longest line, bytes: a prompt of the default limit with every byte escaped. The rest of a longer one
/// is skipped.
const LINE_BYTES_MAX: usize = 24 << 20;
/// Lines that are being decided at once: enough for every session; the queue is made to hold them.
pub const IN_FLIGHT: usize = 64;

/// One input line; other keys are ignored, so that labelled data can be read as it is.
#[derive(Debug, Deserialize)]
struct Row {
    prompt: Option<String>,
    messages: Option<Vec<RowMessage>>,
    #[serde(default)]
    context: Context,
    #[serde(default)]
    shape: DraftShape,
    #[serde(default)]
    preferences: DraftPreferences,
}

#[derive(Debug, Deserialize)]
struct RowMessage {
    role: String,
    content: Option<Content>,
}

/// A message's content as chat APIs write it: text, or parts of which the texts count.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(default)]
    text: String,
}

impl Content {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Parts(parts) => {
                let texts: Vec<String> =
                    parts.into_iter().map(|part| part.text).filter(|text| !text.is_empty()).collect();
                texts.join("\n")
            }
        }
    }
}

/// Decides for every line of `input` ("-": stdin).
pub async fn run(input: &Path, explain: bool, live: &Live) -> Result<(), CliError> {
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
            tokio::spawn(async move { answer(&router, line, explain).await })
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

/// One line as it was read.
struct Line {
    /// From 1.
    number: usize,
    bytes: Vec<u8>,
    /// Whether it was longer than [`LINE_BYTES_MAX`].
    cut: bool,
}

/// Reads lines and hands each to `take` until that declines; empty lines are left out.
fn read_lines(source: impl Read, mut take: impl FnMut(Line) -> bool) -> std::io::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 16, source);
    for number in 1.. {
        let mut bytes = Vec::new();
        let read = reader.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut bytes)?;
        if read == 0 {
            break;
        }
        let cut = bytes.len() > LINE_BYTES_MAX && bytes.last() != Some(&b'\n');
        if cut {
            bytes = Vec::new();
            reader.skip_until(b'\n')?;
        }
        let blank = !cut && bytes.iter().all(u8::is_ascii_whitespace);
        if !blank && !take(Line { number, bytes, cut }) {
            break;
        }
    }
    Ok(())
}

/// Returns the bytes read and the answer for one line: `{"id", "decision"}` or `{"id", "line", "error"}`.
async fn answer(router: &Router, line: Line, explain: bool) -> (usize, Value) {
    let (number, bytes) = (line.number, line.bytes.len());
    let failed = |id: Value, message: String| (bytes, json!({"id": id, "line": number, "error": message}));
    if line.cut {
        return failed(Value::Null, format!("line {number}: longer than {LINE_BYTES_MAX} bytes"));
    }
    let text = match std::str::from_utf8(&line.bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to() + 1;
            return failed(Value::Null, format!("line {number}: not UTF-8 at byte {at}"));
        }
    };
    let mut value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return failed(Value::Null, format!("line {number}: not JSON: {error}")),
    };
    let id = value.get_mut("id").map_or(Value::Null, Value::take);
    let row: Row = match serde_json::from_value(value) {
        Ok(row) => row,
        Err(error) => return failed(id, format!("line {number}: {error}")),
    };
    let prompt = match admit(row.into_draft(explain), router.config()) {
        Ok(prompt) => prompt,
        Err(error) => return failed(id, format!("line {number}: {error}")),
    };
    match router.route(&prompt, None).await {
        Ok(decision) => (bytes, json!({"id": id, "decision": decision})),
        Err(error) => failed(id, format!("line {number}: {error}")),
    }
}

impl Row {
    fn into_draft(self, explain: bool) -> Draft {
        Draft {
            prompt: self.prompt,
            messages: self
                .messages
                .unwrap_or_default()
                .into_iter()
                .map(|message| DraftMessage {
                    role: message.role,
                    content: message.content.map_or_else(String::new, Content::into_text),
                })
                .collect(),
            context: self.context,
            shape: self.shape,
            preferences: self.preferences,
            explain,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_numbers_and_empty_ones_are_left_out() {
        let mut got = Vec::new();
        read_lines("a\n\n  \nb\r\nc".as_bytes(), |line| {
            got.push((line.number, line.bytes));
            true
        })
        .unwrap();
        assert_eq!(got, [(1, b"a\n".to_vec()), (4, b"b\r\n".to_vec()), (5, b"c".to_vec())]);
    }

    #[test]
    fn contents_may_be_parts_or_null() {
        let row: Row = serde_json::from_value(json!({
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]},
                {"role": "assistant", "content": null},
            ],
            "label": 1,
        }))
        .unwrap();
        let draft = row.into_draft(false);
        assert_eq!(draft.messages[0].content, "a");
        assert_eq!(draft.messages[1].content, "");
    }
}
