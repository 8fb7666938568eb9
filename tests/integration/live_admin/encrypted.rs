//! TLS on the admin listener: whose certificate lets in, and under which name changes are recorded.

use std::fs;

use pointsman::server::proto::{
    ActivateBundleRequest, ListTargetsRequest, admin_service_client::AdminServiceClient,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tonic::{
    Code, Request,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};

use super::{
    super::cli::text,
    commands::run,
    world::{Server, World},
};

const TOKEN: &str = "0123456789abcdef01234567";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Returns a certificate and its key, PEM.
fn signed(by: &Authority, name: &str, places: &[&str]) -> (String, String) {
    let places: Vec<String> = places.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(places).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, by).unwrap().pem(), key.serialize_pem())
}

/// A server behind TLS, and what callers have.
struct Encrypted {
    server: Server,
    /// CA of the listener.
    own: String,
    /// Certificates and keys of two callers: one by the operators' CA, one by another.
    alice: (String, String),
    mallory: (String, String),
}

async fn start(tokens: bool) -> Encrypted {
    let mut world = World::with(&["1.0.0"]);
    let (own, operators, others) = (authority("own"), authority("operators"), authority("others"));
    let (cert, key) = signed(&own, "admin", &["127.0.0.1", "localhost"]);
    let alice = signed(&operators, "alice", &[]);
    let mallory = signed(&others, "alice", &[]);
    let files = [
        ("admin.pem", &cert),
        ("admin.key", &key),
        ("operators.pem", &operators.pem()),
        ("own.pem", &own.pem()),
        ("alice.pem", &alice.0),
        ("alice.key", &alice.1),
        ("token", &TOKEN.to_owned()),
    ];
    for (name, content) in files {
        fs::write(world.path(name), content).unwrap();
    }
    world.more = "[server.admin]\ntls = { cert = \"admin.pem\", key = \"admin.key\", client_ca = \
                  \"operators.pem\" }\n"
        .to_owned();
    if tokens {
        world.more += "tokens = [{ name = \"bob\", token = \"file:token\" }]\n";
    }
    Encrypted { server: Server::start(world).await, own: own.pem(), alice, mallory }
}

impl Encrypted {
    async fn channel(&self, identity: Option<&(String, String)>) -> Result<Channel, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.own));
        if let Some((cert, key)) = identity {
            tls = tls.identity(Identity::from_pem(cert, key));
        }
        let address = format!("https://{}", self.server.admin);
        Channel::from_shared(address).unwrap().tls_config(tls).unwrap().connect().await
    }

    /// Returns the code with which a caller is turned away; `None`: he is let in.
    async fn asks(&self, identity: Option<&(String, String)>, token: Option<&str>) -> Option<Code> {
        let Ok(channel) = self.channel(identity).await else { return Some(Code::Unavailable) };
        let mut asked = Request::new(ListTargetsRequest {});
        if let Some(token) = token {
            asked.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        AdminServiceClient::new(channel).list_targets(asked).await.err().map(|status| status.code())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_the_operators_ca_lets_in_and_names_who_it_is() {
    let world = start(false).await;
    assert_eq!(world.asks(Some(&world.alice), None).await, None);
    assert_eq!(world.asks(None, None).await, Some(Code::Unauthenticated));
    assert_eq!(world.asks(None, Some(TOKEN)).await, Some(Code::Unauthenticated), "there are no tokens");
    let turned_away = world.asks(Some(&world.mallory), None).await;
    // How a connection breaks is the client's to tell.
    assert!(turned_away.is_some_and(|code| code != Code::Unauthenticated), "{turned_away:?}");
    let plain = Channel::from_shared(format!("http://{}", world.server.admin)).unwrap();
    let plain = match plain.connect().await {
        Ok(channel) => AdminServiceClient::new(channel).list_targets(ListTargetsRequest {}).await.is_ok(),
        Err(_) => false,
    };
    assert!(!plain, "nothing is answered without encryption");

    let channel = world.channel(Some(&world.alice)).await.unwrap();
    let mut client = AdminServiceClient::new(channel);
    client
        .activate_bundle(ActivateBundleRequest {
            version: "1.0.0".to_owned(),
            ..ActivateBundleRequest::default()
        })
        .await
        .unwrap();
    let told = super::world::events(&mut client).await;
    assert_eq!(told[0].who, "certificate CN=alice");
    assert_eq!(world.server.decide("code").await.bundle, "1.0.0");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_both_are_configured_either_lets_in() {
    let world = start(true).await;
    assert_eq!(world.asks(None, Some(TOKEN)).await, None);
    assert_eq!(world.asks(Some(&world.alice), None).await, None);
    assert_eq!(world.asks(Some(&world.alice), Some("wrong")).await, None, "the certificate was proven");
    assert_eq!(world.asks(None, Some("wrong")).await, Some(Code::Unauthenticated));
    assert_eq!(world.asks(None, None).await, Some(Code::Unauthenticated));

    // The command line finds certificates and tokens where it is told.
    let at = |name: &str| world.server.world.path(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (at("own.pem"), at("alice.pem"), at("alice.key"));
    let admin = format!("https://{}", world.server.admin);
    let token = format!("file:{}", at("token"));
    let by_certificate = ["fleet", "--admin", &admin, "--ca", &ca, "--cert", &cert, "--key", &key];
    let by_token = ["fleet", "--admin", &admin, "--ca", &ca, "--token", &token];
    for arguments in [&by_certificate[..], &by_token] {
        let output = run(None, arguments).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    }
    let output = run(None, &["fleet", "--admin", &admin, "--ca", &ca]).await;
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("asks who you are") && said.contains("--token"), "{said}");
    let output = run(None, &["fleet", "--admin", &world.server.admin.to_string()]).await;
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("--ca"), "{said}");
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_not_accepted_is_told_with_its_remedy() {
    let world = start(false).await;
    let at = |name: &str| world.server.world.path(name).to_str().unwrap().to_owned();
    let admin = format!("https://{}", world.server.admin);
    // The configuration has the listener's certificate, which a CA has issued.
    let output = run(Some(&world.server.world.file()), &["fleet", "--admin", &admin]).await;
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("UnknownIssuer: name the CA"), "{said}");
    fs::write(at("mallory.pem"), &world.mallory.0).unwrap();
    fs::write(at("mallory.key"), &world.mallory.1).unwrap();
    let (ca, cert, key) = (at("own.pem"), at("mallory.pem"), at("mallory.key"));
    let arguments = ["fleet", "--admin", &admin, "--ca", &ca, "--cert", &cert, "--key", &key];
    let output = run(None, &arguments).await;
    let said = text(&output.stderr);
    // How a connection breaks differs: an alert that says why may come before its end, or not.
    assert!(output.status.code() == Some(1) && said.contains("--cert"), "{said}");
    assert!(!said.contains("transport error"), "{said}");
    world.server.stop().await;
}
