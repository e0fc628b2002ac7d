//! Running processes: from their listeners to the end of their last connection.

use std::io;
use std::sync::Arc;

use gesher_core::drive::{Flag as _, Next, Options, Run, Stopped};
use gesher_runtime_std::system::{Clock, Service, Signals, raise_descriptor_limit};
use smol::Executor;

use crate::accept::Accepting;
use crate::flag::{DUE, Flag, RAISED};
use crate::reactor::{Driver, Watch};
use crate::tasks::Tasks;

/// Runs `services` on this thread until it is asked to stop or a supervisor ends. Then nothing more is accepted, what
/// is open finishes, and what has not after [`Options::drain`] is cut.
///
/// # Errors
/// If the system does not let it begin: no descriptors, no signals, no thread that waits for them.
pub fn run(services: Vec<Service>, options: Options) -> io::Result<Stopped> {
    let descriptors = raise_descriptor_limit();
    let executor = Arc::new(Executor::new());
    let driver = Driver::new()?;
    let reactor = Arc::clone(driver.reactor());
    let bell = Arc::new(Flag::default());
    let mut watch = Watch::new(&reactor, Arc::clone(&bell));
    options.stop.on_ring(move || bell.raise());
    let _signals = options.signals.then(|| Signals::obey(options.stop.clone())).transpose()?;
    let clock = Clock::start();
    let tasks = || Tasks { clock, reactor: Arc::clone(&reactor), executor: Arc::downgrade(&executor) };
    let accept = |listener, world| Ok(executor.spawn(Accepting::new(listener, world, &reactor)?.run()));
    let mut run = Run::start(services, &options, descriptors, tasks, accept)?;
    Ok(driver.block_on(&executor, async {
        loop {
            match run.next(clock.now().mono) {
                Next::Close(accepting) => {
                    for task in accepting {
                        task.cancel().await;
                    }
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
    }))
}
