//! Whether the store is there, and when it is tried again: the one place that opens and gives up a store.
//!
//! A store that is down at the start is the same as one that goes down later. What is broken beyond use is moved
//! aside and begun anew.

use std::{fmt, future, sync::Arc, time::Duration};

use rand::RngExt;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::place::{Place, Shelf};
use crate::traffic::store::StoreError;

/// First wait after a failure, which doubles with each further one.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// Longest wait: how late it is noticed at the most that the store is back.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Longest opening of a store: a schema may have to be brought up to date.
const OPEN_MAX: Duration = Duration::from_secs(60);
/// What its open connections are given to end when a store is given up.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// Why the store is given up for now.
#[derive(Debug)]
pub enum Lost {
    Failed(StoreError),
    /// It did not answer for so long.
    Slow(Duration),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Slow(waited) => write!(f, "the traffic store did not answer within {waited:?}"),
        }
    }
}

/// Follows who holds the store open at this moment; `None` while it is down.
pub type Shelves = watch::Sender<Option<Arc<dyn Shelf>>>;

/// The writer's hold on the store.
pub struct Link {
    place: Arc<dyn Place>,
    state: State,
    wait: Wait,
    shelves: Shelves,
    /// When it went down, and whether that was told.
    down: Option<Instant>,
    opened_once: bool,
}

enum State {
    Opening(JoinHandle<Result<Arc<dyn Shelf>, Lost>>),
    Up(Arc<dyn Shelf>),
    Down { again: Instant, before: Before },
}

/// What is to be done before the store is opened again.
#[derive(Default)]
struct Before {
    /// Its connections end: one that ends later would remove files that the new ones need.
    closing: Option<JoinHandle<()>>,
    is_corrupt: bool,
}

impl Link {
    /// Starts to open the store. Call it in a runtime's context.
    pub fn new(place: Arc<dyn Place>, shelves: Shelves) -> Self {
        let state = State::Opening(open(&place, Before::default()));
        Self { place, state, wait: Wait::default(), shelves, down: None, opened_once: false }
    }

    /// Returns the store while it is there.
    pub fn shelf(&self) -> Option<Arc<dyn Shelf>> {
        match &self.state {
            State::Up(shelf) => Some(Arc::clone(shelf)),
            State::Opening(_) | State::Down { .. } => None,
        }
    }

    /// Returns whether it is being opened for the first time.
    pub fn is_starting(&self) -> bool {
        !self.opened_once && self.down.is_none() && matches!(self.state, State::Opening(_))
    }

    /// Waits until something is to be done about the store, and does it. May be cancelled.
    pub async fn changed(&mut self) {
        match &mut self.state {
            State::Opening(opening) => {
                let opened = opening.await;
                match opened {
                    Ok(Ok(shelf)) => self.up(shelf),
                    Ok(Err(lost)) => self.lost(&lost),
                    Err(ended) => self.lost(&Lost::Failed(StoreError::Down {
                        store: "opening".to_owned(),
                        problem: ended.to_string(),
                    })),
                }
            }
            State::Down { again, before } => {
                sleep_until(*again).await;
                self.state = State::Opening(open(&self.place, std::mem::take(before)));
            }
            State::Up(_) => future::pending().await,
        }
    }

    /// Does what is to be done by now, without waiting.
    pub async fn step(&mut self) {
        let is_ripe = match &self.state {
            State::Opening(opening) => opening.is_finished(),
            State::Down { again, .. } => *again <= Instant::now(),
            State::Up(_) => false,
        };
        if is_ripe {
            self.changed().await;
        }
    }

    /// Notes that the store took something: from here on a failure is a new one.
    pub fn proved(&mut self) {
        self.wait = Wait::default();
        if let Some(since) = self.down.take() {
            tracing::info!(
                down_ms = since.elapsed().as_millis() as u64,
                "the traffic store takes records again"
            );
        }
    }

    /// Gives the store up for now.
    pub fn lost(&mut self, lost: &Lost) {
        let now = Instant::now();
        let is_corrupt = matches!(lost, Lost::Failed(StoreError::Corrupt { .. }));
        let closing = self.shelf().map(|shelf| tokio::spawn(async move { shelf.close(CLOSE_MAX).await }));
        let before = Before { closing, is_corrupt };
        self.state = State::Down { again: now + self.wait.next(), before };
        self.shelves.send_replace(None);
        let is_new = self.down.is_none();
        self.down.get_or_insert(now);
        match lost {
            Lost::Failed(StoreError::Corrupt { .. }) => {
                tracing::error!(error = %lost, "the traffic store is broken: it is moved aside, a new one is begun");
            }
            Lost::Failed(StoreError::Refused { .. }) if is_new => {
                tracing::error!(error = %lost, "the traffic store cannot be used: records go to the spool");
            }
            Lost::Failed(StoreError::Down { .. }) | Lost::Slow(_) if is_new => {
                tracing::warn!(error = %lost, "the traffic store is down: records go to the spool");
            }
            Lost::Failed(StoreError::Down { .. } | StoreError::Refused { .. }) | Lost::Slow(_) => {
                tracing::debug!(error = %lost, "the traffic store is still down");
            }
        }
    }

    /// Ends the hold; waits for the store at most `within`.
    pub async fn close(self, within: Duration) {
        self.shelves.send_replace(None);
        match self.state {
            State::Up(shelf) => shelf.close(within).await,
            State::Opening(opening) => opening.abort(),
            State::Down { .. } => {}
        }
    }

    fn up(&mut self, shelf: Arc<dyn Shelf>) {
        self.opened_once = true;
        self.shelves.send_replace(Some(Arc::clone(&shelf)));
        self.state = State::Up(shelf);
    }
}

fn open(place: &Arc<dyn Place>, before: Before) -> JoinHandle<Result<Arc<dyn Shelf>, Lost>> {
    let place = Arc::clone(place);
    tokio::spawn(async move {
        if let Some(closing) = before.closing {
            let _ = closing.await;
        }
        if before.is_corrupt {
            match place.set_aside() {
                Ok(Some(path)) => {
                    tracing::error!(moved_to = %path.display(), "the broken traffic store was moved aside");
                }
                Ok(None) => {
                    tracing::warn!("the broken traffic store is not there any more: another took its place");
                }
                Err(error) => tracing::error!(%error, "the broken traffic store cannot be moved aside"),
            }
        }
        match tokio::time::timeout(OPEN_MAX, place.open()).await {
            Ok(opened) => opened.map_err(Lost::Failed),
            Err(_) => Err(Lost::Slow(OPEN_MAX)),
        }
    })
}

/// How long to wait before the next try.
#[derive(Debug, Default)]
struct Wait {
    failures: u32,
}

impl Wait {
    /// Counts a failure; returns the wait that follows, of which up to a half is left to chance so that many
    /// replicas do not come at once.
    fn next(&mut self) -> Duration {
        let longest = WAIT_MIN.saturating_mul(1 << self.failures.min(16)).min(WAIT_MAX);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut wait = Wait::default();
        let mut longest = WAIT_MIN;
        for _ in 0..100 {
            let next = wait.next();
            assert!(next >= longest / 2 && next <= longest, "{next:?} of {longest:?}");
            longest = (longest * 2).min(WAIT_MAX);
        }
        assert_eq!(longest, WAIT_MAX);
    }
}
