//! Least and greatest values that figures must keep: how CI stops a worse bundle.

use serde::Serialize;

use super::Evaluation;

/// What one figure must keep.
#[derive(Debug, Clone, PartialEq)]
pub struct Gate {
    /// `None`: every section that has the figure.
    pub section: Option<String>,
    pub metric: String,
    pub min: Option<f64>,
    pub max: Option<f64>,
}

/// How a gate was kept in one section.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateResult {
    /// `None`: no section has the figure.
    pub section: Option<String>,
    pub metric: String,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub value: Option<f64>,
    pub passed: bool,
}

/// Reads gates from TOML, or returns every problem.
///
/// `"tier.accuracy".min = 0.8` holds for every section that has the figure, `[sections.NAME]` before it for
/// that section only.
pub fn read(toml: &str) -> Result<Vec<Gate>, Vec<String>> {
    let table: toml::Table = toml.parse().map_err(|error: toml::de::Error| vec![error.to_string()])?;
    let (mut gates, mut problems) = (Vec::new(), Vec::new());
    for (key, value) in &table {
        match (key.as_str(), value) {
            ("sections", toml::Value::Table(sections)) => {
                for (name, value) in sections {
                    collect(Some(name), "", value, &mut gates, &mut problems);
                }
            }
            _ => collect(None, key, value, &mut gates, &mut problems),
        }
    }
    if gates.is_empty() && problems.is_empty() {
        problems.push("holds no gate".to_owned());
    }
    if problems.is_empty() { Ok(gates) } else { Err(problems) }
}

/// Collects the gates below a path; quoted and nested names mean the same.
fn collect(
    section: Option<&String>,
    path: &str,
    value: &toml::Value,
    gates: &mut Vec<Gate>,
    problems: &mut Vec<String>,
) {
    let toml::Value::Table(table) = value else {
        problems.push(format!("{path}: min or max = NUMBER is expected"));
        return;
    };
    let number = |key: &str| match table.get(key)? {
        toml::Value::Float(number) => Some(*number),
        toml::Value::Integer(number) => Some(*number as f64),
        _ => None,
    };
    let (min, max) = (number("min"), number("max"));
    if min.is_some() || max.is_some() {
        gates.push(Gate { section: section.cloned(), metric: path.to_owned(), min, max });
    }
    for (key, value) in table {
        let inner = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if number(key).is_none() || !["min", "max"].contains(&key.as_str()) {
            collect(section, &inner, value, gates, problems);
        }
    }
}

/// Compares every gate with the router's figures.
pub fn check(gates: &[Gate], evaluations: &[Evaluation]) -> Vec<GateResult> {
    let mut results = Vec::new();
    for gate in gates {
        let meant =
            |evaluation: &&Evaluation| gate.section.as_ref().is_none_or(|name| *name == evaluation.name);
        let known = evaluations.iter().filter(meant).filter_map(|evaluation| {
            Some((Some(evaluation.name.clone()), Some(evaluation.router_value(&gate.metric)?)))
        });
        let mut found: Vec<(Option<String>, Option<f64>)> = known.collect();
        if found.is_empty() {
            found.push((gate.section.clone(), None));
        }
        results.extend(found.into_iter().map(|(section, value)| GateResult {
            section,
            metric: gate.metric.clone(),
            min: gate.min,
            max: gate.max,
            value,
            passed: value.is_some_and(|value| {
                gate.min.is_none_or(|least| value >= least) && gate.max.is_none_or(|most| value <= most)
            }),
        }));
    }
    results
}

impl GateResult {
    /// Returns the result as one sentence.
    pub fn sentence(&self) -> String {
        let place = self.section.as_ref().map_or_else(String::new, |name| format!("{name}: "));
        let asked = match (self.min, self.max) {
            (Some(min), Some(max)) => format!("between {min} and {max}"),
            (Some(min), None) => format!("at least {min}"),
            (None, Some(max)) => format!("at most {max}"),
            (None, None) => "anything".to_owned(),
        };
        match self.value {
            Some(value) => format!("{place}{} is {value:.4}, {asked} is asked for", self.metric),
            None => format!("{place}{} was not measured, {asked} is asked for", self.metric),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_and_nested_names_mean_the_same() {
        let gate = |section: Option<&str>, metric: &str, min, max| Gate {
            section: section.map(str::to_owned),
            metric: metric.to_owned(),
            min,
            max,
        };
        let expected =
            [gate(None, "tier.accuracy", Some(0.8), None), gate(None, "intent.ece", None, Some(0.1))];
        let quoted = read("\"tier.accuracy\".min = 0.8\n\"intent.ece\" = { max = 0.1 }").unwrap();
        assert_eq!(quoted, expected);
        assert_eq!(read("tier.accuracy.min = 0.8\n[intent.ece]\nmax = 0.1").unwrap(), expected);
        let of_section = read("[sections.\"flask\"]\n\"difficulty.spearman\".min = 0\n").unwrap();
        assert_eq!(of_section, [gate(Some("flask"), "difficulty.spearman", Some(0.0), None)]);
    }

    #[test]
    fn every_bad_gate_is_named() {
        let problems = read("\"tier.accuracy\".minimum = 0.8\nx = 1\n").unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("tier.accuracy.minimum") && problems[1].starts_with("x:"));
        assert_eq!(read("").unwrap_err(), ["holds no gate"]);
        assert!(read("[").is_err());
    }
}
