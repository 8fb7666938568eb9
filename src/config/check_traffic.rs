//! `[traffic]` and `[learning]` of a [`File`](super::file::File) -> [`TrafficConfig`] and [`LearningConfig`].
//!
//! Reads the secrets that the log needs; one that is not there is no problem of the file, but noted for who needs
//! it. A message never repeats what stands where a secret belongs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};

use super::{
    ExploreConfig, KeySource, LearningConfig, LearningWeights, MissingSecret, Retention, SpoolConfig,
    StoreConfig, TextPolicy, TrafficConfig,
    check::{beside, between, within},
    check_providers::key_source,
    file_traffic::{ExploreFile, LearningFile, TrafficFile, WeightsFile},
    read::SourceText,
    secret::read_secret,
    state_folder,
};

/// As long as a request's tenant may be.
const TENANT_BYTES_MAX: usize = 256;
/// Tenants with a policy of their own: all are looked at for each record.
const TENANTS_MAX: usize = 10_000;
/// Writing, maintenance and feedback at once, and some reserve.
const POSTGRES_CONNECTIONS: u64 = 8;
const POSTGRES_CONNECTIONS_MAX: u64 = 1000;
/// A shorter key could be found out by trying.
const HASH_KEY_BYTES_MIN: usize = 16;
/// Below, most questions would be cut.
const TEXT_BYTES_MIN: u64 = 1024;
const TEXT_BYTES_MAX: u64 = 64 << 20;
const QUEUE_MAX: u64 = 10_000_000;
const QUEUE_BYTES_MAX: u64 = 64 << 30;
/// A crash loses no more than a minute.
const FLUSH_MS_MAX: u64 = 60_000;
/// An empty database with its log has some 100 KiB.
const SPOOL_BYTES_MIN: u64 = 1 << 20;
/// A pebibyte: more than one machine has.
const BYTES_MAX: u64 = 1 << 50;
const RETENTION_DAYS_MAX: u64 = 36_500;
const RETENTION_BYTES_MIN: u64 = 16 << 20;
const UNKNOWN_FEEDBACK_MAX: u64 = 100_000_000;
const DAY_S: u64 = 86_400;

const WEIGHT_MAX: f64 = 10.0;
const TENANT_OBSERVATIONS_MAX: f64 = 1e9;
const REFRESH_MS_MIN: u64 = 50;
const REFRESH_MS_MAX: u64 = 3_600_000;
/// One request in fifty: some hundred tries of each target a day at ten requests a minute.
const EXPLORE_RATE: f64 = 0.02;
/// A target is tried where it is more likely than not to do.
const EXPLORE_QUALITY_MIN: f64 = 0.5;

/// Returns the traffic log; what is wrong with it is noted in `source`.
pub fn check_traffic(
    written: &TrafficFile,
    folder: Option<&Path>,
    source: &mut SourceText<'_>,
) -> TrafficConfig {
    let default = TrafficConfig::in_folder(state_folder());
    let mut missing = Vec::new();
    let store = check_store(written, folder, &default.store, &mut missing, source);
    let hash_key = secret(written.hash_key.as_ref(), "traffic.hash_key", folder, source)
        .and_then(|from| hash_key(from, &mut missing));
    let mut bytes = |value: Option<u64>, default: u64, min: u64, max: u64, key: &str| {
        within(value, default, min..=max, &format!("traffic.{key}"), source)
    };
    let text_bytes_max = bytes(
        written.text_bytes_max,
        default.text_bytes_max as u64,
        TEXT_BYTES_MIN,
        TEXT_BYTES_MAX,
        "text_bytes_max",
    );
    let queue_max = bytes(written.queue_max, default.queue_max as u64, 1, QUEUE_MAX, "queue_max");
    let queue_bytes_max = bytes(
        written.queue_bytes_max,
        (default.queue_bytes_max as u64).max(text_bytes_max),
        TEXT_BYTES_MIN,
        QUEUE_BYTES_MAX,
        "queue_bytes_max",
    );
    let flush_ms = bytes(written.flush_ms, millis(default.flush), 1, FLUSH_MS_MAX, "flush_ms");
    let spool_bytes_max = bytes(
        written.spool_bytes_max,
        default.spool.bytes_max,
        SPOOL_BYTES_MIN,
        BYTES_MAX,
        "spool_bytes_max",
    );
    let unknown_feedback_max = bytes(
        written.unknown_feedback_max,
        default.unknown_feedback_max,
        0,
        UNKNOWN_FEEDBACK_MAX,
        "unknown_feedback_max",
    );
    if queue_bytes_max < text_bytes_max {
        let problem = format!("{queue_bytes_max} is below text_bytes_max, {text_bytes_max}");
        source.problem("traffic.queue_bytes_max", problem);
    }
    check_tenants(&written.tenant_text, source);
    TrafficConfig {
        enabled: written.enabled.unwrap_or(default.enabled),
        spool: SpoolConfig {
            folder: check_spool(written, folder, &store, source),
            bytes_max: spool_bytes_max,
        },
        store,
        text: written.text.unwrap_or(default.text),
        tenant_text: written.tenant_text.clone(),
        hash_key,
        text_bytes_max: text_bytes_max as usize,
        queue_max: queue_max as usize,
        queue_bytes_max: queue_bytes_max as usize,
        flush: Duration::from_millis(flush_ms),
        retention: check_retention(written, default.retention, source),
        unknown_feedback_max,
        missing,
    }
}

/// Returns where the log is kept: a file, or a database whose address is a secret.
fn check_store(
    written: &TrafficFile,
    folder: Option<&Path>,
    default: &StoreConfig,
    missing: &mut Vec<MissingSecret>,
    source: &mut SourceText<'_>,
) -> StoreConfig {
    let connections_max = within(
        written.postgres_connections_max,
        POSTGRES_CONNECTIONS,
        1..=POSTGRES_CONNECTIONS_MAX,
        "traffic.postgres_connections_max",
        source,
    );
    let connections_max = u32::try_from(connections_max).unwrap_or(u32::MAX);
    if written.postgres_url.is_some() {
        if written.store.is_some() {
            source.problem("traffic.store", "and postgres_url are both set: give one of them");
        }
        let from = secret(written.postgres_url.as_ref(), "traffic.postgres_url", folder, source);
        let url = from.and_then(|from| postgres_url(from, missing)).unwrap_or_default();
        return StoreConfig::Postgres { url, connections_max };
    }
    if written.postgres_connections_max.is_some() {
        source.problem("traffic.postgres_connections_max", "is only for postgres_url");
    }
    match written.store.as_deref() {
        None => default.clone(),
        Some(text) => {
            if text.contains("://") {
                let problem = "is no file: the address of a PostgreSQL database belongs into postgres_url";
                source.problem("traffic.store", problem);
            } else if text.trim().is_empty() {
                source.problem("traffic.store", "is empty");
            }
            StoreConfig::Sqlite { path: beside(folder, text) }
        }
    }
}

/// Returns where the secret is read from.
fn secret(
    written: Option<&String>,
    path: &'static str,
    folder: Option<&Path>,
    source: &mut SourceText<'_>,
) -> Option<(&'static str, KeySource)> {
    match key_source(written?, folder) {
        Ok(from) => Some((path, from)),
        Err(problem) => {
            source.problem(path, problem);
            None
        }
    }
}

fn postgres_url(
    (path, from): (&'static str, KeySource),
    missing: &mut Vec<MissingSecret>,
) -> Option<SecretString> {
    let is_address = |url: &SecretString| {
        let parsed = Url::parse(url.expose_secret());
        parsed.is_ok_and(|url| matches!(url.scheme(), "postgres" | "postgresql"))
    };
    let why = match read_secret(&from) {
        Ok(url) if is_address(&url) => return Some(url),
        Ok(_) => "holds no address such as postgres://USER@HOST/DATABASE",
        Err(why) => why,
    };
    missing.push(MissingSecret { path, from, why });
    None
}

fn hash_key(
    (path, from): (&'static str, KeySource),
    missing: &mut Vec<MissingSecret>,
) -> Option<SecretString> {
    let why = match read_secret(&from) {
        Ok(key) if key.expose_secret().len() >= HASH_KEY_BYTES_MIN => return Some(key),
        Ok(_) => "holds fewer than 16 bytes",
        Err(why) => why,
    };
    missing.push(MissingSecret { path, from, why });
    None
}

/// Unless it is written, each store has a spool of its own.
fn check_spool(
    written: &TrafficFile,
    folder: Option<&Path>,
    store: &StoreConfig,
    source: &mut SourceText<'_>,
) -> PathBuf {
    let Some(text) = &written.spool else { return store.spool_folder(&state_folder()) };
    let file = match store {
        StoreConfig::Sqlite { path } => Some(path),
        StoreConfig::Postgres { .. } => None,
    };
    let spool = beside(folder, text);
    if text.trim().is_empty() {
        source.problem("traffic.spool", "is empty");
    } else if file.is_some_and(|file| *file == spool) {
        source.problem("traffic.spool", "is the file of the store: it needs a folder of its own");
    }
    spool
}

fn check_retention(written: &TrafficFile, default: Retention, source: &mut SourceText<'_>) -> Retention {
    let days = default.age_max.map_or(0, |age| age.as_secs() / DAY_S);
    let days = within(written.retention_days, days, 0..=RETENTION_DAYS_MAX, "traffic.retention_days", source);
    let bytes = written.retention_bytes_max.unwrap_or_else(|| default.bytes_max.unwrap_or(0));
    if bytes != 0 && !(RETENTION_BYTES_MIN..=BYTES_MAX).contains(&bytes) {
        let problem =
            format!("{bytes} is neither 0, for no limit, nor within {RETENTION_BYTES_MIN} to {BYTES_MAX}");
        source.problem("traffic.retention_bytes_max", problem);
    }
    Retention {
        age_max: (days > 0).then(|| Duration::from_secs(days * DAY_S)),
        bytes_max: (bytes > 0).then_some(bytes),
    }
}

fn check_tenants(written: &BTreeMap<String, TextPolicy>, source: &mut SourceText<'_>) {
    if written.len() > TENANTS_MAX {
        source.problem("traffic.tenant_text", format!("{} tenants, at most {TENANTS_MAX}", written.len()));
    }
    for tenant in written.keys() {
        if tenant.is_empty() {
            source
                .problem("traffic.tenant_text", "names an empty tenant: `text` is for requests without one");
        } else if tenant.len() > TENANT_BYTES_MAX {
            let problem = format!("a tenant of {} bytes, at most {TENANT_BYTES_MAX}", tenant.len());
            source.problem("traffic.tenant_text", problem);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Returns how learning goes; what is wrong with it is noted in `source`.
pub fn check_learning(
    written: &LearningFile,
    traffic: &TrafficConfig,
    source: &mut SourceText<'_>,
) -> LearningConfig {
    let default = LearningConfig::default();
    let enabled = written.enabled.unwrap_or(default.enabled);
    if enabled && !traffic.enabled {
        source.problem("learning.enabled", "needs the traffic log: set traffic.enabled = true");
    }
    let half_life_days = default.half_life.as_secs_f64() / DAY_S as f64;
    let half_life_days =
        between(written.half_life_days, half_life_days, 0.01..=3650.0, "learning.half_life_days", source);
    let refresh_ms = within(
        written.refresh_ms,
        millis(default.refresh),
        REFRESH_MS_MIN..=REFRESH_MS_MAX,
        "learning.refresh_ms",
        source,
    );
    let mut number = |value: Option<f64>, default: f64, min: f64, max: f64, key: &str| {
        between(value, default, min..=max, &format!("learning.{key}"), source)
    };
    LearningConfig {
        enabled,
        prior_sd: number(written.prior_sd, default.prior_sd, 0.01, 10.0, "prior_sd"),
        offset_max: number(written.offset_max, default.offset_max, 0.01, 20.0, "offset_max"),
        half_life: Duration::from_secs_f64(half_life_days * DAY_S as f64),
        refresh: Duration::from_millis(refresh_ms),
        tenant_burst: number(
            written.tenant_burst,
            default.tenant_burst,
            1.0,
            TENANT_OBSERVATIONS_MAX,
            "tenant_burst",
        ),
        tenant_per_hour: number(
            written.tenant_per_hour,
            default.tenant_per_hour,
            0.0,
            TENANT_OBSERVATIONS_MAX,
            "tenant_per_hour",
        ),
        weights: check_weights(&written.weights, default.weights, source),
        explore: written.explore.as_ref().map(|explore| check_explore(explore, source)),
    }
}

fn check_weights(
    written: &WeightsFile,
    default: LearningWeights,
    source: &mut SourceText<'_>,
) -> LearningWeights {
    let mut weight = |value: Option<f64>, default: f64, key: &str| {
        between(value, default, 0.0..=WEIGHT_MAX, &format!("learning.weights.{key}"), source)
    };
    LearningWeights {
        human: weight(written.human, default.human, "human"),
        user: weight(written.user, default.user, "user"),
        automatic: weight(written.automatic, default.automatic, "automatic"),
        accepted: weight(written.accepted, default.accepted, "accepted"),
        weak: weight(written.weak, default.weak, "weak"),
    }
}

fn check_explore(written: &ExploreFile, source: &mut SourceText<'_>) -> ExploreConfig {
    ExploreConfig {
        rate: between(written.rate, EXPLORE_RATE, 0.0..=1.0, "learning.explore.rate", source),
        quality_min: between(
            written.quality_min,
            EXPLORE_QUALITY_MIN,
            0.0..=1.0,
            "learning.explore.quality_min",
            source,
        ),
    }
}

#[cfg(test)]
#[path = "check_traffic_tests.rs"]
mod tests;
