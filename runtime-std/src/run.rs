//! Running processes: from their listeners to the end of their last connection.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use gesher_core::drive::{Ending, Next, Options, StopHandle, Stopped};

use crate::accept::Accepting;
use crate::system::{Clock, Service, Signals, raise_descriptor_limit};
use crate::threads::{Threads, World, cut, spawn};
use crate::watch::Watching;

/// How many connections a process may have where [`Options::connections_max`] does not say: each has one or two
/// threads.
pub const CONNECTIONS_MAX: usize = 512;

/// Runs `services` until it is asked to stop or a supervisor ends. Then nothing more is accepted, what is open
/// finishes, and what has not after [`Options::drain`] is cut. This thread only waits for that.
///
/// # Errors
/// If the system does not let it begin: no descriptors, no threads, no signals.
pub fn run(services: Vec<Service>, options: Options) -> io::Result<Stopped> {
    raise_descriptor_limit();
    // Whatever is rung while this thread does not wait stays rung, and waking it for nothing is harmless.
    let waiting = thread::current();
    options.stop.on_ring(move || waiting.unpark());
    // Caught before anybody is served.
    let signals = if options.signals { Some(Signals::new()?) } else { None };
    if let Some(signals) = &signals {
        let (bytes, stop) = (signals.bytes()?, options.stop.clone());
        spawn("signals", move || obey(bytes, &stop))?;
    }
    let clock = Clock::start();
    let watching = Watching::start()?;
    let mut running = Running::default();
    for service in services {
        let connections_max = options.connections_max.unwrap_or(CONNECTIONS_MAX);
        let threads = Threads::new(clock, Arc::clone(&watching.watch));
        running.start(service, threads, connections_max, &options.stop)?;
    }
    let mut ending = Ending::new(&options);
    loop {
        match ending.next(clock.now().mono, &running.worlds) {
            Next::Drain(index) => running.drain(index),
            Next::Wait(None) => thread::park(),
            Next::Wait(Some(until)) => thread::park_timeout(until.since(clock.now().mono)),
            Next::Over(stopped) => return Ok(stopped),
        }
    }
}

/// The services; dropping them cuts what is left.
#[derive(Default)]
struct Running {
    worlds: Vec<Arc<World>>,
    accepting: Vec<Vec<Accepting>>,
}

impl Running {
    fn start(
        &mut self,
        service: Service,
        threads: Threads,
        connections_max: usize,
        stop: &StopHandle,
    ) -> io::Result<()> {
        let world = World::new(service.process, service.on_event, threads, connections_max, stop.clone());
        self.worlds.push(Arc::clone(&world));
        let accept = |listener| Accepting::start(listener, Arc::clone(&world));
        self.accepting.push(service.listeners.into_iter().map(accept).collect::<io::Result<_>>()?);
        world.start();
        Ok(())
    }

    /// Accepts nothing more for one of them, and tells it.
    fn drain(&mut self, index: usize) {
        self.accepting[index].clear();
        self.worlds[index].drain();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.accepting.clear();
        self.worlds.iter().for_each(|world| cut(world));
    }
}

/// Takes each byte that comes for a wish to stop.
fn obey(mut signals: UnixStream, stop: &StopHandle) {
    loop {
        match signals.read(&mut [0]) {
            Ok(1..) => stop.stop(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
        }
    }
}
