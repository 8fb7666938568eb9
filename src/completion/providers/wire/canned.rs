//! A server for tests that answers with given bytes and remembers what it was asked.

use std::net::SocketAddr;

use futures::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::completion::{answer::Piece, attempt::ProviderError, providers::Started};

/// Answers each connection once, in the order of its replies, then refuses.
pub(in crate::completion::providers) struct Canned {
    address: SocketAddr,
    requests: mpsc::UnboundedReceiver<Seen>,
}

/// A request as it arrived.
#[derive(Debug)]
pub(in crate::completion::providers) struct Seen {
    /// Request line and headers, lowercase names as the client sent them.
    pub(in crate::completion::providers) head: String,
    pub(in crate::completion::providers) body: Vec<u8>,
}

impl Seen {
    /// Returns the body as JSON.
    pub(in crate::completion::providers) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// What follows the bytes of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::completion::providers) enum Then {
    Close,
    /// The connection stays open and silent until the client leaves.
    Stall,
}

/// One canned answer.
pub(in crate::completion::providers) struct Reply {
    bytes: Vec<u8>,
    then: Then,
}

impl Reply {
    pub(in crate::completion::providers) fn raw(bytes: impl Into<Vec<u8>>, then: Then) -> Self {
        Self { bytes: bytes.into(), then }
    }

    /// A whole answer with its length; `headers` are lines that end in CRLF.
    pub(in crate::completion::providers) fn whole(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::raw(
            format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}"),
            Then::Close,
        )
    }

    /// A JSON answer.
    pub(in crate::completion::providers) fn json(status: &str, body: &str) -> Self {
        Self::whole(status, "content-type: application/json\r\n", body)
    }

    /// A stream in one chunk, ended as it should.
    pub(in crate::completion::providers) fn events(body: &str) -> Self {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        Self::raw(format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()), Then::Close)
    }

    /// A stream whose connection then closes in the middle, or stalls.
    pub(in crate::completion::providers) fn unfinished_events(body: &str, then: Then) -> Self {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        Self::raw(format!("{head}{:x}\r\n{body}\r\n", body.len()), then)
    }
}

impl Canned {
    pub(in crate::completion::providers) async fn serve(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for reply in replies {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(socket, reply, seen.clone()));
            }
        });
        Self { address, requests }
    }

    pub(in crate::completion::providers) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the next request; waits for it.
    pub(in crate::completion::providers) async fn seen(&mut self) -> Seen {
        self.requests.recv().await.unwrap()
    }

    /// Returns whether every request that arrived was taken.
    pub(in crate::completion::providers) fn is_quiet(&mut self) -> bool {
        self.requests.try_recv().is_err()
    }
}

async fn answer(mut socket: TcpStream, reply: Reply, seen: mpsc::UnboundedSender<Seen>) {
    let Some(request) = read_request(&mut socket).await else { return };
    // The test may have ended.
    let _ = seen.send(request);
    let _ = socket.write_all(&reply.bytes).await;
    match reply.then {
        Then::Close => {}
        Then::Stall => {
            let _ = socket.read(&mut [0; 16]).await;
        }
    }
}

pub(in crate::completion::providers) async fn read_request(socket: &mut TcpStream) -> Option<Seen> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&read[..end]).into_owned();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            if read.len() >= end + 4 + length {
                return Some(Seen { head, body: read[end + 4..].to_vec() });
            }
        }
        if socket.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
}

/// Returns the pieces of a stream, and the error at its end when there was one; nothing may follow that.
pub(in crate::completion::providers) async fn collected(
    started: Started,
) -> (Vec<Piece>, Option<ProviderError>) {
    let mut pieces = Vec::new();
    let mut all = started.pieces;
    while let Some(piece) = all.next().await {
        match piece {
            Ok(piece) => pieces.push(piece),
            Err(error) => {
                assert!(all.next().await.is_none(), "something follows an error");
                return (pieces, Some(error));
            }
        }
    }
    (pieces, None)
}
