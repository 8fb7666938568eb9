//! Completions in progress, counted over all configurations of the process: those that began under another one still
//! take their place.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The count; clones share it.
#[derive(Clone, Default)]
pub struct Slots(Arc<AtomicUsize>);

/// One completion's place, free again when it is dropped.
#[must_use = "a place that is dropped is free again"]
pub struct Slot(Arc<AtomicUsize>);

impl Slots {
    /// Takes a place, unless `most` are taken.
    pub fn take(&self, most: usize) -> Option<Slot> {
        let one_more = |taken: usize| (taken < most).then_some(taken + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Slot(Arc::clone(&self.0)))
    }

    /// Returns how many are taken.
    #[cfg(test)]
    pub fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_counts_under_another_limit_too() {
        let slots = Slots::default();
        let first = slots.take(2);
        let second = slots.take(2);
        assert!(first.is_some() && second.is_some() && slots.take(2).is_none());
        let after = &slots;
        assert!(after.take(1).is_none(), "two run");
        drop(first);
        assert!(after.take(1).is_none(), "one runs");
        drop(second);
        assert!(after.take(1).is_some());
    }
}
