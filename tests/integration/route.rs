//! Route and RouteBatch against the real classifier: decisions, limits, and every kind of bad input.

use std::{sync::Arc, time::Instant};

use pointsman::{
    prompt::Draft,
    routing::{Routed, Rung, admit::admit},
    server::proto::{
        Context, Decision, Message, Preferences, RouteBatchRequest, RouteRequest, RuleEffect, Shape, Source,
        TokenCountSource, route_result::Outcome,
    },
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::support::{Behaviour, PATIENCE, Scripted, TestServer, config, real_classifier};

fn ask(text: impl Into<String>) -> RouteRequest {
    RouteRequest { prompt: Some(text.into()), ..RouteRequest::default() }
}

fn message(role: &str, content: &str) -> Message {
    Message { role: role.to_owned(), content: content.to_owned() }
}

async fn server() -> TestServer {
    // However slow the machine: these tests are about scores.
    TestServer::start(config("[classifier]\nwait_ms_max = 60000"), Some(real_classifier())).await
}

async fn decide(server: &TestServer, request: RouteRequest) -> Result<Decision, Status> {
    Ok(server.client().route(request).await?.into_inner().decision.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_complete() {
    let server = server().await;
    let request = RouteRequest {
        messages: vec![
            message("developer", "You help engineers."),
            message("user", "Our billing service drops events under load."),
            message("assistant", "Shall I draft a migration plan with trade-offs?"),
            message("user", "yes, do it, and compare three options"),
        ],
        explain: true,
        ..RouteRequest::default()
    };
    let decision = decide(&server, request).await.unwrap();
    assert_eq!(decision.source(), Source::Classifier, "{decision:?}");
    let id = uuid::Uuid::parse_str(&decision.decision_id).unwrap();
    assert_eq!(id.get_version_num(), 7);
    let tiers: Vec<&str> = decision.tier_scores.iter().map(|score| score.tier.as_str()).collect();
    assert_eq!(tiers, ["simple", "moderate", "complex", "reasoning"]);
    assert!(decision.tier_scores.windows(2).all(|pair| pair[0].sufficiency <= pair[1].sufficiency));
    assert_eq!(decision.tier_scores[3].sufficiency, 1.0);
    let target = decision.target.as_ref().unwrap();
    assert!(!target.id.is_empty() && !target.provider.is_empty() && !target.model.is_empty());
    assert!(
        !decision.failover.is_empty() && !decision.intent.is_empty() && !decision.bundle_version.is_empty()
    );
    assert!((0.0..=1.0).contains(&decision.intent_confidence) && (0.0..=1.0).contains(&decision.confidence));
    assert!(decision.reason.contains(&target.id), "{}", decision.reason);
    assert!(decision.cost_usd_estimate > 0.0 && decision.baseline_cost_usd > 0.0);
    assert_eq!(decision.prompt_tokens_source(), TokenCountSource::Tokenizer);
    assert!((30..80).contains(&decision.prompt_tokens), "{}", decision.prompt_tokens);
    assert!(decision.timings.unwrap().inference_us > 0);
    assert_eq!(decision.config_generation, server.live.serving().generation);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_decide_without_the_classifier() {
    let server = server().await;
    let decision = decide(&server, RouteRequest { explain: true, ..ask("thanks!") }).await.unwrap();
    assert_eq!((decision.source(), decision.tier.as_str()), (Source::Rule, "simple"));
    assert_eq!(decision.rule, "thanks");
    assert_eq!(decision.rule_matches[0].effect(), RuleEffect::Decides);
    assert_eq!(decision.timings.unwrap().inference_us, 0);
    assert!(decision.cost_usd_estimate < decision.baseline_cost_usd);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_limits_and_figures_count() {
    let server = server().await;
    let request = RouteRequest {
        shape: Some(Shape { prompt_tokens: Some(1234), ..Shape::default() }),
        preferences: Some(Preferences {
            tier_min: "moderate".to_owned(),
            tier_max: "moderate".to_owned(),
            ..Preferences::default()
        }),
        ..ask("prove that the scheduler is starvation-free")
    };
    let decision = decide(&server, request).await.unwrap();
    assert_eq!((decision.source(), decision.tier.as_str()), (Source::Override, "moderate"));
    assert_eq!((decision.prompt_tokens, decision.prompt_tokens_source()), (1234, TokenCountSource::Caller));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_prompt_is_read_at_both_ends() {
    let server = server().await;
    let long = "The quarterly report covers every region in detail. ".repeat(6000);
    let decision = decide(&server, ask(long)).await.unwrap();
    assert!(decision.truncated);
    assert!(decision.prompt_tokens > 40_000, "{}", decision.prompt_tokens);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_keeps_the_tier_it_has_needed() {
    let strong = Scripted::new(Behaviour::Answer([0.1, 0.2, 0.9]));
    let server = TestServer::start(config(""), Some(strong)).await;
    let session = |text: &str| RouteRequest {
        context: Some(Context { session_id: "s-1".to_owned(), ..Context::default() }),
        ..ask(text)
    };
    assert_eq!(decide(&server, session("design it")).await.unwrap().tier, "complex");
    let later = decide(&server, session("thanks!")).await.unwrap();
    assert_eq!((later.source(), later.tier.as_str()), (Source::Session, "complex"));
    assert_eq!(decide(&server, ask("thanks!")).await.unwrap().tier, "simple");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_says_which_target_it_leaves() {
    let server = TestServer::start(config(""), Some(Scripted::new(Behaviour::Answer([0.1, 0.2, 0.9])))).await;
    let session = |text: &str| RouteRequest {
        context: Some(Context { session_id: "s-1".to_owned(), ..Context::default() }),
        ..ask(text)
    };
    let first = decide(&server, session("thanks!")).await.unwrap();
    assert_eq!(first.switched_from, None);
    let second = decide(&server, session("design it")).await.unwrap();
    assert_eq!((second.tier.as_str(), &second.switched_from), ("complex", &first.target));
    assert_eq!(decide(&server, session("thanks!")).await.unwrap().switched_from, None);
    assert_eq!(decide(&server, ask("thanks!")).await.unwrap().switched_from, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_leaves_it_to_the_caller_to_say_who_answered() {
    let mut draft = Draft::from_text("design it");
    draft.context.session_id = "s-1".to_owned();
    for floor in ["keep", "off"] {
        let config = config(&format!("[sessions]\nfloor = \"{floor}\"\n"));
        let strong = Scripted::new(Behaviour::Answer([0.1, 0.2, 0.9]));
        let server = TestServer::start(config, Some(strong)).await;
        let router = server.live.router();
        let prompt = admit(draft.clone(), router.config()).unwrap();
        let plan = async || router.plan(uuid::Uuid::now_v7(), &prompt, None).await.unwrap();
        let Routed { decision, ladder } = plan().await;
        let tiers: Vec<&str> = ladder.iter().map(|rung| &*router.config().tier(rung.tier).name).collect();
        assert_eq!(tiers, ["complex", "reasoning"]);
        let targets = &ladder[0].targets;
        assert_eq!(router.config().target(targets[0]).id, decision.target.id);
        assert_eq!(decision.failover.len() + 1, targets.len());
        assert_eq!(plan().await.decision.target, decision.target);

        // The second one took over, and is kept from now on; the first is one that may take over.
        router.sessions().served(
            &prompt.context,
            &router.config().target(targets[1]).id,
            decision.prompt_tokens,
        );
        let later = plan().await;
        assert_eq!(later.decision.target, decision.failover[0]);
        assert_eq!(later.ladder[0].targets[..2], [targets[1], targets[0]]);
        assert_eq!(later.decision.switched_from, None);

        // A weak answer: the tier above was needed.
        let Rung { tier, targets: stronger } = &ladder[1];
        router.sessions().needed(&prompt.context, *tier, &router.config().tiers);
        router.sessions().served(
            &prompt.context,
            &router.config().target(stronger[0]).id,
            decision.prompt_tokens,
        );
        let last = plan().await;
        let (kept, left) = if floor == "keep" { ("reasoning", false) } else { ("complex", true) };
        assert_eq!((&*last.decision.tier, last.decision.switched_from.is_some()), (kept, left));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_need_not_keep_its_target() {
    let sections = "[sessions]\nsticky = false\n";
    let server =
        TestServer::start(config(sections), Some(Scripted::new(Behaviour::Answer([0.1, 0.2, 0.9])))).await;
    let router = server.live.router();
    let mut draft = Draft::from_text("design it");
    draft.context.session_id = "s-1".to_owned();
    let prompt = admit(draft, router.config()).unwrap();
    let Routed { decision, ladder } = router.plan(uuid::Uuid::now_v7(), &prompt, None).await.unwrap();
    router.sessions().served(&prompt.context, &router.config().target(ladder[0].targets[1]).id, 100);
    assert_eq!(router.route(&prompt, None).await.unwrap().target, decision.target);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_refuses_calls_is_passed_over_while_it_does() {
    let server = TestServer::start(config(""), Some(Scripted::new(Behaviour::Answer([0.1, 0.2, 0.9])))).await;
    let usual = decide(&server, ask("thanks!")).await.unwrap();
    let config = Arc::clone(server.live.router().config());
    let target = config.target_named(&usual.target.as_ref().unwrap().id).unwrap();
    let health = Arc::clone(server.live.serving().completer.health());
    health.refuse_until(target, Instant::now() + PATIENCE * 100);
    let other = decide(&server, ask("thanks!")).await.unwrap();
    assert_eq!((other.tier, &other.target.unwrap()), (usual.tier.clone(), &usual.failover[0]));
    assert!(other.reason.contains("the breaker of"), "{}", other.reason);
    health.reopen(target);
    assert_eq!(decide(&server, ask("thanks!")).await.unwrap().target, usual.target);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_fixes_a_tier_or_a_target() {
    let server = TestServer::start(config(""), Some(Scripted::new(Behaviour::Answer([0.1, 0.2, 0.9])))).await;
    let model = |model: &str| RouteRequest { model: Some(model.to_owned()), ..ask("thanks!") };
    for (name, source, tier) in [
        ("", Source::Rule, "simple"),
        ("auto", Source::Rule, "simple"),
        ("tier:complex", Source::Override, "complex"),
        ("gpt-6.2-astra", Source::Override, "reasoning"),
    ] {
        let decision = decide(&server, model(name)).await.unwrap();
        assert_eq!((decision.source(), decision.tier.as_str()), (source, tier), "{}", decision.reason);
        assert!(tier != "reasoning" || decision.failover.is_empty(), "{decision:?}");
    }
    let status = decide(&server, model("gpt-2")).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "model");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_names_the_field() {
    let server = server().await;
    let preferences = |preferences| RouteRequest { preferences: Some(preferences), ..ask("x") };
    let cases: Vec<(RouteRequest, &str)> = vec![
        (RouteRequest::default(), "messages"),
        (RouteRequest { messages: vec![message("user", "y")], ..ask("x") }, "prompt"),
        (
            RouteRequest { messages: vec![message("robot", "y")], ..RouteRequest::default() },
            "messages[0].role",
        ),
        (
            RouteRequest { shape: Some(Shape { prompt_tokens: Some(-1), ..Shape::default() }), ..ask("x") },
            "shape.prompt_tokens",
        ),
        (preferences(Preferences { quality: Some(2.0), ..Preferences::default() }), "preferences.quality"),
        (
            preferences(Preferences { quality: Some(f64::NAN), ..Preferences::default() }),
            "preferences.quality",
        ),
        (
            preferences(Preferences { tier_min: "huge".to_owned(), ..Preferences::default() }),
            "preferences.tier_min",
        ),
        (
            preferences(Preferences { deny_targets: vec!["nobody".to_owned()], ..Preferences::default() }),
            "preferences.deny_targets[0]",
        ),
        (ask("x".repeat(5 << 20)), "prompt"),
        (RouteRequest { messages: vec![message("user", ""); 10_000], ..RouteRequest::default() }, "messages"),
        (
            RouteRequest {
                context: Some(Context { tenant: "t".repeat(1000), ..Context::default() }),
                ..ask("x")
            },
            "context.tenant",
        ),
    ];
    for (request, field) in cases {
        let status = decide(&server, request).await.expect_err(field);
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        let violations = status.get_details_bad_request().expect(field).field_violations;
        assert_eq!(violations[0].field, field, "{violations:?}");
        assert!(status.message().contains(field), "{}", status.message());
    }
    // The server goes on.
    assert_eq!(decide(&server, ask("thanks!")).await.unwrap().tier, "simple");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_no_target_is_left_each_says_why() {
    let server = server().await;
    let all: Vec<String> =
        server.live.router().config().targets.iter().map(|target| target.id.to_string()).collect();
    let request = RouteRequest {
        preferences: Some(Preferences { deny_targets: all, ..Preferences::default() }),
        ..ask("compare the two offers")
    };
    let status = decide(&server, request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let violations = status.get_details_precondition_failure().unwrap().violations;
    assert!(violations.len() >= 8);
    assert!(violations.iter().all(|violation| violation.description == "in deny_targets"), "{violations:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_keeps_its_order_and_a_bad_item_fails_alone() {
    let server = server().await;
    let mut requests: Vec<RouteRequest> =
        (0..200).map(|at| ask(format!("{at} {}", "how does it compare ".repeat(at % 7)))).collect();
    requests[3] = RouteRequest { messages: vec![message("robot", "")], ..RouteRequest::default() };
    requests[5] = ask("thanks!");
    let results =
        server.client().route_batch(RouteBatchRequest { requests }).await.unwrap().into_inner().results;
    assert_eq!(results.len(), 200);
    for (at, result) in results.iter().enumerate() {
        match result.outcome.as_ref().unwrap() {
            Outcome::Error(error) => {
                assert_eq!((at, error.field.as_str()), (3, "requests[3].messages[0].role"));
                assert_eq!(error.code, Code::InvalidArgument as i32);
            }
            Outcome::Decision(decision) => {
                let expected = if at == 5 { Source::Rule } else { Source::Classifier };
                assert_eq!(decision.source(), expected, "{at}: {}", decision.reason);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_limits() {
    let server = server().await;
    for count in [0, 10_000] {
        let requests = vec![ask("x"); count];
        let status = server.client().route_batch(RouteBatchRequest { requests }).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "requests");
    }
}
