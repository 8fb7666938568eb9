//! `pointsman traffic tail`: the newest records, and those that follow.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use clap::Args;
use uuid::Uuid;

use super::{
    super::{CliError, print},
    line::{head, line},
    open,
    pages::{PAGE_ROWS, Pages},
};
use crate::{
    config::Config,
    traffic::{
        export::Row,
        now_ms,
        record::Logged,
        store::{Selection, Store, StoreError},
    },
};

const ROWS: u32 = 20;
const ROWS_MAX: i64 = 10_000;
const POLL: Duration = Duration::from_secs(1);
/// A record lands when its request has ended, so a long one lands behind later ones: so far back is looked for them.
const BEHIND_MS: i64 = 60_000;
/// The same in records, where many come.
const BEHIND_ROWS_MAX: usize = 2_000;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct TailArguments {
    /// How many records are shown first.
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = ROWS, value_parser = clap::value_parser!(u32).range(0..=ROWS_MAX))]
    rows: u32,
    /// Go on and show what is added, until Ctrl-C.
    #[arg(long, short)]
    follow: bool,
    /// Only this tenant's records.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Print each record as a JSON object with the columns of an export.
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
A record lands when its request has ended; with --follow, one that took more than a minute may be
passed over. Cost and time of a decision without a completion are an estimate (~) and the time to
decide. Feedback is what had come when the line was printed.";

pub async fn run(arguments: &TailArguments, config: &Config) -> Result<(), CliError> {
    let store = open(config).await?;
    let ended = tokio::select! {
        ended = show(arguments, &store) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    store.close(POLL).await;
    ended
}

async fn show(arguments: &TailArguments, store: &Store) -> Result<(), CliError> {
    let mut selection = Selection { tenant: arguments.tenant.clone(), ..Selection::default() };
    let newest = newest(store, &mut selection, arguments.rows as usize).await?;
    if !arguments.json && (arguments.follow || !newest.is_empty()) {
        print(&head())?;
    } else if newest.is_empty() && !arguments.follow {
        anstream::eprintln!("no records in {}", store.name());
    }
    for logged in &newest {
        print_one(logged, arguments.json)?;
    }
    if !arguments.follow {
        return Ok(());
    }
    let mut seen = Seen::default();
    for logged in &newest {
        seen.add(logged);
    }
    // What was there before is not shown again, also where it was not asked for.
    let begun_ms = newest.first().map_or_else(now_ms, |first| first.record.at_ms);
    let mut poll = tokio::time::interval(POLL);
    poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        poll.tick().await;
        selection.from_ms = Some(seen.look_from_ms().unwrap_or(begun_ms).max(begun_ms));
        match follow(store, &selection, &mut seen, arguments.json).await {
            // Whoever waits for records waits for the store too.
            Err(CliError::Store(error @ StoreError::Down { .. })) => tracing::warn!("{error}; trying again"),
            other => other?,
        }
    }
}

/// Returns the newest records, oldest first; from the oldest of them on the selection reads.
async fn newest(store: &Store, selection: &mut Selection, rows: usize) -> Result<Vec<Logged>, CliError> {
    let Some(skip) = u32::try_from(rows).ok().and_then(|rows| rows.checked_sub(1)) else {
        return Ok(Vec::new());
    };
    selection.from_ms = store.newest_ms(selection, skip).await?;
    let mut newest = VecDeque::with_capacity(rows.min(PAGE_ROWS));
    let mut pages = Pages::new(store, selection.clone());
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            return Ok(newest.into());
        }
        for logged in page {
            if newest.len() == rows {
                newest.pop_front();
            }
            newest.push_back(logged);
        }
    }
}

async fn follow(store: &Store, selection: &Selection, seen: &mut Seen, json: bool) -> Result<(), CliError> {
    let mut pages = Pages::new(store, selection.clone());
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            return Ok(());
        }
        for logged in &page {
            if seen.add(logged) {
                print_one(logged, json)?;
            }
        }
    }
}

fn print_one(logged: &Logged, json: bool) -> Result<(), CliError> {
    if json {
        print(&serde_json::to_string(&Row::of(logged)).expect("a row is plain data"))
    } else {
        print(&line(logged))
    }
}

/// The latest records that were shown, in the order of their time; bounded.
#[derive(Debug, Default)]
struct Seen(BTreeSet<(i64, Uuid)>);

impl Seen {
    /// Returns whether it is new. What is older than all that is remembered counts as shown.
    fn add(&mut self, logged: &Logged) -> bool {
        let key = (logged.record.at_ms, logged.record.decision_id);
        let full = self.0.len() == BEHIND_ROWS_MAX;
        if full && self.0.first().is_some_and(|first| key < *first) {
            return false;
        }
        let new = self.0.insert(key);
        if new && full {
            self.0.pop_first();
        }
        new
    }

    /// Returns from where on a late record may still be found; `None` before the first.
    fn look_from_ms(&self) -> Option<i64> {
        let ((first_ms, _), (last_ms, _)) = (self.0.first()?, self.0.last()?);
        let behind = last_ms.saturating_sub(BEHIND_MS);
        // While nothing was forgotten, all that is not remembered is new.
        Some(if self.0.len() == BEHIND_ROWS_MAX { behind.max(*first_ms) } else { behind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::samples::{AT_MS, logged_at};

    #[test]
    fn each_record_is_shown_once_and_late_ones_too() {
        let mut seen = Seen::default();
        assert_eq!(seen.look_from_ms(), None);
        assert!(seen.add(&logged_at(AT_MS, 1)) && !seen.add(&logged_at(AT_MS, 1)));
        assert!(seen.add(&logged_at(AT_MS + 5, 1)) && seen.add(&logged_at(AT_MS + 2, 1)));
        assert_eq!(seen.look_from_ms(), Some(AT_MS + 5 - BEHIND_MS));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut seen = Seen::default();
        let many = BEHIND_ROWS_MAX as i64 + 10;
        for number in 0..many {
            assert!(seen.add(&logged_at(AT_MS + number, 1)));
        }
        assert_eq!(seen.0.len(), BEHIND_ROWS_MAX);
        assert_eq!(seen.look_from_ms(), Some(AT_MS + 10));
        assert!(!seen.add(&logged_at(AT_MS + 9, 1)), "too old to tell");
        assert!(!seen.add(&logged_at(AT_MS + 10, 1)));
        assert!(seen.add(&logged_at(AT_MS + many, 1)));
    }
}
