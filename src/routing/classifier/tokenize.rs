//! Prompt -> [`Excerpt`] -> token ids: what of a request the classifier reads.
//!
//! The last user turn is read with the turns that give it meaning ("yes, do it"). What does not
//! fit the bundle's token limit is cut out of the middle of that turn. The bundle's manifest holds
//! the numbers, training does the same in `training/encode.py`, and golden samples hold the two
//! together. All lengths of text are in characters (Unicode scalar values).

use std::hash::{Hash, Hasher};

use serde::Deserialize;
use tokenizers::Tokenizer;

use super::bundle::BundleError;
use crate::prompt::{Message, Prompt, Role};

/// How much of each part is read; the manifest's `input` object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputLimits {
    /// The whole sequence, special tokens included.
    pub tokens_max: usize,
    /// System prompt and earlier turns together.
    pub context_tokens_max: usize,
    /// The system prompt alone.
    pub system_tokens_max: usize,
    pub system_chars_max: usize,
    /// Earlier turns that are read, the nearest ones.
    pub turns_max: usize,
    /// Characters kept of the start and of the end of a long earlier turn.
    pub turn_head_chars: usize,
    pub turn_tail_chars: usize,
    /// A last user turn longer than two windows is read in its first and its last window only.
    pub window_chars: usize,
    /// Share of a cut turn's tokens that come from its start, percent.
    pub head_share_percent: usize,
}

impl InputLimits {
    /// Room for special tokens, context and at least a few tokens of the last turn.
    const TURN_TOKENS_MIN: usize = 8;

    /// Returns what is wrong with these numbers, if anything.
    pub fn problem(&self) -> Option<String> {
        const CHARS_MAX: usize = 1 << 20;
        let chars = [self.window_chars, self.system_chars_max, self.turn_head_chars, self.turn_tail_chars];
        if self.tokens_max > 8192 || self.turns_max > 64 || chars.iter().any(|&chars| chars > CHARS_MAX) {
            return Some("input: larger than any encoder reads".to_owned());
        }
        if self.context_tokens_max > self.tokens_max.saturating_sub(3 + Self::TURN_TOKENS_MIN) {
            return Some("input.context_tokens_max: leaves no room for the last turn".to_owned());
        }
        if self.system_tokens_max > self.context_tokens_max || self.head_share_percent > 100 {
            return Some("input: parts are larger than the whole".to_owned());
        }
        (self.window_chars == 0).then(|| "input.window_chars: is 0".to_owned())
    }
}

/// The text that the classifier reads of one request: bounded, owned, equal texts compare equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Excerpt {
    system: String,
    turns: String,
    turn: Turn,
}

/// The last user turn, whole or in two windows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Turn {
    Whole(String),
    Windows { head: String, tail: String },
}

impl Excerpt {
    /// Returns what `limits` lets the classifier read of this prompt.
    pub fn of(prompt: &Prompt, limits: &InputLimits) -> Self {
        let judged = prompt.judged_index();
        let system = match prompt.system_text() {
            "" => String::new(),
            text => format!("system: {}", head_chars(text, limits.system_chars_max)),
        };
        let mut turns: Vec<String> = nearest_turns(prompt, limits)
            .map(|message| {
                let (head, tail) = (limits.turn_head_chars, limits.turn_tail_chars);
                format!("{}: {}", message.role.as_str(), clip_middle(&message.content, head, tail))
            })
            .collect();
        turns.reverse();
        let turns = turns.join("\n");
        let text = &prompt.messages[judged].content;
        let window = limits.window_chars;
        // Counting characters stops as soon as the answer is known.
        let turn = if text.chars().nth(2 * window).is_some() {
            Turn::Windows {
                head: head_chars(text, window).to_owned(),
                tail: tail_chars(text, window).to_owned(),
            }
        } else {
            Turn::Whole(text.clone())
        };
        Self { system, turns, turn }
    }

    /// Returns the starts of the user's turns that an excerpt of this prompt holds, the judged one first, then
    /// the nearest; equal excerpts have equal ones.
    pub fn user_turns<'a>(prompt: &'a Prompt, limits: &InputLimits) -> Vec<&'a str> {
        let judged = head_chars(&prompt.messages[prompt.judged_index()].content, limits.window_chars);
        let earlier = nearest_turns(prompt, limits)
            .filter(|message| message.role == Role::User)
            .map(|message| head_chars(&message.content, limits.turn_head_chars));
        std::iter::once(judged).chain(earlier).collect()
    }

    /// Returns 128 bits that identify the text, for the score cache.
    ///
    /// Two keyed SipHash values: an attacker who does not know the process's keys cannot make two
    /// texts collide.
    pub fn fingerprint(&self, keys: &[std::hash::RandomState; 2]) -> u128 {
        let half = |key: &std::hash::RandomState| {
            let mut hasher = std::hash::BuildHasher::build_hasher(key);
            self.hash(&mut hasher);
            u128::from(hasher.finish())
        };
        half(&keys[0]) << 64 | half(&keys[1])
    }

    /// Returns the start of the judged turn.
    #[cfg(test)]
    pub fn judged_text(&self) -> &str {
        match &self.turn {
            Turn::Whole(text) | Turn::Windows { head: text, .. } => text,
        }
    }

    fn bytes(&self) -> usize {
        let turn = match &self.turn {
            Turn::Whole(text) => text.len(),
            Turn::Windows { head, tail } => head.len() + tail.len(),
        };
        self.system.len() + self.turns.len() + turn
    }
}

/// Returns the turns beside the judged one that are read, nearest first.
fn nearest_turns<'a>(prompt: &'a Prompt, limits: &InputLimits) -> impl Iterator<Item = &'a Message> {
    let judged = prompt.judged_index();
    let turns = prompt.messages.iter().enumerate().rev();
    turns
        .filter(move |(at, message)| *at != judged && message.role != Role::System)
        .map(|(_, message)| message)
        .take(limits.turns_max)
}

fn head_chars(text: &str, count: usize) -> &str {
    text.char_indices().nth(count).map_or(text, |(end, _)| &text[..end])
}

fn tail_chars(text: &str, count: usize) -> &str {
    match count {
        0 => "",
        _ => text.char_indices().rev().nth(count - 1).map_or(text, |(start, _)| &text[start..]),
    }
}

/// Returns the text, or its first `head` and last `tail` characters around " ... ".
fn clip_middle(text: &str, head: usize, tail: usize) -> String {
    if text.chars().nth(head + tail).is_none() {
        return text.to_owned();
    }
    format!("{} ... {}", head_chars(text, head), tail_chars(text, tail))
}

/// Token ids ready for the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// With special tokens, at most `tokens_max`.
    pub ids: Vec<i64>,
    /// Whether part of the last user turn was left out.
    pub truncated: bool,
    /// How densely the text that was tokenised falls into tokens.
    pub density: TokenDensity,
}

/// Tokens found in a number of bytes, to estimate the tokens of a longer text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenDensity {
    pub tokens: usize,
    pub bytes: usize,
}

/// The bundle's tokenizer and its limits.
#[derive(Debug)]
pub struct Encoder {
    tokenizer: Tokenizer,
    limits: InputLimits,
    start_id: u32,
    separator_id: u32,
}

impl Encoder {
    /// Reads `tokenizer.json`; its special tokens must be those of a BERT.
    pub fn new(json: &[u8], limits: InputLimits) -> Result<Self, BundleError> {
        let broken = |why: String| BundleError::Tokenizer { why };
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(|error| broken(error.to_string()))?;
        // "[SEP]" in a prompt is text; it must not end what the caller says.
        tokenizer.set_encode_special_tokens(true);
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| broken(error.to_string()))?;
        let special = |token: &str| {
            tokenizer
                .token_to_id(token)
                .ok_or_else(|| broken(format!("has no token {token}: it is no BERT's tokenizer")))
        };
        let (start_id, separator_id) = (special("[CLS]")?, special("[SEP]")?);
        Ok(Self { tokenizer, limits, start_id, separator_id })
    }

    /// Returns the ids of what fits; fails only on text that the tokenizer itself refuses.
    pub fn encode(&self, excerpt: &Excerpt) -> Result<Encoded, String> {
        let limits = &self.limits;
        let system = self.ids(&excerpt.system)?;
        let turns = self.ids(&excerpt.turns)?;
        let mut tokens = system.len() + turns.len();
        let system = &system[..system.len().min(limits.system_tokens_max)];
        let turns = last(&turns, limits.context_tokens_max - system.len());
        let context_len = system.len() + turns.len();
        let special = if context_len == 0 { 2 } else { 3 };
        let budget = limits.tokens_max - special - context_len;

        let mut ids = Vec::with_capacity(limits.tokens_max);
        ids.push(self.start_id);
        if context_len > 0 {
            ids.extend_from_slice(system);
            ids.extend_from_slice(turns);
            ids.push(self.separator_id);
        }
        let head_len = budget * limits.head_share_percent / 100;
        let truncated = match &excerpt.turn {
            Turn::Whole(text) => {
                let turn = self.ids(text)?;
                tokens += turn.len();
                let fits = turn.len() <= budget;
                if fits {
                    ids.extend_from_slice(&turn);
                } else {
                    ids.extend_from_slice(&turn[..head_len]);
                    ids.extend_from_slice(last(&turn, budget - head_len));
                }
                !fits
            }
            Turn::Windows { head, tail } => {
                let (head, tail) = (self.ids(head)?, self.ids(tail)?);
                tokens += head.len() + tail.len();
                ids.extend_from_slice(&head[..head.len().min(head_len)]);
                ids.extend_from_slice(last(&tail, budget - head_len));
                true
            }
        };
        ids.push(self.separator_id);
        Ok(Encoded {
            ids: ids.into_iter().map(i64::from).collect(),
            truncated,
            density: TokenDensity { tokens, bytes: excerpt.bytes() },
        })
    }

    fn ids(&self, text: &str) -> Result<Vec<u32>, String> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let encoding = self.tokenizer.encode_fast(text, false).map_err(|error| error.to_string())?;
        Ok(encoding.get_ids().to_vec())
    }
}

fn last(ids: &[u32], count: usize) -> &[u32] {
    &ids[ids.len().saturating_sub(count)..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        prompt::{Context, Preferences, Shape},
        routing::classifier::scripted::INPUT as LIMITS,
    };

    fn prompt(turns: &[(Role, &str)]) -> Prompt {
        Prompt {
            messages: turns
                .iter()
                .map(|&(role, content)| Message { role, content: content.to_owned() })
                .collect(),
            context: Context::default(),
            shape: Shape::default(),
            preferences: Preferences::default(),
            tier_cap: None,
            explain: false,
        }
    }

    #[test]
    fn the_last_user_turn_is_read_with_what_gives_it_meaning() {
        let excerpt = Excerpt::of(
            &prompt(&[
                (Role::System, "Be brief."),
                (Role::User, "Delete the old index?"),
                (Role::Assistant, "Shall I?"),
                (Role::User, "yes, do it"),
            ]),
            &LIMITS,
        );
        assert_eq!(excerpt.system, "system: Be brief.");
        assert_eq!(excerpt.turns, "user: Delete the old index?\nassistant: Shall I?");
        assert_eq!(excerpt.turn, Turn::Whole("yes, do it".to_owned()));
    }

    #[test]
    fn only_the_nearest_turns_are_read_and_long_ones_lose_their_middle() {
        let long = "é".repeat(300);
        let turns: Vec<(Role, &str)> =
            [(Role::User, "first"), (Role::Assistant, "a"), (Role::User, "b"), (Role::Assistant, "c")]
                .into_iter()
                .chain([(Role::Tool, long.as_str()), (Role::User, "last")])
                .collect();
        let excerpt = Excerpt::of(&prompt(&turns), &LIMITS);
        assert!(!excerpt.turns.contains("first"));
        assert!(excerpt.turns.ends_with(&format!("tool: {} ... {}", "é".repeat(120), "é".repeat(80))));
    }

    #[test]
    fn a_conversation_without_a_user_turn_is_judged_by_its_last_message() {
        let excerpt = Excerpt::of(&prompt(&[(Role::Assistant, "hello")]), &LIMITS);
        assert_eq!(excerpt.turn, Turn::Whole("hello".to_owned()));
        assert_eq!(excerpt.turns, "");
    }

    #[test]
    fn numbers_that_leave_no_room_are_a_problem() {
        assert_eq!(LIMITS.problem(), None);
        assert!(InputLimits { context_tokens_max: 250, ..LIMITS }.problem().is_some());
        assert!(InputLimits { window_chars: 0, ..LIMITS }.problem().is_some());
    }

    proptest! {
        #[test]
        fn excerpts_are_bounded(text in "\\PC{0,300}", repeat in 0usize..80) {
            let whole = text.repeat(repeat);
            let excerpt = Excerpt::of(&prompt(&[(Role::User, &whole), (Role::User, &whole)]), &LIMITS);
            prop_assert!(excerpt.bytes() <= 4 * (2 * LIMITS.window_chars + 300));
        }

        #[test]
        fn windows_are_the_ends_of_the_text(text in "\\PC{1,50}", count in 0usize..60) {
            prop_assert!(text.starts_with(head_chars(&text, count)));
            prop_assert!(text.ends_with(tail_chars(&text, count)));
            let expected = count.min(text.chars().count());
            prop_assert_eq!(head_chars(&text, count).chars().count(), expected);
            prop_assert_eq!(tail_chars(&text, count).chars().count(), expected);
        }
    }
}
