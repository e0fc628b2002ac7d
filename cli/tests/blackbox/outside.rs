//! Programs of others: curl, nginx, Python, chromium; and what they need from the machine.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::Process;

/// The command of a program, if it is installed; if not, says that a test is skipped, which CI does not allow.
pub(crate) fn program(name: &str) -> Option<Command> {
    let path = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&path).any(|folder| folder.join(name).is_file()) {
        return Some(Command::new(name));
    }
    assert!(!is_ci(), "{name} is not installed");
    skipped(&format!("{name} is not installed"));
    None
}

/// Python, if it is installed and can run this, which imports what a test needs; if not, says that a test is skipped,
/// which CI does not allow.
pub(crate) fn python_with(imports: &str) -> Option<Command> {
    let command = program("python3")?;
    let found = Command::new("python3").args(["-c", imports]).output().unwrap();
    if found.status.success() {
        return Some(command);
    }
    let why = String::from_utf8_lossy(&found.stderr).lines().last().unwrap_or_default().to_owned();
    assert!(!is_ci(), "python3: {why}");
    skipped(&format!("python3: {why}"));
    None
}

/// Whether tests that take half a minute are wanted; if not, says that one is skipped.
pub(crate) fn is_slow_welcome() -> bool {
    let welcome = is_ci() || env::var("GESHER_SLOW_TESTS").as_deref() == Ok("1");
    if !welcome {
        skipped("a slow test: GESHER_SLOW_TESTS=1 runs it");
    }
    welcome
}

fn is_ci() -> bool {
    env::var("CI").as_deref() == Ok("true")
}

pub(crate) fn skipped(why: &str) {
    // Not eprintln!: the output of a test that passes is not shown.
    let _ = writeln!(io::stderr(), "SKIPPED: {why}");
}

/// What curl printed, with these arguments; it must have been content.
pub(crate) fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "30", "--noproxy", "*"])
        .args(arguments)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "curl {arguments:?}: {} {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A loopback address that nothing else on this machine uses: a port that is free there stays free.
pub(crate) fn own_address() -> SocketAddr {
    let (process, count) = (process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let ip = [127, 1 + (process % 250) as u8, 1 + (process / 250 % 250) as u8, 1 + count as u8];
    TcpListener::bind(SocketAddr::from((ip, 0))).unwrap().local_addr().unwrap()
}

/// A folder that is removed when dropped.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let name = format!("gesher-blackbox-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// nginx with what is given inside of `http { … }`, which listens; none if it is not installed.
pub(crate) fn nginx(folder: &Folder, http: &str) -> Option<Process> {
    let mut command = program("nginx")?;
    let path = folder.path().display();
    let config = folder.write(
        "nginx.conf",
        format!(
            "daemon off; master_process off; pid {path}/pid; error_log stderr notice;\n\
             events {{ worker_connections 256; }}\n\
             http {{\n  access_log off; client_max_body_size 0;\n  \
               client_body_temp_path {path}/body; proxy_temp_path {path}/proxy; fastcgi_temp_path {path}/fastcgi;\n  \
               uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;\n{http}\n}}\n"
        ),
    );
    let process = Process::start("nginx", command.arg("-p").arg(folder.path()).arg("-c").arg(config));
    // The last thing it says before it serves; it listens by then.
    process.line("getrlimit(RLIMIT_NOFILE)");
    Some(process)
}

/// A server in Python that says `port N` once it listens; none if Python is not installed.
pub(crate) fn python_app(script: &str) -> Option<(Process, SocketAddr)> {
    let mut command = program("python3")?;
    let process = Process::start("python", command.args(["-u", "-c", script]));
    let port = process.line("port ").trim().strip_prefix("port ").unwrap().parse::<u16>().unwrap();
    Some((process, SocketAddr::from(([127, 0, 0, 1], port))))
}

/// Python's HTTP/1.0 server of files; none if it is not installed.
pub(crate) fn python_site(folder: &Folder) -> Option<(Process, SocketAddr)> {
    let mut command = program("python3")?;
    command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]).arg(folder.path());
    let process = Process::start("python", &mut command);
    let line = process.line("Serving HTTP on 127.0.0.1 port ");
    let port = line.split_whitespace().nth(5).unwrap().parse::<u16>().unwrap();
    Some((process, SocketAddr::from(([127, 0, 0, 1], port))))
}
