//! Bundles and events of a running server, as tables and as JSON.

use anstyle::Style;
use serde_json::{Value, json};

use super::{
    super::{
        columns::{Cell, Columns},
        fleet::{or_null, reach, reach_json},
        show::{ERROR, GOOD, LABEL, RESET, WARN},
        store_away,
        when::shown,
    },
    list::{or_dash, size},
};
use crate::server::proto::{BundleReport, BundleRole, ListEventsResponse, LiveEvent, LiveEventKind};

/// Returns a line for each version.
pub fn bundles(bundles: &[BundleReport], as_json: bool) -> String {
    if as_json {
        let bundles: Vec<Value> = bundles.iter().map(bundle_json).collect();
        return format!("{:#}", json!({"bundles": bundles}));
    }
    let mut columns = Columns::new(&["version", "state", "name", "created", "size", "signed by", "problem"]);
    for bundle in bundles {
        let (name, colour) = role(bundle.role());
        let state = match &bundle.reach {
            Some(_) => format!("{name}, {}", reach(bundle.reach.as_ref())),
            None => name.to_owned(),
        };
        columns.row(vec![
            or_dash(&bundle.version),
            Cell::coloured(colour, state),
            or_dash(&bundle.name),
            or_dash(&bundle.created),
            size(bundle.bytes),
            or_dash(&bundle.signed_by),
            Cell::coloured(ERROR, &bundle.problem),
        ]);
    }
    trimmed(&columns)
}

fn role(role: BundleRole) -> (&'static str, Style) {
    match role {
        BundleRole::Unspecified => ("unknown", LABEL),
        BundleRole::Available => ("available", LABEL),
        BundleRole::Staged => ("staged", Style::new()),
        BundleRole::Shadow => ("shadow", WARN),
        BundleRole::Canary => ("canary", WARN),
        BundleRole::Active => ("active", GOOD),
        BundleRole::Retired => ("retired", Style::new()),
    }
}

fn bundle_json(bundle: &BundleReport) -> Value {
    json!({
        "version": bundle.version,
        "sha256": or_null(&bundle.sha256),
        "name": or_null(&bundle.name),
        "created": or_null(&bundle.created),
        "bytes": (bundle.bytes > 0).then_some(bundle.bytes),
        "signed_by": or_null(&bundle.signed_by),
        "problem": or_null(&bundle.problem),
        "state": role(bundle.role()).0,
        "reach": bundle.reach.as_ref().and_then(reach_json),
    })
}

/// Returns a line for each event, the latest first.
pub fn events(answer: &ListEventsResponse, as_json: bool) -> String {
    let ListEventsResponse { events, store_away: away } = answer;
    if as_json {
        let events: Vec<Value> = events.iter().map(event_json).collect();
        return format!("{:#}", json!({"events": events, "store_away": store_away::json(away.as_ref())}));
    }
    match away {
        Some(away) => {
            let line = store_away::line(away, "these are the events of one replica since it started");
            format!("{line}\n{}", events_table(events))
        }
        None => events_table(events),
    }
}

fn events_table(events: &[LiveEvent]) -> String {
    if events.is_empty() {
        return format!("{LABEL}nothing happened yet{RESET}");
    }
    let mut columns = Columns::new(&["when", "what", "from", "to", "who", "why"]);
    for event in events {
        let (name, colour) = kind(event.kind());
        columns.row(vec![
            Cell::plain(shown(event.at_ms)),
            Cell::coloured(colour, name),
            or_dash(&event.from),
            or_dash(&event.to),
            or_dash(&event.who),
            // Several problems of a configuration stand on lines of their own.
            or_dash(&event.why.replace('\n', ";")),
        ]);
    }
    trimmed(&columns)
}

fn kind(kind: LiveEventKind) -> (&'static str, Style) {
    match kind {
        LiveEventKind::Unspecified => ("unknown", LABEL),
        LiveEventKind::Staged => ("staged", Style::new()),
        LiveEventKind::ShadowStarted => ("shadow_started", Style::new()),
        LiveEventKind::CanaryStarted => ("canary_started", Style::new()),
        LiveEventKind::CanaryMoved => ("canary_moved", Style::new()),
        LiveEventKind::Activated => ("activated", GOOD),
        LiveEventKind::Promoted => ("promoted", GOOD),
        LiveEventKind::RolledBack => ("rolled_back", WARN),
        LiveEventKind::Forgotten => ("forgotten", LABEL),
        LiveEventKind::Refused => ("refused", ERROR),
        LiveEventKind::ConfigReloaded => ("config_reloaded", GOOD),
        LiveEventKind::ConfigRefused => ("config_refused", ERROR),
        LiveEventKind::GuardEnded => ("guard_ended", GOOD),
        LiveEventKind::RolloutWaits => ("rollout_waits", WARN),
        LiveEventKind::Deleted => ("deleted", LABEL),
    }
}

fn event_json(event: &LiveEvent) -> Value {
    json!({
        "id": event.id,
        "at": shown(event.at_ms),
        "kind": kind(event.kind()).0,
        "who": event.who,
        "from": event.from,
        "to": event.to,
        "why": event.why,
        "revision": event.revision,
        "replica_id": event.replica_id,
    })
}

/// Without an empty line for a last cell that is empty in the last row.
fn trimmed(columns: &Columns) -> String {
    columns.to_string().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::proto::{CanaryReach, StoreAway, canary_reach::Reach};

    #[track_caller]
    fn check(shown: &str, expected: &[&str]) {
        let shown = anstream::adapter::strip_str(shown).to_string();
        assert_eq!(shown.lines().map(str::trim_end).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn bundles_are_told() {
        let active = BundleReport {
            version: "0.3.0".to_owned(),
            name: "pointsman-en".to_owned(),
            created: "2026-01-30".to_owned(),
            bytes: 4096,
            signed_by: "release".to_owned(),
            role: BundleRole::Active as i32,
            ..BundleReport::default()
        };
        let canary = BundleReport {
            version: "0.4.0".to_owned(),
            role: BundleRole::Canary as i32,
            reach: Some(CanaryReach { reach: Some(Reach::ReplicaShare(0.3)) }),
            ..BundleReport::default()
        };
        let broken = BundleReport {
            version: "0.5.0".to_owned(),
            role: BundleRole::Available as i32,
            problem: "no manifest".to_owned(),
            ..BundleReport::default()
        };
        let expected = [
            "version  state                    name          created     size      signed by  problem",
            "0.3.0    active                   pointsman-en  2026-01-30  4.00 KiB  release",
            "0.4.0    canary, 30 % of replicas  -             -           -         -",
            "0.5.0    available                -             -           -         -          no manifest",
        ]
        .map(|line| line.to_owned());
        let shown = bundles(&[active, canary, broken], false);
        let plain = anstream::adapter::strip_str(&shown).to_string();
        // Columns are as wide as their widest cell.
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(plain.lines().map(words).collect::<Vec<_>>(), expected.map(|line| words(&line)));
    }

    #[test]
    fn events_are_told() {
        let answer = |events| ListEventsResponse { events, store_away: None };
        check(&events(&answer(Vec::new()), false), &["nothing happened yet"]);
        let event = LiveEvent {
            at_ms: 1_769_767_200_000,
            kind: LiveEventKind::RolledBack as i32,
            who: "rollout".to_owned(),
            from: "0.4.0".to_owned(),
            to: "0.3.0".to_owned(),
            why: "errors 12 %\nlimit 1 %".to_owned(),
            ..LiveEvent::default()
        };
        let expected = [
            "when                  what         from   to     who      why",
            "2026-01-30T10:00:00Z  rolled_back  0.4.0  0.3.0  rollout  errors 12 %;limit 1 %",
        ];
        check(&events(&answer(vec![event.clone()]), false), &expected);
        let away = StoreAway {
            since_ms: 1_769_767_200_000,
            why: "refused".to_owned(),
            wanted_from: 2,
            replicas_known: false,
        };
        let alone = ListEventsResponse { events: vec![event], store_away: Some(away) };
        let incomplete = "incomplete  these are the events of one replica since it started; the store is away since \
                          2026-01-30T10:00:00Z: refused";
        check(&events(&alone, false), &[incomplete, expected[0], expected[1]]);
        assert!(events(&alone, true).contains("\"wanted_from\": \"memory\""));
    }
}
