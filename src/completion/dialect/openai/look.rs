//! What checks and accounting see of a provider's `chat.completion` and of its chunks.
//!
//! Reads only what it knows, and fails only where there is no answer to see: providers differ in details.

use serde_json::Value;

use crate::completion::answer::{Delta, Finish, LogprobSum, ToolCall, ToolDelta, Usage, View};

/// Largest count that a floating-point number in JSON can stand for exactly.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Returns what is seen of a whole answer.
pub fn view(answer: &Value) -> Result<View, String> {
    let choice = first_choice(answer)?.ok_or("the answer has no choices")?;
    let message = choice.get("message").filter(|message| message.is_object());
    let message = message.ok_or("the answer's first choice has no message")?;
    let Said { text, refusal, reasoning } = said(message);
    Ok(View {
        text,
        refusal,
        reasoning,
        tool_calls: tool_parts(message)
            .into_iter()
            .map(|ToolDelta { id, name, arguments, .. }| ToolCall { id, name, arguments })
            .collect(),
        finish: finish(choice),
        usage: usage_of(answer),
        logprobs: logprobs(choice),
        other_content: false,
    })
}

/// Returns what a chunk adds. One that only reports usage, or is about another choice than the first, adds no
/// content.
pub fn delta(chunk: &Value) -> Result<Delta, String> {
    if let Some(error) = error_of(chunk) {
        let message = error.as_str().or_else(|| error.get("message").and_then(Value::as_str));
        return Err(message.unwrap_or("an error without a message").to_owned());
    }
    let usage = usage_of(chunk);
    let choice = match (first_choice(chunk), usage) {
        (Ok(choice), _) => choice,
        (Err(_), Some(_)) => None,
        (Err(problem), None) => return Err(problem),
    };
    let Some(choice) = choice else {
        return Ok(Delta { usage, progress: usage.is_none() && any_adds(chunk), ..Delta::default() });
    };
    let Said { text, refusal, reasoning } = choice.get("delta").map(said).unwrap_or_default();
    let mut delta = Delta {
        text,
        refusal,
        reasoning,
        tool_calls: choice.get("delta").map(tool_parts).unwrap_or_default(),
        finish: finish(choice),
        usage,
        logprobs: logprobs(choice),
        other_content: false,
        progress: false,
    };
    delta.progress = !delta.shows_work() && any_adds(chunk);
    Ok(delta)
}

/// Returns whether any choice of a chunk adds anything but a role, known or not.
fn any_adds(chunk: &Value) -> bool {
    let choices = chunk.get("choices").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    choices.iter().any(|choice| {
        let fields = choice.get("delta").and_then(Value::as_object);
        finish(choice).is_some()
            || fields
                .is_some_and(|fields| fields.iter().any(|(name, value)| name != "role" && !is_nothing(value)))
    })
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Returns the error that stands in place of an answer or a chunk, or ends one of its choices.
pub fn error_of(answer: &Value) -> Option<&Value> {
    if answer.get("object").and_then(Value::as_str) == Some("error") {
        return Some(answer);
    }
    let choices = answer.get("choices").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    answer.get("error").filter(|error| !error.is_null()).or_else(|| choices.iter().find_map(choice_error))
}

/// Reasons of an end that are none: OpenRouter's, DeepSeek's, vLLM's and Gemini's words for a model that failed
/// half-way.
const FAILED: [&str; 6] = [
    "error",
    "insufficient_system_resource",
    "abort",
    "malformed_function_call",
    "malformed_response",
    "unexpected_tool_call",
];
/// Gemini's and others' words for a filter.
const FILTERED: [&str; 5] = ["content_filter", "safety", "recitation", "prohibited_content", "blocklist"];

fn choice_error(choice: &Value) -> Option<&Value> {
    let reason = choice.get("finish_reason").and_then(Value::as_str).unwrap_or_default();
    let has_failed = FAILED.iter().any(|failed| reason.eq_ignore_ascii_case(failed));
    choice.get("error").filter(|error| !error.is_null()).or(has_failed.then_some(choice))
}

/// Returns the choice of index 0, which a chunk need not have. A choice without an index counts by its place.
fn first_choice(answer: &Value) -> Result<Option<&Value>, String> {
    let choices = match answer.get("choices") {
        Some(Value::Array(choices)) => choices,
        Some(_) => return Err("choices is not a list".to_owned()),
        None => return Err("choices is missing".to_owned()),
    };
    let index =
        |(at, choice): (usize, &Value)| choice.get("index").and_then(Value::as_u64).unwrap_or(at as u64);
    Ok(choices.iter().enumerate().find(|(at, choice)| index((*at, choice)) == 0).map(|(_, choice)| choice))
}

#[derive(Default)]
struct Said {
    text: String,
    refusal: String,
    reasoning: String,
}

fn said(message: &Value) -> Said {
    let text = |name: &str| message.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let mut said = Said {
        text: String::new(),
        refusal: text("refusal").unwrap_or_default().to_owned(),
        reasoning: text("reasoning_content").or_else(|| text("reasoning")).unwrap_or_default().to_owned(),
    };
    match message.get("content") {
        Some(Value::String(content)) => said.text.clone_from(content),
        // Mistral's reasoning models answer in parts.
        Some(Value::Array(parts)) => parts.iter().for_each(|part| add_part(part, &mut said)),
        _ => {}
    }
    said
}

fn add_part(part: &Value, said: &mut Said) {
    match part.get("thinking") {
        Some(Value::String(text)) => said.reasoning.push_str(text),
        Some(Value::Array(thoughts)) => {
            let texts = thoughts.iter().filter_map(|thought| thought.get("text").and_then(Value::as_str));
            texts.for_each(|text| said.reasoning.push_str(text));
        }
        _ => said.text.push_str(part.get("text").and_then(Value::as_str).unwrap_or_default()),
    }
}

/// Returns the tool calls of a message or a delta; a call without an index counts by its place.
fn tool_parts(message: &Value) -> Vec<ToolDelta> {
    if let Some(Value::Array(calls)) = message.get("tool_calls") {
        return calls
            .iter()
            .enumerate()
            .map(|(at, call)| {
                let index =
                    call.get("index").and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok());
                let function = call.get("function").or_else(|| call.get("custom")).unwrap_or(&Value::Null);
                ToolDelta {
                    index: index.unwrap_or(at),
                    id: text_in(call, "id"),
                    name: text_in(function, "name"),
                    arguments: arguments(function),
                }
            })
            .collect();
    }
    // What a tool call was before there were tools.
    match message.get("function_call") {
        Some(function @ Value::Object(_)) => vec![ToolDelta {
            index: 0,
            id: String::new(),
            name: text_in(function, "name"),
            arguments: arguments(function),
        }],
        _ => Vec::new(),
    }
}

fn text_in(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Some servers give the arguments as an object instead of its text.
fn arguments(function: &Value) -> String {
    match function.get("arguments").or_else(|| function.get("input")) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

fn finish(choice: &Value) -> Option<Finish> {
    match choice.get("finish_reason").and_then(Value::as_str)? {
        "" => None,
        "stop" => Some(Finish::Stop),
        // "model_length" is Mistral's word for a full context window.
        "length" | "model_length" => Some(Finish::Length),
        "tool_calls" | "function_call" => Some(Finish::ToolCalls),
        reason if FILTERED.iter().any(|filter| reason.eq_ignore_ascii_case(filter)) => {
            Some(Finish::ContentFilter)
        }
        _ => Some(Finish::Other),
    }
}

/// Returns the usage, `None` unless both prompt and answer were counted.
fn usage_of(answer: &Value) -> Option<Usage> {
    let present = |usage: Option<&'_ Value>| usage.is_some_and(Value::is_object);
    let usage = answer.get("usage");
    // Groq's place for it in streams.
    let usage = if present(usage) { usage? } else { answer.get("x_groq")?.get("usage")? };
    let input_tokens = count(usage, "prompt_tokens")?;
    let said_tokens = count(usage, "completion_tokens")?;
    let of_prompt = usage.get("prompt_tokens_details").unwrap_or(&Value::Null);
    let of_answer = usage.get("completion_tokens_details").unwrap_or(&Value::Null);
    let reasoning_tokens = count(of_answer, "reasoning_tokens").unwrap_or(0);
    // xAI leaves reasoning out of completion_tokens; its total tells.
    let all = input_tokens.checked_add(said_tokens)?.checked_add(reasoning_tokens)?;
    let is_apart = reasoning_tokens > 0 && count(usage, "total_tokens") == Some(all);
    Some(Usage {
        input_tokens,
        cached_input_tokens: count(of_prompt, "cached_tokens")
            .or_else(|| count(usage, "prompt_cache_hit_tokens"))
            .unwrap_or(0),
        cache_write_tokens: count(of_prompt, "cache_write_tokens")
            .or_else(|| count(usage, "cache_creation_input_tokens"))
            .unwrap_or(0),
        output_tokens: if is_apart { said_tokens + reasoning_tokens } else { said_tokens },
        reasoning_tokens,
    })
}

fn count(value: &Value, name: &str) -> Option<u64> {
    let value = value.get(name)?;
    let whole = |number: f64| (0.0..=WHOLE_MAX).contains(&number) && number.fract() == 0.0;
    value.as_u64().or_else(|| value.as_f64().filter(|number| whole(*number)).map(|number| number as u64))
}

fn logprobs(choice: &Value) -> LogprobSum {
    let tokens =
        choice.get("logprobs").and_then(|logprobs| logprobs.get("content")).and_then(Value::as_array);
    let mut sum = LogprobSum::default();
    for token in tokens.into_iter().flatten() {
        if let Some(logprob) = token.get("logprob").and_then(Value::as_f64) {
            sum.sum += logprob.min(0.0);
            sum.tokens += 1;
        }
    }
    sum
}

#[cfg(test)]
#[path = "look_tests.rs"]
mod tests;
