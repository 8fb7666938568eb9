//! Versions that were fetched, on this machine's disk: one folder each, called by the SHA-256 of its manifest.
//!
//! Several processes may share it. A version in use has a lock beside it, which ends with the process however that
//! ends; whoever adds, takes or drops one holds the lock of the cache for that moment. Blocks. What is in a folder
//! is not looked at here.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant, SystemTime},
};

use uuid::Uuid;

use super::{Fetched, contents::is_sha256};

/// Lock of the cache as a whole.
const LOCK: &str = "cache.lock";
/// Ending of the lock beside a folder.
const LOCK_ENDING: &str = "lock";
/// Ending of a folder that is not whole yet.
const PART_ENDING: &str = "part";
/// Longest wait for others that change the cache, who delete some files at most.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(30);
const LOCK_LOOK_EVERY: Duration = Duration::from_millis(10);
/// Entries looked at; more are not ours.
const ENTRIES_MAX: usize = 10_000;

/// The cache in a folder.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    bytes_max: u64,
    /// What this process uses, by SHA-256.
    held: Mutex<HashMap<String, Hold>>,
}

/// A version that is used for as long as the guard lives. Its lock is given back when the cache is asked next.
#[derive(Debug)]
struct Hold {
    guard: Weak<()>,
    _lock: File,
}

/// A folder that a version is being put into; dropped, it is gone.
#[derive(Debug)]
pub struct Part {
    folder: PathBuf,
    _lock: File,
}

/// What there is no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    pub in_use: u64,
}

impl Cache {
    pub fn new(folder: PathBuf, bytes_max: u64) -> Self {
        Self { folder, bytes_max, held: Mutex::default() }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Returns the folder of a version; an error for anything that might lead out of the cache.
    fn of(&self, sha256: &str) -> io::Result<PathBuf> {
        if is_sha256(sha256) {
            return Ok(self.folder.join(sha256));
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "no version is called so: no SHA-256"))
    }

    /// Returns the version with this manifest and keeps it from being dropped; `None` when it is not here.
    pub fn hold(&self, sha256: &str) -> io::Result<Option<Fetched>> {
        let _changing = self.lock()?;
        self.hold_locked(sha256)
    }

    fn hold_locked(&self, sha256: &str) -> io::Result<Option<Fetched>> {
        let folder = self.of(sha256)?;
        if !folder.is_dir() {
            return Ok(None);
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, hold| hold.guard.strong_count() > 0);
        let lock = open_lock(&beside(&folder))?;
        // The time of its last use.
        lock.set_modified(SystemTime::now())?;
        if let Some(guard) = held.get(sha256).and_then(|hold| hold.guard.upgrade()) {
            return Ok(Some(Fetched { folder, held: guard }));
        }
        lock.lock_shared()?;
        let guard = Arc::new(());
        held.insert(sha256.to_owned(), Hold { guard: Arc::downgrade(&guard), _lock: lock });
        Ok(Some(Fetched { folder, held: guard }))
    }

    /// Drops what was not used for longest until so many bytes have room. Returns what is in use where they have not.
    ///
    /// What is to be replaced stays until then, and takes no room.
    pub fn make_room(&self, bytes: u64, replaced: Option<&str>) -> io::Result<Result<(), Full>> {
        let _changing = self.lock()?;
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, hold| hold.guard.strong_count() > 0);
        let mut entries = self.entries()?;
        entries.retain(|entry| replaced != Some(entry.name.as_str()));
        let leaving = match leaving(&entries, bytes, self.bytes_max) {
            Ok(leaving) => leaving,
            Err(full) => return Ok(Err(full)),
        };
        for entry in leaving {
            remove(&self.folder.join(&entry.name))?;
            tracing::info!(manifest = entry.name, bytes = entry.bytes, "bundle dropped from the cache");
        }
        Ok(Ok(()))
    }

    /// Returns an empty folder that nobody else writes to.
    pub fn begin(&self) -> io::Result<Part> {
        let _changing = self.lock()?;
        let folder = self.folder.join(format!("{}.{PART_ENDING}", Uuid::now_v7().simple()));
        let lock = open_lock(&beside(&folder))?;
        lock.lock()?;
        fs::create_dir(&folder)?;
        Ok(Part { folder, _lock: lock })
    }

    /// Makes the part the version with this manifest, or drops it where somebody was faster; returns the version.
    pub fn keep(&self, part: Part, sha256: &str) -> io::Result<Fetched> {
        let _changing = self.lock()?;
        let folder = self.of(sha256)?;
        if !folder.is_dir() {
            fs::rename(&part.folder, &folder)?;
        }
        drop(part);
        self.kept(sha256)
    }

    /// Puts the part in the place of a version that is damaged, although that may be in use.
    pub fn replace(&self, part: Part, sha256: &str) -> io::Result<Fetched> {
        let _changing = self.lock()?;
        let folder = self.of(sha256)?;
        // Goes with the parts of others that have stopped, should it be left behind.
        let aside = self.folder.join(format!("{}.{PART_ENDING}", Uuid::now_v7().simple()));
        let damaged = match fs::rename(&folder, &aside) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if let Err(error) = fs::rename(&part.folder, &folder) {
            if damaged {
                let _ = fs::rename(&aside, &folder);
            }
            return Err(error);
        }
        drop(part);
        if damaged {
            let _ = remove(&aside);
        }
        self.kept(sha256)
    }

    fn kept(&self, sha256: &str) -> io::Result<Fetched> {
        self.hold_locked(sha256)?.ok_or_else(|| io::Error::other("the version went away while it was kept"))
    }

    /// Waits for others that change the cache; the right to change it ends with what is returned.
    fn lock(&self) -> io::Result<File> {
        fs::create_dir_all(&self.folder)?;
        let lock = open_lock(&self.folder.join(LOCK))?;
        let started = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::WouldBlock) if started.elapsed() < LOCK_WAIT_MAX => {
                    std::thread::sleep(LOCK_LOOK_EVERY);
                }
                Err(TryLockError::WouldBlock) => {
                    let waited = LOCK_WAIT_MAX.as_secs();
                    let why = format!("another process has kept {LOCK} for {waited} s");
                    return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// Returns what is here; parts that nobody writes to any more go on the way.
    fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for found in fs::read_dir(&self.folder)?.take(ENTRIES_MAX) {
            let path = found?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
                continue;
            };
            let is_part = path.extension().is_some_and(|ending| ending == PART_ENDING);
            if !path.is_dir() || !(is_part || is_sha256(&name)) {
                continue;
            }
            let lock = open_lock(&beside(&path))?;
            let used_at = lock.metadata()?.modified()?;
            let in_use = lock.try_lock().is_err();
            if is_part && !in_use {
                remove(&path)?;
                continue;
            }
            entries.push(Entry { name, bytes: bytes_in(&path)?, used_at, in_use });
        }
        Ok(entries)
    }
}

impl Part {
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After a rename only the lock is left.
        let _ = remove(&self.folder);
    }
}

/// One folder of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    bytes: u64,
    used_at: SystemTime,
    in_use: bool,
}

/// Returns what has to go for `bytes` more to have room in `bytes_max`, what was used longest ago first. Pure.
fn leaving(entries: &[Entry], bytes: u64, bytes_max: u64) -> Result<Vec<Entry>, Full> {
    let sum = |in_use: Option<bool>| -> u64 {
        entries
            .iter()
            .filter(|entry| in_use.is_none_or(|in_use| entry.in_use == in_use))
            .fold(0, |sum: u64, entry| sum.saturating_add(entry.bytes))
    };
    let in_use = sum(Some(true));
    if in_use.saturating_add(bytes) > bytes_max {
        return Err(Full { in_use });
    }
    let mut idle: Vec<&Entry> = entries.iter().filter(|entry| !entry.in_use).collect();
    idle.sort_by_key(|entry| (entry.used_at, entry.name.clone()));
    let mut all = sum(None);
    let mut gone = Vec::new();
    for entry in idle {
        if all.saturating_add(bytes) <= bytes_max {
            break;
        }
        all = all.saturating_sub(entry.bytes);
        gone.push(entry.clone());
    }
    Ok(gone)
}

fn beside(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".");
    name.push(LOCK_ENDING);
    name.into()
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn bytes_in(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for found in fs::read_dir(folder)?.take(ENTRIES_MAX) {
        // One that goes away in between takes no room.
        bytes += found?.metadata().map_or(0, |metadata| metadata.len());
    }
    Ok(bytes)
}

/// Removes a folder and the lock beside it, as far as they are there.
fn remove(folder: &Path) -> io::Result<()> {
    let absent = |error: io::Error| {
        if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
    };
    fs::remove_dir_all(folder).or_else(absent)?;
    fs::remove_file(beside(folder)).or_else(absent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn sha(number: u8) -> String {
        format!("{number:02x}").repeat(32)
    }

    /// Puts a version of so many bytes into the cache.
    fn add(cache: &Cache, number: u8, bytes: usize) -> Fetched {
        cache.make_room(bytes as u64, None).unwrap().unwrap();
        let part = cache.begin().unwrap();
        fs::write(part.folder().join("model.onnx"), vec![0; bytes]).unwrap();
        cache.keep(part, &sha(number)).unwrap()
    }

    fn here(cache: &Cache) -> Vec<u8> {
        (0..10).filter(|number| cache.folder.join(sha(*number)).is_dir()).collect()
    }

    #[test]
    fn what_was_not_used_for_longest_goes_and_what_is_in_use_stays() {
        let folder = TempDir::new().unwrap();
        let cache = Cache::new(folder.path().join("cache"), 100);
        let first = add(&cache, 1, 40);
        drop(add(&cache, 2, 40));
        drop(add(&cache, 3, 20));
        // Used again, 2 is newer than 3.
        drop(cache.hold(&sha(2)).unwrap().unwrap());
        drop(add(&cache, 4, 15));
        assert_eq!(here(&cache), [1, 2, 4]);
        assert_eq!(cache.make_room(70, None).unwrap(), Err(Full { in_use: 40 }));
        assert_eq!(here(&cache), [1, 2, 4], "nothing goes in vain");
        cache.make_room(60, None).unwrap().unwrap();
        assert_eq!(here(&cache), [1]);
        drop(first);
        cache.make_room(100, None).unwrap().unwrap();
        assert_eq!(here(&cache), [0_u8; 0]);
        let left: Vec<_> = fs::read_dir(&cache.folder).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(left, [LOCK], "no lock is left behind");
    }

    #[test]
    fn another_process_keeps_what_it_uses() {
        let folder = TempDir::new().unwrap();
        // Locks are of opened files: two caches stand for two processes.
        let [ours, theirs] = [(); 2].map(|()| Cache::new(folder.path().to_owned(), 100));
        drop(add(&ours, 1, 60));
        let used = theirs.hold(&sha(1)).unwrap().unwrap();
        assert_eq!(ours.make_room(50, None).unwrap(), Err(Full { in_use: 60 }));
        let again = theirs.hold(&sha(1)).unwrap().unwrap();
        assert!(Arc::ptr_eq(&used.held, &again.held));
        drop((used, again));
        assert_eq!(theirs.hold(&sha(2)).unwrap().map(|fetched| fetched.folder), None);
        theirs.make_room(0, None).unwrap().unwrap();
        ours.make_room(50, None).unwrap().unwrap();
        assert_eq!(here(&ours), [0_u8; 0]);
    }

    #[test]
    fn parts_that_nobody_writes_to_any_more_go() {
        let folder = TempDir::new().unwrap();
        let cache = Cache::new(folder.path().to_owned(), 100);
        let writing = cache.begin().unwrap();
        fs::write(writing.folder().join("x"), [0; 30]).unwrap();
        let left = folder.path().join("0123.part");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("x"), [0; 90]).unwrap();
        cache.make_room(70, None).unwrap().unwrap();
        assert!(!left.exists() && writing.folder().exists());
        assert_eq!(cache.make_room(71, None).unwrap(), Err(Full { in_use: 30 }));
        let path = writing.folder().to_owned();
        drop(writing);
        assert!(!path.exists() && !beside(&path).exists());
    }

    #[test]
    fn who_is_second_takes_what_the_first_has_kept() {
        let folder = TempDir::new().unwrap();
        let cache = Cache::new(folder.path().to_owned(), 100);
        let (one, other) = (cache.begin().unwrap(), cache.begin().unwrap());
        fs::write(one.folder().join("x"), "one").unwrap();
        let first = cache.keep(one, &sha(1)).unwrap();
        let second = cache.keep(other, &sha(1)).unwrap();
        assert_eq!(first.folder, second.folder);
        assert_eq!(fs::read_to_string(second.folder.join("x")).unwrap(), "one");
    }

    #[test]
    fn a_damaged_version_stays_until_the_next_is_whole_and_takes_no_room() {
        let folder = TempDir::new().unwrap();
        let cache = Cache::new(folder.path().to_owned(), 100);
        let used = add(&cache, 1, 60);
        assert_eq!(cache.make_room(60, None).unwrap(), Err(Full { in_use: 60 }));
        cache.make_room(60, Some(&sha(1))).unwrap().unwrap();
        assert_eq!(here(&cache), [1]);
        let part = cache.begin().unwrap();
        fs::write(part.folder().join("model.onnx"), "new").unwrap();
        let replaced = cache.replace(part, &sha(1)).unwrap();
        assert_eq!(fs::read_to_string(replaced.folder.join("model.onnx")).unwrap(), "new");
        assert_eq!(used.folder, replaced.folder);
        // One that is gone is as good as one that was replaced.
        let part = cache.begin().unwrap();
        cache.replace(part, &sha(2)).unwrap();
        assert_eq!(here(&cache), [1, 2]);
        assert_eq!(cache.make_room(100, None).unwrap(), Err(Full { in_use: 3 }));
    }

    #[test]
    fn nothing_leads_out_of_the_cache() {
        let folder = TempDir::new().unwrap();
        let cache = Cache::new(folder.path().join("cache"), 100);
        let outside = folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("x"), "precious").unwrap();
        for name in
            ["../outside", "", ".", "/", &sha(1)[1..], &sha(0xab).to_uppercase(), outside.to_str().unwrap()]
        {
            assert!(cache.hold(name).is_err(), "{name}");
            assert!(cache.keep(cache.begin().unwrap(), name).is_err(), "{name}");
            assert!(cache.replace(cache.begin().unwrap(), name).is_err(), "{name}");
        }
        assert_eq!(fs::read_to_string(outside.join("x")).unwrap(), "precious");
    }

    proptest! {
        #[test]
        fn enough_goes_and_no_more(
            sizes in prop::collection::vec((0_u64..50, 0_u64..1000, any::<bool>()), 0..12),
            bytes in 0_u64..120,
            bytes_max in 0_u64..200,
        ) {
            let entries: Vec<Entry> = sizes
                .iter()
                .enumerate()
                .map(|(at, &(bytes, used_s, in_use))| {
                    let used_at = SystemTime::UNIX_EPOCH + Duration::from_secs(used_s);
                    Entry { name: sha(at as u8), bytes, used_at, in_use }
                })
                .collect();
            let sum = |entries: &[&Entry]| entries.iter().map(|entry| entry.bytes).sum::<u64>();
            let used: Vec<&Entry> = entries.iter().filter(|entry| entry.in_use).collect();
            match leaving(&entries, bytes, bytes_max) {
                Err(full) => {
                    prop_assert_eq!(full.in_use, sum(&used));
                    prop_assert!(full.in_use + bytes > bytes_max);
                }
                Ok(gone) => {
                    prop_assert!(gone.iter().all(|entry| !entry.in_use));
                    let stays: Vec<&Entry> = entries.iter().filter(|entry| !gone.contains(entry)).collect();
                    prop_assert!(sum(&stays) + bytes <= bytes_max);
                    // The last that went had to go, and whoever stays was used no earlier.
                    if let Some(last) = gone.last() {
                        prop_assert!(sum(&stays) + last.bytes + bytes > bytes_max);
                        prop_assert!(stays.iter().all(|entry| entry.in_use || entry.used_at >= last.used_at));
                    }
                }
            }
        }
    }
}
