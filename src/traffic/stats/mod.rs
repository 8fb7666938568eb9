//! Logged records -> figures about a span of time, in one pass and in bounded memory. Never reads the store.

mod drift;
mod tally;

use std::{collections::BTreeMap, ops::Range};

use serde::Serialize;

use self::tally::{Named, Times};
pub use self::{
    drift::{Drift, Moved, Verdict},
    tally::{Percentiles, Tally, share},
};
use super::{
    record::{Kind, Logged},
    store::{DAY_MS, Selection},
};

/// Intents are compared with those of this long before.
const BEFORE_MS: i64 = 30 * DAY_MS;
/// Days told apart: ten years.
const DAYS_MAX: usize = 3_660;

/// What was asked and answered in a span of time.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// Milliseconds since 1970, from the first on and before the second.
    pub from_ms: i64,
    pub until_ms: i64,
    pub all: Tally,
    /// As decided, most requests first.
    pub tiers: Vec<Group>,
    pub targets: Vec<Group>,
    pub sources: Vec<Group>,
    /// Without the requests of which the intent is not known.
    pub intents: Vec<Group>,
    pub failures: Vec<Counted>,
    /// From a request's arrival to the end of its answer, of those that were answered.
    pub answers: Option<Percentiles>,
    /// Time to decide, of all.
    pub decisions: Option<Percentiles>,
    /// Requests that the classifier scored.
    pub classified: u64,
    pub low_confidence: u64,
    pub explored: u64,
    pub feedback: FeedbackFigures,
    /// Oldest first; days without a request are left out.
    pub days: Vec<Day>,
    /// Intents against those of the 30 days before.
    pub drift: Drift,
}

/// What requests have in common, and their sums.
#[derive(Debug, Serialize)]
pub struct Group {
    pub name: String,
    #[serde(flatten)]
    pub tally: Tally,
}

/// How often something was.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Counted {
    pub name: String,
    pub count: u64,
}

/// What was said about answers.
#[derive(Debug, Default, Serialize)]
pub struct FeedbackFigures {
    pub pieces: u64,
    /// Requests with at least one.
    pub requests: u64,
    pub sources: Vec<Counted>,
    /// What was noticed without anybody saying it, from records and from feedback.
    pub signals: Vec<Counted>,
}

/// A day's sums.
#[derive(Debug, Serialize)]
pub struct Day {
    /// Days since 1970, UTC.
    pub day: i64,
    #[serde(flatten)]
    pub tally: Tally,
}

/// Takes records and makes figures.
pub struct Stats {
    from_ms: i64,
    until_ms: i64,
    all: Tally,
    tiers: Named<Tally>,
    targets: Named<Tally>,
    sources: Named<Tally>,
    intents: Named<Tally>,
    failures: Named<u64>,
    answers: Times,
    decisions: Times,
    classified: u64,
    low_confidence: u64,
    explored: u64,
    feedback_pieces: u64,
    feedback_requests: u64,
    feedback_sources: Named<u64>,
    signals: Named<u64>,
    days: BTreeMap<i64, Tally>,
    intents_before: Named<u64>,
}

impl Stats {
    /// Of requests from `from_ms` on and before `until_ms`.
    pub fn new(from_ms: i64, until_ms: i64) -> Self {
        Self {
            from_ms,
            until_ms,
            all: Tally::default(),
            tiers: Named::default(),
            targets: Named::default(),
            sources: Named::default(),
            intents: Named::default(),
            failures: Named::default(),
            answers: Times::default(),
            decisions: Times::default(),
            classified: 0,
            low_confidence: 0,
            explored: 0,
            feedback_pieces: 0,
            feedback_requests: 0,
            feedback_sources: Named::default(),
            signals: Named::default(),
            days: BTreeMap::new(),
            intents_before: Named::default(),
        }
    }

    /// Returns which records it needs: those of its span.
    pub fn selection(&self, tenant: Option<String>) -> Selection {
        Selection { from_ms: Some(self.from_ms), until_ms: Some(self.until_ms), tenant }
    }

    /// Returns the span before its own, of which it needs to know only how many requests each intent had.
    pub fn before(&self) -> Range<i64> {
        self.from_ms.saturating_sub(BEFORE_MS)..self.from_ms
    }

    /// Takes how many requests an intent had in that span.
    pub fn add_before(&mut self, intent: &str, requests: u64) {
        *self.intents_before.of(intent) += requests;
    }

    /// Takes a record; the order does not matter.
    pub fn add(&mut self, logged: &Logged) {
        let record = &logged.record;
        let intent = record.decision.intent.as_deref();
        if !(self.from_ms..self.until_ms).contains(&record.at_ms) {
            return;
        }
        self.all.add(logged);
        self.tiers.of(&record.decision.tier).add(logged);
        self.targets.of(&record.decision.target.id).add(logged);
        self.sources.of(&record.decision.source).add(logged);
        if let Some(intent) = intent {
            self.intents.of(intent).add(logged);
        }
        self.add_day(logged);
        self.add_times(logged);
        self.add_feedback(logged);
        self.classified += u64::from(!record.decision.sufficiency.is_empty());
        self.low_confidence += u64::from(record.decision.low_confidence);
        self.explored += u64::from(record.decision.explored);
        if let Some(failure) = &record.outcome.failure {
            *self.failures.of(failure) += 1;
        }
    }

    fn add_day(&mut self, logged: &Logged) {
        let day = logged.record.at_ms.div_euclid(DAY_MS);
        if self.days.len() < DAYS_MAX || self.days.contains_key(&day) {
            self.days.entry(day).or_default().add(logged);
        }
    }

    fn add_times(&mut self, logged: &Logged) {
        let record = &logged.record;
        self.decisions.add_us(record.decision.timings.total_us);
        let answered = matches!(record.outcome.status.as_str(), "answered" | "weak");
        if record.kind == Kind::Complete && answered {
            self.answers.add_ms(record.outcome.latency_ms);
        }
    }

    fn add_feedback(&mut self, logged: &Logged) {
        self.feedback_pieces += logged.feedback.len() as u64;
        self.feedback_requests += u64::from(!logged.feedback.is_empty());
        for feedback in &logged.feedback {
            *self.feedback_sources.of(feedback.source.as_str()) += 1;
        }
        let said = logged.feedback.iter().filter_map(|feedback| feedback.signal);
        for signal in logged.record.signals.iter().copied().chain(said) {
            *self.signals.of(signal.as_str()) += 1;
        }
    }

    /// Returns the figures.
    pub fn figures(self) -> Figures {
        let intents = self.intents.into_map();
        let now = intents.iter().map(|(name, tally)| (name.clone(), tally.requests)).collect();
        Figures {
            from_ms: self.from_ms,
            until_ms: self.until_ms,
            all: self.all,
            tiers: groups(self.tiers.into_map()),
            targets: groups(self.targets.into_map()),
            sources: groups(self.sources.into_map()),
            intents: groups(intents),
            failures: counted(self.failures),
            answers: self.answers.percentiles(),
            decisions: self.decisions.percentiles(),
            classified: self.classified,
            low_confidence: self.low_confidence,
            explored: self.explored,
            feedback: FeedbackFigures {
                pieces: self.feedback_pieces,
                requests: self.feedback_requests,
                sources: counted(self.feedback_sources),
                signals: counted(self.signals),
            },
            days: self.days.into_iter().map(|(day, tally)| Day { day, tally }).collect(),
            drift: Drift::between(&self.intents_before.into_map(), &now),
        }
    }
}

fn groups(tallies: BTreeMap<String, Tally>) -> Vec<Group> {
    let mut groups: Vec<Group> = tallies.into_iter().map(|(name, tally)| Group { name, tally }).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.tally.requests));
    groups
}

fn counted(counts: Named<u64>) -> Vec<Counted> {
    let mut counted: Vec<Counted> =
        counts.into_map().into_iter().map(|(name, count)| Counted { name, count }).collect();
    counted.sort_by_key(|counted| std::cmp::Reverse(counted.count));
    counted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::samples::{AT_MS, logged_at};

    fn decided(at_ms: i64) -> Logged {
        let mut logged = logged_at(at_ms, 0);
        logged.record.kind = Kind::Route;
        logged.record.outcome.status = "decided".to_owned();
        logged.record.outcome.escalated = false;
        logged.record.decision.sufficiency.clear();
        logged.record.decision.source = "rule".to_owned();
        logged.record.signals.clear();
        logged.feedback.clear();
        logged
    }

    fn failed(at_ms: i64) -> Logged {
        let mut logged = logged_at(at_ms, 0);
        logged.record.outcome.status = "failed".to_owned();
        logged.record.outcome.failure = Some("unavailable".to_owned());
        logged.record.outcome.baseline_cost_usd = 0.0;
        logged.record.outcome.escalated = false;
        logged.feedback[0].verdict = None;
        logged.feedback[0].score = Some(0.2);
        logged
    }

    fn figures(records: &[Logged]) -> Figures {
        let mut stats = Stats::new(AT_MS - DAY_MS, AT_MS + DAY_MS);
        for record in records {
            stats.add(record);
        }
        stats.add_before("support", 1);
        stats.figures()
    }

    #[test]
    fn sums_are_those_of_the_span() {
        let figures = figures(&[
            logged_at(AT_MS, 0),
            logged_at(AT_MS - DAY_MS, 0),
            decided(AT_MS),
            failed(AT_MS),
            logged_at(AT_MS - DAY_MS - 1, 0),
            logged_at(AT_MS + DAY_MS, 0),
        ]);
        let all = &figures.all;
        assert_eq!((all.requests, all.completions, all.escalated, all.failed), (4, 3, 2, 1));
        assert!((all.cost_usd - (3.0 * 0.0011 + 0.0001)).abs() < 1e-12);
        assert!((all.estimated_usd - 0.0001).abs() < 1e-12);
        assert!((all.baseline_cost_usd - (2.0 * 0.004 + 0.002)).abs() < 1e-12);
        assert!((all.unanswered_usd - 0.0011).abs() < 1e-12);
        let saved = 2.0 * (0.004 - 0.0011) + (0.002 - 0.0001);
        assert!((all.saved_usd() - saved).abs() < 1e-12, "what failed is not compared");
        assert_eq!((all.good, all.bad, all.good_share()), (2, 1, Some(2.0 / 3.0)));
        assert_eq!((figures.classified, figures.decisions.unwrap().count), (3, 4));
        assert_eq!(figures.answers.unwrap().count, 2, "an answer that failed took no time");
        let days: Vec<(i64, u64)> = figures.days.iter().map(|day| (day.day, day.tally.requests)).collect();
        assert_eq!(days, [(20_482, 1), (20_483, 3)]);
        let sources: Vec<(&str, u64)> =
            figures.sources.iter().map(|group| (&*group.name, group.tally.requests)).collect();
        assert_eq!(sources, [("classifier", 3), ("rule", 1)]);
        assert_eq!(figures.failures, [Counted { name: "unavailable".to_owned(), count: 1 }]);
        assert_eq!((figures.feedback.pieces, figures.feedback.requests), (6, 3));
        let retried = figures.feedback.signals.iter().find(|signal| signal.name == "retried");
        assert_eq!(retried.unwrap().count, 3);
        assert_eq!((figures.drift.before, figures.drift.now), (1, 4));
    }

    #[test]
    fn nothing_gives_figures_too() {
        let figures = figures(&[]);
        assert_eq!(
            (figures.all.requests, figures.all.saved_share(), figures.all.good_share()),
            (0, None, None)
        );
        assert!(figures.answers.is_none() && figures.days.is_empty());
        assert_eq!(figures.drift.verdict, Verdict::TooFew);
        serde_json::to_string(&figures).unwrap();
    }

    #[test]
    fn it_asks_for_its_span_and_for_the_intents_of_the_month_before() {
        let stats = Stats::new(AT_MS, AT_MS + 1);
        let selection = stats.selection(Some("acme".to_owned()));
        assert_eq!((selection.from_ms, selection.until_ms), (Some(AT_MS), Some(AT_MS + 1)));
        assert_eq!(stats.before(), AT_MS - 30 * DAY_MS..AT_MS);
    }
}
