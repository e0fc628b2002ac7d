//! Writes a capture: wraps a process, its machines, its way of sealing and its keys.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand_chacha::ChaCha20Rng;

use super::format::{Answer, Decides, Decision, Draft, MAGIC, PANICKED, kind};
use super::{replay, settings};
use crate::config::{ConnectorConfig, GatewayConfig};
use crate::fault::Fault;
use crate::hub::Seed;
use crate::hub::seeds::Seeds;
use crate::hub::{ConnectorHub, GatewayHub};
use crate::machine::{Cx, Dial, Effects, Io, Lost, Machine, PortId, Process, Want};
use crate::seal::{Forged, Opener, Record, SealKey, Sealer, Seals, SharedSeals};
use crate::secret::Verdicts;
use crate::time::{Now, UnixSecs};

/// Why nothing more is captured; the process goes on without.
#[derive(Debug)]
pub enum Stop {
    /// The file is as long as it may be.
    Full,
    /// It cannot be written.
    Failed(io::Error),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Full => f.write_str("it has reached its limit"),
            Stop::Failed(why) => write!(f, "it cannot be written: {why}"),
        }
    }
}

/// Is told, once, that nothing more is captured. Called inside of a machine's call: it should not block.
type OnStop = Box<dyn Fn(Stop) + Send + Sync>;

/// Writes what a process gets.
///
/// Each entry is written at once, so that a process that dies leaves all that it got; give it a file and no buffer.
pub struct Recorder {
    /// Held for a whole call: the order of entries is the order in which everything happened.
    writer: Mutex<Writer>,
    /// What the keys said in the call that is going on.
    seam: Mutex<Seam>,
    stopped: AtomicBool,
    on_stop: OnStop,
}

struct Writer {
    file: Box<dyn Write + Send>,
    bytes_left: u64,
    last: Now,
    machines: u64,
}

#[derive(Default)]
struct Seam {
    answers: Vec<Answer>,
    decides: Decides,
    /// The keys had to do with this call.
    used: bool,
}

impl Recorder {
    /// What is left when the limit is reached, to say so.
    const STOP_BYTES: u64 = 64;

    /// Writes to `file`, at most `bytes_max` bytes.
    pub fn new(
        file: Box<dyn Write + Send>,
        bytes_max: u64,
        on_stop: impl Fn(Stop) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let writer = Writer { file, bytes_left: bytes_max, last: Now::default(), machines: 0 };
        Arc::new(Self {
            writer: Mutex::new(writer),
            seam: Mutex::default(),
            stopped: AtomicBool::new(false),
            on_stop: Box::new(on_stop),
        })
    }

    fn begin(&self, role: u8, deciding: &[u8; 32], settings: impl FnOnce(Draft) -> Draft) {
        let writer = &mut *self.lock();
        let version = env!("CARGO_PKG_VERSION");
        let start = Draft::new(kind::START).byte(role).bytes(version.as_bytes()).raw(deciding);
        self.put(writer, MAGIC.to_vec());
        self.write(writer, settings(start));
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seam(&self) -> MutexGuard<'_, Seam> {
        self.seam.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, writer: &mut Writer, entry: Draft) {
        if let Some(entry) = entry.finish() {
            self.put(writer, entry);
        } else {
            // No turn works off so much; were there one, a file without it could not be replayed.
            self.stop(Stop::Failed(io::Error::other("an entry is too long")));
        }
    }

    fn put(&self, writer: &mut Writer, entry: Vec<u8>) {
        if self.is_stopped() {
            return;
        }
        let length = entry.len() as u64;
        let is_full = length.saturating_add(Self::STOP_BYTES) > writer.bytes_left;
        let last_words = || Draft::new(kind::STOP).bytes(Stop::Full.to_string().as_bytes()).finish();
        let entry = if is_full { last_words().unwrap_or_default() } else { entry };
        writer.bytes_left = writer.bytes_left.saturating_sub(length);
        match writer.file.write_all(&entry) {
            Ok(()) if is_full => self.stop(Stop::Full),
            Ok(()) => {}
            Err(why) => self.stop(Stop::Failed(why)),
        }
    }

    fn stop(&self, why: Stop) {
        if !self.stopped.swap(true, Ordering::Relaxed) {
            (self.on_stop)(why);
        }
    }

    fn next_machine(self: &Arc<Self>, writer: &mut Writer, inner: Box<dyn Machine>) -> Box<dyn Machine> {
        let number = writer.machines;
        writer.machines += 1;
        Box::new(Recorded {
            recorder: self.clone(),
            port: inner.port(),
            inner: Some(inner),
            number,
            received: 0,
            taken: 0,
            ended: false,
            has_keys: false,
        })
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("stopped", &self.is_stopped()).finish_non_exhaustive()
    }
}

// ---- processes -----------------------------------------------------------------------------------------------------

/// A gateway that is captured. `secret` is what its keys and IVs come from, as new and as secret as a key; `deciding` is
/// what everything else that is random comes from, has nothing to do with it, and is written into the file.
pub fn gateway(
    config: GatewayConfig,
    secret: impl Into<Seed>,
    deciding: [u8; 32],
    recorder: Arc<Recorder>,
) -> Arc<dyn Process> {
    gateway_and_hub(config, Seeds::apart(&secret.into(), deciding), deciding, recorder).0
}

/// The same for a connector.
pub fn connector(
    config: ConnectorConfig,
    secret: impl Into<Seed>,
    deciding: [u8; 32],
    recorder: Arc<Recorder>,
) -> Arc<dyn Process> {
    connector_and_hub(config, Seeds::apart(&secret.into(), deciding), deciding, recorder).0
}

pub(crate) fn gateway_and_hub(
    mut config: GatewayConfig,
    seeds: Seeds,
    deciding: [u8; 32],
    recorder: Arc<Recorder>,
) -> (Arc<dyn Process>, Arc<GatewayHub>) {
    recorder.begin(settings::GATEWAY, &deciding, |draft| settings::put_gateway(draft, &config));
    config.keys.verdicts = Some(recorder.clone());
    config.seals = Arc::new(RecordedSeals { inner: config.seals, recorder: recorder.clone() });
    let hub = GatewayHub::with_seeds(config, seeds);
    (wrap(hub.clone(), recorder), hub)
}

pub(crate) fn connector_and_hub(
    mut config: ConnectorConfig,
    seeds: Seeds,
    deciding: [u8; 32],
    recorder: Arc<Recorder>,
) -> (Arc<dyn Process>, Arc<ConnectorHub>) {
    recorder.begin(settings::CONNECTOR, &deciding, |draft| settings::put_connector(draft, &config));
    config.keys.verdicts = Some(recorder.clone());
    config.seals = Arc::new(RecordedSeals { inner: config.seals, recorder: recorder.clone() });
    let hub = ConnectorHub::with_seeds(config, seeds);
    (wrap(hub.clone(), recorder), hub)
}

pub(super) fn wrap<P: Process + 'static>(inner: Arc<P>, recorder: Arc<Recorder>) -> Arc<dyn Process> {
    Arc::new(RecordedProcess { inner, recorder })
}

struct RecordedProcess<P> {
    inner: Arc<P>,
    recorder: Arc<Recorder>,
}

impl<P: Process + 'static> Process for RecordedProcess<P> {
    fn supervisor(self: Arc<Self>) -> Option<Box<dyn Machine>> {
        let writer = &mut *self.recorder.lock();
        let machine = self.inner.clone().supervisor()?;
        self.recorder.write(writer, Draft::new(kind::SUPERVISOR));
        Some(self.recorder.next_machine(writer, machine))
    }

    fn accept(self: Arc<Self>, from: SocketAddr) -> Option<Box<dyn Machine>> {
        let writer = &mut *self.recorder.lock();
        let machine = self.inner.clone().accept(from);
        let entry = Draft::new(kind::ACCEPT).bytes(from.to_string().as_bytes());
        self.recorder.write(writer, entry.byte(u8::from(machine.is_some())));
        machine.map(|machine| self.recorder.next_machine(writer, machine))
    }

    fn make_room(&self, cx: &mut Cx<'_>) {
        let writer = &mut *self.recorder.lock();
        let entry = Draft::new(kind::ROOM).now(cx.now, &mut writer.last);
        self.recorder.write(writer, entry);
        self.inner.make_room(cx);
    }

    fn drain(&self, cx: &mut Cx<'_>) {
        let writer = &mut *self.recorder.lock();
        let entry = Draft::new(kind::DRAIN).now(cx.now, &mut writer.last);
        self.recorder.write(writer, entry);
        self.inner.drain(cx);
    }
}

// ---- machines ------------------------------------------------------------------------------------------------------

struct Recorded {
    recorder: Arc<Recorder>,
    port: PortId,
    /// None once it was lost.
    inner: Option<Box<dyn Machine>>,
    number: u64,
    /// How much of the input and of what was taken of the output is in the file.
    received: u64,
    taken: u64,
    ended: bool,
    /// It has, or had, to do with the keys: its output is not what a replay writes.
    has_keys: bool,
}

impl Machine for Recorded {
    fn port(&self) -> PortId {
        self.port
    }

    fn advance(&mut self, cx: &mut Cx<'_>, io: &mut Io) -> Result<Want, Fault> {
        let Some(inner) = &mut self.inner else { return Ok(Want::default()) };
        if self.recorder.is_stopped() {
            return inner.advance(cx, io);
        }
        let recorder = self.recorder.clone();
        let mut writer = recorder.lock();
        let unread = io.input.unread();
        let news = usize::try_from(io.input.received() - self.received).unwrap_or(usize::MAX);
        let ended = io.input.ended() && !std::mem::replace(&mut self.ended, io.input.ended());
        let entry = Draft::new(kind::CALL)
            .number(self.number)
            .now(cx.now, &mut writer.last)
            .bytes(&unread[unread.len().saturating_sub(news)..])
            .byte(u8::from(ended))
            .number(io.output.taken() - self.taken);
        (self.received, self.taken) = (io.input.received(), io.output.taken());
        let mut call = Call::begin(&recorder, &mut writer, entry);
        let waiting = io.output.len();
        let mut fx = Effects::default();
        let result = inner.advance(&mut Cx { now: cx.now, fx: &mut fx }, io);
        call.end(Some(&result), &fx, &io.output.waiting()[waiting..], &mut self.has_keys);
        drop(call);
        self.pass_on(&mut writer, fx, cx.fx);
        result
    }

    fn lost(&mut self, cx: &mut Cx<'_>, why: Lost) {
        let Some(mut inner) = self.inner.take() else { return };
        let recorder = self.recorder.clone();
        let mut writer = recorder.lock();
        let entry = Draft::new(kind::LOST).number(self.number).now(cx.now, &mut writer.last);
        let mut call = Call::begin(&recorder, &mut writer, entry.byte(replay::lost_code(why)));
        let mut fx = Effects::default();
        inner.lost(&mut Cx { now: cx.now, fx: &mut fx }, why);
        // Whatever it held in the hub is given back before anything else happens.
        drop(inner);
        call.end(None, &fx, &[], &mut self.has_keys);
        drop(call);
        self.pass_on(&mut writer, fx, cx.fx);
    }
}

impl Recorded {
    /// Hands effects on; machines that are to be dialled for are captured, too.
    fn pass_on(&self, writer: &mut Writer, mut from: Effects, to: &mut Effects) {
        for Dial { to: endpoint, timeout, machine } in from.dials.drain(..) {
            let machine = self.recorder.next_machine(writer, machine);
            to.dials.push(Dial { to: endpoint, timeout, machine });
        }
        to.wakes.append(&mut from.wakes);
        to.events.append(&mut from.events);
    }
}

/// A call that is going on. Its entry is written when it is dropped: also while a panic unwinds, since the call that
/// panics is the one that somebody will want to see again.
struct Call<'a> {
    recorder: &'a Recorder,
    writer: &'a mut Writer,
    entry: Draft,
    decision: Decision,
}

impl<'a> Call<'a> {
    fn begin(recorder: &'a Recorder, writer: &'a mut Writer, entry: Draft) -> Self {
        *recorder.seam() = Seam::default();
        Self { recorder, writer, entry, decision: PANICKED }
    }

    fn end(
        &mut self,
        result: Option<&Result<Want, Fault>>,
        fx: &Effects,
        output: &[u8],
        has_keys: &mut bool,
    ) {
        let seam = &mut *self.recorder.seam();
        *has_keys |= seam.used;
        self.decision = std::mem::take(&mut seam.decides).left(result, fx, output, *has_keys);
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let answers = std::mem::take(&mut self.recorder.seam().answers);
        let entry = std::mem::take(&mut self.entry).answers(&answers).raw(&self.decision);
        self.recorder.write(self.writer, entry);
    }
}

// ---- what the keys say ---------------------------------------------------------------------------------------------

impl Recorder {
    fn answered(&self, answer: Answer) {
        if !self.is_stopped() {
            let seam = &mut *self.seam();
            seam.used = true;
            seam.answers.push(answer);
        }
    }
}

impl Verdicts for Recorder {
    fn settle(&self, is_right: bool) -> bool {
        self.answered(Answer::Checked(is_right));
        is_right
    }
}

#[derive(Debug)]
struct RecordedSeals {
    inner: SharedSeals,
    recorder: Arc<Recorder>,
}

impl Seals for RecordedSeals {
    fn sealer(&self, key: &SealKey, rng: ChaCha20Rng) -> Box<dyn Sealer> {
        Box::new(RecordedSealer { inner: self.inner.sealer(key, rng), recorder: self.recorder.clone() })
    }

    fn opener(&self, key: &SealKey) -> Box<dyn Opener> {
        Box::new(RecordedOpener { inner: self.inner.opener(key), recorder: self.recorder.clone() })
    }
}

struct RecordedSealer {
    inner: Box<dyn Sealer>,
    recorder: Arc<Recorder>,
}

impl Sealer for RecordedSealer {
    fn seal_all(&mut self, at: UnixSecs, records: &mut [Record<'_>]) {
        if !self.recorder.is_stopped() {
            let seam = &mut *self.recorder.seam();
            seam.used = true;
            records.iter().for_each(|record| seam.decides.sealed(record.plain));
        }
        self.inner.seal_all(at, records);
    }
}

struct RecordedOpener {
    inner: Box<dyn Opener>,
    recorder: Arc<Recorder>,
}

impl Opener for RecordedOpener {
    fn open(&mut self, token: &[u8], out: &mut Vec<u8>) -> Result<(), Forged> {
        let start = out.len();
        let opened = self.inner.open(token, out);
        let answer = match opened {
            Ok(()) => Answer::Opened(out[start..].to_vec()),
            Err(Forged) => Answer::Forged,
        };
        self.recorder.answered(answer);
        opened
    }
}
