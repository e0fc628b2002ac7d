//! Running processes: from their listeners to the end of their last connection.

use std::io;
use std::sync::Arc;
use std::thread;

use gesher_core::drive::{Next, Options, Run, Stopped};

use crate::accept::Accepting;
use crate::system::{Clock, Service, Signals, raise_descriptor_limit};
use crate::threads::Threads;
use crate::watch::Watching;

/// Runs `services` until it is asked to stop or a supervisor ends. Then nothing more is accepted, what is open
/// finishes, and what has not after [`Options::drain`] is cut. This thread only waits for that.
///
/// # Errors
/// If the system does not let it begin: no descriptors, no threads, no signals.
pub fn run(services: Vec<Service>, options: Options) -> io::Result<Stopped> {
    let descriptors = raise_descriptor_limit();
    // Whatever is rung while this thread does not wait stays rung, and waking it for nothing is harmless.
    let waiting = thread::current();
    options.stop.on_ring(move || waiting.unpark());
    // Caught before anybody is served.
    let _signals = options.signals.then(|| Signals::obey(options.stop.clone())).transpose()?;
    let clock = Clock::start();
    let watching = Watching::start()?;
    let threads = || Threads::new(clock, Arc::clone(&watching.watch));
    let mut run = Run::start(services, &options, descriptors, threads, Accepting::start)?;
    loop {
        match run.next(clock.now().mono) {
            Next::Close(accepting) => drop(accepting),
            Next::Wait(None) => thread::park(),
            Next::Wait(Some(until)) => thread::park_timeout(until.since(clock.now().mono)),
            Next::Over(stopped) => return Ok(stopped),
        }
    }
}
