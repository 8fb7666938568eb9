//! Keys that cannot be read: the targets of their provider fail, while all else looks well. Told once, not at every reload.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use super::{Completer, keys::KeyCounts, providers::Provider};

/// What was told last; completers that follow one another share it.
#[derive(Debug, Clone, Default)]
pub struct Told(Arc<Mutex<AbsentKeys>>);

/// Providers, and sources of their keys with what is wrong with each; never a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct AbsentKeys {
    /// Those without any key that serves.
    all: BTreeMap<Arc<str>, String>,
    /// Those that other keys serve.
    some: BTreeMap<Arc<str>, String>,
}

impl Completer {
    /// Warns of providers whose keys cannot be read, unless that was the last to be told.
    pub fn warn_of_absent_keys(&self, now: Instant) {
        let absent = self.absent_keys(now);
        {
            let mut told = self.absent_told.0.lock().unwrap_or_else(PoisonError::into_inner);
            if *told == absent {
                return;
            }
            told.clone_from(&absent);
        }
        if !absent.all.is_empty() {
            tracing::warn!(
                providers = line(&absent.all),
                "no key can be read: completions of these providers' targets fail until one can"
            );
        }
        if !absent.some.is_empty() {
            tracing::warn!(
                providers = line(&absent.some),
                "keys cannot be read: the others of these providers serve"
            );
        }
    }

    /// Returns whether there is a provider with a key that serves, or that takes none.
    pub(super) fn has_key(&self, now: Instant) -> bool {
        let counts = |provider: &Arc<dyn Provider>| provider.keys().and_then(|keys| keys.counts(now));
        self.providers.iter().flatten().any(|provider| counts(provider).is_none_or(serves))
    }

    fn absent_keys(&self, now: Instant) -> AbsentKeys {
        let mut absent = AbsentKeys::default();
        for (target, provider) in self.targets.iter().zip(&self.providers) {
            let (Some(index), Some(keys)) =
                (target.provider_index, provider.as_ref().and_then(|it| it.keys()))
            else {
                continue;
            };
            let sources = keys.absent();
            if sources.is_empty() {
                continue;
            }
            let providers =
                if keys.counts(now).is_some_and(serves) { &mut absent.some } else { &mut absent.all };
            providers.insert(Arc::clone(&self.config.providers[index.0].name), sources.join(", "));
        }
        absent
    }
}

fn serves(counts: KeyCounts) -> bool {
    counts.live + counts.resting > 0
}

fn line(providers: &BTreeMap<Arc<str>, String>) -> String {
    let each = providers.iter().map(|(name, sources)| format!("{name} ({sources})"));
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::read_text, routing::health::TargetHealth};

    /// Three providers: without a key, with one of two, with one.
    fn completer(folder: &std::path::Path) -> Completer {
        std::fs::write(folder.join("key"), "a-key").unwrap();
        let [there, gone] = ["key", "gone"].map(|file| format!("\"file:{}\"", folder.join(file).display()));
        let providers = [("none", gone.clone()), ("some", format!("{gone}, {there}")), ("all", there)];
        let mut text =
            "rules = []\ntiers = [{ name = \"base\", level = \"simple\", targets = [\"none\", \"some\", \
                        \"all\"] }]\n[classifier]\nenabled = false\n[policy]\ndefault_tier = \"base\"\n"
                .to_owned();
        for (name, keys) in providers {
            text += &format!(
                "[[providers]]\nname = \"{name}\"\nkind = \"openai_compatible\"\nbase_url = \"https://one.example/v1\"\n\
                 keys = [{keys}]\n[[targets]]\nid = \"{name}\"\nprovider = \"{name}\"\nmodel = \"m\"\n\
                 input_usd_per_mtok = 1.0\noutput_usd_per_mtok = 1.0\nprice_date = \"2026-11-01\"\ncontext_tokens = 1000\n\
                 output_tokens_max = 100\noutput_tokens_typical = 100\n"
            );
        }
        let config = Arc::new(read_text(&text).unwrap_or_else(|error| panic!("{error}")));
        let health = Arc::new(TargetHealth::new(config.targets.len()));
        Completer::new(config, health).unwrap()
    }

    #[test]
    fn providers_without_keys_are_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let completer = completer(folder.path());
        let now = Instant::now();
        let absent = completer.absent_keys(now);
        let [all, some] = [&absent.all, &absent.some].map(line);
        assert!(all.starts_with("none (file:") && !all.contains("some ("), "{all}");
        assert!(
            some.starts_with("some (file:") && some.contains("gone") && !some.contains("all ("),
            "{some}"
        );
        completer.warn_of_absent_keys(now);
        let after = Completer::after(&completer, Arc::clone(completer.config())).unwrap();
        assert_eq!(*after.absent_told.0.lock().unwrap(), absent);
    }

    #[test]
    fn a_key_is_there_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let with_key = completer(folder.path());
        assert!(with_key.has_key(Instant::now()));
        std::fs::remove_file(folder.path().join("key")).unwrap();
        let health = Arc::clone(with_key.health());
        let without = Completer::new(Arc::clone(with_key.config()), health).unwrap();
        assert!(!without.has_key(Instant::now()));
    }
}
