//! A line of a file -> a [`Sample`]: the request, and what is known of it. Every bad field is named.
//!
//! Keys that mean nothing here are left alone: public sets have many.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

use super::outcomes;
use crate::{
    config::Config,
    prompt::{Intent, Prompt, Tier},
    routing::{
        admit::{FieldProblem, admit},
        line::{Line, take_draft},
    },
};

/// One request and its labels.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Line in its file, from 1.
    pub line: usize,
    pub prompt: Prompt,
    pub intent: Option<Arc<str>>,
    pub tier: Option<Tier>,
    /// `difficulty_raw` where it is a number; a higher one is harder.
    pub difficulty: Option<f64>,
    pub language: Option<Arc<str>>,
    /// One for each tier of the configuration.
    pub outcomes: Vec<Option<Outcome>>,
    /// Whose outcomes belong to no known tier.
    pub unplaced: Vec<String>,
    /// Whether `outcomes` was something else than an object, and left alone.
    pub foreign_outcomes: bool,
}

/// How one tier answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// 0 to 1.
    pub score: f64,
    /// `None`: not measured.
    pub cost_usd: Option<f64>,
}

/// The names that a line may use.
pub struct Names<'a> {
    pub config: &'a Config,
    /// Tiers of models that the configuration does not list.
    pub models: &'a BTreeMap<String, Tier>,
    /// Empty without a classifier: any intent is taken then.
    pub intents: &'a [Intent],
}

impl Names<'_> {
    /// Returns the tier that a name means: a tier's name, else the weakest tier of that level.
    pub fn tier(&self, name: &str) -> Option<Tier> {
        self.config
            .tier_named(name)
            .or_else(|| self.config.tiers.iter().position(|tier| &*tier.level == name).map(Tier))
    }

    /// Returns the tier of a tier, level, target or model.
    pub fn tier_of_model(&self, name: &str) -> Option<Tier> {
        let listed = || {
            let target = self.config.target_named(name).or_else(|| {
                let model = |target: &crate::config::TargetConfig| &*target.model == name;
                self.config.targets.iter().position(model).map(crate::config::TargetIndex)
            })?;
            self.config.tier_of(target)
        };
        self.tier(name).or_else(listed).or_else(|| self.models.get(name).copied())
    }
}

/// Returns the sample of a line, or every problem of it.
pub fn read(line: &Line, names: &Names<'_>) -> Result<Sample, Vec<FieldProblem>> {
    let whole = |problem: String| vec![FieldProblem { field: String::new(), problem }];
    let mut value = line.json().map_err(whole)?;
    let object = value.as_object_mut().ok_or_else(|| whole("not an object".to_owned()))?;
    let mut problems = Problems(Vec::new());
    let prompt = take_draft(object).and_then(|draft| admit(draft, names.config));
    let tier = tier(object, names, &mut problems);
    let intent = intent(object, names, &mut problems);
    let outcomes = outcomes::read(object, names, &mut problems);
    match prompt {
        Ok(prompt) if problems.0.is_empty() => Ok(Sample {
            line: line.number,
            prompt,
            intent,
            tier,
            difficulty: object.get("difficulty_raw").and_then(Value::as_f64),
            language: object.get("language").and_then(Value::as_str).map(Arc::from),
            outcomes: outcomes.by_tier,
            unplaced: outcomes.unplaced,
            foreign_outcomes: outcomes.foreign,
        }),
        Ok(_) => Err(problems.0),
        Err(bad) => Err(bad.0.into_iter().chain(problems.0).collect()),
    }
}

/// What is wrong with a line so far.
pub struct Problems(pub Vec<FieldProblem>);

impl Problems {
    pub fn add(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.0.push(FieldProblem { field: field.into(), problem: problem.into() });
    }
}

/// Returns a text that is there; absent and null are no problem.
fn text<'a>(object: &'a Map<String, Value>, field: &str, problems: &mut Problems) -> Option<&'a str> {
    match object.get(field)? {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => {
            problems.add(field, format!("{} is not a text", shown(other)));
            None
        }
    }
}

fn tier(object: &Map<String, Value>, names: &Names<'_>, problems: &mut Problems) -> Option<Tier> {
    let name = text(object, "tier", problems)?;
    let tier = names.tier(name);
    if tier.is_none() {
        let known: Vec<&str> = names.config.tiers.iter().map(|tier| &*tier.name).collect();
        problems.add("tier", format!("no tier or level is named {name:?}; there are {}", known.join(", ")));
    }
    tier
}

fn intent(object: &Map<String, Value>, names: &Names<'_>, problems: &mut Problems) -> Option<Arc<str>> {
    let name = text(object, "intent", problems)?;
    if !names.intents.is_empty() && !names.intents.iter().any(|known| &*known.0 == name) {
        let known: Vec<&str> = names.intents.iter().map(|intent| &*intent.0).collect();
        problems.add("intent", format!("the bundle has no intent {name:?}; it has {}", known.join(", ")));
    }
    Some(Arc::from(name))
}

/// Returns a value short enough for a message.
pub fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::default_config;

    fn parse(value: &Value) -> Result<Sample, Vec<FieldProblem>> {
        let config = default_config();
        let models = BTreeMap::from([("house-model".to_owned(), Tier(1))]);
        let intents = [Intent(Arc::from("code")), Intent(Arc::from("math"))];
        let names = Names { config: &config, models: &models, intents: &intents };
        read(&Line { number: 7, bytes: value.to_string().into_bytes(), cut: false }, &names)
    }

    fn check_problem(value: &Value, expected: &[&str]) {
        let problems = parse(value).unwrap_err();
        let fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, expected, "{problems:?}");
    }

    #[test]
    fn labels_are_read_and_other_keys_left_alone() {
        let sample = parse(&json!({
            "prompt": "x", "intent": "code", "tier": "complex", "difficulty_raw": 3, "language": "de",
            "skill": ["a"], "src": null,
        }))
        .unwrap();
        assert_eq!((sample.line, sample.tier, sample.difficulty), (7, Some(Tier(2)), Some(3.0)));
        assert_eq!((sample.intent.as_deref(), sample.language.as_deref()), (Some("code"), Some("de")));
        let bare = parse(&json!({"prompt": "x", "tier": null, "difficulty_raw": "Level 3"})).unwrap();
        assert_eq!((bare.tier, bare.difficulty, bare.intent), (None, None, None));
    }

    #[test]
    fn models_are_placed_by_tier_target_model_or_flag() {
        let outcomes = json!({
            "simple": 0.1, "house-model": {"score": 0.2, "cost": 0.001},
            "claude-sonnet-5-5": 0.3, "unheard-of": 1.0,
        });
        let sample = parse(&json!({"prompt": "x", "outcomes": outcomes, "p_reason": 1})).unwrap();
        let scores: Vec<Option<f64>> =
            sample.outcomes.iter().map(|outcome| outcome.map(|outcome| outcome.score)).collect();
        assert_eq!(scores, [Some(0.1), Some(0.2), Some(0.3), Some(1.0)]);
        assert_eq!(sample.outcomes[1].unwrap().cost_usd, Some(0.001));
        assert_eq!(sample.unplaced, ["unheard-of"]);
    }

    #[test]
    fn every_bad_field_is_named() {
        check_problem(&json!({"intent": "poetry", "tier": "medium"}), &["messages", "tier", "intent"]);
        check_problem(&json!({"prompt": "x", "tier": 3}), &["tier"]);
        check_problem(&json!({"prompt": "x", "p_small": 1.5, "p_mid": "high"}), &["p_small", "p_mid"]);
        check_problem(
            &json!({"prompt": "x", "outcomes": {"simple": {"score": 2}, "complex": {"cost": 1}}}),
            &["outcomes.complex.score", "outcomes.simple.score"],
        );
        check_problem(
            &json!({"prompt": "x", "outcomes": {"simple": {"score": 1, "cost": -1}}}),
            &["outcomes.simple.cost"],
        );
        check_problem(&json!([1]), &[""]);
    }
}
