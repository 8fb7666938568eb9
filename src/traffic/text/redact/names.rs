//! Names of persons where the form of a text announces them: salutations, titles, signatures, headers of mails.
//! English, German, French, Spanish, Italian. A name in running text is not found.

use std::ops::Range;

use super::{Candidate, Kind, Pattern};

/// In the order in which they claim places.
pub(super) const PATTERNS: &[Pattern] = &[
    // Headers of mails and commits: everything before the address.
    Pattern {
        kind: Kind::Name,
        gate: "<",
        expression: r#"(?:^|[\n:,;"]) {0,2}"?(\p{Lu})[^<>\n:,;"@]{1,60}"? {1,2}<"#,
        check: before_address,
    },
    // A title makes what follows a name.
    Pattern {
        kind: Kind::Name,
        gate: r"M(?:[rsx]|me|lle|iss|adame|onsieur|\.)|D(?:r|oct)|Prof|Herr|Frau|S(?:eñor|r\.|ra\.|ig)|Dott",
        expression: concat!(
            r"(?-u:\b)(?:Mr\.?|Mrs\.?|Ms\.?|Mx\.?|Miss|Herrn?|Frau|Mme|Mlle|Madame|Monsieur|M\.|Señora?|Señorita|Sra?\.|Signora?|Sig\.(?:ra)?|Dott\.(?:ssa)?|Dr\.?|Prof\.?|Professor|Doctor)",
            r"(?: (?:Dr\.|Prof\.|Ing\.|med\.)){0,3} ",
            r"((?:(?:van|von|de|di|da|del|della|zu) (?:(?:der|den|la) )?)?\p{Lu})",
        ),
        check: person,
    },
    // Salutations at the start of a line.
    Pattern {
        kind: Kind::Name,
        gate: r"(?i)dear|hi|hello|hey|liebe|hallo|ch[eè]r|bonjour|salut|hola|estimad|querid|ciao|gentile|car[oa]|good morning|guten tag|buenos|buongiorno",
        expression: concat!(
            r"(?:^|\n)[ \t>]{0,4}(?i:dear|hi|hello|hey|liebe[rs]?|hallo|chère?|ch[eè]r|bonjour|salut|hola|estimad[oa]|querid[oa]|ciao|gentile|car[oa]|good morning|guten tag|buenos días|buongiorno) ",
            r"(\p{Lu})",
        ),
        check: greeted,
    },
    // Who introduces himself.
    Pattern {
        kind: Kind::Name,
        gate: r"(?i)name is|name's|name ist|heiße|heisse|appelle|nom est|llamo|nombre es|chiamo|nome è",
        expression: concat!(
            r"(?i:(?-u:\b)(?:my (?:full )?name is|my name's|mein name ist|ich hei(?:ß|ss)e|je m['’]appelle|mon nom est|me llamo|mi nombre es|mi chiamo|il mio nome è)) ",
            r"(\p{Lu})",
        ),
        check: person,
    },
    // Signatures: a closing on a line of its own, then the name on one.
    Pattern {
        kind: Kind::Name,
        gate: r"(?i)regards|sincerely|yours|cheers|thanks|thank you|best|wishes|grüße|grüßen|gruss|lg|cordialement|vous|salutations|saludos?|atentamente|saluti|grazie",
        expression: concat!(
            r"(?i:regards|sincerely(?: yours)?|yours(?: (?:truly|faithfully|sincerely))?|cheers|thanks|thank you|best|wishes|grüßen?|gruß|gruss|grüssen?|vg|lg|mfg|cordialement|bien à vous|salutations|saludos?|atentamente|saluti|grazie)[,.!]?[ \t]{0,3}\r?\n(?:[ \t]{0,4}\r?\n)?[ \t]{0,4}",
            r"(\p{Lu})",
        ),
        check: signed,
    },
    // Fields of a form.
    Pattern {
        kind: Kind::Name,
        gate: r"(?i)name|nom|nombre|apellido|cognome|patient",
        expression: concat!(
            r"(?i:(?-u:\b)(?:full name|first name|last name|surname|customer name|patient(?:en|e)?(?:name)?|vorname|nachname|familienname|prénom|nom de famille|nombre completo|apellidos?|cognome|nome e cognome)): {0,2}",
            r"(\p{Lu})",
        ),
        check: person,
    },
];

/// Words with a capital after a salutation that are nobody's name.
const NOBODY: &str = "\
    team all everyone everybody sir madam sirs customer client user friend friends colleague \
    colleagues world there hiring support reader readers diary damen herren kollegen kolleginnen \
    kunde kundin zusammen welt leute monde tous monsieur madame messieurs mesdames mundo todos \
    equipo cliente mondo tutti santa god google siri alexa claude chatgpt gpt assistant the a my \
    unknown developer engineer software manager director analyst john/jane n/a none null";

/// What follows a title is found by the pattern of titles.
const TITLES: &str = "\
    mr mrs ms mx miss dr prof professor doctor herr herrn frau mme mlle señor señora señorita sr sra \
    signor signora signorina sig dott dottore dottoressa ing";
/// Lowercase words inside names.
const PARTICLES: &str = "\
    van von der den de da di del della la le dos zu el al bin y ter";
const WORDS_MAX: usize = 4;
const WORD_CHARS_MAX: usize = 30;

/// Takes the whole name that begins with the candidate, a capital letter.
fn person(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    let start = candidate.range.start;
    let text = &candidate.text[start..];
    let particles = candidate.as_str().rfind(' ').map_or(0, |at| at + 1);
    let name = &text[..particles + name(&text[particles..])?.len()];
    let first = name.split([' ', '-', '.']).next().unwrap_or_default().to_lowercase();
    let nobody = [NOBODY, TITLES].iter().any(|words| words.split_whitespace().any(|word| word == first));
    (!nobody).then(|| start..start + name.len())
}

/// A salutation ends its line, or a comma or an exclamation mark ends it.
fn greeted(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    let text = candidate.text;
    let range = person(candidate)?;
    let after = text[range.end..].trim_start_matches([' ', '\t', '\r']);
    (after.is_empty() || after.starts_with([',', '!', ':', '\n', '-', '–', '—'])).then_some(range)
}

/// A signature is a line of its own.
fn signed(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    let text = candidate.text;
    let range = person(candidate)?;
    let after = text[range.end..].trim_start_matches([' ', '\t', '\r']);
    (after.is_empty() || after.starts_with(['\n', ','])).then_some(range)
}

/// Only before an address, which may be a mark already, and only if nothing else stands between.
fn before_address(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    const ADDRESS_CHARS_MAX: usize = 100;
    let text = candidate.text;
    let range = person(candidate)?;
    let inside = text[range.end..].trim_start_matches(['"', ' ']).strip_prefix('<')?;
    let mut address = inside.chars().take(ADDRESS_CHARS_MAX).take_while(|c| *c != '>' && !c.is_whitespace());
    (inside.is_empty() || address.any(|c| c == '@')).then_some(range)
}

/// Returns the name at the start of a text: one to four words with a capital, or initials, with particles between.
fn name(text: &str) -> Option<&str> {
    let mut end = word(text)?;
    for _ in 1..WORDS_MAX {
        let mut next = end;
        while let Some(particle) = PARTICLES.split_whitespace().find(|particle| {
            text[next..]
                .strip_prefix(' ')
                .and_then(|rest| rest.strip_prefix(*particle))
                .is_some_and(|rest| rest.starts_with(' '))
        }) {
            next += 1 + particle.len();
        }
        let Some(length) = text[next..].strip_prefix(' ').and_then(word) else { break };
        end = next + 1 + length;
    }
    let name = text[..end].trim_end_matches(['-', '\'', '’']);
    Some(name.strip_suffix("'s").or_else(|| name.strip_suffix("’s")).unwrap_or(name))
}

/// Returns the length of the capitalised word or initial at the start of a text.
fn word(text: &str) -> Option<usize> {
    let first = text.chars().next().filter(|c| c.is_uppercase())?;
    let rest = &text[first.len_utf8()..];
    let inside = |c: char| c.is_alphabetic() || matches!(c, '\'' | '’' | '-');
    let length: usize =
        rest.chars().take(WORD_CHARS_MAX).take_while(|c| inside(*c)).map(char::len_utf8).sum();
    let after = &rest[length..];
    if length == 0 {
        return after.starts_with('.').then(|| first.len_utf8() + 1);
    }
    // Neither an identifier nor the rest of something longer.
    let ends = !after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '(' | '@'));
    ends.then(|| first.len_utf8() + length)
}
