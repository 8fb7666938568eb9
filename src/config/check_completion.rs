//! `[completion]` of a [`File`](super::file::File) -> [`CompletionConfig`]: limits, waits, checks, judge.
//!
//! A limit that is not written gives way to one that is: who shortens `total_ms` alone need not shorten the rest.

use std::{sync::Arc, time::Duration};

use regex::Regex;

use super::{
    Backoff, BreakerConfig, Check, ChecksConfig, CompletionConfig, HedgeConfig, JudgeConfig, StreamConfig,
    Timeouts,
    check::{Names, above_zero, between, name, target_named, within},
    check_rules::compile,
    duplicates,
    file_completion::{
        BackoffFile, BreakerFile, ChecksFile, CompletionFile, HedgeFile, JudgeFile, StreamFile, TimeoutsFile,
    },
    read::SourceText,
};
use crate::prompt::Tier;

/// Longest wait that may be configured: an hour.
const WAIT_MS_MAX: u64 = 3_600_000;
/// A server that takes longer to accept a connection is down.
const CONNECT_MS_MAX: u64 = 60_000;
const ATTEMPTS_MAX_MAX: u64 = 64;
const RETRIES_MAX_MAX: u64 = 10;
const CONCURRENT_MAX_MAX: u64 = 1_000_000;
/// A chunk with a token and its account still fits.
const BYTES_MIN: u64 = 4096;
/// Held in memory for each completion in progress.
const ANSWER_BYTES_MAX_MAX: u64 = 256 << 20;
const HOLD_BYTES_MAX_MAX: u64 = 64 << 20;
const GUARD_CHARS_MAX: u64 = 100_000;
/// Longest encoding of one character in UTF-8.
const BYTES_PER_CHAR: u64 = 4;
/// The target's slowest twentieth pays for a second call.
const HEDGE_QUANTILE: f64 = 0.95;
/// Above the usual first-token time of hosted models, so that only slow calls are doubled.
const HEDGE_DELAY_MS_MIN: u64 = 2000;
const CALLS_MAX: u64 = 1_000_000;
const CHECKS_MAX: usize = 100;
const PATTERNS_PER_ENTRY_MAX: usize = 64;
const RUBRIC: &str = "A good answer is correct, complete and to the point, and does what was asked.";
const RUBRIC_BYTES_MAX: usize = 8192;
const JUDGE_SCORE_MIN: f64 = 0.5;
const JUDGE_TIMEOUT_MS: u64 = 10_000;

/// Returns the deadline of one completion.
pub fn check_deadline(written: &CompletionFile, source: &mut SourceText<'_>) -> Duration {
    let default = CompletionConfig::default().deadline;
    wait(written.deadline_ms, default, 1..=WAIT_MS_MAX, "completion.deadline_ms", source)
}

/// Returns the waits as written below `prefix`, over those of `base`.
pub fn check_timeouts(
    written: &TimeoutsFile,
    base: Timeouts,
    deadline: Duration,
    prefix: &str,
    source: &mut SourceText<'_>,
) -> Timeouts {
    let path = |key: &str| format!("{prefix}.{key}");
    let total = wait(written.total_ms, base.total, 1..=WAIT_MS_MAX, &path("total_ms"), source);
    let mut part = |value: Option<u64>, default: Duration, max: u64, key: &str| {
        let waited = wait(value, default, 1..=max, &path(key), source);
        let of = Limit { name: "total_ms", value: millis(total) };
        Duration::from_millis(at_most(millis(waited), value, of, &path(key), source))
    };
    let connect = part(written.connect_ms, base.connect, CONNECT_MS_MAX, "connect_ms");
    let first_token = part(written.first_token_ms, base.first_token, WAIT_MS_MAX, "first_token_ms");
    let between_tokens =
        part(written.between_tokens_ms, base.between_tokens, WAIT_MS_MAX, "between_tokens_ms");
    let of = Limit { name: "completion.deadline_ms", value: millis(deadline) };
    let connect = at_most(millis(connect), written.connect_ms, of, &path("connect_ms"), source);
    Timeouts { connect: Duration::from_millis(connect), first_token, between_tokens, total }
}

/// Returns how completions are made; `deadline` is what [`check_deadline`] returned.
pub fn check_completion(
    written: &CompletionFile,
    deadline: Duration,
    names: &Names<'_>,
    source: &mut SourceText<'_>,
) -> CompletionConfig {
    let default = CompletionConfig::default();
    let answer_bytes_max = within(
        written.answer_bytes_max,
        default.answer_bytes_max as u64,
        BYTES_MIN..=ANSWER_BYTES_MAX_MAX,
        "completion.answer_bytes_max",
        source,
    );
    let line_bytes_max = within(
        written.line_bytes_max,
        default.line_bytes_max as u64,
        BYTES_MIN..=ANSWER_BYTES_MAX_MAX,
        "completion.line_bytes_max",
        source,
    );
    let of = Limit { name: "answer_bytes_max", value: answer_bytes_max };
    let line_bytes_max =
        at_most(line_bytes_max, written.line_bytes_max, of, "completion.line_bytes_max", source);
    let mut count = |value: Option<u64>, default: usize, min: u64, max: u64, key: &str| {
        within(value, default as u64, min..=max, &format!("completion.{key}"), source) as usize
    };
    let attempts_max = count(written.attempts_max, default.attempts_max, 1, ATTEMPTS_MAX_MAX, "attempts_max");
    let retries_max = count(written.retries_max, default.retries_max, 0, RETRIES_MAX_MAX, "retries_max");
    let concurrent_max =
        count(written.concurrent_max, default.concurrent_max, 1, CONCURRENT_MAX_MAX, "concurrent_max");
    CompletionConfig {
        deadline,
        attempts_max,
        retries_max,
        backoff: check_backoff(&written.backoff, default.backoff, source),
        cost_usd_max: above_zero(written.cost_usd_max, "completion.cost_usd_max", source),
        exhausted: written.exhausted.unwrap_or(default.exhausted),
        on_weak: written.on_weak.unwrap_or(default.on_weak),
        concurrent_max,
        answer_bytes_max: answer_bytes_max as usize,
        line_bytes_max: line_bytes_max as usize,
        stream: check_stream(&written.stream, default.stream, source),
        hedge: written.hedge.as_ref().map(|hedge| check_hedge(hedge, names, source)),
        breaker: check_breaker(&written.breaker, default.breaker, source),
        checks: check_all_checks(written, names, source),
        judge: written.judge.as_ref().and_then(|judge| check_judge(judge, names, source)),
    }
}

fn check_backoff(written: &BackoffFile, default: Backoff, source: &mut SourceText<'_>) -> Backoff {
    let mut wait = |value, default, key: &str| {
        wait(value, default, 0..=WAIT_MS_MAX, &format!("completion.backoff.{key}"), source)
    };
    let first = wait(written.first_ms, default.first, "first_ms");
    let max = wait(written.max_ms, default.max, "max_ms");
    let retry_after_max = wait(written.retry_after_ms_max, default.retry_after_max, "retry_after_ms_max");
    let of = Limit { name: "max_ms", value: millis(max) };
    let first = at_most(millis(first), written.first_ms, of, "completion.backoff.first_ms", source);
    Backoff { first: Duration::from_millis(first), max, retry_after_max }
}

fn check_stream(written: &StreamFile, default: StreamConfig, source: &mut SourceText<'_>) -> StreamConfig {
    let guard_chars = within(
        written.guard_chars,
        default.guard_chars as u64,
        1..=GUARD_CHARS_MAX,
        "completion.stream.guard_chars",
        source,
    );
    let hold_bytes_max = within(
        written.hold_bytes_max,
        default.hold_bytes_max as u64,
        BYTES_MIN..=HOLD_BYTES_MAX_MAX,
        "completion.stream.hold_bytes_max",
        source,
    );
    let least = guard_chars * BYTES_PER_CHAR;
    if hold_bytes_max < least {
        source.problem(
            "completion.stream.hold_bytes_max",
            format!("{hold_bytes_max} is below {least}: {guard_chars} guard_chars of {BYTES_PER_CHAR} bytes"),
        );
    }
    StreamConfig {
        quality: written.quality.unwrap_or(default.quality),
        guard_chars: guard_chars as usize,
        hold_bytes_max: hold_bytes_max as usize,
        caller_stall: wait(
            written.caller_stall_ms,
            default.caller_stall,
            1..=WAIT_MS_MAX,
            "completion.stream.caller_stall_ms",
            source,
        ),
    }
}

fn check_hedge(written: &HedgeFile, names: &Names<'_>, source: &mut SourceText<'_>) -> HedgeConfig {
    let delay_min = Duration::from_millis(HEDGE_DELAY_MS_MIN);
    HedgeConfig {
        quantile: between(written.quantile, HEDGE_QUANTILE, 0.5..=0.999, "completion.hedge.quantile", source),
        delay_min: wait(
            written.delay_ms_min,
            delay_min,
            1..=WAIT_MS_MAX,
            "completion.hedge.delay_ms_min",
            source,
        ),
        tiers: tiers(&written.tiers, "completion.hedge.tiers", names, source),
    }
}

fn check_breaker(
    written: &BreakerFile,
    default: BreakerConfig,
    source: &mut SourceText<'_>,
) -> BreakerConfig {
    let path = |key: &str| format!("completion.breaker.{key}");
    let mut count = |value, default: u32, key| {
        within(value, u64::from(default), 1..=CALLS_MAX, &path(key), source) as u32
    };
    let failures = count(written.failures, default.failures, "failures");
    let calls_min = count(written.calls_min, default.calls_min, "calls_min");
    let error_ratio = written.error_ratio.unwrap_or(default.error_ratio);
    if !(error_ratio > 0.0 && error_ratio <= 1.0) {
        source.problem(path("error_ratio"), format!("{error_ratio} is not above 0 and at most 1"));
    }
    let mut wait = |value, default, min, key| wait(value, default, min..=WAIT_MS_MAX, &path(key), source);
    let window = wait(written.window_ms, default.window, 100, "window_ms");
    let cooldown = wait(written.cooldown_ms, default.cooldown, 1, "cooldown_ms");
    let cooldown_max = wait(written.cooldown_ms_max, default.cooldown_max, 1, "cooldown_ms_max");
    let ramp = wait(written.ramp_ms, default.ramp, 0, "ramp_ms");
    let of = Limit { name: "cooldown_ms_max", value: millis(cooldown_max) };
    let cooldown = at_most(millis(cooldown), written.cooldown_ms, of, &path("cooldown_ms"), source);
    BreakerConfig {
        failures,
        error_ratio,
        window,
        calls_min,
        cooldown: Duration::from_millis(cooldown),
        cooldown_max,
        ramp,
    }
}

fn check_all_checks(
    written: &CompletionFile,
    names: &Names<'_>,
    source: &mut SourceText<'_>,
) -> Vec<ChecksConfig> {
    let judged = written.judge.is_some();
    let one = [ChecksFile::default()];
    let entries = written.checks.as_deref().unwrap_or(&one);
    if entries.len() > CHECKS_MAX {
        source.problem("completion.checks", format!("{} entries, at most {CHECKS_MAX}", entries.len()));
    }
    let checks: Vec<ChecksConfig> = entries
        .iter()
        .enumerate()
        .map(|(at, entry)| check_checks(&format!("completion.checks[{at}]"), entry, judged, names, source))
        .collect();
    let all = |entry: &ChecksFile| entry.tiers.is_empty() && entry.intents.is_empty();
    if let Some(last) = entries.iter().position(all)
        && last + 1 < entries.len()
    {
        let path = format!("completion.checks[{}]", last + 1);
        source.problem(path, format!("is never reached: checks[{last}] fits every answer"));
    }
    if judged && !checks.iter().any(|entry| entry.checks.contains(&Check::Judge)) {
        source.problem("completion.judge", "judges nothing: no entry of completion.checks lists \"judge\"");
    }
    checks
}

fn check_checks(
    prefix: &str,
    written: &ChecksFile,
    judged: bool,
    names: &Names<'_>,
    source: &mut SourceText<'_>,
) -> ChecksConfig {
    let path = |key: &str| format!("{prefix}.{key}");
    let default = ChecksConfig::default();
    let logprob_min = written.logprob_min.unwrap_or(default.logprob_min);
    if !(logprob_min.is_finite() && logprob_min < 0.0) {
        source.problem(path("logprob_min"), format!("{logprob_min} is not below 0"));
    }
    let patterns = written.reject.len() + written.require.len();
    if patterns > PATTERNS_PER_ENTRY_MAX {
        source.problem(prefix, format!("{patterns} patterns, at most {PATTERNS_PER_ENTRY_MAX} in one entry"));
    }
    let checks = match &written.checks {
        Some(checks) => checks.clone(),
        None => {
            let given = [
                (Check::Logprob, written.logprob_min.is_some()),
                (Check::Pattern, patterns > 0),
                (Check::Judge, judged),
            ];
            let given = given.into_iter().filter_map(|(check, given)| given.then_some(check));
            default.checks.into_iter().chain(given).collect()
        }
    };
    if written.checks.is_some() {
        check_listed(prefix, &checks, written, judged, source);
    }
    ChecksConfig {
        tiers: tiers(&written.tiers, &path("tiers"), names, source),
        intents: written
            .intents
            .iter()
            .enumerate()
            .map(|(at, intent)| name(Some(intent), format!("{prefix}.intents[{at}]"), source))
            .collect::<Vec<Arc<str>>>(),
        checks,
        logprob_min,
        reject: compiled(&written.reject, &path("reject"), source),
        require: compiled(&written.require, &path("require"), source),
    }
}

/// Notes where a list of checks and the settings of its checks do not fit together.
fn check_listed(
    prefix: &str,
    checks: &[Check],
    written: &ChecksFile,
    judged: bool,
    source: &mut SourceText<'_>,
) {
    for twice in duplicates(checks.iter().map(|check| check.as_str())) {
        source.problem(format!("{prefix}.checks[{twice}]"), "is listed twice");
    }
    let patterns = !written.reject.is_empty() || !written.require.is_empty();
    for (at, check) in checks.iter().enumerate() {
        let missing = match check {
            Check::Pattern if !patterns => "needs patterns: give reject or require",
            Check::Judge if !judged => "needs a judge: give [completion.judge]",
            _ => continue,
        };
        source.problem(format!("{prefix}.checks[{at}]"), missing);
    }
    for (check, key, given) in [
        (Check::Logprob, "logprob_min", written.logprob_min.is_some()),
        (Check::Pattern, "reject", !written.reject.is_empty()),
        (Check::Pattern, "require", !written.require.is_empty()),
    ] {
        if given && !checks.contains(&check) {
            source.problem(
                format!("{prefix}.{key}"),
                format!("has no effect: {:?} is not among the checks", check.as_str()),
            );
        }
    }
}

fn compiled(patterns: &[String], path: &str, source: &mut SourceText<'_>) -> Vec<Regex> {
    let mut compiled = Vec::with_capacity(patterns.len());
    for (at, pattern) in patterns.iter().enumerate() {
        match compile(pattern) {
            Ok(pattern) => compiled.push(pattern),
            Err(message) => source.problem(format!("{path}[{at}]"), message),
        }
    }
    compiled
}

fn check_judge(written: &JudgeFile, names: &Names<'_>, source: &mut SourceText<'_>) -> Option<JudgeConfig> {
    let path = |key: &str| format!("completion.judge.{key}");
    let id = name(written.target.as_ref(), path("target"), source);
    let target = if id.is_empty() { None } else { target_named(names.targets, &id, path("target"), source) };
    let rubric = written.rubric.as_deref().unwrap_or(RUBRIC);
    if rubric.trim().is_empty() {
        source.problem(path("rubric"), "is empty");
    }
    if rubric.len() > RUBRIC_BYTES_MAX {
        source.problem(path("rubric"), format!("{} bytes, at most {RUBRIC_BYTES_MAX}", rubric.len()));
    }
    if written.day_usd_max.is_none() {
        source.problem(path("day_usd_max"), "is missing: say what judging may cost in a day");
    }
    Some(JudgeConfig {
        rubric: rubric.to_owned(),
        score_min: between(
            written.score_min,
            JUDGE_SCORE_MIN,
            0.0..=1.0,
            "completion.judge.score_min",
            source,
        ),
        share: between(written.share, 1.0, 0.0..=1.0, "completion.judge.share", source),
        tiers: tiers(&written.tiers, "completion.judge.tiers", names, source),
        day_usd_max: above_zero(written.day_usd_max, "completion.judge.day_usd_max", source)
            .unwrap_or_default(),
        timeout: wait(
            written.timeout_ms,
            Duration::from_millis(JUDGE_TIMEOUT_MS),
            1..=WAIT_MS_MAX,
            "completion.judge.timeout_ms",
            source,
        ),
        target: target?,
    })
}

fn tiers(written: &[String], path: &str, names: &Names<'_>, source: &mut SourceText<'_>) -> Vec<Tier> {
    for twice in duplicates(written.iter().map(String::as_str)) {
        source.problem(format!("{path}[{twice}]"), "is listed twice");
    }
    let tier = |(at, name): (usize, &String)| names.tier(Some(name), format!("{path}[{at}]"), source);
    written.iter().enumerate().filter_map(tier).collect()
}

/// What another value may not pass.
#[derive(Clone, Copy)]
struct Limit {
    name: &'static str,
    value: u64,
}

/// Returns the smaller of both; notes a problem when the value that is above its limit was written.
fn at_most(value: u64, written: Option<u64>, limit: Limit, path: &str, source: &mut SourceText<'_>) -> u64 {
    if value > limit.value && written.is_some() {
        source.problem(path, format!("{value} is above {}, {}", limit.name, limit.value));
    }
    value.min(limit.value)
}

fn wait(
    written: Option<u64>,
    default: Duration,
    range: std::ops::RangeInclusive<u64>,
    path: &str,
    source: &mut SourceText<'_>,
) -> Duration {
    Duration::from_millis(within(written, millis(default), range, path, source))
}

/// Waits are at most an hour: a day of milliseconds fits many times.
fn millis(wait: Duration) -> u64 {
    wait.as_millis() as u64
}

#[cfg(test)]
#[path = "check_completion_tests.rs"]
mod tests;
