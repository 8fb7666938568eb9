//! Who calls the admin listener: everybody on this machine, or who shows a token or a certificate.
//!
//! A layer over all of its services but health, so that nothing added later is open by mistake. Never logs what was
//! shown, and never tells how a token is wrong.

mod certificate;
pub mod connection;
pub mod tls;
mod tokens;

use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tonic::{
    Status,
    body::Body,
    transport::server::{TcpConnectInfo, TlsConnectInfo},
};
use tower::{Layer, Service};

use self::tokens::Tokens;
use crate::{
    config::{AdminConfig, AdminTokenConfig, KeySource},
    live::deploy::Who,
    telemetry,
};

/// Probes come without credentials, and learn nothing but whether the listener is there.
const OPEN_PATH: &str = "/grpc.health.v1.Health/";
/// Header by which a caller on this machine says his name.
pub const USER_HEADER: &str = "x-pointsman-user";
/// Longest such name that is recorded, characters.
const USER_CHARS_MAX: usize = 64;
/// How long a refusal takes: who mistyped does not mind, and a program that tries again at once is slowed down. What keeps
/// out who tries tokens is their length alone: any limit of tries would turn away those who have one as well, wherever
/// they cannot be told from who tries - behind a mesh, a tunnel or a load balancer all come from one address.
const REFUSAL_AFTER: Duration = Duration::from_secs(1);
/// Refusals that wait at once. Above, they come at once and are only counted: callers must not fill memory and log.
const REFUSALS_WAITING_MAX: usize = 64;
/// How often files of tokens and certificates are read again: a token that was taken out of its file lets nobody in after
/// this.
const REREAD_EVERY: Duration = Duration::from_secs(10);

/// Why the admin listener cannot say who calls it.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error("server.admin.tokens[{at}] ({name}): {from} {why}")]
    Token { at: usize, name: String, from: String, why: &'static str },
    #[error(
        "server.admin.tokens[{at}] ({name}): is the same token as that of {other}: give each a token of his own"
    )]
    Shared { at: usize, name: String, other: String },
    #[error("server.admin.tls.{key} = {}: {why}", .path.display())]
    Tls { key: &'static str, path: std::path::PathBuf, why: String },
    #[error("server.admin_listen = {address}: {why}")]
    Reach { address: SocketAddr, why: &'static str },
}

/// Returns why the admin listener of this configuration would not open: every token and certificate that cannot be had.
pub fn problems(config: &AdminConfig) -> Vec<AuthError> {
    let unencrypted = config.tls.as_ref().and_then(|tls| tls::Tls::load(tls).err());
    Tokens::problems(&config.tokens).into_iter().chain(unencrypted).collect()
}

/// Lets in who may call, and says who it is.
#[derive(Debug, Clone)]
pub struct Guard(Arc<Asked>);

#[derive(Debug)]
struct Asked {
    configured: Vec<AdminTokenConfig>,
    /// Those of `configured` that could be read.
    tokens: ArcSwap<Tokens>,
    /// Whether certificates let in; TLS has verified each that is there.
    certificates: bool,
    refusals: Semaphore,
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Nothing,
    Unreadable,
    WrongToken,
}

impl Refusal {
    /// Returns the metric's label.
    fn label(self) -> &'static str {
        match self {
            Self::Nothing => "no_credential",
            Self::Unreadable => "unreadable",
            Self::WrongToken => "wrong_token",
        }
    }

    fn status(self) -> Status {
        let message = match self {
            Self::Nothing => {
                "this listener asks who you are: send a token (pointsman: --token env:NAME or file:PATH) or a client \
                 certificate that server.admin names"
            }
            Self::Unreadable => "one header \"authorization: Bearer TOKEN\" is understood, and nothing else",
            Self::WrongToken => "the token is not one of server.admin.tokens",
        };
        Status::unauthenticated(message)
    }
}

impl Guard {
    /// Reads the tokens; one that cannot be had is an error, and the listener must not open.
    pub fn new(config: &AdminConfig, address: SocketAddr) -> Result<Self, AuthError> {
        if let Some(why) = config.refusal(address) {
            return Err(AuthError::Reach { address, why });
        }
        let certificates = config.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        Ok(Self(Arc::new(Asked {
            tokens: ArcSwap::from_pointee(Tokens::read(&config.tokens)?),
            configured: config.tokens.clone(),
            certificates,
            refusals: Semaphore::new(REFUSALS_WAITING_MAX),
        })))
    }

    /// Follows what files of tokens hold; never returns. A token whose file cannot be read lets nobody in.
    pub async fn follow_tokens(self) {
        if !self.0.configured.iter().any(|token| matches!(token.from, KeySource::File(_))) {
            return std::future::pending().await;
        }
        let mut told = Vec::new();
        loop {
            tokio::time::sleep(REREAD_EVERY).await;
            let guard = self.clone();
            // Without an answer nothing is known: those before hold on.
            let Ok(problems) = tokio::task::spawn_blocking(move || guard.read_tokens()).await else {
                continue;
            };
            for problem in problems.iter().filter(|problem| !told.contains(*problem)) {
                tracing::warn!(problem, "a token of the admin listener lets nobody in");
            }
            told = problems;
        }
    }

    /// Reads the tokens again; returns what is wrong with those that let nobody in.
    fn read_tokens(&self) -> Vec<String> {
        let (tokens, problems) = Tokens::try_each(&self.0.configured);
        if tokens != **self.0.tokens.load() {
            self.0.tokens.store(Arc::new(tokens));
            tracing::info!("tokens of the admin listener were read again");
        }
        problems.iter().map(ToString::to_string).collect()
    }

    /// Whether a caller has to say who he is; also while no token can be read.
    fn asks(&self) -> bool {
        self.0.certificates || !self.0.configured.is_empty()
    }

    /// Returns who calls. A certificate counts before a token: it was proven already.
    fn admit(&self, headers: &HeaderMap, certificate: Option<&CertificateDer<'_>>) -> Result<Who, Refusal> {
        if let (true, Some(certificate)) = (self.0.certificates, certificate) {
            return Ok(Who(format!("certificate {}", certificate::name(certificate))));
        }
        if !self.asks() {
            // On this machine nobody asks: a token does not hurt, and says nothing.
            return Ok(local(headers));
        }
        let mut shown = headers.get_all(AUTHORIZATION).into_iter();
        match (shown.next(), shown.next()) {
            (None, _) => Err(Refusal::Nothing),
            (Some(value), None) => {
                let token = value.as_bytes();
                let scheme = token.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
                let token = scheme.map(|_| token[7..].trim_ascii()).filter(|token| !token.is_empty());
                let token = token.ok_or(Refusal::Unreadable)?;
                let tokens = self.0.tokens.load();
                let name = tokens.name_of(token).ok_or(Refusal::WrongToken)?;
                Ok(Who(name.to_string()))
            }
            (Some(_), Some(_)) => Err(Refusal::Unreadable),
        }
    }

    async fn refuse(self, refusal: Refusal, peer: Option<SocketAddr>) -> Response<Body> {
        telemetry::admin_refused(refusal.label());
        if let Ok(_waiting) = self.0.refusals.try_acquire() {
            let peer = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
            tracing::warn!(peer, reason = refusal.label(), "a call of the admin listener was refused");
            tokio::time::sleep(REFUSAL_AFTER).await;
        }
        refusal.status().into_http()
    }
}

/// Returns a caller on this machine, with the name that he says he has.
fn local(headers: &HeaderMap) -> Who {
    let said = headers.get(USER_HEADER).and_then(|value| value.to_str().ok()).map(str::trim);
    match said.filter(|name| !name.is_empty()) {
        Some(name) => Who(format!("local, says {}", name.chars().take(USER_CHARS_MAX).collect::<String>())),
        None => Who("local".to_owned()),
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Guarded { inner, guard: self.clone() }
    }
}

/// Services that only who may call reaches; they find [`Who`] in the request's extensions.
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    inner: S,
    guard: Guard,
}

impl<S, B> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if request.uri().path().starts_with(OPEN_PATH) {
            return Box::pin(self.inner.call(request));
        }
        let encrypted = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
        let certificates = encrypted.and_then(TlsConnectInfo::peer_certs);
        let plain = encrypted.map(TlsConnectInfo::get_ref).or_else(|| request.extensions().get());
        let peer = plain.and_then(TcpConnectInfo::remote_addr);
        let certificate = certificates.as_ref().and_then(|all| all.first());
        match self.guard.admit(request.headers(), certificate) {
            Ok(who) => {
                request.extensions_mut().insert(who);
                Box::pin(self.inner.call(request))
            }
            Err(refusal) => {
                let refused = self.guard.clone().refuse(refusal, peer);
                Box::pin(async move { Ok(refused.await) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AdminTlsConfig, AdminTokenConfig, KeySource};

    const TOKEN: &str = "0123456789abcdef01234567";

    fn guard(tokens: bool, certificates: bool) -> Guard {
        guard_and_file(tokens, certificates).0
    }

    /// The file holds the one token.
    fn guard_and_file(tokens: bool, certificates: bool) -> (Guard, tempfile::NamedTempFile) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{TOKEN}\n")).unwrap();
        let token = AdminTokenConfig { name: "alice".into(), from: KeySource::File(file.path().to_owned()) };
        let tls = AdminTlsConfig {
            cert: "a.pem".into(),
            key: "a.key".into(),
            client_ca: certificates.then(|| "ca.pem".into()),
        };
        let tokens = if tokens { vec![token] } else { Vec::new() };
        let config = AdminConfig { tokens, tls: Some(tls), allow_plaintext: false };
        (Guard::new(&config, "127.0.0.1:1".parse().unwrap()).unwrap(), file)
    }

    #[track_caller]
    fn check(guard: &Guard, headers: &[(&str, &str)], expected: Result<&str, Refusal>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = http::HeaderName::try_from(*name).unwrap();
            map.append(name, value.parse().unwrap());
        }
        let got = guard.admit(&map, None);
        assert_eq!(got, expected.map(|who| Who(who.to_owned())), "{headers:?}");
    }

    #[test]
    fn who_needs_no_token_is_local() {
        let open = guard(false, false);
        check(&open, &[], Ok("local"));
        check(&open, &[(USER_HEADER, "alice")], Ok("local, says alice"));
        check(&open, &[(USER_HEADER, "  ")], Ok("local"));
        check(&open, &[("authorization", "Bearer whatever")], Ok("local"));
        let long = "a".repeat(100);
        check(&open, &[(USER_HEADER, &long)], Ok(&format!("local, says {}", &long[..64])));
    }

    #[test]
    fn a_token_lets_in_and_nothing_else_does() {
        let guard = guard(true, false);
        check(&guard, &[("authorization", &format!("Bearer {TOKEN}"))], Ok("alice"));
        check(&guard, &[("authorization", &format!("bearer  {TOKEN}"))], Ok("alice"));
        check(&guard, &[("authorization", &format!("Bearer {TOKEN}")), (USER_HEADER, "bob")], Ok("alice"));
        check(&guard, &[], Err(Refusal::Nothing));
        check(&guard, &[(USER_HEADER, "alice")], Err(Refusal::Nothing));
        check(&guard, &[("authorization", "Bearer 0123456789abcdeF01234567")], Err(Refusal::WrongToken));
        check(&guard, &[("authorization", "Bearer alice")], Err(Refusal::WrongToken));
        for unreadable in ["", "Bearer", "Bearer ", "Basic YWxpY2U6YQ==", TOKEN] {
            check(&guard, &[("authorization", unreadable)], Err(Refusal::Unreadable));
        }
        let right = format!("Bearer {TOKEN}");
        check(&guard, &[("authorization", &right), ("authorization", &right)], Err(Refusal::Unreadable));
    }

    #[test]
    fn without_tokens_only_certificates_let_in() {
        let guard = guard(false, true);
        check(&guard, &[], Err(Refusal::Nothing));
        check(&guard, &[("authorization", &format!("Bearer {TOKEN}"))], Err(Refusal::WrongToken));
    }

    #[test]
    fn a_token_that_is_taken_back_lets_nobody_in() {
        let (guard, file) = guard_and_file(true, false);
        let check_token = |token: &str, expected: Result<&str, Refusal>| {
            check(&guard, &[("authorization", &format!("Bearer {token}"))], expected);
        };
        assert_eq!(guard.read_tokens(), Vec::<String>::new());
        check_token(TOKEN, Ok("alice"));
        std::fs::write(file.path(), "fedcba9876543210fedcba98").unwrap();
        assert_eq!(guard.read_tokens(), Vec::<String>::new());
        check_token("fedcba9876543210fedcba98", Ok("alice"));
        check_token(TOKEN, Err(Refusal::WrongToken));
        // Without any token left it does not stand open.
        drop(file);
        assert_eq!(guard.read_tokens().len(), 1);
        check_token("fedcba9876543210fedcba98", Err(Refusal::WrongToken));
        check(&guard, &[], Err(Refusal::Nothing));
    }

    #[test]
    fn who_tries_tokens_keeps_nobody_out_who_has_one() {
        let guard = guard(true, false);
        for _ in 0..10_000 {
            check(&guard, &[("authorization", "Bearer 0123456789abcdeF01234567")], Err(Refusal::WrongToken));
        }
        check(&guard, &[("authorization", &format!("Bearer {TOKEN}"))], Ok("alice"));
    }

    #[test]
    fn an_open_listener_elsewhere_is_an_error() {
        let error = Guard::new(&AdminConfig::default(), "10.0.0.1:1".parse().unwrap()).unwrap_err();
        assert!(error.to_string().starts_with("server.admin_listen = 10.0.0.1:1: can be reached"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_take_their_time_until_too_many_wait() {
        let guard = guard(true, false);
        let started = tokio::time::Instant::now();
        let refused = (0..REFUSALS_WAITING_MAX).map(|_| guard.clone().refuse(Refusal::WrongToken, None));
        let slow = futures::future::join_all(refused);
        let one_more = async {
            tokio::task::yield_now().await;
            guard.clone().refuse(Refusal::WrongToken, None).await;
            started.elapsed()
        };
        let (answers, at_once) = tokio::join!(slow, one_more);
        assert_eq!(answers.len(), REFUSALS_WAITING_MAX);
        assert!(at_once < REFUSAL_AFTER && started.elapsed() >= REFUSAL_AFTER, "{at_once:?}");
    }
}
