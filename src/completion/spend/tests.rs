//! Spend as a whole: its file, its threads.

use std::{fs, time::UNIX_EPOCH};

use super::*;
use crate::config::{AtLimit, BudgetConfig, BudgetScope, default_config};

/// 2026-11-21 12:00:00.
fn noon() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_262_400)
}

fn config(spend_file: Option<PathBuf>) -> Config {
    let budget = BudgetConfig {
        name: Arc::from("each"),
        scope: BudgetScope::EachTenant,
        day_usd: Some(1.0),
        month_usd: None,
        at_limit: AtLimit::TierMax(Tier(0)),
    };
    Config { budgets: vec![budget], spend_file, ..default_config() }
}

fn tenant(name: &str) -> Context {
    Context { tenant: name.to_owned(), ..Context::default() }
}

#[test]
fn spend_outlives_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(Some(directory.path().join("spend.json")));
    let spend = Spend::open_at(&config, noon()).unwrap();
    spend.add(&tenant("one"), Tier(1), 1.0, 3.0, noon());
    spend.add_judge(0.5, noon());
    let before = spend.report(noon());
    drop(spend);

    let spend = Spend::open_at(&config, noon()).unwrap();
    assert_eq!(spend.report(noon()), before);
    let capped =
        Verdict::TierMax { tier: Tier(0), why: "budget \"each\" of 1 USD a day is spent".to_owned() };
    assert_eq!(spend.verdict(&tenant("one"), noon()), capped);
    assert_eq!(spend.verdict(&tenant("two"), noon()), Verdict::Free);
    assert_eq!(spend.judge_day_usd(noon()), 0.5);
    let names: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["spend.json"], "nothing else is left behind");
}

#[test]
fn the_file_is_written_while_the_process_runs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spend.json");
    let spend = Spend::open_at(&config(Some(path.clone())), noon()).unwrap();
    spend.add(&tenant("one"), Tier(0), 0.25, 0.5, noon());
    // The first change is written at once; a minute is a bound, not a wait.
    let bound = std::time::Instant::now() + Duration::from_secs(60);
    while !path.exists() {
        assert!(std::time::Instant::now() < bound);
        thread::yield_now();
    }
    let kept: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let expected =
        serde_json::json!({"day": "2026-11-21", "day_usd": 0.25, "month": "2026-11", "month_usd": 0.25});
    assert_eq!(kept["budgets"][0]["tenants"]["one"], expected);
    assert_eq!(kept["version"], 1);
}

#[test]
fn a_broken_file_is_named_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spend.json");
    let sums = r#"{"day":"2026-11-21","day_usd":1,"month":"2026-11","month_usd":1}"#;
    let whole = |spend: &str, rest: &str| {
        format!(r#"{{"version":1,"spend":{spend},"baseline":{sums},"judge":{sums},"budgets":[]{rest}}}"#)
    };
    fs::write(&path, whole(sums, "")).unwrap();
    assert!(Spend::open_at(&config(Some(path.clone())), noon()).is_ok());
    for (text, problem) in [
        (String::new(), "EOF"),
        ("{\"version\":1".to_owned(), "EOF"),
        ("{\"version\":1}".to_owned(), "missing field"),
        (
            whole(sums, "").replace("\"version\":1", "\"version\":2"),
            "version 2, this program reads version 1",
        ),
        (whole(&sums.replace("21\"", "31\""), ""), "\"2026-11-31\" is no day"),
        (whole(&sums.replace("_usd\":1", "_usd\":-1"), ""), "spend: an amount below 0"),
    ] {
        fs::write(&path, &text).unwrap();
        let error = Spend::open_at(&config(Some(path.clone())), noon()).err().unwrap().to_string();
        assert!(error.contains("spend.json") && error.contains(problem), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn a_place_that_cannot_be_written_is_an_error_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing").join("spend.json");
    let error = Spend::open_at(&config(Some(path)), noon()).err().unwrap();
    assert!(matches!(error, SpendError::Write { .. }), "{error}");
}

#[test]
fn what_could_not_be_written_is_written_later() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("place");
    fs::create_dir(&place).unwrap();
    let config = config(Some(place.join("spend.json")));
    let spend = Spend::open_at(&config, noon()).unwrap();
    fs::remove_dir(&place).unwrap();
    spend.add(&tenant("one"), Tier(0), 0.25, 0.5, noon());
    let bound = std::time::Instant::now() + Duration::from_secs(60);
    while !spend.shared.lock().failing {
        assert!(std::time::Instant::now() < bound);
        thread::yield_now();
    }
    fs::create_dir(&place).unwrap();
    drop(spend);
    assert_eq!(Spend::open_at(&config, noon()).unwrap().report(noon()).totals.day_usd, 0.25);
}

#[test]
fn what_many_threads_spend_is_all_counted() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(Some(directory.path().join("spend.json")));
    let spend = Spend::open_at(&config, noon()).unwrap();
    thread::scope(|scope| {
        for at_thread in 0..8 {
            let spend = &spend;
            scope.spawn(move || {
                let context = tenant(if at_thread % 2 == 0 { "even" } else { "odd" });
                for _ in 0..500 {
                    spend.add(&context, Tier(0), 0.125, 0.25, noon());
                }
            });
        }
    });
    drop(spend);
    let report = Spend::open_at(&config, noon()).unwrap().report(noon());
    assert_eq!((report.totals.day_usd, report.totals.day_saved_usd), (500.0, 500.0));
    assert!(report.budgets.iter().all(|state| state.day_usd == 250.0), "{report:?}");
}

#[test]
fn what_is_no_amount_is_not_counted() {
    let spend = Spend::open_at(&config(None), noon()).unwrap();
    for usd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0] {
        spend.add(&tenant("one"), Tier(0), usd, usd, noon());
    }
    spend.add(&tenant("one"), Tier(99), 0.5, 1.0, noon());
    assert_eq!(spend.report(noon()).totals.day_usd, 0.5);
}

#[test]
fn a_tier_is_the_one_of_the_requests_own_configuration() {
    let before = config(None);
    let spend = Spend::open_at(&before, noon()).unwrap();
    spend.add(&tenant("one"), Tier(0), 1.0, 1.0, noon());
    let held_to = |spend: &Spend| match spend.verdict(&tenant("one"), noon()) {
        Verdict::TierMax { tier, .. } => tier,
        other => panic!("{other:?}"),
    };
    assert_eq!(held_to(&spend), Tier(0));
    // A reload turns the tiers round, and names the same one, which is the last now.
    let mut after = before;
    after.tiers.reverse();
    let last = after.top_tier();
    after.budgets[0].at_limit = AtLimit::TierMax(last);
    let reloaded = spend.under(&after);
    reloaded.take_over(&after.budgets);
    assert_eq!(held_to(&reloaded), last);
    assert_eq!(held_to(&spend), Tier(0), "a request that began before the reload");
}

#[test]
fn a_tier_that_is_not_known_is_the_nearest_weaker_one() {
    let names = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect::<Vec<Arc<str>>>();
    let (new, old) = (names(&["a", "b", "c", "d"]), names(&["d", "x", "b"]));
    let as_old = [0, 1, 2, 3].map(|tier| translated(Tier(tier), &new, &old).0);
    assert_eq!(as_old, [0, 2, 2, 0]);
}
