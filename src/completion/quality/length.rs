//! Whether an answer was cut, and whether it is far shorter than what was explicitly asked for.
//!
//! Careful rather than thorough: a length is read only where a request says it in so many words, and only an
//! answer of less than a third of it is too short. Any word of a limit ("at most", "briefly") ends the reading.

use std::sync::LazyLock;

use regex::Regex;

use super::{Checks, calls_tools, fold, said};
use crate::completion::{
    answer::{Finish, View},
    chat::{Asks, JsonAsk},
};

/// Characters at each end of a request's last turn that are searched for a length; between them stands what
/// was pasted, whose lengths are not asked for.
const ASK_CHARS_MAX: usize = 500;
/// An answer below this part of what was asked for is far too short.
const SHARE: usize = 3;
/// Lengths from which on they are taken at their word. "Write two words" is a matter of taste.
const WORDS_ASKED: std::ops::RangeInclusive<usize> = 100..=20_000;
const ITEMS_ASKED: std::ops::RangeInclusive<usize> = 10..=200;
/// What the shortest essay has at least, words.
const ESSAY_WORDS_MIN: usize = 60;
/// What an explanation in detail has at least, words.
const DETAIL_WORDS_MIN: usize = 12;
/// Words an item has at most in a list that puts spaces between items.
const ITEM_WORDS: usize = 4;
/// Providers count tokens a little apart; within two in a hundred, or this many, a limit was reached.
const LIMIT_SLACK_TOKENS: u64 = 4;

/// Who cut an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    No,
    /// The request's own limit of output tokens was reached: the answer is as long as asked for.
    ByCaller,
    /// The provider's limit, the context window, or a default.
    ByProvider,
}

/// Compiles this file's patterns.
pub fn prepare() {
    LazyLock::force(&ASKING);
}

/// Returns who cut the answer.
///
/// Where the caller set a limit and the provider reports no usage, the caller's limit is taken to be the one.
pub fn cut(view: &View, asks: &Asks) -> Cut {
    if view.finish != Some(Finish::Length) {
        return Cut::No;
    }
    match (asks.output_tokens_max, view.usage) {
        (None, _) => Cut::ByProvider,
        (Some(_), None) => Cut::ByCaller,
        (Some(limit), Some(usage)) => {
            let slack = LIMIT_SLACK_TOKENS.max(u64::from(limit) / 50);
            if usage.output_tokens + slack >= u64::from(limit) { Cut::ByCaller } else { Cut::ByProvider }
        }
    }
}

/// Returns how the answer is far shorter than asked for. Tool calls and JSON are as long as they need to be,
/// and an answer that asks back is no answer yet.
pub fn short_problem(view: &View, checks: &Checks<'_>) -> Option<String> {
    if calls_tools(view) || !matches!(checks.asks.json, JsonAsk::No) {
        return None;
    }
    let answer = said(&view.text)?.trim();
    if answer.ends_with(['?', '？', '؟']) || answer.contains("```") {
        return None;
    }
    match asked(&fold::words_of_ends(checks.prompt.last_user_text(), ASK_CHARS_MAX))? {
        Least::Words(words) => {
            let said = count_words(answer, words);
            (said * SHARE < words).then(|| format!("{said} words where {words} were asked for"))
        }
        Least::Characters(characters) => {
            let said = answer.chars().filter(|c| c.is_alphanumeric()).take(characters).count();
            (said * SHARE < characters)
                .then(|| format!("{said} characters where {characters} were asked for"))
        }
        Least::Items(items) => {
            let said = count_items(answer, items);
            let fits = said * SHARE >= items || count_words(answer, items * ITEM_WORDS) >= items * ITEM_WORDS;
            (!fits).then(|| format!("{said} items where {items} were asked for"))
        }
        Least::Essay => {
            let said = count_words(answer, ESSAY_WORDS_MIN);
            (said < ESSAY_WORDS_MIN).then(|| format!("{said} words where an essay was asked for"))
        }
        Least::Detail => {
            let said = count_words(answer, DETAIL_WORDS_MIN);
            (said < DETAIL_WORDS_MIN).then(|| format!("{said} words where details were asked for"))
        }
    }
}

/// The length that a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Least {
    Words(usize),
    Characters(usize),
    Items(usize),
    Essay,
    Detail,
}

/// How lengths are asked for. All read folded words; those of scripts without spaces stand after a `|`.
struct Asking {
    limit: Regex,
    write: Regex,
    words: Regex,
    characters: Regex,
    items: Regex,
    no_items: Regex,
    essay: Regex,
    explain: Regex,
    detail: Regex,
}

static ASKING: LazyLock<Asking> = LazyLock::new(|| {
    let compile = |pattern: &str| Regex::new(pattern).expect("the patterns of this file are tested");
    Asking {
        limit: compile(concat!(
            " (?:at most|max|maximum|maximal|up to|under|below|less|fewer|no more|exceed|within|limit|short|shorter",
            "|brief|briefly|concise|concisely|(?:one|single|two) (?:sentence|word|line)s?|tl dr|summari[sz]e|summary",
            "|hochstens|weniger|kurz|kurze[rns]?|knapp|zusammenfass[^ ]*|au maximum|au plus|moins|courte?|bref|breve",
            "|brievement|como maximo|menos|corto|corta|brevemente|al massimo|massimo|meno|maximo|curto|curta|hoogstens",
            "|minder|korte?|najwyzej|maksymalnie|krotk[^ ]*|не более|максимум|кратк[^ ]*|коротк[^ ]*|en fazla|kisa|kisaca",
            "|لا يزيد|اقل|قصير[^ ]*|باختصار|مختصر[^ ]*) ",
            "|以内|不超过|最多|简短|简要|以下|短く|簡潔|이내|이하|짧|간단",
        )),
        write: compile(concat!(
            " (?:write|compose|draft|essay|article|story|blog|post|speech|report|at least|minimum|schreib[^ ]*|verfass[^ ]*",
            "|mindestens|ecri[^ ]*|redig[^ ]*|au moins|escrib[^ ]*|redact[^ ]*|al menos|scriv[^ ]*|almeno|escrev[^ ]*|pelo menos",
            "|schrijf|minstens|napisz|co najmniej|напиши[^ ]*|не менее|yaz[^ ]*|en az|اكتب|مقال[^ ]*|على الاقل) ",
            "|写|寫|至少|不少于|書[いけ]|以上|쓰|써|작성|이상",
        )),
        words: compile(concat!(
            " (\\d{1,3}(?: \\d{3})+|\\d{2,5}) ",
            "(?:words?|worte|worter|wortern|mots|palabras|parole|palavras|woorden|slow|слов|слова|kelimelik|kelime|كلمه) ",
        )),
        characters: compile("(\\d{2,5}) ?(?:个)?(?:字|文字|자 |자로|글자)"),
        items: compile(concat!(
            " (?:list|name|give|provide|suggest|generate|come up with|brainstorm|tell me|nenne?|liste|gib|schlage|cite",
            "|donne|enumere|propose|dame|lista|enumera|menciona|nombra|elenca|dammi|de me|noem|geef|wymien|podaj|назови",
            "|перечисли|приведи|listele|اذكر) ",
            "(?:(?:me|us|the|at least|a list of|exactly|top|best|mir|moi|mi|minstens|mindestens|al menos|mne|мне) )*",
            "(\\d{2,3}) ([^ ]+) ",
            "|(?:列出|列举|给我|給我|举出)(\\d{2,3}) ?(?:个|個|条|條|种|種|项|項)",
        )),
        no_items: compile(concat!(
            "^(?:percent|words?|minutes?|seconds?|hours?|days?|weeks?|months?|years?|dollars?|euros?|usd|eur|lines?",
            "|characters?|sentences?|paragraphs?|pages?|tokens?|degrees?|km|kg|worte|worter|zeilen|satze|prozent|minuten",
            "|mots|lignes|pour|minutos|palabras|lineas|por|parole|righe|digits?|stellen|year|und|and|or|to|times|of)$",
        )),
        essay: compile(concat!(
            " (?:write|compose|draft) (?:me )?(?:an? )?(?:[^ ]+ ){0,2}essay ",
            "| schreib[^ ]* (?:mir )?(?:eine?n? )?(?:[^ ]+ ){0,2}aufsatz | (?:ecris|ecrivez|redige|redigez) (?:une )?dissertation ",
            "| escrib[^ ]+ (?:me )?un ensayo | scriv[^ ]+ un saggio | escrev[^ ]+ (?:uma redacao|um ensaio) ",
            "| schrijf (?:een )?opstel | napisz (?:esej|wypracowanie) | напиши(?:те)? (?:эссе|сочинение) ",
            "|写一?篇.{0,20}(?:作文|论文|文章)",
        )),
        explain: compile(concat!(
            " (?:explain|describe|erklar[^ ]*|beschreib[^ ]*|expliqu[^ ]*|decri[^ ]*|explica[^ ]*|describ[^ ]*|spiega[^ ]*",
            "|descriv[^ ]*|descrev[^ ]*|leg|beschrijf|wyjasnij|opisz|объясни[^ ]*|опиши[^ ]*|acikla[^ ]*|اشرح) ",
            "|解释|说明|説明|설명",
        )),
        detail: compile(concat!(
            " (?:in (?:great |full |more )?detail|detailed|in depth|thoroughly|comprehensively|ausfuhrlich|detailliert",
            "|im detail|en detail|detaille[^ ]*|en detalle|detallad[^ ]*|dettagli[^ ]*|in dettaglio|em detalhes?|detalhad[^ ]*",
            "|uitgebreid|gedetailleerd|szczegolowo|подробно|детально|detayli|ayrintili|بالتفصيل) ",
            "|详细|詳細|詳しく|자세히|상세",
        )),
    }
});

/// Returns the explicit length that folded words ask for.
fn asked(words: &str) -> Option<Least> {
    let asking = &*ASKING;
    if asking.limit.is_match(words) {
        return None;
    }
    let number = |text: &str| text.replace(' ', "").parse::<usize>().ok();
    if asking.write.is_match(words) {
        let counted = |pattern: &Regex| pattern.captures(words).and_then(|found| number(&found[1]));
        if let Some(count) = counted(&asking.words).filter(|count| WORDS_ASKED.contains(count)) {
            return Some(Least::Words(count));
        }
        if let Some(count) = counted(&asking.characters).filter(|count| WORDS_ASKED.contains(count)) {
            return Some(Least::Characters(count));
        }
    }
    if let Some(found) = asking.items.captures(words)
        && let Some(count) = found.get(1).or(found.get(3)).and_then(|count| number(count.as_str()))
        && ITEMS_ASKED.contains(&count)
        && !found.get(2).is_some_and(|noun| asking.no_items.is_match(noun.as_str()))
    {
        return Some(Least::Items(count));
    }
    if asking.essay.is_match(words) {
        return Some(Least::Essay);
    }
    (asking.explain.is_match(words) && asking.detail.is_match(words)).then_some(Least::Detail)
}

/// Counts words up to `enough`; where words have no spaces, two characters are one.
fn count_words(text: &str, enough: usize) -> usize {
    let mut halves = 0_usize;
    let mut in_word = false;
    for c in text.chars() {
        let unspaced = fold::is_unspaced(c);
        let word = c.is_alphanumeric() && !unspaced;
        halves += usize::from(unspaced) + 2 * usize::from(word && !in_word);
        in_word = word || (in_word && c == '\'');
        if halves >= 2 * enough {
            return enough;
        }
    }
    halves.div_ceil(2)
}

/// Counts the items of a list up to `enough`: lines, or what separators part.
fn count_items(text: &str, enough: usize) -> usize {
    let lines = text.lines().filter(|line| !line.trim().is_empty()).take(enough).count();
    let parted = 1 + text.matches([',', ';', '、', '，', '；', '·', '•', '|', '،']).take(enough).count();
    lines.max(parted).min(enough)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::completion::{
        answer::Usage,
        quality::tests::{DEFAULT, prompt},
    };

    #[track_caller]
    fn check_asked(text: &str, expected: Option<Least>) {
        assert_eq!(asked(&fold::words_of_ends(text, ASK_CHARS_MAX)), expected, "{text}");
    }

    #[track_caller]
    fn check_short(request: &str, answer: &str, expected: bool) {
        let (prompt, asks) = (prompt(request), Asks::default());
        let checks = Checks { config: &DEFAULT, asks: &asks, prompt: &prompt, intent: None };
        let view = View { text: answer.to_owned(), ..View::default() };
        let found = short_problem(&view, &checks);
        assert_eq!(found.is_some(), expected, "{request} / {answer}: {found:?}");
    }

    #[test]
    fn a_limit_that_the_caller_set_and_the_answer_reached_is_the_callers() {
        let view = |finish, output_tokens: Option<u64>| View {
            finish,
            usage: output_tokens.map(|output_tokens| Usage { output_tokens, ..Usage::default() }),
            ..View::default()
        };
        for (finish, limit, tokens, expected) in [
            (Some(Finish::Stop), Some(10), Some(10), Cut::No),
            (None, Some(10), Some(10), Cut::No),
            (Some(Finish::Length), None, Some(4096), Cut::ByProvider),
            (Some(Finish::Length), None, None, Cut::ByProvider),
            (Some(Finish::Length), Some(100), Some(100), Cut::ByCaller),
            (Some(Finish::Length), Some(100), Some(97), Cut::ByCaller),
            (Some(Finish::Length), Some(1000), Some(981), Cut::ByCaller),
            (Some(Finish::Length), Some(1000), Some(512), Cut::ByProvider),
            (Some(Finish::Length), Some(100), None, Cut::ByCaller),
        ] {
            let asks = Asks { output_tokens_max: limit, ..Asks::default() };
            assert_eq!(cut(&view(finish, tokens), &asks), expected, "{finish:?} {limit:?} {tokens:?}");
        }
    }

    #[test]
    fn lengths_are_read_where_they_are_asked_for() {
        for (text, words) in [
            ("Write a 500-word article on bees.", 500),
            ("Write an essay of 1,200 words about rain.", 1200),
            ("Please compose a story, at least 300 words.", 300),
            ("Schreibe einen Artikel mit 400 Wörtern über Züge.", 400),
            ("Rédige un texte de 250 mots sur la mer.", 250),
            ("Escribe una historia de 600 palabras.", 600),
            ("Scrivi un testo di 300 parole.", 300),
            ("Напиши рассказ на 500 слов.", 500),
        ] {
            check_asked(text, Some(Least::Words(words)));
        }
        for (text, expected) in [
            ("写一篇800字的作文", Least::Characters(800)),
            ("400字で感想文を書いてください", Least::Characters(400)),
            ("List 20 fruits.", Least::Items(20)),
            ("Give me the top 15 ideas for a party", Least::Items(15)),
            ("Nenne mir 12 Flüsse", Least::Items(12)),
            ("列出20种水果", Least::Items(20)),
            ("Write an essay on the fall of Rome.", Least::Essay),
            ("Напишите сочинение о весне", Least::Essay),
            ("Explain in detail how a fridge works.", Least::Detail),
            ("Erkläre ausführlich, wie ein Motor funktioniert", Least::Detail),
            ("请详细解释光合作用", Least::Detail),
        ] {
            check_asked(text, Some(expected));
        }
    }

    #[test]
    fn what_is_no_explicit_length_is_none() {
        for text in [
            "",
            "What is 500 words in pages?",
            "Write a 500 word summary",
            "Write at most 300 words on bees",
            "Write 300 words or less about bees",
            "In under 200 words, write about bees",
            "Write a short essay on rain",
            "Schreibe maximal 200 Wörter",
            "写一篇不超过300字的文章",
            "Write 20 words",
            "List 3 fruits",
            "Give me 20 minutes of your time",
            "List 20 percent of the total",
            "Give 15 dollars to Ann and 10 to Bob",
            "My essay got a bad mark. Why?",
            "We discussed it in detail yesterday.",
            "Explain it briefly, not in detail",
        ] {
            check_asked(text, None);
        }
        let pasted =
            format!("Is this a good text? {} write 500 words {}", "word ".repeat(200), "word ".repeat(200));
        check_asked(&pasted, None);
    }

    #[test]
    fn only_an_answer_far_shorter_than_asked_for_is_too_short() {
        let words = |count| "word ".repeat(count);
        for (request, answer, expected) in [
            ("Write a 500-word article on bees.", words(30), true),
            ("Write a 500-word article on bees.", words(170), false),
            ("Write a 500-word article on bees.", "Should it be about honey bees?".to_owned(), false),
            ("Write an essay on Rome.", "Rome fell.".to_owned(), true),
            ("Write an essay on Rome.", words(80), false),
            ("List 20 fruits.", "Apple, pear, plum.".to_owned(), true),
            ("List 20 fruits.", "apple\n".repeat(18), false),
            ("List 20 fruits.", "a, b, c, d, e, f, g, h".to_owned(), false),
            ("Generate 100 numbers", "7 ".repeat(400), false),
            ("Explain in detail how a fridge works.", "It cools.".to_owned(), true),
            ("Explain in detail how a fridge works.", words(14), false),
            ("写一篇800字的作文", "春天来了。".to_owned(), true),
            ("写一篇800字的作文", "春".repeat(400), false),
            ("请详细解释光合作用", "植物利用光能。".to_owned(), true),
            ("请详细解释光合作用", "植物利用光能把二氧化碳和水变成有机物和氧气的过程".to_owned(), false),
            ("Write 500 words of Rust", "```rust\nfn main() {}\n```".to_owned(), false),
            ("Hello", "Hi".to_owned(), false),
        ] {
            check_short(request, &answer, expected);
        }
    }
}
