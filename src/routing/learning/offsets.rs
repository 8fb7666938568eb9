//! What decisions read of all that was learned: a snapshot, exchanged as a whole.

use std::{collections::HashMap, sync::Arc};

use super::{Cell, CellKey};
use crate::config::{Config, LearningConfig};

/// One offset, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// On the logit.
    pub mean: f64,
    pub sd: f64,
}

/// Every offset, by intent and target. By name, so that it outlives a change of the configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Offsets {
    by_intent: HashMap<Arc<str>, HashMap<Arc<str>, Estimate>>,
}

impl Offsets {
    /// Gathers offsets, each with its intent and target.
    pub fn new(offsets: impl IntoIterator<Item = (Arc<str>, Arc<str>, Estimate)>) -> Self {
        let mut by_intent: HashMap<Arc<str>, HashMap<Arc<str>, Estimate>> = HashMap::new();
        for (intent, target, estimate) in offsets {
            by_intent.entry(intent).or_default().insert(target, estimate);
        }
        Self { by_intent }
    }

    /// Returns what cells say at a moment.
    pub fn of(cells: &HashMap<CellKey, Cell>, now_ms: i64, config: &LearningConfig) -> Self {
        Self::new(cells.iter().map(|(CellKey { intent, target }, cell)| {
            (Arc::clone(intent), Arc::clone(target), cell.estimate(now_ms, config))
        }))
    }

    /// Goes through all, each with its intent and target.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, Estimate)> {
        self.by_intent.iter().flat_map(|(intent, targets)| {
            targets.iter().map(move |(target, &estimate)| (intent, target, estimate))
        })
    }

    /// Returns one offset.
    pub fn get(&self, intent: &str, target: &str) -> Option<Estimate> {
        self.by_intent.get(intent)?.get(target).copied()
    }

    /// Returns what is known at this intent, a place for each of the configuration's targets; empty when that is
    /// nothing.
    pub fn at(&self, intent: &str, config: &Config) -> Vec<Option<Estimate>> {
        let Some(of_intent) = self.by_intent.get(intent) else { return Vec::new() };
        config.targets.iter().map(|target| of_intent.get(&target.id.0).copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::default_config;

    #[test]
    fn names_find_their_targets() {
        let config = default_config();
        let estimate = Estimate { mean: -1.0, sd: 0.5 };
        let known = Arc::clone(&config.targets[1].id.0);
        let offsets = Offsets::new([
            (Arc::from("code"), known, estimate),
            (Arc::from("code"), Arc::from("gone"), estimate),
        ]);
        let at_code = offsets.at("code", &config);
        assert_eq!((at_code[0], at_code[1]), (None, Some(estimate)));
        assert_eq!(at_code.iter().flatten().count(), 1);
        assert!(offsets.at("math", &config).is_empty());
    }
}
