//! Three tiers of fake targets, a loop that calls them, and words for what came of it.
//!
//! `low` has a and b, `mid` c and d, `top` e and f; a tier costs ten times as much as the one before. Requests
//! are decided for `low`.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::mpsc::error::TryRecvError, time::Instant};

use super::fake::{Fake, FakeTarget, Play};
use crate::{
    completion::{
        Completer, Job,
        answer::View,
        attempt::{Attempt, Outcome},
        chat::{Asks, Chat},
        ended::{Ended, Ending},
        outcome::{Completion, Failure, FailureKind, Opening, StreamEvent, Streaming, Summary},
        providers::Provider,
    },
    config::{Config, TargetIndex, read_text},
    prompt::Draft,
    routing::{Router, admit::admit, health::TargetHealth, sessions::Sessions},
};

/// Short enough to be checked as a whole before any of it is sent.
pub const SHORT: &str = "Paris is its capital.";
/// Longer than the guard.
pub const LONG: [&str; 4] =
    ["Paris is the capital of France, ", "and it has been for a long while, ", "with some ", "breaks."];
pub const REFUSAL: &str = "I'm sorry, but I can't help with that.";
/// Longer than the guard, and a refusal from its first words.
pub const LONG_REFUSAL: [&str; 4] = [
    "I'm sorry, but I can't help with that. ",
    "As a language model I cannot say ",
    "which town is the capital of France, ",
    "or of any other country.",
];

pub const PROMPT: &str = "What is the capital of France?";
/// As estimated of [`PROMPT`].
pub const PROMPT_TOKENS: u64 = 12;

const CONFIG: &str = r#"
    rules = []
    classifier.enabled = false
    policy.default_tier = "low"
    [[tiers]]
    name = "low"
    level = "simple"
    targets = ["a", "b"]
    [[tiers]]
    name = "mid"
    level = "moderate"
    targets = ["c", "d"]
    [[tiers]]
    name = "top"
    level = "reasoning"
    targets = ["e", "f"]
"#;

const TARGETS: [(&str, f64); 6] =
    [("a", 1.0), ("b", 1.0), ("c", 10.0), ("d", 10.0), ("e", 100.0), ("f", 100.0)];

/// Returns the configuration with which tests begin.
pub fn config() -> Config {
    let targets: String = TARGETS
        .iter()
        .map(|(id, price)| {
            format!(
                "[[targets]]\nid = \"{id}\"\nprovider = \"fake\"\nmodel = \"{id}-1\"\n\
                 input_usd_per_mtok = {price:?}\noutput_usd_per_mtok = {:?}\nprice_date = \"2026-11-01\"\n\
                 context_tokens = 100000\noutput_tokens_max = 10000\noutput_tokens_typical = 100\n\
                 features = [\"json\", \"tools\"]\n",
                2.0 * price
            )
        })
        .collect();
    let mut config = read_text(&format!("{CONFIG}{targets}")).unwrap_or_else(|error| panic!("{error}"));
    // No jitter: waits are what providers ask for.
    config.completion.backoff.first = Duration::ZERO;
    config
}

pub fn index(id: &str) -> TargetIndex {
    TargetIndex(TARGETS.iter().position(|(name, _)| *name == id).unwrap())
}

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A loop with its fakes.
pub struct World {
    pub completer: Arc<Completer>,
    pub router: Arc<Router>,
    pub fake: Arc<Fake>,
    pub started: Instant,
    told: Arc<Mutex<Vec<Ended>>>,
}

impl World {
    /// Starts with what each target plays; who is not named is never to be called.
    pub fn new(plays: Vec<(&str, Vec<Play>)>) -> Self {
        Self::with(|_| {}, plays)
    }

    /// The same, with a configuration that differs.
    pub fn with(change: impl FnOnce(&mut Config), plays: Vec<(&str, Vec<Play>)>) -> Self {
        Self::callable(change, &TARGETS.map(|(id, _)| id), plays)
    }

    /// The same, with only some targets that can be called at all.
    pub fn callable(
        change: impl FnOnce(&mut Config),
        callable: &[&str],
        plays: Vec<(&str, Vec<Play>)>,
    ) -> Self {
        let mut config = config();
        change(&mut config);
        let config = Arc::new(config);
        let fake = Fake::new(config.targets.len());
        for (id, plays) in plays {
            fake.plays(index(id), plays);
        }
        let providers = TARGETS
            .iter()
            .map(|(id, _)| {
                let target = FakeTarget { fake: Arc::clone(&fake), target: index(id) };
                callable.contains(id).then(|| Arc::new(target) as Arc<dyn Provider>)
            })
            .collect();
        let health = Arc::new(TargetHealth::new(config.targets.len()));
        let sessions = Arc::new(Sessions::new(&config.sessions));
        let router = Router::new(Arc::clone(&config), None, sessions, Arc::clone(&health), 1).unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&told);
        let completer = Completer::with_providers(config, health, providers).unwrap();
        let completer = completer.telling(Arc::new(move |ended| list.lock().unwrap().push(ended)));
        let (completer, router) = (Arc::new(completer), Arc::new(router));
        Self { completer, router, fake, started: Instant::now(), told }
    }

    pub fn job(&self) -> Job {
        self.job_of(Draft::from_text(PROMPT), Asks::default())
    }

    pub fn job_of(&self, draft: Draft, asks: Asks) -> Job {
        Job {
            decision_id: uuid::Uuid::now_v7(),
            chat: Arc::new(Chat { asks, ..Chat::default() }),
            prompt: admit(draft, self.completer.config()).unwrap(),
            received: Instant::now().into_std(),
            deadline: None,
        }
    }

    pub async fn complete(&self) -> Result<Completion, Box<Failure>> {
        let before = self.told().len();
        let completion = self.completer.complete(self.router.clone(), self.job()).await;
        let end = completion.as_ref().map(|completion| &completion.summary).map_err(|failure| &**failure);
        self.was_told(before, end);
        completion
    }

    /// Returns the completions that the log was told of.
    pub fn told(&self) -> Vec<Ended> {
        self.told.lock().unwrap().clone()
    }

    /// Holds what the log was told of one completion against what its caller got.
    fn was_told(&self, before: usize, end: Result<&Summary, &Failure>) {
        let told = self.told();
        let decided = end.err().is_none_or(|failure| failure.decision.is_some());
        assert_eq!(told.len(), before + usize::from(decided), "everything decided is told once");
        let Some(told) = told.last().filter(|_| decided) else { return };
        match (end, &told.how) {
            (Ok(summary), Ending::Answered { target, tier, escalated, weak, baseline_cost_usd }) => {
                assert_eq!(told.attempts, summary.attempts);
                assert_eq!((target, tier), (&summary.target, &summary.tier));
                assert_eq!((*escalated, weak), (summary.escalated, &summary.weak));
                assert_eq!(
                    (told.cost_usd, *baseline_cost_usd),
                    (summary.cost_usd, summary.baseline_cost_usd)
                );
            }
            (Err(failure), Ending::Failed(kind)) => {
                assert_eq!((&told.attempts, *kind), (&failure.attempts, failure.kind));
            }
            (end, how) => panic!("the caller got {end:?}, and the log {how:?}"),
        }
    }

    pub async fn stream(&self) -> Result<Streaming, Box<Failure>> {
        self.completer.stream(self.router.clone(), self.job()).await
    }

    /// Streams and reads everything.
    pub async fn read(&self) -> Read {
        let before = self.told().len();
        let read = read(self.stream().await).await;
        self.was_told(before, read.end.as_ref().map_err(|failure| &**failure));
        read
    }

    /// Returns how long the world has stood.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns who was called, in order: their ids.
    pub fn called(&self) -> String {
        self.fake.heard().iter().map(|heard| TARGETS[heard.target.0].0).collect::<Vec<_>>().join(" ")
    }

    /// Returns when the calls of a target began and ended, milliseconds; `None`: it has not ended.
    pub fn times(&self, id: &str) -> Vec<(u128, Option<u128>)> {
        self.fake
            .heard()
            .iter()
            .filter(|heard| heard.target == index(id))
            .map(|heard| (heard.began.as_millis(), heard.ended.map(|ended| ended.as_millis())))
            .collect()
    }

    /// Returns what everybody spent today, US dollars.
    pub fn spent_usd(&self) -> f64 {
        self.completer.spend.report(std::time::SystemTime::now()).totals.day_usd
    }
}

/// A stream as its caller saw it.
#[derive(Debug)]
pub struct Read {
    /// `None`: there was none.
    pub opening: Option<Opening>,
    pub view: View,
    pub pieces: usize,
    pub end: Result<Summary, Box<Failure>>,
}

impl Read {
    pub fn text(&self) -> &str {
        &self.view.text
    }

    /// Returns every attempt in words.
    pub fn story(&self) -> String {
        match &self.end {
            Ok(summary) => story(&summary.attempts),
            Err(failure) => story(&failure.attempts),
        }
    }

    /// Returns the account of a stream that ended well.
    pub fn summary(&self) -> &Summary {
        self.end.as_ref().unwrap()
    }

    /// Returns how a stream that did not end well failed.
    pub fn failed(&self) -> FailureKind {
        self.end.as_ref().unwrap_err().kind
    }
}

/// Reads a stream to its end, which must be the only one and the last event.
pub async fn read(streaming: Result<Streaming, Box<Failure>>) -> Read {
    let mut view = View::default();
    let Streaming { opening, mut events } = match streaming {
        Ok(streaming) => streaming,
        Err(failure) => return Read { opening: None, view, pieces: 0, end: Err(failure) },
    };
    let mut pieces = 0;
    let end = loop {
        match events.recv().await.expect("a stream has an end") {
            StreamEvent::Piece(piece) => {
                view.add(&piece.delta);
                pieces += 1;
            }
            StreamEvent::Finished(summary) => break Ok(*summary),
            StreamEvent::Failed(failure) => break Err(failure),
        }
    };
    assert!(events.recv().await.is_none(), "nothing follows the end");
    assert_eq!(events.try_recv().unwrap_err(), TryRecvError::Disconnected);
    Read { opening: Some(opening), view, pieces, end }
}

/// Returns attempts in words: target, cause, and how it ended.
pub fn story(attempts: &[Attempt]) -> String {
    let word = |attempt: &Attempt| {
        let how = match &attempt.outcome {
            Outcome::Failed(error) => error.kind.as_str(),
            Outcome::Weak(weakness) => weakness.check.as_str(),
            Outcome::Answered => "answered",
            Outcome::Skipped => "skipped",
            Outcome::Lost => "lost",
            Outcome::Abandoned => "abandoned",
        };
        format!("{} {} {how}", attempt.target.id, attempt.cause.as_str())
    };
    attempts.iter().map(word).collect::<Vec<_>>().join(", ")
}
