//! Any order of wishes, with bundles among them that must not serve: something always serves, and what is wanted, what
//! is told and what serves are the same.

use pointsman::live::{
    WHOLE,
    deploy::{DeployError, Wish},
    rollout::{ChangeError, Desired, Reach, Role},
};
use proptest::prelude::*;

use super::{World, plain, route};
use crate::support::onnx::{Fault, TinyBundle};

const STEPS: std::ops::Range<usize> = 30..60;
const CASES: u32 = 3;
const GOOD: [&str; 3] = ["a", "b", "c"];
const BAD: [&str; 2] = ["bad-golden", "bad-scores"];
/// In no store.
const ABSENT: &str = "absent";

fn version() -> impl Strategy<Value = String> {
    let good = prop::sample::select(GOOD.to_vec());
    let bad = prop::sample::select(vec![BAD[0], BAD[1], ABSENT]);
    let any = prop_oneof![6 => good, 1 => bad, 1 => Just("default")];
    any.prop_map(str::to_owned)
}

fn wish() -> impl Strategy<Value = Wish> {
    let reach = prop_oneof![
        3 => (0.05_f64..0.95).prop_map(Reach::Requests),
        1 => (0.05_f64..0.95).prop_map(Reach::Replicas),
        1 => Just(Reach::Requests(1.5)),
    ];
    prop_oneof![
        2 => version().prop_map(|version| Wish::Stage { version }),
        3 => version().prop_map(|version| Wish::Shadow { version }),
        3 => (version(), reach).prop_map(|(version, reach)| Wish::Canary { version, reach }),
        3 => version().prop_map(|version| Wish::Activate { version }),
        3 => Just(Wish::Rollback { version: None }),
        1 => version().prop_map(|version| Wish::Forget { version }),
    ]
}

fn has_something_to_roll_back(desired: &Desired) -> bool {
    desired.canary.is_some() || desired.shadow.is_some() || !desired.retired.is_empty()
}

async fn check_agreement(world: &World, desired: &Desired) {
    let serving = world.server.live.serving();
    assert!(serving.active.router.classifier().is_some(), "something always serves");
    assert_eq!(serving.active.bundle, desired.active);
    assert_eq!(desired.role_of(&serving.active.bundle.name), Role::Active);
    let canary = serving.canary.as_ref().map(|canary| (canary.served.bundle.clone(), canary.share));
    let wanted = desired.canary.as_ref().map(|canary| {
        let share = match canary.reach {
            Reach::Requests(share) => share,
            // This replica is all there are.
            Reach::Replicas(_) => WHOLE,
        };
        (canary.bundle.clone(), share)
    });
    assert_eq!(canary, wanted);
    let shadow = serving.shadow.as_ref().map(|shadow| shadow.bundle.clone());
    assert_eq!(shadow, desired.shadow.as_ref().map(|shadow| shadow.bundle.clone()));
    let reports = world.deployer.bundles().await.unwrap();
    assert_eq!(reports.len(), 1 + GOOD.len() + BAD.len());
    for report in reports {
        let name = &report.listed.bundle.name;
        assert_eq!(report.role, desired.role_of(name), "{name}");
        let is_bad = BAD.contains(&&**name);
        assert!(!is_bad || report.role == Role::Available, "{name} is {:?}", report.role);
    }
    let own = world.deployer.report();
    assert_eq!((own.revision, own.problem), (desired.revision, None));
}

async fn check_decision(world: &World, desired: &Desired) {
    let mut service = world.server.client();
    let answer = service.route(route("a question".to_owned(), "")).await.unwrap().into_inner();
    let decision = answer.decision.unwrap();
    let by = if decision.canary { &desired.canary.as_ref().unwrap().bundle } else { &desired.active };
    let version = if by.is_configured() { "configured" } else { &by.name };
    assert_eq!(decision.bundle_version, version);
}

async fn obey(wishes: Vec<Wish>) {
    let mut bundles: Vec<TinyBundle> = GOOD.into_iter().map(TinyBundle::new).collect();
    bundles.push(TinyBundle::new(BAD[0]).fault(Fault::GoldenOfAnother));
    bundles.push(TinyBundle::new(BAD[1]).fault(Fault::ScoresNotANumber));
    let world = World::start(plain(""), &bundles).await;
    let mut before: Option<Desired> = None;
    let mut generation = world.server.live.serving().generation;
    for wish in wishes {
        let outcome = world.change(wish.clone()).await;
        let kept = world.deployer.wanted().await.unwrap();
        match outcome {
            Ok(deployed) => {
                assert_eq!(Some(&deployed.desired), kept.as_ref(), "{wish:?}");
                assert_eq!(deployed.desired.revision, 1 + before.map_or(0, |before| before.revision));
                assert!(deployed.generation >= generation);
            }
            Err(error) => {
                assert_eq!(kept, before, "{wish:?}: {error}");
                assert_eq!(world.server.live.serving().generation, generation, "{wish:?}: {error}");
                let could = before.as_ref().is_some_and(has_something_to_roll_back);
                assert!(!matches!(wish, Wish::Rollback { .. }) || !could, "{error}");
            }
        }
        generation = world.server.live.serving().generation;
        before = kept;
        if let Some(desired) = &before {
            check_agreement(&world, desired).await;
            check_decision(&world, desired).await;
        }
    }
    // All the way back.
    while before.as_ref().is_some_and(has_something_to_roll_back) {
        before = Some(world.change(Wish::Rollback { version: None }).await.unwrap().desired);
        check_agreement(&world, before.as_ref().unwrap()).await;
    }
    let outcome = world.change(Wish::Rollback { version: None }).await;
    assert!(matches!(outcome, Err(DeployError::Change(ChangeError::NothingToRollBack))), "{outcome:?}");
    world.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_wishes_leaves_nothing_serving(wishes in prop::collection::vec(wish(), STEPS)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(obey(wishes));
    }
}
