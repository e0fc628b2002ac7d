//! Connections as tasks.

use std::sync::{Arc, Weak};

use gesher_core::drive::{self, Carrier, Start};
use gesher_core::limits;
use gesher_core::machine::Machine;
use gesher_core::time::Now;
use gesher_runtime_std::system::{Clock, Socket};
use smol::Executor;

use crate::conn::Contained;
use crate::flag::Flag;
use crate::reactor::Reactor;

/// What the connections of one process share.
pub(crate) type World = drive::World<Tasks>;

/// Runs each connection as a task. The executor is known weakly, since its tasks hold their world: the run alone
/// decides how long it lives.
pub(crate) struct Tasks {
    pub(crate) clock: Clock,
    pub(crate) reactor: Arc<Reactor>,
    pub(crate) executor: Weak<Executor<'static>>,
}

impl Carrier for Tasks {
    type Flag = Flag;
    type Socket = Socket;
    const CONNECTIONS_MAX: usize = limits::CONNECTIONS_MAX as usize;

    fn now(&self) -> Now {
        self.clock.now()
    }

    fn carry(&self, world: Arc<World>, machine: Box<dyn Machine>, start: Start<Socket>) {
        let connection = Contained::new(world, machine, start);
        if let Some(executor) = self.executor.upgrade() {
            executor.spawn(connection).detach();
        }
    }

    /// Connections end with their executor, and so with the run.
    fn cut(&self, _: &World) {}
}
