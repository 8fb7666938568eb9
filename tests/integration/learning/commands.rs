//! `pointsman learning`, on a store in a folder of its own.

use std::{
    path::Path,
    process::{Output, Stdio},
};

use pointsman::{
    config::{LearningConfig, StoreConfig},
    traffic::{learn::Learner, store::Store},
};
use serde_json::Value;

use crate::{
    cli::text,
    support::{
        program::program,
        traffic::{NEW_YEAR_MS, feedback, record},
    },
};

fn learning(state: &Path, arguments: &[&str]) -> Output {
    program(state).arg("learning").args(arguments).stdin(Stdio::null()).output().unwrap()
}

#[tokio::test]
async fn what_was_learned_is_shown_and_forgotten() {
    let state = tempfile::tempdir().unwrap();
    let store = StoreConfig::Sqlite { path: state.path().join("pointsman/traffic.sqlite") };
    let store = Store::open(&store).await.unwrap();
    let record = record(NEW_YEAR_MS, 1);
    store.write(std::slice::from_ref(&record)).await.unwrap();
    store.add_feedback(&[feedback("f", record.decision_id)], 0).await.unwrap();
    let config = LearningConfig { enabled: true, ..LearningConfig::default() };
    Learner::new(store, config, std::sync::Arc::default()).step(NEW_YEAR_MS).await.unwrap();

    let shown = learning(state.path(), &["show"]);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    let shown = text(&shown.stdout);
    assert!(shown.contains("code") && shown.contains("small") && !shown.contains('\u{1b}'), "{shown}");
    let shown: Value = serde_json::from_slice(&learning(state.path(), &["show", "--json"]).stdout).unwrap();
    assert_eq!(shown["offsets"][0]["observations"], 1);
    let other = learning(state.path(), &["reset", "--intent", "math"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).contains("something was learned of code"), "{}", text(&other.stderr));
    let unasked = learning(state.path(), &["reset"]);
    assert_eq!(unasked.status.code(), Some(2), "nobody is there to agree");
    assert!(text(&unasked.stderr).contains("say --yes to forget"), "{}", text(&unasked.stderr));
    let all = learning(state.path(), &["reset", "--yes"]);
    assert_eq!(text(&all.stdout), "1 offset forgotten\n");
    assert!(text(&learning(state.path(), &["show"]).stdout).contains("nothing was learned yet"));
}

#[test]
fn without_a_store_it_says_so() {
    let state = tempfile::tempdir().unwrap();
    let shown = learning(state.path(), &["show"]);
    assert_eq!(shown.status.code(), Some(1));
    assert!(text(&shown.stderr).contains("there is no such file"), "{}", text(&shown.stderr));
    assert_eq!(learning(state.path(), &["forget"]).status.code(), Some(2));
}
