//! A machine with its buffers.

use std::io;
use std::sync::Arc;

use crate::event::Event;
use crate::limits;
use crate::machine::{Cx, Dial, DialFault, Effects, End, Io, Lost, Machine, PortId};
use crate::time::{Instant, Now, Why};

/// What a runtime does for the connections of one process.
pub trait Outside: Send + Sync {
    /// Reads the clocks.
    fn now(&self) -> Now;
    /// Sets the sticky flag of `port` and lets its connection run; a port that is gone is ignored.
    fn wake(&self, port: PortId);
    /// Opens a connection and runs the machine on it, or tells the machine why not ([`Conn::could_not_open`]). The
    /// port can be woken from now on.
    fn dial(&self, dial: Dial);
    /// Something happened.
    fn event(&self, event: Event);
}

/// A machine with its buffers.
pub struct Conn {
    machine: Box<dyn Machine>,
    outside: Arc<dyn Outside>,
    io: Io,
    fx: Effects,
    phase: Phase,
    /// Writing failed.
    deaf: bool,
    lost: Lost,
}

/// ```text
/// Open ──▶ ShuttingDown ──▶ Lingering ──▶ Closed
///   └───── flushed; fault, abort ───────────▲
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// The machine runs, until what it ends with is flushed.
    Open { shut_down: bool },
    /// The output is out; the sending side is to be shut.
    ShuttingDown,
    /// Reads and discards what is still on its way.
    Lingering(Linger),
    /// The socket may be closed.
    Closed(Close),
}

/// How long a connection lingers: until the peer ends, [`limits::LINGER`] at most, and until a stretch of
/// [`limits::LINGER_STRETCH`] brings less than [`limits::LINGER_STRETCH_BYTES_MIN`]. The first stretch begins when the
/// sending side was shut; a peer that sends nothing from then on is let go at its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Linger {
    until: Instant,
    stretch_ends: Instant,
    /// What this stretch has brought.
    bytes: usize,
}

impl Linger {
    fn new(now: Instant) -> Self {
        Self { until: now + limits::LINGER, stretch_ends: now + limits::LINGER_STRETCH, bytes: 0 }
    }

    /// `count` bytes more were discarded; whether it goes on.
    fn goes_on(&mut self, count: usize, now: Instant) -> bool {
        self.bytes = self.bytes.saturating_add(count);
        if self.stretch_ends <= now {
            if self.bytes < limits::LINGER_STRETCH_BYTES_MIN {
                return false;
            }
            (self.stretch_ends, self.bytes) = (now + limits::LINGER_STRETCH, 0);
        }
        now < self.until
    }

    fn wake_at(&self) -> Instant {
        self.until.min(self.stretch_ends)
    }
}

/// How to let go of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Close {
    /// Closes it.
    Quietly,
    /// Resets it (SO_LINGER 0).
    Reset,
}

/// What a runtime does next with the socket of a [`Conn`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Todo {
    /// Input is wanted.
    pub read: bool,
    /// Output waits.
    pub write: bool,
    /// The sending side of the socket is to be shut.
    pub shutdown: bool,
    /// What was received is to be acknowledged at once, where the system can be told to.
    pub acknowledge: bool,
    /// There is more work: call `advance` again after others had their turn.
    pub again: bool,
    /// Call `advance` at this time at the latest.
    pub wake_at: Option<(Instant, Why)>,
    /// It is over: close the socket so, and drop the [`Conn`].
    pub close: Option<Close>,
}

/// What a write means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wrote {
    /// The machine has to hear of it.
    pub news: bool,
    /// The socket has no room for more.
    pub full: bool,
}

impl Conn {
    /// Puts a machine on a connection that just opened.
    pub fn new(machine: Box<dyn Machine>, outside: Arc<dyn Outside>) -> Self {
        Self {
            machine,
            outside,
            io: Io::default(),
            fx: Effects::default(),
            phase: Phase::Open { shut_down: false },
            deaf: false,
            lost: Lost::Dropped,
        }
    }

    /// Tells the machine of a dial that it failed.
    pub fn could_not_open(machine: Box<dyn Machine>, outside: Arc<dyn Outside>, why: DialFault) {
        Self::new(machine, outside).dial_failed(why);
    }

    /// The connection could not be opened; it is over.
    pub fn dial_failed(&mut self, why: DialFault) {
        self.finish(Close::Quietly, Lost::Dial(why));
    }

    /// The port under which this connection is woken.
    pub fn port(&self) -> PortId {
        self.machine.port()
    }

    /// Lets the machine make progress, delivers its effects, and says what to do with the socket.
    pub fn advance(&mut self) -> Todo {
        self.advance_on(&mut Vec::new())
    }

    /// The same on what was just read, which is left empty.
    pub fn advance_on(&mut self, read: &mut Vec<u8>) -> Todo {
        let borrowed = self.io.input.borrow(read);
        let todo = self.step();
        if borrowed {
            self.io.input.give_back(read);
        }
        self.io.input.release();
        read.clear();
        todo
    }

    fn step(&mut self) -> Todo {
        let now = self.outside.now();
        let mut todo = Todo::default();
        if let Phase::Open { shut_down } = self.phase {
            let result = self.machine.advance(&mut Cx { now, fx: &mut self.fx }, &mut self.io);
            self.deliver();
            match result {
                Ok(want) => {
                    // Whoever writes all of a request before it reads takes the answer once that is read.
                    let discards = want.end == Some(End::Linger);
                    if discards {
                        self.io.input.consume(self.io.input.len());
                    }
                    todo.read =
                        (discards || want.read && want.end != Some(End::Close)) && !self.io.input.ended();
                    todo.again = want.again;
                    todo.acknowledge = want.acknowledge;
                    todo.wake_at = want.wake_at;
                    let flushed = self.io.output.is_empty();
                    match want.end {
                        Some(End::Abort) => self.finish(Close::Reset, Lost::Ended),
                        Some(End::HalfClose) => todo.shutdown = flushed && !shut_down,
                        Some(End::Linger) if flushed && !self.io.input.ended() => {
                            self.phase = Phase::ShuttingDown
                        }
                        Some(End::Close | End::Linger) if flushed => self.finish(Close::Quietly, Lost::Ended),
                        Some(End::Close | End::Linger) | None => {}
                    }
                }
                Err(_) => self.finish(Close::Reset, Lost::Ended),
            }
        }
        self.wind_up(now, &mut todo);
        if self.deaf && !todo.read && todo.close.is_none() {
            self.broke();
            self.wind_up(now, &mut todo);
        }
        todo.write = !self.io.output.is_empty() && !self.deaf && todo.close.is_none();
        if !todo.again && !todo.write {
            self.io.output.release();
        }
        todo
    }

    /// The phases after the machine is done.
    fn wind_up(&mut self, now: Now, todo: &mut Todo) {
        if self.phase == Phase::ShuttingDown {
            *todo = Todo { shutdown: true, ..Todo::default() };
        }
        if let Phase::Lingering(linger) = &mut self.phase {
            let discarded = self.io.input.len();
            self.io.input.consume(discarded);
            if linger.goes_on(discarded, now.mono) && !self.io.input.ended() {
                let wake_at = Some((linger.wake_at(), Why::Linger));
                *todo = Todo { read: true, wake_at, ..Todo::default() };
            } else {
                self.finish(Close::Quietly, Lost::Ended);
            }
        }
        if let Phase::Closed(how) = self.phase {
            *todo = Todo { close: Some(how), ..Todo::default() };
        }
    }

    /// These bytes were read.
    pub fn received(&mut self, bytes: &[u8]) {
        self.io.input.push(bytes);
    }

    /// Lets the machine run on what came of a read that appended to `read`; none if nothing did. Most bytes are copied
    /// nowhere: `read` is left empty, perhaps with other memory or none, so it needs spare capacity before the next read.
    pub fn heard(&mut self, count: io::Result<usize>, read: &mut Vec<u8>) -> Option<Todo> {
        match count {
            Ok(0) => self.ended(),
            Ok(_) => return Some(self.advance_on(read)),
            // Nobody waits for what a peer says who is deaf.
            Err(error) if is_nothing(&error) && !(self.deaf && would_block(&error)) => return None,
            Err(_) => self.broke(),
        }
        Some(self.advance())
    }

    /// What came of a write that offered so many bytes of the output.
    pub fn wrote(&mut self, offered: usize, written: io::Result<usize>) -> Wrote {
        match written {
            Ok(count) => {
                self.sent(count);
                Wrote { news: true, full: count < offered }
            }
            Err(error) if is_nothing(&error) => Wrote { news: false, full: would_block(&error) },
            Err(_) => {
                self.write_failed();
                Wrote { news: true, full: false }
            }
        }
    }

    /// What came of shutting the socket's sending side.
    pub fn shut(&mut self, done: io::Result<()>) {
        match done {
            Ok(()) => self.has_shut_down(),
            Err(_) => self.broke(),
        }
    }

    /// The peer sends no more (FIN).
    pub fn ended(&mut self) {
        if self.deaf { self.broke() } else { self.io.input.end() }
    }

    /// Writing failed: the peer is deaf. What it said before is still heard, such as an early answer; the connection
    /// is over once nothing more comes or is wanted.
    pub fn write_failed(&mut self) {
        self.deaf = true;
    }

    /// Whether writing failed. A runtime that does not block reads what there is; once that would block it is over.
    pub fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// The bytes that wait to be written.
    pub fn output(&self) -> &[u8] {
        self.io.output.waiting()
    }

    /// How many bytes wait to be looked at, and to be written. For checks.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.io.input.len(), self.io.output.len())
    }

    /// The socket took `count` bytes of the output.
    pub fn sent(&mut self, count: usize) {
        self.io.output.take(count);
    }

    /// The sending side of the socket is shut.
    pub fn has_shut_down(&mut self) {
        match &mut self.phase {
            Phase::Open { shut_down } => *shut_down = true,
            Phase::ShuttingDown => {
                self.phase = Phase::Lingering(Linger::new(self.outside.now().mono));
            }
            _ => {}
        }
    }

    /// The socket broke; the connection is over.
    pub fn broke(&mut self) {
        if !matches!(self.phase, Phase::Closed(_)) {
            self.finish(Close::Reset, Lost::Reset);
        }
    }

    fn finish(&mut self, how: Close, why: Lost) {
        self.phase = Phase::Closed(how);
        self.lost = why;
        self.io.output.discard();
    }

    fn deliver(&mut self) {
        deliver(&mut self.fx, &*self.outside);
    }
}

/// Nothing happened: the socket would block, or a signal came in between.
fn is_nothing(error: &io::Error) -> bool {
    would_block(error) || error.kind() == io::ErrorKind::Interrupted
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// Carries effects out: dials first, so that a port exists before it is woken.
pub(super) fn deliver(fx: &mut Effects, outside: &dyn Outside) {
    for dial in fx.dials.drain(..) {
        outside.dial(dial);
    }
    for port in fx.wakes.drain(..) {
        outside.wake(port);
    }
    for event in fx.events.drain(..) {
        outside.event(event);
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        let now = self.outside.now();
        self.machine.lost(&mut Cx { now, fx: &mut self.fx }, self.lost);
        self.deliver();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::fault::Fault;
    use crate::machine::Want;

    #[derive(Default)]
    struct Clock(Mutex<Now>);

    impl Clock {
        fn forward(&self, by: Duration) {
            let mut now = self.0.lock().expect("no test panics under this lock");
            now.mono = now.mono + by;
        }
    }

    impl Outside for Clock {
        fn now(&self) -> Now {
            *self.0.lock().expect("no test panics under this lock")
        }
        fn wake(&self, _: PortId) {}
        fn dial(&self, _: Dial) {}
        fn event(&self, _: Event) {}
    }

    /// Says something at once and ends.
    struct Farewell {
        end: End,
        said: bool,
        told: Arc<Mutex<Vec<Lost>>>,
    }

    impl Machine for Farewell {
        fn port(&self) -> PortId {
            PortId { index: 0, generation: 0 }
        }
        fn advance(&mut self, _: &mut Cx<'_>, io: &mut Io) -> Result<Want, Fault> {
            if !std::mem::replace(&mut self.said, true) {
                io.output.tail().extend_from_slice(b"farewell");
            }
            Ok(Want { read: true, end: Some(self.end), ..Want::default() })
        }
        fn lost(&mut self, _: &mut Cx<'_>, why: Lost) {
            self.told.lock().expect("no test panics under this lock").push(why);
        }
    }

    fn ending(end: End) -> (Conn, Arc<Clock>, Arc<Mutex<Vec<Lost>>>) {
        let (clock, told) = (Arc::new(Clock::default()), Arc::default());
        let machine = Box::new(Farewell { end, said: false, told: Arc::clone(&told) });
        (Conn::new(machine, clock.clone()), clock, told)
    }

    #[test]
    fn a_connection_ends_once_its_output_is_out_and_its_machine_is_asked_until_then() {
        let (mut conn, _, told) = ending(End::Close);
        assert_eq!(conn.advance(), Todo { write: true, ..Todo::default() });
        conn.sent(1);
        assert_eq!((conn.advance().write, conn.output()), (true, &b"arewell"[..]));
        conn.sent(7);
        assert_eq!(conn.advance(), Todo { close: Some(Close::Quietly), ..Todo::default() });
        drop(conn);
        assert_eq!(*told.lock().unwrap(), [Lost::Ended]);
    }

    #[test]
    fn lingering_shuts_down_after_the_output_and_discards_until_the_peer_ends() {
        let (mut conn, clock, told) = ending(End::Linger);
        assert!(conn.advance().write);
        conn.sent(8);
        assert_eq!(conn.advance(), Todo { shutdown: true, ..Todo::default() });
        conn.has_shut_down();
        let look_at = clock.now().mono + limits::LINGER_STRETCH;
        conn.received(b"unwanted");
        let lingering = Todo { read: true, wake_at: Some((look_at, Why::Linger)), ..Todo::default() };
        assert_eq!(conn.advance(), lingering);
        conn.ended();
        assert_eq!(conn.advance().close, Some(Close::Quietly));
        drop(conn);
        assert_eq!(*told.lock().unwrap(), [Lost::Ended]);
    }

    fn lingering() -> (Conn, Arc<Clock>) {
        let (mut conn, clock, _) = ending(End::Linger);
        conn.advance();
        conn.sent(8);
        conn.advance();
        conn.has_shut_down();
        assert_eq!(conn.advance().close, None);
        (conn, clock)
    }

    #[test]
    fn lingering_goes_on_while_each_stretch_brings_enough_whatever_comes_in_all_but_not_for_ever() {
        const STEP: Duration = Duration::from_secs(1);
        let steps = |secs: Duration| secs.as_secs();
        for (bytes_per_sec, lasts) in [
            (0, limits::LINGER_STRETCH),
            (1023, limits::LINGER_STRETCH),
            (1024, limits::LINGER),
            (4 << 20, limits::LINGER),
        ] {
            let (mut conn, clock) = lingering();
            for nth in 1..=steps(lasts) {
                assert_eq!(conn.advance().close, None, "{bytes_per_sec} B/s end it after {nth} s");
                conn.received(&vec![0; bytes_per_sec]);
                assert_eq!((conn.advance().read, conn.held().0), (true, 0), "nothing is kept");
                clock.forward(STEP);
            }
            assert_eq!(conn.advance().close, Some(Close::Quietly), "{bytes_per_sec} B/s");
        }
    }

    #[test]
    fn lingering_ends_at_the_end_of_a_stretch_in_which_too_little_came() {
        let (mut conn, clock) = lingering();
        conn.received(&vec![0; limits::LINGER_STRETCH_BYTES_MIN]);
        clock.forward(limits::LINGER_STRETCH);
        assert_eq!(conn.advance().close, None);
        clock.forward(limits::LINGER_STRETCH);
        assert_eq!(conn.advance().close, Some(Close::Quietly));
    }

    #[test]
    fn what_comes_before_a_last_answer_is_out_is_read_and_discarded() {
        let (mut conn, ..) = ending(End::Linger);
        conn.received(b"still sending");
        assert_eq!(conn.advance(), Todo { read: true, write: true, ..Todo::default() });
        assert_eq!(conn.held().0, 0);
        conn.ended();
        assert_eq!(conn.advance(), Todo { write: true, ..Todo::default() });
        conn.sent(8);
        assert_eq!(conn.advance().close, Some(Close::Quietly));
    }

    #[test]
    fn what_a_deaf_peer_said_is_heard_and_then_it_is_over() {
        let (mut conn, _, told) = ending(End::HalfClose);
        assert!(conn.advance().write);
        conn.write_failed();
        assert_eq!(conn.advance(), Todo { read: true, ..Todo::default() });
        conn.received(b"early");
        assert_eq!(conn.advance(), Todo { read: true, ..Todo::default() });
        conn.ended();
        assert_eq!(conn.advance().close, Some(Close::Reset));
        drop(conn);
        assert_eq!(*told.lock().unwrap(), [Lost::Reset]);

        let (mut conn, _, _) = ending(End::Close);
        conn.advance();
        conn.write_failed();
        assert_eq!(conn.advance().close, Some(Close::Reset), "nothing more is wanted of it");
    }

    /// Takes whole lines.
    struct Lines(Arc<Mutex<Vec<Vec<u8>>>>);

    impl Machine for Lines {
        fn port(&self) -> PortId {
            PortId { index: 0, generation: 0 }
        }
        fn advance(&mut self, _: &mut Cx<'_>, io: &mut Io) -> Result<Want, Fault> {
            while let Some(end) = io.input.unread().iter().position(|byte| *byte == b'\n') {
                self.0
                    .lock()
                    .expect("no test panics under this lock")
                    .push(io.input.unread()[..end].to_vec());
                io.input.consume(end + 1);
            }
            Ok(Want { read: true, ..Want::default() })
        }
        fn lost(&mut self, _: &mut Cx<'_>, _: Lost) {}
    }

    #[test]
    fn what_is_read_is_borrowed_and_what_is_left_unread_is_kept() {
        let text = b"one\ntwo\n\nthree\nand more";
        for cuts in [1, 2, 3, 5, 9, text.len()] {
            let lines = Arc::default();
            let mut conn = Conn::new(Box::new(Lines(Arc::clone(&lines))), Arc::new(Clock::default()));
            let mut read = Vec::with_capacity(100);
            let memory = read.as_ptr();
            for part in text.chunks(cuts) {
                read.extend_from_slice(part);
                assert!(conn.heard(Ok(part.len()), &mut read).unwrap().read);
                assert_eq!((read.as_ptr(), read.len(), read.capacity()), (memory, 0, 100));
            }
            let whole: [&[u8]; 4] = [b"one", b"two", b"", b"three"];
            assert_eq!((&lines.lock().unwrap()[..], conn.held().0), (&whole.map(<[u8]>::to_vec)[..], 8));
            assert_eq!(conn.io.input.received(), text.len() as u64);
        }
    }

    #[test]
    fn what_came_of_a_read_or_a_write_is_news_unless_it_is_nothing() {
        let (mut conn, ..) = ending(End::HalfClose);
        assert!(conn.advance().write);
        for (nothing, full) in [(io::ErrorKind::WouldBlock, true), (io::ErrorKind::Interrupted, false)] {
            assert_eq!(conn.wrote(8, Err(nothing.into())), Wrote { news: false, full });
            assert_eq!(conn.heard(Err(nothing.into()), &mut Vec::new()), None);
        }
        assert_eq!(conn.wrote(8, Ok(3)), Wrote { news: true, full: true });
        assert_eq!(conn.wrote(4, Ok(4)), Wrote { news: true, full: false }, "all that was offered");
        assert_eq!(conn.output(), b"l");
        assert!(conn.heard(Ok(4), &mut b"news".to_vec()).is_some() && conn.held().0 == 4);
        assert_eq!(conn.wrote(1, Err(io::ErrorKind::BrokenPipe.into())), Wrote { news: true, full: false });
        assert!(conn.is_deaf());
        assert_eq!(conn.advance(), Todo { read: true, ..Todo::default() }, "a deaf peer is still heard");
        assert_eq!(conn.heard(Err(io::ErrorKind::Interrupted.into()), &mut Vec::new()), None);
        let todo = conn.heard(Err(io::ErrorKind::WouldBlock.into()), &mut Vec::new());
        assert_eq!(todo.and_then(|todo| todo.close), Some(Close::Reset), "nobody waits for a deaf peer");

        let (mut conn, ..) = ending(End::HalfClose);
        conn.shut(Err(io::ErrorKind::NotConnected.into()));
        assert_eq!(conn.advance().close, Some(Close::Reset));
    }

    #[test]
    fn a_machine_hears_once_why_its_connection_is_gone() {
        let (conn, _, dropped) = ending(End::Close);
        drop(conn);
        assert_eq!(*dropped.lock().unwrap(), [Lost::Dropped]);

        let (mut conn, _, broke) = ending(End::Close);
        conn.advance();
        conn.broke();
        conn.broke();
        assert_eq!(conn.advance(), Todo { close: Some(Close::Reset), ..Todo::default() });
        drop(conn);
        assert_eq!(*broke.lock().unwrap(), [Lost::Reset]);

        let (mut conn, _, unopened) = ending(End::Close);
        conn.dial_failed(DialFault::Refused);
        drop(conn);
        assert_eq!(*unopened.lock().unwrap(), [Lost::Dial(DialFault::Refused)]);
    }
}
