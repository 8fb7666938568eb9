//! Decisions and configurations for a person: colours, bars, aligned columns.

use std::fmt::Write;

use anstyle::{AnsiColor, Reset, Style};

use crate::{
    config::{Config, KeySource, ProviderConfig, Retention},
    prompt::{Decision, TokenCountSource},
    routing::{
        Router,
        intents::{IntentReview, Review},
    },
};

pub const ERROR: Style = AnsiColor::Red.on_default().bold();
pub const RESET: Reset = Reset;
pub const LABEL: Style = Style::new().dimmed();
pub const STRONG: Style = Style::new().bold();
pub const GOOD: Style = AnsiColor::Green.on_default();
pub const WARN: Style = AnsiColor::Yellow.on_default();

const BAR_CELLS: usize = 20;

/// Returns a decision as lines of text.
pub fn decision(decision: &Decision, router: &Router) -> String {
    let mut text = String::new();
    let mut line = |label: &str, value: String| {
        let _ = writeln!(text, "{LABEL}{label:<11}{RESET} {value}");
    };
    line("tier", format!("{STRONG}{GOOD}{}{RESET}", decision.tier));
    line("target", target(&decision.target));
    if !decision.failover.is_empty() {
        let others: Vec<String> = decision.failover.iter().map(target).collect();
        line("failover", others.join(", "));
    }
    line("reason", decision.reason.clone());
    if let Some(intent) = &decision.intent {
        line("intent", format!("{intent} ({:.0} %)", decision.intent_confidence * 100.0));
    }
    let decided_by = match &decision.rule {
        Some(rule) => format!("{} {rule}", decision.source.as_str()),
        None => decision.source.as_str().to_owned(),
    };
    line("decided by", format!("{decided_by}, confidence {:.0} %", decision.confidence * 100.0));
    if decision.low_confidence {
        line("", format!("{WARN}the classifier is unsure{RESET}"));
    }
    if decision.truncated {
        line("", format!("{WARN}only head and tail of the last user message were read{RESET}"));
    }
    for (at, score) in decision.tier_scores.iter().enumerate() {
        let label = if at == 0 { "sufficient" } else { "" };
        line(label, format!("{:<12} {} {:.2}", score.tier, bar(score.sufficiency), score.sufficiency));
    }
    line("cost", cost(decision));
    if let Some(before) = &decision.switched_from {
        let lost = decision.switch_cost_usd;
        line("session", format!("leaves {}: ${lost:.6} more without its prompt cache", target(before)));
    }
    line("time", timings(decision));
    if let (Some(classifier), Some(version)) = (router.classifier(), &decision.bundle_version) {
        line("classifier", format!("{} {version}, {}", classifier.name, classifier.runs));
    }
    for (at, hit) in decision.rule_matches.iter().enumerate() {
        let label = if at == 0 { "rules" } else { "" };
        line(label, format!("{} {}", hit.rule, hit.effect.as_str()));
    }
    text.truncate(text.trim_end().len());
    text
}

fn target(target: &crate::prompt::TargetRef) -> String {
    format!("{} ({} {})", target.id, target.provider, target.model)
}

fn bar(share: f64) -> String {
    let filled = (share.clamp(0.0, 1.0) * BAR_CELLS as f64).round() as usize;
    format!("{GOOD}{}{RESET}{LABEL}{}{RESET}", "█".repeat(filled), "░".repeat(BAR_CELLS - filled))
}

/// Returns by how much something changed; what is nearly all of it is not all.
fn change(ratio: f64) -> String {
    let percent = (ratio - 1.0) * 100.0;
    if ratio > 0.0 && percent <= -99.5 {
        format!("{:+.1} %", percent.max(-99.9))
    } else {
        format!("{percent:+.0} %")
    }
}

fn cost(decision: &Decision) -> String {
    let (cost, baseline) = (decision.cost_usd_estimate, decision.baseline_cost_usd);
    let counted = match decision.prompt_tokens_source {
        TokenCountSource::Caller => "as stated",
        TokenCountSource::Tokenizer => "by the bundle's tokenizer",
        TokenCountSource::Length => "estimated by length",
    };
    let saved = if baseline > 0.0 { format!(" ({})", change(cost / baseline)) } else { String::new() };
    format!(
        "${cost:.6} instead of ${baseline:.6} for the top tier{saved}; {} prompt tokens, {counted}",
        decision.prompt_tokens
    )
}

fn timings(decision: &Decision) -> String {
    let timings = decision.timings;
    let stages = [
        ("rules", timings.rules_us),
        ("queue", timings.queue_us),
        ("tokenize", timings.tokenize_us),
        ("inference", timings.inference_us),
        ("policy", timings.policy_us),
    ];
    let parts: Vec<String> = stages.iter().map(|(stage, us)| format!("{stage} {us}")).collect();
    format!("{:.2} ms ({} µs)", timings.total_us as f64 / 1000.0, parts.join(", "))
}

/// Returns intents by example with their warnings, each on a line of its own after a line break.
pub fn intents(review: &Review) -> String {
    let width = review.intents.iter().map(|review| review.name.chars().count()).max().unwrap_or_default();
    let mut text = String::new();
    for (at, intent) in review.intents.iter().enumerate() {
        let label = if at == 0 { "intents" } else { "" };
        let IntentReview { name, examples, threshold, recalled, warnings } = intent;
        let _ = write!(
            text,
            "\n{LABEL}{label:<10}{RESET} {name:<width$}  {examples} examples, threshold {threshold:.2}, \
             {recalled} recognised by the others"
        );
        for warning in warnings {
            let _ = write!(text, "\n{WARN}warning:{RESET} intent {name}: {warning}");
        }
    }
    for warning in &review.warnings {
        let _ = write!(text, "\n{WARN}warning:{RESET} intents: {warning}");
    }
    text
}

/// Returns a configuration as a table of tiers and targets.
pub fn config(config: &Config) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{STRONG}{:<12} {:<26} {:<11} {:<30} {:>9} {:>9} {:>10} {:<10} features{RESET}",
        "tier", "target", "provider", "model", "$/M in", "$/M out", "context", "prices of"
    );
    for tier in &config.tiers {
        for (at, &index) in tier.targets.iter().enumerate() {
            let target = config.target(index);
            let features: Vec<&str> = [
                ("tools", target.features.tools),
                ("vision", target.features.vision),
                ("json", target.features.json),
            ]
            .into_iter()
            .filter_map(|(name, has)| has.then_some(name))
            .collect();
            let name = if at == 0 { &*tier.name } else { "" };
            let _ = writeln!(
                text,
                "{GOOD}{name:<12}{RESET} {:<26} {:<11} {:<30} {:>9.3} {:>9.3} {:>10} {:<10} {}",
                target.id.0,
                target.provider,
                target.model,
                target.input_usd_per_mtok,
                target.output_usd_per_mtok,
                target.context_tokens,
                target.price_date,
                features.join(" ")
            );
        }
    }
    let rules: Vec<&str> = config.rules.iter().map(|rule| &*rule.id).collect();
    let _ = writeln!(text, "\n{LABEL}rules{RESET}      {} ({})", rules.len(), rules.join(", "));
    let objective = format!("{:?}", config.policy.objective).to_lowercase();
    let _ = write!(
        text,
        "{LABEL}policy{RESET}     {objective}, quality {}, default tier {}",
        config.policy.quality,
        config.tier(config.policy.default_tier).name
    );
    text
}

/// Returns the providers, each on a line of its own after a line break: where they are called and how many of their
/// keys `readable` finds.
pub fn providers(config: &Config, readable: impl Fn(&KeySource) -> bool) -> String {
    let width = |text: fn(&ProviderConfig) -> &str| {
        config.providers.iter().map(|provider| text(provider).chars().count()).max().unwrap_or_default()
    };
    let name_width = width(|provider| &provider.name);
    let url_width = width(|provider| provider.base_url.as_deref().unwrap_or_default());
    let mut text = String::new();
    for (at, provider) in config.providers.iter().enumerate() {
        let label = if at == 0 { "providers" } else { "" };
        let missing: Vec<String> =
            provider.keys.iter().filter(|key| !readable(key)).map(ToString::to_string).collect();
        let all = provider.keys.len();
        let keys = match (all, missing.len()) {
            (0, _) => "no key".to_owned(),
            (1, 0) => format!("{GOOD}1 key{RESET}"),
            (_, 0) => format!("{GOOD}{all} keys{RESET}"),
            (_, missed) => {
                format!("{WARN}{} of {all} keys, cannot read {}{RESET}", all - missed, missing.join(", "))
            }
        };
        let _ = write!(
            text,
            "\n{LABEL}{label:<10}{RESET} {:<name_width$}  {:<9}  {:<url_width$}  {keys}",
            provider.name,
            provider.protocol.as_str(),
            provider.base_url.as_deref().unwrap_or_default()
        );
    }
    text
}

/// Returns where requests are logged and what is learned from them, each on a line of its own after a line break.
pub fn traffic(config: &Config) -> String {
    let (traffic, learning) = (&config.traffic, &config.learning);
    let log = if traffic.enabled {
        let tenants = match traffic.tenant_text.len() {
            0 => String::new(),
            tenants => format!(", otherwise for {tenants} tenant{}", if tenants == 1 { "" } else { "s" }),
        };
        let (store, text) = (traffic.store.described(), traffic.text.as_str());
        format!("{store}, text {text}{tenants}, kept {}", kept(traffic.retention))
    } else {
        "off".to_owned()
    };
    let learned = match (learning.enabled, learning.explore) {
        (false, _) => "off".to_owned(),
        (true, None) => "on, nothing is tried out".to_owned(),
        (true, Some(explore)) => format!("on, {} % of requests explore", explore.rate * 100.0),
    };
    format!("\n{LABEL}traffic{RESET}    {log}\n{LABEL}learning{RESET}   {learned}")
}

fn kept(retention: Retention) -> String {
    const DAY_S: u64 = 86_400;
    const GIB: f64 = (1_u64 << 30) as f64;
    let age = retention.age_max.map(|age| format!("{} days", age.as_secs() / DAY_S));
    let bytes = retention.bytes_max.map(|bytes| format!("{:.2} GiB", bytes as f64 / GIB));
    match (age, bytes) {
        (Some(age), Some(bytes)) => format!("{age} and at most {bytes}"),
        (Some(limit), None) => limit,
        (None, Some(bytes)) => format!("up to {bytes}"),
        (None, None) => "for ever".to_owned(),
    }
}

/// Returns warnings, each on a line of its own after a line break.
pub fn warnings(warnings: &[String]) -> String {
    warnings.iter().map(|warning| format!("\n{WARN}warning:{RESET} {warning}")).collect()
}
