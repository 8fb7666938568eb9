//! Tokens and dollars. Pure estimates, and each says where it comes from.

use std::io;

use serde_json::Value;

use crate::{
    config::TargetConfig,
    prompt::{Prompt, TokenCountSource},
    routing::classifier::TokenDensity,
};

/// Tokens that frame one message in common chat formats.
pub const TOKENS_PER_MESSAGE: usize = 4;
const TOKENS_MAX: usize = u32::MAX as usize;

/// A count of prompt tokens and its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenCount {
    pub tokens: u32,
    pub source: TokenCountSource,
}

/// Returns the caller's count, else an estimate from the text's length.
pub fn count_by_length(prompt: &Prompt) -> TokenCount {
    if let Some(tokens) = prompt.shape.prompt_tokens {
        return TokenCount { tokens, source: TokenCountSource::Caller };
    }
    let estimate: usize = prompt.messages.iter().map(|message| estimate_tokens(&message.content)).sum();
    count(estimate + beside_text(prompt), TokenCountSource::Length)
}

/// Returns the caller's count, else the classifier's token density extrapolated to the whole text;
/// `by_length` is what [`count_by_length`] said of the same prompt.
pub fn count_by_density(prompt: &Prompt, density: TokenDensity, by_length: TokenCount) -> TokenCount {
    if by_length.source == TokenCountSource::Caller || density.bytes == 0 {
        return by_length;
    }
    let bytes: usize = prompt.messages.iter().map(|message| message.content.len()).sum();
    let estimate = (bytes as f64 * density.tokens as f64 / density.bytes as f64).ceil() as usize;
    let beside_text = beside_text(prompt);
    let by_text = (by_length.tokens as usize).saturating_sub(beside_text);
    // A WordPiece vocabulary reads a script it does not know, or a very long word, as one token.
    if estimate < by_text / 2 {
        by_length
    } else {
        count(estimate + beside_text, TokenCountSource::Tokenizer)
    }
}

fn count(tokens: usize, source: TokenCountSource) -> TokenCount {
    TokenCount { tokens: tokens.min(TOKENS_MAX) as u32, source }
}

/// Returns the tokens of what goes upstream beside the messages' texts, their frames included.
fn beside_text(prompt: &Prompt) -> usize {
    prompt.messages.len() * TOKENS_PER_MESSAGE + prompt.shape.beside_text_tokens as usize
}

/// Returns about how many tokens a text has: some four ASCII characters make one in common vocabularies, other
/// scripts about one each (the middle between accented Latin at a third and Han at one and a half).
pub fn estimate_tokens(text: &str) -> usize {
    // A character outside ASCII starts with a byte of at least 0xC0.
    let others = text.bytes().filter(|&byte| byte >= 0xC0).count();
    let ascii = text.bytes().filter(u8::is_ascii).count();
    ascii.div_ceil(4) + others
}

/// Returns about how many tokens a value has when it is written as JSON, as tools and schemas go to a model.
pub fn estimate_json_tokens(value: &Value) -> usize {
    let mut written = Written::default();
    // Counting cannot fail.
    let _ = serde_json::to_writer(&mut written, value);
    written.ascii.div_ceil(4) + written.others
}

/// Counts what is written, and keeps none of it.
#[derive(Default)]
struct Written {
    ascii: usize,
    others: usize,
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.ascii += bytes.iter().filter(|byte| byte.is_ascii()).count();
        self.others += bytes.iter().filter(|&&byte| byte >= 0xC0).count();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the expected length of one answer on this target, tokens.
pub fn expected_output_tokens(target: &TargetConfig, prompt: &Prompt) -> u32 {
    let asked = prompt.shape.max_output_tokens.unwrap_or(u32::MAX);
    target.output_tokens_typical.min(asked)
}

/// Returns the expected cost of the completion on this target, US dollars.
pub fn estimate_usd(target: &TargetConfig, prompt: &Prompt, prompt_tokens: u32) -> f64 {
    let choices = prompt.shape.choices.max(1);
    let output = f64::from(expected_output_tokens(target, prompt)) * f64::from(choices);
    (f64::from(prompt_tokens) * target.input_usd_per_mtok + output * target.output_usd_per_mtok) / 1e6
}

/// Returns what it costs more, US dollars, at least 0, that `cached_tokens` of a prompt lie in another
/// target's prompt cache: cached tokens * (input price - price of cached input) of the target that must now
/// read them anew. 0 where that target has no cheaper price for cached input.
pub fn switch_usd(to: &TargetConfig, cached_tokens: u32) -> f64 {
    (f64::from(cached_tokens) * (to.input_usd_per_mtok - to.cached_input_usd_per_mtok) / 1e6).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::default_config,
        prompt::{Draft, DraftShape},
        routing::admit::admit,
    };

    #[test]
    fn dollars_follow_from_tokens_and_prices() {
        let config = default_config();
        let mut target = config.targets[0].clone();
        (target.input_usd_per_mtok, target.output_usd_per_mtok, target.output_tokens_typical) =
            (2.0, 10.0, 300);
        let ask = |max_output_tokens| {
            let shape = DraftShape { prompt_tokens: Some(1000), max_output_tokens, ..DraftShape::default() };
            admit(Draft { shape, ..Draft::from_text("x") }, &config).unwrap()
        };
        // 1,000 tokens at $2 a million, and 300 (or the 100 asked for) at $10 a million.
        for (asked, expected) in [(None, 0.005), (Some(100), 0.003), (Some(5000), 0.005)] {
            let prompt = ask(asked);
            let tokens = count_by_length(&prompt).tokens;
            assert!((estimate_usd(&target, &prompt, tokens) - expected).abs() < 1e-12, "{asked:?}");
        }
    }

    #[test]
    fn every_choice_is_paid_for() {
        let config = default_config();
        let cost = |choices| {
            let shape = DraftShape { prompt_tokens: Some(0), choices, ..DraftShape::default() };
            let prompt = admit(Draft { shape, ..Draft::from_text("x") }, &config).unwrap();
            estimate_usd(&config.targets[0], &prompt, 0)
        };
        assert_eq!((cost(0), cost(3)), (cost(1), 3.0 * cost(1)));
    }

    #[test]
    fn what_is_no_text_counts_unless_the_caller_counted() {
        let config = default_config();
        let ask = |prompt_tokens| {
            let shape = DraftShape { prompt_tokens, beside_text_tokens: 1000, ..DraftShape::default() };
            admit(Draft { shape, ..Draft::from_text("a".repeat(1000)) }, &config).unwrap()
        };
        assert_eq!(count_by_length(&ask(None)).tokens, 250 + 4 + 1000);
        assert_eq!(count_by_length(&ask(Some(7))).tokens, 7);
        let prompt = ask(None);
        let count = |tokens| {
            count_by_density(&prompt, TokenDensity { tokens, bytes: 1000 }, count_by_length(&prompt)).tokens
        };
        assert_eq!(count(200), 200 + 4 + 1000);
        assert_eq!(count(20), 250 + 4 + 1000, "a script that the vocabulary does not know");
        let value = serde_json::json!({"name": "naïve"});
        assert_eq!(estimate_json_tokens(&value), estimate_tokens(&value.to_string()));
    }

    #[test]
    fn density_is_extrapolated_to_the_whole_text() {
        let config = default_config();
        let prompt = admit(Draft::from_text("a".repeat(1000)), &config).unwrap();
        let count =
            count_by_density(&prompt, TokenDensity { tokens: 25, bytes: 100 }, count_by_length(&prompt));
        assert_eq!(count, TokenCount { tokens: 254, source: TokenCountSource::Tokenizer });
    }

    #[test]
    fn a_script_outside_the_vocabulary_is_counted_by_its_length() {
        let prompt = admit(Draft::from_text("ภาษาไทย".repeat(100)), &default_config()).unwrap();
        let count =
            count_by_density(&prompt, TokenDensity { tokens: 2, bytes: 2100 }, count_by_length(&prompt));
        assert_eq!((count.tokens, count.source), (704, TokenCountSource::Length));
    }

    #[test]
    fn lengths_become_tokens() {
        for (text, expected) in [("", 0), ("word", 1), ("words", 2), ("日本語", 3), ("naïve", 2)] {
            assert_eq!(estimate_tokens(text), expected, "{text}");
        }
    }
}
