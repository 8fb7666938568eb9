//! The rules of a [`File`](super::file::File) -> [`RuleConfig`]s: names, ranges, patterns, effects.

use regex::{Regex, RegexBuilder};

use super::{
    Conditions, Fixes, Patterns, RuleConfig, TextSource,
    check::{Names, TOKENS_MAX, name, target_named, unique},
    file::RuleFile,
    read::SourceText,
};

/// The most that the rules may hold.
const RULES_MAX: usize = 500;
const PATTERNS_PER_RULE_MAX: usize = 64;
const PATTERN_BYTES_MAX: usize = 4096;
/// Compiled size of one pattern, bytes; a repetition of a large class runs into it.
const PATTERN_COMPILED_BYTES_MAX: usize = 1 << 20;

/// Returns every rule; what is wrong with them is noted in `source`.
pub fn check_rules(written: &[RuleFile], names: &Names<'_>, source: &mut SourceText<'_>) -> Vec<RuleConfig> {
    if written.len() > RULES_MAX {
        source.problem("rules", format!("{} rules, at most {RULES_MAX}", written.len()));
    }
    let rules: Vec<RuleConfig> =
        written.iter().enumerate().map(|(at, rule)| check_rule(at, rule, names, source)).collect();
    unique(rules.iter().map(|rule| &*rule.id), |at| format!("rules[{at}].id"), source);
    rules
}

fn check_rule(at: usize, written: &RuleFile, names: &Names<'_>, source: &mut SourceText<'_>) -> RuleConfig {
    let prefix = format!("rules[{at}]");
    let path = |key: &str| format!("{prefix}.{key}");
    check_patterns(&prefix, written, source);
    let range = |low: Option<u64>, high: Option<u64>, key: &str, source: &mut SourceText<'_>| {
        if let (Some(low), Some(high)) = (low, high)
            && low > high
        {
            source.problem(path(key), "is above its maximum: the rule could never match");
        }
        let clamp = |value: u64| value.min(TOKENS_MAX) as u32;
        (low.map(clamp), high.map(clamp))
    };
    let (prompt_tokens_min, prompt_tokens_max) =
        range(written.prompt_tokens_min, written.prompt_tokens_max, "prompt_tokens_min", source);
    let (turns_min, turns_max) = range(written.turns_min, written.turns_max, "turns_min", source);
    let tier = names.tier(written.tier.as_ref(), path("tier"), source);
    let target =
        written.target.as_ref().and_then(|id| target_named(names.targets, id, path("target"), source));
    if target.is_some_and(|target| !names.tiers.iter().any(|tier| tier.targets.contains(&target))) {
        source.problem(path("target"), "is in no tier: it could never answer");
    }
    if written.tier.is_some() && written.target.is_some() {
        source.problem(path("target"), "and tier are both set: a target implies its tier");
    }
    let intent = written.intent.as_ref().map(|intent| name(Some(intent), path("intent"), source));
    let limits = names.limits(written.tier_min.as_ref(), written.tier_max.as_ref(), &prefix, source);
    let effects = [&written.tier, &written.target, &written.intent, &written.tier_min, &written.tier_max];
    if effects.iter().all(|effect| effect.is_none()) {
        source.problem(prefix.as_str(), "does nothing: set tier, target, intent, tier_min or tier_max");
    }
    let fixes =
        (tier.is_some() || target.is_some() || intent.is_some()).then_some(Fixes { tier, target, intent });
    RuleConfig {
        id: name(written.id.as_ref(), path("id"), source),
        description: written.description.clone().unwrap_or_default(),
        patterns: Patterns {
            on: written.on.unwrap_or(TextSource::LastUser),
            any: written.any.clone(),
            all: written.all.clone(),
            none: written.none.clone(),
        },
        conditions: Conditions {
            task_type: written.task_type.clone(),
            tags: written.tags.clone(),
            tenant: written.tenant.clone(),
            language: written.language.clone(),
            prompt_tokens_min,
            prompt_tokens_max,
            turns_min: turns_min.map(|turns| turns as usize),
            turns_max: turns_max.map(|turns| turns as usize),
            needs_tools: written.needs_tools,
            needs_vision: written.needs_vision,
            needs_json: written.needs_json,
            latency_ms_max: written.latency_ms_max.map(|ms| ms.min(u64::from(u32::MAX)) as u32),
        },
        fixes,
        limits,
        yields: written.yields.unwrap_or(false),
    }
}

fn check_patterns(prefix: &str, written: &RuleFile, source: &mut SourceText<'_>) {
    let count = written.any.len() + written.all.len() + written.none.len();
    if count > PATTERNS_PER_RULE_MAX {
        source.problem(prefix, format!("{count} patterns, at most {PATTERNS_PER_RULE_MAX} in one rule"));
    }
    for (key, patterns) in [("any", &written.any), ("all", &written.all), ("none", &written.none)] {
        for (index, pattern) in patterns.iter().enumerate() {
            if let Err(message) = compile(pattern) {
                source.problem(format!("{prefix}.{key}[{index}]"), message);
            }
        }
    }
}

/// Returns the pattern compiled, within the limits of size; else what is wrong with it.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(format!("{} bytes, at most {PATTERN_BYTES_MAX} in one pattern", pattern.len()));
    }
    match RegexBuilder::new(pattern).size_limit(PATTERN_COMPILED_BYTES_MAX).build() {
        Ok(compiled) => Ok(compiled),
        Err(regex::Error::CompiledTooBig(_)) => Err(format!(
            "is larger than {PATTERN_COMPILED_BYTES_MAX} bytes when compiled: shorten its repetitions"
        )),
        // The library draws the pattern with a caret over several lines; its last line says why.
        Err(error) => {
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            Err(format!("not a regular expression: {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_are_too_large_or_broken_say_why() {
        assert!(compile(r"\bcafé\b").is_ok());
        assert!(compile("(a").unwrap_err().contains("unclosed group"));
        assert!(compile(r"\w{1000}{100}").unwrap_err().contains("when compiled"));
        assert!(compile(&"a".repeat(5000)).unwrap_err().contains("at most 4096"));
    }
}
