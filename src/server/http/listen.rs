//! Connections: accepted, served and ended; over HTTP/1.1, or HTTP/2 where the client begins with it.
//!
//! Every connection is bounded: in idle time, in the time a peer may leave what is sent to it unread, and in
//! number. Knows nothing of what is served.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, Sleep, interval_at, sleep},
};
use tower::Layer;

use crate::server::in_flight::InFlight;

/// Connections at once; more wait in the kernel's queue until one ends.
const CONNECTIONS_MAX: usize = 20_000;
/// Longest time that a connection may be open without a request, and a request's head may take. Longer than
/// the 60 s of common clients and balancers: a connection is best ended by the side that would use it next.
const IDLE_MAX: Duration = Duration::from_secs(90);
/// As for gRPC: requests that one HTTP/2 connection may have open.
const STREAMS_MAX: u32 = 1024;
/// Dead peers of HTTP/2 connections are noticed by then.
const PING_EVERY: Duration = Duration::from_secs(30);
/// Pause after an accept failed, for example for want of file descriptors: it fails again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What connections are served with.
#[derive(Clone)]
pub struct Service {
    pub app: Router,
    pub in_flight: InFlight,
    /// Returns the longest time that a peer may leave what is sent to it unread. Asked when a write begins to wait, so
    /// that a reload holds for connections that are open already.
    pub write_stall: WriteStall,
}

/// A limit that may change while connections are open.
pub type WriteStall = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Serves until told to stop, then until every connection has ended. Dropping the future ends them all.
pub async fn serve(listener: TcpListener, service: Service, mut stopped: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stopped.wait_for(|&stopped| stopped) => break,
            Some(ended) = connections.join_next() => {
                log_panic(ended);
                continue;
            }
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Ok((stream, permit)) => {
                let (service, stopped) = (service.clone(), stopped.clone());
                connections.spawn(async move {
                    connection(stream, service, stopped).await;
                    drop(permit);
                });
            }
            // Its peer was quicker to leave than we to come.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "HTTP connection not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        log_panic(ended);
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "HTTP connection ended by a defect");
    }
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Else small events wait for the peer's delayed acknowledgement, some 40 ms each.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "HTTP connection without TCP_NODELAY");
    }
    Ok((stream, permit))
}

/// Serves one connection to its end. What goes wrong with it is the peer's doing and of no interest here.
async fn connection(stream: TcpStream, service: Service, mut stopped: watch::Receiver<bool>) {
    let Service { app, in_flight, write_stall } = service;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY);
    let here = InFlight::default();
    let app = TowerToHyperService::new(here.layer(in_flight.layer(app)));
    let io = TokioIo::new(Unstalled::new(stream, write_stall));
    let mut serving = std::pin::pin!(builder.serve_connection(io, app));
    let mut ticks = interval_at(Instant::now() + IDLE_MAX, IDLE_MAX);
    let (mut begun, mut idle_ticks, mut stopping) = (0, 0, false);
    loop {
        tokio::select! {
            _ = serving.as_mut() => break,
            _ = stopped.wait_for(|&stopped| stopped), if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
            _ = ticks.tick() => {
                idle_ticks = if here.count() == 0 && here.begun() == begun { idle_ticks + 1 } else { 0 };
                begun = here.begun();
                match idle_ticks {
                    0 => {}
                    1 => serving.as_mut().graceful_shutdown(),
                    // It does not even end when asked to.
                    _ => break,
                }
            }
        }
    }
}

/// A connection that fails when what is written to it stays unread for too long.
///
/// Without it a peer that keeps its connection but reads nothing would hold its answer for ever.
struct Unstalled<S> {
    inner: S,
    wait: WriteStall,
    /// Runs while a write waits.
    stall: Option<Pin<Box<Sleep>>>,
}

impl<S> Unstalled<S> {
    fn new(inner: S, wait: WriteStall) -> Self {
        Self { inner, wait, stall: None }
    }

    /// Passes on how a write went, or that it has waited for too long.
    fn bound<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stall = None;
            return outcome;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep((self.wait)())));
        ready!(stall.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unstalled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unstalled<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.bound(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.bound(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const WAIT: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_is_given_up() {
        let (_peer, stream) = duplex(4);
        let mut stream = Unstalled::new(stream, Arc::new(|| WAIT));
        let started = Instant::now();
        let error = stream.write_all(b"more than fits").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed(), WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_changes_holds_for_a_connection_that_is_open() {
        let (mut peer, stream) = duplex(4);
        let limit = Arc::new(std::sync::Mutex::new(WAIT));
        let asked = Arc::clone(&limit);
        let mut stream = Unstalled::new(stream, Arc::new(move || *asked.lock().unwrap()));
        stream.write_all(b"fits").await.unwrap();
        *limit.lock().unwrap() = WAIT * 3;
        let started = Instant::now();
        stream.write_all(b"more than fits").await.unwrap_err();
        assert_eq!(started.elapsed(), WAIT * 3);
        assert_eq!(peer.read_u8().await.unwrap(), b'f');
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_slowly_is_not() {
        let (mut peer, stream) = duplex(1);
        let mut stream = Unstalled::new(stream, Arc::new(|| WAIT));
        let reader = tokio::spawn(async move {
            let mut read = Vec::new();
            while read.len() < 5 {
                sleep(WAIT * 4 / 5).await;
                read.push(peer.read_u8().await.unwrap());
            }
            read
        });
        stream.write_all(b"slow!").await.unwrap();
        assert_eq!(reader.await.unwrap(), b"slow!");
    }

    #[tokio::test(start_paused = true)]
    async fn reading_is_not_bounded_by_it() {
        let (mut peer, stream) = duplex(4);
        let mut stream = Unstalled::new(stream, Arc::new(|| WAIT));
        let reader = tokio::spawn(async move { stream.read_u8().await });
        sleep(WAIT * 10).await;
        peer.write_u8(7).await.unwrap();
        assert_eq!(reader.await.unwrap().unwrap(), 7);
    }

    /// Serves one path, and returns what a client that sends `bytes` and then waits gets until it is closed, and
    /// after how long.
    async fn closed_after(bytes: &[u8]) -> (String, Duration) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().route("/", axum::routing::get(|| async { "here" }));
        let service = Service { app, in_flight: InFlight::default(), write_stall: Arc::new(|| WAIT) };
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(serve(listener, service, stopped));
        let mut client = TcpStream::connect(address).await.unwrap();
        let started = Instant::now();
        client.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        let took = started.elapsed();
        stop.send(true).unwrap();
        server.await.unwrap();
        (String::from_utf8_lossy(&answer).into_owned(), took)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_closed() {
        let unfinished: [&[u8]; 4] = [
            b"",
            b"PRI * HTTP/2.0",
            b"GET / HTTP/1.1\r\nhost: a\r\nx-slow: ",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ];
        for bytes in unfinished {
            let (_, took) = closed_after(bytes).await;
            assert!(took <= IDLE_MAX * 2 + WAIT, "{took:?} for {:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_outlives_its_request_for_a_while() {
        let (answer, took) = closed_after(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("here"), "{answer}");
        assert!((IDLE_MAX..=IDLE_MAX * 2 + WAIT).contains(&took), "{took:?}");
    }

    #[tokio::test]
    async fn stopping_ends_idle_connections_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service =
            Service { app: Router::new(), in_flight: InFlight::default(), write_stall: Arc::new(|| WAIT) };
        let (stop, stopped) = watch::channel(false);
        let server = tokio::spawn(serve(listener, service, stopped));
        let mut clients = Vec::new();
        for bytes in [b"".as_slice(), b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"] {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(bytes).await.unwrap();
            clients.push(client);
        }
        // Answered, and open still.
        assert_eq!(clients[1].read_u8().await.unwrap(), b'H');
        stop.send(true).unwrap();
        tokio::time::timeout(WAIT, server).await.expect("no connection is waited for").unwrap();
    }
}
