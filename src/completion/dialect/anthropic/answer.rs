//! A whole answer: read from a provider that speaks this dialect ([`view`]), written for a caller who does
//! ([`message`]). Pure.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::completion::answer::{Answer, Finish, Raw, ToolCall, Usage, View};

/// Stands as the signature of thinking that came from another dialect, which signs none. Callers send it back
/// with the next request, where it tells what the provider of this dialect would refuse.
pub const SIGNATURE: &str = "pointsman";

/// Returns what checks and accounting read of a `message`; an error says what is none about it.
pub fn view(message: &Value) -> Result<View, String> {
    if let Some(problem) = error_text(message) {
        return Err(problem);
    }
    let blocks = message.get("content").and_then(Value::as_array).ok_or("a message without content")?;
    let mut view = View { finish: finish(message), ..View::default() };
    for block in blocks {
        match text_of(block, "type") {
            "text" => view.text.push_str(text_of(block, "text")),
            "thinking" => view.reasoning.push_str(text_of(block, "thinking")),
            "tool_use" => view.tool_calls.push(ToolCall {
                id: text_of(block, "id").to_owned(),
                name: text_of(block, "name").to_owned(),
                arguments: block.get("input").map_or_else(|| "{}".to_owned(), Value::to_string),
            }),
            other => view.other_content |= is_other_content(other),
        }
    }
    view.other_content |= is_paused(message);
    text_of(message.get("stop_details").unwrap_or(&Value::Null), "explanation").clone_into(&mut view.refusal);
    let mut counts = Counts::default();
    view.usage = counts.add(message.get("usage")).then(|| counts.usage());
    Ok(view)
}

/// Returns whether a block of this type is content of an answer that a [`View`] has no word for: what the
/// provider's own tools were asked and found.
pub fn is_other_content(block_type: &str) -> bool {
    !matches!(block_type, "text" | "thinking" | "redacted_thinking" | "tool_use")
}

/// Returns whether the provider broke a long turn off for the caller to send it back; such an answer need not say
/// anything yet.
pub fn is_paused(holder: &Value) -> bool {
    text_of(holder, "stop_reason") == "pause_turn"
}

/// Returns the answer as a `message`; one of this dialect stays as it is.
///
/// Arguments of a tool that are no JSON object stand in the input as `_raw`.
pub fn message(answer: &Answer, model: &str, id: &str) -> Value {
    let view = match &answer.raw {
        Raw::Anthropic(message) => return message.clone(),
        Raw::OpenAi(_) => &answer.view,
    };
    let mut content = Vec::new();
    if !view.reasoning.is_empty() {
        content.push(json!({ "type": "thinking", "thinking": view.reasoning, "signature": SIGNATURE }));
    }
    let text = format!("{}{}", view.text, view.refusal);
    if !text.is_empty() {
        content.push(json!({ "type": "text", "text": text }));
    }
    for (at, call) in view.tool_calls.iter().enumerate() {
        let input = tool_input(&call.arguments);
        let call_id = tool_id(&call.id, id, at);
        content.push(json!({ "type": "tool_use", "id": call_id, "name": call.name, "input": input }));
    }
    let ending = Ending {
        finish: view.finish,
        called_tools: !view.tool_calls.is_empty(),
        refused: !view.refusal.is_empty(),
    };
    json!({
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": ending.stop_reason(),
        "stop_sequence": null,
        "usage": usage_json(&view.usage.unwrap_or_default()),
    })
}

/// What decides about an answer's `stop_reason`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ending {
    pub finish: Option<Finish>,
    pub called_tools: bool,
    pub refused: bool,
}

impl Ending {
    /// Returns the `stop_reason`. Callers go on with a tool only when it says so, and some servers say "stop"
    /// for it, so calls that are there count for more.
    pub fn stop_reason(self) -> &'static str {
        match self.finish {
            Some(Finish::Length) => "max_tokens",
            Some(Finish::ContentFilter) => "refusal",
            Some(Finish::Stop | Finish::ToolCalls | Finish::Other) | None if self.called_tools => "tool_use",
            Some(Finish::Stop | Finish::ToolCalls | Finish::Other) | None if self.refused => "refusal",
            Some(Finish::Stop | Finish::ToolCalls | Finish::Other) | None => "end_turn",
        }
    }
}

/// Returns why the model stopped, `None` when `holder` does not say.
pub fn finish(holder: &Value) -> Option<Finish> {
    Some(match holder.get("stop_reason")?.as_str()? {
        "end_turn" | "stop_sequence" => Finish::Stop,
        "max_tokens" | "model_context_window_exceeded" => Finish::Length,
        "tool_use" => Finish::ToolCalls,
        "refusal" => Finish::ContentFilter,
        // pause_turn, and what is not known yet.
        _ => Finish::Other,
    })
}

/// Returns whether a body or an event tells of an error instead of an answer.
pub fn is_error(value: &Value) -> bool {
    text_of(value, "type") == "error" || value.get("error").is_some_and(Value::is_object)
}

/// Returns the text of an error, `None` when `value` is none.
pub fn error_text(value: &Value) -> Option<String> {
    let error = is_error(value).then(|| value.get("error").unwrap_or(&Value::Null))?;
    let kind = Some(text_of(error, "type")).filter(|kind| !kind.is_empty()).unwrap_or("error");
    Some(format!("{kind}: {}", text_of(error, "message")))
}

/// Returns the text of a field, empty when there is none.
pub fn text_of<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Token counts as this dialect gives them: input apart from what the cache took or gave.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    input: u64,
    cache_read: u64,
    cache_write: u64,
    output: u64,
    thinking: u64,
}

impl Counts {
    /// Adds a `usage` object and returns whether there was one. Counts of one answer only grow, so the larger
    /// one counts.
    pub fn add(&mut self, usage: Option<&Value>) -> bool {
        let Some(usage) = usage.and_then(Value::as_object) else { return false };
        let count = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or(0);
        self.input = self.input.max(count("input_tokens"));
        self.cache_read = self.cache_read.max(count("cache_read_input_tokens"));
        self.cache_write = self.cache_write.max(count("cache_creation_input_tokens"));
        self.output = self.output.max(count("output_tokens"));
        let thinking = usage.get("output_tokens_details").and_then(|details| details.get("thinking_tokens"));
        self.thinking = self.thinking.max(thinking.and_then(Value::as_u64).unwrap_or(0));
        true
    }

    /// Returns the same with the whole input in one number.
    pub fn usage(self) -> Usage {
        Usage {
            input_tokens: self.input.saturating_add(self.cache_read).saturating_add(self.cache_write),
            cached_input_tokens: self.cache_read,
            cache_write_tokens: self.cache_write,
            output_tokens: self.output,
            reasoning_tokens: self.thinking,
        }
    }
}

/// Returns the `usage` object.
pub fn usage_json(usage: &Usage) -> Value {
    let apart = usage.cached_input_tokens.saturating_add(usage.cache_write_tokens);
    json!({
        "input_tokens": usage.input_tokens.saturating_sub(apart),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
    })
}

fn tool_input(arguments: &str) -> Value {
    if arguments.trim().is_empty() {
        return Value::Object(Map::new());
    }
    match serde_json::from_str(arguments) {
        Ok(Value::Object(input)) => Value::Object(input),
        Ok(_) | Err(_) => json!({ "_raw": arguments }),
    }
}

/// Returns the id of a tool call as this dialect allows it (letters, digits, `_` and `-`, unique in a
/// conversation): some servers give other characters, or none.
pub fn tool_id(id: &str, message_id: &str, at: usize) -> String {
    if id.is_empty() {
        return made_up_id(message_id, at);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    id.chars().map(|c| if allowed(c) { c } else { '_' }).collect()
}

/// As long as the provider's own: OpenAI takes at most 40 characters, and a conversation may go on there.
fn made_up_id(message_id: &str, at: usize) -> String {
    const DIGEST_BYTES: usize = 12;
    let digest = Sha256::new().chain_update(message_id).chain_update(at.to_le_bytes()).finalize();
    let digits: String = digest.iter().take(DIGEST_BYTES).map(|byte| format!("{byte:02x}")).collect();
    format!("toolu_{digits}")
}
