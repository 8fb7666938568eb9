//! Text as the patterns of this folder read it: lowercase words without accents, a space around each.
//!
//! So a pattern needs no case, accent or kind of apostrophe, and a space is a word boundary: the regex library
//! is some four hundred times slower with `\b` outside ASCII.

/// Returns the words of `text`, lowercase, without accents, with plain apostrophes inside words, everything
/// else as single spaces, one of them at each end.
pub fn words(text: &str) -> String {
    let mut folded = String::with_capacity(text.len() + 2);
    folded.push(' ');
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let inside =
            folded.ends_with(char::is_alphanumeric) && chars.peek().is_some_and(|c| c.is_alphabetic());
        if is_apostrophe(c) && inside {
            folded.push('\'');
        } else if c.is_alphanumeric() {
            c.to_lowercase().filter(|c| !is_mark(*c)).for_each(|c| push_base(&mut folded, c));
        } else if !is_mark(c) && !is_invisible(c) && !folded.ends_with(' ') {
            folded.push(' ');
        }
    }
    if !folded.ends_with(' ') {
        folded.push(' ');
    }
    folded
}

/// Returns the words of at most `chars_max` characters from each end of a text: between them stands what was
/// pasted.
pub fn words_of_ends(text: &str, chars_max: usize) -> String {
    let head = text.char_indices().nth(chars_max).map_or(text.len(), |(at, _)| at);
    let rest = &text[head..];
    let tail = rest.char_indices().rev().take(chars_max).last().map_or(0, |(at, _)| at);
    let mut both = words(&text[..head]);
    both.push_str(words(&rest[tail..]).trim_start());
    both
}

/// Returns whether nothing is drawn for this character: joiners, directions, byte order mark, soft hyphen.
pub fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

/// Returns whether this character belongs to a script that writes words without spaces.
pub fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '’' | '‘' | 'ʼ' | '′' | '´' | '`' | '＇')
}

/// Accents written apart, and the vowel signs and stretching of Arabic.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{640}' | '\u{64b}'..='\u{65f}' | '\u{670}')
}

fn push_base(folded: &mut String, c: char) {
    let base = match c {
        'à'..='å' | 'ā' | 'ă' | 'ą' => 'a',
        'ç' | 'ć' | 'č' => 'c',
        'è'..='ë' | 'ē' | 'ę' | 'ě' => 'e',
        'ğ' => 'g',
        'ì'..='ï' | 'ī' | 'ı' => 'i',
        'ł' => 'l',
        'ñ' | 'ń' | 'ň' => 'n',
        'ò'..='ö' | 'ø' | 'ō' | 'ő' => 'o',
        'ř' => 'r',
        'ś' | 'ş' | 'š' | 'ș' => 's',
        'ù'..='ü' | 'ū' | 'ů' | 'ű' => 'u',
        'ý' | 'ÿ' => 'y',
        'ź' | 'ż' | 'ž' => 'z',
        'ё' => 'е',
        'й' => 'и',
        'أ' | 'إ' | 'آ' => 'ا',
        'ى' | 'ئ' => 'ي',
        'ؤ' => 'و',
        'ة' => 'ه',
        // Letters and digits as wide as a Chinese character.
        '\u{ff10}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        'ß' => {
            folded.push('s');
            's'
        }
        other => other,
    };
    folded.push(base);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lose_case_accents_and_punctuation() {
        for (text, expected) in [
            ("", " "),
            ("I’m sorry, I CAN'T.", " i'm sorry i can't "),
            ("'quoted' words", " quoted words "),
            ("Es tut mir leid – größer!", " es tut mir leid grosser "),
            ("de\u{301}sole\u{301}", " desole "),
            ("İsteğinizi ISPARTA ılık", " isteginizi isparta ilik "),
            ("Ещё мой", " еще мои "),
            ("آسِف أَنا", " اسف انا "),
            ("抱歉，我不能。", " 抱歉 我不能 "),
            ("ＡＢ\u{a0}１２", " ab 12 "),
            ("zero\u{200b}width", " zerowidth "),
            ("well-known", " well known "),
        ] {
            assert_eq!(words(text), expected, "{text}");
        }
    }
}
