//! The upstream: answers in OpenAI's shape as soon as its script says, and counts what is open.
//!
//! Runs on a thread of its own and looks at nothing of a request but whether it asks for a stream.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};

use crate::{mark, measure, pauses::Pauses};

/// Longest request that is read, bytes; a bench sends far less.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// The text of one answer. It is more than a gateway may hold back of a stream to check it.
const GREETING: &str = "Hello! It is good to hear from you. How can I help you today?";
/// Words that a stream goes on with, picked so that no stretch of them repeats.
const WORDS: [&str; 16] = [
    "river", "garden", "letter", "number", "station", "window", "market", "teacher", "history", "music",
    "bridge", "castle", "island", "weather", "morning", "project",
];
/// Different pieces of a stream.
const PIECES: usize = 512;

/// How answers are given.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    /// Mean time until an answer or its first piece; each takes between half of it and half as much again.
    pub opening: Duration,
    /// Pieces of a stream, at least two.
    pub chunks: usize,
    /// Between two pieces.
    pub chunk_every: Duration,
}

/// What the upstream has seen.
#[derive(Debug, Default)]
pub struct Counts {
    pub requests: AtomicUsize,
    /// Connections that are open now.
    pub connections: AtomicUsize,
    /// Answers that are being given now.
    pub answering: AtomicUsize,
    /// Answers that nobody wanted to the end.
    pub abandoned: AtomicUsize,
}

/// The running upstream; its thread ends with the process.
pub struct Mock {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    counts: Counts,
    script: Mutex<Script>,
    pauses: Pauses,
    pieces: Vec<Bytes>,
}

impl Mock {
    /// Starts on a free port of this machine.
    pub fn start(script: Script) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let pieces = (0..PIECES as u32).map(|at| piece(&format!(" {}", word(at)))).collect();
        let shared = Arc::new(Shared {
            counts: Counts::default(),
            script: Mutex::new(script),
            pauses: Pauses::start()?,
            pieces,
        });
        let (runtime, serving) = (measure::runtime()?, Arc::clone(&shared));
        thread::Builder::new()
            .name("upstream".to_owned())
            .spawn(move || runtime.block_on(serve(listener, serving)))?;
        Ok(Self { address, shared })
    }

    /// Answers from now on like this.
    pub fn play(&self, script: Script) {
        *self.shared.script() = script;
    }

    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }
}

impl Shared {
    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("nobody panics while it is held")
    }
}

async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("the listener is bound and does not block");
    loop {
        // Out of files or a caller gone before it was accepted: the bench sees that at its own end.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        tokio::spawn(connection(stream, Arc::clone(&shared)));
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let _open = Open::new(Arc::clone(&shared), |counts| &counts.connections);
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| answer(request, Arc::clone(&shared)));
    // A connection that ends amid an answer is what some of the cells are about.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Counts something as open until it is dropped.
struct Open {
    shared: Arc<Shared>,
    which: fn(&Counts) -> &AtomicUsize,
}

impl Open {
    fn new(shared: Arc<Shared>, which: fn(&Counts) -> &AtomicUsize) -> Self {
        which(&shared.counts).fetch_add(1, Ordering::Relaxed);
        Self { shared, which }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        (self.which)(&self.shared.counts).fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer in progress; counts as abandoned unless it is finished.
struct Answering {
    open: Open,
    finished: bool,
}

impl Drop for Answering {
    fn drop(&mut self) {
        if !self.finished {
            self.open.shared.counts.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// All that is read of a request.
#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    stream: bool,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, Infallible> {
    let body = http_body_util::Limited::new(request.into_body(), REQUEST_BYTES_MAX).collect().await;
    let arrived = Instant::now();
    let Some(asked) = body.ok().and_then(|body| serde_json::from_slice::<Asked>(&body.to_bytes()).ok())
    else {
        return Ok(response(StatusCode::BAD_REQUEST, "application/json", full("{}".into())));
    };
    let turn = shared.counts.requests.fetch_add(1, Ordering::Relaxed);
    let script = *shared.script();
    let mut answering =
        Answering { open: Open::new(Arc::clone(&shared), |counts| &counts.answering), finished: false };
    shared.pauses.wait(varied(script.opening, turn)).await;
    if !asked.stream {
        answering.finished = true;
        let text = format!("{GREETING} {}", mark::write(arrived.elapsed()));
        return Ok(response(StatusCode::OK, "application/json", full(whole(&text).into())));
    }
    let pieces = stream::unfold(Streaming { answering, script, arrived, at: 0 }, Streaming::next);
    Ok(response(StatusCode::OK, "text/event-stream", StreamBody::new(pieces).boxed_unsync()))
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).boxed_unsync()
}

fn response(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Returns between half the time and half as much again, spread evenly over the turns: the multiples of the
/// golden ratio leave no gap and repeat nothing.
fn varied(time: Duration, turn: usize) -> Duration {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    time.mul_f64(0.5 + (turn as f64 * GOLDEN).fract())
}

/// A stream under way.
struct Streaming {
    answering: Answering,
    script: Script,
    arrived: Instant,
    at: usize,
}

impl Streaming {
    async fn next(mut self) -> Option<(Result<Frame<Bytes>, Infallible>, Self)> {
        let shared = &self.answering.open.shared;
        let last = self.script.chunks - 1;
        let bytes = match self.at {
            0 => {
                let text = format!("{GREETING} {}", mark::write(self.arrived.elapsed()));
                piece(&text)
            }
            at if at <= last => {
                shared.pauses.wait(self.script.chunk_every).await;
                if at < last {
                    shared.pieces[at % PIECES].clone()
                } else {
                    let mut bytes = piece(&format!(" {}", mark::write(self.arrived.elapsed()))).to_vec();
                    bytes.extend_from_slice(END.as_bytes());
                    self.answering.finished = true;
                    bytes.into()
                }
            }
            _ => return None,
        };
        self.at += 1;
        Some((Ok(Frame::data(bytes)), self))
    }
}

/// What follows the text: why it ended, what it used, and that nothing follows.
const END: &str = concat!(
    r#"data: {"id":"chatcmpl-mock","object":"chat.completion.chunk","created":1780000000,"model":"mock","#,
    r#""choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
    "\n\n",
    r#"data: {"id":"chatcmpl-mock","object":"chat.completion.chunk","created":1780000000,"model":"mock","#,
    r#""choices":[],"usage":{"prompt_tokens":9,"completion_tokens":24,"total_tokens":33}}"#,
    "\n\ndata: [DONE]\n\n"
);

/// Returns a word of a sequence without visible order, after the finaliser of MurmurHash3.
fn word(at: u32) -> &'static str {
    let mixed = (at ^ 0x9E37_79B9).wrapping_mul(0x85EB_CA6B);
    let mixed = (mixed ^ (mixed >> 13)).wrapping_mul(0xC2B2_AE35);
    WORDS[(mixed ^ (mixed >> 16)) as usize % WORDS.len()]
}

fn piece(text: &str) -> Bytes {
    format!(
        concat!(
            r#"data: {{"id":"chatcmpl-mock","object":"chat.completion.chunk","created":1780000000,"model":"mock","#,
            r#""choices":[{{"index":0,"delta":{{"role":"assistant","content":"{}"}},"finish_reason":null}}]}}"#,
            "\n\n"
        ),
        text
    )
    .into()
}

fn whole(text: &str) -> String {
    format!(
        concat!(
            r#"{{"id":"chatcmpl-mock","object":"chat.completion","created":1780000000,"model":"mock","choices":"#,
            r#"[{{"index":0,"message":{{"role":"assistant","content":"{}"}},"finish_reason":"stop"}}],"#,
            r#""usage":{{"prompt_tokens":9,"completion_tokens":24,"total_tokens":33}}}}"#
        ),
        text
    )
}
