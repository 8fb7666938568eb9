//! Rows as they are read -> a bounded, reproducible sample of whole sessions, in the order of their time.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use uuid::Uuid;

use super::Row;
use crate::traffic::store::Selection;

/// Names of other shadows that are counted: more are not read.
const OTHER_SHADOWS_MAX: usize = 8;

/// What a row must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Needs {
    /// A text, to decide about it again.
    Text,
    /// What this bundle said of it as a shadow.
    ShadowOf(String),
}

/// What was read, and what of it is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// In the wanted range and of the wanted tenant.
    pub read: u64,
    /// Of another time or tenant.
    pub outside: u64,
    /// The text policy kept no text: there is nothing to decide about.
    pub without_text: u64,
    /// The wanted bundle did not score them as a shadow.
    pub without_shadow: u64,
    /// Which other bundles scored how many of these, the first few of them.
    pub other_shadows: BTreeMap<Arc<str>, u64>,
    /// Left out by the sample.
    pub passed_over: u64,
    /// Read again, and taken in place of what was read before.
    pub duplicates: u64,
}

/// Keeps at most so many rows, and whole sessions as far as possible.
///
/// Each session, or request without one, has a place that follows from its name and the seed; those with the lowest
/// places are kept. So any order of reading gives the same sample, and memory is bounded by it. Of a request that is
/// read several times the last counts: files of exports are read in the order of their time, and feedback comes late.
pub struct Gatherer {
    selection: Selection,
    needs: Needs,
    rows_max: usize,
    seed: u64,
    sessions: BTreeMap<u64, Vec<Row>>,
    /// Of each kept request the place of its session, and its own within that.
    kept: HashMap<Uuid, (u64, usize)>,
    /// Sessions at this place and above are left out.
    limit: Option<u64>,
    counts: Counts,
}

impl Gatherer {
    /// Keeps up to `rows_max` rows, at least 1.
    pub fn new(selection: Selection, needs: Needs, rows_max: usize, seed: u64) -> Self {
        let (sessions, kept) = (BTreeMap::new(), HashMap::new());
        let counts = Counts::default();
        Self { selection, needs, rows_max, seed, sessions, kept, limit: None, counts }
    }

    /// Takes a row.
    pub fn add(&mut self, row: Row) {
        if !self.selects(&row) {
            self.counts.outside += 1;
            return;
        }
        self.counts.read += 1;
        if !self.has_what_is_needed(&row) {
            return;
        }
        if let Some(&(place, at)) = self.kept.get(&row.decision_id) {
            let session = self.sessions.get_mut(&place).expect("sessions of kept requests are there");
            session[at] = row;
            self.counts.duplicates += 1;
            return;
        }
        let place = self.place(&row);
        // One endless session is cut; others are kept or left out whole.
        let full = self.kept.len() >= self.rows_max
            && self.sessions.len() == 1
            && self.sessions.contains_key(&place);
        if full || self.limit.is_some_and(|limit| place >= limit) {
            self.counts.passed_over += 1;
            return;
        }
        let session = self.sessions.entry(place).or_default();
        self.kept.insert(row.decision_id, (place, session.len()));
        session.push(row);
        while self.kept.len() > self.rows_max && self.sessions.len() > 1 {
            let Some((last, rows)) = self.sessions.pop_last() else { break };
            self.limit = Some(last);
            self.counts.passed_over += rows.len() as u64;
            for row in &rows {
                self.kept.remove(&row.decision_id);
            }
        }
    }

    /// Returns how many rows have been read so far.
    pub fn read(&self) -> u64 {
        self.counts.read + self.counts.outside
    }

    /// Returns the sample, oldest first, and what was read for it.
    pub fn finish(self) -> (Vec<Row>, Counts) {
        let mut rows: Vec<Row> = self.sessions.into_values().flatten().collect();
        rows.sort_by_key(|row| (row.at_ms(), row.decision_id));
        (rows, self.counts)
    }

    fn selects(&self, row: &Row) -> bool {
        let Selection { from_ms, until_ms, tenant } = &self.selection;
        let at_ms = row.at_ms();
        from_ms.is_none_or(|from| at_ms >= from)
            && until_ms.is_none_or(|until| at_ms < until)
            && tenant.as_ref().is_none_or(|tenant| row.tenant == *tenant)
    }

    /// Whether there is anything to compare; counts what lacks it.
    fn has_what_is_needed(&mut self, row: &Row) -> bool {
        let counts = &mut self.counts;
        match &self.needs {
            Needs::Text => {
                let has = !row.messages.is_empty();
                counts.without_text += u64::from(!has);
                has
            }
            Needs::ShadowOf(bundle) => {
                let shadow = row.shadow_bundle.as_ref();
                let has = shadow.is_some_and(|shadow| **shadow == **bundle);
                counts.without_shadow += u64::from(!has);
                let others = &mut counts.other_shadows;
                if let Some(other) = shadow.filter(|_| !has)
                    && (others.len() < OTHER_SHADOWS_MAX || others.contains_key(other))
                {
                    *others.entry(Arc::clone(other)).or_default() += 1;
                }
                has
            }
        }
    }

    fn place(&self, row: &Row) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.seed.hash(&mut hasher);
        if row.session.is_empty() {
            row.decision_id.hash(&mut hasher);
        } else {
            (&row.tenant, &row.session).hash(&mut hasher);
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{super::row::tests::row, *};

    /// A request of a session (0: none) at a time.
    fn request(number: u128, at_ms: u64, session: u32) -> Row {
        let id = (u128::from(at_ms) << 80) | (7 << 76) | (0b10 << 62) | number;
        let session = if session == 0 { String::new() } else { session.to_string() };
        row(json!({"decision_id": Uuid::from_u128(id), "session": session}))
    }

    fn gather(rows: impl IntoIterator<Item = Row>, rows_max: usize) -> (Vec<Row>, Counts) {
        let mut gatherer = Gatherer::new(Selection::default(), Needs::Text, rows_max, 1);
        rows.into_iter().for_each(|row| gatherer.add(row));
        gatherer.finish()
    }

    #[test]
    fn range_and_tenant_select() {
        let selection = Selection { from_ms: Some(10), until_ms: Some(20), tenant: Some("a".to_owned()) };
        let mut gatherer = Gatherer::new(selection, Needs::Text, 100, 1);
        for (at, tenant) in [(9, "a"), (10, "a"), (19, "a"), (20, "a"), (15, "b")] {
            gatherer.add(Row { tenant: tenant.to_owned(), ..request(u128::from(at), at, 0) });
        }
        assert_eq!(gatherer.read(), 5);
        let (rows, counts) = gatherer.finish();
        assert_eq!(rows.iter().map(Row::at_ms).collect::<Vec<_>>(), [10, 19]);
        assert_eq!((counts.read, counts.outside), (2, 3));
    }

    #[test]
    fn rows_without_text_and_rows_read_twice_are_counted() {
        let bare = Row { messages: Vec::new(), ..request(1, 5, 0) };
        let (rows, counts) = gather([bare, request(2, 6, 0), request(2, 6, 0), request(3, 4, 0)], 100);
        assert_eq!(rows.iter().map(Row::at_ms).collect::<Vec<_>>(), [4, 6]);
        assert_eq!((counts.read, counts.without_text, counts.duplicates), (4, 1, 1));
    }

    #[test]
    fn the_copy_that_is_read_last_counts() {
        let judged = |verdict: Option<&str>, number: u128, at_ms: u64, session: u32| {
            let feedback: Vec<_> =
                verdict.iter().map(|verdict| json!({"source": "user", "verdict": verdict})).collect();
            let feedback = serde_json::from_value(json!(feedback)).unwrap();
            Row { feedback, ..request(number, at_ms, session) }
        };
        let rows = [
            judged(None, 1, 5, 3),
            judged(None, 2, 6, 3),
            judged(Some("good"), 1, 5, 3),
            judged(None, 3, 7, 0),
            judged(Some("bad"), 1, 5, 3),
        ];
        let (rows, counts) = gather(rows, 100);
        let verdicts: Vec<_> =
            rows.iter().map(|row| row.feedback.first().and_then(|one| one.verdict)).collect();
        assert_eq!(verdicts, [Some(crate::traffic::feedback::Verdict::Bad), None, None]);
        assert_eq!((counts.read, counts.duplicates), (5, 2));
    }

    #[test]
    fn copies_take_no_room_in_a_sample() {
        let once: Vec<Row> = (0..20).map(|at| request(u128::from(at), at, (at / 4) as u32 + 1)).collect();
        let (expected, _) = gather(once.clone(), 20);
        for rows_max in [20, 4] {
            let (rows, counts) = gather(once.iter().chain(&once).cloned(), rows_max);
            assert_eq!(rows.len(), rows_max);
            assert_eq!(rows, gather(once.clone(), rows_max).0);
            assert_eq!(rows.len() as u64 + counts.passed_over + counts.duplicates, 40);
        }
        assert_eq!(expected, once);
        // Also of a session that is cut.
        let endless = || (0..20).map(|at| request(u128::from(at), at, 3));
        let (rows, counts) = gather(endless().chain(endless()), 10);
        assert_eq!((rows.len(), counts.duplicates, counts.passed_over), (10, 10, 20));
    }

    #[test]
    fn a_shadows_rows_need_no_text() {
        let needs = Needs::ShadowOf("next".to_owned());
        let mut gatherer = Gatherer::new(Selection::default(), needs, 100, 1);
        for (at, shadow) in [(5, Some("next")), (6, None), (7, Some("other")), (8, Some("next"))] {
            let shadow_bundle = shadow.map(Arc::from);
            gatherer.add(Row { messages: Vec::new(), shadow_bundle, ..request(at.into(), at, 0) });
        }
        let (rows, counts) = gatherer.finish();
        assert_eq!(rows.iter().map(Row::at_ms).collect::<Vec<_>>(), [5, 8]);
        assert_eq!((counts.read, counts.without_shadow, counts.without_text), (4, 2, 0));
        assert_eq!(counts.other_shadows, BTreeMap::from([("other".into(), 1)]));
    }

    #[test]
    fn one_long_session_is_cut() {
        let (rows, counts) = gather((0..50).map(|at| request(u128::from(at), at, 3)), 10);
        assert_eq!((rows.len(), counts.passed_over), (10, 40));
    }

    proptest! {
        #[test]
        fn any_order_gives_the_same_whole_sessions(
            sessions in prop::collection::vec(1_u32..12, 1..60),
            rows_max in 1_usize..60,
            turn in 0_usize..60,
        ) {
            let rows: Vec<Row> = sessions
                .iter()
                .enumerate()
                .map(|(at, &session)| request(at as u128, 1000 + at as u64, session))
                .collect();
            let (kept, counts) = gather(rows.clone(), rows_max);
            let mut turned = rows.clone();
            turned.rotate_left(turn % rows.len());
            let largest = sessions.iter().map(|one| sessions.iter().filter(|other| *other == one).count()).max();
            prop_assert!(kept.len() <= rows_max.max(1));
            prop_assert_eq!(kept.len() as u64 + counts.passed_over, rows.len() as u64);
            prop_assert!(kept.is_sorted_by_key(|row| (row.at_ms(), row.decision_id)));
            // Where no session alone is larger than the sample, none is cut, and the order does not matter.
            if largest.is_some_and(|largest| largest <= rows_max) {
                prop_assert_eq!(&kept, &gather(turned, rows_max).0);
                for row in &rows {
                    let of_session = |rows: &[Row]| rows.iter().filter(|one| one.session == row.session).count();
                    let kept_of = of_session(&kept);
                    prop_assert!(kept_of == 0 || kept_of == of_session(&rows));
                }
            }
        }
    }
}
