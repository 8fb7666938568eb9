//! Moments as people type them: a time ago, a day, RFC 3339. Days are those of UTC.

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, Utc};
use clap::Args;

use super::CliError;

const SECOND_MS: i64 = 1_000;
/// Longest time ago, a hundred years: whoever wants all leaves it out.
const AGO_MS_MAX: i64 = 36_525 * 86_400 * SECOND_MS;

/// A span of time, as it is typed.
#[derive(Debug, Args)]
pub struct SpanArguments {
    /// From here on: a time ago (90m, 12h, 1d, 2w), a day of UTC (2026-01-31) or RFC 3339.
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Before this moment, written as for --since; a day ends before its first moment.
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
}

/// A span of time, milliseconds since 1970: from the first on and before the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from_ms: Option<i64>,
    pub until_ms: Option<i64>,
}

impl SpanArguments {
    /// Returns the span; `since` holds where nothing was typed.
    pub fn span(&self, since: Option<&str>, now_ms: i64) -> Result<Span, CliError> {
        Span::read(self.since.as_deref().or(since), self.until.as_deref(), now_ms)
    }
}

impl Span {
    /// Reads the values of `--since` and `--until`.
    pub fn read(since: Option<&str>, until: Option<&str>, now_ms: i64) -> Result<Self, CliError> {
        let read = |option: &str, text: &str| {
            moment(text, now_ms).ok_or_else(|| {
                CliError::Usage(format!(
                    "{option} {text}: neither a time ago (90m, 12h, 1d, 2w), a day (2026-01-31) nor a moment \
                     (2026-01-31T09:00:00Z)"
                ))
            })
        };
        let from_ms = since.map(|text| read("--since", text)).transpose()?;
        let until_ms = until.map(|text| read("--until", text)).transpose()?;
        match (from_ms, until_ms) {
            (Some(from), _) if from > now_ms => Err(CliError::Usage(format!(
                "--since {}: is in the future, {} has not come",
                since.unwrap_or_default(),
                shown(from)
            ))),
            (Some(from), Some(until)) if until <= from => Err(CliError::Usage(format!(
                "--until: ends at {}, before --since begins at {}",
                shown(until),
                shown(from)
            ))),
            _ => Ok(Self { from_ms, until_ms }),
        }
    }
}

/// Returns a moment in RFC 3339.
pub fn shown(at_ms: i64) -> String {
    let moment = DateTime::<Utc>::from_timestamp_millis(at_ms).unwrap_or_default();
    moment.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Returns how long ago a moment was, in its largest unit.
pub fn ago(at_ms: i64, now_ms: i64) -> String {
    let past_ms = now_ms.saturating_sub(at_ms).max(0);
    let units =
        [(86_400 * SECOND_MS, "d"), (3_600 * SECOND_MS, "h"), (60 * SECOND_MS, "min"), (SECOND_MS, "s")];
    let unit = units.into_iter().find(|&(unit_ms, _)| past_ms >= unit_ms);
    unit.map_or_else(|| "now".to_owned(), |(unit_ms, unit)| format!("{} {unit}", past_ms / unit_ms))
}

/// Returns a day that is counted from 1970.
pub fn day_shown(day: i64) -> String {
    let moment = DateTime::<Utc>::from_timestamp(day.saturating_mul(86_400), 0).unwrap_or_default();
    moment.format("%Y-%m-%d").to_string()
}

/// Returns milliseconds since 1970; `None` when it is no moment.
fn moment(text: &str, now_ms: i64) -> Option<i64> {
    let ago = || now_ms.checked_sub(ago_ms(text)?);
    let day = || {
        let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
        Some(day.and_time(NaiveTime::MIN).and_utc().timestamp_millis())
    };
    let exact = || Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis());
    ago().or_else(day).or_else(exact)
}

fn ago_ms(text: &str) -> Option<i64> {
    let unit = match text.chars().next_back()? {
        's' => SECOND_MS,
        'm' => 60 * SECOND_MS,
        'h' => 3_600 * SECOND_MS,
        'd' => 86_400 * SECOND_MS,
        'w' => 7 * 86_400 * SECOND_MS,
        _ => return None,
    };
    let number = &text[..text.len() - 1];
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<i64>().ok()?.checked_mul(unit).filter(|ms| *ms <= AGO_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-30T10:00:00Z
    const NOW: i64 = 1_769_767_200_000;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(moment(text, NOW).map(shown).as_deref(), expected, "{text}");
    }

    #[test]
    fn moments_are_read() {
        check("1d", Some("2026-01-29T10:00:00Z"));
        check("90m", Some("2026-01-30T08:30:00Z"));
        check("2w", Some("2026-01-16T10:00:00Z"));
        check("0s", Some("2026-01-30T10:00:00Z"));
        check("2026-01-29", Some("2026-01-29T00:00:00Z"));
        check("2026-01-29T10:00:00Z", Some("2026-01-29T10:00:00Z"));
        check("2026-01-29T10:00:00.5+02:00", Some("2026-01-29T08:00:00.500Z"));
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "d",
            "-1d",
            "+1d",
            "1",
            "1 d",
            "1y",
            "1é",
            "2026-02-30",
            "2026-01",
            "yesterday",
            "99999w",
            "9999999999999999999d",
        ] {
            check(text, None);
        }
    }

    fn span(since: &'static str, until: &'static str) -> Result<Span, String> {
        let typed = |text: &'static str| Some(text).filter(|text| !text.is_empty());
        Span::read(typed(since), typed(until), NOW).map_err(|error| error.to_string())
    }

    #[test]
    fn spans_run_forward() {
        assert_eq!(span("", ""), Ok(Span { from_ms: None, until_ms: None }));
        let day = 86_400_000;
        assert_eq!(span("2d", "1d"), Ok(Span { from_ms: Some(NOW - 2 * day), until_ms: Some(NOW - day) }));
        for (since, until, expected) in [
            ("2026-01-31", "", "--since 2026-01-31: is in the future, 2026-01-31T00:00:00Z has not come"),
            (
                "1d",
                "2d",
                "--until: ends at 2026-01-28T10:00:00Z, before --since begins at 2026-01-29T10:00:00Z",
            ),
            ("1d", "1d", "--until: ends at"),
            ("soon", "", "--since soon: neither a time ago"),
            ("", "late", "--until late: neither a time ago"),
        ] {
            let error = span(since, until).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
