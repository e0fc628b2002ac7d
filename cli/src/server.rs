//! `gesher server`: binds, prints the banner, runs a gateway until it is told to stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gesher_core::hub::GatewayHub;

use crate::args::ServerArgs;
use crate::banner;
#[cfg(feature = "capture")]
use crate::capture;
use crate::exit::{Exit, Failure};
use crate::log::Log;
use crate::runtime::{Listener, Options, Service, Stopped, bind, bind_everywhere};
use crate::settings::{self, Server};

pub(crate) fn run(args: ServerArgs) -> Result<Exit, Failure> {
    let (log_args, runtime) = (args.log, args.runtime.runtime);
    #[cfg(feature = "capture")]
    let capture = args.capture.clone();
    let settings = Server::check(args)?;
    let listeners = listen(&settings)?;
    let log = Log::start(log_args)?;
    for warning in &settings.warnings {
        log.warning(warning);
    }
    let listening: Vec<SocketAddr> = listeners.iter().map(Listener::local_addr).collect();
    banner::print(&banner::server(&settings.pin, &listening, settings.bind.is_empty()));

    #[cfg(feature = "capture")]
    let process = match capture::recorder(capture, &log)? {
        Some(recorder) => gesher_core::capture::gateway(
            settings.config,
            settings::seed()?,
            *settings::seed()?.bytes(),
            recorder,
        ),
        None => GatewayHub::new(settings.config, settings::seed()?),
    };
    #[cfg(not(feature = "capture"))]
    let process = GatewayHub::new(settings.config, settings::seed()?);
    let on_event = {
        let log = log.clone();
        Arc::new(move |event| log.event(event))
    };
    let service = Service { process, listeners, on_event };
    let stopped = runtime.run(vec![service], options(settings.drain));
    ended(stopped, &log)
}

/// Drains on Ctrl-C and SIGTERM.
pub(crate) fn options(drain: Duration) -> Options {
    Options { drain, signals: true, ..Options::default() }
}

/// What is left to say at the end of a run.
pub(crate) fn ended(stopped: io::Result<Stopped>, log: &Log) -> Result<Exit, Failure> {
    if let Ok(Stopped::Cut) = stopped {
        log.warning("what was still open was cut off");
    }
    log.finish();
    match stopped {
        Ok(_) => Ok(Exit::Done),
        Err(why) => Err(Failure::failed(format_args!("the sockets could not be run: {why}"))),
    }
}

fn listen(settings: &Server) -> Result<Vec<Listener>, Failure> {
    if settings.bind.is_empty() {
        return bind_everywhere(settings.port).map_err(|why| cannot_listen(&why, settings.port, None));
    }
    let bind_one =
        |address: SocketAddr| bind(address).map_err(|why| cannot_listen(&why, settings.port, Some(address)));
    settings.addresses().map(bind_one).collect()
}

fn cannot_listen(why: &io::Error, port: u16, address: Option<SocketAddr>) -> Failure {
    Failure::failed(match (why.kind(), address) {
        (io::ErrorKind::AddrInUse, _) => format!("port {port} is in use: choose another with --port"),
        (io::ErrorKind::PermissionDenied, _) => format!(
            "port {port}: permission denied: ports under 1024 are for privileged processes: choose another with --port"
        ),
        (io::ErrorKind::AddrNotAvailable, Some(address)) => {
            format!(
                "--bind {}: this machine does not have that address: choose one that it has",
                address.ip()
            )
        }
        (_, Some(address)) => {
            format!("{address} cannot be listened on: {why}: choose another with --bind or --port")
        }
        (_, None) => format!("port {port} cannot be listened on: {why}: choose another with --port"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_listened_on_is_one_line_with_the_flag_to_use() {
        let address = Some("192.0.2.1:80".parse().unwrap());
        for (kind, address, text) in [
            (io::ErrorKind::AddrInUse, None, "port 80 is in use: choose another with --port"),
            (
                io::ErrorKind::PermissionDenied,
                address,
                "port 80: permission denied: ports under 1024 are for privileged processes: choose another with --port",
            ),
            (
                io::ErrorKind::AddrNotAvailable,
                address,
                "--bind 192.0.2.1: this machine does not have that address: choose one that it has",
            ),
        ] {
            let failure = cannot_listen(&kind.into(), 80, address);
            assert_eq!((failure.exit, failure.to_string().as_str()), (Exit::Failed, text));
        }
    }
}
