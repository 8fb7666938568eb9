//! Which records are new to somebody who follows a store that is ordered by the time of decisions. Pure.
//!
//! A store does not say what came last, and clocks differ: one may be set back, a replica's may be ahead. So what is new
//! is looked for in two places: around the present, where records land late, and after the newest of all.

use std::{collections::BTreeSet, ops::Range};

use uuid::Uuid;

use crate::traffic::record::Logged;

/// A record lands when its request has ended, so a long one lands behind later ones: so far back is looked for them. As
/// far ahead is the present of a replica whose clock is a little fast.
const BEHIND_MS: i64 = 60_000;
/// The same in records, where many come.
const BEHIND_ROWS_MAX: usize = 2_000;

/// Where a record stands in the order of the store.
type Place = (i64, Uuid);

/// What was shown; bounded.
#[derive(Debug, Default)]
pub struct Following {
    /// The newest of all; what is after it is new.
    newest: Option<Place>,
    /// The latest records in what was read last.
    seen: BTreeSet<Place>,
    /// What was read last to its end. What was not read before and is not after the newest was there before it was looked for.
    read: Range<i64>,
    /// What is read now.
    reading: Range<i64>,
}

impl Following {
    /// Begins after these records, the last of which is the newest of the store.
    pub fn after(shown: &[Logged]) -> Self {
        let seen: BTreeSet<Place> = shown.iter().rev().take(BEHIND_ROWS_MAX).map(place).collect();
        Self { newest: shown.last().map(place), seen, read: 0..0, reading: 0..0 }
    }

    /// Returns where a late record may be found at this moment. Also from the newest record on, where that is older: its
    /// clock is behind this one, or nothing has come for long.
    pub fn look(&mut self, now_ms: i64) -> Range<i64> {
        let latest_ms = self.newest.map_or(now_ms, |(at_ms, _)| at_ms.min(now_ms));
        let mut look = latest_ms.saturating_sub(BEHIND_MS)..now_ms.saturating_add(BEHIND_MS);
        // What is not read any more needs not be known.
        self.seen.retain(|(at_ms, _)| look.contains(at_ms));
        if self.seen.len() == BEHIND_ROWS_MAX
            && let Some((first_ms, _)) = self.seen.first()
        {
            // While nothing was forgotten, all that is not remembered is new.
            look.start = look.start.max(*first_ms);
        }
        self.reading = look.clone();
        look
    }

    /// Takes it that all of what was to be read was read.
    pub fn looked(&mut self) {
        self.read = self.reading.clone();
    }

    /// Returns the moment and the identifier after which all is new, where that is not read anyhow.
    pub fn ahead(&self) -> Option<(i64, Uuid)> {
        self.newest.filter(|(at_ms, _)| *at_ms >= self.reading.end)
    }

    /// Takes a record that was read, and returns whether it is new.
    pub fn is_new(&mut self, logged: &Logged) -> bool {
        let place = place(logged);
        let after_all = self.newest.is_none_or(|newest| place > newest);
        if after_all {
            self.newest = Some(place);
        }
        if !self.reading.contains(&place.0) {
            return after_all;
        }
        if self.seen.len() == BEHIND_ROWS_MAX {
            // What is older than all that is remembered cannot be told from what was shown.
            if self.seen.first().is_some_and(|first| place < *first) {
                return false;
            }
            if !self.seen.contains(&place) {
                self.seen.pop_first();
            }
        }
        self.seen.insert(place) && (after_all || self.read.contains(&place.0))
    }
}

fn place(logged: &Logged) -> Place {
    (logged.record.at_ms, logged.record.decision_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::samples::{AT_MS, logged_at};

    const HOUR_MS: i64 = 3_600_000;

    /// A store, and somebody who follows it.
    struct World {
        store: Vec<i64>,
        following: Following,
    }

    impl World {
        /// With records at these times, relative to [`AT_MS`], of which the last is shown at first.
        fn of(before: &[i64]) -> Self {
            let shown: Vec<Logged> = before.last().map(|&at| logged_at(AT_MS + at, 1)).into_iter().collect();
            Self { store: before.to_vec(), following: Following::after(&shown) }
        }

        /// Adds records and returns which are shown when it is read next.
        fn shows(&mut self, now: i64, added: &[i64]) -> Vec<i64> {
            self.store.extend(added);
            self.store.sort_unstable();
            let mut shown = Vec::new();
            let look = self.following.look(AT_MS + now);
            for &at in &self.store {
                if look.contains(&(AT_MS + at)) && self.following.is_new(&logged_at(AT_MS + at, 1)) {
                    shown.push(at);
                }
            }
            let ahead = match self.following.ahead() {
                Some((after_ms, _)) => after_ms + 1,
                None => look.end,
            };
            for &at in &self.store {
                if AT_MS + at >= ahead && self.following.is_new(&logged_at(AT_MS + at, 1)) {
                    shown.push(at);
                }
            }
            self.following.looked();
            shown
        }
    }

    #[test]
    fn each_record_is_shown_once_and_late_ones_too() {
        let mut world = World::of(&[-30_000, -20_000, -10_000]);
        assert_eq!(world.shows(0, &[]), [0; 0], "what was there before");
        assert_eq!(world.shows(1_000, &[500]), [500]);
        assert_eq!(world.shows(2_000, &[-40_000, 1_500]), [-40_000, 1_500]);
        assert_eq!(world.shows(3_000, &[]), [0; 0]);
    }

    #[test]
    fn what_was_there_before_is_not_new_after_a_failure() {
        let mut world = World::of(&[-30_000, -10_000]);
        // The store was away, and nothing was read.
        world.following.look(AT_MS);
        assert_eq!(world.shows(1_000, &[500]), [500]);
        world.following.look(AT_MS + 1_500);
        assert_eq!(world.shows(120_000, &[400, 1_500, 90_000]), [400, 1_500, 90_000]);
    }

    #[test]
    fn an_empty_store_is_followed() {
        let mut world = World::of(&[]);
        assert_eq!(world.shows(0, &[]), [0; 0]);
        assert_eq!(world.shows(1_000, &[10, HOUR_MS]), [10, HOUR_MS]);
        assert_eq!(world.shows(2_000, &[1_100, HOUR_MS + 5]), [1_100, HOUR_MS + 5]);
    }

    #[test]
    fn a_clock_that_is_set_back_hides_nothing() {
        let mut world = World::of(&[-2 * HOUR_MS, -HOUR_MS - 500, -HOUR_MS + 500, -1_000]);
        assert_eq!(world.shows(0, &[-100]), [-100]);
        assert_eq!(world.shows(-HOUR_MS, &[]), [0; 0], "what was logged an hour ago is not new");
        assert_eq!(world.shows(-HOUR_MS + 1_000, &[-HOUR_MS + 700]), [-HOUR_MS + 700]);
        // The present comes to what was logged before.
        assert_eq!(world.shows(-60_000, &[-60_100]), [0; 0], "this much was not looked at before");
        assert_eq!(world.shows(-59_000, &[-59_100]), [-59_100]);
        for now in -58..2 {
            assert_eq!(world.shows(now * 1_000, &[now * 1_000 - 5]), [now * 1_000 - 5]);
        }
    }

    #[test]
    fn a_replica_that_is_ahead_hides_no_other() {
        let mut world = World::of(&[-1_000, HOUR_MS]);
        assert_eq!(world.shows(0, &[]), [0; 0]);
        assert_eq!(world.shows(1_000, &[900, HOUR_MS + 1_000]), [900, HOUR_MS + 1_000]);
        assert_eq!(world.shows(2_000, &[1_900, HOUR_MS + 2_000]), [1_900, HOUR_MS + 2_000]);
    }

    #[test]
    fn a_store_that_is_long_behind_is_followed() {
        let mut world = World::of(&[-HOUR_MS]);
        assert_eq!(world.shows(0, &[-HOUR_MS + 2_000]), [-HOUR_MS + 2_000]);
        assert_eq!(world.shows(1_000, &[-HOUR_MS + 1_000]), [-HOUR_MS + 1_000], "it was late");
        assert_eq!(world.shows(2_000, &[]), [0; 0]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut world = World::of(&[]);
        let many = BEHIND_ROWS_MAX as i64 + 10;
        assert_eq!(world.shows(0, &(0..many).collect::<Vec<_>>()).len(), many as usize);
        assert_eq!(world.following.seen.len(), BEHIND_ROWS_MAX);
        assert_eq!(world.following.look(AT_MS).start, AT_MS + 10);
        assert_eq!(world.shows(1_000, &[many, 9]), [many], "too old to tell");
        assert_eq!(world.following.seen.len(), BEHIND_ROWS_MAX);
    }
}
