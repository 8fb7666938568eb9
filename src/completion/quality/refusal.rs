//! Whether a model declined to answer.
//!
//! Reads the first sentences of a shortish answer against the small pattern set of `refusal_languages`. Rather
//! misses a refusal than takes an answer for one: escalation costs money, and the answer was wanted. Three
//! things are no refusal: words that the request asked for (a polite letter of refusal, a translation of "I
//! can't do that"), words in quotes, and plain inability ("I can't open the link"), which a stronger model
//! shares.
//!
//! Of strings in fourteen languages that were written after the patterns, 49 of 59 refusals were found and 1 of
//! 56 answers was taken for one; they joined the test set and the patterns learned from them.

use std::sync::LazyLock;

use regex::{Regex, RegexSet, RegexSetBuilder};

use super::{Checks, calls_tools, fold, is_blank, quote, refusal_languages::LANGUAGES, said};
use crate::{
    completion::answer::{Finish, View},
    prompt::{Intent, Prompt},
};

/// An answer of more characters than this helps in its own way, however it begins.
const ANSWER_CHARS_MAX: usize = 1200;
/// What a thread may keep of the automaton that it builds as it reads. With the library's 2 MB the patterns of
/// all languages outgrow it, and an answer takes 480 us instead of 3.
const AUTOMATON_BYTES_MAX: usize = 16 << 20;
/// Characters from the start in which a refusal declares itself.
const HEAD_CHARS_MAX: usize = 480;
/// Sentences that may lead up to it: thanks, an apology, sympathy.
const SENTENCES_MAX: usize = 4;
/// Characters from which on a start that is not an apology yet is taken to be none.
const START_CHARS_MIN: usize = 16;
/// Characters from which on the rest of an unfinished sentence hardly makes it something else ("... without
/// seeing the code").
const UNFINISHED_CHARS_MAX: usize = 120;
/// Characters at each end of a request's texts that may ask for a refusal.
const ASK_CHARS_MAX: usize = 1000;
/// Words of an answer's first sentence from which on finding them in the request is no chance.
const QUOTED_WORDS_MIN: usize = 3;
/// Intents whose answers carry the request's own words over.
const CARRYING_INTENTS: [&str; 5] =
    ["translation", "rewrite", "extraction", "summarization", "classification"];

/// What the start of an answer is.
#[derive(Debug, PartialEq)]
pub enum Reading {
    Refusal(String),
    /// It apologises, and what for is still to come.
    Open,
    Other,
}

/// Compiles this file's patterns.
pub fn prepare() {
    LazyLock::force(&SOUNDS);
}

/// Returns how the answer declines.
pub fn problem(view: &View, checks: &Checks<'_>) -> Option<String> {
    if let Some(why) = declared(view) {
        return Some(why);
    }
    if view.finish == Some(Finish::ContentFilter) {
        return Some("the provider's content filter stopped the answer".to_owned());
    }
    let answer = said(&view.text)?.trim();
    if calls_tools(view) || answer.chars().nth(ANSWER_CHARS_MAX).is_some() || answer.contains("```") {
        return None;
    }
    match read(answer, checks, true) {
        Reading::Refusal(why) => Some(why),
        Reading::Open | Reading::Other => None,
    }
}

/// Returns the refusal that the provider itself declares, apart from the text.
pub fn declared(view: &View) -> Option<String> {
    (!is_blank(&view.refusal)).then(|| format!("the model declined: \"{}\"", quote(&view.refusal)))
}

/// Reads the first characters of an answer of which more may come.
pub fn read_start(start: &str, checks: &Checks<'_>) -> Reading {
    read(start, checks, false)
}

/// How refusals sound, in every language at once.
struct Sounds {
    refusals: RegexSet,
    leads: RegexSet,
    /// What makes a sentence something else: praise, a hedge, a call for more information.
    exceptions: RegexSet,
    /// Requests for a refusal.
    asked: Regex,
    /// Operators who say what is to be declined.
    told: Regex,
    /// Requests that hand over words to be carried over.
    carried: Regex,
    /// Words of inability, in a text to be carried over.
    unable: Regex,
}

static SOUNDS: LazyLock<Sounds> = LazyLock::new(|| {
    let set = |patterns: Vec<String>| {
        let set = RegexSetBuilder::new(patterns).dfa_size_limit(AUTOMATON_BYTES_MAX).build();
        set.expect("the patterns are tested")
    };
    let one = |pattern: &str| Regex::new(pattern).expect("the patterns are tested");
    let refusals = LANGUAGES.iter().flat_map(|language| {
        let led = language.plain.iter().chain(language.led);
        let led = led.map(|core| format!("^ (?:{}){}(?:{core})", language.leads, language.gap));
        language.plain.iter().map(|core| format!("^ (?:{core})")).chain(led)
    });
    Sounds {
        refusals: set(refusals.collect()),
        leads: set(LANGUAGES
            .iter()
            .map(|language| format!("^ (?:{}){}", language.leads, language.lead_end()))
            .collect()),
        exceptions: set(LANGUAGES.iter().map(|language| language.exceptions.to_owned()).collect()),
        asked: one(concat!(
            " (?:refus[^ ]*|declin[^ ]*|reject[^ ]*|turn(?:ing|s|ed)? (?:[^ ]+ ){0,3}down|say(?:ing)? no|apolog[^ ]*|say(?:ing)? sorry",
            "|ablehn[^ ]*|absag[^ ]*|entschuldigungs[^ ]*|eine entschuldigung|weiger[^ ]*|nein sag[^ ]*|decliner|refuser|d'excuses?",
            "|rechaz[^ ]*|una disculpa|negativa|rifiut[^ ]*|le scuse|recus[^ ]*|pedido de desculpas|afwijz[^ ]*|afslaan",
            "|odmow[^ ]*|odmaw[^ ]*|przeprosin[^ ]*|отказ[^ ]*|отклон[^ ]*|извинени[^ ]*|reddet[^ ]*|ozur (?:mektubu|mesaji|metni)",
            "|رفض|ارفض|اعتذار) |拒绝|拒絕|婉拒|道歉信|推辞|断る|断り|お詫び|謝罪|거절|사과문|사양",
        )),
        told: one(concat!(
            " (?:politely|kindly|please|must|should|then|and|to|or|just|will) (?:decline|refuse|reject) ",
            "| you (?:can't|cannot|can only) (?:help|assist|answer) | (?:hoflich|freundlich) (?:ab|ablehnen) | lehne (?:[^ ]+ ){0,6}ab ",
            "| (?:refuse|decline) poliment | rechaza (?:[^ ]+ )?(?:amable|cortes|educada)mente | rifiuta (?:[^ ]+ )?(?:gentil|cortes)emente ",
            "| вежливо (?:откажи|отказыва|отклон)[^ ]* |礼貌地?(?:拒绝|婉拒)|拒绝回答|お断り|断って|거절",
        )),
        carried: one(concat!(
            " (?:translat[^ ]*|ubersetz[^ ]*|traduc[^ ]*|tradui[^ ]*|tradu[cz][^ ]*|vertaal|przetlumacz[^ ]*|tlumacz[^ ]*",
            "|перевед[^ ]*|перевод[^ ]*|cevir[^ ]*|ترجم[^ ]*|rewrite|rephrase|paraphrase|reword|proofread|correct|fix|spell[^ ]*",
            "|repeat|quote|transcribe|summari[sz]e|complete|finish|continue|role ?play|dialogue|story|scene|line|lines|lyrics",
            "|email|e mail|mail|letter|message|reply|respond|response|text|draft|say|says|saying|mean|means|sentence|phrase",
            "|korrigier[^ ]*|umformulier[^ ]*|formulier[^ ]*|schreib[^ ]*|antwort[^ ]*|corrige[^ ]*|reformul[^ ]*|ecri[^ ]*",
            "|escrib[^ ]*|scriv[^ ]*|escrev[^ ]*|schrijf|napisz|напиши[^ ]*|yaz|اكتب) ",
            "|翻译|翻譯|翻訳|訳し|번역|改写|润色|写|書い|쓰|작성|써",
        )),
        unable: one(concat!(
            " (?:can'?t|cannot|can not|couldn't|won't|unable|sorry|nicht|leider|leid|peux pas|pouvons pas|desolee?|no puedo|no podemos",
            "|lo siento|non posso|mi dispiace|nao posso|sinto muito|niet|helaas|nie moge|przykro|не могу|не можем|жаль",
            "|uzgunum|اسف|لا استطيع|لا يمكنني) ",
            "|不能|无法|無法|抱歉|できません|できない|申し訳|수 없|죄송|amam |emem |amiyorum |emiyorum ",
        )),
    }
});

fn read(text: &str, checks: &Checks<'_>, is_whole: bool) -> Reading {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || "*_#".contains(c));
    if text.starts_with(is_quotation) {
        return Reading::Other;
    }
    let head = &text[..text.char_indices().nth(HEAD_CHARS_MAX).map_or(text.len(), |(at, _)| at)];
    let may_go_on = !is_whole && head.len() == text.len();
    let is_short = may_go_on && head.chars().nth(START_CHARS_MIN).is_none();
    let mut sentences = sentences(head).peekable();
    let mut so_far = String::from(" ");
    for _ in 0..SENTENCES_MAX {
        let Some(sentence) = sentences.next() else { break };
        let mut words = fold::words(sentence);
        let may_lead = SOUNDS.leads.is_match(&words);
        let is_unfinished = may_go_on && sentences.peek().is_none() && !is_ended(sentence);
        if is_unfinished {
            leave_open(&mut words, sentence);
        }
        so_far.push_str(words.trim_start());
        if SOUNDS.exceptions.is_match(&so_far) {
            return Reading::Other;
        }
        if SOUNDS.refusals.is_match(&so_far) {
            if is_unfinished && head.chars().nth(UNFINISHED_CHARS_MAX).is_none() {
                return Reading::Open;
            }
            if was_asked_for(&so_far, checks.prompt, checks.intent) {
                return Reading::Other;
            }
            return Reading::Refusal(format!("the model declined: \"{}\"", quote(head)));
        }
        if !may_lead {
            return if is_short { Reading::Open } else { Reading::Other };
        }
    }
    if may_go_on { Reading::Open } else { Reading::Other }
}

/// Marks a last word that may go on, so that no pattern takes it for whole.
fn leave_open(words: &mut String, sentence: &str) {
    if sentence.ends_with(char::is_alphanumeric) {
        words.truncate(words.trim_end().len());
    }
    words.push_str("_ ");
}

/// Returns whether the request asks for a refusal, hands over one to carry over, or holds these very words.
fn was_asked_for(words: &str, prompt: &Prompt, intent: Option<&Intent>) -> bool {
    let request = fold::words_of_ends(prompt.last_user_text(), ASK_CHARS_MAX);
    let system = fold::words_of_ends(prompt.system_text(), ASK_CHARS_MAX);
    let carries = SOUNDS.carried.is_match(&request)
        || intent.is_some_and(|intent| CARRYING_INTENTS.contains(&&*intent.0));
    SOUNDS.asked.is_match(&request)
        // Every tier obeys an operator who says what to decline.
        || SOUNDS.told.is_match(&system)
        || (carries && SOUNDS.unable.is_match(&request))
        || (words.split_whitespace().count() >= QUOTED_WORDS_MIN
            && (request.contains(words) || system.contains(words)))
}

/// Parts a text after each full stop, exclamation or question mark, and at line ends.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start();
            if rest.is_empty() {
                return None;
            }
            let mut chars = rest.char_indices().peekable();
            let mut end = rest.len();
            while let Some((at, c)) = chars.next() {
                let next = chars.peek().map(|(_, next)| *next);
                if ends_sentence(c, next) {
                    end = at + c.len_utf8();
                    break;
                }
            }
            let (sentence, after) = rest.split_at(end);
            rest = after;
            if sentence.contains(char::is_alphanumeric) {
                return Some(sentence);
            }
        }
    })
}

fn ends_sentence(c: char, next: Option<char>) -> bool {
    match c {
        '\n' | '。' | '！' | '？' | '؟' => true,
        '.' | '!' | '?' | '…' => next.is_none_or(|next| !next.is_alphanumeric()),
        _ => false,
    }
}

fn is_ended(sentence: &str) -> bool {
    sentence.ends_with(|c| ends_sentence(c, Some(' ')))
}

/// What opens words that are not the model's own: quotation marks, a quoted block, code.
fn is_quotation(c: char) -> bool {
    matches!(
        c,
        '"' | '\''
            | '“'
            | '”'
            | '„'
            | '‘'
            | '’'
            | '«'
            | '»'
            | '‹'
            | '›'
            | '「'
            | '『'
            | '《'
            | '>'
            | '`'
            | '|'
            | '{'
            | '['
            | '<'
            | '('
    )
}

#[cfg(test)]
mod tests;
