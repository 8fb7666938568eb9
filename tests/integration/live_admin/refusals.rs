//! What calls of the admin service are refused with: code, reason, what is wrong with the bundle, and fields.

use std::fs;

use pointsman::server::proto::{
    ActivateBundleRequest, CanaryBundleRequest, CanaryReach, ForgetBundleRequest, GetFleetRequest,
    ListBundlesRequest, ListEventsRequest, LiveEventKind, ReloadConfigRequest, RollbackBundleRequest,
    ShadowBundleRequest, StageBundleRequest, VerifyBundleRequest, admin_service_client::AdminServiceClient,
    canary_reach::Reach,
};
use tonic::{Code, Status, transport::Channel};

use super::world::{Refused, Server, World, events, kinds, wanted};
use crate::support::{
    TestServer, config,
    onnx::{Fault, TinyBundle},
};

/// One call.
#[derive(Debug, Clone, Copy)]
pub enum Ask<'a> {
    List,
    Fleet,
    Events(u32),
    Verify(&'a str),
    Stage(&'a str),
    Shadow(&'a str),
    Canary(&'a str, Option<Reach>),
    Activate(&'a str),
    Rollback,
    Forget(&'a str),
    Reload,
}

/// Makes the call; only whether it went well is told.
pub async fn ask(client: &mut AdminServiceClient<Channel>, asked: Ask<'_>) -> Result<(), Status> {
    let version = |version: &str| version.to_owned();
    match asked {
        Ask::List => client.list_bundles(ListBundlesRequest {}).await.map(drop),
        Ask::Fleet => client.get_fleet(GetFleetRequest {}).await.map(drop),
        Ask::Events(events_max) => client.list_events(ListEventsRequest { events_max }).await.map(drop),
        Ask::Verify(name) => {
            client.verify_bundle(VerifyBundleRequest { version: version(name) }).await.map(drop)
        }
        Ask::Stage(name) => client
            .stage_bundle(StageBundleRequest { version: version(name), ..StageBundleRequest::default() })
            .await
            .map(drop),
        Ask::Shadow(name) => client
            .shadow_bundle(ShadowBundleRequest { version: version(name), ..ShadowBundleRequest::default() })
            .await
            .map(drop),
        Ask::Canary(name, reach) => {
            let reach = reach.map(|reach| CanaryReach { reach: Some(reach) });
            client
                .canary_bundle(CanaryBundleRequest {
                    version: version(name),
                    reach,
                    ..CanaryBundleRequest::default()
                })
                .await
                .map(drop)
        }
        Ask::Activate(name) => client
            .activate_bundle(ActivateBundleRequest {
                version: version(name),
                ..ActivateBundleRequest::default()
            })
            .await
            .map(drop),
        Ask::Rollback => client.rollback_bundle(RollbackBundleRequest::default()).await.map(drop),
        Ask::Forget(name) => client
            .forget_bundle(ForgetBundleRequest { version: version(name), ..ForgetBundleRequest::default() })
            .await
            .map(drop),
        Ask::Reload => client.reload_config(ReloadConfigRequest::default()).await.map(drop),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_with_its_reason() {
    use Code::{FailedPrecondition, InvalidArgument, NotFound};
    let server = Server::start(World::with(&["1.0.0"])).await;
    let mut client = server.client().await;
    let long = "1".repeat(200);
    let half = Some(Reach::RequestShare(0.5));
    let cases = [
        (Ask::Stage(""), InvalidArgument, "", "version: is missing"),
        (Ask::Stage(&long), InvalidArgument, "", "version: is longer than"),
        (Ask::Verify(""), InvalidArgument, "", "version: is missing"),
        (Ask::Shadow(""), InvalidArgument, "", "version: is missing"),
        (Ask::Activate(""), InvalidArgument, "", "version: is missing"),
        (Ask::Forget(""), InvalidArgument, "", "version: is missing"),
        (Ask::Canary("", half), InvalidArgument, "", "version: is missing"),
        (Ask::Stage("../own"), InvalidArgument, "VERSION", "a version begins with a letter or a digit"),
        (Ask::Activate("a/b"), InvalidArgument, "VERSION", "only letters, digits"),
        (Ask::Verify("9.9.9"), NotFound, "UNKNOWN_BUNDLE", "bundle 9.9.9: not in "),
        (Ask::Stage("9.9.9"), NotFound, "UNKNOWN_BUNDLE", "bundle 9.9.9: not in "),
        (Ask::Shadow("9.9.9"), NotFound, "UNKNOWN_BUNDLE", "bundle 9.9.9: not in "),
        (Ask::Canary("9.9.9", half), NotFound, "UNKNOWN_BUNDLE", "bundle 9.9.9: not in "),
        (Ask::Activate("9.9.9"), NotFound, "UNKNOWN_BUNDLE", "bundle 9.9.9: not in "),
        (Ask::Forget("9.9.9"), NotFound, "UNKNOWN_BUNDLE", "neither staged nor retired"),
        (Ask::Forget("1.0.0"), NotFound, "UNKNOWN_BUNDLE", "neither staged nor retired"),
        (Ask::Stage("default"), FailedPrecondition, "ROLE", "never staged"),
        (Ask::Forget("default"), FailedPrecondition, "ROLE", "never forgotten"),
        (Ask::Shadow("default"), FailedPrecondition, "ROLE", "cannot be its own shadow"),
        (Ask::Canary("default", half), FailedPrecondition, "ROLE", "cannot be its own canary"),
        (Ask::Canary("1.0.0", None), InvalidArgument, "", "reach: is missing"),
        (Ask::Canary("1.0.0", Some(Reach::RequestShare(0.0))), InvalidArgument, "", "reach: is not above 0"),
        (Ask::Canary("1.0.0", Some(Reach::RequestShare(1.0))), InvalidArgument, "", "reach: is not above 0"),
        (Ask::Canary("1.0.0", Some(Reach::ReplicaShare(-1.0))), InvalidArgument, "", "reach: is not above 0"),
        (
            Ask::Canary("1.0.0", Some(Reach::ReplicaShare(f64::NAN))),
            InvalidArgument,
            "",
            "reach: is not above 0",
        ),
        (Ask::Rollback, FailedPrecondition, "NOTHING_TO_ROLL_BACK", "nothing to roll back"),
        (Ask::Events(1001), InvalidArgument, "", "events_max: is above 1,000"),
    ];
    let before = server.decide("code").await;
    for (asked, code, reason, because) in cases {
        let refused = Refused::from(ask(&mut client, asked).await.expect_err(because));
        assert_eq!((refused.code, refused.reason.as_str()), (code, reason), "{asked:?}: {refused:?}");
        assert!(refused.message.contains(because), "{asked:?}: {refused:?}");
        if reason.is_empty() {
            let (field, _) = because.split_once(':').unwrap();
            assert_eq!(refused.fields.len(), 1, "{asked:?}: {refused:?}");
            assert_eq!(refused.fields[0].0, field, "{asked:?}");
        }
    }
    assert_eq!(server.decide("code").await, before, "what served goes on");
    assert_eq!(wanted(&mut client).await.revision, 0, "nothing became of any of them");
    let told = events(&mut client).await;
    assert!(kinds(&told).iter().all(|&kind| kind == LiveEventKind::Refused), "{told:?}");
    // Which of them is in use says what has to be done first.
    ask(&mut client, Ask::Canary("1.0.0", half)).await.unwrap();
    for (asked, because) in [
        (Ask::Forget("1.0.0"), "bundle 1.0.0 is the canary: roll it back"),
        (Ask::Stage("1.0.0"), "as good as staged"),
    ] {
        let refused = Refused::from(ask(&mut client, asked).await.expect_err(because));
        assert_eq!((refused.code, refused.reason.as_str()), (FailedPrecondition, "ROLE"), "{refused:?}");
        assert!(refused.message.contains(because), "{refused:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_deployer_says_that_nothing_can_be_changed() {
    let server = TestServer::start(config("[classifier]\nenabled = false"), None).await;
    let mut client = AdminServiceClient::new(server.admin_channel().await);
    for asked in [Ask::List, Ask::Fleet, Ask::Events(1), Ask::Activate("1"), Ask::Rollback, Ask::Reload] {
        let refused = Refused::from(ask(&mut client, asked).await.expect_err("it cannot"));
        assert_eq!(refused.code, Code::FailedPrecondition, "{asked:?}: {refused:?}");
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_configuration_is_refused_with_all_its_problems() {
    let server = Server::start(World::new()).await;
    let mut client = server.client().await;
    let before = server.decide("code").await;
    let own = server.world.text();
    let mut reload = async |text: &str| {
        fs::write(server.world.file(), text).unwrap();
        Refused::from(ask(&mut client, Ask::Reload).await.expect_err(text))
    };
    let broken = format!("{own}[policy]\nquality = 7\nqality = 1\n[limits]\nmessages_max = \"many\"\n");
    let refused = reload(&broken).await;
    assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "CONFIG"), "{refused:?}");
    let fields: Vec<&str> = refused.fields.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(fields.len(), 3, "{refused:?}");
    for expected in ["policy.quality", "policy.qality", "limits.messages_max"] {
        assert!(fields.contains(&expected), "{fields:?}");
    }
    assert!(refused.fields.iter().all(|(_, why)| why.starts_with("line ")), "{refused:?}");
    assert!(refused.message.contains("3 problems"), "{refused:?}");

    let torn = reload("[policy\n").await;
    assert_eq!((torn.reason.as_str(), torn.fields.len()), ("CONFIG", 1), "{torn:?}");
    fs::remove_file(server.world.file()).unwrap();
    let gone = Refused::from(ask(&mut client, Ask::Reload).await.expect_err("there is no file"));
    assert_eq!((gone.code, gone.reason.as_str()), (Code::FailedPrecondition, "CONFIG"), "{gone:?}");
    assert!(gone.message.contains("pointsman.toml"), "{gone:?}");
    assert_eq!(server.decide("code").await, before, "the old one serves on");
    let told = events(&mut client).await;
    assert_eq!(kinds(&told), [LiveEventKind::ConfigRefused; 3]);
    assert!(told[2].why.contains("policy.qality") && told[2].why.contains("limits.messages_max"), "{told:?}");
    assert_eq!(told[2].who, "local");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_names_a_bad_bundle_or_does_not_fit_is_refused() {
    let mut server = Server::start(World::new()).await;
    let mut client = server.client().await;
    let before = server.decide("code").await;
    let own = server.world.path("own");
    fs::rename(&own, server.world.path("aside")).unwrap();
    TinyBundle::new("0.2.0").fault(Fault::ScoresNotANumber).write(&own);
    let refused = Refused::from(ask(&mut client, Ask::Reload).await.expect_err("NaN"));
    let got = (refused.code, refused.reason.as_str(), refused.unfit.as_str());
    assert_eq!(got, (Code::FailedPrecondition, "UNFIT", "not_finite"), "{refused:?}");
    assert_eq!(server.decide("code").await, before);

    fs::remove_dir_all(&own).unwrap();
    fs::rename(server.world.path("aside"), &own).unwrap();
    // A rule of the new configuration names what the bundle does not know.
    server.world.top =
        "rules = [{ id = \"gossip\", any = [\"gossip\"], intent = \"gossip\", tier = \"simple\" }]\n"
            .to_owned();
    server.world.write();
    let refused = Refused::from(ask(&mut client, Ask::Reload).await.expect_err("an intent that is none"));
    assert_eq!(refused.code, Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message.contains("gossip"), "{refused:?}");
    assert_eq!(server.decide("code").await, before);
    let told = events(&mut client).await;
    assert_eq!(kinds(&told), [LiveEventKind::ConfigRefused; 2]);
    server.stop().await;
}
