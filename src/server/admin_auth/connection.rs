//! How long a connection of the admin listener may live: who was let in once - by a certificate that is no longer good -
//! is asked again before long, and who says nothing is let go. Knows nothing of what is asked on it.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};
use tonic::transport::server::Connected;

/// After so long a connection takes no more calls; those that run end in peace.
pub const AGE_MAX: Duration = Duration::from_secs(600);
/// After so long it ends, whatever runs. A change that waits for its turn and downloads a large version may take longer:
/// it goes on without its caller, as after any broken connection, and its events tell how it ended.
const END_AFTER: Duration = Duration::from_secs(900);
/// Longest silence of a peer. One that lives answers a ping every 30 seconds once it has begun to speak HTTP/2.
const SILENCE_MAX: Duration = Duration::from_secs(90);

/// Returns connections that end when their time has come.
pub fn limited<S>(incoming: impl Stream<Item = io::Result<S>>) -> impl Stream<Item = io::Result<Limited<S>>> {
    incoming.map(|accepted| accepted.map(Limited::new))
}

/// A connection that fails when it is too old, or its peer silent for too long.
pub struct Limited<S> {
    inner: S,
    ends: Instant,
    heard: Instant,
    timer: Pin<Box<Sleep>>,
}

impl<S> Limited<S> {
    fn new(inner: S) -> Self {
        let now = Instant::now();
        let timer = Box::pin(sleep_until(now + SILENCE_MAX));
        Self { inner, ends: now + END_AFTER, heard: now, timer }
    }

    /// Fails when its time has come; else it is woken then.
    fn in_time(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.timer.as_mut().poll(context).is_ready() {
            // The timer is set anew when it fires and not with every byte.
            let until = self.ends.min(self.heard + SILENCE_MAX);
            if until <= Instant::now() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.timer.as_mut().reset(until);
        }
        Ok(())
    }
}

impl<S: Connected> Connected for Limited<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.inner.connect_info()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Limited<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.in_time(context)?;
        let outcome = Pin::new(&mut self.inner).poll_read(context, buffer);
        if outcome.is_ready() {
            self.heard = Instant::now();
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Limited<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // Also here: a peer that reads nothing would keep it from ever being read.
        self.in_time(context)?;
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.in_time(context)?;
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(context)?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(context)?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_let_go() {
        let (_peer, stream) = duplex(4);
        let started = Instant::now();
        let error = Limited::new(stream).read_u8().await.unwrap_err();
        assert_eq!((error.kind(), started.elapsed()), (io::ErrorKind::TimedOut, SILENCE_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn who_speaks_is_let_go_when_it_is_time() {
        let (mut peer, stream) = duplex(4);
        let mut stream = Limited::new(stream);
        let started = Instant::now();
        let speaks = tokio::spawn(async move {
            while peer.write_u8(7).await.is_ok() {
                tokio::time::sleep(SILENCE_MAX / 2).await;
            }
        });
        let error = loop {
            if let Err(error) = stream.read_u8().await {
                break error;
            }
        };
        assert_eq!((error.kind(), started.elapsed()), (io::ErrorKind::TimedOut, END_AFTER));
        drop(stream);
        speaks.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_nothing_is_let_go_too() {
        let (_peer, stream) = duplex(4);
        let started = Instant::now();
        let error = Limited::new(stream).write_all(b"more than fits").await.unwrap_err();
        assert_eq!((error.kind(), started.elapsed()), (io::ErrorKind::TimedOut, SILENCE_MAX));
    }
}
