//! Whether an answer has the form that was asked for: JSON, a schema, a tool call.
//!
//! Surrounding whitespace is all that is forgiven: callers parse what they get.

use serde::de::IgnoredAny;
use serde_json::Value;

use super::{calls_tools, length::Cut, quote};
use crate::completion::{
    answer::{ToolCall, View},
    chat::{Asks, JsonAsk, ToolAsk},
};

/// Largest answer that is compared with a schema, bytes: twice what the longest answers of today's models
/// take. A larger one need only be JSON, which takes a tenth of the time and no memory.
const SCHEMA_BYTES_MAX: usize = 1 << 20;

/// Values of the schema times values of the answer that are compared at most; an answer that would take more
/// need only be JSON. 70 million took 38 ms.
const STEPS_MAX: u64 = 20_000_000;

/// The same for naming the place: the library then describes every branch that fails, which takes longer.
const PLACE_STEPS_MAX: u64 = 200_000;

const FENCE: &str = "```";
/// What JSON allows around a value.
const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// Returns why the answer is not the JSON that was asked for; one that calls tools owes none.
pub fn problem(view: &View, asks: &Asks) -> Option<String> {
    if calls_tools(view) {
        return None;
    }
    let text = view.text.trim_matches(BLANKS);
    match &asks.json {
        JsonAsk::No => None,
        JsonAsk::Object => start_problem(text, asks).or_else(|| syntax_problem(text)),
        JsonAsk::Schema(_) => start_problem(text, asks).or_else(|| syntax_problem(text)),
    }
}

/// Returns why text that starts so cannot be the JSON that was asked for.
pub fn start_problem(start: &str, asks: &Asks) -> Option<String> {
    let start = start.trim_start_matches(BLANKS);
    let first = start.chars().next()?;
    let fits = match &asks.json {
        JsonAsk::No => true,
        JsonAsk::Object => first == '{',
        JsonAsk::Schema(_) => matches!(first, '{' | '[' | '"' | '-' | '0'..='9' | 't' | 'f' | 'n'),
    };
    if fits {
        return None;
    }
    Some(if start.starts_with(FENCE) || FENCE.starts_with(start) {
        "JSON was asked for and the answer puts it into a code fence".to_owned()
    } else {
        format!("JSON was asked for and the answer starts with \"{}\"", quote(start))
    })
}

/// Returns why an answer that the caller's own limit cut could not have become the JSON that was asked for.
pub fn cut_problem(view: &View, asks: &Asks) -> Option<String> {
    if calls_tools(view) { None } else { start_problem(&view.text, asks) }
}

/// Returns where the answer does not match the schema that was asked for.
pub fn schema_problem(view: &View, asks: &Asks) -> Option<String> {
    let JsonAsk::Schema(schema) = &asks.json else { return None };
    if calls_tools(view) {
        return None;
    }
    let text = view.text.trim_matches(BLANKS);
    if text.len() > SCHEMA_BYTES_MAX {
        return syntax_problem(text);
    }
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return Some(not_json(&error)),
    };
    let steps = schema.values.saturating_mul(values_in(&value));
    if steps > STEPS_MAX || schema.is_valid(&value) {
        return None;
    }
    // Of a schema that refers to itself the library would describe all branches of all turns: of three
    // branches in an answer 14 deep that takes a minute. Whether it fits is known in microseconds.
    if schema.refers_to_itself || steps > PLACE_STEPS_MAX {
        return Some("the answer does not match its schema".to_owned());
    }
    let error = schema.validator.validate(&value).err()?;
    let path = error.instance_path().as_str();
    // The library's own message quotes the value at any length.
    Some(format!(
        "the answer does not match its schema: {} fails `{}`",
        if path.is_empty() { "the whole".to_owned() } else { quote(path) },
        error.kind().keyword()
    ))
}

fn values_in(value: &Value) -> u64 {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
        Value::Array(items) => 1 + items.iter().map(values_in).sum::<u64>(),
        Value::Object(fields) => 1 + fields.values().map(values_in).sum::<u64>(),
    }
}

/// Returns what is wrong with the answer's tool calls, or with their absence.
///
/// Empty arguments stand for none, as several providers write them. Arguments that the caller's own limit
/// cut are not held against the answer.
pub fn tool_problem(view: &View, asks: &Asks, cut: Cut) -> Option<String> {
    let mut calls = view.tool_calls.iter().filter(|call| is_call(call)).peekable();
    match &asks.tool {
        ToolAsk::Free => {}
        ToolAsk::Any | ToolAsk::Named(_) if cut == Cut::ByCaller => {}
        ToolAsk::Any if calls.peek().is_none() => {
            return Some("a tool call was asked for and none came".to_owned());
        }
        ToolAsk::Named(name) if !view.tool_calls.iter().any(|call| call.name == *name) => {
            return Some(format!("a call of the tool \"{}\" was asked for and none came", quote(name)));
        }
        ToolAsk::Any | ToolAsk::Named(_) => {}
    }
    calls.find_map(|call| call_problem(call, cut))
}

/// Returns whether this is a call at all.
pub fn is_call(call: &ToolCall) -> bool {
    !(call.id.is_empty() && call.name.is_empty() && call.arguments.is_empty())
}

fn call_problem(call: &ToolCall, cut: Cut) -> Option<String> {
    if call.name.trim().is_empty() {
        return Some("a tool call names no tool".to_owned());
    }
    let arguments = call.arguments.trim_matches(BLANKS);
    if arguments.is_empty() || cut == Cut::ByCaller {
        return None;
    }
    // The name is the model's word too; together they stay below what may be quoted.
    let name = quote(&call.name);
    match syntax_problem(arguments) {
        Some(why) => Some(format!("the arguments of \"{name}\" are {why}")),
        None if !arguments.starts_with('{') => {
            Some(format!("the arguments of \"{name}\" are no JSON object"))
        }
        None => None,
    }
}

fn syntax_problem(text: &str) -> Option<String> {
    serde_json::from_str::<IgnoredAny>(text).err().map(|error| not_json(&error))
}

fn not_json(error: &serde_json::Error) -> String {
    format!("not JSON: {error}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::completion::chat::AnswerSchema;

    fn text(text: &str) -> View {
        View { text: text.to_owned(), ..View::default() }
    }

    fn object() -> Asks {
        Asks { json: JsonAsk::Object, ..Asks::default() }
    }

    fn schema(schema: &Value) -> Asks {
        compiled(schema, 20, false)
    }

    fn compiled(schema: &Value, values: u64, refers_to_itself: bool) -> Asks {
        let validator = jsonschema::validator_for(schema).unwrap();
        let schema = AnswerSchema { validator, values, refers_to_itself };
        Asks { json: JsonAsk::Schema(Arc::new(schema)), ..Asks::default() }
    }

    fn call(name: &str, arguments: &str) -> View {
        let call =
            ToolCall { id: "call_1".to_owned(), name: name.to_owned(), arguments: arguments.to_owned() };
        View { tool_calls: vec![call], ..View::default() }
    }

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "so that a case is one line")]
    fn check(found: Option<String>, expected: Option<&str>) {
        match (&found, expected) {
            (None, None) => {}
            (Some(why), Some(part)) if why.contains(part) => {}
            _ => panic!("{found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn only_a_json_object_passes_where_one_was_asked_for() {
        for (answer, expected) in [
            ("{}", None),
            (" \r\n\t{\"a\": [1, 2]}\n", None),
            ("\u{feff}{}", Some("starts with")),
            ("```json\n{}\n```", Some("code fence")),
            ("``", Some("code fence")),
            ("Here you are: {}", Some("starts with \"Here you are")),
            ("[1]", Some("starts with")),
            ("3", Some("starts with")),
            ("{} and more", Some("line 1 column 4")),
            ("{\"a\": }", Some("line 1 column 7")),
            ("{\"a\": 1,\n}", Some("line 2")),
            ("{\"a\": NaN}", Some("not JSON")),
            ("{\"a\": 'single'}", Some("not JSON")),
            ("{\"cut\": \"off", Some("EOF")),
        ] {
            check(problem(&text(answer), &object()), expected);
        }
        check(problem(&text("anything"), &Asks::default()), None);
        let deep = "{\"a\":".repeat(5_000);
        check(problem(&text(&deep), &object()), Some("not JSON"));
    }

    #[test]
    fn an_answer_that_calls_tools_owes_no_json() {
        let view = View { text: "Let me look.".to_owned(), ..call("search", "{}") };
        check(problem(&view, &object()), None);
    }

    #[test]
    fn a_schema_names_the_place() {
        let asks = schema(&json!({
            "type": "object",
            "properties": {"items": {"type": "array", "items": {"type": "object", "required": ["price"]}}},
            "required": ["items"],
        }));
        for (answer, expected) in [
            (r#"{"items": [{"price": 1}]}"#, None),
            (r#"{"items": [{"price": 1}, {"cost": 2}]}"#, Some("/items/1 fails `required`")),
            (r#"{"things": []}"#, Some("the whole fails `required`")),
            ("[]", Some("the whole fails `type`")),
            ("oops", Some("not JSON")),
        ] {
            check(schema_problem(&text(answer), &asks), expected);
        }
        check(problem(&text("[]"), &asks), None);
        check(problem(&text("```json"), &asks), Some("code fence"));
        check(schema_problem(&text("oops"), &object()), None);
    }

    #[test]
    fn a_schema_that_refers_to_itself_is_checked_in_no_time_however_deep_the_answer() {
        let branch =
            |required: &str| json!({"properties": {"a": {"$ref": "#"}}, "required": ["a", required]});
        let branches = json!({"type": "object", "anyOf": [branch("x"), branch("y"), branch("z")]});
        let asks = compiled(&branches, 20, true);
        let deep = format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100));
        check(schema_problem(&text(&deep), &asks), Some("does not match its schema"));
        let fits = compiled(&json!({"type": "object", "additionalProperties": {"$ref": "#"}}), 4, true);
        check(schema_problem(&text("{\"a\": {\"b\": {}}}"), &fits), None);
        check(schema_problem(&text("{\"a\": {\"b\": 1}}"), &fits), Some("does not match its schema"));
    }

    #[test]
    fn more_work_than_can_be_done_is_left_undone() {
        let wrong = format!("[{}1]", "1,".repeat(999));
        let check = |values: u64, expected: Option<&str>| {
            check(
                schema_problem(&text(&wrong), &compiled(&json!({"type": "object"}), values, false)),
                expected,
            );
        };
        check(100, Some("the whole fails `type`"));
        check(1_000, Some("does not match its schema"));
        check(100_000, None);
    }

    #[test]
    fn a_very_large_answer_need_only_be_json() {
        let asks = schema(&json!({"type": "object"}));
        let large = format!("[\"{}\"]", "x".repeat(SCHEMA_BYTES_MAX));
        check(schema_problem(&text(&large), &asks), None);
        check(schema_problem(&text(&large[1..]), &asks), Some("not JSON"));
    }

    #[test]
    fn tool_calls() {
        let any = Asks { tool: ToolAsk::Any, ..Asks::default() };
        let named = Asks { tool: ToolAsk::Named("search".to_owned()), ..Asks::default() };
        let free = Asks::default();
        for (view, asks, expected) in [
            (call("search", r#"{"q": 1}"#), &any, None),
            (call("search", ""), &any, None),
            (call("search", " {} "), &named, None),
            (text("I searched."), &any, Some("none came")),
            (text("I searched."), &named, Some("\"search\" was asked for")),
            (text("I searched."), &free, None),
            (call("other", "{}"), &named, Some("\"search\" was asked for")),
            (call("other", "{}"), &any, None),
            (call("", "{}"), &free, Some("names no tool")),
            (call("search", "{\"q\": "), &free, Some("arguments of \"search\" are not JSON")),
            (call("search", "[1]"), &free, Some("no JSON object")),
            (call("search", "\"q\""), &any, Some("no JSON object")),
        ] {
            check(tool_problem(&view, asks, Cut::No), expected);
        }
        check(tool_problem(&call("search", "{\"q\": "), &any, Cut::ByCaller), None);
        check(tool_problem(&text("well"), &any, Cut::ByCaller), None);
    }

    #[test]
    fn a_gap_in_the_numbering_is_no_call() {
        let mut view = call("search", "{}");
        view.tool_calls.insert(0, ToolCall::default());
        check(tool_problem(&view, &Asks { tool: ToolAsk::Any, ..Asks::default() }, Cut::No), None);
    }
}
