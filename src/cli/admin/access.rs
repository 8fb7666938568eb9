//! What lets a caller into the admin listener, from what was typed and from the configuration.

use std::{io::Read, path::PathBuf};

use clap::Args;
use secrecy::ExposeSecret;
use tonic::{
    metadata::MetadataValue,
    transport::{Certificate, ClientTlsConfig, Identity},
};

use super::{super::CliError, Caller};
use crate::config::{KeySource, ServerConfig, key_source, read_secret};

/// Largest file of certificates or of a key, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Longest name of a user that is sent, bytes.
const USER_BYTES_MAX: usize = 64;

/// How a caller says who he is.
#[derive(Debug, Args)]
pub struct AccessArguments {
    /// Where the token is that lets you in, env:NAME or file:PATH [default: the first of server.admin.tokens that can be
    /// read here].
    #[arg(long, value_name = "SOURCE", value_parser = token_source)]
    token: Option<KeySource>,
    /// CA of the listener's certificate, PEM; encrypts [default: server.admin.tls.cert, where it is there].
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Your certificate, PEM; encrypts.
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The key of --cert, PEM.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Send a token to another machine without encryption, because a mesh or a tunnel encrypts.
    #[arg(long)]
    allow_plaintext: bool,
}

/// The token itself must not stand in the list of processes and the shell's history.
fn token_source(text: &str) -> Result<KeySource, String> {
    key_source(text, None)
        .map_err(|_| "is not env:NAME or file:PATH, and a token itself is never typed".to_owned())
}

/// What lets a caller in.
pub struct Access {
    pub caller: Caller,
    /// `None`: not encrypted.
    pub tls: Option<ClientTlsConfig>,
}

impl AccessArguments {
    /// Reads token and certificates.
    pub fn read(&self, config: &ServerConfig, encrypted: bool, is_here: bool) -> Result<Access, CliError> {
        let tls = self.tls(config, encrypted)?;
        let token = match &self.token {
            Some(source) => {
                Some(read_secret(source).map_err(|why| CliError::Usage(format!("--token {source}: {why}")))?)
            }
            // Whoever has a certificate of his own needs none; a token of the configuration that is not here is another's.
            None if self.cert.is_some() => None,
            None => config.admin.tokens.iter().find_map(|token| read_secret(&token.from).ok()),
        };
        let plain_elsewhere = token.is_some() && tls.is_none() && !is_here;
        if plain_elsewhere && !self.allow_plaintext && !config.admin.allow_plaintext {
            let problem = "a token would cross the network readable by whoever listens in: name the listener's CA with \
                           --ca, or say --allow-plaintext where a mesh or a tunnel encrypts";
            return Err(CliError::Usage(problem.to_owned()));
        }
        let token = token.map(|token| {
            let mut value = MetadataValue::try_from(format!("Bearer {}", token.expose_secret()))
                .map_err(|_| CliError::Usage("the token holds characters that cannot be sent".to_owned()))?;
            value.set_sensitive(true);
            Ok::<_, CliError>(value)
        });
        Ok(Access { caller: Caller { token: token.transpose()?, user: user() }, tls })
    }

    fn tls(&self, config: &ServerConfig, encrypted: bool) -> Result<Option<ClientTlsConfig>, CliError> {
        let configured = config.admin.tls.as_ref();
        if self.ca.is_none() && self.cert.is_none() && configured.is_none() && !encrypted {
            return Ok(None);
        }
        let ca = match (&self.ca, configured) {
            (Some(ca), _) => ca,
            (None, Some(tls)) => &tls.cert,
            (None, None) => {
                return Err(CliError::Usage(
                    "an encrypted listener needs --ca FILE: the CA of its certificate".to_owned(),
                ));
            }
        };
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?));
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        Ok(Some(tls))
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, CliError> {
    let failed = |error| CliError::Io { what: path.display().to_string(), error };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(failed)?;
    Ok(bytes)
}

/// Returns the name of whoever runs this, which a server records where nobody has to prove his.
fn user() -> Option<MetadataValue<tonic::metadata::Ascii>> {
    let name = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
    let plain = !name.is_empty() && name.len() <= USER_BYTES_MAX && name.chars().all(is_plain);
    plain.then(|| MetadataValue::try_from(name).ok()).flatten()
}
