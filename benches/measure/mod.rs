//! What the benches that load a running process share: the process, histograms, tables.
//!
//! Knows nothing of what is asked or answered.

pub mod process;
pub mod table;

use std::io;

use hdrhistogram::Histogram;

/// Longest latency told apart, microseconds.
const LATENCY_US_MAX: u64 = 120_000_000;
/// Three digits of every latency.
const DIGITS: u8 = 3;

/// Returns an empty histogram of microseconds.
pub fn histogram_us() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, DIGITS)
        .expect("one microsecond to two minutes with three digits are valid bounds")
}

/// Returns a runtime for one thread.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Prints one JSON line.
pub fn print_json(line: &impl serde::Serialize) {
    anstream::println!("{}", serde_json::to_string(line).expect("rows are plain data"));
}
