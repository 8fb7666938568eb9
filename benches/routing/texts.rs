//! The texts that are read: three languages and scripts, at any length. Made up for this, and always the same.

use pointsman::{
    config::Config,
    prompt::{Draft, Prompt},
    routing::admit::admit,
};

pub const PROMPT_BYTES: usize = 2048;
pub const LONG_PROMPT_CHARS: usize = 300_000;

pub fn prompt(text: &str, config: &Config) -> Prompt {
    admit(Draft::from_text(text), config).expect("the texts of this file are within the limits")
}

/// Returns `passage` over and over, cut at `bytes` or at the character before.
pub fn text(passage: &str, bytes: usize) -> String {
    let mut text = passage.repeat(bytes / passage.len() + 1);
    text.truncate(text.floor_char_boundary(bytes));
    text
}

/// Returns three languages in turn, 300,000 characters.
pub fn long_text() -> String {
    [ENGLISH, GERMAN, JAPANESE].concat().chars().cycle().take(LONG_PROMPT_CHARS).collect()
}

/// Returns a text that the default bundle reads as about this many tokens, [CLS] and [SEP] included.
pub fn text_of_tokens(tokens: usize) -> String {
    ENGLISH
        .split_whitespace()
        .map(|word| word.trim_matches(|letter: char| !letter.is_ascii_alphabetic()))
        .filter(|word| !word.is_empty())
        .cycle()
        .take(tokens - 2)
        .collect::<Vec<_>>()
        .join(" ")
}

pub const ENGLISH: &str = "\
Our support team answers about four hundred mails a day, and most of them ask for the same three things: where a \
parcel is, how to change an address, and why a card was charged twice. We tried a small search over old answers \
last year. It found the right page for two questions out of three, but people stopped using it because the text it \
showed was long and half of it was out of date. What we would like now is different. A mail comes in, somebody \
reads who wrote it and what they bought, and a short reply is suggested that names the parcel and the day. Nobody \
should have to copy numbers by hand. Where the mail is angry or talks about a lawyer, no reply is suggested at all \
and a person from the second floor takes it. Could you think about which parts of this are easy, which are hard, \
and where such projects usually go wrong in their first half year? ";

pub const GERMAN: &str = "\
Unser Lager in Köln führt ungefähr zwölftausend Artikel, und jeden Abend läuft eine Prüfung, die fehlende Stücke \
meldet. Seit dem Umzug dauert sie über drei Stunden, früher waren es höchstens vierzig Minuten. Die Kollegen \
vermuten, dass die neue Abfrage für jedes Fach einzeln läuft, während sie zuvor gebündelt war. Außerdem müssen wir \
künftig auch Größen und Farben unterscheiden, was die Menge ungefähr verdreifacht. Wir möchten zunächst verstehen, \
wo die Zeit bleibt, ohne den laufenden Betrieb zu stören, und danach entscheiden, ob sich ein Umbau lohnt. Könnten \
Sie bitte beschreiben, wie Sie vorgehen würden, welche Messungen nötig wären und worauf man dabei achten müsste? ";

pub const JAPANESE: &str = "\
私たちの会社では、毎週およそ三百件の問い合わせを受けています。その多くは配送状況や返品の方法についてのもので、\
担当者は同じ説明を何度も書いています。昨年、過去の回答を検索する仕組みを作りましたが、内容が古いことが多く、\
あまり使われませんでした。今年は、メールの内容を読み取り、購入履歴と照らし合わせて、短い返信案を示す仕組みを\
考えています。ただし、怒っているお客様への対応は必ず人が行います。この計画のうち、どの部分が簡単で、どの部分が\
難しいのか、また、最初の半年で失敗しやすい点は何かを教えてください。";
