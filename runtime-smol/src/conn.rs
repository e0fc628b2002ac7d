//! One connection: a future that moves bytes between its socket and its [`Conn`], and else waits.
//!
//! ```text
//! ┌▶ woken, or something moved? ─▶ advance (the flag is lowered before)
//! │  write, shut down, read: what is wanted and is not known to block
//! │  to be closed? ─▶ done            more work, or enough for one turn? ─▶ let others run ─┐
//! └─ something moved, or ready: readable, writable, woken, deadline ◀── else wait ◀──────────┘
//! ```
//! A socket is tried before it is waited for, and after a short read or write it is known to block: that saves the
//! system calls. Its edges are noted also while its machine wants no input: so a reset is noticed early.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::mem;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use gesher_core::drive::{Close, Conn, Place, Start, Todo};
use gesher_core::limits;
use gesher_core::machine::Machine;
use gesher_runtime_std::system::Socket;

use crate::dial::{Dialling, dial};
use crate::flag::{BROKEN, ENDED, Flag, RAISED, READABLE, WRITABLE};
use crate::reactor::Watch;
use crate::tasks::{Tasks, World};

/// What one read takes at most.
const READ_BYTES: usize = 64 * 1024;
/// What a round is counted as beside its bytes, so that many small ones end a turn too.
const ROUND_BYTES: usize = 4096;

thread_local! {
    /// Every read of a thread goes through here, so that idle connections hold no buffer.
    static READ: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connection whose panics stay its own.
pub(crate) struct Contained(Option<Connection>);

impl Contained {
    pub(crate) fn new(world: Arc<World>, machine: Box<dyn Machine>, start: Start<Socket>) -> Self {
        Self(Some(Connection::new(world, machine, start)))
    }

    /// Lets go of the connection outside of any unwinding: a second panic, of [`Machine::lost`], would abort.
    fn end(&mut self) {
        let connection = self.0.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(connection)));
    }
}

impl Future for Contained {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(connection) = &mut self.0 else { return Poll::Ready(()) };
        match catch_unwind(AssertUnwindSafe(|| connection.poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) | Err(_) => {
                self.end();
                Poll::Ready(())
            }
        }
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        self.end();
    }
}

/// The fields are dropped in this order: the machine hears, the socket closes, its watch ends, the port is free.
struct Connection {
    conn: Conn,
    /// None while it is dialled; a supervisor never has one.
    socket: Option<Socket>,
    dialling: Option<Dialling>,
    /// What the last `advance` asked for.
    todo: Todo,
    /// The machine has to hear of something.
    due: bool,
    /// Reading is not known to block; an edge tells of more.
    readable: bool,
    /// Writing is not known to block.
    writable: bool,
    /// It ended in good order.
    closed: bool,
    /// What was done this turn, in bytes.
    work: usize,
    flag: Arc<Flag>,
    watch: Watch,
    place: Place<Tasks>,
}

impl Connection {
    fn new(world: Arc<World>, machine: Box<dyn Machine>, start: Start<Socket>) -> Self {
        let (flag, clock) = (Arc::default(), world.carrier().clock);
        let watch = Watch::new(&world.carrier().reactor, Arc::clone(&flag));
        let place = Place::new(Arc::clone(&world), machine.port(), Arc::clone(&flag), &start);
        let mut connection = Self {
            conn: Conn::new(machine, world),
            socket: None,
            dialling: None,
            todo: Todo::default(),
            due: true,
            readable: true,
            writable: true,
            closed: false,
            work: 0,
            flag,
            watch,
            place,
        };
        match start {
            Start::Supervisor => {}
            Start::Dial(dialling) => connection.dialling = Some(dial(dialling, clock)),
            Start::Accepted(socket) => connection.take_in(socket),
        }
        connection
    }

    /// Goes on with this socket.
    fn take_in(&mut self, socket: Socket) {
        self.place.is_connected();
        if self.watch.socket(&socket).is_err() {
            self.conn.broke();
        }
        self.socket = Some(socket);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.flag.register(cx.waker());
        if ready!(self.poll_dial(cx)).is_break() {
            return Poll::Ready(());
        }
        self.work = 0;
        loop {
            if (self.flag.take(RAISED) != 0) | mem::take(&mut self.due) {
                self.todo = self.conn.advance();
            }
            self.due = self.write() | self.shut_down();
            let heard = self.read();
            if mem::take(&mut self.todo.acknowledge) {
                self.socket.iter().for_each(Socket::acknowledge);
            }
            if let Some(how) = self.todo.close {
                self.closed = how == Close::Quietly;
                return Poll::Ready(());
            }
            self.work += ROUND_BYTES;
            if self.todo.again || self.work >= limits::TURN_BYTES {
                self.due = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !heard && !self.due && !self.is_ready() {
                return Poll::Pending;
            }
        }
    }

    /// Breaks off if there will be no connection.
    fn poll_dial(&mut self, cx: &mut Context<'_>) -> Poll<ControlFlow<()>> {
        let Some(dialling) = &mut self.dialling else { return Poll::Ready(ControlFlow::Continue(())) };
        match dialling.as_mut().poll(cx) {
            Poll::Pending => {
                // Only what is raised anew wakes; the machine runs first thing once there is a socket.
                self.flag.take(RAISED);
                let given_up = self.place.world().gives_up_dials();
                if given_up { Poll::Ready(ControlFlow::Break(())) } else { Poll::Pending }
            }
            Poll::Ready(Ok(socket)) => {
                self.dialling = None;
                self.take_in(socket);
                Poll::Ready(ControlFlow::Continue(()))
            }
            Poll::Ready(Err(why)) => {
                self.conn.dial_failed(why);
                Poll::Ready(ControlFlow::Break(()))
            }
        }
    }

    /// Writes what waits; whether the machine has to hear of it.
    fn write(&mut self) -> bool {
        if !self.todo.write || !self.writable {
            return false;
        }
        let output = self.conn.output();
        let offered = output.len();
        // A supervisor's output is gone.
        let written = self.socket.as_ref().map_or(Ok(offered), |socket| socket.write(output));
        self.work += *written.as_ref().unwrap_or(&0);
        let wrote = self.conn.wrote(offered, written);
        self.writable = !wrote.full;
        wrote.news || self.writable
    }

    /// Shuts the sending side if that is due; whether the machine has to hear of it.
    fn shut_down(&mut self) -> bool {
        if !self.todo.shutdown {
            return false;
        }
        self.conn.shut(self.socket.as_ref().map_or(Ok(()), Socket::shut_down));
        true
    }

    /// Reads once, and lets the machine hear what came; whether there is more to do.
    fn read(&mut self) -> bool {
        let wanted = self.todo.read && (self.readable || self.conn.is_deaf());
        let Some(socket) = self.socket.as_ref().filter(|_| wanted) else { return false };
        READ.with_borrow_mut(|buffer| {
            // A machine that panicked has not given it back, and one that passed it on gave another for it.
            buffer.clear();
            if buffer.capacity() != READ_BYTES {
                *buffer = Vec::with_capacity(READ_BYTES);
            }
            let read = socket.read(buffer);
            self.readable = match &read {
                // After the last edge there is none that would tell of an end that follows.
                Ok(_) => buffer.len() == buffer.capacity() || self.flag.has(ENDED),
                Err(error) => error.kind() == io::ErrorKind::Interrupted,
            };
            self.work += *read.as_ref().unwrap_or(&0);
            let Some(todo) = self.conn.heard(read, buffer) else { return self.readable };
            self.todo = todo;
            // It has heard of what was written as well.
            self.due = false;
            true
        })
    }

    /// Whether something can be done; if not, the flag wakes.
    fn is_ready(&mut self) -> bool {
        if let Some((at, _)) = self.todo.wake_at
            && let Some(at) = self.place.world().carrier().clock.instant(at)
        {
            self.watch.wake_at(at);
        }
        let edges = self.flag.take(READABLE | WRITABLE | BROKEN);
        self.readable |= edges & READABLE != 0;
        self.writable |= edges & WRITABLE != 0;
        let readable = self.todo.read && self.readable;
        let writable = self.todo.write && self.writable;
        if edges & BROKEN != 0 && !readable && self.socket.as_ref().is_some_and(Socket::is_broken) {
            self.conn.broke();
            self.due = true;
        }
        self.due |= self.watch.fired();
        self.due || readable || writable || self.flag.has(RAISED)
    }
}

impl Drop for Connection {
    /// Whatever did not end in good order is reset, so that the peer does not take a part for the whole.
    fn drop(&mut self) {
        if !self.closed {
            self.socket.iter().for_each(Socket::reset);
        }
    }
}
