//! What a bundle that the rollout made active is compared with for a while. It is part of the wanted state, so that any
//! replica can judge it, also one that was started anew. Pure.

use serde::{Deserialize, Deserializer, Serialize};

use super::observed::Observed;

/// What had been seen before a bundle became active. Fields are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    /// Of its predecessor.
    pub before: Observed,
    /// SHA-256 of the configuration file under which that was seen; empty for the built-in one.
    #[serde(default)]
    pub config_sha256: String,
}

impl Guard {
    /// Begins with what was seen of a bundle until now.
    pub fn of(before: &Observed, config_sha256: &str) -> Self {
        // Sums of many fractions have digits that JSON does not give back exactly, and wanted states are compared.
        let thousandths = |weight: f64| (weight * 1e3).round() / 1e3;
        let (good, bad) = (thousandths(before.good), thousandths(before.bad));
        Self { before: Observed { good, bad, ..before.clone() }, config_sha256: config_sha256.to_owned() }
    }

    /// Returns what figures under a configuration are compared with. Under another one than before, tiers, answers and
    /// what people say of them have changed with it, which is not the bundle's doing.
    pub fn comparable(&self, config_sha256: &str) -> Observed {
        if config_sha256 == self.config_sha256 {
            return self.before.clone();
        }
        let Observed { asked, scored, unscored, ref latencies, .. } = self.before;
        Observed { asked, scored, unscored, latencies: latencies.clone(), ..Observed::default() }
    }
}

/// Reads a guard. What a newer program guards by must not keep this one from what is to serve: it guards nothing then.
pub fn readable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<Guard>>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::rollout::Desired;

    fn guarded(guard: &str) -> Desired {
        let text = format!(
            r#"{{"revision":4,"active":{{"name":"default"}},"active_since_ms":5,"guard":{guard},"later":[1]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_guard_that_cannot_be_read_keeps_nobody_from_what_is_wanted() {
        let read = guarded(r#"{"before":{"asked":9,"latencies":{"101":8},"bad":0.3},"later":{}}"#);
        let guard = read.guard.clone().unwrap();
        assert_eq!((guard.before.asked, guard.before.bad, &*guard.config_sha256), (9, 0.3, ""));
        assert_eq!(guard.before.latencies.count(), 8);
        let again: Desired = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
        assert_eq!(again, read);
        for strange in [r#"{"before":{"asked":"many"}}"#, "{}", "[1]", "null"] {
            assert_eq!(guarded(strange), Desired { guard: None, ..read.clone() });
        }
    }

    #[test]
    fn sums_of_fractions_are_read_as_they_were_written() {
        let mut seen = Observed::default();
        for _ in 0..1_000 {
            seen.add(&Observed { good: 0.3, bad: 0.001, ..Observed::default() });
        }
        let guard = Guard::of(&seen, "ab");
        assert_eq!((guard.before.good, guard.before.bad), (300.0, 1.0));
        let read: Guard = serde_json::from_str(&serde_json::to_string(&guard).unwrap()).unwrap();
        assert_eq!(read, guard);
    }

    #[test]
    fn under_another_configuration_only_the_classifier_itself_is_compared() {
        let mut seen = Observed { asked: 9, scored: 8, completions: 5, good: 1.0, ..Observed::default() };
        seen.add_tier("simple", 8);
        let guard = Guard::of(&seen, "ab");
        assert_eq!(guard.comparable("ab"), seen);
        assert_eq!(guard.comparable("cd"), Observed { asked: 9, scored: 8, ..Observed::default() });
    }
}
