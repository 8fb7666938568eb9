use serde_json::json;

use super::{sample::tests::sample, *};
use crate::{
    config::{default_config, read_text},
    prompt::Tier,
};

fn facts(tier: usize, sufficiency: Option<[f64; 4]>) -> Facts {
    Facts {
        tier: Tier(tier),
        intent: Some(Arc::from("code")),
        intent_confidence: sufficiency.map(|_| 0.8),
        classified: sufficiency.is_some(),
        sufficiency: sufficiency.map(Vec::from),
        truncated: false,
        low_confidence: false,
        costs_usd: vec![0.001, 0.002, 0.004, 0.008],
    }
}

fn scored(at: usize) -> Facts {
    let simple = (at % 10) as f64 / 10.0;
    facts(at % 4, Some([simple, simple.max(0.5), simple.max(0.8), 1.0]))
}

fn evaluated(samples: Vec<Sample>, facts: Vec<Facts>) -> Evaluation {
    let file = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/baseline.json"));
    let baseline = Tfidf::read(file).unwrap();
    let section = Section { name: "s".to_owned(), file: "f".to_owned(), samples, facts };
    let resampling = Resampling { resamples: 40, seed: 1 };
    let settings = Settings { config: &default_config(), baseline: Some(&baseline), resampling };
    let done = std::sync::atomic::AtomicUsize::new(0);
    let evaluation = evaluate(&section, &settings, || {
        done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(done.into_inner(), 40, "each resample is told");
    evaluation
}

/// Labels and outcomes of four tiers; the stronger ones win on every third line.
fn labelled(at: usize) -> Sample {
    let hard = at.is_multiple_of(3);
    let (tier, weak) = if hard { ("complex", 0.0) } else { ("simple", 1.0) };
    sample(&json!({
        "prompt": format!("question {at}"), "intent": if hard { "math" } else { "code" }, "tier": tier,
        "p_small": weak, "p_mid": weak, "p_strong": 1, "p_reason": 1,
    }))
}

#[test]
fn lines_that_a_rule_decided_count_for_no_row() {
    let all = (0..60).map(labelled).collect();
    let ruled = |at: usize| if at.is_multiple_of(2) { facts(0, None) } else { scored(at) };
    let evaluation = evaluated(all, (0..60).map(ruled).collect());
    let masked = ["difficulty.", "gain.", "sufficiency_ece.", "intent.ece"];
    for comparison in &evaluation.metrics {
        let router = comparison.rows[&Row::Router].samples;
        for (row, figure) in &comparison.rows {
            assert_eq!(figure.samples, router, "{} of {row:?}", comparison.name);
        }
        let expected = if masked.iter().any(|name| comparison.name.starts_with(name)) { 30 } else { 60 };
        assert_eq!(router, expected, "{}", comparison.name);
    }
    let gain = evaluation.metrics.iter().find(|comparison| comparison.name == "gain.apgr").unwrap();
    assert_eq!(gain.rows.keys().copied().collect::<Vec<_>>(), Row::ALL);
}

#[test]
fn a_few_lines_are_not_told_as_certain() {
    for (lines, sure) in [(1, false), (19, false), (20, true)] {
        let evaluation = evaluated((0..lines).map(labelled).collect(), (0..lines).map(scored).collect());
        let accuracy = evaluation.metrics.iter().find(|one| one.name == "tier.accuracy").unwrap();
        for figure in accuracy.rows.values() {
            assert_eq!(figure.interval.is_some(), sure, "{lines} lines");
        }
        assert_eq!(accuracy.rows[&Row::Length].router_lead.is_some(), sure, "{lines} lines");
    }
}

#[test]
fn a_language_is_as_sure_as_its_own_lines_allow() {
    let line = |at: usize| {
        let language = if at < 40 { "en" } else { "de" };
        // Every fourth line has an intent.
        let intent = at.is_multiple_of(4).then_some("code");
        sample(&json!({"prompt": "x", "tier": "simple", "language": language, "intent": intent}))
    };
    let evaluation = evaluated((0..50).map(line).collect(), (0..50).map(scored).collect());
    let [english, german] = &evaluation.languages[..] else { panic!("{:?}", evaluation.languages) };
    assert_eq!((&*english.language, english.samples, german.samples), ("en", 40, 10));
    let of = |language: &Language, metric: &str| {
        let figure = language.metrics[metric];
        (figure.samples, figure.interval.is_some())
    };
    assert_eq!(of(english, "tier.accuracy"), (40, true));
    assert_eq!(of(german, "tier.accuracy"), (10, false));
    assert_eq!(of(english, "intent.accuracy"), (10, false));
}

#[test]
fn chance_is_the_mean_of_many_draws() {
    let evaluation = evaluated((0..60).map(labelled).collect(), (0..60).map(scored).collect());
    let value = |name: &str| {
        let comparison = evaluation.metrics.iter().find(|one| one.name == name).unwrap();
        comparison.rows[&Row::Random]
    };
    // The standard error of one draw is near 0.06, of the mean of twenty a quarter of it; a third is complex.
    let accuracy = value("tier.accuracy");
    let expected = (2.0_f64 / 3.0).powi(2) + (1.0_f64 / 3.0).powi(2);
    assert!((accuracy.value - expected).abs() < 0.05, "{accuracy:?}");
    let apgr = value("gain.apgr");
    assert!((apgr.value - 0.5).abs() < 0.05, "{apgr:?}");
    // The interval tells luck too, which no single draw does.
    let interval = accuracy.interval.unwrap();
    assert!(interval.low < accuracy.value && accuracy.value < interval.high, "{accuracy:?}");
}

#[test]
fn notes_tell_which_tiers_are_compared_and_which_are_not() {
    let line = |at: usize| {
        // "reasoning" has outcomes on a tenth of the lines only.
        let reasoning = at.is_multiple_of(10).then_some(1.0);
        sample(&json!({"prompt": "x", "p_small": 0.5, "p_mid": 0.6, "p_strong": 1, "p_reason": reasoning}))
    };
    let notes = evaluated((0..40).map(line).collect(), (0..40).map(scored).collect()).notes;
    for expected in [
        "outcomes of simple, moderate, complex on 40 of 40 lines; complex is the top tier of the cost figures",
        "outcomes of reasoning on 4 of 40 lines: left out of the cost figures",
        "10 lines decided for reasoning count as complex in the cost figures",
        "gain compares simple with complex",
    ] {
        assert!(notes.iter().any(|note| note == expected), "{expected:?} is missing in {notes:#?}");
    }
    let one = |_| sample(&json!({"prompt": "x", "p_small": 0.5}));
    let notes = evaluated((0..3).map(one).collect(), (0..3).map(scored).collect()).notes;
    assert_eq!(notes, ["outcomes of simple on 3 of 3 lines: left out of the cost figures"]);
    let unlabelled = |_| sample(&json!({"prompt": "x"}));
    assert!(evaluated(vec![unlabelled(0)], vec![scored(0)]).notes.is_empty());
}

#[test]
fn many_languages_are_noted() {
    let line = |at: usize| sample(&json!({"prompt": "x", "tier": "simple", "language": format!("l{at}")}));
    let evaluation = evaluated((0..60).map(line).collect(), (0..60).map(scored).collect());
    assert_eq!(evaluation.languages.len(), 51);
    let rest = &evaluation.languages[0];
    assert_eq!((&*rest.language, rest.samples, rest.metrics["tier.accuracy"].samples), ("other", 10, 10));
    assert!(
        evaluation.notes[0].starts_with("the 50 most frequent of 60 languages"),
        "{:?}",
        evaluation.notes
    );
}

#[test]
fn two_tiers_are_compared_with_one_another() {
    let config = read_text(sample::tests::TWO_TIERS).unwrap();
    let line = |at: usize| {
        let sample = labelled(at);
        Sample { outcomes: vec![sample.outcomes[0], sample.outcomes[2]], tier: Some(Tier(at % 2)), ..sample }
    };
    let of_two = |at: usize| {
        let Facts { costs_usd, .. } = scored(at);
        let sufficiency = Some(vec![(at % 10) as f64 / 10.0, 1.0]);
        Facts { tier: Tier(at % 2), sufficiency, costs_usd: costs_usd[..2].to_vec(), ..scored(at) }
    };
    let section = Section {
        name: "s".to_owned(),
        file: "f".to_owned(),
        samples: (0..30).map(line).collect(),
        facts: (0..30).map(of_two).collect(),
    };
    let settings =
        Settings { config: &config, baseline: None, resampling: Resampling { resamples: 0, seed: 1 } };
    let evaluation = evaluate(&section, &settings, || {});
    assert!(evaluation.notes.contains(&"gain compares cheap with good".to_owned()), "{:?}", evaluation.notes);
    assert!(evaluation.router_value("gain.apgr").is_some());
    assert!(evaluation.router_value("cost.aiq").is_some());
}
