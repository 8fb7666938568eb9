//! `pointsman check`: every problem of a configuration, or a summary; the file's JSON Schema.

use std::{fs, io::Read, path::PathBuf};

use clap::Args;

use super::{CliError, config_file::ConfigFile, print, show};
use crate::{
    config::{self, BundleStoreConfig, Config, KeySource, TextPolicy},
    live::{Live, LiveError},
    routing::{Router, intents::review},
    server,
};

/// The most that is read of a file with a key; keys are far shorter.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;

#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The configuration file [default: --config, else the built-in configuration].
    file: Option<PathBuf>,
    /// Print the JSON Schema of a configuration file instead, for editors.
    #[arg(long, conflicts_with = "file")]
    schema: bool,
    /// Leave out the bundle: check the file alone.
    #[arg(long)]
    no_bundle: bool,
}

pub fn run(arguments: &CheckArguments, global: ConfigFile) -> Result<(), CliError> {
    if arguments.schema {
        let schema = serde_json::to_string_pretty(&config::schema()).expect("a schema is plain JSON");
        return print(&schema);
    }
    let file = arguments.file.clone().map_or(global, |file| ConfigFile::find(Some(file)));
    let mut config = file.whole()?;
    let summary = show::config(&config)
        + &show::providers(&config, readable)
        + &show::traffic(&config)
        + &show::warnings(&warnings(&config));
    // Checking logs nothing, and leaves alone what a server writes to.
    config.traffic.enabled = false;
    let live = Live::start(config)?;
    let router = live.router();
    let classifier = &router.config().classifier;
    if !classifier.enabled {
        return print(&format!("{summary}\nclassifier off"));
    }
    if arguments.no_bundle {
        return print(&summary);
    }
    let bundle = check_bundle(&live)?;
    print(&format!("{summary}\n{bundle}"))
}

/// Whether a key could be read now; the key itself goes nowhere.
fn readable(key: &KeySource) -> bool {
    let text = match key {
        KeySource::Environment(name) => std::env::var(name).ok(),
        // Whatever is no plain file, such as a pipe, could keep the command waiting.
        KeySource::File(path) => fs::metadata(path).ok().filter(fs::Metadata::is_file).and_then(|_| {
            let mut text = String::new();
            fs::File::open(path).ok()?.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
            Some(text)
        }),
    };
    text.is_some_and(|text| !text.trim().is_empty())
}

/// Returns what a valid configuration may still lack for completions.
fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for target in config.targets.iter().filter(|target| target.provider_index.is_none()) {
        warnings.push(format!(
            "target {}: no provider is named {:?}: it can be decided for, but not completed with",
            target.id.0, target.provider
        ));
    }
    for (at, provider) in config.providers.iter().enumerate() {
        let serves = |target: &config::TargetConfig| target.provider_index.is_some_and(|index| index.0 == at);
        if !config.targets.iter().any(serves) {
            warnings.push(format!("provider {}: serves no target", provider.name));
        }
    }
    if !config.budgets.is_empty() && config.spend_file.is_none() {
        warnings.push("budgets: without spend.file a restart forgets what was spent".to_owned());
    }
    if config.server.admin_listen.is_some() {
        let problems = server::admin_problems(&config.server.admin);
        warnings.extend(problems.iter().map(|problem| format!("{problem}: serve will not start")));
    }
    warnings.extend(missing_store(config));
    let traffic = &config.traffic;
    if let Err(missing) = traffic.complete() {
        warnings.push(format!("{missing}: serve will not start without it"));
    }
    let hashes = std::iter::once(&traffic.text).chain(traffic.tenant_text.values());
    if traffic.enabled
        && traffic.hash_key.is_none()
        && hashes.into_iter().any(|&text| text == TextPolicy::Hash)
    {
        warnings
            .push("traffic: without hash_key hashes of likely texts can be found out by trying".to_owned());
    }
    if config.learning.explore.is_some() && !config.learning.enabled {
        warnings.push("learning.explore: nothing is tried out while learning is off".to_owned());
    }
    warnings
}

/// Returns that a folder of versions that somebody named is not there. The built-in one is made when it is needed.
fn missing_store(config: &Config) -> Option<String> {
    let BundleStoreConfig::Folder(root) = &config.bundles.store else { return None };
    let built_in = match config::default_config().bundles.store {
        BundleStoreConfig::Folder(folder) => folder,
        BundleStoreConfig::Url(_) => return None,
    };
    let is_named = root.file_name() != built_in.file_name();
    let is_missing = matches!(root.try_exists(), Ok(false));
    (is_named && is_missing).then(|| {
        format!("bundles.store: {} is not there: `pointsman bundle stage PATH` makes it", root.display())
    })
}

/// Loads the bundle as `serve` would: hashes, graph, golden samples, labels against the file, examples.
fn check_bundle(live: &Live) -> Result<String, LiveError> {
    live.load_classifier()?;
    let router = live.router();
    let description = router.classifier().expect("it was loaded above");
    let bundle = format!("bundle     {} {}, {}", description.name, description.version, description.runs);
    Ok(bundle + &intents(&router))
}

/// Returns the figures and warnings of intents by example, a line each, empty without them.
fn intents(router: &Router) -> String {
    let read = router.classifier().and_then(|description| description.languages.as_ref());
    let Some(intents) = router.example_intents() else { return String::new() };
    show::intents(&review(intents, router.config(), read))
}
