//! Where a request stands among all of them, so that a share of them can be given to a bundle on trial.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::routing::chance::fraction;

/// Returns the place of a key, 0 to below 1: requests of one key stay together. Each `draw` places anew.
pub fn of(draw: &str, key: impl Hash) -> f64 {
    // Keys that never change: replicas pick alike, and a restart changes nothing.
    let mut hasher = DefaultHasher::new();
    draw.hash(&mut hasher);
    key.hash(&mut hasher);
    fraction(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other values would move sessions to another bundle while replicas of two versions serve side by side.
    #[test]
    fn places_never_change() {
        for (draw, got, expected) in [
            ("2", of("2", ("acme", "session-1")), 0.299_744_586_809_694_6),
            ("2", of("2", 7_u128), 0.162_662_461_390_020_83),
            ("3", of("3", ("acme", "session-1")), 0.882_839_160_739_961_2),
            ("shadow", of("shadow", ("acme", "session-1")), 0.885_971_986_619_606_1),
        ] {
            assert_eq!(got.to_bits(), f64::to_bits(expected), "{draw}");
        }
    }
}
