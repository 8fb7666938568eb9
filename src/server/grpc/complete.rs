//! `Complete` and `StreamComplete`: a request becomes a job, what comes of it becomes messages. Dropping the
//! call drops the job, and with it what runs at the provider.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream, stream::BoxStream};
use tokio::sync::mpsc;
use tonic::{Request, Status};
use uuid::Uuid;

use super::{super::failure, timeout};
use crate::{
    completion::{
        Job,
        outcome::{Failure, FailureKind, Opening, StreamEvent, Streaming},
    },
    config::Config,
    live::{Picked, Serving},
    routing::admit::admit,
    server::{
        convert::{self, Asked, RawWish},
        proto::{self, stream_complete_response::Event},
        status,
    },
    telemetry,
};

/// Part of a call's time that is kept for the account of a failure to reach the caller: one tenth, at most this. The
/// transport cuts the call at its deadline without any account, and a busy machine is easily late by 50 ms.
const ANSWER_MARGIN_MAX: Duration = Duration::from_millis(500);

/// Messages of a streamed answer.
pub type Events = BoxStream<'static, Result<proto::StreamCompleteResponse, Status>>;

/// Makes a whole answer.
pub async fn complete(
    serving: Arc<Serving>,
    request: Request<proto::CompleteRequest>,
) -> Result<proto::CompleteResponse, Status> {
    let (job, wish) = job(&serving, request)?;
    let Picked { config, router, completer } = serving.picked(&job);
    drop(serving);
    match Box::pin(completer.complete(router, job)).await {
        Ok(completion) => Ok(convert::completion(completion, wish, &config)),
        Err(failed) => Err(failure::status(*failed, &config)),
    }
}

/// Makes a streamed answer; returns when its first part is there.
pub async fn stream(
    serving: Arc<Serving>,
    request: Request<proto::CompleteRequest>,
) -> Result<Events, Status> {
    let (job, wish) = job(&serving, request)?;
    let Picked { config, router, completer } = serving.picked(&job);
    drop(serving);
    match Box::pin(completer.stream(router, job)).await {
        Ok(streaming) => Ok(events(streaming, wish, config)),
        Err(failed) => Err(failure::status(*failed, &config)),
    }
}

fn job(serving: &Serving, request: Request<proto::CompleteRequest>) -> Result<(Job, RawWish), Status> {
    let received = Instant::now();
    let deadline = timeout(request.metadata()).and_then(|timeout| {
        let margin = (timeout / 10).min(ANSWER_MARGIN_MAX);
        received.checked_add(timeout - margin)
    });
    let request = request.into_inner();
    let wish = if request.include_raw { RawWish::Kept } else { RawWish::Left };
    let bad_request = |error| {
        telemetry::refused("bad_request");
        status::bad_request(&error)
    };
    let Asked { chat, draft, paths } = convert::ask(request).map_err(bad_request)?;
    let prompt = admit(draft, &serving.config).map_err(|error| bad_request(paths.in_callers_words(error)))?;
    let decision_id = Uuid::now_v7();
    Ok((Job { decision_id, chat: Arc::new(chat), prompt, received, deadline }, wish))
}

/// What of a stream is still to be sent.
enum Rest {
    Opening(Box<Opening>, mpsc::Receiver<StreamEvent>),
    Events(mpsc::Receiver<StreamEvent>),
    Nothing,
}

/// Returns a stream's messages: the opening, deltas, and then the account or an error.
fn events(streaming: Streaming, wish: RawWish, config: Arc<Config>) -> Events {
    let rest = Rest::Opening(Box::new(streaming.opening), streaming.events);
    let messages = stream::unfold((rest, config), move |(rest, config)| async move {
        let (message, rest) = next(rest, wish, &config).await?;
        Some((message, (rest, config)))
    });
    messages.boxed()
}

async fn next(
    rest: Rest,
    wish: RawWish,
    config: &Config,
) -> Option<(Result<proto::StreamCompleteResponse, Status>, Rest)> {
    let mut events = match rest {
        Rest::Opening(opening, events) => {
            let opening = convert::opening(*opening, config);
            return Some((Ok(message(Event::Opening(opening))), Rest::Events(events)));
        }
        Rest::Events(events) => events,
        Rest::Nothing => return None,
    };
    loop {
        return Some(match events.recv().await {
            Some(StreamEvent::Piece(piece)) => match convert::piece(*piece, wish) {
                Some(delta) => (Ok(message(Event::Delta(delta))), Rest::Events(events)),
                None => continue,
            },
            Some(StreamEvent::Finished(summary)) => {
                (Ok(message(Event::Finished(convert::summary(*summary, config)))), Rest::Nothing)
            }
            Some(StreamEvent::Failed(failed)) => (Err(failure::status(*failed, config)), Rest::Nothing),
            None => (Err(failure::status(stopped(), config)), Rest::Nothing),
        });
    }
}

fn message(event: Event) -> proto::StreamCompleteResponse {
    proto::StreamCompleteResponse { event: Some(event) }
}

/// What a stream that closed without an end means.
fn stopped() -> Failure {
    Failure {
        kind: FailureKind::BrokenOff,
        message: "the server is stopping: the answer is not whole".to_owned(),
        decision: None,
        attempts: Vec::new(),
        cost_usd: 0.0,
        dropped: Vec::new(),
        retry_after: None,
    }
}

#[cfg(test)]
#[path = "complete_tests.rs"]
mod tests;
