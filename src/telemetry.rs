//! The log subscriber, and every metric name and label set.
//!
//! Labels come from closed sets or from the configuration; never a prompt, a key or a user id.
//! May be named by any module and names none of them.

mod fleet;
mod known;
mod live;
mod named;
mod shadow;
mod traffic;

use std::{io::IsTerminal, sync::OnceLock, time::Duration};

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan};

pub use self::fleet::fleet_wanted;
pub use self::known::completions_of;
pub use self::live::{
    ReloadOutcome, SwapOutcome, admin_refused, bundle_change, bundle_fetched, bundle_role, bundle_unfit,
    classifiers_to_free, config_reload, generation,
};
pub use self::named::{Named, Names};
pub use self::shadow::{shadow_dropped, shadow_scored};
pub use self::traffic::{
    explored, feedback, observed, offset, traffic_dropped, traffic_waiting, traffic_written,
};

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
/// Keys of a provider by state: live, resting, dead.
const PROVIDER_KEYS: &str = "pointsman_provider_keys";

/// 1 for where a target's breaker stands, 0 for the other states, by target and state.
const TARGET_STATE: &str = "pointsman_target_state";
/// What completions cost since the start, US dollars, by the tier that was called.
const SPEND: &str = "pointsman_spend_usd";
/// What the same answers of the top tier would have cost since the start, US dollars, by the tier called.
const SPEND_BASELINE: &str = "pointsman_spend_baseline_usd";
/// Share of a budget's nearest limit that is spent, 1 at the limit. Not for budgets of each tenant.
const BUDGET_SPENT: &str = "pointsman_budget_spent_share";

/// Attempts of completions, by target, cause, outcome, and what was wrong.
const ATTEMPTS: &str = "pointsman_attempts_total";
/// Attempts from call to end, seconds, by target.
const ATTEMPT_SECONDS: &str = "pointsman_attempt_seconds";
/// From an attempt's start to its first token, seconds, by target.
const FIRST_TOKEN_SECONDS: &str = "pointsman_first_token_seconds";
/// Tokens by target and kind: input, cached_input, output.
const TOKENS: &str = "pointsman_tokens_total";
/// What attempts cost, US dollars, by target.
const ATTEMPT_COST: &str = "pointsman_attempt_cost_usd";
/// Completions by tier that answered and outcome.
const COMPLETIONS: &str = "pointsman_completions_total";
/// Completions that nobody answered, or not to the end, by kind.
const COMPLETIONS_FAILED: &str = "pointsman_completions_failed_total";
/// Completions that a tier above the decided one answered since an answer below was weak, by that tier.
const ESCALATED: &str = "pointsman_completions_escalated_total";
/// Completions in progress.
const IN_PROGRESS: &str = "pointsman_completions_in_progress";
/// Time of a completion in pointsman itself, seconds.
const OVERHEAD_SECONDS: &str = "pointsman_completion_overhead_seconds";
/// Attempts that an answered completion took.
const ATTEMPTS_PER: &str = "pointsman_attempts_per_completion";

/// From a rule's 20 microseconds to an overloaded second.
const BUCKETS_S: [f64; 14] = [
    0.000_02, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
];

/// From a cached short answer to a long reasoning one.
const LATENCY_BUCKETS_S: [f64; 14] =
    [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0];

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
    let filter = without_libraries(from_environment.as_deref().unwrap_or(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line that cannot be written, as on a full disk, would be told on stderr, which breaks down: with it whatever
        // logged, be it what loads bundles.
        .log_internal_errors(false)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_span_events(FmtSpan::NONE);
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

/// Libraries that log nothing, whatever was asked for: `genai` logs what providers answer and the text of their errors,
/// which may repeat a prompt or a key; `notify` logs every change in a folder, of which a log file there is one more,
/// and so without end.
const SILENT: [&str; 2] = ["genai", "notify"];

/// Returns the filter with everything off that those libraries log.
fn without_libraries(filter: &str) -> EnvFilter {
    let is_other = |directive: &&str| !SILENT.iter().any(|name| directive.trim_start().starts_with(name));
    let others = filter.split(',').filter(is_other).map(str::to_owned);
    let directives: Vec<String> = others.chain(SILENT.map(|name| format!("{name}=off"))).collect();
    EnvFilter::new(directives.join(","))
}

/// Installs the metrics recorder once per process and returns its handle.
pub fn init_metrics() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(SECONDS.to_owned()), &BUCKETS_S)
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Full(OVERHEAD_SECONDS.to_owned()), &BUCKETS_S)
            })
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Full(ATTEMPT_SECONDS.to_owned()), &LATENCY_BUCKETS_S)
            })
            .and_then(|builder| {
                let metric = Matcher::Full(FIRST_TOKEN_SECONDS.to_owned());
                builder.set_buckets_for_metric(metric, &LATENCY_BUCKETS_S)
            })
            .and_then(|builder| {
                let metric = Matcher::Full(ATTEMPTS_PER.to_owned());
                builder.set_buckets_for_metric(metric, &[1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0])
            })
            .and_then(|builder| {
                let metric = Matcher::Full(live::SWAP_SECONDS.to_owned());
                builder.set_buckets_for_metric(metric, &LATENCY_BUCKETS_S)
            })
            .expect("no bucket list is empty")
            .build_recorder();
        let handle = recorder.handle();
        // Only a second recorder could fail here, and this is the only place that installs one.
        let _ = metrics::set_global_recorder(recorder);
        describe();
        known::show();
        handle
    })
}

/// Returns every metric as Prometheus reads it, without gauges of what is no more.
pub fn render() -> String {
    named::without_gone(&init_metrics().render())
}

fn describe() {
    fleet::describe();
    live::describe();
    shadow::describe();
    traffic::describe();
    describe_counter!(DECISIONS, "Decisions by tier and source");
    describe_counter!(REFUSED, "Requests that got no decision, by reason");
    describe_counter!(UNSCORED, "Requests that the classifier was asked for and did not score, by reason");
    describe_counter!(
        UNREAD,
        "Scored requests in a language that the classifier does not read well, by language"
    );
    describe_counter!(CLAIMED, "Scored requests that an intent by example claimed, by intent");
    describe_counter!(SKIPPED, "Queued requests whose caller was gone before a session was free");
    describe_gauge!(WAITING, "Requests waiting for a classifier session, of all bundles that are loaded");
    describe_gauge!(READY, "1 while everything that the configuration asks for is ready, else 0");
    describe_histogram!(SECONDS, metrics::Unit::Seconds, "Time to a decision, by source");
    describe_gauge!(COST, "Estimated cost of the chosen targets, US dollars");
    describe_gauge!(BASELINE, "Estimated cost had the top tier answered everything, US dollars");
    describe_gauge!(PROVIDER_KEYS, "Keys of a provider by state: live, resting, dead");
    describe_gauge!(TARGET_STATE, "1 for where a target's breaker stands, else 0");
    describe_gauge!(SPEND, "Cost of completions since the start, US dollars, by the tier that was called");
    describe_gauge!(SPEND_BASELINE, "Cost of the same answers from the top tier since the start, US dollars");
    describe_gauge!(BUDGET_SPENT, "Share of a budget's nearest limit that is spent");
    describe_counter!(ATTEMPTS, "Attempts of completions, by target, cause, outcome, and what was wrong");
    describe_histogram!(ATTEMPT_SECONDS, metrics::Unit::Seconds, "Attempts from call to end, by target");
    describe_histogram!(
        FIRST_TOKEN_SECONDS,
        metrics::Unit::Seconds,
        "From an attempt's start to its first token, by target"
    );
    describe_counter!(TOKENS, "Tokens by target and kind");
    describe_gauge!(ATTEMPT_COST, "What attempts cost, US dollars, by target");
    describe_counter!(COMPLETIONS, "Completions by tier that answered and outcome");
    describe_counter!(COMPLETIONS_FAILED, "Completions that nobody answered, or not to the end, by kind");
    describe_counter!(
        ESCALATED,
        "Completions that a higher tier answered since an answer below was weak, by that tier"
    );
    describe_gauge!(IN_PROGRESS, "Completions in progress");
    describe_histogram!(OVERHEAD_SECONDS, metrics::Unit::Seconds, "Time of a completion in pointsman itself");
    describe_histogram!(ATTEMPTS_PER, "Attempts that an answered completion took");
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

/// Notes how many keys of a provider serve, rest after a rate limit, or were refused or not found.
pub fn provider_keys(provider: &str, live: usize, resting: usize, dead: usize) {
    for (state, keys) in [("live", live), ("resting", resting), ("dead", dead)] {
        gauge!(PROVIDER_KEYS, "provider" => provider.to_owned(), "state" => state).set(keys as f64);
    }
}
/// Notes where a target's breaker stands; `states` are all that there are.
pub fn target_state(target: &str, state: &'static str, states: &[&'static str]) {
    for &each in states {
        let value = if each == state { 1.0 } else { 0.0 };
        gauge!(TARGET_STATE, "target" => target.to_owned(), "state" => each).set(value);
    }
}

/// Adds what an answer cost, and what it would have cost from the top tier.
pub fn spent(tier: &str, cost_usd: f64, baseline_usd: f64) {
    gauge!(SPEND, "tier" => tier.to_owned()).increment(cost_usd);
    gauge!(SPEND_BASELINE, "tier" => tier.to_owned()).increment(baseline_usd);
}

/// Notes which share of its nearest limit a budget has spent.
pub fn budget_spent(budget: &str, share: f64) {
    gauge!(BUDGET_SPENT, "budget" => budget.to_owned()).set(share);
}
/// What one attempt adds to the metrics.
pub struct AttemptMetrics<'a> {
    pub target: &'a str,
    pub cause: &'static str,
    pub outcome: &'static str,
    /// Kind of the error or name of the check; empty when there is none.
    pub why: &'static str,
    pub took: Duration,
    pub first_token: Option<Duration>,
    pub tokens_in: u64,
    pub tokens_cached: u64,
    pub tokens_out: u64,
    pub cost_usd: f64,
}

/// Counts an attempt that ended.
pub fn attempted(attempt: &AttemptMetrics<'_>) {
    let target = attempt.target.to_owned();
    counter!(
        ATTEMPTS,
        "target" => target.clone(),
        "cause" => attempt.cause,
        "outcome" => attempt.outcome,
        "why" => attempt.why
    )
    .increment(1);
    histogram!(ATTEMPT_SECONDS, "target" => target.clone()).record(attempt.took.as_secs_f64());
    if let Some(first_token) = attempt.first_token {
        histogram!(FIRST_TOKEN_SECONDS, "target" => target.clone()).record(first_token.as_secs_f64());
    }
    let tokens = [
        ("input", attempt.tokens_in),
        ("cached_input", attempt.tokens_cached),
        ("output", attempt.tokens_out),
    ];
    for (kind, count) in tokens {
        counter!(TOKENS, "target" => target.clone(), "kind" => kind).increment(count);
    }
    gauge!(ATTEMPT_COST, "target" => target).increment(attempt.cost_usd);
}

/// What one answered completion adds to the metrics.
pub struct CompletionMetrics<'a> {
    pub tier: &'a str,
    pub outcome: &'static str,
    pub escalated: bool,
    pub overhead: Duration,
    pub attempts: usize,
}

/// Counts a completion that was answered.
pub fn completed(completion: &CompletionMetrics<'_>) {
    let tier = completion.tier.to_owned();
    counter!(COMPLETIONS, "tier" => tier.clone(), "outcome" => completion.outcome).increment(1);
    if completion.escalated {
        counter!(ESCALATED, "tier" => tier).increment(1);
    }
    histogram!(OVERHEAD_SECONDS).record(completion.overhead.as_secs_f64());
    histogram!(ATTEMPTS_PER).record(completion.attempts as f64);
}

/// Counts a completion that nobody answered, or not to the end.
pub fn completion_failed(kind: &'static str) {
    counter!(COMPLETIONS_FAILED, "kind" => kind).increment(1);
}

/// Counts as one completion in progress until it is dropped.
pub struct InProgress(());

/// Starts counting a completion in progress.
pub fn in_progress() -> InProgress {
    gauge!(IN_PROGRESS).increment(1.0);
    InProgress(())
}

impl Drop for InProgress {
    fn drop(&mut self) {
        gauge!(IN_PROGRESS).decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no writer panics").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_librarys_log_is_never_shown() {
        for filter in ["info", "trace", "debug,genai=trace", "genai::adapter=trace,info", "off, genai=debug"]
        {
            let written = Written::default();
            let writer = written.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_env_filter(without_libraries(filter))
                .with_writer(move || writer.clone())
                .finish();
            tracing::subscriber::with_default(subscriber, || {
                tracing::error!(target: "genai::adapter::adapters", "an answer");
                tracing::error!("our own");
            });
            let text = String::from_utf8(written.0.lock().expect("no writer panics").clone()).unwrap();
            assert!(!text.contains("an answer"), "{filter}: {text}");
            assert_eq!(text.contains("our own"), !filter.starts_with("off"), "{filter}: {text}");
        }
    }
}
