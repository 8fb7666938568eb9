//! Marks, places and limits of redaction; what is found how well stands in `set_tests`.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn check(text: &str, expected: &str) {
    assert_eq!(redact(text).text, expected);
}

#[test]
fn every_pattern_compiles_and_has_no_empty_match() {
    assert!(!PATTERNS.expressions.is_empty());
    for (pattern, expression) in &PATTERNS.expressions {
        assert!(!expression.is_match(""), "{}", pattern.expression);
    }
    assert_eq!(MARKS.find_iter("[EMAIL] [EMAI] [KEY]").count(), 2);
}

#[test]
fn what_stands_beside_stays_as_it_is() {
    check("", "");
    check("nothing to see", "nothing to see");
    check("a\u{0}b\r\n\tanna@example.org\u{feff}é", "a\u{0}b\r\n\t[EMAIL]\u{feff}é");
    check("日本anna@example.org", "日本[EMAIL]");
    check("x [EMAIL] y", "x [EMAIL] y");
    check("[[EMAIL]anna@example.org[KEY", "[[EMAIL][EMAIL][KEY");
}

#[test]
fn the_count_is_of_places() {
    let redacted = redact("a@example.org, b@example.org");
    assert_eq!((redacted.text.as_ref(), redacted.count), ("[EMAIL], [EMAIL]", 2));
    assert!(matches!(redact("plain words").text, Cow::Borrowed(_)));
}

#[test]
fn a_key_that_was_cut_off_is_taken_to_its_end() {
    check("-----BEGIN PRIVATE KEY-----\nMIIEow+/=\nabc", "[KEY]");
    check("-----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY-----\nbye", "[KEY]\nbye");
    check("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END", "[KEY]");
    check("-----BEGIN PRIVATE KEY-----\nMIIE\n(end of file)", "[KEY](end of file)");
}

#[test]
fn time_grows_with_the_text_and_with_nothing_else() {
    const BYTES: usize = 1 << 18;
    /// Very generous: debug builds on a busy machine take a fiftieth.
    const PATIENCE: Duration = Duration::from_secs(60);
    for piece in [
        "a",
        "1",
        "1 ",
        "1.",
        "1-",
        "a@",
        "a.",
        "@",
        ":",
        "::1",
        "0",
        "00",
        "+1",
        "eyJ",
        "eyJaaaaaaaaaa.",
        "sk-",
        "sk-a1",
        "password=",
        "password: ",
        "Dear ",
        "Dear A ",
        "My name is A",
        "A. ",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----!",
        "://a:",
        "://a:b@",
        "ab:",
        "1111 ",
        "4111 1111 1111 1111 ",
        "DE89",
        "de893",
        "tel ",
        "tel 12 34 ",
        "a@b.co ",
        "\n",
        "Regards\n",
        "é",
        "[EMAIL]",
        "<",
        "A <",
        "token=a1",
        "1.2.3.4 ",
        "1.2.3.4a@b.co",
    ] {
        let text = piece.repeat(BYTES / piece.len());
        let begin = Instant::now();
        let redacted = redact(&text);
        let took = begin.elapsed();
        assert!(took < PATIENCE, "{piece:?}: {took:?}");
        assert!(redacted.text.len() <= 2 * text.len(), "{piece:?}");
    }
}

/// Pieces of which texts are made that come close to every pattern.
fn piece() -> impl Strategy<Value = String> {
    let pieces = [
        "anna",
        "@",
        ".",
        "example.org",
        "4111",
        " ",
        "-",
        "1111",
        "+49",
        "0151",
        "234567",
        "sk-",
        "aB3dE5fG7hJ9kL1mN3pQ5",
        "password",
        ": ",
        "=",
        "\"",
        "Dear ",
        "Ms ",
        "Smith",
        ",",
        "\n",
        "Regards",
        "DE89370400440532013000",
        "192.168.7.9",
        "::",
        "2a02:8109",
        ":",
        "[EMAIL]",
        "[KEY",
        "]",
        "<",
        ">",
        "eyJhbGciOiJI",
        "Bearer ",
        "token",
        "https://",
        "078-05-1121",
        "/",
        "é",
        "日",
        "tel ",
        "-----BEGIN PRIVATE KEY-----",
        "(",
        ")",
        "x",
        "3C:22:FB:9A:01:7E",
        "name is ",
        "From: ",
        "0",
        "00",
    ];
    prop_oneof![
        8 => proptest::sample::select(pieces.to_vec()).prop_map(str::to_owned),
        1 => "[ -~]{1,6}",
        1 => any::<char>().prop_map(String::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn redacting_twice_changes_nothing(pieces in proptest::collection::vec(piece(), 0..24)) {
        let text = pieces.concat();
        let once = redact(&text);
        let twice = redact(&once.text);
        prop_assert_eq!(&twice.text, &once.text);
        prop_assert_eq!(twice.count, 0);
    }

    #[test]
    fn finds_are_in_order_and_whole_characters(pieces in proptest::collection::vec(piece(), 0..24)) {
        let text = pieces.concat();
        let mut from = 0;
        for find in find(&text) {
            prop_assert!(find.range.start >= from && find.range.end > find.range.start);
            prop_assert!(text.is_char_boundary(find.range.start) && text.is_char_boundary(find.range.end));
            from = find.range.end;
        }
    }

    #[test]
    fn gates_hide_nothing(pieces in proptest::collection::vec(piece(), 0..16)) {
        let text = pieces.concat();
        let every: Vec<usize> = (0..PATTERNS.expressions.len()).collect();
        let open: Vec<usize> = PATTERNS.gates.matches(&text).into_iter().collect();
        prop_assert_eq!(read(&text, 0, &open), read(&text, 0, &every));
    }

    #[test]
    fn any_text_is_taken(text in any::<String>()) {
        redact(&text);
    }
}
