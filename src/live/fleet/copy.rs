//! The wanted state as it was last seen, in a file beside the spool: a replica that starts while the database is down
//! still starts with the right version. Never read for anything else.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    process,
};

use crate::live::rollout::Desired;

/// In the spool's folder, which is one store's alone.
const NAME: &str = "wanted.json";
/// Far more than the lists in it can become.
const BYTES_MAX: u64 = 1 << 20;

/// Returns the copy; `None` where there is none, or none that can be read.
pub fn read(folder: &Path) -> Option<Desired> {
    let path = folder.join(NAME);
    let text = match read_text(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the copy of the wanted state cannot be read");
            return None;
        }
    };
    match serde_json::from_str(&text) {
        Ok(desired) => Some(desired),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the copy of the wanted state is broken");
            None
        }
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Replaces the copy; makes the folder where there is none. Blocks for some milliseconds.
pub fn write(folder: &Path, desired: &Desired) -> io::Result<()> {
    let text = serde_json::to_vec(desired)?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Of a name of its own: processes that share the store write at the same time.
    let new = folder.join(format!("{NAME}.{}.new", process::id()));
    let written = write_new(&new, &text).and_then(|()| fs::rename(&new, folder.join(NAME)));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    // Before the rename: after a power cut there is the old or the new file, never an empty one.
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::live::fleet::sample_desired;

    #[test]
    fn what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("state/spool");
        assert_eq!(read(&place), None);
        for revision in [1, 2] {
            write(&place, &sample_desired(revision)).unwrap();
            assert_eq!(read(&place), Some(sample_desired(revision)));
        }
        assert_eq!(fs::read_dir(&place).unwrap().count(), 1, "nothing else is left");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&place), mode(&place.join(NAME))), (0o700, 0o600));
    }

    #[test]
    fn what_is_broken_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let check = |text: &[u8]| {
            fs::write(folder.path().join(NAME), text).unwrap();
            assert_eq!(read(folder.path()), None);
        };
        check(b"");
        check(b"{\"revision\":1}");
        check(b"{\"revision\":");
        check(&[0xff, 0xfe]);
        check(&vec![b' '; 3 << 20]);
    }
}
