//! The judge: its verdict, its budget, and doing without it.

use std::time::SystemTime;

use super::{
    fake::{Play, fails, hangs, play, says},
    world::{LONG, PROMPT, SHORT, World, index, ms, story},
};
use crate::{
    completion::attempt::{Check, ErrorKind},
    config::{Config, JudgeConfig},
};

const BAD: &str = "{\"score\": 0.1, \"why\": \"it does not say why\"}";
const GOOD: &str = "{\"score\": 0.9, \"why\": \"fine\"}";

/// `f` judges the answers of all but the top tier.
fn judged(config: &mut Config) {
    config.completion.judge = Some(JudgeConfig {
        target: index("f"),
        rubric: "The answer is right.".to_owned(),
        score_min: 0.5,
        share: 1.0,
        tiers: Vec::new(),
        day_usd_max: 1.0,
        timeout: ms(2_000),
    });
    config.completion.checks[0].checks.push(Check::Judge);
}

fn world(verdicts: Vec<Play>) -> World {
    changed(|_| {}, verdicts)
}

fn changed(change: impl FnOnce(&mut Config), verdicts: Vec<Play>) -> World {
    World::with(
        |config| {
            judged(config);
            change(config);
        },
        vec![
            ("a", vec![says(&[SHORT])]),
            ("c", vec![says(&["Paris, on the Seine."])]),
            ("e", vec![says(&["It is Paris."])]),
            ("f", verdicts),
        ],
    )
}

#[tokio::test(start_paused = true)]
async fn a_good_verdict_lets_the_answer_pass() {
    let it = world(vec![says(&[GOOD])]);
    let completion = it.complete().await.unwrap();
    assert_eq!(story(&completion.summary.attempts), "a first answered, f judge answered");
    assert_eq!(completion.answer.view.text, SHORT);
    // The judge was asked about this answer.
    let asked = serde_json::to_string(&it.fake.heard()[1].chat.openai).unwrap();
    assert!(asked.contains(PROMPT) && asked.contains(SHORT) && asked.contains("The answer is right."));
    let read = world(vec![says(&[GOOD])]).read().await;
    assert_eq!((read.text(), read.story().as_str()), (SHORT, "a first answered, f judge answered"));
}

#[tokio::test(start_paused = true)]
async fn a_bad_verdict_escalates_up_to_the_tier_that_is_not_judged() {
    let expected = "a first judge, f judge answered, c escalation judge, f judge answered, \
                    e escalation answered";
    let completion = world(vec![says(&[BAD])]).complete().await.unwrap();
    assert_eq!(story(&completion.summary.attempts), expected);
    assert_eq!(completion.answer.view.text, "It is Paris.");
    assert_eq!(world(vec![says(&[BAD])]).read().await.story(), expected);
}

#[tokio::test(start_paused = true)]
async fn of_two_bad_verdicts_the_higher_tier_is_returned_and_marked() {
    let it = World::with(
        judged,
        vec![
            ("a", vec![says(&[SHORT])]),
            ("c", vec![says(&["Paris, on the Seine."])]),
            ("e", vec![fails(ErrorKind::NotFound)]),
            ("f", vec![says(&[BAD]), says(&[BAD]), fails(ErrorKind::NotFound)]),
        ],
    );
    let read = it.read().await;
    assert_eq!(read.text(), "Paris, on the Seine.");
    let weak = read.summary().weak.clone().unwrap();
    assert_eq!(weak.check, Check::Judge);
    assert!(weak.why.contains("it does not say why"), "{}", weak.why);
}

#[tokio::test(start_paused = true)]
async fn a_judge_that_fails_or_talks_is_done_without() {
    for (verdict, how) in [
        (fails(ErrorKind::Server), "server"),
        (fails(ErrorKind::Refused), "refused"),
        (says(&["It is fine, I think."]), "answered"),
        (play().finishes(), "answered"),
    ] {
        let summary = world(vec![verdict]).complete().await.unwrap().summary;
        assert_eq!(story(&summary.attempts), format!("a first answered, f judge {how}"));
        assert!(summary.weak.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_judge_is_done_without_after_its_own_time() {
    let it = world(vec![hangs()]);
    let summary = it.complete().await.unwrap().summary;
    assert_eq!(story(&summary.attempts), "a first answered, f judge timeout_total");
    assert_eq!((it.age(), summary.attempts[0].latency, summary.overhead), (ms(2_000), ms(0), ms(0)));
    // It worked on it for two seconds: that is paid for, by the judges' budget too.
    let cost_usd = summary.attempts[1].cost_usd;
    assert!(cost_usd > 0.0 && summary.attempts[1].estimated);
    assert_eq!(it.completer.spend.judge_day_usd(SystemTime::now()), cost_usd);

    let it = changed(|config| config.completion.deadline = ms(500), vec![hangs()]);
    let summary = it.complete().await.unwrap().summary;
    assert_eq!(story(&summary.attempts), "a first answered, f judge deadline");
    assert_eq!(it.age(), ms(500));
}

#[tokio::test(start_paused = true)]
async fn a_judge_whose_breaker_is_open_is_done_without() {
    let it = changed(|config| config.completion.breaker.failures = 1, vec![hangs()]);
    assert_eq!(it.complete().await.unwrap().summary.attempts.len(), 2);
    assert_eq!(it.complete().await.unwrap().summary.attempts.len(), 1);
    assert_eq!(it.age(), ms(2_000), "only the first request waited for it");
}

#[tokio::test(start_paused = true)]
async fn the_judges_cost_is_accounted_for() {
    let it = world(vec![play().text(GOOD).finishes().uses(200, 10)]);
    let summary = it.complete().await.unwrap().summary;
    // 100 and 200 dollars a million.
    let judge_usd = (200.0 * 100.0 + 10.0 * 200.0) / 1e6;
    let costs: Vec<f64> = summary.attempts.iter().map(|attempt| attempt.cost_usd).collect();
    assert_eq!(costs, [20e-6, judge_usd]);
    assert_eq!(summary.cost_usd, 20e-6 + judge_usd);
    assert_eq!(it.completer.spend.judge_day_usd(SystemTime::now()), judge_usd);
    assert!((it.spent_usd() - summary.cost_usd).abs() < 1e-12);
    // Of the answer, not of the verdict.
    assert_eq!(summary.usage.output_tokens, 5);
}

#[tokio::test(start_paused = true)]
async fn a_verdict_without_usage_is_estimated_by_what_the_judge_was_sent() {
    let it = world(vec![play().text(GOOD).finishes()]);
    let summary = it.complete().await.unwrap().summary;
    let asked = serde_json::to_string(&it.fake.heard()[1].chat.openai["messages"]).unwrap();
    let tokens = summary.attempts[1].usage.input_tokens;
    assert!(summary.estimated && tokens > 100, "{tokens}");
    assert!(tokens.abs_diff(asked.len() as u64 / 4) < 40, "{tokens} of {}", asked.len());
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_of_judges_or_of_the_request_leaves_the_judge_out() {
    let it = world(vec![says(&[BAD])]);
    it.completer.spend.add_judge(1.0, SystemTime::now());
    assert_eq!(story(&it.complete().await.unwrap().summary.attempts), "a first answered");
    let it = changed(|config| config.completion.cost_usd_max = Some(0.01), vec![says(&[BAD])]);
    assert_eq!(story(&it.complete().await.unwrap().summary.attempts), "a first answered");
}

#[tokio::test(start_paused = true)]
async fn only_what_is_there_as_a_whole_is_judged() {
    let it = World::with(judged, vec![("a", vec![says(&LONG)])]);
    assert_eq!(it.read().await.story(), "a first answered");
    // What failed a check already needs no judge.
    let it = World::with(
        judged,
        vec![("a", vec![play().finishes()]), ("c", vec![play().finishes()]), ("e", vec![says(&[SHORT])])],
    );
    assert_eq!(it.read().await.story(), "a first empty, c escalation empty, e escalation answered");
    // No check of the judge: nobody is asked.
    let it = changed(|config| config.completion.checks.clear(), Vec::new());
    assert_eq!(it.read().await.story(), "a first answered");
}
