//! Accepting that nothing can hold up.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use gesher_runtime_std::system::{ACCEPT_PAUSE, Listener, next_may_be_well};
use smol::future;

use crate::flag::{DUE, READABLE};
use crate::reactor::{Reactor, Watch};
use crate::tasks::World;

/// Connections that are accepted before others have their turn.
const BURST: u32 = 64;

/// A listener that is accepted from.
pub(crate) struct Accepting {
    listener: TcpListener,
    watch: Watch,
    world: Arc<World>,
}

impl Accepting {
    /// Accepts for `world`.
    ///
    /// # Errors
    /// If the system does not let the listener be watched.
    pub(crate) fn new(listener: Listener, world: Arc<World>, reactor: &Arc<Reactor>) -> io::Result<Self> {
        let listener = listener.into_socket();
        listener.set_nonblocking(true)?;
        let watch = Watch::new(reactor, Arc::default());
        watch.socket(&listener)?;
        Ok(Self { listener, watch, world })
    }

    /// Accepts for ever: every connection has a task of its own, so none is waited for.
    pub(crate) async fn run(mut self) {
        loop {
            for _ in 0..BURST {
                match self.listener.accept() {
                    Ok((stream, from)) => {
                        if stream.set_nonblocking(true).is_ok() && self.world.welcome(stream.into(), from) {
                            break;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.watch.wait(READABLE).await;
                    }
                    Err(error) if next_may_be_well(&error) => {}
                    Err(_) => {
                        self.watch.wake_at(Instant::now() + ACCEPT_PAUSE);
                        self.watch.wait(DUE).await;
                    }
                }
            }
            future::yield_now().await;
        }
    }
}
