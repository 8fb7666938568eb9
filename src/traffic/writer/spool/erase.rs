//! One tenant's or session's data -> gone from the spool too, as far as no running process has it in its hands.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{
    NAME, SpoolError,
    file::{SpoolFile, Trouble},
    lock::Lock,
};
use crate::{
    config::SpoolConfig,
    traffic::store::{Store, StoreError, Whose},
};

/// What became of the spool's files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SpoolErased {
    pub entries: u64,
    /// Files that a running process writes: what they hold is not looked at.
    pub locked: Vec<PathBuf>,
    /// Files that cannot be read.
    pub broken: Vec<PathBuf>,
}

/// Why the spool was not looked through.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Deletes what is theirs. Do it before the same in the store, which knows whose decisions the feedback is about.
pub async fn erase(config: &SpoolConfig, store: &Store, all: &[Whose]) -> Result<SpoolErased, EraseError> {
    let failed =
        |problem: String| EraseError::Spool(SpoolError::Io { folder: config.folder.clone(), problem });
    let mut erased = SpoolErased::default();
    let mut files = Vec::new();
    for path in paths(&config.folder).map_err(|error| failed(error.to_string()))? {
        match Lock::take(&path).map_err(|error| failed(error.to_string()))? {
            None => erased.locked.push(path),
            // It was given up and removed meanwhile.
            Some(lock) if !path.exists() => lock.remove(),
            Some(lock) => match SpoolFile::open(path.clone(), lock).await {
                Ok(file) => files.push(file),
                Err(_) => erased.broken.push(path),
            },
        }
    }
    let theirs = match theirs(&mut files, store, all).await {
        Ok(theirs) => theirs,
        Err(Failed::Store(error)) => return Err(error.into()),
        Err(Failed::Spool(trouble)) => return Err(failed(trouble.to_string())),
    };
    for mut file in files {
        let gone = file.erase(theirs.iter().copied()).await;
        erased.entries += gone.map_err(|trouble| failed(trouble.to_string()))?;
        // What the log of changes still holds goes with its closing.
        if file.rows() == 0 { file.delete().await } else { file.close().await }
    }
    Ok(erased)
}

enum Failed {
    Store(StoreError),
    Spool(Trouble),
}

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Self {
        Self::Spool(trouble)
    }
}

async fn theirs(files: &mut [SpoolFile], store: &Store, all: &[Whose]) -> Result<HashSet<Uuid>, Failed> {
    let mut theirs = HashSet::new();
    let mut judged = HashSet::new();
    for file in files {
        for whose in all {
            let (tenant, session) = match whose {
                Whose::Tenant(tenant) => (tenant, None),
                Whose::Session { tenant, session } => (tenant, Some(session.as_str())),
            };
            theirs.extend(file.decisions_of(tenant, session).await?);
        }
        judged.extend(file.judged().await?);
    }
    let judged: Vec<Uuid> = judged.difference(&theirs).copied().collect();
    theirs.extend(store.theirs(all, &judged).await.map_err(Failed::Store)?);
    Ok(theirs)
}

/// Returns the spool's files; none where there is no spool.
pub(super) fn paths(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(NAME.0) && name.ends_with(NAME.1))
    });
    paths.sort_unstable();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::StoreConfig,
        traffic::{
            observe::tests::pending,
            record::Record,
            writer::{
                spool::{Entry, Spool},
                tests::feedback,
            },
        },
    };

    fn record(tenant: &str, session: &str) -> Record {
        let mut record = pending("hello").record;
        record.request.tenant = tenant.to_owned();
        record.request.session = session.to_owned();
        record
    }

    #[tokio::test]
    async fn everything_of_a_session_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let config = SpoolConfig { folder: folder.path().join("spool"), bytes_max: 1 << 20 };
        let store =
            Store::open(&StoreConfig::Sqlite { path: folder.path().join("traffic.sqlite") }).await.unwrap();
        let whose = [Whose::Session { tenant: "acme".to_owned(), session: "gone-7".to_owned() }];
        assert_eq!(
            erase(&config, &store, &whose).await.unwrap(),
            SpoolErased::default(),
            "there is no spool"
        );

        let written = record("acme", "gone-7");
        store.write(std::slice::from_ref(&written)).await.unwrap();
        let (gone, stays) = (record("acme", "gone-7"), record("acme", "stays"));
        let mut spool = Spool::new(config.clone());
        spool
            .put(&[&gone, &stays, &record("other", "gone-7")].map(|record| Entry::record(record).unwrap()))
            .await
            .unwrap();
        let said = [&written, &gone, &stays].map(|record| {
            let given = feedback(record.decision_id, &format!("about {}", record.request.session));
            Entry::feedback(&given).unwrap()
        });
        spool.put(&said).await.unwrap();
        let locked = erase(&config, &store, &whose).await.unwrap();
        assert_eq!((locked.entries, locked.locked.len()), (0, 1), "its process runs");
        spool.close().await;

        let erased = erase(&config, &store, &whose).await.unwrap();
        assert_eq!((erased.entries, erased.locked.len()), (3, 0));
        let all: Vec<u8> =
            paths(&config.folder).unwrap().iter().flat_map(|path| fs::read(path).unwrap()).collect();
        let of_acme = all.windows(11).filter(|bytes| bytes == b"about gone-");
        assert_eq!(of_acme.count(), 0, "it is not in free pages either");
        let erased = erase(&config, &store, &[Whose::Tenant("acme".to_owned())]).await.unwrap();
        assert_eq!(erased.entries, 2);
        let mut spool = Spool::new(config);
        spool.take_over().await.unwrap();
        assert_eq!(spool.len(), 1, "what is of another tenant stays");
    }
}
