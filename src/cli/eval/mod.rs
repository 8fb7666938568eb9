//! `pointsman eval`: labelled files in, figures out: a table, JSON, a report, gates.

mod input;
mod output;
mod table;
pub mod traffic;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use self::{input::Input, output::Outcome};
use super::{CliError, lines, route::offline, runtime};
use crate::{
    config::{Config, Objective},
    evaluation::{
        Evaluation, Section, Settings,
        bootstrap::Resampling,
        evaluate,
        gates::{self, Gate, GateResult},
        judge,
        notes::listed,
        sample::Names,
        tfidf::Tfidf,
    },
    live::{self, Live},
    prompt::{Intent, Tier},
    routing::{Router, classifier::Bundle},
};

const RESAMPLES: usize = 1000;
const RESAMPLES_MAX: u64 = 100_000;
const SEED: u64 = 1;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct EvalArguments {
    /// Labelled files, one JSON object a line, plain or gzip ("-": stdin). Each becomes a section.
    #[arg(value_name = "FILE.jsonl[.gz]")]
    files: Vec<PathBuf>,
    /// Name of a section, in the order of the files; a section without one is called as its file.
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
    /// Tier of a model that `outcomes` name and the configuration does not; may be given several times.
    #[arg(long, value_name = "MODEL=TIER")]
    models: Vec<String>,
    /// Judge the classifier alone: no rule takes part.
    #[arg(long)]
    no_rules: bool,
    /// Print all figures as one JSON object.
    #[arg(long)]
    json: bool,
    /// Write a report with plots to DIR/index.html.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Exit with 1 when a figure misses what this file asks for.
    #[arg(long, value_name = "FILE.toml")]
    gates: Option<PathBuf>,
    /// Bootstrap resamples; 0 gives no intervals.
    #[arg(long, value_name = "N", default_value_t = RESAMPLES as u64, value_parser = clap::value_parser!(u64).range(..=RESAMPLES_MAX))]
    resamples: u64,
    /// Seed of the resamples and of the random baseline.
    #[arg(long, value_name = "N", default_value_t = SEED)]
    seed: u64,
    #[command(flatten)]
    what_if: traffic::TrafficArguments,
}

const HELP: &str = "\
A line has `prompt` or `messages`, and any of:
  intent          the right intent, one of the bundle's
  tier            the weakest tier that is enough, by the configuration's name or the bundle's
                  level; a level that no tier stands for means the next tier above it
  difficulty_raw  a number, higher is harder
  language        for the table of languages
  outcomes        {\"NAME\": {\"score\": 0..1, \"cost\": usd}} or {\"NAME\": score}, where NAME is a tier,
                  level, target or model; a cost left out is estimated from the configured prices
  p_small, p_mid, p_strong, p_reason
                  scores of simple, moderate, complex and reasoning

Other keys are ignored. Baselines stand beside the router: random, length, and TF-IDF (baseline.json
beside the bundle). \u{25b2} the router is better than that baseline, \u{25bc} worse: the 95 % interval of the
paired difference excludes 0. Figures of fewer than 20 lines have neither interval nor mark.

Gates, for CI:
  \"tier.accuracy\".min = 0.6              every section that has the figure
  \"intent.ece\".max = 0.1
  [sections.flask]
  \"difficulty.spearman\".min = 0.3

Examples:
  pointsman eval labelled.jsonl
  pointsman eval --no-rules --report out a.jsonl.gz b.jsonl.gz
  pointsman eval --json --gates gates.toml dev.jsonl > figures.json
  pointsman eval --traffic --since 7d --quality 0.4,0.5,0.6 --out what-if.html
  pointsman eval --traffic export/ --config new.toml --bundle onnx/next

docs/metrics.md defines every figure of labelled files, docs/traffic.md those of --traffic.";

pub fn run(arguments: &EvalArguments, mut config: Config) -> Result<(), CliError> {
    if arguments.no_rules {
        config.rules.clear();
    }
    if arguments.what_if.is_wanted()? {
        let EvalArguments { no_rules, json, seed, .. } = *arguments;
        let printed = if json { traffic::Printed::Json } else { traffic::Printed::Text };
        return traffic::run(
            &arguments.what_if,
            &traffic::Settings { rules: !no_rules, printed, seed },
            config,
        );
    }
    if arguments.files.is_empty() {
        return Err(CliError::Usage(
            "what to measure on is missing: give labelled files (\"-\": stdin), or --traffic for logged requests"
                .to_owned(),
        ));
    }
    // What was typed is checked before anything takes time.
    let gates = arguments.gates.as_deref().map(read_gates).transpose()?.unwrap_or_default();
    let inputs = inputs(arguments)?;
    let models = models(&arguments.models, &config)?;
    let live = Live::start(offline(config))?;
    let router = live.router();
    let config = router.config();
    if config.classifier.enabled {
        live.load_classifier()?;
    }
    let router = live.router();
    let (baseline, mut notes) = baseline(config);
    let sections = sections(&inputs, &router, &models)?;
    let resampling = Resampling { resamples: arguments.resamples as usize, seed: arguments.seed };
    let settings = Settings { config, baseline: baseline.as_ref(), resampling };
    let progress = bar((sections.len() * resampling.resamples) as u64, "taking figures");
    let evaluations: Vec<Evaluation> =
        sections.iter().map(|section| evaluate(section, &settings, || progress.inc(1))).collect();
    progress.finish_and_clear();
    notes.extend(unused_models(&models, &sections));
    let results = gates::check(&gates, &evaluations);
    let missed: Vec<String> =
        results.iter().filter(|result| !result.passed).map(GateResult::sentence).collect();
    let rules = !arguments.no_rules;
    let outcome = Outcome { router: &router, rules, resampling, notes, evaluations, results };
    if let Some(folder) = &arguments.report {
        outcome.write_report(folder)?;
    }
    let text = if arguments.json { outcome.json() } else { outcome.table() };
    let written = writeln!(anstream::stdout(), "{}", text.trim_end())
        .map_err(|error| CliError::Io { what: "stdout".to_owned(), error });
    // A gate is missed even when nobody reads the figures to their end.
    if missed.is_empty() { written } else { Err(CliError::Gates(missed)) }
}

fn read_gates(path: &Path) -> Result<Vec<Gate>, CliError> {
    let wrong = |problem: String| format!("{}: {problem}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| CliError::Usage(wrong(error.to_string())))?;
    gates::read(&text).map_err(|problems| {
        let problems: Vec<String> = problems.into_iter().map(wrong).collect();
        CliError::Usage(problems.join("\n"))
    })
}

/// Gives every file a name of its own.
fn inputs(arguments: &EvalArguments) -> Result<Vec<Input>, CliError> {
    let (files, names) = (&arguments.files, &arguments.names);
    if names.len() > files.len() {
        return Err(CliError::Usage(format!("--name: {} names for {} files", names.len(), files.len())));
    }
    let mut inputs: Vec<Input> = Vec::with_capacity(files.len());
    for (at, path) in files.iter().enumerate() {
        let name = names.get(at).cloned().unwrap_or_else(|| input::stem(path));
        if inputs.iter().any(|other| other.name == name) {
            return Err(CliError::Usage(format!("two sections are called {name:?}: give each a --name")));
        }
        inputs.push(Input { name, path: path.clone() });
    }
    Ok(inputs)
}

fn models(written: &[String], config: &Config) -> Result<BTreeMap<Arc<str>, Tier>, CliError> {
    let none = BTreeMap::new();
    let names = Names { config, levels: &[], models: &none, intents: &[] };
    written
        .iter()
        .map(|pair| {
            let wrong = |why: &str| CliError::Usage(format!("--models {pair}: {why}"));
            // A model's name may hold an equals sign, a tier's seldom does.
            let (model, tier) = pair.rsplit_once('=').ok_or_else(|| wrong("MODEL=TIER is expected"))?;
            let tier = names.tier(tier).ok_or_else(|| wrong(&format!("there is no tier {tier:?}")))?;
            Ok((Arc::from(model), tier))
        })
        .collect()
}

/// Returns a note on models that --models placed for nothing.
fn unused_models(models: &BTreeMap<Arc<str>, Tier>, sections: &[Section]) -> Option<String> {
    let samples = sections.iter().flat_map(|section| &section.samples);
    let used: BTreeSet<&Arc<str>> = samples.flat_map(|sample| &sample.placed).collect();
    let unused: Vec<&str> =
        models.keys().filter(|model| !used.contains(model)).map(|model| &**model).collect();
    (!unused.is_empty()).then(|| {
        let names = listed(unused.into_iter());
        format!("--models {names}: no outcome is called so, or the configuration already places it")
    })
}

/// Returns the baseline beside the bundle, or why it is left out; and what must be known of it.
fn baseline(config: &Config) -> (Option<Tfidf>, Vec<String>) {
    let left_out = |why: String| (None, vec![format!("no TF-IDF baseline: {why}")]);
    let resolved = match live::resolved(&config.classifier) {
        Ok(resolved) => resolved,
        Err(error) => return left_out(error.to_string()),
    };
    let bytes = match Bundle::baseline(resolved.bundle.as_deref()) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            let how = "training/baseline.py makes one";
            return left_out(format!("the bundle's folder has no baseline.json; {how}"));
        }
        Err(error) => return left_out(error.to_string()),
    };
    let baseline = match Tfidf::read(&bytes) {
        Ok(baseline) => baseline,
        Err(why) => return left_out(format!("baseline.json: {why}")),
    };
    let unknown = config.tiers.iter().find(|tier| !baseline.levels().contains(&tier.level));
    match unknown {
        Some(tier) => left_out(format!("baseline.json has no level {:?}", tier.level)),
        None => {
            let notes = baseline_notes(&baseline, config);
            (Some(baseline), notes)
        }
    }
}

fn baseline_notes(baseline: &Tfidf, config: &Config) -> Vec<String> {
    let sets = match baseline.trained_on() {
        [] => "sets that baseline.json does not name".to_owned(),
        sets => listed(sets.iter().map(String::as_str)),
    };
    let mut notes =
        vec![format!("TF-IDF was trained on {sets}: on lines from there it looks better than it is")];
    if config.policy.objective == Objective::Value {
        notes.push(
            "the objective is value: TF-IDF, and every row along the curve, takes the first tier that reaches the \
             wanted quality all the same"
                .to_owned(),
        );
    }
    notes
}

/// Reads every file, then asks the router; all bad lines of all files come first.
fn sections(
    inputs: &[Input],
    router: &Arc<Router>,
    models: &BTreeMap<Arc<str>, Tier>,
) -> Result<Vec<Section>, CliError> {
    let (levels, known) = router
        .classifier()
        .map_or((&[][..], &[][..]), |description| (&description.levels[..], &description.intents[..]));
    let own = router.config().own_intents().map(|name| Intent(Arc::clone(name)));
    // Without a classifier the bundle's names are not known, and any name goes.
    let intents: Vec<Intent> =
        if known.is_empty() { Vec::new() } else { known.iter().cloned().chain(own).collect() };
    let names = Names { config: router.config(), levels, models, intents: &intents };
    let samples = input::read_all(inputs, &names)?;
    let progress = bar(samples.iter().map(Vec::len).sum::<usize>() as u64, "routing");
    let runtime = runtime()?;
    let mut sections = Vec::with_capacity(inputs.len());
    for (input, samples) in inputs.iter().zip(samples) {
        let asked = judge::ask(router, &samples, lines::IN_FLIGHT, || progress.inc(1));
        let facts = runtime.block_on(asked).map_err(|failed| input.bad_lines(failed))?;
        let (name, file) = (input.name.clone(), input.path.display().to_string());
        sections.push(Section { name, file, samples, facts });
    }
    progress.finish_and_clear();
    Ok(sections)
}

/// A bar on stderr; nothing when that is no terminal.
pub fn bar(length: u64, what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:15} {bar:40} {pos}/{len} {eta} left")
        .expect("the template is a constant");
    let bar = ProgressBar::new(length).with_style(style).with_message(what);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
