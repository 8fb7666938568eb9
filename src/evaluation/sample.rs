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
    /// Fields of levels that no tier stands for, for example "p_mid".
    pub unplaced_levels: Vec<&'static str>,
    /// Models that were placed by hand.
    pub placed: Vec<Arc<str>>,
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
    /// The bundle's levels, weakest first; empty without a classifier.
    pub levels: &'a [Arc<str>],
    /// Tiers of models that the configuration does not list.
    pub models: &'a BTreeMap<Arc<str>, Tier>,
    /// Empty without a classifier: any intent is taken then.
    pub intents: &'a [Intent],
}

impl Names<'_> {
    /// Returns the tier that is enough by a label: the tier of that name, else the weakest one whose level is
    /// this level of the bundle or a stronger one. Nothing is above the top tier, so it is enough for the rest.
    pub fn tier_of_label(&self, name: &str) -> Option<Tier> {
        let place = |level: &str| self.levels.iter().position(|known| &**known == level);
        let enough = || {
            let label = place(name)?;
            let reaches = |level: &str| place(level).is_some_and(|place| place >= label);
            let tier = self.config.tiers.iter().position(|tier| reaches(&tier.level));
            Some(tier.map_or(self.config.top_tier(), Tier))
        };
        self.tier(name).or_else(enough)
    }

    /// Returns the tier of that name, else the weakest one that stands for exactly this level.
    pub fn tier(&self, name: &str) -> Option<Tier> {
        self.config.tier_named(name).or_else(|| self.tier_of_level(name))
    }

    /// Returns the weakest tier that stands for exactly this level.
    pub fn tier_of_level(&self, level: &str) -> Option<Tier> {
        self.config.tiers.iter().position(|tier| &*tier.level == level).map(Tier)
    }

    /// Returns the tier of a tier, level, target or model that the configuration names.
    pub fn tier_of_model(&self, name: &str) -> Option<Tier> {
        let listed = || {
            let target = self.config.target_named(name).or_else(|| {
                let model = |target: &crate::config::TargetConfig| &*target.model == name;
                self.config.targets.iter().position(model).map(crate::config::TargetIndex)
            })?;
            self.config.tier_of(target)
        };
        self.tier(name).or_else(listed)
    }
}

/// Returns the sample of a line, or every problem of it.
pub fn read(line: &Line, names: &Names<'_>) -> Result<Sample, Vec<FieldProblem>> {
    let whole = |problem: String| vec![FieldProblem::new("", problem)];
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
            unplaced_levels: outcomes.unplaced_levels,
            placed: outcomes.placed,
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
        self.0.push(FieldProblem::new(field, problem));
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
    let tier = names.tier_of_label(name);
    if tier.is_none() {
        let tiers = names.config.tiers.iter().map(|tier| &*tier.name);
        let mut known: Vec<&str> = tiers.collect();
        known.extend(
            names
                .levels
                .iter()
                .map(|level| &**level)
                .filter(|level| names.config.tier_named(level).is_none()),
        );
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
pub mod tests {
    use std::sync::LazyLock;

    use serde_json::json;

    use super::*;
    use crate::config::{default_config, read_text};

    /// Two tiers, neither of them called as its level.
    pub const TWO_TIERS: &str = r#"
        rules = []
        [policy]
        default_tier = "cheap"
        [[tiers]]
        name = "cheap"
        level = "simple"
        targets = ["gpt-6-luna"]
        [[tiers]]
        name = "good"
        level = "complex"
        targets = ["claude-sonnet-5-5"]
    "#;

    /// Returns the sample of a good line.
    pub fn sample(value: &Value) -> Sample {
        parse(value).unwrap()
    }

    fn parse(value: &Value) -> Result<Sample, Vec<FieldProblem>> {
        // Read once: tests make hundreds of samples.
        static CONFIG: LazyLock<Config> = LazyLock::new(default_config);
        parse_with(&CONFIG, value)
    }

    fn parse_with(config: &Config, value: &Value) -> Result<Sample, Vec<FieldProblem>> {
        let levels = ["simple", "moderate", "complex", "reasoning"].map(Arc::from);
        let models = BTreeMap::from([(Arc::from("house-model"), Tier(1))]);
        let intents = [Intent(Arc::from("code")), Intent(Arc::from("math"))];
        let names = Names { config, levels: &levels, models: &models, intents: &intents };
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
        assert_eq!(sample.placed, [Arc::from("house-model")]);
    }

    #[test]
    fn a_level_between_two_tiers_asks_for_the_stronger_one() {
        let config = read_text(TWO_TIERS).unwrap();
        for (label, expected) in
            [("simple", 0), ("cheap", 0), ("moderate", 1), ("complex", 1), ("good", 1), ("reasoning", 1)]
        {
            let sample = parse_with(&config, &json!({"prompt": "x", "tier": label})).unwrap();
            assert_eq!(sample.tier, Some(Tier(expected)), "{label}");
        }
        let problems = parse_with(&config, &json!({"prompt": "x", "tier": "medium"})).unwrap_err();
        assert!(problems[0].problem.ends_with("there are cheap, good, simple, moderate, complex, reasoning"));
    }

    #[test]
    fn scores_of_levels_go_to_the_tiers_that_stand_for_them() {
        let config = read_text(TWO_TIERS).unwrap();
        let flat = json!({"prompt": "x", "p_small": 0.1, "p_mid": 0.2, "p_strong": 0.3, "p_reason": 0.4});
        let sample = parse_with(&config, &flat).unwrap();
        let scores: Vec<Option<f64>> =
            sample.outcomes.iter().map(|outcome| outcome.map(|outcome| outcome.score)).collect();
        assert_eq!(scores, [Some(0.1), Some(0.3)]);
        assert_eq!(sample.unplaced_levels, ["p_mid", "p_reason"]);
        let wrong = parse_with(&config, &json!({"prompt": "x", "p_mid": 7})).unwrap_err();
        assert_eq!(wrong[0].field, "p_mid", "checked although no tier stands for it");
        // A tier that only has the name of a level.
        let renamed = TWO_TIERS.replace("\"good\"", "\"moderate\"");
        let sample = parse_with(&read_text(&renamed).unwrap(), &flat).unwrap();
        assert_eq!(sample.outcomes[1].map(|outcome| outcome.score), Some(0.3));
    }

    #[test]
    fn every_bad_field_is_named() {
        check_problem(&json!({"intent": "poetry", "tier": "medium"}), &["messages", "tier", "intent"]);
        check_problem(&json!({"prompt": "x", "tier": 3}), &["tier"]);
        check_problem(&json!({"prompt": "x", "p_small": 1.5, "p_mid": "high"}), &["p_small", "p_mid"]);
        check_problem(
            &json!({"prompt": "x", "outcomes": {"simple": {"score": 2}, "complex": {"cost": 1}}}),
            &["outcomes.simple.score", "outcomes.complex.score"],
        );
        check_problem(
            &json!({"prompt": "x", "outcomes": {"simple": {"score": 1, "cost": -1}}}),
            &["outcomes.simple.cost"],
        );
        check_problem(&json!([1]), &[""]);
        let dear =
            parse(&json!({"prompt": "x", "outcomes": {"simple": {"score": 1, "cost": 1e7}}})).unwrap_err();
        assert_eq!(dear[0].problem, "10000000.0 is not a number of US dollars from 0 to 1000000");
    }
}
