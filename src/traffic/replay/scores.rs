//! A classifier that scores each text once, however many settings ask about it.

use std::{
    hash::RandomState,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::oneshot};

use crate::routing::classifier::{Classifier, ClassifyError, Description, Excerpt, Scored, StageTimes};

/// Passes texts on to another classifier and keeps what it said.
pub struct ScoredOnce {
    inner: Arc<dyn Classifier>,
    kept: moka::sync::Cache<u128, Arc<Scored>>,
    keys: [RandomState; 2],
    runtime: Handle,
}

impl ScoredOnce {
    /// Keeps up to `entries_max` answers, which come on `runtime`.
    pub fn new(inner: Arc<dyn Classifier>, entries_max: u64, runtime: Handle) -> Self {
        let keys = [RandomState::new(), RandomState::new()];
        Self { inner, kept: moka::sync::Cache::new(entries_max), keys, runtime }
    }
}

impl Classifier for ScoredOnce {
    fn describe(&self) -> &Description {
        self.inner.describe()
    }

    fn submit(
        &self,
        excerpt: Excerpt,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Result<Scored, ClassifyError>>, ClassifyError> {
        let key = excerpt.fingerprint(&self.keys);
        let (reply, receiver) = oneshot::channel();
        if let Some(kept) = self.kept.get(&key) {
            let times = StageTimes::default();
            // Nobody waits any more, or it arrives.
            let _ = reply.send(Ok(Scored { times, ..Scored::clone(&kept) }));
            return Ok(receiver);
        }
        let asked = self.inner.submit(excerpt, deadline)?;
        let kept = self.kept.clone();
        let wait = deadline.saturating_duration_since(Instant::now()) + GRACE;
        self.runtime.spawn(async move {
            // The inner one drops a reply that it gives up, and so does this one.
            let Ok(Ok(answer)) = tokio::time::timeout(wait, asked).await else { return };
            if let Ok(scored) = &answer {
                kept.insert(key, Arc::new(scored.clone()));
            }
            let _ = reply.send(answer);
        });
        Ok(receiver)
    }
}

/// What an answer may be late by: those who ask have given up by then.
const GRACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{
        config::default_config,
        prompt::Draft,
        routing::{
            admit::admit,
            classifier::scripted::{INPUT, Scripted},
        },
    };

    #[tokio::test]
    async fn each_text_is_scored_once() {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let scripted = Scripted::embedding(move |text| {
            count.fetch_add(1, Ordering::Relaxed);
            vec![text.len() as f32, 0.0]
        });
        let once = ScoredOnce::new(Arc::new(scripted), 100, Handle::current());
        let config = default_config();
        let deadline = Instant::now() + Duration::from_secs(30);
        let ask = async |text: &str| {
            let prompt = admit(Draft::from_text(text), &config).unwrap();
            let receiver = once.submit(Excerpt::of(&prompt, &INPUT), deadline).unwrap();
            receiver.await.unwrap().unwrap().embedding
        };
        for (text, expected) in [("a", 1.0), ("bb", 2.0), ("a", 1.0), ("bb", 2.0)] {
            assert_eq!(ask(text).await, [expected, 0.0]);
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
