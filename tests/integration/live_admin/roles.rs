//! What each call of the admin service does when all is well.

use std::fs;

use pointsman::{
    live::bundles,
    server::proto::{
        ActivateBundleRequest, BundleChange, BundleRole, CanaryBundleRequest, CanaryReach,
        ForgetBundleRequest, GetFleetRequest, ListBundlesRequest, ListEventsRequest, LiveEventKind,
        ReloadConfigRequest, RollbackBundleRequest, ShadowBundleRequest, StageBundleRequest,
        VerifyBundleRequest, admin_service_client::AdminServiceClient, canary_reach::Reach,
    },
};
use tonic::{Request, transport::Channel};

use super::world::{Server, World, decide, events, kinds, wanted};
use crate::support::onnx::TinyBundle;

const PROMPT: &str = "code simple";

async fn roles(client: &mut AdminServiceClient<Channel>) -> Vec<(String, BundleRole)> {
    let bundles = client.list_bundles(ListBundlesRequest {}).await.unwrap().into_inner().bundles;
    bundles.iter().map(|bundle| (bundle.version.clone(), bundle.role())).collect()
}

#[track_caller]
fn check(change: Option<BundleChange>, revision: u64, told: &str) -> u64 {
    let change = change.unwrap();
    assert_eq!((change.wanted.unwrap().revision, change.told.as_str()), (revision, told));
    change.generation
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_goes_through_every_role_and_back() {
    use BundleRole as Role;
    let world = World::with(&["1.0.0"]);
    TinyBundle::new("1.1.0").always("complex").write_under(&world.store());
    let server = Server::start(world).await;
    let mut client = server.client().await;
    let version = || "1.1.0".to_owned();
    let role = async |client: &mut _| {
        let roles: Vec<(String, Role)> = roles(client).await;
        roles.into_iter().find(|(name, _)| name == "1.1.0").unwrap().1
    };
    let first = server.decide(PROMPT).await;
    assert_eq!((first.tier.as_str(), first.bundle.as_str(), first.canary), ("simple", "0.1.0", false));
    assert_eq!(
        roles(&mut client).await[0],
        ("default".to_owned(), Role::Active),
        "what the configuration names is listed first"
    );
    assert_eq!(role(&mut client).await, Role::Available);

    let verified = client.verify_bundle(VerifyBundleRequest { version: version() }).await.unwrap();
    let verified = verified.into_inner().bundle.unwrap();
    assert_eq!(
        (verified.version.as_str(), verified.role(), verified.sha256.len()),
        ("1.1.0", Role::Available, 64)
    );
    assert_eq!(verified.problem, "");
    let own = client.verify_bundle(VerifyBundleRequest { version: "default".to_owned() }).await.unwrap();
    assert_eq!(own.into_inner().bundle.unwrap().role(), Role::Active);
    assert_eq!(wanted(&mut client).await.revision, 0, "nothing was asked for");
    assert_eq!(events(&mut client).await, [], "verifying is no change");

    let staged = client
        .stage_bundle(StageBundleRequest { version: version(), ..StageBundleRequest::default() })
        .await
        .unwrap();
    check(staged.into_inner().change, 1, "1.1.0 is staged");
    assert_eq!(role(&mut client).await, Role::Staged);
    assert_eq!(wanted(&mut client).await.staged, ["1.1.0"]);

    let mut asked =
        Request::new(ShadowBundleRequest { version: version(), ..ShadowBundleRequest::default() });
    asked.metadata_mut().insert(pointsman::server::USER_HEADER, "alice".parse().unwrap());
    let shadow = client.shadow_bundle(asked).await.unwrap().into_inner().change;
    check(shadow, 2, "1.1.0 scores beside the active bundle, and decides nothing");
    assert_eq!(role(&mut client).await, Role::Shadow);
    assert_eq!(server.decide(PROMPT).await.tier, "simple", "a shadow decides nothing");

    let canary = |reach| CanaryBundleRequest {
        version: version(),
        reach: Some(CanaryReach { reach: Some(reach) }),
        ..CanaryBundleRequest::default()
    };
    let answer = client.canary_bundle(canary(Reach::RequestShare(0.5))).await.unwrap().into_inner();
    check(answer.change, 3, "canary 1.1.0 at 50 % of requests");
    let bundles = client.list_bundles(ListBundlesRequest {}).await.unwrap().into_inner().bundles;
    let listed = bundles.into_iter().find(|bundle| bundle.version == "1.1.0").unwrap();
    assert_eq!((listed.role(), listed.reach.unwrap().reach), (Role::Canary, Some(Reach::RequestShare(0.5))));
    let mut seen = Vec::new();
    for _ in 0..64 {
        let decided = server.decide(PROMPT).await;
        seen.push((decided.canary, decided.tier, decided.bundle));
    }
    seen.sort();
    seen.dedup();
    let expected = [(false, "simple", "0.1.0"), (true, "complex", "1.1.0")]
        .map(|(canary, tier, bundle)| (canary, tier.to_owned(), bundle.to_owned()));
    assert_eq!(seen, expected, "each by its own, and by no mix of them");
    let answer = client.canary_bundle(canary(Reach::RequestShare(0.6))).await.unwrap().into_inner();
    check(answer.change, 4, "canary 1.1.0 at 60 % of requests, before 1.1.0 at 50 % of requests");

    let active = client
        .activate_bundle(ActivateBundleRequest { version: version(), ..ActivateBundleRequest::default() })
        .await
        .unwrap();
    let generation = check(active.into_inner().change, 5, "1.1.0 is active, default was");
    let decided = server.decide(PROMPT).await;
    assert_eq!((decided.tier.as_str(), decided.bundle.as_str(), decided.canary), ("complex", "1.1.0", false));
    assert_eq!(decided.generation, generation);
    let again = client
        .activate_bundle(ActivateBundleRequest { version: version(), ..ActivateBundleRequest::default() })
        .await
        .unwrap();
    let anew = check(again.into_inner().change, 6, "1.1.0 is active, loaded anew");
    assert!(anew > generation, "the same one anew is another generation");
    assert_eq!(wanted(&mut client).await.retired, ["default"]);

    let back = client.rollback_bundle(RollbackBundleRequest::default()).await.unwrap().into_inner().change;
    check(back, 7, "1.1.0 is taken back, default is active");
    let decided = server.decide(PROMPT).await;
    assert_eq!((decided.tier.as_str(), decided.bundle.as_str()), ("simple", "0.1.0"));
    assert_eq!(role(&mut client).await, Role::Staged);
    let forgotten = client
        .forget_bundle(ForgetBundleRequest { version: version(), ..ForgetBundleRequest::default() })
        .await
        .unwrap();
    check(forgotten.into_inner().change, 8, "1.1.0 is forgotten");
    assert_eq!(role(&mut client).await, Role::Available);

    let told = events(&mut client).await;
    use LiveEventKind as Kind;
    let expected = [
        Kind::Staged,
        Kind::ShadowStarted,
        Kind::CanaryStarted,
        Kind::CanaryMoved,
        Kind::Promoted,
        Kind::Activated,
        Kind::RolledBack,
        Kind::Forgotten,
    ];
    assert_eq!(kinds(&told), expected);
    let who: Vec<&str> = told.iter().rev().map(|event| event.who.as_str()).take(3).collect();
    assert_eq!(who, ["local", "local, says alice", "local"]);
    assert!(told.iter().rev().zip(1..).all(|(event, revision)| event.revision == revision), "{told:?}");
    let last = client.list_events(ListEventsRequest { events_max: 2 }).await.unwrap().into_inner().events;
    assert_eq!(last, told[..2], "the latest first");
    assert_eq!((told[1].from.as_str(), told[1].to.as_str()), ("1.1.0", "default"));
    let alone =
        client.canary_bundle(canary(Reach::ReplicaShare(0.5))).await.expect_err("there are no others");
    assert!(alone.message().contains("no other replica"), "{alone:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_alone_is_a_fleet_of_one() {
    let server = Server::start(World::with(&["1.0.0"])).await;
    let mut client = server.client().await;
    let fleet = client.get_fleet(GetFleetRequest {}).await.unwrap().into_inner();
    assert_eq!((fleet.wanted, fleet.replicas.len()), (None, 1), "nothing was ever asked for");
    let replica = &fleet.replicas[0];
    assert_eq!((replica.active.as_str(), replica.process_id), ("default", std::process::id()));
    assert!(replica.ready && replica.problem.is_empty() && replica.differences.is_empty(), "{replica:?}");
    assert_eq!((replica.config_sha256.len(), replica.revision), (64, 0));
    let asked = ShadowBundleRequest { version: "1.0.0".to_owned(), ..ShadowBundleRequest::default() };
    let change = client.shadow_bundle(asked).await.unwrap().into_inner().change.unwrap();
    let fleet = client.get_fleet(GetFleetRequest {}).await.unwrap().into_inner();
    assert_eq!(fleet.wanted.unwrap().shadow, "1.0.0");
    let replica = &fleet.replicas[0];
    assert_eq!((replica.shadow.as_str(), replica.revision), ("1.0.0", 1));
    assert_eq!(replica.generation, change.generation);
    assert!(replica.differences.is_empty(), "{replica:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_read_again_on_demand() {
    let mut server = Server::start(World::new()).await;
    let mut client = server.client().await;
    let before = server.decide(PROMPT).await;
    let reload = async |client: &mut AdminServiceClient<Channel>| {
        client.reload_config(ReloadConfigRequest::default()).await.unwrap().into_inner()
    };
    let same = reload(&mut client).await;
    assert_eq!((same.generation, same.changed.len(), same.needs_restart.len()), (before.generation, 0, 0));
    assert_eq!(events(&mut client).await, [], "what changes nothing is no event");
    let first = server.world.text();

    server.world.more = "[policy]\nquality = 0.61\n".to_owned();
    server.world.server = "drain_ms = 1999\n".to_owned();
    server.world.write();
    let changed = reload(&mut client).await;
    assert_eq!(changed.changed, ["policy"]);
    assert_eq!(changed.needs_restart, ["server.drain_ms"]);
    let decided = server.decide(PROMPT).await;
    assert_eq!(decided.generation, changed.generation);
    assert!(changed.generation > before.generation);
    let told = events(&mut client).await;
    assert_eq!(kinds(&told), [LiveEventKind::ConfigReloaded]);
    assert_eq!(told[0].why, "changed: policy; needs a restart: server.drain_ms");
    assert_eq!(told[0].who, "local");
    let named = |text: &str| {
        format!("{} sha256:{}", server.world.file().display(), &bundles::sha256(text.as_bytes())[..12])
    };
    let now = server.world.text();
    assert_eq!((&told[0].from, &told[0].to), (&named(&first), &named(&now)));

    // A broken one is named too: which text was refused can be found out later.
    fs::write(server.world.file(), "[policy\n").unwrap();
    client.reload_config(ReloadConfigRequest::default()).await.unwrap_err();
    let told = events(&mut client).await;
    assert_eq!(told[0].kind(), LiveEventKind::ConfigRefused);
    assert_eq!((&told[0].from, &told[0].to), (&named(&now), &named("[policy\n")));
    server.world.write();

    // Another bundle in the place that the configuration names.
    fs::remove_dir_all(server.world.path("own")).unwrap();
    TinyBundle::new("0.2.0").always("complex").write(&server.world.path("own"));
    let changed = reload(&mut client).await;
    assert_eq!(changed.changed, ["classifier.bundle"]);
    let decided = decide(&server.grpc, PROMPT).await;
    assert_eq!((decided.bundle.as_str(), decided.tier.as_str()), ("0.2.0", "complex"));
    assert_eq!(decided.generation, changed.generation);
    server.stop().await;
}
