//! Scripts read, matched and played, on a paused clock.

use std::sync::Arc;

use futures::StreamExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::*;
use crate::{
    completion::{
        answer::{Finish, Raw, Usage, View},
        attempt::Stage,
        chat::{Asks, Chat, JsonAsk, ToolAsk},
        dialect::openai,
    },
    config::default_config,
    prompt::TargetId,
};

/// A call of a target with one user message.
pub fn call(target: &str, prompt: &str) -> Call {
    call_of(target, json!({ "messages": [{ "role": "user", "content": prompt }] }))
}

/// A call of a target with a request body.
pub fn call_of(target: &str, body: Value) -> Call {
    let mut config = default_config().targets.swap_remove(0);
    config.id = TargetId(target.into());
    config.model = format!("{target}-model").into();
    let Value::Object(openai) = body else { panic!("a body is an object") };
    let chat = Chat { openai, asks: Asks { choices: 1, ..Asks::default() }, ..Chat::default() };
    Call { chat: chat.into(), target: config.into() }
}

fn asking(call: &Call, asks: Asks) -> Call {
    let chat = Chat { asks, ..(*call.chat).clone() };
    Call { chat: chat.into(), ..call.clone() }
}

fn scripted(script: &str) -> Scripted {
    let script = read::read_text(script, "script".to_owned()).unwrap_or_else(|error| panic!("{error}"));
    Scripted::playing(script)
}

async fn text(provider: &Scripted, call: Call) -> Result<String, ErrorKind> {
    match provider.complete(call).await {
        Ok(answer) => Ok(answer.view.text),
        Err(error) => Err(error.kind),
    }
}

/// Returns what a stream said, how many pieces had content, and the error it ended in.
async fn streamed(provider: &Scripted, call: Call) -> (View, usize, Option<ProviderError>) {
    let mut view = View::default();
    let mut pieces = 0;
    let mut stream = match provider.stream(call).await {
        Ok(started) => started.pieces,
        Err(error) => return (view, pieces, Some(error)),
    };
    while let Some(piece) = stream.next().await {
        match piece {
            Ok(piece) => {
                pieces += usize::from(piece.delta.has_content());
                view.add(&piece.delta);
            }
            Err(error) => {
                assert!(stream.next().await.is_none(), "nothing follows an error");
                return (view, pieces, Some(error));
            }
        }
    }
    (view, pieces, None)
}

const ORDERED: &str = r#"
[[answers]]
times = 2
pattern = "(?i)weather"
text = "sunny"

[[answers]]
targets = ["a"]
stream = true
text = "a, streamed"

[[answers]]
models = ["a-model", "b-model"]
system = "pirate"
text = "arr"

[[answers]]
targets = ["a"]
text = "{model} on {target}: {prompt}"
"#;

#[tokio::test(start_paused = true)]
async fn the_first_scene_that_fits_answers() {
    let provider = scripted(ORDERED);
    let pirate = |target| {
        let system = json!({ "role": "system", "content": [{ "type": "text", "text": "be a pirate" }] });
        call_of(target, json!({ "messages": [system, { "role": "user", "content": "hi" }] }))
    };
    assert_eq!(text(&provider, call("a", "hi")).await.unwrap(), "a-model on a: hi");
    assert_eq!(streamed(&provider, call("a", "hi")).await.0.text, "a, streamed");
    assert_eq!(text(&provider, pirate("b")).await.unwrap(), "arr");
    assert_eq!(text(&provider, pirate("c")).await, Err(ErrorKind::Refused));
    let error = provider.complete(call("c", "secret")).await.unwrap_err();
    assert_eq!(error.message, "the script has no answer for this request to target c");
}

#[tokio::test(start_paused = true)]
async fn a_limit_on_times_counts_each_target_by_itself() {
    let provider = scripted(ORDERED);
    for expected in ["sunny", "sunny", "a-model on a: Weather?"] {
        assert_eq!(text(&provider, call("a", "Weather?")).await.unwrap(), expected);
    }
    assert_eq!(text(&provider, call("b", "weather")).await.unwrap(), "sunny");
}

const PACED: &str = r#"
[defaults]
delay_ms = 100
first_token_ms = 1000
token_ms = 10
[[answers]]
pattern = "stall"
stall_after_pieces = 2
text = "one two three"
[[answers]]
pattern = "down"
error = { status = 503, retry_after_ms = 2500, message = "asleep" }
[[answers]]
text = "one two three"
usage = { input_tokens = 1, cached_input_tokens = 9, output_tokens = 3 }
logprob = -0.5
"#;

#[tokio::test(start_paused = true)]
async fn a_stream_keeps_the_scripts_pace() {
    let provider = scripted(PACED);
    let begun = Instant::now();
    let mut times = Vec::new();
    let mut pieces = provider.stream(call("a", "x")).await.unwrap().pieces;
    times.push(("accepted".to_owned(), begun.elapsed().as_millis()));
    while let Some(piece) = pieces.next().await {
        let delta = piece.unwrap().delta;
        let what = match (delta.finish, delta.usage) {
            (Some(finish), _) => finish.as_openai().to_owned(),
            (None, Some(usage)) => format!("{} tokens", usage.output_tokens),
            (None, None) => delta.text,
        };
        times.push((what, begun.elapsed().as_millis()));
    }
    let expected = [
        ("accepted", 100),
        ("", 100),
        ("one ", 1100),
        ("two ", 1110),
        ("three", 1120),
        ("stop", 1120),
        ("3 tokens", 1120),
    ];
    assert_eq!(times, expected.map(|(what, at)| (what.to_owned(), at)));
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_takes_as_long_as_its_stream() {
    let begun = Instant::now();
    let answer = scripted(PACED).complete(call("a", "x")).await.unwrap();
    assert_eq!(begun.elapsed().as_millis(), 1120);
    assert_eq!(answer.view.text, "one two three");
    assert_eq!(answer.view.logprobs.mean(), Some(-0.5));
    let usage = Usage { input_tokens: 1, cached_input_tokens: 9, output_tokens: 3, ..Usage::default() };
    assert_eq!(answer.view.usage, Some(usage), "wrong numbers are reported as they stand");
}

#[tokio::test(start_paused = true)]
async fn a_stall_never_ends_and_an_error_comes_after_its_delay() {
    let provider = scripted(PACED);
    let day = Duration::from_secs(86_400);
    assert!(timeout(day, provider.complete(call("a", "stall"))).await.is_err());
    let mut pieces = provider.stream(call("a", "stall")).await.unwrap().pieces;
    for expected in ["", "one ", "two "] {
        assert_eq!(pieces.next().await.unwrap().unwrap().delta.text, expected);
    }
    assert!(timeout(day, pieces.next()).await.is_err());

    let begun = Instant::now();
    let error = provider.complete(call("a", "down")).await.unwrap_err();
    assert_eq!(begun.elapsed().as_millis(), 100);
    let again = Again::After(Duration::from_millis(2500));
    let expected = ProviderError {
        kind: ErrorKind::Overloaded,
        status: Some(503),
        message: "asleep".to_owned(),
        code: None,
        again,
    };
    assert_eq!(error, expected);
}

#[tokio::test(start_paused = true)]
async fn a_fault_comes_after_its_pieces_or_before_the_finish() {
    for (fault, said, pieces, kind) in [
        ("cut_after_pieces = 0", "", 0, ErrorKind::Cut),
        ("cut_after_pieces = 2", "one two ", 2, ErrorKind::Cut),
        ("cut_after_pieces = 3", "one two three", 3, ErrorKind::Cut),
        ("cut_after_pieces = 40", "one two three", 3, ErrorKind::Cut),
        ("error_after_pieces = 1", "one ", 1, ErrorKind::ErrorEvent),
        ("error_after_pieces = 1\nerror = { status = 500 }", "one ", 1, ErrorKind::Server),
        ("error = { kind = \"timeout_first_token\" }", "", 0, ErrorKind::Timeout(Stage::FirstToken)),
    ] {
        let text = if fault.starts_with("error =") { "" } else { "text = \"one two three\"" };
        let provider = scripted(&format!("[[answers]]\n{text}\n{fault}\n"));
        let (view, got, error) = streamed(&provider, call("a", "x")).await;
        let error = error.unwrap_or_else(|| panic!("{fault}: no error"));
        assert_eq!((&*view.text, got, error.kind), (said, pieces, kind), "{fault}");
        assert_eq!((view.finish, view.usage), (None, None), "{fault}");
        assert_eq!(provider.complete(call("a", "x")).await.unwrap_err(), error, "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn everything_that_an_answer_can_hold_comes_whole_and_in_pieces() {
    let provider = scripted(
        r#"
        [[answers]]
        reasoning = "let me think"
        text = "I call"
        refusal = "not all"
        tool_calls = [
          { name = "search", arguments = { query = "tea at noon", limit = 3, when = 2026-01-02 } },
          { name = "{tool}", arguments = "{\"broken\": " },
          { name = "bare", arguments = "" },
        ]
        "#,
    );
    let answer = provider.complete(call("a", "x")).await.unwrap();
    let view = &answer.view;
    assert_eq!((&*view.reasoning, &*view.text, &*view.refusal), ("let me think", "I call", "not all"));
    let names: Vec<&str> = view.tool_calls.iter().map(|call| &*call.name).collect();
    assert_eq!(names, ["search", "get_weather", "bare"]);
    let arguments: Value = serde_json::from_str(&view.tool_calls[0].arguments).unwrap();
    assert_eq!(arguments, json!({ "query": "tea at noon", "limit": 3, "when": "2026-01-02" }));
    assert_eq!(view.tool_calls[1].arguments, "{\"broken\": ");
    assert_eq!(view.finish, Some(Finish::ToolCalls));
    let usage = view.usage.unwrap();
    assert!(usage.output_tokens > usage.reasoning_tokens && usage.reasoning_tokens > 0, "{usage:?}");

    let (mut view, pieces, error) = streamed(&provider, call("a", "x")).await;
    assert!(pieces > 10 && error.is_none());
    for (streamed, whole) in view.tool_calls.iter_mut().zip(&answer.view.tool_calls) {
        assert!(!streamed.id.is_empty() && streamed.id != whole.id, "ids are never used twice");
        streamed.id.clone_from(&whole.id);
    }
    assert_eq!(view, answer.view);
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_the_request_cuts_the_answer_as_a_model_would() {
    let provider = scripted("[[answers]]\nrepeat = { text = \"word \", count = 100 }\n");
    for (limit, words, finish) in
        [(Some(3), 3, Finish::Length), (Some(100), 100, Finish::Stop), (None, 100, Finish::Stop)]
    {
        let asks = Asks { output_tokens_max: limit, choices: 2, ..Asks::default() };
        let answer = provider.complete(asking(&call("a", "x"), asks)).await.unwrap();
        assert_eq!(answer.view.text.split_whitespace().count(), words);
        assert_eq!(answer.view.finish, Some(finish));
        assert!(answer.view.usage.unwrap().output_tokens <= u64::from(limit.unwrap_or(u32::MAX)));
        assert_eq!(answer.dropped_parameters, ["n"]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_say_nothing_and_report_nothing() {
    let provider = scripted("[[answers]]\ntext = \"\"\nusage = \"none\"\nfinish = \"length\"\n");
    let answer = provider.complete(call("a", "x")).await.unwrap();
    assert!(answer.view.is_empty());
    assert_eq!((answer.view.usage, answer.view.finish), (None, Some(Finish::Length)));
    let (view, pieces, error) = streamed(&provider, call("a", "x")).await;
    assert_eq!((view, pieces, error), (answer.view, 0, None));
}

#[tokio::test(start_paused = true)]
async fn the_demo_answers_every_built_in_target_and_any_other() {
    let provider = Scripted::new(None).unwrap();
    let config = default_config();
    let ids = config.targets.iter().map(|target| &*target.id.0).chain(["my-own"]);
    for id in ids {
        let said = text(&provider, call(id, "Is this spam?")).await.unwrap();
        assert!(said.starts_with("This is a scripted answer from") && said.contains(id), "{said}");
        assert!(said.contains("no model was called") && said.ends_with("Is this spam?"), "{said}");
        let (view, pieces, error) = streamed(&provider, call(id, "Is this spam?")).await;
        assert!(view.text == said && pieces > 20 && error.is_none(), "{id}: {pieces} {error:?}");
        let usage = view.usage.unwrap();
        assert!(usage.input_tokens > 0 && usage.output_tokens > 0, "{usage:?}");
    }
}

#[test]
fn the_demo_names_only_targets_that_exist() {
    let config = default_config();
    let script = read::read_text(DEMO, String::new()).unwrap();
    for target in script.scenes.iter().flat_map(|scene| &scene.when.targets) {
        assert!(config.target_named(target).is_some(), "{target}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_demos_special_words_show_the_machinery() {
    let provider = Scripted::new(None).unwrap();
    let config = default_config();
    let targets = |tier: usize| {
        config.tiers[tier].targets.iter().map(|index| &*config.target(*index).id.0).collect::<Vec<&str>>()
    };
    for tier in 0..config.tiers.len() {
        let tier_targets = targets(tier);
        let (first, second) = (tier_targets[0], tier_targets[1]);
        let ask = |target: &str, word: &str| call(target, &format!("please demo:{word} now"));
        let good = |said: Result<String, ErrorKind>| {
            said.is_ok_and(|said| said.starts_with("This is a scripted answer from"))
        };
        assert_eq!(text(&provider, ask(first, "down")).await, Err(ErrorKind::Overloaded));
        assert!(good(text(&provider, ask(second, "down")).await));
        assert_eq!(text(&provider, ask(first, "rate-limit")).await, Err(ErrorKind::RateLimited));
        assert!(good(text(&provider, ask(second, "rate-limit")).await));
        let (view, pieces, error) = streamed(&provider, ask(first, "cut")).await;
        assert!(view.text.chars().count() > 100 && pieces == 25, "past what is held back: {view:?}");
        assert_eq!(error.unwrap().kind, ErrorKind::Cut);
        assert!(good(text(&provider, ask(second, "cut")).await));
        let begun = Instant::now();
        assert!(good(text(&provider, ask(first, "slow")).await));
        assert!(begun.elapsed() > Duration::from_secs(3));
        for target in &tier_targets {
            let weak = tier < 2;
            let refused = text(&provider, ask(target, "weak")).await.unwrap().contains("can't help");
            assert_eq!(refused, weak, "{target}");
            let asks = Asks { json: JsonAsk::Object, ..Asks::default() };
            let said = text(&provider, asking(&ask(target, "json"), asks)).await.unwrap();
            assert_eq!(serde_json::from_str::<Value>(&said).is_err(), weak, "{target}: {said}");
            let tool = provider.complete(ask(target, "tool")).await.unwrap().view;
            assert_eq!((tool.tool_calls.len(), tool.finish), (1, Some(Finish::ToolCalls)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_demo_gives_the_form_that_is_asked_for() {
    let provider = Scripted::new(None).unwrap();
    let asks = Asks { json: JsonAsk::Object, ..Asks::default() };
    let said = text(&provider, asking(&call("gpt-6-luna", "say \"hi\""), asks)).await.unwrap();
    let value: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(value["asked"], "say \"hi\"");

    let asks = Asks { tool: ToolAsk::Named("search".to_owned()), ..Asks::default() };
    let answer = provider.complete(asking(&call("gpt-6-luna", "find it"), asks.clone())).await.unwrap();
    assert_eq!(answer.view.tool_calls[0].name, "search");
    let conversation = json!({ "messages": [
        { "role": "user", "content": "find it" },
        { "role": "assistant", "tool_calls": [] },
        { "role": "tool", "content": "found" },
    ] });
    let said = text(&provider, asking(&call_of("gpt-6-luna", conversation), asks)).await.unwrap();
    assert!(said.starts_with("This is a scripted answer"), "no tool is called for ever: {said}");
}

#[tokio::test(start_paused = true)]
async fn the_raw_json_says_what_the_view_says() {
    let provider = scripted(
        r#"
        [[answers]]
        reasoning = "hm hm"
        text = "hello there"
        tool_calls = [{ name = "search", arguments = { query = "tea at noon" } }]
        usage = { input_tokens = 9, cached_input_tokens = 4, output_tokens = 7, reasoning_tokens = 2 }
        "#,
    );
    let answer = provider.complete(call("a", "x")).await.unwrap();
    let Raw::OpenAi(raw) = &answer.raw else { panic!("{:?}", answer.raw) };
    assert_eq!((&raw["model"], &raw["id"]), (&json!("a-model"), &json!("chatcmpl-scripted-1")));
    assert_eq!(openai::view(raw), Ok(answer.view));
    let mut pieces = provider.stream(call("a", "x")).await.unwrap().pieces;
    let opening = pieces.next().await.unwrap().unwrap();
    let Raw::OpenAi(raw) = opening.raw else { panic!("another form") };
    assert_eq!(raw["choices"][0]["delta"]["role"], "assistant");
    while let Some(piece) = pieces.next().await {
        let piece = piece.unwrap();
        let Raw::OpenAi(raw) = piece.raw else { panic!("another form") };
        assert_eq!(raw["id"], "chatcmpl-scripted-2");
        assert_eq!(openai::delta(&raw), Ok(piece.delta));
    }
}

proptest! {
    #[test]
    fn pieces_add_up_to_the_text(said in "\\PC{0,40}|[ \\n\\ta-zé字]{0,40}") {
        let mut script = read::read_text("[[answers]]\ntext = \"x\"\n", String::new()).unwrap();
        let scene = Arc::get_mut(&mut script.scenes[0]).unwrap();
        let Reply::Answer(lines) = &mut scene.reply else { panic!("an answer") };
        lines.text = script::Text::Plain(script::Template::new("{prompt}"), 1);
        let call = call("a", &said);
        let play = Play::new(lines, scene.pace, &Asked::new(&call, true), 1);
        for (_, step) in play.clone() {
            let Step::Piece(delta) = step else { panic!("no fault") };
            let words = delta.text.split_whitespace().count();
            prop_assert!(words <= 1, "{:?}", delta.text);
        }
        let (_, whole) = play::whole(play);
        let Whole::Said(view) = whole else { panic!("no fault") };
        prop_assert_eq!(view.text, said);
        prop_assert_eq!(view.finish, Some(Finish::Stop));
    }
}

#[test]
fn every_problem_of_a_script_is_told_with_its_place() {
    let check = |script: &str, expected: &[&str]| {
        let error = read::read_text(script, "script".to_owned()).expect_err("a problem");
        let got: Vec<String> = error.problems.iter().map(ToString::to_string).collect();
        assert_eq!(got.len(), expected.len(), "{got:#?}");
        for (got, expected) in got.iter().zip(expected) {
            assert!(got.starts_with(expected), "{got:?} is not {expected:?}");
        }
    };
    check("", &["has no [[answers]]"]);
    check("[[answers]", &["line 1: "]);
    check("[defaults]\ntoken_s = 1\n[[answers]]\ntext = \"\"", &["line 2: defaults.token_s: unknown field"]);
    let one = |line: &str, expected: &str| {
        check(&format!("[[answers]]\ntext = \"a\"\n{line}"), &[&format!("line {expected}")]);
    };
    one("patern = \"x\"", "3: answers[0].patern: unknown field");
    one("pattern = \"(\"", "3: answers[0].pattern: not a regular expression: unclosed group");
    one("times = 0", "3: answers[0].times: is 0");
    one("json = {}", "1: answers[0]: give one of text, repeat and json");
    one("error = { status = 500 }", "3: answers[0].error: takes the place of an answer");
    one("error_after_pieces = 1\nerror = {}", "4: answers[0].error: give a kind or a status");
    one("error_after_pieces = 1\nerror = { status = 200 }", "4: answers[0].error.status: 200 is no error");
    one(
        "error_after_pieces = 1\nerror = { kind = \"x\" }",
        "4: answers[0].error.kind: no kind \"x\": one of",
    );
    one("cut_after_pieces = 1\nstall_after_pieces = 1", "1: answers[0]: give one of cut_after_pieces");
    one("delay_ms = 3600001", "3: answers[0].delay_ms: is 3600001, at most 3600000");
    one("token_ms = -1", "3: answers[0].token_ms: invalid value");
    one("logprob = 0.1", "3: answers[0].logprob: is 0.1, must be at most 0");
    one("finish = \"end\"", "3: answers[0].finish: unknown variant");
    one("asks = [\"xml\"]", "3: answers[0].asks: unknown variant");
    one("usage = \"some\"", "3: answers[0].usage: invalid value");
    one("usage = { tokens = 1 }", "3: answers[0].usage.tokens: unknown field");
    one(
        "tool_calls = [{ name = \"x\", arguments = { a = nan } }]",
        "3: answers[0].tool_calls[0].arguments.a: NaN",
    );
    check("[[answers]]\ntimes = 1", &["line 1: answers[0]: says nothing"]);
    check(
        "[[answers]]\nrepeat = { text = \"a \", count = 9999999 }",
        &["line 2: answers[0].repeat.count: may become"],
    );
    check(
        "[[answers]]\ntimes = 0\ntext = \"\"\n[[answers]]\npattern = \"[\"\ntext = \"\"",
        &["line 2: answers[0].times", "line 5: answers[1].pattern"],
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let error = Scripted::new(Some(Path::new("/nowhere/script.toml"))).unwrap_err();
    assert!(error.starts_with("/nowhere/script.toml: 1 problem\n  cannot read: "), "{error}");
}
