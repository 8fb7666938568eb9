use super::*;
use crate::config::{
    Config, DEFAULT_TOML, Exhausted, OnWeak, StreamQuality, TargetConfig, TargetIndex, default_config,
    read_text,
};

/// Checks the only problem of a text.
#[track_caller]
fn check(text: &str, expected: &str) {
    let error = read_text(text).expect_err(text);
    let got: Vec<String> = error.problems.iter().map(ToString::to_string).collect();
    assert_eq!(got, [expected], "{text}");
}

#[track_caller]
fn read(text: &str) -> Config {
    read_text(text).unwrap_or_else(|error| panic!("{error}"))
}

/// The built-in targets with one line more in the first.
fn first_target(line: &str) -> String {
    DEFAULT_TOML.replacen("id = \"gpt-6-luna\"\n", &format!("id = \"gpt-6-luna\"\n{line}\n"), 1)
}

#[test]
fn the_compiled_in_text_says_what_the_types_default_to() {
    let config = default_config();
    assert_eq!(config.completion, CompletionConfig::default());
    let quick = |target: &&TargetConfig| target.latency_ms_typical.unwrap_or(0) <= 20_000;
    assert!(config.targets.iter().filter(quick).all(|target| target.timeouts == Timeouts::default()));
    let without = DEFAULT_TOML.split_once("[completion]").unwrap().0.to_owned() + "[completion]\n";
    assert_eq!(read(&without).completion, CompletionConfig::default());
    assert_eq!(config.server.admin_listen, Some("127.0.0.1:50052".parse().unwrap()));
    assert_eq!((config.budgets, config.spend_file), (Vec::new(), None));
}

#[test]
fn the_examples_in_the_comments_of_the_compiled_in_text_hold() {
    let examples: Vec<&str> = DEFAULT_TOML.lines().filter_map(|line| line.strip_prefix("#   ")).collect();
    let config = read(&examples.join("\n"));
    assert_eq!((config.providers[0].keys.len(), &*config.providers[1].name), (2, "our-vllm"));
    assert_eq!(config.completion.checks.len(), 2);
    assert_eq!((config.budgets.len(), config.intents.len()), (1, 1));
    assert!(config.completion.hedge.is_some() && config.completion.judge.is_some());
    assert!(config.spend_file.is_some());
}

#[test]
fn everything_written_is_taken_over() {
    let completion = read(
        r#"
        [completion]
        deadline_ms = 60_000
        attempts_max = 3
        retries_max = 0
        cost_usd_max = 0.25
        exhausted = "fail"
        on_weak = "mark"
        concurrent_max = 10
        answer_bytes_max = 100_000
        line_bytes_max = 50_000
        backoff = { first_ms = 1, max_ms = 2, retry_after_ms_max = 3 }
        stream = { quality = "buffer", guard_chars = 1, hold_bytes_max = 5000, caller_stall_ms = 7 }
        hedge = { quantile = 0.9, delay_ms_min = 11, tiers = ["simple"] }
        [completion.breaker]
        failures = 1
        error_ratio = 1.0
        window_ms = 200
        calls_min = 2
        cooldown_ms = 3
        cooldown_ms_max = 4
        ramp_ms = 0
        [completion.judge]
        target = "claude-haiku-5-5"
        rubric = "be kind"
        score_min = 0.7
        share = 0.1
        tiers = ["simple", "moderate"]
        day_usd_max = 2
        timeout_ms = 13
        "#,
    )
    .completion;
    let ms = Duration::from_millis;
    let expected = CompletionConfig {
        deadline: ms(60_000),
        attempts_max: 3,
        retries_max: 0,
        backoff: Backoff { first: ms(1), max: ms(2), retry_after_max: ms(3) },
        cost_usd_max: Some(0.25),
        exhausted: Exhausted::Fail,
        on_weak: OnWeak::Mark,
        concurrent_max: 10,
        answer_bytes_max: 100_000,
        line_bytes_max: 50_000,
        stream: StreamConfig {
            quality: StreamQuality::Buffer,
            guard_chars: 1,
            hold_bytes_max: 5000,
            caller_stall: ms(7),
        },
        hedge: Some(HedgeConfig { quantile: 0.9, delay_min: ms(11), tiers: vec![Tier(0)] }),
        breaker: BreakerConfig {
            failures: 1,
            error_ratio: 1.0,
            window: ms(200),
            calls_min: 2,
            cooldown: ms(3),
            cooldown_max: ms(4),
            ramp: ms(0),
        },
        checks: completion.checks.clone(),
        judge: Some(JudgeConfig {
            target: TargetIndex(1),
            rubric: "be kind".to_owned(),
            score_min: 0.7,
            share: 0.1,
            tiers: vec![Tier(0), Tier(1)],
            day_usd_max: 2.0,
            timeout: ms(13),
        }),
    };
    assert_eq!(completion, expected);
    assert!(completion.checks[0].checks.contains(&Check::Judge));
}

#[test]
fn numbers_out_of_range_have_their_place() {
    for (key, value, message) in [
        ("deadline_ms", "0", "0 is not within 1 to 3600000"),
        ("attempts_max", "0", "0 is not within 1 to 64"),
        ("retries_max", "11", "11 is not within 0 to 10"),
        ("cost_usd_max", "0.0", "0 is not above 0"),
        ("cost_usd_max", "nan", "NaN is not above 0"),
        ("concurrent_max", "0", "0 is not within 1 to 1000000"),
        ("answer_bytes_max", "10", "10 is not within 4096 to 268435456"),
        ("line_bytes_max", "10", "10 is not within 4096 to 268435456"),
        ("line_bytes_max", "20_000_000", "20000000 is above answer_bytes_max, 16777216"),
        ("backoff.first_ms", "5000", "5000 is above max_ms, 4000"),
        ("backoff.max_ms", "9_000_000", "9000000 is not within 0 to 3600000"),
        ("backoff.retry_after_ms_max", "9_000_000", "9000000 is not within 0 to 3600000"),
        ("timeouts.connect_ms", "0", "0 is not within 1 to 60000"),
        ("timeouts.first_token_ms", "250_000", "250000 is above total_ms, 240000"),
        ("timeouts.between_tokens_ms", "250_000", "250000 is above total_ms, 240000"),
        ("timeouts.total_ms", "0", "0 is not within 1 to 3600000"),
        ("stream.guard_chars", "0", "0 is not within 1 to 100000"),
        ("stream.hold_bytes_max", "100", "100 is not within 4096 to 67108864"),
        ("stream.caller_stall_ms", "0", "0 is not within 1 to 3600000"),
        ("hedge.quantile", "0.4", "0.4 is not within 0.5 to 0.999"),
        ("hedge.delay_ms_min", "0", "0 is not within 1 to 3600000"),
        ("hedge.tiers", "[\"big\"]", "no tier named \"big\"; there are simple, moderate, complex, reasoning"),
        ("breaker.failures", "0", "0 is not within 1 to 1000000"),
        ("breaker.error_ratio", "0.0", "0 is not above 0 and at most 1"),
        ("breaker.error_ratio", "1.5", "1.5 is not above 0 and at most 1"),
        ("breaker.error_ratio", "nan", "NaN is not above 0 and at most 1"),
        ("breaker.window_ms", "1", "1 is not within 100 to 3600000"),
        ("breaker.calls_min", "0", "0 is not within 1 to 1000000"),
        ("breaker.cooldown_ms", "130_000", "130000 is above cooldown_ms_max, 120000"),
        ("breaker.ramp_ms", "9_000_000", "9000000 is not within 0 to 3600000"),
    ] {
        let place = if value.starts_with('[') { "[0]" } else { "" };
        check(
            &format!("[completion]\n{key} = {value}"),
            &format!("line 2: completion.{key}{place}: {message}"),
        );
    }
    check(
        "[completion]\nstream = { guard_chars = 2000, hold_bytes_max = 7999 }",
        "line 2: completion.stream.hold_bytes_max: 7999 is below 8000: 2000 guard_chars of 4 bytes",
    );
    check(
        "[completion]\ndeadline_ms = 3000\ntimeouts = { connect_ms = 4000 }",
        "line 3: completion.timeouts.connect_ms: 4000 is above completion.deadline_ms, 3000",
    );
}

#[test]
fn a_shorter_limit_shortens_what_is_not_written() {
    let config = read("[completion]\ndeadline_ms = 4000\ntimeouts = { total_ms = 10_000 }\n");
    let ms = Duration::from_millis;
    let expected = Timeouts {
        connect: ms(4000),
        first_token: ms(10_000),
        between_tokens: ms(10_000),
        total: ms(10_000),
    };
    assert!(config.targets.iter().all(|target| target.timeouts == expected));
    let completion = read("[completion]\nanswer_bytes_max = 5000\nbackoff.max_ms = 9\n").completion;
    assert_eq!((completion.line_bytes_max, completion.backoff.first), (5000, ms(9)));
    let breaker = read("[completion]\nbreaker.cooldown_ms_max = 9\n").completion.breaker;
    assert_eq!((breaker.cooldown, breaker.cooldown_max), (ms(9), ms(9)));
}

#[test]
fn a_slow_target_has_longer_waits_where_nobody_wrote_them() {
    let text = |written: &str, own: &str| {
        let latency = format!("id = \"gpt-6-luna\"\n{own}\nlatency_ms_typical = 100_000");
        let text = DEFAULT_TOML.replacen("latency_ms_typical = 1500\n", "", 1);
        text.replacen("id = \"gpt-6-luna\"", &latency, 1).replacen(
            "[completion.timeouts]",
            &format!("[completion.timeouts]\n{written}\n#"),
            1,
        )
    };
    let waits = |written: &str, own: &str| {
        let timeouts = read(&text(written, own)).targets[0].timeouts;
        (timeouts.first_token.as_secs(), timeouts.total.as_secs())
    };
    assert_eq!(waits("", ""), (300, 300));
    assert_eq!(waits("total_ms = 200_000", ""), (200, 200));
    assert_eq!(waits("first_token_ms = 50_000", ""), (50, 300));
    assert_eq!(waits("", "timeouts = { first_token_ms = 40_000 }"), (40, 300));
}

#[test]
fn targets_have_their_own_waits_and_prices() {
    let line = "timeouts = { total_ms = 600_000, first_token_ms = 300_000 }\ncached_input_usd_per_mtok = 0.01\n\
                cache_write_usd_per_mtok = 0.125";
    let config = read(&first_target(line));
    let (first, second) = (&config.targets[0], &config.targets[1]);
    assert_eq!(first.timeouts.total, Duration::from_secs(600));
    assert_eq!(first.timeouts.first_token, Duration::from_secs(300));
    assert_eq!(first.timeouts.connect, Duration::from_secs(5));
    assert_eq!((first.cached_input_usd_per_mtok, first.cache_write_usd_per_mtok), (0.01, 0.125));
    assert_eq!(second.timeouts, Timeouts::default());
    assert_eq!(second.cached_input_usd_per_mtok, second.input_usd_per_mtok);
    assert_eq!(second.cache_write_usd_per_mtok, second.input_usd_per_mtok);
    for (line, expected) in [
        ("timeouts = { totl_ms = 1 }", "targets[0].timeouts.totl_ms: unknown field `totl_ms`"),
        ("timeouts = { total_ms = 0 }", "targets[0].timeouts.total_ms: 0 is not within 1 to 3600000"),
        (
            "timeouts = { total_ms = 10, first_token_ms = 11 }",
            "targets[0].timeouts.first_token_ms: 11 is above total_ms, 10",
        ),
        (
            "cached_input_usd_per_mtok = -1",
            "targets[0].cached_input_usd_per_mtok: -1 is not a price of at least 0",
        ),
        (
            "cache_write_usd_per_mtok = inf",
            "targets[0].cache_write_usd_per_mtok: inf is not a price of at least 0",
        ),
    ] {
        let error = read_text(&first_target(line)).expect_err(line);
        assert!(error.problems[0].to_string().contains(expected), "{error}");
        assert_eq!(error.problems.len(), 1, "{error}");
    }
}

#[test]
fn the_admin_listener_stays_on_loopback() {
    assert_eq!(read("[server]\nadmin_listen = \"off\"").server.admin_listen, None);
    let six = read("[server]\nadmin_listen = \"[::1]:0\"").server.admin_listen;
    assert_eq!(six, Some("[::1]:0".parse().unwrap()));
    for address in ["0.0.0.0:50052", "192.168.1.2:50052", "[::]:50052"] {
        check(
            &format!("[server]\nadmin_listen = \"{address}\""),
            "line 2: server.admin_listen: can be reached from other machines, and whoever reaches it changes what serves: give server.admin.tokens, or server.admin.tls with a client_ca",
        );
    }
    check(
        "[server]\nadmin_listen = \"on\"",
        "line 2: server.admin_listen: \"on\" is not an address such as 127.0.0.1:50051",
    );
}

#[test]
fn checks_fit_tiers_and_intents() {
    let checks = read(
        r#"
        [[completion.checks]]
        tiers = ["simple"]
        intents = ["code"]
        checks = ["empty", "logprob"]
        logprob_min = -0.5
        [[completion.checks]]
        tiers = ["reasoning"]
        checks = []
        [[completion.checks]]
        reject = ['(?i)\btodo\b']
        require = ['^\{', '^\[']
        logprob_min = -2.0
        "#,
    )
    .completion
    .checks;
    assert_eq!((&checks[0].tiers, checks[0].logprob_min), (&vec![Tier(0)], -0.5));
    assert_eq!(checks[0].checks, [Check::Empty, Check::Logprob]);
    assert_eq!(*checks[0].intents[0], *"code");
    assert_eq!(checks[1].checks, []);
    assert_eq!(checks[2].checks[8..], [Check::Logprob, Check::Pattern]);
    assert!(checks[2].reject[0].is_match("a ToDo b"));
    assert_eq!(checks[2].require.len(), 2);
    assert_eq!(read("[completion]\nchecks = []").completion.checks, []);
}

#[test]
fn each_mistake_in_a_check_has_its_place() {
    let entry = |keys: &str| format!("[[completion.checks]]\n{keys}");
    for (keys, expected) in [
        (
            "tiers = [\"big\"]",
            "tiers[0]: no tier named \"big\"; there are simple, moderate, complex, reasoning",
        ),
        ("tiers = [\"simple\", \"simple\"]", "tiers[1]: is listed twice"),
        ("intents = [\"\"]", "intents[0]: is empty"),
        ("checks = [\"empty\", \"empty\"]", "checks[1]: is listed twice"),
        ("checks = [\"empty\", \"pattern\"]", "checks[1]: needs patterns: give reject or require"),
        ("checks = [\"judge\"]", "checks[0]: needs a judge: give [completion.judge]"),
        ("logprob_min = 0.5", "logprob_min: 0.5 is not below 0"),
        ("logprob_min = -inf", "logprob_min: -inf is not below 0"),
    ] {
        check(&entry(keys), &format!("line 2: completion.checks[0].{expected}"));
    }
    let no_effect = "line 3: completion.checks[0].reject: has no effect: \"pattern\" is not among the checks";
    check(&entry("checks = [\"empty\"]\nreject = [\"a\"]"), no_effect);
    check(
        &entry("checks = [\"empty\"]\nlogprob_min = -1.0"),
        "line 3: completion.checks[0].logprob_min: has no effect: \"logprob\" is not among the checks",
    );
    check(
        &entry("reject = [\"a\", '\\w{1000}{100}']"),
        "line 2: completion.checks[0].reject[1]: is larger than 1048576 bytes when compiled: \
         shorten its repetitions",
    );
    check(
        &entry("require = ['(a']"),
        "line 2: completion.checks[0].require[0]: not a regular expression: unclosed group",
    );
    let patterns: Vec<String> = (0..65).map(|at| at.to_string()).collect();
    check(
        &entry(&format!("reject = {patterns:?}")),
        "line 1: completion.checks[0]: 65 patterns, at most 64 in one entry",
    );
    check(
        &format!("{}{}", entry(""), entry("tiers = [\"simple\"]")),
        "line 2: completion.checks[1]: is never reached: checks[0] fits every answer",
    );
    let many = entry("tiers = [\"simple\"]\n").repeat(101);
    check(&many, "line 1: completion.checks: 101 entries, at most 100");
    let error = read_text(&entry("checks = [\"refusals\"]")).expect_err("unknown check");
    let expected = "line 2: completion.checks[0].checks: unknown variant `refusals`, expected one of `empty`";
    assert!(error.problems[0].to_string().starts_with(expected), "{error}");
}

#[test]
fn each_mistake_in_the_judge_has_its_place() {
    let judge =
        |keys: &str| format!("[completion.judge]\ntarget = \"gpt-6-luna\"\nday_usd_max = 1.0\n{keys}");
    let config = read(&judge("")).completion.judge.unwrap();
    assert_eq!((config.target, config.share, config.tiers), (TargetIndex(0), 1.0, vec![]));
    for (keys, expected) in [
        ("score_min = 1.5", "score_min: 1.5 is not within 0 to 1"),
        ("share = -0.1", "share: -0.1 is not within 0 to 1"),
        ("rubric = \"\"", "rubric: is empty"),
        ("timeout_ms = 0", "timeout_ms: 0 is not within 1 to 3600000"),
        (
            "tiers = [\"big\"]",
            "tiers[0]: no tier named \"big\"; there are simple, moderate, complex, reasoning",
        ),
    ] {
        check(&judge(keys), &format!("line 4: completion.judge.{expected}"));
    }
    check("[completion.judge]\nday_usd_max = 1.0", "line 1: completion.judge.target: is missing");
    check(
        "[completion.judge]\ntarget = \"gpt-6-luna\"",
        "line 1: completion.judge.day_usd_max: is missing: say what judging may cost in a day",
    );
    check(
        "[completion.judge]\ntarget = \"gpt-6-luna\"\nday_usd_max = 0",
        "line 3: completion.judge.day_usd_max: 0 is not above 0",
    );
    check(
        &judge(&format!("rubric = \"{}\"", "a".repeat(9000))),
        "line 4: completion.judge.rubric: 9000 bytes, at most 8192",
    );
    check(
        &judge("[[completion.checks]]\nchecks = [\"empty\"]"),
        "line 1: completion.judge: judges nothing: no entry of completion.checks lists \"judge\"",
    );
    let error = read_text("[completion.judge]\ntarget = \"nobody\"\nday_usd_max = 1").expect_err("no target");
    assert!(
        error.problems[0]
            .to_string()
            .starts_with("line 2: completion.judge.target: no target named \"nobody\"")
    );
}
