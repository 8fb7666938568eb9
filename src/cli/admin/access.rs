//! What lets a caller into the admin listener, from what was typed and from the configuration.

use std::{io::Read, path::PathBuf};

use clap::Args;
use secrecy::ExposeSecret;
use tonic::{
    metadata::MetadataValue,
    transport::{Certificate, ClientTlsConfig, Identity},
};

use super::{super::CliError, Address, Caller};
use crate::config::{KeySource, ServerConfig, key_source, read_secret};

/// Largest file of certificates or of a key, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Longest name of a user that is sent, bytes.
const USER_BYTES_MAX: usize = 64;

/// How a caller says who he is.
#[derive(Debug, Default, Args)]
pub struct AccessArguments {
    /// Where the token is that lets you in, env:NAME or file:PATH [default: the first of server.admin.tokens that can be
    /// read here, for this machine and the address of server.admin_listen alone].
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

/// What an address is to whoever has a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// On this machine.
    Here,
    /// Where the configuration has its own listener.
    Configured,
    /// Anybody's.
    Elsewhere,
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
    /// Whether any of it was typed.
    pub fn is_given(&self) -> bool {
        let Self { token, ca, cert, key, allow_plaintext } = self;
        let files = [ca, cert, key].into_iter().any(Option::is_some);
        token.is_some() || files || *allow_plaintext
    }

    /// Reads token and certificates.
    pub fn read(&self, config: &ServerConfig, address: &Address) -> Result<Access, CliError> {
        let destination = address.destination(config);
        let tls = self.tls(config, address.encrypted)?;
        let token = match &self.token {
            Some(source) => {
                Some(read_secret(source).map_err(|why| CliError::Usage(format!("--token {source}: {why}")))?)
            }
            // Whoever has a certificate of his own needs none; a token of the configuration that is not here is another's.
            None if self.cert.is_some() => None,
            None => match (
                config.admin.tokens.iter().find_map(|token| read_secret(&token.from).ok()),
                destination,
            ) {
                (None, _) => None,
                (token, Destination::Here | Destination::Configured) => token,
                // Whoever listens there could use it here.
                (Some(_), Destination::Elsewhere) => {
                    return Err(CliError::Usage(format!(
                        "--admin {}: is not this configuration's server.admin_listen, so that none of its \
                         server.admin.tokens is sent there: name the token for it with --token env:NAME or file:PATH",
                        address.place
                    )));
                }
            },
        };
        let allowed = match destination {
            Destination::Here => true,
            Destination::Configured => self.allow_plaintext || config.admin.allow_plaintext,
            // What the configuration allows is about its own network.
            Destination::Elsewhere => self.allow_plaintext,
        };
        if token.is_some() && tls.is_none() && !allowed {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{AdminTokenConfig, default_config};

    const TOKEN: &str = "0123456789abcdef";

    /// A server that listens there, with one token, which is in this file.
    fn config(listen: &str, file: &Path, allow_plaintext: bool) -> ServerConfig {
        let mut server = default_config().server;
        server.admin_listen = Some(listen.parse().unwrap());
        server.admin.allow_plaintext = allow_plaintext;
        let from = KeySource::File(file.to_owned());
        server.admin.tokens = vec![AdminTokenConfig { name: "alice".into(), from }];
        server
    }

    fn arguments(token: Option<&Path>, allow_plaintext: bool) -> AccessArguments {
        let token = token.map(|file| KeySource::File(file.to_owned()));
        AccessArguments { token, ca: None, cert: None, key: None, allow_plaintext }
    }

    /// `Ok`: whether a token is sent; `Err`: a part of what is said instead.
    #[track_caller]
    fn check(arguments: &AccessArguments, config: &ServerConfig, admin: &str, expected: Result<bool, &str>) {
        let address = Address::read(admin).unwrap();
        match (arguments.read(config, &address), expected) {
            (Ok(access), Ok(expected)) => assert_eq!(access.caller.token.is_some(), expected, "{admin}"),
            (Err(error), Err(expected)) => {
                let error = error.to_string();
                assert!(error.contains(expected) && !error.contains(TOKEN), "{admin}: {error}");
            }
            (got, expected) => panic!("{admin}: {:?}, expected {expected:?}", got.map(|_| ())),
        }
    }

    #[test]
    fn a_configured_token_goes_nowhere_but_to_its_own_server() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), TOKEN).unwrap();
        let ours = config("10.0.0.1:50052", file.path(), true);
        let none = arguments(None, false);
        check(&none, &ours, "127.0.0.1:50052", Ok(true));
        check(&none, &ours, "localhost:7", Ok(true));
        check(&none, &ours, "10.0.0.1:50052", Ok(true));
        for elsewhere in
            ["10.0.0.1:50053", "10.0.0.2:50052", "evil.example:50052", "localhost.evil.example:50052"]
        {
            check(&none, &ours, elsewhere, Err("none of its server.admin.tokens is sent there"));
            check(&arguments(None, true), &ours, elsewhere, Err("with --token env:NAME or file:PATH"));
        }
        // One that is not here cannot be sent: who needs none gets on.
        let unreadable = config("10.0.0.1:50052", Path::new("/nowhere/token"), true);
        check(&none, &unreadable, "10.0.0.2:50052", Ok(false));
    }

    #[test]
    fn a_token_crosses_no_network_readable_unless_that_is_said() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), TOKEN).unwrap();
        let listened_in = "readable by whoever listens in";
        let named = |allow_plaintext| arguments(Some(file.path()), allow_plaintext);
        for configured_allows in [false, true] {
            let ours = config("10.0.0.1:50052", file.path(), configured_allows);
            check(&named(false), &ours, "10.0.0.2:50052", Err(listened_in));
            check(&named(true), &ours, "10.0.0.2:50052", Ok(true));
            let own = if configured_allows { Ok(true) } else { Err(listened_in) };
            check(&named(false), &ours, "10.0.0.1:50052", own);
            check(&arguments(None, false), &ours, "10.0.0.1:50052", own);
            check(&arguments(None, true), &ours, "10.0.0.1:50052", Ok(true));
            check(&named(false), &ours, "127.0.0.1:1", Ok(true));
        }
        let every = config("0.0.0.0:50052", file.path(), false);
        check(&arguments(None, false), &every, "127.0.0.1:50052", Ok(true));
    }
}
