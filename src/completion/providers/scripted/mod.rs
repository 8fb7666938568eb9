//! Answers, delays and errors from a file, for tests, demos and load.
//!
//! A provider like any other to the attempt loop, except that it calls nobody: it never opens a socket, and every
//! wait is tokio's, so that tests may pause the clock.

mod asked;
mod form;
mod play;
mod read;
mod script;

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};

use self::{
    asked::Asked,
    form::Form,
    play::{Play, Step, Whole},
    script::{Played, Reply, Script},
};
use super::{Call, Pieces, Provider, Started};
use crate::completion::{
    answer::{Answer, Piece},
    attempt::{Again, ErrorKind, ProviderError},
};

/// The script of `serve --demo`, and of scripted providers that name none.
const DEMO: &str = include_str!("demo.toml");

/// A provider that answers by a script.
#[derive(Debug)]
pub struct Scripted {
    script: Script,
    played: Mutex<Played>,
    answers: AtomicU64,
}

/// A scene that was found for a call, about to be played.
struct Performance {
    play: Result<Play, ProviderError>,
    delay: Duration,
    form: Form,
    dropped_parameters: Vec<String>,
}

impl Scripted {
    /// Reads the script at this path, `None`: the built-in demo. An error names every problem, one a line.
    pub fn new(script: Option<&Path>) -> Result<Self, String> {
        let script = match script {
            Some(path) => read::read_file(path),
            None => read::read_text(DEMO, "the built-in demo".to_owned()),
        };
        Ok(Self::playing(script.map_err(|error| error.to_string())?))
    }

    fn playing(script: Script) -> Self {
        Self { script, played: Mutex::default(), answers: AtomicU64::new(1) }
    }

    fn perform(&self, call: &Call, streams: bool) -> Result<Performance, ProviderError> {
        let asked = Asked::new(call, streams);
        let found = {
            // A count that another thread left behind is still a count.
            let mut played = self.played.lock().unwrap_or_else(PoisonError::into_inner);
            self.script.find(&asked, &mut played).map(Arc::clone)
        };
        let Some(scene) = found else {
            return Err(ProviderError {
                kind: ErrorKind::Refused,
                status: None,
                message: format!("the script has no answer for this request to target {}", asked.target.id),
                code: None,
                again: Again::Usual,
            });
        };
        let number = self.answers.fetch_add(1, Ordering::Relaxed);
        let play = match &scene.reply {
            Reply::Error(error) => Err(error.clone()),
            Reply::Answer(lines) => Ok(Play::new(lines, scene.pace, &asked, number)),
        };
        let created_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Ok(Performance {
            play,
            delay: scene.pace.delay,
            form: Form {
                id: format!("chatcmpl-scripted-{number}"),
                model: Arc::clone(&asked.target.model),
                created_s,
            },
            dropped_parameters: asked.dropped_parameters(),
        })
    }
}

impl Provider for Scripted {
    fn complete(&self, call: Call) -> BoxFuture<'static, Result<Answer, ProviderError>> {
        let performance = self.perform(&call, false);
        async move {
            let performance = performance?;
            wait(performance.delay).await;
            let (took, whole) = play::whole(performance.play?);
            wait(took).await;
            match whole {
                Whole::Said(view) => {
                    let raw = performance.form.completion(&view);
                    Ok(Answer { raw, view, dropped_parameters: performance.dropped_parameters })
                }
                Whole::Stall => std::future::pending().await,
                Whole::Fail(error) => Err(error),
            }
        }
        .boxed()
    }

    fn stream(&self, call: Call) -> BoxFuture<'static, Result<Started, ProviderError>> {
        let performance = self.perform(&call, true);
        async move {
            let performance = performance?;
            wait(performance.delay).await;
            let pieces = pieces(performance.play?, performance.form);
            Ok(Started { pieces, dropped_parameters: performance.dropped_parameters })
        }
        .boxed()
    }
}

fn pieces(play: Play, form: Form) -> Pieces {
    stream::unfold((play, form), |(mut play, form)| async move {
        let (pause, step) = play.next()?;
        wait(pause).await;
        let piece = match step {
            Step::Piece(delta) => Ok(Piece { raw: form.chunk(&delta), delta }),
            Step::Fail(error) => Err(error),
            Step::Stall => std::future::pending().await,
        };
        Some((piece, (play, form)))
    })
    .boxed()
}

async fn wait(time: Duration) {
    // A sleep of nothing would still cost a turn of the timer.
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

#[cfg(test)]
mod tests;
