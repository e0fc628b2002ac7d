//! Processes with their output: lines can be waited for, and a test that fails shows them all.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::{Pid, Signal, kill_process};

/// Nothing that is waited for takes this long, however busy the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Is killed when dropped.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    output: Arc<Output>,
}

#[derive(Default)]
struct Output {
    so_far: Mutex<SoFar>,
    changed: Condvar,
}

#[derive(Default)]
struct SoFar {
    lines: Vec<String>,
    /// How many of stdout and stderr have ended.
    ended: usize,
}

impl Process {
    pub(crate) fn start(name: &'static str, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|why| panic!("{name} does not start: {why}"));
        let output = Arc::<Output>::default();
        output.collect(child.stdout.take().unwrap());
        output.collect(child.stderr.take().unwrap());
        Self { name, child, output }
    }

    /// Waits for a line with this text in it.
    pub(crate) fn line(&self, text: &str) -> String {
        self.lines(text, 1).remove(0)
    }

    /// Waits until there are `count` lines with this text in them, and returns all of those.
    pub(crate) fn lines(&self, text: &str, count: usize) -> Vec<String> {
        let found = |so_far: &SoFar| {
            so_far.lines.iter().filter(|line| line.contains(text)).cloned().collect::<Vec<_>>()
        };
        self.wait(|so_far| found(so_far).len() >= count, &format!("line {count} with {text:?}"));
        found(&self.output.so_far.lock().unwrap())
    }

    /// All lines until now.
    pub(crate) fn text(&self) -> String {
        self.output.so_far.lock().unwrap().lines.join("\n")
    }

    /// Waits for its end: the exit code, or none if a signal ended it.
    pub(crate) fn end(&mut self) -> Option<i32> {
        self.wait(|so_far| so_far.ended == 2, "its end");
        self.child.wait().unwrap().code()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The most memory it ever had, in MiB.
    pub(crate) fn peak_mib(&self) -> u64 {
        self.kib("VmHWM") / 1024
    }

    /// What the system says of its memory, in KiB: `RssAnon`, `VmHWM`.
    pub(crate) fn kib(&self, what: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let kib = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).unwrap();
        kib.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn wait(&self, until: impl Fn(&SoFar) -> bool, what: &str) {
        let start = Instant::now();
        let mut so_far = self.output.so_far.lock().unwrap();
        while !until(&so_far) {
            let left = PATIENCE.saturating_sub(start.elapsed());
            let over = left.is_zero() || so_far.ended == 2;
            if over {
                drop(so_far);
                panic!("{}: waited in vain for {what}", self.name);
            }
            (so_far, _) = self.output.changed.wait_timeout(so_far, left).unwrap();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("---- {} ----\n{}", self.name, self.text());
        }
    }
}

impl Output {
    fn collect(self: &Arc<Self>, from: impl Read + Send + 'static) {
        let output = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                output.so_far.lock().unwrap().lines.push(String::from_utf8_lossy(&line).into_owned());
                output.changed.notify_all();
            }
            output.so_far.lock().unwrap().ended += 1;
            output.changed.notify_all();
        });
    }
}
