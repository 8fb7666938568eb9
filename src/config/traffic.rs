//! What is logged, where, for how long, and how feedback is learned from: the checked `[traffic]` and `[learning]`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::Url;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::KeySource;

/// The traffic log.
#[derive(Debug, Clone)]
pub struct TrafficConfig {
    /// Without it nothing is logged and no feedback is taken.
    pub enabled: bool,
    pub store: StoreConfig,
    /// How texts of requests and of feedback are kept.
    pub text: TextPolicy,
    /// The same for single tenants.
    pub tenant_text: BTreeMap<String, TextPolicy>,
    /// Keys the hashes of [`TextPolicy::Hash`]; without one they can be found out by trying likely texts.
    pub hash_key: Option<SecretString>,
    /// What is kept of one request's texts, bytes; the rest is cut off.
    pub text_bytes_max: usize,
    /// Records that wait to be written; more are dropped, and counted.
    pub queue_max: usize,
    /// The same in bytes of text.
    pub queue_bytes_max: usize,
    /// A record is durable at the latest this long after its request ended.
    pub flush: Duration,
    pub spool: SpoolConfig,
    pub retention: Retention,
    /// Feedback kept for decisions that are not in the store; more is refused.
    pub unknown_feedback_max: u64,
    /// Secrets that are configured and could not be read; what needs them is empty. See [`Self::complete`].
    pub missing: Vec<MissingSecret>,
}

/// A secret of the log that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {from} {why}")]
pub struct MissingSecret {
    /// Which setting names it.
    pub path: &'static str,
    pub from: KeySource,
    /// What follows the source's name in a sentence; never anything of the secret.
    pub why: &'static str,
}

/// Where the log is kept.
#[derive(Debug, Clone)]
pub enum StoreConfig {
    /// One file, one machine.
    Sqlite { path: PathBuf },
    /// For a fleet. The address holds the password, and is shown by nothing.
    Postgres { url: SecretString, connections_max: u32 },
}

impl StoreConfig {
    /// Returns what it is and where, for people; of an address the host and the database alone.
    pub fn described(&self) -> String {
        match self {
            Self::Sqlite { path } => format!("SQLite {}", path.display()),
            Self::Postgres { url, .. } => match Url::parse(url.expose_secret()) {
                Ok(url) => {
                    let host = url.host_str().unwrap_or("local");
                    format!("PostgreSQL {host}{}", url.path())
                }
                Err(_) => "PostgreSQL, address not known".to_owned(),
            },
        }
    }

    /// Returns the spool of this store, unless another one is configured; `state` is the folder of the user's state.
    /// Two stores never share one: who takes over what waits there writes it into its own.
    pub fn spool_folder(&self, state: &Path) -> PathBuf {
        match self {
            Self::Sqlite { path } => {
                let mut beside_it = path.clone().into_os_string();
                beside_it.push("-spool");
                PathBuf::from(beside_it)
            }
            Self::Postgres { url, .. } => {
                let digest = Sha256::digest(database(url).as_bytes());
                let name: String =
                    digest[..SPOOL_NAME_BYTES].iter().map(|byte| format!("{byte:02x}")).collect();
                state.join("spool").join(name)
            }
        }
    }
}

/// Returns what tells one database from another in an address: where it is and what it is called, never who asks.
fn database(url: &SecretString) -> String {
    let Ok(url) = Url::parse(url.expose_secret()) else { return String::new() };
    let port = url.port().unwrap_or(POSTGRES_PORT);
    let mut names =
        vec![url.host_str().unwrap_or_default().to_owned(), port.to_string(), url.path().to_owned()];
    if url.path().trim_matches('/').is_empty() {
        // A database that is not named has its user's name.
        names.push(url.username().to_owned());
    }
    // These say the same in another way, and count more.
    let pairs = url.query_pairs().filter(|(key, _)| DATABASE_PARAMETERS.contains(&&**key));
    names.extend(pairs.map(|(key, value)| format!("{key}={value}")));
    names.join("\n")
}

/// What becomes of a text before it leaves the process's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TextPolicy {
    /// Kept as it is.
    Full,
    /// Kept, with e-mail addresses, phone numbers, cards, keys and the like replaced.
    Redacted,
    /// Only a keyed hash, by which equal texts are found.
    Hash,
    /// Only its length.
    None,
}

impl TextPolicy {
    /// Returns the name used in the configuration and in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Redacted => "redacted",
            Self::Hash => "hash",
            Self::None => "none",
        }
    }
}

/// Where records go while the store is down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolConfig {
    pub folder: PathBuf,
    pub bytes_max: u64,
}

/// How long records are kept; whichever limit is reached first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// `None`: for ever.
    pub age_max: Option<Duration>,
    /// Of the store with all it holds; `None`: as much as there is room.
    pub bytes_max: Option<u64>,
}

/// Learning of offsets from feedback and outcomes, while serving.
#[derive(Debug, Clone, PartialEq)]
pub struct LearningConfig {
    pub enabled: bool,
    /// Standard deviation of an offset before anything is known, on the logit.
    pub prior_sd: f64,
    /// No offset leaves plus or minus this, on the logit.
    pub offset_max: f64,
    /// After this long half of what was learned is forgotten.
    pub half_life: Duration,
    /// How often replicas take up what was learned.
    pub refresh: Duration,
    pub weights: LearningWeights,
    /// Observations of one tenant about one intent and target that count at once, and no more than is known; others wait
    /// for `tenant_per_hour`.
    pub tenant_burst: f64,
    pub tenant_per_hour: f64,
    pub explore: Option<ExploreConfig>,
}

/// What one observation counts, where 1 is a person's judgement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningWeights {
    pub human: f64,
    pub user: f64,
    pub automatic: f64,
    /// An answer that passed its checks and of which nobody said how good it is. Its share of `weak` is the share of
    /// bad answers that checks are taken to find.
    pub accepted: f64,
    /// An answer that a check found weak.
    pub weak: f64,
}

/// Trying other targets now and then, to learn about them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExploreConfig {
    /// Share of requests that explore, 0 to 1.
    pub rate: f64,
    /// No target that is believed to be worse than this is tried, 0 to 1.
    pub quality_min: f64,
}

/// Some 250 bytes of row and 1 to 3 KB of text each.
const QUEUE_MAX: usize = 10_000;
const QUEUE_BYTES_MAX: usize = 64 << 20;
const TEXT_BYTES_MAX: usize = 32 << 10;
const FLUSH: Duration = Duration::from_millis(500);
const SPOOL_BYTES_MAX: u64 = 512 << 20;
const AGE_MAX: Duration = Duration::from_secs(90 * 86_400);
const STORE_BYTES_MAX: u64 = 10 << 30;
const UNKNOWN_FEEDBACK_MAX: u64 = 10_000;
const POSTGRES_PORT: u16 = 5432;
/// Parameters of an address that say which database it is.
const DATABASE_PARAMETERS: [&str; 5] = ["host", "hostaddr", "port", "dbname", "options"];
/// Bytes of the hash that names a spool: no two databases of one user ever meet.
const SPOOL_NAME_BYTES: usize = 8;
/// Name of the file and folder where the user's own state is kept.
const FOLDER: &str = "pointsman";

impl TrafficConfig {
    /// Returns what holds where nothing was configured: a file in the user's state folder.
    pub fn in_folder(mut folder: PathBuf) -> Self {
        let state = folder.clone();
        folder.push("traffic.sqlite");
        let store = StoreConfig::Sqlite { path: folder };
        Self {
            enabled: true,
            spool: SpoolConfig { folder: store.spool_folder(&state), bytes_max: SPOOL_BYTES_MAX },
            store,
            text: TextPolicy::Redacted,
            tenant_text: BTreeMap::new(),
            hash_key: None,
            text_bytes_max: TEXT_BYTES_MAX,
            queue_max: QUEUE_MAX,
            queue_bytes_max: QUEUE_BYTES_MAX,
            flush: FLUSH,
            retention: Retention { age_max: Some(AGE_MAX), bytes_max: Some(STORE_BYTES_MAX) },
            unknown_feedback_max: UNKNOWN_FEEDBACK_MAX,
            missing: Vec::new(),
        }
    }

    /// Returns the secret that is missing for the log to work as configured, if there is one; what is off needs none.
    /// For who logs; who only decides, or checks a file, can do without.
    pub fn complete(&self) -> Result<(), MissingSecret> {
        if self.enabled { self.readable() } else { Ok(()) }
    }

    /// The same for who opens a store that was written before, whether or not anything is logged now.
    pub fn readable(&self) -> Result<(), MissingSecret> {
        self.missing.first().cloned().map_or(Ok(()), Err)
    }
}

impl Default for LearningConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            prior_sd: 1.0,
            offset_max: 3.0,
            half_life: Duration::from_secs(14 * 86_400),
            refresh: Duration::from_secs(2),
            weights: LearningWeights::default(),
            tenant_burst: 10.0,
            tenant_per_hour: 10.0,
            explore: None,
        }
    }
}

impl Default for LearningWeights {
    fn default() -> Self {
        Self { human: 1.0, user: 0.5, automatic: 0.3, accepted: 0.004, weak: 0.02 }
    }
}

/// Returns the folder for what this user's pointsman keeps: `XDG_STATE_HOME` where that is known, else the
/// platform's folder for application data, else the folder for temporary files.
pub fn state_folder() -> PathBuf {
    dirs::state_dir().or_else(dirs::data_local_dir).unwrap_or_else(std::env::temp_dir).join(FOLDER)
}
