//! Files that are followed: whatever way their content changes, somebody hears of it once.
//!
//! Folders are watched and not files: editors and Kubernetes put new files in the place of old ones. An event only
//! means that contents are compared, and where events never come (network file systems) they are compared now and then.
//! All of it happens on a thread of its own: a network file system that hangs holds up that one and nobody else. Never
//! reads a file as anything but bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    mem,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, oneshot};

/// Writers often touch a file several times in a row; this long after an event they are likely done.
const SETTLE: Duration = Duration::from_millis(300);
/// Contents are compared so often without any event.
const POLL_EVERY: Duration = Duration::from_secs(10);
/// Longest wait until other files are followed: whoever asks has more to do than wait for a file system that hangs.
const FOLLOW_WAIT_MAX: Duration = Duration::from_secs(5);
/// Files are compared by this many bytes at most, above the largest configuration that is read.
const BYTES_MAX: u64 = 16 << 20;
/// Files that are followed at most.
const FILES_MAX: usize = 64;

/// SHA-256 of a content; `None` while there is no file that can be read.
type Content = Option<[u8; 32]>;

/// Follows some files, until it is dropped.
pub struct Watch(Arc<Shared>);

/// Between those who ask and the thread that looks.
struct Shared {
    orders: Mutex<Orders>,
    /// Wakes the thread.
    ordered: Condvar,
    /// What changed and was not told yet.
    changed: Mutex<BTreeSet<PathBuf>>,
    /// Wakes who is told.
    news: Notify,
}

/// What the thread is to do next.
#[derive(Default)]
struct Orders {
    /// An event came.
    touched: bool,
    follow: Option<Follow>,
    stop: bool,
}

/// Files that are to be followed instead.
struct Follow {
    files: Vec<PathBuf>,
    taken: oneshot::Sender<()>,
}

/// How the thread looks at files; tests have it otherwise.
#[derive(Clone, Copy)]
struct Sight {
    poll_every: Duration,
    events: bool,
    read: fn(&Path) -> Content,
}

impl Watch {
    /// Follows these files from their content of now; those that are not there yet too.
    pub async fn start(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self::seeing(Sight { poll_every: POLL_EVERY, events: true, read: content }, files).await
    }

    async fn seeing(sight: Sight, files: impl IntoIterator<Item = PathBuf>) -> Self {
        let shared = Arc::new(Shared {
            orders: Mutex::default(),
            ordered: Condvar::new(),
            changed: Mutex::default(),
            news: Notify::new(),
        });
        let looks = Arc::clone(&shared);
        // Nobody waits for its end: a file system that hangs would hold up a shutdown.
        let looking = thread::Builder::new().name("files".to_owned()).spawn(move || look(&looks, sight));
        if let Err(error) = looking {
            tracing::error!(%error, "no thread looks at files: only SIGHUP and `pointsman reload` read them again");
        }
        let watch = Self(shared);
        watch.follow(files).await;
        watch
    }

    /// Follows these files instead; what is known of those that stay is kept. When this returns they are followed,
    /// unless a file system hangs: then they are as soon as it answers.
    pub async fn follow(&self, files: impl IntoIterator<Item = PathBuf>) {
        let (taken, is_taken) = oneshot::channel();
        let files = files.into_iter().take(FILES_MAX).collect();
        self.0.orders().follow = Some(Follow { files, taken });
        self.0.ordered.notify_one();
        if tokio::time::timeout(FOLLOW_WAIT_MAX, is_taken).await.is_err() {
            tracing::warn!("the files that are followed cannot be looked at: does a file system hang?");
        }
    }

    /// Resolves when contents differ from what was last told, and returns whose. A file that vanished is not told: it
    /// is likely being replaced, and without it there is nothing to read. May be cancelled.
    pub async fn changed(&self) -> Vec<PathBuf> {
        loop {
            let changed = mem::take(&mut *self.0.changed());
            if !changed.is_empty() {
                return changed.into_iter().collect();
            }
            self.0.news.notified().await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.orders().stop = true;
        self.0.ordered.notify_one();
    }
}

impl Shared {
    // Only plain assignments happen under either lock.
    fn orders(&self) -> MutexGuard<'_, Orders> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits so long at most, or until `is_due`.
    fn wait(&self, most: Duration, is_due: impl Fn(&Orders) -> bool) -> MutexGuard<'_, Orders> {
        let waits = |orders: &mut Orders| !orders.stop && !is_due(orders);
        let waited = self.ordered.wait_timeout_while(self.orders(), most, waits);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Looks at files until told to stop.
fn look(shared: &Arc<Shared>, sight: Sight) {
    let mut watched = Watched::new(shared, sight);
    loop {
        let mut orders = shared.wait(sight.poll_every, |orders| orders.touched || orders.follow.is_some());
        if orders.stop {
            return;
        }
        let (touched, follow) = (mem::take(&mut orders.touched), orders.follow.take());
        drop(orders);
        let followed = follow.map(|Follow { files, taken }| {
            watched.follow(files);
            let _ = taken.send(());
        });
        match (touched, followed) {
            (true, _) => drop(shared.wait(SETTLE, |_| false)),
            (false, Some(())) => continue,
            // It is time to.
            (false, None) => {}
        }
        let changed = watched.compare();
        if !changed.is_empty() {
            shared.changed().extend(changed);
            shared.news.notify_one();
        }
    }
}

/// What the thread knows.
struct Watched {
    /// Content as it was last told.
    files: BTreeMap<PathBuf, Content>,
    /// `None`: this system has no more watches to give; polling remains.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    read: fn(&Path) -> Content,
}

impl Watched {
    fn new(shared: &Arc<Shared>, sight: Sight) -> Self {
        let touch = Arc::clone(shared);
        let watcher = sight.events.then(|| {
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                // Comparing opens files: that must not count as an event, or it would never end.
                if event.map_or(true, |event| is_change(event.kind)) {
                    touch.orders().touched = true;
                    touch.ordered.notify_one();
                }
            })
            .inspect_err(|error| {
                tracing::warn!(%error, "files cannot be watched on this system: they are compared every 10 s");
            })
        });
        let watcher = watcher.and_then(Result::ok);
        Self { files: BTreeMap::new(), watcher, folders: BTreeSet::new(), read: sight.read }
    }

    /// Follows these files instead; what is known of those that stay is kept.
    fn follow(&mut self, files: Vec<PathBuf>) {
        let before = mem::take(&mut self.files);
        for file in files {
            let known = before.get(&file).copied();
            let content = known.unwrap_or_else(|| (self.read)(&file));
            self.files.insert(file, content);
        }
        self.watch_folders();
    }

    /// Returns the files whose content is another one than was last told.
    fn compare(&mut self) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        for (path, told) in &mut self.files {
            let now = (self.read)(path);
            if now.is_some() && *told != now {
                *told = now;
                changed.push(path.clone());
            }
        }
        // Links may lead elsewhere by now, and folders may have come and gone.
        self.watch_folders();
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
    use std::{
        fs,
        sync::atomic::{AtomicBool, Ordering},
        time::Instant,
    };

    use super::*;

    /// Longest wait for anything.
    const PATIENCE: Duration = Duration::from_secs(30);

    async fn told(watch: &Watch) -> Vec<PathBuf> {
        tokio::time::timeout(PATIENCE, watch.changed()).await.expect("the change is told")
    }

    /// Changes nothing that counts, then a marker: only the marker may be told.
    async fn nothing_but(watch: &Watch, marker: &Path) {
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

    async fn watching(files: &[&PathBuf]) -> Watch {
        let sight = Sight { poll_every: PATIENCE * 2, events: true, read: content };
        Watch::seeing(sight, files.iter().map(|&file| file.clone())).await
    }

    #[tokio::test]
    async fn writing_in_place_and_renaming_over_are_told() {
        let (folder, file, marker) = folder();
        let watch = watching(&[&file, &marker]).await;
        fs::write(&file, "two").unwrap();
        assert_eq!(told(&watch).await, std::slice::from_ref(&file));
        let new = folder.path().join("new");
        fs::write(&new, "three").unwrap();
        fs::rename(&new, &file).unwrap();
        assert_eq!(told(&watch).await, std::slice::from_ref(&file));
        fs::write(&file, "three").unwrap();
        nothing_but(&watch, &marker).await;
    }

    #[tokio::test]
    async fn a_file_that_vanishes_and_comes_back_is_told_when_it_differs() {
        let (_folder, file, marker) = folder();
        let watch = watching(&[&file, &marker]).await;
        fs::remove_file(&file).unwrap();
        nothing_but(&watch, &marker).await;
        fs::write(&file, "one").unwrap();
        nothing_but(&watch, &marker).await;
        fs::remove_file(&file).unwrap();
        fs::write(&file, "two").unwrap();
        assert_eq!(told(&watch).await, [file]);
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
        let watch = watching(&[&file]).await;
        for (before, version) in [("..1", "..2"), ("..2", "..3")] {
            symlink(version, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
            fs::remove_dir_all(at(before)).unwrap();
            assert_eq!(told(&watch).await, std::slice::from_ref(&file));
        }
    }

    #[tokio::test]
    async fn without_events_contents_are_compared_now_and_then() {
        let (_folder, file, _) = folder();
        let sight = Sight { poll_every: Duration::from_millis(20), events: false, read: content };
        let watch = Watch::seeing(sight, [file.clone()]).await;
        fs::write(&file, "two").unwrap();
        assert_eq!(told(&watch).await, std::slice::from_ref(&file));
        watch.follow([file.clone()]).await;
        fs::write(&file, "three").unwrap();
        assert_eq!(told(&watch).await, [file], "what is followed again keeps what was told");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_system_that_hangs_holds_up_nobody() {
        static HANGS: Mutex<bool> = Mutex::new(true);
        static ANSWERS: Condvar = Condvar::new();
        static HAS_READ: AtomicBool = AtomicBool::new(false);
        fn hanging(path: &Path) -> Content {
            let hangs = ANSWERS.wait_while(HANGS.lock().unwrap(), |hangs| *hangs);
            drop(hangs.unwrap());
            let content = content(path);
            HAS_READ.store(true, Ordering::Release);
            content
        }
        let (_folder, file, _) = folder();
        let sight = Sight { poll_every: Duration::from_millis(20), events: false, read: hanging };
        // On this thread the clock moves on only while nothing blocks it.
        let watch = Watch::seeing(sight, [file.clone()]).await;
        watch.follow([file.clone()]).await;
        assert!(tokio::time::timeout(PATIENCE, watch.changed()).await.is_err());
        *HANGS.lock().unwrap() = false;
        ANSWERS.notify_all();
        // Otherwise the clock would run ahead of the thread.
        tokio::time::resume();
        let has_read = async {
            while !HAS_READ.load(Ordering::Acquire) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, has_read).await.expect("the thread goes on");
        fs::write(&file, "two").unwrap();
        assert_eq!(told(&watch).await, [file]);
    }
}
