//! Processes whose machines are closures, run on real sockets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::runtime::{Options, Service, StopHandle, Stopped, bind, run};
use gesher_core::fault::Fault;
use gesher_core::machine::{Cx, Dial, End, Endpoint, Io, Lost, Machine, PortId, Process, Want};

/// Longer than anything here takes, and short enough to find out.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const READ: Want = Want { read: true, wake_at: None, again: false, acknowledge: false, end: None };

pub(crate) fn ending(end: End) -> Want {
    Want { end: Some(end), ..READ }
}

/// A machine made of a closure; why it was lost goes to `lost`.
pub(crate) struct Script<F> {
    pub(crate) port: PortId,
    pub(crate) step: F,
    pub(crate) lost: Sender<Lost>,
    /// Who else hears of it.
    pub(crate) parent: Option<PortId>,
    /// What it ended with: it says so again until its output is out.
    pub(crate) ending: Option<Want>,
}

impl<F> Machine for Script<F>
where
    F: FnMut(&mut Cx<'_>, &mut Io) -> Result<Want, Fault> + Send,
{
    fn port(&self) -> PortId {
        self.port
    }

    fn advance(&mut self, cx: &mut Cx<'_>, io: &mut Io) -> Result<Want, Fault> {
        if let Some(ending) = self.ending {
            return Ok(ending);
        }
        let want = (self.step)(cx, io)?;
        self.ending = Some(want).filter(|want| matches!(want.end, Some(End::Close | End::Linger)));
        Ok(want)
    }

    fn lost(&mut self, cx: &mut Cx<'_>, why: Lost) {
        let _ = self.lost.send(why);
        if let Some(parent) = self.parent {
            cx.fx.wake(parent);
        }
    }
}

/// Boxes a closure so that its argument types are known.
pub(crate) fn script<F>(port: PortId, lost: &Sender<Lost>, step: F) -> Box<dyn Machine>
where
    F: FnMut(&mut Cx<'_>, &mut Io) -> Result<Want, Fault> + Send + 'static,
{
    Box::new(Script { port, step, lost: lost.clone(), parent: None, ending: None })
}

type Accept = Box<dyn Fn(PortId, &Sender<Lost>) -> Box<dyn Machine> + Send + Sync>;

/// A process of such machines.
pub(crate) struct Toys {
    next: AtomicU32,
    accept: Accept,
    supervisor: Mutex<Option<Box<dyn Machine>>>,
    lost: Sender<Lost>,
    drains: Sender<()>,
    pub(crate) draining: Arc<AtomicBool>,
}

impl Toys {
    /// Runs `accept` for each connection. The supervisor, if any, has port 0.
    pub(crate) fn new(
        accept: impl Fn(PortId, &Sender<Lost>) -> Box<dyn Machine> + Send + Sync + 'static,
    ) -> (Self, News) {
        let (lost, heard) = mpsc::channel();
        let (drains, drained) = mpsc::channel();
        let toys = Self {
            next: AtomicU32::new(1),
            accept: Box::new(accept),
            supervisor: Mutex::new(None),
            lost,
            drains,
            draining: Arc::default(),
        };
        (toys, News { lost: heard, drained })
    }

    /// One whose supervisor dials `to` with a machine of `step` and ends when that is lost.
    pub(crate) fn dialling<F>(to: Endpoint, timeout: Duration, step: F) -> (Self, News)
    where
        F: FnMut(&mut Cx<'_>, &mut Io) -> Result<Want, Fault> + Send + 'static,
    {
        let (mut toys, news) = Self::new(|_, _| unreachable!("nothing connects"));
        let (lost, heard) = mpsc::channel();
        let machine = Box::new(Script { port: DIALLED, step, lost, parent: Some(SUPERVISOR), ending: None });
        let mut dial = Some(Dial { to, timeout, machine });
        let (told, _) = mpsc::channel();
        let heard = Arc::new(Mutex::new(heard));
        let (again, result) = mpsc::channel();
        toys.supervisor = Mutex::new(Some(script(SUPERVISOR, &told, move |cx, _| {
            cx.fx.dials.extend(dial.take());
            // Mail that is there already when it is woken for another reason.
            cx.fx.wake(DIALLED);
            match heard.lock().unwrap().try_recv() {
                Ok(why) => {
                    again.send(why).unwrap();
                    Ok(ending(End::Close))
                }
                Err(_) => Ok(READ),
            }
        })));
        (toys, News { lost: result, ..news })
    }

    pub(crate) fn with_supervisor(mut self, machine: impl FnOnce(&Sender<Lost>) -> Box<dyn Machine>) -> Self {
        self.supervisor = Mutex::new(Some(machine(&self.lost)));
        self
    }
}

pub(crate) const SUPERVISOR: PortId = PortId { index: 0, generation: 0 };
/// What a supervisor dials.
const DIALLED: PortId = PortId { index: 1, generation: 0 };

impl Process for Toys {
    fn supervisor(self: Arc<Self>) -> Option<Box<dyn Machine>> {
        self.supervisor.lock().unwrap().take()
    }

    fn accept(self: Arc<Self>, _from: SocketAddr) -> Option<Box<dyn Machine>> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        Some((self.accept)(PortId { index, generation: 0 }, &self.lost))
    }

    fn drain(&self, cx: &mut Cx<'_>) {
        self.draining.store(true, Ordering::Release);
        let _ = self.drains.send(());
        for index in 0..self.next.load(Ordering::Relaxed) {
            cx.fx.wake(PortId { index, generation: 0 });
        }
    }
}

/// What a process tells a test.
pub(crate) struct News {
    lost: Receiver<Lost>,
    drained: Receiver<()>,
}

impl News {
    /// Why the next machine was lost.
    pub(crate) fn lost(&self) -> Lost {
        self.lost.recv_timeout(PATIENCE).unwrap()
    }

    /// Waits until the process was told to drain.
    pub(crate) fn drained(&self) {
        self.drained.recv_timeout(PATIENCE).unwrap();
    }
}

/// A run in a thread of its own; dropping it ends it.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) stop: StopHandle,
    thread: Option<JoinHandle<io::Result<Stopped>>>,
}

impl Running {
    /// Connects to it.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Waits for its end.
    pub(crate) fn join(mut self) -> Stopped {
        self.thread.take().unwrap().join().unwrap().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.stop();
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Runs one process on a port of its own.
pub(crate) fn start(toys: Toys) -> Running {
    start_all([toys], Options { signals: false, ..Options::default() })
}

/// Runs several; the address is the first one's.
pub(crate) fn start_all(toys: impl IntoIterator<Item = Toys>, options: Options) -> Running {
    let mut services = Vec::new();
    for toys in toys {
        let listeners = vec![bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap()];
        services.push(Service { process: Arc::new(toys), listeners, on_event: Arc::new(|_| {}) });
    }
    let address = services[0].listeners[0].local_addr();
    let stop = options.stop.clone();
    let thread = Some(thread::spawn(move || run(services, options)));
    Running { address, stop, thread }
}

/// Sends back what it gets, and ends when its peer does.
pub(crate) fn echo(port: PortId, lost: &Sender<Lost>) -> Box<dyn Machine> {
    script(port, lost, |_, io| {
        if io.output.len() < 64 * 1024 {
            let count = io.input.len();
            io.output.tail().extend_from_slice(io.input.unread());
            io.input.consume(count);
        }
        let end = (io.input.ended() && io.input.is_empty()).then_some(End::Close);
        Ok(Want { read: io.input.is_empty(), end, ..READ })
    })
}
