//! `pointsman traffic stats`: a span of logged traffic in figures.

use anstream::{AutoStream, ColorChoice};
use clap::Args;

use super::{
    super::{CliError, print, when::SpanArguments},
    open,
    pages::{Pages, tell_unreadable},
    stats_table::{Look, table},
};
use crate::{
    config::Config,
    traffic::{now_ms, stats::Stats},
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
Without --since: the last 7 days. Tiers and targets are those decided for; saved is what the top tier
would have cost, less what was spent; requests that failed or whose caller hung up are left out of
it. Of decisions without a completion both are estimates.
Good: the share of good judgements (verdict, or a score from 0.5 on).

Drift compares the mix of intents with that of the 30 days before, by the population stability index,
the sum of (now - before) * ln(now / before) over shares: below 0.1 stable, from 0.25 on another mix.";

pub async fn run(arguments: &StatsArguments, config: &Config) -> Result<(), CliError> {
    let now_ms = now_ms();
    let span = arguments.span.span(Some(SINCE), now_ms)?;
    let store = open(config).await?;
    let until_ms = span.until_ms.unwrap_or(now_ms.saturating_add(1));
    let mut stats = Stats::new(span.from_ms.unwrap_or_default(), until_ms);
    let before = stats.before();
    let tenant = arguments.tenant.as_deref();
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
    let look = match AutoStream::choice(&std::io::stdout()) {
        ColorChoice::Never => Look::Plain,
        ColorChoice::Auto | ColorChoice::Always | ColorChoice::AlwaysAnsi => Look::Terminal,
    };
    print(&table(&figures, look))
}
