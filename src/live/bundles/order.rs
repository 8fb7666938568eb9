//! Which version is later, by its name. Pure.

use std::cmp::Ordering;

/// Compares two versions as people count: 3.0.17 is later than 3.0.9, and 3.0.0 than 3.0.0-rc.1. Names that are the same
/// to people, such as 1.0 and 1.00, are told apart by their text, so that an order is always the same.
pub fn compare(one: &str, other: &str) -> Ordering {
    let ((core, suffix), (other_core, other_suffix)) = (halves(one), halves(other));
    natural(core, other_core)
        // One without a suffix is what those with one led to.
        .then_with(|| suffix.is_none().cmp(&other_suffix.is_none()))
        .then_with(|| natural(suffix.unwrap_or_default(), other_suffix.unwrap_or_default()))
        .then_with(|| one.cmp(other))
}

fn halves(version: &str) -> (&str, Option<&str>) {
    version.split_once('-').map_or((version, None), |(core, suffix)| (core, Some(suffix)))
}

/// Compares runs of digits as numbers, and all else as text.
fn natural(mut one: &str, mut other: &str) -> Ordering {
    loop {
        let (number, other_number);
        let (text, other_text);
        (text, one) = taken(one, |c| !c.is_ascii_digit());
        (other_text, other) = taken(other, |c| !c.is_ascii_digit());
        (number, one) = taken(one, |c| c.is_ascii_digit());
        (other_number, other) = taken(other, |c| c.is_ascii_digit());
        let (number, other_number) = (number.trim_start_matches('0'), other_number.trim_start_matches('0'));
        // A longer number is a larger one, however long: a version may be a date.
        let order = text
            .cmp(other_text)
            .then_with(|| number.len().cmp(&other_number.len()))
            .then_with(|| number.cmp(other_number));
        if order.is_ne() || (one.is_empty() && other.is_empty()) {
            return order;
        }
    }
}

fn taken(text: &str, of: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !of(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_the_order_in_which_people_count() {
        let ascending = [
            "",
            "0.9.0",
            "1.0.0-alpha",
            "1.0.0-rc.2",
            "1.0.0-rc.10",
            "1.0.0",
            "1.0.0+later",
            "3.0.9",
            "3.0.17",
            "20261122",
            "a",
            "a2",
            "a10",
            "default",
        ];
        for (at, one) in ascending.iter().enumerate() {
            for (other_at, other) in ascending.iter().enumerate() {
                assert_eq!(compare(one, other), at.cmp(&other_at), "{one} and {other}");
            }
        }
        assert_eq!((compare("1.0", "1.00"), compare("1.0", "1.0")), (Ordering::Less, Ordering::Equal));
    }
}
