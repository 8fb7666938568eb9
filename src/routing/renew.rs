//! The router before -> the router after: the same classifier under another configuration or generation. What was
//! learned of examples and the scores that were kept stay where nothing about them changed.

use std::sync::Arc;

use super::{
    Router, RouterError, classifier::Classifier, health::TargetHealth, reader::Reader, rules::RuleSet,
    sessions::Sessions,
};
use crate::config::Config;

/// What a router of another generation is made of, beside the classifier.
#[derive(Clone)]
pub struct Surroundings {
    pub config: Arc<Config>,
    pub sessions: Arc<Sessions>,
    /// Has a slot for each of the configuration's targets.
    pub health: Arc<TargetHealth>,
    pub generation: u64,
}

impl Router {
    /// Fits the same classifier, if there is one, to other surroundings. Whether it is on trial,
    /// and how long it waits where that is its own, are to be said anew.
    ///
    /// Blocks while the classifier embeds the examples of intents, where those changed.
    pub fn under(&self, surroundings: Surroundings) -> Result<Self, RouterError> {
        let Surroundings { config, sessions, health, generation } = surroundings;
        let rules = RuleSet::compile(&config)?;
        let reader = self.reader.as_ref().map(|reader| reader.under(&config)).transpose()?;
        let offsets = self.offsets.clone();
        Ok(Self { config, generation, rules, reader, sessions, health, offsets, canary: false })
    }

    /// Returns the classifier itself, to be shared with other routers.
    pub fn classifier_handle(&self) -> Option<&Arc<dyn Classifier>> {
        self.reader.as_ref().map(Reader::classifier)
    }

    /// Returns the generation that its decisions name.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}
