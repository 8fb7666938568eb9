//! Many regular expressions over one text in one pass, exactly and fast in every script.
//!
//! The regex library falls back to an engine some four hundred times slower when a pattern with a
//! Unicode word boundary (`\b`) meets a character outside ASCII. So one automaton runs all patterns
//! without their word boundaries, which can only match more, and each that matched and had some is
//! then asked again exactly, alone.

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use regex_syntax::hir::{Capture, Hir, HirKind, Repetition};

/// Compiled size of all patterns over one text, bytes.
const SET_COMPILED_BYTES_MAX: usize = 64 << 20;
/// Memory of the lazy automaton of one set, bytes; 500 patterns thrash the library's default.
const SET_CACHE_BYTES_MAX: usize = 16 << 20;

/// Patterns that are matched together.
#[derive(Debug)]
pub struct PatternSet {
    coarse: RegexSet,
    /// The pattern itself where `coarse` holds it without its word boundaries.
    exact: Vec<Option<Regex>>,
}

impl PatternSet {
    /// Compiles the patterns; fails when they are too large together.
    pub fn compile(patterns: &[String]) -> Result<Self, regex::Error> {
        let mut coarse = Vec::with_capacity(patterns.len());
        let mut exact = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            match without_word_boundaries(pattern) {
                Some(wider) => {
                    coarse.push(wider);
                    exact.push(Some(RegexBuilder::new(pattern).size_limit(SET_COMPILED_BYTES_MAX).build()?));
                }
                None => {
                    coarse.push(pattern.clone());
                    exact.push(None);
                }
            }
        }
        let coarse = RegexSetBuilder::new(coarse)
            .size_limit(SET_COMPILED_BYTES_MAX)
            .dfa_size_limit(SET_CACHE_BYTES_MAX)
            .build()?;
        Ok(Self { coarse, exact })
    }

    /// Returns for each pattern, in their order, whether it matches somewhere in `text`.
    pub fn matches(&self, text: &str) -> Vec<bool> {
        let mut matched = vec![false; self.exact.len()];
        for at in &self.coarse.matches(text) {
            matched[at] = self.exact[at].as_ref().is_none_or(|exact| exact.is_match(text));
        }
        matched
    }
}

/// Returns a pattern that matches wherever this one does, without Unicode word boundaries; `None`
/// when it has none.
fn without_word_boundaries(pattern: &str) -> Option<String> {
    let hir = regex_syntax::parse(pattern).ok()?;
    hir.properties().look_set().contains_word_unicode().then(|| widen(&hir).to_string())
}

fn widen(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Look(_) if hir.properties().look_set().contains_word_unicode() => Hir::empty(),
        HirKind::Repetition(repetition) => {
            Hir::repetition(Repetition { sub: Box::new(widen(&repetition.sub)), ..repetition.clone() })
        }
        HirKind::Capture(capture) => {
            Hir::capture(Capture { sub: Box::new(widen(&capture.sub)), ..capture.clone() })
        }
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(widen).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(widen).collect()),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => hir.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn word_boundaries_are_kept_exactly() {
        let patterns = [r"\bcafé\b", r"(?i)\b(?:cat|dog)s?\b", r"^a\B", "plain"].map(str::to_owned);
        let set = PatternSet::compile(&patterns).unwrap();
        for (text, expected) in [
            ("un café noir", [true, false, false, false]),
            ("cafés", [false, false, false, false]),
            ("Dogs, 日本", [false, true, false, false]),
            ("concatenate", [false, false, false, false]),
            ("ab plain", [false, false, true, true]),
        ] {
            assert_eq!(set.matches(text), expected, "{text}");
        }
    }

    #[test]
    fn only_unicode_word_boundaries_are_taken_out() {
        assert_eq!(without_word_boundaries("a+b"), None);
        assert_eq!(without_word_boundaries(r"(?-u:\b)a"), None);
        assert!(without_word_boundaries(r"\ba").is_some());
    }

    proptest! {
        #[test]
        fn the_set_agrees_with_each_pattern_alone(text in "[a-cé日 .]{0,30}") {
            let patterns = [r"\ba", r"b\b", r"(?:\bc\b|é\B)+", r"a.*\b日", r"(\B[abc]\b){2,3}"].map(str::to_owned);
            let alone: Vec<bool> = patterns.iter().map(|p| Regex::new(p).unwrap().is_match(&text)).collect();
            prop_assert_eq!(PatternSet::compile(&patterns).unwrap().matches(&text), alone);
        }
    }
}
