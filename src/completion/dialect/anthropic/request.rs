//! The request as Anthropic's messages take it, every field that pointsman reads of it checked once.
//!
//! Borrows from the body. What is unknown is no problem: it goes upstream as it is where the dialect is spoken.

use serde_json::{Map, Value};

use super::fields::{Field, Object, shown};
use crate::routing::admit::Problems;

/// The provider's own limit on messages of one request.
const MESSAGES_MAX: usize = 100_000;
/// Blocks of one message, result or system text.
const BLOCKS_MAX: usize = 10_000;
const TOOLS_MAX: usize = 10_000;
const STOP_SEQUENCES_MAX: usize = 10_000;

/// A request that was checked.
#[derive(Debug)]
pub struct Request<'a> {
    pub model: &'a str,
    pub max_tokens: u32,
    pub system: Vec<&'a str>,
    /// Oldest first.
    pub turns: Vec<Turn<'a>>,
    pub tools: Vec<Tool<'a>>,
    pub choice: Choice<'a>,
    /// Whether at most one tool may be called at once.
    pub one_tool: bool,
    pub stop_sequences: Vec<&'a str>,
    pub temperature: Option<&'a Value>,
    pub top_p: Option<&'a Value>,
    pub effort: Option<Effort>,
    /// What the answer's JSON must be like, and where that stands.
    pub schema: Option<Field<'a>>,
    pub stream: bool,
}

/// Who speaks in a [`Turn`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    User,
    Assistant,
    /// Instructions in the middle of a conversation.
    System,
}

/// One message.
#[derive(Debug)]
pub struct Turn<'a> {
    pub speaker: Speaker,
    pub blocks: Vec<Block<'a>>,
}

/// One part of a message, as far as other dialects have a word for it.
#[derive(Debug)]
pub enum Block<'a> {
    Text(&'a str),
    Image(Source<'a>),
    Pdf {
        title: Option<&'a str>,
        source: Source<'a>,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: &'a Value,
    },
    ToolResult {
        id: &'a str,
        failed: bool,
        blocks: Vec<Block<'a>>,
    },
    /// Of a type that other dialects have no word for.
    Unknown(&'a str),
}

/// Where the bytes of an image or a document are.
#[derive(Debug)]
pub enum Source<'a> {
    Inline {
        media_type: &'a str,
        base64: &'a str,
    },
    Url(&'a str),
    /// In a place that only the provider knows.
    Elsewhere,
}

/// One tool.
#[derive(Debug)]
pub enum Tool<'a> {
    Function {
        name: &'a str,
        description: Option<&'a str>,
        schema: &'a Value,
    },
    /// One that the provider defines or runs.
    Provider,
}

/// Which tool must be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice<'a> {
    Unsaid,
    Auto,
    Any,
    Named(&'a str),
    None,
}

/// How much the model should think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    Low,
    Medium,
    High,
}

/// Returns the request; what is wrong with it is added to `problems`.
pub fn parse<'a>(body: &'a Map<String, Value>, problems: &mut Problems) -> Request<'a> {
    let object = Object { map: body, path: String::new() };
    check_metadata(&object, problems);
    let (choice, one_tool) = tool_choice(&object, problems);
    Request {
        model: model(&object, problems),
        max_tokens: max_tokens(&object, problems),
        system: system(&object, problems),
        turns: turns(&object, problems),
        tools: tools(&object, problems),
        choice,
        one_tool,
        stop_sequences: object.texts("stop_sequences", STOP_SEQUENCES_MAX, problems),
        temperature: number(&object, "temperature", problems),
        top_p: number(&object, "top_p", problems),
        effort: effort(&object, problems),
        schema: schema(&object, problems),
        stream: object.flag("stream", problems).unwrap_or(false),
    }
}

fn model<'a>(object: &Object<'a>, problems: &mut Problems) -> &'a str {
    let model = object.required_text("model", problems);
    if model.is_some_and(str::is_empty) {
        problems.add("model", "is empty: give \"auto\", \"tier:NAME\" or a target");
    }
    model.unwrap_or_default()
}

fn check_metadata(object: &Object<'_>, problems: &mut Problems) {
    if let Some(metadata) = object.object("metadata", problems) {
        metadata.text("user_id", problems);
    }
    check_cache_control(object, problems);
    object.whole("top_k", problems);
}

fn check_cache_control(object: &Object<'_>, problems: &mut Problems) {
    object.object("cache_control", problems);
}

/// Returns the number as it was written, so that 1 stays 1.
fn number<'a>(object: &Object<'a>, name: &str, problems: &mut Problems) -> Option<&'a Value> {
    object.number(name, problems)?;
    object.map.get(name)
}

fn max_tokens(object: &Object<'_>, problems: &mut Problems) -> u32 {
    if object.required("max_tokens", problems).is_none() {
        return 1;
    }
    let Some(most) = object.whole("max_tokens", problems) else { return 1 };
    u32::try_from(most).ok().filter(|most| *most > 0).unwrap_or_else(|| {
        problems.add("max_tokens", format!("{most} is not within 1 to {}", u32::MAX));
        1
    })
}

fn system<'a>(object: &Object<'a>, problems: &mut Problems) -> Vec<&'a str> {
    let Some(field) = object.field("system") else { return Vec::new() };
    texts(&blocks(&field, problems))
}

/// Returns the texts among `blocks`.
pub fn texts<'a>(blocks: &[Block<'a>]) -> Vec<&'a str> {
    blocks.iter().filter_map(|block| if let Block::Text(text) = block { Some(*text) } else { None }).collect()
}

fn turns<'a>(object: &Object<'a>, problems: &mut Problems) -> Vec<Turn<'a>> {
    let Some(field) = object.field("messages") else {
        problems.add("messages", "is missing");
        return Vec::new();
    };
    if field.value.as_array().is_some_and(Vec::is_empty) {
        problems.add("messages", "is empty: give at least one message");
    }
    let messages = field.elements(MESSAGES_MAX, problems);
    messages.into_iter().filter_map(|message| turn(&message, problems)).collect()
}

fn turn<'a>(message: &Field<'a>, problems: &mut Problems) -> Option<Turn<'a>> {
    let object = message.object(problems)?;
    let role = object.required_text("role", problems);
    let content = object.required("content", problems);
    let blocks = content.map_or_else(Vec::new, |content| blocks(&content, problems));
    let speaker = match role? {
        "user" => Speaker::User,
        "assistant" => Speaker::Assistant,
        "system" => Speaker::System,
        other => {
            let problem = format!("{} is no role; user, assistant and system are known", shown(other));
            problems.add(object.path_of("role"), problem);
            return None;
        }
    };
    Some(Turn { speaker, blocks })
}

/// Returns the blocks of a content, which may be a plain text.
fn blocks<'a>(content: &Field<'a>, problems: &mut Problems) -> Vec<Block<'a>> {
    if let Value::String(text) = content.value {
        return vec![Block::Text(text)];
    }
    if !content.value.is_array() {
        problems.add(&*content.path, "is neither a string nor a list of blocks");
        return Vec::new();
    }
    let mut blocks = Vec::new();
    for element in content.elements(BLOCKS_MAX, problems) {
        if let Some(object) = element.object(problems) {
            check_cache_control(&object, problems);
            read_block(&object, &mut blocks, problems);
        }
    }
    blocks
}

/// Adds what a block says to `blocks`. What the model thought is nothing that others could be told.
fn read_block<'a>(object: &Object<'a>, blocks: &mut Vec<Block<'a>>, problems: &mut Problems) {
    match object.required_text("type", problems).unwrap_or_default() {
        "text" => blocks.extend(object.required_text("text", problems).map(Block::Text)),
        "image" => blocks.extend(source(object, problems).map(Block::Image)),
        "document" => read_document(object, blocks, problems),
        "search_result" => {
            blocks.extend(object.text("title", problems).map(Block::Text));
            blocks.extend(object.text("source", problems).map(Block::Text));
            read_content(object, blocks, problems);
        }
        "tool_use" => {
            let id = object.required_text("id", problems);
            let name = object.required_text("name", problems);
            let input = object.required("input", problems);
            if let Some(input) = &input {
                input.object(problems);
            }
            if let (Some(id), Some(name), Some(input)) = (id, name, input) {
                blocks.push(Block::ToolUse { id, name, input: input.value });
            }
        }
        "tool_result" => {
            let id = object.required_text("tool_use_id", problems);
            let failed = object.flag("is_error", problems).unwrap_or(false);
            let mut inner = Vec::new();
            read_content(object, &mut inner, problems);
            blocks.extend(id.map(|id| Block::ToolResult { id, failed, blocks: inner }));
        }
        "thinking" => {
            object.required_text("thinking", problems);
            object.text("signature", problems);
        }
        "redacted_thinking" => {
            object.required_text("data", problems);
        }
        // A block without a type is a problem by itself.
        "" => {}
        other => blocks.push(Block::Unknown(other)),
    }
}

fn read_content<'a>(object: &Object<'a>, into: &mut Vec<Block<'a>>, problems: &mut Problems) {
    if let Some(content) = object.field("content") {
        into.extend(blocks(&content, problems));
    }
}

fn read_document<'a>(object: &Object<'a>, into: &mut Vec<Block<'a>>, problems: &mut Problems) {
    let title = object.text("title", problems);
    let context = object.text("context", problems);
    let Some(from) = object.required("source", problems).and_then(|field| field.object(problems)) else {
        return;
    };
    match from.required_text("type", problems).unwrap_or_default() {
        "text" => {
            into.extend(title.map(Block::Text));
            into.extend(context.map(Block::Text));
            into.extend(from.required_text("data", problems).map(Block::Text));
        }
        "content" => {
            into.extend(title.map(Block::Text));
            into.extend(context.map(Block::Text));
            read_content(&from, into, problems);
        }
        _ => {
            into.extend(context.map(Block::Text));
            into.extend(source(object, problems).map(|source| Block::Pdf { title, source }));
        }
    }
}

fn source<'a>(object: &Object<'a>, problems: &mut Problems) -> Option<Source<'a>> {
    let from = object.required("source", problems)?.object(problems)?;
    match from.required_text("type", problems)? {
        "base64" => {
            let media_type = from.required_text("media_type", problems);
            let base64 = from.required_text("data", problems);
            Some(Source::Inline { media_type: media_type?, base64: base64? })
        }
        "url" => from.required_text("url", problems).map(Source::Url),
        _ => Some(Source::Elsewhere),
    }
}

fn tools<'a>(object: &Object<'a>, problems: &mut Problems) -> Vec<Tool<'a>> {
    let tools = object.elements("tools", TOOLS_MAX, problems);
    tools.into_iter().filter_map(|field| tool(&field, problems)).collect()
}

fn tool<'a>(field: &Field<'a>, problems: &mut Problems) -> Option<Tool<'a>> {
    let object = field.object(problems)?;
    check_cache_control(&object, problems);
    if object.text("type", problems).is_some_and(|kind| kind != "custom") {
        object.text("name", problems);
        return Some(Tool::Provider);
    }
    let name = object.required_text("name", problems);
    let description = object.text("description", problems);
    let schema = object.required("input_schema", problems)?;
    schema.object(problems)?;
    Some(Tool::Function { name: name?, description, schema: schema.value })
}

/// Returns the choice, and whether at most one tool may be called at once.
fn tool_choice<'a>(object: &Object<'a>, problems: &mut Problems) -> (Choice<'a>, bool) {
    let Some(choice) = object.object("tool_choice", problems) else { return (Choice::Unsaid, false) };
    let one_tool = choice.flag("disable_parallel_tool_use", problems).unwrap_or(false);
    let kind = match choice.required_text("type", problems) {
        None => Choice::Unsaid,
        Some("auto") => Choice::Auto,
        Some("any") => Choice::Any,
        Some("none") => Choice::None,
        Some("tool") => choice.required_text("name", problems).map_or(Choice::Unsaid, Choice::Named),
        Some(other) => {
            let problem = format!("{} is no choice; auto, any, tool and none are known", shown(other));
            problems.add(choice.path_of("type"), problem);
            Choice::Unsaid
        }
    };
    (kind, one_tool)
}

/// Budgets up to these many tokens count as low and medium effort; what is above is high.
const LOW_BUDGET_TOKENS: i64 = 4096;
const MEDIUM_BUDGET_TOKENS: i64 = 16_384;

/// Returns the effort that was asked for by its name, else the one that the thinking budget amounts to.
fn effort(object: &Object<'_>, problems: &mut Problems) -> Option<Effort> {
    let output = object.object("output_config", problems);
    let named = output.and_then(|output| output.text("effort", problems));
    let thinking = object.object("thinking", problems);
    let kind = thinking.as_ref().and_then(|thinking| thinking.required_text("type", problems));
    let budget = thinking.as_ref().and_then(|thinking| thinking.whole("budget_tokens", problems));
    if kind == Some("disabled") {
        return None;
    }
    match (named, budget.filter(|_| kind == Some("enabled"))) {
        (Some("low"), _) => Some(Effort::Low),
        (Some("medium"), _) => Some(Effort::Medium),
        (Some(_), _) => Some(Effort::High),
        (None, Some(budget)) if budget <= LOW_BUDGET_TOKENS => Some(Effort::Low),
        (None, Some(budget)) if budget <= MEDIUM_BUDGET_TOKENS => Some(Effort::Medium),
        (None, Some(_)) => Some(Effort::High),
        (None, None) => None,
    }
}

/// Returns the schema of `output_config.format`, or of `output_format` as it was called first.
fn schema<'a>(object: &Object<'a>, problems: &mut Problems) -> Option<Field<'a>> {
    // `effort` has named what is wrong with `output_config` itself.
    let output = object.field("output_config").and_then(|field| field.object(&mut Problems::default()));
    let format =
        match output.and_then(|output| output.field("format")).or_else(|| object.field("output_format")) {
            None => return None,
            Some(field) => field.object(problems)?,
        };
    match format.required_text("type", problems)? {
        "json_schema" => {
            let schema = format.required("schema", problems)?;
            schema.object(problems)?;
            Some(schema)
        }
        other => {
            let problem = format!("{} is no format; json_schema is known", shown(other));
            problems.add(format.path_of("type"), problem);
            None
        }
    }
}
