//! Identifiers and times as the store orders and compares them. Pure.

use std::borrow::Cow;

use uuid::Uuid;

/// Milliseconds of one day of UTC.
pub const DAY_MS: i64 = 86_400_000;
/// A UUIDv7 has 48 bits of milliseconds before 80 others.
const TIME_SHIFT: u32 = 80;
const TIME_MS_MAX: i64 = (1 << 48) - 1;

/// Returns when a decision was made, milliseconds since 1970: the time in its identifier, whatever else claims to know it.
pub(in crate::traffic) fn moment(decision: Uuid) -> i64 {
    i64::try_from(decision.as_u128() >> TIME_SHIFT).expect("48 bits fit in 63")
}

/// Returns the day of a decision, counted from 1970.
pub(in crate::traffic) fn day(decision: Uuid) -> i64 {
    moment(decision) / DAY_MS
}

/// Returns the least identifier of a decision made at or after `at_ms`; `None` where identifiers do not reach.
pub(super) fn first_at(at_ms: i64) -> Option<Uuid> {
    let at_ms = u128::try_from(at_ms.max(0)).expect("it is not negative");
    (at_ms <= TIME_MS_MAX as u128).then(|| Uuid::from_u128(at_ms << TIME_SHIFT))
}

/// Returns a text that any database keeps in a column: PostgreSQL knows no NUL, so its picture stands for it. In
/// documents JSON writes it in letters.
pub(in crate::traffic) fn column_text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{2400}")) } else { Cow::Borrowed(text) }
}

/// Returns a figure that a column takes: none that is not a number.
pub(super) fn column_figure(figure: f64) -> f64 {
    if figure.is_finite() { figure } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn texts_of_identifiers_are_in_the_order_of_time(a: u128, b: u128) {
            let (a, b) = (Uuid::from_u128(a), Uuid::from_u128(b));
            prop_assert_eq!(a.cmp(&b), (day(a), a.to_string()).cmp(&(day(b), b.to_string())));
            prop_assert!(moment(a) == moment(b) || moment(a).cmp(&moment(b)) == a.cmp(&b));
        }

        #[test]
        fn the_first_of_a_moment_is_the_first(id: u128) {
            let id = Uuid::from_u128(id);
            let first = first_at(moment(id)).expect("identifiers reach there");
            prop_assert!(first <= id && moment(first) == moment(id));
        }
    }

    #[test]
    fn times_outside_of_identifiers() {
        assert_eq!(first_at(i64::MIN), Some(Uuid::nil()));
        assert_eq!(first_at(TIME_MS_MAX + 1), None);
        assert_eq!(first_at(i64::MAX), None);
    }

    #[test]
    fn the_time_of_a_real_identifier() {
        let id: Uuid = "0190b1f6-5c00-7abc-8def-0123456789ab".parse().expect("it is one");
        assert_eq!(moment(id), 0x0190_b1f6_5c00);
        assert_eq!(day(id), 0x0190_b1f6_5c00 / DAY_MS);
    }

    #[test]
    fn columns_take_every_text_and_figure() {
        assert_eq!(column_text("a\0b"), "a\u{2400}b");
        assert_eq!(column_text("ab"), "ab");
        assert_eq!(column_figure(f64::NAN), 0.0);
        assert_eq!(column_figure(1.5), 1.5);
    }
}
