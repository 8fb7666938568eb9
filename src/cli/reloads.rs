//! What has a server read its configuration again: its files changed, or SIGHUP came.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::{Duration, Instant},
};

use super::CliError;
use crate::{
    config::Config,
    live::{
        Live,
        deploy::{DeployError, Deployer, Who},
        files::Watch,
        telling_files,
    },
};

/// Until what failed for a reason that may pass is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// What is followed, and where it is told.
pub struct Reloads {
    live: Arc<Live>,
    deployer: Arc<Deployer>,
    /// `None`: the built-in configuration, which never changes.
    file: Option<PathBuf>,
    hangups: Signal,
}

impl Reloads {
    /// Listens for SIGHUP from now on, which would end the process otherwise.
    pub fn listen(live: Arc<Live>, deployer: Arc<Deployer>, file: Option<PathBuf>) -> Result<Self, CliError> {
        let hangups = signal(SignalKind::hangup())
            .map_err(|error| CliError::Io { what: "signals".to_owned(), error })?;
        Ok(Self { live, deployer, file, hangups })
    }

    /// Reads the configuration again whenever there is a reason to, until told to stop.
    pub async fn follow(mut self, mut stopped: watch::Receiver<bool>) {
        // Looking at files may take its time; what is told to stop does not wait for it.
        let watch = tokio::select! {
            watch = Watch::start(self.followed()) => watch,
            _ = stopped.wait_for(|&stopped| stopped) => return,
        };
        // It may have changed between being read and being followed.
        let mut again_at = self.is_other_file().await.then(Instant::now);
        loop {
            let due = async {
                match again_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let who = tokio::select! {
                changed = watch.changed() => {
                    let files: Vec<String> = changed.iter().map(|file| file.display().to_string()).collect();
                    tracing::info!(files = files.join(", "), "files changed: reading the configuration again");
                    "file"
                }
                hangup = self.hangups.recv() => {
                    if hangup.is_none() {
                        return;
                    }
                    tracing::info!("SIGHUP: reading the configuration again");
                    "SIGHUP"
                }
                () = due => "file",
                _ = stopped.wait_for(|&stopped| stopped) => return,
            };
            again_at = None;
            // What came of it stands in the log and in its event.
            match self.deployer.reload(Who(who.to_owned())).await {
                // Of a refused configuration another one is needed, and its change will be seen.
                Ok(_) | Err(DeployError::Config(_)) => {}
                // A store or a disk may be back, or the rest of a bundle there.
                Err(_) => again_at = Some(Instant::now() + AGAIN_AFTER),
            }
            // What to follow may stand in what was just read.
            tokio::select! {
                () = watch.follow(self.followed()) => {}
                _ = stopped.wait_for(|&stopped| stopped) => return,
            }
        }
    }

    async fn is_other_file(&self) -> bool {
        let source = self.deployer.source();
        let (read, known) = (Arc::clone(&source.read), source.sha256.clone());
        let is_other = move || read().is_ok_and(|read| read.sha256 != known);
        tokio::task::spawn_blocking(is_other).await.unwrap_or(false)
    }

    fn followed(&self) -> Vec<PathBuf> {
        let live = self.live.router();
        followed(self.file.as_deref(), live.config())
    }
}

/// Returns the files whose change means something: the configuration, and the bundle that it names or what names it.
fn followed(file: Option<&Path>, config: &Config) -> Vec<PathBuf> {
    if !config.server.watch {
        return Vec::new();
    }
    let bundle = config.classifier.bundle.as_deref().filter(|_| config.classifier.enabled);
    let bundle = bundle.into_iter().flat_map(telling_files);
    file.map(Path::to_owned).into_iter().chain(bundle).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::read_text;

    #[track_caller]
    fn check(text: &str, file: Option<&str>, expected: &[&str]) {
        let followed = followed(file.map(Path::new), &read_text(text).unwrap());
        assert_eq!(followed, expected.iter().map(PathBuf::from).collect::<Vec<_>>(), "{text}");
    }

    #[test]
    fn the_file_and_the_bundle_that_it_names_are_followed() {
        check("", None, &[]);
        check("", Some("/etc/p.toml"), &["/etc/p.toml"]);
        let bundle = "[classifier]\nbundle = \"/onnx\"\n";
        check(bundle, Some("/etc/p.toml"), &["/etc/p.toml", "/onnx/default", "/onnx/manifest.json"]);
        check(&format!("{bundle}enabled = false"), Some("/etc/p.toml"), &["/etc/p.toml"]);
        check(&format!("{bundle}[server]\nwatch = false"), Some("/etc/p.toml"), &[]);
    }
}
