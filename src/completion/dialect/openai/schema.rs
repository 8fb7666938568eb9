//! The JSON Schema that an answer is asked to match, compiled within bounds.
//!
//! Nothing is fetched for it, from nowhere. A schema comes from a caller and is checked against answers on our
//! time, so one that grows by repeated references is refused: fifty lines of them can ask for months.

use std::{borrow::Cow, collections::HashMap};

use jsonschema::PatternOptions;
use serde_json::Value;

use crate::completion::chat::AnswerSchema;

/// Values in one schema: a compiled one takes some hundred times as much memory as its text.
pub(super) const VALUES_MAX: usize = 20_000;
/// Values after each reference is replaced by what it refers to; 800,000 took 2 ms to check.
const EXPANDED_MAX: u64 = 100_000;
/// Steps that one look-around pattern may take on one text; plain patterns need none.
const PATTERN_STEPS_MAX: usize = 100_000;
/// Values inside one another, references followed: compiling takes stack for each.
const DEPTH_MAX: usize = 256;
/// Longest reason that an error gives, characters.
const REASON_CHARS_MAX: usize = 200;

/// Returns the compiled schema, or what is wrong with it.
pub(super) fn compile(schema: &Value) -> Result<AnswerSchema, String> {
    if !schema.is_object() && !schema.is_boolean() {
        return Err("is neither an object nor true or false".to_owned());
    }
    let values = values_in(schema);
    if values > VALUES_MAX {
        return Err(format!("{values} values, at most {VALUES_MAX}"));
    }
    let mut expansion = Expansion { root: schema, known: HashMap::new(), turns: false };
    let expanded = expansion.of(schema, 0)?;
    if expanded > EXPANDED_MAX {
        return Err(format!("has more than {EXPANDED_MAX} values once its references are followed"));
    }
    let patterns = PatternOptions::fancy_regex().backtrack_limit(PATTERN_STEPS_MAX);
    let built = jsonschema::options().offline().with_pattern_options(patterns).build(schema);
    let validator = built.map_err(|error| {
        let reason: String = error.to_string().chars().take(REASON_CHARS_MAX).collect();
        format!("is no valid JSON Schema: {reason}")
    })?;
    Ok(AnswerSchema { validator, values: expanded, refers_to_itself: expansion.turns })
}

/// The parser bounds how deep it goes.
fn values_in(value: &Value) -> usize {
    match value {
        Value::Array(list) => 1 + list.iter().map(values_in).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(values_in).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

/// Counts values with references followed. What refers to itself counts once a turn: how often it turns, the
/// answer decides.
struct Expansion<'a> {
    root: &'a Value,
    /// By the address of a referred-to value; `None` while it is being counted.
    known: HashMap<*const Value, Option<u64>>,
    /// Whether anything was referred to while it was being counted.
    turns: bool,
}

impl<'a> Expansion<'a> {
    fn of(&mut self, value: &'a Value, depth: usize) -> Result<u64, String> {
        if depth > DEPTH_MAX {
            return Err(format!("is more than {DEPTH_MAX} values deep once its references are followed"));
        }
        let mut count = 1_u64;
        match value {
            Value::Array(list) => {
                for item in list {
                    count = count.saturating_add(self.of(item, depth + 1)?);
                }
            }
            Value::Object(map) => {
                for (name, item) in map {
                    let grows = match (name.as_str(), item) {
                        ("$ref" | "$dynamicRef" | "$recursiveRef", Value::String(reference)) => {
                            self.referred(reference, depth)?
                        }
                        ("$id", Value::String(_)) if !std::ptr::eq(value, self.root) => {
                            return Err("has an $id inside: references count from its root".to_owned());
                        }
                        (_, item) => self.of(item, depth + 1)?,
                    };
                    count = count.saturating_add(grows);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        Ok(count)
    }

    fn referred(&mut self, reference: &str, depth: usize) -> Result<u64, String> {
        let shown = || reference.chars().take(REASON_CHARS_MAX).collect::<String>();
        let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(&decoded(pointer)));
        let target = target.ok_or_else(|| format!("refers to {:?}, which it does not hold", shown()))?;
        if let Some(known) = self.known.get(&std::ptr::from_ref(target)) {
            self.turns |= known.is_none();
            return Ok(known.unwrap_or(1));
        }
        self.known.insert(target, None);
        let count = self.of(target, depth + 1)?;
        self.known.insert(target, Some(count));
        Ok(count)
    }
}

/// Returns a URL's fragment with its percent signs read.
fn decoded(pointer: &str) -> Cow<'_, str> {
    if !pointer.contains('%') {
        return Cow::Borrowed(pointer);
    }
    let mut bytes = Vec::with_capacity(pointer.len());
    let mut rest = pointer.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}
