//! Captures: the bytes are the payloads of a file's entries, each after its length (u16, big-endian). Lengths and checks of
//! the file are made here: a fuzzer would not find them.

use crate::capture::file_of;
use crate::capture::{Replay, ReplayError, Summary};

/// Replays a file, twice; and the bytes as they are, as a file.
pub fn replay(data: &[u8]) {
    let file = file_of(&payloads(data));
    for (file, lenient) in [(&file[..], false), (&file, true), (data, false)] {
        assert_eq!(run(file, lenient), run(file, lenient), "the same file is the same replay");
    }
}

fn payloads(mut data: &[u8]) -> Vec<&[u8]> {
    let mut payloads = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk() {
        let (payload, rest) = rest.split_at(rest.len().min(usize::from(u16::from_be_bytes(*length))));
        payloads.push(payload);
        data = rest;
    }
    payloads
}

/// What is shown, and how it ends. A lenient run goes on where something else is decided, and so deeper.
fn run(file: &[u8], lenient: bool) -> (String, Result<Summary, String>) {
    let mut shown = String::new();
    let result = match Replay::open(file) {
        Err(why) => Err(why.into()),
        Ok(replay) => if lenient { replay.lenient() } else { replay }.run(|lines| shown += lines),
    };
    if let Err(ReplayError::Differs(difference)) = &result {
        assert!(difference.offset < file.len() as u64);
    }
    (shown, result.map_err(|why| why.to_string()))
}
