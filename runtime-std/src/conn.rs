//! One connection: a machine, a socket, and the two threads between them.
//!
//! ```text
//! reader: ┌▶ read ─▶ wait until it is wanted ─▶ turn: hand over, advance ─┐
//!         └───────────────────────────────────────────────────────────────┘
//! writer: ┌▶ turn: what was sent; advance if woken or due ─▶ output? write it
//!         └────────────────────────────────────────────────── else wait ──┘
//! ```
//! The turn that finds the connection over takes the machine out, lets go of the socket and rings the bell; so both
//! threads come back, and the last one closes the socket.

use std::io;
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread;
use std::time::Instant;

use gesher_core::drive::{Close, Conn, Flag, Place, Start, Todo};
use gesher_core::machine::{DialFault, Machine};

use crate::bell::Bell;
use crate::dial::dial;
use crate::socket::Socket;
use crate::system::Clock;
use crate::threads::{Threads, World, spawn};
use crate::wait::lock;

/// What one read takes at most, and what is read ahead.
const READ_BYTES: usize = 16 * 1024;
/// What is taken out at once to be written.
const WRITE_BYTES: usize = 64 * 1024;
/// What a write that blocks takes at most: when it is done the machine hears that its peer takes something.
const BLOCKED_WRITE_BYTES: usize = 16 * 1024;
/// What the writer's buffer may keep while it waits.
const KEPT_BYTES: usize = 4 * 1024;

/// Until when to wait for something else.
type Deadline = Option<Instant>;

pub(crate) struct Connection {
    /// None once it is over.
    state: Mutex<Option<State>>,
    bell: Bell,
    /// None while it is dialled; a supervisor never has one.
    socket: OnceLock<Socket>,
}

struct State {
    conn: Conn,
    /// What the last `advance` asked for.
    todo: Todo,
    place: Place<Threads>,
}

impl Flag for Connection {
    fn raise(self: &Arc<Self>) {
        self.bell.raise();
    }
}

impl Connection {
    pub(crate) fn new(world: Arc<World>, machine: Box<dyn Machine>, start: &Start<TcpStream>) -> Arc<Self> {
        let watch = Arc::clone(&world.carrier().watch);
        let connection = Arc::new_cyclic(|me| Self {
            state: Mutex::new(None),
            bell: Bell::new(watch, Weak::clone(me)),
            socket: OnceLock::new(),
        });
        let place = Place::new(Arc::clone(&world), machine.port(), Arc::clone(&connection), start);
        let state = State { conn: Conn::new(machine, world), todo: Todo::default(), place };
        *lock(&connection.state) = Some(state);
        connection
    }

    /// Runs it in threads of its own. Where the system has none left it is over.
    pub(crate) fn start(self: Arc<Self>, start: Start<TcpStream>, clock: Clock) {
        let dialled = matches!(start, Start::Dial(..));
        let writer = Arc::clone(&self);
        if spawn("writer", move || writer.contained(|| writer.run(start, clock))).is_err() {
            self.finish(|conn| {
                if dialled {
                    conn.dial_failed(DialFault::Unreachable);
                }
            });
        }
    }

    /// Resets it, and tells its machine that it was dropped.
    pub(crate) fn cut(&self) {
        self.finish(|_| {});
    }

    /// Lets the machine run while both threads are blocked.
    pub(crate) fn look_after(&self) {
        if self.bell.is_blocked() {
            self.contained(|| _ = self.turn(|_| true, None));
        }
    }

    /// A panic costs this connection and nothing else.
    fn contained(&self, work: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            self.cut();
        }
    }

    /// The writer's thread, from the first to the last.
    fn run(self: &Arc<Self>, start: Start<TcpStream>, clock: Clock) {
        let socket = match start {
            Start::Supervisor => return self.keep_writing(),
            Start::Accepted(stream) => stream.into(),
            Start::Dial(to, timeout) => match dial(self, to, timeout, clock) {
                Some(Ok(socket)) => socket,
                Some(Err(why)) => return self.finish(|conn| conn.dial_failed(why)),
                None => return self.cut(),
            },
        };
        if self.open(socket) {
            let reader = Arc::clone(self);
            match spawn("reader", move || reader.contained(|| reader.keep_reading())) {
                Ok(_) => self.keep_writing(),
                Err(_) => self.cut(),
            }
        }
    }

    /// Its dial waits until it is rung, or until `until`; does not, and says so, if nobody wants the connection any more.
    pub(crate) fn wait_for_dial(&self, until: Deadline) -> bool {
        let is_wanted = lock(&self.state).as_ref().is_some_and(|state| !state.place.world().gives_up_dials());
        if is_wanted {
            self.bell.wait_to_write(until);
            // The machine runs first thing once there is a socket.
            self.bell.lower();
        }
        is_wanted
    }

    /// Lets its dial look again.
    pub(crate) fn ring(&self) {
        self.bell.tell_writer(true, None);
    }

    /// Takes the socket, unless the connection is over.
    fn open(&self, socket: Socket) -> bool {
        let mut state = lock(&self.state);
        if let Some(state) = &mut *state {
            state.place.is_connected();
            // Whoever ends the connection does so under this lock: now there is something to shut down.
            let _ = self.socket.set(socket);
        }
        state.is_some()
    }

    fn keep_writing(&self) {
        let mut chunk = Vec::new();
        let mut turn = self.turn(|_| true, Some(&mut chunk));
        while let Some(until) = turn {
            turn = if chunk.is_empty() {
                chunk.shrink_to(KEPT_BYTES);
                let due = self.bell.wait_to_write(until);
                self.turn(|_| due, Some(&mut chunk))
            } else {
                let sent = self.write(&chunk, until);
                self.turn(|state| state.sent(sent), Some(&mut chunk))
            };
        }
    }

    fn write(&self, chunk: &[u8], until: Deadline) -> io::Result<usize> {
        // A supervisor's output is gone.
        let Some(socket) = self.socket.get() else { return Ok(chunk.len()) };
        match socket.try_write(chunk) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return written,
        }
        let written = match self.bell.block(until) {
            true => socket.write(&chunk[..chunk.len().min(BLOCKED_WRITE_BYTES)]),
            false => Ok(0),
        };
        self.bell.unblock();
        written
    }

    fn keep_reading(&self) {
        let Some(socket) = self.socket.get() else { return };
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let arrived = match socket.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                arrived => arrived.map(|count| &buffer[..count]),
            };
            let mut handed_over = false;
            while !handed_over {
                let turn = self.turn(
                    |state| {
                        handed_over = state.hand_over(&arrived);
                        handed_over
                    },
                    None,
                );
                match turn {
                    None => return,
                    Some(_) if handed_over => {}
                    Some(_) => self.bell.wait_to_read(),
                }
            }
            if matches!(arrived, Ok([])) {
                return;
            }
        }
    }

    /// Changes something, lets the machine run if that makes it `due` or if it was woken, and says until when to wait;
    /// none if the connection is over. The writer takes `output` with it.
    fn turn(
        &self,
        change: impl FnOnce(&mut State) -> bool,
        output: Option<&mut Vec<u8>>,
    ) -> Option<Deadline> {
        // A lock that is poisoned is somebody's who panicked, and who ends the connection.
        let mut guard = self.state.lock().ok()?;
        let state = guard.as_mut()?;
        let read_before = state.todo.read;
        let ran = change(state) | self.bell.lower();
        if ran {
            state.advance(self.socket.get());
        }
        let todo = state.todo;
        if let Some(how) = todo.close {
            let state = guard.take();
            drop(guard);
            state.into_iter().for_each(|state| self.release(state, how));
            return None;
        }
        let until = todo.wake_at.and_then(|(at, _)| state.place.world().carrier().clock.instant(at));
        let writes = output.is_some();
        if let Some(output) = output {
            let waiting = if todo.write { state.conn.output() } else { &[] };
            output.clear();
            output.extend_from_slice(&waiting[..waiting.len().min(WRITE_BYTES)]);
        }
        drop(guard);
        if ran && todo.read && !read_before {
            self.bell.tell_reader();
        }
        if ran && !writes {
            self.bell.tell_writer(todo.write, until);
        }
        if ran && todo.again {
            self.bell.raise();
            thread::yield_now();
        }
        Some(until)
    }

    /// Ends the connection, unless it is over; `last` is what its machine hears of it.
    fn finish(&self, last: impl FnOnce(&mut Conn)) {
        let state = lock(&self.state).take();
        if let Some(mut state) = state {
            last(&mut state.conn);
            self.release(state, Close::Reset);
        }
    }

    /// The machine hears, the threads come back, the port is free; in this order.
    fn release(&self, state: State, how: Close) {
        let State { conn, place, .. } = state;
        let _ = catch_unwind(AssertUnwindSafe(|| drop(conn)));
        let writer_is_blocked = self.bell.end();
        if let Some(socket) = self.socket.get() {
            socket.let_go(how, writer_is_blocked);
        }
        drop(place);
    }
}

impl State {
    /// What came of a write; whether the machine has to hear of it.
    fn sent(&mut self, sent: io::Result<usize>) -> bool {
        match sent {
            Ok(count) => self.conn.sent(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return false,
            Err(_) => self.conn.write_failed(),
        }
        true
    }

    /// Hands over what was read if the machine wants it; a failure at once.
    fn hand_over(&mut self, arrived: &io::Result<&[u8]>) -> bool {
        match arrived {
            Err(_) => self.conn.broke(),
            Ok(_) if !self.todo.read => return false,
            Ok([]) => self.conn.ended(),
            Ok(bytes) => self.conn.received(bytes),
        }
        true
    }

    /// Lets the machine run, and shuts the sending side down where that is due.
    fn advance(&mut self, socket: Option<&Socket>) {
        loop {
            self.todo = self.conn.advance();
            if !self.todo.shutdown {
                return;
            }
            match socket.map_or(Ok(()), Socket::shut_down) {
                Ok(()) => self.conn.has_shut_down(),
                Err(_) => self.conn.broke(),
            }
        }
    }
}
