//! A configuration that was read again -> what of it applies at once. Pure.
//!
//! What only a start can change - sockets, the store of the log, the memory of sessions - stays what it was and is
//! named, so that nobody waits for it in vain.

use crate::config::{BundlesConfig, Config};

/// What comes of reading a configuration again.
#[derive(Debug, Clone)]
pub struct Merged {
    /// The new one, but for what needs a restart.
    pub config: Config,
    /// Sections that differ and apply.
    pub changed: Vec<String>,
    /// Settings that differ and stay what they were.
    pub needs_restart: Vec<String>,
}

/// Returns what applies of `new` while `old` runs.
pub fn merge(old: &Config, new: Config) -> Merged {
    let needs_restart = restart_needed(old, &new);
    let mut config = new;
    let watch = config.server.watch;
    config.server = old.server.clone();
    config.server.watch = watch;
    config.bundles = BundlesConfig {
        latency_ratio_max: config.bundles.latency_ratio_max,
        retired_max: config.bundles.retired_max,
        ..old.bundles.clone()
    };
    config.traffic = old.traffic.clone();
    config.learning = old.learning.clone();
    config.spend_file.clone_from(&old.spend_file);
    config.sessions.idle = old.sessions.idle;
    config.sessions.sessions_max = old.sessions.sessions_max;
    let changed = sections_changed(old, &config).into_iter().map(str::to_owned).collect();
    Merged { config, changed, needs_restart }
}

/// Returns the settings that differ and that only a restart applies, by path.
fn restart_needed(old: &Config, new: &Config) -> Vec<String> {
    let (was, is) = (&old.server, &new.server);
    let mut named: Vec<&str> = [
        ("server.grpc_listen", was.grpc_listen != is.grpc_listen),
        ("server.http_listen", was.http_listen != is.http_listen),
        ("server.admin_listen", was.admin_listen != is.admin_listen),
        ("server.admin", was.admin != is.admin),
        ("server.hosts", was.hosts != is.hosts),
        ("server.allow_unauthenticated", was.allow_unauthenticated != is.allow_unauthenticated),
        ("server.drain_ms", was.drain != is.drain),
        ("server.message_bytes_max", was.message_bytes_max != is.message_bytes_max),
    ]
    .into_iter()
    .filter_map(|(path, differs)| differs.then_some(path))
    .collect();
    let others = [
        ("sessions.idle_s", old.sessions.idle != new.sessions.idle),
        ("sessions.sessions_max", old.sessions.sessions_max != new.sessions.sessions_max),
        ("spend.file", old.spend_file != new.spend_file),
        // It holds what compares with nothing: by its words, in which a secret looks like any other.
        ("traffic", format!("{:?}", old.traffic) != format!("{:?}", new.traffic)),
        ("learning", old.learning != new.learning),
        ("bundles.store", old.bundles.store != new.bundles.store),
        (
            "bundles.cache",
            (&old.bundles.cache, old.bundles.cache_bytes_max)
                != (&new.bundles.cache, new.bundles.cache_bytes_max),
        ),
        (
            "bundles.public_keys",
            (&old.bundles.public_keys, old.bundles.require_signature)
                != (&new.bundles.public_keys, new.bundles.require_signature),
        ),
    ];
    named.extend(others.into_iter().filter_map(|(path, differs)| differs.then_some(path)));
    named.into_iter().map(str::to_owned).collect()
}

/// Returns the sections that differ, in the order in which a file has them.
fn sections_changed(old: &Config, new: &Config) -> Vec<&'static str> {
    [
        ("limits", old.limits != new.limits),
        ("classifier", old.classifier != new.classifier),
        ("policy", old.policy != new.policy),
        ("sessions", old.sessions != new.sessions),
        ("tiers", old.tiers != new.tiers),
        ("targets", old.targets != new.targets),
        ("rules", old.rules != new.rules),
        ("intents", old.intents != new.intents),
        ("providers", old.providers != new.providers),
        ("completion", old.completion != new.completion),
        ("budgets", old.budgets != new.budgets),
        ("bundles", old.bundles != new.bundles),
        ("rollout", old.rollout != new.rollout),
        ("server.watch", old.server.watch != new.server.watch),
    ]
    .into_iter()
    .filter_map(|(section, differs)| differs.then_some(section))
    .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{default_config, read_text};

    /// `text` against the built-in configuration.
    fn check(text: &str, changed: &[&str], needs_restart: &[&str]) {
        let old = default_config();
        let merged = merge(&old, read_text(text).unwrap_or_else(|error| panic!("{error}")));
        assert_eq!(merged.changed, changed, "{text}");
        assert_eq!(merged.needs_restart, needs_restart, "{text}");
        let again = merge(&old, merged.config);
        assert_eq!(again.needs_restart, Vec::<String>::new(), "what applies differs in nothing else: {text}");
    }

    #[test]
    fn what_applies_and_what_waits() {
        check("", &[], &[]);
        check("[policy]\nquality = 0.61\n", &["policy"], &[]);
        check("rules = []\n", &["rules"], &[]);
        check("[limits]\nmessages_max = 3\n", &["limits"], &[]);
        check("[classifier]\nenabled = false\n", &["classifier"], &[]);
        check("[completion]\nconcurrent_max = 3\n", &["completion"], &[]);
        check("[server]\ngrpc_listen = \"127.0.0.1:1\"\n", &[], &["server.grpc_listen"]);
        check(
            "[server]\nhttp_listen = \"127.0.0.1:1\"\ndrain_ms = 1\n",
            &[],
            &["server.http_listen", "server.drain_ms"],
        );
        check("[sessions]\nidle_s = 7\n", &[], &["sessions.idle_s"]);
        check("[sessions]\nsticky = false\nsessions_max = 7\n", &["sessions"], &["sessions.sessions_max"]);
        check("[spend]\nfile = \"/tmp/spend.json\"\n", &[], &["spend.file"]);
        check(
            "[traffic]\nenabled = false\n[learning]\nenabled = false\n[policy]\nquality = 0.61\n",
            &["policy"],
            &["traffic"],
        );
    }

    #[test]
    fn the_memory_of_sessions_stays_what_it_was() {
        let old = default_config();
        let merged = merge(&old, read_text("[sessions]\nsticky = false\nidle_s = 7\n").unwrap());
        assert!(!merged.config.sessions.sticky);
        assert_eq!(merged.config.sessions.idle, old.sessions.idle);
        assert_ne!(old.sessions.idle, Duration::from_secs(7));
    }
}
