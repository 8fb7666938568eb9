//! Tokens and dollars. Pure estimates, and each says where it comes from.

use crate::{
    config::TargetConfig,
    prompt::{Prompt, TokenCountSource},
    routing::classifier::TokenDensity,
};

/// Tokens that frame one message in common chat formats.
const TOKENS_PER_MESSAGE: usize = 4;
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
    count(estimate + frames(prompt), TokenCountSource::Length)
}

/// Returns the caller's count, else the classifier's token density extrapolated to the whole text.
pub fn count_by_density(prompt: &Prompt, density: TokenDensity) -> TokenCount {
    if prompt.shape.prompt_tokens.is_some() || density.bytes == 0 {
        return count_by_length(prompt);
    }
    let bytes: usize = prompt.messages.iter().map(|message| message.content.len()).sum();
    let estimate = (bytes as f64 * density.tokens as f64 / density.bytes as f64).ceil() as usize;
    count(estimate + frames(prompt), TokenCountSource::Tokenizer)
}

fn count(tokens: usize, source: TokenCountSource) -> TokenCount {
    TokenCount { tokens: tokens.min(TOKENS_MAX) as u32, source }
}

fn frames(prompt: &Prompt) -> usize {
    prompt.messages.len() * TOKENS_PER_MESSAGE
}

/// Some four ASCII characters make a token in common vocabularies, other scripts about one each
/// (the middle between accented Latin at a third and Han at one and a half).
fn estimate_tokens(text: &str) -> usize {
    // A character outside ASCII starts with a byte of at least 0xC0.
    let others = text.bytes().filter(|&byte| byte >= 0xC0).count();
    let ascii = text.bytes().filter(u8::is_ascii).count();
    ascii.div_ceil(4) + others
}

/// Returns the answer's expected length on this target, tokens.
pub fn expected_output_tokens(target: &TargetConfig, prompt: &Prompt) -> u32 {
    let asked = prompt.shape.max_output_tokens.unwrap_or(u32::MAX);
    target.output_tokens_typical.min(asked)
}

/// Returns the expected cost of the completion on this target, US dollars.
pub fn estimate_usd(target: &TargetConfig, prompt: &Prompt, prompt_tokens: u32) -> f64 {
    let output = f64::from(expected_output_tokens(target, prompt));
    (f64::from(prompt_tokens) * target.input_usd_per_mtok + output * target.output_usd_per_mtok) / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_become_tokens() {
        for (text, expected) in [("", 0), ("word", 1), ("words", 2), ("日本語", 3), ("naïve", 2)] {
            assert_eq!(estimate_tokens(text), expected, "{text}");
        }
    }
}
