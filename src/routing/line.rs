//! A line of a JSONL file -> a [`Draft`]: the form in which files give requests to `route` and `eval`.
//!
//! Bounded: a line that is too long is skipped, never held.

use std::io::{BufRead, BufReader, Read};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::admit::{BadRequest, FieldProblem, shown};
use crate::prompt::{Draft, DraftMessage};

/// Longest line, bytes: a prompt of the default limit with every byte escaped. The rest of a longer one
/// is skipped.
pub const LINE_BYTES_MAX: usize = 24 << 20;

/// Unknown keys that one error names; more is the same mistake again.
const UNKNOWN_NAMED_MAX: usize = 8;
/// What a request may hold.
const KNOWN: &str = "id, prompt, messages, context, shape, preferences, model and explain are known";

/// One line as it was read.
pub struct Line {
    /// From 1.
    pub number: usize,
    pub bytes: Vec<u8>,
    /// Whether it was longer than [`LINE_BYTES_MAX`].
    pub cut: bool,
}

impl Line {
    /// Returns the line's JSON, or why it has none.
    pub fn json(&self) -> Result<Value, String> {
        if self.cut {
            return Err(format!("longer than {LINE_BYTES_MAX} bytes"));
        }
        let text = std::str::from_utf8(&self.bytes)
            .map_err(|error| format!("not UTF-8 at byte {}", error.valid_up_to() + 1))?;
        serde_json::from_str(text).map_err(|error| {
            // Its own line number is always 1, beside that of the file.
            let told = error.to_string();
            let (what, _) = told.rsplit_once(" at line ").unwrap_or((&told, ""));
            format!("not JSON at column {}: {what}", error.column())
        })
    }
}

/// Reads lines and hands each to `take` until that declines; empty lines are left out.
pub fn read_lines(source: impl Read, mut take: impl FnMut(Line) -> bool) -> std::io::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 16, source);
    for number in 1.. {
        let mut bytes = Vec::new();
        let read = reader.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut bytes)?;
        if read == 0 {
            break;
        }
        let cut = bytes.len() > LINE_BYTES_MAX && bytes.last() != Some(&b'\n');
        if cut {
            bytes = Vec::new();
            reader.skip_until(b'\n')?;
        }
        let blank = !cut && bytes.iter().all(u8::is_ascii_whitespace);
        if !blank && !take(Line { number, bytes, cut }) {
            break;
        }
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
struct LineMessage {
    role: String,
    content: Option<Content>,
}

/// A message's content as chat APIs write it: text, or parts of which the texts count.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize)]
struct Part {
    #[serde(default)]
    text: String,
}

impl Content {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Parts(parts) => {
                let texts: Vec<String> =
                    parts.into_iter().map(|part| part.text).filter(|text| !text.is_empty()).collect();
                texts.join("\n")
            }
        }
    }
}

/// Takes a request out of the object that holds nothing else, or names every bad or unknown field. Its `id`, where it
/// has one, is for who asked.
pub fn take_request(object: &mut Map<String, Value>) -> Result<Draft, BadRequest> {
    object.remove("id");
    let mut problems = Vec::new();
    let model = take(object, "model", &mut problems);
    let explain = take(object, "explain", &mut problems).unwrap_or(false);
    let draft = take_draft(object).unwrap_or_else(|BadRequest(found)| {
        problems.extend(found);
        Draft::default()
    });
    let unknown = object.keys().take(UNKNOWN_NAMED_MAX);
    problems.extend(unknown.map(|name| FieldProblem::new(shown(name), format!("is unknown; {KNOWN}"))));
    if problems.is_empty() { Ok(Draft { model, explain, ..draft }) } else { Err(BadRequest(problems)) }
}

/// Takes the request out of a line's object, or names each field of the wrong type.
///
/// Other keys stay where they are, so that labelled data can be read as it is.
pub fn take_draft(object: &mut Map<String, Value>) -> Result<Draft, BadRequest> {
    let mut problems = Vec::new();
    let messages: Option<Vec<LineMessage>> = take(object, "messages", &mut problems);
    let draft = Draft {
        prompt: take(object, "prompt", &mut problems),
        messages: messages
            .unwrap_or_default()
            .into_iter()
            .map(|message| DraftMessage {
                role: message.role,
                content: message.content.map_or_else(String::new, Content::into_text),
            })
            .collect(),
        context: take(object, "context", &mut problems).unwrap_or_default(),
        shape: take(object, "shape", &mut problems).unwrap_or_default(),
        preferences: take(object, "preferences", &mut problems).unwrap_or_default(),
        // A logged request names the model it went to, which is no wish.
        model: None,
        explain: false,
    };
    if problems.is_empty() { Ok(draft) } else { Err(BadRequest(problems)) }
}

/// Returns `None` for a key that is absent, null or of the wrong type; the last is a problem.
fn take<T: DeserializeOwned>(
    object: &mut Map<String, Value>,
    field: &str,
    problems: &mut Vec<FieldProblem>,
) -> Option<T> {
    match serde_json::from_value::<Option<T>>(object.remove(field)?) {
        Ok(value) => value,
        Err(error) => {
            problems.push(FieldProblem::new(field, error.to_string()));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_keep_their_numbers_and_empty_ones_are_left_out() {
        let mut got = Vec::new();
        read_lines("a\n\n  \nb\r\nc".as_bytes(), |line| {
            got.push((line.number, line.bytes));
            true
        })
        .unwrap();
        assert_eq!(got, [(1, b"a\n".to_vec()), (4, b"b\r\n".to_vec()), (5, b"c".to_vec())]);
    }

    #[test]
    fn contents_may_be_parts_or_null() {
        let mut line = json!({
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]},
                {"role": "assistant", "content": null},
            ],
            "label": 1,
        });
        let draft = take_draft(line.as_object_mut().unwrap()).unwrap();
        assert_eq!(draft.messages[0].content, "a");
        assert_eq!(draft.messages[1].content, "");
        assert_eq!(line, json!({"label": 1}));
    }

    #[test]
    fn a_request_holds_nothing_else() {
        let check = |mut request: Value, fields: &[&str]| {
            let BadRequest(problems) = take_request(request.as_object_mut().unwrap()).unwrap_err();
            let mut named: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
            named.sort_unstable();
            assert_eq!(named, fields);
        };
        check(json!({"promt": "a"}), &["promt"]);
        check(json!({"prompt": "a", "foo": 1, "quality": 0.5}), &["foo", "quality"]);
        check(json!({"prompt": 7}), &["prompt"]);
        check(json!({"model": 7, "explain": "yes", "shape": 7}), &["explain", "model", "shape"]);
        let mut request = json!({"id": [1], "prompt": "a", "model": "tier:simple", "explain": true});
        let draft = take_request(request.as_object_mut().unwrap()).unwrap();
        assert_eq!((draft.prompt.as_deref(), draft.model.as_deref()), (Some("a"), Some("tier:simple")));
        assert!(draft.explain);
    }

    #[test]
    fn a_line_that_is_no_json_has_one_place() {
        let line = Line { number: 2, bytes: b"{\"prompt\": x}".to_vec(), cut: false };
        assert_eq!(line.json().unwrap_err(), "not JSON at column 12: expected value");
    }

    #[test]
    fn each_field_of_the_wrong_type_is_named() {
        let mut line = json!({"prompt": 7, "shape": {"prompt_tokens": "many"}});
        let error = take_draft(line.as_object_mut().unwrap()).unwrap_err().to_string();
        assert!(error.contains("prompt: invalid type") && error.contains("shape: "), "{error}");
    }
}
