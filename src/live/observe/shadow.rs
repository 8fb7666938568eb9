//! The shadow's queue, and the thread that has it score one request after the other, off the path of answers.
//!
//! Never waits for room: what does not fit is dropped, and counted. What it decides counts in no metric of decisions and
//! is told to nobody.

use std::{
    collections::VecDeque,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::sync::Notify;
use tracing::subscriber::NoSubscriber;
use uuid::Uuid;

use super::{
    Step, asked, excerpt,
    score::{Moved, ShadowScore, score},
};
use crate::{
    prompt::{Decision, Prompt},
    routing::{RouteError, classifier::let_others_go_first},
    telemetry,
};

/// Requests that may wait: half a minute of work.
const QUEUE_MAX: usize = 256;
/// The same in bytes of their texts.
const QUEUE_BYTES_MAX: usize = 8 << 20;
/// What the shadow may take of all processors' time, one part in so many: less than a hundredth of the requests then meet
/// it on a processor, so that even the slowest hundredth of answers hardly feels it. On two cores that still is 10
/// requests a second at 2 ms each, 200 of them in 20 seconds.
const PARTS_OF_ALL: usize = 100;
/// The same of the one processor that the shadow's thread runs on.
const PARTS_OF_ONE: usize = 10;
/// No rest is longer. What takes long enough to reach it has waited for a processor most of that time: a bundle that
/// computes for so long is refused before it is a shadow.
const REST_MAX: Duration = Duration::from_secs(30);
/// How long a shadow's scores are waited for, in place of `classifier.wait_ms_max`. Nobody waits for them, and it lets
/// others go first: on a busy machine it may get a tenth of a processor, which in this time is more computing than any
/// prompt takes. What takes longer still counts as too late, against it.
pub const SHADOW_WAIT_MAX: Duration = Duration::from_secs(30);
/// Scores that wait to be written; the oldest are dropped when the store does not come for them. Some 300 bytes each.
const SCORES_MAX: usize = 8192;

/// A request that the shadow is to score.
pub struct Asked {
    pub step: Arc<Step>,
    pub id: Uuid,
    pub prompt: Prompt,
    /// What the active bundle decided.
    pub active_tier: Arc<str>,
    pub active_scored: bool,
}

/// The queue, and what came of it. Its thread is there from the first shadow on, and ends with it.
#[derive(Default)]
pub struct Scorer {
    queue: OnceLock<Option<Sender<Asked>>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    waiting_bytes: AtomicUsize,
    scores: Mutex<VecDeque<ShadowScore>>,
    has_scores: Notify,
    /// Said once, not for each request.
    told_failure: AtomicBool,
    ends: AtomicBool,
}

impl Scorer {
    /// Starts the thread, where there is none yet.
    pub fn start(&self) {
        self.queue.get_or_init(|| {
            let (queue, waiting) = bounded(QUEUE_MAX);
            let shared = Arc::clone(&self.shared);
            let thread = thread::Builder::new().name("shadow".to_owned()).spawn(move || {
                let_others_go_first();
                work(&waiting, &shared);
            });
            match thread {
                Ok(_) => Some(queue),
                Err(error) => {
                    tracing::error!(%error, "no shadow scores: its thread cannot be started");
                    None
                }
            }
        });
    }

    /// Takes a request, or drops it and counts that.
    pub fn ask(&self, step: &Arc<Step>, prompt: &Prompt, decision: &Decision, id: Uuid) {
        let Some(Some(queue)) = self.queue.get() else { return };
        // Looked at before anything is copied: under load most are dropped.
        let dropped = if queue.is_full() || self.shared.waiting_bytes.load(Relaxed) > QUEUE_BYTES_MAX {
            true
        } else {
            let asked = asked(step, prompt, decision, id);
            let bytes = excerpt::weight(&asked.prompt);
            self.shared.waiting_bytes.fetch_add(bytes, Relaxed);
            match queue.try_send(asked) {
                Ok(()) => false,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    self.shared.waiting_bytes.fetch_sub(bytes, Relaxed);
                    true
                }
            }
        };
        if dropped {
            telemetry::shadow_dropped("queue", 1);
            if step.watches_shadow() {
                step.seen.watched.dropped();
            }
        }
    }

    /// Hands over scores, at most `most`, oldest first; waits until there is one.
    pub async fn scores(&self, most: usize) -> Vec<ShadowScore> {
        loop {
            let notified = self.shared.has_scores.notified();
            let scores = {
                let mut waiting = self.shared.scores();
                let count = waiting.len().min(most.max(1));
                waiting.drain(..count).collect::<Vec<_>>()
            };
            if !scores.is_empty() {
                return scores;
            }
            notified.await;
        }
    }
}

impl Drop for Scorer {
    /// Tells the thread to end after the request that it scores.
    fn drop(&mut self) {
        self.shared.ends.store(true, Relaxed);
    }
}

impl Shared {
    fn scores(&self) -> MutexGuard<'_, VecDeque<ShadowScore>> {
        self.scores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, score: ShadowScore) {
        let mut scores = self.scores();
        if scores.len() >= SCORES_MAX {
            scores.pop_front();
            telemetry::shadow_dropped("store", 1);
        }
        scores.push_back(score);
        drop(scores);
        self.has_scores.notify_one();
    }
}

fn work(waiting: &Receiver<Asked>, shared: &Shared) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no shadow scores: its runtime cannot be started");
            return;
        }
    };
    let rest_ratio = rest_ratio(thread::available_parallelism().map_or(1, NonZero::get));
    while let Ok(asked) = waiting.recv() {
        shared.waiting_bytes.fetch_sub(excerpt::weight(&asked.prompt), Relaxed);
        if shared.ends.load(Relaxed) {
            return;
        }
        if asked.step.is_over.load(Relaxed) {
            continue;
        }
        let started = Instant::now();
        // A panic costs one request's scores, not those of every shadow to come.
        if catch_unwind(AssertUnwindSafe(|| score_one(&asked, shared, &runtime))).is_err() {
            telemetry::shadow_scored("unscored");
            if asked.step.watches_shadow() {
                asked.step.seen.watched.shadow_failed();
            }
        }
        thread::sleep((started.elapsed() * rest_ratio).min(REST_MAX));
    }
}

/// Returns for how many times as long as a request took the thread rests after it.
fn rest_ratio(processors: usize) -> u32 {
    let parts = (PARTS_OF_ALL / processors).max(PARTS_OF_ONE);
    u32::try_from(parts - 1).unwrap_or(u32::MAX)
}

fn score_one(asked: &Asked, shared: &Shared, runtime: &tokio::runtime::Runtime) {
    let Asked { step, id, prompt, active_tier, active_scored } = asked;
    let id = *id;
    let Some((bundle, router)) = &step.watching.shadow else { return };
    // Nobody asked for this decision: it is in no count of decisions and no log of requests.
    let silent = || runtime.block_on(router.route_again(id, prompt));
    let silent = || metrics::with_local_recorder(&metrics::NoopRecorder, silent);
    let routed = tracing::subscriber::with_default(NoSubscriber::default(), silent);
    let watched = step.watches_shadow().then_some(&step.seen.watched);
    let decision = match routed {
        Ok(decision) => decision,
        Err(RouteError::Overloaded) => {
            telemetry::shadow_scored("unscored");
            if let Some(watched) = watched {
                watched.shadow_overloaded();
            }
            return;
        }
        // The configuration allows nobody to answer any more: that says nothing about the bundle.
        Err(RouteError::NoTarget(_)) => return,
    };
    if let Some(watched) = watched {
        watched.decided(&decision);
    }
    if let Some(reason) = decision.unscored {
        telemetry::shadow_scored("unscored");
        if !shared.told_failure.swap(true, Relaxed) {
            tracing::warn!(%bundle, reason, "the shadow gave no scores; from now on this is only counted");
        }
    } else if *active_scored {
        let moved = Moved::between(&step.watching.config, active_tier, &decision.tier);
        telemetry::shadow_scored(moved.as_str());
        if let Some(watched) = watched {
            watched.compared(moved);
        }
    } else {
        telemetry::shadow_scored("alone");
    }
    shared.keep(score(id, &bundle.name, active_tier, &decision));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(processors: usize, expected: f64) {
        let of_one = 1.0 / (1.0 + f64::from(rest_ratio(processors)));
        assert!((of_one - expected).abs() < 1e-9, "{of_one} of one of {processors} processors");
    }

    #[test]
    fn a_shadow_takes_a_hundredth_of_all_processors_and_a_tenth_of_one_at_most() {
        check(1, 0.01);
        check(2, 0.02);
        check(8, 1.0 / 12.0);
        check(10, 0.1);
        check(128, 0.1);
    }
}
