//! Tokens of the admin listener: who has none learns nothing and changes nothing, and who has one is recorded.

use std::{fs, time::Instant};

use pointsman::server::{
    ADMIN_SERVICE, USER_HEADER,
    proto::{ActivateBundleRequest, ListTargetsRequest, admin_service_client::AdminServiceClient},
};
use tonic::{Code, Request, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use super::world::{Server, World, events, wanted};

const ALICE: &str = "0123456789abcdef-of-alice";
const BOB: &str = "fedcba9876543210-of-bobby";

/// With a token for each of two people.
fn world() -> World {
    let mut world = World::with(&["1.0.0"]);
    for (name, token) in [("alice", ALICE), ("bob", BOB)] {
        fs::write(world.path(name), format!("{token}\n")).unwrap();
    }
    // Paths are beside the configuration.
    world.more =
        "[server.admin]\ntokens = [{ name = \"alice\", token = \"file:alice\" }, { name = \"bob\", token = \
                  \"file:bob\" }]\n"
            .to_owned();
    world
}

fn with<T>(message: T, headers: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in headers {
        request.metadata_mut().append(*name, value.parse().unwrap());
    }
    request
}

async fn list(channel: Channel, headers: &[(&'static str, &str)]) -> Result<(), Status> {
    let mut client = AdminServiceClient::new(channel);
    client.list_targets(with(ListTargetsRequest {}, headers)).await.map(drop)
}

async fn reflect(channel: Channel, headers: &[(&'static str, &str)]) -> Result<(), Status> {
    let asked = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    let asked = with(futures::stream::iter([asked]), headers);
    client.server_reflection_info(asked).await?.into_inner().message().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_right_token_lets_in_also_on_this_machine() {
    let server = Server::start(world()).await;
    let channel = server.admin_channel().await;
    let right = format!("Bearer {ALICE}");
    let almost = format!("Bearer {}", &ALICE[..ALICE.len() - 1]);
    let basic = format!("Basic {ALICE}");
    let cases: [(&[(&'static str, &str)], bool); 9] = [
        (&[], false),
        (&[(USER_HEADER, "alice")], false),
        (&[("authorization", "Bearer")], false),
        (&[("authorization", &almost)], false),
        (&[("authorization", &basic)], false),
        (&[("authorization", ALICE)], false),
        (&[("authorization", &right), ("authorization", &right)], false),
        (&[("authorization", &right)], true),
        (&[("authorization", &right), (USER_HEADER, "bob")], true),
    ];
    let started = Instant::now();
    // At once: each refusal takes its time.
    let calls = cases.iter().map(|(headers, good)| {
        let channel = &channel;
        async move {
            for answer in [list(channel.clone(), headers).await, reflect(channel.clone(), headers).await] {
                match answer {
                    Ok(()) => assert!(good, "{headers:?} got in"),
                    Err(status) => {
                        assert!(!good, "{headers:?}: {status:?}");
                        assert_eq!(status.code(), Code::Unauthenticated, "{headers:?}: {status:?}");
                        assert!(!status.message().contains(ALICE), "{status:?}");
                    }
                }
            }
        }
    });
    futures::future::join_all(calls).await;
    assert!(started.elapsed().as_millis() >= 1000, "who tries tokens has to wait");

    // Nobody is asked on the other listeners, nor by probes.
    let probe = HealthCheckRequest { service: ADMIN_SERVICE.to_owned() };
    HealthClient::new(channel.clone()).check(probe).await.unwrap();
    assert_eq!(server.decide("code").await.tier, "simple");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for path in ["/metrics", "/healthz"] {
        let answer = http.get(format!("http://{}{path}", server.http)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_and_not_the_caller_says_who_changes_something() {
    let server = Server::start(world()).await;
    let channel = server.admin_channel().await;
    let activate = async |headers: &[(&'static str, &str)]| {
        let asked = with(
            ActivateBundleRequest { version: "1.0.0".to_owned(), ..ActivateBundleRequest::default() },
            headers,
        );
        AdminServiceClient::new(channel.clone()).activate_bundle(asked).await.map(drop)
    };
    activate(&[]).await.expect_err("nobody");
    assert_eq!(server.decide("code").await.bundle, "0.1.0");
    let (alice, bob) = (format!("Bearer {ALICE}"), format!("Bearer {BOB}"));
    activate(&[("authorization", &bob), (USER_HEADER, "alice")]).await.unwrap();
    activate(&[("authorization", &alice)]).await.unwrap();
    let bearer: tonic::metadata::MetadataValue<_> = alice.parse().unwrap();
    let mut client = AdminServiceClient::new(channel.clone());
    let asked = with(pointsman::server::proto::ListEventsRequest::default(), &[("authorization", &alice)]);
    let told = client.list_events(asked).await.unwrap().into_inner().events;
    let who: Vec<&str> = told.iter().map(|event| event.who.as_str()).collect();
    assert_eq!(who, ["alice", "bob"], "and a caller who was not let in is no event");
    assert!(!format!("{told:?}").contains(&bearer.to_str().unwrap()[7..]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tokens_everybody_on_this_machine_may() {
    let server = Server::start(World::with(&["1.0.0"])).await;
    let channel = server.admin_channel().await;
    list(channel.clone(), &[]).await.unwrap();
    list(channel.clone(), &[("authorization", "Bearer whatever")]).await.unwrap();
    reflect(channel, &[]).await.unwrap();
    let mut client = server.client().await;
    assert_eq!(wanted(&mut client).await.revision, 0);
    assert_eq!(events(&mut client).await, []);
    server.stop().await;
}
