//! How much room each day takes in PostgreSQL, what belongs to it in other tables included. Never changes anything.

use std::collections::BTreeMap;

use sqlx::{Any, Row, Transaction};

use super::{Store, StoreError, postgres::PARTITION};

const PARTITION_SIZES: &str = "SELECT CAST(relname AS TEXT), CAST(pg_total_relation_size(oid) AS BIGINT) FROM pg_class \
     WHERE oid IN (SELECT relid FROM pg_partition_tree('traffic') WHERE isleaf)";

/// A table in which rows of all days stand: it does not shrink when rows are deleted, so rows are counted and not its
/// size. Texts without the share that is read, which is a value.
struct Beside {
    size: &'static str,
    /// Days, NULL for what no partition takes with it, and the bytes of their rows: of the document as it is kept, and
    /// of a row's other columns, header and places in indexes, measured with 100,000 rows in PostgreSQL 15.
    days: [&'static str; 2],
}

const BESIDE: [Beside; 2] = [
    Beside {
        size: "SELECT CAST(pg_relation_size('feedback') AS BIGINT)",
        days: [
            "SELECT CASE WHEN known = 1 THEN day END AS of_day, CAST(SUM(pg_column_size(document) + 340) AS BIGINT) \
             FROM feedback TABLESAMPLE SYSTEM (",
            ") GROUP BY of_day",
        ],
    },
    Beside {
        size: "SELECT CAST(pg_relation_size('shadow_scores') AS BIGINT)",
        days: [
            "SELECT day AS of_day, CAST(SUM(pg_column_size(document) + 180) AS BIGINT) \
             FROM shadow_scores TABLESAMPLE SYSTEM (",
            ") GROUP BY of_day",
        ],
    },
];

/// So much of a table is read, and the rest taken to be like it: less than a second once an hour, and 16,000 pages.
const READ_BYTES_MAX: u32 = 128 << 20;

/// What each day takes, bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Days that have a partition, with its size.
    partitions: BTreeMap<i64, u64>,
    /// What belongs to days in other tables.
    beside: BTreeMap<i64, u64>,
    /// What goes with no day.
    rest: u64,
}

impl Sizes {
    /// Returns the days that have a partition and may go to make room, those first that go first: the oldest. Of those
    /// that are not later than today the newest is kept; what claims to be later than tomorrow comes last, and does not
    /// keep itself.
    pub fn droppable(&self, today: i64) -> Vec<i64> {
        let newest = self.partitions.range(..=today).next_back().or(self.partitions.first_key_value());
        let newest = newest.map(|(day, _)| *day);
        // A clock that is a little fast begins the next day a little early.
        let is_kept = |day: i64| Some(day) == newest || day == today + 1;
        self.partitions.keys().copied().filter(|day| !is_kept(*day)).collect()
    }

    /// Takes a day as gone, with all that belongs to it.
    pub fn forget(&mut self, day: i64) {
        self.partitions.remove(&day);
        self.beside.remove(&day);
    }

    /// Returns what takes room and goes with no day that has a partition.
    pub fn of_no_day(&self) -> u64 {
        let days = self.beside.iter().filter(|(day, _)| !self.partitions.contains_key(day));
        self.rest + days.map(|(_, bytes)| bytes).sum::<u64>()
    }

    /// Returns what all takes.
    pub fn total(&self) -> u64 {
        self.partitions.values().chain(self.beside.values()).sum::<u64>() + self.rest
    }
}

impl Store {
    /// Returns what each day takes.
    pub(super) async fn sizes(&self) -> Result<Sizes, StoreError> {
        self.bounded(async {
            let mut transaction = self.read().await?;
            self.read_sizes(&mut transaction).await.map_err(|error| self.failed(&error))
        })
        .await
    }

    async fn read_sizes(&self, transaction: &mut Transaction<'static, Any>) -> Result<Sizes, sqlx::Error> {
        let bytes = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
        let mut sizes = Sizes::default();
        for row in sqlx::query(PARTITION_SIZES).fetch_all(&mut **transaction).await? {
            let name: String = row.try_get(0)?;
            if let Some(day) = name.strip_prefix(PARTITION).and_then(|day| day.parse().ok()) {
                sizes.partitions.insert(day, bytes(row.try_get(1)?));
            }
        }
        for Beside { size, days: [before, after] } in BESIDE {
            let size: i64 = sqlx::query_scalar(size).fetch_one(&mut **transaction).await?;
            let share = (f64::from(READ_BYTES_MAX) / size.max(1) as f64).min(1.0);
            let mut select = self.statement(before);
            select.value(share * 100.0).push(after);
            for row in select.query().fetch_all(&mut **transaction).await? {
                let of_day = (bytes(row.try_get(1)?) as f64 / share) as u64;
                match row.try_get(0)? {
                    Some(day) => *sizes.beside.entry(day).or_default() += of_day,
                    None => sizes.rest += of_day,
                }
            }
        }
        Ok(sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_the_newest_of_the_past_is_kept() {
        let check = |days: &[i64], expected: &[i64]| {
            let partitions = days.iter().map(|day| (*day, 1)).collect();
            assert_eq!(Sizes { partitions, ..Sizes::default() }.droppable(10), expected);
        };
        check(&[], &[]);
        check(&[9], &[]);
        check(&[7, 8, 9], &[7, 8]);
        check(&[7, 8, 10], &[7, 8]);
        // A clock that was ahead has made a day.
        check(&[7, 8, 10, 99], &[7, 8, 99]);
        check(&[11, 99], &[99]);
        check(&[9, 10, 11], &[9]);
    }

    #[test]
    fn a_day_goes_with_what_belongs_to_it() {
        let mut sizes = Sizes {
            partitions: BTreeMap::from([(1, 10), (2, 20)]),
            beside: BTreeMap::from([(0, 1), (1, 100)]),
            rest: 1_000,
        };
        assert_eq!((sizes.total(), sizes.of_no_day()), (1_131, 1_001));
        sizes.forget(1);
        assert_eq!(sizes.total(), 1_021);
    }
}
