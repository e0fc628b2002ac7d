//! Running processes: from their listeners to the end of their last connection.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gesher_core::event::Event;
use gesher_core::limits;
use gesher_core::machine::Process;
use smol::{Executor, Task};

use crate::listen::{Listener, accept};
use crate::signals::Signals;
use crate::stop::StopHandle;
use crate::system::raise_descriptor_limit;
use crate::world::World;

/// A process to run, and what it listens on.
pub struct Service {
    /// What makes its machines.
    pub process: Arc<dyn Process>,
    /// Where its connections come from; a connector without a dashboard has none.
    pub listeners: Vec<Listener>,
    /// Is told everything that happens, on the thread where it happened; it should not block.
    pub on_event: Arc<dyn Fn(Event) + Send + Sync>,
}

/// How to run.
#[derive(Clone)]
pub struct Options {
    /// How long what is open may take to finish after it was asked to.
    pub drain: Duration,
    /// Whether SIGINT and SIGTERM ask to stop, as [`StopHandle::stop`] does.
    pub signals: bool,
    /// What else asks to stop.
    pub stop: StopHandle,
}

impl Default for Options {
    /// [`limits::DRAIN`], signals, and a handle that nobody else holds.
    fn default() -> Self {
        Self { drain: limits::DRAIN, signals: true, stop: StopHandle::default() }
    }
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stopped {
    /// A supervisor ended by itself.
    Ended,
    /// It was asked to stop, and everything that was open has finished.
    Drained,
    /// It was asked twice, or the time to finish was over.
    Cut,
}

/// Runs `services` on this thread until it is asked to stop or a supervisor ends. Then nothing more is accepted, what
/// is open finishes, and what has not after [`Options::drain`] is cut.
///
/// # Errors
/// If the system does not let it begin: no descriptors, no signals.
pub fn run(services: Vec<Service>, options: Options) -> io::Result<Stopped> {
    raise_descriptor_limit();
    let executor = Arc::new(Executor::new());
    let mut running = Vec::new();
    for service in services {
        running.push(Running::new(service, &executor, &options.stop)?);
    }
    if options.signals {
        let (signals, stop) = (Signals::new()?, options.stop.clone());
        let obey = async move {
            while signals.next().await.is_ok() {
                stop.stop();
            }
        };
        executor.spawn(obey).detach();
    }
    Ok(smol::block_on(executor.run(until_stopped(&mut running, &options))))
    // What is left of the tasks ends with the executor, and their machines are told.
}

async fn until_stopped(running: &mut [Running], options: &Options) -> Stopped {
    let mut until = None;
    let mut ended = false;
    loop {
        let asked = options.stop.times();
        if asked >= 2 || until.is_some_and(|until| until <= Instant::now()) {
            return Stopped::Cut;
        }
        let stops = |running: &Running| running.world.has_ended();
        ended |= asked == 0 && until.is_none() && running.iter().any(stops);
        // A process that is over takes the others with it, once it is done itself.
        let all = asked > 0 || running.iter().any(|running| stops(running) && running.world.is_empty());
        for running in running.iter_mut().filter(|running| all || stops(running)) {
            if running.drain().await {
                until = Instant::now().checked_add(options.drain);
            }
        }
        if all && running.iter().all(|running| running.world.is_empty()) {
            return if ended { Stopped::Ended } else { Stopped::Drained };
        }
        for running in running.iter().filter(|running| running.world.gives_up_dials()) {
            running.world.wake_all();
        }
        options.stop.rung(until).await;
    }
}

/// A service that runs.
struct Running {
    world: Arc<World>,
    accepting: Vec<Task<()>>,
}

impl Running {
    fn new(service: Service, executor: &Arc<Executor<'static>>, stop: &StopHandle) -> io::Result<Self> {
        let world = World::new(&service, executor, stop);
        let mut accepting = Vec::new();
        for listener in service.listeners {
            accepting.push(executor.spawn(accept(listener.into_async()?, Arc::clone(&world))));
        }
        world.start();
        Ok(Self { world, accepting })
    }

    /// Accepts nothing more and lets what is open finish; whether that was not asked before.
    async fn drain(&mut self) -> bool {
        if self.world.is_draining() {
            return false;
        }
        for task in self.accepting.drain(..) {
            task.cancel().await;
        }
        self.world.drain();
        true
    }
}
