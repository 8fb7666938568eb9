//! One caller: a connection of its own and one call at a time on it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, Request, Response,
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinHandle};

use crate::mark;

/// Longest that one call may take.
const CALL_MAX: Duration = Duration::from_secs(60);
/// Longest answer read, bytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Characters of an unexpected answer that are shown.
const SHOWN_CHARS: usize = 160;
const PATH: &str = "/v1/chat/completions";
/// What pointsman says of its own time.
const CLAIMED: &str = "x-pointsman-overhead-ms";
/// A greeting: one of the default rules decides it.
const WHOLE: &str =
    r#"{"model":"auto","max_tokens":256,"messages":[{"role":"user","content":"hello there!"}]}"#;
const STREAM: &str = r#"{"model":"auto","max_tokens":256,"messages":[{"role":"user","content":"hello there!"}],"stream":true,"stream_options":{"include_usage":true}}"#;

/// Who is called, and what every call of it bears.
#[derive(Debug, Clone)]
pub struct Callee {
    pub address: SocketAddr,
    pub headers: HeaderMap,
}

impl Callee {
    pub fn new(address: SocketAddr) -> Self {
        let mut headers = HeaderMap::new();
        let host = HeaderValue::from_str(&address.to_string()).expect("an address is ASCII");
        headers.insert(HOST, host);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // Some gateways hand on the caller's key; the upstream looks at none.
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer none"));
        Self { address, headers }
    }
}

/// Which answer is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Whole,
    Stream,
}

/// From the call to something, and how much of that the upstream took.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    pub latency: Duration,
    pub held: Duration,
}

/// What one call took.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// To the end of the answer.
    pub whole: Timing,
    /// To the first text of a stream.
    pub first: Option<Timing>,
    /// What the gateway says that it took.
    pub claimed: Option<Duration>,
}

/// A connection; dropping it closes it at once, whatever is under way.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    running: JoinHandle<()>,
    headers: HeaderMap,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Connection {
    pub async fn open(callee: &Callee) -> Result<Self, String> {
        let opening = async {
            let stream = TcpStream::connect(callee.address).await.map_err(|error| error.to_string())?;
            stream.set_nodelay(true).map_err(|error| error.to_string())?;
            handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())
        };
        let (sender, connection) = in_time(opening).await?;
        let running = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { sender, running, headers: callee.headers.clone() })
    }

    /// Makes one call and reads its answer to the end.
    pub async fn call(&mut self, shape: Shape) -> Result<Seen, String> {
        in_time(self.call_unbounded(shape)).await
    }

    async fn call_unbounded(&mut self, shape: Shape) -> Result<Seen, String> {
        let since = Instant::now();
        let mut response = self.send(shape).await?;
        let claimed = claimed(response.headers());
        let mut answer = Vec::new();
        let mut first = None;
        while let Some(data) = next_data(&mut response).await? {
            answer.extend_from_slice(&data);
            if answer.len() > ANSWER_BYTES_MAX {
                return Err(format!("an answer of more than {ANSWER_BYTES_MAX} bytes"));
            }
            if shape == Shape::Stream && first.is_none() {
                first = mark::first(&answer).map(|held| Timing { latency: since.elapsed(), held });
            }
        }
        let latency = since.elapsed();
        if !response.status().is_success() {
            return Err(format!("{}: {}", response.status(), shown(&answer)));
        }
        // A stream's last mark stands in its last piece: one that was cut shows only the first.
        let ended = shape == Shape::Whole || contains(&answer, b"[DONE]");
        let held = mark::last(&answer).filter(|_| ended);
        let held = held.ok_or_else(|| format!("not the upstream's answer: {}", shown(&answer)))?;
        Ok(Seen { whole: Timing { latency, held }, first, claimed })
    }

    /// Makes one call and returns its answer as soon as it opens.
    pub async fn send(&mut self, shape: Shape) -> Result<Response<Incoming>, String> {
        let body = Bytes::from_static(match shape {
            Shape::Whole => WHOLE.as_bytes(),
            Shape::Stream => STREAM.as_bytes(),
        });
        self.request(Method::POST, PATH, body).await
    }

    /// Reads a page, for example of metrics.
    pub async fn get(&mut self, path: &str) -> Result<String, String> {
        in_time(async {
            let response = self.request(Method::GET, path, Bytes::new()).await?;
            let body = http_body_util::Limited::new(response.into_body(), ANSWER_BYTES_MAX);
            let body = body.collect().await.map_err(|error| error.to_string())?.aggregate();
            std::io::read_to_string(body.reader()).map_err(|error| error.to_string())
        })
        .await
    }

    async fn request(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, String> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("the paths of this bench are valid");
        *request.headers_mut() = self.headers.clone();
        self.sender.ready().await.map_err(|error| error.to_string())?;
        self.sender.send_request(request).await.map_err(|error| error.to_string())
    }
}

/// Returns the next bytes of an answer, `None` at its end.
pub async fn next_data(response: &mut Response<Incoming>) -> Result<Option<Bytes>, String> {
    while let Some(frame) = response.body_mut().frame().await {
        if let Ok(data) = frame.map_err(|error| error.to_string())?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

async fn in_time<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let timeout = tokio::time::timeout(CALL_MAX, work);
    timeout.await.unwrap_or_else(|_| Err(format!("no answer within {} s", CALL_MAX.as_secs())))
}

fn claimed(headers: &HeaderMap) -> Option<Duration> {
    let ms: f64 = headers.get(CLAIMED)?.to_str().ok()?.parse().ok()?;
    Duration::try_from_secs_f64(ms / 1000.0).ok()
}

fn contains(answer: &[u8], what: &[u8]) -> bool {
    answer.windows(what.len()).any(|window| window == what)
}

fn shown(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let text: String = text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect();
    if text.is_empty() { "nothing".to_owned() } else { text }
}
