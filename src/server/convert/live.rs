//! Bundles, the fleet and events <-> their messages.

use super::super::proto;
use crate::live::{
    bundles::Listed,
    deploy::{BundleReport, Deployed, Reloaded},
    fleet::{Apart, Event, EventKind, ReplicaReport, WantedFrom},
    rollout::{Desired, Reach, Role},
};

/// Returns what came of a change.
pub fn change(deployed: &Deployed) -> proto::BundleChange {
    proto::BundleChange {
        wanted: Some(wanted(&deployed.desired)),
        generation: deployed.generation,
        told: deployed.told.clone(),
    }
}

/// Returns what all replicas are to run.
pub fn wanted(desired: &Desired) -> proto::WantedState {
    let canary = desired.canary.as_ref();
    let name = |name: &str| name.to_owned();
    proto::WantedState {
        revision: desired.revision,
        active: name(&desired.active.name),
        active_since_ms: desired.active_since_ms,
        canary: canary.map(|canary| name(&canary.bundle.name)).unwrap_or_default(),
        canary_reach: canary.map(|canary| reach(canary.reach)),
        shadow: desired.shadow.as_ref().map(|shadow| name(&shadow.bundle.name)).unwrap_or_default(),
        staged: desired.staged.iter().map(|bundle| name(&bundle.name)).collect(),
        retired: desired.retired.iter().map(|bundle| name(&bundle.name)).collect(),
        canary_since_ms: canary.map(|canary| canary.since_ms).unwrap_or_default(),
        shadow_since_ms: desired.shadow.as_ref().map(|shadow| shadow.since_ms).unwrap_or_default(),
    }
}

fn reach(reach: Reach) -> proto::CanaryReach {
    use proto::canary_reach::Reach as Sent;
    let reach = match reach {
        Reach::Requests(share) => Sent::RequestShare(share),
        Reach::Replicas(share) => Sent::ReplicaShare(share),
    };
    proto::CanaryReach { reach: Some(reach) }
}

/// Returns what a canary is asked to decide for; what is wrong follows the field's name.
pub fn asked_reach(asked: Option<proto::CanaryReach>) -> Result<Reach, &'static str> {
    use proto::canary_reach::Reach as Sent;
    let (share, reach) = match asked.and_then(|asked| asked.reach) {
        Some(Sent::RequestShare(share)) => (share, Reach::Requests(share)),
        Some(Sent::ReplicaShare(share)) => (share, Reach::Replicas(share)),
        None => return Err("is missing: give request_share or replica_share"),
    };
    // What is not a number is neither.
    if share > 0.0 && share < 1.0 { Ok(reach) } else { Err("is not above 0 and below 1") }
}

/// Returns one version as operators see it.
pub fn bundle(report: BundleReport) -> proto::BundleReport {
    let listed = report.listed;
    proto::BundleReport {
        version: listed.bundle.name.to_string(),
        sha256: listed.bundle.sha256.map(|sha256| sha256.to_string()).unwrap_or_default(),
        name: listed.name,
        created: listed.created,
        bytes: listed.bytes,
        signed_by: listed.signed_by.unwrap_or_default(),
        problem: listed.problem.unwrap_or_default(),
        role: role(report.role) as i32,
        reach: report.reach.map(reach),
    }
}

/// Returns a version that nobody uses yet.
pub fn verified(listed: Listed) -> proto::BundleReport {
    bundle(BundleReport { listed, role: Role::Available, reach: None })
}

fn role(role: Role) -> proto::BundleRole {
    match role {
        Role::Available => proto::BundleRole::Available,
        Role::Staged => proto::BundleRole::Staged,
        Role::Shadow => proto::BundleRole::Shadow,
        Role::Canary => proto::BundleRole::Canary,
        Role::Active => proto::BundleRole::Active,
        Role::Retired => proto::BundleRole::Retired,
    }
}

/// Returns what came of reading the configuration again.
pub fn reloaded(reloaded: Reloaded) -> proto::ReloadConfigResponse {
    let Reloaded { generation, changed, needs_restart } = reloaded;
    proto::ReloadConfigResponse { generation, changed, needs_restart }
}

/// Returns what one replica runs, and in what it differs.
pub fn replica(report: ReplicaReport, differences: Vec<String>) -> proto::ReplicaReport {
    proto::ReplicaReport {
        replica_id: report.replica_id.to_string(),
        host: report.host,
        process_id: report.process_id,
        program_version: report.program_version,
        started_ms: report.started_ms,
        seen_ms: report.seen_ms,
        revision: report.revision,
        generation: report.generation,
        config_sha256: report.config_sha256,
        active: report.active,
        canary: report.canary.unwrap_or_default(),
        shadow: report.shadow.unwrap_or_default(),
        ready: report.ready,
        problem: report.problem.unwrap_or_default(),
        differences,
        configured: report.configured.unwrap_or_default(),
    }
}

/// Returns that the store does not answer, and what is gone by meanwhile.
pub fn store_away(apart: Apart) -> proto::StoreAway {
    let Apart { since_ms, why, wanted_from } = apart;
    let wanted_from = match wanted_from {
        WantedFrom::Store => proto::WantedFrom::Store,
        WantedFrom::Memory => proto::WantedFrom::Memory,
        WantedFrom::Copy => proto::WantedFrom::Copy,
        WantedFrom::Nowhere => proto::WantedFrom::Nowhere,
    };
    proto::StoreAway { since_ms, why, wanted_from: wanted_from as i32, replicas_known: false }
}

/// Returns what happened.
pub fn event(event: Event) -> proto::LiveEvent {
    proto::LiveEvent {
        id: event.id.to_string(),
        at_ms: event.at_ms,
        kind: kind(event.kind) as i32,
        who: event.who,
        from: event.from,
        to: event.to,
        why: event.why,
        revision: event.revision,
        replica_id: event.replica_id.to_string(),
    }
}

fn kind(kind: EventKind) -> proto::LiveEventKind {
    match kind {
        EventKind::Staged => proto::LiveEventKind::Staged,
        EventKind::ShadowStarted => proto::LiveEventKind::ShadowStarted,
        EventKind::CanaryStarted => proto::LiveEventKind::CanaryStarted,
        EventKind::CanaryMoved => proto::LiveEventKind::CanaryMoved,
        EventKind::Activated => proto::LiveEventKind::Activated,
        EventKind::Promoted => proto::LiveEventKind::Promoted,
        EventKind::RolledBack => proto::LiveEventKind::RolledBack,
        EventKind::Forgotten => proto::LiveEventKind::Forgotten,
        EventKind::Refused => proto::LiveEventKind::Refused,
        EventKind::ConfigReloaded => proto::LiveEventKind::ConfigReloaded,
        EventKind::ConfigRefused => proto::LiveEventKind::ConfigRefused,
        EventKind::GuardEnded => proto::LiveEventKind::GuardEnded,
        EventKind::RolloutWaits => proto::LiveEventKind::RolloutWaits,
        EventKind::Deleted => proto::LiveEventKind::Deleted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::canary_reach::Reach as Sent;

    #[test]
    fn a_share_is_above_0_and_below_1() {
        let read = |sent| asked_reach(Some(proto::CanaryReach { reach: Some(sent) }));
        assert_eq!(read(Sent::RequestShare(0.05)), Ok(Reach::Requests(0.05)));
        assert_eq!(read(Sent::ReplicaShare(0.3)), Ok(Reach::Replicas(0.3)));
        for share in [0.0, 1.0, -0.1, 5.0, f64::NAN, f64::INFINITY] {
            assert_eq!(read(Sent::RequestShare(share)), Err("is not above 0 and below 1"), "{share}");
        }
        for asked in [None, Some(proto::CanaryReach { reach: None })] {
            assert!(asked_reach(asked).unwrap_err().starts_with("is missing"));
        }
    }
}
