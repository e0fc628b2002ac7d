//! A connector that somebody else could have written: in Python, from docs/protocol.md alone.

use std::process::Command;

use rustix::process::Signal;

use crate::gesher::{SECRET, Server};
use crate::outside::{Folder, curl, program, python_with};
use crate::process::Process;

/// What connector.py imports: Argon2id is in newer versions of cryptography, else in argon2-cffi.
const NEEDED: &str = "
from cryptography.hazmat.primitives.asymmetric import x25519
try:
    import argon2
except ImportError:
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
";

/// The connector; none if Python or a package of it is not installed.
fn python(server: &Server, pin: &str) -> Option<Command> {
    let mut command = python_with(NEEDED)?;
    command.arg("-u").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/connector.py"));
    command.arg(server.address.ip().to_string()).arg(server.address.port().to_string()).arg(pin);
    command.env("GESHER_SECRET", SECRET);
    Some(command)
}

#[test]
fn a_connector_made_from_the_protocols_document_alone_serves_visitors() {
    let server = Server::start();
    let Some(mut command) = python(&server, &server.pin) else { return };
    if program("curl").is_none() {
        return;
    }
    let mut connector = Process::start("python", &mut command);
    let id = connector.line("joined as ").replace("joined as ", "");
    assert_eq!(id.len(), 8, "{id}");
    assert_eq!(curl(&[&server.url("/hello")]), "hello from python\n");
    assert!(curl(&["--head", &server.url("/hello")]).contains("X-From: python"));
    // Longer than any first window, both ways.
    let folder = Folder::new();
    let large = folder.path().join("large");
    curl(&["--output", &large.display().to_string(), &server.url("/large?3000000")]);
    let expected: Vec<u8> = (0..3_000_000_u32).map(|place| (place % 251) as u8).collect();
    assert!(std::fs::read(large).unwrap() == expected, "another body");
    let body = "0123456789abcdef".repeat(60_000);
    let upload = folder.write("upload", &body);
    let data = format!("@{}", upload.display());
    assert_eq!(curl(&["--data-binary", &data, &server.url("/echo")]), body);
    server.process.signal(Signal::TERM);
    connector.line("the gateway says goodbye");
    connector.line("the link has ended");
    assert_eq!(connector.end(), Some(0));
}

#[test]
fn a_connector_of_others_with_a_wrong_pin_is_refused_like_ours() {
    let server = Server::start();
    let Some(mut command) = python(&server, "WRONG1") else { return };
    let mut connector = Process::start("python", &mut command);
    connector.line("refused: 401 pin");
    assert_eq!(connector.end(), Some(1));
    server.process.line("right secret, but wrong PIN");
}
