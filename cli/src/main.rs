//! `gesher`: a gateway, a connector, and a demo of both, in one binary.

mod args;
mod banner;
#[cfg(feature = "capture")]
mod capture;
mod check;
mod client;
#[cfg(feature = "demo")]
mod demo;
mod escape;
mod exit;
mod keygen;
mod lines;
mod log;
mod refusals;
#[cfg(feature = "capture")]
mod replay;
mod runtime;
mod secret_file;
mod server;
mod settings;
mod words;

use std::process::ExitCode;

use crate::args::{Args, Command};
use crate::exit::{Exit, Failure};

#[cfg(all(feature = "jemalloc", target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match run() {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(),
    }
}

fn run() -> Result<Exit, Failure> {
    match Args::from_command_line().command {
        Command::Server(args) => server::run(args),
        Command::Client(args) => client::run(args),
        #[cfg(feature = "demo")]
        Command::Demo(args) => demo::run(args),
        Command::Keygen => keygen::run(),
        #[cfg(feature = "capture")]
        Command::Replay(args) => replay::run(args),
        Command::Check(args) => check::run(args),
    }
}
