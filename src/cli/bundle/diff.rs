//! `pointsman bundle diff`: logged requests, decided with one bundle and with another. What a shadow said of them while
//! it was one is compared by `diff_shadow`.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use serde::Serialize;

use super::{
    super::{
        eval::{
            self,
            traffic::{
                Sample, gather,
                notes::{self, Findings, notes},
                output::{grid, summary},
                router,
            },
        },
        lines::IN_FLIGHT,
        route::unhurried,
        show::{LABEL, RESET, STRONG, WARN},
        when::SpanArguments,
    },
    CliError, diff_shadow,
    named::{self, Named},
    print, runtime,
};
use crate::{
    config::{Config, StoreConfig, TrafficConfig},
    evaluation::{
        off_policy::WEIGHT_MAX,
        report::what_if::{Head, page},
        what_if::{
            Setting,
            pair::{Pair, pair},
        },
    },
    live::LiveError,
    routing::classifier::{Classifier, OnnxClassifier},
    traffic::{
        now_ms,
        replay::{
            Row, SourceError,
            gather::{Counts, Needs},
            request::{Request, Requests},
            reward::RewardBy,
            run::{Replayed, align, replay},
            source::Source,
        },
        store::Selection,
    },
};

/// Format of the JSON that `--json` prints.
pub const FORMAT: u32 = 1;
const SINCE: &str = "7d";
/// Some seconds for each bundle, and shares to within two percent points.
const LIMIT: u64 = 2000;
/// All of them are held in memory.
const LIMIT_MAX: u64 = 100_000;
/// Shares of fewer requests say little.
const REQUESTS_FEW: usize = 100;
/// Which requests are taken where there are more follows from it.
pub const SEED: u64 = 1;
/// Characters of a request's text on a terminal.
const TEXT_CHARS_MAX: usize = 90;
pub const INSTEAD: &str =
    "without traffic, `pointsman bundle verify` tries golden samples, and `pointsman eval` labelled files";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct DiffArguments {
    /// The bundle to compare with: a folder, a version in the bundle store, or "default".
    #[arg(value_name = "A", required_unless_present = "shadow")]
    from: Option<String>,
    /// The bundle to compare, likewise.
    #[arg(value_name = "B", required_unless_present = "shadow")]
    to: Option<String>,
    /// Compare what was decided with what this bundle said while it was the shadow, as the log keeps it: no text and no
    /// bundle is needed.
    #[arg(long, value_name = "VERSION", conflicts_with_all = ["from", "to"])]
    shadow: Option<String>,
    #[command(flatten)]
    span: SpanArguments,
    /// Only this tenant's requests.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// At most so many requests, of whole sessions.
    #[arg(long, value_name = "N", default_value_t = LIMIT, value_parser = clap::value_parser!(u64).range(1..=LIMIT_MAX))]
    limit: u64,
    /// Another log than the configured store: a SQLite store, or what `pointsman traffic export` wrote.
    #[arg(long, value_name = "STORE|EXPORT")]
    traffic: Option<PathBuf>,
    /// Print all figures as one JSON object.
    #[arg(long)]
    json: bool,
    /// Write a report to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

const HELP: &str = "\
Logged requests, of the last 7 days unless --since says otherwise, are decided again with each bundle and the
configuration (--config); nobody is called. No server is asked either: this reads the log itself, and fetches
the bundles. Texts are those that the log kept. With --shadow nothing is decided again:
what a bundle said as the shadow stands in the log, whatever the policy for texts.

Examples:
  pointsman bundle diff default 0.3.0
  pointsman bundle diff 0.2.0 runs/next/ --since 1d --limit 500 --html diff.html
  pointsman bundle diff --shadow 0.3.0 --since 1d";

pub fn run(arguments: &DiffArguments, config: Config) -> Result<(), CliError> {
    // What was typed is checked before anything takes time.
    let span = arguments.span.span(Some(SINCE), now_ms())?;
    let selection =
        Selection { from_ms: span.from_ms, until_ms: span.until_ms, tenant: arguments.tenant.clone() };
    let source = match &arguments.traffic {
        Some(path) => Source::find(path)?,
        None => {
            config.traffic.readable()?;
            if let Some(path) = nothing_logged(&config.traffic) {
                let path = path.display();
                return Err(CliError::Nothing(format!(
                    "traffic.enabled is false, and {path} is not there: nothing was logged; name another log with \
                     --traffic; {INSTEAD}"
                )));
            }
            Source::Store(config.traffic.store.clone())
        }
    };
    let log = Log { source, selection };
    match (&arguments.shadow, &arguments.from, &arguments.to) {
        (Some(version), _, _) => diff_shadow::outcome(version, &log, arguments.limit, &config)?,
        (None, Some(from), Some(to)) => replayed([from, to], &log, arguments.limit, config)?,
        (None, _, _) => unreachable!("without --shadow both bundles are required"),
    }
    .tell(arguments)
}

/// A log, and what of it is compared.
pub struct Log {
    pub source: Source,
    pub selection: Selection,
}

impl Log {
    /// Reads a sample of it.
    pub fn rows(
        &self,
        runtime: &tokio::runtime::Runtime,
        needs: Needs,
        rows_max: u64,
    ) -> Result<(Vec<Row>, Counts), SourceError> {
        gather(runtime, &self.source, &self.selection, Sample { needs, rows_max, seed: SEED })
    }
}

/// Has both bundles decide again.
fn replayed(typed: [&String; 2], log: &Log, limit: u64, config: Config) -> Result<Outcome, CliError> {
    let Log { source, selection } = log;
    let config = tried(config);
    let runtime = runtime()?;
    let read = log.rows(&runtime, Needs::Text, limit);
    let (rows, counts) = read.map_err(|error| CliError::Nothing(format!("{error}; {INSTEAD}")))?;
    if rows.is_empty() {
        let why = notes::nothing(&source.name(), selection, &counts);
        return Err(CliError::Nothing(format!("{why}; {INSTEAD}")));
    }
    let Requests { requests, before, peculiarities } = Requests::of(&rows, &config, RewardBy::Both);
    let requests = Arc::new(requests);
    // Both are here before either is asked.
    let [from, to] = typed.map(|typed| runtime.block_on(named::find(typed, &config)));
    let (from, to) = (from?, to?);
    let decide =
        |side, typed: &str, found: &Named| Side::decide(side, typed, found, &config, &requests, &runtime);
    let from = decide("A", typed[0], &from)?;
    let to = decide("B", typed[1], &to)?;
    let aligned = align(before, vec![from.answers, to.answers]);
    if aligned.before.is_empty() {
        let why = aligned.undecided.keys().next().cloned().or(peculiarities.refused_why).unwrap_or_default();
        return Err(CliError::Nothing(format!("the configuration decides for none of the records: {why}")));
    }
    let findings = Findings {
        config: &config,
        rows: &rows,
        before: &aligned.before,
        counts: &counts,
        peculiarities: &peculiarities,
        undecided: &aligned.undecided,
        quality_given: false,
        sampled_by: "--limit",
        seed: SEED,
    };
    let mut said = notes(&findings);
    said.splice(0..0, few(aligned.before.len()));
    let mut after = aligned.after.into_iter();
    let mut setting = |bundle: &BundleName| Setting {
        name: format!("{} {}", bundle.side, bundle.version),
        quality: config.policy.quality,
        after: after.next().unwrap_or_default(),
    };
    let settings: [Setting; 2] = [setting(&from.bundle), setting(&to.bundle)];
    let [first, second] = settings;
    let tiers: Vec<Arc<str>> = config.tiers.iter().map(|tier| Arc::clone(&tier.name)).collect();
    Ok(Outcome {
        format: FORMAT,
        pointsman: env!("CARGO_PKG_VERSION"),
        source: source.name(),
        range: notes::range(&rows),
        a: from.bundle,
        b: to.bundle,
        notes: said,
        pair: pair(&aligned.before, first, second, &tiers, WEIGHT_MAX),
    })
}

/// Says that shares of so many requests say little, where that is so.
pub fn few(requests: usize) -> Option<String> {
    (requests < REQUESTS_FEW)
        .then(|| format!("{requests} requests are few: read shares with that in mind; {INSTEAD}"))
}

/// Returns the file of the log where there is none, because none is kept.
fn nothing_logged(traffic: &TrafficConfig) -> Option<&Path> {
    match &traffic.store {
        StoreConfig::Sqlite { path } if !traffic.enabled && !path.exists() => Some(path),
        StoreConfig::Sqlite { .. } | StoreConfig::Postgres { .. } => None,
    }
}

/// Returns the configuration as a replay can have it: without the clock, and without what was learned or explored.
fn tried(config: Config) -> Config {
    let mut config = unhurried(config);
    config.classifier.enabled = true;
    config.learning.enabled = false;
    config.learning.explore = None;
    config
}

/// What one bundle decides.
struct Side {
    bundle: BundleName,
    answers: Vec<Replayed>,
}

#[derive(Serialize)]
pub struct BundleName {
    #[serde(skip)]
    pub side: &'static str,
    /// As it was typed.
    pub typed: String,
    pub name: Arc<str>,
    pub version: Arc<str>,
}

impl Side {
    /// Loads a bundle, asks it about every request, and lets it go: two large ones need not fit into memory.
    fn decide(
        side: &'static str,
        typed: &str,
        found: &Named,
        config: &Config,
        requests: &Arc<Vec<Request>>,
        runtime: &tokio::runtime::Runtime,
    ) -> Result<Self, CliError> {
        let mut config = config.clone();
        config.classifier.bundle = found.folder.clone();
        let classifier = OnnxClassifier::load(&config.classifier).map_err(LiveError::from)?;
        let described = classifier.describe();
        let bundle = BundleName {
            side,
            typed: typed.to_owned(),
            name: Arc::clone(&described.name),
            version: Arc::clone(&described.version),
        };
        let classifier: Arc<dyn Classifier> = Arc::new(classifier);
        let router = router(&config, config.policy.quality, Some(&classifier))?;
        let progress =
            eval::bar(requests.len() as u64, if side == "A" { "deciding, A" } else { "deciding, B" });
        let answers = runtime.block_on(replay(&router, requests, IN_FLIGHT, |more| progress.inc(more)));
        progress.finish_and_clear();
        Ok(Self { bundle, answers })
    }
}

/// Everything that text, JSON and report are made from.
#[derive(Serialize)]
pub struct Outcome {
    pub format: u32,
    pub pointsman: &'static str,
    pub source: String,
    /// First and last moment.
    pub range: (String, String),
    pub a: BundleName,
    pub b: BundleName,
    pub notes: Vec<String>,
    #[serde(flatten)]
    pub pair: Pair,
}

impl Outcome {
    /// Writes the report and prints the rest.
    fn tell(&self, arguments: &DiffArguments) -> Result<(), CliError> {
        if let Some(path) = &arguments.html {
            let about = self.about();
            let html = page(&Head { about: &about, notes: &self.notes }, &self.pair.beside_log)?;
            std::fs::write(path, html)
                .map_err(|error| CliError::Io { what: path.display().to_string(), error })?;
            anstream::eprintln!("report: {}", path.display());
        }
        if arguments.json {
            return print(&serde_json::to_string_pretty(self).expect("figures are plain data"));
        }
        print(self.text().trim_end())
    }

    fn about(&self) -> Vec<String> {
        let called = |bundle: &BundleName| {
            format!("{}: {} {} ({})", bundle.side, bundle.name, bundle.version, bundle.typed)
        };
        let (from, until) = &self.range;
        let requests = self.pair.beside_log.requests;
        vec![
            called(&self.a),
            called(&self.b),
            format!("{requests} requests of {} from {from} to {until}", self.source),
            self.agreement(),
        ]
    }

    fn agreement(&self) -> String {
        let Pair { agreement, stronger, weaker, saved, .. } = &self.pair;
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let intent = agreement.intent.map_or_else(|| "not known".to_owned(), percent);
        let cost = saved.map_or_else(String::new, |saved| {
            let more = if saved < 0.0 { "more" } else { "less" };
            format!("; B costs {} {more}", percent(saved.abs()))
        });
        format!(
            "A and B agree on tier {}, target {}, intent {intent}; B sends {} to a stronger tier and {} to a weaker \
             one{cost}",
            percent(agreement.tier),
            percent(agreement.target),
            percent(*stronger),
            percent(*weaker),
        )
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for line in self.about() {
            let _ = writeln!(text, "{line}");
        }
        for note in &self.notes {
            let _ = writeln!(text, "{LABEL}- {note}{RESET}");
        }
        summary(&mut text, &self.pair.beside_log);
        let _ = writeln!(text, "\n{STRONG}Tiers{RESET}");
        grid(&mut text, &self.pair.tiers, "A \\ B");
        for change in &self.pair.beside_log.settings {
            let rewarded = change.off_policy.rewarded;
            if let (Some(caution), true) = (change.off_policy.cautions.first(), rewarded > 0) {
                let _ = writeln!(text, "{WARN}{}: {caution}{RESET}", change.name);
            }
        }
        if !self.pair.furthest.is_empty() {
            let _ = writeln!(text, "\n{STRONG}Moved furthest{RESET}");
        }
        for moved in &self.pair.furthest {
            let _ = writeln!(
                text,
                "  {} -> {}  ${:+.6}  {LABEL}{}{RESET}",
                moved.from_tier, moved.to_tier, moved.cost_change_usd, moved.decision_id
            );
            if let Some(excerpt) = &moved.excerpt {
                let _ = writeln!(text, "    {}", cut(excerpt));
            }
        }
        text
    }
}

/// Returns the beginning of a text, on one line and without what a terminal would obey.
fn cut(text: &str) -> String {
    let mut short: String =
        text.chars().take(TEXT_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(TEXT_CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}
