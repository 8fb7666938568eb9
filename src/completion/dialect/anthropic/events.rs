//! Pieces of an answer -> the events of this dialect's streams. Pure.
//!
//! Events of a provider that speaks the dialect pass through unchanged. Pieces of others become blocks: one
//! after the other, each started, filled and stopped before the next, however the pieces were mixed.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::{
    answer::{Ending, SIGNATURE, text_of, tool_id, usage_json},
    errors::{ErrorType, error_body},
};
use crate::completion::answer::{Delta, Piece, Raw, TOOL_CALLS_MAX, ToolDelta, Usage};

/// One server-sent event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The `event` line; always the `type` of the data.
    pub name: String,
    pub data: Value,
}

impl Event {
    fn new(data: Value) -> Self {
        Self { name: text_of(&data, "type").to_owned(), data }
    }
}

/// Writes one stream.
#[derive(Debug)]
pub struct EventWriter {
    id: String,
    model: String,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing came yet.
    Fresh,
    /// The provider's own events pass through.
    Native {
        stopped: bool,
    },
    Blocks(Blocks),
    /// The last event was written.
    Ended,
}

impl EventWriter {
    /// Returns a writer of a message with this id from this model; both stand only in messages that the
    /// provider does not write itself.
    pub fn new(id: impl Into<String>, model: impl Into<String>) -> Self {
        Self { id: id.into(), model: model.into(), state: State::Fresh }
    }

    /// Returns the events that a piece becomes.
    pub fn piece(&mut self, piece: Piece) -> Vec<Event> {
        let mut events = Vec::new();
        if matches!(self.state, State::Fresh) {
            self.state = match piece.raw {
                Raw::Anthropic(_) => State::Native { stopped: false },
                Raw::OpenAi(_) => self.begin(&mut events),
            };
        }
        match (&mut self.state, piece.raw) {
            (State::Native { stopped }, Raw::Anthropic(data)) => {
                *stopped |= text_of(&data, "type") == "message_stop";
                events.push(Event::new(data));
            }
            (State::Blocks(blocks), _) => blocks.add(&piece.delta, &mut events),
            // One stream is of one provider, so its pieces are of one dialect.
            (State::Native { .. }, Raw::OpenAi(_)) | (State::Fresh | State::Ended, _) => {}
        }
        events
    }

    /// Returns what is still to be written of an answer that ended well.
    pub fn finish(&mut self, usage: &Usage) -> Vec<Event> {
        let mut events = Vec::new();
        if matches!(self.state, State::Fresh) {
            self.state = self.begin(&mut events);
        }
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Native { stopped: false } => events.push(Event::new(json!({ "type": "message_stop" }))),
            State::Native { stopped: true } | State::Ended | State::Fresh => {}
            State::Blocks(blocks) => blocks.end(usage, &mut events),
        }
        events
    }

    /// Returns the event that ends an answer which broke off. Nothing may follow it.
    pub fn error(&mut self, kind: impl Into<ErrorType>, message: &str) -> Event {
        self.state = State::Ended;
        Event::new(error_body(kind, message, None))
    }

    fn begin(&self, events: &mut Vec<Event>) -> State {
        events.push(Event::new(json!({
            "type": "message_start",
            "message": {
                "id": self.id,
                "type": "message",
                "role": "assistant",
                "model": self.model,
                "content": [],
                "stop_reason": null,
                "stop_sequence": null,
                // Not known yet; `message_delta` brings all counts.
                "usage": usage_json(&Usage::default()),
            },
        })));
        State::Blocks(Blocks { message_id: self.id.clone(), ..Blocks::default() })
    }
}

/// The blocks of one answer.
#[derive(Debug, Default)]
struct Blocks {
    message_id: String,
    /// Those that are not stopped, in the order in which they will be written. Only the first is open.
    waiting: VecDeque<Block>,
    /// Whether the first of `waiting` was started.
    open: bool,
    /// How many were stopped.
    stopped: usize,
    /// The call indices of tools that were begun.
    tools: Vec<usize>,
    ending: Ending,
}

#[derive(Debug)]
enum Block {
    Text(String),
    Thinking(String),
    Tool(Tool),
}

#[derive(Debug, Default)]
struct Tool {
    index: usize,
    id: String,
    name: String,
    /// Not yet written.
    arguments: String,
    scan: Scan,
}

impl Blocks {
    fn add(&mut self, delta: &Delta, events: &mut Vec<Event>) {
        self.ending.finish = delta.finish.or(self.ending.finish);
        self.ending.refused |= !delta.refusal.is_empty();
        if !delta.reasoning.is_empty() {
            match self.waiting.back_mut() {
                Some(Block::Thinking(text)) => text.push_str(&delta.reasoning),
                _ => self.waiting.push_back(Block::Thinking(delta.reasoning.clone())),
            }
        }
        for said in [&delta.text, &delta.refusal].into_iter().filter(|said| !said.is_empty()) {
            match self.waiting.back_mut() {
                Some(Block::Text(text)) => text.push_str(said),
                _ => self.waiting.push_back(Block::Text(said.clone())),
            }
        }
        for part in &delta.tool_calls {
            self.add_tool(part);
        }
        self.write(events);
    }

    fn add_tool(&mut self, part: &ToolDelta) {
        let waiting = self.waiting.iter_mut().find_map(|block| match block {
            Block::Tool(tool) if tool.index == part.index => Some(tool),
            Block::Tool(_) | Block::Text(_) | Block::Thinking(_) => None,
        });
        if let Some(tool) = waiting {
            tool.add(part);
        } else if part.index < TOOL_CALLS_MAX && !self.tools.contains(&part.index) {
            self.tools.push(part.index);
            self.ending.called_tools = true;
            let mut tool = Tool { index: part.index, ..Tool::default() };
            tool.add(part);
            self.waiting.push_back(Block::Tool(tool));
        }
        // Else the call was complete and is stopped: what follows a whole JSON object can only spoil it.
    }

    /// Writes what can be written: all of the first block so far, and when it is complete those behind it.
    fn write(&mut self, events: &mut Vec<Event>) {
        while self.waiting.front().is_some_and(Block::is_startable) {
            self.write_first(events);
            let complete = self.waiting.len() > 1 && self.waiting.front().is_some_and(Block::is_complete);
            if !complete {
                return;
            }
            self.stop_first(events);
        }
    }

    fn write_first(&mut self, events: &mut Vec<Event>) {
        let index = self.stopped;
        let Some(block) = self.waiting.front_mut() else { return };
        if !self.open {
            self.open = true;
            let content = block.start(&self.message_id, index);
            let data = json!({ "type": "content_block_start", "index": index, "content_block": content });
            events.push(Event::new(data));
        }
        events.extend(block.take().map(|delta| block_delta(index, &delta)));
    }

    fn stop_first(&mut self, events: &mut Vec<Event>) {
        let index = self.stopped;
        if let Some(Block::Thinking(_)) = self.waiting.pop_front() {
            let signature = json!({ "type": "signature_delta", "signature": SIGNATURE });
            events.push(block_delta(index, &signature));
        }
        events.push(Event::new(json!({ "type": "content_block_stop", "index": index })));
        self.stopped += 1;
        self.open = false;
    }

    fn end(mut self, usage: &Usage, events: &mut Vec<Event>) {
        while !self.waiting.is_empty() {
            self.write_first(events);
            self.stop_first(events);
        }
        let delta = json!({ "stop_reason": self.ending.stop_reason(), "stop_sequence": null });
        events
            .push(Event::new(json!({ "type": "message_delta", "delta": delta, "usage": usage_json(usage) })));
        events.push(Event::new(json!({ "type": "message_stop" })));
    }
}

fn block_delta(index: usize, delta: &Value) -> Event {
    Event::new(json!({ "type": "content_block_delta", "index": index, "delta": delta }))
}

impl Block {
    /// Returns whether enough is known for the block's first event.
    fn is_startable(&self) -> bool {
        match self {
            Self::Text(_) | Self::Thinking(_) => true,
            Self::Tool(tool) => !tool.name.is_empty(),
        }
    }

    /// Returns whether the block may be stopped when another one waits. Calls may be mixed, so one is complete
    /// only when its arguments are.
    fn is_complete(&self) -> bool {
        match self {
            Self::Text(_) | Self::Thinking(_) => true,
            Self::Tool(tool) => tool.scan.is_complete(),
        }
    }

    fn start(&self, message_id: &str, at: usize) -> Value {
        match self {
            Self::Text(_) => json!({ "type": "text", "text": "" }),
            Self::Thinking(_) => json!({ "type": "thinking", "thinking": "", "signature": "" }),
            Self::Tool(tool) => {
                let id = tool_id(&tool.id, message_id, at);
                json!({ "type": "tool_use", "id": id, "name": tool.name, "input": {} })
            }
        }
    }

    /// Returns the delta of what is not yet written.
    fn take(&mut self) -> Option<Value> {
        let (kind, field, text) = match self {
            Self::Text(text) => ("text_delta", "text", text),
            Self::Thinking(text) => ("thinking_delta", "thinking", text),
            Self::Tool(tool) => ("input_json_delta", "partial_json", &mut tool.arguments),
        };
        let text = std::mem::take(text);
        (!text.is_empty()).then(|| json!({ "type": kind, field: text }))
    }
}

impl Tool {
    fn add(&mut self, part: &ToolDelta) {
        if !part.id.is_empty() {
            self.id.clone_from(&part.id);
        }
        self.name.push_str(&part.name);
        self.arguments.push_str(&part.arguments);
        self.scan.read(&part.arguments);
    }
}

/// Tells where a JSON object that comes in parts ends.
#[derive(Debug, Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    escaped: bool,
    complete: bool,
}

impl Scan {
    fn read(&mut self, part: &str) {
        for byte in part.bytes() {
            if self.in_string {
                let escaped = std::mem::take(&mut self.escaped);
                self.escaped = byte == b'\\' && !escaped;
                self.in_string = byte != b'"' || escaped;
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.complete |= self.depth == 0;
                }
                _ => {}
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.complete
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
