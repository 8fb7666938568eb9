//! A conversation that is too long to be kept -> what is kept of it. Pure.

use crate::prompt::{Message, Role};

/// Groups of digits that a cut may not leave behind at its end: numbers of cards, accounts and telephones are
/// written in up to that many, and half of one would not be recognised as what it is.
const DIGIT_GROUPS_MAX: usize = 8;

/// What is kept of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Oldest first.
    pub messages: Vec<Message>,
    /// Of the texts before anything was cut.
    pub bytes: u64,
    pub cut: bool,
}

/// Keeps at most `bytes_max` of the texts: of the message to judge first, then of system messages, then of the
/// latest turns. What does not fit is cut between words, so that nothing secret is halved.
pub fn cut(mut messages: Vec<Message>, judged: usize, bytes_max: usize) -> Kept {
    let bytes: usize = messages.iter().map(|message| message.content.len()).sum();
    if bytes <= bytes_max {
        return Kept { messages, bytes: bytes as u64, cut: false };
    }
    let mut left = bytes_max;
    for at in by_worth(&messages, judged) {
        let content = &mut messages[at].content;
        let kept = head(content, left).len();
        // What was left for a text that had to be cut is not given to one of less worth.
        left = if kept < content.len() { 0 } else { left - kept };
        content.truncate(kept);
        content.shrink_to_fit();
    }
    messages.retain(|message| !message.content.is_empty());
    Kept { messages, bytes: bytes as u64, cut: true }
}

/// Returns the places of the messages, those that are kept first coming first.
fn by_worth(messages: &[Message], judged: usize) -> Vec<usize> {
    let is_system = |at: &usize| messages[*at].role == Role::System;
    let others = (0..messages.len()).filter(|&at| at != judged);
    let (system, turns): (Vec<usize>, Vec<usize>) = others.partition(is_system);
    [judged].into_iter().chain(system).chain(turns.into_iter().rev()).collect()
}

/// Returns the beginning of a text, at most `bytes_max` long, that ends where a word does.
fn head(text: &str, bytes_max: usize) -> &str {
    if text.len() <= bytes_max {
        return text;
    }
    let head = &text[..text.floor_char_boundary(bytes_max)];
    let whole =
        if text[head.len()..].starts_with(char::is_whitespace) { head } else { before_last_word(head) };
    let mut kept = whole.trim_end();
    for _ in 0..DIGIT_GROUPS_MAX {
        let before = before_last_word(kept);
        if kept[before.len()..].contains(char::is_alphabetic) {
            break;
        }
        kept = before.trim_end();
    }
    kept
}

fn before_last_word(text: &str) -> &str {
    let Some((at, space)) = text.char_indices().rfind(|(_, c)| c.is_whitespace()) else { return "" };
    &text[..at + space.len_utf8()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(role: Role, content: &str) -> Message {
        Message { role, content: content.to_owned() }
    }

    #[test]
    fn a_text_ends_where_a_word_does() {
        let check =
            |text: &str, bytes_max: usize, expected: &str| assert_eq!(head(text, bytes_max), expected);
        check("one two three", 13, "one two three");
        check("one two three", 12, "one two");
        check("one two three", 8, "one two");
        check("one two three", 7, "one two");
        check("one two three", 6, "one");
        check("one\ntwo", 4, "one");
        check("sk-live-0123456789", 10, "");
        check("käse ist gut", 2, "");
        check("ein käse", 6, "ein");
        check("", 0, "");
        check("my card is 4111 1111 1111 1111 thanks", 26, "my card is");
        check("call +49 (0) 170 123 456", 20, "call");
        check("in 2024 we", 8, "in");
    }

    #[test]
    fn the_judged_turn_comes_first_then_system_then_the_latest() {
        let conversation = || {
            vec![
                message(Role::System, "be brief"),
                message(Role::User, "first words"),
                message(Role::Assistant, "an answer"),
                message(Role::User, "last words"),
            ]
        };
        let check = |bytes_max: usize, expected: &[(Role, &str)]| {
            let Kept { messages, bytes, cut } = cut(conversation(), 3, bytes_max);
            let expected: Vec<Message> =
                expected.iter().map(|(role, content)| message(*role, content)).collect();
            assert_eq!(messages, expected, "{bytes_max}");
            assert_eq!((bytes, cut), (38, bytes_max < 38), "{bytes_max}");
        };
        check(
            38,
            &[
                (Role::System, "be brief"),
                (Role::User, "first words"),
                (Role::Assistant, "an answer"),
                (Role::User, "last words"),
            ],
        );
        check(
            33,
            &[
                (Role::System, "be brief"),
                (Role::User, "first"),
                (Role::Assistant, "an answer"),
                (Role::User, "last words"),
            ],
        );
        check(27, &[(Role::System, "be brief"), (Role::Assistant, "an answer"), (Role::User, "last words")]);
        check(18, &[(Role::System, "be brief"), (Role::User, "last words")]);
        check(9, &[(Role::User, "last")]);
        check(0, &[]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_is_longer_than_allowed_and_every_word_is_whole(
            texts in prop::collection::vec("[a-zäß7 \n\u{2003}]{0,40}", 1..6),
            judged in 0_usize..6,
            bytes_max in 0_usize..120,
        ) {
            let messages: Vec<Message> = texts.iter().map(|text| message(Role::User, text)).collect();
            let judged = judged % messages.len();
            let kept = cut(messages, judged, bytes_max);
            let length: usize = kept.messages.iter().map(|message| message.content.len()).sum();
            prop_assert!(!kept.cut || length <= bytes_max);
            prop_assert_eq!(kept.cut, kept.bytes as usize > bytes_max);
            for message in &kept.messages {
                let whole = texts.iter().any(|text| {
                    text.strip_prefix(&*message.content)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
                });
                prop_assert!(whole, "{:?} of {:?}", message, texts);
            }
        }
    }
}
