//! Encryption of the admin listener, with certificates that may be renewed while it runs.
//!
//! Never lets a slow handshake hold up others: each has a bound, and so has their number. Never reads a file in a
//! handshake: one that hangs would fill the process with waiting threads. Whether a caller needs a certificate is the
//! guard's to say; one that is shown and not the CA's ends the handshake.

use std::{collections::BTreeMap, fs, future::Future, io, path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures::{
    Stream, StreamExt,
    future::{AbortHandle, abortable},
    stream::{self, FuturesUnordered},
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{AuthError, REREAD_EVERY};
use crate::{config::AdminTlsConfig, telemetry};

/// Longest handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Handshakes at once. One more ends the oldest of them: who opens connections and says nothing cannot keep others
/// waiting, whose handshakes are done in a few round trips.
const HANDSHAKES_MAX: usize = 256;
/// Largest file of certificates or of a key, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What the admin listener shows, and asks of callers.
pub struct Tls {
    files: AdminTlsConfig,
    /// What handshakes begin with.
    config: ArcSwap<ServerConfig>,
    /// Of all files' contents at the start.
    sha256: [u8; 32],
}

/// What came of reading the files again.
struct Reread {
    /// Of all files' contents, also of some that were refused: each is tried once.
    sha256: [u8; 32],
    problem: Option<String>,
}

impl Tls {
    /// Reads the files.
    pub fn load(files: &AdminTlsConfig) -> Result<Self, AuthError> {
        let read = Files::read(files)?;
        let config = ArcSwap::from_pointee(read.config(files)?);
        Ok(Self { files: files.clone(), config, sha256: read.sha256() })
    }

    /// Follows what the files hold; never returns. Renewed files that cannot be used are told once, and those before
    /// hold on.
    pub async fn follow_files(self: Arc<Self>) {
        let (mut sha256, mut told) = (self.sha256, None);
        loop {
            tokio::time::sleep(REREAD_EVERY).await;
            let tls = Arc::clone(&self);
            // One thread at the most waits for a file system that hangs.
            let Ok(reread) = tokio::task::spawn_blocking(move || tls.reread(sha256)).await else { continue };
            sha256 = reread.sha256;
            if let Some(problem) = reread.problem.as_ref().filter(|&problem| told.as_ref() != Some(problem)) {
                tracing::warn!(problem, "the admin listener keeps the certificates it has");
            }
            told = reread.problem;
        }
    }

    /// Reads the files again, and takes them up where they differ from those of this hash.
    fn reread(&self, sha256: [u8; 32]) -> Reread {
        let read = match Files::read(&self.files) {
            Ok(read) => read,
            Err(error) => return Reread { sha256, problem: Some(error.to_string()) },
        };
        let now = read.sha256();
        if now == sha256 {
            return Reread { sha256, problem: None };
        }
        match read.config(&self.files) {
            Ok(config) => {
                self.config.store(Arc::new(config));
                tracing::info!("the admin listener's certificates were renewed");
                Reread { sha256: now, problem: None }
            }
            Err(error) => Reread { sha256: now, problem: Some(error.to_string()) },
        }
    }

    fn current(&self) -> Arc<ServerConfig> {
        self.config.load_full()
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
        // A resumed session would not be verified again, and its certificate may have expired meanwhile.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
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
    newest(incoming, HANDSHAKES_MAX, move |accepted| shake(Arc::clone(&tls), accepted))
}

/// Works on up to `most` at once, and returns what comes of each as it gets ready; one more ends the oldest.
fn newest<T, O, F: Future<Output = Option<O>>>(
    incoming: impl Stream<Item = T>,
    most: usize,
    work: impl Fn(T) -> F,
) -> impl Stream<Item = O> {
    struct Begun<S, W, R> {
        incoming: S,
        work: W,
        running: FuturesUnordered<R>,
        /// By number, the oldest first.
        ends: BTreeMap<u64, AbortHandle>,
        number: u64,
    }
    let incoming = Box::pin(incoming.fuse());
    let begun = Begun { incoming, work, running: FuturesUnordered::new(), ends: BTreeMap::new(), number: 0 };
    stream::unfold(begun, move |mut begun| async move {
        loop {
            tokio::select! {
                Some((number, ended)) = begun.running.next() => {
                    begun.ends.remove(&number);
                    match ended {
                        Ok(Some(ready)) => return Some((ready, begun)),
                        Ok(None) => {}
                        Err(_aborted) => {
                            telemetry::admin_refused("tls");
                            tracing::debug!("a TLS handshake on the admin listener made room for newer ones");
                        }
                    }
                }
                Some(accepted) = begun.incoming.next() => {
                    if begun.ends.len() >= most && let Some((_, oldest)) = begun.ends.pop_first() {
                        oldest.abort();
                    }
                    begun.number += 1;
                    let number = begun.number;
                    let (working, end) = abortable((begun.work)(accepted));
                    begun.ends.insert(number, end);
                    begun.running.push(async move { (number, working.await) });
                }
                else => return None,
            }
        }
    })
}

async fn shake(tls: Arc<Tls>, accepted: io::Result<TcpStream>) -> Option<io::Result<TlsStream<TcpStream>>> {
    let stream = match accepted {
        Ok(stream) => stream,
        Err(error) => return Some(Err(error)),
    };
    let peer = stream.peer_addr().ok();
    let handshake = TlsAcceptor::from(tls.current()).accept(stream);
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

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_keeps_nobody_waiting() {
        const SILENT: usize = 1000;
        // Those who say nothing come first, then one who does.
        let work = async |number: usize| {
            let takes_ms = if number == SILENT { 100 } else { 5000 };
            tokio::time::sleep(Duration::from_millis(takes_ms)).await;
            Some(number)
        };
        let started = tokio::time::Instant::now();
        let mut ready = Box::pin(newest(stream::iter(0..=SILENT), 8, work));
        assert_eq!(ready.next().await, Some(SILENT));
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
        let others: Vec<usize> = ready.collect().await;
        assert_eq!(others.len(), 7, "{others:?}");
    }

    #[test]
    fn renewed_files_hold_and_broken_ones_do_not() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path());
        let tls = Tls::load(&files(folder.path())).unwrap();
        let first = tls.current();
        let mut sha256 = tls.sha256;
        let mut later = || {
            let reread = tls.reread(sha256);
            sha256 = reread.sha256;
            (tls.current(), reread.problem)
        };
        let same = |now: (Arc<ServerConfig>, Option<String>), then: &Arc<ServerConfig>, problem: bool| {
            assert!(Arc::ptr_eq(&now.0, then) && now.1.is_some() == problem, "{:?}", now.1);
        };
        same(later(), &first, false);
        fs::write(folder.path().join("cert.pem"), "half a certif").unwrap();
        same(later(), &first, true);
        same(later(), &first, false);
        fs::remove_file(folder.path().join("cert.pem")).unwrap();
        same(later(), &first, true);
        write(folder.path());
        let (second, problem) = later();
        assert!(!Arc::ptr_eq(&first, &second) && problem.is_none(), "{problem:?}");
        same(later(), &second, false);
    }

    #[tokio::test(start_paused = true)]
    async fn files_are_followed_without_any_handshake() {
        const ROUNDS_MAX: usize = 10;
        let folder = tempfile::tempdir().unwrap();
        write(folder.path());
        let tls = Arc::new(Tls::load(&files(folder.path())).unwrap());
        let first = tls.current();
        let follows = tokio::spawn(Arc::clone(&tls).follow_files());
        write(folder.path());
        let mut rounds = 0;
        while Arc::ptr_eq(&first, &tls.current()) {
            assert!(rounds < ROUNDS_MAX, "nobody reads the files");
            tokio::time::sleep(REREAD_EVERY).await;
            rounds += 1;
        }
        follows.abort();
    }
}
