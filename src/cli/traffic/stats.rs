//! `pointsman traffic stats`: a span of logged traffic in figures.

use anstream::{AutoStream, ColorChoice};
use clap::Args;

use super::{
    super::{
        CliError, print,
        when::{SpanArguments, shown},
    },
    open,
    pages::{Pages, end_ms, tell_unreadable},
    stats_table::{Look, table},
};
use crate::{
    config::Config,
    traffic::{
        now_ms,
        stats::Stats,
        store::{Selection, Store},
    },
};

const SINCE: &str = "7d";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct StatsArguments {
    #[command(flatten)]
    span: SpanArguments,
    /// Only this tenant's records.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Print all figures as one JSON object.
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Without --since: the last 7 days. Tiers and targets are those decided for; saved is what the top tier would have cost, \
less what was spent; requests that failed or whose caller hung up are left out of it. Of decisions without a \
completion both are estimates.
Good: the share of good judgements (verdict, or a score from 0.5 on).

Drift compares the mix of intents with that of the 30 days before, by the population stability index, the sum of \
(now - before) * ln(now / before) over shares: below 0.1 stable, from 0.25 on another mix.";

pub async fn run(arguments: &StatsArguments, config: &Config) -> Result<(), CliError> {
    let now_ms = now_ms();
    let span = arguments.span.span(Some(SINCE), now_ms)?;
    let store = open(config).await?;
    let tenant = arguments.tenant.as_deref();
    let until_ms = match span.until_ms {
        Some(until_ms) => until_ms,
        None => end_ms(&store, tenant, now_ms).await?,
    };
    let mut stats = Stats::new(span.from_ms.unwrap_or_default(), until_ms);
    let before = stats.before();
    for (intent, requests) in store.intents_between(before.start, before.end, tenant).await? {
        stats.add_before(&intent, requests);
    }
    let mut pages = Pages::new(&store, stats.selection(arguments.tenant.clone()));
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            break;
        }
        page.iter().for_each(|logged| stats.add(logged));
    }
    tell_unreadable(&store);
    let figures = stats.figures();
    if arguments.json {
        return print(&serde_json::to_string_pretty(&figures).expect("figures are plain data"));
    }
    if figures.all.requests == 0 {
        tell_nothing(&store, tenant).await?;
    }
    let look = match AutoStream::choice(&std::io::stdout()) {
        ColorChoice::Never => Look::Plain,
        ColorChoice::Auto | ColorChoice::Always | ColorChoice::AlwaysAnsi => Look::Terminal,
    };
    print(&table(&figures, look))
}

/// Says where there is something: the span or the tenant is often not the one that was meant.
async fn tell_nothing(store: &Store, tenant: Option<&str>) -> Result<(), CliError> {
    let of_tenant = Selection { tenant: tenant.map(str::to_owned), ..Selection::default() };
    let whose = tenant.map(|tenant| format!(" of tenant {tenant:?}")).unwrap_or_default();
    match store.newest_ms(&of_tenant, 0).await? {
        Some(newest_ms) => anstream::eprintln!(
            "nothing in this span: the newest record{whose} is of {}; --since says where to begin",
            shown(newest_ms)
        ),
        None => anstream::eprintln!("no records{whose} in {}", store.name()),
    }
    Ok(())
}
