//! A provider that misbehaves on order, over a real socket on loopback.
//!
//! Speaks HTTP/1.1 by hand, so that a fault is exactly the bytes that it says. Records what it was asked and whether
//! the client hung up. Never waits except where a behaviour says so.

mod behaviour;
mod tests;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::{TlsAcceptor, rustls};

use self::behaviour::{Act, End};
pub use self::behaviour::{Behaviour, usage};
use super::NOBODY;

/// Largest request head and body that are read, bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
const BODY_BYTES_MAX: usize = 64 << 20;

/// A running provider; dropping it closes it and every connection.
pub struct Upstream {
    pub address: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
    task: JoinHandle<()>,
}

/// One request, and what became of it.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    /// In their order, names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub received: Instant,
    /// When the client closed the connection before the answer was sent to its end.
    pub hung_up: Option<Instant>,
    /// Whether the answer was sent to its end, fault included.
    pub answered: bool,
}

impl Request {
    /// Returns the first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    /// Returns the body, which must be JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// Returns whether a stream was asked for.
    pub fn streams(&self) -> bool {
        self.json()["stream"] == true
    }
}

type Answer = dyn FnMut(&Request) -> Behaviour + Send;

struct State {
    answer: Mutex<Box<Answer>>,
    requests: Mutex<Vec<Request>>,
    open: AtomicUsize,
    accepted: AtomicUsize,
}

impl Upstream {
    /// Answers one request after the other; the last behaviour also answers all that follow.
    pub async fn start(behaviours: impl IntoIterator<Item = Behaviour>) -> Self {
        Self::listen(None, in_turn(behaviours)).await
    }

    /// Answers each request by a function.
    pub async fn answering(answer: impl FnMut(&Request) -> Behaviour + Send + 'static) -> Self {
        Self::listen(None, Box::new(answer)).await
    }

    /// Answers over TLS, with a certificate that nobody trusts.
    pub async fn start_tls(behaviours: impl IntoIterator<Item = Behaviour>) -> Self {
        Self::listen(Some(self_signed()), in_turn(behaviours)).await
    }

    async fn listen(tls: Option<TlsAcceptor>, answer: Box<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let state = Arc::new(State {
            answer: Mutex::new(answer),
            requests: Mutex::default(),
            open: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, tls, Arc::clone(&state)));
        Self { address, scheme, state, task }
    }

    /// Returns the address as a provider's `base_url`.
    pub fn base_url(&self) -> String {
        format!("{}://{}/v1", self.scheme, self.address)
    }

    /// Returns every request so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Returns how many connections are open.
    pub fn open_connections(&self) -> usize {
        self.state.open.load(Ordering::Acquire)
    }

    /// Returns how many connections there were.
    pub fn accepted_connections(&self) -> usize {
        self.state.accepted.load(Ordering::Acquire)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Returns a `base_url` at which nothing listens.
pub fn refused_url() -> String {
    format!("http://{NOBODY}/v1")
}

fn in_turn(behaviours: impl IntoIterator<Item = Behaviour>) -> Box<Answer> {
    let behaviours: Vec<Behaviour> = behaviours.into_iter().collect();
    assert!(!behaviours.is_empty(), "an upstream needs a behaviour");
    let mut next = 0;
    Box::new(move |_: &Request| {
        let behaviour = behaviours[next.min(behaviours.len() - 1)].clone();
        next += 1;
        behaviour
    })
}

fn self_signed() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    // Aborts every connection when the upstream is dropped.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let (state, tls) = (Arc::clone(&state), tls.clone());
        state.accepted.fetch_add(1, Ordering::AcqRel);
        state.open.fetch_add(1, Ordering::AcqRel);
        connections.spawn(async move {
            let _open = Open(&state.open);
            socket.set_nodelay(true).unwrap();
            match tls {
                None => serve(socket, &state).await,
                Some(tls) => match tls.accept(socket).await {
                    Ok(socket) => serve(socket, &state).await,
                    // The client rightly trusts nobody.
                    Err(_) => None,
                },
            };
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Counts a connection as open for as long as it lives.
struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A connection that can be ended by a reset.
trait Socket: AsyncRead + AsyncWrite + Unpin + Send {
    /// Makes closing it send RST in place of FIN.
    fn reset_at_close(&self);
}

impl Socket for TcpStream {
    fn reset_at_close(&self) {
        self.set_zero_linger().unwrap();
    }
}

impl Socket for tokio_rustls::server::TlsStream<TcpStream> {
    fn reset_at_close(&self) {
        self.get_ref().0.reset_at_close();
    }
}

/// Answers the requests of one connection, one after the other; `None` when it is over.
async fn serve(socket: impl Socket, state: &State) -> Option<()> {
    let (mut read, mut write) = tokio::io::split(socket);
    let mut unread = Vec::new();
    loop {
        let request = receive(&mut read, &mut unread).await?;
        let behaviour = (state.answer.lock().unwrap())(&request);
        let place = {
            let mut requests = state.requests.lock().unwrap();
            requests.push(request);
            requests.len() - 1
        };
        let note = |change: &dyn Fn(&mut Request)| change(&mut state.requests.lock().unwrap()[place]);
        tokio::select! {
            // A client that has the whole answer may close at once: look at the writing first.
            biased;
            sent = perform(&mut write, behaviour.acts()) => {
                if sent.is_some() {
                    note(&|request| request.answered = true);
                } else {
                    note(&|request| request.hung_up = Some(Instant::now()));
                }
                sent?;
            }
            () = gone(&mut read, &mut unread) => {
                note(&|request| request.hung_up = Some(Instant::now()));
                return None;
            }
        }
        match behaviour.end() {
            End::Clean => {}
            End::Close => return write.shutdown().await.ok(),
            End::Reset => {
                read.unsplit(write).reset_at_close();
                return None;
            }
            End::Stall => {
                gone(&mut read, &mut unread).await;
                note(&|request| request.hung_up = Some(Instant::now()));
                return None;
            }
        }
    }
}

/// Sends bytes and waits as ordered; `None` when the client is gone.
async fn perform<S: Socket>(write: &mut WriteHalf<S>, acts: Vec<Act>) -> Option<()> {
    for act in acts {
        match act {
            Act::Send(bytes) => {
                write.write_all(&bytes).await.ok()?;
                write.flush().await.ok()?;
            }
            Act::Wait(time) => tokio::time::sleep(time).await,
        }
    }
    Some(())
}

/// Resolves when the client has closed the connection; keeps what it sends before.
async fn gone<S: Socket>(read: &mut ReadHalf<S>, unread: &mut Vec<u8>) {
    let mut buffer = [0; 1024];
    while let Ok(bytes @ 1..) = read.read(&mut buffer).await {
        assert!(unread.len() + bytes <= BODY_BYTES_MAX, "a client that sends and sends");
        unread.extend_from_slice(&buffer[..bytes]);
    }
}

/// Reads one request; `None` when the connection ends before it does.
async fn receive<S: Socket>(read: &mut ReadHalf<S>, unread: &mut Vec<u8>) -> Option<Request> {
    let head_bytes = loop {
        if let Some(at) = unread.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        assert!(unread.len() <= HEAD_BYTES_MAX, "a request head of more than {HEAD_BYTES_MAX} bytes");
        more(read, unread).await?;
    };
    let head = String::from_utf8(unread[..head_bytes].to_vec()).unwrap();
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let find = |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    assert!(find("transfer-encoding").is_none(), "only bodies of a known length are read");
    let body_bytes = find("content-length").map_or(0, |length| length.parse::<usize>().unwrap());
    assert!(body_bytes <= BODY_BYTES_MAX, "a request body of {body_bytes} bytes");
    while unread.len() < head_bytes + body_bytes {
        more(read, unread).await?;
    }
    let body = unread[head_bytes..head_bytes + body_bytes].to_vec();
    unread.drain(..head_bytes + body_bytes);
    let received = Instant::now();
    Some(Request { method, path, headers, body, received, hung_up: None, answered: false })
}

async fn more<S: Socket>(read: &mut ReadHalf<S>, unread: &mut Vec<u8>) -> Option<()> {
    match read.read_buf(unread).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(()),
    }
}
