//! Accepting: one thread a listener, which waits for no connection that it accepted.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::system::Listener;
use crate::threads::{World, spawn};
use crate::wait::{lock, wait};

/// Without descriptors or memory, accepting pauses this long.
const PAUSE: Duration = Duration::from_millis(100);
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
    closed: Mutex<bool>,
    closing: Condvar,
}

impl Accepting {
    /// Accepts for `world` from now on.
    pub(crate) fn start(listener: Listener, world: Arc<World>) -> io::Result<Self> {
        let address = listener.local_addr();
        let door = Arc::new(Door {
            listener: listener.into_socket(),
            closed: Mutex::new(false),
            closing: Condvar::new(),
        });
        let opened = Arc::clone(&door);
        let thread = Some(spawn("accept".into(), move || opened.accept(&world))?);
        Ok(Self { door, address, thread })
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        *lock(&self.door.closed) = true;
        self.door.closing.notify_one();
        // Linux ends an accept so; elsewhere it takes a connection.
        if SockRef::from(&self.door.listener).shutdown(Shutdown::Both).is_err() {
            let _ = TcpStream::connect_timeout(&self.address, KNOCK);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Door {
    fn accept(&self, world: &World) {
        let mut pause = Duration::ZERO;
        while !self.closes_within(pause) {
            pause = Duration::ZERO;
            match self.listener.accept() {
                Ok((stream, from)) => world.welcome(stream, from),
                Err(error) => match error.kind() {
                    // Gone before it was accepted, or interrupted: the next one may be well.
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                    _ => pause = PAUSE,
                },
            }
        }
    }

    fn closes_within(&self, pause: Duration) -> bool {
        let until = Instant::now().checked_add(pause);
        *wait(&self.closing, lock(&self.closed), until, |closed| !*closed).0
    }
}
