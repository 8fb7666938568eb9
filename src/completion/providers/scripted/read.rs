//! TOML -> [`Script`], or every problem with its line and path.
//!
//! What a script may say is told for people in `demo.toml`; the keys stand here. Nothing here waits or calls.

use std::{fmt, path::Path, time::Duration};

use regex::Regex;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use super::{
    asked::Ask,
    script::{
        Fault, Lines, PROMPT_CHARS_MAX, Pace, Reply, Scene, Script, Template, Text, ToolLine, UsageLine, When,
    },
};
use crate::{
    completion::{
        answer::{Finish, Usage},
        attempt::{Again, ErrorKind, MESSAGE_BYTES_MAX, ProviderError, Stage},
    },
    config::{
        ConfigError, Problem, compile_pattern,
        read::{SourceText, parse, text_of},
    },
};

/// Scenes of one script; each is tried for every call.
const ANSWERS_MAX: usize = 1000;

/// Largest repeated text of one answer, bytes: half a million words, more than any model says at once.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// Longest wait, milliseconds: an hour is longer than any deadline.
const WAIT_MS_MAX: u64 = 3_600_000;

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ScriptFile {
    defaults: DefaultsFile,
    answers: Vec<AnswerFile>,
}

/// What answers that say nothing else do.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DefaultsFile {
    delay_ms: Option<u64>,
    first_token_ms: Option<u64>,
    token_ms: Option<u64>,
    usage: Option<UsageFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AnswerFile {
    targets: Vec<String>,
    models: Vec<String>,
    asks: Vec<Ask>,
    pattern: Option<String>,
    system: Option<String>,
    stream: Option<bool>,
    after_tool: Option<bool>,
    times: Option<u64>,

    text: Option<String>,
    repeat: Option<RepeatFile>,
    json: Option<toml::Value>,
    reasoning: String,
    refusal: String,
    tool_calls: Vec<ToolCallFile>,
    finish: Option<FinishFile>,
    usage: Option<UsageFile>,
    logprob: Option<f64>,

    delay_ms: Option<u64>,
    first_token_ms: Option<u64>,
    token_ms: Option<u64>,

    error: Option<ErrorFile>,
    cut_after_pieces: Option<usize>,
    stall_after_pieces: Option<usize>,
    error_after_pieces: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RepeatFile {
    text: String,
    count: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ToolCallFile {
    name: String,
    arguments: toml::Value,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FinishFile {
    Stop,
    Length,
    ToolCalls,
    ContentFilter,
}

/// "estimated", "none" or a table of numbers.
#[derive(Debug, Clone, Copy)]
struct UsageFile(UsageLine);

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct UsageTable {
    input_tokens: u64,
    cached_input_tokens: u64,
    cache_write_tokens: u64,
    output_tokens: u64,
    reasoning_tokens: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ErrorFile {
    kind: Option<String>,
    status: Option<u16>,
    retry_after_ms: Option<u64>,
    message: Option<String>,
}

/// Reads the script at `path`.
pub fn read_file(path: &Path) -> Result<Script, ConfigError> {
    read_text(&text_of(path)?, path.display().to_string())
}

/// Reads a script; `origin` names it in errors.
pub fn read_text(text: &str, origin: String) -> Result<Script, ConfigError> {
    let (file, mut source) = parse::<ScriptFile>(text);
    match file.answers.len() {
        1..=ANSWERS_MAX => {}
        0 => source.problem("", "has no [[answers]]"),
        count => source.problem("answers", format!("{count}, at most {ANSWERS_MAX} in one script")),
    }
    let defaults = check_defaults(&file.defaults, &mut source);
    let mut scenes = Vec::new();
    for (index, answer) in file.answers.iter().enumerate() {
        scenes.push(check_answer(answer, &defaults, &format!("answers[{index}]"), &mut source).into());
    }
    let mut problems: Vec<Problem> = source.problems;
    if problems.is_empty() {
        return Ok(Script { scenes });
    }
    problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    Err(ConfigError { origin, problems })
}

struct Defaults {
    pace: Pace,
    usage: UsageLine,
}

fn check_defaults(file: &DefaultsFile, source: &mut SourceText<'_>) -> Defaults {
    let waits = [file.delay_ms, file.first_token_ms, file.token_ms];
    let pace = check_pace(waits, Pace::default(), "defaults", source);
    Defaults { pace, usage: file.usage.map_or(UsageLine::Estimated, |usage| usage.0) }
}

fn check_pace(waits: [Option<u64>; 3], usual: Pace, prefix: &str, source: &mut SourceText<'_>) -> Pace {
    let mut wait = |key: &str, written: Option<u64>, usual: Duration| {
        if let Some(ms) = written.filter(|ms| *ms > WAIT_MS_MAX) {
            source.problem(format!("{prefix}.{key}"), format!("is {ms}, at most {WAIT_MS_MAX}"));
        }
        written.map_or(usual, Duration::from_millis)
    };
    Pace {
        delay: wait("delay_ms", waits[0], usual.delay),
        first_token: wait("first_token_ms", waits[1], usual.first_token),
        token: wait("token_ms", waits[2], usual.token),
    }
}

fn check_answer(file: &AnswerFile, defaults: &Defaults, prefix: &str, source: &mut SourceText<'_>) -> Scene {
    if file.times == Some(0) {
        source.problem(format!("{prefix}.times"), "is 0: the answer would never be given");
    }
    let when = When {
        targets: file.targets.clone(),
        models: file.models.clone(),
        asks: file.asks.clone(),
        pattern: check_pattern(file.pattern.as_deref(), &format!("{prefix}.pattern"), source),
        system: check_pattern(file.system.as_deref(), &format!("{prefix}.system"), source),
        streams: file.stream,
        after_tool: file.after_tool,
        times: file.times,
    };
    let waits = [file.delay_ms, file.first_token_ms, file.token_ms];
    let pace = check_pace(waits, defaults.pace, prefix, source);
    let error = file.error.as_ref().map(|error| check_error(error, &format!("{prefix}.error"), source));
    let fault = check_fault(file, error.clone(), prefix, source);
    let says = !file.tool_calls.is_empty() || !file.refusal.is_empty() || !file.reasoning.is_empty();
    let texts = [file.text.is_some(), file.repeat.is_some(), file.json.is_some()];
    let texts = texts.into_iter().filter(|given| *given).count();
    let reply = match error {
        Some(error) if file.error_after_pieces.is_none() => {
            if says || texts > 0 {
                source.problem(
                    format!("{prefix}.error"),
                    "takes the place of an answer: leave one out, or say `error_after_pieces`",
                );
            }
            Reply::Error(error)
        }
        _ => {
            match texts {
                0 if !says && fault.is_none() => source.problem(
                    prefix,
                    "says nothing: give text, repeat, json, reasoning, refusal, tool_calls or error; \
                     `text = \"\"` answers with nothing",
                ),
                0 | 1 => {}
                _ => source.problem(prefix, "give one of text, repeat and json"),
            }
            Reply::Answer(Box::new(check_lines(file, defaults, fault, prefix, source)))
        }
    };
    Scene { when, pace, reply }
}

fn check_pattern(pattern: Option<&str>, path: &str, source: &mut SourceText<'_>) -> Option<Regex> {
    compile_pattern(pattern?).map_err(|message| source.problem(path, message)).ok()
}

fn check_lines(
    file: &AnswerFile,
    defaults: &Defaults,
    fault: Option<Fault>,
    prefix: &str,
    source: &mut SourceText<'_>,
) -> Lines {
    if let Some(logprob) = file.logprob.filter(|logprob| !logprob.is_finite() || *logprob > 0.0) {
        source.problem(format!("{prefix}.logprob"), format!("is {logprob}, must be at most 0"));
    }
    let text = match (&file.text, &file.repeat, &file.json) {
        (Some(text), ..) => Text::Plain(Template::new(text), 1),
        (None, Some(repeat), _) => {
            // A prompt takes at most four bytes a character.
            let bytes = (repeat.text.len() + 4 * PROMPT_CHARS_MAX).saturating_mul(repeat.count);
            if bytes > TEXT_BYTES_MAX {
                let message = format!("may become {bytes} bytes, at most {TEXT_BYTES_MAX}");
                source.problem(format!("{prefix}.repeat.count"), message);
            }
            Text::Plain(Template::new(&repeat.text), repeat.count)
        }
        (None, None, Some(value)) => Text::Json(json(value, &format!("{prefix}.json"), source)),
        (None, None, None) => Text::Plain(Template::default(), 1),
    };
    let mut tool_calls = Vec::new();
    for (index, call) in file.tool_calls.iter().enumerate() {
        let arguments = match &call.arguments {
            toml::Value::String(text) => text.clone(),
            value => json(value, &format!("{prefix}.tool_calls[{index}].arguments"), source).to_string(),
        };
        tool_calls.push(ToolLine { name: Template::new(&call.name), arguments });
    }
    let finish = match file.finish {
        Some(FinishFile::Stop) => Finish::Stop,
        Some(FinishFile::Length) => Finish::Length,
        Some(FinishFile::ToolCalls) => Finish::ToolCalls,
        Some(FinishFile::ContentFilter) => Finish::ContentFilter,
        None if tool_calls.is_empty() => Finish::Stop,
        None => Finish::ToolCalls,
    };
    Lines {
        reasoning: Template::new(&file.reasoning),
        text,
        refusal: Template::new(&file.refusal),
        tool_calls,
        finish,
        usage: file.usage.map_or(defaults.usage, |usage| usage.0),
        logprob: file.logprob,
        fault,
    }
}

/// Returns a TOML value as JSON; a date becomes a string.
fn json(value: &toml::Value, path: &str, source: &mut SourceText<'_>) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text.clone()),
        toml::Value::Integer(number) => Value::from(*number),
        toml::Value::Float(number) => serde_json::Number::from_f64(*number).map_or_else(
            || {
                source.problem(path, format!("{number} is no number in JSON"));
                Value::Null
            },
            Value::Number,
        ),
        toml::Value::Boolean(truth) => Value::Bool(*truth),
        toml::Value::Datetime(date) => Value::String(date.to_string()),
        toml::Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| json(item, &format!("{path}[{index}]"), source))
            .collect(),
        toml::Value::Table(entries) => entries
            .iter()
            .map(|(key, item)| (key.clone(), json(item, &format!("{path}.{key}"), source)))
            .collect(),
    }
}

fn check_fault(
    file: &AnswerFile,
    error: Option<ProviderError>,
    prefix: &str,
    source: &mut SourceText<'_>,
) -> Option<Fault> {
    let usual = |kind: ErrorKind, message: &str| ProviderError {
        kind,
        status: None,
        message: message.to_owned(),
        code: None,
        again: Again::Usual,
    };
    let faults: Vec<Fault> = [
        file.stall_after_pieces.map(|after_pieces| Fault { after_pieces, error: None }),
        file.cut_after_pieces.map(|after_pieces| Fault {
            after_pieces,
            error: Some(usual(ErrorKind::Cut, "scripted: the connection ended before the answer did")),
        }),
        file.error_after_pieces.map(|after_pieces| Fault {
            after_pieces,
            error: error
                .or_else(|| Some(usual(ErrorKind::ErrorEvent, "scripted: an error inside the answer"))),
        }),
    ]
    .into_iter()
    .flatten()
    .collect();
    if faults.len() > 1 {
        source.problem(prefix, "give one of cut_after_pieces, stall_after_pieces and error_after_pieces");
    }
    faults.into_iter().next()
}

/// Every kind, by the name that scripts give it.
const ERROR_KINDS: [ErrorKind; 20] = [
    ErrorKind::Connect,
    ErrorKind::Tls,
    ErrorKind::Timeout(Stage::Connect),
    ErrorKind::Timeout(Stage::FirstToken),
    ErrorKind::Timeout(Stage::BetweenTokens),
    ErrorKind::Timeout(Stage::Total),
    ErrorKind::RateLimited,
    ErrorKind::Unauthorized,
    ErrorKind::Unpaid,
    ErrorKind::NoKey,
    ErrorKind::NotFound,
    ErrorKind::Refused,
    ErrorKind::TooLong,
    ErrorKind::Server,
    ErrorKind::Overloaded,
    ErrorKind::Redirect,
    ErrorKind::Malformed,
    ErrorKind::Cut,
    ErrorKind::ErrorEvent,
    ErrorKind::TooLarge,
];

fn check_error(file: &ErrorFile, path: &str, source: &mut SourceText<'_>) -> ProviderError {
    let named = file.kind.as_deref().and_then(|name| {
        let kind = ERROR_KINDS.into_iter().find(|kind| kind.as_str() == name);
        if kind.is_none() {
            let names: Vec<&str> = ERROR_KINDS.iter().map(|kind| kind.as_str()).collect();
            source
                .problem(format!("{path}.kind"), format!("no kind \"{name}\": one of {}", names.join(", ")));
        }
        kind
    });
    let by_status = file.status.and_then(|status| {
        let kind = kind_of(status);
        if kind.is_none() {
            source.problem(format!("{path}.status"), format!("{status} is no error: 300 to 599 are"));
        }
        kind
    });
    if file.kind.is_none() && file.status.is_none() {
        source.problem(path, "give a kind or a status");
    }
    if let Some(ms) = file.retry_after_ms.filter(|ms| *ms > WAIT_MS_MAX) {
        source.problem(format!("{path}.retry_after_ms"), format!("is {ms}, at most {WAIT_MS_MAX}"));
    }
    let message = file.message.clone().unwrap_or_else(|| "scripted".to_owned());
    if message.len() > MESSAGE_BYTES_MAX {
        let bytes = message.len();
        source.problem(format!("{path}.message"), format!("{bytes} bytes, at most {MESSAGE_BYTES_MAX}"));
    }
    let kind = named.or(by_status).unwrap_or(ErrorKind::Server);
    ProviderError {
        kind,
        status: file.status.or_else(|| usual_status(kind)),
        message,
        code: None,
        again: file.retry_after_ms.map_or(Again::Usual, |ms| Again::After(Duration::from_millis(ms))),
    }
}

fn kind_of(status: u16) -> Option<ErrorKind> {
    match status {
        300..=399 => Some(ErrorKind::Redirect),
        401 | 403 => Some(ErrorKind::Unauthorized),
        402 => Some(ErrorKind::Unpaid),
        404 => Some(ErrorKind::NotFound),
        408 | 504 => Some(ErrorKind::Timeout(Stage::Total)),
        429 => Some(ErrorKind::RateLimited),
        503 | 529 => Some(ErrorKind::Overloaded),
        400..=499 => Some(ErrorKind::Refused),
        500..=599 => Some(ErrorKind::Server),
        _ => None,
    }
}

/// Returns the status that comes with a kind, where one does.
fn usual_status(kind: ErrorKind) -> Option<u16> {
    match kind {
        ErrorKind::RateLimited => Some(429),
        ErrorKind::Unauthorized => Some(401),
        ErrorKind::Unpaid => Some(402),
        ErrorKind::NotFound => Some(404),
        ErrorKind::Refused | ErrorKind::TooLong => Some(400),
        ErrorKind::Server => Some(500),
        ErrorKind::Overloaded => Some(503),
        ErrorKind::Redirect => Some(302),
        ErrorKind::Connect
        | ErrorKind::Tls
        | ErrorKind::Timeout(_)
        | ErrorKind::NoKey
        | ErrorKind::Malformed
        | ErrorKind::Cut
        | ErrorKind::ErrorEvent
        | ErrorKind::TooLarge => None,
    }
}

impl<'de> Deserialize<'de> for UsageFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UsageVisitor)
    }
}

struct UsageVisitor;

impl<'de> de::Visitor<'de> for UsageVisitor {
    type Value = UsageFile;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"estimated\", \"none\" or a table of token counts")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<UsageFile, E> {
        match text {
            "estimated" => Ok(UsageFile(UsageLine::Estimated)),
            "none" => Ok(UsageFile(UsageLine::None)),
            other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
        }
    }

    fn visit_map<A: de::MapAccess<'de>>(self, entries: A) -> Result<UsageFile, A::Error> {
        let table = UsageTable::deserialize(de::value::MapAccessDeserializer::new(entries))?;
        Ok(UsageFile(UsageLine::Exactly(Usage {
            input_tokens: table.input_tokens,
            cached_input_tokens: table.cached_input_tokens,
            cache_write_tokens: table.cache_write_tokens,
            output_tokens: table.output_tokens,
            reasoning_tokens: table.reasoning_tokens,
        })))
    }
}
