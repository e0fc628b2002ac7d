//! The fuzzer's end of a connection to the app: reads requests as a careful server does, and knows what it answered.

use crate::http1::body::{Decoder, Framing, request_framing};
use crate::http1::head::{HeadKind, HeadScan, parse_request};

/// A server that takes nothing malformed.
#[derive(Default)]
pub(super) struct Server {
    arrived: Vec<u8>,
    scan: HeadScan,
    request: Option<Request>,
    /// How many requests came, and how many final answers to them went out whole.
    requests: usize,
    answered: usize,
}

/// The request that came last.
pub(super) struct Request {
    pub(super) method: Vec<u8>,
    /// The value of its field X-Stream.
    pub(super) stream: Option<u32>,
    /// Which link it came over.
    link: usize,
    pub(super) asks_for_upgrade: bool,
    decoder: Decoder,
    pub(super) answer: Answer,
}

/// What was answered so far.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    pub(super) began: bool,
    pub(super) body_bytes: u64,
    pub(super) whole: bool,
}

impl Server {
    /// Reads what came; hands out each request's stream as its head comes, and portions of bodies.
    ///
    /// # Panics
    /// If it is not what a connector may send.
    pub(super) fn hear(&mut self, link: usize, bytes: &[u8], mut heard: impl FnMut(Option<u32>, &[u8])) {
        self.arrived.extend_from_slice(bytes);
        loop {
            if let Some(request) = &mut self.request {
                let mut body = Vec::new();
                let decoded = request.decoder.decode(&self.arrived, usize::MAX, &mut body);
                self.arrived.drain(..decoded.expect("a well-formed body"));
                heard(request.stream, &body);
                if !request.decoder.is_done() || self.arrived.is_empty() {
                    return;
                }
            }
            let found = self.scan.take(&self.arrived, HeadKind::Request).expect("a well-formed head");
            let Some(head) = found else { return };
            let head: Vec<u8> = self.arrived.drain(..head.len()).collect();
            self.head(link, &head);
        }
    }

    fn head(&mut self, link: usize, head: &[u8]) {
        let head = parse_request(head).expect("a well-formed head");
        let framing = request_framing(&head).expect("one framing");
        let stream = head.get("x-stream").and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
        self.requests += 1;
        self.request = Some(Request {
            method: head.method.to_vec(),
            stream,
            link,
            asks_for_upgrade: head.get("upgrade").is_some(),
            decoder: Decoder::new(framing),
            answer: Answer::default(),
        });
    }

    /// The request that waits for an answer, or for the rest of it.
    pub(super) fn waits(&mut self) -> Option<&mut Request> {
        self.request.as_mut().filter(|request| !request.answer.whole)
    }

    /// The stream of the request that came last, if it came over this link, and what was answered to it.
    pub(super) fn answer(&self, link: usize) -> Option<(u32, Answer)> {
        let request = self.request.as_ref().filter(|request| request.link == link)?;
        Some((request.stream?, request.answer))
    }

    /// Nobody sends a request before the last one is answered.
    pub(super) fn check_turns(&self) {
        assert!(self.requests <= self.answered + 1, "requests are not pipelined");
    }

    /// The answer is whole.
    pub(super) fn answered(&mut self) {
        self.answered += 1;
        if let Some(request) = &mut self.request {
            request.answer.whole = true;
        }
    }

    /// A 101 went out: what comes now is opaque.
    pub(super) fn upgrades(&mut self) {
        if let Some(request) = &mut self.request {
            request.answer.began = true;
            request.decoder = Decoder::new(Framing::UntilClose);
        }
    }

    /// The connector ended the connection in good order.
    ///
    /// # Panics
    /// If something was not whole.
    pub(super) fn ended(&mut self) {
        assert!(self.arrived.is_empty(), "half a head: {}", self.arrived.escape_ascii());
        if let Some(request) = &mut self.request {
            request.decoder.end_of_input().expect("a part is not taken for the whole");
        }
    }
}
