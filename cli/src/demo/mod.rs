//! `gesher demo`: a whole deployment in one process, to look at or, with `--once`, to check itself.
//! ```text
//! browser > gateway 127.0.0.1:8000 = link = connector demo-1 > app 1
//!                                  = link = connector demo-2 > app 2
//! ```
//! All of it listens on loopback only, with a secret and a PIN of its own.

mod app;
mod checks;
mod http;
mod visitor;
mod websocket;

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gesher_core::config::{ConnectorConfig, GatewayConfig, GatewayUrl, TargetUrl};
use gesher_core::event::Event;
use gesher_core::hub::{ConnectorHub, GatewayHub};
use gesher_core::limits::DRAIN;
use gesher_core::secret::{Keys, Pin, Secret};

use crate::args::DemoArgs;
use crate::banner;
use crate::exit::{Exit, Failure};
use crate::log::Log;
use crate::runtime::{Listener, Service, StopHandle, bind};
use crate::server::{ended, options};
use crate::settings;
use visitor::Visitor;

const NAMES: [&str; 2] = ["demo-1", "demo-2"];
const PORT: u16 = 8000;
/// Joining on this machine takes milliseconds.
const JOIN_PATIENCE: Duration = Duration::from_secs(15);

pub(crate) fn run(args: DemoArgs) -> Result<Exit, Failure> {
    let log = Log::start(args.log)?;
    let log = if args.once { log.quieter() } else { log };
    let apps = [start_app(1)?, start_app(2)?];
    let listener = listen()?;
    let gateway = listener.local_addr();
    let (services, joins, pin) = deployment(&log, listener, apps)?;
    banner::print(&greeting(gateway, pin.as_str(), apps, args.once));

    let options = options(DRAIN);
    let checks = if args.once { Some(start_checks(gateway, joins, options.stop.clone())?) } else { None };
    let exit = ended(args.runtime.runtime.run(services, options), &log)?;
    match checks.map(JoinHandle::join) {
        None | Some(Ok(true)) => Ok(exit),
        Some(Ok(false) | Err(_)) => Ok(Exit::Failed),
    }
}

/// The three processes, a message for each connector that joined, and the PIN.
fn deployment(
    log: &Log,
    listener: Listener,
    apps: [SocketAddr; 2],
) -> Result<(Vec<Service>, Receiver<()>, Pin), Failure> {
    let mut random = settings::random()?;
    let secret = Secret::new(Secret::generate(&mut random).into_bytes()).map_err(Failure::failed)?;
    let pin = Pin::random(&mut random);
    let url = GatewayUrl::parse(&format!("http://{}", listener.local_addr())).map_err(Failure::failed)?;

    let (joined, joins) = mpsc::channel();
    let on_event = {
        let log = log.named("gateway");
        Arc::new(move |event| {
            if let Event::Joined { .. } = &event {
                let _ = joined.send(());
            }
            log.event(event);
        })
    };
    let hub = GatewayHub::new(GatewayConfig::new(Keys::derive(&secret, &pin)), settings::seed()?);
    let mut services = vec![Service { process: hub, listeners: vec![listener], on_event }];

    for (name, app) in NAMES.into_iter().zip(apps) {
        let target = TargetUrl::parse(&format!("http://{app}")).map_err(Failure::failed)?;
        let config = ConnectorConfig::new(Keys::derive(&secret, &pin), url.clone(), target).name(name);
        let log = log.named(name).towards(&url);
        services.push(Service {
            process: ConnectorHub::new(config, settings::seed()?),
            listeners: Vec::new(),
            on_event: Arc::new(move |event| log.event(event)),
        });
    }
    Ok((services, joins, pin))
}

fn start_app(number: u8) -> Result<SocketAddr, Failure> {
    app::start(number).map_err(|why| Failure::failed(format_args!("the demo's app cannot start: {why}")))
}

/// The usual port if it is free, else whichever is.
fn listen() -> Result<Listener, Failure> {
    let at = |port| bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    at(PORT)
        .or_else(|_| at(0))
        .map_err(|why| Failure::failed(format_args!("no port on 127.0.0.1 can be listened on: {why}")))
}

fn greeting(gateway: SocketAddr, pin: &str, [first, second]: [SocketAddr; 2], once: bool) -> String {
    let mut text = format!(
        "Gesher demo: a gateway, two connectors and an app, all on this machine\n  \
           Gateway: http://{gateway} (PIN: {pin})\n  \
           App behind {}: http://{first}\n  \
           App behind {}: http://{second}\n\n",
        NAMES[0], NAMES[1]
    );
    if !once {
        text += &format!(
            "Open http://{gateway} in a browser, or try\n  \
               curl http://{gateway}/headers\n  \
               curl -N http://{gateway}/events\n  \
               curl -T FILE http://{gateway}/upload\n\n\
             Ctrl-C ends it.\n"
        );
    }
    text
}

/// Waits for both connectors, runs the checks, stops everything; true if all was right.
fn start_checks(
    gateway: SocketAddr,
    joins: Receiver<()>,
    stop: StopHandle,
) -> Result<JoinHandle<bool>, Failure> {
    let random = settings::random()?;
    let check = move || {
        let mut out = io::stdout();
        let right = both_joined(&joins, &mut out) && checks::run(Visitor { to: gateway }, &random, &mut out);
        let _ = out.flush();
        stop.stop();
        right
    };
    thread::Builder::new()
        .name("checks".into())
        .spawn(check)
        .map_err(|why| Failure::failed(format_args!("no thread for the checks could be started: {why}")))
}

fn both_joined(joins: &Receiver<()>, out: &mut impl io::Write) -> bool {
    let start = Instant::now();
    let next = || joins.recv_timeout(JOIN_PATIENCE.saturating_sub(start.elapsed()));
    let result = match NAMES.iter().try_for_each(|_| next()) {
        Ok(()) => Ok("both connectors have joined".into()),
        Err(_) => Err(io::Error::other("not both connectors have joined")),
    };
    checks::print(out, "joining", &result, start);
    result.is_ok()
}
