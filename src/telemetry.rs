//! The log subscriber, and every metric name and label set.
//!
//! Labels come from closed sets or from the configuration; never a prompt, a key or a user id.
//! May be named by any module and names none of them.

use std::{io::IsTerminal, sync::OnceLock, time::Duration};

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan};

/// Decisions by tier and source. With [`UNSCORED`] it tells the coverage: the share of requests that
/// the classifier was needed for and did score.
const DECISIONS: &str = "pointsman_decisions_total";
/// Requests that got no decision, by reason.
const REFUSED: &str = "pointsman_refused_total";
/// Requests that no scores were had for although they were asked for, by reason.
const UNSCORED: &str = "pointsman_classifier_unscored_total";
/// Scored requests in a language that the classifier does not read well, by language.
const UNREAD: &str = "pointsman_classifier_unread_total";
/// Scored requests that an intent by example claimed, by intent.
const CLAIMED: &str = "pointsman_intent_claimed_total";
/// Jobs whose caller was gone before a session was free.
const SKIPPED: &str = "pointsman_classifier_skipped_total";
/// Jobs that wait for a session.
const WAITING: &str = "pointsman_classifier_waiting";
/// 1 while everything that the configuration asks for is ready, else 0.
const READY: &str = "pointsman_classifier_ready";
/// Whole decisions, seconds, by source.
const SECONDS: &str = "pointsman_decision_seconds";
/// Estimated cost of the chosen targets, US dollars.
const COST: &str = "pointsman_cost_usd_estimate";
/// Estimated cost had the top tier answered everything, US dollars.
const BASELINE: &str = "pointsman_baseline_cost_usd";

/// From a rule's 20 microseconds to an overloaded second.
const BUCKETS_S: [f64; 14] = [
    0.000_02, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For a person.
    Text,
    /// One JSON object a line.
    Json,
}

/// Installs the log subscriber on stderr; `RUST_LOG` overrides `level`. A second call does nothing.
pub fn init_log(format: LogFormat, level: &str) {
    let from_environment = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|filter| !filter.is_empty());
    let filter = EnvFilter::new(from_environment.as_deref().unwrap_or(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_span_events(FmtSpan::NONE);
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

/// Installs the metrics recorder once per process and returns its handle.
pub fn init_metrics() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(SECONDS.to_owned()), &BUCKETS_S)
            .expect("the bucket list is not empty")
            .build_recorder();
        let handle = recorder.handle();
        // Only a second recorder could fail here, and this is the only place that installs one.
        let _ = metrics::set_global_recorder(recorder);
        describe();
        handle
    })
}

fn describe() {
    describe_counter!(DECISIONS, "Decisions by tier and source");
    describe_counter!(REFUSED, "Requests that got no decision, by reason");
    describe_counter!(UNSCORED, "Requests that the classifier was asked for and did not score, by reason");
    describe_counter!(
        UNREAD,
        "Scored requests in a language that the classifier does not read well, by language"
    );
    describe_counter!(CLAIMED, "Scored requests that an intent by example claimed, by intent");
    describe_counter!(SKIPPED, "Queued requests whose caller was gone before a session was free");
    describe_gauge!(WAITING, "Requests waiting for a classifier session");
    describe_gauge!(READY, "1 while everything that the configuration asks for is ready, else 0");
    describe_histogram!(SECONDS, metrics::Unit::Seconds, "Time to a decision, by source");
    describe_gauge!(COST, "Estimated cost of the chosen targets, US dollars");
    describe_gauge!(BASELINE, "Estimated cost had the top tier answered everything, US dollars");
}

/// What one decision adds to the metrics.
pub struct DecisionMetrics {
    pub tier: String,
    pub source: &'static str,
    pub took: Duration,
    pub cost_usd: f64,
    pub baseline_usd: f64,
}

/// Counts a decision.
pub fn decided(decision: DecisionMetrics) {
    let DecisionMetrics { tier, source, took, cost_usd, baseline_usd } = decision;
    counter!(DECISIONS, "tier" => tier, "source" => source).increment(1);
    histogram!(SECONDS, "source" => source).record(took.as_secs_f64());
    // The exporter's counters hold whole numbers; dollars go into gauges that only grow.
    gauge!(COST).increment(cost_usd);
    gauge!(BASELINE).increment(baseline_usd);
}

/// Counts a request that got no decision.
pub fn refused(reason: &'static str) {
    counter!(REFUSED, "reason" => reason).increment(1);
}

/// Counts a request that the classifier was asked for and did not score.
pub fn unscored(reason: &'static str) {
    counter!(UNSCORED, "reason" => reason).increment(1);
}

/// Counts a scored request whose language (ISO 639-1) or script the classifier does not read well.
pub fn unread(language: &'static str) {
    counter!(UNREAD, "language" => language).increment(1);
}

/// Counts a scored request that an intent of the configuration claimed by its examples.
pub fn claimed(intent: &str) {
    counter!(CLAIMED, "intent" => intent.to_owned()).increment(1);
}

/// Counts a queued request whose caller was gone.
pub fn classifier_skipped() {
    counter!(SKIPPED).increment(1);
}

/// Notes how many requests wait for a session.
pub fn classifier_waiting(waiting: usize) {
    gauge!(WAITING).set(waiting as f64);
}

/// Notes whether a classifier is ready.
pub fn classifier_ready(ready: bool) {
    gauge!(READY).set(if ready { 1.0 } else { 0.0 });
}
