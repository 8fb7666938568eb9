//! `pointsman traffic tail`: the newest records, and those that follow.

use std::{collections::VecDeque, time::Duration};

use clap::Args;

use super::{
    super::{CliError, print},
    follow::Following,
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
        store::{Cursor, Selection, Store, StoreError},
    },
};

const ROWS: u32 = 20;
const ROWS_MAX: i64 = 10_000;
const POLL: Duration = Duration::from_secs(1);

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
A record lands when its request has ended; with --follow, one that took more than a minute may be passed over (less \
where more than 2,000 records come in a minute), as may what comes from a machine whose clock is more than a minute \
behind. Cost and time of a decision without a completion \
are an estimate (~) and the time to decide. Feedback is what had come when the line was printed.";

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
    // With --follow the newest counts also where none is to be shown: what is after it is new.
    let rows = if arguments.follow { arguments.rows.max(1) } else { arguments.rows } as usize;
    let newest = newest(store, &mut selection, rows).await?;
    let shown = &newest[newest.len().saturating_sub(arguments.rows as usize)..];
    if !arguments.json && (arguments.follow || !shown.is_empty()) {
        print(&head())?;
    } else if arguments.rows > 0 && newest.is_empty() && !arguments.follow {
        anstream::eprintln!("no records in {}", store.name());
    }
    for logged in shown {
        print_one(logged, arguments.json)?;
    }
    if !arguments.follow {
        return Ok(());
    }
    let mut following = Following::after(&newest);
    let mut poll = tokio::time::interval(POLL);
    poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        poll.tick().await;
        match follow(arguments, store, &mut following).await {
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

/// Shows what is new: first around the present, then after the newest, if that is ahead of it.
async fn follow(arguments: &TailArguments, store: &Store, following: &mut Following) -> Result<(), CliError> {
    let look = following.look(now_ms());
    let mut selection =
        Selection { from_ms: Some(look.start), until_ms: Some(look.end), tenant: arguments.tenant.clone() };
    show_new(Pages::unseen(store, selection.clone()), following, arguments.json).await?;
    (selection.from_ms, selection.until_ms) = (Some(look.end), None);
    let mut ahead = Pages::unseen(store, selection);
    if let Some((at_ms, decision_id)) = following.ahead() {
        ahead = ahead.after(Cursor { at_ms, decision_id });
    }
    show_new(ahead, following, arguments.json).await?;
    following.looked();
    Ok(())
}

async fn show_new(mut pages: Pages<'_>, following: &mut Following, json: bool) -> Result<(), CliError> {
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            return Ok(());
        }
        for logged in &page {
            if following.is_new(logged) {
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
