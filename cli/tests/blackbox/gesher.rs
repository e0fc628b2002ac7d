//! The program itself: gateways, connectors, and a pair of them.

use std::fmt::Display;
use std::net::SocketAddr;
use std::process::Command;

use crate::process::Process;

pub(crate) const SECRET: &str = "Kx7-everything-but-a-stapled-horse";

/// `gesher` with this command line (words apart by spaces) and an environment with nothing but the secret, and the
/// runtime if the tests are to run with a certain one.
pub(crate) fn command(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gesher"));
    command.args(line.split_whitespace()).env_clear().env("GESHER_SECRET", SECRET);
    command.envs(std::env::vars_os().filter(|(name, _)| name == "GESHER_RUNTIME"));
    command
}

/// `gesher server`, which listens.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) pin: String,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with("")
    }

    pub(crate) fn with(more: &str) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), more)
    }

    pub(crate) fn at(address: SocketAddr, more: &str) -> Self {
        let line = format!("server --bind {} --port {} {more}", address.ip(), address.port());
        Self::of(&mut command(&line))
    }

    /// One that may have so many descriptors.
    pub(crate) fn with_descriptors(count: u32) -> Self {
        let gesher = command("server --bind 127.0.0.1 --port 0");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("ulimit -n {count} && exec \"$0\" \"$@\""));
        shell.arg(gesher.get_program()).args(gesher.get_args()).env_clear();
        shell.envs(gesher.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self::of(&mut shell)
    }

    fn of(command: &mut Command) -> Self {
        let process = Process::start("server", command);
        let pin = after(&process.line("PIN: "), "PIN: ");
        let address = after(&process.line("gesher client"), "--gateway http://").parse().unwrap();
        Self { process, address, pin }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The command of a connector beside `target` that joins here.
    pub(crate) fn client(&self, target: impl Display, more: &str) -> Command {
        client(self.address, &self.pin, target, more)
    }

    /// Starts one and waits until it has joined.
    pub(crate) fn join(&self, target: impl Display, more: &str) -> Process {
        joined(&mut self.client(target, more))
    }
}

/// The command of a connector.
pub(crate) fn client(gateway: SocketAddr, pin: &str, target: impl Display, more: &str) -> Command {
    command(&format!("client --gateway http://{gateway} --pin {pin} --target {target} {more}"))
}

/// Starts a connector and waits until it has joined.
pub(crate) fn joined(client: &mut Command) -> Process {
    let process = Process::start("client", client);
    process.line("requests go to the app from now on");
    process
}

/// A gateway and one connector that has joined it.
pub(crate) struct Tunnel {
    pub(crate) server: Server,
    pub(crate) client: Process,
}

impl Tunnel {
    pub(crate) fn to(target: impl Display) -> Self {
        let server = Server::start();
        let client = server.join(target, "");
        Self { server, client }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        self.server.url(path)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }
}

/// The word that follows `mark` in `line`.
fn after(line: &str, mark: &str) -> String {
    let rest = line.split_once(mark).unwrap_or_else(|| panic!("no {mark:?} in {line:?}")).1;
    rest.split_whitespace().next().unwrap().to_owned()
}
