//! Answers that stop half-way: before the first part was sent another target answers, afterwards the caller is
//! told. Never a clean end.

use std::time::Duration;

use serde_json::json;

use super::{
    callers::Way,
    case::{Case, answers, check, check_slow, fails},
    world::{Called, Speaks, good, long, long_start},
};
use crate::support::upstream::{Behaviour, usage};

/// More tokens than are held back.
const MIDDLE: usize = 40;
/// Fewer.
const EARLY: usize = 3;
/// Whatever was sent has been read by then, also on a busy machine.
const READ_BY: Duration = Duration::from_secs(3);
/// Above `completion.line_bytes_max`.
const HUGE_LINE_BYTES: usize = 10 << 20;

/// A long stream that is spoilt; for callers who want it whole a whole answer, spoilt alike.
fn spoilt(
    stream: impl Fn(Behaviour) -> Behaviour + Send + Sync + 'static,
) -> impl Fn(Called) -> Behaviour + Send + Sync + 'static {
    move |called| match called.streams {
        true => stream(Behaviour::openai_stream(&long(), usage(20, 60))),
        false => Behaviour::openai(&long(), usage(20, 60)).cut_after_bytes(60),
    }
}

/// A fault after the first part was sent.
fn late(
    name: &'static str,
    attempts: &'static str,
    stream: impl Fn(Behaviour) -> Behaviour + Send + Sync + 'static,
) -> Case {
    Case::new(name).at("a", spoilt(stream)).streamed(fails("broken_off", long_start(MIDDLE), attempts))
}

/// A fault while all is still held back.
fn early(
    name: &'static str,
    attempts: &'static str,
    stream: impl Fn(Behaviour) -> Behaviour + Send + Sync + 'static,
) -> Case {
    Case::new(name).at("a", spoilt(stream)).streamed(answers(good("b"), attempts))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_never_looks_whole() {
    let cases = vec![
        late("cut", "a first cut~", |it| it.cut_after_tokens(MIDDLE)),
        late("reset", "a first cut~", reset),
        late("ends-early", "a first cut~", |it| it.ends_early_after(MIDDLE)),
        late("until-close", "a first cut~", |it| it.cut_after_tokens(MIDDLE).until_close()),
        late("done-too-soon", "a first cut~", |it| it.line_after(MIDDLE, "data: [DONE]\n\n")),
        late("malformed", "a first malformed~", |it| it.malformed_line_after(MIDDLE)),
        late("no-field", "a first malformed~", |it| it.line_after(MIDDLE, "<html>\n\n")),
        late("not-utf8-field", "a first malformed~", |it| it.line_after(MIDDLE, "dat\u{e4}: 1\n\n")),
        late("error-event", "a first error_event~", |it| it.error_event_after(MIDDLE, "scripted trouble")),
        early("cut-first", "a first cut; a retry cut; b failover answered$", |it| it.cut_after_tokens(0)),
        early("cut-early", "a first cut~; a retry cut~; b failover answered$", |it| {
            it.cut_after_tokens(EARLY)
        }),
        early("reset-first", "a first cut; a retry cut; b failover answered$", |it| it.reset_after_tokens(0)),
        early("empty-stream", "a first cut; a retry cut; b failover answered$", |it| it.ends_early_after(0)),
        early("malformed-first", "a first malformed; a retry malformed; b failover answered$", |it| {
            it.malformed_line_after(0)
        }),
        early("malformed-early", "a first malformed~; a retry malformed~; b failover answered$", |it| {
            it.malformed_line_after(EARLY)
        }),
        early("error-event-first", "a first error_event; a retry error_event; b failover answered$", |it| {
            it.error_event_after(0, "scripted trouble")
        }),
        early(
            "error-event-early",
            "a first error_event~; a retry error_event~; b failover answered$",
            |it| it.error_event_after(EARLY, "scripted trouble"),
        ),
        Case::new("whole-cut")
            .at("a", spoilt(|it| it))
            .whole(answers(good("b"), "a first cut; a retry cut; b failover answered$"))
            .streamed(answers(long(), "a first answered$")),
    ];
    check(Speaks::OpenAi, cases, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_stalls_never_looks_whole() {
    let cases = vec![
        late("stall", "a first timeout_between_tokens~", |it| it.stall_after_tokens(MIDDLE)),
        early("stall-early", "a first timeout_between_tokens~; b failover answered$", |it| {
            it.stall_after_tokens(EARLY)
        }),
    ];
    check_slow(Speaks::OpenAi, cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_without_an_end_is_not_held() {
    let line = || format!("data: {}\n\n", "x".repeat(HUGE_LINE_BYTES));
    let ways = [Way::GrpcStream, Way::ChatStream];
    let cases = vec![
        early("huge-first", "a first too_large~; b failover answered$", |_| {
            Behaviour::huge_line(HUGE_LINE_BYTES)
        })
        .only(&ways),
        late("huge", "a first too_large~", move |it| it.line_after(MIDDLE, &line())).only(&ways),
    ];
    check(Speaks::OpenAi, cases, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_the_other_dialect_never_look_whole_either() {
    // Passed through.
    let native = &[Way::MessagesStream][..];
    // Read by the library.
    let converted = &[Way::GrpcStream, Way::ChatStream][..];
    let all = &[native, converted].concat()[..];
    let spoilt = |stream: fn(Behaviour) -> Behaviour| move |called: Called| stream(called.answer(&long()));
    let late = |name, ways: &[Way], attempts, stream| {
        let expected = fails("broken_off", long_start(MIDDLE), attempts);
        Case::new(name).at("a", spoilt(stream)).streamed(expected).only(ways)
    };
    let early = |name, ways: &[Way], attempts, stream| {
        Case::new(name).at("a", spoilt(stream)).streamed(answers(good("b"), attempts)).only(ways)
    };
    let overloaded = |it: Behaviour| it.anthropic_error_event_after(0, "Overloaded");
    let nameless =
        |it: Behaviour| it.line_after(MIDDLE, "data: {\"type\": \"content_block_delta\", \"delta\": \n\n");
    let unfinished =
        |it: Behaviour| it.line_after(MIDDLE, "event: content_block_delta\ndata: {\"delta\": \n\n");
    let cases = vec![
        late("cut", all, "a first cut~", |it| it.cut_after_tokens(MIDDLE)),
        late("reset", all, "a first cut~", reset),
        late("ends-early", all, "a first cut~", |it| it.ends_early_after(MIDDLE)),
        late("until-close", all, "a first cut~", |it| it.cut_after_tokens(MIDDLE).until_close()),
        late("nameless", all, "a first malformed~", nameless),
        late("unfinished", all, "a first malformed~", unfinished),
        late("error-event", converted, "a first error_event~", |it| {
            it.anthropic_error_event_after(MIDDLE, "Overloaded")
        }),
        late("error-event-native", native, "a first overloaded~", |it| {
            it.anthropic_error_event_after(MIDDLE, "Overloaded")
        }),
        early("cut-first", all, "a first cut; a retry cut; b failover answered$", |it| {
            it.cut_after_tokens(0)
        }),
        early(
            "error-first",
            converted,
            "a first error_event; a retry error_event; b failover answered$",
            overloaded,
        ),
        early("overloaded", all, "a first overloaded; b failover answered$", |_| {
            let error = json!({ "type": "overloaded_error", "message": "Overloaded" });
            Behaviour::json(529, &json!({ "type": "error", "error": error }))
        }),
        early("error-first-native", native, "a first overloaded; b failover answered$", overloaded),
    ];
    check(Speaks::Anthropic, cases, &[]).await;
    let stalling = vec![
        late("stall", all, "a first timeout_between_tokens~", |it| it.stall_after_tokens(MIDDLE)),
        early("stall-first", all, "a first timeout_first_token~; b failover answered$", |it| {
            it.stall_after_tokens(0)
        }),
    ];
    check_slow(Speaks::Anthropic, stalling).await;
}

/// Resets the connection once what was sent has been read: a reset takes with it what was not.
fn reset(stream: Behaviour) -> Behaviour {
    stream.wait_after_tokens(MIDDLE, READ_BY).reset_after_tokens(MIDDLE)
}
