//! Chunks of a stream -> pieces, and whether it ended as it should. The reading is pure; only the streams wait.

use std::collections::{BTreeMap, VecDeque};

use futures::{StreamExt, stream};
use serde_json::{Value, json};

use crate::completion::{
    answer::{Piece, Raw},
    attempt::{ErrorKind, ProviderError},
    dialect::openai::{CHOICES_MAX, delta, error_of},
    providers::{
        Pieces,
        wire::{Event, Events, Redactor, Said, error_object, failed_with, read_out},
    },
};

/// Ends a stream.
const DONE: &str = "[DONE]";

/// Returns the pieces of a stream. It ends with `[DONE]`, or with the body.
pub(super) fn pieces(events: Events, redactor: Redactor, said_bytes_max: usize) -> Pieces {
    let state = Some((events, Reader::new(redactor, said_bytes_max)));
    stream::unfold(state, |state| async move {
        let (mut events, mut reader) = state?;
        let next = match events.next().await {
            Some(Ok(event)) => reader.read_event(&event),
            Some(Err(error)) => Err(error),
            None => reader.end().map(|()| None),
        };
        match next {
            Ok(Some(piece)) => Some((Ok(piece), Some((events, reader)))),
            Ok(None) => {
                read_out(events);
                None
            }
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

/// Returns the pieces of an answer that came whole.
pub(super) fn pieces_of_whole(
    answer: Value,
    redactor: Redactor,
    said_bytes_max: usize,
) -> Result<Pieces, ProviderError> {
    let mut reader = Reader::new(redactor, said_bytes_max);
    let chunks = chunks_of_whole(answer);
    let mut pieces =
        chunks.into_iter().map(|chunk| reader.read_chunk(chunk)).collect::<Result<VecDeque<_>, _>>()?;
    reader.end()?;
    Ok(stream::iter(std::iter::from_fn(move || pieces.pop_front()).map(Ok)).boxed())
}

/// What must be known of a stream to tell whether it ended as it should.
struct Reader {
    redactor: Redactor,
    /// Choices that appeared, and whether they were finished.
    choices: BTreeMap<u64, bool>,
    said: Said,
}

impl Reader {
    fn new(redactor: Redactor, said_bytes_max: usize) -> Self {
        Self { redactor, choices: BTreeMap::new(), said: Said::new(said_bytes_max) }
    }

    /// Returns the event's piece, `None` when it ends the stream.
    fn read_event(&mut self, event: &Event) -> Result<Option<Piece>, ProviderError> {
        if event.data.trim() == DONE {
            return self.end().map(|()| None);
        }
        let chunk: Value = serde_json::from_str(&event.data)
            .map_err(|_| malformed("a chunk of the stream is no valid JSON"))?;
        if event.event.as_deref() == Some("error") {
            return Err(self.error_event(&chunk));
        }
        self.read_chunk(chunk).map(Some)
    }

    fn read_chunk(&mut self, chunk: Value) -> Result<Piece, ProviderError> {
        if let Some(error) = error_of(&chunk) {
            return Err(self.error_event(error));
        }
        let delta = delta(&chunk).map_err(|problem| malformed(&problem))?;
        self.note_choices(&chunk)?;
        self.said.add(delta.bytes())?;
        Ok(Piece { raw: Raw::OpenAi(chunk), delta })
    }

    fn note_choices(&mut self, chunk: &Value) -> Result<(), ProviderError> {
        let choices = chunk.get("choices").and_then(Value::as_array);
        for (at, choice) in choices.into_iter().flatten().enumerate() {
            let index = choice.get("index").and_then(Value::as_u64).unwrap_or(at as u64);
            let reason = choice.get("finish_reason").and_then(Value::as_str).unwrap_or_default();
            *self.choices.entry(index).or_insert(false) |= !reason.is_empty();
            if self.choices.len() > CHOICES_MAX {
                return Err(malformed(&format!("the stream has more than {CHOICES_MAX} choices")));
            }
        }
        Ok(())
    }

    /// Returns an error unless the first choice, and every other that appeared, was finished.
    fn end(&self) -> Result<(), ProviderError> {
        if self.choices.contains_key(&0) && self.choices.values().all(|finished| *finished) {
            return Ok(());
        }
        Err(failed_with(
            ErrorKind::Cut,
            Some(200),
            "the stream ended before the answer did: no finish_reason",
        ))
    }

    fn error_event(&self, error: &Value) -> ProviderError {
        ProviderError { kind: ErrorKind::ErrorEvent, ..error_object(error, &self.redactor) }
    }
}

fn malformed(message: &str) -> ProviderError {
    failed_with(ErrorKind::Malformed, Some(200), message)
}

/// Returns the chunks that a server which streams would have sent: the answer, then its usage.
fn chunks_of_whole(answer: Value) -> Vec<Value> {
    let Value::Object(mut whole) = answer else { return vec![answer] };
    whole.insert("object".to_owned(), "chat.completion.chunk".into());
    let usage = whole.get_mut("usage").map(Value::take).filter(|usage| !usage.is_null());
    let choices = whole.get_mut("choices").and_then(Value::as_array_mut);
    choices.into_iter().flatten().for_each(message_to_delta);
    let usage_chunk = usage.map(|usage| {
        let mut chunk = whole.clone();
        chunk.insert("choices".to_owned(), json!([]));
        chunk.insert("usage".to_owned(), usage);
        Value::Object(chunk)
    });
    std::iter::once(Value::Object(whole)).chain(usage_chunk).collect()
}

fn message_to_delta(choice: &mut Value) {
    let Some(mut message) = choice.get_mut("message").map(Value::take) else { return };
    if let Some(calls) = message.get_mut("tool_calls").and_then(Value::as_array_mut) {
        for (at, call) in calls.iter_mut().enumerate() {
            if let Some(call) = call.as_object_mut() {
                call.entry("index").or_insert(at.into());
            }
        }
    }
    if let Some(choice) = choice.as_object_mut() {
        choice.remove("message");
        choice.insert("delta".to_owned(), message);
    }
}
