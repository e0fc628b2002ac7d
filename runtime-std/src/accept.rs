//! Accepting: one thread a listener, which waits for no connection that it accepted.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use crate::system::{ACCEPT_PAUSE, Listener, next_may_be_well, spawn};
use crate::threads::World;

/// Connecting to a listener of our own takes no time.
const KNOCK: Duration = Duration::from_secs(1);

/// A listener that is accepted from; dropping it closes it.
pub(crate) struct Accepting {
    door: Arc<Door>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

struct Door {
    listener: TcpListener,
    closed: AtomicBool,
}

impl Accepting {
    /// Accepts for `world` from now on.
    pub(crate) fn start(listener: Listener, world: Arc<World>) -> io::Result<Self> {
        let address = listener.local_addr();
        let door = Arc::new(Door { listener: listener.into_socket(), closed: AtomicBool::new(false) });
        let opened = Arc::clone(&door);
        let thread = Some(spawn("accept", move || opened.accept(&world))?);
        Ok(Self { door, address, thread })
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.door.closed.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else { return };
        thread.thread().unpark();
        // Linux ends an accept so; elsewhere it takes a connection.
        if SockRef::from(&self.door.listener).shutdown(Shutdown::Both).is_err() {
            let _ = TcpStream::connect_timeout(&self.address, KNOCK);
        }
        let _ = thread.join();
    }
}

impl Door {
    fn accept(&self, world: &World) {
        while !self.closed.load(Ordering::Acquire) {
            match self.listener.accept() {
                Ok((stream, from)) => {
                    if world.welcome(stream.into(), from) {
                        thread::yield_now();
                    }
                }
                Err(error) if next_may_be_well(&error) => {}
                // Closing unparks, also before this begins.
                Err(_) => thread::park_timeout(ACCEPT_PAUSE),
            }
        }
    }
}
