//! Frees classifiers that serve no more, when their last request has ended: joins their threads away from the
//! reactor, and gives their memory back to the system. Never touches one that somebody else still holds.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    routing::classifier::{Classifier, give_back_heap},
    telemetry,
};

/// Between two looks whether the last request has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Classifiers that wait to be taken up: more than any number of exchanges within one look. What finds no room is
/// freed by whoever lets go of it last.
const WAITING_MAX: usize = 64;
/// Requests wait while the heap is looked through for memory to give back: once, when no classifier was freed for so long.
const QUIET: Duration = Duration::from_secs(3);

/// Frees what is given to it, on a thread of its own that ends with it.
pub struct Reaper {
    running: Mutex<Option<Running>>,
}

struct Running {
    left: SyncSender<Arc<dyn Classifier>>,
    /// Nothing is sent: it closes when the thread ends.
    ends: Receiver<()>,
}

impl Reaper {
    /// Starts the thread; without one, whoever lets go of a classifier last frees it.
    pub fn start() -> Self {
        let (left, taken) = sync_channel(WAITING_MAX);
        let (ending, ends) = sync_channel(0);
        let thread = thread::Builder::new().name("reaper".to_owned()).spawn(move || {
            let _ending: SyncSender<()> = ending;
            reap(&taken);
        });
        let running = match thread {
            Ok(_) => Some(Running { left, ends }),
            Err(error) => {
                tracing::error!(%error, "no thread frees old classifiers: a request may wait for that");
                None
            }
        };
        Self { running: Mutex::new(running) }
    }

    /// Takes a classifier that serves no new request.
    pub fn take(&self, classifier: Arc<dyn Classifier>) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &*running {
            let _ = running.left.try_send(classifier);
        }
    }

    /// Frees what can be, and ends; gives up waiting for that after `most`.
    pub fn stop(&self, most: Duration) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { left, ends }) = running else { return };
        drop(left);
        if ends.recv_timeout(most) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("a classifier still works on a prompt: it is left to the process's end");
        }
    }
}

fn reap(taken: &Receiver<Arc<dyn Classifier>>) {
    let mut waiting: Vec<Arc<dyn Classifier>> = Vec::new();
    let mut freed_at: Option<Instant> = None;
    loop {
        telemetry::classifiers_to_free(waiting.len());
        let next = match freed_at {
            _ if !waiting.is_empty() => taken.recv_timeout(LOOK_EVERY),
            Some(_) => taken.recv_timeout(QUIET),
            None => taken.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match next {
            // Twice, when it served again between: two handles would wait for each other.
            Ok(classifier) if waiting.iter().any(|other| Arc::ptr_eq(other, &classifier)) => {}
            Ok(classifier) => waiting.push(classifier),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if free(&mut waiting) {
            freed_at = Some(Instant::now());
        } else if freed_at.is_some_and(|at| at.elapsed() >= QUIET) {
            give_back_heap();
            freed_at = None;
        }
    }
}

/// Frees whatever nobody else holds; returns whether there was any.
fn free(waiting: &mut Vec<Arc<dyn Classifier>>) -> bool {
    let before = waiting.len();
    let started = Instant::now();
    // Nobody can come to hold what only this thread holds.
    waiting.retain(|classifier| Arc::strong_count(classifier) > 1);
    let freed = before - waiting.len();
    if freed > 0 {
        tracing::info!(freed, took_ms = started.elapsed().as_millis() as u64, "old classifier freed");
    }
    freed > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::classifier::scripted::Scripted;

    fn classifier() -> Arc<dyn Classifier> {
        Arc::new(Scripted::embedding(|_| vec![1.0, 0.0]))
    }

    #[test]
    fn a_classifier_is_freed_when_its_last_request_has_ended() {
        let reaper = Reaper::start();
        let (held, again) = (classifier(), classifier());
        let watched = Arc::downgrade(&held);
        reaper.take(Arc::clone(&held));
        // It served again, and was left again.
        reaper.take(Arc::clone(&held));
        reaper.take(Arc::clone(&again));
        drop(again);
        assert!(watched.upgrade().is_some());
        drop(held);
        let started = Instant::now();
        while watched.strong_count() > 0 {
            assert!(started.elapsed() < Duration::from_secs(60), "it is never freed");
            thread::yield_now();
        }
        reaper.stop(Duration::from_secs(30));
        reaper.stop(Duration::ZERO);
        reaper.take(classifier());
    }
}
