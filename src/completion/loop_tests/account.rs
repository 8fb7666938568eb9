//! What a completion cost: reported, missing and impossible usage, sums, baseline, time.

use super::{
    fake::{fails, hangs, play, says},
    world::{LONG, PROMPT_TOKENS, SHORT, World, ms},
};
use crate::completion::{answer::Usage, attempt::ErrorKind};

/// Tokens of [`SHORT`] as they are estimated.
const SHORT_TOKENS: u64 = 6;

fn usage(input: u64, cached: u64, written: u64, output: u64) -> Usage {
    Usage {
        input_tokens: input,
        cached_input_tokens: cached,
        cache_write_tokens: written,
        output_tokens: output,
        reasoning_tokens: 0,
    }
}

#[tokio::test(start_paused = true)]
async fn usage_is_taken_as_reported_or_estimated() {
    let estimate = usage(PROMPT_TOKENS, 0, 0, SHORT_TOKENS);
    for (reported, expected, estimated) in [
        (Some(usage(10, 0, 0, 5)), usage(10, 0, 0, 5), false),
        (Some(usage(1000, 900, 50, 5)), usage(1000, 900, 50, 5), false),
        (None, estimate, true),
        (Some(usage(0, 0, 0, 0)), estimate, true),
        (Some(usage(10, 20, 0, 5)), estimate, true),
        (Some(usage(u64::MAX, 0, 0, u64::MAX)), estimate, true),
    ] {
        let said = play().text(SHORT).finishes();
        let said = reported.map_or(said.clone(), |usage| said.uses_all(usage));
        let it = World::with(
            |config| {
                config.targets[0].cached_input_usd_per_mtok = 0.1;
                config.targets[0].cache_write_usd_per_mtok = 1.25;
            },
            vec![("a", vec![said])],
        );
        let plain = expected.input_tokens - expected.cached_input_tokens - expected.cache_write_tokens;
        let cost_usd = (plain as f64
            + expected.cached_input_tokens as f64 * 0.1
            + expected.cache_write_tokens as f64 * 1.25
            + expected.output_tokens as f64 * 2.0)
            / 1e6;
        for summary in [it.complete().await.unwrap().summary, it.read().await.summary().clone()] {
            assert_eq!((summary.usage, summary.estimated), (expected, estimated), "{reported:?}");
            assert!((summary.cost_usd - cost_usd).abs() < 1e-12, "{reported:?}: {}", summary.cost_usd);
            // The same from e, without a cache.
            let baseline = (expected.input_tokens * 100 + expected.output_tokens * 200) as f64 / 1e6;
            assert!((summary.baseline_cost_usd - baseline).abs() < 1e-9, "{reported:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_sum_of_all_attempts_is_what_it_cost() {
    let broken = play().thinks("Let me think about it for a while.").breaks(ErrorKind::RateLimited);
    let it = World::new(vec![
        ("a", vec![broken]),
        ("b", vec![says(&["I'm sorry, but I can't help with that."])]),
        ("c", vec![says(&LONG)]),
    ]);
    let read = it.read().await;
    let summary = read.summary();
    let costs: Vec<f64> = summary.attempts.iter().map(|attempt| attempt.cost_usd).collect();
    assert_eq!(costs.len(), 3);
    assert!(costs.iter().all(|cost| *cost > 0.0), "{costs:?}");
    assert_eq!(summary.cost_usd, costs.iter().sum::<f64>());
    let estimated: Vec<bool> = summary.attempts.iter().map(|attempt| attempt.estimated).collect();
    assert_eq!((estimated, summary.estimated), (vec![true, false, false], true));
    assert_eq!(summary.usage, usage(10, 0, 0, 5), "of the answer alone");
    let totals = it.completer.spend.report(std::time::SystemTime::now()).totals;
    assert!((totals.day_usd - summary.cost_usd).abs() < 1e-12);
    assert!((totals.day_baseline_usd - summary.baseline_cost_usd).abs() < 1e-12);
}

#[tokio::test(start_paused = true)]
async fn errors_before_anything_was_heard_cost_nothing() {
    for kind in [ErrorKind::Connect, ErrorKind::RateLimited, ErrorKind::Server, ErrorKind::Unauthorized] {
        let it = World::new(vec![("a", vec![fails(kind)]), ("b", vec![says(&[SHORT])])]);
        let attempts = it.complete().await.unwrap().summary.attempts;
        assert_eq!((attempts[0].cost_usd, attempts[0].estimated), (0.0, false), "{kind}");
        assert_eq!(attempts[0].usage, Usage::default());
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_has_an_account_too() {
    let heard = || vec![play().thinks("Let me think about it.").breaks(ErrorKind::NotFound)];
    let it = World::new(["a", "b", "c", "d", "e", "f"].into_iter().map(|id| (id, heard())).collect());
    let failure = it.stream().await.unwrap_err();
    assert_eq!(failure.cost_usd, failure.attempts.iter().map(|attempt| attempt.cost_usd).sum::<f64>());
    assert!(failure.cost_usd > 0.0);
    assert!((it.spent_usd() - failure.cost_usd).abs() < 1e-12);
}

#[tokio::test(start_paused = true)]
async fn time_is_told_apart() {
    let it = World::new(vec![
        ("a", vec![play().wait(2_000).breaks(ErrorKind::NotFound)]),
        ("b", vec![play().accepts_after(100).wait(200).text(SHORT).wait(700).finishes()]),
    ]);
    let mut job = it.job();
    // What passed before the loop saw it is pointsman's own time.
    job.received -= ms(30);
    let summary = it.completer.complete(it.router.clone(), job).await.unwrap().summary;
    assert_eq!(summary.overhead, ms(30));
    let of = |at: usize| (summary.attempts[at].started, summary.attempts[at].latency);
    assert_eq!((of(0), of(1)), ((ms(30), ms(2_000)), (ms(2_030), ms(1_000))));
    assert_eq!(summary.attempts[1].first_token, None, "it came whole");

    let job = it.job();
    let read = super::world::read(it.completer.stream(it.router.clone(), job).await).await;
    let attempt = &read.summary().attempts[1];
    assert_eq!((attempt.first_token, attempt.latency), (Some(ms(300)), ms(1_000)));
    assert_eq!(read.summary().overhead, ms(0));
    let logged: Vec<_> = it.told().iter().map(|ended| (ended.overhead, ended.latency)).collect();
    assert_eq!(
        logged,
        [(ms(30), ms(3_030)), (ms(0), ms(3_000))],
        "the rest of a stream is nobody's overhead"
    );
}

#[tokio::test(start_paused = true)]
async fn who_hangs_up_while_a_provider_is_waited_for_leaves_no_overhead() {
    for streamed in [false, true] {
        let it =
            World::new(vec![("a", vec![play().wait(200).breaks(ErrorKind::NotFound)]), ("b", vec![hangs()])]);
        let mut job = it.job();
        job.received -= ms(30);
        let waiting = async {
            if streamed {
                it.completer.stream(it.router.clone(), job).await.is_ok()
            } else {
                it.completer.complete(it.router.clone(), job).await.is_ok()
            }
        };
        assert!(tokio::time::timeout(ms(1_500), waiting).await.is_err());
        let logged: Vec<_> = it.told().iter().map(|ended| (ended.overhead, ended.latency)).collect();
        assert_eq!(logged, [(ms(30), ms(1_530))]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_off_leaves_no_overhead() {
    let broken = LONG.iter().fold(play(), |play, text| play.text(text));
    let it = World::new(vec![("a", vec![broken.wait(700).breaks(ErrorKind::Server)])]);
    it.read().await.failed();
    let logged: Vec<_> = it.told().iter().map(|ended| (ended.overhead, ended.latency)).collect();
    assert_eq!(logged, [(ms(0), ms(700))]);
}
