//! Files that are followed: whatever way their content changes, somebody hears of it once.
//!
//! Folders are watched and not files: editors and Kubernetes put new files in the place of old ones. An event only
//! means that contents are compared, and where events never come (network file systems) they are compared now and then.
//! Never reads a file as anything but bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

/// Writers often touch a file several times in a row; this long after an event they are likely done.
const SETTLE: Duration = Duration::from_millis(300);
/// Contents are compared so often without any event.
const POLL_EVERY: Duration = Duration::from_secs(10);
/// Files are compared by this many bytes at most, above the largest configuration that is read.
const BYTES_MAX: u64 = 16 << 20;
/// Files that are followed at most.
const FILES_MAX: usize = 64;

/// SHA-256 of a content; `None` while there is no file that can be read.
type Content = Option<[u8; 32]>;

/// Follows some files.
pub struct Watch {
    /// Content as it was last told.
    files: BTreeMap<PathBuf, Content>,
    /// `None`: this system has no more watches to give; polling remains.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    touched: Arc<Notify>,
    poll_every: Duration,
}

impl Watch {
    /// Follows these files from their content of now; those that are not there yet too.
    pub fn start(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self::polling_every(POLL_EVERY, files)
    }

    fn polling_every(poll_every: Duration, files: impl IntoIterator<Item = PathBuf>) -> Self {
        let touched = Arc::new(Notify::new());
        let touch = Arc::clone(&touched);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Comparing opens files: that must not count as an event, or it would never end.
            if event.map_or(true, |event| is_change(event.kind)) {
                touch.notify_one();
            }
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(%error, "files cannot be watched on this system: they are compared every 10 s");
        });
        let (files_none, folders) = (BTreeMap::new(), BTreeSet::new());
        let mut watch = Self { files: files_none, watcher: watcher.ok(), folders, touched, poll_every };
        watch.follow(files);
        watch
    }

    /// Follows these files instead; what is known of those that stay is kept.
    pub fn follow(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let before = std::mem::take(&mut self.files);
        for file in files.into_iter().take(FILES_MAX) {
            let known = before.get(&file).copied();
            let content = known.unwrap_or_else(|| content(&file));
            self.files.insert(file, content);
        }
        self.watch_folders();
    }

    /// Resolves when contents differ from what was last told, and returns whose. A file that vanished is not told: it
    /// is likely being replaced, and without it there is nothing to read.
    pub async fn changed(&mut self) -> Vec<PathBuf> {
        loop {
            tokio::select! {
                () = self.touched.notified() => tokio::time::sleep(SETTLE).await,
                () = tokio::time::sleep(self.poll_every) => {}
            }
            let changed = self.compare().await;
            if !changed.is_empty() {
                return changed;
            }
        }
    }

    async fn compare(&mut self) -> Vec<PathBuf> {
        let paths: Vec<PathBuf> = self.files.keys().cloned().collect();
        // Off the reactor: a network file system may be slow.
        let read = tokio::task::spawn_blocking(move || {
            let contents: Vec<Content> = paths.iter().map(|path| content(path)).collect();
            (paths, contents)
        });
        let Ok((paths, contents)) = read.await else { return Vec::new() };
        // Links may lead elsewhere by now, and folders may have come and gone.
        self.watch_folders();
        let mut changed = Vec::new();
        for (path, now) in paths.into_iter().zip(contents) {
            if now.is_some() && self.files.get(&path).is_some_and(|told| *told != now) {
                self.files.insert(path.clone(), now);
                changed.push(path);
            }
        }
        changed
    }

    /// Watches each file's folder, and the one where a link leads.
    fn watch_folders(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: BTreeSet<PathBuf> = self.files.keys().flat_map(|file| folders_of(file)).collect();
        for gone in self.folders.difference(&wanted) {
            let _ = watcher.unwatch(gone);
        }
        // A folder that was replaced has lost its watch and keeps its name: each is watched anew.
        self.folders = wanted;
        self.folders.retain(|folder| watcher.watch(folder, RecursiveMode::NonRecursive).is_ok());
    }
}

fn folders_of(file: &Path) -> impl Iterator<Item = PathBuf> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Some(PathBuf::from(".")),
        parent => parent.map(Path::to_owned),
    };
    let led = file.canonicalize().ok();
    [parent(file), led.as_deref().and_then(parent)].into_iter().flatten()
}

fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

fn content(path: &Path) -> Content {
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(Sha256::digest(&bytes).into())
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Instant};

    use super::*;

    /// Longest wait for anything.
    const PATIENCE: Duration = Duration::from_secs(30);

    async fn told(watch: &mut Watch) -> Vec<PathBuf> {
        tokio::time::timeout(PATIENCE, watch.changed()).await.expect("the change is told")
    }

    /// Changes nothing that counts, then a marker: only the marker may be told.
    async fn nothing_but(watch: &mut Watch, marker: &Path) {
        fs::write(marker, format!("{:?}", Instant::now())).unwrap();
        assert_eq!(told(watch).await, [marker.to_owned()]);
    }

    /// A folder with a file that is followed, and a marker; polling is too seldom to help.
    fn folder() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (file, marker) = (folder.path().join("pointsman.toml"), folder.path().join("marker"));
        fs::write(&file, "one").unwrap();
        fs::write(&marker, "").unwrap();
        (folder, file, marker)
    }

    fn watching(files: &[&PathBuf]) -> Watch {
        Watch::polling_every(PATIENCE * 2, files.iter().map(|&file| file.clone()))
    }

    #[tokio::test]
    async fn writing_in_place_and_renaming_over_are_told() {
        let (folder, file, marker) = folder();
        let mut watch = watching(&[&file, &marker]);
        fs::write(&file, "two").unwrap();
        assert_eq!(told(&mut watch).await, std::slice::from_ref(&file));
        let new = folder.path().join("new");
        fs::write(&new, "three").unwrap();
        fs::rename(&new, &file).unwrap();
        assert_eq!(told(&mut watch).await, std::slice::from_ref(&file));
        fs::write(&file, "three").unwrap();
        nothing_but(&mut watch, &marker).await;
    }

    #[tokio::test]
    async fn a_file_that_vanishes_and_comes_back_is_told_when_it_differs() {
        let (_folder, file, marker) = folder();
        let mut watch = watching(&[&file, &marker]);
        fs::remove_file(&file).unwrap();
        nothing_but(&mut watch, &marker).await;
        fs::write(&file, "one").unwrap();
        nothing_but(&mut watch, &marker).await;
        fs::remove_file(&file).unwrap();
        fs::write(&file, "two").unwrap();
        assert_eq!(told(&mut watch).await, [file]);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_config_map_that_is_exchanged_is_told() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("..1", "one"), ("..2", "two"), ("..3", "three")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("pointsman.toml"), text).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/pointsman.toml", at("pointsman.toml")).unwrap();
        let file = at("pointsman.toml");
        let mut watch = watching(&[&file]);
        for (before, version) in [("..1", "..2"), ("..2", "..3")] {
            symlink(version, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
            fs::remove_dir_all(at(before)).unwrap();
            assert_eq!(told(&mut watch).await, std::slice::from_ref(&file));
        }
    }

    #[tokio::test]
    async fn without_events_contents_are_compared_now_and_then() {
        let (_folder, file, _) = folder();
        let mut watch = Watch::polling_every(Duration::from_millis(20), [file.clone()]);
        watch.watcher = None;
        fs::write(&file, "two").unwrap();
        assert_eq!(told(&mut watch).await, std::slice::from_ref(&file));
        watch.follow([file.clone()]);
        fs::write(&file, "three").unwrap();
        assert_eq!(told(&mut watch).await, [file], "what is followed again keeps what was told");
    }
}
