//! How long a bundle takes beside the running one, on this machine and under this moment's load.
//!
//! Both are asked the same golden prompts in turn, each through its own queue and on its own threads, and only what the
//! processor spends on the inference counts. By the clock the new one would look slow under load, because it is timed
//! while the running one has all processors: twice as slow on two of them. The shortest of several runs is taken, as
//! load only ever adds to a run.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::oneshot::Receiver;

use super::{BundleError, Classifier, ClassifyError, Excerpt, Scored, SessionError, wait_for};
use crate::prompt::Prompt;

/// Prompts of different lengths that are timed.
const SAMPLES: usize = 4;
/// Runs of each prompt on each side, unless they take long.
const ROUNDS: usize = 5;
/// With fewer runs the shortest is a matter of luck.
const ROUNDS_MIN: usize = 3;
/// After this the fewest rounds will do.
const PROBE_LONG: Duration = Duration::from_secs(1);
/// Under full load a round takes as long as the running bundle's queue; all of its rounds are not waited for longer than
/// this. The new bundle, which nobody else asks, has as long for each round.
const PROBE_MAX: Duration = Duration::from_secs(5);
/// Between two attempts to get into a full queue.
const QUEUE_PAUSE: Duration = Duration::from_millis(2);
/// So much more a prompt, microseconds, never counts: nobody feels it, and the clock of a tiny graph is noise.
const DIFFERENCE_US_MAX: u64 = 500;

/// What the new bundle is compared with.
#[derive(Clone)]
pub struct Beside {
    pub running: Arc<dyn Classifier>,
    /// Refused above so many times the running one's time, at least 1.
    pub ratio_max: f64,
}

/// What the comparison showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Nothing runs, or what runs does not tell its times.
    Alone,
    /// The running one did not answer often enough in the time.
    TooBusy,
    /// Mean over the prompts of what the shortest run took of the processor, microseconds.
    Timed { new_us: u64, running_us: u64 },
}

/// Why a round has no times.
#[derive(Debug, PartialEq, Eq)]
enum Missed {
    /// An answer did not come in time.
    Late,
    Failed(ClassifyError),
}

/// Times both; an error when the new one takes too long, or does not answer.
pub fn compare(
    new: &dyn Classifier,
    prompts: &[Prompt],
    beside: Option<&Beside>,
) -> Result<Probe, SessionError> {
    beside.map_or(Ok(Probe::Alone), |beside| compare_within(new, prompts, beside, PROBE_MAX))
}

fn compare_within(
    new: &dyn Classifier,
    prompts: &[Prompt],
    Beside { running, ratio_max }: &Beside,
    wait_max: Duration,
) -> Result<Probe, SessionError> {
    let prompts = spread(prompts);
    let (mut shortest_new, mut shortest_running) =
        (vec![u64::MAX; prompts.len()], vec![u64::MAX; prompts.len()]);
    let mut rounds = 0;
    let started = Instant::now();
    let wanted = |rounds| rounds < ROUNDS_MIN || rounds < ROUNDS && started.elapsed() < PROBE_LONG;
    let mut running_took = Duration::ZERO;
    while wanted(rounds) && !prompts.is_empty() {
        let asked = Instant::now();
        let left = wait_max.saturating_sub(running_took);
        let Ok(running) = times(running.as_ref(), &prompts, asked + left) else { break };
        running_took += asked.elapsed();
        let asked = Instant::now();
        let new = times(new, &prompts, asked + wait_max).map_err(|missed| match missed {
            Missed::Late => SessionError::TooSlow {
                // At least: it is still not done.
                new_us: asked.elapsed().as_micros() as u64 / prompts.len() as u64,
                running_us: mean(&running),
                ratio_max: *ratio_max,
            },
            Missed::Failed(error) => BundleError::Graph { why: error.to_string() }.into(),
        })?;
        keep_shortest(&mut shortest_running, &running);
        keep_shortest(&mut shortest_new, &new);
        rounds += 1;
    }
    if rounds < ROUNDS_MIN {
        return Ok(Probe::TooBusy);
    }
    judge(mean(&shortest_new), mean(&shortest_running), *ratio_max)
}

fn mean(times: &[u64]) -> u64 {
    times.iter().sum::<u64>() / times.len().max(1) as u64
}

fn judge(new_us: u64, running_us: u64, ratio_max: f64) -> Result<Probe, SessionError> {
    if running_us == 0 {
        return Ok(Probe::Alone);
    }
    let too_slow = new_us as f64 > running_us as f64 * ratio_max && new_us > running_us + DIFFERENCE_US_MAX;
    if too_slow {
        return Err(SessionError::TooSlow { new_us, running_us, ratio_max });
    }
    Ok(Probe::Timed { new_us, running_us })
}

/// Returns a few prompts, from the shortest to the longest.
fn spread(prompts: &[Prompt]) -> Vec<&Prompt> {
    let mut prompts: Vec<&Prompt> = prompts.iter().collect();
    prompts.sort_by_key(|prompt| prompt.messages.iter().map(|message| message.content.len()).sum::<usize>());
    let count = prompts.len().min(SAMPLES);
    let last = prompts.len().saturating_sub(1);
    (0..count).map(|at| prompts[at * last / count.saturating_sub(1).max(1)]).collect()
}

fn keep_shortest(shortest: &mut [u64], times: &[u64]) {
    for (shortest, time) in shortest.iter_mut().zip(times) {
        *shortest = (*time).min(*shortest);
    }
}

/// Returns what the processor spent on each prompt.
fn times(classifier: &dyn Classifier, prompts: &[&Prompt], deadline: Instant) -> Result<Vec<u64>, Missed> {
    // All of a round wait in the queue together, so that a long queue costs its wait only once.
    let waiting: Result<Vec<_>, Missed> =
        prompts.iter().map(|prompt| queued(classifier, prompt, deadline)).collect();
    let scored = waiting?.into_iter().map(|receiver| match wait_for(receiver, deadline) {
        Some(Ok(scored)) => Ok(scored.times.compute_us),
        Some(Err(error)) => Err(missed(error)),
        None => Err(Missed::Late),
    });
    scored.collect()
}

fn queued(
    classifier: &dyn Classifier,
    prompt: &Prompt,
    deadline: Instant,
) -> Result<Receiver<Result<Scored, ClassifyError>>, Missed> {
    let excerpt = Excerpt::of(prompt, &classifier.describe().input);
    while Instant::now() < deadline {
        match classifier.submit(excerpt.clone(), deadline) {
            Ok(receiver) => return Ok(receiver),
            Err(ClassifyError::Overloaded) => thread::sleep(QUEUE_PAUSE),
            Err(error) => return Err(missed(error)),
        }
    }
    Err(Missed::Late)
}

fn missed(error: ClassifyError) -> Missed {
    match error {
        ClassifyError::TooLate(_) | ClassifyError::Overloaded => Missed::Late,
        ClassifyError::Failed(_) | ClassifyError::Stopped => Missed::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        prompt::{Context, Message, Preferences, Role, Shape},
        routing::classifier::scripted::{Outcome, Scripted},
    };

    fn prompt(content: &str) -> Prompt {
        Prompt {
            messages: vec![Message { role: Role::User, content: content.to_owned() }],
            context: Context::default(),
            shape: Shape::default(),
            preferences: Preferences::default(),
            tier_cap: None,
            explain: false,
        }
    }

    /// A running one that refuses, keeps or answers compares with a new one like this, in the time given.
    fn check_running(running: Scripted, time_ms: u64, expected: Probe) {
        let beside = Beside { running: Arc::new(running), ratio_max: 1.5 };
        let new = Scripted::embedding(|_| vec![1.0, 0.0]);
        let compared = compare_within(&new, &[prompt("a")], &beside, Duration::from_millis(time_ms));
        assert_eq!(compared.unwrap(), expected);
    }

    /// A new one that refuses, keeps or fails is refused beside one that answers.
    fn check_new(new: &Scripted, time_ms: u64, expected: &str) {
        let running = Arc::new(Scripted::embedding(|_| vec![1.0, 0.0]));
        let beside = Beside { running, ratio_max: 1.5 };
        let compared = compare_within(new, &[prompt("a")], &beside, Duration::from_millis(time_ms));
        let error = compared.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn a_new_one_that_does_not_answer_is_refused() {
        check_new(&Scripted::new(8, usize::MAX, |_| Outcome::Kept), 500, "us a prompt, the running one 0 us");
        check_new(&Scripted::new(8, 0, |_| Outcome::Kept), 500, "us a prompt, the running one 0 us");
        check_new(&Scripted::new(8, 0, |_| Outcome::Failed("broken")), 30_000, "broken");
        check_new(&Scripted::new(8, 0, |_| Outcome::Dropped), 30_000, "has stopped");
    }

    #[test]
    fn one_that_cannot_answer_is_not_waited_for_without_end() {
        check_running(Scripted::new(8, usize::MAX, |_| Outcome::Kept), 20, Probe::TooBusy);
        check_running(Scripted::new(8, 0, |_| Outcome::Kept), 20, Probe::TooBusy);
        check_running(Scripted::new(8, 0, |_| Outcome::Failed("broken")), 30_000, Probe::TooBusy);
    }

    #[test]
    fn one_that_tells_no_times_is_no_measure() {
        check_running(Scripted::new(8, 3, |_| Outcome::Embedded(vec![1.0, 0.0])), 30_000, Probe::Alone);
    }

    #[test]
    fn the_prompts_are_spread_over_all_lengths() {
        let prompts: Vec<Prompt> = [9, 1, 5, 3, 7, 2].map(|length| prompt(&"x".repeat(length))).into();
        let lengths: Vec<usize> =
            spread(&prompts).iter().map(|prompt| prompt.messages[0].content.len()).collect();
        assert_eq!(lengths, [1, 2, 5, 9]);
        assert_eq!(spread(&prompts[..1]).len(), 1);
        assert!(spread(&[]).is_empty());
    }

    fn check(new_us: u64, running_us: u64, expected: bool) {
        let judged = judge(new_us, running_us, 1.5);
        assert_eq!(judged.is_ok(), expected, "{new_us} beside {running_us}");
    }

    #[test]
    fn only_what_is_felt_is_refused() {
        check(3_000, 2_000, true);
        check(3_001, 2_000, false);
        check(500, 20, true);
        check(600, 20, false);
        check(9_000, 0, true);
    }

    #[test]
    fn both_figures_are_told() {
        let error = judge(9_000, 2_000, 1.5).unwrap_err().to_string();
        assert!(error.contains("9000 us") && error.contains("2000 us") && error.contains("1.5"), "{error}");
    }
}
