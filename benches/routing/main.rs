//! What a decision costs in process: rules, tokens, policy, the whole route; and what logging it costs afterwards.
//!
//! `cargo bench --bench routing` takes about a minute; a filter after `--` picks a group. Nothing
//! here goes over a socket: `benches/load` does.

mod live;
mod parts;
mod route;
mod rules;
mod texts;
mod traffic;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

const WARM_UP: Duration = Duration::from_millis(300);
const MEASURE: Duration = Duration::from_millis(1200);
/// Fewer than the default of 100: a single run over 300,000 characters takes milliseconds.
const SAMPLES: usize = 20;

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(WARM_UP)
        .measurement_time(MEASURE)
        .sample_size(SAMPLES)
        .without_plots();
    targets =
        rules::rules, parts::tokenize, parts::policy, parts::intents, parts::language, traffic::redaction,
        traffic::signals, traffic::logging, route::route, live::live
}
criterion_main!(benches);
