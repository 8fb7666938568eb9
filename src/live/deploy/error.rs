//! Why nothing changed.

use super::{
    super::{
        bundles::BundleStoreError, exchange::ExchangeError, pointer::PointerError, rollout::ChangeError,
    },
    TURN_WAIT_MAX,
};
use crate::{
    config::ConfigError,
    routing::{
        RouterError,
        classifier::{SessionError, Unfit},
    },
    traffic::store::StoreError,
};

/// Why nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    #[error(transparent)]
    Bundles(#[from] BundleStoreError),
    /// What was asked for is no bundle: no version can be called so, or the store has none of this name.
    #[error(transparent)]
    NoBundle(BundleStoreError),
    /// A bundle was tried and is not taken.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The configuration does not fit the bundles that are to serve, or its providers cannot be set up.
    #[error(transparent)]
    Fit(#[from] ExchangeError),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error("the wanted state cannot be written down: {0}")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("another change is still in progress after {} s; try again", TURN_WAIT_MAX.as_secs())]
    Busy,
    /// This replica did it.
    #[error("the configuration was read again here, but the other replicas could not be asked to: {0}")]
    Alone(StoreError),
    #[error("others changed the wanted state meanwhile; look at it and try again")]
    Overtaken,
}

/// Why a bundle is not taken.
#[derive(Debug, thiserror::Error)]
#[error("bundle {version}: {why}")]
pub struct LoadError {
    pub version: String,
    pub why: LoadProblem,
}

/// What is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum LoadProblem {
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Pointer(#[from] PointerError),
    #[error("it does not fit the configuration: {0}")]
    Fit(#[from] RouterError),
    #[error("it broke down while it was loaded; the log says how")]
    Panicked,
}

impl DeployError {
    /// Sorts why no version of a name was found: there is none, or what there is will not do.
    pub(super) fn not_found(error: BundleStoreError) -> Self {
        match error {
            BundleStoreError::Unknown { .. } | BundleStoreError::Version { .. } => Self::NoBundle(error),
            BundleStoreError::Manifest { .. }
            | BundleStoreError::Changed { .. }
            | BundleStoreError::Signature { .. }
            | BundleStoreError::File { .. }
            | BundleStoreError::Stopped { .. }
            | BundleStoreError::Late { .. }
            | BundleStoreError::Taken { .. }
            | BundleStoreError::Place(_)
            | BundleStoreError::Store { .. }
            | BundleStoreError::Disk { .. }
            | BundleStoreError::DiskFull { .. }
            | BundleStoreError::StoreFull { .. }
            | BundleStoreError::CacheFull { .. } => Self::Bundles(error),
        }
    }

    /// Returns whether it is a slip of whoever asked, such as a name that no bundle has: it concerns nobody else, and
    /// must wake nobody.
    pub fn is_slip(&self) -> bool {
        match self {
            Self::NoBundle(_) | Self::Change(ChangeError::NotKnown { .. }) => true,
            Self::Change(_)
            | Self::Bundles(_)
            | Self::Load(_)
            | Self::Fit(_)
            | Self::Store(_)
            | Self::Config(_)
            | Self::Alone(_)
            | Self::Busy
            | Self::Overtaken => false,
        }
    }

    /// Returns why the bundle is unfit; `None` where it is not the bundle that is at fault.
    pub fn unfit(&self) -> Option<Unfit> {
        match self {
            Self::Load(error) => Some(error.why.unfit()),
            Self::Bundles(error) => Some(unfit_in_store(error)),
            Self::Fit(ExchangeError::Router(error)) => Some(error.unfit()),
            Self::NoBundle(_)
            | Self::Fit(ExchangeError::Completer(_))
            | Self::Change(_)
            | Self::Store(_)
            | Self::Config(_)
            | Self::Alone(_)
            | Self::Busy
            | Self::Overtaken => None,
        }
    }
}

impl LoadProblem {
    fn unfit(&self) -> Unfit {
        match self {
            Self::Session(error) => error.unfit(),
            Self::Pointer(_) => Unfit::Unreadable,
            Self::Fit(error) => error.unfit(),
            Self::Panicked => Unfit::Graph,
        }
    }
}

fn unfit_in_store(error: &BundleStoreError) -> Unfit {
    match error {
        BundleStoreError::Version { .. } => Unfit::Manifest,
        BundleStoreError::Manifest { unfit, .. } | BundleStoreError::File { unfit, .. } => *unfit,
        BundleStoreError::Changed { .. } => Unfit::Sha256,
        BundleStoreError::Signature { .. } => Unfit::Signature,
        BundleStoreError::Unknown { .. }
        | BundleStoreError::Stopped { .. }
        | BundleStoreError::Late { .. }
        | BundleStoreError::Taken { .. }
        | BundleStoreError::Place(_)
        | BundleStoreError::Store { .. }
        | BundleStoreError::Disk { .. }
        | BundleStoreError::DiskFull { .. }
        | BundleStoreError::StoreFull { .. }
        | BundleStoreError::CacheFull { .. } => Unfit::Store,
    }
}
