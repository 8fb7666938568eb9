//! What a replica goes by while the store that it shares with others does not say what is wanted.

use crate::live::rollout::Desired;

/// The store does not say what is wanted: it is away, or what it says cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apart {
    /// By this machine's clock, milliseconds since 1970.
    pub since_ms: i64,
    /// As it was last told; without credentials.
    pub why: String,
    pub wanted_from: WantedFrom,
}

/// What is known of the wanted state when it is asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// `None`: nothing was ever asked for, or it is not known.
    pub wanted: Option<Desired>,
    /// Set: it may be another thing by now.
    pub apart: Option<Apart>,
}

/// Where it is known from what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedFrom {
    /// The store says it.
    Store,
    /// The store said it to this process, before it went away.
    Memory,
    /// An earlier process left it in a file.
    Copy,
    /// It is not known at all.
    Nowhere,
}

impl WantedFrom {
    /// Every one as a label.
    pub const LABELS: [&'static str; 4] = ["store", "memory", "copy", "nowhere"];

    /// Returns the label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Store => Self::LABELS[0],
            Self::Memory => Self::LABELS[1],
            Self::Copy => Self::LABELS[2],
            Self::Nowhere => Self::LABELS[3],
        }
    }
}
