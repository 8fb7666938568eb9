//! `pointsman eval --traffic`: what another configuration, bundle or quality would have decided for logged requests.

pub mod notes;
pub mod output;

use std::{io::IsTerminal, path::PathBuf, sync::Arc, time::Duration};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use self::{
    notes::{Findings, notes},
    output::Outcome,
};
use super::super::{
    CliError,
    lines::IN_FLIGHT,
    print,
    route::unhurried,
    runtime,
    when::{Span, SpanArguments},
};
use crate::{
    config::Config,
    evaluation::{off_policy::WEIGHT_MAX, what_if},
    live::{self, LiveError},
    routing::{
        Router,
        classifier::{Classifier, OnnxClassifier},
        health::TargetHealth,
        sessions::Sessions,
    },
    traffic::{
        now_ms,
        replay::{
            Row, SourceError,
            gather::{Counts, Gatherer, Needs},
            request::Requests,
            reward::RewardBy,
            run::{Replayed, align, replay},
            scores::ScoredOnce,
            source::Source,
        },
        store::Selection,
    },
};

/// Records replayed where nothing else was said: a minute or two of one core, and some 50 MB of texts.
const SAMPLE: u64 = 20_000;
/// All of them are held in memory, texts and both decisions: some 5 KB each.
const SAMPLE_MAX: u64 = 1_000_000;
/// Settings at once: a page's table has room for no more.
const QUALITIES_MAX: usize = 21;
/// Generation of configurations that never served.
const GENERATION: u64 = 0;
/// Examples of intents and the like, which are scored beside the requests.
const OTHER_TEXTS_MAX: u64 = 10_000;

#[derive(Debug, Args)]
#[command(next_help_heading = "What-if, on logged traffic")]
pub struct TrafficArguments {
    /// Replay logged requests and compare: the configured store, or a SQLite store, or a file or folder that `pointsman
    /// traffic export` wrote. The configuration (--config), bundle and quality are those to try.
    #[arg(
        long,
        value_name = "STORE|EXPORT",
        num_args = 0..=1,
        conflicts_with_all = ["files", "names", "models", "gates", "report", "resamples"]
    )]
    traffic: Option<Option<PathBuf>>,
    #[command(flatten)]
    span: SpanArguments,
    /// Only this tenant's records.
    #[arg(long, value_name = "NAME", requires = "traffic", conflicts_with = "files")]
    tenant: Option<String>,
    /// The bundle to try.
    #[arg(long, value_name = "DIR", requires = "traffic", conflicts_with = "files")]
    bundle: Option<PathBuf>,
    /// Wanted qualities to try, several for a curve; requests that ask for one keep it.
    #[arg(long, value_name = "0..1", requires = "traffic", conflicts_with = "files", value_delimiter = ',', value_parser = quality)]
    quality: Vec<f64>,
    /// At most so many records, of whole sessions.
    #[arg(long, value_name = "N", requires = "traffic", conflicts_with = "files", default_value_t = SAMPLE, value_parser = clap::value_parser!(u64).range(1..=SAMPLE_MAX))]
    sample: u64,
    /// What says how good an answer was.
    #[arg(long, value_enum, requires = "traffic", conflicts_with = "files", default_value_t = RewardArgument::Both)]
    reward: RewardArgument,
    /// Cut off the weights of single records above this.
    #[arg(long, value_name = "N", requires = "traffic", conflicts_with = "files", default_value_t = WEIGHT_MAX, value_parser = weight)]
    weight_max: f64,
    /// Write a report to this file.
    #[arg(long, value_name = "FILE.html", requires = "traffic", conflicts_with = "files")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RewardArgument {
    /// What was reported about it.
    Feedback,
    /// Whether it passed its checks: 1, or 0 where it was weak.
    Outcome,
    /// What was reported, else the outcome.
    Both,
}

impl RewardArgument {
    fn as_str(self) -> &'static str {
        match self {
            Self::Feedback => "feedback",
            Self::Outcome => "outcome",
            Self::Both => "both",
        }
    }

    fn by(self) -> RewardBy {
        match self {
            Self::Feedback => RewardBy::Feedback,
            Self::Outcome => RewardBy::Outcome,
            Self::Both => RewardBy::Both,
        }
    }
}

/// What is typed for every kind of evaluation.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Whether rules take part.
    pub rules: bool,
    pub printed: Printed,
    pub seed: u64,
}

/// How the figures are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Printed {
    Text,
    Json,
}

impl TrafficArguments {
    /// Returns whether logged traffic is to be replayed.
    ///
    /// The span of time is shared with commands that take nothing but a log, so what it needs is said here.
    pub fn is_wanted(&self) -> Result<bool, CliError> {
        let wanted = self.traffic.is_some();
        if !wanted && (self.span.since.is_some() || self.span.until.is_some()) {
            return Err(CliError::Usage(
                "--since and --until are about logged traffic: add --traffic".to_owned(),
            ));
        }
        Ok(wanted)
    }
}

pub fn run(arguments: &TrafficArguments, settings: &Settings, config: Config) -> Result<(), CliError> {
    // What was typed is checked before anything takes time.
    let selection = selection(arguments)?;
    let qualities = qualities(arguments, &config)?;
    let source = match arguments.traffic.as_ref().and_then(Option::as_ref) {
        Some(path) => Source::find(path)?,
        None => {
            config.traffic.readable()?;
            Source::Store(config.traffic.store.clone())
        }
    };
    let config = tried(config, arguments);
    let runtime = runtime()?;
    let sample = Sample { needs: Needs::Text, rows_max: arguments.sample, seed: settings.seed };
    let (rows, counts) = gather(&runtime, &source, &selection, sample)?;
    if rows.is_empty() {
        return Err(CliError::Nothing(notes::nothing(&source.name(), &selection, &counts)));
    }
    let requests = Requests::of(&rows, &config, arguments.reward.by());
    if requests.requests.is_empty() {
        let why = requests.peculiarities.refused_why.unwrap_or_default();
        return Err(CliError::Nothing(format!(
            "the configuration refuses all {} records: {why}",
            rows.len()
        )));
    }
    let classifier = classifier(&config, rows.len(), &runtime)?;
    let Requests { requests, before, peculiarities } = requests;
    let requests = Arc::new(requests);
    let progress = super::bar((requests.len() * qualities.len()) as u64, "replaying");
    let mut answers: Vec<Vec<Replayed>> = Vec::with_capacity(qualities.len());
    for &quality in &qualities {
        let router = router(&config, quality, classifier.as_ref())?;
        answers.push(runtime.block_on(replay(&router, &requests, IN_FLIGHT, |more| progress.inc(more))));
    }
    progress.finish_and_clear();
    let aligned = align(before, answers);
    if aligned.before.is_empty() {
        let why = aligned.undecided.keys().next().cloned().unwrap_or_default();
        return Err(CliError::Nothing(format!("the configuration decides for none of the records: {why}")));
    }
    let tiers: Vec<Arc<str>> = config.tiers.iter().map(|tier| Arc::clone(&tier.name)).collect();
    let tried: Vec<what_if::Setting> = qualities
        .iter()
        .zip(aligned.after)
        .enumerate()
        .map(|(at, (&quality, mut after))| {
            if at > 0 {
                // They take the scores of the first one: their times are those of rules alone.
                after.iter_mut().for_each(|after| after.choice.deciding_us = None);
            }
            what_if::Setting { name: format!("quality {quality}"), quality, after }
        })
        .collect();
    let findings = Findings {
        config: &config,
        rows: &rows,
        before: &aligned.before,
        counts: &counts,
        peculiarities: &peculiarities,
        undecided: &aligned.undecided,
        quality_given: !arguments.quality.is_empty(),
        sampled_by: "--sample",
        seed: settings.seed,
    };
    let outcome = Outcome {
        source: source.name(),
        range: notes::range(&rows),
        bundle: classifier.as_ref().map(|classifier| {
            let described = classifier.describe();
            (Arc::clone(&described.name), Arc::clone(&described.version))
        }),
        objective: format!("{:?}", config.policy.objective).to_lowercase(),
        rules: settings.rules,
        reward: arguments.reward.as_str(),
        weight_max: arguments.weight_max,
        seed: settings.seed,
        counts: &counts,
        notes: notes(&findings),
        what_if: what_if::compare(&aligned.before, &tried, &tiers, arguments.weight_max),
    };
    if let Some(path) = &arguments.out {
        outcome.write_report(path)?;
    }
    let text = match settings.printed {
        Printed::Text => outcome.text(),
        Printed::Json => outcome.json(),
    };
    print(text.trim_end())
}

/// Returns the configuration to try, as a replay can: without the clock, and without what was learned or explored
/// since.
fn tried(config: Config, arguments: &TrafficArguments) -> Config {
    let mut config = unhurried(config);
    if let Some(bundle) = &arguments.bundle {
        config.classifier.bundle = Some(bundle.clone());
        config.classifier.enabled = true;
    }
    config.learning.enabled = false;
    config.learning.explore = None;
    config
}

/// Loads the classifier, `None` where the configuration has it off; scores are kept for the other settings.
fn classifier(
    config: &Config,
    rows: usize,
    runtime: &tokio::runtime::Runtime,
) -> Result<Option<Arc<dyn Classifier>>, CliError> {
    if !config.classifier.enabled {
        return Ok(None);
    }
    let onnx = live::resolved(&config.classifier)
        .map_err(LiveError::from)
        .and_then(|config| OnnxClassifier::load(&config).map_err(LiveError::from))?;
    let texts_max = rows as u64 + OTHER_TEXTS_MAX;
    let once = ScoredOnce::new(Arc::new(onnx), texts_max, runtime.handle().clone());
    Ok(Some(Arc::new(once)))
}

/// Returns a router with an empty memory of sessions, that serves nobody.
pub fn router(
    config: &Config,
    quality: f64,
    classifier: Option<&Arc<dyn Classifier>>,
) -> Result<Arc<Router>, CliError> {
    let mut config = config.clone();
    config.policy.quality = quality;
    let sessions = Arc::new(Sessions::new(&config.sessions));
    let health = Arc::new(TargetHealth::new(config.targets.len()));
    Ok(Arc::new(Router::new(Arc::new(config), classifier.cloned(), sessions, health, GENERATION)?))
}

/// What of a log is kept.
pub struct Sample {
    pub needs: Needs,
    pub rows_max: u64,
    pub seed: u64,
}

/// Reads a log and keeps a sample of it, with a count on a terminal.
pub fn gather(
    runtime: &tokio::runtime::Runtime,
    source: &Source,
    selection: &Selection,
    sample: Sample,
) -> Result<(Vec<Row>, Counts), SourceError> {
    let progress = spinner();
    let Sample { needs, rows_max, seed } = sample;
    let rows_max = usize::try_from(rows_max).unwrap_or(usize::MAX);
    let mut gatherer = Gatherer::new(selection.clone(), needs, rows_max, seed);
    let read = runtime.block_on(source.read(selection, |row| {
        gatherer.add(row);
        progress.set_position(gatherer.read());
    }));
    progress.finish_and_clear();
    read?;
    Ok(gatherer.finish())
}

fn spinner() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {human_pos} records read, {elapsed}")
        .expect("the template is a constant");
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn selection(arguments: &TrafficArguments) -> Result<Selection, CliError> {
    let Span { from_ms, until_ms } = arguments.span.span(None, now_ms())?;
    Ok(Selection { from_ms, until_ms, tenant: arguments.tenant.clone() })
}

/// Returns the qualities to try, ascending, each once.
fn qualities(arguments: &TrafficArguments, config: &Config) -> Result<Vec<f64>, CliError> {
    let mut qualities = arguments.quality.clone();
    if qualities.is_empty() {
        qualities.push(config.policy.quality);
    }
    qualities.sort_by(f64::total_cmp);
    qualities.dedup();
    if qualities.len() > QUALITIES_MAX {
        return Err(CliError::Usage(format!(
            "--quality: {} qualities, at most {QUALITIES_MAX}",
            qualities.len()
        )));
    }
    Ok(qualities)
}

fn quality(text: &str) -> Result<f64, String> {
    let number = text.trim().parse::<f64>().ok().filter(|quality| (0.0..=1.0).contains(quality));
    number.ok_or_else(|| "a number from 0 to 1 is expected".to_owned())
}

fn weight(text: &str) -> Result<f64, String> {
    let number = text.trim().parse::<f64>().ok().filter(|weight| *weight >= 1.0);
    number.ok_or_else(|| "a number of at least 1 is expected: a certain choice has weight 1".to_owned())
}
