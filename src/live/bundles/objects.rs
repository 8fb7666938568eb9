//! A store in an object store: versions are copied in ranges, each a request of its own, and their manifest is
//! written after their files. So a version that is being written is not seen, and a slow line is no timeout.
//!
//! Files are written under names that hold their SHA-256, so that two bundles that are put under one version at the same
//! time never mix: whoever writes the manifest first has it. Versions that were copied by other means, under plain
//! names, are read as well.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    future::Future,
    io::{self, Read, Write},
    path::Path as FilePath,
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::{
    Error, GetOptions, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    path::Path,
};
use tokio::runtime::Handle;

use super::{
    BundleStoreError, Checked, LastNames, Told,
    contents::{Contents, FileEntry, MANIFEST, MANIFEST_BYTES_MAX, SIGNATURE, SIGNATURE_BYTES_MAX},
    disk::{self, Checking, Written},
    off_reactor,
    put::Copying,
};
use crate::{
    routing::classifier::Unfit,
    traffic::export::{self, Remote},
};

/// Asked for and written at once: some seconds of a slow line.
const RANGE_BYTES: u64 = 8 << 20;
/// Longest time for one file: 2 GiB at 30 Mbit/s.
const FILE_TIME_MAX: Duration = Duration::from_secs(600);
/// Objects of one version that are looked at: a bundle has at most 64 files, and few are ever copied over each other.
const OBJECTS_MAX: usize = 1000;
/// Longest wait for an answer that has no file in it, with the store's own retries.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// A place in an object store with one "folder" per version.
#[derive(Debug, Clone)]
pub struct ObjectsStore {
    pub remote: Remote,
}

/// What became of a manifest that was to be new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    Done,
    /// There is one already.
    Taken,
}

impl ObjectsStore {
    pub(super) fn at(&self, version: &str, file: &str) -> Path {
        self.remote.prefix.parts().chain([version.into(), file.into()]).collect()
    }

    /// Returns where a file is written: nothing else is ever called so.
    fn at_content(&self, version: &str, file: &str, entry: &FileEntry) -> Path {
        self.at(version, &content_name(file, entry))
    }

    pub(super) fn failed(&self, error: &Error) -> BundleStoreError {
        BundleStoreError::Store { place: self.remote.name.clone(), problem: export::told(error) }
    }

    /// Waits for a short answer, with a bound.
    pub(super) async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<Result<T, Error>, BundleStoreError> {
        tokio::time::timeout(ANSWER_TIME_MAX, answer).await.map_err(|_| BundleStoreError::Store {
            place: self.remote.name.clone(),
            problem: format!("no answer within {} s", ANSWER_TIME_MAX.as_secs()),
        })
    }

    /// Returns the manifest of a version; `None`: it is not there, or not whole yet.
    pub async fn manifest(&self, version: &str) -> Result<Option<Written>, BundleStoreError> {
        let Some(manifest) = self.small(version, MANIFEST, MANIFEST_BYTES_MAX).await? else {
            return Ok(None);
        };
        let signature = self.small(version, SIGNATURE, SIGNATURE_BYTES_MAX).await?;
        let signature = signature.map(|bytes| String::from_utf8_lossy(&bytes).into());
        Ok(Some(Written { manifest: manifest.into(), signature }))
    }

    async fn small(&self, version: &str, file: &str, most: u64) -> Result<Option<Bytes>, BundleStoreError> {
        let path = self.at(version, file);
        let answer = self.within(async {
            let got = self.remote.store.get(&path).await?;
            if got.meta.size > most { Ok(Err(got.meta.size)) } else { got.bytes().await.map(Ok) }
        });
        match answer.await? {
            Ok(Ok(bytes)) => Ok(Some(bytes)),
            Ok(Err(bytes)) => Err(BundleStoreError::File {
                version: version.to_owned(),
                file: file.to_owned(),
                unfit: Unfit::TooLarge,
                why: format!("{bytes} bytes, at most {most} are read"),
            }),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Returns the names of what may be versions.
    pub async fn names(&self) -> Result<LastNames, BundleStoreError> {
        let listed = self.within(self.remote.store.list_with_delimiter(Some(&self.remote.prefix))).await?;
        let listed = match listed {
            Ok(listed) => listed,
            Err(Error::NotFound { .. }) => return Ok(LastNames::default()),
            Err(error) => return Err(self.failed(&error)),
        };
        let mut names = LastNames::default();
        for name in listed.common_prefixes.iter().filter_map(|prefix| prefix.filename()) {
            if !name.starts_with('.') {
                names.add(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Looks whether every file is there and has its size; none is read.
    pub async fn look_over(&self, contents: &Contents) -> Result<(), BundleStoreError> {
        let there: HashMap<String, u64> = self.objects(&contents.version).await?.into_iter().collect();
        for (file, entry) in &contents.files {
            let checking = Checking::new(&contents.version, file, entry);
            let bytes = there.get(&content_name(file, entry)).or_else(|| there.get(file));
            match bytes {
                Some(bytes) => checking.expect_length(*bytes)?,
                None => {
                    return Err(checking.wrong(Unfit::Unreadable, format!("is not in {}", self.remote.name)));
                }
            }
        }
        Ok(())
    }

    /// Returns name and size of what lies in a version's folder itself, files of bundles that lost a race among them.
    pub(super) async fn objects(&self, version: &str) -> Result<Vec<(String, u64)>, BundleStoreError> {
        let folder: Path = self.remote.prefix.parts().chain([version.into()]).collect();
        let listing = self.remote.store.list(Some(&folder)).take(OBJECTS_MAX);
        let objects: Result<Vec<ObjectMeta>, Error> = self.within(listing.try_collect()).await?;
        let named = |object: ObjectMeta| {
            let name = object.location.filename()?;
            (object.location == self.at(version, name)).then(|| (name.to_owned(), object.size))
        };
        match objects {
            Ok(objects) => Ok(objects.into_iter().filter_map(named).collect()),
            Err(Error::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Copies every file of a version into a folder, and its manifest last.
    pub async fn fetch(
        &self,
        checked: &Checked,
        into: &FilePath,
        told: &Told,
    ) -> Result<(), BundleStoreError> {
        for (file, entry) in &checked.contents.files {
            let copying = self.fetch_file(checked, file, entry, into, told);
            self.in_time(&checked.contents.version, file, copying).await?;
        }
        let (written, folder) = (checked.written.clone(), into.to_owned());
        let bytes = checked.contents.bytes();
        let done = off_reactor(move || disk::write_manifest(&folder, &written)).await;
        done.map_err(|error| BundleStoreError::disk(into, bytes, &error))
    }

    async fn in_time<T>(
        &self,
        version: &str,
        file: &str,
        copying: impl Future<Output = Result<T, BundleStoreError>>,
    ) -> Result<T, BundleStoreError> {
        tokio::time::timeout(FILE_TIME_MAX, copying).await.unwrap_or_else(|_| {
            Err(BundleStoreError::Late {
                version: version.to_owned(),
                file: file.to_owned(),
                store: self.remote.name.clone(),
                seconds: FILE_TIME_MAX.as_secs(),
            })
        })
    }

    async fn fetch_file(
        &self,
        checked: &Checked,
        file: &str,
        entry: &FileEntry,
        into: &FilePath,
        told: &Told,
    ) -> Result<(), BundleStoreError> {
        let mut checking = Checking::new(&checked.contents.version, file, entry);
        let version = &checked.contents.version;
        let mut source = self.at_content(version, file, entry);
        let mut is_plain = false;
        let target = into.join(file);
        let failed = |error: io::Error| BundleStoreError::disk(into, entry.bytes, &error);
        let mut open = off_reactor(move || File::create_new(target)).await.map_err(failed)?;
        let mut from = 0;
        // Also of an empty file the length is asked for.
        loop {
            let until = entry.bytes.min(from + RANGE_BYTES);
            let options = if entry.bytes == 0 {
                GetOptions { head: true, ..GetOptions::default() }
            } else {
                GetOptions { range: Some((from..until).into()), ..GetOptions::default() }
            };
            let got = match self.remote.store.get_opts(&source, options).await {
                Ok(got) => got,
                // Copied by other means.
                Err(Error::NotFound { .. }) if from == 0 && !is_plain => {
                    is_plain = true;
                    source = self.at(version, file);
                    continue;
                }
                Err(Error::NotFound { .. }) => {
                    return Err(checking.wrong(Unfit::Unreadable, format!("is not in {}", self.remote.name)));
                }
                Err(error) => return Err(self.failed(&error)),
            };
            checking.expect_length(got.meta.size)?;
            if entry.bytes > 0 {
                let bytes = got.bytes().await.map_err(|error| self.failed(&error))?;
                // A store that answers with less would be asked for ever.
                if bytes.len() as u64 != until - from {
                    return Err(
                        checking.wrong(Unfit::Length, format!("{} sent a part of it only", self.remote.name))
                    );
                }
                checking.take(&bytes)?;
                told(bytes.len() as u64);
                open = off_reactor(move || open.write_all(&bytes).map(|()| open)).await.map_err(failed)?;
            }
            from = until;
            if from >= entry.bytes {
                return checking.finish();
            }
        }
    }

    /// Copies every file of a bundle's folder there, then its manifest and its signature. What is copied is taken back
    /// where no manifest comes after it: nobody would ever see it.
    ///
    /// Only of a manifest that was sent and not answered nobody knows whether it comes: its files stay.
    pub async fn put(
        &self,
        from: &FilePath,
        checked: &Checked,
        copying: Copying<'_>,
    ) -> Result<Put, BundleStoreError> {
        let version = &checked.contents.version;
        let before: BTreeSet<String> =
            self.objects(version).await?.into_iter().map(|(name, _)| name).collect();
        let mut begun = BTreeSet::new();
        let done = match self.put_files(from, checked, copying, &mut begun).await {
            Ok(()) => self.put_manifest(checked).await?,
            Err(error) => {
                self.take_back(version, &begun - &before).await;
                return Err(error);
            }
        };
        match done {
            Put::Done => {}
            Put::Taken => self.take_back(version, &begun - &before).await,
        }
        Ok(done)
    }

    /// Copies the files alone; `begun` are the names of those that may be there then.
    async fn put_files(
        &self,
        from: &FilePath,
        checked: &Checked,
        copying: Copying<'_>,
        begun: &mut BTreeSet<String>,
    ) -> Result<(), BundleStoreError> {
        for (file, entry) in &checked.contents.files {
            begun.insert(content_name(file, entry));
            self.put_file(from, &checked.contents.version, file, entry, copying).await?;
        }
        // Whoever copied the same file at the same time may have taken it back.
        self.look_over(&checked.contents).await
    }

    /// The signature comes last: before the manifest is there, it could be put beside another one.
    async fn put_manifest(&self, checked: &Checked) -> Result<Put, BundleStoreError> {
        let version = &checked.contents.version;
        let path = self.at(version, MANIFEST);
        let put = async |mode: PutMode| {
            let payload = Bytes::from(checked.written.manifest.clone()).into();
            let options = PutOptions { mode, ..PutOptions::default() };
            self.within(self.remote.store.put_opts(&path, payload, options)).await
        };
        let mut done = put(PutMode::Create).await?;
        if matches!(done, Err(Error::NotImplemented { .. } | Error::NotSupported { .. })) {
            // A store without conditions: who is faster by less than this look is overwritten.
            if self.manifest(version).await?.is_some() {
                return Ok(Put::Taken);
            }
            done = put(PutMode::Overwrite).await?;
        }
        match done {
            Ok(_) => {
                self.sign(version, &checked.written).await?;
                Ok(Put::Done)
            }
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Put::Taken),
            Err(error) => Err(self.failed(&error)),
        }
    }

    async fn put_file(
        &self,
        from: &FilePath,
        version: &str,
        file: &str,
        entry: &FileEntry,
        copying: Copying<'_>,
    ) -> Result<(), BundleStoreError> {
        let mut checking = Checking::new(version, file, entry);
        let (folder, name) = (from.to_owned(), file.to_owned());
        let opened = off_reactor(move || {
            let file = disk::inside(&folder, &name).and_then(File::open)?;
            let length = file.metadata()?.len();
            Ok::<_, io::Error>((file, length))
        });
        let (mut open, length) = opened.await.map_err(|error| checking.unreadable(&error))?;
        checking.expect_length(length)?;
        let path = self.at_content(version, file, entry);
        if length < RANGE_BYTES {
            let (_, read) = off_reactor(move || range(open)).await;
            let bytes = read.map_err(|error| checking.unreadable(&error))?;
            checking.take(&bytes)?;
            checking.finish()?;
            let count = bytes.len() as u64;
            self.within(self.remote.store.put(&path, bytes.into()))
                .await?
                .map_err(|error| self.failed(&error))?;
            return copying(count);
        }
        let begun = self.within(self.remote.store.put_multipart(&path)).await?;
        let mut upload = Upload(Some(begun.map_err(|error| self.failed(&error))?));
        let copied = self.in_time(version, file, async {
            loop {
                let (back, read) = off_reactor(move || range(open)).await;
                open = back;
                let chunk = read.map_err(|error| checking.unreadable(&error))?;
                if chunk.is_empty() {
                    break;
                }
                checking.take(&chunk)?;
                let bytes = chunk.len() as u64;
                upload.part(chunk).await.map_err(|error| self.failed(&error))?;
                copying(bytes)?;
            }
            checking.finish()?;
            upload.complete().await.map_err(|error| self.failed(&error))
        });
        let copied = copied.await;
        if copied.is_err() {
            upload.abort().await;
        }
        copied
    }

    /// Puts a signature where there is one.
    pub async fn sign(&self, version: &str, written: &Written) -> Result<(), BundleStoreError> {
        let Some(signature) = &written.signature else { return Ok(()) };
        let path = self.at(version, SIGNATURE);
        let put = self.remote.store.put(&path, Bytes::from(signature.clone()).into());
        self.within(put).await?.map(drop).map_err(|error| self.failed(&error))
    }
}

/// Returns what a file is called in the store.
pub(super) fn content_name(file: &str, entry: &FileEntry) -> String {
    format!("{file}.{}", entry.sha256)
}

/// Reads the next bytes that are sent at once; none at the end.
fn range(mut open: File) -> (File, io::Result<Vec<u8>>) {
    let mut chunk = Vec::new();
    let read = Read::by_ref(&mut open).take(RANGE_BYTES).read_to_end(&mut chunk);
    (open, read.map(|_| chunk))
}

/// A file that is sent in parts. A store keeps, and bills, what was sent until it is completed or aborted: one of both
/// happens, also where nobody waits for it any more.
struct Upload(Option<Box<dyn MultipartUpload>>);

impl Upload {
    /// Sends the next bytes.
    async fn part(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        match &mut self.0 {
            Some(upload) => upload.put_part(bytes.into()).await,
            None => Ok(()),
        }
    }

    async fn complete(&mut self) -> Result<(), Error> {
        if let Some(upload) = &mut self.0 {
            upload.complete().await?;
        }
        self.0 = None;
        Ok(())
    }

    /// What cannot be aborted is left to the store's own rules.
    async fn abort(&mut self) {
        if let Some(upload) = self.0.take() {
            abort(upload).await;
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let (Some(upload), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(abort(upload));
        }
    }
}

async fn abort(mut upload: Box<dyn MultipartUpload>) {
    match tokio::time::timeout(ANSWER_TIME_MAX, upload.abort()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(error = export::told(&error), "an upload was not aborted"),
        Err(_) => tracing::debug!("an upload was not aborted in time"),
    }
}

#[cfg(test)]
#[path = "objects_tests.rs"]
mod tests;
