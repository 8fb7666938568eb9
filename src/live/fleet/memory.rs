//! What a process alone knows of itself, where nothing is logged and so nothing lasts. Never does I/O.

use std::collections::{BTreeMap, VecDeque};

use uuid::Uuid;

use super::{Event, Exchanged, ReplicaReport};
use crate::live::rollout::Desired;

/// Some hundred kilobytes; the log has them all.
const EVENTS_MAX: usize = 1_000;
/// It is one process; a test may have a few in it.
const REPLICAS_MAX: usize = 100;

/// The wanted state, and what was said.
#[derive(Default)]
pub struct Memory {
    pub desired: Option<Desired>,
    replicas: BTreeMap<Uuid, ReplicaReport>,
    events: VecDeque<Event>,
}

impl Memory {
    /// Exchanges the wanted state if its revision is still `from`, 0 for none, and adds events with it.
    pub fn exchange(&mut self, from: u64, to: &Desired, events: &[Event]) -> Exchanged {
        match &self.desired {
            Some(now) if now.revision != from => return Exchanged::Behind(Box::new(now.clone())),
            // Nothing was ever exchanged, and what is wanted is not known from anywhere else.
            Some(_) | None => {}
        }
        self.desired = Some(to.clone());
        self.tell(events);
        Exchanged::Done
    }

    /// Adds events; those that are there already are left as they are.
    pub fn tell(&mut self, events: &[Event]) {
        let is_new = |event: &&Event| !self.events.iter().any(|told| told.id == event.id);
        let new: Vec<Event> = events.iter().filter(is_new).cloned().collect();
        self.events.extend(new);
        let surplus = self.events.len().saturating_sub(EVENTS_MAX);
        self.events.drain(..surplus);
    }

    /// Returns the latest events, newest first.
    pub fn events(&self, most: usize) -> Vec<Event> {
        self.events.iter().rev().take(most).cloned().collect()
    }

    /// Takes what a replica says.
    pub fn report(&mut self, report: &ReplicaReport, now_ms: i64) {
        if self.replicas.len() < REPLICAS_MAX || self.replicas.contains_key(&report.replica_id) {
            self.replicas.insert(report.replica_id, ReplicaReport { seen_ms: now_ms, ..report.clone() });
        }
    }

    /// Forgets a replica.
    pub fn leave(&mut self, replica_id: Uuid) {
        self.replicas.remove(&replica_id);
    }

    /// Returns what replicas said.
    pub fn replicas(&self) -> Vec<ReplicaReport> {
        self.replicas.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::fleet::{sample, sample_desired, sample_event};

    #[test]
    fn only_who_has_read_the_latest_exchanges() {
        let mut memory = Memory::default();
        let (first, second, third) = (sample_desired(1), sample_desired(2), sample_desired(3));
        assert_eq!(memory.exchange(0, &first, &[sample_event(1)]), Exchanged::Done);
        assert_eq!(memory.exchange(0, &second, &[sample_event(2)]), Exchanged::Behind(Box::new(first)));
        assert_eq!(memory.exchange(1, &second, &[sample_event(3)]), Exchanged::Done);
        assert_eq!(memory.exchange(1, &third, &[]), Exchanged::Behind(Box::new(second.clone())));
        assert_eq!(memory.desired, Some(second));
        assert_eq!(memory.events(9), [sample_event(3), sample_event(1)]);
    }

    #[test]
    fn events_are_bounded() {
        let mut memory = Memory::default();
        for number in 0..EVENTS_MAX as u128 + 5 {
            memory.tell(&[sample_event(number)]);
        }
        let events = memory.events(usize::MAX);
        assert_eq!(events.len(), EVENTS_MAX);
        assert_eq!(events[0], sample_event(EVENTS_MAX as u128 + 4));
        assert_eq!(memory.events(2).len(), 2);
    }

    #[test]
    fn replicas_come_and_go() {
        let mut memory = Memory::default();
        memory.report(&sample(), 5_000);
        memory.report(&ReplicaReport { revision: 9, ..sample() }, 6_000);
        let replicas = memory.replicas();
        assert_eq!((replicas.len(), replicas[0].revision, replicas[0].seen_ms), (1, 9, 6_000));
        memory.leave(sample().replica_id);
        assert_eq!(memory.replicas(), []);
    }
}
