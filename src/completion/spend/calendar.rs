//! Days and calendar months in UTC. Pure.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

const DAY_SECONDS: i64 = 24 * 60 * 60;
/// Last day that is told from others, 9999-12-31; a clock beyond it is broken.
const DAY_MAX: i64 = 2_932_896;

/// A day, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Day(i64);

/// A calendar month, counted from January of year 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Month(i64);

/// A moment with its day and month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub day: Day,
    pub month: Month,
    /// Since 1970-01-01.
    since_epoch: Duration,
}

impl Now {
    /// Returns the day and month of this moment; a clock before 1970 counts as 1970.
    pub fn of(moment: SystemTime) -> Self {
        let since_epoch = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        let days = since_epoch.as_secs() / DAY_SECONDS as u64;
        let day = Day(i64::try_from(days).unwrap_or(DAY_MAX).min(DAY_MAX));
        Self { day, month: day.month(), since_epoch }
    }

    /// Returns how long it is until the day after this one begins.
    pub fn until_end_of_day(self, day: Day) -> Duration {
        self.until(day.0 + 1)
    }

    /// Returns how long it is until the month after this one begins.
    pub fn until_end_of_month(self, month: Month) -> Duration {
        self.until(Month(month.0 + 1).first_day())
    }

    fn until(self, day: i64) -> Duration {
        let begins = Duration::from_secs(u64::try_from(day * DAY_SECONDS).unwrap_or_default());
        begins.saturating_sub(self.since_epoch)
    }
}

impl Day {
    /// Returns how many days this one is after another; negative before it.
    pub fn after(self, other: Self) -> i64 {
        self.0 - other.0
    }

    fn month(self) -> Month {
        let (year, month, _) = self.civil();
        Month(year * 12 + month - 1)
    }

    /// Year, month from 1, day from 1. Counted in years that begin in March, so that a leap day comes last,
    /// and in eras of 400 years, which all have as many days.
    fn civil(self) -> (i64, i64, i64) {
        let days = self.0 + MARCH_0_TO_EPOCH_DAYS;
        let (era, of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
        let leap_days = of_era / 1460 - of_era / 36_524 + of_era / (ERA_DAYS - 1);
        let year_of_era = (of_era - leap_days) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let day = of_year - days_before(march_month) + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        (era * 400 + year_of_era + i64::from(month <= 2), month, day)
    }
}

impl Month {
    /// Returns how many months this one is after another; negative before it.
    pub fn after(self, other: Self) -> i64 {
        self.0 - other.0
    }

    /// Days from 1970-01-01 to the month's first.
    fn first_day(self) -> i64 {
        let (year, month) = (self.0.div_euclid(12), self.0.rem_euclid(12) + 1);
        let (march_year, march_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let (era, year_of_era) = (march_year.div_euclid(400), march_year.rem_euclid(400));
        let of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + days_before(march_month);
        era * ERA_DAYS + of_era - MARCH_0_TO_EPOCH_DAYS
    }
}

const ERA_DAYS: i64 = 146_097;
const MARCH_0_TO_EPOCH_DAYS: i64 = 719_468;

/// Days of a year that begins in March before this month of it, 0 for March.
fn days_before(march_month: i64) -> i64 {
    (153 * march_month + 2) / 5
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }
}

impl From<Day> for String {
    fn from(day: Day) -> Self {
        day.to_string()
    }
}

impl From<Month> for String {
    fn from(month: Month) -> Self {
        month.to_string()
    }
}

impl TryFrom<String> for Day {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = || {
            let (month, day) = text.rsplit_once('-')?;
            let month = Month::try_from(month.to_owned()).ok()?;
            Some(Self(month.first_day() + digits(day, 2)? - 1))
        };
        // What is printed otherwise, such as a 31st of February, is none.
        parsed()
            .filter(|day| day.to_string() == text)
            .ok_or_else(|| format!("{text:?} is no day (YYYY-MM-DD)"))
    }
}

impl TryFrom<String> for Month {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = || {
            let (year, month) = text.split_once('-')?;
            Some(Self(digits(year, 4)? * 12 + digits(month, 2)? - 1))
        };
        parsed()
            .filter(|month| month.to_string() == text)
            .ok_or_else(|| format!("{text:?} is no month (YYYY-MM)"))
    }
}

fn digits(text: &str, count: usize) -> Option<i64> {
    (text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Now {
        Now::of(UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn days_and_months_of_known_moments() {
        // As `date -u -d @SECONDS` prints them.
        for (seconds, day) in [
            (0, "1970-01-01"),
            (86_399, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_709_164_800, "2024-02-29"),
            (1_740_700_800, "2025-02-28"),
            (1_740_787_200, "2025-03-01"),
            (1_798_761_599, "2026-12-31"),
            (1_798_761_600, "2027-01-01"),
            (4_107_542_400, "2100-03-01"),
        ] {
            let now = at(seconds);
            assert_eq!(now.day.to_string(), day, "{seconds}");
            assert_eq!(now.month.to_string(), day[..7], "{seconds}");
        }
    }

    #[test]
    fn broken_clocks_have_a_day_too() {
        assert_eq!(Now::of(UNIX_EPOCH - Duration::from_secs(5)).day.to_string(), "1970-01-01");
        assert_eq!(at(1 << 60).day.to_string(), "9999-12-31");
    }

    #[test]
    fn a_day_and_a_month_end_at_midnight() {
        // 2026-12-31 23:59:59.
        let now = at(1_798_761_599);
        assert_eq!(now.until_end_of_day(now.day), Duration::from_secs(1));
        assert_eq!(now.until_end_of_month(now.month), Duration::from_secs(1));
        // 2026-02-01 00:00:00.
        let now = at(1_769_904_000);
        assert_eq!(now.until_end_of_month(now.month), Duration::from_secs(28 * 86_400));
        let past = at(0);
        assert_eq!(now.until_end_of_day(past.day), Duration::ZERO);
    }

    #[test]
    fn only_real_days_and_months_are_read() {
        let is_day = |text: &str| Day::try_from(text.to_owned()).is_ok();
        assert!(is_day("2024-02-29"));
        for bad in
            ["", "2025-02-29", "2026-13-01", "2026-00-10", "2026-1-01", "2026-01-32", "+026-01-01", "x"]
        {
            assert!(!is_day(bad), "{bad}");
        }
        assert!(Month::try_from("2026-12".to_owned()).is_ok());
        for bad in ["", "2026", "2026-13", "2026-00", "2026-1", "26-01"] {
            assert!(Month::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_day_is_read_as_it_was_printed_and_follows_the_one_before(day in 0..DAY_MAX) {
            let (today, tomorrow) = (Day(day), Day(day + 1));
            prop_assert_eq!(Day::try_from(today.to_string()), Ok(today));
            let (year, month, of_month) = today.civil();
            let next = tomorrow.civil();
            prop_assert!(
                next == (year, month, of_month + 1)
                    || (next == (year, month + 1, 1) && of_month >= 28)
                    || (next == (year + 1, 1, 1) && (month, of_month) == (12, 31))
            );
            prop_assert!(today.month().first_day() == day - of_month + 1);
        }
    }
}
