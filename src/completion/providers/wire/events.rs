//! Server-sent events with bounds: a long line is refused before it is held whole, a bad one is never skipped.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use sse_stream::SseByteStream;

use super::{Response, errors, failed_with};
use crate::completion::attempt::{ErrorKind, ProviderError};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// The `event` field, where there is one.
    pub(crate) event: Option<String>,
    pub(crate) data: String,
}

/// Events until the body ends; nothing follows an error.
pub(crate) type Events = BoxStream<'static, Result<Event, ProviderError>>;

/// Returns the events of a stream. An unfinished event at the end of the body is left out, as the standard
/// says: whether the answer is whole, the protocol above has to tell.
pub(in crate::completion::providers) fn read_events(
    response: Response,
    line_bytes_max: usize,
    answer_bytes_max: usize,
) -> Result<Events, ProviderError> {
    response.expect(response.is("text/event-stream"), "text/event-stream")?;
    let status = response.inner.status().as_u16();
    let chunks =
        response.inner.bytes_stream().map(move |chunk| chunk.map_err(|error| errors::cut(&error, status)));
    Ok(events(chunks.boxed(), LineGuard::new(line_bytes_max, answer_bytes_max)))
}

/// The most that is read after the last event, bytes: an end of the body is nothing, or a comment.
const REST_BYTES_MAX: usize = 4 << 10;
/// Longest wait for the body's end.
const REST_WAIT: Duration = Duration::from_millis(100);

/// Reads a body whose last event came to its end, beside whatever goes on: a connection that is left before that
/// cannot be used again.
pub(in crate::completion::providers) fn read_out(mut events: Events) {
    tokio::spawn(tokio::time::timeout(REST_WAIT, async move {
        let mut read = 0;
        while let Some(Ok(event)) = events.next().await {
            read += event.data.len();
            if read > REST_BYTES_MAX {
                break;
            }
        }
    }));
}

/// Returns the events in these chunks of bytes.
pub(super) fn events(
    chunks: BoxStream<'static, Result<Bytes, ProviderError>>,
    mut guard: LineGuard,
) -> Events {
    let guarded = chunks.map(move |chunk| {
        let chunk = chunk?;
        guard.admit(&chunk)?;
        Ok::<_, ProviderError>(chunk)
    });
    SseByteStream::new(guarded.boxed())
        .filter_map(|event| async move {
            match event {
                Ok(event) => event.data.map(|data| Ok(Event { event: event.event, data })),
                Err(error) => Some(Err(failed_event(error))),
            }
        })
        .boxed()
}

fn failed_event(error: sse_stream::Error) -> ProviderError {
    let malformed = |message: &str| failed_with(ErrorKind::Malformed, Some(200), message);
    match error {
        sse_stream::Error::Body(inner) => match inner.downcast::<ProviderError>() {
            Ok(error) => *error,
            Err(_) => failed_with(ErrorKind::Cut, Some(200), "the connection ended before the answer did"),
        },
        sse_stream::Error::Utf8Parse(_) => malformed("a line of the stream is not UTF-8"),
        _ => malformed("a line of the stream is no event"),
    }
}

/// May stand before the first line.
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
/// The mark and the longest field name, `event` or `retry`.
const FIELD_BYTES_MAX: usize = 8;

/// Follows lines across chunks and refuses what the parser would hold or skip: lines, or events of many lines,
/// above the limit, bodies above theirs, and lines that are no field of an event. The standard ignores those,
/// but an answer that lost a line must not look whole.
#[derive(Debug)]
pub(super) struct LineGuard {
    line_bytes_max: usize,
    answer_bytes_max: usize,
    line_bytes: usize,
    /// Earlier lines of the event, which the parser holds; comments are not held.
    event_bytes: usize,
    answer_bytes: usize,
    /// The line's first bytes.
    start: [u8; FIELD_BYTES_MAX],
    field: Field,
    is_first: bool,
}

/// What is known of the line's field name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    /// This many bytes of it were seen.
    Open(usize),
    Known,
}

impl LineGuard {
    pub(super) fn new(line_bytes_max: usize, answer_bytes_max: usize) -> Self {
        Self {
            line_bytes_max,
            answer_bytes_max,
            line_bytes: 0,
            event_bytes: 0,
            answer_bytes: 0,
            start: [0; FIELD_BYTES_MAX],
            field: Field::Open(0),
            is_first: true,
        }
    }

    pub(super) fn admit(&mut self, chunk: &[u8]) -> Result<(), ProviderError> {
        self.answer_bytes += chunk.len();
        if self.answer_bytes > self.answer_bytes_max {
            let message = format!("the stream is larger than {} bytes", self.answer_bytes_max);
            return Err(failed_with(ErrorKind::TooLarge, Some(200), &message));
        }
        let mut rest = chunk;
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let part = &rest[..end.unwrap_or(rest.len())];
            self.extend(part)?;
            let Some(end) = end else { break };
            self.finish()?;
            rest = &rest[end + 1..];
        }
        Ok(())
    }

    fn extend(&mut self, part: &[u8]) -> Result<(), ProviderError> {
        self.line_bytes += part.len();
        if self.event_bytes + self.line_bytes > self.line_bytes_max {
            let message = format!(
                "a line of the stream is longer than {} bytes (completion.line_bytes_max)",
                self.line_bytes_max
            );
            return Err(failed_with(ErrorKind::TooLarge, Some(200), &message));
        }
        for byte in part {
            let Field::Open(seen) = self.field else { break };
            if *byte == b':' {
                if seen == 0 {
                    self.start[0] = b':';
                }
                self.name(seen)?;
            } else if seen == FIELD_BYTES_MAX {
                return Err(unknown_field());
            } else {
                self.start[seen] = *byte;
                self.field = Field::Open(seen + 1);
            }
        }
        Ok(())
    }

    /// Ends a line; one without a colon is a field name alone, an empty one ends an event.
    fn finish(&mut self) -> Result<(), ProviderError> {
        if let Field::Open(seen) = self.field {
            self.name(seen)?;
        }
        match (self.line_bytes, self.start[0]) {
            (0, _) => self.event_bytes = 0,
            (_, b':') => {}
            (bytes, _) => self.event_bytes += bytes,
        }
        self.line_bytes = 0;
        self.field = Field::Open(0);
        self.is_first = false;
        Ok(())
    }

    /// An empty name is a comment.
    fn name(&mut self, seen: usize) -> Result<(), ProviderError> {
        self.field = Field::Known;
        let name = &self.start[..seen];
        let name = name.strip_prefix(&BYTE_ORDER_MARK).filter(|_| self.is_first).unwrap_or(name);
        match name {
            b"" | b"data" | b"event" | b"id" | b"retry" => Ok(()),
            _ => Err(unknown_field()),
        }
    }
}

fn unknown_field() -> ProviderError {
    failed_with(ErrorKind::Malformed, Some(200), "a line of the stream is no field of an event")
}
