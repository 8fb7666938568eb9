//! What is held back of one stream until it may be sent. Pieces in, a verdict out.
//!
//! Pure. Never reorders, splits or drops a piece, and never lets the verdict depend on how the answer was cut
//! into pieces: a start is judged at fixed numbers of characters, not at the ends of pieces.

use serde_json::Value;

use super::{
    answer::{Delta, Piece, Raw, View},
    attempt::{Check, Weakness},
    quality::{Checks, Start, check, check_start, is_blank},
};
use crate::config::{StreamConfig, StreamQuality};

/// A start that may still become a refusal is held this much beyond the guard: most declare themselves in
/// their first sentence.
const STRETCH_CHARS: usize = 160;
/// Characters between two looks at such a start.
const STEP_CHARS: usize = 32;
/// What all JSON of the held pieces may take, as a multiple of what their words may. A token of four bytes
/// comes in a chunk of some 250 characters, so long answers still fit, and pieces that say nothing have an end.
const JSON_FACTOR: usize = 64;

/// What is to be done with the pieces held so far.
#[derive(Debug, Clone, PartialEq)]
pub enum Ruling {
    /// Hold on: too little was seen.
    Wait,
    /// Send them, and everything after them.
    Release,
    /// The answer, or its beginning, is weak.
    Weak(Weakness),
    /// The whole was to be checked and is larger than may be held: send it unchecked.
    TooMuch,
}

/// The pieces of one stream that nobody has seen yet.
#[derive(Debug)]
pub struct Hold {
    config: StreamConfig,
    pieces: Vec<Piece>,
    /// Once it is not [`Ruling::Wait`] it stays.
    verdict: Ruling,
    /// Bytes of everything that was said.
    said_bytes: usize,
    json_bytes: usize,
    /// Characters of the text from its first visible one.
    chars: usize,
    /// The number of characters at which the start is looked at next.
    look_at: usize,
}

impl Hold {
    /// Starts empty.
    pub fn new(config: StreamConfig) -> Self {
        Self {
            config,
            pieces: Vec::new(),
            verdict: Ruling::Wait,
            said_bytes: 0,
            json_bytes: 0,
            chars: 0,
            look_at: config.guard_chars.max(1),
        }
    }

    /// Takes a piece in and says what follows for all that are held. After any verdict but
    /// [`Ruling::Wait`] it only keeps the piece and repeats the verdict.
    ///
    /// `view` is what was said so far, this piece included.
    pub fn push(&mut self, piece: Piece, view: &View, checks: &Checks<'_>) -> Ruling {
        if self.verdict == Ruling::Wait {
            self.json_bytes = self.json_bytes.saturating_add(json_bytes(&piece.raw));
            self.verdict = match self.config.quality {
                StreamQuality::Off => first_content(&piece.delta, view),
                StreamQuality::Guard => self.guard(&piece.delta, view, checks),
                StreamQuality::Buffer => Ruling::Wait,
            };
            self.said_bytes = self.said_bytes.saturating_add(said_bytes(&piece.delta));
            if self.verdict == Ruling::Wait && self.is_full() {
                self.verdict = self.overflow();
            }
        }
        self.pieces.push(piece);
        self.verdict.clone()
    }

    /// Says what follows now that the stream has ended well: the whole answer is there, so it gets the whole
    /// check, unless streams are only checked for having any content.
    pub fn end(&mut self, view: &View, checks: &Checks<'_>) -> Ruling {
        if self.verdict == Ruling::Wait {
            let checked = match self.config.quality {
                StreamQuality::Off if !checks.runs(Check::Empty) => Ok(()),
                // Whatever has content was released before.
                StreamQuality::Off | StreamQuality::Guard | StreamQuality::Buffer => check(view, checks),
            };
            self.verdict = checked.map_or_else(Ruling::Weak, |()| Ruling::Release);
        }
        self.verdict.clone()
    }

    /// Returns the pieces in the order in which they came.
    pub fn into_pieces(self) -> Vec<Piece> {
        self.pieces
    }

    /// Looks at what one more piece adds to the start.
    fn guard(&mut self, delta: &Delta, view: &View, checks: &Checks<'_>) -> Ruling {
        if !is_blank(&delta.refusal) {
            let refusal = View { refusal: view.refusal.clone(), ..View::default() };
            return match check_start(&refusal, checks) {
                Start::Weak(weakness) => Ruling::Weak(weakness),
                Start::Fine | Start::Open => Ruling::Release,
            };
        }
        // The arguments of a tool call cannot be a refusal.
        if calls_named_tool(view) {
            return Ruling::Release;
        }
        let text_from = view.text.len() - delta.text.len();
        let room = self.config.hold_bytes_max.saturating_sub(self.said_bytes);
        for (at, c) in delta.text.char_indices() {
            let end = at + c.len_utf8();
            if end > room {
                return self.overflow();
            }
            if self.chars == 0 && is_blank(&delta.text[at..end]) {
                continue;
            }
            self.chars += 1;
            if self.chars == self.look_at
                && let Some(verdict) = self.look(&view.text[..text_from + end], checks)
            {
                return verdict;
            }
        }
        Ruling::Wait
    }

    /// Judges the text up to here; `None` while it may still become a refusal.
    fn look(&mut self, text: &str, checks: &Checks<'_>) -> Option<Ruling> {
        if self.config.guard_chars == 0 {
            return Some(Ruling::Release);
        }
        let start = View { text: text.to_owned(), ..View::default() };
        match check_start(&start, checks) {
            Start::Weak(weakness) => Some(Ruling::Weak(weakness)),
            Start::Fine => Some(Ruling::Release),
            Start::Open if self.look_at >= self.config.guard_chars.saturating_add(STRETCH_CHARS) => {
                Some(Ruling::Release)
            }
            Start::Open => {
                self.look_at += STEP_CHARS;
                None
            }
        }
    }

    fn is_full(&self) -> bool {
        self.said_bytes > self.config.hold_bytes_max
            || self.json_bytes > self.config.hold_bytes_max.saturating_mul(JSON_FACTOR)
    }

    fn overflow(&self) -> Ruling {
        match self.config.quality {
            StreamQuality::Buffer => Ruling::TooMuch,
            StreamQuality::Guard | StreamQuality::Off => Ruling::Release,
        }
    }
}

fn first_content(delta: &Delta, view: &View) -> Ruling {
    let any = !is_blank(&delta.text) || !is_blank(&delta.refusal) || calls_named_tool(view);
    if any { Ruling::Release } else { Ruling::Wait }
}

fn calls_named_tool(view: &View) -> bool {
    view.tool_calls.iter().any(|call| !call.name.is_empty())
}

fn said_bytes(delta: &Delta) -> usize {
    let tools: usize =
        delta.tool_calls.iter().map(|call| call.id.len() + call.name.len() + call.arguments.len()).sum();
    delta.text.len() + delta.refusal.len() + delta.reasoning.len() + tools
}

/// Returns about what a piece's JSON takes when written.
fn json_bytes(raw: &Raw) -> usize {
    match raw {
        Raw::OpenAi(value) | Raw::Anthropic(value) => value_bytes(value),
    }
}

fn value_bytes(value: &Value) -> usize {
    /// A number, a literal, or the signs around a value.
    const SIGNS: usize = 4;
    SIGNS
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(value_bytes).sum(),
            Value::Object(fields) => {
                fields.iter().map(|(name, value)| SIGNS + name.len() + value_bytes(value)).sum()
            }
        }
}

#[cfg(test)]
mod tests;
