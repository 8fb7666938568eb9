//! Personal data and secrets of known formats -> marks such as `[EMAIL]`; everything beside them stays byte for byte.
//!
//! Finds what has a format: it does not understand sentences, so a name in running text stays. Every pattern is
//! bounded, but for the end of what it finds, and the regex library is linear, so the time grows with the text and with nothing else. Redacting a
//! redacted text changes nothing: marks split a text into parts that are read each for itself, and what is left of
//! a part after its finds were taken out is read again until nothing is found.
//!
//! Own patterns, because the libraries of this kind that exist know a few formats each, most without checks of
//! digits, and none knows names, IBANs, keys of model providers and forms of several countries together.

mod checks;
mod contacts;
mod names;
mod numbers;
mod secrets;

use std::{borrow::Cow, collections::BTreeMap, ops::Range, sync::LazyLock};

use regex::{Regex, RegexSet, RegexSetBuilder};

/// How often what is left beside finds is read again. Each time something is found at an end that the time before
/// was hidden by its neighbour, so two are usual; a text made to need more loses what is left over as a whole.
const READINGS_MAX: usize = 8;
/// A candidate that its check refuses may hide one that begins inside it, as a year before the digits of a card. It
/// is looked for only in short candidates: the time stays linear.
const REREAD_BYTES_MAX: usize = 48;
/// Memory of the gates' lazy automaton, bytes.
const GATES_CACHE_BYTES_MAX: usize = 8 << 20;

/// What kind of thing was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Email,
    Phone,
    Card,
    Iban,
    /// Of a person or a device: national id, tax id, passport, MAC address.
    Id,
    Ip,
    Name,
    Password,
    Key,
    Token,
    /// What was left of a text that needed too many readings.
    Text,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Email,
        Self::Phone,
        Self::Card,
        Self::Iban,
        Self::Id,
        Self::Ip,
        Self::Name,
        Self::Password,
        Self::Key,
        Self::Token,
        Self::Text,
    ];

    /// Returns what stands in a text instead.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Email => "[EMAIL]",
            Self::Phone => "[PHONE]",
            Self::Card => "[CARD]",
            Self::Iban => "[IBAN]",
            Self::Id => "[ID]",
            Self::Ip => "[IP]",
            Self::Name => "[NAME]",
            Self::Password => "[PASSWORD]",
            Self::Key => "[KEY]",
            Self::Token => "[TOKEN]",
            Self::Text => "[TEXT]",
        }
    }
}

/// A text without what may not be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redacted<'a> {
    /// Borrowed when nothing was found.
    pub text: Cow<'a, str>,
    /// How many places were replaced.
    pub count: u32,
}

/// A place to be replaced, in bytes of the original text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Find {
    pub kind: Kind,
    pub range: Range<usize>,
}

/// Returns `text` with everything that [`find`] finds replaced by its mark.
pub fn redact(text: &str) -> Redacted<'_> {
    let finds = find(text);
    if finds.is_empty() {
        return Redacted { text: Cow::Borrowed(text), count: 0 };
    }
    let mut redacted = String::with_capacity(text.len());
    let mut done = 0;
    for Find { kind, range } in &finds {
        redacted.push_str(&text[done..range.start]);
        redacted.push_str(kind.mark());
        done = range.end;
    }
    redacted.push_str(&text[done..]);
    Redacted { text: Cow::Owned(redacted), count: u32::try_from(finds.len()).unwrap_or(u32::MAX) }
}

/// Returns the places that hold personal data or secrets, in order, none of them overlapping another.
pub fn find(text: &str) -> Vec<Find> {
    let open: Vec<usize> = PATTERNS.gates.matches(text).into_iter().collect();
    if open.is_empty() {
        return Vec::new();
    }
    let mut finds = Vec::new();
    let mut parts = between(0..text.len(), MARKS.find_iter(text).map(|mark| mark.range()));
    for reading in 0..=READINGS_MAX {
        let mut left = Vec::new();
        for part in parts {
            let mut found = read(&text[part.clone()], part.start, &open);
            if found.is_empty() {
                continue;
            }
            if reading == READINGS_MAX {
                finds.push(Find { kind: Kind::Text, range: part });
                continue;
            }
            left.extend(between(part, found.iter().map(|find| find.range.clone())));
            finds.append(&mut found);
        }
        parts = left;
    }
    finds.sort_by_key(|find| find.range.start);
    finds
}

/// One format: how it looks and what it must fulfil.
struct Pattern {
    kind: Kind,
    /// Matches, quickly and without Unicode, wherever `expression` could. All gates are tried in one pass, and most
    /// texts open none.
    gate: &'static str,
    /// Bounded in length, but for a run of signs at its end: a secret is taken to its end. Its first group is what is replaced; without one, all of it.
    expression: &'static str,
    /// Returns what is to be replaced of what the expression found; `None` to leave it.
    check: fn(&Candidate<'_>) -> Option<Range<usize>>,
}

/// What an expression found: where, in the part of the text that is read.
struct Candidate<'a> {
    text: &'a str,
    range: Range<usize>,
}

impl<'a> Candidate<'a> {
    fn as_str(&self) -> &'a str {
        &self.text[self.range.clone()]
    }

    fn before(&self) -> &'a str {
        &self.text[..self.range.start]
    }

    fn after(&self) -> &'a str {
        &self.text[self.range.end..]
    }

    /// All of it, if `holds`.
    fn when(&self, holds: bool) -> Option<Range<usize>> {
        holds.then(|| self.range.clone())
    }
}

/// Takes whatever the expression found.
fn always(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    Some(candidate.range.clone())
}

struct Patterns {
    gates: RegexSet,
    expressions: Vec<(&'static Pattern, Regex)>,
}

/// In this order they claim places: the narrow formats first.
static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let all =
        || secrets::PATTERNS.iter().chain(numbers::PATTERNS).chain(contacts::PATTERNS).chain(names::PATTERNS);
    Patterns {
        gates: RegexSetBuilder::new(all().map(|pattern| pattern.gate))
            .dfa_size_limit(GATES_CACHE_BYTES_MAX)
            .build()
            .expect("a test compiles every pattern"),
        expressions: all()
            .map(|pattern| (pattern, Regex::new(pattern.expression).expect("a test compiles every pattern")))
            .collect(),
    }
});

static MARKS: LazyLock<Regex> = LazyLock::new(|| {
    let marks = Kind::ALL.map(|kind| regex::escape(kind.mark())).join("|");
    Regex::new(&marks).expect("a test compiles every pattern")
});

/// Returns what the patterns whose gates are open find in a part that begins at `offset`, the first of them winning
/// each place.
fn read(part: &str, offset: usize, open: &[usize]) -> Vec<Find> {
    let mut claimed = Claimed::default();
    for at in open {
        let (pattern, expression) = &PATTERNS.expressions[*at];
        let mut from = 0;
        while from < part.len() {
            let Some(candidate) = next(expression, part, from) else { break };
            let Range { start, end } = candidate.range;
            from = match (pattern.check)(&candidate) {
                Some(range) if !range.is_empty() => {
                    let next = range.end.max(end);
                    claimed.claim(range, pattern.kind);
                    next
                }
                Some(_) | None if end - start <= REREAD_BYTES_MAX => {
                    start + part[start..].chars().next().map_or(1, char::len_utf8)
                }
                Some(_) | None => end,
            };
        }
    }
    let moved = |(start, (end, kind))| Find { kind, range: start + offset..end + offset };
    claimed.by_start.into_iter().map(moved).collect()
}

fn next<'a>(expression: &Regex, text: &'a str, from: usize) -> Option<Candidate<'a>> {
    let range = if expression.captures_len() > 1 {
        let captures = expression.captures_at(text, from)?;
        captures.get(1).or_else(|| captures.get(0))?.range()
    } else {
        expression.find_at(text, from)?.range()
    };
    Some(Candidate { text, range })
}

/// Places that do not overlap, in their order.
#[derive(Default)]
struct Claimed {
    by_start: BTreeMap<usize, (usize, Kind)>,
}

impl Claimed {
    /// Takes a place for a kind, unless some of it is taken.
    fn claim(&mut self, range: Range<usize>, kind: Kind) {
        let taken =
            self.by_start.range(..range.end).next_back().is_some_and(|(_, (end, _))| *end > range.start);
        if !taken {
            self.by_start.insert(range.start, (range.end, kind));
        }
    }
}

/// Returns what of `whole` lies between `taken`, which are in order.
fn between(whole: Range<usize>, taken: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut from = whole.start;
    for range in taken {
        if range.start > from {
            parts.push(from..range.start);
        }
        from = range.end;
    }
    if whole.end > from {
        parts.push(from..whole.end);
    }
    parts
}

#[cfg(test)]
mod set_tests;
#[cfg(test)]
mod tests;
