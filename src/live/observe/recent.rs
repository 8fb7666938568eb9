//! Who decided a request, for feedback that comes later.
//!
//! Never allocates for a request and never locks: a table of fixed size, in which later decisions replace earlier ones.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use uuid::Uuid;

use super::Side;

/// Decisions remembered, about: 1 MiB. Feedback about earlier ones does not count.
const SLOTS: usize = 1 << 17;
const ACTIVE: u64 = 1;
const WATCHED: u64 = 2;
const SIDE_BITS: u64 = 3;

/// Decisions of late.
pub struct Recent {
    /// Random bits of an id, the lowest two of them replaced by the side; 0 is empty.
    slots: Vec<AtomicU64>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Recent {
    /// Remembers a decision.
    pub fn add(&self, id: Uuid, side: Side) {
        let (slot, key) = place(id);
        let side = match side {
            Side::Active => ACTIVE,
            Side::Watched => WATCHED,
        };
        self.slots[slot].store(key | side, Relaxed);
    }

    /// Returns who decided; `None` where that was long ago, or in another step.
    pub fn side_of(&self, id: Uuid) -> Option<Side> {
        let (slot, key) = place(id);
        let found = self.slots[slot].load(Relaxed);
        match found & SIDE_BITS {
            ACTIVE if found & !SIDE_BITS == key => Some(Side::Active),
            WATCHED if found & !SIDE_BITS == key => Some(Side::Watched),
            _ => None,
        }
    }
}

/// The last 62 bits of a version 7 id are random: they are the hash. Two that differ in none but the two lowest ones are
/// taken for one another, once in 2^60 pairs.
fn place(id: Uuid) -> (usize, u64) {
    let random = id.as_u64_pair().1;
    ((random >> 2) as usize % SLOTS, random & !SIDE_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_decisions_are_remembered_and_old_ones_make_room() {
        let recent = Recent::default();
        let ids: Vec<Uuid> = (0..1000).map(|_| Uuid::now_v7()).collect();
        for (at, &id) in ids.iter().enumerate() {
            recent.add(id, if at % 2 == 0 { Side::Active } else { Side::Watched });
        }
        let found = ids.iter().enumerate().filter(|&(at, &id)| {
            recent.side_of(id) == Some(if at % 2 == 0 { Side::Active } else { Side::Watched })
        });
        assert!(found.count() > 980);
        assert_eq!(recent.side_of(Uuid::now_v7()), None);
        assert_eq!(recent.side_of(Uuid::nil()), None);
        for _ in 0..SLOTS * 16 {
            recent.add(Uuid::from_u128(rand::random()), Side::Active);
        }
        assert!(ids.iter().all(|&id| recent.side_of(id) != Some(Side::Watched)));
    }
}
