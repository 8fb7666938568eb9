//! What a candidate must fulfil beyond its look: check digits, randomness, neighbours. Pure arithmetic on short texts.

use std::ops::Range;

use super::Candidate;

/// Returns the values of the ASCII digits of a text.
pub(super) fn digit_values(text: &str) -> impl Iterator<Item = u8> + '_ {
    text.bytes().filter(u8::is_ascii_digit).map(|byte| byte - b'0')
}

/// Returns how many ASCII digits a text has.
pub(super) fn digits(text: &str) -> usize {
    digit_values(text).count()
}

/// Returns whether the last digit checks the others by Luhn's formula (ISO/IEC 7812-1).
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| match (at % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => 2 * digit - 9,
            (_, digit) => 2 * digit,
        })
        .sum();
    sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != 0)
}

/// Returns how long a country's IBANs are, by the registry of SWIFT; `None` for a country that has none.
pub(super) fn iban_length(country: &str) -> Option<usize> {
    const LENGTHS: &[(usize, &str)] = &[
        (15, "NO"),
        (16, "BE"),
        (18, "DK FI FO GL NL SD"),
        (19, "MK SI"),
        (20, "AT BA EE KZ LT LU MN XK"),
        (21, "CH HR LI LV"),
        (22, "BG BH CR DE GB GE IE ME RS VA"),
        (23, "AE GI IL IQ OM SO TL"),
        (24, "AD CZ ES MD PK RO SA SE SK TN VG"),
        (25, "LY PT ST"),
        (26, "IS TR"),
        (27, "BI DJ FR GR IT MC MR SM"),
        (28, "AL AZ BY CY DO GT HU LB NI PL SV"),
        (29, "BR EG PS QA UA"),
        (30, "JO KW MU YE"),
        (31, "MT SC"),
        (32, "LC"),
        (33, "RU"),
    ];
    let country = country.to_ascii_uppercase();
    LENGTHS
        .iter()
        .find(|(_, countries)| countries.split(' ').any(|one| one == country))
        .map(|(length, _)| *length)
}

/// Returns whether the check digits of an IBAN are right (ISO 13616: remainder 1 of 97).
pub(super) fn iban(text: &str) -> bool {
    let signs: Vec<u8> =
        text.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_uppercase()).collect();
    if signs.len() < 5 {
        return false;
    }
    let remainder = signs[4..].iter().chain(&signs[..4]).fold(0_u32, |rest, sign| match sign {
        b'0'..=b'9' => (rest * 10 + u32::from(sign - b'0')) % 97,
        letter => (rest * 100 + u32::from(letter - b'A') + 10) % 97,
    });
    remainder == 1
}

/// Returns whether the letter at the end of a Spanish DNI or NIE is right.
pub(super) fn spanish_id(text: &str) -> bool {
    const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let first = match text.as_bytes().first() {
        Some(b'Y') => 1,
        Some(b'Z') => 2,
        Some(_) | None => 0,
    };
    let number = digit_values(text).fold(first, |sum, digit| sum * 10 + usize::from(digit));
    text.as_bytes().last() == LETTERS.get(number % LETTERS.len())
}

/// Returns whether the last letter of an Italian codice fiscale is right.
pub(super) fn italian_id(text: &str) -> bool {
    /// What a sign at an odd place counts, for 0 to 9 and for A to Z.
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let signs: Vec<u8> =
        text.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_uppercase()).collect();
    let [body @ .., last] = signs.as_slice() else { return false };
    let sum: u32 = body
        .iter()
        .enumerate()
        .map(|(at, sign)| {
            let value = if sign.is_ascii_digit() { sign - b'0' } else { sign - b'A' };
            if at % 2 == 0 { ODD[usize::from(value)] } else { u32::from(value) }
        })
        .sum();
    u32::from(*last) == u32::from(b'A') + sum % 26
}

/// Returns whether the key of a French social insurance number is right; Corsica's letters count as 19 and 18.
pub(super) fn french_id(text: &str) -> bool {
    let signs = text.replace(' ', "").replace("2A", "19").replace("2B", "18");
    let Some((Ok(number), Ok(key))) =
        signs.split_at_checked(13).map(|(number, key)| (number.parse::<u64>(), key.parse::<u64>()))
    else {
        return false;
    };
    let month: u64 = signs.get(3..5).and_then(|month| month.parse().ok()).unwrap_or_default();
    97 - number % 97 == key && matches!(month, 1..=12 | 20..=42 | 50..=99)
}

/// Returns whether the last of 13 digits checks the others (EAN-13).
pub(super) fn ean13(text: &str) -> bool {
    let sum: u32 = digit_values(text)
        .enumerate()
        .map(|(at, digit)| u32::from(digit) * if at % 2 == 0 { 1 } else { 3 })
        .sum();
    sum.is_multiple_of(10)
}

/// Returns whether both check digits of a Brazilian CPF are right.
pub(super) fn brazilian_id(text: &str) -> bool {
    let digits: Vec<u32> = digit_values(text).map(u32::from).collect();
    let checks = |count: usize| {
        let sum: u32 = digits
            .iter()
            .take(count)
            .zip((2..=count as u32 + 1).rev())
            .map(|(digit, weight)| digit * weight)
            .sum();
        digits.get(count) == Some(&(sum * 10 % 11 % 10))
    };
    checks(9) && checks(10) && digits.iter().any(|digit| digit != &digits[0])
}

/// Returns whether the last sign of a Chinese resident's id is right (ISO 7064, MOD 11-2).
pub(super) fn chinese_id(text: &str) -> bool {
    let [body @ .., last] = text.as_bytes() else { return false };
    let sum = body.iter().fold(0_u32, |sum, digit| (sum + u32::from(digit - b'0')) * 2 % 11);
    let check = (12 - sum) % 11;
    match last {
        b'X' | b'x' => check == 10,
        digit => check == u32::from(digit - b'0'),
    }
}

/// Shannon's entropy of the signs, bits each.
fn entropy_bits(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    text.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    let total = text.len() as f64;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / total)
        .map(|share| -share * share.log2())
        .sum()
}

/// Lower than that are words with dashes and repeated signs; 20 random letters and digits have about 4.
const ENTROPY_BITS_MIN: f64 = 3.0;

/// Takes what has letters and digits and looks random, as generated keys do.
pub(super) fn random(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    let text = candidate.as_str();
    let mixed =
        text.contains(|c: char| c.is_ascii_digit()) && text.contains(|c: char| c.is_ascii_alphabetic());
    let looks_random = mixed && entropy_bits(text) >= ENTROPY_BITS_MIN;
    candidate.when(looks_random)
}

/// So much of an assignment's value is looked at to judge it, in characters.
const VALUE_CHARS_MAX: usize = 512;

/// Takes the value that begins with the candidate and is assigned to a name of a secret, unless it is a type, a
/// variable, a call or a blank.
pub(super) fn assigned(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    const BYTES_MIN: usize = 4;
    /// So many digits alone are no length and no year.
    const DIGITS_MIN: usize = 6;
    let start = candidate.range.start;
    let quoted = candidate.before().ends_with(['"', '\'', '`']);
    let rest = &candidate.text[start..];
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ',' | ';' | '<' | '>');
    let length: usize =
        rest.chars().take(VALUE_CHARS_MAX).take_while(|c| !ends(*c)).map(char::len_utf8).sum();
    // Behind it stands a quote that was escaped, as in JSON within JSON.
    let value = rest[..length].trim_end_matches('\\');
    // The next parameter of an address.
    let value = match value.split_once('&') {
        Some((first, more)) if !quoted && more.contains('=') => first,
        Some(_) | None => value,
    };
    let value = if quoted { value } else { value.trim_end_matches(['.', ')', ']', '}', '?', ':']) };
    let blank = |c: char| matches!(c, '*' | '.' | 'x' | 'X' | '-' | '_' | '•' | '…');
    let template = value.starts_with(['$', '{', '<', '*', '%', '[', '(', '.', '&', '#'])
        || value.contains("${")
        || value.contains("://")
        || value.chars().all(blank);
    let call = value.contains(['(', '[']) || value.contains("->") || value.contains("::");
    let identifier = |part: &str| part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let path = value.contains('.') && value.split('.').all(identifier);
    let digit = value.contains(|c: char| c.is_ascii_digit());
    let letter = value.contains(char::is_alphabetic);
    let symbol = value.contains(['!', '@', '#', '$', '%', '^', '*', '?', '+', '=', '~']);
    let mixed = letter && (digit || symbol) || digit && value.len() >= DIGITS_MIN;
    let taken = mixed && !template && !call && !path && value.len() >= BYTES_MIN;
    taken.then(|| {
        // A longer value is taken as a whole; it is read to its end only here, once.
        let more =
            if value.len() == length { rest[length..].find(ends).unwrap_or(rest.len() - length) } else { 0 };
        start..start + value.len() + more
    })
}

/// Returns whether this is a letter or digit of a script with spaces between words. In China, Japan and Korea what
/// surrounds a number or an address does not belong to it.
pub(super) fn is_of_spaced_word(c: char) -> bool {
    const FIRST_UNSPACED: char = '\u{2e80}';
    c.is_alphanumeric() && c < FIRST_UNSPACED
}

/// Returns whether neither side continues the number: a digit, or a separator with a digit behind.
pub(super) fn stands_apart(candidate: &Candidate<'_>) -> bool {
    let mut before = candidate.before().chars().rev();
    let mut after = candidate.after().chars();
    let joins = |c: char| matches!(c, '-' | '.' | '/' | '_' | ',' | ':');
    let continues = |first: Option<char>, second: Option<char>| match first {
        Some(c) if is_of_spaced_word(c) || c == '_' => true,
        Some(c) if joins(c) => second.is_some_and(|c| c.is_ascii_digit()),
        Some(_) | None => false,
    };
    let before_continues = {
        let first = before.next();
        continues(first, before.next())
            || first.is_some_and(|c| matches!(c, '-' | '/' | '_' | '#' | '='))
                && before.next().is_some_and(|c| c.is_ascii_digit())
    };
    !before_continues && !continues(after.next(), after.next())
}

/// Returns whether more short numbers stand on either side, as in a table.
pub(super) fn in_row_of_numbers(candidate: &Candidate<'_>) -> bool {
    let digit = |c: char| c.is_ascii_digit();
    let before = candidate.before().strip_suffix(' ').is_some_and(|before| before.ends_with(digit));
    let after = candidate.after().strip_prefix(' ').is_some_and(|after| after.starts_with(digit));
    before || after
}

/// Returns whether a text ends with one of these words, in any case, and spaces.
pub(super) fn ends_with_word(text: &str, words: &[&str]) -> bool {
    let text = text.trim_end_matches([' ', ':', '=', '.', '#']);
    let last = text.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    words.iter().any(|word| last.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(holds: fn(&str) -> bool, good: &[&str], bad: &[&str]) {
        for (texts, expected) in [(good, true), (bad, false)] {
            for text in texts {
                assert_eq!(holds(text), expected, "{text}");
            }
        }
    }

    #[test]
    fn check_digits_are_those_of_their_standards() {
        let card = |text: &str| luhn(&digit_values(text).collect::<Vec<_>>());
        check(card, &["4111 1111 1111 1111", "79927398713"], &["4111 1111 1111 1112", "0000", ""]);
        check(
            iban,
            &["DE89370400440532013000", "gb82 west 1234 5698 7654 32", "NO9386011117947"],
            &["DE88370400440532013000", "DE89", ""],
        );
        check(spanish_id, &["12345678Z", "X1234567L", "00000000T"], &["12345678A", "", "é"]);
        check(italian_id, &["RSSMRA85T10A562S", "mrt mtt 91d08 f205j"], &["RSSMRA85T10A562T", ""]);
        check(french_id, &["2 55 08 14 168 025 38"], &["2 55 08 14 168 025 39", "", "2550814168025"]);
        check(ean13, &["756.9217.0769.85", "4006381333931"], &["756.9217.0769.86"]);
        check(brazilian_id, &["529.982.247-25"], &["529.982.247-26", "111.111.111-11", ""]);
        check(chinese_id, &["11010519491231002X"], &["110105194912310021", ""]);
    }

    #[test]
    fn lengths_of_ibans_are_known_by_country() {
        assert_eq!((iban_length("DE"), iban_length("mt"), iban_length("XX")), (Some(22), Some(31), None));
    }

    #[test]
    fn values_of_secrets_are_told_from_code() {
        for (text, expected) in [
            ("hunter2", Some("hunter2")),
            ("hunter2.", Some("hunter2")),
            ("Sommer!", Some("Sommer!")),
            ("a1b2&scope=all", Some("a1b2")),
            ("12345", None),
            ("123456", Some("123456")),
            ("string", None),
            ("${SECRET1}", None),
            ("getpass1()", None),
            ("config.secret1", None),
            ("********", None),
            ("a1", None),
        ] {
            let found = assigned(&Candidate { text, range: 0..1 });
            assert_eq!(found.map(|range| &text[range]), expected, "{text}");
        }
    }
}
