//! The language of a prompt, detected or stated, and whether the classifier reads it well.
//!
//! Detection costs up to 70 microseconds, twice that in a conversation whose last turn leaves it in
//! doubt: it is for rules that ask and for prompts that were scored.

use std::{collections::BTreeSet, sync::LazyLock};

use isolang::Language;
use serde::Deserialize;
use whatlang::{Detector, Info, Lang, Script};

use crate::prompt::Prompt;

/// Characters that detection reads.
const READ_CHARS_MAX: usize = 200;
/// Characters searched for those: code blocks before them are left out.
const SEARCHED_CHARS_MAX: usize = 2000;
const CODE_FENCE: &str = "```";

/// Without Latin and Esperanto: next to nobody prompts in them, and as runners-up they only take certainty
/// from others.
static DETECTOR: LazyLock<Detector> = LazyLock::new(|| Detector::with_denylist(vec![Lang::Lat, Lang::Epo]));

/// What a text shows of its language.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Detected {
    /// Of most letters; `None` without letters.
    pub script: Option<Script>,
    /// ISO 639-1; `None` when it cannot be told reliably.
    pub language: Option<&'static str>,
}

impl Detected {
    /// Returns whether a text that shows this could be in the language of this code.
    fn may_be(self, code: &str) -> bool {
        match (self.language, self.script) {
            // A few words of Japanese may hold Chinese characters only.
            (Some("zh"), _) => ["zh", "ja"].contains(&code),
            (Some(language), _) => language == code,
            // Of a language that is not known here, the script is not known either.
            (None, Some(script)) => languages_of(script).contains(&code) || !is_detectable(code),
            (None, None) => false,
        }
    }
}

/// Returns the language that the caller stated, without its region; `None` when nothing was stated.
pub fn stated(prompt: &Prompt) -> Option<&str> {
    prompt.context.language.split(['-', '_']).next().map(str::trim).filter(|language| !language.is_empty())
}

/// Returns what the start of `text` shows.
pub fn detect(text: &str) -> Detected {
    detect_prose(&prose(&[text]))
}

/// Returns what a user's turns show, nearest first: the first of them, or all together where it leaves the
/// language in doubt.
pub fn detect_turns(turns: &[&str]) -> Detected {
    let [last, _, ..] = turns else {
        return turns.first().map_or_else(Detected::default, |last| detect(last));
    };
    let last = detect(last);
    if last.language.is_some() {
        return last;
    }
    let all = detect_prose(&prose(turns));
    // "ok" is said in every language; a word in letters of its own speaks for itself.
    let fits = matches!(last.script, None | Some(Script::Latin)) || last.script == all.script;
    if fits && all.language.is_some() { all } else { last }
}

fn detect_prose(prose: &str) -> Detected {
    let language = DETECTOR.detect(prose).filter(Info::is_reliable).and_then(|info| iso_639_1(info.lang()));
    Detected { script: whatlang::detect_script(prose), language }
}

/// Returns the first characters of these texts outside of code blocks.
fn prose(texts: &[&str]) -> String {
    // Every second part lies between fences.
    texts
        .iter()
        .flat_map(|text| head(text, SEARCHED_CHARS_MAX).split(CODE_FENCE).step_by(2))
        .flat_map(|part| part.chars().chain([' ']))
        .take(READ_CHARS_MAX)
        .collect()
}

fn head(text: &str, chars: usize) -> &str {
    text.char_indices().nth(chars).map_or(text, |(end, _)| &text[..end])
}

fn iso_639_1(language: Lang) -> Option<&'static str> {
    match language {
        // Members of a macrolanguage, which alone has a code of two letters.
        Lang::Cmn => Some("zh"),
        Lang::Pes => Some("fa"),
        other => Language::from_639_3(other.code())?.to_639_1(),
    }
}

/// Bokmål and Nynorsk are Norwegian to whoever lists what a classifier reads.
fn without_variant(code: &'static str) -> &'static str {
    match code {
        "nb" | "nn" => "no",
        other => other,
    }
}

/// The languages that a classifier reads well, as its bundle measured them; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct ReadLanguages(BTreeSet<&'static str>);

/// The language or script of a prompt that the classifier does not read well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unread {
    /// For a person: "Thai", "the Cyrillic script".
    pub name: &'static str,
    /// ISO 639-1, or the script's name, for metrics.
    pub label: &'static str,
}

impl TryFrom<Vec<String>> for ReadLanguages {
    type Error = String;

    /// Takes codes of ISO 639-1.
    fn try_from(codes: Vec<String>) -> Result<Self, String> {
        if codes.is_empty() {
            return Err("no language is read".to_owned());
        }
        let known = |code: &String| {
            let language = Language::from_639_1(code).and_then(|language| language.to_639_1());
            language.map(without_variant).ok_or_else(|| format!("{code:?} is no code of ISO 639-1"))
        };
        codes.iter().map(known).collect::<Result<_, _>>().map(Self)
    }
}

impl ReadLanguages {
    /// Returns the language or script of a prompt when it is none of these; `None` when in doubt. What the
    /// caller stated may be the language of a user interface: it counts only where the text leaves a doubt
    /// and could be in it.
    pub fn unread(&self, detected: Detected, prompt: &Prompt) -> Option<Unread> {
        match stated(prompt).and_then(code_stated).filter(|code| detected.may_be(code)) {
            Some(code) => (!self.reads(code)).then(|| named(code)),
            None => self.unread_text(detected),
        }
    }

    /// Returns the language or script of a text when it is none of these; `None` when in doubt.
    pub fn unread_text(&self, detected: Detected) -> Option<Unread> {
        let script = detected.script?;
        if let Some(code) = detected.language {
            return (!self.reads(code)).then(|| named(code));
        }
        // No language for certain, but none that is read is written like this.
        let written = languages_of(script);
        match written.as_slice() {
            _ if written.iter().any(|code| self.reads(code)) => None,
            [code] => Some(named(code)),
            _ => Some(Unread { name: script_in_words(script), label: script_label(script) }),
        }
    }

    fn reads(&self, code: &'static str) -> bool {
        self.0.contains(without_variant(code))
    }
}

/// Returns the code of what a caller stated, "de" or "deu" in any case; `None` when it is no language.
fn code_stated(text: &str) -> Option<&'static str> {
    let text = text.to_ascii_lowercase();
    Language::from_639_1(&text).or_else(|| Language::from_639_3(&text))?.to_639_1()
}

fn named(code: &'static str) -> Unread {
    let name = Language::from_639_1(code).map_or(code, |language| language.to_name());
    // "Swahili (macrolanguage)"
    Unread { name: name.split(" (").next().unwrap_or(name), label: code }
}

fn languages_of(script: Script) -> Vec<&'static str> {
    script.langs().iter().filter_map(|&language| iso_639_1(language)).collect()
}

/// Returns whether detection knows the language of this code.
fn is_detectable(code: &str) -> bool {
    Lang::all().iter().any(|&language| iso_639_1(language) == Some(code))
}

fn script_in_words(script: Script) -> &'static str {
    match script {
        Script::Arabic => "the Arabic script",
        Script::Cyrillic => "the Cyrillic script",
        Script::Devanagari => "the Devanagari script",
        Script::Hebrew => "the Hebrew script",
        Script::Latin => "the Latin script",
        // The others are each written by one language that is known here.
        _ => "a script",
    }
}

fn script_label(script: Script) -> &'static str {
    match script {
        Script::Arabic => "arabic",
        Script::Cyrillic => "cyrillic",
        Script::Devanagari => "devanagari",
        Script::Hebrew => "hebrew",
        Script::Latin => "latin",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{config::default_config, prompt::Draft, routing::admit::admit};

    fn unread(read: &[&str], text: &str, stated: &str) -> Option<&'static str> {
        let codes: Vec<String> = read.iter().map(ToString::to_string).collect();
        let mut draft = Draft::from_text(text);
        draft.context.language = stated.to_owned();
        let prompt = admit(draft, &default_config()).unwrap();
        ReadLanguages::try_from(codes).unwrap().unread(detect(text), &prompt).map(|unread| unread.name)
    }

    #[test]
    fn only_what_is_surely_not_read_is_unread() {
        const THAI: &str = "ช่วยสรุปรายงานการประชุมนี้ให้หน่อย";
        const GERMAN: &str = "Könnten Sie mir bitte erklären, wie die Umsatzsteuer berechnet wird?";
        for (read, text, stated, expected) in [
            (&["en"][..], "Please summarise the minutes of this meeting for the board", "", None),
            (&["en"], THAI, "", Some("Thai")),
            (&["en", "th"], THAI, "", None),
            // One word in Thai letters is enough.
            (&["en"], "ราคา?", "", Some("Thai")),
            (&["en"], GERMAN, "", Some("German")),
            (&["en", "de"], GERMAN, "", None),
            // Too short to tell.
            (&["en"], "ok", "", None),
            (&["en"], "Taxi, bitte", "", None),
            (&["en"], "", "", None),
            (&["en"], "12 + 30 = ?", "", None),
            (&["en"], "🎉🎉", "", None),
            // What the caller states counts in doubt.
            (&["en"], "ok", "de-AT", Some("German")),
            (&["en"], "ok", "DEU", Some("German")),
            (&["en"], "ok", "sw", Some("Swahili")),
            (&["en"], "ok", "klingon", None),
            (&["en", "no"], "ok", "nb", None),
            (&["en", "ru"], "да", "uk", Some("Ukrainian")),
            (&["en", "ja"], "価格", "ja", None),
            // A user interface in another language does not change what was written.
            (&["en"], "Please summarise the minutes of this meeting for the board", "de", None),
            (&["en", "de"], THAI, "de", Some("Thai")),
            (&["en"], GERMAN, "en-US", Some("German")),
            (&["en"], "да", "en", Some("the Cyrillic script")),
            (&["en", "ru"], "да", "pl", None),
            (&["en"], "12 + 30 = ?", "de", None),
            // Several languages share a script, and which one it is cannot be told.
            (&["en"], "да", "", Some("the Cyrillic script")),
            (&["en", "ru"], "да", "", None),
            (&["en"], "価格", "", Some("Chinese")),
            (&["en", "zh"], "请把下面这句话翻译成英文：明天早上九点开会。", "", None),
            (&["en", "ja"], "東京から京都まで新幹線でどのくらいかかりますか？", "", None),
            (&["en"], "東京から京都まで新幹線でどのくらいかかりますか？", "", Some("Japanese")),
        ] {
            assert_eq!(unread(read, text, stated), expected, "{read:?} {text:?} {stated:?}");
        }
    }

    #[test]
    fn earlier_turns_count_where_the_last_leaves_a_doubt() {
        const THAI: &str = "ช่วยสรุปรายงานการประชุมนี้ให้หน่อย";
        const GERMAN: &str = "Könnten Sie mir bitte erklären, wie die Umsatzsteuer berechnet wird?";
        const RUSSIAN: &str =
            "Продаю квартиру, которую купил четыре года назад: что будет с налогом и как не потерять вычет?";
        const ENGLISH: &str = "Please summarise the minutes of this meeting for the board";
        for (turns, expected) in [
            (&["ok", GERMAN][..], Some("de")),
            (&["ok", THAI], Some("th")),
            (&["👍", "ok", GERMAN], Some("de")),
            (&[ENGLISH, GERMAN], Some("en")),
            (&["ok", "yes"], None),
            (&["да", ENGLISH], None),
            (&["да", RUSSIAN], Some("ru")),
            (&["```\nlet x", GERMAN], Some("de")),
            (&["ok"], None),
            (&[], None),
        ] {
            assert_eq!(detect_turns(turns).language, expected, "{turns:?}");
        }
        assert_eq!(detect_turns(&["да", ENGLISH]).script, Some(Script::Cyrillic));
    }

    #[test]
    fn nobody_prompts_in_latin_or_esperanto() {
        for text in [
            "Quousque tandem abutere, Catilina, patientia nostra?",
            "Ĉiuj homoj estas denaske liberaj kaj egalaj laŭ digno kaj rajtoj.",
        ] {
            assert!(!matches!(detect(text).language, Some("la" | "eo")), "{text}");
        }
    }

    #[test]
    fn code_blocks_are_left_out() {
        let fenced = format!("```\n{}\n```\nราคาเท่าไหร่", "let total = price * count;\n".repeat(20));
        assert_eq!(detect(&fenced).script, Some(Script::Thai));
        assert_eq!(detect("```rust\nfn main() {}\n```"), Detected::default());
        assert_eq!(unread(&["en"], "fn main() { println!(\"{}\", x.iter().sum::<u64>()); }", ""), None);
    }

    #[test]
    fn unknown_codes_are_refused() {
        let new = |codes: &[&str]| {
            ReadLanguages::try_from(codes.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(new(&["en", "xx"]).unwrap_err(), "\"xx\" is no code of ISO 639-1");
        assert!(new(&[]).is_err());
    }

    proptest! {
        #[test]
        fn what_is_read_is_bounded(text in "\\PC{0,300}", repeat in 0usize..20) {
            let text = text.repeat(repeat);
            prop_assert!(prose(&[&text, &text]).chars().count() <= READ_CHARS_MAX);
        }

        #[test]
        fn a_text_is_never_unread_when_every_language_is_read(text in "\\PC{0,120}") {
            let all: Vec<String> = Lang::all().iter().filter_map(|&l| iso_639_1(l)).map(str::to_owned).collect();
            prop_assert_eq!(ReadLanguages::try_from(all).unwrap().unread_text(detect(&text)), None);
        }
    }
}
