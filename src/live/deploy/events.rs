//! What happened -> a sentence for people, and what it counts as. Pure.

use crate::{
    live::{fleet::EventKind, rollout::Told},
    telemetry::SwapOutcome,
};

/// Returns what happened in a sentence.
pub fn sentence(told: &Told) -> String {
    let Told { kind, from, to } = told;
    match kind {
        EventKind::Staged => format!("{to} is staged"),
        EventKind::ShadowStarted => format!("{to} scores beside the active bundle, and decides nothing"),
        EventKind::CanaryStarted => format!("canary {to}"),
        EventKind::CanaryMoved => format!("canary {to}, before {from}"),
        EventKind::Activated | EventKind::Promoted if from == to => format!("{to} is active, loaded anew"),
        EventKind::Activated | EventKind::Promoted => format!("{to} is active, {from} was"),
        EventKind::RolledBack => format!("{from} is taken back, {to} is active"),
        EventKind::Forgotten => format!("{from} is forgotten"),
        EventKind::Refused => format!("{to} is refused"),
        EventKind::GuardEnded => format!("{to} is kept: it is compared with {from} no more"),
        EventKind::RolloutWaits => format!("the rollout of {to} waits"),
        EventKind::Deleted => format!("{from} is taken out of the bundle store"),
        EventKind::ConfigReloaded => "all replicas read their configuration again".to_owned(),
        EventKind::ConfigRefused => "the configuration is refused".to_owned(),
    }
}

/// Returns what a change counts as; `None` where it is none of bundles.
pub fn outcome(kind: EventKind) -> Option<SwapOutcome> {
    match kind {
        EventKind::Staged => Some(SwapOutcome::Staged),
        EventKind::ShadowStarted => Some(SwapOutcome::Shadowed),
        EventKind::CanaryStarted | EventKind::CanaryMoved => Some(SwapOutcome::Canaried),
        EventKind::Activated | EventKind::Promoted => Some(SwapOutcome::Activated),
        EventKind::RolledBack => Some(SwapOutcome::RolledBack),
        EventKind::Forgotten => Some(SwapOutcome::Forgotten),
        EventKind::Refused => Some(SwapOutcome::Refused),
        EventKind::GuardEnded
        | EventKind::RolloutWaits
        | EventKind::Deleted
        | EventKind::ConfigReloaded
        | EventKind::ConfigRefused => None,
    }
}
