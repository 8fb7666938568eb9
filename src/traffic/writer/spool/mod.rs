//! What the store could not take, on local disk until it can: bounded, durable, oldest first.
//!
//! Each process writes a file of its own and keeps it locked; what a process left behind that is gone is taken over.
//! Texts get here only after the policy for texts was applied. Nothing here knows why the store is down.

mod erase;
mod file;
mod lock;
mod look;

use std::{
    collections::HashSet,
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use uuid::Uuid;

pub use self::{
    erase::{EraseError, SpoolErased, erase},
    look::{SpoolHoldings, holdings},
};
use self::{
    file::{SpoolFile, Trouble},
    lock::Lock,
};
use crate::{
    config::SpoolConfig,
    traffic::{feedback::Feedback, record::Record, store::sqlite},
};

/// Part of the room that only feedback may fill, since feedback is promised to last and a record is not.
const FEEDBACK_SHARE: u64 = 10;
/// Files of processes that are gone which are open at once, and which are looked into at once; the rest follows when
/// these are empty. Each costs a thread and some file descriptors.
const TAKEN_OVER_MAX: usize = 64;
/// Failures in a row after which a file is passed over as long as others wait.
const FAILURES_MAX: u32 = 3;
/// Acknowledged feedback that the store refuses for good, a JSON document a line: somebody may mend and send it.
const ASIDE: &str = "refused-feedback.jsonl";
/// Nobody may ever look at it.
const ASIDE_BYTES_MAX: u64 = 64 << 20;
/// How file names begin and end.
const NAME: (&str, &str) = ("spool-", ".sqlite");

/// Why the spool did not take something or give it back.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    #[error("the spool {} is full ({bytes_max} bytes)", .folder.display())]
    Full { folder: PathBuf, bytes_max: u64 },
    #[error("the spool {}: {problem}", .folder.display())]
    Io { folder: PathBuf, problem: String },
}

/// One thing on its way to the store, as it lies on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: EntryKind,
    pub decision_id: Uuid,
    /// Of a record.
    pub tenant: Option<String>,
    pub document: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    Record,
    Feedback,
}

/// The oldest of what waits.
#[derive(Debug, Default)]
pub struct Batch {
    pub records: Vec<Record>,
    pub feedback: Vec<Feedback>,
    /// Documents that could not be read.
    pub broken: u64,
    place: Place,
}

/// Where a batch came from.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    file: usize,
    through: i64,
    rows: u64,
    bytes: u64,
}

/// The spool of one process.
pub struct Spool {
    config: SpoolConfig,
    /// Those taken over first; the last one is written, once there is one of its own.
    files: Vec<SpoolFile>,
    own: bool,
    /// Entries that went with broken files, not yet told.
    lost: u64,
    /// Names of feedback that was left aside and still waits to be removed; no more than are read before something can
    /// be removed again, which is a batch of each file.
    aside: HashSet<String>,
}

impl Spool {
    /// Starts without touching the disk.
    pub fn new(config: SpoolConfig) -> Self {
        Self { config, files: Vec::new(), own: false, lost: 0, aside: HashSet::new() }
    }

    /// Takes over what processes left behind that are gone.
    pub async fn take_over(&mut self) -> Result<(), SpoolError> {
        let entries = match fs::read_dir(&self.config.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(|error| self.failed(&error))?,
        };
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(NAME.0) && name.ends_with(NAME.1))
                && self.files.iter().all(|file| file.path() != path)
        });
        // Their names begin with the time at which they were begun.
        paths.sort_unstable();
        let (mut looked_into, mut taken_over) = (0, self.files.len() - usize::from(self.own));
        for path in paths {
            if taken_over >= TAKEN_OVER_MAX || looked_into >= TAKEN_OVER_MAX {
                break;
            }
            let Some(lock) = Lock::take(&path).map_err(|error| self.failed(&error))? else { continue };
            if !path.exists() {
                lock.remove();
                continue;
            }
            looked_into += 1;
            match SpoolFile::open(path, lock).await {
                // Begun when there was no room to write anything into it, or left just before it was removed.
                Ok(file) if file.rows() == 0 => file.delete().await,
                Ok(file) => {
                    taken_over += 1;
                    tracing::info!(
                        entries = file.rows(),
                        "taking over what another process left in the spool"
                    );
                    let at = self.files.len() - usize::from(self.own);
                    self.files.insert(at, file);
                }
                Err((trouble, lock)) => self.gave_up(&trouble, lock),
            }
        }
        Ok(())
    }

    /// Keeps these; they are durable when this returns.
    pub async fn put(&mut self, entries: &[Entry]) -> Result<(), SpoolError> {
        let Some(first) = entries.first() else { return Ok(()) };
        let room = match first.kind {
            EntryKind::Record => self.config.bytes_max - self.config.bytes_max / FEEDBACK_SHARE,
            EntryKind::Feedback => self.config.bytes_max,
        };
        let new: u64 = entries.iter().map(file::weight).sum();
        let held: u64 = self.files.iter().map(SpoolFile::bytes).sum();
        if held + new > room {
            return Err(SpoolError::Full {
                folder: self.config.folder.clone(),
                bytes_max: self.config.bytes_max,
            });
        }
        match self.put_in_own(entries).await {
            Err(Trouble::Corrupt(problem)) => {
                self.discard_own(&problem).await;
                self.put_in_own(entries).await.map_err(|trouble| self.failed(&trouble))
            }
            Err(trouble) => Err(self.failed(&trouble)),
            Ok(()) => Ok(()),
        }
    }

    /// Returns the oldest entries, at most `entries_max` and about `bytes_max`; `None` when nothing waits.
    pub async fn oldest(
        &mut self,
        entries_max: usize,
        bytes_max: usize,
    ) -> Result<Option<Batch>, SpoolError> {
        loop {
            let waiting = (0..self.files.len()).filter(|&at| self.files[at].rows() > 0);
            // The first of those that fail least.
            let Some(at) = waiting.min_by_key(|&at| self.files[at].failures() / FAILURES_MAX) else {
                return Ok(None);
            };
            match self.files[at].oldest(entries_max, bytes_max).await {
                // Then the file says that it holds nothing.
                Ok(found) if found.is_empty() => {}
                Ok(found) => {
                    let mut batch = read(&found);
                    batch.place.file = at;
                    return Ok(Some(batch));
                }
                Err(Trouble::Corrupt(problem)) => {
                    let is_own = self.own && at + 1 == self.files.len();
                    let file = self.files.remove(at);
                    self.own &= !is_own;
                    self.discard(file, &problem).await;
                }
                Err(trouble @ Trouble::Io(_)) => return Err(self.failed(&trouble)),
            }
        }
    }

    /// Forgets a batch, the last one that was returned, because the store has it.
    pub async fn remove(&mut self, batch: &Batch) -> Result<(), SpoolError> {
        let Place { file: at, through, rows, bytes } = batch.place;
        let removed = match self.files.get_mut(at) {
            Some(file) => file.remove(through, rows, bytes).await,
            None => Ok(()),
        };
        removed.map_err(|trouble| self.failed(&trouble))?;
        for given in &batch.feedback {
            self.aside.remove(&given.feedback_id);
        }
        if self.files.get(at).is_some_and(|file| file.rows() == 0) {
            self.own &= at + 1 != self.files.len();
            self.files.remove(at).delete().await;
        }
        Ok(())
    }

    /// Returns the tenants of those of these decisions that wait here.
    pub async fn tenants_of(&mut self, decisions: &[Uuid]) -> Vec<Option<String>> {
        let mut tenants = vec![None; decisions.len()];
        for file in &mut self.files {
            for (tenant, decision) in tenants.iter_mut().zip(decisions) {
                if tenant.is_none() {
                    // Without an answer the strictest policy holds.
                    *tenant = file.tenant_of(*decision).await.unwrap_or_default();
                }
            }
        }
        tenants
    }

    /// Keeps feedback aside that the store will never take; durable when this returns, with the path. What was left
    /// aside already and could not be removed since is not written once more.
    pub fn leave_aside(&mut self, feedback: &[Feedback]) -> Result<PathBuf, SpoolError> {
        let path = self.config.folder.join(ASIDE);
        let new: Vec<&Feedback> =
            feedback.iter().filter(|given| !self.aside.contains(&given.feedback_id)).collect();
        if new.is_empty() {
            return Ok(path);
        }
        let leave = || -> io::Result<()> {
            let mut lines = Vec::new();
            for given in &new {
                serde_json::to_writer(&mut lines, given)?;
                lines.push(b'\n');
            }
            let mut file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
            if file.metadata()?.len() + lines.len() as u64 > ASIDE_BYTES_MAX {
                return Err(io::Error::other(format!("{ASIDE} is full: look at it, and move it away")));
            }
            file.write_all(&lines)?;
            file.sync_all()
        };
        leave().map_err(|error| self.failed(&error))?;
        self.aside.extend(new.into_iter().map(|given| given.feedback_id.clone()));
        Ok(path)
    }

    /// Returns how many entries went with broken files since this was last asked, at least.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Returns how many entries wait.
    pub fn len(&self) -> u64 {
        self.files.iter().map(SpoolFile::rows).sum()
    }

    /// Ends the use of all files; those that are empty are removed.
    pub async fn close(&mut self) {
        self.own = false;
        for file in self.files.drain(..) {
            if file.rows() == 0 { file.delete().await } else { file.close().await }
        }
    }

    async fn put_in_own(&mut self, entries: &[Entry]) -> Result<(), Trouble> {
        if !self.own {
            let file = self.begin().await?;
            self.files.push(file);
            self.own = true;
        }
        let own = self.files.last_mut().expect("a spool with a file of its own has a file");
        own.put(entries).await
    }

    /// Begins a file that nobody else has.
    async fn begin(&self) -> Result<SpoolFile, Trouble> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.config.folder)?;
        loop {
            let path = self.config.folder.join(format!("{}{}{}", NAME.0, Uuid::now_v7().simple(), NAME.1));
            // Somebody who looks for files to take over may be quicker: then under another name.
            if let Some(lock) = Lock::take(&path)? {
                return begin_at(path, lock).await;
            }
        }
    }

    async fn discard_own(&mut self, problem: &str) {
        if self.own
            && let Some(file) = self.files.pop()
        {
            self.own = false;
            self.discard(file, problem).await;
        }
    }

    async fn discard(&mut self, file: SpoolFile, problem: &str) {
        let lost = file.rows();
        self.lost += lost;
        let path = file.path().to_owned();
        file.close().await;
        // None of its entries waits any more; what another file's have left aside may be written there twice.
        self.aside.clear();
        let to = move_aside(&path);
        tracing::error!(problem, lost, %to, "a file of the spool is broken: moved aside");
    }

    fn gave_up(&mut self, trouble: &Trouble, lock: Lock) {
        match trouble {
            Trouble::Corrupt(problem) => {
                // How many cannot be read.
                self.lost += 1;
                let to = move_aside(lock.guarded());
                tracing::error!(problem, %to, "a file of the spool is broken: moved aside");
                lock.remove();
            }
            Trouble::Io(problem) => {
                tracing::warn!(problem, "a file of the spool cannot be opened and stays where it is");
            }
        }
    }

    fn failed(&self, problem: &dyn std::fmt::Display) -> SpoolError {
        SpoolError::Io { folder: self.config.folder.clone(), problem: problem.to_string() }
    }
}

impl Batch {
    /// Returns how many entries it has, and how many bytes they take.
    pub fn size(&self) -> (usize, usize) {
        let whole = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        (whole(self.place.rows), whole(self.place.bytes))
    }
}

impl Entry {
    /// Returns a record as it lies on disk.
    pub fn record(record: &Record) -> serde_json::Result<Self> {
        Ok(Self {
            kind: EntryKind::Record,
            decision_id: record.decision_id,
            tenant: Some(record.request.tenant.clone()),
            document: serde_json::to_string(record)?,
        })
    }

    /// Returns feedback as it lies on disk.
    pub fn feedback(feedback: &Feedback) -> serde_json::Result<Self> {
        Ok(Self {
            kind: EntryKind::Feedback,
            decision_id: feedback.decision_id,
            tenant: None,
            document: serde_json::to_string(feedback)?,
        })
    }
}

/// Returns the files of a folder that were left aside, in order.
pub fn left_aside(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let is_aside = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name == ASIDE || (name.starts_with(NAME.0) && name.contains(sqlite::ASIDE)))
    };
    let mut aside: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_aside).collect();
    aside.sort_unstable();
    aside
}

/// Begins a file, and leaves nothing of it where that fails: on a full disk it fails each time that it is tried.
async fn begin_at(path: PathBuf, lock: Lock) -> Result<SpoolFile, Trouble> {
    SpoolFile::open(path, lock).await.map_err(|(trouble, lock)| {
        file::remove(lock);
        trouble
    })
}

/// Moves a broken file out of the way, whose lock is held, and says where to.
fn move_aside(path: &Path) -> String {
    let moved = sqlite::Identity::of(path).and_then(|identity| sqlite::set_aside(path, identity));
    match moved {
        Ok(Some(to)) => to.display().to_string(),
        Ok(None) => "nowhere: it is gone".to_owned(),
        Err(error) => format!("nowhere: {error}"),
    }
}

fn read(rows: &[file::Row]) -> Batch {
    let mut batch = Batch::default();
    for row in rows {
        batch.place.through = row.id;
        batch.place.rows += 1;
        batch.place.bytes += row.weight;
        let read = match row.kind {
            Some(EntryKind::Record) => {
                serde_json::from_str(&row.document).map(|record| batch.records.push(record)).is_ok()
            }
            Some(EntryKind::Feedback) => {
                serde_json::from_str(&row.document).map(|feedback| batch.feedback.push(feedback)).is_ok()
            }
            None => false,
        };
        batch.broken += u64::from(!read);
    }
    batch
}

#[cfg(test)]
mod tests;
