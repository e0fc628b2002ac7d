//! What a process got, as a file: written in a real run, and run again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use rustix::process::Signal;

use crate::app::{app, standard};
use crate::gesher::{SECRET, Server, command};
use crate::process::Process;

/// A folder of its own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gesher-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A gateway and a connector that are captured.
struct Captured {
    server: Server,
    client: Process,
    files: [PathBuf; 2],
}

impl Captured {
    fn start(folder: &Folder, more: &str) -> Self {
        let files = ["server", "client"].map(|name| folder.file(name));
        let server = Server::with(&format!("--capture {} {more}", files[0].display()));
        let address = app(standard);
        let client =
            server.join(format!("http://{address}"), &format!("--capture {} {more}", files[1].display()));
        Self { server, client, files }
    }

    fn curl(&self, path: &str, more: &[&str]) -> Vec<u8> {
        let url = self.server.url(path);
        let output =
            Command::new("curl").args(["-sS", "--max-time", "30", &url]).args(more).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Ends both in good order.
    fn stop(mut self) -> [PathBuf; 2] {
        for process in [&mut self.client, &mut self.server.process] {
            process.signal(Signal::TERM);
            assert_eq!(process.end(), Some(0));
        }
        self.files
    }
}

fn replay(file: &Path) -> Output {
    command("replay").arg(file).env_remove("GESHER_SECRET").output().unwrap()
}

/// What a replay shows, if everything was decided as it was.
fn replayed(file: &Path) -> String {
    let Output { status, stdout, stderr } = replay(file);
    let stderr = String::from_utf8(stderr).unwrap();
    let transcript = String::from_utf8(stdout).unwrap();
    assert_eq!(status.code(), Some(0), "{stderr}\n{transcript}");
    assert!(stderr.contains("everything was decided as it was"), "{stderr}");
    transcript
}

#[test]
fn a_run_that_was_captured_on_both_sides_is_replayed_without_the_secret() {
    let folder = Folder::new("capture-run");
    let captured = Captured::start(&folder, "");
    assert_eq!(captured.curl("/hello?to=you", &[]), b"hello\n");
    assert_eq!(captured.curl("/bytes/3000000", &[]).len(), 3_000_000);
    let upload = captured.curl("/upload", &["--data-binary", "a form in plain"]);
    assert!(upload.starts_with(b"15 "), "{}", String::from_utf8_lossy(&upload));
    captured.curl("/garbage", &[]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| captured.curl("/bytes/200000", &[]));
        }
    });
    let (pin, files) = (captured.server.pin.clone(), captured.stop());
    for (file, lines) in files.iter().zip([
        ["visitor-2   > gateway       GET /hello?to=you", "gateway     | done          GET /garbage 502"],
        ["connector   > gateway       GET /_connect_tunnel", "connector   > target-1      GET /hello?to=you"],
    ]) {
        let transcript = replayed(file);
        for line in lines {
            assert!(transcript.contains(line), "{line}\n{transcript}");
        }
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        let bytes = fs::read(file).unwrap();
        assert!(holds(&bytes, b"a form in plain"), "what is in it is found");
        for hidden in [SECRET, &pin, &pin.to_lowercase()] {
            assert!(!holds(&bytes, hidden.as_bytes()), "{} holds {hidden}", file.display());
        }
    }
}

/// Whether the bytes are in there: as they are, in hex, or in base64 wherever they stand.
fn holds(file: &[u8], bytes: &[u8]) -> bool {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![bytes.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    for before in 0..3 {
        for alphabet in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let text = alphabet.encode([&b"\0\0"[..before], bytes].concat()).into_bytes();
            // The characters at either end have bits of their neighbours, too.
            forms.push(text[[0, 2, 3][before]..text.len() - 1].to_vec());
        }
    }
    forms.iter().any(|form| file.windows(form.len()).any(|window| window == form))
}

#[test]
fn a_process_that_was_killed_leaves_a_capture_that_can_be_replayed() {
    let folder = Folder::new("capture-killed");
    let mut captured = Captured::start(&folder, "");
    captured.curl("/bytes/100000", &[]);
    captured.server.process.signal(Signal::KILL);
    captured.server.process.end();
    let transcript = replayed(&captured.files[0]);
    assert!(transcript.contains("GET /bytes/100000 200, 0 B in, 100000 B out"), "{transcript}");
}

#[test]
fn a_capture_that_is_full_is_said_and_harms_nobody() {
    let folder = Folder::new("capture-full");
    let captured = Captured::start(&folder, "--capture-max 20K");
    for _ in 0..3 {
        assert_eq!(captured.curl("/bytes/100000", &[]).len(), 100_000);
    }
    captured.client.line("nothing more is written to");
    let files = captured.stop();
    assert!(fs::metadata(&files[1]).unwrap().len() <= 20 * 1024);
    let transcript = replayed(&files[1]);
    assert!(transcript.ends_with("the capture ends here: it has reached its limit\n"), "{transcript}");
}

#[test]
fn a_disk_that_is_full_is_said_and_harms_nobody() {
    let server = Server::start();
    let address = app(standard);
    // A limit on the length of files looks the same to who writes as a disk that is full.
    let folder = Folder::new("capture-disk");
    let limited = format!("ulimit -f 8; trap '' XFSZ; exec {}", env!("CARGO_BIN_EXE_gesher"));
    let file = folder.file("client");
    let mut shell = Command::new("sh");
    shell.env_clear().env("GESHER_SECRET", SECRET).arg("-c").arg(format!(
        "{limited} client --gateway http://{} --pin {} --target http://{address} --capture {}",
        server.address,
        server.pin,
        file.display()
    ));
    let client = crate::gesher::joined(&mut shell);
    for _ in 0..2 {
        let got = Command::new("curl").args(["-sS", &server.url("/bytes/100000")]).output().unwrap();
        assert_eq!(got.stdout.len(), 100_000);
    }
    client.line("it cannot be written");
    let output = replay(&file);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("the file ends inside the entry at byte"), "{stderr}");
}

#[test]
fn nothing_is_written_over_and_what_is_no_capture_is_said() {
    let folder = Folder::new("capture-there");
    let file = folder.file("there");
    fs::write(&file, "something else").unwrap();
    let output = command("server --port 0 --bind 127.0.0.1 --capture").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("it is there already"));
    assert_eq!(fs::read(&file).unwrap(), b"something else");
    let output = replay(&file);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().ends_with(": this is no capture\n"));
}
