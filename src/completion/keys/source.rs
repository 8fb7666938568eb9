//! Where keys come from: reads sources, and notices that a key's file was replaced. Never shows a key.

use std::{
    fs::{File, Metadata},
    io::Read,
    os::unix::fs::MetadataExt,
    time::{Duration, Instant, SystemTime},
};

use secrecy::SecretString;

use super::ring::Absent;
use crate::config::KeySource;

/// Longest key read from a file; service account files have about 2 KiB.
const KEY_BYTES_MAX: u64 = 16 << 10;
/// Files are looked at this often at most: a rotated key serves soon, and calls do not wait for disks.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a file shows of its contents without being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    /// A file put in another's place may keep the time of its writing.
    inode: u64,
}

impl Stamp {
    fn of(source: &KeySource) -> Option<Self> {
        match source {
            KeySource::Environment(_) => None,
            KeySource::File(path) => std::fs::metadata(path).ok().map(|found| Self::from(&found)),
        }
    }
}

impl From<&Metadata> for Stamp {
    fn from(found: &Metadata) -> Self {
        Self { modified: found.modified().ok(), bytes: found.len(), inode: found.ino() }
    }
}

/// What the files of keys looked like when they were last read.
pub(super) struct Watch {
    stamps: Vec<Option<Stamp>>,
    looked: Option<Instant>,
}

impl Watch {
    pub(super) fn new(sources: &[KeySource]) -> Self {
        Self { stamps: sources.iter().map(Stamp::of).collect(), looked: None }
    }

    /// Returns the places of files that changed since; none when it looked a short while ago.
    pub(super) fn changed(&mut self, sources: &[KeySource], now: Instant) -> Vec<usize> {
        let looked = self.looked.get_or_insert(now);
        if now.saturating_duration_since(*looked) < LOOK_EVERY {
            return Vec::new();
        }
        *looked = now;
        let mut changed = Vec::new();
        for (at, (source, stamp)) in sources.iter().zip(&mut self.stamps).enumerate() {
            // Noted before the file is read: what is written meanwhile shows the next time.
            let found = Stamp::of(source);
            if found != *stamp {
                *stamp = found;
                changed.push(at);
            }
        }
        changed
    }
}

/// Returns the name by which a source stands in logs and errors.
pub fn source_name(source: &KeySource) -> String {
    match source {
        KeySource::Environment(name) => format!("env:{name}"),
        KeySource::File(path) => format!("file:{}", path.display()),
    }
}

pub(super) fn read_source(source: &KeySource) -> Result<SecretString, Absent> {
    let text = match source {
        KeySource::Environment(name) => std::env::var(name).map_err(|error| match error {
            std::env::VarError::NotPresent => Absent::Unset,
            std::env::VarError::NotUnicode(_) => Absent::Unsendable,
        })?,
        KeySource::File(path) => {
            // Opening a pipe would wait for its writer.
            let is_file = std::fs::metadata(path).is_ok_and(|found| found.is_file());
            let file = File::open(path).ok().filter(|_| is_file).ok_or(Absent::Unreadable)?;
            let mut text = String::new();
            file.take(KEY_BYTES_MAX + 1).read_to_string(&mut text).map_err(|_| Absent::Unreadable)?;
            text
        }
    };
    let key = text.trim();
    if key.is_empty() {
        Err(Absent::Empty)
    } else if key.len() as u64 > KEY_BYTES_MAX {
        Err(Absent::TooLong)
    } else if !key.starts_with('{') && !key.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        // What starts with a brace is a service account, which is signed with and not sent.
        Err(Absent::Unsendable)
    } else {
        Ok(SecretString::from(key))
    }
}
