//! `pointsman bundle verify`: every check before serving, each with its outcome.

use std::{fmt::Write, path::Path, time::Instant};

use clap::Args;
use indicatif::HumanBytes;
use serde::Serialize;

use super::{
    super::{
        eval,
        route::unhurried,
        show::{ERROR, GOOD, RESET, STRONG},
    },
    CliError,
    named::{self, bytes_bar, telling},
    print, runtime,
};
use crate::{
    config::Config,
    live::{
        bundles::{BundleStore, Examined},
        rollout::DEFAULT,
    },
    routing::classifier::{Bundle, Classifier, OnnxClassifier},
};

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct VerifyArguments {
    /// A bundle's folder, a version in the bundle store, or "default".
    #[arg(value_name = "PATH|VERSION")]
    bundle: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Checks what `serve` would check with the same --config, stops at the first thing that is wrong, and exits
with 1 then. A name with a slash is a folder.

Signing, with minisign (https://jedisct1.github.io/minisign): `minisign -G` makes a pair of keys once; the
second line of minisign.pub belongs into bundles.public_keys. `minisign -Sm manifest.json` in the bundle's
folder signs it: the manifest holds the SHA-256 of every other file.";

/// What was found out.
#[derive(Serialize)]
struct Report<'a> {
    bundle: &'a str,
    good: bool,
    steps: Vec<Step>,
}

#[derive(Serialize)]
struct Step {
    step: &'static str,
    good: bool,
    told: String,
}

/// The first step.
const FOUND: &str = "found";

/// Why a step failed, in words.
type Wrong = String;

pub fn run(arguments: &VerifyArguments, config: Config) -> Result<(), CliError> {
    let mut steps = Vec::new();
    let failed = verify(&arguments.bundle, config, &mut steps).err();
    if let Some((step, told)) = failed.clone() {
        steps.push(Step { step, good: false, told });
    }
    let report = Report { bundle: &arguments.bundle, good: failed.is_none(), steps };
    let told = if arguments.json {
        serde_json::to_string_pretty(&report).expect("a report is plain data")
    } else {
        report.text()
    };
    print(told.trim_end())?;
    match failed {
        None => Ok(()),
        Some((FOUND, _)) => Err(CliError::Unfit(format!("bundle {} is not there", report.bundle))),
        Some((step, _)) => {
            Err(CliError::Unfit(format!("bundle {} cannot serve: look at {step}", report.bundle)))
        }
    }
}

fn verify(typed: &str, config: Config, steps: &mut Vec<Step>) -> Result<(), (&'static str, Wrong)> {
    let mut good = |step: &'static str, told: String| steps.push(Step { step, good: true, told });
    let words = |error: CliError| error.to_string();
    let runtime = runtime().map_err(|error| ("runtime", words(error)))?;
    let store = BundleStore::open(&config.bundles).map_err(|error| ("store", error.to_string()))?;
    let found = runtime.block_on(named::find(typed, &config)).map_err(|error| (FOUND, words(error)))?;
    let is_configured = typed == DEFAULT;
    match &found.folder {
        None => good(FOUND, "inside the binary".to_owned()),
        Some(folder) if !folder.is_dir() => {
            return Err((FOUND, format!("{}: there is no such folder", folder.display())));
        }
        Some(folder) => good(FOUND, folder.display().to_string()),
    }
    // Who writes the configuration names whatever bundle they like: `serve` asks for no signature of it either.
    if let Some(folder) = found.folder.as_ref().filter(|_| !is_configured) {
        let examined =
            runtime.block_on(store.examine(folder)).map_err(|error| ("manifest", error.to_string()))?;
        let sha256 = examined.bundle.sha256.as_deref().unwrap_or_default();
        let Examined { bundle, name, created, .. } = &examined;
        good("manifest", format!("{name} {}, created {created}, sha256 {sha256}", bundle.name));
        good("signature", signature(&examined));
        good("files", runtime.block_on(files(&examined, folder)).map_err(|why| ("files", why))?);
    }
    let read = match &found.folder {
        Some(folder) => Bundle::read(folder),
        None => Bundle::embedded(),
    };
    let bundle = read.map_err(|error| ("contents", error.to_string()))?;
    if is_configured && found.folder.is_some() {
        good("signature", "not looked at: whoever writes the configuration is trusted".to_owned());
        good("files", "as the manifest says".to_owned());
    }
    let labels = &bundle.manifest.labels;
    good("labels", format!("{} intents; levels {}", labels.intents.len(), labels.levels.join(", ")));
    let temperature = bundle.manifest.calibration.intent_temperature;
    let thresholds = bundle.manifest.thresholds;
    good(
        "calibration",
        format!(
            "temperature {temperature}; unsure below intent {} and level margin {}",
            thresholds.intent_confidence_min, thresholds.level_margin_min
        ),
    );
    let (golden, tolerance) = (bundle.golden.len(), bundle.manifest.golden.tolerance);
    drop(bundle);

    let mut config = unhurried(config);
    config.classifier.enabled = true;
    config.classifier.bundle = found.folder;
    // One session shows as much as several.
    config.classifier.workers = Some(1);
    let started = Instant::now();
    let loaded = OnnxClassifier::load(&config.classifier);
    let classifier = loaded.map_err(|error| ("graph and golden samples", error.to_string()))?;
    let took_ms = started.elapsed().as_millis();
    let runs = classifier.describe().runs.clone();
    good("graph", format!("inputs and outputs fit; {runs}; loaded and tried in {took_ms} ms"));
    good("golden samples", format!("{golden} agree within {tolerance}"));
    let quality = config.policy.quality;
    let fits = eval::traffic::router(&config, quality, Some(&(std::sync::Arc::new(classifier) as _)));
    fits.map_err(|error| ("configuration", words(error)))?;
    good("configuration", "tiers, rules and intents fit the bundle".to_owned());
    Ok(())
}

fn signature(examined: &Examined) -> String {
    match &examined.signer {
        Some(signer) => format!("by {}…: {}", signer.key, signer.comment),
        None if examined.has_keys => "by none of bundles.public_keys, and none is required".to_owned(),
        None => "not looked at: bundles.public_keys is empty".to_owned(),
    }
}

/// Compares every file with the manifest.
async fn files(examined: &Examined, folder: &Path) -> Result<String, Wrong> {
    let sum = examined.files.iter().map(|(_, bytes)| bytes).sum();
    let bar = bytes_bar(Some(sum), "checking");
    let checked = examined.check_files(folder, telling(&bar)).await;
    bar.finish_and_clear();
    checked.map_err(|error| error.to_string())?;
    let each: Vec<String> =
        examined.files.iter().map(|(name, bytes)| format!("{name} {}", HumanBytes(*bytes))).collect();
    Ok(format!("{} as the manifest says: {}", HumanBytes(sum), each.join(", ")))
}

impl Report<'_> {
    fn text(&self) -> String {
        let mut text = String::new();
        let width = self.steps.iter().map(|step| step.step.len()).max().unwrap_or(0);
        for Step { step, good, told } in &self.steps {
            let mark = if *good { format!("{GOOD}ok{RESET}  ") } else { format!("{ERROR}no{RESET}  ") };
            let _ = writeln!(text, "{mark}{STRONG}{step:<width$}{RESET}  {told}");
        }
        text
    }
}
