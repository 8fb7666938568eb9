//! The caller's settings, in OpenAI's words -> the library's request and options. What a target cannot be told
//! is named, not sent. Pure.
//!
//! Nothing of a request is passed on unread: each field is known here, or it is dropped.

use genai::chat::{
    ChatOptions, ChatRequest, ChatResponseFormat, JsonSpec, ReasoningEffort, Tool, ToolChoice,
};
use serde_json::{Map, Value, json};

use super::{adapter::Adapter, gemini, messages, thinking};
use crate::config::TargetConfig;

/// Names of dropped fields that are told; a request with more has made its point.
const DROPPED_MAX: usize = 32;
/// Longest name of a dropped field that is told, bytes.
const DROPPED_BYTES_MAX: usize = 64;
/// Stop sequences that are read; OpenAI takes 4, Anthropic more.
const STOP_MAX: usize = 64;

/// What the library is given for one call.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) request: ChatRequest,
    pub(super) options: ChatOptions,
    /// Fields that this target cannot be told, sorted.
    pub(super) dropped: Vec<String>,
    pub(super) aliases: Aliases,
}

/// Why a request does not fit a target at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub(super) struct Unfit {
    /// Where it stands in the request, for example `messages[2].content[0]`.
    pub(super) field: String,
    pub(super) problem: String,
}

impl Unfit {
    pub(super) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// Turns a request into what the library is given for a target.
pub(super) fn outgoing(
    body: &Map<String, Value>,
    adapter: Adapter,
    target: &TargetConfig,
) -> Result<Outgoing, Unfit> {
    let mut dropped = Dropped::default();
    let mut wanted = wanted(body, &target.drop, &mut dropped)?;
    thinking::settle(&mut wanted, adapter, target, &mut dropped);
    let aliases = Aliases::new(&wanted.tools, adapter);
    let given = body.get("messages").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let messages = messages::messages(given, adapter, &aliases, &mut dropped)?;
    let mut request = ChatRequest::new(messages);
    let mut options = options(&wanted, adapter, target, &mut dropped);
    add_tools(wanted, adapter, &aliases, (&mut request, &mut options), &mut dropped);
    dropped.0.sort_unstable();
    Ok(Outgoing { request, options, dropped: dropped.0, aliases })
}

/// Names of what cannot be told, without repetition.
#[derive(Debug, Default)]
pub(super) struct Dropped(Vec<String>);

impl Dropped {
    pub(super) fn add(&mut self, name: &str) {
        let name: String = name.chars().filter(char::is_ascii_graphic).take(DROPPED_BYTES_MAX).collect();
        if self.0.len() < DROPPED_MAX && !self.0.contains(&name) {
            self.0.push(name);
        }
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> &[String] {
        &self.0
    }
}

/// Tools whose names the library would take for the provider's own are sent under other names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Aliases(Vec<Alias>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Alias {
    given: String,
    sent: String,
}

impl Aliases {
    fn new(tools: &[WantedTool], adapter: Adapter) -> Self {
        let taken = |name: &str| tools.iter().any(|tool| tool.name == name);
        let aliases =
            tools.iter().filter(|tool| adapter.reserved_tools().contains(&tool.name.as_str())).map(|tool| {
                let mut sent = format!("{}_function", tool.name);
                while taken(&sent) {
                    sent.push('_');
                }
                Alias { given: tool.name.clone(), sent }
            });
        Self(aliases.collect())
    }

    /// Returns the name that goes upstream.
    pub(super) fn sent<'a>(&'a self, given: &'a str) -> &'a str {
        self.0.iter().find(|alias| alias.given == given).map_or(given, |alias| &alias.sent)
    }

    /// Returns the caller's own name.
    pub(super) fn given<'a>(&'a self, sent: &'a str) -> &'a str {
        self.0.iter().find(|alias| alias.sent == sent).map_or(sent, |alias| &alias.given)
    }
}

/// The settings of a request, read.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) top_k: Option<u64>,
    pub(super) presence_penalty: Option<f64>,
    pub(super) frequency_penalty: Option<f64>,
    pub(super) output_tokens_max: Option<u32>,
    pub(super) stop: Vec<String>,
    pub(super) seed: Option<i64>,
    pub(super) effort: Option<ReasoningEffort>,
    pub(super) json: WantedJson,
    pub(super) tools: Vec<WantedTool>,
    pub(super) tool_choice: Option<ToolChoice>,
    pub(super) one_tool_at_a_time: bool,
}

#[derive(Debug, Default)]
pub(super) enum WantedJson {
    #[default]
    No,
    Object,
    Schema(JsonSpec),
}

#[derive(Debug, Default)]
pub(super) struct WantedTool {
    name: String,
    description: Option<String>,
    parameters: Value,
    strict: Option<bool>,
}

fn wanted(body: &Map<String, Value>, drop: &[String], dropped: &mut Dropped) -> Result<Wanted, Unfit> {
    let mut wanted = Wanted::default();
    for (name, value) in body.iter().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            "messages" => {}
            _ if drop.contains(name) => dropped.add(name),
            "temperature" => wanted.temperature = Some(number(name, value)?),
            "top_p" => wanted.top_p = Some(number(name, value)?),
            "top_k" => wanted.top_k = Some(count(name, value)?),
            "presence_penalty" => wanted.presence_penalty = nonzero(number(name, value)?),
            "frequency_penalty" => wanted.frequency_penalty = nonzero(number(name, value)?),
            "max_completion_tokens" => wanted.output_tokens_max = Some(tokens(name, value)?),
            // The newer name wins where both are given.
            "max_tokens" if body.get("max_completion_tokens").is_none_or(Value::is_null) => {
                wanted.output_tokens_max = Some(tokens(name, value)?);
            }
            "max_tokens" => {}
            "stop" => wanted.stop = stop(value)?,
            "seed" => {
                wanted.seed = Some(value.as_i64().ok_or_else(|| Unfit::new(name, "is not an integer"))?);
            }
            "reasoning_effort" => match value.as_str().and_then(effort) {
                Some(effort) => wanted.effort = Some(effort),
                None => dropped.add(name),
            },
            "response_format" => wanted.json = wanted_json(value)?,
            "tools" => wanted.tools = tools(value, dropped)?,
            "tool_choice" => match tool_choice(value) {
                Some(choice) => wanted.tool_choice = Some(choice),
                None => dropped.add(name),
            },
            "parallel_tool_calls" => wanted.one_tool_at_a_time = value == &json!(false),
            "functions" | "function_call" => {
                return Err(Unfit::new(name, "cannot be sent to this target: use tools and tool_choice"));
            }
            _ if asks_nothing(name, value) => {}
            _ => dropped.add(name),
        }
    }
    Ok(wanted)
}

/// Returns whether a field only spells out what is so without it.
fn asks_nothing(name: &str, value: &Value) -> bool {
    match name {
        "n" => value == &json!(1),
        "logprobs" | "store" => value == &json!(false),
        "logit_bias" => value == &json!({}),
        "modalities" => value == &json!(["text"]),
        "service_tier" => value == &json!("auto") || value == &json!("default"),
        _ => false,
    }
}

fn number(name: &str, value: &Value) -> Result<f64, Unfit> {
    value.as_f64().ok_or_else(|| Unfit::new(name, "is not a number"))
}

fn nonzero(value: f64) -> Option<f64> {
    (value != 0.0).then_some(value)
}

fn count(name: &str, value: &Value) -> Result<u64, Unfit> {
    value.as_u64().ok_or_else(|| Unfit::new(name, "is not a whole number of at least 0"))
}

fn tokens(name: &str, value: &Value) -> Result<u32, Unfit> {
    u32::try_from(count(name, value)?).map_err(|_| Unfit::new(name, "is too large"))
}

fn stop(value: &Value) -> Result<Vec<String>, Unfit> {
    let bad = || Unfit::new("stop", format!("is neither a string nor a list of at most {STOP_MAX} strings"));
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(list) if list.len() <= STOP_MAX => {
            list.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(bad)).collect()
        }
        _ => Err(bad()),
    }
}

fn effort(word: &str) -> Option<ReasoningEffort> {
    match word {
        "none" => Some(ReasoningEffort::Zero),
        "minimal" => Some(ReasoningEffort::Minimal),
        "low" => Some(ReasoningEffort::Low),
        "medium" => Some(ReasoningEffort::Medium),
        "high" => Some(ReasoningEffort::High),
        "xhigh" => Some(ReasoningEffort::XHigh),
        "max" => Some(ReasoningEffort::Max),
        _ => None,
    }
}

fn wanted_json(value: &Value) -> Result<WantedJson, Unfit> {
    match value.get("type").and_then(Value::as_str) {
        Some("text") => Ok(WantedJson::No),
        Some("json_object") => Ok(WantedJson::Object),
        Some("json_schema") => {
            let form = &value["json_schema"];
            if !form["schema"].is_object() {
                return Err(Unfit::new("response_format.json_schema.schema", "is not an object"));
            }
            let mut spec = JsonSpec::new(form["name"].as_str().unwrap_or("answer"), form["schema"].clone());
            spec.description = form["description"].as_str().map(str::to_owned);
            Ok(WantedJson::Schema(spec))
        }
        _ => Err(Unfit::new("response_format.type", "is not one of text, json_object, json_schema")),
    }
}

fn tools(value: &Value, dropped: &mut Dropped) -> Result<Vec<WantedTool>, Unfit> {
    let list = value.as_array().ok_or_else(|| Unfit::new("tools", "is not a list"))?;
    let mut tools = Vec::with_capacity(list.len());
    for (index, item) in list.iter().enumerate() {
        if item["type"].as_str().is_some_and(|kind| kind != "function") {
            dropped.add(&format!("tools[{index}]"));
            continue;
        }
        let function = &item["function"];
        let name = function["name"]
            .as_str()
            .ok_or_else(|| Unfit::new(format!("tools[{index}].function.name"), "is not a string"))?;
        tools.push(WantedTool {
            name: name.to_owned(),
            description: function["description"].as_str().map(str::to_owned),
            parameters: match &function["parameters"] {
                Value::Object(schema) => Value::Object(schema.clone()),
                // A function without parameters; most providers insist on a schema.
                _ => json!({ "type": "object", "properties": {} }),
            },
            strict: function["strict"].as_bool(),
        });
    }
    Ok(tools)
}

fn tool_choice(value: &Value) -> Option<ToolChoice> {
    match value {
        Value::String(word) => match word.as_str() {
            "auto" => Some(ToolChoice::Auto),
            "none" => Some(ToolChoice::None),
            "required" => Some(ToolChoice::Required),
            _ => None,
        },
        _ => value["function"]["name"].as_str().map(ToolChoice::tool),
    }
}

/// Turns the settings into the library's options, and names what is left over.
fn options(wanted: &Wanted, adapter: Adapter, target: &TargetConfig, dropped: &mut Dropped) -> ChatOptions {
    let model = &*target.model;
    let own_limit = adapter.needs_output_limit().then_some(target.output_tokens_max);
    let mut options = ChatOptions {
        temperature: wanted.temperature,
        top_p: wanted.top_p,
        max_tokens: wanted.output_tokens_max.or(own_limit),
        stop_sequences: wanted.stop.clone(),
        reasoning_effort: wanted
            .effort
            .clone()
            .filter(|_| adapter.takes_effort(model) && !adapter.is_gemini()),
        // Where it changes the request: Gemini's is written below, Claude is asked for summaries of what it
        // thinks only when the caller set an effort. Everywhere else it only keeps signatures for replay.
        capture_reasoning_content: Some(!adapter.is_gemini()),
        ..ChatOptions::default()
    };
    if wanted.effort.is_some() && !adapter.takes_effort(model) {
        dropped.add("reasoning_effort");
    }
    match adapter {
        Adapter::Gemini | Adapter::VertexGemini => {
            let generation = gemini::generation(wanted, model, dropped);
            options.extra_body = Some(json!({ "generationConfig": generation }));
        }
        Adapter::Anthropic => {
            // The model as configured: the library reads an effort out of names and cuts it off.
            let mut extra = json!({ "model": model });
            if let Some(top_k) = wanted.top_k {
                extra["top_k"] = top_k.into();
            }
            options.extra_body = Some(extra);
            match &wanted.json {
                WantedJson::Schema(spec) => {
                    options.response_format = Some(ChatResponseFormat::JsonSpec(spec.clone()));
                }
                WantedJson::Object => dropped.add("response_format"),
                WantedJson::No => {}
            }
            drop_sampling(wanted, dropped);
        }
        Adapter::VertexClaude | Adapter::Bedrock | Adapter::Cohere => {
            if !matches!(wanted.json, WantedJson::No) {
                dropped.add("response_format");
            }
            if wanted.top_k.is_some() {
                dropped.add("top_k");
            }
            drop_sampling(wanted, dropped);
        }
    }
    if adapter == Adapter::Bedrock && model.contains("amazon.") && is_high(wanted.effort.as_ref()) {
        // Amazon's models refuse these beside a high effort, so the library leaves them out.
        let given = [
            ("temperature", wanted.temperature.is_some()),
            ("top_p", wanted.top_p.is_some()),
            ("max_tokens", wanted.output_tokens_max.is_some()),
        ];
        given.into_iter().filter(|(_, given)| *given).for_each(|(name, _)| dropped.add(name));
    }
    options
}

/// Names those settings that only Gemini takes.
fn drop_sampling(wanted: &Wanted, dropped: &mut Dropped) {
    let given = [
        ("seed", wanted.seed.is_some()),
        ("presence_penalty", wanted.presence_penalty.is_some()),
        ("frequency_penalty", wanted.frequency_penalty.is_some()),
    ];
    given.into_iter().filter(|(_, given)| *given).for_each(|(name, _)| dropped.add(name));
}

fn is_high(effort: Option<&ReasoningEffort>) -> bool {
    matches!(effort, Some(ReasoningEffort::High | ReasoningEffort::XHigh | ReasoningEffort::Max))
}

/// Adds tools and what was said about choosing them.
fn add_tools(
    wanted: Wanted,
    adapter: Adapter,
    aliases: &Aliases,
    (request, options): (&mut ChatRequest, &mut ChatOptions),
    dropped: &mut Dropped,
) {
    if wanted.tools.is_empty() {
        return;
    }
    if !adapter.takes_tools() {
        dropped.add("tools");
        return;
    }
    // Without a way to forbid them, tools that were never used are left out; used ones must stay declared.
    let forbidden = wanted.tool_choice == Some(ToolChoice::None);
    if forbidden && !adapter.takes_tool_choice() && !mentions_tools(request) {
        return;
    }
    match wanted.tool_choice {
        None | Some(ToolChoice::Auto) => {}
        Some(_) if !adapter.takes_tool_choice() => dropped.add("tool_choice"),
        Some(ToolChoice::Tool { name }) => options.tool_choice = Some(ToolChoice::tool(aliases.sent(&name))),
        Some(choice @ (ToolChoice::None | ToolChoice::Required)) => options.tool_choice = Some(choice),
    }
    if wanted.one_tool_at_a_time {
        if adapter == Adapter::Anthropic {
            one_tool_at_a_time(options);
        } else {
            dropped.add("parallel_tool_calls");
        }
    }
    let takes_strict = adapter.is_claude();
    request.tools = Some(
        wanted
            .tools
            .into_iter()
            .map(|wanted| {
                if wanted.strict == Some(true) && !takes_strict {
                    dropped.add("tools[].function.strict");
                }
                let mut tool = Tool::new(aliases.sent(&wanted.name)).with_schema(wanted.parameters);
                tool.description = wanted.description;
                tool.strict = wanted.strict.filter(|strict| *strict && takes_strict);
                tool
            })
            .collect(),
    );
}

/// Asks Anthropic for one tool call at most. The option replaces the choice that the library would write.
fn one_tool_at_a_time(options: &mut ChatOptions) {
    let choice = match &options.tool_choice {
        None | Some(ToolChoice::Auto) => json!({ "type": "auto", "disable_parallel_tool_use": true }),
        Some(ToolChoice::None) => return,
        Some(ToolChoice::Required) => json!({ "type": "any", "disable_parallel_tool_use": true }),
        Some(ToolChoice::Tool { name }) => {
            json!({ "type": "tool", "name": name, "disable_parallel_tool_use": true })
        }
    };
    let extra = options.extra_body.get_or_insert_with(|| json!({}));
    extra["tool_choice"] = choice;
}

fn mentions_tools(request: &ChatRequest) -> bool {
    request
        .messages
        .iter()
        .any(|message| message.content.contains_tool_call() || message.content.contains_tool_response())
}
