//! Anthropic's messages, and what becomes of them for targets that do not speak them.
//!
//! A request is read once ([`read`]) into both dialects, so that any target can answer it; an answer in either
//! becomes a `message` ([`message`]) or its events ([`EventWriter`]). Never does I/O.

mod answer;
mod convert;
mod deltas;
mod errors;
mod events;
mod fields;
mod request;

use serde_json::{Map, Value};

pub use self::{
    answer::{SIGNATURE, is_error, message, view},
    convert::dropped,
    deltas::Deltas,
    errors::{ErrorType, error_body},
    events::{Event, EventWriter},
};
use self::{
    convert::{BETWEEN_TEXTS, lost, to_openai},
    request::{Block, Choice, Request, Speaker, parse, texts},
};
use super::{
    FILE_TOKENS, IMAGE_TOKENS, Incoming,
    openai::{self, extension, schema_ask},
};
use crate::{
    completion::chat::{Asks, Chat, JsonAsk, ToolAsk},
    prompt::{Draft, DraftMessage, DraftShape},
    routing::{
        admit::{BadRequest, FieldProblem, Problems},
        cost::{estimate_json_tokens, estimate_tokens},
    },
};

/// What a caller tells the router; it never goes upstream.
const EXTENSION: &str = "pointsman";

/// Returns the request in both dialects and what routing reads of it, or every bad field.
pub fn read(body: Map<String, Value>) -> Result<Incoming, BadRequest> {
    let mut problems = Problems::default();
    let request = parse(&body, &mut problems);
    let told = body.get(EXTENSION).filter(|value| !value.is_null());
    let (context, preferences) = extension(told, &mut problems);
    let asks = asks(&request, &mut problems);
    let draft = Draft { context, preferences, ..draft(&request, body.get("tools")) };
    let openai = to_openai(&request);
    let lost = lost(&request);
    let (model, stream) = (request.model.to_owned(), request.stream);
    if !problems.0.is_empty() {
        return Err(BadRequest(problems.0));
    }
    let chat = Chat { openai, anthropic: Some(native(body)), lost, asks, ..Chat::default() };
    Ok(Incoming { chat, draft, model, stream, include_usage: true })
}

/// Renames the fields that `routing::admit` found fault with to what a caller of this dialect wrote. Its messages
/// are counted otherwise: system texts and results of tools are some by themselves.
pub fn in_callers_words(problems: BadRequest) -> BadRequest {
    let BadRequest(problems) = openai::in_callers_words(problems);
    let rename = |FieldProblem { field, problem, kind }| {
        let field = if field.starts_with("messages[") { "messages".to_owned() } else { field };
        FieldProblem { field, problem, kind }
    };
    BadRequest(problems.into_iter().map(rename).collect())
}

/// Returns the body as it goes to those who speak this dialect.
///
/// Thinking with our [`SIGNATURE`] came from another dialect; the provider would refuse it, so it is taken out,
/// and with it a message that holds nothing else.
fn native(mut body: Map<String, Value>) -> Map<String, Value> {
    body.retain(|name, _| !["model", "stream", EXTENSION].contains(&name.as_str()));
    if let Some(Value::Array(messages)) = body.get_mut("messages") {
        messages.retain_mut(|message| {
            let Some(Value::Array(blocks)) = message.get_mut("content") else { return true };
            let before = blocks.len();
            blocks.retain(|block| !is_foreign_thinking(block));
            before == blocks.len() || !blocks.is_empty()
        });
    }
    body
}

fn is_foreign_thinking(block: &Value) -> bool {
    let is = |name: &str, text: &str| block.get(name).and_then(Value::as_str) == Some(text);
    is("type", "thinking") && is("signature", SIGNATURE)
}

fn asks(request: &Request<'_>, problems: &mut Problems) -> Asks {
    let schema = request.schema.as_ref();
    let json = schema.map_or(JsonAsk::No, |field| schema_ask(field.value, &field.path, problems));
    let tool = match request.choice {
        Choice::Unsaid | Choice::Auto | Choice::None => ToolAsk::Free,
        Choice::Any => ToolAsk::Any,
        Choice::Named(name) => ToolAsk::Named(name.to_owned()),
    };
    Asks { json, tool, output_tokens_max: Some(request.max_tokens), choices: 1 }
}

fn draft(request: &Request<'_>, tools: Option<&Value>) -> Draft {
    let mut messages = Vec::new();
    let mut add = |role: &str, texts: &[&str]| {
        messages.push(DraftMessage { role: role.to_owned(), content: texts.join(BETWEEN_TEXTS) });
    };
    if !request.system.is_empty() {
        add("system", &request.system);
    }
    for turn in &request.turns {
        let mut results = false;
        for block in &turn.blocks {
            if let Block::ToolResult { blocks, .. } = block {
                results = true;
                add("tool", &texts(blocks));
            }
        }
        let own = texts(&turn.blocks);
        match turn.speaker {
            Speaker::System => add("system", &own),
            Speaker::Assistant => add("assistant", &own),
            // A message that only brings results is no new turn of the user.
            Speaker::User if own.is_empty() && results => {}
            Speaker::User => add("user", &own),
        }
    }
    let definitions = tools.into_iter().chain(request.schema.as_ref().map(|field| field.value));
    let blocks = request.turns.iter().flat_map(|turn| &turn.blocks);
    let beside =
        definitions.map(estimate_json_tokens).sum::<usize>() + blocks.map(beside_text_tokens).sum::<usize>();
    let shape = DraftShape {
        prompt_tokens: None,
        max_output_tokens: Some(i64::from(request.max_tokens)),
        needs_tools: !request.tools.is_empty() && request.choice != Choice::None,
        needs_vision: request.turns.iter().any(|turn| turn.blocks.iter().any(is_seen)),
        needs_json: request.schema.is_some(),
        beside_text_tokens: u32::try_from(beside).unwrap_or(u32::MAX),
        choices: 1,
    };
    Draft { messages, shape, ..Draft::default() }
}

/// Returns about how many tokens a block has beside its texts.
fn beside_text_tokens(block: &Block<'_>) -> usize {
    match block {
        Block::Text(_) | Block::Unknown(_) => 0,
        Block::Image(_) => IMAGE_TOKENS,
        Block::Pdf { .. } => FILE_TOKENS,
        Block::ToolUse { name, input, .. } => estimate_tokens(name) + estimate_json_tokens(input),
        Block::ToolResult { blocks, .. } => blocks.iter().map(beside_text_tokens).sum(),
    }
}

/// Returns whether a block needs a model that sees: an image, or a document that is not text.
fn is_seen(block: &Block<'_>) -> bool {
    match block {
        Block::Image(_) | Block::Pdf { .. } => true,
        Block::ToolResult { blocks, .. } => blocks.iter().any(is_seen),
        Block::Text(_) | Block::ToolUse { .. } | Block::Unknown(_) => false,
    }
}

#[cfg(test)]
mod answer_tests;
#[cfg(test)]
mod request_tests;
