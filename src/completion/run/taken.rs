//! An answer that may be sent, whole or as a stream: weak ones are kept at hand until a better one comes.

use super::super::{
    answer::View,
    attempt::Weakness,
    ledger::OpenAttempt,
    leg::{Ready, Whole},
    step,
};
use crate::prompt::Tier;

/// An answer that may be sent.
pub enum Taken {
    Whole(Box<Whole>),
    Ready(Box<Ready>),
}

impl Taken {
    /// Returns why it is weak, `None` when it is not known to be.
    pub fn weakness(&self) -> Option<&Weakness> {
        match self {
            Self::Whole(whole) => whole.weakness.as_ref(),
            Self::Ready(ready) => ready.weakness.as_ref(),
        }
    }

    /// Notes that it is weak.
    pub fn weaken(&mut self, weakness: Weakness) {
        self.open().weak(weakness.clone());
        match self {
            Self::Whole(whole) => whole.weakness = Some(weakness),
            Self::Ready(ready) => ready.weakness = Some(weakness),
        }
    }

    /// Returns its attempt's place in the ledger.
    pub fn place(&self) -> usize {
        self.open().place()
    }

    /// Returns the tier that it comes from.
    pub fn tier(&self) -> Tier {
        self.open().tier()
    }

    /// Returns whether some of it is still to come.
    pub fn is_partial(&self) -> bool {
        match self {
            Self::Whole(_) => false,
            Self::Ready(ready) => ready.rest.is_some(),
        }
    }

    /// Returns the whole answer's view, `None` while some of it is still to come.
    pub fn whole_view(&self) -> Option<&View> {
        match self {
            Self::Whole(whole) => Some(&whole.answer.view),
            Self::Ready(ready) => ready.rest.is_none().then(|| ready.open.view()),
        }
    }

    /// Keeps the better of two weak answers and leaves the other.
    pub fn better(self, other: Self) -> Self {
        let goodness = |taken: &Self| {
            taken.weakness().map(|weakness| step::goodness(weakness, taken.tier(), taken.place()))
        };
        let (kept, left) = if goodness(&self) > goodness(&other) { (self, other) } else { (other, self) };
        left.leave();
        kept
    }

    /// Leaves a weak answer for another one: its target did answer.
    pub fn leave(self) {
        match self {
            Self::Whole(_) => {}
            Self::Ready(ready) => {
                let Ready { permit, .. } = *ready;
                permit.succeeded();
            }
        }
    }

    fn open(&self) -> &OpenAttempt {
        match self {
            Self::Whole(whole) => &whole.open,
            Self::Ready(ready) => &ready.open,
        }
    }
}
