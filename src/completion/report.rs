//! How targets and budgets do at this moment, for operators. Only looks: nothing here changes a breaker or a sum.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{Completer, breaker::Phase, keys::KeyCounts, spend::Report};
use crate::config::TargetConfig;

/// One target and how it does.
#[derive(Debug, Clone)]
pub struct TargetReport {
    pub target: Arc<TargetConfig>,
    /// Those that list it, weakest first.
    pub tiers: Vec<Arc<str>>,
    pub standing: Standing,
    /// Since the last success; begins again when the breaker opens.
    pub failures: u32,
    /// In the breaker's window; begins again when it opens.
    pub calls: u64,
    /// Of `calls`, 0 to 1.
    pub error_ratio: f64,
    /// `None` where its provider takes none.
    pub keys: Option<KeyCounts>,
}

/// Whether a target takes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has no provider: decisions only.
    Unconfigured,
    /// As its breaker stands; `open`: for how long it is left alone, `None` unless it is.
    Breaker { phase: Phase, open: Option<Duration> },
}

impl Completer {
    /// Returns how every target does, in the order of the configuration.
    pub fn target_reports(&self, now: Instant) -> Vec<TargetReport> {
        let states = self.breakers.states(now);
        let each = self.targets.iter().zip(&self.providers).zip(states);
        each.map(|((target, provider), state)| TargetReport {
            target: Arc::clone(target),
            tiers: self
                .config
                .tiers
                .iter()
                .filter(|tier| tier.targets.contains(&state.index))
                .map(|tier| Arc::clone(&tier.name))
                .collect(),
            standing: match provider {
                None => Standing::Unconfigured,
                Some(_) => Standing::Breaker { phase: state.state, open: state.remaining },
            },
            failures: state.failures,
            calls: state.calls,
            error_ratio: state.error_ratio,
            keys: provider.as_ref().and_then(|provider| provider.keys()?.counts(now)),
        })
        .collect()
    }

    /// Returns how far budgets are spent, and the totals.
    pub fn spend_report(&self, now: SystemTime) -> Report {
        self.spend.report(now)
    }
}
