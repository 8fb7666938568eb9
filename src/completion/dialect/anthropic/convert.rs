//! A request in Anthropic's dialect -> the same as OpenAI's chat completions take it. Pure.
//!
//! What OpenAI's dialect has no word for is left out, never guessed; [`dropped`] names it.

use serde_json::{Map, Value, json};

use super::request::{Block, Choice, Effort, Request, Source, Speaker, Tool, Turn, texts};

/// Stands between the texts of one message: many servers take a message's content only as one string.
pub const BETWEEN_TEXTS: &str = "\n\n";

/// Name of the schema of an answer, which OpenAI's dialect requires.
const SCHEMA_NAME: &str = "answer";

/// Fields of a request that arrive in the other dialect, or that say nothing to a model.
const CARRIED: [&str; 13] = [
    "cache_control",
    "max_tokens",
    "messages",
    "metadata",
    "output_config",
    "output_format",
    "stop_sequences",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_p",
];

/// Returns the body of a chat completion, without `model` and `stream`.
pub fn to_openai(request: &Request<'_>) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("messages".to_owned(), Value::Array(messages(request)));
    // Every compatible server knows `max_tokens`; not all know `max_completion_tokens`.
    body.insert("max_tokens".to_owned(), json!(request.max_tokens));
    for (name, number) in [("temperature", request.temperature), ("top_p", request.top_p)] {
        if let Some(number) = number {
            body.insert(name.to_owned(), number.clone());
        }
    }
    if !request.stop_sequences.is_empty() {
        body.insert("stop".to_owned(), json!(request.stop_sequences));
    }
    if let Some(effort) = request.effort {
        body.insert("reasoning_effort".to_owned(), json!(effort_name(effort)));
    }
    if let Some(schema) = &request.schema {
        // Not `strict`: that refuses schemas with optional properties, which this dialect allows.
        let schema = json!({ "name": SCHEMA_NAME, "schema": schema.value });
        body.insert("response_format".to_owned(), json!({ "type": "json_schema", "json_schema": schema }));
    }
    add_tools(request, &mut body);
    body
}

/// Names of lost content that are told.
const LOST_MAX: usize = 8;
/// Longest such name, bytes.
const LOST_BYTES_MAX: usize = 64;

/// Returns the names of what the conversation holds and [`to_openai`] cannot carry, each once. Without it an answer
/// would be one to another question.
pub fn lost(request: &Request<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for turn in &request.turns {
        add_lost(&turn.blocks, &mut names);
    }
    names
}

fn add_lost(blocks: &[Block<'_>], names: &mut Vec<String>) {
    for block in blocks {
        let name = match block {
            Block::Pdf { source: Source::Url(_), .. } => "document by address",
            Block::Pdf { source: Source::Elsewhere, .. } => "document by file id",
            Block::Image(Source::Elsewhere) => "image by file id",
            Block::Unknown(kind) => &kind[..kind.floor_char_boundary(LOST_BYTES_MAX)],
            Block::ToolResult { blocks, .. } => {
                add_lost(blocks, names);
                continue;
            }
            Block::Image(Source::Inline { .. } | Source::Url(_))
            | Block::Pdf { source: Source::Inline { .. }, .. }
            | Block::Text(_)
            | Block::ToolUse { .. } => continue,
        };
        if names.len() < LOST_MAX && !names.iter().any(|told| told == name) {
            names.push(name.escape_debug().to_string());
        }
    }
}

/// Returns the names of what `body`, a request in Anthropic's dialect, asks for and `to_openai` leaves out.
pub fn dropped(body: &Map<String, Value>) -> Vec<String> {
    let fields = body.keys().filter(|name| !CARRIED.contains(&name.as_str())).cloned();
    let tools = body.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let kinds = tools.iter().filter_map(|tool| tool.get("type")?.as_str());
    fields.chain(kinds.filter(|kind| *kind != "custom").map(|kind| format!("tools.{kind}"))).collect()
}

fn effort_name(effort: Effort) -> &'static str {
    match effort {
        Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
    }
}

fn add_tools(request: &Request<'_>, body: &mut Map<String, Value>) {
    let mut names = Vec::new();
    let mut functions = Vec::new();
    for tool in &request.tools {
        match tool {
            Tool::Function { name, description, schema } => {
                let mut function = json!({ "name": name, "parameters": schema });
                if let Some(description) = description {
                    function["description"] = json!(description);
                }
                names.push(*name);
                functions.push(json!({ "type": "function", "function": function }));
            }
            Tool::Provider => {}
        }
    }
    // A choice among no tools is refused.
    if functions.is_empty() {
        return;
    }
    body.insert("tools".to_owned(), Value::Array(functions));
    let choice = match request.choice {
        Choice::Unsaid => None,
        Choice::Auto => Some(json!("auto")),
        Choice::Any => Some(json!("required")),
        Choice::None => Some(json!("none")),
        Choice::Named(name) if names.contains(&name) => {
            Some(json!({ "type": "function", "function": { "name": name } }))
        }
        Choice::Named(_) => None,
    };
    if let Some(choice) = choice {
        body.insert("tool_choice".to_owned(), choice);
    }
    if request.one_tool {
        body.insert("parallel_tool_calls".to_owned(), json!(false));
    }
}

fn messages(request: &Request<'_>) -> Vec<Value> {
    let mut messages = Vec::new();
    if !request.system.is_empty() {
        messages.push(json!({ "role": "system", "content": request.system.join(BETWEEN_TEXTS) }));
    }
    for turn in &request.turns {
        match turn.speaker {
            Speaker::System => {
                messages
                    .push(json!({ "role": "system", "content": texts(&turn.blocks).join(BETWEEN_TEXTS) }));
            }
            Speaker::Assistant => messages.extend(assistant(turn)),
            Speaker::User => add_user(turn, &mut messages),
        }
    }
    messages
}

/// Returns the assistant's message, `None` when nothing of it can be carried.
fn assistant(turn: &Turn<'_>) -> Option<Value> {
    let text = texts(&turn.blocks).join(BETWEEN_TEXTS);
    let calls: Vec<Value> = turn.blocks.iter().filter_map(tool_call).collect();
    if calls.is_empty() {
        let said = turn.blocks.iter().any(|block| matches!(block, Block::Text(_)));
        return said.then(|| json!({ "role": "assistant", "content": text }));
    }
    let content = if text.is_empty() { Value::Null } else { Value::String(text) };
    Some(json!({ "role": "assistant", "content": content, "tool_calls": calls }))
}

fn tool_call(block: &Block<'_>) -> Option<Value> {
    let Block::ToolUse { id, name, input } = block else { return None };
    let function = json!({ "name": name, "arguments": input.to_string() });
    Some(json!({ "id": id, "type": "function", "function": function }))
}

/// Adds the results of tools first, since they must follow the calls directly, then the rest. Results hold
/// only text there, so their images go with the rest.
fn add_user(turn: &Turn<'_>, messages: &mut Vec<Value>) {
    let mut parts = Vec::new();
    let mut results = false;
    for block in &turn.blocks {
        if let Block::ToolResult { id, failed, blocks } = block {
            results = true;
            let text = texts(blocks).join(BETWEEN_TEXTS);
            // The flag has no other place, and a model that misses it takes the error for a result.
            let content = if *failed { format!("Error: {text}") } else { text };
            messages.push(json!({ "role": "tool", "tool_call_id": id, "content": content }));
            let media: Vec<Value> = blocks.iter().filter_map(media).collect();
            if !media.is_empty() {
                parts.push(text_part(&format!("From the result of tool call {id}:")));
                parts.extend(media);
            }
        }
    }
    let has_media = !parts.is_empty() || turn.blocks.iter().any(|block| media(block).is_some());
    if has_media {
        let own = turn.blocks.iter();
        parts.extend(own.filter_map(|block| match block {
            Block::Text(text) => Some(text_part(text)),
            other => media(other),
        }));
        messages.push(json!({ "role": "user", "content": parts }));
        return;
    }
    let own = texts(&turn.blocks);
    if !own.is_empty() || !results {
        messages.push(json!({ "role": "user", "content": own.join(BETWEEN_TEXTS) }));
    }
}

fn text_part(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

/// Returns the part of an image or a document, `None` for other blocks and for what cannot be carried.
fn media(block: &Block<'_>) -> Option<Value> {
    match block {
        Block::Image(Source::Inline { media_type, base64 }) => {
            Some(image_part(&format!("data:{media_type};base64,{base64}")))
        }
        Block::Image(Source::Url(url)) => Some(image_part(url)),
        Block::Pdf { title, source: Source::Inline { media_type, base64 } } => {
            let data = format!("data:{media_type};base64,{base64}");
            let name = title.unwrap_or("document.pdf");
            Some(json!({ "type": "file", "file": { "filename": name, "file_data": data } }))
        }
        Block::Image(Source::Elsewhere)
        | Block::Pdf { source: Source::Url(_) | Source::Elsewhere, .. }
        | Block::Text(_)
        | Block::ToolUse { .. }
        | Block::ToolResult { .. }
        | Block::Unknown(_) => None,
    }
}

fn image_part(url: &str) -> Value {
    json!({ "type": "image_url", "image_url": { "url": url } })
}
