//! Runs the machines over a capture, and shows what they do.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use super::format::{Answer, Decision, Entries, Fields, PANICKED, ReadError, kind};
use super::settings::{CONNECTOR, GATEWAY, get_connector, get_gateway};
use super::spoken::{SaidSeals, Spoken};
use crate::hub::seeds::Seeds;
use crate::hub::{ConnectorHub, GatewayHub};
use crate::machine::{Cx, DialFault, Effects, Endpoint, Io, Lost, Machine, Process};
use crate::secret::Keys;
use crate::time::{Instant, Now};
use crate::transcript::{Said, Talk, Transcript};

/// The peer of a machine that has none.
const SUPERVISOR: &str = "supervisor";
/// What a connection has not worked off: more than any runtime gives a machine that does not want it.
const UNREAD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Why a replay ended before the capture did.
#[derive(Debug)]
pub enum ReplayError {
    /// The file cannot be read on.
    Read(ReadError),
    /// The machines decide something else than they did.
    Differs(Difference),
}

/// Where a replay left the way of its capture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Where the entry of the call begins.
    pub offset: u64,
    /// When it was, after the origin of the process's clock.
    pub at: Duration,
    /// Whom the connection is with.
    pub peer: String,
    /// What is not the same.
    pub what: &'static str,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayError::Read(why) => why.fmt(f),
            ReplayError::Differs(Difference { offset, at, peer, what }) => {
                let at_ms = at.as_millis();
                write!(f, "the entry at byte {offset} ({at_ms} ms, {peer}): {what}")
            }
        }
    }
}

impl std::error::Error for ReplayError {}

impl From<ReadError> for ReplayError {
    fn from(why: ReadError) -> Self {
        ReplayError::Read(why)
    }
}

/// What a replay went through.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Calls of machines.
    pub calls: u64,
    /// Connections, and dials that failed.
    pub connections: u64,
    /// From the first entry with a time to the last.
    pub time: Duration,
    /// Why the capture ended before its process did, in its own words.
    pub stopped: Option<String>,
}

/// A capture that is being replayed.
pub struct Replay<R> {
    entries: Entries<R>,
    run: Run,
}

impl<R: Read> Replay<R> {
    /// Reads how the process began.
    ///
    /// # Errors
    /// If it is no capture, or one of another format.
    pub fn open(reader: R) -> Result<Self, ReadError> {
        let mut entries = Entries::open(reader)?;
        let Some((offset, mut fields)) = entries.next()? else { return Err(ReadError::NotACapture) };
        let run = Run::start(&mut fields).ok_or(ReadError::Corrupt(offset))?;
        Ok(Self { entries, run })
    }

    /// The version of the program that wrote it; others may decide otherwise.
    pub fn version(&self) -> &str {
        &self.run.version
    }

    #[cfg(feature = "sim")]
    pub(crate) fn lenient(mut self) -> Self {
        self.run.lenient = true;
        self
    }

    /// Replays all of it. `show` gets the transcript, in portions of whole lines; text that strangers chose is in it as
    /// they sent it.
    ///
    /// # Errors
    /// When the file cannot be read on, or the machines decide something else; what was shown is right until there.
    pub fn run(mut self, mut show: impl FnMut(&str)) -> Result<Summary, ReplayError> {
        let result = loop {
            match self.entries.next() {
                Err(why) => break Err(why.into()),
                Ok(None) => break Ok(()),
                Ok(Some((offset, mut fields))) => {
                    if let Err(why) = self.run.entry(offset, &mut fields) {
                        break Err(why);
                    }
                    show(&self.run.transcript.take());
                }
            }
        };
        show(&self.run.transcript.text());
        result.map(|()| self.run.summary)
    }
}

/// The process that is run again.
struct Run {
    process: Arc<dyn Process>,
    version: String,
    name: &'static str,
    /// Where a connector's gateway is.
    gateway: Option<Endpoint>,
    said: Arc<Spoken>,
    machines: BTreeMap<u64, Connection>,
    next_machine: u64,
    /// How many of each kind there were, for their names.
    accepted: u64,
    targets: u64,
    began: Option<Instant>,
    last: Now,
    transcript: Transcript,
    summary: Summary,
    /// It goes on after a call that decides something else: for fuzzing, which decides nothing by itself.
    lenient: bool,
}

/// A connection of the process.
struct Connection {
    machine: Box<dyn Machine>,
    io: Io,
    peer: String,
    /// This side asks, and the peer answers.
    asks: bool,
    talk: Talk,
    has_keys: bool,
}

/// What an entry is, if it is not what was written or does not fit.
enum Wrong {
    Corrupt,
    Differs(String, &'static str),
}

impl Run {
    fn start(fields: &mut Fields<'_>) -> Option<Self> {
        if fields.byte()? != kind::START {
            return None;
        }
        let role = fields.byte()?;
        let version = fields.text()?.to_owned();
        let deciding: [u8; 32] = fields.raw(32)?.try_into().ok()?;
        let said = Arc::new(Spoken::default());
        let keys = Keys::none(said.clone());
        let seeds = Seeds::apart(&[0; 32].into(), deciding);
        let mut gateway = None;
        let (name, process): (_, Arc<dyn Process>) = match role {
            GATEWAY => {
                let config = get_gateway(fields, keys)?.sealing_with(Arc::new(SaidSeals(said.clone())));
                ("gateway", GatewayHub::with_seeds(config, seeds))
            }
            CONNECTOR => {
                let config = get_connector(fields, keys)?.sealing_with(Arc::new(SaidSeals(said.clone())));
                gateway = Some(config.gateway.endpoint().clone());
                ("connector", ConnectorHub::with_seeds(config, seeds))
            }
            _ => return None,
        };
        fields.end()?;
        Some(Self {
            process,
            version,
            name,
            gateway,
            said,
            machines: BTreeMap::new(),
            next_machine: 0,
            accepted: 0,
            targets: 0,
            began: None,
            last: Now::default(),
            transcript: Transcript::default(),
            summary: Summary::default(),
            lenient: false,
        })
    }

    fn entry(&mut self, offset: u64, fields: &mut Fields<'_>) -> Result<(), ReplayError> {
        let result = self.take(fields);
        if let (Some(began), last) = (self.began, self.last.mono) {
            self.summary.time = last.since(began);
        }
        result.map_err(|wrong| match wrong {
            Wrong::Corrupt => ReadError::Corrupt(offset).into(),
            Wrong::Differs(peer, what) => {
                let at = self.last.mono.since_origin();
                ReplayError::Differs(Difference { offset, at, peer, what })
            }
        })
    }

    fn take(&mut self, fields: &mut Fields<'_>) -> Result<(), Wrong> {
        match fields.byte().ok_or(Wrong::Corrupt)? {
            kind::SUPERVISOR => self.supervisor(fields),
            kind::ACCEPT => self.accept(fields),
            kind::CALL => self.call(fields),
            kind::LOST => self.lost(fields),
            kind::DRAIN => self.drain(fields),
            kind::ROOM => self.make_room(fields),
            kind::STOP => {
                let why = fields.text().ok_or(Wrong::Corrupt)?.to_owned();
                self.transcript.trouble(self.last.mono, &format!("the capture ends here: {why}"));
                self.summary.stopped = Some(why);
                Ok(())
            }
            _ => Err(Wrong::Corrupt),
        }
    }

    fn supervisor(&mut self, fields: &Fields<'_>) -> Result<(), Wrong> {
        fields.end().filter(|()| self.next_machine == 0).ok_or(Wrong::Corrupt)?;
        let machine = self.process.clone().supervisor().ok_or(Wrong::Corrupt)?;
        self.add(machine, SUPERVISOR.into(), false);
        Ok(())
    }

    fn accept(&mut self, fields: &mut Fields<'_>) -> Result<(), Wrong> {
        let from = fields.text().and_then(|from| from.parse().ok()).ok_or(Wrong::Corrupt)?;
        let was_taken = fields.flag().ok_or(Wrong::Corrupt)?;
        fields.end().ok_or(Wrong::Corrupt)?;
        self.accepted += 1;
        let peer = format!("visitor-{}", self.accepted);
        let how = if was_taken { "connects" } else { "connects, and is closed at once" };
        self.transcript.sent(self.last.mono, &peer, self.name, &format!("{how} from {from}"));
        match (self.process.clone().accept(from), was_taken) {
            (Some(machine), true) => {
                self.summary.connections += 1;
                self.add(machine, peer, false);
                Ok(())
            }
            (None, false) => Ok(()),
            (taken, _) => {
                let what = if taken.is_some() { "now it is taken" } else { "now it is closed at once" };
                Err(Wrong::Differs(peer, what))
            }
        }
    }

    fn add(&mut self, machine: Box<dyn Machine>, peer: String, asks: bool) {
        let (io, talk) = (Io::default(), Talk::default());
        self.machines
            .insert(self.next_machine, Connection { machine, io, peer, asks, talk, has_keys: false });
        self.next_machine += 1;
    }

    fn now(&mut self, fields: &mut Fields<'_>) -> Option<Now> {
        let now = fields.now(&mut self.last)?;
        self.began.get_or_insert(now.mono);
        Some(now)
    }

    fn call(&mut self, fields: &mut Fields<'_>) -> Result<(), Wrong> {
        let number = fields.number().ok_or(Wrong::Corrupt)?;
        let now = self.now(fields).ok_or(Wrong::Corrupt)?;
        let input = fields.bytes().ok_or(Wrong::Corrupt)?;
        let ended = fields.flag().ok_or(Wrong::Corrupt)?;
        let sent = fields.size().ok_or(Wrong::Corrupt)?;
        let (answers, decision) = outcome(fields).ok_or(Wrong::Corrupt)?;
        let Self { machines, transcript, said, summary, name, .. } = self;
        let connection = machines.get_mut(&number).ok_or(Wrong::Corrupt)?;
        let mut show = Show { at: now.mono, name, transcript, number: number as usize };
        let io = &mut connection.io;
        if sent > io.output.len() || io.input.len() + input.len() > UNREAD_BYTES_MAX {
            return Err(Wrong::Corrupt);
        }
        io.output.take(sent);
        io.output.release();
        io.input.push(input);
        show.bytes(connection, input, true);
        if ended {
            connection.io.input.end();
            show.transcript.sent(now.mono, &connection.peer, name, "end");
        }
        if decision == PANICKED {
            show.transcript.trouble(now.mono, "the call that follows panicked");
        }
        summary.calls += 1;
        said.begin(&answers);
        let waiting = connection.io.output.len();
        let mut fx = Effects::default();
        let result = connection.machine.advance(&mut Cx { now, fx: &mut fx }, &mut connection.io);
        let output = connection.io.output.waiting()[waiting..].to_vec();
        connection.io.input.release();
        let after = said.end();
        connection.has_keys |= after.used;
        let (peer, is_same) = (connection.peer.clone(), after.is_same);
        let decided = after.decides.left(Some(&result), &fx, &output, connection.has_keys);
        show.records(connection, &answers, true);
        show.bytes(connection, &output, false);
        show.records(connection, &after.sealed, false);
        self.carry_out(fx);
        self.compare(peer, is_same, decided, decision)
    }

    fn lost(&mut self, fields: &mut Fields<'_>) -> Result<(), Wrong> {
        let number = fields.number().ok_or(Wrong::Corrupt)?;
        let now = self.now(fields).ok_or(Wrong::Corrupt)?;
        let why = fields.byte().and_then(lost_of).ok_or(Wrong::Corrupt)?;
        let (answers, decision) = outcome(fields).ok_or(Wrong::Corrupt)?;
        let mut connection = self.machines.remove(&number).ok_or(Wrong::Corrupt)?;
        self.said.begin(&answers);
        let mut fx = Effects::default();
        connection.machine.lost(&mut Cx { now, fx: &mut fx }, why);
        let Connection { machine, peer, has_keys, .. } = connection;
        drop(machine);
        let after = self.said.end();
        let decided = after.decides.left(None, &fx, &[], has_keys | after.used);
        let (at, name) = (now.mono, self.name);
        match why {
            Lost::Ended if peer == SUPERVISOR => self.transcript.decided(at, name, &peer, "ends"),
            Lost::Ended => self.transcript.sent(at, name, &peer, "closes"),
            Lost::Reset => self.transcript.sent(at, &peer, name, "reset"),
            Lost::Dial(fault) => self.transcript.decided(at, name, "dial", &format!("{peer}: {fault}")),
            Lost::Dropped => self.transcript.sent(at, name, &peer, "is cut"),
        }
        self.carry_out(fx);
        self.compare(peer, after.is_same, decided, decision)
    }

    fn make_room(&mut self, fields: &mut Fields<'_>) -> Result<(), Wrong> {
        let now = self.now(fields).ok_or(Wrong::Corrupt)?;
        fields.end().ok_or(Wrong::Corrupt)?;
        self.transcript.trouble(now.mono, "room for connections runs out");
        self.process.make_room(&mut Cx { now, fx: &mut Effects::default() });
        Ok(())
    }

    fn drain(&mut self, fields: &mut Fields<'_>) -> Result<(), Wrong> {
        let now = self.now(fields).ok_or(Wrong::Corrupt)?;
        fields.end().ok_or(Wrong::Corrupt)?;
        self.transcript.trouble(now.mono, &format!("{} is asked to stop", self.name));
        self.process.drain(&mut Cx { now, fx: &mut Effects::default() });
        Ok(())
    }

    fn carry_out(&mut self, fx: Effects) {
        let at = self.last.mono;
        for event in fx.events {
            self.transcript.event(at, self.name, &event);
        }
        for dial in fx.dials {
            let peer = if Some(&dial.to) == self.gateway.as_ref() {
                "gateway".to_owned()
            } else {
                self.targets += 1;
                format!("target-{}", self.targets)
            };
            self.transcript.decided(at, self.name, "dial", &format!("{peer} at {}", dial.to));
            self.summary.connections += 1;
            self.add(dial.machine, peer, true);
        }
    }

    fn compare(&self, peer: String, is_same: bool, now: Decision, then: Decision) -> Result<(), Wrong> {
        let is_same = is_same && now == then;
        if is_same || self.lenient { Ok(()) } else { Err(Wrong::Differs(peer, differs(then))) }
    }
}

fn differs(then: Decision) -> &'static str {
    if then == PANICKED { "it panicked, and now it does not" } else { "it decides something else now" }
}

fn outcome(fields: &mut Fields<'_>) -> Option<(Vec<Answer>, Decision)> {
    let outcome = (fields.answers()?, fields.decision()?);
    fields.end()?;
    Some(outcome)
}

// ---- what is shown -------------------------------------------------------------------------------------------------

struct Show<'a> {
    at: Instant,
    name: &'static str,
    transcript: &'a mut Transcript,
    number: usize,
}

impl Show<'_> {
    /// What came from the peer, or goes to it, as far as it is HTTP.
    fn bytes(&mut self, connection: &mut Connection, bytes: &[u8], comes: bool) {
        let Connection { talk, peer, asks, .. } = connection;
        if talk.is_link || bytes.is_empty() {
            return;
        }
        if comes == *asks {
            talk.response(bytes);
        } else {
            talk.request(bytes);
        }
        let (from, to) = if comes { (peer.as_str(), self.name) } else { (self.name, peer.as_str()) };
        for said in talk.lines.drain(..) {
            match said {
                Said::Line(line) => self.transcript.sent(self.at, from, to, &line),
                Said::Body(bytes) => self.transcript.body(self.at, from, to, &bytes),
                Said::Accepted(_) => self.transcript.decided(self.at, from, "auth", "accepted"),
            }
        }
        if talk.is_link && !*asks {
            *peer = peer.replace("visitor", "link");
        }
    }

    fn records(&mut self, connection: &Connection, records: &[Answer], come: bool) {
        let peer = connection.peer.as_str();
        let (from, to) = if come { (peer, self.name) } else { (self.name, peer) };
        for record in records {
            match record {
                Answer::Opened(plain) => self.transcript.record(self.at, from, to, self.number, plain),
                Answer::Forged => self.transcript.sent(self.at, from, to, "a record that does not verify"),
                Answer::Checked(_) => {}
            }
        }
    }
}

// ---- how a connection was lost -------------------------------------------------------------------------------------

const LOST: [Lost; 7] = [
    Lost::Ended,
    Lost::Reset,
    Lost::Dropped,
    Lost::Dial(DialFault::Refused),
    Lost::Dial(DialFault::NoSuchName),
    Lost::Dial(DialFault::TimedOut),
    Lost::Dial(DialFault::Unreachable),
];

pub(super) fn lost_code(why: Lost) -> u8 {
    LOST.iter().position(|known| *known == why).map_or(u8::MAX, |place| place as u8)
}

fn lost_of(code: u8) -> Option<Lost> {
    LOST.get(usize::from(code)).copied()
}
