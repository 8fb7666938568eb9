//! One record as a line for a person. Pure.

use chrono::{DateTime, Utc};

use super::super::show::{GOOD, LABEL, RESET, WARN};
use crate::traffic::{
    feedback::{Feedback, Verdict},
    record::{Kind, Logged},
};

/// Columns of names; longer ones push the rest to the right.
const TIER_CELLS: usize = 18;
const TARGET_CELLS: usize = 26;
const INTENT_CELLS: usize = 16;

/// Returns the names of the columns of [`line`].
pub fn head() -> String {
    format!(
        "{LABEL}{:<23} {:<TIER_CELLS$} {:<TARGET_CELLS$} {:<10} {:<INTENT_CELLS$} {:>11} {:>10} {:<22} feedback{RESET}",
        "time (UTC)", "tier", "target", "source", "intent", "cost", "time", "status"
    )
}

/// Returns time, tier, target, source, intent, cost, latency, status and feedback.
pub fn line(logged: &Logged) -> String {
    let record = &logged.record;
    let (decision, outcome) = (&record.decision, &record.outcome);
    let at = DateTime::<Utc>::from_timestamp_millis(record.at_ms).unwrap_or_default();
    let tier = match &outcome.tier {
        Some(served) if *served != decision.tier => format!("{}→{served}", decision.tier),
        _ => decision.tier.to_string(),
    };
    let target = outcome.target.as_ref().unwrap_or(&decision.target);
    // A decision alone took microseconds, and what the answer costs is only an estimate.
    let (cost, time) = match record.kind {
        Kind::Complete => (format!("${:.6}", outcome.cost_usd), format!("{:.0} ms", outcome.latency_ms)),
        Kind::Route => (
            format!("~${:.6}", decision.cost_usd_estimate),
            format!("{:.2} ms", decision.timings.total_us as f64 / 1000.0),
        ),
    };
    let status = match &outcome.failure {
        Some(failure) => format!("{} {failure}", outcome.status),
        None => outcome.status.clone(),
    };
    let mark = match outcome.status.as_str() {
        "answered" | "decided" => GOOD,
        _ => WARN,
    };
    format!(
        "{} {tier:<TIER_CELLS$} {:<TARGET_CELLS$} {:<10} {:<INTENT_CELLS$} {cost:>11} {time:>10} {mark}{status:<22}{RESET} {}",
        at.format("%Y-%m-%d %H:%M:%S%.3f"),
        target.id,
        decision.source,
        decision.intent.as_deref().unwrap_or("-"),
        said(&logged.feedback)
    )
    .trim_end()
    .to_owned()
}

/// The last judgement, and how many there are.
fn said(feedback: &[Feedback]) -> String {
    let judged = feedback.iter().rev().find_map(|feedback| match (feedback.verdict, feedback.score) {
        (Some(Verdict::Good), _) => Some("good".to_owned()),
        (Some(Verdict::Bad), _) => Some("bad".to_owned()),
        (None, Some(score)) => Some(format!("{score:.2}")),
        (None, None) => feedback.right_tier.as_ref().map(|tier| format!("right: {}", plain(tier))),
    });
    match (judged, feedback.len()) {
        (_, 0) => String::new(),
        (Some(judged), 1) => judged,
        (Some(judged), all) => format!("{judged} ({all})"),
        (None, all) => format!("({all})"),
    }
}

/// What callers chose must not move a terminal's cursor.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::samples::logged;

    fn check(logged: &Logged, expected: &str) {
        let shown = anstream::adapter::strip_str(&line(logged)).to_string();
        let words: Vec<&str> = shown.split_whitespace().collect();
        assert_eq!(words.join(" "), expected);
    }

    #[test]
    fn a_record_is_one_line() {
        let mut one = logged();
        check(
            &one,
            "2026-01-30 10:00:00.000 simple→moderate mid classifier support $0.001100 1004 ms answered good (2)",
        );
        one.feedback.clear();
        one.record.kind = Kind::Route;
        one.record.outcome.status = "decided".to_owned();
        one.record.outcome.tier = None;
        one.record.outcome.target = None;
        one.record.decision.intent = None;
        check(&one, "2026-01-30 10:00:00.000 simple small classifier - ~$0.000100 2.51 ms decided");
        one.record.kind = Kind::Complete;
        one.record.outcome.status = "failed".to_owned();
        one.record.outcome.failure = Some("unavailable".to_owned());
        check(&one, "2026-01-30 10:00:00.000 simple small classifier - $0.001100 1004 ms failed unavailable");
    }

    #[test]
    fn callers_move_no_cursor() {
        let mut one = logged();
        one.feedback.truncate(1);
        let feedback = &mut one.feedback[0];
        (feedback.verdict, feedback.score) = (None, None);
        feedback.right_tier = Some("\u{1b}[2Jcomplex\n".to_owned());
        assert!(line(&one).ends_with("right: [2Jcomplex"), "{:?}", line(&one));
    }
}
