//! A classifier for unit tests that embeds by script, behind a queue and threads as the real one has.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::*;

/// The limits of the shipped bundle.
pub const INPUT: InputLimits = InputLimits {
    tokens_max: 256,
    context_tokens_max: 112,
    system_tokens_max: 40,
    system_chars_max: 200,
    turns_max: 4,
    turn_head_chars: 120,
    turn_tail_chars: 80,
    window_chars: 4096,
    head_share_percent: 60,
};
const THREADS: usize = 3;

type Reply = oneshot::Sender<Result<Scored, ClassifyError>>;
type Answer = dyn Fn(&str) -> Outcome + Send + Sync;

/// What becomes of one prompt.
pub enum Outcome {
    Embedded(Vec<f32>),
    Failed(&'static str),
    /// The reply is dropped, as by a worker that ends.
    Dropped,
    /// The reply never comes.
    Kept,
}

/// A classifier that answers each text by a function.
pub struct Scripted {
    description: Description,
    queue: crossbeam_channel::Sender<(Excerpt, Reply)>,
    /// Submissions that are still to be answered by "overloaded".
    refusals: AtomicUsize,
}

impl Scripted {
    /// One that returns these embeddings of two numbers.
    pub fn embedding(embed: impl Fn(&str) -> Vec<f32> + Send + Sync + 'static) -> Self {
        Self::new(128, 0, move |text| Outcome::Embedded(embed(text)))
    }

    /// One with a queue of `queue_max` that refuses the first `refusals` prompts.
    pub fn new(
        queue_max: usize,
        refusals: usize,
        answer: impl Fn(&str) -> Outcome + Send + Sync + 'static,
    ) -> Self {
        let (queue, waiting) = crossbeam_channel::bounded::<(Excerpt, Reply)>(queue_max);
        let answer: Arc<Answer> = Arc::new(answer);
        for _ in 0..THREADS {
            let (waiting, answer) = (waiting.clone(), Arc::clone(&answer));
            thread::spawn(move || {
                let mut kept = Vec::new();
                for (excerpt, reply) in waiting {
                    let outcome = match answer(excerpt.judged_text()) {
                        Outcome::Embedded(embedding) => Ok(scored(embedding)),
                        Outcome::Failed(why) => Err(ClassifyError::Failed(why.to_owned())),
                        Outcome::Dropped => continue,
                        Outcome::Kept => {
                            kept.push(reply);
                            continue;
                        }
                    };
                    let _ = reply.send(outcome);
                }
            });
        }
        let background = [1.0_f32, 0.0, 0.0, 1.0].iter().flat_map(|number| number.to_le_bytes());
        let background = Background::new(background.collect::<Vec<u8>>().into(), 2, 2).unwrap();
        let names = |names: &[&str]| names.iter().map(|&name| Arc::from(name)).collect::<Vec<Arc<str>>>();
        let description = Description {
            name: "scripted".into(),
            version: "1".into(),
            intents: names(&["code", "other"]).into_iter().map(Intent).collect(),
            levels: names(&["simple", "moderate", "complex", "reasoning"]),
            input: INPUT,
            runs: "nowhere".to_owned(),
            background: Some(Arc::new(background)),
            languages: None,
        };
        Self { description, queue, refusals: AtomicUsize::new(refusals) }
    }
}

impl Classifier for Scripted {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn submit(
        &self,
        excerpt: Excerpt,
        _: Instant,
    ) -> Result<oneshot::Receiver<Result<Scored, ClassifyError>>, ClassifyError> {
        let less = |refusals: usize| refusals.checked_sub(1);
        if self.refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
            return Err(ClassifyError::Overloaded);
        }
        let (reply, receiver) = oneshot::channel();
        self.queue.try_send((excerpt, reply)).map_err(|_| ClassifyError::Overloaded)?;
        Ok(receiver)
    }
}

fn scored(embedding: Vec<f32>) -> Scored {
    Scored {
        scores: Scores {
            intent: Intent("code".into()),
            intent_confidence: 0.9,
            sufficiency: vec![0.2, 0.6, 0.9, 1.0],
            level_confidence: 0.8,
            intent_unsure: false,
            level_margin_min: 0.0,
            truncated: false,
            density: TokenDensity { tokens: 1, bytes: 4 },
        },
        embedding,
        times: StageTimes::default(),
    }
}
