//! Health follows the classifier, reflection describes the services, HTTP shows metrics.

use std::sync::Arc;

use futures::StreamExt;
use pointsman::server::{ROUTER_SERVICE, proto::RouteRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{Behaviour, Scripted, TestServer, config, until};

async fn status(server: &TestServer, service: &str) -> ServingStatus {
    let mut health = HealthClient::new(server.channel.clone());
    let request = HealthCheckRequest { service: service.to_owned() };
    health.check(request).await.unwrap().into_inner().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_serving_once_the_classifier_is_ready() {
    let server = TestServer::start(config(""), None).await;
    for service in ["", ROUTER_SERVICE] {
        assert_eq!(status(&server, service).await, ServingStatus::NotServing);
    }
    // Routing works all the same.
    let request =
        RouteRequest { prompt: Some("compare these two offers".to_owned()), ..RouteRequest::default() };
    server.client().route(request).await.unwrap();
    server.live.set_classifier(Scripted::new(Behaviour::Answer([0.1, 0.2, 0.3]))).unwrap();
    for service in ["", ROUTER_SERVICE] {
        until("SERVING", async || status(&server, service).await == ServingStatus::Serving).await;
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_classifier_configured_the_server_is_ready() {
    let server = TestServer::start(config("[classifier]\nenabled = false"), None).await;
    until("SERVING", async || status(&server, "").await == ServingStatus::Serving).await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_the_services_in_both_versions() {
    let server = TestServer::start(config(""), None).await;
    let wanted = [ROUTER_SERVICE, "grpc.health.v1.Health"];
    {
        use tonic_reflection::pb::v1::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new(server.channel.clone());
        let mut answers =
            client.server_reflection_info(futures::stream::iter([request])).await.unwrap().into_inner();
        let Some(MessageResponse::ListServicesResponse(list)) =
            answers.next().await.unwrap().unwrap().message_response
        else {
            panic!("no list")
        };
        for service in wanted {
            assert!(list.service.iter().any(|listed| listed.name == service), "{list:?}");
        }
    }
    {
        use tonic_reflection::pb::v1alpha::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::FileContainingSymbol(
                "pointsman.v1.RouteRequest".to_owned(),
            )),
        };
        let mut client = ServerReflectionClient::new(server.channel.clone());
        let mut answers =
            client.server_reflection_info(futures::stream::iter([request])).await.unwrap().into_inner();
        let answer = answers.next().await.unwrap().unwrap().message_response;
        assert!(matches!(answer, Some(MessageResponse::FileDescriptorResponse(_))), "{answer:?}");
    }
    server.stop().await.unwrap();
}

async fn get(server: &TestServer, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(server.http).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn http_tells_readiness_and_metrics() {
    let server = TestServer::start(config(""), None).await;
    assert!(get(&server, "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get(&server, "/readyz").await.starts_with("HTTP/1.1 503"));
    server.live.set_classifier(Scripted::new(Behaviour::Answer([0.1, 0.2, 0.3])) as Arc<_>).unwrap();
    assert!(get(&server, "/readyz").await.starts_with("HTTP/1.1 200"));
    let request = RouteRequest { prompt: Some("thanks!".to_owned()), ..RouteRequest::default() };
    server.client().route(request).await.unwrap();
    let metrics = get(&server, "/metrics").await;
    assert!(metrics.contains("pointsman_decisions_total{tier=\"simple\",source=\"rule\"}"), "{metrics}");
    assert!(metrics.contains("pointsman_decision_seconds_bucket"), "{metrics}");
    server.stop().await.unwrap();
}
