//! Running processes: from their listeners to the end of their last connection.

use std::future::poll_fn;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use gesher_core::drive::{Ending, Flag as _, Next, Options, StopHandle, Stopped};
use gesher_core::limits;
use gesher_runtime_std::system::{Clock, Listener, Service, Signals, raise_descriptor_limit};
use smol::{Executor, Task};

use crate::accept::Accepting;
use crate::flag::{Flag, RAISED, READABLE};
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
    options.stop.on_ring({
        let bell = Arc::clone(&bell);
        move || bell.raise()
    });
    let signals = if options.signals { Some(Signals::new()?) } else { None };
    if let Some(signals) = &signals {
        executor.spawn(obey(signals.bytes()?, driver.reactor(), options.stop.clone())?).detach();
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
                    rung(&bell, &mut watch, until.and_then(|until| clock.instant(until))).await
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
fn obey(
    mut signals: UnixStream,
    reactor: &Arc<Reactor>,
    stop: StopHandle,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    signals.set_nonblocking(true)?;
    let flag = Arc::<Flag>::default();
    let watch = Watch::new(reactor, Arc::clone(&flag));
    watch.socket(&signals)?;
    Ok(poll_fn(move |cx| {
        let _watched = &watch;
        flag.register(cx.waker());
        flag.take(READABLE);
        loop {
            match signals.read(&mut [0]) {
                Ok(1..) => stop.stop(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
    }))
}

/// Waits until the bell was rung since the last time, or until `until`.
async fn rung(bell: &Flag, watch: &mut Watch, until: Option<Instant>) {
    if let Some(until) = until {
        watch.wake_at(until);
    }
    poll_fn(|cx| {
        bell.register(cx.waker());
        let rung = bell.take(RAISED) != 0 || watch.fired();
        if rung { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
