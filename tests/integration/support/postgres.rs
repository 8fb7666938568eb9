//! A real PostgreSQL for tests: on a free loopback port, in a temporary folder, gone when the tests are, however they
//! end. The tests need its server binaries (on Debian the package `postgresql-15`).

use std::{
    env, fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr},
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use pointsman::config::StoreConfig;
use sqlx::{Connection, Executor, PgConnection};
use tempfile::TempDir;
use tokio::net::TcpSocket;

/// Where packages put the binaries when they are not on the path.
const FOLDERS: [&str; 6] = [
    "/usr/lib/postgresql/15/bin",
    "/usr/lib/postgresql/17/bin",
    "/usr/lib/postgresql/16/bin",
    "/usr/lib/postgresql/18/bin",
    "/usr/pgsql-15/bin",
    "/opt/homebrew/opt/postgresql@15/bin",
];
/// Longest wait for a server to start or stop, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Starts with another port, if somebody took the one that was free.
const STARTS_MAX: usize = 3;

/// Runs the server until its own input ends, which it does with the process that holds the other end, or names a
/// signal. At the end of the input the folder goes as well.
const WATCH: &str = r#"
"$0" -D "$1" -p "$2" -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off \
    -c max_connections=1000 -c logging_collector=off >"$1/server.log" 2>&1 </dev/null &
server=$!
read -r signal
kill -"${signal:-INT}" "$server" 2>/dev/null
wait "$server"
[ -n "$signal" ] || rm -rf "$1"
[ -n "$signal" ] || rmdir "${1%/*}"
"#;

/// How a server is stopped.
#[derive(Debug, Clone, Copy)]
pub enum Stop {
    /// It ends its connections first.
    Fast,
    /// As by a crash.
    Immediate,
}

/// A server; dropping it stops it and removes its data.
pub struct Postgres {
    binaries: PathBuf,
    data: PathBuf,
    port: u16,
    /// Keeps the port while the server is stopped.
    _held: Option<TcpSocket>,
    user: Option<(u32, u32)>,
    watch: Option<Child>,
    _folder: Option<TempDir>,
}

impl Postgres {
    /// Starts a server of its own, for tests that stop it.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("pointsman-postgres-").tempdir().unwrap();
        let path = folder.path().to_owned();
        let mut server = Self::prepare(&path);
        server._folder = Some(folder);
        server.resume_anywhere().await;
        server
    }

    fn prepare(folder: &Path) -> Self {
        let binaries = binaries();
        let user = other_user(folder);
        if let Some((user, group)) = user {
            chown(folder, Some(user), Some(group)).unwrap();
        }
        let data = folder.join("data");
        let mut command = Command::new(binaries.join("initdb"));
        command.args(["--auth=trust", "--username=pointsman", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        command.arg("-D").arg(&data).current_dir(folder);
        let output = as_user(&mut command, user).output().unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        Self { binaries, data, port: 0, _held: None, user, watch: None, _folder: None }
    }

    async fn resume_anywhere(&mut self) {
        for start in 1..=STARTS_MAX {
            (self.port, self._held) = free_port();
            match self.try_resume().await {
                Ok(()) => return,
                Err(log) => assert!(start < STARTS_MAX, "PostgreSQL does not start: {log}"),
            }
        }
    }

    /// Starts it again, where it was.
    pub async fn resume(&mut self) {
        let started = Instant::now();
        while let Err(log) = self.try_resume().await {
            assert!(started.elapsed() < PATIENCE, "PostgreSQL does not start: {log}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Starts it on its port; else it is stopped again and the answer is what it logged.
    async fn try_resume(&mut self) -> Result<(), String> {
        // What it said of the start before is not about this one.
        let _ = fs::remove_file(self.data.join("server.log"));
        let mut command = Command::new("/bin/sh");
        command.args(["-c", WATCH]).arg(self.binaries.join("postgres")).arg(&self.data);
        command.arg(self.port.to_string()).current_dir(&self.data);
        // Of a group of its own, so that an interrupt at the terminal is left to the end of the input.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.watch = Some(as_user(&mut command, self.user).spawn().unwrap());
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Ok(connection) = PgConnection::connect(&self.url("postgres")).await {
                connection.close().await.unwrap();
                return Ok(());
            }
            if self.log().contains("FATAL:  could not create any TCP/IP sockets") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let log = self.log();
        // With a signal: an end of its input would remove the data.
        self.stop(Stop::Fast);
        Err(log)
    }

    fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = fs::File::open(self.data.join("server.log")) {
            let _ = file.read_to_string(&mut text);
        }
        text
    }

    /// Stops it and keeps its data; returns when it is gone.
    pub fn stop(&mut self, how: Stop) {
        let signal: &[u8] = match how {
            Stop::Fast => b"INT\n",
            Stop::Immediate => b"QUIT\n",
        };
        if let Some(mut watch) = self.watch.take() {
            watch.stdin.take().unwrap().write_all(signal).unwrap();
            watch.wait().unwrap();
        }
    }

    /// Adds to its configuration, and puts files beside that, which only it may read.
    pub fn configure(&self, settings: &str, files: &[(&str, &str)]) {
        let mut configuration =
            fs::OpenOptions::new().append(true).open(self.data.join("postgresql.conf")).unwrap();
        configuration.write_all(settings.as_bytes()).unwrap();
        for (name, text) in files {
            let path = self.data.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((user, group)) = self.user {
                chown(&path, Some(user), Some(group)).unwrap();
            }
        }
    }

    /// Returns the address of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://pointsman@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// Makes a database of its own for a test.
    pub async fn database(&self) -> StoreConfig {
        database(&self.url("postgres")).await
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut watch) = self.watch.take() {
            drop(watch.stdin.take());
            let _ = watch.wait();
        }
    }
}

/// Makes a database of its own for a test on a server that all of them share. Nothing stops that one but the end of
/// this process.
pub async fn shared_database() -> StoreConfig {
    static SHARED: Mutex<Option<Postgres>> = Mutex::new(None);
    let url = tokio::task::spawn_blocking(|| {
        // A test that failed to start it leaves nothing behind that is half made.
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if shared.is_none() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            *shared = Some(runtime.block_on(async {
                let folder = tempfile::Builder::new().prefix("pointsman-postgres-").tempdir().unwrap().keep();
                // The folder itself goes with its data, when the watch ends.
                let mut server = Postgres::prepare(&folder);
                server.resume_anywhere().await;
                server
            }));
        }
        shared.as_ref().map(|server| server.url("postgres")).unwrap()
    });
    database(&url.await.unwrap()).await
}

async fn database(url: &str) -> StoreConfig {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    connection.close().await.unwrap();
    StoreConfig::Postgres { url: url.replace("/postgres?", &format!("/{name}?")).into(), connections_max: 4 }
}

fn binaries() -> PathBuf {
    let given = env::var_os("POINTSMAN_PG_BIN").map(PathBuf::from);
    let on_path =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    given
        .into_iter()
        .chain(FOLDERS.map(PathBuf::from))
        .chain(on_path)
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
        .expect(
            "these tests start a PostgreSQL server: install it (on Debian: apt-get install postgresql-15), or name \
             the folder of its binaries in POINTSMAN_PG_BIN",
        )
}

/// Returns a free loopback port and, where that keeps nobody from listening at it, a socket that holds it: bound, so that
/// the system gives it to no one who asks for any port, also while its server is stopped, but not listening.
fn free_port() -> (u16, Option<TcpSocket>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let port = socket.local_addr().unwrap().port();
    // Elsewhere an address that is bound can be bound by nobody else.
    (port, cfg!(target_os = "linux").then_some(socket))
}

/// PostgreSQL refuses to run as root: then it runs as who has its package's user, or as nobody.
fn other_user(own_folder: &Path) -> Option<(u32, u32)> {
    if fs::metadata(own_folder).unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map(|field| field.parse().ok());
        Some((fields.next()??, fields.next()??))
    };
    find("postgres").or_else(|| find("nobody"))
}

fn as_user(command: &mut Command, user: Option<(u32, u32)>) -> &mut Command {
    if let Some((user, group)) = user {
        command.gid(group).uid(user);
    }
    command
}
