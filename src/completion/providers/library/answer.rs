//! The library's events -> pieces of a chat completion in OpenAI's form. Pure.
//!
//! Signatures of what a model thought go along where other gateways put them, so that a caller who sends the
//! message back unchanged lets the model go on thinking: `thinking_blocks` of a message (Claude, Bedrock) and
//! `extra_content.google.thought_signature` of a tool call (Gemini).

use std::sync::Arc;

use genai::chat::{ChatStreamEvent, ContentPart, StopReason, StreamEnd, ToolCall};
use serde_json::{Value, json};

use super::{adapter::Adapter, calls::Calls, frames::Frames, request::Aliases};
use crate::completion::{
    answer::{Delta, Finish, Piece, Raw, View},
    attempt::{ErrorKind, ProviderError},
    dialect::openai::{self, ChunkHead},
    providers::wire::failed_with,
};

/// Longest reason of an end that an error quotes.
const REASON_BYTES_MAX: usize = 64;
/// Every answer that is read came with this status.
const OK: Option<u16> = Some(200);

/// What every chunk of one answer says of it.
#[derive(Debug, Clone)]
pub(super) struct Heading {
    pub(super) id: String,
    pub(super) model: String,
    /// Unix time, seconds.
    pub(super) created: u64,
}

impl Heading {
    fn chunk(&self) -> ChunkHead<'_> {
        ChunkHead { id: &self.id, model: &self.model, created: self.created }
    }
}

/// Reads the events of one answer.
#[derive(Debug)]
pub(super) struct Reader {
    heading: Heading,
    aliases: Aliases,
    frames: Arc<Frames>,
    adapter: Adapter,
    calls: Calls,
    has_opened: bool,
    has_ended: bool,
    extras: Extras,
}

/// What goes along with an answer that OpenAI's own form has no place for.
#[derive(Debug, Clone, Default)]
pub(super) struct Extras {
    /// Of Claude: `thinking` and `redacted_thinking`, in order.
    thinking_blocks: Vec<Value>,
    /// Of Gemini: index of a tool call and its signature.
    signatures: Vec<(usize, String)>,
}

impl Reader {
    pub(super) fn new(heading: Heading, adapter: Adapter, aliases: Aliases, frames: Arc<Frames>) -> Self {
        Self {
            heading,
            aliases,
            frames,
            adapter,
            calls: Calls::new(adapter),
            has_opened: false,
            has_ended: false,
            extras: Extras::default(),
        }
    }

    /// Returns whether the answer is whole: nothing follows.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Returns the pieces that an event adds.
    pub(super) fn event(&mut self, event: ChatStreamEvent) -> Result<Vec<Piece>, ProviderError> {
        match event {
            ChatStreamEvent::Start | ChatStreamEvent::Heartbeat => Ok(Vec::new()),
            // Signatures alone say nothing; they come with the call that they sign, or at the end.
            ChatStreamEvent::ThoughtSignatureChunk(_) => Ok(Vec::new()),
            ChatStreamEvent::Chunk(chunk) => Ok(self.said(Delta { text: chunk.content, ..Delta::default() })),
            ChatStreamEvent::ReasoningChunk(chunk) => {
                Ok(self.said(Delta { reasoning: chunk.content, ..Delta::default() }))
            }
            ChatStreamEvent::ToolCallChunk(chunk) => self.tool_call(chunk.tool_call),
            ChatStreamEvent::End(end) => self.end(&end),
        }
    }

    /// Returns the last pieces of an answer that Gemini did not give because it blocked the prompt; `None` if
    /// it did not.
    pub(super) fn blocked(&mut self) -> Option<Vec<Piece>> {
        self.frames.blocked()?;
        self.has_ended = true;
        Some(self.closing(Finish::ContentFilter))
    }

    /// Returns why there is no more, when there was no end.
    pub(super) fn broken_off(&self) -> ProviderError {
        if self.frames.is_empty() {
            failed_with(ErrorKind::Malformed, OK, "the answer holds nothing that can be read")
        } else {
            failed_with(ErrorKind::Cut, OK, "the answer ended without a reason for its end")
        }
    }

    fn said(&mut self, delta: Delta) -> Vec<Piece> {
        if delta.text.is_empty() && delta.reasoning.is_empty() {
            return Vec::new();
        }
        vec![self.piece(delta)]
    }

    fn tool_call(&mut self, mut call: ToolCall) -> Result<Vec<Piece>, ProviderError> {
        let signature = call.thought_signatures.take().and_then(|signatures| signatures.into_iter().next());
        let deltas = self
            .calls
            .add(call, &self.aliases)
            .map_err(|problem| failed_with(ErrorKind::Malformed, OK, problem))?;
        let Some(last) = deltas.last().map(|delta| delta.index) else { return Ok(Vec::new()) };
        let position = deltas.len() - 1;
        let mut piece = self.piece(Delta { tool_calls: deltas, ..Delta::default() });
        if let Some(signature) = signature {
            with_chunk(&mut piece, |chunk| {
                sign(&mut chunk["choices"][0]["delta"]["tool_calls"][position], &signature);
            });
            self.extras.signatures.push((last, signature));
        }
        Ok(vec![piece])
    }

    fn end(&mut self, end: &StreamEnd) -> Result<Vec<Piece>, ProviderError> {
        let Some(reason) = &end.captured_stop_reason else { return Err(self.broken_off()) };
        let finish = finish(reason, !self.calls.is_empty())?;
        self.has_ended = true;
        let mut pieces = Vec::new();
        if finish != Finish::Length
            && let Some(delta) = self.calls.complete()
        {
            pieces.push(self.piece(Delta { tool_calls: vec![delta], ..Delta::default() }));
        }
        let blocks = thinking_blocks(end, self.adapter);
        if !blocks.is_empty() {
            let mut piece = self.piece(Delta::default());
            with_chunk(&mut piece, |chunk| {
                chunk["choices"][0]["delta"]["thinking_blocks"] = Value::from(blocks.clone());
            });
            pieces.push(piece);
            self.extras.thinking_blocks = blocks;
        }
        pieces.extend(self.closing(finish));
        Ok(pieces)
    }

    /// Returns the reason of the end, and the usage after it as OpenAI sends it.
    fn closing(&mut self, finish: Finish) -> Vec<Piece> {
        let mut pieces = vec![self.piece(Delta { finish: Some(finish), ..Delta::default() })];
        if let Some(usage) = self.frames.usage() {
            pieces.push(self.piece(Delta { usage: Some(usage), ..Delta::default() }));
        }
        pieces
    }

    fn piece(&mut self, delta: Delta) -> Piece {
        let raw = openai::chunk(&delta, self.heading.chunk());
        let mut piece = Piece { raw: Raw::OpenAi(raw), delta };
        if !self.has_opened {
            self.has_opened = true;
            with_chunk(&mut piece, |chunk| chunk["choices"][0]["delta"]["role"] = "assistant".into());
        }
        piece
    }

    /// Returns the whole answer in OpenAI's form.
    pub(super) fn completion(&self, view: &View) -> Value {
        let mut completion = openai::completion(view, self.heading.chunk());
        let message = &mut completion["choices"][0]["message"];
        if !self.extras.thinking_blocks.is_empty() {
            message["thinking_blocks"] = Value::from(self.extras.thinking_blocks.clone());
        }
        for (index, signature) in &self.extras.signatures {
            if message["tool_calls"][index].is_object() {
                sign(&mut message["tool_calls"][index], signature);
            }
        }
        completion
    }
}

fn with_chunk(piece: &mut Piece, change: impl FnOnce(&mut Value)) {
    match &mut piece.raw {
        Raw::OpenAi(chunk) => change(chunk),
        Raw::Anthropic(_) => {}
    }
}

fn sign(call: &mut Value, signature: &str) {
    call["extra_content"] = json!({ "google": { "thought_signature": signature } });
}

/// Returns what an end's reason stands for. Gemini says STOP after tool calls too.
fn finish(reason: &StopReason, has_calls: bool) -> Result<Finish, ProviderError> {
    Ok(match reason {
        StopReason::Completed(_) if has_calls => Finish::ToolCalls,
        StopReason::Completed(_) | StopReason::StopSequence(_) => Finish::Stop,
        StopReason::MaxTokens(_) => Finish::Length,
        StopReason::ToolCall(_) => Finish::ToolCalls,
        StopReason::ContentFilter(_) => Finish::ContentFilter,
        StopReason::Other(other) => match other.as_str() {
            // Bedrock.
            "guardrail_intervened" | "content_filtered" => Finish::ContentFilter,
            // Google's filter before the model.
            "MODEL_ARMOR" => Finish::ContentFilter,
            other if is_filter(other) => Finish::ContentFilter,
            // Claude wants another turn to go on; what it said until then is good.
            "pause_turn" => Finish::Other,
            // Cohere: the context was full; an error instead of an end.
            "ERROR_LIMIT" => Finish::Length,
            "ERROR" => {
                return Err(failed_with(
                    ErrorKind::ErrorEvent,
                    OK,
                    "the provider ended the answer with an error",
                ));
            }
            // What the model wrote was no call, or an end that nobody described: never a good answer's.
            other => return Err(failed_with(ErrorKind::Malformed, OK, &unknown_end(other))),
        },
    })
}

/// Returns whether an unknown reason of Gemini's speaks of a filter, as in `IMAGE_SAFETY`.
fn is_filter(reason: &str) -> bool {
    ["SAFETY", "PROHIBITED", "RECITATION"].iter().any(|word| reason.contains(word))
}

/// Names the reason where it is a name. Free text may repeat what was asked, and this is logged.
fn unknown_end(reason: &str) -> String {
    let is_name = reason.len() <= REASON_BYTES_MAX
        && reason.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    let reason = if is_name { reason } else { "a reason that is no name" };
    format!("the provider ended the answer with {reason}")
}

/// Returns what the model thought, in Anthropic's form. The library pairs a signature with the text that
/// follows it; a signature alone is a redacted block of Bedrock's.
fn thinking_blocks(end: &StreamEnd, adapter: Adapter) -> Vec<Value> {
    let replays = adapter.is_claude() || adapter == Adapter::Bedrock;
    let Some(content) = end.captured_content.as_ref().filter(|_| replays) else { return Vec::new() };
    let mut blocks = Vec::new();
    let mut parts = content.parts().iter().peekable();
    while let Some(part) = parts.next() {
        match part {
            ContentPart::ThoughtSignature(signature) => {
                blocks.push(match parts.peek() {
                    Some(ContentPart::ReasoningContent(thinking)) => {
                        json!({ "type": "thinking", "thinking": thinking, "signature": signature })
                    }
                    _ => json!({ "type": "redacted_thinking", "data": signature }),
                });
            }
            ContentPart::Custom(custom) => blocks.push(custom.data.clone()),
            ContentPart::ReasoningContent(_)
            | ContentPart::Text(_)
            | ContentPart::Binary(_)
            | ContentPart::ToolCall(_)
            | ContentPart::ToolResponse(_) => {}
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_of_an_end() {
        let check = |word: &str, has_calls: bool, expected: Option<Finish>| {
            let reason = StopReason::from(word.to_owned());
            assert_eq!(finish(&reason, has_calls).ok(), expected, "{word}");
        };
        check("end_turn", false, Some(Finish::Stop));
        check("STOP", false, Some(Finish::Stop));
        check("STOP", true, Some(Finish::ToolCalls));
        check("tool_use", true, Some(Finish::ToolCalls));
        check("max_tokens", true, Some(Finish::Length));
        check("model_context_window_exceeded", false, Some(Finish::Length));
        check("stop_sequence", false, Some(Finish::Stop));
        check("refusal", false, Some(Finish::ContentFilter));
        check("SAFETY", false, Some(Finish::ContentFilter));
        check("guardrail_intervened", false, Some(Finish::ContentFilter));
        check("content_filtered", false, Some(Finish::ContentFilter));
        check("pause_turn", false, Some(Finish::Other));
        for failed in [
            "MALFORMED_FUNCTION_CALL",
            "UNEXPECTED_TOOL_CALL",
            "OTHER",
            "malformed_model_output",
            "",
            "new_word",
        ] {
            check(failed, false, None);
            check(failed, true, None);
        }
        check("VIDEO_SAFETY", false, Some(Finish::ContentFilter));
        check("MODEL_ARMOR", false, Some(Finish::ContentFilter));
        check("COMPLETE", false, Some(Finish::Stop));
        check("ERROR_LIMIT", false, Some(Finish::Length));
        check("ERROR_TOXIC", false, Some(Finish::ContentFilter));
        check("ERROR", false, None);
    }
}
