//! Scripted apps: for each request a list of acts.

use std::collections::VecDeque;

use crate::http1::body::{Decoder, Framing, request_framing};
use crate::http1::head::{HeadKind, HeadScan, parse_request};

/// One thing that a scripted app does with a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Does nothing for so many milliseconds.
    WaitMs(u64),
    /// Goes on once the request's body has come whole.
    AwaitBody,
    /// Reads no more for so many milliseconds.
    StopReadingMs(u64),
    /// From now on sends back whatever comes, until FIN, which it answers with its own.
    Echo,
    /// Closes (FIN).
    Close,
    /// Resets (RST).
    Reset,
}

impl Act {
    /// Sends this text.
    pub fn send(text: impl AsRef<[u8]>) -> Self {
        Act::Send(text.as_ref().to_vec())
    }
}

/// A request as a scripted app sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppRequest {
    /// The method.
    pub method: String,
    /// The request target.
    pub target: String,
    /// The whole head.
    pub head: String,
}

/// What an app answers.
pub(super) type Handler = Box<dyn FnMut(&AppRequest) -> Vec<Act>>;

/// One connection to an app.
#[derive(Default)]
pub(super) struct AppConn {
    input: Vec<u8>,
    scan: HeadScan,
    body: Option<Decoder>,
    /// What came of the body.
    pub(super) body_bytes: Vec<u8>,
    pub(super) acts: VecDeque<Act>,
    pub(super) echo: bool,
    pub(super) ended: bool,
}

impl AppConn {
    /// These bytes came; what they ask for is added to the acts. Returns what to send back at once.
    pub(super) fn received(&mut self, bytes: &[u8], handler: &mut Handler) -> Vec<u8> {
        if self.echo {
            return bytes.to_vec();
        }
        self.input.extend_from_slice(bytes);
        loop {
            if let Some(decoder) = &mut self.body {
                let mut out = Vec::new();
                let Ok(consumed) = decoder.decode(&self.input, usize::MAX, &mut out) else {
                    panic!("an app got a malformed body");
                };
                self.input.drain(..consumed);
                self.body_bytes.extend(out);
                if !decoder.is_done() {
                    return Vec::new();
                }
                self.body = None;
            }
            let found =
                self.scan.find(&self.input, HeadKind::Request).expect("an app gets well-formed heads");
            let Some(length) = found else { return Vec::new() };
            let head: Vec<u8> = self.input.drain(..length).collect();
            self.scan = HeadScan::default();
            let request = parse_request(&head).expect("an app gets well-formed heads");
            let framing = request_framing(&request).expect("an app gets well-formed framing");
            self.body = Some(Decoder::new(framing)).filter(|_| framing != Framing::Empty);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            self.body_bytes.clear();
            self.acts.extend(handler(&AppRequest {
                method: text(request.method),
                target: text(request.target),
                head: text(&head),
            }));
        }
    }

    /// Whether the body of the last request is whole.
    pub(super) fn has_body(&self) -> bool {
        self.body.is_none()
    }
}
