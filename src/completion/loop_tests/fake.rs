//! A provider that plays what a test tells it to, and remembers who called it and when each call ended.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    completion::{
        answer::{Answer, Delta, Finish, Piece, Raw, Usage, View},
        attempt::{Again, ErrorKind, ProviderError},
        chat::Chat,
        providers::{Call, Provider, Started},
    },
    config::TargetIndex,
};

/// One call's course: parts, each after a while, and an end.
#[derive(Debug, Clone)]
pub struct Play {
    /// Until the provider accepts the request.
    accepts_after: Duration,
    /// Each with what passes before it.
    parts: Vec<(Duration, Delta)>,
    ends_after: Duration,
    ending: Ending,
    /// Before the next part.
    gap: Duration,
    dropped_parameters: Vec<String>,
}

#[derive(Debug, Clone)]
enum Ending {
    Whole,
    /// Before the first part it is the call that fails, after it the stream.
    Fails(ProviderError),
    Hangs,
    /// The stream ends as if all were well, whatever came before.
    Silent,
}

/// Starts a course without any part.
pub fn play() -> Play {
    Play {
        accepts_after: Duration::ZERO,
        parts: Vec::new(),
        ends_after: Duration::ZERO,
        ending: Ending::Whole,
        gap: Duration::ZERO,
        dropped_parameters: Vec::new(),
    }
}

/// Returns a whole answer in these pieces.
pub fn says(texts: &[&str]) -> Play {
    let play = texts.iter().fold(play(), |play, text| play.text(text));
    play.finishes().uses(10, 5)
}

/// Returns a call that fails at once.
pub fn fails(kind: ErrorKind) -> Play {
    fails_again(kind, Again::Usual)
}

/// Returns a call that fails at once and says when it may be tried again.
pub fn fails_again(kind: ErrorKind, again: Again) -> Play {
    play().breaks_again(kind, again)
}

/// Returns a call that nobody ever answers.
pub fn hangs() -> Play {
    play().hangs()
}

impl Play {
    /// Lets some time pass before the next part, or before the end.
    pub fn wait(mut self, ms: u64) -> Self {
        self.gap += Duration::from_millis(ms);
        self
    }

    /// Lets some time pass before the request is accepted.
    pub fn accepts_after(mut self, ms: u64) -> Self {
        self.accepts_after = Duration::from_millis(ms);
        self
    }

    pub fn part(mut self, delta: Delta) -> Self {
        let gap = std::mem::take(&mut self.gap);
        self.parts.push((gap, delta));
        self
    }

    pub fn text(self, text: &str) -> Self {
        self.part(Delta { text: text.to_owned(), ..Delta::default() })
    }

    pub fn thinks(self, text: &str) -> Self {
        self.part(Delta { reasoning: text.to_owned(), ..Delta::default() })
    }

    /// A piece that says nothing: a role, a ping.
    pub fn silent_piece(self) -> Self {
        self.part(Delta::default())
    }

    pub fn finishes(self) -> Self {
        self.finishes_by(Finish::Stop)
    }

    pub fn finishes_by(self, finish: Finish) -> Self {
        self.part(Delta { finish: Some(finish), ..Delta::default() })
    }

    pub fn uses(self, input_tokens: u64, output_tokens: u64) -> Self {
        self.uses_all(Usage { input_tokens, output_tokens, ..Usage::default() })
    }

    pub fn uses_all(self, usage: Usage) -> Self {
        self.part(Delta { usage: Some(usage), ..Delta::default() })
    }

    pub fn drops_parameters(mut self, names: &[&str]) -> Self {
        self.dropped_parameters = names.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    pub fn breaks(self, kind: ErrorKind) -> Self {
        self.breaks_again(kind, Again::Usual)
    }

    pub fn breaks_again(self, kind: ErrorKind, again: Again) -> Self {
        let message = "as the test wants".to_owned();
        self.ends(Ending::Fails(ProviderError { kind, status: None, message, code: None, again }))
    }

    pub fn hangs(self) -> Self {
        self.ends(Ending::Hangs)
    }

    pub fn ends_silently(self) -> Self {
        self.ends(Ending::Silent)
    }

    fn ends(mut self, ending: Ending) -> Self {
        self.ends_after = std::mem::take(&mut self.gap);
        self.ending = ending;
        self
    }

    /// Returns whether a stream of it ends well, with all that the model had to say.
    pub fn is_whole(&self) -> bool {
        let ends = match self.ending {
            Ending::Whole | Ending::Silent => true,
            Ending::Fails(_) | Ending::Hangs => false,
        };
        ends && self.said().finish.is_some()
    }

    /// Returns what is said in all.
    pub fn said(&self) -> View {
        let mut view = View::default();
        for (_, delta) in &self.parts {
            view.add(delta);
        }
        view
    }
}

/// One call that was made.
#[derive(Debug, Clone)]
pub struct Heard {
    pub target: TargetIndex,
    pub chat: Arc<Chat>,
    pub play: Play,
    /// Since the fake was made.
    pub began: Duration,
    /// When the call, or the stream it returned, was dropped or over.
    pub ended: Option<Duration>,
}

/// Answers for every target; what is played for a target's calls stands in a queue of its own, whose last
/// course is played again and again.
pub struct Fake {
    started: Instant,
    plays: Mutex<Vec<VecDeque<Play>>>,
    heard: Mutex<Vec<Heard>>,
}

impl Fake {
    pub fn new(targets: usize) -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            plays: Mutex::new(vec![VecDeque::new(); targets]),
            heard: Mutex::default(),
        })
    }

    pub fn plays(&self, target: TargetIndex, plays: Vec<Play>) {
        self.plays.lock().unwrap()[target.0] = plays.into();
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Returns how many calls have not ended.
    pub fn alive(&self) -> usize {
        self.heard().iter().filter(|heard| heard.ended.is_none()).count()
    }

    fn next(&self, target: TargetIndex) -> Play {
        let queue = &mut self.plays.lock().unwrap()[target.0];
        match queue.len() {
            0 => panic!("nothing to play for target {}", target.0),
            1 => queue[0].clone(),
            _ => queue.pop_front().unwrap(),
        }
    }
}

/// The fake as one target sees it.
pub struct FakeTarget {
    pub fake: Arc<Fake>,
    pub target: TargetIndex,
}

/// Notes when a call ends, however it does.
struct Alive {
    fake: Arc<Fake>,
    at: usize,
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.fake.heard.lock().unwrap()[self.at].ended = Some(self.fake.started.elapsed());
    }
}

impl FakeTarget {
    fn begin(&self, call: &Call) -> (Play, Alive) {
        let play = self.fake.next(self.target);
        let mut heard = self.fake.heard.lock().unwrap();
        heard.push(Heard {
            target: self.target,
            chat: Arc::clone(&call.chat),
            play: play.clone(),
            began: self.fake.started.elapsed(),
            ended: None,
        });
        (play, Alive { fake: Arc::clone(&self.fake), at: heard.len() - 1 })
    }
}

/// Waits also where there is nothing to wait for: a task that never yields is no real provider.
async fn pass(duration: Duration) {
    if duration.is_zero() {
        tokio::task::yield_now().await;
    } else {
        sleep(duration).await;
    }
}

impl Provider for FakeTarget {
    fn complete(&self, call: Call) -> BoxFuture<'static, Result<Answer, ProviderError>> {
        let (play, alive) = self.begin(&call);
        Box::pin(async move {
            let _alive = alive;
            let parts: Duration = play.parts.iter().map(|(gap, _)| *gap).sum();
            pass(play.accepts_after + parts + play.ends_after + play.gap).await;
            match play.ending {
                Ending::Whole | Ending::Silent => {}
                Ending::Fails(error) => return Err(error),
                Ending::Hangs => std::future::pending().await,
            }
            let raw = Raw::OpenAi(json!({"object": "chat.completion"}));
            Ok(Answer { raw, view: play.said(), dropped_parameters: play.dropped_parameters })
        })
    }

    fn stream(&self, call: Call) -> BoxFuture<'static, Result<Started, ProviderError>> {
        let (play, alive) = self.begin(&call);
        Box::pin(async move {
            pass(play.accepts_after).await;
            if let (Ending::Fails(error), true) = (&play.ending, play.parts.is_empty()) {
                pass(play.ends_after).await;
                return Err(error.clone());
            }
            let dropped_parameters = play.dropped_parameters.clone();
            let state = (VecDeque::from(play.parts), Some((play.ends_after, play.ending)), alive);
            let pieces = stream::unfold(state, |(mut parts, ending, alive)| async move {
                if let Some((gap, delta)) = parts.pop_front() {
                    pass(gap).await;
                    let raw = Raw::OpenAi(json!({"text": delta.text}));
                    return Some((Ok(Piece { raw, delta }), (parts, ending, alive)));
                }
                let (gap, ending) = ending?;
                pass(gap).await;
                match ending {
                    Ending::Whole | Ending::Silent => None,
                    Ending::Fails(error) => Some((Err(error), (parts, None, alive))),
                    Ending::Hangs => std::future::pending().await,
                }
            });
            Ok(Started { pieces: pieces.boxed(), dropped_parameters })
        })
    }
}
