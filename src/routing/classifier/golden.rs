//! Golden samples: prompts whose scores a bundle must reproduce before it may serve.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use super::{
    BundleError, Excerpt, Manifest, SessionError,
    background::{LENGTH_TOLERANCE, length},
    bundle::GoldenSample,
    memory::ThreadClock,
    scores::{intent_probabilities, sufficiencies},
    session::{ModelSession, RunError, Stop},
    tokenize::Encoder,
};
use crate::prompt::{Context, Message, Preferences, Prompt, Role, Shape};

/// All samples together: the slowest graph that anybody would serve runs a thousand in less.
const ALL_MAX: Duration = Duration::from_secs(60);
/// What counts is the processor's time: who loads a bundle lets others go first, and under full load a good one would
/// take longer by the clock. By the clock it may take so many times as long: other changes wait for their turn
/// meanwhile, each of them for less than this.
const CLOCK_RATIO_MAX: u32 = 2;
/// How often the watchdog looks whether the time is over.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs every golden sample and compares each probability with the manifest's tolerance; returns the prompts. `clock`
/// is the calling thread's where that is what runs the graph.
pub fn check(
    clock: Option<ThreadClock>,
    samples: &[GoldenSample],
    manifest: &Manifest,
    encoder: &Encoder,
    session: &mut ModelSession,
) -> Result<Vec<Prompt>, SessionError> {
    check_within(&Bound::new(ALL_MAX, clock), samples, manifest, encoder, session)
}

/// How long all samples may take together.
struct Bound {
    all_max: Duration,
    began: Instant,
    /// With what it showed at the start; `None` counts by the clock on the wall.
    clock: Option<(ThreadClock, Duration)>,
}

impl Bound {
    fn new(all_max: Duration, clock: Option<ThreadClock>) -> Self {
        let clock = clock.and_then(|clock| Some((clock, clock.read()?)));
        Self { all_max, began: Instant::now(), clock }
    }

    fn over(&self) -> Option<Over> {
        let ran = self.clock.and_then(|(clock, before)| clock.read()?.checked_sub(before));
        over(self.all_max, self.began.elapsed(), ran)
    }
}

/// Why samples take too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    TooSlow,
    /// Others had the processor.
    Busy,
}

/// Returns whether samples that took so long, and so much of the processor where that is known, take too long.
fn over(all_max: Duration, took: Duration, ran: Option<Duration>) -> Option<Over> {
    match ran {
        Some(ran) if ran >= all_max => Some(Over::TooSlow),
        Some(_) => (took >= all_max * CLOCK_RATIO_MAX).then_some(Over::Busy),
        None => (took >= all_max).then_some(Over::TooSlow),
    }
}

/// The same within a time: a graph that does not end is stopped then.
fn check_within(
    bound: &Bound,
    samples: &[GoldenSample],
    manifest: &Manifest,
    encoder: &Encoder,
    session: &mut ModelSession,
) -> Result<Vec<Prompt>, SessionError> {
    let stop = &Stop::new()?;
    thread::scope(|scope| {
        // Dropped at the end, however that is reached.
        let (_done, checked) = mpsc::channel::<()>();
        let watch = move || {
            while checked.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                if bound.over().is_some() {
                    return stop.now();
                }
            }
        };
        let watchdog = thread::Builder::new().name("bundle-watchdog".to_owned()).spawn_scoped(scope, watch);
        watchdog.map_err(SessionError::Threads)?;
        let late = || {
            Some(match bound.over()? {
                Over::TooSlow => SessionError::GoldenTooSlow(bound.all_max),
                Over::Busy => SessionError::Busy(bound.all_max * CLOCK_RATIO_MAX),
            })
        };
        let mut prompts = Vec::with_capacity(samples.len());
        for sample in samples {
            if let Some(late) = late() {
                return Err(late);
            }
            let checked = check_sample(sample, manifest, encoder, session, stop);
            // One that was stopped has failed, and not by itself.
            prompts.push(checked.map_err(|error| late().unwrap_or(error.into()))?);
        }
        Ok(prompts)
    })
}

fn check_sample(
    sample: &GoldenSample,
    manifest: &Manifest,
    encoder: &Encoder,
    session: &mut ModelSession,
    stop: &Stop,
) -> Result<Prompt, BundleError> {
    let line = sample.line;
    let broken = |why: String| BundleError::GoldenFile { why: format!("line {line}: {why}") };
    let prompt = prompt(sample).map_err(broken)?;
    let encoded = encoder.encode(&Excerpt::of(&prompt, &manifest.input)).map_err(broken)?;
    check_tokens(sample, &encoded.ids)?;
    if encoded.truncated != sample.truncated {
        let (got, expected) = (encoded.truncated, sample.truncated);
        return Err(broken(format!("truncated is {got}, expected {expected}")));
    }
    let outputs = session.run_unless(&encoded.ids, Some(stop)).map_err(|error| refused(error, line))?;
    let tolerance = manifest.golden.tolerance;
    let compare = |what: String, got: f64, expected: f64| {
        // NaN agrees with nothing.
        let agrees = (got - expected).abs() <= tolerance;
        let id = sample.id.clone();
        if agrees { Ok(()) } else { Err(BundleError::Golden { line, id, what, got, expected, tolerance }) }
    };
    let intents = intent_probabilities(&outputs.intent_logits, manifest.calibration.intent_temperature);
    for (name, &got) in manifest.labels.intents.iter().zip(&intents) {
        let expected =
            *sample.intent.get(name).ok_or_else(|| broken(format!("has no probability of intent {name}")))?;
        compare(format!("intent {name}"), got, expected)?;
    }
    if manifest.embedding.is_some_and(|embedding| embedding.background.is_some()) {
        check_embedding(&outputs.embedding, line)?;
    }
    let levels = sufficiencies(&outputs.sufficiency_logits, &manifest.calibration);
    if levels.len() != sample.sufficiency.len() {
        return Err(broken(format!("has {} sufficiencies", sample.sufficiency.len())));
    }
    for (level, (&got, &expected)) in
        manifest.labels.levels.iter().zip(levels.iter().zip(&sample.sufficiency))
    {
        compare(format!("sufficiency of {level}"), got, expected)?;
    }
    Ok(prompt)
}

/// The same prompt is other ids to the tokenizer of another model.
fn check_tokens(sample: &GoldenSample, got: &[i64]) -> Result<(), BundleError> {
    let other = |why: String| Err(BundleError::OtherTokenizer { line: sample.line, why });
    if got.len() != sample.tokens {
        return other(format!("is read as {} tokens, expected {}", got.len(), sample.tokens));
    }
    match &sample.ids {
        Some(expected) if expected != got => other(format!("is read as other {} ids", got.len())),
        Some(_) | None => Ok(()),
    }
}

fn check_embedding(embedding: &[f32], line: usize) -> Result<(), BundleError> {
    if let Some(&value) = embedding.iter().find(|value| !value.is_finite()) {
        return Err(BundleError::NotFinite { output: "embedding", value, line: Some(line) });
    }
    let length = length(embedding);
    if (length - 1.0).abs() > LENGTH_TOLERANCE {
        let why = format!("output embedding has length {length} on golden line {line}, 1 expected");
        return Err(BundleError::Outputs { why });
    }
    Ok(())
}

fn refused(error: RunError, line: usize) -> BundleError {
    match error {
        RunError::NotFinite { output, value } => BundleError::NotFinite { output, value, line: Some(line) },
        RunError::Shape(why) => BundleError::Outputs { why },
        RunError::UnknownToken(why) => BundleError::OtherTokenizer { line, why },
        RunError::Failed(why) => BundleError::Graph { why },
    }
}

fn prompt(sample: &GoldenSample) -> Result<Prompt, String> {
    let messages = sample
        .messages
        .iter()
        .map(|message| {
            let role =
                Role::parse(&message.role).ok_or_else(|| format!("unknown role {:?}", message.role))?;
            Ok(Message { role, content: message.content.clone() })
        })
        .collect::<Result<Vec<_>, String>>()?;
    Ok(Prompt {
        messages,
        context: Context::default(),
        shape: Shape::default(),
        preferences: Preferences::default(),
        tier_cap: None,
        explain: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::Device,
        routing::classifier::{
            bundle::Bundle,
            session::{Graph, OutputSizes},
            tiny::TinyBundle,
        },
    };

    #[test]
    fn a_graph_that_does_not_end_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        // Some eight seconds a sample.
        TinyBundle::new("1").slow(8_000).write(folder.path());
        let Bundle { manifest, model, tokenizer, golden, .. } = Bundle::read(folder.path()).unwrap();
        let encoder = Encoder::new(&tokenizer, manifest.input).unwrap();
        let sizes = OutputSizes {
            intents: manifest.labels.intents.len(),
            sufficiencies: manifest.labels.levels.len() - 1,
            embedding: None,
        };
        let graph = Graph::of(model, 1).unwrap();
        let (mut session, _) = ModelSession::open(&graph, sizes, Device::Cpu, 1).unwrap();
        // By the clock a busy machine takes long to get there.
        let ran = || ThreadClock::of_this_thread().and_then(ThreadClock::read).unwrap_or_default();
        let before = ran();
        let bound = Bound::new(Duration::from_millis(200), ThreadClock::of_this_thread());
        let error = check_within(&bound, &golden, &manifest, &encoder, &mut session).unwrap_err();
        // Which of them, is for how busy this machine is.
        assert!(matches!(error, SessionError::GoldenTooSlow(_) | SessionError::Busy(_)), "{error}");
        assert!(ran() - before < Duration::from_secs(4), "{:?}", ran() - before);
    }

    #[test]
    fn a_machine_that_is_busy_does_not_make_a_graph_too_slow() {
        let seconds = Duration::from_secs;
        let check = |took, ran: Option<u64>, expected| {
            let got = over(seconds(60), seconds(took), ran.map(seconds));
            assert_eq!(got, expected, "{took} s, {ran:?} s");
        };
        check(59, Some(59), None);
        check(60, Some(60), Some(Over::TooSlow));
        // Others had the processor.
        check(119, Some(20), None);
        check(120, Some(20), Some(Over::Busy));
        check(200, Some(60), Some(Over::TooSlow));
        // Nobody knows who had it.
        check(59, None, None);
        check(60, None, Some(Over::TooSlow));
    }

    #[test]
    fn a_machine_without_time_is_not_the_bundles_fault() {
        let error = SessionError::Busy(ALL_MAX * CLOCK_RATIO_MAX);
        let text = "the processor was too busy for the bundle's golden samples within 120 s: try it again when there is \
                    less to do";
        assert_eq!((error.to_string().as_str(), error.unfit().as_str()), (text, "busy"));
    }
}
