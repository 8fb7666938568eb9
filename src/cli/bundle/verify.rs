//! `pointsman bundle verify`: what can be checked before serving without a server, each step with its outcome; or all of it
//! by a running server.

use std::{path::Path, sync::Arc, time::Instant};

use clap::Args;
use indicatif::HumanBytes;

use super::{
    super::{admin::AdminArguments, config_file::ConfigFile, eval, route::unhurried, spinner::spinner},
    CliError,
    named::{self, bytes_bar, telling},
    remote_verify, runtime,
    verify_steps::{
        CALIBRATION, CONFIGURATION, CONTENTS, FILES, FOUND, GRAPH, LABELS, MANIFEST, MEMORY, OF_LOADING,
        SIGNATURE, Steps, Stopped, TOKENIZER, refused_at,
    },
};
use crate::{
    config::{ClassifierConfig, Config},
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
    #[command(flatten)]
    admin: AdminArguments,
}

const HELP: &str = "\
Checks what `serve` would check with the same --config, stops at the first thing that is wrong, and exits
with 1 then. A name with a slash is a folder. Nothing serves here: how much memory and time it takes beside
a running bundle is for a server to say.

With --admin ADDRESS that server checks a version of its own bundle store instead, as before serving it:
it loads it beside what serves, and measures both. Nothing changes there. Without --admin none is asked.

Signing, with minisign (https://jedisct1.github.io/minisign): `minisign -G` makes a pair of keys once; the
second line of minisign.pub belongs into bundles.public_keys. `minisign -Sm manifest.json` in the bundle's
folder signs it: the manifest holds the SHA-256 of every other file.";

/// Why a step failed, in words.
type Wrong = String;

pub fn run(arguments: &VerifyArguments, file: &ConfigFile) -> Result<(), CliError> {
    let VerifyArguments { bundle, admin } = arguments;
    if admin.names_server() {
        return remote_verify::run(bundle, admin, file);
    }
    if admin.says_who_asks() {
        return Err(CliError::Usage("no server is asked: name one with --admin ADDRESS".to_owned()));
    }
    let mut steps = Steps::new(admin.json);
    let outcome = verify(bundle, file.whole()?, &mut steps);
    steps.end(bundle, outcome)
}

fn verify(typed: &str, config: Config, steps: &mut Steps) -> Result<(), Stopped> {
    let words = |error: CliError| error.to_string();
    let runtime = runtime()?;
    let store = BundleStore::open(&config.bundles).map_err(CliError::from)?;
    let found = runtime.block_on(named::find(typed, &config));
    let found = found.map_err(|error| Stopped::At(FOUND, words(error)))?;
    let is_configured = typed == DEFAULT;
    match &found.folder {
        None => steps.good(FOUND, "inside the binary")?,
        Some(folder) if !folder.is_dir() => {
            return Err(Stopped::At(FOUND, format!("{}: there is no such folder", folder.display())));
        }
        Some(folder) => steps.good(FOUND, folder.display().to_string())?,
    }
    // Who writes the configuration names whatever bundle they like: `serve` asks for no signature of it either.
    if let Some(folder) = found.folder.as_ref().filter(|_| !is_configured) {
        let examined = runtime.block_on(store.examine(folder));
        let examined = examined.map_err(|error| Stopped::At(MANIFEST, error.to_string()))?;
        let sha256 = examined.bundle.sha256.as_deref().unwrap_or_default();
        let Examined { bundle, name, created, .. } = &examined;
        steps.good(MANIFEST, format!("{name} {}, created {created}, sha256 {sha256}", bundle.name))?;
        steps.good(SIGNATURE, signature(&examined))?;
        let files = runtime.block_on(files(&examined, folder));
        steps.good(FILES, files.map_err(|why| Stopped::At(FILES, why))?)?;
    }
    let read = match &found.folder {
        Some(folder) => Bundle::read(folder),
        None => Bundle::embedded(),
    };
    let bundle = read.map_err(|error| Stopped::At(CONTENTS, error.to_string()))?;
    if is_configured && found.folder.is_some() {
        steps.good(SIGNATURE, "not looked at: whoever writes the configuration is trusted")?;
        steps.good(FILES, "as the manifest says")?;
    }
    let (samples, tolerance) = (bundle.golden.len(), bundle.manifest.golden.tolerance);
    steps.good(CONTENTS, format!("of a format that is read here; {samples} golden samples"))?;
    let labels = &bundle.manifest.labels;
    let (intents, levels) = (labels.intents.len(), labels.levels.join(", "));
    steps.good(LABELS, format!("{intents} intents; levels {levels}"))?;
    let temperature = bundle.manifest.calibration.intent_temperature;
    let thresholds = bundle.manifest.thresholds;
    steps.good(
        CALIBRATION,
        format!(
            "temperature {temperature}; unsure below intent {} and level margin {}",
            thresholds.intent_confidence_min, thresholds.level_margin_min
        ),
    )?;
    drop(bundle);

    let mut config = unhurried(config);
    config.classifier.enabled = true;
    config.classifier.bundle = found.folder;
    // One session shows as much as several.
    config.classifier.workers = Some(1);
    let agree = format!("{samples} agree within {tolerance}");
    let classifier = loaded(&config.classifier, &agree, steps)?;
    let quality = config.policy.quality;
    let fitting = spinner("fitting it to the configuration");
    let fits = eval::traffic::router(&config, quality, Some(&(Arc::new(classifier) as _)));
    fitting.finish_and_clear();
    fits.map_err(|error| Stopped::At(CONFIGURATION, words(error)))?;
    Ok(steps.good(CONFIGURATION, "tiers, rules and intents fit the bundle")?)
}

/// Loads the bundle and runs its golden samples, which is one thing to whoever does it.
fn loaded(config: &ClassifierConfig, agree: &str, steps: &mut Steps) -> Result<OnnxClassifier, Stopped> {
    let started = Instant::now();
    let loading = spinner("loading it, and running its golden samples");
    let loaded = OnnxClassifier::load(config);
    loading.finish_and_clear();
    let took_ms = started.elapsed().as_millis();
    let runs = loaded.as_ref().ok().map(|loaded| loaded.describe().runs.clone());
    let refused = loaded.as_ref().err().map(|error| refused_at(error.unfit()));
    let well = OF_LOADING.iter().position(|&step| refused == Some(step));
    // Some of it was read before, and was good then.
    let well = well.unwrap_or(if refused.is_some() { 0 } else { OF_LOADING.len() });
    for &step in &OF_LOADING[..well] {
        let told = match (step, &runs) {
            (MEMORY, _) => "there is room to load it".to_owned(),
            (TOKENIZER, _) => "fits the model".to_owned(),
            (GRAPH, Some(runs)) => {
                format!("inputs and outputs fit; {runs}; loaded and tried in {took_ms} ms")
            }
            (GRAPH, None) => "inputs and outputs fit".to_owned(),
            _ => agree.to_owned(),
        };
        steps.good(step, told)?;
    }
    loaded.map_err(|error| Stopped::At(refused_at(error.unfit()), error.to_string()))
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
