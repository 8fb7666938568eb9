//! A bundle's folder on this machine: its manifest read, its files checked and copied.
//!
//! Blocks. Never reads what lies outside the folder, and no more of a file than its manifest says.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    BundleStoreError, Checked,
    contents::{
        Contents, FileEntry, MANIFEST, MANIFEST_BYTES_MAX, SIGNATURE, SIGNATURE_BYTES_MAX, hexadecimal,
        sha256,
    },
    put::Copying,
    signature::Keys,
};
use crate::routing::classifier::Unfit;

/// Read at once; hashing is what takes the time.
const CHUNK_BYTES: usize = 1 << 20;

/// A manifest as it is written, and its signature where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub manifest: Vec<u8>,
    pub signature: Option<String>,
}

/// Reads the manifest in a folder; `None`: there is none. `called` is how errors name the bundle.
pub fn manifest(folder: &Path, called: &str) -> Result<Option<Written>, BundleStoreError> {
    let Some(manifest) = small(folder, MANIFEST, MANIFEST_BYTES_MAX, called)? else { return Ok(None) };
    let signature = small(folder, SIGNATURE, SIGNATURE_BYTES_MAX, called)?;
    Ok(Some(Written { manifest, signature: signature.map(|bytes| String::from_utf8_lossy(&bytes).into()) }))
}

/// Returns the SHA-256 of the manifest in a folder; `None`: there is none that can be read.
pub fn manifest_sha256(folder: &Path) -> Option<String> {
    small(folder, MANIFEST, MANIFEST_BYTES_MAX, MANIFEST).ok().flatten().map(|bytes| sha256(&bytes))
}

fn small(folder: &Path, name: &str, most: u64, called: &str) -> Result<Option<Vec<u8>>, BundleStoreError> {
    let wrong = |unfit: Unfit, why: String| BundleStoreError::File {
        version: called.to_owned(),
        file: name.to_owned(),
        unfit,
        why,
    };
    let path = match inside(folder, name) {
        Ok(path) => path,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(unread(folder, name, &error, wrong)),
    };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes));
    read.map_err(|error| unread(folder, name, &error, wrong))?;
    if bytes.len() as u64 > most {
        return Err(wrong(Unfit::TooLarge, format!("more than {most} bytes")));
    }
    Ok(Some(bytes))
}

/// Reads and checks the manifest of a bundle's folder, wherever it lies.
pub fn checked(folder: &Path, keys: &Keys) -> Result<Checked, BundleStoreError> {
    let called = folder.display().to_string();
    let written = manifest(folder, &called)?.ok_or_else(|| BundleStoreError::Manifest {
        version: called.clone(),
        unfit: Unfit::Unreadable,
        why: "there is none: this is no bundle's folder".to_owned(),
    })?;
    Checked::new(&called, written, keys)
}

/// Checks size and SHA-256 of every file; `told` hears of bytes as they are read.
pub fn check_files(folder: &Path, contents: &Contents, told: &dyn Fn(u64)) -> Result<(), BundleStoreError> {
    contents.files.iter().try_for_each(|(file, entry)| {
        let mut checking = Checking::new(&contents.version, file, entry);
        read_file(folder, file, &mut checking, |_| Ok(()), told)?;
        checking.finish()
    })
}

/// Looks whether every file is there and has its size; none is read.
pub fn look_over(folder: &Path, contents: &Contents) -> Result<(), BundleStoreError> {
    contents.files.iter().try_for_each(|(file, entry)| {
        let checking = Checking::new(&contents.version, file, entry);
        let looked = inside(folder, file).and_then(fs::metadata);
        let failed = |error: io::Error| unread(folder, file, &error, |unfit, why| checking.wrong(unfit, why));
        checking.expect_length(looked.map_err(failed)?.len())
    })
}

/// Copies every file and the manifest into a folder of the store that is there and empty, and makes it last.
pub fn copy(
    folder: &Path,
    into: &Path,
    checked: &Checked,
    copying: Copying<'_>,
) -> Result<(), BundleStoreError> {
    let bytes = checked.contents.bytes();
    let failed = |error: io::Error| BundleStoreError::in_store(into, bytes, &error);
    for (file, entry) in &checked.contents.files {
        let mut checking = Checking::new(&checked.contents.version, file, entry);
        let mut target = File::create_new(into.join(file)).map_err(failed)?;
        let write = |chunk: &[u8]| {
            target.write_all(chunk).map_err(failed)?;
            copying(chunk.len() as u64)
        };
        read_file(folder, file, &mut checking, write, &|_| {})?;
        checking.finish()?;
        target.sync_all().map_err(failed)?;
    }
    write_manifest(into, &checked.written).map_err(failed)
}

/// Writes manifest and signature.
pub fn write_manifest(into: &Path, written: &Written) -> io::Result<()> {
    if let Some(signature) = &written.signature {
        durable(&into.join(SIGNATURE), signature.as_bytes())?;
    }
    durable(&into.join(MANIFEST), &written.manifest)
}

/// Writes a file so that it is there whole or not at all.
pub fn durable(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension(format!("{}.part", uuid::Uuid::now_v7().simple()));
    let written = File::create_new(&aside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written
}

fn read_file(
    folder: &Path,
    name: &str,
    checking: &mut Checking<'_>,
    mut each: impl FnMut(&[u8]) -> Result<(), BundleStoreError>,
    told: &dyn Fn(u64),
) -> Result<(), BundleStoreError> {
    let failed = |checking: &Checking<'_>, error: io::Error| {
        unread(folder, name, &error, |unfit, why| checking.wrong(unfit, why))
    };
    let mut file = inside(folder, name).and_then(File::open).map_err(|error| failed(checking, error))?;
    let length = file.metadata().map_err(|error| failed(checking, error))?.len();
    checking.expect_length(length)?;
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut buffer).map_err(|error| failed(checking, error))?;
        if read == 0 {
            return Ok(());
        }
        checking.take(&buffer[..read])?;
        each(&buffer[..read])?;
        told(read as u64);
    }
}

/// A bundle that was copied without what its links lead to.
#[derive(Debug, thiserror::Error)]
#[error("is a link that leaves the bundle's folder: put the file itself there")]
struct Leaves;

/// Returns what it says about a bundle that one of its files cannot be read.
fn unfit_of(error: &io::Error) -> Unfit {
    let leaves = error.get_ref().is_some_and(|inner| inner.is::<Leaves>());
    if leaves { Unfit::Outside } else { Unfit::Unreadable }
}

/// Returns a plain file that really lies in its folder.
pub fn inside(folder: &Path, name: &str) -> io::Result<PathBuf> {
    let no_file = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    let folder = folder.canonicalize()?;
    let path = folder.join(name).canonicalize()?;
    if !path.starts_with(&folder) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, Leaves));
    }
    if !fs::metadata(&path)?.is_file() {
        return no_file("is no file");
    }
    Ok(path)
}

/// Sorts why a file was not read: it is wrong, or this machine could not read it now, which says nothing of the file.
fn unread(
    folder: &Path,
    name: &str,
    error: &io::Error,
    wrong: impl FnOnce(Unfit, String) -> BundleStoreError,
) -> BundleStoreError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidData => {
            wrong(unfit_of(error), error.to_string())
        }
        _ => BundleStoreError::disk(&folder.join(name), 0, error),
    }
}

/// A file that is compared with its manifest while it passes by.
pub struct Checking<'a> {
    version: &'a str,
    file: &'a str,
    entry: &'a FileEntry,
    hash: Sha256,
    bytes: u64,
}

impl<'a> Checking<'a> {
    pub fn new(version: &'a str, file: &'a str, entry: &'a FileEntry) -> Self {
        Self { version, file, entry, hash: Sha256::new(), bytes: 0 }
    }

    /// Returns the error that this file is wrong.
    pub fn wrong(&self, unfit: Unfit, why: String) -> BundleStoreError {
        BundleStoreError::File { version: self.version.to_owned(), file: self.file.to_owned(), unfit, why }
    }

    /// Returns the error that this file cannot be read.
    pub fn unreadable(&self, error: &io::Error) -> BundleStoreError {
        self.wrong(unfit_of(error), error.to_string())
    }

    /// Compares its length, before anything of it is read.
    pub fn expect_length(&self, length: u64) -> Result<(), BundleStoreError> {
        if length == self.entry.bytes {
            return Ok(());
        }
        let why = format!("{length} bytes, the manifest says {}: copy the bundle again", self.entry.bytes);
        Err(self.wrong(Unfit::Length, why))
    }

    /// Takes the next bytes; an error when there are too many.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), BundleStoreError> {
        self.bytes += bytes.len() as u64;
        if self.bytes > self.entry.bytes {
            return self.expect_length(self.bytes);
        }
        self.hash.update(bytes);
        Ok(())
    }

    /// Says whether what passed by is what the manifest says.
    pub fn finish(self) -> Result<(), BundleStoreError> {
        self.expect_length(self.bytes)?;
        let got = hexadecimal(&self.hash.clone().finalize());
        if got == self.entry.sha256 {
            return Ok(());
        }
        let expected = &self.entry.sha256;
        let why = format!("sha256 is {got}, the manifest says {expected}: copy the bundle again");
        Err(self.wrong(Unfit::Sha256, why))
    }
}
