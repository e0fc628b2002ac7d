//! One connection: a future that moves bytes between its socket and its [`Conn`], and else waits.
//!
//! ```text
//! ┌▶ woken, or something moved? ─▶ advance (the flag is lowered before)
//! │  write, shut down, read: what is wanted and is not known to block
//! │  to be closed? ─▶ done            more work, or enough for one turn? ─▶ let others run ─┐
//! └─ something moved, or ready: readable, writable, woken, deadline ◀── else wait ◀──────────┘
//! ```
//! A socket is tried before it is waited for, and after a short read or write it is known to block: that saves the
//! system calls. It is watched for readability also while its machine wants no input, as long as nothing is unread:
//! so a reset is noticed early, and most waits need no new registration.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::mem;
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use async_io::{Async, Timer};
use gesher_core::drive::{Close, Conn, Place, Start, Todo};
use gesher_core::limits;
use gesher_core::machine::Machine;

use crate::dial::{Dialling, dial};
use crate::flag::Flag;
use crate::socket::Socket;
use crate::tasks::{Tasks, World};

/// What one read takes at most.
const READ_BYTES: usize = 64 * 1024;
/// What a round is counted as beside its bytes, so that many small ones end a turn too.
const ROUND_BYTES: usize = 4096;

thread_local! {
    /// Every read of a thread goes through here, so that idle connections hold no buffer.
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// A connection whose panics stay its own.
pub(crate) struct Contained(Option<Connection>);

impl Contained {
    pub(crate) fn new(world: Arc<World>, machine: Box<dyn Machine>, start: Start<TcpStream>) -> Self {
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

/// The fields are dropped in this order: the machine hears, the socket closes, the port is free.
struct Connection {
    conn: Conn,
    socket: Socket,
    dialling: Option<Dialling>,
    /// What the last `advance` asked for.
    todo: Todo,
    /// The machine has to hear of something.
    due: bool,
    input: Input,
    /// Writing is not known to block.
    writable: bool,
    /// It ended in good order.
    closed: bool,
    timer: Timer,
    /// When the timer fires: the earliest deadline since it last did. A later one does not move it, since most
    /// deadlines do move, and waking early is harmless.
    fires_at: Option<Instant>,
    /// What was done this turn, in bytes.
    work: usize,
    flag: Arc<Flag>,
    place: Place<Tasks>,
}

/// What is known of the input in the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Unknown,
    /// All was read; there may be more, which is watched for.
    Drained,
    /// There is something: bytes, an end, or an error.
    Waiting,
    /// The peer sends no more.
    Ended,
}

impl Connection {
    fn new(world: Arc<World>, machine: Box<dyn Machine>, start: Start<TcpStream>) -> Self {
        let (flag, clock) = (Arc::default(), world.carrier().clock);
        let place = Place::new(Arc::clone(&world), machine.port(), Arc::clone(&flag), &start);
        let mut conn = Conn::new(machine, world);
        let (mut socket, mut dialling) = (Socket::Nowhere, None);
        match start {
            Start::Supervisor => {}
            Start::Dial(to, timeout) => dialling = Some(dial(to, timeout, clock)),
            Start::Accepted(stream) => match Async::new(stream) {
                Ok(stream) => socket = Socket::Tcp(stream),
                Err(_) => conn.broke(),
            },
        }
        Self {
            conn,
            socket,
            dialling,
            todo: Todo::default(),
            due: true,
            input: Input::Unknown,
            writable: true,
            closed: false,
            timer: Timer::never(),
            fires_at: None,
            work: 0,
            flag,
            place,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.flag.register(cx.waker());
        if self.dialling.is_some() && ready!(self.poll_dial(cx)).is_break() {
            return Poll::Ready(());
        }
        self.work = 0;
        loop {
            if self.flag.lower() | mem::take(&mut self.due) {
                self.todo = self.conn.advance();
            }
            self.due = self.write() | self.shut_down() | self.read();
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
            if !self.due {
                ready!(self.wait(cx));
            }
        }
    }

    /// Breaks off if there will be no connection.
    fn poll_dial(&mut self, cx: &mut Context<'_>) -> Poll<ControlFlow<()>> {
        let Some(dialling) = &mut self.dialling else { return Poll::Ready(ControlFlow::Continue(())) };
        match dialling.as_mut().poll(cx) {
            Poll::Pending if self.place.world().gives_up_dials() => Poll::Ready(ControlFlow::Break(())),
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(socket)) => {
                self.socket = socket;
                self.dialling = None;
                self.place.is_connected();
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
        match self.socket.write(output) {
            Ok(count) => {
                self.writable = count == output.len();
                self.work += count;
                self.conn.sent(count);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                false
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(_) => {
                self.conn.write_failed();
                true
            }
        }
    }

    /// Shuts the sending side if that is due; whether the machine has to hear of it.
    fn shut_down(&mut self) -> bool {
        if !self.todo.shutdown {
            return false;
        }
        match self.socket.shut_down() {
            Ok(()) => self.conn.has_shut_down(),
            Err(_) => self.conn.broke(),
        }
        true
    }

    /// Reads once; whether the machine has to hear of it.
    fn read(&mut self) -> bool {
        let may_block = matches!(self.input, Input::Drained | Input::Ended) && !self.conn.is_deaf();
        if !self.todo.read || may_block {
            return false;
        }
        READ.with_borrow_mut(|buffer| match self.socket.read(buffer) {
            Ok(0) => {
                self.input = Input::Ended;
                self.conn.ended();
                true
            }
            Ok(count) => {
                self.input = if count == buffer.len() { Input::Unknown } else { Input::Drained };
                self.work += count;
                self.conn.received(&buffer[..count]);
                true
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.conn.is_deaf() => {
                self.input = Input::Drained;
                false
            }
            Err(_) => self.broke(),
        })
    }

    /// Waits until something can be done.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ready = self.flag.is_raised();
        let watched = matches!(self.input, Input::Unknown | Input::Drained);
        if watched && self.socket.poll_readable(cx).is_ready() {
            self.input = Input::Waiting;
            ready |= self.todo.read || (self.socket.is_broken() && self.broke());
        }
        if self.todo.write && !self.writable && self.socket.poll_writable(cx).is_ready() {
            self.writable = true;
            ready = true;
        }
        if self.is_time(cx) {
            self.due = true;
        }
        if ready || self.due { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether the timer fired; sets it if the machine's deadline is earlier.
    fn is_time(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some((at, _)) = self.todo.wake_at
            && let Some(at) = self.place.world().carrier().clock.instant(at)
            && self.fires_at.is_none_or(|fires_at| at < fires_at)
        {
            self.timer.set_at(at);
            self.fires_at = Some(at);
        }
        let fired = self.fires_at.is_some() && Pin::new(&mut self.timer).poll(cx).is_ready();
        if fired {
            self.fires_at = None;
        }
        fired
    }

    /// The transport broke, and the machine has to hear of it.
    fn broke(&mut self) -> bool {
        self.conn.broke();
        self.due = true;
        true
    }
}

impl Drop for Connection {
    /// Whatever did not end in good order is reset, so that the peer does not take a part for the whole.
    fn drop(&mut self) {
        if !self.closed {
            self.socket.reset();
        }
    }
}
