//! Numbers that look random and follow from a seed alone: replicas draw alike, and a draw can be repeated.

/// The golden ratio in 64 bits, the step of SplitMix64's Weyl sequence: multiples of it spread over all numbers.
pub const GOLDEN_RATIO: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's output function: neighbouring seeds give unrelated numbers.
pub fn mix(seed: u64) -> u64 {
    let z = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Returns a number from 0 to below 1, of as many of these bits as a fraction has room for: 53.
pub fn fraction(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}
