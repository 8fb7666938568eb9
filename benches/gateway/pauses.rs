//! Pauses that end within a tenth of a millisecond.
//!
//! The reactor's timers count whole milliseconds: everybody who waits would go on at the same tick, and a
//! gateway would be measured on bursts that no real upstream sends.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

/// Longest sleep of the thread while nobody waits.
const IDLE: Duration = Duration::from_secs(3600);

/// A thread that wakes up those who wait. It ends when this and every clone of it is dropped.
#[derive(Clone)]
pub struct Pauses(Sender<Wait>);

struct Wait {
    until: Instant,
    wake: oneshot::Sender<()>,
}

impl Pauses {
    pub fn start() -> io::Result<Self> {
        let (sender, waits) = channel();
        thread::Builder::new().name("pauses".to_owned()).spawn(move || run(&waits))?;
        Ok(Self(sender))
    }

    /// Waits as long; not at all when that is zero.
    pub async fn wait(&self, time: Duration) {
        if time.is_zero() {
            return;
        }
        let (wake, woken) = oneshot::channel();
        let wait = Wait { until: Instant::now() + time, wake };
        self.0.send(wait).expect("the thread ends after its last sender");
        woken.await.expect("the thread keeps every wait until it ends");
    }
}

fn run(waits: &Receiver<Wait>) {
    let mut waiting: BinaryHeap<Reverse<Due>> = BinaryHeap::new();
    loop {
        let now = Instant::now();
        while let Some(due) = waiting.peek_mut().filter(|due| due.0.0.until <= now) {
            let Reverse(Due(wait)) = PeekMut::pop(due);
            let _ = wait.wake.send(());
        }
        let next =
            waiting.peek().map_or(IDLE, |Reverse(Due(wait))| wait.until.saturating_duration_since(now));
        match waits.recv_timeout(next) {
            Ok(wait) => waiting.push(Reverse(Due(wait))),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// A wait in the order of its end.
struct Due(Wait);

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.until.cmp(&other.0.until)
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.0.until == other.0.until
    }
}

impl Eq for Due {}
