//! The provider's own frames, seen before the library reads them: how large they are, and the usage they tell.
//!
//! Usage is read here because the library keeps it in 32 bits, adds without care, takes what it cannot read
//! for 0, and leaves out the thinking tokens of Claude's streams.

use std::sync::{Mutex, MutexGuard, PoisonError};

use genai::chat::{ChatFrameSink, FrameCtx, RawFrameRef};
use serde_json::Value;

use super::adapter::Adapter;
use crate::completion::answer::Usage;

/// Longest reason of a blocked prompt that is kept, bytes.
const BLOCKED_BYTES_MAX: usize = 64;

/// What was seen of one answer's frames.
#[derive(Debug)]
pub(super) struct Frames {
    adapter: Adapter,
    /// Of all frames together; what they say is bounded apart.
    bytes_max: usize,
    frame_bytes_max: usize,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// With those that hold no data, for example comments.
    count: usize,
    frames: usize,
    bytes: usize,
    excess: Option<Excess>,
    told: Told,
    blocked: Option<String>,
    has_unnamed: bool,
}

/// Which limit was passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    Answer,
    Frame,
    /// A frame that took too long to put together, see `UNFINISHED_MAX` in `mod.rs`.
    Unfinished,
}

impl Frames {
    pub(super) fn new(adapter: Adapter, bytes_max: usize, frame_bytes_max: usize) -> Self {
        Self { adapter, bytes_max, frame_bytes_max, seen: Mutex::default() }
    }

    /// Returns which limit was passed, if any.
    pub(super) fn excess(&self) -> Option<Excess> {
        self.seen().excess
    }

    /// Returns how many there were, empty ones too.
    pub(super) fn count(&self) -> usize {
        self.seen().count
    }

    /// Returns whether nothing came that the protocol knows as data.
    pub(super) fn is_empty(&self) -> bool {
        self.seen().frames == 0
    }

    /// Returns the usage told so far; `None` when none was, or when it cannot be.
    pub(super) fn usage(&self) -> Option<Usage> {
        self.seen().told.usage(self.adapter)
    }

    /// Returns why Gemini answered nothing, when it blocked the prompt.
    pub(super) fn blocked(&self) -> Option<String> {
        self.seen().blocked.clone()
    }

    /// Returns whether one of Claude's events came without its name. The library takes it for none of the
    /// answer's and passes over it, and an answer that lost an event must not look whole.
    pub(super) fn has_unnamed(&self) -> bool {
        self.seen().has_unnamed
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Nothing under the lock panics; should it, the counts are still whole.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChatFrameSink for Frames {
    fn on_frame(&self, _context: &FrameCtx, frame: RawFrameRef<'_>) {
        let mut seen = self.seen();
        seen.count += 1;
        seen.bytes = seen.bytes.saturating_add(frame.data.len());
        seen.frames += usize::from(!frame.data.is_empty());
        seen.has_unnamed |= self.adapter.is_claude() && frame.event.is_none() && !frame.data.is_empty();
        if frame.data.len() > self.frame_bytes_max {
            seen.excess = Some(Excess::Frame);
        } else if seen.bytes > self.bytes_max {
            seen.excess = Some(Excess::Answer);
        } else {
            seen.read(self.adapter, frame.event, frame.data);
        }
    }
}

impl Seen {
    fn read(&mut self, adapter: Adapter, event: Option<&str>, data: &str) {
        let holds_usage = match adapter {
            Adapter::Anthropic | Adapter::VertexClaude => {
                matches!(event, Some("message_start" | "message_delta"))
            }
            Adapter::Gemini | Adapter::VertexGemini => {
                data.contains("\"usageMetadata\"") || data.contains("\"promptFeedback\"")
            }
            Adapter::Bedrock => event == Some("metadata"),
            Adapter::Cohere => data.contains("\"stream-end\""),
        };
        if !holds_usage {
            return;
        }
        // What is no JSON is the library's to report.
        let Ok(frame) = serde_json::from_str::<Value>(data) else { return };
        if let Some(reason) = frame["promptFeedback"]["blockReason"].as_str() {
            self.blocked = Some(reason[..reason.floor_char_boundary(BLOCKED_BYTES_MAX)].to_owned());
        }
        self.told.add(adapter, &frame);
    }
}

/// Token counts as a provider told them, the latest of each.
#[derive(Debug, Default, Clone, Copy)]
struct Told {
    input: Option<u64>,
    tool_input: Option<u64>,
    cached: Option<u64>,
    cache_write: Option<u64>,
    output: Option<u64>,
    reasoning: Option<u64>,
    /// A count was negative, a fraction or no number.
    is_broken: bool,
}

impl Told {
    fn add(&mut self, adapter: Adapter, frame: &Value) {
        match adapter {
            Adapter::Anthropic | Adapter::VertexClaude => {
                let usage =
                    if frame["usage"].is_object() { &frame["usage"] } else { &frame["message"]["usage"] };
                self.read(usage, |told, name| match name {
                    "input_tokens" => Some(&mut told.input),
                    "cache_read_input_tokens" => Some(&mut told.cached),
                    "cache_creation_input_tokens" => Some(&mut told.cache_write),
                    "output_tokens" => Some(&mut told.output),
                    _ => None,
                });
                self.read(&usage["output_tokens_details"], |told, name| {
                    (name == "thinking_tokens").then_some(&mut told.reasoning)
                });
            }
            Adapter::Gemini | Adapter::VertexGemini => {
                self.read(&frame["usageMetadata"], |told, name| match name {
                    "promptTokenCount" => Some(&mut told.input),
                    "toolUsePromptTokenCount" => Some(&mut told.tool_input),
                    "cachedContentTokenCount" => Some(&mut told.cached),
                    "candidatesTokenCount" => Some(&mut told.output),
                    "thoughtsTokenCount" => Some(&mut told.reasoning),
                    _ => None,
                });
            }
            Adapter::Bedrock => self.read(&frame["usage"], |told, name| match name {
                "inputTokens" => Some(&mut told.input),
                "cacheReadInputTokens" => Some(&mut told.cached),
                "cacheWriteInputTokens" => Some(&mut told.cache_write),
                "outputTokens" => Some(&mut told.output),
                _ => None,
            }),
            Adapter::Cohere => self.read(&frame["response"]["meta"]["tokens"], |told, name| match name {
                "input_tokens" => Some(&mut told.input),
                "output_tokens" => Some(&mut told.output),
                _ => None,
            }),
        }
    }

    fn read(
        &mut self,
        counts: &Value,
        slot: impl for<'told> Fn(&'told mut Self, &str) -> Option<&'told mut Option<u64>>,
    ) {
        for (name, value) in counts.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            if let Some(slot) = slot(self, name) {
                // Cohere writes whole numbers as 20.0.
                let whole = value.as_u64().or_else(|| {
                    let value = value.as_f64()?;
                    (value >= 0.0 && value.fract() == 0.0 && value < u32::MAX.into()).then_some(value as u64)
                });
                match whole {
                    Some(count) => *slot = Some(count),
                    None => self.is_broken = true,
                }
            }
        }
    }

    fn usage(self, adapter: Adapter) -> Option<Usage> {
        if self.is_broken || (self.input.is_none() && self.output.is_none()) {
            return None;
        }
        let [input, cached, cache_write] =
            [self.input, self.cached, self.cache_write].map(Option::unwrap_or_default);
        let [output, reasoning] = [self.output, self.reasoning].map(Option::unwrap_or_default);
        Some(match adapter {
            // What was read from or written to the cache is not in `input`; thinking is in `output`.
            Adapter::Anthropic | Adapter::VertexClaude | Adapter::Bedrock => Usage {
                input_tokens: input.saturating_add(cached).saturating_add(cache_write),
                cached_input_tokens: cached,
                cache_write_tokens: cache_write,
                output_tokens: output,
                reasoning_tokens: reasoning,
            },
            // What was read from the cache is in `input`; thinking is not in `output`.
            Adapter::Gemini | Adapter::VertexGemini | Adapter::Cohere => Usage {
                input_tokens: input.saturating_add(self.tool_input.unwrap_or_default()),
                cached_input_tokens: cached,
                cache_write_tokens: 0,
                output_tokens: output.saturating_add(reasoning),
                reasoning_tokens: reasoning,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(adapter: Adapter, frames: &[(&str, &str)], expected: Option<[u64; 5]>) {
        let mut seen = Seen::default();
        for (event, data) in frames {
            seen.read(adapter, Some(event), data);
        }
        let found = seen.told.usage(adapter).map(|usage| {
            [
                usage.input_tokens,
                usage.cached_input_tokens,
                usage.cache_write_tokens,
                usage.output_tokens,
                usage.reasoning_tokens,
            ]
        });
        assert_eq!(found, expected, "{frames:?}");
    }

    #[test]
    fn claude_counts_the_cache_apart_and_thinking_within() {
        let start = r#"{"message":{"usage":{"input_tokens":10,"cache_read_input_tokens":100,"cache_creation_input_tokens":7,"output_tokens":1}}}"#;
        let end = r#"{"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":30,"output_tokens_details":{"thinking_tokens":20}}}"#;
        let frames = [("message_start", start), ("message_delta", end)];
        check(Adapter::Anthropic, &frames, Some([117, 100, 7, 30, 20]));
        check(Adapter::VertexClaude, &frames[..1], Some([117, 100, 7, 1, 0]));
    }

    #[test]
    fn gemini_counts_the_cache_within_and_thinking_apart() {
        let frame = r#"{"usageMetadata":{"promptTokenCount":50,"cachedContentTokenCount":40,"candidatesTokenCount":9,"thoughtsTokenCount":11,"toolUsePromptTokenCount":2,"totalTokenCount":72}}"#;
        check(Adapter::Gemini, &[("message", frame)], Some([52, 40, 0, 20, 11]));
        let only_thoughts = r#"{"usageMetadata":{"promptTokenCount":5,"thoughtsTokenCount":11}}"#;
        check(Adapter::VertexGemini, &[("message", only_thoughts)], Some([5, 0, 0, 11, 11]));
    }

    #[test]
    fn bedrock_counts_the_cache_apart() {
        let frame = r#"{"usage":{"inputTokens":10,"outputTokens":5,"totalTokens":65,"cacheReadInputTokens":40,"cacheWriteInputTokens":10}}"#;
        check(Adapter::Bedrock, &[("metadata", frame)], Some([60, 40, 10, 5, 0]));
        check(Adapter::Bedrock, &[("messageStop", frame)], None);
    }

    #[test]
    fn cohere_writes_whole_numbers_as_fractions() {
        let frame = r#"{"event_type":"stream-end","response":{"meta":{"tokens":{"input_tokens":20.0,"output_tokens":24}}}}"#;
        check(Adapter::Cohere, &[("", frame)], Some([20, 0, 0, 24, 0]));
    }

    #[test]
    fn counts_that_cannot_be_are_no_usage() {
        for count in ["-5", "1.5", "\"7\"", "1e300", "[]"] {
            let frame = format!(r#"{{"usage":{{"inputTokens":10,"outputTokens":{count}}}}}"#);
            check(Adapter::Bedrock, &[("metadata", &frame)], None);
        }
        let huge = format!(
            r#"{{"usage":{{"inputTokens":{0},"cacheReadInputTokens":{0},"outputTokens":1}}}}"#,
            u64::MAX
        );
        check(Adapter::Bedrock, &[("metadata", &huge)], Some([u64::MAX, u64::MAX, 0, 1, 0]));
        check(Adapter::Bedrock, &[("metadata", "{}"), ("metadata", "no json")], None);
    }
}
