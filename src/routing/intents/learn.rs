//! Examples of the configuration -> [`ExampleIntents`]: embedded by the classifier itself, once, when
//! a router is built. Blocks until all are embedded, with a bound: call it off the reactor.

use std::{
    collections::VecDeque,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot::Receiver;

use super::{ExampleIntent, ExampleIntents, similarity};
use crate::{
    config::{Config, ExamplesConfig},
    prompt::{Context, Intent, Message, Preferences, Prompt, Role, Shape},
    routing::classifier::{Classifier, ClassifyError, Excerpt, Scored, wait_for},
};

/// Below this two texts have little in common, however rare that is in the background. Low: the nearer a
/// bundle's embeddings stay to those of an untouched sentence encoder, the lower are all cosines. With
/// such a one 0.5 lets 43 of 80 new paraphrases through, 0.3 lets 77, and the background still holds
/// false positives to the share that is asked for.
pub(super) const THRESHOLD_MIN: f32 = 0.3;
/// Examples in the queue at once: enough for every session of a large machine.
const IN_FLIGHT_MAX: usize = 32;
/// For all examples together: 2,000 of them on a slow machine.
const LEARN_WAIT_MAX: Duration = Duration::from_secs(120);
/// Between two tries where others keep the queue full.
const QUEUE_PAUSE: Duration = Duration::from_millis(5);

type Outcome = Result<Scored, ClassifyError>;

/// Why intents by example cannot be recognised.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    #[error(
        "{place}: bundle {bundle} has no background.f32, on which examples are calibrated: take a bundle that \
         has it, add it by training/background.py, or leave the examples out"
    )]
    NoBackground { place: String, bundle: String },
    #[error("{place}: {error}")]
    Example { place: String, error: ClassifyError },
}

/// Returns the configured intents by example, `None` when there are none.
pub fn learn(config: &Config, classifier: &dyn Classifier) -> Result<Option<ExampleIntents>, LearnError> {
    let written: Vec<(usize, &Arc<str>, &ExamplesConfig)> = config
        .intents
        .iter()
        .enumerate()
        .filter_map(|(place, intent)| Some((place, &intent.name, intent.examples.as_ref()?)))
        .collect();
    let Some((first, ..)) = written.first() else { return Ok(None) };
    let started = Instant::now();
    let description = classifier.describe();
    let Some(background) = &description.background else {
        return Err(LearnError::NoBackground {
            place: format!("intents[{first}].examples"),
            bundle: format!("{} {}", description.name, description.version),
        });
    };
    let background: Vec<Vec<f32>> = background.rows().collect();
    let texts: Vec<(String, &str)> = written
        .iter()
        .flat_map(|(place, _, examples)| {
            let place = move |at| format!("intents[{place}].examples[{at}]");
            examples.texts.iter().enumerate().map(move |(at, text)| (place(at), text.as_str()))
        })
        .collect();
    let mut embeddings = embed(&texts, classifier, LEARN_WAIT_MAX)?.into_iter();
    let intents: Vec<ExampleIntent> = written
        .into_iter()
        .map(|(place, name, examples)| {
            let own = embeddings.by_ref().take(examples.texts.len()).collect();
            calibrated(place, Intent(Arc::clone(name)), own, examples.false_positives_max, &background)
        })
        .collect();
    tracing::info!(
        intents = intents.len(),
        examples = texts.len(),
        background = background.len(),
        took_ms = started.elapsed().as_millis() as u64,
        "intents learned from their examples"
    );
    Ok(Some(ExampleIntents { intents }))
}

/// Returns the intent with the lowest threshold that an ordinary prompt exceeds with a probability of at
/// most `false_positives_max`, as far as the background can tell.
///
/// Of `n` background rows and one more ordinary prompt, each is equally likely to be among the `k` most
/// alike: k / (n + 1). A threshold at the k-th highest similarity lets the prompt pass only if it is one
/// of those k (split conformal prediction, Vovk et al. 2005).
pub(super) fn calibrated(
    place: usize,
    intent: Intent,
    examples: Vec<Vec<f32>>,
    false_positives_max: f64,
    background: &[Vec<f32>],
) -> ExampleIntent {
    let mut similarities: Vec<f32> = background.iter().map(|row| similarity(examples.iter(), row)).collect();
    similarities.sort_by(f32::total_cmp);
    let above = (false_positives_allowed(false_positives_max, similarities.len()) as usize).saturating_sub(1);
    let quantile = similarities[similarities.len() - 1 - above.min(similarities.len() - 1)];
    let threshold = quantile.max(THRESHOLD_MIN);
    ExampleIntent { place, intent, examples, threshold, background: similarities }
}

/// Returns how many of `rows` ordinary prompts and one more may be claimed; below 1 the share is smaller
/// than so many prompts can tell.
pub(super) fn false_positives_allowed(share: f64, rows: usize) -> f64 {
    share * (rows + 1) as f64
}

/// Returns the embedding of each text, in their order; gives up after `wait_max`.
fn embed(
    texts: &[(String, &str)],
    classifier: &dyn Classifier,
    wait_max: Duration,
) -> Result<Vec<Vec<f32>>, LearnError> {
    let deadline = Instant::now() + wait_max;
    let mut waiting: VecDeque<(&str, Receiver<Outcome>)> = VecDeque::new();
    let mut embeddings = Vec::with_capacity(texts.len());
    let embedding = |(place, receiver): (&str, Receiver<Outcome>)| {
        let scored = wait_for(receiver, deadline).unwrap_or(Err(ClassifyError::TooLate(wait_max)));
        let embedding = scored.and_then(|scored| scored.finite_embedding().map(<[f32]>::to_vec));
        embedding.map_err(|error| LearnError::Example { place: place.to_owned(), error })
    };
    for (place, text) in texts {
        let receiver = loop {
            if waiting.len() < IN_FLIGHT_MAX {
                let excerpt = Excerpt::of(&example_prompt(text), &classifier.describe().input);
                match classifier.submit(excerpt, deadline) {
                    Ok(receiver) => break receiver,
                    Err(ClassifyError::Overloaded) if Instant::now() < deadline => {}
                    Err(error) => return Err(LearnError::Example { place: place.clone(), error }),
                }
            }
            match waiting.pop_front() {
                Some(first) => embeddings.push(embedding(first)?),
                None => thread::sleep(QUEUE_PAUSE),
            }
        };
        waiting.push_back((place, receiver));
    }
    for (place, receiver) in waiting {
        embeddings.push(embedding((place, receiver))?);
    }
    Ok(embeddings)
}

fn example_prompt(text: &str) -> Prompt {
    Prompt {
        messages: vec![Message { role: Role::User, content: text.to_owned() }],
        context: Context::default(),
        shape: Shape::default(),
        preferences: Preferences::default(),
        tier_cap: None,
        explain: false,
    }
}

#[cfg(test)]
#[path = "learn_tests.rs"]
mod tests;
