//! A script: which answer follows which request, as plain data.
//!
//! Reads no file, knows no clock and waits for nothing: `read` fills it, `play` performs it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use regex::Regex;
use serde_json::Value;

use super::asked::{Ask, Asked};
use crate::{
    completion::{
        answer::{Finish, Usage},
        attempt::ProviderError,
    },
    prompt::TargetId,
};

/// Longest part of a prompt that an answer repeats, characters.
pub const PROMPT_CHARS_MAX: usize = 200;

/// Scenes in the order in which they are tried.
#[derive(Debug)]
pub struct Script {
    pub scenes: Vec<Arc<Scene>>,
}

/// Conditions that must all hold, and what follows.
#[derive(Debug)]
pub struct Scene {
    pub when: When,
    pub pace: Pace,
    pub reply: Reply,
}

/// What a scene asks of a call; an empty list or `None` asks nothing.
#[derive(Debug, Default)]
pub struct When {
    pub targets: Vec<String>,
    pub models: Vec<String>,
    pub asks: Vec<Ask>,
    /// Over the last user text.
    pub pattern: Option<Regex>,
    /// Over the system texts.
    pub system: Option<Regex>,
    pub streams: Option<bool>,
    /// Whether the last message is the result of a tool.
    pub after_tool: Option<bool>,
    /// Only the first so many calls of each target.
    pub times: Option<u64>,
}

/// How fast a scene is played.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// Until the request is accepted or refused.
    pub delay: Duration,
    /// From there to the first piece.
    pub first_token: Duration,
    /// From each piece to the next.
    pub token: Duration,
}

/// What comes back.
#[derive(Debug)]
pub enum Reply {
    /// Nothing of an answer.
    Error(ProviderError),
    Answer(Box<Lines>),
}

/// What is said, in this order: reasoning, text, refusal, tool calls.
#[derive(Debug)]
pub struct Lines {
    pub reasoning: Template,
    pub text: Text,
    pub refusal: Template,
    pub tool_calls: Vec<ToolLine>,
    pub finish: Finish,
    pub usage: UsageLine,
    /// Of every word of the text, natural logarithm.
    pub logprob: Option<f64>,
    pub fault: Option<Fault>,
}

/// The text of an answer.
#[derive(Debug)]
pub enum Text {
    /// So many times in a row.
    Plain(Template, usize),
    /// As JSON; placeholders stand in its strings.
    Json(Value),
}

/// One call of a tool.
#[derive(Debug)]
pub struct ToolLine {
    pub name: Template,
    /// As they stand, which need not be JSON.
    pub arguments: String,
}

/// Which usage is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageLine {
    /// Estimated from the lengths of request and answer.
    Estimated,
    None,
    /// This, right or wrong.
    Exactly(Usage),
}

/// Where an answer goes wrong.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Pieces that come before; an answer with fewer goes wrong before its finish reason.
    pub after_pieces: usize,
    /// `None`: nothing more ever comes.
    pub error: Option<ProviderError>,
}

/// A text with placeholders: `{target}`, `{model}`, `{prompt}` and `{tool}`; any other brace is itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Placeholder(Placeholder),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placeholder {
    Target,
    Model,
    /// At most [`PROMPT_CHARS_MAX`] of it.
    Prompt,
    /// The tool that the request names, else the first that it offers.
    Tool,
}

const PLACEHOLDERS: [(&str, Placeholder); 4] = [
    ("{target}", Placeholder::Target),
    ("{model}", Placeholder::Model),
    ("{prompt}", Placeholder::Prompt),
    ("{tool}", Placeholder::Tool),
];

/// Calls so far that fitted a scene, by its place and the target.
///
/// Bounded by scenes times targets: both come from the operator's files.
pub type Played = HashMap<(usize, TargetId), u64>;

impl Script {
    /// Returns the first scene that fits, and counts it where the scene is limited.
    pub fn find(&self, asked: &Asked<'_>, played: &mut Played) -> Option<&Arc<Scene>> {
        self.scenes.iter().enumerate().find_map(|(place, scene)| {
            if !scene.when.fits(asked) {
                return None;
            }
            if let Some(times) = scene.when.times {
                let count = played.entry((place, asked.target.id.clone())).or_default();
                if *count >= times {
                    return None;
                }
                *count += 1;
            }
            Some(scene)
        })
    }
}

impl When {
    fn fits(&self, asked: &Asked<'_>) -> bool {
        let named = |names: &[String], name: &str| names.is_empty() || names.iter().any(|one| one == name);
        let matches = |pattern: &Option<Regex>, text: &str| {
            pattern.as_ref().is_none_or(|pattern| pattern.is_match(text))
        };
        named(&self.targets, &asked.target.id.0)
            && named(&self.models, &asked.target.model)
            && (self.asks.is_empty() || self.asks.iter().any(|ask| asked.asks(*ask)))
            && self.streams.is_none_or(|streams| streams == asked.streams)
            && self.after_tool.is_none_or(|after| after == asked.after_tool)
            && matches(&self.pattern, &asked.last_user_text)
            && matches(&self.system, &asked.system_text)
    }
}

impl Template {
    /// Returns the template of a text.
    pub fn new(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((at, mark, placeholder)) = first_placeholder(rest) {
            if at > 0 {
                parts.push(Part::Literal(rest[..at].to_owned()));
            }
            parts.push(Part::Placeholder(placeholder));
            rest = &rest[at + mark.len()..];
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Self(parts)
    }

    /// Returns the text with every placeholder replaced, once: what stands in a prompt stays as it is.
    pub fn fill(&self, asked: &Asked<'_>) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Placeholder(Placeholder::Target) => text.push_str(&asked.target.id.0),
                Part::Placeholder(Placeholder::Model) => text.push_str(&asked.target.model),
                Part::Placeholder(Placeholder::Prompt) => push_start(&mut text, &asked.last_user_text),
                Part::Placeholder(Placeholder::Tool) => text.push_str(asked.tool_name()),
            }
        }
        text
    }
}

fn first_placeholder(text: &str) -> Option<(usize, &'static str, Placeholder)> {
    PLACEHOLDERS
        .iter()
        .filter_map(|(mark, placeholder)| text.find(mark).map(|at| (at, *mark, *placeholder)))
        .min_by_key(|(at, ..)| *at)
}

fn push_start(text: &mut String, prompt: &str) {
    match prompt.char_indices().nth(PROMPT_CHARS_MAX) {
        Some((end, _)) => {
            text.push_str(&prompt[..end]);
            text.push('…');
        }
        None => text.push_str(prompt),
    }
}

impl Text {
    /// Returns the text with every placeholder replaced.
    pub fn fill(&self, asked: &Asked<'_>) -> String {
        match self {
            Self::Plain(template, count) => template.fill(asked).repeat(*count),
            Self::Json(value) => filled(value, asked).to_string(),
        }
    }
}

fn filled(value: &Value, asked: &Asked<'_>) -> Value {
    match value {
        Value::String(text) => Value::String(Template::new(text).fill(asked)),
        Value::Array(items) => items.iter().map(|item| filled(item, asked)).collect(),
        Value::Object(entries) => {
            entries.iter().map(|(key, value)| (key.clone(), filled(value, asked))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::call, *};

    fn check(template: &str, prompt: &str, expected: &str) {
        let call = call("luna", prompt);
        let asked = Asked::new(&call, true);
        assert_eq!(Template::new(template).fill(&asked), expected, "{template}");
    }

    #[test]
    fn placeholders_are_replaced_once_and_other_braces_stay() {
        check("{target} runs {model}.", "x", "luna runs luna-model.");
        check("{prompt}{prompt}", "a", "aa");
        check("{prompt}", "{target} {prompt}", "{target} {prompt}");
        check("{\"a\": {}} {modle} {", "x", "{\"a\": {}} {modle} {");
        check("", "x", "");
        check("{prompt}", &"é".repeat(200), &"é".repeat(200));
        check("{prompt}", &"é".repeat(201), &format!("{}…", "é".repeat(200)));
    }

    #[test]
    fn a_prompt_cannot_break_out_of_json() {
        let call = call("luna", r#"", "admin": true"#);
        let text = Text::Json(serde_json::json!({ "echo": ["{prompt}"] })).fill(&Asked::new(&call, true));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["echo"][0], r#"", "admin": true"#);
    }
}
