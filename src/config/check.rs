//! [`File`] -> [`Config`]: resolves names, fills in defaults, and notes every problem at once.

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    ClassifierConfig, Config, Device, Limits, LowConfidence, Objective, PolicyConfig, QueueFull,
    SessionFloor, SessionsConfig, TargetConfig, TargetIndex, TierConfig, TierLimits, Timeouts,
    check_budgets::{check_budgets, check_spend},
    check_bundles::check_bundles,
    check_completion::{check_completion, check_deadline, check_timeouts},
    check_intents::check_intents,
    check_providers::{check_providers, connect},
    check_rollout::check_rollout,
    check_rules::check_rules,
    check_server::check_server,
    check_targets::{check_targets, check_tiers},
    check_traffic::{check_learning, check_traffic},
    duplicates,
    file::File,
    read::SourceText,
};
use crate::prompt::Tier;

const MESSAGES_MAX: u64 = 4096;
// Twice the largest context windows on the market, in English text.
const PROMPT_BYTES_MAX: u64 = 4 << 20;
const BATCH_REQUESTS_MAX: u64 = 1024;
// A quarter of a second of work for two cores on short prompts: who waits longer is better off with
// the default tier.
const QUEUE_MAX: u64 = 128;
const WAIT_MS_MAX: u64 = 2000;
// Some 150 bytes an entry.
const CACHE_ENTRIES: u64 = 10_000;
const QUALITY: f64 = 0.5;
const VALUE_USD: f64 = 0.05;
const IDLE_S: u64 = 3600;
const SESSIONS_MAX: u64 = 100_000;

/// The most that a configuration may hold.
const NAME_BYTES_MAX: usize = 128;
pub const TOKENS_MAX: u64 = 100_000_000;

/// Returns the configuration, or `None` when `source` has noted problems that leave none.
pub fn check(file: &File, folder: Option<&Path>, source: &mut SourceText<'_>) -> Option<Config> {
    let deadline = check_deadline(&file.completion, source);
    let written = &file.completion.timeouts;
    let timeouts = check_timeouts(written, Timeouts::default(), deadline, "completion.timeouts", source);
    let mut targets = check_targets(&file.targets, (written, timeouts), deadline, source);
    let mut providers = check_providers(&file.providers, folder, source);
    connect(&mut targets, &mut providers);
    let tiers = check_tiers(&file.tiers, &targets, source);
    let names = Names { tiers: &tiers, targets: &targets };
    let rules = check_rules(&file.rules, &names, source);
    let intents = check_intents(&file.intents, &names, source);
    let policy = check_policy(file, &names, source);
    let classifier = check_classifier(file, folder, source);
    let completion = check_completion(&file.completion, deadline, &names, source);
    let budgets = check_budgets(&file.budgets, &names, source);
    let spend_file = check_spend(&file.spend, folder, source);
    let traffic = check_traffic(&file.traffic, folder, source);
    let learning = check_learning(&file.learning, &traffic, source);
    let bundles = check_bundles(&file.bundles, folder, source);
    let rollout = check_rollout(&file.rollout, source);
    let limits = Limits {
        messages_max: within(
            file.limits.messages_max,
            MESSAGES_MAX,
            1..=100_000,
            "limits.messages_max",
            source,
        ) as usize,
        prompt_bytes_max: within(
            file.limits.prompt_bytes_max,
            PROMPT_BYTES_MAX,
            1..=256 << 20,
            "limits.prompt_bytes_max",
            source,
        ) as usize,
        batch_requests_max: within(
            file.limits.batch_requests_max,
            BATCH_REQUESTS_MAX,
            1..=100_000,
            "limits.batch_requests_max",
            source,
        ) as usize,
    };
    let sessions = SessionsConfig {
        floor: file.sessions.floor.unwrap_or(SessionFloor::Keep),
        sticky: file.sessions.sticky.unwrap_or(true),
        idle: Duration::from_secs(within(
            file.sessions.idle_s,
            IDLE_S,
            1..=30 * 86_400,
            "sessions.idle_s",
            source,
        )),
        sessions_max: within(
            file.sessions.sessions_max,
            SESSIONS_MAX,
            1..=100_000_000,
            "sessions.sessions_max",
            source,
        ),
    };
    let server = check_server(&file.server, folder, source)?;
    if tiers.is_empty() || targets.is_empty() {
        return None;
    }
    Some(Config {
        server,
        limits,
        classifier,
        policy,
        sessions,
        tiers,
        targets,
        rules,
        intents,
        providers,
        completion,
        budgets,
        spend_file,
        traffic,
        learning,
        bundles,
        rollout,
    })
}

/// What names can refer to.
pub struct Names<'config> {
    pub tiers: &'config [TierConfig],
    pub targets: &'config [TargetConfig],
}

impl Names<'_> {
    pub fn tier(&self, name: Option<&String>, path: String, source: &mut SourceText<'_>) -> Option<Tier> {
        let name = name?;
        let found = self.tiers.iter().position(|tier| *tier.name == **name).map(Tier);
        if found.is_none() {
            let known = self.tiers.iter().map(|tier| &*tier.name);
            source.problem(path, format!("no tier named {name:?}; {}", there_are(known)));
        }
        found
    }

    pub fn limits(
        &self,
        minimum: Option<&String>,
        maximum: Option<&String>,
        prefix: &str,
        source: &mut SourceText<'_>,
    ) -> TierLimits {
        let tier_min = self.tier(minimum, format!("{prefix}.tier_min"), source);
        let tier_max = self.tier(maximum, format!("{prefix}.tier_max"), source);
        if let (Some(low), Some(high)) = (tier_min, tier_max)
            && low > high
        {
            source.problem(format!("{prefix}.tier_min"), "is above tier_max: no tier is left");
        }
        TierLimits { tier_min, tier_max }
    }
}

/// Returns the target with this id; notes a problem when there is none.
pub fn target_named(
    targets: &[TargetConfig],
    id: &str,
    path: String,
    source: &mut SourceText<'_>,
) -> Option<TargetIndex> {
    let found = targets.iter().position(|target| *target.id.0 == *id).map(TargetIndex);
    if found.is_none() {
        let known = targets.iter().map(|target| &*target.id.0);
        source.problem(path, format!("no target named {id:?}; {}", there_are(known)));
    }
    found
}

/// Lists what a name could have been.
fn there_are<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "there are none".to_owned() } else { format!("there are {}", names.join(", ")) }
}

/// Returns `value` or its default; notes a problem when it is outside `range`.
pub fn within(
    value: Option<u64>,
    default: u64,
    range: RangeInclusive<u64>,
    path: &str,
    source: &mut SourceText<'_>,
) -> u64 {
    let Some(value) = value else { return default };
    if range.contains(&value) {
        return value;
    }
    source.problem(path, format!("{value} is not within {} to {}", range.start(), range.end()));
    default
}

/// Returns `value` or its default; notes a problem when it is outside `range` or no number.
pub fn between(
    value: Option<f64>,
    default: f64,
    range: RangeInclusive<f64>,
    path: &str,
    source: &mut SourceText<'_>,
) -> f64 {
    let value = value.unwrap_or(default);
    if range.contains(&value) {
        return value;
    }
    source.problem(path, format!("{value} is not within {} to {}", range.start(), range.end()));
    default
}

/// Returns the amount; notes a problem when it is not above 0, or infinite.
pub fn above_zero(value: Option<f64>, path: &str, source: &mut SourceText<'_>) -> Option<f64> {
    let value = value?;
    if value.is_finite() && value > 0.0 {
        return Some(value);
    }
    source.problem(path, format!("{value} is not above 0"));
    None
}

/// Returns the path that a configuration in `folder` means by `text`.
pub fn beside(folder: Option<&Path>, text: &str) -> PathBuf {
    folder.map_or_else(|| PathBuf::from(text), |folder| folder.join(text))
}

/// Returns the text; notes a problem when it is missing, empty or too long.
pub fn name(value: Option<&String>, path: String, source: &mut SourceText<'_>) -> Arc<str> {
    match value {
        None => source.problem(path, "is missing"),
        Some(text) if text.trim().is_empty() => source.problem(path, "is empty"),
        Some(text) if text.len() > NAME_BYTES_MAX => {
            source.problem(path, format!("{} bytes, at most {NAME_BYTES_MAX}", text.len()));
        }
        Some(text) => return Arc::from(text.as_str()),
    }
    Arc::from("")
}

/// Notes a problem for every name that an earlier entry has.
pub fn unique<'a>(
    names: impl Iterator<Item = &'a str>,
    path: impl Fn(usize) -> String,
    source: &mut SourceText<'_>,
) {
    let names: Vec<&str> = names.collect();
    for at in duplicates(names.iter().copied()) {
        if !names[at].is_empty() {
            source.problem(path(at), format!("{:?} is taken by an earlier entry", names[at]));
        }
    }
}

fn check_classifier(file: &File, folder: Option<&Path>, source: &mut SourceText<'_>) -> ClassifierConfig {
    let written = &file.classifier;
    let bundle = written.bundle.as_ref().map(|text| beside(folder, text));
    let workers = within(written.workers, 0, 0..=256, "classifier.workers", source) as usize;
    ClassifierConfig {
        enabled: written.enabled.unwrap_or(true),
        bundle,
        device: written.device.unwrap_or(Device::Auto),
        workers: (workers > 0).then_some(workers),
        queue_max: within(written.queue_max, QUEUE_MAX, 1..=65_536, "classifier.queue_max", source) as usize,
        queue_full: written.queue_full.unwrap_or(QueueFull::DefaultTier),
        wait_max: Duration::from_millis(within(
            written.wait_ms_max,
            WAIT_MS_MAX,
            1..=600_000,
            "classifier.wait_ms_max",
            source,
        )),
        cache_entries: within(
            written.cache_entries,
            CACHE_ENTRIES,
            0..=100_000_000,
            "classifier.cache_entries",
            source,
        ),
    }
}

fn check_policy(file: &File, names: &Names<'_>, source: &mut SourceText<'_>) -> PolicyConfig {
    let written = &file.policy;
    let quality = written.quality.unwrap_or(QUALITY);
    if !(0.0..=1.0).contains(&quality) {
        source.problem("policy.quality", format!("{quality} is not within 0 to 1"));
    }
    let value_usd = written.value_usd.unwrap_or(VALUE_USD);
    if !value_usd.is_finite() || value_usd <= 0.0 {
        source.problem("policy.value_usd", format!("{value_usd} is not above 0"));
    }
    let default_tier = names
        .tier(written.default_tier.as_ref(), "policy.default_tier".to_owned(), source)
        .unwrap_or(Tier(1.min(names.tiers.len().saturating_sub(1))));
    PolicyConfig {
        objective: written.objective.unwrap_or(Objective::Threshold),
        quality,
        value_usd,
        default_tier,
        low_confidence: written.low_confidence.unwrap_or(LowConfidence::OneTierUp),
    }
}
