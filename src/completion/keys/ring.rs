//! Which keys there are and how they do. Pure: time and what was read come in.

use std::{
    fmt,
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret, SecretString};

/// All sources are read again at most this often, and only while no key is left.
const REREAD_EVERY: Duration = Duration::from_secs(10);
/// A refused key is tried once more after this long, if no other is left: credit is bought and permissions are
/// given without a new key.
pub(super) const RETRY_REFUSED_AFTER: Duration = Duration::from_secs(60);
/// A key that is refused again and again is logged at most this often.
const TELL_EVERY: Duration = Duration::from_secs(3600);

/// A key and where it came from.
#[derive(Debug, Clone)]
pub struct HeldKey {
    pub secret: SecretString,
    pub(super) slot: usize,
    /// Which reading of the source it is of, so that a late refusal does not kill a rotated key.
    generation: u64,
}

/// Why a source holds no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    Unset,
    Unreadable,
    Empty,
    TooLong,
    Unsendable,
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unset => "is not set",
            Self::Unreadable => "cannot be read as a text file",
            Self::Empty => "is empty",
            Self::TooLong => "is too long for a key",
            Self::Unsendable => "holds characters that a header cannot",
        })
    }
}

/// The keys of one provider, in the order of their sources.
pub(super) struct Ring {
    pub(super) slots: Vec<Slot>,
    /// The slot in use.
    current: usize,
    read_last: Option<Instant>,
    pub(super) published: Option<KeyCounts>,
}

pub(super) struct Slot {
    /// `None` while absent.
    secret: Option<SecretString>,
    generation: u64,
    pub(super) state: State,
    /// When the log was last told that this key is refused.
    told: Option<Instant>,
}

impl Slot {
    fn new(value: Result<SecretString, Absent>, generation: u64) -> Self {
        let (secret, state) = match value {
            Ok(secret) => (Some(secret), State::FRESH),
            Err(absent) => (None, State::Absent(absent)),
        };
        Self { secret, generation, state, told: None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Live { rests_until: Option<Instant> },
    Dead { since: Instant },
    Absent(Absent),
}

impl State {
    const FRESH: Self = Self::Live { rests_until: None };
}

/// Keys of one provider by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyCounts {
    pub live: usize,
    /// Rate-limited: they serve again after a while.
    pub resting: usize,
    /// Refused by the provider, or not where the configuration says.
    pub dead: usize,
}

impl Ring {
    pub(super) fn new(values: Vec<Result<SecretString, Absent>>) -> Self {
        let slots = values.into_iter().map(|value| Slot::new(value, 0)).collect();
        Self { slots, current: 0, read_last: None, published: None }
    }

    /// Returns the key in use, or the next that serves; of resting ones the first to wake.
    pub(super) fn choose(&mut self, now: Instant) -> Option<HeldKey> {
        let order = (0..self.slots.len()).map(|step| (self.current + step) % self.slots.len());
        let (_, slot) = order
            .filter_map(|slot| match self.slots[slot].state {
                State::Live { rests_until } => Some((rests_until.filter(|until| *until > now), slot)),
                State::Dead { .. } | State::Absent(_) => None,
            })
            .min_by_key(|(rests_until, _)| *rests_until)?;
        self.current = slot;
        let Slot { secret, generation, .. } = &self.slots[slot];
        let secret = secret.clone().expect("only absent slots hold no key");
        Some(HeldKey { secret, slot, generation: *generation })
    }

    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.slots.iter().any(|slot| match slot.state {
            State::Live { rests_until } => rests_until.is_none_or(|until| until <= now),
            State::Dead { .. } | State::Absent(_) => false,
        })
    }

    pub(super) fn wants_rereading(&self, now: Instant) -> bool {
        let all_gone = self.slots.iter().all(|slot| !matches!(slot.state, State::Live { .. }));
        all_gone && self.read_last.is_none_or(|last| now.saturating_duration_since(last) >= REREAD_EVERY)
    }

    /// Takes what the sources hold now: another key than before is live, the same one stays as it is, or is
    /// tried once more when it was refused long ago.
    pub(super) fn reread(&mut self, values: Vec<Result<SecretString, Absent>>, now: Instant) {
        self.read_last = Some(now);
        for (slot, value) in self.slots.iter_mut().zip(values) {
            let same = match (&slot.secret, &value) {
                (Some(old), Ok(new)) => old.expose_secret() == new.expose_secret(),
                _ => false,
            };
            match slot.state {
                State::Dead { since } if same => {
                    if now.saturating_duration_since(since) >= RETRY_REFUSED_AFTER {
                        slot.state = State::FRESH;
                    }
                }
                State::Live { .. } if same => {}
                State::Live { .. } | State::Dead { .. } | State::Absent(_) => {
                    *slot = Slot::new(value, slot.generation + 1);
                }
            }
        }
    }

    /// Takes what one source holds now, and returns whether it is another key than before. A key that serves
    /// stays where its source holds none: while a file is replaced there may be none.
    pub(super) fn replace(&mut self, slot: usize, value: Result<SecretString, Absent>) -> bool {
        let slot = &mut self.slots[slot];
        let is_new = match (&slot.secret, &value) {
            (Some(old), Ok(new)) => old.expose_secret() != new.expose_secret(),
            (None, Ok(_)) => true,
            (_, Err(_)) => false,
        };
        if is_new {
            *slot = Slot::new(value, slot.generation + 1);
        }
        is_new
    }

    /// Returns whether this reading of the key still serves.
    pub(super) fn is_live(&self, held: &HeldKey) -> bool {
        let slot = &self.slots[held.slot];
        slot.generation == held.generation && matches!(slot.state, State::Live { .. })
    }

    pub(super) fn rest(&mut self, held: &HeldKey, until: Instant) {
        let slot = &mut self.slots[held.slot];
        if slot.generation == held.generation
            && let State::Live { rests_until } = &mut slot.state
        {
            *rests_until = Some(rests_until.map_or(until, |before| before.max(until)));
        }
    }

    /// Returns whether the log is to be told: not when a late answer, or another try of the same key, says
    /// what is known.
    pub(super) fn bury(&mut self, held: &HeldKey, now: Instant) -> bool {
        let slot = &mut self.slots[held.slot];
        if slot.generation != held.generation {
            return false;
        }
        match slot.state {
            State::Live { .. } => {
                slot.state = State::Dead { since: now };
                let tell = slot.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_EVERY);
                if tell {
                    slot.told = Some(now);
                }
                tell
            }
            State::Dead { .. } | State::Absent(_) => false,
        }
    }

    pub(super) fn counts(&self, now: Instant) -> KeyCounts {
        let mut counts = KeyCounts::default();
        for slot in &self.slots {
            match slot.state {
                State::Live { rests_until } if rests_until.is_some_and(|until| until > now) => {
                    counts.resting += 1;
                }
                State::Live { .. } => counts.live += 1,
                State::Dead { .. } | State::Absent(_) => counts.dead += 1,
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Wait(u64),
        Choose,
        Rest(u64),
        Bury,
        Rotate(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..30_u64).prop_map(Step::Wait),
            Just(Step::Choose),
            (0..40_u64).prop_map(Step::Rest),
            Just(Step::Bury),
            (0..4_usize).prop_map(Step::Rotate),
        ]
    }

    proptest! {
        #[test]
        fn a_dead_or_resting_key_is_never_used_while_another_is_live(
            keys in 1..4_usize,
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let value = |key: usize, version: usize| Ok(SecretString::from(format!("key-{key}-{version}")));
            let mut versions = vec![0; keys];
            let mut ring = Ring::new((0..keys).map(|key| value(key, 0)).collect());
            let mut now = Instant::now();
            let mut held: Option<HeldKey> = None;
            for step in steps {
                match step {
                    Step::Wait(seconds) => now += Duration::from_secs(seconds),
                    Step::Choose => {
                        if ring.wants_rereading(now) {
                            ring.reread((0..keys).map(|key| value(key, versions[key])).collect(), now);
                        }
                        let before = ring.counts(now);
                        let last = ring.current;
                        held = ring.choose(now);
                        match &held {
                            None => prop_assert_eq!(before.live + before.resting, 0),
                            Some(key) => {
                                let State::Live { rests_until } = ring.slots[key.slot].state else {
                                    panic!("a dead key was chosen");
                                };
                                let rests = rests_until.is_some_and(|until| until > now);
                                prop_assert!(!rests || before.live == 0);
                                let could_stay = matches!(
                                    ring.slots[last].state,
                                    State::Live { rests_until } if rests_until.is_none_or(|until| until <= now)
                                );
                                prop_assert!(!could_stay || key.slot == last, "it left a key that serves");
                            }
                        }
                    }
                    Step::Rest(seconds) => {
                        if let Some(key) = &held {
                            ring.rest(key, now + Duration::from_secs(seconds));
                        }
                    }
                    Step::Bury => {
                        if let Some(key) = &held {
                            ring.bury(key, now);
                        }
                    }
                    Step::Rotate(key) => {
                        if let Some(version) = versions.get_mut(key) {
                            *version += 1;
                        }
                    }
                }
                let KeyCounts { live, resting, dead } = ring.counts(now);
                prop_assert_eq!(live + resting + dead, keys);
            }
        }
    }
}
