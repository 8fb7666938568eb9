//! Criterion benches; see the helper.
fn main() {}
