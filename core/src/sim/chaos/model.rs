//! What a visitor may see and what an app may get, as docs/http.md promises it. The model knows what was asked and what
//! the app does, and nothing of the machines in between.
//!
//! Each request gets one whole right response, or one clean error of the gateway's own, or a connection that is cut in
//! a way that the visitor can tell. What of these depends on how things are: see [`Weather`].

use std::time::Duration;

use super::ask::{Ask, Body, EXCESS, Kind, Upload, pattern};
use super::reader::{Head, Item, Reader};
use super::seen::Seen;
use crate::limits;
use crate::sim::AppRequest;

/// How things are while a request is on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// Something went wrong in the last minute: a process, a link, an app.
    pub(super) troubled: bool,
    /// Somebody who was to serve leaves in good order, or there is nobody: new requests may find nobody.
    pub(super) leaving: bool,
    /// Some process has little memory: it may be busy.
    pub(super) scarce: bool,
    /// The longest body that the gateway takes.
    pub(super) body_max: Option<usize>,
}

/// What becomes of a request when nothing goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Promise {
    /// The app's response, with this status.
    Response(u16),
    /// An error of our own, with this status.
    Error(u16),
    /// The app breaks off: a part of its response and a cut, or an error.
    Broken,
    /// The visitor sends no more inside its request, of which the answer may have begun: it is cut, unless it is whole
    /// by then; else 400.
    Stopped,
}

fn promise(ask: &Ask, weather: &Weather) -> Promise {
    if let Some(fault) = ask.fault {
        return Promise::Error(fault.status);
    }
    if weather.body_max.is_some_and(|max| ask.upload_bytes() > max) {
        return Promise::Error(413);
    }
    if ask.via.is_some() {
        return Promise::Error(508);
    }
    match ask.kind {
        Kind::Early | Kind::Mirror if ask.stops => Promise::Stopped,
        _ if ask.stops => Promise::Error(400),
        Kind::Silent => Promise::Error(504),
        Kind::HangsUp | Kind::Resets | Kind::Junk | Kind::Unasked => Promise::Error(502),
        Kind::BreaksOff if ask.method == "HEAD" => Promise::Response(200),
        Kind::BreaksOff | Kind::BreaksChunks => Promise::Broken,
        Kind::NoContent => Promise::Response(204),
        Kind::NotModified => Promise::Response(304),
        Kind::Echo => Promise::Response(101),
        _ => Promise::Response(200),
    }
}

/// How often apps may get a request, in all (docs/http.md, choosing a connector, and trying again).
pub(super) fn deliveries_max(ask: &Ask) -> usize {
    let is_empty = ask.upload_bytes() == 0 && !matches!(ask.upload, Upload::Chunked(_));
    match ask.method {
        // On a fresh connection after one that the app had closed, and all of it on another connector.
        "GET" | "HEAD" | "OPTIONS" if is_empty => 4,
        "PUT" | "DELETE" if is_empty => 2,
        _ => 1,
    }
}

/// # Panics
/// If an app got something else than was sent.
pub(super) fn check_delivery(ask: &Ask, request: &AppRequest, from: usize) {
    let Ask { tag, method, .. } = ask;
    if let Some(fault) = ask.fault {
        return assert!(
            fault.reaches_apps() && !request.whole,
            "request {tag} is malformed and reached an app"
        );
    }
    assert_eq!(request.method, *method, "request {tag} came to its app with another method");
    let body = &request.body[from..];
    let fits = request.body.len() <= ask.upload_bytes()
        && *body == pattern(*tag, Body::Request, from, body.len())[..];
    assert!(fits, "request {tag}: its app got a wrong byte of its body");
    if request.whole {
        assert!(!ask.stops, "request {tag}: its app takes a part of what was to come for all of it");
        let all = ask.upload_bytes();
        assert_eq!(request.body.len(), all, "request {tag}: its app takes a part of its body for all of it");
        let trailers = format!("X-Sum: {tag}\r\n");
        assert!(
            request.trailers.is_empty() || request.trailers == trailers,
            "request {tag}: its app got wrong trailers"
        );
    }
}

/// The requests of one connection, and what came back so far.
#[derive(Default)]
pub(super) struct Answers {
    reader: Reader,
    /// Which request is answered next.
    pub(super) at: usize,
    part: Option<Part>,
    /// No more answers come on this connection.
    pub(super) closing: bool,
    /// Bytes that came back through the tunnel.
    pub(super) echoed: usize,
    /// What was answered, for who counts.
    pub(super) answered_by_apps: usize,
}

/// A response of which the head has come.
#[derive(Debug)]
enum Part {
    /// The app's: how much of its body has come, and whether its trailers.
    App { status: u16, body: usize, trailers: bool, closes: bool },
    /// What an app sent beyond an earlier response, just as its connection was used again: by the rules it is the answer,
    /// and only a client that waits before each use would know better (RFC 9112, 9.2). It is the app's own doing.
    Excess { body: Vec<u8>, closes: bool },
    /// Our own.
    Own { status: u16, body: Vec<u8>, closes: bool },
}

/// How a connection is, besides its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// None if it is open; else whether it ended in good order (FIN).
    pub(super) ended: Option<bool>,
    /// The visitor sends or reads so slowly, or sends so much, that it may lose an answer.
    pub(super) slow: bool,
    /// Nothing passed between the visitor and the gateway for a while.
    pub(super) stalls: bool,
    /// Somebody on the way reset it.
    pub(super) broken: bool,
    /// The gateway's process died, and its kernel closed everything.
    pub(super) orphaned: bool,
    /// For how long the visitor, which sends no more (FIN), had got nothing when its connection ended.
    pub(super) unheard_for: Option<Duration>,
    /// How much the visitor sent into the tunnel, and whether all.
    pub(super) tunnelled: (usize, bool),
    /// How many requests were sent.
    pub(super) asked: usize,
}

impl Answers {
    /// Whether an answer has begun to come.
    pub(super) fn has_begun(&self) -> bool {
        self.part.is_some()
    }

    /// Whether the connection carries bytes both ways.
    pub(super) fn is_tunnel(&self) -> bool {
        self.reader.is_tunnel()
    }

    /// # Panics
    /// If these bytes, which came on a connection with these requests, are wrong.
    pub(super) fn received(
        &mut self,
        bytes: &[u8],
        asks: &[Ask],
        line: Line,
        weather: &Weather,
        seen: &mut Seen,
    ) {
        self.reader.received(bytes);
        loop {
            let ask = asks.get(self.at).filter(|_| self.at < line.asked && !self.closing);
            let method = ask.map_or("GET", |ask| ask.method);
            let item = match self.reader.next(method) {
                Ok(Some(item)) => item,
                Ok(None) => return,
                Err(why) => panic!("what came for {ask:?} is not HTTP: {why}"),
            };
            let Some(ask) = ask else { panic!("an answer that nobody asked for: {item:?} after {asks:?}") };
            self.judge(item, ask, line, weather, seen);
        }
    }

    fn judge(&mut self, item: Item, ask: &Ask, line: Line, weather: &Weather, seen: &mut Seen) {
        let tag = ask.tag;
        match item {
            Item::Interim(head) => {
                let allowed = match head.status {
                    100 => ask.expects,
                    103 => matches!(ask.kind, Kind::Interim | Kind::Interims),
                    _ => false,
                };
                assert!(
                    allowed && !ask.http10,
                    "request {tag}: an interim answer that it does not expect: {head:?}"
                );
                seen.note(format!("interim {}", head.status));
            }
            Item::Final(head) => self.part = Some(Self::begin(&head, ask, line, weather)),
            Item::Body(bytes) => match &mut self.part {
                Some(Part::App { body, .. }) => {
                    let of = if ask.kind == Kind::Mirror { Body::Request } else { Body::Response };
                    let right = pattern(tag, of, *body, bytes.len());
                    assert!(bytes == right, "request {tag}: a wrong byte in its response, after {body}");
                    *body += bytes.len();
                    assert!(*body <= expected_bytes(ask), "request {tag}: its response is too long");
                }
                Some(Part::Own { body, .. } | Part::Excess { body, .. }) => body.extend(bytes),
                None => panic!("request {tag}: a body without a head"),
            },
            Item::Trailers(text) => match &mut self.part {
                Some(Part::App { trailers, .. }) if ask.kind == Kind::Trailers && !*trailers => {
                    assert_eq!(text, format!("X-Sum: {tag}"), "request {tag}: wrong trailers");
                    *trailers = true;
                }
                _ => panic!("request {tag}: trailers that nobody sent: {text}"),
            },
            Item::Whole => self.whole(ask, seen),
            Item::Opaque(bytes) => {
                let right = pattern(tag, Body::Tunnel, self.echoed, bytes.len());
                assert!(bytes == right, "request {tag}: a wrong byte in its tunnel, after {}", self.echoed);
                self.echoed += bytes.len();
                assert!(self.echoed <= line.tunnelled.0, "request {tag}: more came back than was sent");
            }
        }
    }

    /// Whether this may be the head of an answer to this request.
    fn begin(head: &Head, ask: &Ask, line: Line, weather: &Weather) -> Part {
        let Ask { tag, .. } = ask;
        let status = head.status;
        let promise = promise(ask, weather);
        if let Some(found) = head.get("x-tag") {
            if found == "0" && status == 200 {
                return Part::Excess { body: Vec::new(), closes: head.closes() };
            }
            assert_eq!(found, tag.to_string(), "request {tag} got the answer to another request");
            let allowed = match promise {
                Promise::Response(promised) => status == promised,
                Promise::Broken | Promise::Stopped => status == 200,
                // The answer may be there before the body is too long.
                Promise::Error(status) => status == 413,
            };
            assert!(allowed, "request {tag}: {promise:?} and not {head:?}");
            return Part::App { status, body: 0, trailers: false, closes: head.closes() };
        }
        assert_eq!(
            head.get("x-content-type-options"),
            Some("nosniff"),
            "request {tag}: whose answer is {head:?}"
        );
        let may_fail = weather.troubled || (weather.scarce || weather.leaving) && status == 503;
        let allowed = match promise {
            Promise::Error(promised) if status == promised => true,
            Promise::Error(_) if status == 413 && weather.body_max.is_some() => {
                ask.fault.is_some_and(|fault| fault.reaches_apps())
            }
            Promise::Broken if status == 502 => true,
            // Whichever is noticed first: that a body is too long, or that no more of it comes.
            Promise::Stopped | Promise::Error(413) if status == 400 => ask.stops,
            _ => match status {
                502..=504 => may_fail || status == 504 && line.stalls,
                408 => line.slow,
                _ => false,
            },
        };
        assert!(allowed, "request {tag}: {promise:?} and not {head:?}; {weather:?}");
        assert!(status != 503 || head.get("retry-after").is_some(), "request {tag}: 503 without Retry-After");
        assert!(head.get("cache-control") == Some("no-store"), "request {tag}: {head:?} may be kept");
        Part::Own { status, body: Vec::new(), closes: head.closes() }
    }

    /// A response is whole, as the visitor understands it.
    fn whole(&mut self, ask: &Ask, seen: &mut Seen) {
        let tag = ask.tag;
        let closes = match self.part.take() {
            Some(Part::App { status, body, trailers, closes }) => {
                let has_body = ask.method != "HEAD" && status == 200;
                let expected = if has_body { expected_bytes(ask) } else { 0 };
                assert!(
                    body == expected && !(is_broken(ask) && has_body),
                    "request {tag}: {body} of {expected} bytes are taken for a whole response"
                );
                let wants_trailers = ask.kind == Kind::Trailers && has_body && !ask.http10;
                assert_eq!(trailers, wants_trailers, "request {tag}: trailers");
                self.answered_by_apps += 1;
                seen.note(format!("app {}", ask.kind.word()));
                closes
            }
            Some(Part::Excess { body, closes }) => {
                assert!(body == EXCESS || ask.method == "HEAD", "request {tag}: {body:?} of nobody's");
                seen.note("an app's excess was an answer");
                closes
            }
            Some(Part::Own { status, body, closes }) => {
                let text = String::from_utf8_lossy(&body);
                let fits = if ask.method == "HEAD" && ask.fault.is_none() {
                    text.is_empty()
                } else {
                    text.starts_with(&status.to_string()) && text.contains("\n\nid ")
                };
                assert!(fits, "request {tag}: {status} with {text:?}");
                seen.note(format!("answer {status}"));
                closes
            }
            None => panic!("request {tag}: no head"),
        };
        self.closing |= closes || ask.http10;
        self.at += 1;
    }

    /// # Panics
    /// If the connection may not have ended so.
    pub(super) fn ended(&mut self, asks: &[Ask], line: Line, weather: &Weather, seen: &mut Seen) {
        let Some(is_fin) = line.ended else { return };
        let Some(ask) = asks.get(self.at).filter(|_| self.at < line.asked && !self.closing) else { return };
        let tag = ask.tag;
        if is_fin && !line.orphaned && self.reader.is_until_close() {
            return self.whole(ask, seen);
        }
        if is_fin && !line.orphaned && self.reader.is_tunnel() {
            let is_whole = line.tunnelled == (self.echoed, true);
            assert!(is_whole, "request {tag}: a part of what its tunnel carried is taken for all of it");
            seen.note("tunnel ended");
            return;
        }
        // A reset that says that a later response is broken overtakes what was not read of this one.
        let mut waiting = asks[self.at..line.asked].iter().take(if is_fin { 1 } else { usize::MAX });
        let breaks = waiting.any(|ask| matches!(promise(ask, weather), Promise::Broken | Promise::Stopped));
        let is_reset = line.broken && !is_fin;
        let is_gone = line.unheard_for.is_some_and(|unheard_for| unheard_for >= limits::VISITOR_GONE);
        let may_be_cut = weather.troubled || weather.scarce || line.slow || is_reset || breaks || is_gone;
        let how = if self.reader.is_between() { "no answer" } else { "half an answer" };
        if is_gone {
            seen.note("a visitor that sends no more is taken for gone");
        }
        assert!(may_be_cut, "request {tag}: {how} although nothing was wrong: {ask:?} {line:?}");
        seen.note(format!("cut: {how}"));
    }

    /// # Panics
    /// If somebody waits for something that never comes.
    pub(super) fn is_served(&self, asks: &[Ask], line: Line) {
        if line.ended.is_none() && self.at < line.asked && !self.closing {
            let ask = &asks[self.at];
            let echo = (self.is_tunnel(), self.echoed);
            assert!(
                self.is_tunnel() && echo == (true, line.tunnelled.0) && !line.tunnelled.1,
                "request {} waits for ever: {ask:?}, {:?}, {echo:?} of {line:?}",
                ask.tag,
                self.part
            );
        }
    }
}

fn expected_bytes(ask: &Ask) -> usize {
    if ask.kind == Kind::Mirror { ask.upload_bytes() } else { ask.size }
}

fn is_broken(ask: &Ask) -> bool {
    matches!(ask.kind, Kind::BreaksOff | Kind::BreaksChunks) || ask.stops && ask.kind == Kind::Mirror
}
