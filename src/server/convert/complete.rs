//! `CompleteRequest` -> the body of an OpenAI chat completion, read by that dialect, so that every edge holds
//! requests to the same checks. Problems are told by the paths of the request's own fields.

use std::collections::HashSet;

use serde_json::{Map, Number, Value, json};

use super::{super::proto, route};
use crate::{
    completion::{chat::Chat, dialect::openai},
    prompt::Draft,
    routing::admit::{BadRequest, FieldProblem, Problems},
};

/// Asks routing to choose; what an unset `model` means.
const AUTO: &str = "auto";

/// Fields of OpenAI's that `extra_json` may not hold, and what to use instead.
const TAKEN: [(&str, &str); 5] = [
    ("model", "use the field model"),
    ("messages", "use the field messages"),
    ("stream", "call StreamComplete for a stream"),
    ("stream_options", "a stream always ends with its usage"),
    ("pointsman", "use the fields context and preferences"),
];

/// What a call asks, read.
pub struct Asked {
    pub chat: Chat,
    pub draft: Draft,
    pub paths: Paths,
}

/// How fields of the body are named in the request that it was made from.
#[derive(Default)]
pub struct Paths {
    from_prompt: bool,
    /// Messages that came as `parts`.
    in_parts: HashSet<usize>,
    /// Message and part of each `part_json`.
    json_parts: HashSet<(usize, usize)>,
    /// Fields that came in `extra_json`.
    extras: HashSet<String>,
}

/// Fields of a message and of a tool call that are no extras.
const MESSAGE_FIELDS: [&str; 5] = ["role", "content", "name", "tool_calls", "tool_call_id"];
const CALL_FIELDS: [&str; 3] = ["id", "type", "function"];

/// Reads a request, or returns every bad field.
pub fn ask(request: proto::CompleteRequest) -> Result<Asked, BadRequest> {
    let mut builder = Builder::default();
    if request.prompt.is_some() && !request.messages.is_empty() {
        builder.problem("prompt", "and messages are both set: give one of them");
    }
    let model = request.model.filter(|model| !model.is_empty()).unwrap_or_else(|| AUTO.to_owned());
    builder.set("model", json!(model));
    builder.messages(request.messages, request.prompt);
    builder.generation(request.generation.unwrap_or_default());
    builder.extra(&request.extra_json);

    let Builder { body, paths, mut problems } = builder;
    let read = openai::read(body);
    if let Err(BadRequest(found)) = &read {
        for problem in paths.in_callers_words(BadRequest(found.clone())).0 {
            problems.add(problem.field, problem.problem);
        }
    }
    let incoming = match read {
        Ok(incoming) if problems.0.is_empty() => incoming,
        _ => return Err(BadRequest(problems.0)),
    };
    let mut draft = incoming.draft;
    draft.model = Some(incoming.model);
    draft.context = route::context(request.context.unwrap_or_default());
    draft.preferences = route::preferences(request.preferences.unwrap_or_default());
    draft.explain = request.explain;
    let stated = route::shape(&request.shape.unwrap_or_default());
    let shape = &mut draft.shape;
    shape.prompt_tokens = stated.prompt_tokens;
    shape.max_output_tokens = stated.max_output_tokens.or(shape.max_output_tokens);
    shape.needs_tools |= stated.needs_tools;
    shape.needs_vision |= stated.needs_vision;
    shape.needs_json |= stated.needs_json;
    Ok(Asked { chat: incoming.chat, draft, paths })
}

impl Paths {
    /// Renames the fields of a body to those of the request.
    pub fn in_callers_words(&self, BadRequest(problems): BadRequest) -> BadRequest {
        let rename = |problem: FieldProblem| FieldProblem { field: self.field(&problem.field), ..problem };
        BadRequest(problems.into_iter().map(rename).collect())
    }

    fn field(&self, field: &str) -> String {
        let (head, rest) = field.split_at(field.find(['.', '[']).unwrap_or(field.len()));
        if self.extras.contains(head) {
            return format!("extra_json.{field}");
        }
        match head {
            "messages" if self.from_prompt => "prompt".to_owned(),
            "messages" => self.message_field(field, rest),
            "max_completion_tokens" => "generation.max_output_tokens".to_owned(),
            "tools"
            | "temperature"
            | "top_p"
            | "stop"
            | "seed"
            | "reasoning_effort"
            | "parallel_tool_calls"
            | "logprobs"
            | "top_logprobs"
            | "frequency_penalty"
            | "presence_penalty" => {
                format!("generation.{field}")
            }
            "tool_choice" => format!("generation.{}", field.replace(".function.name", ".name")),
            "response_format" => {
                format!("generation.{}", field.replace("json_schema.schema", "json_schema.schema_json"))
            }
            _ => field.to_owned(),
        }
    }

    /// `rest` is what follows `messages`, for example `[1].content[0].text`.
    fn message_field(&self, field: &str, rest: &str) -> String {
        let Some((message, within)) = indexed(rest) else { return field.to_owned() };
        let Some(content) = within.strip_prefix(".content") else { return field.to_owned() };
        if !self.in_parts.contains(&message) {
            return field.to_owned();
        }
        match indexed(content) {
            Some((part, within)) if self.json_parts.contains(&(message, part)) => {
                format!("messages[{message}].parts[{part}].part_json{within}")
            }
            _ => format!("messages[{message}].parts{content}"),
        }
    }
}

/// Splits `[7].more` into 7 and `.more`.
fn indexed(text: &str) -> Option<(usize, &str)> {
    let (index, rest) = text.strip_prefix('[')?.split_once(']')?;
    Some((index.parse().ok()?, rest))
}

/// A body as it grows, and what was found wrong on the way.
#[derive(Default)]
struct Builder {
    body: Map<String, Value>,
    paths: Paths,
    problems: Problems,
}

impl Builder {
    fn problem(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.problems.add(field, problem);
    }

    fn set(&mut self, name: &str, value: Value) {
        self.body.insert(name.to_owned(), value);
    }

    fn messages(&mut self, messages: Vec<proto::ChatMessage>, prompt: Option<String>) {
        let messages = match prompt {
            Some(text) if messages.is_empty() => {
                self.paths.from_prompt = true;
                vec![json!({"role": "user", "content": text})]
            }
            _ => messages.into_iter().enumerate().map(|(at, message)| self.message(at, message)).collect(),
        };
        self.set("messages", Value::Array(messages));
    }

    fn message(&mut self, at: usize, message: proto::ChatMessage) -> Value {
        let mut made = Map::new();
        let calls: Vec<Value> = message
            .tool_calls
            .into_iter()
            .enumerate()
            .map(|(call, each)| self.tool_call(&format!("messages[{at}].tool_calls[{call}]"), each))
            .collect();
        let content = match (message.content, message.parts) {
            (Some(_), parts) if !parts.is_empty() => {
                self.problem(format!("messages[{at}].parts"), "and content are both set: give one of them");
                Value::Null
            }
            (Some(text), _) => Value::String(text),
            (None, parts) if !parts.is_empty() => self.parts(at, parts),
            (None, _) if !calls.is_empty() => Value::Null,
            (None, _) => Value::String(String::new()),
        };
        made.insert("role".to_owned(), Value::String(message.role));
        made.insert("content".to_owned(), content);
        for (name, text) in [("name", message.name), ("tool_call_id", message.tool_call_id)] {
            if !text.is_empty() {
                made.insert(name.to_owned(), Value::String(text));
            }
        }
        if !calls.is_empty() {
            made.insert("tool_calls".to_owned(), Value::Array(calls));
        }
        self.extend(&mut made, &MESSAGE_FIELDS, &format!("messages[{at}].extra_json"), &message.extra_json);
        Value::Object(made)
    }

    fn tool_call(&mut self, path: &str, call: proto::ToolCall) -> Value {
        let proto::ToolCall { id, name, arguments, extra_json } = call;
        let mut made = Map::new();
        made.insert("id".to_owned(), Value::String(id));
        made.insert("type".to_owned(), json!("function"));
        made.insert("function".to_owned(), json!({"name": name, "arguments": arguments}));
        self.extend(&mut made, &CALL_FIELDS, &format!("{path}.extra_json"), &extra_json);
        Value::Object(made)
    }

    /// Adds further fields, none that has a place of its own.
    fn extend(&mut self, made: &mut Map<String, Value>, own: &[&str], path: &str, text: &str) {
        if text.is_empty() {
            return;
        }
        let Some(fields) = self.json_object(path.to_owned(), text) else { return };
        for (name, value) in fields {
            if own.contains(&name.as_str()) {
                self.problem(format!("{path}.{name}"), "is not taken: the message has a field for it");
            } else {
                made.insert(name, value);
            }
        }
    }

    /// One text goes as a string, which every server takes; anything else as a list.
    fn parts(&mut self, message: usize, mut parts: Vec<proto::ContentPart>) -> Value {
        use proto::content_part::Part;
        self.paths.in_parts.insert(message);
        if let [proto::ContentPart { part: Some(Part::Text(text)) }] = parts.as_mut_slice() {
            return Value::String(std::mem::take(text));
        }
        let made = parts.into_iter().enumerate().map(|(at, part)| {
            let path = format!("messages[{message}].parts[{at}]");
            match part.part {
                Some(Part::Text(text)) => json!({"type": "text", "text": text}),
                Some(Part::ImageUrl(image)) => self.image(&path, image),
                Some(Part::PartJson(text)) => {
                    self.paths.json_parts.insert((message, at));
                    self.json_object(format!("{path}.part_json"), &text)
                        .map_or_else(unread_part, Value::Object)
                }
                None => {
                    self.problem(path, "is empty: give text, image_url or part_json");
                    unread_part()
                }
            }
        });
        Value::Array(made.collect())
    }

    fn image(&mut self, path: &str, image: proto::ImageUrl) -> Value {
        if image.url.is_empty() {
            self.problem(format!("{path}.image_url.url"), "is empty");
        }
        let mut made = json!({"url": image.url});
        if !image.detail.is_empty() {
            made["detail"] = Value::String(image.detail);
        }
        json!({"type": "image_url", "image_url": made})
    }

    fn generation(&mut self, generation: proto::Generation) {
        if let Some(tokens) = generation.max_output_tokens {
            self.set("max_completion_tokens", json!(tokens));
        }
        self.number("temperature", generation.temperature);
        self.number("top_p", generation.top_p);
        self.number("frequency_penalty", generation.frequency_penalty);
        self.number("presence_penalty", generation.presence_penalty);
        if !generation.stop.is_empty() {
            self.set("stop", json!(generation.stop));
        }
        if let Some(seed) = generation.seed {
            self.set("seed", json!(seed));
        }
        if !generation.reasoning_effort.is_empty() {
            self.set("reasoning_effort", json!(generation.reasoning_effort));
        }
        if !generation.tools.is_empty() {
            let tools = generation.tools.into_iter().enumerate().map(|(at, tool)| self.tool(at, tool));
            let tools = tools.collect();
            self.set("tools", Value::Array(tools));
        }
        if let Some(choice) = generation.tool_choice {
            self.tool_choice(choice);
        }
        if let Some(parallel) = generation.parallel_tool_calls {
            self.set("parallel_tool_calls", json!(parallel));
        }
        if let Some(format) = generation.response_format {
            self.response_format(format);
        }
        if let Some(logprobs) = generation.logprobs {
            self.set("logprobs", json!(logprobs));
        }
        if let Some(top) = generation.top_logprobs {
            self.set("top_logprobs", json!(top));
        }
    }

    fn number(&mut self, name: &str, value: Option<f64>) {
        let Some(value) = value else { return };
        match Number::from_f64(value) {
            Some(number) => self.set(name, Value::Number(number)),
            None => self.problem(format!("generation.{name}"), format!("{value} is not a finite number")),
        }
    }

    fn tool(&mut self, at: usize, tool: proto::Tool) -> Value {
        let path = format!("generation.tools[{at}]");
        if tool.name.is_empty() {
            self.problem(format!("{path}.name"), "is empty");
        }
        let mut function = Map::new();
        function.insert("name".to_owned(), Value::String(tool.name));
        if !tool.description.is_empty() {
            function.insert("description".to_owned(), Value::String(tool.description));
        }
        if !tool.parameters_json.is_empty()
            && let Some(schema) = self.json_object(format!("{path}.parameters_json"), &tool.parameters_json)
        {
            function.insert("parameters".to_owned(), Value::Object(schema));
        }
        if let Some(strict) = tool.strict {
            function.insert("strict".to_owned(), Value::Bool(strict));
        }
        json!({"type": "function", "function": function})
    }

    fn tool_choice(&mut self, choice: proto::ToolChoice) {
        use proto::{ToolMode, tool_choice::Choice};
        let word = match choice.choice {
            None => return,
            Some(Choice::Name(name)) if name.is_empty() => {
                return self.problem("generation.tool_choice.name", "is empty");
            }
            Some(Choice::Name(name)) => {
                return self.set("tool_choice", json!({"type": "function", "function": {"name": name}}));
            }
            Some(Choice::Mode(mode)) => match ToolMode::try_from(mode) {
                Ok(ToolMode::Unspecified) => return,
                Ok(ToolMode::Auto) => "auto",
                Ok(ToolMode::None) => "none",
                Ok(ToolMode::Required) => "required",
                Err(_) => {
                    return self.problem("generation.tool_choice.mode", format!("{mode} is no mode"));
                }
            },
        };
        self.set("tool_choice", json!(word));
    }

    fn response_format(&mut self, format: proto::ResponseFormat) {
        use proto::ResponseFormatType as Form;
        let form = match Form::try_from(format.r#type) {
            Ok(Form::Unspecified) if format.json_schema.is_some() => Form::JsonSchema,
            Ok(form) => form,
            Err(_) => {
                let problem = format!("{} is no type", format.r#type);
                return self.problem("generation.response_format.type", problem);
            }
        };
        match (form, format.json_schema) {
            (Form::Unspecified, _) => {}
            (Form::Text, None) => self.set("response_format", json!({"type": "text"})),
            (Form::JsonObject, None) => self.set("response_format", json!({"type": "json_object"})),
            (Form::JsonSchema, Some(schema)) => self.json_schema(schema),
            (Form::JsonSchema, None) => {
                self.problem("generation.response_format.json_schema", "is missing");
            }
            (Form::Text | Form::JsonObject, Some(_)) => {
                let problem = "is set: the type must then be RESPONSE_FORMAT_TYPE_JSON_SCHEMA";
                self.problem("generation.response_format.json_schema", problem);
            }
        }
    }

    fn json_schema(&mut self, schema: proto::JsonSchema) {
        const PATH: &str = "generation.response_format.json_schema.schema_json";
        let Some(parsed) = self.json(PATH.to_owned(), &schema.schema_json) else { return };
        let mut made = json!({"schema": parsed});
        for (name, text) in [("name", schema.name), ("description", schema.description)] {
            if !text.is_empty() {
                made[name] = Value::String(text);
            }
        }
        if let Some(strict) = schema.strict {
            made["strict"] = Value::Bool(strict);
        }
        self.set("response_format", json!({"type": "json_schema", "json_schema": made}));
    }

    fn extra(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let Some(fields) = self.json_object("extra_json".to_owned(), text) else { return };
        for (name, value) in fields {
            let taken = TAKEN.iter().find(|(taken, _)| *taken == name);
            if let Some((_, instead)) = taken {
                self.problem(format!("extra_json.{name}"), format!("is not taken: {instead}"));
            } else if self.body.contains_key(&name) {
                let own = self.paths.field(&name);
                self.problem(
                    format!("extra_json.{name}"),
                    format!("and {own} are both set: give one of them"),
                );
            } else {
                self.paths.extras.insert(name.clone());
                self.body.insert(name, value);
            }
        }
    }

    fn json_object(&mut self, path: String, text: &str) -> Option<Map<String, Value>> {
        match self.json(path.clone(), text)? {
            Value::Object(object) => Some(object),
            _ => {
                self.problem(path, "is not a JSON object");
                None
            }
        }
    }

    fn json(&mut self, path: String, text: &str) -> Option<Value> {
        match serde_json::from_str(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(path, format!("is not JSON: {error}"));
                None
            }
        }
    }
}

/// Holds the place of a part that was found wrong, so that problems of later ones name their own.
fn unread_part() -> Value {
    json!({"type": "text", "text": ""})
}

#[cfg(test)]
#[path = "complete_tests.rs"]
mod tests;
