//! How long an answer of a server may take, and what is said where none comes. Pure.

use std::time::Duration;

/// What the server has in memory, or in a database beside it.
const AT_HAND_MAX: Duration = Duration::from_secs(10);
/// For each answer of an object store the server waits 60 s, and a list takes three of them one after the other: names,
/// manifests, signatures.
const STORE_MAX: Duration = Duration::from_secs(200);
/// As long as the server keeps a connection: a version may come from afar, waits for the changes before it, and is tried
/// beside the one that serves. A spinner turns meanwhile, and Ctrl-C ends the wait and not the change.
const CHANGE_MAX: Duration = Duration::from_secs(900);

/// How long an answer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// The server knows.
    AtHand,
    /// The server looks into its bundle store.
    Store,
    /// The server loads a bundle, and changes nothing.
    Check,
    /// The server changes something, to the end also where nobody waits for it.
    Change,
}

impl Patience {
    pub fn most(self) -> Duration {
        match self {
            Self::AtHand => AT_HAND_MAX,
            Self::Store => STORE_MAX,
            Self::Check | Self::Change => CHANGE_MAX,
        }
    }

    /// Returns what it means that no answer came in time.
    pub fn late(self) -> &'static str {
        match self {
            Self::AtHand => "it is too busy, or the way to it is: try again",
            Self::Store => {
                "its bundle store may be slow or away: `pointsman bundle list --store` looks at it from here"
            }
            Self::Check => "the check changes nothing: try again when the server has less to do",
            Self::Change => "it may still happen: `pointsman bundle events` tells",
        }
    }

    /// Returns what it means that the connection broke; follows why it did.
    pub fn broken(self) -> &'static str {
        match self {
            Self::AtHand | Self::Store | Self::Check => "",
            Self::Change => {
                "; where the change had reached it, it may still happen: `pointsman bundle events` tells"
            }
        }
    }
}
