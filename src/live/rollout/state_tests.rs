use proptest::prelude::*;

use super::*;
use crate::live::rollout::Observed;

const RETIRED_MAX: usize = 3;

fn version(name: &str) -> BundleRef {
    let sha256: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    BundleRef { name: Arc::from(name), sha256: Some(format!("{sha256:0<64}").into()) }
}

fn after(changes: &[Change]) -> Desired {
    changes.iter().zip(1..).fold(Desired::first(0), |desired, (change, at_ms)| {
        desired.changed(change, at_ms, RETIRED_MAX).unwrap()
    })
}

/// Writes a state as one line: `active | canary | shadow | staged | retired`.
fn line(desired: &Desired) -> String {
    let names = |bundles: &[BundleRef]| {
        bundles.iter().map(|bundle| bundle.name.to_string()).collect::<Vec<_>>().join(",")
    };
    let canary = desired.canary.as_ref();
    let canary = canary.map_or(String::new(), |canary| format!("{} {}", canary.bundle, canary.reach.share()));
    let shadow = desired.shadow.as_ref().map_or(String::new(), |shadow| shadow.bundle.to_string());
    let lists = (names(&desired.staged), names(&desired.retired));
    format!("{} | {canary} | {shadow} | {} | {}", desired.active, lists.0, lists.1)
}

#[track_caller]
fn check(changes: &[Change], expected: &str) {
    assert_eq!(line(&after(changes)), expected);
}

#[track_caller]
fn refused(changes: &[Change], change: &Change, expected: &str) {
    assert_eq!(after(changes).changed(change, 99, RETIRED_MAX).unwrap_err().to_string(), expected);
}

fn stage(name: &str) -> Change {
    Change::Stage(version(name))
}

fn shadow(name: &str) -> Change {
    Change::Shadow(version(name))
}

fn canary(name: &str, share: f64) -> Change {
    Change::Canary(version(name), Reach::Requests(share))
}

fn activate(name: &str) -> Change {
    Change::Activate(version(name))
}

#[test]
fn one_bundle_has_one_role() {
    check(&[], "default |  |  |  | ");
    check(&[stage("a"), stage("b"), stage("a")], "default |  |  | a,b | ");
    check(&[stage("a"), shadow("a")], "default |  | a |  | ");
    check(&[shadow("a"), shadow("b")], "default |  | b | a | ");
    check(&[shadow("a"), canary("a", 0.05)], "default | a 0.05 |  |  | ");
    check(&[canary("a", 0.05), shadow("a")], "default |  | a |  | ");
    check(&[canary("a", 0.05), canary("a", 0.5)], "default | a 0.5 |  |  | ");
    check(&[canary("a", 0.05), canary("b", 0.5)], "default | b 0.5 |  | a | ");
    check(&[canary("a", 0.05), shadow("b"), activate("a")], "a |  | b |  | default");
    check(&[activate("a"), activate("b"), activate("a")], "a |  |  |  | b,default");
    check(&[activate("a"), activate("a")], "a |  |  |  | default");
    check(
        &[activate("a"), shadow("a2"), Change::Activate(BundleRef::configured())],
        "default |  | a2 |  | a",
    );
    let five = ["a", "b", "c", "d", "e"].map(activate);
    check(&five, "e |  |  |  | d,c,b");
}

#[test]
fn a_rollback_takes_back_the_latest_and_never_brings_it_again() {
    check(&[canary("a", 0.5), shadow("b"), Change::Rollback], "default |  | b | a | ");
    check(&[canary("a", 0.5), shadow("b"), Change::Rollback, Change::Rollback], "default |  |  | b,a | ");
    check(&[activate("a"), activate("b"), Change::Rollback], "a |  |  | b | default");
    check(&[activate("a"), activate("b"), Change::Rollback, Change::Rollback], "default |  |  | a,b | ");
    let configured = Change::Activate(BundleRef::configured());
    check(&[activate("a"), configured, Change::Rollback], "a |  |  |  | ");
    let nothing = "nothing to roll back: there is no canary, no shadow and no retired bundle";
    refused(&[stage("a")], &Change::Rollback, nothing);
    refused(&[activate("a"), Change::Rollback], &Change::Rollback, nothing);
}

#[test]
fn a_retired_bundle_that_is_tried_again_stays_the_one_to_go_back_to() {
    let configured = BundleRef::configured;
    let tries = [
        Change::Shadow(configured()),
        Change::Canary(configured(), Reach::Requests(0.05)),
        Change::Canary(configured(), Reach::Replicas(0.5)),
    ];
    for tried in tries {
        check(&[activate("a"), tried.clone(), Change::Rollback], "a |  |  |  | default");
        check(&[activate("a"), tried.clone(), Change::Rollback, Change::Rollback], "default |  |  | a | ");
        // Another one is tried in its place.
        check(&[activate("a"), tried.clone(), canary("b", 0.5), shadow("c")], "a | b 0.5 | c |  | default");
    }
    let four = [activate("a"), activate("b"), activate("c")];
    check(&four, "c |  |  |  | b,a,default");
    let then = |more: &[Change]| [&four[..], more].concat();
    check(&then(&[shadow("a"), Change::Rollback]), "c |  |  |  | b,a,default");
    check(&then(&[shadow("a"), canary("a", 0.5), Change::Rollback]), "c |  |  |  | b,a,default");
    // Both are taken back, whichever goes first.
    let both = [canary("a", 0.5), shadow("b"), Change::Rollback, Change::Rollback];
    check(&then(&both), "c |  |  |  | b,a,default");
    check(&then(&[shadow("a"), activate("a")]), "a |  |  |  | c,b,default");
    // What became active meanwhile is the latest.
    check(&then(&[canary("b", 0.5), activate("d"), Change::Rollback]), "d |  |  |  | c,b,a");
    // There is no room for it any more.
    check(&then(&[canary("a", 0.5), activate("d"), activate("e"), Change::Rollback]), "e |  |  | a | d,c,b");
    let copy = BundleRef { name: "copy".into(), ..version("a") };
    check(&then(&[Change::Shadow(copy), Change::Rollback]), "c |  |  |  | b,copy,default");
    let tried = "bundle a is the shadow: roll it back, and forget it then";
    refused(&[activate("a"), activate("b"), shadow("a")], &Change::Forget("a".into()), tried);
    assert_eq!(after(&then(&[shadow("a")])).role_of("a"), Role::Shadow);
}

#[test]
fn what_is_refused_says_what_to_do() {
    refused(
        &[activate("a")],
        &shadow("a"),
        "bundle a is active: it cannot be its own shadow; name another version",
    );
    let copy = BundleRef { name: "copy".into(), ..version("a") };
    refused(
        &[activate("a")],
        &Change::Canary(copy, Reach::Replicas(0.5)),
        "bundle copy is active: it cannot be its own canary; name another version",
    );
    for (share, text) in [(0.0, "0"), (1.0, "1"), (-0.1, "-0.1"), (f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
        let why = "is not above 0 and below 1; to serve everything, activate the bundle";
        refused(&[], &canary("a", share), &format!("a canary's share of {text} {why}"));
    }
    let ready = "which is as good as staged: it needs no staging";
    refused(&[shadow("a")], &stage("a"), &format!("bundle a is the shadow, {ready}"));
    refused(&[activate("a"), activate("b")], &stage("a"), &format!("bundle a is retired, {ready}"));
    let configured =
        "bundle default is the one that the configuration names: it is never staged and never forgotten";
    refused(&[], &Change::Stage(BundleRef::configured()), configured);
    refused(&[activate("a")], &Change::Forget(DEFAULT.into()), configured);
    let active = "bundle a is active: activate another one, or roll back, and forget it then";
    refused(&[activate("a")], &Change::Forget("a".into()), active);
    let tried = "bundle a is the canary: roll it back, and forget it then";
    refused(&[canary("a", 0.5)], &Change::Forget("a".into()), tried);
    let unknown = "bundle a is neither staged nor retired: there is nothing to forget; `pointsman bundle delete` takes \
                   a version out of the store";
    refused(&[], &Change::Forget("a".into()), unknown);
}

#[test]
fn what_is_not_in_use_can_be_forgotten() {
    check(&[stage("a"), stage("b"), Change::Forget("a".into())], "default |  |  | b | ");
    check(&[activate("a"), activate("b"), Change::Forget("a".into())], "b |  |  |  | default");
}

#[test]
fn a_bundle_copied_under_another_name_is_no_second_one() {
    let copy = BundleRef { name: "copy".into(), ..version("a") };
    check(&[activate("a"), Change::Activate(copy.clone())], "copy |  |  |  | default");
    check(&[canary("a", 0.5), Change::Shadow(copy.clone())], "default |  | copy |  | ");
    check(&[stage("a"), Change::Stage(copy)], "default |  |  | copy | ");
}

#[test]
fn only_what_makes_a_difference_begins_a_new_watch() {
    let canary_since = |desired: &Desired| desired.canary.as_ref().unwrap().since_ms;
    let shadow_since = |desired: &Desired| desired.shadow.as_ref().unwrap().since_ms;
    let both = after(&[shadow("s"), canary("c", 0.1), stage("x")]);
    assert_eq!((shadow_since(&both), canary_since(&both)), (2, 2));
    let moved = both.changed(&canary("c", 0.2), 9, RETIRED_MAX).unwrap();
    assert_eq!((shadow_since(&moved), canary_since(&moved)), (2, 9));
    let reloaded = both.changed(&Change::ReloadConfig, 9, RETIRED_MAX).unwrap();
    assert_eq!((shadow_since(&reloaded), canary_since(&reloaded), reloaded.config_reloads), (2, 2, 1));
    let other = both.changed(&activate("b"), 9, RETIRED_MAX).unwrap();
    assert_eq!((shadow_since(&other), canary_since(&other), other.active_since_ms), (9, 9, 9));
    let alone = both.changed(&Change::Rollback, 9, RETIRED_MAX).unwrap();
    assert_eq!(shadow_since(&alone), 9);
    let again = other.changed(&activate("b"), 12, RETIRED_MAX).unwrap();
    assert_eq!(Desired { revision: other.revision, ..again }, other);
}

#[test]
fn a_promoted_bundle_is_guarded_until_something_else_is_tried() {
    let promote =
        |name: &str| Change::Promote(version(name), Box::new(Guard::of(&Observed::default(), "ab")));
    let is_guarded =
        |more: &[Change]| after(&[&[canary("a", 0.5), promote("a")], more].concat()).guard.is_some();
    check(&[canary("a", 0.5), promote("a")], "a |  |  |  | default");
    for kept in [&[][..], &[stage("b")], &[stage("b"), Change::Forget("b".into())]] {
        assert!(is_guarded(kept), "{kept:?}");
    }
    assert!(is_guarded(&[Change::ReloadConfig]));
    let rolled_back = [Change::Rollback, Change::RollbackActive];
    for ends in [canary("b", 0.5), shadow("b"), activate("b"), Change::EndGuard].iter().chain(&rolled_back) {
        assert!(!is_guarded(std::slice::from_ref(ends)), "{ends:?}");
    }
}

#[test]
fn who_activates_a_guarded_bundle_keeps_it() {
    let promote = Change::Promote(version("a"), Box::new(Guard::of(&Observed::default(), "ab")));
    let promoted = after(&[canary("a", 0.5), promote]);
    let kept = promoted.changed(&activate("a"), 9, RETIRED_MAX).unwrap();
    assert_eq!(kept, Desired { revision: kept.revision, guard: None, ..promoted });
}

#[test]
fn a_guard_ends_with_the_predecessor_and_no_other_retired_bundle() {
    let promote = Change::Promote(version("c"), Box::new(Guard::of(&Observed::default(), "ab")));
    let promoted = after(&[activate("a"), activate("b"), canary("c", 0.5), promote]);
    assert_eq!(line(&promoted), "c |  |  |  | b,a,default");
    let is_guarded_without = |name: &str| {
        let forgotten = promoted.changed(&Change::Forget(name.into()), 9, RETIRED_MAX).unwrap();
        forgotten.guard.is_some()
    };
    assert!(is_guarded_without("a"));
    assert!(!is_guarded_without("b"));
}

#[test]
fn the_active_bundle_is_taken_back_from_beside_a_shadow() {
    let promote = Change::Promote(version("a"), Box::new(Guard::of(&Observed::default(), "ab")));
    let promoted = after(&[shadow("b"), canary("a", 0.5), promote]);
    assert_eq!(line(&promoted), "a |  | b |  | default");
    assert!(promoted.guard.is_some());
    let back = promoted.changed(&Change::RollbackActive, 9, RETIRED_MAX).unwrap();
    assert_eq!(line(&back), "default |  | b | a | ");
    // It stands beside another one now.
    assert_eq!((back.guard, back.shadow.unwrap().since_ms), (None, 9));
    // The one to go back to may be the one that is tried again.
    let again = Change::Shadow(BundleRef::configured());
    let back = after(&[activate("a"), again, Change::RollbackActive]);
    assert_eq!(line(&back), "default |  |  | a | ");
    let nothing = "nothing to roll back: there is no canary, no shadow and no retired bundle";
    refused(&[stage("a")], &Change::RollbackActive, nothing);
}

#[test]
fn what_could_lead_out_of_a_folder_is_not_read() {
    let read = |name: &str, sha256: Option<&str>| {
        let text = serde_json::json!({"name": name, "sha256": sha256}).to_string();
        serde_json::from_str::<BundleRef>(&text).map_err(|error| error.to_string())
    };
    let good = "ab".repeat(32);
    for (name, sha256) in [("default", None), ("1.0", None), ("1.0", Some(good.as_str()))] {
        assert_eq!(read(name, sha256).unwrap().sha256.as_deref(), sha256);
    }
    for name in ["", ".", "..", "../1.0", "/etc", "a/b", "a\\b", ".hidden", "a\n"] {
        assert!(read(name, None).unwrap_err().starts_with("bundle \""), "{name}");
    }
    for sha256 in ["", "..", "../../etc", "/etc", &good[1..], &good.to_uppercase(), &format!("{good}/")] {
        let error = read("1.0", Some(sha256)).unwrap_err();
        assert!(error.contains("bundle 1.0: sha256 \"") && error.contains("64 hexadecimal"), "{error}");
    }
}

#[test]
fn documents_of_older_versions_are_read() {
    let read = |text: &str| serde_json::from_str::<Desired>(text).unwrap();
    let least = read(include_str!("../../../tests/golden/live/desired-v1-least.json"));
    assert_eq!(least, Desired::first(1_767_225_600_000));
    let text = include_str!("../../../tests/golden/live/desired-v1.json");
    let full = read(text);
    assert_eq!(line(&full), "2026-01-05 | 2026-02-01 0.05 | 2026-02-02 | 2026-01-20 | 2026-01-01,default");
    let (written, golden): (serde_json::Value, serde_json::Value) =
        (serde_json::to_value(&full).unwrap(), serde_json::from_str(text).unwrap());
    assert_eq!(written, golden);
}

/// Names that a sequence uses; the last is a copy of the one before, under a name of its own.
fn bundle() -> impl Strategy<Value = BundleRef> {
    let named = (0..24_u8).prop_map(|at| version(&format!("v{at}")));
    let copied = (0..24_u8).prop_map(|at| BundleRef { name: "copy".into(), ..version(&format!("v{at}")) });
    prop_oneof![8 => named, 1 => copied, 1 => Just(BundleRef::configured())]
}

fn change() -> impl Strategy<Value = Change> {
    let share = (-1_i32..=101).prop_map(|per_cent| f64::from(per_cent) / 100.0);
    let reach = (share, any::<bool>()).prop_map(|(share, of_replicas)| match of_replicas {
        true => Reach::Replicas(share),
        false => Reach::Requests(share),
    });
    prop_oneof![
        4 => bundle().prop_map(Change::Stage),
        2 => bundle().prop_map(Change::Shadow),
        3 => (bundle(), reach).prop_map(|(bundle, reach)| Change::Canary(bundle, reach)),
        4 => bundle().prop_map(Change::Activate),
        2 => (bundle(), 0.0..1e6).prop_map(|(bundle, good)| {
            let seen = Observed { good, ..Observed::default() };
            Change::Promote(bundle, Box::new(Guard::of(&seen, "ab")))
        }),
        1 => Just(Change::EndGuard),
        1 => Just(Change::RollbackActive),
        3 => Just(Change::Rollback),
        2 => bundle().prop_map(|bundle| Change::Forget(bundle.name)),
        1 => Just(Change::ReloadConfig),
    ]
}

/// Returns every bundle that has a role, a retired one that is tried again once.
fn holders(desired: &Desired) -> Vec<&BundleRef> {
    let retired = desired.retired.iter().filter(|retired| !desired.running().any(|one| one == *retired));
    desired.running().chain(&desired.staged).chain(retired).collect()
}

proptest! {
    // No files of failed cases: the tree stays as it is.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn no_sequence_of_changes_leaves_the_rules(changes in prop::collection::vec(change(), 1..60)) {
        let mut desired = Desired::first(0);
        for (change, at_ms) in changes.iter().zip(1..) {
            let Ok(next) = desired.changed(change, at_ms, RETIRED_MAX) else {
                prop_assert!(!matches!(change, Change::Activate(_) | Change::Promote(..) | Change::ReloadConfig), "{change:?}");
                continue;
            };
            prop_assert_eq!(next.revision, desired.revision + 1);
            let holders = holders(&next);
            for (at, one) in holders.iter().enumerate() {
                for other in &holders[at + 1..] {
                    prop_assert!(!one.is_same(other), "{} and {} after {:?}", one, other, change);
                }
            }
            prop_assert_eq!(next.role_of(&next.active.name), Role::Active);
            prop_assert!(!next.staged.iter().any(BundleRef::is_configured));
            prop_assert!(next.staged.len() <= STAGED_MAX && next.retired.len() <= RETIRED_MAX);
            if let Some(canary) = &next.canary {
                prop_assert!(canary.reach.share() > 0.0 && canary.reach.share() < 1.0);
            }
            let can_roll_back = next.canary.is_some() || next.shadow.is_some() || !next.retired.is_empty();
            prop_assert!(!next.retired.contains(&next.active));
            let rolled_back = next.changed(&Change::Rollback, at_ms, RETIRED_MAX);
            prop_assert_eq!(rolled_back.is_ok(), can_roll_back);
            // To try something and to take it back leaves what can be gone back to as it was.
            if let (Change::Shadow(_) | Change::Canary(..), Ok(back)) = (change, &rolled_back) {
                let names = |desired: &Desired| desired.retired.iter().map(|one| one.name.clone()).collect::<Vec<_>>();
                let is_copy = desired.retired.iter().any(|one| !next.retired.contains(one));
                prop_assert!(is_copy || names(back) == names(&desired), "{change:?}");
            }
            if let Change::Activate(bundle) | Change::Promote(bundle, _) = change {
                prop_assert_eq!(&next.active, bundle);
                prop_assert!(desired.active.is_same(bundle) || next.retired[0] == desired.active);
            }
            let text = serde_json::to_string(&next).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Desired>(&text).unwrap(), &next);
            desired = next;
        }
        // Rolling back always comes to an end.
        for _ in 0..2 + RETIRED_MAX {
            if let Ok(next) = desired.changed(&Change::Rollback, 0, RETIRED_MAX) {
                desired = next;
            }
        }
        prop_assert_eq!(desired.changed(&Change::Rollback, 0, RETIRED_MAX), Err(ChangeError::NothingToRollBack));
    }
}

#[test]
fn who_activates_default_has_all_look_at_what_lies_in_its_place() {
    let changes = [
        (Change::Activate(BundleRef::configured()), 1),
        (Change::Activate(version("a")), 1),
        (Change::Rollback, 1),
        (Change::Activate(version("a")), 1),
        (Change::Activate(BundleRef::configured()), 2),
    ];
    let mut desired = Desired::first(0);
    for (change, expected) in changes {
        desired = desired.changed(&change, 1, 3).unwrap();
        assert_eq!(desired.default_loads, expected, "{change:?}");
    }
}
