//! The events of a streamed answer, read one after the other.

use serde_json::Value;

use super::answer::{Counts, error_text, finish, is_other_content, is_paused, text_of};
use crate::completion::answer::{Delta, ToolDelta};

/// Reads the events of one stream: counts come in parts, and tool calls are counted among all blocks.
#[derive(Debug, Default)]
pub struct Deltas {
    counts: Counts,
    /// In the order in which they started.
    tools: Vec<OpenTool>,
    stop_reason_seen: bool,
    stopped: bool,
}

#[derive(Debug)]
struct OpenTool {
    /// Its place among all blocks of the answer.
    block: u64,
    has_arguments: bool,
}

impl Deltas {
    /// Returns what an event adds to the answer; nothing for those that say nothing of it. An error is the text
    /// of an `error` event, or says what is wrong with the event.
    pub fn read(&mut self, event: &Value) -> Result<Delta, String> {
        if let Some(problem) = error_text(event) {
            return Err(problem);
        }
        let delta = event.get("delta").unwrap_or(&Value::Null);
        match text_of(event, "type") {
            "" => Err("an event without a type".to_owned()),
            "message_start" => {
                self.counts.add(event.get("message").and_then(|message| message.get("usage")));
                Ok(Delta::default())
            }
            "content_block_start" => self.start(block_of(event)?, event.get("content_block")),
            "content_block_delta" => Ok(self.go_on(block_of(event)?, delta)),
            "content_block_stop" => Ok(self.stop(block_of(event)?)),
            "message_delta" => Ok(self.end(delta, event.get("usage"))),
            "message_stop" => {
                self.stopped = true;
                Ok(Delta::default())
            }
            _ => Ok(Delta::default()),
        }
    }

    /// Returns whether the answer ended as it should: with a reason, and the last event.
    pub fn is_whole(&self) -> bool {
        self.stop_reason_seen && self.stopped
    }

    /// Returns whether the last event was read.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    fn start(&mut self, block: u64, content: Option<&Value>) -> Result<Delta, String> {
        let content = content.ok_or("content_block_start without content_block")?;
        let mut delta = Delta::default();
        match text_of(content, "type") {
            "text" => text_of(content, "text").clone_into(&mut delta.text),
            "thinking" => text_of(content, "thinking").clone_into(&mut delta.reasoning),
            "tool_use" => {
                // Some servers give the whole input at once.
                let input =
                    content.get("input").filter(|input| input.as_object().is_some_and(|o| !o.is_empty()));
                let arguments = input.map(Value::to_string).unwrap_or_default();
                self.tools.push(OpenTool { block, has_arguments: !arguments.is_empty() });
                delta.tool_calls.push(ToolDelta {
                    index: self.tools.len() - 1,
                    id: text_of(content, "id").to_owned(),
                    name: text_of(content, "name").to_owned(),
                    arguments,
                });
            }
            // A tool that the provider runs, what it found, a thought that is not shown.
            other => (delta.other_content, delta.progress) = (is_other_content(other), true),
        }
        Ok(delta)
    }

    fn go_on(&mut self, block: u64, part: &Value) -> Delta {
        let mut delta = Delta::default();
        match text_of(part, "type") {
            "text_delta" => text_of(part, "text").clone_into(&mut delta.text),
            "thinking_delta" => text_of(part, "thinking").clone_into(&mut delta.reasoning),
            // Of a tool that the provider runs there is no call to add to.
            "input_json_delta" => {
                let arguments = text_of(part, "partial_json");
                if let Some(index) = self.tool_at(block)
                    && !arguments.is_empty()
                {
                    self.tools[index].has_arguments = true;
                    let arguments = arguments.to_owned();
                    delta.tool_calls.push(ToolDelta { index, arguments, ..ToolDelta::default() });
                } else {
                    delta.progress = !arguments.is_empty();
                }
            }
            // Signatures, citations, and what comes to be added.
            _ => delta.progress = true,
        }
        delta
    }

    /// A call without arguments is one with no input, not one that was cut.
    fn stop(&mut self, block: u64) -> Delta {
        let mut delta = Delta::default();
        if let Some(index) = self.tool_at(block)
            && !self.tools[index].has_arguments
        {
            self.tools[index].has_arguments = true;
            let arguments = "{}".to_owned();
            delta.tool_calls.push(ToolDelta { index, arguments, ..ToolDelta::default() });
        }
        delta
    }

    /// Usage is told only here: what the first event says of the output is no more than a beginning, and must
    /// not stand for an answer that breaks off.
    fn end(&mut self, part: &Value, usage: Option<&Value>) -> Delta {
        let reported = self.counts.add(usage);
        let finish = finish(part);
        self.stop_reason_seen |= finish.is_some();
        Delta {
            refusal: text_of(part.get("stop_details").unwrap_or(&Value::Null), "explanation").to_owned(),
            finish,
            usage: reported.then(|| self.counts.usage()),
            other_content: is_paused(part),
            ..Delta::default()
        }
    }

    fn tool_at(&self, block: u64) -> Option<usize> {
        self.tools.iter().rposition(|tool| tool.block == block)
    }
}

fn block_of(event: &Value) -> Result<u64, String> {
    let index = event.get("index").and_then(Value::as_u64);
    index.ok_or_else(|| format!("{} without an index", text_of(event, "type")))
}
