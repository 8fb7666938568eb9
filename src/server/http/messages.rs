//! `POST /v1/messages`: an answer in Anthropic's form, whole or streamed.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::HeaderMap,
    response::Response,
};

use super::{
    admit::{Asked, completion},
    chat::json_answer,
    errors::{Dialect, Problem},
    headers,
    stream::{self, Broken, Writer},
};
use crate::{
    completion::{
        answer::Piece,
        chat::Chat,
        dialect::anthropic::{Event, EventWriter, dropped, message},
        outcome::{Completion, Opening, Streaming, Summary},
    },
    config::{Config, Protocol},
    live::{Live, Picked},
    prompt::TargetRef,
};

/// Answers a message.
pub async fn messages(State(live): State<Arc<Live>>, request: Request) -> Response {
    answer(&live, request).await.unwrap_or_else(|problem| problem.answer(Dialect::Anthropic))
}

async fn answer(live: &Live, request: Request) -> Result<Response, Problem> {
    let Asked { picked, job, stream, .. } = completion(live, request, Dialect::Anthropic).await?;
    let Picked { config, router, completer } = picked;
    let chat = Arc::clone(&job.chat);
    let mut head = HeaderMap::new();
    if stream {
        let Streaming { mut opening, events } = Box::pin(completer.stream(router, job)).await?;
        let lost = lost(&chat, &opening.target, &config);
        opening.dropped_parameters.extend(lost);
        headers::add_opening(&opening, &mut head);
        return Ok(stream::answer(head, events, Events::new(&opening)));
    }
    let Completion { mut answer, summary } = Box::pin(completer.complete(router, job)).await?;
    answer.dropped_parameters.extend(lost(&chat, &summary.target, &config));
    headers::add_summary(&summary, &answer.dropped_parameters, &mut head);
    let id = message_id(&summary.decision.decision_id);
    Ok(json_answer(head, &message(&answer, &summary.target.model, &id)))
}

/// Returns what the request asks for and this target could not be told, because it speaks another dialect.
fn lost(chat: &Chat, target: &TargetRef, config: &Config) -> Vec<String> {
    let provider = config.target_named(&target.id.0).and_then(|at| config.target(at).provider_index);
    let speaks_it = provider.is_some_and(|at| config.providers[at.0].protocol == Protocol::Anthropic);
    chat.anthropic.as_ref().filter(|_| !speaks_it).map(dropped).unwrap_or_default()
}

fn message_id(decision_id: &str) -> String {
    format!("msg_{}", decision_id.replace('-', ""))
}

/// The events of one stream.
struct Events(EventWriter);

impl Events {
    fn new(opening: &Opening) -> Self {
        let id = message_id(&opening.decision.decision_id);
        Self(EventWriter::new(id, opening.target.model.to_string()))
    }
}

impl Writer for Events {
    fn piece(&mut self, piece: Piece, out: &mut String) {
        self.0.piece(piece).iter().for_each(|event| write(event, out));
    }

    fn finished(&mut self, summary: &Summary, out: &mut String) {
        self.0.finish(&summary.usage).iter().for_each(|event| write(event, out));
    }

    fn failed(&mut self, Broken { kind, message, .. }: Broken<'_>, out: &mut String) {
        write(&self.0.error(kind, message), out);
    }
}

fn write(Event { name, data }: &Event, out: &mut String) {
    out.push_str("event: ");
    // A provider's own event may be named anything; a line break in it would begin another line.
    out.extend(name.chars().filter(|c| !c.is_control()));
    out.push_str("\ndata: ");
    out.push_str(&data.to_string());
    out.push_str("\n\n");
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
