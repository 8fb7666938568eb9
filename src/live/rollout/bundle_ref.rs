//! A bundle by its name and content, as it is stored and told. Pure.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::live::bundles::{NO_SHA256, is_sha256, shown, version_problem};

/// Name of the bundle that the configuration names: `classifier.bundle`, or the one inside the binary. It is never
/// staged and never removed.
pub const DEFAULT: &str = "default";

/// One bundle by name.
///
/// Whatever is read, from a shared store too, is checked: name and SHA-256 become names of folders.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "UncheckedBundleRef")]
pub struct BundleRef {
    /// [`DEFAULT`], or a version in the bundle store.
    pub name: Arc<str>,
    /// SHA-256 of its manifest, hexadecimal: who loads it finds the same one or refuses. `None` for [`DEFAULT`], which
    /// may differ from replica to replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Arc<str>>,
}

/// As somebody wrote it.
#[derive(Deserialize)]
struct UncheckedBundleRef {
    name: Arc<str>,
    #[serde(default)]
    sha256: Option<Arc<str>>,
}

impl TryFrom<UncheckedBundleRef> for BundleRef {
    type Error = String;

    fn try_from(UncheckedBundleRef { name, sha256 }: UncheckedBundleRef) -> Result<Self, String> {
        if &*name != DEFAULT
            && let Some(problem) = version_problem(&name)
        {
            return Err(format!("bundle {:?}: {problem}", shown(&name)));
        }
        match sha256 {
            Some(sha256) if !is_sha256(&sha256) => {
                Err(format!("bundle {name}: sha256 {:?}: {NO_SHA256}", shown(&sha256)))
            }
            sha256 => Ok(Self { name, sha256 }),
        }
    }
}

impl BundleRef {
    /// Returns the bundle that the configuration names.
    pub fn configured() -> Self {
        Self { name: Arc::from(DEFAULT), sha256: None }
    }

    /// Returns whether the configuration names it.
    pub fn is_configured(&self) -> bool {
        &*self.name == DEFAULT
    }

    /// Returns whether both are one bundle: the same name, or the same content under two names.
    pub fn is_same(&self, other: &Self) -> bool {
        self.name == other.name || (self.sha256.is_some() && self.sha256 == other.sha256)
    }
}

impl fmt::Display for BundleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
