//! The binary from outside, as far as it needs no tunnel: exit codes, the one line of a failure, which setting wins,
//! and that no secret is ever printed.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Output, Stdio};

const SECRET: &str = "correct horse battery staple";

/// `gesher` with this command line (words apart by spaces) and only this environment.
fn gesher(line: &str, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gesher"));
    command.args(line.split_whitespace()).env_clear().envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(line: &str, environment: &[(&str, &str)]) -> (i32, String) {
    ended(gesher(line, environment).output().unwrap())
}

fn run_with_input(line: &str, input: &[u8]) -> (i32, String) {
    let mut child = gesher(line, &[]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    ended(child.wait_with_output().unwrap())
}

/// The exit code and stderr of a run that printed nothing on stdout.
fn ended(output: Output) -> (i32, String) {
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// A port that is taken for as long as the listener lives.
fn taken() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn in_use(port: u16) -> (i32, String) {
    (1, format!("gesher: port {port} is in use: choose another with --port\n"))
}

#[test]
fn wrong_usage_exits_with_2_and_says_what_was_meant() {
    for line in ["", "serve", "server --prot 1", "server --port x", "client --secret a --secret-file b"] {
        let (code, stderr) = run(line, &[]);
        assert_eq!(code, 2, "{line}: {stderr}");
    }
    let (_, stderr) = run("server --prot 1", &[]);
    assert!(stderr.contains("'--prot'"), "{stderr}");
    assert_eq!(stderr.contains("'--port'"), cfg!(feature = "terminal"), "{stderr}");
}

#[test]
fn what_is_missing_is_one_line_that_says_how_to_give_it() {
    for (line, environment, stderr) in [
        (
            "server",
            &[][..],
            "gesher: no secret given: set GESHER_SECRET, or use --secret-file FILE; `gesher keygen` makes a good one\n",
        ),
        ("client", &[], "gesher: no gateway given: --gateway http://HOST:8000, where `gesher server` runs\n"),
        (
            "client --gateway http://localhost:8000",
            &[("GESHER_SECRET", SECRET)],
            "gesher: no PIN given: `gesher server` prints it at its start: give it with --pin or GESHER_PIN\n",
        ),
        (
            "server --bind localhost",
            &[("GESHER_SECRET", SECRET)],
            "gesher: --bind localhost: not an IP address: write one like 127.0.0.1 or ::1, and the port with --port\n",
        ),
    ] {
        assert_eq!(run(line, environment), (2, stderr.to_owned()), "{line}");
    }
}

#[test]
fn a_port_in_use_is_one_line_that_names_the_flag() {
    let (_listener, port) = taken();
    let line = format!("server --port {port} --bind 127.0.0.1");
    assert_eq!(run(&line, &[("GESHER_SECRET", SECRET)]), in_use(port));
}

#[test]
fn all_addresses_count_for_a_port_in_use() {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(run(&format!("server --port {port}"), &[("GESHER_SECRET", SECRET)]), in_use(port));
}

#[test]
fn a_flag_beats_the_environment_and_that_the_default() {
    let ((_first, by_flag), (_second, by_environment)) = (taken(), taken());
    let port = by_environment.to_string();
    let environment =
        [("GESHER_SECRET", SECRET), ("GESHER_BIND", "127.0.0.1"), ("GESHER_PORT", port.as_str())];
    assert_eq!(run("server", &environment), in_use(by_environment));
    assert_eq!(run(&format!("server --port {by_flag}"), &environment), in_use(by_flag));
}

#[test]
fn a_secret_flag_beats_either_variable() {
    let (_listener, port) = taken();
    let server = format!("server --bind 127.0.0.1 --port {port}");
    let missing = "/no/such/gesher.secret";

    let (code, stderr) = run(&format!("{server} --secret-file {missing}"), &[("GESHER_SECRET", SECRET)]);
    assert_eq!(code, 1);
    assert!(stderr.starts_with(&format!("gesher: --secret-file {missing}: no such file: ")), "{stderr}");

    let file_too = [("GESHER_SECRET_FILE", missing)];
    assert_eq!(run(&format!("{server} --secret 0123456789abcdef"), &file_too), in_use(port));

    let (code, stderr) = run(&server, &[("GESHER_SECRET", SECRET), ("GESHER_SECRET_FILE", missing)]);
    assert_eq!(code, 2);
    assert!(stderr.contains("both set"), "{stderr}");
}

#[test]
fn a_secret_comes_from_standard_input() {
    let (_listener, port) = taken();
    let server = format!("server --bind 127.0.0.1 --port {port} --secret-file -");
    assert_eq!(run_with_input(&server, b"correct horse battery staple\n"), in_use(port));
    let (code, stderr) = run_with_input(&server, b"\n");
    assert_eq!((code, stderr.lines().count()), (2, 1), "{stderr}");
}

#[test]
fn a_server_prints_its_pin_and_the_line_to_run_but_never_the_secret() {
    let environment = [("GESHER_SECRET", SECRET)];
    let mut child = gesher("server --bind 127.0.0.1 --port 0", &environment).spawn().unwrap();
    let mut banner = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    while !banner.contains("gesher client") {
        assert_ne!(stdout.read_line(&mut banner).unwrap(), 0, "{banner}");
    }
    child.kill().unwrap();
    stdout.read_to_string(&mut banner).unwrap();
    child.wait().unwrap();

    let pin = banner.split_once("PIN: ").unwrap().1.lines().next().unwrap();
    assert!(pin.len() == 6 && pin.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{banner}");
    let line = banner.lines().find(|line| line.contains("gesher client")).unwrap();
    assert!(line.starts_with("  gesher client --gateway http://127.0.0.1:"), "{banner}");
    assert!(line.ends_with(&format!(" --pin {pin}")), "{banner}");
    assert!(!banner.contains(SECRET), "{banner}");
}

#[test]
fn help_shows_the_settings_but_not_their_secret_values() {
    let environment = [("GESHER_SECRET", SECRET), ("GESHER_PIN", "QQQQQQ"), ("GESHER_PORT", "8123")];
    let output = gesher("server --help", &environment).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(help.contains("GESHER_SECRET") && help.contains("list of processes"), "{help}");
    assert!(help.contains("8123"), "{help}");
    assert!(!help.contains(SECRET) && !help.contains("QQQQQQ"), "{help}");
}

#[test]
fn keygen_prints_a_secret_and_nothing_else() {
    let secrets = [(); 2].map(|()| {
        let output = gesher("keygen", &[]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
        String::from_utf8(output.stdout).unwrap()
    });
    assert_ne!(secrets[0], secrets[1]);
    for secret in secrets {
        assert_eq!(secret.lines().count(), 1, "{secret}");
        assert!(secret.ends_with('\n') && secret.trim().len() >= 16, "{secret}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_secret_that_could_not_be_written_is_a_failure() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = gesher("keygen", &[]).stdout(full).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.starts_with("gesher: the secret could not be written: "), "{stderr}");
}

/// What systemd and procd would start, as `gesher check` sees it.
#[test]
fn the_service_files_of_the_documentation_are_what_the_program_takes() {
    let folder = std::env::temp_dir().join(format!("gesher-services-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("secret"), "a secret that is long enough, and 0440\n").unwrap();
    let folder = folder.to_str().unwrap();
    let text = include_str!("../../docs/tiny-hosts.md").replace("\\\n", " ");
    let lines: Vec<_> = text.lines().filter_map(|line| line.split_once("/bin/gesher ")).collect();
    assert_eq!(lines.len(), 3);
    for (_, line) in lines {
        let line = line.replace("${CREDENTIALS_DIRECTORY}", folder).replace("/etc/gesher", folder);
        let environment = [("GESHER_PIN", "ABCDEFGHIJ"), ("CREDENTIALS_DIRECTORY", folder)];
        let output = gesher(&format!("check {line}"), &environment).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{line}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
