//! Running processes: from their listeners to the end of their last connection.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use gesher_core::drive::{Ending, Flag as _, Next, Options, StopHandle, Stopped};
use gesher_core::limits;
use gesher_runtime_std::system::{Clock, Listener, Service, Signals, raise_descriptor_limit};
use smol::{Executor, Task};

use crate::accept::Accepting;
use crate::flag::{DUE, Flag, RAISED, READABLE};
use crate::reactor::{Driver, Reactor, Watch};
use crate::tasks::{Tasks, World};

/// Runs `services` on this thread until it is asked to stop or a supervisor ends. Then nothing more is accepted, what
/// is open finishes, and what has not after [`Options::drain`] is cut.
///
/// # Errors
/// If the system does not let it begin: no descriptors, no signals.
pub fn run(services: Vec<Service>, options: Options) -> io::Result<Stopped> {
    raise_descriptor_limit();
    let executor = Arc::new(Executor::new());
    let driver = Driver::new()?;
    let bell = Arc::new(Flag::default());
    let mut watch = Watch::new(driver.reactor(), Arc::clone(&bell));
    options.stop.on_ring(move || bell.raise());
    let signals = if options.signals { Some(Signals::new()?) } else { None };
    if let Some(signals) = &signals {
        let (bytes, watch) = (signals.bytes()?, Watch::new(driver.reactor(), Arc::default()));
        bytes.set_nonblocking(true)?;
        watch.socket(&bytes)?;
        executor.spawn(obey(bytes, watch, options.stop.clone())).detach();
    }
    let clock = Clock::start();
    let (mut worlds, mut accepting) = (Vec::new(), Vec::new());
    for service in services {
        let reactor = Arc::clone(driver.reactor());
        let tasks = Tasks { clock, reactor, executor: Arc::downgrade(&executor) };
        let connections_max = options.connections_max.unwrap_or(limits::CONNECTIONS_MAX as usize);
        let world =
            World::new(service.process, service.on_event, tasks, connections_max, options.stop.clone());
        accepting.push(listen(service.listeners, &world, driver.reactor(), &executor)?);
        world.start();
        worlds.push(world);
    }
    let mut ending = Ending::new(&options);
    Ok(driver.block_on(executor.run(async {
        loop {
            match ending.next(clock.now().mono, &worlds) {
                Next::Drain(index) => {
                    for task in accepting[index].drain(..) {
                        task.cancel().await;
                    }
                    worlds[index].drain();
                }
                Next::Wait(until) => {
                    if let Some(until) = until.and_then(|until| clock.instant(until)) {
                        watch.wake_at(until);
                    }
                    watch.wait(RAISED | DUE).await;
                }
                Next::Over(stopped) => return stopped,
            }
        }
    })))
    // What is left of the tasks ends with the executor, and their machines are told.
}

/// Accepts for `world` from now on.
fn listen(
    listeners: Vec<Listener>,
    world: &Arc<World>,
    reactor: &Arc<Reactor>,
    executor: &Executor<'static>,
) -> io::Result<Vec<Task<()>>> {
    let listen = |listener| Ok(executor.spawn(Accepting::new(listener, Arc::clone(world), reactor)?.run()));
    listeners.into_iter().map(listen).collect()
}

/// Takes each byte that comes for a wish to stop.
async fn obey(mut signals: UnixStream, mut watch: Watch, stop: StopHandle) {
    loop {
        match signals.read(&mut [0]) {
            Ok(1..) => stop.stop(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => watch.wait(READABLE).await,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => return,
        }
    }
}
