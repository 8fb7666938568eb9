//! A bundle as it is typed: a folder, a version in the store, or `default`; and bars while bytes are copied.

use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::CliError;
use crate::{
    config::Config,
    live::{
        self, LiveError,
        bundles::{BundleStore, BundleStoreError, Fetched, Told, version_problem},
        rollout::{BundleRef, DEFAULT},
    },
};

/// A bundle on this machine.
pub struct Named {
    /// `None`: the bundle inside the binary.
    pub folder: Option<PathBuf>,
    /// Keeps the folder where it is in a cache.
    _fetched: Option<Fetched>,
}

/// Finds a bundle, and fetches it where it has to be.
///
/// A name with a slash is a folder; another one a version, and a folder of this name where no version is called so.
pub async fn find(typed: &str, config: &Config) -> Result<Named, CliError> {
    let at = |folder: Option<PathBuf>| Named { folder, _fetched: None };
    if typed == DEFAULT {
        return Ok(at(live::resolved(&config.classifier).map_err(LiveError::from)?.bundle));
    }
    let path = Path::new(typed);
    let is_path = typed.contains(std::path::is_separator) || typed.starts_with('.');
    if is_path || (version_problem(typed).is_some() && path.is_dir()) {
        return Ok(at(Some(path.to_owned())));
    }
    let store = BundleStore::open(&config.bundles)?;
    let bundle = BundleRef { name: typed.into(), sha256: None };
    let bar = bytes_bar(None, "fetching");
    let fetched = store.fetch_telling(&bundle, telling(&bar)).await;
    bar.finish_and_clear();
    match fetched {
        Ok(fetched) => Ok(Named { folder: Some(fetched.folder.clone()), _fetched: Some(fetched) }),
        Err(BundleStoreError::Unknown { .. }) if path.is_dir() => Ok(at(Some(path.to_owned()))),
        Err(error) => Err(error.into()),
    }
}

/// Returns what moves a bar on.
pub fn telling(bar: &ProgressBar) -> Told {
    let bar = bar.clone();
    Arc::new(move |bytes| bar.inc(bytes))
}

/// A bar over bytes on stderr, or a count where their sum is not known; nothing when that is no terminal.
pub fn bytes_bar(length: Option<u64>, what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match length {
        Some(length) => {
            (ProgressBar::new(length), "{msg:10} {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta} left")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {msg} {bytes} {bytes_per_sec}, {elapsed}"),
    };
    let style = ProgressStyle::with_template(template).expect("the template is a constant");
    bar.set_style(style);
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
