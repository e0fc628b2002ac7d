//! A visitor's connection byte for byte: what goes out is what the test says, what comes back is compared whole.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::process::PATIENCE;

pub(crate) struct Wire(pub(crate) TcpStream);

impl Wire {
    pub(crate) fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends no more, but still reads.
    pub(crate) fn finish(&mut self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads as much as `expected` is long, and compares; `*` in it stands for what [`masked`] hides.
    pub(crate) fn expect(&mut self, what: &str, expected: &str) {
        let length = unmasked_len(expected);
        let mut got = vec![0; length];
        let (mut so_far, mut end) = (0, None);
        while so_far < length && end.is_none() {
            match self.0.read(&mut got[so_far..]) {
                Ok(0) => end = Some("the connection ended".into()),
                Ok(read) => so_far += read,
                Err(why) => end = Some(why.to_string()),
            }
        }
        assert_eq!(masked(&got[..so_far]), expected, "{what}, then: {end:?}");
    }

    /// The same, and the connection ends after it in the orderly way.
    pub(crate) fn expect_last(&mut self, what: &str, expected: &str) {
        self.expect(what, expected);
        let rest = self.rest().unwrap_or_else(|why| panic!("{what}: no end, but {why}"));
        assert_eq!(masked(&rest), "", "{what}: there is more");
    }

    /// All that comes until the connection ends; an error if it is cut.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest)?;
        Ok(rest)
    }
}

/// What differs from run to run: how long it is, what comes before it, and what ends it.
const VARIABLE: [(&str, usize); 4] = [
    ("Date: ", "Sun, 06 Nov 1994 08:49:37 GMT".len()),
    ("\nid ", "000000000000002a".len()),
    ("<code>", "000000000000002a".len()),
    (" gesher-", "1a2b".len()),
];

/// The bytes as text, with `*` for dates, the ids of our own answers, and the gateway's name in Via.
pub(crate) fn masked(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    for (before, length) in VARIABLE {
        let mut at = 0;
        while let Some(found) = text[at..].find(before) {
            at += found + before.len();
            if text.is_char_boundary(at + length) && at + length <= text.len() {
                text.replace_range(at..at + length, "*");
            }
        }
    }
    text
}

fn unmasked_len(text: &str) -> usize {
    let more = VARIABLE.map(|(before, length)| text.matches(&format!("{before}*")).count() * (length - 1));
    text.len() + more.iter().sum::<usize>()
}

/// An answer of the gateway's own, whole; `more` are the fields after those that all of them have.
pub(crate) fn own_answer(status: &str, sentence: &str, more: &str) -> String {
    let length = format!("{status}\n\n{sentence}\n\nid {}\n", "0".repeat(16)).len();
    format!(
        "HTTP/1.1 {status}\r\nDate: *\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n{more}\r\n\
         {status}\n\n{sentence}\n\nid *\n"
    )
}
