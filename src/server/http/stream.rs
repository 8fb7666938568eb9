//! The events of a streamed answer -> the bytes of a `text/event-stream` body.
//!
//! Reads an event only when the connection takes more, so a slow caller slows the upstream side down; dropping
//! the body ends the upstream call. A stream that breaks ends in an error event, never as if it were whole.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::Response,
};
use bytes::Bytes;
use futures::Stream;
use tokio::sync::mpsc;

use crate::completion::{
    answer::Piece,
    outcome::{Failure, FailureKind, StreamEvent, Summary},
};

/// Tells nginx and its like not to collect the events.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Events that are there already are sent together up to about this size.
const FRAME_BYTES: usize = 16 << 10;

/// Writes a stream's events in a caller's dialect.
pub trait Writer: Send + Unpin + 'static {
    /// Writes what a piece becomes, which may be nothing.
    fn piece(&mut self, piece: Piece, out: &mut String);
    /// Writes a clean end.
    fn finished(&mut self, summary: &Summary, out: &mut String);
    /// Writes an error. Nothing may follow it that looks like a clean end.
    fn failed(&mut self, broken: Broken<'_>, out: &mut String);
}

/// Why a stream breaks off.
#[derive(Debug, Clone, Copy)]
pub struct Broken<'a> {
    pub kind: FailureKind,
    pub message: &'a str,
    /// `None` when nobody accounts for it: the server is stopping.
    pub failure: Option<&'a Failure>,
}

/// Returns the answer that sends these events.
pub fn answer(headers: HeaderMap, events: mpsc::Receiver<StreamEvent>, writer: impl Writer) -> Response {
    let mut response = Response::new(Body::from_stream(Events { events: Some(events), writer }));
    *response.headers_mut() = headers;
    let head = response.headers_mut();
    head.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    head.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    head.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

struct Events<W> {
    /// `None` once the end was written.
    events: Option<mpsc::Receiver<StreamEvent>>,
    writer: W,
}

impl<W: Writer> Stream for Events<W> {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { events, writer } = self.get_mut();
        let mut out = String::new();
        while out.len() < FRAME_BYTES {
            let Some(receiver) = events else { break };
            match receiver.poll_recv(context) {
                Poll::Ready(Some(StreamEvent::Piece(piece))) => writer.piece(*piece, &mut out),
                Poll::Ready(Some(StreamEvent::Finished(summary))) => {
                    *events = None;
                    writer.finished(&summary, &mut out);
                }
                Poll::Ready(Some(StreamEvent::Failed(failure))) => {
                    *events = None;
                    let Failure { kind, message, .. } = &*failure;
                    writer.failed(Broken { kind: *kind, message, failure: Some(&failure) }, &mut out);
                }
                Poll::Ready(None) => {
                    *events = None;
                    let message = "the answer broke off: the server is stopping";
                    writer.failed(Broken { kind: FailureKind::BrokenOff, message, failure: None }, &mut out);
                }
                Poll::Pending if out.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready((!out.is_empty()).then(|| Ok(out.into())))
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
