//! The fuzzer's end of a visitor's connection: reads what comes as a careful client does, and knows what was asked.

use std::collections::VecDeque;

use crate::http1::body::{Decoder, Framing, request_framing, response_framing};
use crate::http1::head::{
    HeadKind, HeadScan, ResponseHead, Version, list_has, parse_request, parse_response,
};

/// A client that never takes a part for the whole.
#[derive(Default)]
pub(super) struct Client {
    asking: Asking,
    arrived: Vec<u8>,
    scan: HeadScan,
    answer: Answer,
}

/// What is expected next.
#[derive(Default)]
enum Answer {
    #[default]
    Head,
    Body(Decoder, Received),
    /// After a 101.
    Tunnel(Received),
    /// After a response that closes: nothing.
    Over,
}

/// A response, as far as it has come.
#[derive(Clone, Default)]
pub(super) struct Received {
    /// The value of its field X-Stream.
    pub(super) stream: Option<Vec<u8>>,
    pub(super) body: Vec<u8>,
    pub(super) whole: bool,
    /// It is no response, but what came after a 101.
    pub(super) is_tunnel: bool,
    closes: bool,
}

impl Client {
    /// The fuzzer sends this.
    pub(super) fn asks(&mut self, bytes: &[u8]) {
        self.asking.bytes.extend_from_slice(bytes);
        self.asking.read();
    }

    /// Whether what is sent next is the beginning of a request.
    pub(super) fn is_between_requests(&self) -> bool {
        self.asking.is_between_requests()
    }

    /// Reads what came; hands out the responses that are whole.
    ///
    /// # Panics
    /// If it is not what a gateway may send.
    pub(super) fn hear(&mut self, bytes: &[u8], mut heard: impl FnMut(Received)) {
        self.arrived.extend_from_slice(bytes);
        loop {
            match &mut self.answer {
                Answer::Head => {
                    let found = self.scan.take(&self.arrived, HeadKind::Response);
                    let Some(head) = found.expect("a well-formed head") else { return };
                    let head: Vec<u8> = self.arrived.drain(..head.len()).collect();
                    self.head(&head);
                }
                Answer::Body(decoder, received) => {
                    let decoded = decoder.decode(&self.arrived, usize::MAX, &mut received.body);
                    self.arrived.drain(..decoded.expect("a well-formed body"));
                    if !decoder.is_done() {
                        return;
                    }
                    received.whole = true;
                    let received = received.clone();
                    self.answer = if received.closes { Answer::Over } else { Answer::Head };
                    heard(received);
                }
                Answer::Tunnel(received) => {
                    received.body.append(&mut self.arrived);
                    return;
                }
                Answer::Over => {
                    return assert!(self.arrived.is_empty(), "nothing comes after the last response");
                }
            }
        }
    }

    fn head(&mut self, head: &[u8]) {
        let head = parse_response(head).expect("a well-formed head");
        let stream = head.get("x-stream").map(<[u8]>::to_vec);
        let closes = list_has(&head.fields, "connection", "close");
        let received = Received { stream, closes, ..Received::default() };
        let asked = self.asking.asked.front().cloned();
        if head.status == 101 {
            assert!(asked.is_some_and(|asked| asked.upgrade), "a 101 is asked for");
            self.answer = Answer::Tunnel(Received { is_tunnel: true, ..received });
            return;
        }
        if head.status < 200 {
            return assert!(asked.is_some_and(|asked| asked.is_http11), "HTTP/1.0 has no 1xx");
        }
        self.asking.answered();
        self.answer = match asked {
            Some(asked) => Answer::Body(Decoder::new(framing(&head, &asked.method)), received),
            // What is no request is refused, and that ends it.
            None => {
                assert!(closes && matches!(head.status, 400..600), "nobody asked");
                Answer::Body(Decoder::new(framing(&head, b"GET")), received)
            }
        };
        if matches!(&self.answer, Answer::Body(_, received) if received.closes) {
            self.asking.over = true;
        }
    }

    /// The gateway ended the connection in good order. Returns a response that was whole by that.
    ///
    /// # Panics
    /// If something was not whole.
    pub(super) fn ended(&mut self) -> Option<Received> {
        assert!(self.arrived.is_empty(), "half a head: {}", self.arrived.escape_ascii());
        match std::mem::replace(&mut self.answer, Answer::Over) {
            Answer::Body(mut decoder, received) => {
                decoder.end_of_input().expect("a part is not taken for the whole");
                Some(Received { whole: true, ..received })
            }
            Answer::Tunnel(received) => Some(Received { whole: true, ..received }),
            Answer::Head | Answer::Over => None,
        }
    }

    /// Whether a 101 came, and no end.
    pub(super) fn is_in_tunnel(&self) -> bool {
        matches!(self.answer, Answer::Tunnel(_))
    }

    /// What came of a response that is not whole.
    pub(super) fn part(&self) -> Option<&Received> {
        match &self.answer {
            Answer::Body(_, received) | Answer::Tunnel(received) => Some(received),
            Answer::Head | Answer::Over => None,
        }
    }
}

fn framing(head: &ResponseHead<'_>, method: &[u8]) -> Framing {
    response_framing(head, method).expect("one framing")
}

/// The requests on a connection, as they were sent.
#[derive(Default)]
struct Asking {
    bytes: Vec<u8>,
    scan: HeadScan,
    body: Option<Decoder>,
    /// Those without a final response.
    asked: VecDeque<Asked>,
    /// After this one there may be no more requests, but something else.
    awaits_upgrade: bool,
    over: bool,
}

#[derive(Clone)]
struct Asked {
    method: Vec<u8>,
    is_http11: bool,
    upgrade: bool,
}

impl Asking {
    fn is_between_requests(&self) -> bool {
        self.bytes.is_empty() && self.body.is_none() && !self.awaits_upgrade && !self.over
    }

    /// Reads as many requests as there are; what is none ends it.
    fn read(&mut self) {
        while !self.over && !self.awaits_upgrade {
            if let Some(decoder) = &mut self.body {
                let Ok(consumed) = decoder.decode(&self.bytes, usize::MAX, &mut Vec::new()) else {
                    self.over = true;
                    return;
                };
                self.bytes.drain(..consumed);
                if !decoder.is_done() {
                    return;
                }
                self.body = None;
            }
            let length = match self.scan.take(&self.bytes, HeadKind::Request) {
                Ok(None) => return,
                Ok(Some(head)) => head.len(),
                Err(_) => {
                    self.over = true;
                    return;
                }
            };
            let head: Vec<u8> = self.bytes.drain(..length).collect();
            let parsed = parse_request(&head).and_then(|head| Ok((request_framing(&head)?, head)));
            let Ok((framing, head)) = parsed else {
                self.over = true;
                return;
            };
            let upgrade = head.get("upgrade").is_some();
            let is_http11 = head.version == Version::Http11;
            self.asked.push_back(Asked { method: head.method.to_vec(), is_http11, upgrade });
            self.awaits_upgrade = upgrade;
            self.body = Some(Decoder::new(framing));
        }
    }

    fn answered(&mut self) {
        if self.asked.pop_front().is_some_and(|asked| asked.upgrade) {
            self.awaits_upgrade = false;
        }
        self.read();
    }
}
