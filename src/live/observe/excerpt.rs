//! A request -> a copy of what a classifier reads of it, bounded. Pure.
//!
//! Far more than any classifier reads is kept, so that the scores are the same; a rule that looks for something in the
//! middle of a long text may not find it.

use crate::prompt::{Message, Prompt, Role};

/// The latest messages; bundles read a handful.
const MESSAGES_MAX: usize = 24;
/// Kept of the beginning and of the end of the message to judge, bytes: four times what the shipped bundle reads of
/// either, in the widest script.
const JUDGED_BYTES: usize = 32 << 10;
/// The same for every other message.
const BESIDE_BYTES: usize = 2 << 10;
/// What a request takes beside its texts, bytes.
const REQUEST_BYTES: usize = 2048;

/// Copies what is needed; the length is stated where less than all is left.
pub fn of(prompt: &Prompt, prompt_tokens: u32) -> Prompt {
    let judged = prompt.judged_index();
    let first_system = prompt.messages.iter().position(|message| message.role == Role::System);
    let latest = prompt.messages.len().saturating_sub(MESSAGES_MAX);
    let is_kept = |at: usize| at == judged || Some(at) == first_system || at >= latest;
    let mut cut = false;
    let messages = prompt.messages.iter().enumerate().filter(|&(at, _)| is_kept(at));
    let messages: Vec<Message> = messages
        .map(|(at, message)| {
            let end_bytes = if at == judged { JUDGED_BYTES } else { BESIDE_BYTES };
            let content = ends(&message.content, end_bytes);
            cut |= content.len() < message.content.len();
            Message { role: message.role, content }
        })
        .collect();
    cut |= messages.len() < prompt.messages.len();
    let mut shape = prompt.shape;
    if cut {
        shape.prompt_tokens = shape.prompt_tokens.or(Some(prompt_tokens));
    }
    Prompt {
        messages,
        context: prompt.context.clone(),
        shape,
        preferences: prompt.preferences.clone(),
        tier_cap: prompt.tier_cap.clone(),
        explain: false,
    }
}

/// Returns about how much memory it takes, bytes.
pub fn weight(prompt: &Prompt) -> usize {
    let messages = prompt.messages.iter().map(|message| size_of::<Message>() + message.content.len());
    let tags = prompt.context.tags.iter().map(|tag| size_of::<String>() + tag.len());
    REQUEST_BYTES + messages.sum::<usize>() + tags.sum::<usize>()
}

/// Returns beginning and end of a text, each of this length; a shorter one whole.
fn ends(text: &str, end_bytes: usize) -> String {
    if text.len() <= 2 * end_bytes {
        return text.to_owned();
    }
    let (head, tail) = (text.floor_char_boundary(end_bytes), text.ceil_char_boundary(text.len() - end_bytes));
    [&text[..head], &text[tail..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        prompt::{Context, Preferences, Shape},
        routing::classifier::{Excerpt, scripted},
    };

    fn prompt(messages: Vec<(Role, String)>) -> Prompt {
        Prompt {
            messages: messages.into_iter().map(|(role, content)| Message { role, content }).collect(),
            context: Context::default(),
            shape: Shape::default(),
            preferences: Preferences::default(),
            tier_cap: None,
            explain: false,
        }
    }

    /// The classifier must read the same of the copy, which must be at most `bytes_max` long.
    #[track_caller]
    fn check(messages: Vec<(Role, String)>, bytes_max: usize, stated: Option<u32>) {
        let whole = prompt(messages);
        let copy = of(&whole, 777);
        assert!(weight(&copy) <= bytes_max, "{}", weight(&copy));
        assert_eq!(Excerpt::of(&copy, &scripted::INPUT), Excerpt::of(&whole, &scripted::INPUT));
        assert_eq!(copy.shape.prompt_tokens, stated);
    }

    #[test]
    fn the_classifier_reads_the_same_of_the_copy() {
        let long = |of: &str| of.repeat(200_000);
        check(vec![(Role::User, "hello".to_owned())], 3 << 10, None);
        check(vec![(Role::System, long("be brief. ")), (Role::User, long("ж"))], 80 << 10, Some(777));
        check(vec![(Role::User, long("😀 ")), (Role::Assistant, long("yes"))], 80 << 10, Some(777));
        let turns = (0..1000).map(|turn| match turn % 2 {
            0 => (Role::User, format!("question {turn} {}", "long ".repeat(2000))),
            _ => (Role::Assistant, format!("answer {turn} {}", "long ".repeat(2000))),
        });
        let system = std::iter::once((Role::System, long("rules ")));
        check(system.chain(turns).collect(), 170 << 10, Some(777));
        let answers = (0..50).map(|_| (Role::Assistant, "more".to_owned()));
        let early = std::iter::once((Role::User, "ask".to_owned()));
        check(early.chain(answers).collect(), 8 << 10, Some(777));
    }
}
