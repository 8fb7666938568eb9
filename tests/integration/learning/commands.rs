//! `pointsman learning` without a store. What it does with one is in `traffic_commands`.

use std::{
    path::Path,
    process::{Output, Stdio},
};

use crate::{cli::text, support::program::program};

fn learning(state: &Path, arguments: &[&str]) -> Output {
    program(state).arg("learning").args(arguments).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn without_a_store_it_says_so() {
    let state = tempfile::tempdir().unwrap();
    let shown = learning(state.path(), &["show"]);
    assert_eq!(shown.status.code(), Some(1));
    assert!(text(&shown.stderr).contains("there is no such file"), "{}", text(&shown.stderr));
    assert_eq!(learning(state.path(), &["forget"]).status.code(), Some(2));
}
