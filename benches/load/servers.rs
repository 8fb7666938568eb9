//! Who is loaded: a server that runs already, or ones that are started for the run, each in a folder of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pointsman::server::proto::{ShadowBundleRequest, admin_service_client::AdminServiceClient};
use tempfile::TempDir;
use tonic::transport::Endpoint;

use crate::{
    Arguments, DEFAULT_ADDRESS, LoadError, bundles, drive, endpoint,
    measure::{
        process::{Process, SpawnedServer},
        runtime,
    },
};

/// Who is loaded.
pub struct Loaded {
    /// What its rows are told apart by.
    pub mark: &'static str,
    pub endpoint: Endpoint,
    pub process: Option<Process>,
    /// Stopped, and its folder removed, when the run ends.
    _spawned: Option<(SpawnedServer, TempDir)>,
}

/// Returns who is loaded in turn.
pub fn servers(arguments: &Arguments) -> Result<Vec<Loaded>, LoadError> {
    let Some(binary) = &arguments.spawn else {
        let address = arguments.address.clone().unwrap_or_else(|| DEFAULT_ADDRESS.to_owned());
        let endpoint = endpoint(&address)?;
        drive::probe(&endpoint).map_err(|why| LoadError::Server { address, why })?;
        let process = arguments.pid.map(Process);
        return Ok(vec![Loaded { mark: "", endpoint, process, _spawned: None }]);
    };
    let kinds = arguments.traffic.each().iter();
    let kinds = kinds.flat_map(|&logs| arguments.shadow.each().iter().map(move |&shadows| (logs, shadows)));
    kinds.map(|(logs, shadows)| spawn(binary, arguments, logs, shadows)).collect()
}

/// Starts a server on free ports, with all that it keeps in a folder of its own.
fn spawn(binary: &Path, arguments: &Arguments, logs: bool, shadows: bool) -> Result<Loaded, LoadError> {
    let folder = tempfile::tempdir().map_err(|error| LoadError::Io { what: "making a folder", error })?;
    let mut command = Command::new(binary);
    command.args(["--log-level", "warn", "serve"]).env("XDG_STATE_HOME", folder.path());
    command.args(["--grpc-listen", "127.0.0.1:0", "--http-listen", "off", "--admin-listen", "127.0.0.1:0"]);
    if !logs {
        command.arg("--no-traffic");
    }
    let shadow = shadows.then(|| shadowing(arguments, folder.path())).transpose()?;
    let config = shadow.as_ref().map(|shadow| shadow.config.clone()).or(arguments.config.clone());
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    let (server, [address, admin]) = SpawnedServer::start_announcing(&mut command, ["gRPC", "admin"])?;
    let endpoint = endpoint(&format!("http://{address}"))?;
    let ready_after = server.wait_until_serving(&endpoint)?;
    if let Some(shadow) = shadow {
        start_shadow(&format!("http://{admin}"), shadow.version)?;
    }
    anstream::eprintln!("server at {address} ready after {} ms", ready_after.as_millis());
    let process = Some(Process(server.pid()));
    let mark = match (logs, shadows) {
        (false, false) => "",
        (true, false) => " +log",
        (false, true) => " +shadow",
        (true, true) => " +log +shadow",
    };
    Ok(Loaded { mark, endpoint, process, _spawned: Some((server, folder)) })
}

/// A bundle store with one version, and a configuration that names it.
struct Shadow {
    config: PathBuf,
    version: String,
}

fn shadowing(arguments: &Arguments, folder: &Path) -> Result<Shadow, LoadError> {
    let io = |what| move |error| LoadError::Io { what, error };
    let bundle = arguments.shadow_bundle.clone().map_or_else(bundles::shipped, Ok);
    let bundle = bundle.map_err(io("finding the shipped bundle"))?;
    let store = folder.join("bundles");
    let version = bundles::copy(&bundle, &store, None).map_err(io("copying the shadow"))?;
    let own = match &arguments.config {
        Some(path) => fs::read_to_string(path).map_err(io("reading the configuration"))?,
        None => String::new(),
    };
    let sample = arguments.shadow_sample;
    let text = format!("{own}\n[bundles]\nstore = {store:?}\n[rollout]\nshadow_sample = {sample:?}\n");
    let config = folder.join("pointsman.toml");
    fs::write(&config, text).map_err(io("writing the configuration"))?;
    Ok(Shadow { config, version })
}

fn start_shadow(admin: &str, version: String) -> Result<(), LoadError> {
    let refused = |why: String| LoadError::Server { address: admin.to_owned(), why };
    let runtime = runtime().map_err(|error| LoadError::Io { what: "starting the runtime", error })?;
    runtime.block_on(async {
        let channel = endpoint(admin)?.connect().await.map_err(|error| refused(error.to_string()))?;
        let mut service = AdminServiceClient::new(channel);
        let asked = service.shadow_bundle(ShadowBundleRequest { version, why: String::new() }).await;
        asked.map(drop).map_err(|status| refused(status.message().to_owned()))
    })
}
