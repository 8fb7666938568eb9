//! Asking a running server over its admin listener.

mod access;
mod failure;
mod patience;

use std::{future::Future, net::SocketAddr, time::Duration};

use clap::Args;
use tonic::{
    Code, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

pub use self::patience::Patience;
use self::{
    access::{AccessArguments, Destination},
    failure::{chain, is_broken, not_answered, not_connected},
};
use super::{CliError, runtime, spinner::spinner};
use crate::{
    config::ServerConfig,
    server::{USER_HEADER, proto::admin_service_client::AdminServiceClient},
};

/// One that takes longer is not there.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// A server that vanished, with its machine or the way to it, is told from one that takes its time: it is asked for a sign
/// of life, and has so long to give one.
const ALIVE_EVERY: Duration = Duration::from_secs(30);
const ALIVE_WITHIN: Duration = Duration::from_secs(60);
/// Room for a report of every budget and tenant that is told.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// A client that says who calls.
pub type Client = AdminServiceClient<InterceptedService<Channel, Caller>>;

/// Which server is asked, and how its answer is printed.
#[derive(Debug, Args)]
pub struct AdminArguments {
    /// Address of the server's admin listener, as `serve` prints it, HOST:PORT or https://HOST:PORT [default:
    /// server.admin_listen of the configuration, 127.0.0.1:50052].
    #[arg(long, value_name = "ADDRESS", value_parser = Address::read)]
    admin: Option<Address>,
    #[command(flatten)]
    access: AccessArguments,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What every change takes.
#[derive(Debug, Args)]
pub struct ChangeArguments {
    /// Why, as `bundle events` shows it: a sentence, or a ticket.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub why: String,
    #[command(flatten)]
    pub admin: AdminArguments,
}

/// Where a server listens for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    /// HOST:PORT.
    place: String,
    /// Whether https:// was typed.
    encrypted: bool,
}

impl Address {
    fn read(text: &str) -> Result<Self, String> {
        let (encrypted, place) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(place), _) => (true, place),
            (None, place) => (false, place.unwrap_or(text)),
        };
        let authority: Option<http::uri::Authority> = place.trim_end_matches('/').parse().ok();
        let known = authority.filter(|found| found.port_u16().is_some() && !found.as_str().contains('@'));
        match known {
            Some(found) if found.port_u16() == Some(0) => {
                Err("port 0 is no server's: name its address".to_owned())
            }
            Some(found) => Ok(Self { place: found.to_string(), encrypted }),
            None => {
                Err("is no address such as 127.0.0.1:50052 or https://pointsman.internal:50052".to_owned())
            }
        }
    }

    /// Returns what this address is to whoever has this configuration.
    fn destination(&self, config: &ServerConfig) -> Destination {
        let configured = configured(config).is_some_and(|address| address.to_string() == self.place);
        match (configured, self.is_here()) {
            (_, true) => Destination::Here,
            (true, false) => Destination::Configured,
            (false, false) => Destination::Elsewhere,
        }
    }

    /// Returns whether only this machine is on the way.
    fn is_here(&self) -> bool {
        let address: Option<SocketAddr> = self.place.parse().ok();
        address.is_some_and(|address| address.ip().is_loopback()) || self.place.starts_with("localhost:")
    }
}

/// Says with each call who calls.
#[derive(Debug, Clone)]
pub struct Caller {
    /// `Bearer ...`, marked as sensitive.
    token: Option<MetadataValue<tonic::metadata::Ascii>>,
    user: Option<MetadataValue<tonic::metadata::Ascii>>,
}

impl Interceptor for Caller {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, Status> {
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        if let Some(user) = &self.user {
            request.metadata_mut().insert(USER_HEADER, user.clone());
        }
        Ok(request)
    }
}

impl AdminArguments {
    /// Whether the server was named, so that no configuration has to say where it is.
    pub fn names_server(&self) -> bool {
        self.admin.is_some()
    }

    /// Whether anything was typed that is of use only to ask a server.
    pub fn says_who_asks(&self) -> bool {
        self.access.is_given()
    }

    /// Asks the server for what it has at hand.
    pub fn ask<T, F>(&self, config: &ServerConfig, call: impl FnOnce(Client) -> F) -> Result<T, CliError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        runtime()?.block_on(self.call(config, Patience::AtHand, call))
    }

    /// Asks the server for a change, and shows on a terminal that it takes its time.
    pub fn change<T, F>(
        &self,
        config: &ServerConfig,
        doing: &str,
        call: impl FnOnce(Client) -> F,
    ) -> Result<T, CliError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        self.wait_for(config, Patience::Change, doing, call)
    }

    /// Asks the server for what takes its time, and shows that on a terminal.
    pub fn wait_for<T, F>(
        &self,
        config: &ServerConfig,
        patience: Patience,
        doing: &str,
        call: impl FnOnce(Client) -> F,
    ) -> Result<T, CliError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let spinner = spinner(doing);
        let answer = runtime()?.block_on(self.call(config, patience, call));
        spinner.finish_and_clear();
        answer
    }

    /// Asks the server.
    pub async fn call<T, F>(
        &self,
        config: &ServerConfig,
        patience: Patience,
        call: impl FnOnce(Client) -> F,
    ) -> Result<T, CliError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        self.call_within(patience.most(), config, patience, call).await
    }

    async fn call_within<T, F>(
        &self,
        most: Duration,
        config: &ServerConfig,
        patience: Patience,
        call: impl FnOnce(Client) -> F,
    ) -> Result<T, CliError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let address = self.address(config)?;
        let place = &address.place;
        let nobody = |because: &str| CliError::Admin(format!("{place}: {because}"));
        let access = self.access.read(config, &address)?;
        let encrypted = access.tls.is_some();
        let scheme = if encrypted { "https" } else { "http" };
        let mut endpoint = Channel::from_shared(format!("{scheme}://{place}"))
            .map_err(|_| CliError::Usage(format!("--admin {place}: is no address")))?
            .connect_timeout(CONNECT_MAX)
            .http2_keep_alive_interval(ALIVE_EVERY)
            .keep_alive_timeout(ALIVE_WITHIN)
            .timeout(most);
        if let Some(tls) = access.tls {
            endpoint = endpoint.tls_config(tls).map_err(|error| nobody(&error.to_string()))?;
        }
        let channel = endpoint.connect().await.map_err(|error| nobody(&not_connected(&chain(&error))))?;
        let client = AdminServiceClient::with_interceptor(channel, access.caller);
        match call(client.max_decoding_message_size(ANSWER_BYTES_MAX)).await {
            Ok(answer) => Ok(answer.into_inner()),
            // The library's own word for its deadline helps nobody.
            Err(status) if status.code() == Code::Cancelled && status.message().contains("Timeout") => {
                let (most_s, otherwise) = (most.as_secs(), patience.late());
                Err(CliError::Unanswered(format!("{place}: no answer within {most_s} s; {otherwise}")))
            }
            Err(status) if is_broken(&status) => {
                let (because, otherwise) = (not_answered(&status, encrypted), patience.broken());
                Err(CliError::Unanswered(format!("{place}: {because}{otherwise}")))
            }
            Err(status) => Err(nobody(&not_answered(&status, encrypted))),
        }
    }

    fn address(&self, config: &ServerConfig) -> Result<Address, CliError> {
        match (&self.admin, configured(config)) {
            (Some(address), _) => Ok(address.clone()),
            (None, Some(address)) if address.port() != 0 => {
                Ok(Address { place: address.to_string(), encrypted: false })
            }
            (None, Some(_)) => {
                Err(CliError::Usage("port 0 is no server's: name its address with --admin".to_owned()))
            }
            (None, None) => Err(CliError::Usage(
                "server.admin_listen is off in this configuration: name a server with --admin".to_owned(),
            )),
        }
    }
}

/// Returns where the configured listener is called.
fn configured(config: &ServerConfig) -> Option<SocketAddr> {
    let mut address = config.admin_listen?;
    if address.ip().is_unspecified() {
        // Nobody can call "every address".
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    Some(address)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::server::proto::GetFleetRequest;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, bool, bool)>) {
        let read = Address::read(text).ok();
        let read = read.as_ref().map(|read| (read.place.as_str(), read.encrypted, read.is_here()));
        assert_eq!(read, expected, "{text}");
    }

    #[test]
    fn addresses_are_read() {
        check("127.0.0.1:50052", Some(("127.0.0.1:50052", false, true)));
        check("[::1]:1", Some(("[::1]:1", false, true)));
        check("localhost:1", Some(("localhost:1", false, true)));
        check("localhost.evil.example:1", Some(("localhost.evil.example:1", false, false)));
        check("https://a.internal:50052/", Some(("a.internal:50052", true, false)));
        check("http://10.0.0.1:1", Some(("10.0.0.1:1", false, false)));
        for bad in ["", "127.0.0.1", "a.internal", "127.0.0.1:0", "user:secret@a:1", "a b:1"] {
            check(bad, None);
        }
    }

    /// Returns what is said of a server that takes the call and says nothing, or ends the connection.
    async fn told_of(patience: Patience, answers: impl AsyncFnOnce(TcpStream)) -> CliError {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let serves = async move { answers(listener.accept().await.unwrap().0).await };
        let admin = AdminArguments {
            admin: Some(Address { place, encrypted: false }),
            access: AccessArguments::default(),
            json: false,
        };
        let config = crate::config::default_config().server;
        let ask = async |mut client: Client| client.get_fleet(GetFleetRequest {}).await;
        let most = Duration::from_millis(200);
        let (asked, ()) = tokio::join!(admin.call_within(most, &config, patience, ask), serves);
        asked.unwrap_err()
    }

    /// Hangs up as soon as anything was said.
    async fn rude(mut connection: TcpStream) {
        let _ = connection.read(&mut [0; 1024]).await;
    }

    /// Until the caller has given up.
    async fn silent(mut connection: TcpStream) {
        let _ = tokio::io::copy(&mut connection, &mut tokio::io::sink()).await;
    }

    #[tokio::test]
    async fn a_change_without_an_answer_may_still_happen_and_a_question_may_not() {
        let events = "`pointsman bundle events`";
        for (patience, said, unsaid) in [
            (Patience::Change, events, "--store"),
            (Patience::Store, "`pointsman bundle list --store`", "may still happen"),
            (Patience::AtHand, "try again", "may still happen"),
            (Patience::Check, "changes nothing", events),
        ] {
            let error = told_of(patience, silent).await;
            assert!(matches!(error, CliError::Unanswered(_)), "{error:?}");
            let told = error.to_string();
            assert!(told.contains("no answer within 0 s") && told.contains(said), "{told}");
            assert!(!told.contains(unsaid), "{told}");
        }
        let error = told_of(Patience::Change, rude).await;
        assert!(matches!(error, CliError::Unanswered(_)), "{error:?}");
        let told = error.to_string();
        assert!(told.contains("the connection broke") && told.contains(events), "{told}");
        let told = told_of(Patience::AtHand, rude).await.to_string();
        assert!(told.contains("the connection broke") && !told.contains(events), "{told}");
    }
}
