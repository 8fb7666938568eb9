//! How a person or a machine is reached: e-mail, telephone, network address.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::{Range, RangeInclusive},
};

use super::{Candidate, Kind, Pattern, always, checks};

/// In the order in which they claim places.
pub(super) const PATTERNS: &[Pattern] = &[
    Pattern { kind: Kind::Email, gate: "@", expression: "@", check: email },
    // Written so that programs do not find it.
    Pattern {
        kind: Kind::Email,
        gate: r"(?i)[(\[{] ?(?:at|arroba) ?[)\]}]",
        expression: concat!(
            r"(?-u:\b)[A-Za-z0-9][A-Za-z0-9._%+-]{0,40} {0,2}[(\[{] ?(?i:at|arroba) ?[)\]}] {0,2}",
            r"(?:[A-Za-z0-9-]{1,40}(?:\.| {0,2}[(\[{] ?(?i:dot|punkt|punto|point) ?[)\]}] {0,2})){1,4}[A-Za-z]{2,24}",
        ),
        check: always,
    },
    Pattern {
        kind: Kind::Id,
        gate: "[0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}[:-][0-9A-Fa-f]{2}",
        expression: r"(?-u:\b)(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}(?-u:\b)|(?-u:\b)(?:[0-9A-Fa-f]{2}-){5}[0-9A-Fa-f]{2}(?-u:\b)",
        check: mac_address,
    },
    Pattern {
        kind: Kind::Ip,
        gate: r"[0-9]\.[0-9]{1,3}\.[0-9]",
        expression: r"(?-u:\b)[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?-u:\b)",
        check: ipv4,
    },
    Pattern {
        kind: Kind::Ip,
        gate: "[0-9A-Fa-f]{1,4}::?[0-9A-Fa-f]{0,4}:",
        expression: r"(?-u:\b)[0-9A-Fa-f]{1,4}:[0-9A-Fa-f:]{2,34}(?:[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3})?",
        check: ipv6,
    },
    // With the code of a country.
    Pattern {
        kind: Kind::Phone,
        gate: r"[+][0-9(]|00[1-9]",
        expression: r"(?:\+|\(\+|(?-u:\b)00)[1-9](?:[ \u{a0}./()-]{0,3}[0-9]){6,16}",
        check: international,
    },
    // North America.
    Pattern {
        kind: Kind::Phone,
        gate: r"[0-9]{3}[)]?[ .-]{1,2}[0-9]{3}[ .-][0-9]{4}",
        expression: r"(?:(?-u:\b)1[ .-]?)?(?:\([2-9][0-9]{2}\) ?|(?-u:\b)[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4}(?-u:\b)",
        check: national,
    },
    // France: five pairs.
    Pattern {
        kind: Kind::Phone,
        gate: "0[1-9](?:[ .-][0-9]{2}){4}",
        expression: r"(?-u:\b)0[1-9](?:[ .-][0-9]{2}){4}(?-u:\b)",
        check: national,
    },
    // A trunk 0 and an area code: Germany, Austria, Switzerland, the United Kingdom, Italy and others.
    Pattern {
        kind: Kind::Phone,
        gate: r"0[1-9][0-9]{1,4}[)]?[ /-]",
        expression: r"(?:\(0[1-9][0-9]{1,4}\)|(?-u:\b)0[1-9][0-9]{1,4})(?: ?[/-] ?| )[0-9]{2,8}(?:[ -][0-9]{2,6}){0,4}(?-u:\b)",
        check: with_trunk,
    },
    // Any number after a word that announces one.
    Pattern {
        kind: Kind::Phone,
        gate: r"(?i)tel|t[ée]l[ée]|phone|mobil|m[óo]vil|cell|call|fax|whatsapp|handy|ruf|portable|ll[aá]m|nummer|appel|num[eéè]ro|n[úu]mero|chiam|text|sms|ring|reach",
        expression: concat!(
            r"(?i:(?-u:\b)(?:tel|t[ée]l|t[ée]l[ée]phone|telefono|tel[ée]fono|telefon(?:nummer)?|phone|mobile?|mobil(?:nummer)?|cell|call|fax|whatsapp",
            r"|handy(?:nummer)?|rufnummer|ruf|rufen|portable|m[óo]vil|ll[aá]m[ae](?:me|nos)?|nummer|appele[zr]?|numero|num[ée]ro|n[úu]mero|chiama(?:mi|re|ci)?",
            r"|cellulare|text|sms|ring|reach)(?:[ :.,=#è-]|(?-u:\b)(?:me|us|him|her|them|at|on|is|under|number|no|nr|my|home|work|mobile|cell|phone|or|sie|mich|uns|ihn|an",
            r"|unter|auf|ist|lautet|die|moi|nous|au|le|la|est|al|el|es|il|lo|mi|mon|meu|de|do)(?-u:\b)){1,8})",
            r"(\(?\+?[0-9]{1,12}\)?(?:[ ./-]{0,2}[0-9]{2,8}){0,5})(?-u:\b)",
        ),
        check: announced,
    },
];

/// Longest local part and longest domain that are looked at, in characters.
const LOCAL_CHARS_MAX: usize = 64;
const DOMAIN_CHARS_MAX: usize = 253;

/// Grows an address on both sides of its `@`. Not addresses: pictures at two resolutions, units of systemd, packages
/// with a version, repositories over SSH.
fn email(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    const NO_DOMAINS: [&str; 20] = [
        "png", "jpg", "jpeg", "gif", "svg", "webp", "avif", "ico", "js", "mjs", "tsx", "jsx", "css", "scss",
        "json", "html", "service", "socket", "timer", "mount",
    ];
    let letter = checks::is_of_spaced_word;
    let inside = |c: char| letter(c) || matches!(c, '.' | '_' | '%' | '+' | '-' | '\'');
    let before = candidate.before();
    let local: usize =
        before.chars().rev().take(LOCAL_CHARS_MAX).take_while(|c| inside(*c)).map(char::len_utf8).sum();
    let local = before[before.len() - local..].trim_start_matches(|c: char| !c.is_alphanumeric());
    let after = candidate.after();
    let domain: usize = after
        .chars()
        .take(DOMAIN_CHARS_MAX)
        .take_while(|c| letter(*c) || matches!(c, '.' | '-'))
        .map(char::len_utf8)
        .sum();
    let domain = after[..domain].trim_end_matches(['.', '-']);
    let (hosts, last) = domain.rsplit_once('.')?;
    let named = !local.is_empty()
        && hosts.split('.').all(|host| !host.is_empty() && !host.starts_with('-'))
        && last.chars().count() >= 2
        && last.chars().all(char::is_alphabetic)
        && !NO_DOMAINS.contains(&last.to_lowercase().as_str());
    let repository = local == "git" && after[domain.len()..].starts_with([':', '/'])
        || before[..before.len() - local.len()].ends_with("://");
    let Range { start, end } = candidate.range;
    (named && !repository).then(|| start - local.len()..end + domain.len())
}

/// All ones and all zeros are everybody's; longer chains are fingerprints.
fn mac_address(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    let chained = candidate.before().ends_with([':', '-']) || candidate.after().starts_with([':', '-']);
    let digits = candidate.as_str().replace([':', '-'], "").to_lowercase();
    let everybody = digits == "ffffffffffff" || digits == "000000000000";
    candidate.when(!chained && !everybody)
}

/// Addresses of a host that exists somewhere: neither documentation, loopback, masks nor networks, nor versions.
fn ipv4(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    let address: Ipv4Addr = candidate.as_str().parse().ok()?;
    let [first, .., last] = address.octets();
    // Numbers of versions and chapters; the few hosts that look like them are everybody's name servers.
    let small = address.octets().iter().all(|octet| *octet < 10);
    let nobody = small
        || address.is_loopback()
        || address.is_unspecified()
        || address.is_documentation()
        || address.is_multicast()
        || first == 0
        || first == 255;
    let network = last == 0 && candidate.after().starts_with('/');
    let longer = candidate.before().ends_with('.')
        || candidate
            .after()
            .strip_prefix('.')
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let version = checks::ends_with_word(candidate.before(), &["version", "release", "v", "build", "ver"])
        || candidate.before().ends_with(['/', '=', '_', '-', '~', '^'])
            && !candidate.before().ends_with("//")
            && candidate
                .before()
                .trim_end_matches(['/', '=', '_', '-', '~', '^'])
                .ends_with(char::is_alphabetic)
            && candidate.as_str().ends_with(".0");
    candidate.when(!nobody && !network && !longer && !version)
}

/// Addresses of a host; a path of a programming language such as `a::b` is none.
fn ipv6(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    let start = candidate.range.start;
    let text = candidate.as_str().trim_end_matches(':');
    let address: Ipv6Addr = text.parse().ok()?;
    let groups = text.split(':').filter(|group| !group.is_empty()).count();
    let digit = text.contains(|c: char| c.is_ascii_digit());
    let [first, second, ..] = address.segments();
    let nobody = address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || (first, second) == (0x2001, 0xdb8);
    let joined = candidate.before().ends_with(|c: char| c.is_alphanumeric() || c == ':');
    // Of an unknown kind it takes more groups to tell it from a path.
    let groups_min = if matches!(first, 0x2000..=0x3fff | 0xfc00..=0xfebf) { 3 } else { 4 };
    (digit && groups >= groups_min && !nobody && !joined).then(|| start..start + text.len())
}

/// With country or area code; the upper bound is that of ITU-T E.164.
const PHONE_DIGITS: RangeInclusive<usize> = 8..=15;

fn international(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    phone(candidate, PHONE_DIGITS)
}

fn national(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    let row = checks::in_row_of_numbers(candidate);
    if row { None } else { phone(candidate, PHONE_DIGITS) }
}

fn with_trunk(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    /// Words before a number that is none of a telephone.
    const OTHER: &[&str] = &[
        "no",
        "nr",
        "part",
        "order",
        "sku",
        "art",
        "ref",
        "id",
        "invoice",
        "rechnung",
        "bestellung",
        "article",
        "pedido",
        "ticket",
        "case",
        "item",
        "serial",
    ];
    let other = checks::ends_with_word(candidate.before(), OTHER) || checks::in_row_of_numbers(candidate);
    if other { None } else { phone(candidate, 9..=13) }
}

fn announced(candidate: &Candidate<'_>) -> Option<Range<usize>> {
    phone(candidate, 7..=15)
}

/// Takes a number of so many digits that is no part of something longer.
fn phone(candidate: &Candidate<'_>, digits: RangeInclusive<usize>) -> Option<Range<usize>> {
    let holds = digits.contains(&checks::digits(candidate.as_str())) && checks::stands_apart(candidate);
    candidate.when(holds)
}
