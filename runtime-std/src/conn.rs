//! One connection: a machine, a socket, and the threads around them.
//!
//! ```text
//! reader: ┌▶ read ─▶ wait until it is wanted ─▶ hand over ─▶ turn ─▶ serve whom that raised ─┐
//!         └──────────────────────────────────────────────────────────────────────────────────┘
//! writer: ┌▶ wait until the socket is full ─▶ wait until it has room ─▶ turn ─▶ serve ─┐
//!         └────────────────────────────────────────────────────────────────────────────┘
//! turn:   advance ─▶ output, and the socket has room? write it without the lock ─▶ again
//! ```
//! The turn that finds the connection over takes the machine out, lets go of the socket and wakes the threads; the last
//! one closes the socket.

use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::{self, Thread};
use std::time::Instant;

use gesher_core::drive::{Close, Conn, Flag, Place, Start, Todo};
use gesher_core::limits;
use gesher_core::machine::{DialFault, Machine};

use crate::dial::dial;
use crate::serve::{later, serve, serving};
use crate::system::{Clock, Socket, spawn};
use crate::threads::{Threads, World, lock};
use crate::watch::Watch;

/// What one read takes at most, and what is read ahead.
const READ_BYTES: usize = 16 * 1024;
/// The same of a connection whose last reads were full, until one takes no more than [`SMALL_BYTES`].
const BULK_BYTES: usize = 64 * 1024;
const SMALL_BYTES: usize = 4 * 1024;
/// What is taken out at once to be written.
const WRITE_BYTES: usize = 64 * 1024;

/// Somebody has mail for it.
const RAISED: u8 = 1;
/// The watch looked at it, and will not before it is asked again.
const DUE: u8 = 1 << 1;

pub(crate) struct Connection {
    /// None once it is over.
    state: Mutex<Option<State>>,
    /// What it is to look at: sticky.
    flags: AtomicU8,
    watch: Arc<Watch>,
    /// None while it is dialled; a supervisor never has one.
    socket: OnceLock<Socket>,
    /// The thread that dials and then reads; a supervisor has none.
    reader: OnceLock<Thread>,
    /// There is none before the socket was full for the first time.
    writer: OnceLock<Thread>,
}

struct State {
    conn: Conn,
    /// What the last `advance` asked for.
    todo: Todo,
    /// The reader has something that the machine did not want.
    reader_waits: bool,
    output: Output,
    /// When the watch looks at it.
    looked_at: Option<Instant>,
    place: Place<Threads>,
}

/// Who may write. One at a time, so that the bytes stay in order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Output {
    /// Whoever has something.
    Open,
    /// Somebody does.
    Busy,
    /// The writer, once the socket has room.
    Full,
}

impl Flag for Connection {
    fn raise(self: &Arc<Self>) {
        self.flags.fetch_or(RAISED, Ordering::Release);
        if !later(self) {
            self.hand_to_watch();
        }
    }
}

impl Connection {
    pub(crate) fn new(world: Arc<World>, machine: Box<dyn Machine>, start: &Start<Socket>) -> Arc<Self> {
        let connection = Arc::new(Self {
            state: Mutex::new(None),
            flags: AtomicU8::new(0),
            watch: Arc::clone(&world.carrier().watch),
            socket: OnceLock::new(),
            reader: OnceLock::new(),
            writer: OnceLock::new(),
        });
        let place = Place::new(Arc::clone(&world), machine.port(), Arc::clone(&connection), start);
        *lock(&connection.state) = Some(State {
            conn: Conn::new(machine, world),
            todo: Todo::default(),
            reader_waits: false,
            output: Output::Open,
            looked_at: None,
            place,
        });
        connection
    }

    /// Lets it begin, in a thread of its own if it has a socket. Where the system has none left it is over.
    pub(crate) fn start(self: Arc<Self>, start: Start<Socket>, clock: Clock) {
        if matches!(start, Start::Supervisor) {
            return self.raise();
        }
        let dialled = matches!(start, Start::Dial(_));
        let reader = Arc::clone(&self);
        if spawn("reader", move || serving(|| reader.contained(|| reader.run(start, clock)))).is_err() {
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

    /// Lets the machine run, unless another thread does.
    pub(crate) fn serve(self: &Arc<Self>) {
        self.contained(|| {
            fence(Ordering::SeqCst);
            if self.flags.load(Ordering::Relaxed) != 0
                && let Ok(state) = self.state.try_lock()
            {
                self.turn(state, false);
            }
        });
    }

    /// Lets the watch serve it.
    pub(crate) fn hand_to_watch(self: &Arc<Self>) {
        self.watch.look(Instant::now(), self);
    }

    /// The watch looks at it now.
    pub(crate) fn look_after(self: &Arc<Self>) {
        self.flags.fetch_or(DUE, Ordering::Release);
        self.serve();
    }

    /// A panic costs this connection and nothing else.
    fn contained(&self, work: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            self.cut();
        }
    }

    /// The reader's thread, from the first to the last.
    fn run(self: &Arc<Self>, start: Start<Socket>, clock: Clock) {
        let _ = self.reader.set(thread::current());
        let socket = match start {
            Start::Supervisor => return,
            Start::Accepted(socket) => socket,
            Start::Dial(dialling) => match dial(self, dialling, clock) {
                Some(Ok(socket)) => socket,
                Some(Err(why)) => return self.finish(|conn| conn.dial_failed(why)),
                None => return self.cut(),
            },
        };
        let Ok(mut guard) = self.state.lock() else { return };
        let Some(state) = &mut *guard else { return };
        state.place.is_connected();
        // Whoever ends the connection does so under this lock: now there is something to shut down.
        let socket = self.socket.get_or_init(|| socket);
        if self.turn(guard, true) {
            serve();
            self.keep_reading(socket);
        }
    }

    /// Whether its dial is still of use to anybody. It is woken once that may have changed.
    pub(crate) fn wants_dial(self: &Arc<Self>) -> bool {
        self.look(|state| !state.place.world().gives_up_dials()).unwrap_or(false)
    }

    /// Lets its reader look again at what it waits for.
    pub(crate) fn wake_reader(&self) {
        self.reader.get().inspect(|reader| reader.unpark());
    }

    fn keep_reading(self: &Arc<Self>, socket: &Socket) {
        let mut buffer = Vec::new();
        let mut capacity = READ_BYTES;
        loop {
            // The machine may have passed it on, and given another for it.
            if buffer.capacity() != capacity {
                buffer = Vec::with_capacity(capacity);
            }
            let read = socket.read(&mut buffer);
            let count = read.as_ref().ok().copied();
            if !self.hand_over(read, &mut buffer) {
                return;
            }
            serve();
            capacity = match count {
                Some(0) => break,
                Some(count) if count == capacity => BULK_BYTES,
                Some(..=SMALL_BYTES) => READ_BYTES,
                _ => capacity,
            };
        }
        drop(buffer);
        self.keep_waiting(socket);
    }

    /// The peer sends no more, but it may yet be gone: a reset is not to go unnoticed because nobody reads or writes.
    fn keep_waiting(self: &Arc<Self>, socket: &Socket) {
        socket.wait_for_end();
        if socket.is_broken()
            && let Ok(mut guard) = self.state.lock()
        {
            guard.iter_mut().for_each(|state| state.conn.broke());
            self.turn(guard, true);
        }
    }

    /// Hands over what was read once it is wanted, and a failure at once; false if the connection is over.
    fn hand_over(self: &Arc<Self>, read: io::Result<usize>, bytes: &mut Vec<u8>) -> bool {
        loop {
            // A lock that is poisoned is somebody's who panicked, and who ends the connection.
            let Ok(mut guard) = self.state.lock() else { return false };
            let Some(state) = &mut *guard else { return false };
            if state.todo.read || read.is_err() {
                if let Some(todo) = state.conn.heard(read, bytes) {
                    state.todo = todo;
                    state.shut_down(self.socket.get());
                }
                return self.turn(guard, false);
            }
            state.reader_waits = true;
            self.unlock(guard);
            if !serve() {
                thread::park();
            }
        }
    }

    fn keep_writing(self: &Arc<Self>) {
        // Nobody else finds the socket full before this has seen to it: so there is one writer.
        let _ = self.writer.set(thread::current());
        let Some(socket) = self.socket.get() else { return };
        loop {
            match self.look(|state| state.output) {
                None => return,
                Some(_) if serve() => {}
                Some(Output::Full) => {
                    socket.wait_for_room();
                    let Ok(mut guard) = self.state.lock() else { return };
                    guard.iter_mut().for_each(|state| state.output = Output::Open);
                    self.turn(guard, false);
                    serve();
                }
                Some(_) => thread::park(),
            }
        }
    }

    /// Looks at its state and lets nothing run; none if it is over.
    fn look<T>(self: &Arc<Self>, at: impl FnOnce(&State) -> T) -> Option<T> {
        let guard = lock(&self.state);
        let seen = guard.as_ref().map(at);
        self.unlock(guard);
        seen
    }

    /// Unlocks it, and raises it again for whoever came to serve it meanwhile. Every lock that leaves a state behind ends
    /// so, however short it was held, or a wake is lost.
    fn unlock(self: &Arc<Self>, guard: MutexGuard<'_, Option<State>>) {
        drop(guard);
        fence(Ordering::SeqCst);
        if self.flags.load(Ordering::Relaxed) != 0 {
            self.raise();
        }
    }

    /// Lets the machine run if it is `due` or was raised, and writes, as long as that moves something; false if the
    /// connection is over.
    fn turn<'a>(self: &'a Arc<Self>, mut guard: MutexGuard<'a, Option<State>>, mut due: bool) -> bool {
        let (mut work, mut full) = (0, false);
        loop {
            let Some(state) = &mut *guard else { return false };
            let flags = self.flags.swap(0, Ordering::Acquire);
            if flags & DUE != 0 {
                state.looked_at = None;
            }
            if state.place.is_dialling() {
                self.unlock(guard);
                self.wake_reader();
                return true;
            }
            if due || flags != 0 {
                state.advance(self.socket.get());
            }
            if let Some(how) = state.todo.close {
                let state = guard.take();
                drop(guard);
                state.into_iter().for_each(|state| self.release(state, how));
                return false;
            }
            if !state.todo.write || state.output != Output::Open || work >= limits::TURN_BYTES {
                break;
            }
            let output = state.conn.output();
            let chunk = output[..output.len().min(WRITE_BYTES)].to_vec();
            work += chunk.len();
            state.output = Output::Busy;
            drop(guard);
            // A supervisor's output is gone.
            let written = self.socket.get().map_or(Ok(chunk.len()), |socket| socket.write(&chunk));
            let Ok(again) = self.state.lock() else { return false };
            guard = again;
            let Some(state) = &mut *guard else { return false };
            let wrote = state.conn.wrote(chunk.len(), written);
            (due, full) = (wrote.news, wrote.full);
            state.output = if full { Output::Full } else { Output::Open };
        }
        let Some(state) = &mut *guard else { return false };
        self.keep_deadline(state);
        let again = state.todo.again || work >= limits::TURN_BYTES;
        let reader_waits = state.todo.read && mem::take(&mut state.reader_waits);
        if again {
            self.flags.fetch_or(RAISED, Ordering::Relaxed);
        }
        self.unlock(guard);
        if reader_waits {
            self.wake_reader();
        }
        if full {
            self.wake_writer();
        }
        true
    }

    /// Lets the watch look at it at its deadline, or earlier if it is to do so already: most deadlines move away before
    /// they are reached, and to look too early is harmless.
    fn keep_deadline(self: &Arc<Self>, state: &mut State) {
        let deadline = state.todo.wake_at.and_then(|(at, _)| state.place.world().carrier().clock.instant(at));
        if let Some(at) = deadline
            && state.looked_at.is_none_or(|looked_at| at < looked_at)
        {
            state.looked_at = Some(at);
            self.watch.look(at, self);
        }
    }

    /// The socket is full: the writer waits until it has room.
    fn wake_writer(self: &Arc<Self>) {
        if let Some(writer) = self.writer.get() {
            return writer.unpark();
        }
        let writer = Arc::clone(self);
        if spawn("writer", move || serving(|| writer.contained(|| writer.keep_writing()))).is_err() {
            self.cut();
        }
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
        if let Some(socket) = self.socket.get() {
            socket.let_go(how);
        }
        self.wake_reader();
        self.writer.get().inspect(|writer| writer.unpark());
        self.watch.forget(self);
        drop(place);
    }
}

/// Resets them all. No machine runs any more when the first is told, or one would still answer for what another lost.
pub(crate) fn cut_all(connections: &[Arc<Connection>]) {
    let states: Vec<_> = connections.iter().map(|connection| lock(&connection.state).take()).collect();
    for (connection, state) in connections.iter().zip(states) {
        state.into_iter().for_each(|state| connection.release(state, Close::Reset));
    }
}

impl State {
    /// Lets the machine run.
    fn advance(&mut self, socket: Option<&Socket>) {
        self.todo = self.conn.advance();
        self.shut_down(socket);
        if self.todo.acknowledge {
            socket.iter().for_each(|socket| socket.acknowledge());
        }
    }

    /// Shuts the sending side down where that is due.
    fn shut_down(&mut self, socket: Option<&Socket>) {
        while self.todo.shutdown {
            self.conn.shut(socket.map_or(Ok(()), Socket::shut_down));
            self.todo = self.conn.advance();
        }
    }
}
