//! Encryption of the admin listener, with certificates that may be renewed while it runs.
//!
//! Never lets a slow handshake hold up others for long: each has a bound, and so has their number. Whether a caller
//! needs a certificate is the guard's to say; one that is shown and not the CA's ends the handshake.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt, future};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::AuthError;
use crate::{config::AdminTlsConfig, telemetry};

/// Files are looked at again for the first connection after this: they are small, and connections few.
const REREAD_AFTER: Duration = Duration::from_secs(10);
/// Longest handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Handshakes at once.
const HANDSHAKES_MAX: usize = 64;
/// Largest file of certificates or of a key, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the admin listener shows, and asks of callers.
pub struct Tls {
    files: AdminTlsConfig,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    config: Arc<ServerConfig>,
    /// Of all files' contents, also of some that were refused: each is tried once.
    sha256: [u8; 32],
    looked: Instant,
}

impl Tls {
    /// Reads the files.
    pub fn load(files: &AdminTlsConfig) -> Result<Self, AuthError> {
        let read = Files::read(files)?;
        let config = Arc::new(read.config(files)?);
        let loaded = Loaded { config, sha256: read.sha256(), looked: Instant::now() };
        Ok(Self { files: files.clone(), loaded: Mutex::new(loaded) })
    }

    /// Returns what holds now; renewed files that cannot be used are told once, and those before hold on.
    fn current(&self) -> Arc<ServerConfig> {
        self.current_at(Instant::now())
    }

    fn current_at(&self, now: Instant) -> Arc<ServerConfig> {
        // Only plain assignments happen under the lock.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(loaded.looked) >= REREAD_AFTER {
            loaded.looked = now;
            match self.renewed(&mut loaded.sha256) {
                Ok(None) => {}
                Ok(Some(config)) => {
                    loaded.config = Arc::new(config);
                    tracing::info!("the admin listener's certificates were renewed");
                }
                Err(error) => tracing::warn!(%error, "the admin listener keeps the certificates it has"),
            }
        }
        Arc::clone(&loaded.config)
    }

    fn renewed(&self, sha256: &mut [u8; 32]) -> Result<Option<ServerConfig>, AuthError> {
        let read = Files::read(&self.files)?;
        if read.sha256() == *sha256 {
            return Ok(None);
        }
        *sha256 = read.sha256();
        read.config(&self.files).map(Some)
    }
}

/// Contents of the files.
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Files {
    fn read(files: &AdminTlsConfig) -> Result<Self, AuthError> {
        Ok(Self {
            cert: read("cert", &files.cert)?,
            key: read("key", &files.key)?,
            client_ca: files.client_ca.as_deref().map(|path| read("client_ca", path)).transpose()?,
        })
    }

    fn sha256(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten() {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    fn config(&self, files: &AdminTlsConfig) -> Result<ServerConfig, AuthError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = certificates("cert", &files.cert, &self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| refused("key", &files.key, &"holds no private key in PEM"))?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| refused("cert", &files.cert, &error))?;
        let builder = match (&files.client_ca, &self.client_ca) {
            (Some(path), Some(pem)) => {
                let mut roots = RootCertStore::empty();
                for root in certificates("client_ca", path, pem)? {
                    roots.add(root).map_err(|error| refused("client_ca", path, &error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| refused("client_ca", path, &error))?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config =
            builder.with_single_cert(chain, key).map_err(|error| refused("cert", &files.cert, &error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

fn refused(key: &'static str, path: &Path, why: &dyn ToString) -> AuthError {
    AuthError::Tls { key, path: path.to_owned(), why: why.to_string() }
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, AuthError> {
    // Opening a pipe would wait for its writer.
    let found = fs::metadata(path).map_err(|error| refused(key, path, &error))?;
    if !found.is_file() || found.len() > FILE_BYTES_MAX {
        return Err(refused(key, path, &"is no file of at most 1 MiB"));
    }
    fs::read(path).map_err(|error| refused(key, path, &error))
}

fn certificates(
    key: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, AuthError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(refused(key, path, &"holds no certificate in PEM")),
    }
}

/// Returns connections after their handshakes, as they get ready; those that fail are counted and left out.
pub fn encrypted(
    incoming: impl Stream<Item = io::Result<TcpStream>>,
    tls: Arc<Tls>,
) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> {
    let shaken = incoming.map(move |accepted| shake(Arc::clone(&tls), accepted));
    shaken.buffer_unordered(HANDSHAKES_MAX).filter_map(future::ready)
}

async fn shake(tls: Arc<Tls>, accepted: io::Result<TcpStream>) -> Option<io::Result<TlsStream<TcpStream>>> {
    let stream = match accepted {
        Ok(stream) => stream,
        Err(error) => return Some(Err(error)),
    };
    let peer = stream.peer_addr().ok();
    let handshake = async {
        // Files are read, so not on the reactor.
        let config = tokio::task::spawn_blocking(move || tls.current()).await.map_err(io::Error::other)?;
        TlsAcceptor::from(config).accept(stream).await
    };
    match tokio::time::timeout(HANDSHAKE_MAX, handshake).await {
        Ok(Ok(encrypted)) => Some(Ok(encrypted)),
        Ok(Err(error)) => {
            telemetry::admin_refused("tls");
            tracing::debug!(?peer, %error, "no TLS handshake on the admin listener");
            None
        }
        Err(_) => {
            telemetry::admin_refused("tls");
            tracing::debug!(?peer, "a TLS handshake on the admin listener took too long");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// Writes a certificate of its own making and returns it.
    fn write(folder: &Path) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
        fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
        certificate.der().clone()
    }

    fn files(folder: &Path) -> AdminTlsConfig {
        AdminTlsConfig { cert: folder.join("cert.pem"), key: folder.join("key.pem"), client_ca: None }
    }

    #[test]
    fn files_that_do_not_do_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = |tls: &AdminTlsConfig| Tls::load(tls).err().unwrap().to_string();
        let tls = files(folder.path());
        assert!(error(&tls).starts_with("server.admin.tls.cert = "), "{}", error(&tls));
        write(folder.path());
        fs::write(&tls.key, "no key").unwrap();
        assert!(error(&tls).ends_with("key.pem: holds no private key in PEM"), "{}", error(&tls));
        write(folder.path());
        let with_ca = AdminTlsConfig { client_ca: Some(tls.key.clone()), ..tls.clone() };
        assert!(error(&with_ca).ends_with("holds no certificate in PEM"), "{}", error(&with_ca));
        fs::write(&tls.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
        assert!(error(&tls).starts_with("server.admin.tls.cert = "), "another's key: {}", error(&tls));
    }

    #[test]
    fn renewed_files_hold_and_broken_ones_do_not() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path());
        let tls = Tls::load(&files(folder.path())).unwrap();
        let first = tls.current();
        let mut now = Instant::now();
        let mut later = || {
            now += REREAD_AFTER * 2;
            tls.current_at(now)
        };
        assert!(Arc::ptr_eq(&first, &later()), "nothing changed");
        fs::write(folder.path().join("cert.pem"), "half a certif").unwrap();
        assert!(Arc::ptr_eq(&first, &later()), "what cannot be read changes nothing");
        write(folder.path());
        let second = later();
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&second, &later()));
    }
}
