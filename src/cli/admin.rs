//! Asking a running server over its admin listener.

use std::{future::Future, net::SocketAddr, time::Duration};

use clap::Args;
use tonic::{Code, Status, transport::Channel};

use super::{CliError, runtime};
use crate::{config::ServerConfig, server::proto::admin_service_client::AdminServiceClient};

/// The listener is on this machine: one that takes longer is not there.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// Longest wait for an answer, which the server has at hand.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Room for a report of every budget and tenant that is told.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Which server is asked, and how its answer is printed.
#[derive(Debug, Args)]
pub struct AdminArguments {
    /// Address of the server's admin listener, as `serve` prints it [default: server.admin_listen of the
    /// configuration, 127.0.0.1:50052].
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

impl AdminArguments {
    /// Asks the server.
    pub fn ask<T, F>(
        &self,
        config: &ServerConfig,
        call: impl FnOnce(AdminServiceClient<Channel>) -> F,
    ) -> Result<T, CliError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let address = self.address(config)?;
        runtime()?.block_on(async {
            let endpoint = Channel::from_shared(format!("http://{address}"))
                .expect("a socket's address makes a URL")
                .connect_timeout(CONNECT_MAX)
                .timeout(ANSWER_MAX);
            let nobody = |because: &str| CliError::Admin(format!("{address}: {because}"));
            let channel = endpoint.connect().await.map_err(|_| {
                nobody(
                    "nobody listens there: is `pointsman serve` running? It prints its admin address; name \
                     it with --admin",
                )
            })?;
            let client = AdminServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
            match call(client).await {
                Ok(answer) => Ok(answer.into_inner()),
                Err(status) if status.code() == Code::Unimplemented => {
                    Err(nobody("this is no admin listener: `serve` prints its address after the word admin"))
                }
                Err(status) => Err(nobody(&format!("{}: {}", status.code(), status.message()))),
            }
        })
    }

    fn address(&self, config: &ServerConfig) -> Result<SocketAddr, CliError> {
        match self.admin.or(config.admin_listen) {
            Some(address) if address.port() != 0 => Ok(address),
            Some(_) => {
                Err(CliError::Usage("port 0 is no server's: name its address with --admin".to_owned()))
            }
            None => Err(CliError::Usage(
                "server.admin_listen is off in this configuration: name a server with --admin".to_owned(),
            )),
        }
    }
}
