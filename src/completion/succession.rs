//! The completer before -> the completer of another configuration. What was learned of targets, providers, keys and
//! spend goes on where it is about the same thing; what still runs under the old one goes on reporting to it.

use std::{sync::Arc, time::Instant};

use super::{Completer, CompleterError, providers};
use crate::{
    config::{Config, TargetIndex},
    telemetry,
};

impl Completer {
    /// Returns a completer of this configuration that goes on from `before`. Nothing changes for what runs, or begins,
    /// under the one before until [`Completer::take_over`]. Takes some 30 ms at most and blocks: call it off the reactor.
    pub fn after(before: &Self, config: Arc<Config>) -> Result<Self, CompleterError> {
        let providers = providers::set_up_after(&config, &before.config, &before.providers)?;
        let continues = continued(&before.config, &config);
        let health = Arc::new(before.health.after(&continues));
        let completer = Self {
            targets: config.targets.iter().cloned().map(Arc::new).collect(),
            breakers: before.breakers.after(&config, &continues, Arc::clone(&health)),
            spend: Arc::new(before.spend.under(&config)),
            pace: before.pace.after(&continues),
            slots: before.slots.clone(),
            on_end: before.on_end.clone(),
            absent_told: before.absent_told.clone(),
            providers,
            health,
            config,
        };
        completer.prepare_checks();
        Ok(completer)
    }

    /// Has what is shared with the completer before follow this one's configuration: limits of breakers, budgets. Shows
    /// this one's targets and providers in metrics, in place of others of the same names.
    pub fn take_over(&self) {
        self.breakers.take_over(self.config.completion.breaker);
        self.spend.take_over(&self.config.budgets);
        self.show_keys();
        telemetry::completions_of(self.config.tiers.iter().map(|tier| &*tier.name));
        self.warn_of_absent_keys(Instant::now());
    }

    /// Shows in metrics how many keys of each provider serve.
    pub(super) fn show_keys(&self) {
        let now = Instant::now();
        for keys in self.providers.iter().flatten().filter_map(|provider| provider.keys()) {
            keys.show(now);
        }
    }
}

/// Returns which target before each target is: the same by id, provider, model and endpoint.
fn continued(before: &Config, after: &Config) -> Vec<Option<TargetIndex>> {
    let who = |config: &Config, index: TargetIndex| {
        let target = config.target(index);
        let endpoint =
            config.provider_of(index).map(|provider| (provider.protocol, provider.base_url.clone()));
        (Arc::clone(&target.provider), Arc::clone(&target.model), endpoint)
    };
    after
        .targets
        .iter()
        .enumerate()
        .map(|(at, target)| {
            let old = before.target_named(&target.id.0)?;
            (who(before, old) == who(after, TargetIndex(at))).then_some(old)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{
        completion::{attempt::ErrorKind, breaker::Substitute, clock},
        config::read_text,
        prompt::{Context, Tier},
        routing::health::TargetHealth,
    };

    const TEXT: &str = r#"
rules = []
tiers = [{ name = "base", level = "simple", targets = ["a", "b"], order = "listed" }]
[classifier]
enabled = false
[policy]
default_tier = "base"
[completion.breaker]
failures = 2
[[providers]]
name = "one"
kind = "openai_compatible"
base_url = "https://one.example/v1"
[[targets]]
id = "a"
provider = "one"
model = "a-1"
input_usd_per_mtok = 1.0
output_usd_per_mtok = 1.0
price_date = "2026-11-01"
context_tokens = 1000
output_tokens_max = 100
output_tokens_typical = 100
[[targets]]
id = "b"
provider = "one"
model = "b-1"
input_usd_per_mtok = 1.0
output_usd_per_mtok = 1.0
price_date = "2026-11-01"
context_tokens = 1000
output_tokens_max = 100
output_tokens_typical = 100
"#;

    fn completer(text: &str) -> Arc<Completer> {
        let config = Arc::new(read_text(text).unwrap_or_else(|error| panic!("{error}")));
        let health = Arc::new(TargetHealth::new(config.targets.len()));
        Arc::new(Completer::new(config, health).unwrap())
    }

    fn after(before: &Completer, text: &str) -> Completer {
        let config = Arc::new(read_text(text).unwrap_or_else(|error| panic!("{error}")));
        let after = Completer::after(before, config).unwrap();
        after.take_over();
        after
    }

    fn next(before: &Completer, text: &str) -> Completer {
        after(before, text)
    }

    fn fail(completer: &Completer, target: usize) {
        let permit = completer.breakers.admit(TargetIndex(target), clock(), Substitute::None);
        permit.expect("its breaker is closed").failed(ErrorKind::Server);
    }

    #[test]
    fn a_target_that_is_the_same_keeps_its_breaker_wherever_it_stands() {
        let check = |text: &str, at: usize, keeps: bool| {
            let before = completer(TEXT);
            fail(&before, 0);
            let after = after(&before, text);
            // The second failure is of a run that began before.
            fail(&before, 0);
            let (index, now) = (TargetIndex(at), clock());
            assert!(before.health().refuses(TargetIndex(0), now));
            assert_eq!(after.health().refuses(index, now), keeps, "{text}");
            assert_eq!(after.breakers.admit(index, now, Substitute::None).is_none(), keeps, "{text}");
            assert!(after.breakers.admit(TargetIndex(1 - at), now, Substitute::None).is_some());
        };
        check(TEXT, 0, true);
        check(&TEXT.replace("input_usd_per_mtok = 1.0", "input_usd_per_mtok = 2.0"), 0, true);
        check(&TEXT.replace("a-1", "a-2"), 0, false);
        check(&TEXT.replace("one.example", "two.example"), 0, false);
        check(&TEXT.replace("\"one\"", "\"two\""), 0, false);
        let swapped = TEXT.replace("\"a", "\"x").replace("\"b", "\"a").replace("\"x", "\"b");
        let swapped = swapped.replace("\"aase\"", "\"base\"");
        check(&swapped, 1, true);
    }

    #[test]
    fn a_changed_limit_holds_for_breakers_that_go_on() {
        let before = completer(TEXT);
        fail(&before, 0);
        let after = after(&before, &TEXT.replace("failures = 2", "failures = 3"));
        fail(&before, 0);
        assert!(!after.health().refuses(TargetIndex(0), clock()));
        fail(&after, 0);
        assert!(after.health().refuses(TargetIndex(0), clock()));
    }

    #[test]
    fn a_provider_that_is_the_same_keeps_its_keys_and_connections() {
        let check = |text: &str, keeps: bool| {
            let before = completer(TEXT);
            let after = after(&before, text);
            let same = match (&before.providers[0], &after.providers[0]) {
                (Some(before), Some(after)) => Arc::ptr_eq(before, after),
                _ => false,
            };
            assert_eq!(same, keeps, "{text}");
        };
        check(TEXT, true);
        check(&TEXT.replace("a-1", "a-2"), true);
        check(&TEXT.replace("one.example", "two.example"), false);
    }

    #[test]
    fn what_does_not_serve_yet_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "a-key").unwrap();
        // Names of this test alone: others run in the same process.
        let text = TEXT.replace("\"one\"", "\"shown-one\"").replace("\"a\"", "\"shown-a\"");
        let keyed = |text: &str, key: &str| {
            let keys = format!("keys = [\"file:{}\"]\nbase_url", folder.path().join(key).display());
            text.replace("base_url", &keys)
        };
        let shown = |state: &str, keys: &str| {
            let metrics = telemetry::init_metrics().render();
            let state = format!("pointsman_target_state{{target=\"shown-a\",state=\"{state}\"}} 1");
            let keys = format!("pointsman_provider_keys{{provider=\"shown-one\",state=\"{keys}\"}} 1");
            assert!(metrics.contains(&state) && metrics.contains(&keys), "{metrics}");
        };
        telemetry::init_metrics();
        let before = completer(&keyed(&text, "key"));
        fail(&before, 0);
        fail(&before, 0);
        shown("open", "live");
        let other = keyed(&text.replace("a-1", "a-2"), "no-key");
        let config = Arc::new(read_text(&other).unwrap_or_else(|error| panic!("{error}")));
        let refused = Completer::after(&before, config).unwrap();
        shown("open", "live");
        refused.take_over();
        shown("closed", "dead");
    }

    #[test]
    fn spend_and_places_go_on() {
        let budget = |name: &str, usd: f64| {
            format!("{TEXT}\n[[budgets]]\nname = \"{name}\"\nday_usd = {usd:?}\nat_limit = \"refuse\"\n")
        };
        let before = completer(&budget("all", 10.0));
        let now = SystemTime::now();
        before.spend.add(&Context::default(), Tier(0), 4.0, 4.0, now);
        let after = after(&before, &budget("all", 5.0));
        // An answer that began before is paid later.
        before.spend.add(&Context::default(), Tier(0), 1.0, 1.0, now);
        let report = after.spend_report(now);
        assert_eq!((report.totals.day_usd, report.budgets[0].day_usd), (5.0, 5.0));
        assert!(report.budgets[0].at_limit);
        let another = next(&after, &budget("another", 5.0));
        assert_eq!(another.spend_report(now).budgets[0].day_usd, 0.0);
        assert_eq!(another.spend_report(now).totals.day_usd, 5.0);

        let _running = before.slots.take(1).unwrap();
        assert!(another.slots.take(1).is_none());
        assert!(another.slots.take(2).is_some());
    }

    #[test]
    fn spend_is_written_to_its_one_file_by_whoever_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("spend.json");
        let text = format!("{TEXT}\n[spend]\nfile = {file:?}\n");
        let before = completer(&text);
        let after = after(&before, &text);
        drop(before);
        after.spend.add(&Context::default(), Tier(0), 2.5, 2.5, SystemTime::now());
        drop(after);
        assert_eq!(completer(&text).spend_report(SystemTime::now()).totals.day_usd, 2.5);
    }
}
