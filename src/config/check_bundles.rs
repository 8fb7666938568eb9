//! `[bundles]` of a [`File`](super::file::File) -> [`BundlesConfig`]. Opens no store.

use std::path::Path;

use minisign_verify::PublicKey;
use url::Url;

use super::{
    BundleStoreConfig, BundlesConfig, OBJECT_STORE_SCHEMES,
    check::{beside, between, within},
    file_bundles::BundlesFile,
    read::SourceText,
    state_folder,
};

const STORE_FOLDER: &str = "bundles";
const CACHE_FOLDER: &str = "bundle-cache";
// Some forty versions of the size of the one inside the binary, or three BERT-large.
const CACHE_BYTES: u64 = 4 << 30;
/// Less holds no bundle that is worth a cache.
const CACHE_BYTES_MIN: u64 = 1 << 20;
/// A pebibyte: more than one machine has.
const CACHE_BYTES_MAX: u64 = 1 << 50;
/// All of them are tried on each signature.
const PUBLIC_KEYS_MAX: usize = 100;
// A larger model is meant to be slower; one that takes this much longer is a mistake in its export.
const LATENCY_RATIO: f64 = 3.0;
const LATENCY_RATIO_MAX: f64 = 1000.0;
const RETIRED: u64 = 5;
const RETIRED_MAX: u64 = 100;

/// Returns where versions are kept and what they must satisfy; what is wrong with it is noted in `source`.
pub fn check_bundles(
    written: &BundlesFile,
    folder: Option<&Path>,
    source: &mut SourceText<'_>,
) -> BundlesConfig {
    let require_signature = written.require_signature.unwrap_or(false);
    check_keys(&written.public_keys, source);
    if require_signature && written.public_keys.is_empty() {
        let problem = "needs public_keys: by whom is a version to be signed?";
        source.problem("bundles.require_signature", problem);
    }
    let cache = match written.cache.as_deref() {
        None => state_folder().join(CACHE_FOLDER),
        Some(text) => {
            if text.trim().is_empty() || text.contains("://") {
                source.problem("bundles.cache", "is no folder");
            }
            beside(folder, text)
        }
    };
    let retired = within(written.retired_max, RETIRED, 1..=RETIRED_MAX, "bundles.retired_max", source);
    BundlesConfig {
        store: check_store(written.store.as_deref(), folder, source),
        cache,
        cache_bytes_max: within(
            written.cache_bytes_max,
            CACHE_BYTES,
            CACHE_BYTES_MIN..=CACHE_BYTES_MAX,
            "bundles.cache_bytes_max",
            source,
        ),
        public_keys: written.public_keys.iter().map(|key| key.trim().to_owned()).collect(),
        require_signature,
        latency_ratio_max: between(
            written.latency_ratio_max,
            LATENCY_RATIO,
            1.0..=LATENCY_RATIO_MAX,
            "bundles.latency_ratio_max",
            source,
        ),
        retired_max: retired as usize,
    }
}

fn check_store(
    written: Option<&str>,
    folder: Option<&Path>,
    source: &mut SourceText<'_>,
) -> BundleStoreConfig {
    let Some(text) = written else { return BundleStoreConfig::Folder(state_folder().join(STORE_FOLDER)) };
    if text.trim().is_empty() {
        source.problem("bundles.store", "is empty");
    }
    if !text.contains("://") {
        return BundleStoreConfig::Folder(beside(folder, text));
    }
    match place(text) {
        Ok(url) => BundleStoreConfig::Url(url),
        Err(problem) => {
            source.problem("bundles.store", problem);
            BundleStoreConfig::Folder(beside(folder, STORE_FOLDER))
        }
    }
}

/// Returns the place of an object store, or what is wrong with it; never what was written, which may hold a key.
fn place(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
    let scheme = url.scheme();
    if scheme == "file" {
        return match url.to_file_path() {
            Ok(_) => Ok(url),
            Err(()) => Err("file:// needs an absolute path: file:///…".to_owned()),
        };
    }
    if !OBJECT_STORE_SCHEMES.contains(&scheme) {
        return Err(format!("{scheme}:// is not known; use a folder, file://, s3://, gs:// or az://"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(format!("{scheme}:// needs a bucket or container: {scheme}://NAME/path"));
    }
    if url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err("keys and options come from the environment, not from the URL".to_owned());
    }
    Ok(url)
}

/// Notes what is no public key, without repeating it: it may be the secret one.
fn check_keys(keys: &[String], source: &mut SourceText<'_>) {
    if keys.len() > PUBLIC_KEYS_MAX {
        let problem = format!("{} keys, at most {PUBLIC_KEYS_MAX}", keys.len());
        source.problem("bundles.public_keys", problem);
    }
    for (at, key) in keys.iter().enumerate().take(PUBLIC_KEYS_MAX) {
        if PublicKey::from_base64(key.trim()).is_err() {
            let problem = "is no public key of minisign: the second line of its minisign.pub is expected, which \
                           begins with RW";
            source.problem(format!("bundles.public_keys[{at}]"), problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crate::config::{BundleStoreConfig, DEFAULT_TOML, read_text, state_folder};

    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

    #[track_caller]
    fn check(keys: &str, expected: &[&str]) {
        let got: Vec<String> = match read_text(&format!("[bundles]\n{keys}")) {
            Ok(_) => Vec::new(),
            Err(error) => error.problems.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(got.len(), expected.len(), "{keys}: {got:?}");
        for (got, expected) in got.iter().zip(expected) {
            assert!(got.starts_with(&format!("line 2: bundles.{expected}")), "{got}");
            assert!(!got.contains("hush"), "{got}");
        }
    }

    #[test]
    fn without_a_word_versions_are_in_the_users_folder() {
        let bundles = read_text("").unwrap().bundles;
        assert_eq!(bundles.store, BundleStoreConfig::Folder(state_folder().join("bundles")));
        assert_eq!(bundles.cache, state_folder().join("bundle-cache"));
        assert_eq!((bundles.require_signature, bundles.public_keys), (false, Vec::new()));
        let without = DEFAULT_TOML.replace("[bundles]", "[bundles]\n[completion]\nunused = 1");
        assert_ne!(without, DEFAULT_TOML, "the section is there for people to find");
        let bare = read_text("[bundles]").unwrap().bundles;
        assert_eq!(bare, read_text("").unwrap().bundles);
    }

    #[test]
    fn places_are_folders_or_object_stores() {
        let store = |text: &str| read_text(&format!("[bundles]\nstore = {text:?}")).unwrap().bundles.store;
        assert_eq!(store("some/where"), BundleStoreConfig::Folder(PathBuf::from("some/where")));
        for url in ["s3://bucket/bundles", "gs://bucket", "az://container/a/b", "file:///srv/bundles"] {
            let BundleStoreConfig::Url(read) = store(url) else { panic!("{url}") };
            assert_eq!(read.as_str(), url);
        }
        check("store = ''", &["store: is empty"]);
        check("store = 'ftp://host/path'", &["store: ftp:// is not known; use a folder"]);
        check("store = 'https://host/path'", &["store: https:// is not known"]);
        check("store = 'file://relative/path'", &["store: file:// needs an absolute path"]);
        check("store = 's3://'", &["store: s3:// needs a bucket"]);
        check("store = 's3://key:hush@bucket/path'", &["store: keys and options come from the environment"]);
        check("store = 'az://container/a?sig=hush'", &["store: keys and options come from the environment"]);
    }

    #[test]
    fn keys_are_public_ones_of_minisign() {
        check(&format!("public_keys = ['{KEY}']\nrequire_signature = true"), &[]);
        check("require_signature = true", &["require_signature: needs public_keys"]);
        check("public_keys = ['RWQhush']", &["public_keys[0]: is no public key of minisign"]);
        check(&format!("public_keys = ['{KEY}', '']"), &["public_keys[1]: is no public key"]);
    }

    #[test]
    fn numbers_are_in_their_range() {
        check("cache = ''", &["cache: is no folder"]);
        check("cache_bytes_max = 1000", &["cache_bytes_max: "]);
        check("latency_ratio_max = 0.5", &["latency_ratio_max: "]);
        check("retired_max = 0", &["retired_max: "]);
    }
}
