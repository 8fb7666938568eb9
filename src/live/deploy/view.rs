//! The fleet as operators look at it. While the store is away, just when they look, it is what this replica knows by
//! itself, and says so; also where only the wanted state cannot be read. Changes nothing.

use std::collections::VecDeque;

use super::Deployer;
use crate::{
    live::{
        fleet::{Apart, Event, Known, ReplicaReport, WantedFrom},
        rollout::Desired,
    },
    traffic::{now_ms, store::StoreError},
};

/// Events of this replica that are kept for when the store is away: some hours of a busy day.
const RECENT_MAX: usize = 200;

/// What all replicas are to run, and what they say that they run.
#[derive(Debug)]
pub struct FleetView {
    /// `None`: nothing was ever asked for, or it is not known.
    pub wanted: Option<Desired>,
    pub replicas: Vec<ReplicaReport>,
    /// Set: what is wanted may be another thing by now.
    pub apart: Option<Apart>,
    /// Whether the others are there, whatever is known of what is wanted.
    pub has_others: bool,
}

/// What happened.
#[derive(Debug)]
pub struct EventsView {
    /// The latest first.
    pub events: Vec<Event>,
    /// Set: these are of this process alone.
    pub apart: Option<Apart>,
}

/// What happened here.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<Event>);

impl Recent {
    pub fn push(&mut self, event: Event) {
        if self.0.len() >= RECENT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(event);
    }

    /// Returns the latest, newest first.
    pub fn latest(&self, most: usize) -> Vec<Event> {
        self.0.iter().rev().take(most).cloned().collect()
    }
}

impl Deployer {
    /// Returns who is to run what, and who does.
    pub async fn fleet(&self) -> FleetView {
        // Both at once: each may wait for a store that hangs.
        let (known, replicas) = tokio::join!(self.keeper.known(), self.keeper.replicas());
        view(known, replicas, |known| self.with_own(known))
    }

    /// Returns the latest events, newest first.
    pub async fn events(&self, most: usize) -> EventsView {
        match self.keeper.events(most).await {
            Ok(events) => EventsView { events, apart: None },
            Err(error) => {
                let now = only_now(&error);
                let apart = match self.keeper.apart() {
                    Some(apart) => Apart { why: now.why, ..apart },
                    None => now,
                };
                EventsView { events: self.recent().latest(most), apart: Some(apart) }
            }
        }
    }

    /// Returns reports of all with this replica's own as it is now.
    fn with_own(&self, mut replicas: Vec<ReplicaReport>) -> Vec<ReplicaReport> {
        let own = self.report();
        match replicas.iter_mut().find(|replica| replica.replica_id == own.replica_id) {
            Some(said) => *said = ReplicaReport { seen_ms: said.seen_ms, ..own },
            None => replicas.push(own),
        }
        replicas
    }
}

/// Puts together what was asked for at once, of which each may have failed for itself.
fn view(
    known: Known,
    replicas: Result<Vec<ReplicaReport>, StoreError>,
    with_own: impl FnOnce(Vec<ReplicaReport>) -> Vec<ReplicaReport>,
) -> FleetView {
    let Known { wanted, apart } = known;
    let apart = apart.or_else(|| replicas.as_ref().err().map(only_now));
    let has_others = replicas.is_ok();
    FleetView { wanted, apart, has_others, replicas: with_own(replicas.unwrap_or_default()) }
}

/// The store has just said what is wanted, and now says no more.
fn only_now(error: &StoreError) -> Apart {
    Apart { since_ms: now_ms(), why: error.to_string(), wanted_from: WantedFrom::Store }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::live::fleet::EventKind;

    fn away() -> StoreError {
        StoreError::Down { store: "PostgreSQL at db".to_owned(), problem: "refused".to_owned() }
    }

    #[test]
    fn whatever_is_not_known_is_said() {
        let apart = || Apart { since_ms: 7, why: "unreadable".to_owned(), wanted_from: WantedFrom::Nowhere };
        let seen = |apart: Option<Apart>, replicas| {
            let FleetView { apart, has_others, .. } =
                view(Known { wanted: None, apart }, replicas, |known| known);
            (apart.map(|apart| (apart.why, apart.wanted_from)), has_others)
        };
        assert_eq!(seen(None, Ok(Vec::new())), (None, true));
        let unreadable = Some(("unreadable".to_owned(), WantedFrom::Nowhere));
        assert_eq!(seen(Some(apart()), Ok(Vec::new())), (unreadable.clone(), true));
        assert_eq!(seen(Some(apart()), Err(away())), (unreadable, false));
        let (said, has_others) = seen(None, Err(away()));
        assert_eq!(said, Some((away().to_string(), WantedFrom::Store)));
        assert!(!has_others);
    }

    #[test]
    fn the_latest_are_kept() {
        let mut recent = Recent::default();
        for number in 0..RECENT_MAX as u64 + 5 {
            recent.push(Event {
                id: Uuid::nil(),
                at_ms: 0,
                kind: EventKind::Refused,
                who: String::new(),
                from: String::new(),
                to: String::new(),
                why: String::new(),
                revision: number,
                replica_id: Uuid::nil(),
            });
        }
        let revisions: Vec<u64> = recent.latest(2).iter().map(|event| event.revision).collect();
        assert_eq!(revisions, [204, 203]);
        assert_eq!(recent.latest(usize::MAX).len(), RECENT_MAX);
    }
}
