//! Who may change a running server: the checked `[server.admin]`. Names where secrets are, and never holds one.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use super::KeySource;

/// What it means that others can reach the admin listener and nobody asks them who they are.
const NEEDS_AUTHENTICATION: &str = "can be reached from other machines, and whoever reaches it changes what serves: \
    give server.admin.tokens, or server.admin.tls with a client_ca";

/// What it means that tokens cross a network as they are.
const NEEDS_ENCRYPTION: &str = "can be reached from other machines, and whoever listens in between reads the tokens: \
    give server.admin.tls, or server.admin.allow_plaintext = true where a mesh or a tunnel encrypts";

/// Who may use the admin listener. Where tokens and client certificates are configured, either lets in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdminConfig {
    /// Names unique; none: no token lets in.
    pub tokens: Vec<AdminTokenConfig>,
    pub tls: Option<AdminTlsConfig>,
    /// Whether tokens may cross a network unencrypted.
    pub allow_plaintext: bool,
}

/// One operator, or one program that acts for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminTokenConfig {
    /// By which changes are recorded.
    pub name: Arc<str>,
    pub from: KeySource,
}

/// Files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminTlsConfig {
    /// The listener's certificate, and those between it and its CA.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Whose certificates let a caller in; `None`: none do.
    pub client_ca: Option<PathBuf>,
}

impl AdminConfig {
    /// Returns whether a caller has to say who he is.
    pub fn asks(&self) -> bool {
        !self.tokens.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some())
    }

    /// Returns why these settings do not do for a listener at this address, in words that follow its name.
    pub fn refusal(&self, address: SocketAddr) -> Option<&'static str> {
        if address.ip().is_loopback() {
            None
        } else if !self.asks() {
            Some(NEEDS_AUTHENTICATION)
        } else if !self.tokens.is_empty() && self.tls.is_none() && !self.allow_plaintext {
            Some(NEEDS_ENCRYPTION)
        } else {
            None
        }
    }
}
