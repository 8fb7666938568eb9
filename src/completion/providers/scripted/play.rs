//! The pieces of one scripted answer and the waits between them, in order.
//!
//! Pure: an iterator that says how long to wait, never waits. Pieces are made as they are asked for, so that a
//! long answer takes no more memory than its text.

use std::time::Duration;

use super::{
    asked::Asked,
    script::{Fault, Lines, Pace, UsageLine},
};
use crate::{
    completion::{
        answer::{Delta, Finish, LogprobSum, ToolDelta, Usage, View},
        attempt::ProviderError,
    },
    routing::cost::estimate_tokens,
};

/// Characters of a tool call's arguments in one piece; JSON has too few spaces to be told in words.
const ARGUMENT_CHARS: usize = 8;

/// What happens next.
#[derive(Debug, PartialEq)]
pub enum Step {
    Piece(Delta),
    /// Nothing more ever comes.
    Stall,
    Fail(ProviderError),
}

/// One answer, step by step; each comes after its wait. It ends after the usage, a stall or an error.
#[derive(Debug, Clone)]
pub struct Play {
    pace: Pace,
    voices: Vec<Voice>,
    /// The voice that speaks.
    current: usize,
    pieces: usize,
    pieces_max: usize,
    fault: Option<Fault>,
    finish: Finish,
    usage: Option<Usage>,
    logprob: Option<f64>,
    stage: Stage,
}

/// Something that is said piece by piece.
#[derive(Debug, Clone)]
struct Voice {
    kind: Kind,
    text: String,
    /// How much of it was said, bytes.
    said: usize,
    begun: bool,
}

#[derive(Debug, Clone)]
enum Kind {
    Reasoning,
    Text,
    Refusal,
    Tool { index: usize, id: String, name: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Opening,
    Content,
    Usage,
    Over,
}

impl Play {
    /// Prepares an answer; `id` tells tool calls of different answers apart.
    pub fn new(lines: &Lines, pace: Pace, asked: &Asked<'_>, id: u64) -> Self {
        let mut voices = vec![
            Voice::new(Kind::Reasoning, lines.reasoning.fill(asked)),
            Voice::new(Kind::Text, lines.text.fill(asked)),
            Voice::new(Kind::Refusal, lines.refusal.fill(asked)),
        ];
        voices.extend(lines.tool_calls.iter().enumerate().map(|(index, call)| {
            let kind = Kind::Tool { index, id: format!("call_{id}_{index}"), name: call.name.fill(asked) };
            Voice::new(kind, call.arguments.clone())
        }));
        // A word counts as a token: near enough for those who ask for a short answer.
        let pieces_max = asked.output_tokens_max().map_or(usize::MAX, |tokens| tokens as usize);
        let usage = match lines.usage {
            UsageLine::None => None,
            UsageLine::Exactly(usage) => Some(usage),
            UsageLine::Estimated => Some(estimate(&voices, asked)),
        };
        Self {
            pace,
            voices,
            current: 0,
            pieces: 0,
            pieces_max,
            fault: lines.fault.clone(),
            finish: lines.finish,
            usage,
            logprob: lines.logprob,
            stage: Stage::Opening,
        }
    }

    fn content(&mut self) -> (Duration, Step) {
        if self.fault.as_ref().is_some_and(|fault| fault.after_pieces <= self.pieces) {
            return (Duration::ZERO, self.go_wrong());
        }
        let logprob = self.logprob;
        let piece = (self.pieces < self.pieces_max)
            .then(|| {
                let voices = self.voices.iter_mut().skip(self.current);
                voices.enumerate().find_map(|(passed, voice)| Some((passed, voice.piece(logprob)?)))
            })
            .flatten();
        let Some((passed, delta)) = piece else {
            if self.fault.is_some() {
                return (Duration::ZERO, self.go_wrong());
            }
            self.stage = Stage::Usage;
            let cut = self.pieces == self.pieces_max && self.voices.iter().any(Voice::has_more);
            let finish = Some(if cut { Finish::Length } else { self.finish });
            return (Duration::ZERO, Step::Piece(Delta { finish, ..Delta::default() }));
        };
        self.current += passed;
        let wait = if self.pieces == 0 { self.pace.first_token } else { self.pace.token };
        self.pieces += 1;
        (wait, Step::Piece(delta))
    }

    fn go_wrong(&mut self) -> Step {
        self.stage = Stage::Over;
        match self.fault.take().and_then(|fault| fault.error) {
            Some(error) => Step::Fail(error),
            None => Step::Stall,
        }
    }
}

impl Iterator for Play {
    type Item = (Duration, Step);

    fn next(&mut self) -> Option<Self::Item> {
        match self.stage {
            Stage::Opening => {
                self.stage = Stage::Content;
                // Providers name the role before they say anything.
                Some((Duration::ZERO, Step::Piece(Delta::default())))
            }
            Stage::Content => Some(self.content()),
            Stage::Usage => {
                self.stage = Stage::Over;
                let usage = self.usage.take()?;
                Some((Duration::ZERO, Step::Piece(Delta { usage: Some(usage), ..Delta::default() })))
            }
            Stage::Over => None,
        }
    }
}

impl Voice {
    fn new(kind: Kind, text: String) -> Self {
        Self { kind, text, said: 0, begun: false }
    }

    fn has_more(&self) -> bool {
        self.said < self.text.len() || (!self.begun && matches!(self.kind, Kind::Tool { .. }))
    }

    /// Says the next piece, `None` when all is said.
    fn piece(&mut self, logprob: Option<f64>) -> Option<Delta> {
        if !self.has_more() {
            return None;
        }
        let first = !self.begun;
        self.begun = true;
        let rest = &self.text[self.said..];
        let length = match self.kind {
            Kind::Reasoning | Kind::Text | Kind::Refusal => word_bytes(rest),
            // The first piece of a call names it and holds no arguments, as with providers.
            Kind::Tool { .. } if first => 0,
            Kind::Tool { .. } => rest.char_indices().nth(ARGUMENT_CHARS).map_or(rest.len(), |(at, _)| at),
        };
        let said = rest[..length].to_owned();
        self.said += length;
        let mut delta = Delta::default();
        match &self.kind {
            Kind::Reasoning => delta.reasoning = said,
            Kind::Text => {
                delta.text = said;
                delta.logprobs =
                    logprob.map_or_else(LogprobSum::default, |sum| LogprobSum { sum, tokens: 1 });
            }
            Kind::Refusal => delta.refusal = said,
            Kind::Tool { index, id, name } => {
                let (id, name) = if first { (id.clone(), name.clone()) } else { Default::default() };
                delta.tool_calls.push(ToolDelta { index: *index, id, name, arguments: said });
            }
        }
        Some(delta)
    }
}

/// Returns the length of the first word and the space after it (and before it, at the start of a text).
fn word_bytes(text: &str) -> usize {
    let word = text.find(|c: char| !c.is_whitespace()).unwrap_or(text.len());
    let space = text[word..].find(char::is_whitespace).map_or(text.len(), |at| word + at);
    text[space..].find(|c: char| !c.is_whitespace()).map_or(text.len(), |at| space + at)
}

fn estimate(voices: &[Voice], asked: &Asked<'_>) -> Usage {
    let tokens = |voice: &Voice| estimate_tokens(&voice.text) as u64;
    let reasoning = voices.iter().filter(|voice| matches!(voice.kind, Kind::Reasoning)).map(tokens).sum();
    let output: u64 = voices.iter().map(tokens).sum();
    let output = asked.output_tokens_max().map_or(output, |max| output.min(u64::from(max)));
    Usage {
        input_tokens: asked.prompt_tokens(),
        output_tokens: output,
        reasoning_tokens: output.min(reasoning),
        ..Usage::default()
    }
}

/// What comes of a play that is not told in pieces.
#[derive(Debug, PartialEq)]
pub enum Whole {
    Said(View),
    /// Nothing ever comes.
    Stall,
    Fail(ProviderError),
}

/// Returns what comes of the whole play, and how long that takes.
pub fn whole(play: Play) -> (Duration, Whole) {
    let mut view = View::default();
    let mut took = Duration::ZERO;
    for (wait, step) in play {
        took += wait;
        match step {
            Step::Piece(delta) => view.add(&delta),
            Step::Stall => return (took, Whole::Stall),
            Step::Fail(error) => return (took, Whole::Fail(error)),
        }
    }
    (took, Whole::Said(view))
}
