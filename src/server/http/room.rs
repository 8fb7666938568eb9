//! How much memory the bodies of all requests take together.
//!
//! Taken as bodies come, not as they are announced: who announces much and sends nothing holds nothing.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies of all requests together, from their first byte until their completions end. What is read of a body takes
/// some times as much.
const BYTES_MAX: usize = 256 << 20;
/// Room for so many of the largest bodies there is always, whatever the operator set as the largest.
const LARGEST_MIN: usize = 4;
/// Memory is counted in pieces of this size.
const PIECE_BYTES: usize = 64 << 10;

/// The memory that is left.
#[derive(Debug, Clone)]
pub struct Room(Arc<Semaphore>);

impl Room {
    /// Returns the memory of a server whose largest body is this.
    pub fn new(body_bytes_max: usize) -> Self {
        Self::of(BYTES_MAX.max(body_bytes_max.saturating_mul(LARGEST_MIN)))
    }

    pub(super) fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / PIECE_BYTES).clamp(1, Semaphore::MAX_PERMITS))))
    }

    /// Takes what is missing for so many bytes; `false`, and nothing taken, where there is not as much.
    pub fn grow(&self, held: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> bool {
        let has = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let Ok(missing) = u32::try_from(bytes.div_ceil(PIECE_BYTES).saturating_sub(has)) else {
            return false;
        };
        if missing == 0 {
            return true;
        }
        let Ok(more) = Arc::clone(&self.0).try_acquire_many_owned(missing) else { return false };
        match held {
            Some(held) => held.merge(more),
            None => *held = Some(more),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_by_pieces_and_is_given_back() {
        let room = Room::of(4 * PIECE_BYTES);
        let (mut first, mut second) = (None, None);
        assert!(room.grow(&mut first, 1) && room.grow(&mut first, PIECE_BYTES));
        assert!(room.grow(&mut first, 3 * PIECE_BYTES));
        assert!(room.grow(&mut second, PIECE_BYTES));
        assert!(!room.grow(&mut second, PIECE_BYTES + 1), "it is full");
        drop(first);
        assert!(room.grow(&mut second, 4 * PIECE_BYTES));
        drop(second);
        assert_eq!(room.0.available_permits(), 4);
    }
}
