//! A caller's body -> [`Incoming`], or every bad field.
//!
//! Checks what routing and the quality checks rely on; everything else is the provider's to judge and goes there
//! as it came.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::schema::compile;
use crate::{
    completion::{
        chat::{Asks, Chat, JsonAsk, ToolAsk},
        dialect::{FILE_TOKENS, IMAGE_TOKENS, Incoming},
    },
    prompt::{Context, Draft, DraftMessage, DraftPreferences, DraftShape},
    routing::{
        admit::{BadRequest, FieldProblem, Problems},
        cost::estimate_json_tokens,
    },
};

/// More is refused here, before it is looked at; `limits.messages_max` is usually lower.
const MESSAGES_MAX: usize = 16_384;
const PARTS_MAX: usize = 4096;
/// OpenAI allows 128.
const TOOLS_MAX: usize = 1024;
/// OpenAI's own limit.
pub const CHOICES_MAX: usize = 128;
/// As high as `routing::admit` lets through.
const OUTPUT_TOKENS_MAX: i64 = 100_000_000;
/// Longest list of names or tags; `routing::admit` has the limits that count.
const LIST_MAX: usize = 4096;
/// Longest part of a text that an error quotes, characters.
const QUOTED_CHARS_MAX: usize = 40;

/// Taken out of what goes upstream: providers set them, or pointsman alone reads them.
const OWN_FIELDS: [&str; 4] = ["model", "stream", "stream_options", "pointsman"];

/// Reads a body of `/v1/chat/completions`.
pub fn read(body: Map<String, Value>) -> Result<Incoming, BadRequest> {
    let mut problems = Problems::default();
    let field = |name: &str| body.get(name).filter(|value| !value.is_null());

    let model = match field("model") {
        Some(Value::String(model)) if !model.is_empty() => model.clone(),
        Some(Value::String(_)) => {
            problem(&mut problems, "model", "is empty: give \"auto\", \"tier:NAME\" or a target")
        }
        Some(other) => problem(&mut problems, "model", wrong_type(other, "a string")),
        None => problem(&mut problems, "model", "is missing: give \"auto\", \"tier:NAME\" or a target"),
    };
    let stream = field("stream").is_some_and(|value| boolean(value, "stream", &mut problems));
    let (include_usage, kept_options) = stream_options(field("stream_options"), &mut problems);

    let (messages, beside) = messages(body.get("messages"), &mut problems);
    let (needs_tools, tool) = tools(&field, &mut problems);
    let json = response_format(field("response_format"), &mut problems);
    let max_tokens = output_tokens(field("max_tokens"), "max_tokens", &mut problems);
    let max_completion_tokens =
        output_tokens(field("max_completion_tokens"), "max_completion_tokens", &mut problems);
    let output_tokens_max = max_completion_tokens.or(max_tokens);
    let choices = field("n").map_or(1, |value| choices(value, &mut problems));
    let (context, preferences) = extension(field("pointsman"), &mut problems);
    let defining = ["tools", "functions", "response_format"];
    let definitions: usize = defining.iter().filter_map(|name| field(name)).map(estimate_json_tokens).sum();

    if !problems.0.is_empty() {
        return Err(BadRequest(problems.0));
    }
    let draft = Draft {
        prompt: None,
        messages,
        context,
        shape: DraftShape {
            prompt_tokens: None,
            max_output_tokens: output_tokens_max.map(i64::from),
            needs_tools,
            needs_vision: beside.is_seen,
            needs_json: !matches!(json, JsonAsk::No),
            beside_text_tokens: u32::try_from(beside.tokens + definitions).unwrap_or(u32::MAX),
            choices,
        },
        preferences,
        model: Some(model.clone()),
        explain: false,
    };
    let mut openai: Map<String, Value> =
        body.into_iter().filter(|(name, _)| !OWN_FIELDS.contains(&name.as_str())).collect();
    if let Some(options) = kept_options {
        openai.insert("stream_options".to_owned(), Value::Object(options));
    }
    let asks = Asks { json, tool, output_tokens_max, choices };
    let chat = Chat { openai, asks, ..Chat::default() };
    Ok(Incoming { chat, draft, model, stream, include_usage })
}

/// Renames the fields that `routing::admit` found fault with to what a caller of this dialect wrote.
pub fn in_callers_words(BadRequest(problems): BadRequest) -> BadRequest {
    let rename = |FieldProblem { field, problem, kind }| {
        let own = field.strip_prefix("context.").or_else(|| field.strip_prefix("preferences."));
        let field = match own {
            Some(name) => format!("pointsman.{name}"),
            None if field == "shape.max_output_tokens" => "max_tokens".to_owned(),
            None => field,
        };
        FieldProblem { field, problem, kind }
    };
    BadRequest(problems.into_iter().map(rename).collect())
}

/// Returns whether usage is wanted, and the options that go upstream beside it.
fn stream_options(value: Option<&Value>, problems: &mut Problems) -> (bool, Option<Map<String, Value>>) {
    let Some(value) = value else { return (false, None) };
    let Some(options) = value.as_object() else {
        problems.add("stream_options", wrong_type(value, "an object"));
        return (false, None);
    };
    let include_usage = match options.get("include_usage") {
        None | Some(Value::Null) => false,
        Some(value) => boolean(value, "stream_options.include_usage", problems),
    };
    let kept: Map<String, Value> = options
        .iter()
        .filter(|(name, _)| *name != "include_usage")
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    (include_usage, (!kept.is_empty()).then_some(kept))
}

/// What messages hold beside their texts.
#[derive(Default)]
struct Beside {
    /// Whether there is something to look at.
    is_seen: bool,
    tokens: usize,
}

/// Returns the texts for routing, and what else the messages hold.
fn messages(value: Option<&Value>, problems: &mut Problems) -> (Vec<DraftMessage>, Beside) {
    let list = match value {
        Some(Value::Array(list)) => list,
        Some(Value::Null) | None => {
            problems.add("messages", "is missing: give at least one message");
            return (Vec::new(), Beside::default());
        }
        Some(other) => {
            problems.add("messages", wrong_type(other, "a list"));
            return (Vec::new(), Beside::default());
        }
    };
    if list.is_empty() {
        problems.add("messages", "is empty: give at least one message");
    }
    if list.len() > MESSAGES_MAX {
        problems.add("messages", format!("{} messages, at most {MESSAGES_MAX}", list.len()));
        return (Vec::new(), Beside::default());
    }
    let mut beside = Beside::default();
    let drafts = list
        .iter()
        .enumerate()
        .map(|(at, message)| {
            let path = format!("messages[{at}]");
            let Some(message) = message.as_object() else {
                problems.add(path, wrong_type(message, "an object"));
                return DraftMessage::default();
            };
            let role = role(message.get("role"), &path, problems);
            let content = content(message.get("content"), &path, &mut beside, problems);
            let calls = ["tool_calls", "function_call"];
            beside.tokens +=
                calls.iter().filter_map(|name| message.get(*name)).map(estimate_json_tokens).sum::<usize>();
            DraftMessage { role, content }
        })
        .collect();
    (drafts, beside)
}

fn role(value: Option<&Value>, path: &str, problems: &mut Problems) -> String {
    let field = format!("{path}.role");
    match value {
        Some(Value::String(role)) => match role.as_str() {
            "system" | "developer" | "user" | "assistant" | "tool" => role.clone(),
            // What "tool" was called before there were tools.
            "function" => "tool".to_owned(),
            other => {
                let known = "system, developer, user, assistant, tool and function are known";
                problem(problems, field, format!("{:?} is no role; {known}", quoted(other)))
            }
        },
        Some(Value::Null) | None => problem(problems, field, "is missing"),
        Some(other) => problem(problems, field, wrong_type(other, "a string")),
    }
}

fn content(value: Option<&Value>, path: &str, beside: &mut Beside, problems: &mut Problems) -> String {
    let path = format!("{path}.content");
    let parts = match value {
        None | Some(Value::Null) => return String::new(),
        Some(Value::String(text)) => return text.clone(),
        Some(Value::Array(parts)) => parts,
        Some(other) => return problem(problems, path, wrong_type(other, "a string or a list of parts")),
    };
    if parts.len() > PARTS_MAX {
        return problem(problems, path, format!("{} parts, at most {PARTS_MAX}", parts.len()));
    }
    let mut texts = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let path = format!("{path}[{at}]");
        let Some(part) = part.as_object() else {
            problems.add(path, wrong_type(part, "an object"));
            continue;
        };
        match part.get("type") {
            Some(Value::String(kind)) => match kind.as_str() {
                "text" => texts.extend(text_of(part, "text", &path, problems)),
                "refusal" => texts.extend(text_of(part, "refusal", &path, problems)),
                "image_url" | "image" | "input_image" => {
                    beside.is_seen = true;
                    beside.tokens += IMAGE_TOKENS;
                }
                "video_url" => {
                    beside.is_seen = true;
                    beside.tokens += FILE_TOKENS;
                }
                // Audio, files and what is yet to come: the provider knows.
                _ => beside.tokens += FILE_TOKENS,
            },
            Some(other) => problems.add(format!("{path}.type"), wrong_type(other, "a string")),
            None => problems.add(format!("{path}.type"), "is missing"),
        }
    }
    texts.join("\n")
}

fn text_of<'a>(
    part: &'a Map<String, Value>,
    name: &str,
    path: &str,
    problems: &mut Problems,
) -> Option<&'a str> {
    match part.get(name) {
        Some(Value::String(text)) => return Some(text),
        Some(other) => problems.add(format!("{path}.{name}"), wrong_type(other, "a string")),
        None => problems.add(format!("{path}.{name}"), "is missing"),
    }
    None
}

/// Returns whether the target must know tools, and what the answer must do with them.
fn tools<'a>(field: &impl Fn(&str) -> Option<&'a Value>, problems: &mut Problems) -> (bool, ToolAsk) {
    let tools = list_of_objects(field("tools"), "tools", problems);
    let functions = list_of_objects(field("functions"), "functions", problems);
    let ask = match field("tool_choice") {
        Some(choice) => tool_choice(choice, problems),
        None => None,
    };
    let old_ask = match field("function_call") {
        Some(choice) => function_call(choice, problems),
        None => None,
    };
    let forbidden = |choice: Option<&Value>| choice.and_then(Value::as_str) == Some("none");
    let needs =
        tools > 0 && !forbidden(field("tool_choice")) || functions > 0 && !forbidden(field("function_call"));
    (needs, ask.or(old_ask).unwrap_or_default())
}

fn list_of_objects(value: Option<&Value>, path: &str, problems: &mut Problems) -> usize {
    let list = match value {
        None => return 0,
        Some(Value::Array(list)) => list,
        Some(other) => {
            problems.add(path, wrong_type(other, "a list"));
            return 0;
        }
    };
    if list.len() > TOOLS_MAX {
        problems.add(path, format!("{} entries, at most {TOOLS_MAX}", list.len()));
    }
    for (at, tool) in list.iter().enumerate().take(TOOLS_MAX) {
        if !tool.is_object() {
            problems.add(format!("{path}[{at}]"), wrong_type(tool, "an object"));
        }
    }
    list.len()
}

fn tool_choice(choice: &Value, problems: &mut Problems) -> Option<ToolAsk> {
    let object = match choice {
        Value::String(word) => {
            return match word.as_str() {
                // "any" is Mistral's word for it.
                "required" | "any" => Some(ToolAsk::Any),
                _ => None,
            };
        }
        Value::Object(object) => object,
        other => return problem(problems, "tool_choice", wrong_type(other, "a string or an object")),
    };
    let kind = object.get("type").and_then(Value::as_str).unwrap_or("function");
    if kind == "allowed_tools" {
        let required = object.get("allowed_tools").and_then(|allowed| allowed.get("mode"));
        return (required.and_then(Value::as_str) == Some("required")).then_some(ToolAsk::Any);
    }
    match object.get(kind).and_then(|named| named.get("name")) {
        Some(Value::String(name)) => Some(ToolAsk::Named(name.clone())),
        Some(other) => {
            problem(problems, format!("tool_choice.{}.name", quoted(kind)), wrong_type(other, "a string"))
        }
        // A form that this version does not know.
        None if kind != "function" => None,
        None => problem(problems, "tool_choice.function.name", "is missing"),
    }
}

fn function_call(choice: &Value, problems: &mut Problems) -> Option<ToolAsk> {
    match choice {
        Value::String(_) => None,
        Value::Object(named) => match named.get("name") {
            Some(Value::String(name)) => Some(ToolAsk::Named(name.clone())),
            _ => problem(problems, "function_call.name", "must be a string"),
        },
        other => problem(problems, "function_call", wrong_type(other, "a string or an object")),
    }
}

fn response_format(value: Option<&Value>, problems: &mut Problems) -> JsonAsk {
    let Some(value) = value else { return JsonAsk::No };
    let Some(format) = value.as_object() else {
        return problem(problems, "response_format", wrong_type(value, "an object"));
    };
    match format.get("type").and_then(Value::as_str) {
        Some("json_object") => JsonAsk::Object,
        Some("json_schema") => match format.get("json_schema") {
            Some(Value::Object(named)) => match named.get("schema") {
                Some(schema) => schema_ask(schema, "response_format.json_schema.schema", problems),
                None => JsonAsk::Object,
            },
            Some(other) => problem(problems, "response_format.json_schema", wrong_type(other, "an object")),
            None => problem(problems, "response_format.json_schema", "is missing"),
        },
        // "text", and grammars that the provider knows.
        Some(_) => JsonAsk::No,
        None => problem(problems, "response_format.type", "must be a string"),
    }
}

/// Compiles the schema that stands at `path`. Nothing is fetched for it, from nowhere.
pub fn schema_ask(schema: &Value, path: &str, problems: &mut Problems) -> JsonAsk {
    match compile(schema) {
        Ok(validator) => JsonAsk::Schema(Arc::new(validator)),
        Err(reason) => problem(problems, path, reason),
    }
}

fn output_tokens(value: Option<&Value>, path: &str, problems: &mut Problems) -> Option<u32> {
    let number = integer(value?, path, problems)?;
    if (0..=OUTPUT_TOKENS_MAX).contains(&number) {
        return Some(number as u32);
    }
    problem(problems, path, format!("{number} is not within 0 to {OUTPUT_TOKENS_MAX}"))
}

fn choices(value: &Value, problems: &mut Problems) -> u32 {
    match integer(value, "n", problems) {
        Some(number) if (1..=CHOICES_MAX as i64).contains(&number) => number as u32,
        Some(number) => problem(problems, "n", format!("{number} is not within 1 to {CHOICES_MAX}")),
        None => 1,
    }
}

/// Reads `pointsman`, the object by which a caller of either dialect tells the router more than its fields can.
pub fn extension(value: Option<&Value>, problems: &mut Problems) -> (Context, DraftPreferences) {
    let mut context = Context::default();
    let mut preferences = DraftPreferences::default();
    let Some(value) = value else { return (context, preferences) };
    let Some(fields) = value.as_object() else {
        problems.add("pointsman", wrong_type(value, "an object"));
        return (context, preferences);
    };
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let path = format!("pointsman.{}", quoted(name));
        match name.as_str() {
            "tenant" => context.tenant = text(value, path, problems),
            "session_id" => context.session_id = text(value, path, problems),
            "task_type" => context.task_type = text(value, path, problems),
            "language" => context.language = text(value, path, problems),
            "tags" => context.tags = texts(value, &path, problems),
            "quality" => preferences.quality = number(value, path, problems),
            "cost_usd_max" => preferences.cost_usd_max = number(value, path, problems),
            "latency_ms_max" => preferences.latency_ms_max = integer(value, &path, problems),
            "tier_min" => preferences.tier_min = text(value, path, problems),
            "tier_max" => preferences.tier_max = text(value, path, problems),
            "allow_targets" => preferences.allow_targets = texts(value, &path, problems),
            "deny_targets" => preferences.deny_targets = texts(value, &path, problems),
            _ => {
                let known = "tenant, session_id, tags, task_type, language, quality, cost_usd_max, \
                             latency_ms_max, tier_min, tier_max, allow_targets and deny_targets are known";
                problems.add(path, format!("is unknown; {known}"));
            }
        }
    }
    (context, preferences)
}

fn text(value: &Value, path: String, problems: &mut Problems) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => problem(problems, path, wrong_type(other, "a string")),
    }
}

fn texts(value: &Value, path: &str, problems: &mut Problems) -> Vec<String> {
    match value {
        Value::Array(list) if list.len() > LIST_MAX => {
            problem(problems, path, format!("{} entries, at most {LIST_MAX}", list.len()))
        }
        Value::Array(list) => {
            list.iter().enumerate().map(|(at, item)| text(item, format!("{path}[{at}]"), problems)).collect()
        }
        other => problem(problems, path, wrong_type(other, "a list of strings")),
    }
}

fn number(value: &Value, path: String, problems: &mut Problems) -> Option<f64> {
    match value.as_f64() {
        Some(number) => Some(number),
        None => problem(problems, path, wrong_type(value, "a number")),
    }
}

fn integer(value: &Value, path: &str, problems: &mut Problems) -> Option<i64> {
    match value.as_i64() {
        Some(number) => Some(number),
        None if value.is_number() => {
            problem(problems, path, format!("{value} is not a whole number in range"))
        }
        None => problem(problems, path, wrong_type(value, "a whole number")),
    }
}

fn boolean(value: &Value, path: &str, problems: &mut Problems) -> bool {
    match value {
        Value::Bool(flag) => *flag,
        other => problem(problems, path, wrong_type(other, "true or false")),
    }
}

/// Notes a problem and returns an empty value in place of the bad one.
fn problem<T: Default>(problems: &mut Problems, path: impl Into<String>, what: impl Into<String>) -> T {
    problems.add(path, what);
    T::default()
}

fn wrong_type(found: &Value, wanted: &str) -> String {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    format!("is {found}, not {wanted}")
}

fn quoted(text: &str) -> String {
    text.chars().take(QUOTED_CHARS_MAX).collect()
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
