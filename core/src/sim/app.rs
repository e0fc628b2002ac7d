//! Scripted apps: for each request a list of acts.

use std::collections::VecDeque;
use std::time::Duration;

use super::pipe::Bottleneck;
use crate::http1::body::{Decoder, Framing, request_framing};
use crate::http1::head::{HeadKind, HeadScan, parse_request};

/// One thing that a scripted app does with a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends so many bytes that do not matter.
    Fill(u64),
    /// Does nothing for so many milliseconds.
    WaitMs(u64),
    /// Goes on once the request's body has come whole.
    AwaitBody,
    /// Reads no more for so many milliseconds.
    StopReadingMs(u64),
    /// From now on sends back whatever comes, until FIN, which it answers with its own.
    Echo,
    /// From now on sends each portion of the request's body back as a chunk, and the last chunk after the last portion.
    Mirror,
    /// Sends no more (FIN) and goes on reading.
    Finish,
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
    /// Which of the app's connections it came on, from 1 in the order of their first requests.
    pub connection: usize,
    /// The method.
    pub method: String,
    /// The request target.
    pub target: String,
    /// The whole head.
    pub head: String,
    /// What has come of the body; nothing yet when the app decides what to answer.
    pub body: Vec<u8>,
    /// How many bytes have come of the body.
    pub body_bytes: u64,
    /// The trailers, each line with its end.
    pub trailers: String,
    /// Whether the body is whole.
    pub whole: bool,
}

/// What an app answers.
type Handler = Box<dyn FnMut(&AppRequest) -> Vec<Act>>;

/// An app.
pub(super) struct App {
    pub(super) handler: Handler,
    /// Whether it takes connections.
    pub(super) up: bool,
    /// How long it takes until it has taken one.
    pub(super) dial_time: Duration,
    /// The narrowest place of connections to it.
    pub(super) bottleneck: Option<Bottleneck>,
    /// Whether it keeps the bodies that it gets.
    pub(super) keeps_bodies: bool,
    /// The requests that it got, in the order in which their heads came.
    pub(super) requests: Vec<AppRequest>,
    /// How many of its connections brought a request.
    pub(super) connections: usize,
    /// Whether it serves one connection to its end before it looks at the next.
    pub(super) one_at_a_time: bool,
    /// The end that it serves then.
    pub(super) serving: Option<usize>,
}

/// One connection to an app.
#[derive(Default)]
pub(super) struct AppConn {
    /// Which one it is, from its first request on.
    number: usize,
    input: Vec<u8>,
    scan: HeadScan,
    /// The body that is coming, and the place of its request.
    body: Option<(Decoder, usize)>,
    /// The place of the last request.
    last: usize,
    pub(super) acts: VecDeque<Act>,
    pub(super) echo: bool,
    pub(super) mirror: bool,
    /// How much of the body was mirrored.
    mirrored: usize,
    pub(super) ended: bool,
}

impl AppConn {
    /// These bytes came; what they ask for is added to the acts.
    ///
    /// # Panics
    /// If they are malformed: an app never gets anything that is.
    pub(super) fn received(&mut self, bytes: &[u8], app: &mut App) {
        if self.echo {
            self.acts.push_back(Act::send(bytes));
            return;
        }
        self.input.extend_from_slice(bytes);
        while self.take_body(app) && self.take_head(app) {}
        self.reflect(app);
    }

    /// Sends back what came of a body that is mirrored.
    pub(super) fn reflect(&mut self, app: &App) {
        if !self.mirror {
            return;
        }
        let request = &app.requests[self.last];
        let portion = &request.body[self.mirrored..];
        if !portion.is_empty() {
            self.acts.push_back(Act::Send(
                [format!("{:x}\r\n", portion.len()).as_bytes(), portion, b"\r\n"].concat(),
            ));
            self.mirrored = request.body.len();
        }
        if request.whole {
            self.acts.push_back(Act::send("0\r\n\r\n"));
            (self.mirror, self.mirrored) = (false, 0);
        }
    }

    /// Goes on with a body; false while it is not whole.
    fn take_body(&mut self, app: &mut App) -> bool {
        let Some((decoder, place)) = &mut self.body else { return true };
        let request = &mut app.requests[*place];
        let before = request.body.len();
        let consumed = decoder
            .decode(&self.input, usize::MAX, &mut request.body)
            .expect("an app gets well-formed bodies");
        request.body_bytes += (request.body.len() - before) as u64;
        if !app.keeps_bodies {
            request.body.clear();
        }
        self.input.drain(..consumed);
        request.whole = decoder.is_done();
        if request.whole {
            request.trailers = text(&decoder.take_trailers());
            self.body = None;
        }
        self.body.is_none()
    }

    /// Takes one head; false if it is not whole.
    fn take_head(&mut self, app: &mut App) -> bool {
        let found = self.scan.find(&self.input, HeadKind::Request).expect("an app gets well-formed heads");
        let Some(length) = found else { return false };
        let head: Vec<u8> = self.input.drain(..length).collect();
        self.scan = HeadScan::default();
        let parsed = parse_request(&head).expect("an app gets well-formed heads");
        let framing = request_framing(&parsed).expect("an app gets well-formed framing");
        if self.number == 0 {
            app.connections += 1;
            self.number = app.connections;
        }
        let request = AppRequest {
            connection: self.number,
            method: text(parsed.method),
            target: text(parsed.target),
            head: text(&head),
            body: Vec::new(),
            body_bytes: 0,
            trailers: String::new(),
            whole: framing == Framing::Empty,
        };
        self.acts.extend((app.handler)(&request));
        self.last = app.requests.len();
        self.body = Some((Decoder::new(framing), self.last)).filter(|_| !request.whole);
        app.requests.push(request);
        true
    }

    /// Whether the body of the last request is whole.
    pub(super) fn has_body(&self) -> bool {
        self.body.is_none()
    }

    /// The last request of this connection.
    pub(super) fn last<'a>(&self, app: &'a App) -> &'a AppRequest {
        &app.requests[self.last]
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
