//! Answer -> fine, or weak and why.
//!
//! Pure and bounded: an answer of many megabytes is looked at in part where looking at all of it would take
//! long. Never quotes more than [`QUOTE_CHARS_MAX`] characters of an answer, and never asks anybody: the judge
//! is another module.

mod fold;
mod json;
mod length;
mod refusal;
mod refusal_languages;
mod repetition;

use self::length::Cut;
use super::{
    answer::View,
    attempt::{Check, Weakness},
    chat::Asks,
};
use crate::{
    config::{ChecksConfig, CompletionConfig},
    prompt::{Intent, Prompt, Tier},
};

/// Characters of an answer that a [`Weakness`] may quote: enough to recognise it, too few to leak it into logs.
pub const QUOTE_CHARS_MAX: usize = 60;

/// Bytes at each end of an answer that the operator's patterns read. Both together hold an answer of about a
/// hundred thousand tokens; a pattern with a word boundary reads some ten megabytes a second outside ASCII.
const PATTERN_BYTES_MAX: usize = 256 << 10;

/// What models that think aloud put around it where their server does not take it out.
const THOUGHT: (&str, &str) = ("<think>", "</think>");

/// For answers that no configured check fits.
pub static UNCHECKED: ChecksConfig = ChecksConfig {
    tiers: Vec::new(),
    intents: Vec::new(),
    checks: Vec::new(),
    logprob_min: f64::NEG_INFINITY,
    reject: Vec::new(),
    require: Vec::new(),
};

/// The order in which checks run: the first that fails is the gravest problem of an answer. What cut an
/// answer stands before what the cut broke.
const GRAVEST_FIRST: [Check; 11] = [
    Check::Empty,
    Check::Refusal,
    Check::Repetition,
    Check::Truncated,
    Check::ToolCall,
    Check::Json,
    Check::Schema,
    Check::Pattern,
    Check::TooShort,
    Check::Logprob,
    Check::Judge,
];

/// What an answer is checked against.
#[derive(Debug, Clone, Copy)]
pub struct Checks<'a> {
    pub config: &'a ChecksConfig,
    pub asks: &'a Asks,
    pub prompt: &'a Prompt,
    pub intent: Option<&'a Intent>,
}

impl Checks<'_> {
    /// Returns whether this check runs. The operator's patterns run wherever there are some.
    pub fn runs(&self, check: Check) -> bool {
        let written = !self.config.reject.is_empty() || !self.config.require.is_empty();
        self.config.checks.contains(&check) || (check == Check::Pattern && written)
    }
}

/// What the first characters of a stream show.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// Nothing that can be told from a start is wrong.
    Fine,
    /// Too little was seen, or it may still become a refusal.
    Open,
    Weak(Weakness),
}

/// Returns the first configured checks that fit this tier and intent; an unknown intent fits only those that
/// name none.
pub fn checks_for<'a>(
    config: &'a CompletionConfig,
    tier: Tier,
    intent: Option<&Intent>,
) -> Option<&'a ChecksConfig> {
    config.checks.iter().find(|checks| {
        let tier_fits = checks.tiers.is_empty() || checks.tiers.contains(&tier);
        let intent_fits =
            checks.intents.is_empty() || intent.is_some_and(|intent| checks.intents.contains(&intent.0));
        tier_fits && intent_fits
    })
}

/// Compiles every pattern, which takes some tens of milliseconds: at the start, so that no request waits.
pub fn prepare() {
    refusal::prepare();
    repetition::prepare();
    length::prepare();
}

/// Returns how grave a failed check is: 0 is the gravest, so that of two weak answers the one with the higher
/// rank is the better.
pub fn rank(check: Check) -> usize {
    GRAVEST_FIRST.iter().position(|other| *other == check).unwrap_or(GRAVEST_FIRST.len())
}

/// Checks a whole answer; the error is its gravest problem. Of several choices only the first is looked at.
///
/// An answer that reached the caller's own limit of output tokens is as long as asked for: it is not
/// truncated, and neither broken JSON nor a missing end is held against it, unless its beginning already can be no
/// JSON. Of several choices the first is checked.
pub fn check(view: &View, checks: &Checks<'_>) -> Result<(), Weakness> {
    for check in GRAVEST_FIRST.into_iter().filter(|check| checks.runs(*check)) {
        if let Some(why) = problem(check, view, checks) {
            return Err(Weakness { check, why });
        }
    }
    Ok(())
}

/// Checks the first characters of a streamed answer for what they can already show: a refusal, one of the
/// operator's `reject` patterns, and text where JSON was asked for.
pub fn check_start(view: &View, checks: &Checks<'_>) -> Start {
    let weak = |check, why| Start::Weak(Weakness { check, why });
    if checks.runs(Check::Refusal)
        && let Some(why) = refusal::declared(view)
    {
        return weak(Check::Refusal, why);
    }
    if let Some(why) = rejected_start(&view.text, checks.config) {
        return weak(Check::Pattern, why);
    }
    // Text before a tool call need not be JSON.
    if checks.runs(Check::Json)
        && !checks.prompt.shape.needs.tools
        && let Some(why) = json::start_problem(&view.text, checks.asks)
    {
        return weak(Check::Json, why);
    }
    let Some(said) = said(&view.text).map(str::trim_start).filter(|said| !is_blank(said)) else {
        return Start::Open;
    };
    if !checks.runs(Check::Refusal) {
        return Start::Fine;
    }
    match refusal::read_start(said, checks) {
        refusal::Reading::Refusal(why) => weak(Check::Refusal, why),
        refusal::Reading::Open => Start::Open,
        refusal::Reading::Other => Start::Fine,
    }
}

/// Returns what is wrong with an answer by one check.
fn problem(check: Check, view: &View, checks: &Checks<'_>) -> Option<String> {
    let cut = length::cut(view, checks.asks);
    match check {
        Check::Empty => empty(view),
        Check::Refusal => refusal::problem(view, checks),
        Check::Repetition => repetition::problem(view, checks),
        Check::Truncated => (cut == Cut::ByProvider)
            .then(|| "the answer was cut by a limit of output tokens that the caller did not set".to_owned()),
        Check::ToolCall => json::tool_problem(view, checks.asks, cut),
        Check::Json if cut == Cut::ByCaller => json::cut_problem(view, checks.asks),
        Check::Json => json::problem(view, checks.asks),
        Check::Schema if cut != Cut::ByCaller => json::schema_problem(view, checks.asks),
        // What the provider's tools found, or a turn that is to go on, makes up for few words.
        Check::TooShort if view.other_content => None,
        Check::TooShort if cut != Cut::ByCaller => length::short_problem(view, checks),
        Check::Pattern => pattern(&view.text, checks.config, cut),
        Check::Logprob => unsure(view, checks.config.logprob_min),
        Check::Schema | Check::TooShort | Check::Judge => None,
    }
}

fn empty(view: &View) -> Option<String> {
    let says = !is_blank(said(&view.text).unwrap_or_default()) || !is_blank(&view.refusal);
    if says || calls_tools(view) || view.other_content {
        return None;
    }
    let thought = !view.reasoning.is_empty() || !is_blank(&view.text);
    Some(if thought { "nothing was said after the reasoning" } else { "the answer is empty" }.to_owned())
}

fn unsure(view: &View, logprob_min: f64) -> Option<String> {
    let mean = view.logprobs.mean()?;
    (mean < logprob_min)
        .then(|| format!("the mean log-probability of its tokens is {mean:.2}, below {logprob_min:.2}"))
}

fn pattern(text: &str, config: &ChecksConfig, cut: Cut) -> Option<String> {
    // `find_at` and `is_match_at` see what stands before, so that `^` does not match in the middle.
    let head = &text[..text.floor_char_boundary(PATTERN_BYTES_MAX)];
    let tail_start = text.ceil_char_boundary(text.len().saturating_sub(PATTERN_BYTES_MAX)).max(head.len());
    let matches = |pattern: &regex::Regex| {
        if text.len() <= 2 * PATTERN_BYTES_MAX {
            pattern.is_match(text)
        } else {
            pattern.is_match(head) || pattern.is_match_at(text, tail_start)
        }
    };
    if let Some(pattern) = config.reject.iter().find(|pattern| matches(pattern)) {
        return Some(rejected(pattern));
    }
    if config.require.is_empty() || cut == Cut::ByCaller || config.require.iter().any(matches) {
        return None;
    }
    Some("the answer matches none of the required patterns".to_owned())
}

/// A match that ends before the start does stays one, whatever follows.
fn rejected_start(start: &str, config: &ChecksConfig) -> Option<String> {
    let start = &start[..start.floor_char_boundary(PATTERN_BYTES_MAX)];
    let found = config
        .reject
        .iter()
        .find(|pattern| pattern.shortest_match(start).is_some_and(|end| end < start.len()))?;
    Some(rejected(found))
}

fn rejected(pattern: &regex::Regex) -> String {
    format!("the answer matches the rejected pattern `{}`", quote(pattern.as_str()))
}

/// Returns the text after what was thought aloud before it; `None` while the thought has no end.
fn said(text: &str) -> Option<&str> {
    match text.trim_start().strip_prefix(THOUGHT.0) {
        None => Some(text),
        Some(thought) => thought.find(THOUGHT.1).map(|end| &thought[end + THOUGHT.1.len()..]),
    }
}

/// Returns whether a reader would see nothing.
pub fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || fold::is_invisible(c))
}

/// Returns whether a tool is called; a call without any part is a gap in the numbering of others.
fn calls_tools(view: &View) -> bool {
    view.tool_calls.iter().any(json::is_call)
}

/// Returns at most [`QUOTE_CHARS_MAX`] characters from the start, on one line.
pub fn quote(text: &str) -> String {
    let mut shown: String = text
        .trim()
        .chars()
        .take(QUOTE_CHARS_MAX)
        .map(|c| if c.is_control() || c.is_whitespace() { ' ' } else { c })
        .collect();
    if text.trim().chars().nth(QUOTE_CHARS_MAX).is_some() {
        shown.pop();
        shown.push('…');
    }
    shown
}

#[cfg(test)]
pub mod tests;
