//! What each built-in rule must and must not match.

use pointsman::{
    config::default_config,
    prompt::{Context, Draft, DraftMessage, RuleEffect},
    routing::{admit::admit, cost::count_by_length, rules::RuleSet},
};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    text: String,
    /// Earlier messages.
    #[serde(default)]
    turns: Vec<Turn>,
    #[serde(default)]
    context: Context,
    /// The rule that must decide; none may when absent.
    rule: Option<String>,
    /// Rules that must match without deciding.
    #[serde(default)]
    limits: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Turn {
    role: String,
    content: String,
}

#[test]
fn built_in_rules_match_what_they_must_and_nothing_else() {
    let config = default_config();
    let rules = RuleSet::compile(&config).unwrap();
    let mut positive = std::collections::BTreeMap::<String, usize>::new();
    let mut wrong = Vec::new();
    for (at, line) in include_str!("default_rules.jsonl").lines().enumerate() {
        let case: Case =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("line {}: {error}", at + 1));
        let turns =
            case.turns.iter().cloned().chain([Turn { role: "user".to_owned(), content: case.text.clone() }]);
        let draft = Draft {
            messages: turns.map(|turn| DraftMessage { role: turn.role, content: turn.content }).collect(),
            context: case.context.clone(),
            ..Draft::default()
        };
        let prompt = admit(draft, &config).unwrap_or_else(|error| panic!("line {}: {error}", at + 1));
        let hits = rules.hits(&prompt, count_by_length(&prompt).tokens);
        let decided = hits.deciding.map(|hit| hit.rule.to_string());
        let limiting: Vec<&str> = hits
            .matches
            .iter()
            .filter(|hit| hit.effect == RuleEffect::Limits)
            .map(|hit| &*hit.rule)
            .collect();
        if decided != case.rule || limiting != case.limits {
            wrong.push(format!(
                "line {}: {:?} got {decided:?} {limiting:?}, wanted {:?} {:?}",
                at + 1,
                case.text,
                case.rule,
                case.limits
            ));
        }
        for rule in case.rule.into_iter().chain(case.limits) {
            *positive.entry(rule).or_default() += 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for rule in &config.rules {
        let count = positive.get(&*rule.id).copied().unwrap_or_default();
        assert!(count >= 8, "rule {} has {count} cases that it must match, at least 8 are wanted", rule.id);
    }
}
