//! Whether two questions are nearly the same, by hashes of the words that carry their meaning.
//!
//! Who asks again adds words, drops some or corrects a spelling. Who asks something new with the same template
//! exchanges one: "a poem about cats", "a poem about dogs". So exchanged words make two questions.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
    sync::LazyLock,
};

/// Read of each end of a question; between them stands what was pasted.
const END_BYTES_MAX: usize = 1024;
/// Remembered of one question.
const WORDS_MAX: usize = 128;
/// With fewer, questions such as "and now?" would all be the same.
const WORDS_MIN: usize = 2;
/// Share of the words of both questions that they have in common (Jaccard). Lower is a follow-up more often than a
/// second attempt, by the table in the tests.
const COMMON_MIN: f64 = 0.6;
/// Shorter words differ by one letter too often, as "cat" and "cut".
const MISSPELLED_CHARS_MIN: u8 = 4;
/// From here on stand the scripts that write words without spaces; pairs of characters are their words.
const FIRST_UNSPACED: char = '\u{2e80}';

/// One word, by what is compared of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Word {
    hash: u32,
    /// One bit a letter; several share a bit outside the Latin alphabet.
    letters: u32,
    /// At most 255.
    chars: u8,
    /// Letters of a script with spaces only: a number is never a misspelled number.
    spelled: bool,
}

/// Returns the words of a question that carry meaning, each once, in the order of their hashes.
pub(super) fn content_words(question: &str, hashing: &RandomState) -> Box<[Word]> {
    let mut words = Vec::new();
    let mut word = String::new();
    for end in ends(question) {
        let mut before = None;
        for c in end.chars() {
            if c >= FIRST_UNSPACED && c.is_alphanumeric() {
                push(&mut words, &mut word, hashing);
                if let Some(before) = before.replace(c) {
                    word.extend([before, c]);
                    push(&mut words, &mut word, hashing);
                }
                continue;
            }
            before = None;
            if c.is_ascii_alphanumeric() {
                word.push(c.to_ascii_lowercase());
            } else if c.is_alphanumeric() {
                word.extend(c.to_lowercase());
            } else {
                push(&mut words, &mut word, hashing);
            }
        }
        push(&mut words, &mut word, hashing);
    }
    words.truncate(WORDS_MAX);
    words.sort_unstable();
    words.dedup();
    words.into_boxed_slice()
}

/// Returns whether two questions are the same in nearly the same words.
pub(super) fn same_question(earlier: &[Word], later: &[Word]) -> bool {
    if earlier.len() < WORDS_MIN || later.len() < WORDS_MIN {
        return false;
    }
    let only = |these: &[Word], those: &[Word]| -> Vec<Word> {
        these.iter().filter(|word| those.binary_search(word).is_err()).copied().collect()
    };
    let mut dropped = only(earlier, later);
    let mut added = only(later, earlier);
    let mut common = earlier.len() - dropped.len();
    dropped.retain(|word| match added.iter().position(|other| misspelled(*word, *other)) {
        Some(at) => {
            added.swap_remove(at);
            common += 1;
            false
        }
        None => true,
    });
    let exchanged = !dropped.is_empty() && !added.is_empty();
    let all = common + dropped.len() + added.len();
    !exchanged && common as f64 >= COMMON_MIN * all as f64
}

/// Returns whether one is the other with two letters swapped, or with one more.
fn misspelled(one: Word, other: Word) -> bool {
    let differing = (one.letters ^ other.letters).count_ones();
    let longer = one.chars.abs_diff(other.chars);
    one.spelled
        && other.spelled
        && one.chars.min(other.chars) >= MISSPELLED_CHARS_MIN
        && matches!((longer, differing), (0, 0) | (1, 0 | 1))
}

fn push(words: &mut Vec<Word>, word: &mut String, hashing: &RandomState) {
    if words.len() < WORDS_MAX && !word.is_empty() && !FILLER_SET.contains(word.as_str()) {
        let letters = word.chars().fold(0, |letters, c| letters | 1 << (u32::from(c) % u32::BITS));
        let hash = hashing.hash_one(word.as_str());
        words.push(Word {
            // Half of it tells 128 words apart well enough.
            hash: hash as u32,
            letters,
            chars: u8::try_from(word.chars().count()).unwrap_or(u8::MAX),
            spelled: word.chars().all(|c| c.is_alphabetic() && c < FIRST_UNSPACED),
        });
    }
    word.clear();
}

/// Returns the first and the last part of a long text, all of a short one.
fn ends(text: &str) -> [&str; 2] {
    if text.len() <= 2 * END_BYTES_MAX {
        return [text, ""];
    }
    let head = text.floor_char_boundary(END_BYTES_MAX);
    let tail = text.ceil_char_boundary(text.len() - END_BYTES_MAX);
    [&text[..head], &text[tail..]]
}

/// Words that say little about what is asked, and those that ask to go on: articles, pronouns, politeness, "again",
/// "continue". Of five languages.
const FILLERS: &str = "\
    again continue a aber actually adesso again ahora al alla also am an anche ancora and are as at \
    au auch auf aussi aux avanti avec be been bitte bonjour but by c can ce cet cette che ciao con \
    continua continue cosa could d da danke dans das de dein del della dem den der des di dich did \
    die dir do doch does du e ed ein eine einem einen einer el elle en encore er es est et favor \
    favore for from für gli go gracias grazie hallo he hello her here hey hi his hola i ich if ihr \
    il im in io is ist it its j ja je jetzt just kann kannst könntest l la las le lei les let lets \
    like ll lo los lui m ma maintenant mais mal may me mein merci mes mi mia mich might mine mio mir \
    mis mit mon more must my n need nein nel nella next nicht no noch nochmal noi non nosotros not \
    nous now nur o oder of ok okay on once or ora otra ou oui our par para pas per pero peut peux \
    plaît please pls por pour pouvez proceed puede puedes puoi può qu que qui quoi qué re really s \
    se shall she should si sie sigue siguiente sind so son sono sont sorry step still su suite \
    suivant sur sì sí t ta te than thank thanks that the their them then there these they this those \
    time to ton try tu tua tuo tus tú un una unas und une uno unos uns up us usted ve vez voi von \
    vous want war was we weiter well were what wie wieder will wir with would y yes yo you your zu \
    zum zur à ça è";

static FILLER_SET: LazyLock<HashSet<&str>> = LazyLock::new(|| FILLERS.split_whitespace().collect());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_questions_are_read_at_both_ends() {
        let hashing = RandomState::new();
        let pasted = "é".repeat(5000);
        let words = |question: &str| content_words(question, &hashing);
        let read = words(&format!("first {pasted} last"));
        for end in ["first", "last"] {
            assert!(read.contains(&words(end)[0]), "{end}");
        }
        let many: String = (0..500).map(|n| format!("word{n} ")).collect();
        assert!(words(&many).len() <= WORDS_MAX);
    }
}
