//! Regexes and request metadata: obvious cases in microseconds, always the same answer.
//!
//! All patterns over one text run as one set, in time linear in the text. The first
//! matching rule that fixes something decides; the limits of every matching rule add up.

mod hits;
mod texts;

use std::sync::Arc;

pub use self::hits::{DecidingHit, Hits, LimitBy, RuleLimits};
use self::texts::Texts;
use super::patterns::PatternSet;
use crate::{
    config::{Conditions, Config, Fixes, RuleConfig, TextSource, TierLimits},
    prompt::{Prompt, RuleEffect, RuleMatch},
};

/// The patterns of all rules are too large together.
#[derive(Debug, thiserror::Error)]
#[error("rules: the patterns over {text} are too large together: {why}")]
pub struct RulesError {
    text: &'static str,
    why: String,
}

/// Every rule of a configuration, ready to match.
#[derive(Debug)]
pub struct RuleSet {
    last_user: PatternSet,
    conversation: PatternSet,
    system: PatternSet,
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    id: Arc<str>,
    on: TextSource,
    /// Places in the text's set.
    any: Vec<usize>,
    all: Vec<usize>,
    none: Vec<usize>,
    conditions: Conditions,
    fixes: Option<Fixes>,
    limits: TierLimits,
    /// Whether the limits give way to the request's own.
    yields: bool,
}

impl RuleSet {
    /// Compiles the rules of `config`.
    pub fn compile(config: &Config) -> Result<Self, RulesError> {
        let mut patterns: [Vec<String>; 3] = Default::default();
        let rules = config.rules.iter().map(|rule| place(rule, &mut patterns)).collect();
        let [last_user, conversation, system] = patterns;
        Ok(Self {
            last_user: pattern_set("the last user message", &last_user)?,
            conversation: pattern_set("the conversation", &conversation)?,
            system: pattern_set("the system prompt", &system)?,
            rules,
        })
    }

    /// Returns what the rules say of this prompt; `prompt_tokens` as known or estimated.
    pub fn hits(&self, prompt: &Prompt, prompt_tokens: u32) -> Hits {
        let texts = Texts::new(self, prompt);
        let turns = prompt.turns();
        let mut hits = Hits::default();
        for rule in &self.rules {
            if !(metadata_holds(&rule.conditions, prompt, prompt_tokens, turns)
                && texts.match_rule(rule)
                && texts.language_is_one_of(&rule.conditions.language))
            {
                continue;
            }
            let effect = match &rule.fixes {
                Some(fixes) if hits.deciding.is_none() => {
                    hits.deciding = Some(DecidingHit { rule: Arc::clone(&rule.id), fixes: fixes.clone() });
                    RuleEffect::Decides
                }
                Some(_) => RuleEffect::Late,
                None => RuleEffect::Limits,
            };
            let limits = if rule.yields { &mut hits.yielding } else { &mut hits.firm };
            limits.add(rule.limits, &rule.id);
            hits.matches.push(RuleMatch { rule: Arc::clone(&rule.id), effect });
        }
        hits
    }
}

fn place(rule: &RuleConfig, patterns: &mut [Vec<String>; 3]) -> Rule {
    let set = &mut patterns[match rule.patterns.on {
        TextSource::LastUser => 0,
        TextSource::Conversation => 1,
        TextSource::System => 2,
    }];
    let mut place_all = |list: &[String]| -> Vec<usize> {
        list.iter()
            .map(|pattern| {
                set.push(pattern.clone());
                set.len() - 1
            })
            .collect()
    };
    Rule {
        id: Arc::clone(&rule.id),
        on: rule.patterns.on,
        any: place_all(&rule.patterns.any),
        all: place_all(&rule.patterns.all),
        none: place_all(&rule.patterns.none),
        conditions: rule.conditions.clone(),
        fixes: rule.fixes.clone(),
        limits: rule.limits,
        yields: rule.yields,
    }
}

fn pattern_set(text: &'static str, patterns: &[String]) -> Result<PatternSet, RulesError> {
    PatternSet::compile(patterns).map_err(|error| RulesError { text, why: error.to_string() })
}

fn metadata_holds(asked: &Conditions, prompt: &Prompt, prompt_tokens: u32, turns: usize) -> bool {
    let one_of = |list: &[String], value: &str| list.is_empty() || list.iter().any(|item| item == value);
    let flag = |asked: Option<bool>, given: bool| asked.is_none_or(|asked| asked == given);
    let context = &prompt.context;
    let needs = prompt.shape.needs;
    one_of(&asked.task_type, &context.task_type)
        && one_of(&asked.tenant, &context.tenant)
        && (asked.tags.is_empty() || asked.tags.iter().any(|tag| context.tags.contains(tag)))
        && flag(asked.needs_tools, needs.tools)
        && flag(asked.needs_vision, needs.vision)
        && flag(asked.needs_json, needs.json)
        && asked.prompt_tokens_min.is_none_or(|least| prompt_tokens >= least)
        && asked.prompt_tokens_max.is_none_or(|most| prompt_tokens <= most)
        && asked.turns_min.is_none_or(|least| turns >= least)
        && asked.turns_max.is_none_or(|most| turns <= most)
        && asked
            .latency_ms_max
            .is_none_or(|most| prompt.preferences.latency_ms_max.is_some_and(|asked| asked <= most))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::read_text, prompt::Draft, routing::admit::admit};

    /// Returns the deciding rule's id and all matching ids for `draft` under `rules`.
    fn check(rules: &str, draft: Draft) -> (Option<String>, Vec<String>, RuleLimits) {
        let config = read_text(rules).unwrap();
        let set = RuleSet::compile(&config).unwrap();
        let prompt = admit(draft, &config).unwrap();
        let hits = set.hits(&prompt, 10);
        let ids = hits.matches.iter().map(|hit| hit.rule.to_string()).collect();
        (hits.deciding.map(|hit| hit.rule.to_string()), ids, hits.firm)
    }

    #[test]
    fn the_first_deciding_match_wins_and_limits_add_up() {
        let rules = r#"
            [[rules]]
            id = "at-most"
            any = ["(?i)cat"]
            tier_max = "complex"
            [[rules]]
            id = "first"
            any = ["cat"]
            tier = "simple"
            [[rules]]
            id = "second"
            any = ["cat"]
            tier = "reasoning"
            tier_min = "moderate"
        "#;
        let (deciding, ids, limits) = check(rules, Draft::from_text("my cat"));
        assert_eq!(deciding.as_deref(), Some("first"));
        assert_eq!(ids, ["at-most", "first", "second"]);
        assert_eq!((limits.tier_min.unwrap().tier.0, limits.tier_max.unwrap().tier.0), (1, 2));
    }

    #[test]
    fn any_all_none_and_metadata_must_hold_together() {
        let rules = r#"
            [[rules]]
            id = "r"
            any = ["a", "b"]
            all = ["c"]
            none = ["d"]
            tenant = ["acme"]
            tier = "simple"
        "#;
        let draft = |text: &str, tenant: &str| {
            let mut draft = Draft::from_text(text);
            draft.context.tenant = tenant.to_owned();
            draft
        };
        for (text, tenant, expected) in [
            ("a c", "acme", true),
            ("b c", "acme", true),
            ("c", "acme", false),
            ("a", "acme", false),
            ("a c d", "acme", false),
            ("a c", "other", false),
        ] {
            assert_eq!(check(rules, draft(text, tenant)).0.is_some(), expected, "{text} {tenant}");
        }
    }

    #[test]
    fn every_metadata_condition_is_asked() {
        let message = |role: &str, content: &str| crate::prompt::DraftMessage {
            role: role.to_owned(),
            content: content.to_owned(),
        };
        let mut draft = Draft {
            messages: vec![message("assistant", "hello"), message("user", "ok"), message("user", "go")],
            ..Draft::default()
        };
        draft.context.task_type = "triage".to_owned();
        draft.context.tags = vec!["blue".to_owned(), "beta".to_owned()];
        draft.shape.needs_tools = true;
        draft.shape.needs_json = true;
        draft.preferences.latency_ms_max = Some(800);
        for (condition, expected) in [
            ("task_type = [\"other\", \"triage\"]", true),
            ("task_type = [\"other\"]", false),
            ("tags = [\"beta\"]", true),
            ("tags = [\"red\"]", false),
            // The prompt has 10 tokens here.
            ("prompt_tokens_min = 10", true),
            ("prompt_tokens_min = 11", false),
            ("prompt_tokens_max = 10", true),
            ("prompt_tokens_max = 9", false),
            // Two user turns, and the assistant opened.
            ("turns_min = 3", true),
            ("turns_min = 4", false),
            ("turns_max = 3", true),
            ("turns_max = 2", false),
            ("needs_tools = true", true),
            ("needs_tools = false", false),
            ("needs_vision = false", true),
            ("needs_vision = true", false),
            ("needs_json = true", true),
            ("latency_ms_max = 800", true),
            ("latency_ms_max = 799", false),
        ] {
            let rules = format!("[[rules]]\nid = \"r\"\ntier = \"simple\"\n{condition}");
            assert_eq!(check(&rules, draft.clone()).0.is_some(), expected, "{condition}");
        }
    }

    #[test]
    fn languages_are_detected_or_stated() {
        let rules = r#"
            [[rules]]
            id = "german"
            language = ["de"]
            tier_min = "moderate"
        "#;
        let text =
            "Könnten Sie mir bitte erklären, wie die Umsatzsteuer bei Dienstleistungen berechnet wird?";
        assert_eq!(check(rules, Draft::from_text(text)).1, ["german"]);
        assert!(
            check(rules, Draft::from_text("How is value added tax computed for a service?")).1.is_empty()
        );
        let mut stated = Draft::from_text("ok");
        stated.context.language = "de-AT".to_owned();
        assert_eq!(check(rules, stated).1, ["german"]);
    }

    #[test]
    fn each_text_has_its_own_patterns() {
        let rules = r#"
            [[rules]]
            id = "system"
            on = "system"
            any = ["pirate"]
            tier = "simple"
            [[rules]]
            id = "conversation"
            on = "conversation"
            any = ["(?m)^first$"]
            tier_max = "complex"
        "#;
        let message = |role: &str, content: &str| crate::prompt::DraftMessage {
            role: role.to_owned(),
            content: content.to_owned(),
        };
        let draft = Draft {
            messages: vec![
                message("developer", "speak like a pirate"),
                message("user", "first"),
                message("user", "pirate"),
            ],
            ..Draft::default()
        };
        assert_eq!(check(rules, draft).1, ["system", "conversation"]);
        assert!(check(rules, Draft::from_text("pirate")).1.is_empty());
    }
}
