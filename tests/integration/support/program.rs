//! The built binary as a process of its own, which sees nothing of what the machine has set for it.

use std::{
    env, io,
    io::{BufRead, BufReader, Lines},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio},
};

/// Returns the program, to be given arguments, with the folder that it keeps its state in.
pub fn program(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pointsman"));
    isolate(&mut command, state);
    command
}

/// Has a command find no configuration but the one it is told, and no state but that in this folder.
pub fn isolate(command: &mut Command, state: &Path) {
    command
        // Not the working directory: nothing may depend on it.
        .current_dir(env::temp_dir())
        .env_remove("POINTSMAN_CONFIG")
        .env_remove("RUST_LOG")
        .env("XDG_STATE_HOME", state);
}

/// A process that serves; killed when dropped.
pub struct ServerProcess {
    child: Child,
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub admin: SocketAddr,
    /// What is printed after the addresses. Kept open: nobody prints into a closed pipe.
    pub printed: Lines<BufReader<ChildStdout>>,
}

impl ServerProcess {
    /// Starts a command that serves on all listeners, and reads where; fails when it ends before it says so.
    pub fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut printed = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut address = |name: &str| -> io::Result<SocketAddr> {
            let line = printed.next().ok_or(io::ErrorKind::UnexpectedEof)??;
            let address = line.strip_prefix(name).and_then(|address| address.parse().ok());
            address.ok_or_else(|| io::Error::other(format!("{name}is missing: {line}")))
        };
        let addresses = (|| Ok((address("gRPC  ")?, address("HTTP  ")?, address("admin ")?)))();
        match addresses {
            Ok((grpc, http, admin)) => Ok(Self { child, grpc, http, admin, printed }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Returns what it logs, where that was piped; once.
    pub fn log(&mut self) -> Option<BufReader<ChildStderr>> {
        self.child.stderr.take().map(BufReader::new)
    }

    /// Returns its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        // The shell's own: a small system has no kill program.
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Kills it as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Returns how it ended, `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
