//! The one trait: the state of one connection, with bytes, time and mail in, and bytes, wishes and effects out.
//!
//! # The contract with a driver
//! [`crate::drive::Conn`] keeps it, so that a runtime only moves bytes:
//! - [`Machine::advance`] is called after each read, each write that took bytes (credit depends on it), each wake,
//!   each deadline and each `again`. It is level-triggered: calling it again with nothing changed changes nothing.
//! - [`Effects`] are delivered right after `advance`, before any socket call.
//! - A wake is a sticky flag of a port. Whoever posts mail posts first and then wakes; a driver clears the flag
//!   *before* it calls `advance`. So no wake-up is lost, whatever the interleaving.
//! - [`Machine::lost`] is called exactly once, last, whatever ended the connection; after a panic too.
//!
//! A machine holds its process's hub itself, typed by its role (`GatewayHub` or
//! `ConnectorHub`); what changes from call to call comes in [`Cx`].

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::buf::{RecvBuf, SendBuf};
use crate::event::Event;
use crate::fault::Fault;
use crate::limits;
use crate::time::{Instant, Now, Timers, Why};

/// The state of one connection.
pub trait Machine: Send {
    /// The port under which others wake this machine.
    fn port(&self) -> PortId;

    /// Makes all the progress that the bytes, room, mail and time at hand allow.
    /// Calling it again with nothing changed changes nothing.
    ///
    /// A fault ends the connection with an abort (RST), so that the other side can tell a broken message from a whole
    /// one; whatever a machine can still say to its peer it appends to the output and asks for by [`Want::end`].
    fn advance(&mut self, cx: &mut Cx<'_>, io: &mut Io) -> Result<Want, Fault>;

    /// The transport is gone, or could not be had: releases everything held in the hub.
    fn lost(&mut self, cx: &mut Cx<'_>, why: Lost);
}

/// What a machine wants next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Want {
    /// More input. `false` leaves bytes in the kernel: that is backpressure.
    pub read: bool,
    /// A soft deadline with its reason; waking early is harmless. Never in the past without `again`.
    pub wake_at: Option<(Instant, Why)>,
    /// The work budget of this turn ran out: call again, after others had their turn.
    pub again: bool,
    /// What came is to be acknowledged now (TCP_QUICKACK): its sender may keep the rest of a message back until then.
    pub acknowledge: bool,
    /// How to end, after the output was flushed. Until it is, `advance` is called as before, and says so again.
    pub end: Option<End>,
}

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Sends no more (FIN) but goes on reading; the machine goes on.
    HalfClose,
    /// Closes both ways.
    Close,
    /// Half-closes, reads and discards for a while, closes: a plain close with unread input makes the kernel send a
    /// reset that destroys the answer on its way.
    Linger,
    /// Resets (RST), without flushing: the peer must not take what it got for a whole message.
    Abort,
}

/// Why a connection is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    /// It ended as its machine asked.
    Ended,
    /// The transport broke: reset by the peer, or a failed write.
    Reset,
    /// It could not be opened.
    Dial(DialFault),
    /// The process stops, or the connection's task panicked.
    Dropped,
}

/// Why a dial failed, as far as anyone can act on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DialFault {
    /// Nothing listens there.
    Refused,
    /// The name does not resolve.
    NoSuchName,
    /// No answer in time.
    TimedOut,
    /// No route, no permission, no descriptors: the rest.
    Unreachable,
}

impl fmt::Display for DialFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DialFault::Refused => "connection refused",
            DialFault::NoSuchName => "no such host name",
            DialFault::TimedOut => "no answer in time",
            DialFault::Unreachable => "unreachable",
        })
    }
}

/// What a call into a machine is given and what it leaves behind.
#[derive(Debug)]
pub struct Cx<'a> {
    /// What the clocks say.
    pub now: Now,
    /// What the driver has to carry out.
    pub fx: &'a mut Effects,
}

/// The buffers of a connection.
#[derive(Debug, Default)]
pub struct Io {
    /// What arrived.
    pub input: RecvBuf,
    /// What is to go out.
    pub output: SendBuf,
}

/// Notices when the transport takes nothing of what waits for it.
#[derive(Debug, Default)]
pub(crate) struct SendWatch {
    /// What it had taken in all when the deadline was set.
    taken_before: u64,
    /// When it took something last, or something began to wait.
    since: Instant,
}

impl SendWatch {
    /// Since when it has taken nothing of what waits; none if nothing does.
    pub(crate) fn waits_since(&self, output: &SendBuf) -> Option<Instant> {
        (!output.is_empty()).then_some(self.since)
    }

    /// Keeps the deadline [`Why::Send`]; a fault once nothing was taken for `wait`.
    pub(crate) fn check(
        &mut self,
        timers: &mut Timers,
        wait: Duration,
        now: Instant,
        output: &SendBuf,
    ) -> Result<(), Fault> {
        if output.is_empty() {
            timers.clear(Why::Send);
        } else if output.taken() != self.taken_before || !timers.is_set(Why::Send) {
            timers.set(Why::Send, now + wait);
            self.since = now;
        } else if timers.is_due(Why::Send, now) {
            return Err(Fault::TimedOut);
        }
        self.taken_before = output.taken();
        Ok(())
    }
}

/// Notices when only a part of a message came.
///
/// Many apps write a head and its body one after the other, and their systems keep the second piece back until the first
/// is acknowledged (Nagle: RFC 9293, 3.7.4). Ours delays that for as long as there is nothing to send (RFC 9293, 3.8.6.3;
/// 40 ms on Linux), and there is nothing before the message is whole.
#[derive(Debug, Default)]
pub(crate) struct RestWatch {
    received_before: u64,
    waits: bool,
}

impl RestWatch {
    /// Keeps the deadline [`Why::Rest`]; whether to acknowledge what came, since nothing more did for
    /// [`limits::REST_WAIT`] and the message is not `whole`.
    pub(crate) fn check(&mut self, timers: &mut Timers, whole: bool, now: Instant, input: &RecvBuf) -> bool {
        if whole {
            timers.clear(Why::Rest);
            self.waits = false;
        } else if input.received() != self.received_before {
            timers.set(Why::Rest, now + limits::REST_WAIT);
            self.waits = false;
        } else if timers.is_due(Why::Rest, now) {
            timers.clear(Why::Rest);
            self.waits = true;
        }
        self.received_before = input.received();
        self.waits
    }
}

/// Effects are data: the driver carries them out, the simulator lists them.
#[derive(Debug, Default)]
pub struct Effects {
    /// Ports that have mail.
    pub wakes: Vec<PortId>,
    /// Connections to open.
    pub dials: Vec<Dial>,
    /// What happened.
    pub events: Vec<Event>,
}

impl Effects {
    /// Asks for `port` to be woken; once is enough.
    pub fn wake(&mut self, port: PortId) {
        if self.wakes.last() != Some(&port) {
            self.wakes.push(port);
        }
    }
}

/// Names a connection of a process. The generation keeps a wake for a connection that is gone from reaching the next
/// one in its place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortId {
    /// The place; small, reused.
    pub index: u32,
    /// How often the place was used before.
    pub generation: u32,
}

/// A connection to open, and the machine that then runs on it. If it cannot be opened the machine is told by
/// [`Machine::lost`].
pub struct Dial {
    /// Where to.
    pub to: Endpoint,
    /// How long it may take, over all addresses of a name.
    pub timeout: Duration,
    /// What runs on it.
    pub machine: Box<dyn Machine>,
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dial")
            .field("to", &self.to)
            .field("port", &self.machine.port())
            .finish_non_exhaustive()
    }
}

/// Where a connection goes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Endpoint {
    /// A host name or an address, and a port. `localhost` means ::1 and 127.0.0.1, whichever answers.
    Tcp {
        /// A name, an IPv4 address, or an IPv6 address without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A unix socket.
    Unix {
        /// The path.
        path: String,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Endpoint::Tcp { host, port } => write!(f, "{host}:{port}"),
            Endpoint::Unix { path } => write!(f, "unix:{path}"),
        }
    }
}

/// What a runtime needs of the hub of a process: the machines it starts with, and a way to stop it in good order.
pub trait Process: Send + Sync {
    /// The machine that runs first and without a connection: wakes and deadlines only. When it ends, so does the
    /// process. A connector has one; a gateway has none.
    fn supervisor(self: Arc<Self>) -> Option<Box<dyn Machine>>;

    /// The machine for a connection that was accepted from `from`; none if it is to be closed at once.
    fn accept(self: Arc<Self>, from: SocketAddr) -> Option<Box<dyn Machine>>;

    /// The runtime is good for so many connections at once, whoever opens them. Said once, before anything else.
    fn carries(&self, _connections_max: usize) {}

    /// Room for connections runs out: lets go of some that nobody would miss, if there are any. What is accepted
    /// meanwhile may be one that matters more.
    fn make_room(&self, _cx: &mut Cx<'_>) {}

    /// Starts nothing new from now on and lets what is open finish; wakes every connection.
    fn drain(&self, cx: &mut Cx<'_>);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_acknowledged_once_the_rest_keeps_the_reader_waiting() {
        let (mut timers, mut rest, mut input) = (Timers::default(), RestWatch::default(), RecvBuf::default());
        let begun = Instant::default();
        let late = begun + limits::REST_WAIT;
        assert!(!rest.check(&mut timers, false, late, &input), "nothing came that could be acknowledged");
        assert_eq!(timers.next(), None);
        input.push(b"HTTP/1.1 200 OK\r\nContent-Le");
        assert!(!rest.check(&mut timers, false, begun, &input));
        assert_eq!(timers.next(), Some((late, Why::Rest)));
        assert!(rest.check(&mut timers, false, late, &input));
        assert!(rest.check(&mut timers, false, late, &input), "as long as nothing changes");
        assert_eq!(timers.next(), None);
        input.push(b"ngth: 2\r\n\r\n");
        assert!(!rest.check(&mut timers, false, late, &input));
        assert!(!rest.check(&mut timers, true, late + limits::REST_WAIT, &input), "it is whole");
        assert_eq!(timers.next(), None);
    }
}
