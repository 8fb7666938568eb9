//! Answers of providers that speak something else, in OpenAI's form.

use serde_json::{Map, Value, json};

use crate::completion::answer::{Delta, ToolCall, ToolDelta, Usage, View};

/// What all chunks of one stream share.
#[derive(Debug, Clone, Copy)]
pub struct ChunkHead<'a> {
    pub id: &'a str,
    pub model: &'a str,
    /// Unix time, seconds.
    pub created: u64,
}

/// Returns a `chat.completion` of one choice.
pub fn completion(view: &View, head: ChunkHead<'_>) -> Value {
    let mut message = Map::new();
    message.insert("role".to_owned(), "assistant".into());
    let silent = view.text.is_empty() && (!view.tool_calls.is_empty() || !view.refusal.is_empty());
    message.insert("content".to_owned(), if silent { Value::Null } else { view.text.as_str().into() });
    message.insert("refusal".to_owned(), non_empty(&view.refusal).into());
    if !view.reasoning.is_empty() {
        message.insert("reasoning_content".to_owned(), view.reasoning.as_str().into());
    }
    if !view.tool_calls.is_empty() {
        message.insert("tool_calls".to_owned(), view.tool_calls.iter().map(tool_call).collect());
    }
    let mut answer = json!({
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": [{
            "index": 0,
            "message": message,
            "logprobs": null,
            "finish_reason": view.finish.map(|finish| finish.as_openai()),
        }],
    });
    if let Some(counted) = view.usage {
        answer["usage"] = usage(counted);
    }
    answer
}

/// Returns the chunk that opens a stream: the role, and nothing said yet.
pub fn opening(head: ChunkHead<'_>) -> Value {
    let said = ["role", "content"].into_iter().zip(["assistant", ""]);
    with_choice(head, &said.map(|(name, text)| (name.to_owned(), text.into())).collect(), None)
}

/// Returns a `chat.completion.chunk`. One that only reports usage has no choices.
pub fn chunk(delta: &Delta, head: ChunkHead<'_>) -> Value {
    let says_nothing = !delta.has_content() && delta.reasoning.is_empty() && delta.finish.is_none();
    if let (true, Some(counted)) = (says_nothing, delta.usage) {
        return usage_chunk(counted, head);
    }
    let mut said = Map::new();
    for (name, text) in
        [("content", &delta.text), ("refusal", &delta.refusal), ("reasoning_content", &delta.reasoning)]
    {
        if !text.is_empty() {
            said.insert(name.to_owned(), text.as_str().into());
        }
    }
    if !delta.tool_calls.is_empty() {
        said.insert("tool_calls".to_owned(), delta.tool_calls.iter().map(tool_delta).collect());
    }
    let finish = delta.finish.map(|finish| finish.as_openai());
    let mut chunk = with_choice(head, &said, finish);
    if let Some(counted) = delta.usage {
        chunk["usage"] = usage(counted);
    }
    chunk
}

/// Returns the chunk that reports usage and nothing else.
pub fn usage_chunk(counted: Usage, head: ChunkHead<'_>) -> Value {
    let mut chunk = with_choice(head, &Map::new(), None);
    chunk["choices"] = json!([]);
    chunk["usage"] = usage(counted);
    chunk
}

/// Returns OpenAI's `usage`.
pub fn usage(counted: Usage) -> Value {
    json!({
        "prompt_tokens": counted.input_tokens,
        "completion_tokens": counted.output_tokens,
        "total_tokens": counted.input_tokens.saturating_add(counted.output_tokens),
        "prompt_tokens_details": {"cached_tokens": counted.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": counted.reasoning_tokens},
    })
}

fn with_choice(head: ChunkHead<'_>, delta: &Map<String, Value>, finish_reason: Option<&str>) -> Value {
    json!({
        "id": head.id,
        "object": "chat.completion.chunk",
        "created": head.created,
        "model": head.model,
        "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason}],
    })
}

fn tool_call(call: &ToolCall) -> Value {
    json!({
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    })
}

/// The first part of a call names it; later ones only add arguments.
fn tool_delta(part: &ToolDelta) -> Value {
    let mut call = json!({"index": part.index, "function": {"arguments": part.arguments}});
    if !part.id.is_empty() {
        call["id"] = part.id.as_str().into();
    }
    if !part.name.is_empty() {
        call["type"] = "function".into();
        call["function"]["name"] = part.name.as_str().into();
    }
    call
}

fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
