//! AdminService on its own listener: targets with their breakers, spend, health and reflection.

use pointsman::server::{
    ADMIN_SERVICE, ROUTER_SERVICE,
    proto::{
        CompleteRequest, GetSpendRequest, ListTargetsRequest, TargetReport, TargetState,
        admin_service_client::AdminServiceClient,
    },
};
use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{TestServer, config, upstream::refused_url};

async fn client(server: &TestServer) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(server.admin_channel().await)
}

async fn targets(server: &TestServer) -> Vec<TargetReport> {
    client(server).await.list_targets(ListTargetsRequest {}).await.unwrap().into_inner().targets
}

fn ask(text: &str) -> CompleteRequest {
    CompleteRequest { prompt: Some(text.to_owned()), ..CompleteRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_target_is_listed_with_tiers_prices_and_keys() {
    let server = TestServer::start(config("[classifier]\nenabled = false"), None).await;
    let reports = targets(&server).await;
    let config = server.live.router().config().clone();
    assert_eq!(reports.len(), config.targets.len());
    let first = &reports[0];
    assert_eq!(first.target.as_ref().unwrap().id, "gpt-6-luna");
    assert_eq!(first.tiers, ["simple"]);
    assert_eq!(first.prices.as_ref().unwrap().input_usd_per_mtok, 0.10);
    assert_eq!((first.state(), first.calls, first.open_ms), (TargetState::Closed, 0, None));
    let keys = first.keys.unwrap();
    assert_eq!(keys.live + keys.resting + keys.dead, 1);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_fails_is_seen_to_open() {
    let nowhere = refused_url();
    let place = format!(
        "rules = []\n[[providers]]\nname = \"here\"\nkind = \"openai_compatible\"\nbase_url = \"{nowhere}\"\n\
         [[targets]]\nid = \"a\"\nprovider = \"here\"\nmodel = \"m\"\ninput_usd_per_mtok = 1.0\n\
         output_usd_per_mtok = 1.0\nprice_date = \"2026-01-01\"\ncontext_tokens = 10000\n\
         output_tokens_max = 100\noutput_tokens_typical = 10\n\
         [[targets]]\nid = \"b\"\nprovider = \"nobody\"\nmodel = \"m\"\ninput_usd_per_mtok = 1.0\n\
         output_usd_per_mtok = 1.0\nprice_date = \"2026-01-01\"\ncontext_tokens = 10000\n\
         output_tokens_max = 100\noutput_tokens_typical = 10\n\
         [[tiers]]\nname = \"only\"\ntargets = [\"a\", \"b\"]\n[policy]\ndefault_tier = \"only\"\n\
         [classifier]\nenabled = false\n[completion]\nretries_max = 0\n[completion.breaker]\nfailures = 2\n"
    );
    let server = TestServer::start(config(&place), None).await;
    for _ in 0..2 {
        let status = server.client().complete(ask("x")).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
    }
    let reports = targets(&server).await;
    assert_eq!(reports[0].state(), TargetState::Open);
    assert!(reports[0].open_ms.unwrap() > 0);
    assert_eq!(reports[0].keys, None);
    assert_eq!((reports[1].state(), reports[1].calls), (TargetState::Unconfigured, 0));
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn spend_and_budgets_are_told() {
    let sections = "[classifier]\nenabled = false\n\
                    [[budgets]]\nname = \"all\"\nday_usd = 5.0\nat_limit = \"refuse\"\n";
    let server = TestServer::start(config(sections).with_demo_providers(), None).await;
    let summary = server.client().complete(ask("thanks!")).await.unwrap().into_inner().summary.unwrap();
    let spend = client(&server).await.get_spend(GetSpendRequest {}).await.unwrap().into_inner();
    let today = spend.today.unwrap();
    assert!(today.spent_usd > 0.0 && (today.spent_usd - summary.cost_usd).abs() < 1e-12, "{spend:?}");
    assert!((today.saved_usd - (today.baseline_usd - today.spent_usd)).abs() < 1e-12);
    let budget = &spend.budgets[0];
    assert_eq!((budget.name.as_str(), budget.scope.as_str(), budget.at_limit), ("all", "everybody", false));
    assert_eq!((budget.day_limit_usd, budget.month_limit_usd), (Some(5.0), None));
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_listener_has_its_own_service() {
    let server = TestServer::start(config("[classifier]\nenabled = false"), None).await;
    let mut elsewhere = AdminServiceClient::new(server.channel.clone());
    let status = elsewhere.list_targets(ListTargetsRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented, "callers do not see operators' figures");

    let mut health = HealthClient::new(server.admin_channel().await);
    let mut check = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        health.check(request).await.map(|answer| answer.into_inner().status())
    };
    for service in ["", ADMIN_SERVICE] {
        assert_eq!(check(service).await.unwrap(), ServingStatus::Serving);
    }
    assert_eq!(check(ROUTER_SERVICE).await.unwrap_err().code(), Code::NotFound);

    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    for (channel, service) in
        [(server.channel.clone(), ROUTER_SERVICE), (server.admin_channel().await, ADMIN_SERVICE)]
    {
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut reflection = ServerReflectionClient::new(channel);
        let answers = reflection.server_reflection_info(futures::stream::iter([request])).await;
        let answer = answers.unwrap().into_inner().message().await.unwrap().unwrap();
        let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
            panic!("no list")
        };
        let ours: Vec<&str> = list
            .service
            .iter()
            .map(|listed| listed.name.as_str())
            .filter(|name| name.starts_with("pointsman"))
            .collect();
        assert_eq!(ours, [service]);
    }
    server.stop().await.unwrap();
}
