//! Numbers that carry their own check: cards, accounts, national ids.

use std::ops::Range;

use super::{Candidate, Kind, Pattern, always, checks};

/// In the order in which they claim places.
pub(super) const PATTERNS: &[Pattern] = &[
    Pattern {
        kind: Kind::Iban,
        gate: "(?i)[a-z]{2}[0-9]{2} ?[a-z0-9]{4}",
        expression: r"(?i-u:\b[a-z]{2}[0-9]{2}(?:[ -]?[a-z0-9]{1,4}){3,8})",
        check: iban,
    },
    Pattern {
        kind: Kind::Card,
        gate: "[2-6][0-9]{3}[ -]?[0-9]{4}|3[0-9]{3}[ -]?[0-9]{6}",
        expression: r"(?-u:\b)(?:[2-6][0-9]{3}(?:[ -]?[0-9]{4}){3}(?:[ -]?[0-9]{3})?|3[0-9]{3}[ -]?[0-9]{6}[ -]?[0-9]{4,5}|4[0-9]{12})(?-u:\b)",
        check: card,
    },
    // United States: social security number.
    Pattern {
        kind: Kind::Id,
        gate: "[0-9]{3}[- ][0-9]{2}[- ][0-9]{4}",
        expression: r"(?-u:\b)[0-9]{3}-[0-9]{2}-[0-9]{4}(?-u:\b)",
        check: us_ssn,
    },
    // United Kingdom: national insurance number.
    Pattern {
        kind: Kind::Id,
        gate: "[A-CEGHJ-PR-TW-Z]{2} ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]",
        expression: r"(?-u:\b)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D](?-u:\b)",
        check: uk_nino,
    },
    // Spain: DNI and NIE.
    Pattern {
        kind: Kind::Id,
        gate: "[0-9]{7}[0-9 -]{0,2}[A-Z]|[0-9]{2}\\.[0-9]{3}\\.[0-9]{3}",
        expression: r"(?-u:\b)(?:[0-9]{8}|[0-9]{2}\.[0-9]{3}\.[0-9]{3}|[XYZ]-?[0-9]{7})[ -]?[A-Z](?-u:\b)",
        check: spanish_id,
    },
    // Italy: codice fiscale.
    Pattern {
        kind: Kind::Id,
        gate: "(?i)[a-z]{3} ?[0-9]{2} ?[a-z][0-9]{2} ?[a-z][0-9]{3}",
        expression: r"(?i-u:\b[a-z]{3} ?[a-z]{3} ?[0-9]{2}[abcdehlmprst][0-9]{2} ?[a-z][0-9]{3}[a-z]\b)",
        check: italian_id,
    },
    // France: number of the social insurance.
    Pattern {
        kind: Kind::Id,
        gate: "[1278] ?[0-9]{2} ?[0-9]{2} ?[0-9AB]{2} ?[0-9]{3} ?[0-9]{3}",
        expression: r"(?-u:\b)[1278] ?[0-9]{2} ?[0-9]{2} ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}(?-u:\b)",
        check: french_id,
    },
    // Switzerland, Brazil, China.
    Pattern {
        kind: Kind::Id,
        gate: r"756\.[0-9]{4}",
        expression: r"(?-u:\b)756\.[0-9]{4}\.[0-9]{4}\.[0-9]{2}(?-u:\b)",
        check: swiss_id,
    },
    Pattern {
        kind: Kind::Id,
        gate: r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}",
        expression: r"(?-u:\b)[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}(?-u:\b)",
        check: brazilian_id,
    },
    Pattern {
        kind: Kind::Id,
        gate: "[1-8][0-9]{5}(?:19|20)[0-9]{9}[0-9X]",
        expression: r"(?-u:\b)[1-8][0-9]{5}(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[0-9]{3}[0-9Xx](?-u:\b)",
        check: chinese_id,
    },
    // Numbers of no format of their own, after the name of the document.
    Pattern {
        kind: Kind::Id,
        gate: r"(?i)passp|steuer|idnr|ausweis|personalausweis|ssn|social security|passeport|pasaporte|passaporto|insurance|licen[cs]e|bsn|dni|pesel",
        expression: concat!(
            r"(?i:(?-u:\b)(?:passport|reisepass|passeport|pasaporte|passaporto|steuer-?id(?:entifikationsnummer)?|idnr|personalausweis(?:nummer)?|ausweis(?:nummer)?",
            r"|ssn|social security|national insurance|driver'?s? licen[cs]e|bsn|pesel))",
            r"(?: ?(?i:no|number|nr|nummer|num[ée]ro|n[úu]mero|n°|id|#|is|ist|est|es|è|lautet|[:.=-])){0,4} {0,2}([A-Z]{0,3}[0-9][A-Z0-9 ]{5,14}[A-Z0-9])(?-u:\b)",
        ),
        check: document,
    },
];

/// Cuts the find at its country's length and takes it when its remainder is right.
fn iban(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    let Range { start, .. } = candidate.range;
    let text = candidate.as_str();
    let length = checks::iban_length(text.get(..2)?)?;
    let (last, _) = text.char_indices().filter(|(_, c)| c.is_ascii_alphanumeric()).nth(length - 1)?;
    let own = &text[..=last];
    let joined = text[last + 1..].starts_with(|c: char| c.is_ascii_alphanumeric());
    (!joined && checks::iban(own)).then(|| start..start + own.len())
}

/// The networks' own lengths and first digits, and Luhn: one in ten other numbers would pass that alone.
fn card(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    let digits: Vec<u8> = checks::digit_values(candidate.as_str()).collect();
    let number =
        |count: usize| digits.iter().take(count).fold(0_u32, |sum, digit| sum * 10 + u32::from(*digit));
    let known = match digits.len() {
        13 | 19 if number(1) == 4 => true,
        14 => matches!(number(3), 300..=305 | 309 | 360..=369 | 380..=399),
        15 => matches!(number(2), 34 | 37),
        16 => {
            number(1) == 4
                || matches!(number(2), 51..=55 | 62 | 65 | 35 | 36 | 38 | 50 | 56..=58 | 63 | 67)
                || matches!(number(4), 2221..=2720 | 6011)
                || matches!(number(3), 644..=649)
        }
        19 => number(2) == 62,
        _ => false,
    };
    let apart = checks::stands_apart(candidate);
    candidate.when(known && apart && checks::luhn(&digits))
}

fn us_ssn(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    let text = candidate.as_str();
    let issued = !matches!(&text[..3], "000" | "666")
        && !text.starts_with('9')
        && &text[4..6] != "00"
        && &text[7..] != "0000";
    let apart = checks::stands_apart(candidate);
    candidate.when(issued && apart)
}

fn uk_nino(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    let never = ["BG", "GB", "NK", "KN", "TN", "NT", "ZZ"];
    let prefix = &candidate.as_str()[..2];
    candidate.when(!never.contains(&prefix))
}

fn spanish_id(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    let holds = checks::spanish_id(candidate.as_str());
    candidate.when(holds)
}

fn italian_id(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    let holds = checks::italian_id(candidate.as_str());
    candidate.when(holds)
}

fn french_id(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    let holds = checks::french_id(candidate.as_str()) && checks::stands_apart(candidate);
    candidate.when(holds)
}

fn swiss_id(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    let holds = checks::ean13(candidate.as_str());
    candidate.when(holds)
}

fn brazilian_id(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    let holds = checks::brazilian_id(candidate.as_str());
    candidate.when(holds)
}

fn chinese_id(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    let holds = checks::chinese_id(candidate.as_str());
    candidate.when(holds)
}

/// Enough digits for a number of a document.
fn document(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    let enough = checks::digits(candidate.as_str()) >= 6;
    if enough { always(candidate) } else { None }
}
