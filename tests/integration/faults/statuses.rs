//! Providers that refuse, fail or answer with something else: another one answers, and it is all accounted for.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    callers::Way,
    case::{Case, answers, check, check_slow, fails},
    world::{Called, Speaks, good},
};
use crate::support::upstream::{Behaviour, Upstream, refused_url, usage};

/// Longer than any wait of the configuration.
const FOREVER: Duration = Duration::from_secs(600);

fn error(status: u16) -> impl Fn(Called) -> Behaviour + Send + Sync + 'static {
    move |_| Behaviour::error(status, "scripted trouble")
}

/// What callers see of an error of `a` that is tried again, or is not.
fn falls_over(
    name: &'static str,
    course: &'static str,
    does: impl Fn(Called) -> Behaviour + Send + Sync + 'static,
) -> Case {
    Case::new(name).at("a", does).both(answers(good("b"), course))
}

#[tokio::test(flavor = "multi_thread")]
async fn another_target_answers_for_one_that_does_not() {
    let trap = Upstream::start([Behaviour::openai("Followed the redirect.", usage(1, 1))]).await;
    let elsewhere = trap.base_url() + "/chat/completions";
    let moved = move |_: Called| Behaviour::redirect(&elsewhere);
    let cases = vec![
        falls_over("401", "a first unauthorized; b failover answered$", error(401)),
        falls_over("402", "a first unpaid; b failover answered$", error(402)),
        falls_over("403", "a first unauthorized; b failover answered$", error(403)),
        falls_over("404", "a first not_found; b failover answered$", error(404)),
        falls_over("400", "a first refused; b failover answered$", error(400)),
        falls_over("413", "a first refused; b failover answered$", error(413)),
        falls_over("422", "a first refused; b failover answered$", error(422)),
        falls_over("500", "a first server; a retry server; b failover answered$", error(500)),
        falls_over("502", "a first server; a retry server; b failover answered$", error(502)),
        falls_over("503", "a first overloaded; b failover answered$", error(503)),
        falls_over("529", "a first overloaded; b failover answered$", error(529)),
        falls_over("429", "a first rate_limited; b failover answered$", error(429)),
        falls_over("429-long", "a first rate_limited; b failover answered$", |_| {
            Behaviour::error(429, "slow down").header("retry-after", "30")
        }),
        falls_over("redirect", "a first redirect; b failover answered$", moved),
        falls_over("empty", "a first malformed; a retry malformed; b failover answered$", |_| {
            Behaviour::empty_ok()
        }),
        falls_over("no-json", "a first malformed; a retry malformed; b failover answered$", |_| {
            Behaviour::invalid_json()
        }),
        falls_over("html", "a first malformed; a retry malformed; b failover answered$", |_| {
            Behaviour::wrong_content_type()
        }),
        falls_over("no-choices", "a first malformed; a retry malformed; b failover answered$", |_| {
            Behaviour::json(200, &json!({ "object": "chat.completion" }))
        }),
        falls_over("error-in-200", "a first error_event; a retry error_event; b failover answered$", |_| {
            Behaviour::json(200, &json!({ "error": { "message": "scripted trouble" } }))
        }),
        Case::new("retry-mends")
            .at("a", |called| match called.nth {
                0 => Behaviour::error(500, "once"),
                _ => called.answer(&good("a")),
            })
            .both(answers(good("a"), "a first server; a retry answered$")),
        Case::new("unauthorized-everywhere")
            .at("a", error(401))
            .at("b", error(402))
            .at("c", error(403))
            .at("d", error(404))
            .both(fails(
                "unavailable",
                "",
                "a first unauthorized; b failover unpaid; c climb unauthorized; d failover not_found",
            )),
        Case::new("all-down")
            .at("a", error(503))
            .at("b", error(503))
            .at("c", error(503))
            .at("d", error(503))
            .both(fails(
                "unavailable",
                "",
                "a first overloaded; b failover overloaded; b retry overloaded; \
                 c climb overloaded; d failover overloaded; d retry overloaded",
            )),
        Case::new("low-tier-down")
            .at("a", error(404))
            .at("b", error(404))
            .both(answers(good("c"), "a first not_found; b failover not_found; c climb answered$")),
        Case::new("refused-by-all").at("a", error(400)).at("b", error(422)).both(fails(
            "refused",
            "",
            "a first refused; b failover refused",
        )),
    ];
    check(Speaks::OpenAi, cases, &[]).await;
    assert_eq!(trap.accepted_connections(), 0, "a redirect was followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_retry_after_is_honoured() {
    const ASKED: Duration = Duration::from_millis(300);
    let cases = vec![
        Case::new("short")
            .at("a", |called| match called.nth {
                0 => Behaviour::error(429, "slow down").header("retry-after-ms", "300"),
                _ => called.answer(&good("a")),
            })
            .both(answers(good("a"), "a first rate_limited; a retry answered$")),
        // Without a sibling left, a longer one is worth it too.
        Case::new("longer")
            .at("a", error(404))
            .at("b", |called| match called.nth {
                0 => Behaviour::error(429, "slow down").header("retry-after-ms", "700"),
                _ => called.answer(&good("b")),
            })
            .both(answers(good("b"), "a first not_found; b failover rate_limited; b retry answered$")),
    ];
    let calls = check(Speaks::OpenAi, cases, &[]).await;
    for way in Way::ALL {
        let calls = calls.of(&format!("short/{way:?}"));
        let waited = calls[1].1.received - calls[0].1.received;
        assert!(waited >= ASKED, "{way:?}: {waited:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_nobody_reaches_is_left() {
    let nowhere = refused_url();
    let cases = vec![
        Case::new("connect")
            .both(answers(good("b"), "a first connect; a retry connect; b failover answered$")),
        Case::new("tls").at("b", error(404)).both(answers(
            good("d"),
            "a first connect; a retry connect; b failover not_found; c climb tls; d failover answered$",
        )),
    ];
    let untrusted = Upstream::start_tls([Behaviour::openai("Never read.", usage(1, 1))]).await;
    check(Speaks::OpenAi, cases, &[("a", nowhere), ("c", untrusted.base_url())]).await;
    assert!(untrusted.requests().is_empty(), "a request went to a server that nobody vouches for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_takes_too_long_is_left() {
    let slow = |called: Called| called.answer(&good("a")).slow_head(FOREVER);
    let cases = vec![
        Case::new("silent")
            .at("a", slow)
            .whole(answers(good("b"), "a first timeout_total~; b failover answered$"))
            .streamed(answers(good("b"), "a first timeout_first_token~; b failover answered$")),
        Case::new("slow-first-token")
            .at("a", |called| called.answer(&good("a")).slow_first_token(FOREVER))
            .streamed(answers(good("b"), "a first timeout_first_token~; b failover answered$")),
    ];
    check_slow(Speaks::OpenAi, cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_of_usage_that_cannot_be_is_not_believed() {
    let reporting = |name: &'static str, reported: Value| {
        let estimated = answers(good("a"), "a first answered~");
        Case::new(name)
            .at("a", move |called| match called.streams {
                true => Behaviour::openai_stream(&good("a"), reported.clone()),
                false => Behaviour::openai(&good("a"), reported.clone()),
            })
            .both(estimated)
    };
    let counts = |input: Value, output: Value| json!({ "prompt_tokens": input, "completion_tokens": output });
    let cases = vec![
        reporting("missing", Value::Null),
        reporting("negative", counts(json!(-5), json!(-7))),
        reporting("negative-output", counts(json!(20), json!(-7))),
        reporting("absurd", counts(json!(20), json!(999_999_999_999_u64))),
        reporting("beyond-64-bits", counts(json!(1e300), json!(1e300))),
        reporting("nothing", counts(json!(0), json!(0))),
        reporting("words", counts(json!("many"), json!("few"))),
        reporting("no-object", json!("a lot")),
        reporting("null-counts", counts(Value::Null, Value::Null)),
    ];
    check(Speaks::OpenAi, cases, &[]).await;
}
