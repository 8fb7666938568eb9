//! Where an export goes: a folder, or a place in an object store. Keys come from the environment alone.

use std::sync::Arc;

use object_store::{ObjectStore, local::LocalFileSystem, parse_url_opts, path::Path};
use url::Url;

use super::ExportError;
use crate::config::OBJECT_STORE_SCHEMES;

/// Only what is meant for these stores is passed to them: `TOKEN` or `REGION` may belong to something else.
const VARIABLES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// An opened place for files.
#[derive(Debug, Clone)]
pub struct Destination {
    pub(super) store: Arc<dyn ObjectStore>,
    /// Of all files; empty for a folder.
    pub(super) prefix: Path,
    pub(super) publish: Publish,
    /// As it is told to people; without credentials.
    name: String,
    /// What was not set, so that the machine itself was asked for keys: in the cloud that is how it should be.
    pub(super) missing: Option<&'static str>,
}

/// How a file comes to be seen only when it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Publish {
    /// It is written under a name that readers pass over, and renamed.
    Rename,
    /// An upload appears when it is completed.
    Complete,
}

impl Destination {
    /// Opens a folder, which is made where there is none, or a URL such as `s3://bucket/path`.
    pub fn open(written: &str) -> Result<Self, ExportError> {
        let wrong = |why: &str| ExportError::Destination(why.to_owned());
        if written.is_empty() {
            return Err(wrong("a folder or a URL is expected"));
        }
        if !written.contains("://") {
            return Self::folder(std::path::Path::new(written));
        }
        let url = Url::parse(written).map_err(|error| wrong(&format!("is no URL: {error}")))?;
        if url.scheme() == "file" {
            let folder =
                url.to_file_path().map_err(|()| wrong("file:// needs an absolute path: file:///…"))?;
            return Self::folder(&folder);
        }
        if !OBJECT_STORE_SCHEMES.contains(&url.scheme()) {
            return Err(ExportError::Destination(format!(
                "{}:// is not known; use a folder, file://, s3://, gs:// or az://",
                url.scheme()
            )));
        }
        if url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("keys and options come from the environment, not from the URL"));
        }
        Self::remote(&url, credentials())
    }

    fn folder(folder: &std::path::Path) -> Result<Self, ExportError> {
        let name = folder.display().to_string();
        let failed = |problem: String| ExportError::Write { place: name.clone(), problem };
        std::fs::create_dir_all(folder).map_err(|error| failed(error.to_string()))?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(|error| failed(error.to_string()))?;
        let store = Arc::new(store.with_fsync(true));
        Ok(Self { store, prefix: Path::default(), publish: Publish::Rename, name, missing: None })
    }

    fn remote(url: &Url, variables: Vec<(String, String)>) -> Result<Self, ExportError> {
        let missing = missing_key(url.scheme(), &variables);
        let Remote { store, prefix, name } =
            Remote::open(url, variables).map_err(ExportError::Destination)?;
        Ok(Self { store, prefix, publish: Publish::Complete, name, missing })
    }

    /// Returns the place of a file.
    pub(super) fn file(&self, folder: &str, name: &str) -> Path {
        self.prefix.parts().chain([folder.into(), name.into()]).collect()
    }

    /// Returns what people call a file.
    pub(super) fn name_of(&self, file: &Path) -> String {
        let within = file.prefix_match(&self.prefix).map(|parts| {
            let parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
            parts.join("/")
        });
        format!("{}/{}", self.name.trim_end_matches('/'), within.unwrap_or_default())
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// An opened place in an object store.
#[derive(Debug, Clone)]
pub struct Remote {
    pub store: Arc<dyn ObjectStore>,
    pub prefix: Path,
    /// As it is told to people; without credentials.
    pub name: String,
}

impl Remote {
    /// Opens a place such as `s3://bucket/path`; nothing is called yet. The error says which place it is about.
    pub fn open(url: &Url, credentials: Vec<(String, String)>) -> Result<Self, String> {
        let name = format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path());
        match parse_url_opts(url, credentials) {
            Ok((store, prefix)) => Ok(Self { store: Arc::from(store), prefix, name }),
            Err(error) => Err(format!("{name}: {}", told(&error))),
        }
    }
}

/// Returns what is to be set where the environment names no key at all.
fn missing_key(scheme: &str, variables: &[(String, String)]) -> Option<&'static str> {
    let is_set =
        |names: &[&str]| variables.iter().any(|(name, value)| names.contains(&&**name) && !value.is_empty());
    let (names, hint): (&[&str], _) = match scheme {
        "s3" | "s3a" => (
            &[
                "AWS_ACCESS_KEY_ID",
                "AWS_WEB_IDENTITY_TOKEN_FILE",
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                "AWS_SKIP_SIGNATURE",
            ],
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set: this machine's own role was asked for keys",
        ),
        "gs" => (
            &[
                "GOOGLE_SERVICE_ACCOUNT",
                "GOOGLE_SERVICE_ACCOUNT_PATH",
                "GOOGLE_SERVICE_ACCOUNT_KEY",
                "GOOGLE_APPLICATION_CREDENTIALS",
                "GOOGLE_SKIP_SIGNATURE",
            ],
            "GOOGLE_SERVICE_ACCOUNT is not set: this machine's own account was asked for keys",
        ),
        _ => return None,
    };
    (!is_set(names)).then_some(hint)
}

/// Returns what the environment says of object stores; what is not valid Unicode is no setting of one.
pub fn credentials() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| VARIABLES.iter().any(|start| name.starts_with(start)))
        .collect()
}

/// Returns an error's words without what stands in URLs after a question mark: signatures are credentials.
pub fn told(error: &dyn std::error::Error) -> String {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ')' | '>');
    let mut text = String::new();
    for word in error.to_string().split_inclusive(ends) {
        match word.split_once('?') {
            Some((address, query)) if address.contains("://") => {
                text.push_str(address);
                text.extend(query.chars().next_back().filter(|c| ends(*c)));
            }
            _ => text.push_str(word),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(written: &str, expected: &str) {
        let error = Destination::open(written).unwrap_err().to_string();
        assert!(error.contains(expected), "{written}: {error}");
    }

    #[test]
    fn what_is_no_destination_is_refused() {
        check("", "a folder or a URL");
        check("ftp://host/path", "ftp:// is not known; use a folder");
        check("https://host/path", "https:// is not known");
        check("memory:///", "memory:// is not known");
        check("s3://", "s3://");
        check("file://relative/path", "file:// needs an absolute path");
        check("s3://key:secret@bucket/path", "keys and options come from the environment");
        check("az://container/path?sig=secret", "keys and options come from the environment");
    }

    #[test]
    fn where_no_key_is_set_that_is_told() {
        let set = |name: &str| vec![(name.to_owned(), "x".to_owned())];
        assert!(missing_key("s3", &set("AWS_REGION")).unwrap().starts_with("AWS_ACCESS_KEY_ID"));
        assert_eq!(missing_key("s3", &set("AWS_ACCESS_KEY_ID")), None);
        assert!(missing_key("gs", &[]).unwrap().starts_with("GOOGLE_SERVICE_ACCOUNT"));
        assert_eq!(missing_key("az", &[]), None);
    }

    #[test]
    fn files_are_named_below_the_prefix() {
        let url = Url::parse("s3://bucket/some/prefix/").unwrap();
        let region = vec![("AWS_REGION".to_owned(), "eu-central-1".to_owned())];
        let destination = Destination::remote(&url, region).unwrap();
        let file = destination.file("day=2026-01-31", "a.parquet");
        assert_eq!(file.as_ref(), "some/prefix/day=2026-01-31/a.parquet");
        assert_eq!(destination.name_of(&file), "s3://bucket/some/prefix/day=2026-01-31/a.parquet");
    }

    #[test]
    fn signatures_are_not_told() {
        let error = std::io::Error::other(
            "PUT https://account.example/x?sig=abc&se=1 failed (http://b/c?d=e): what?",
        );
        assert_eq!(told(&error), "PUT https://account.example/x failed (http://b/c): what?");
    }
}
