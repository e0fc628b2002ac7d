//! What visitors ask for, and what apps do about it. Both follow from the request alone: its target says what the app
//! is to do, and its tag, which no other request has, what bytes its bodies have.

use super::dice::Dice;
use crate::sim::{Act, AppRequest};

/// Which way a body goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Body {
    Request = 1,
    Response = 2,
    Tunnel = 3,
}

/// Bytes `from` on of a body: no other body, and no other place in it, has the same for long.
pub(super) fn pattern(tag: usize, body: Body, from: usize, length: usize) -> Vec<u8> {
    let key = (tag as u64) << 8 | body as u64;
    let mut out = Vec::with_capacity(length + 16);
    for block in from / 8..(from + length).div_ceil(8) {
        // splitmix64
        let mut z = (key << 32 ^ block as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out.extend_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    out.drain(..from % 8);
    out.truncate(length);
    out
}

/// What an app does with a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    Sized,
    Chunked,
    Trailers,
    UntilClose,
    Http10,
    Closing,
    Stale,
    Interim,
    Early,
    Mirror,
    Slow,
    NoContent,
    NotModified,
    Echo,
    Denied,
    Silent,
    HangsUp,
    Resets,
    BreaksOff,
    BreaksChunks,
    Junk,
    Unasked,
    Interims,
    TooMuch,
    HalfClosing,
}

const KINDS: [(Kind, &str, usize); 25] = [
    (Kind::Sized, "sized", 10),
    (Kind::Chunked, "chunked", 4),
    (Kind::Trailers, "trailers", 3),
    (Kind::UntilClose, "until-close", 2),
    (Kind::Http10, "http10", 2),
    (Kind::Closing, "closing", 2),
    (Kind::Stale, "stale", 3),
    (Kind::Interim, "interim", 2),
    (Kind::Early, "early", 2),
    (Kind::Mirror, "mirror", 3),
    (Kind::Slow, "slow", 3),
    (Kind::NoContent, "no-content", 1),
    (Kind::NotModified, "not-modified", 1),
    (Kind::Echo, "echo", 4),
    (Kind::Denied, "denied", 1),
    (Kind::Silent, "silent", 1),
    (Kind::HangsUp, "hangs-up", 1),
    (Kind::Resets, "resets", 1),
    (Kind::BreaksOff, "breaks-off", 2),
    (Kind::BreaksChunks, "breaks-chunks", 2),
    (Kind::Junk, "junk", 1),
    (Kind::Unasked, "unasked", 1),
    (Kind::Interims, "interims", 1),
    (Kind::TooMuch, "too-much", 1),
    (Kind::HalfClosing, "half-closing", 2),
];

/// The body of the response that [`Kind::TooMuch`] sends without having been asked.
pub(super) const EXCESS: &[u8] = b"evil";

impl Kind {
    pub(super) fn word(self) -> &'static str {
        KINDS[self as usize].1
    }

    fn parse(word: &str) -> Option<Self> {
        KINDS.into_iter().find(|(_, name, _)| *name == word).map(|(kind, ..)| kind)
    }
}

/// How a request's body comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Upload {
    None,
    Sized(usize),
    Chunked(usize),
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) tag: usize,
    pub(super) method: &'static str,
    pub(super) kind: Kind,
    /// How long the response's body is.
    pub(super) size: usize,
    pub(super) upload: Upload,
    pub(super) http10: bool,
    pub(super) closes: bool,
    pub(super) expects: bool,
    /// The visitor sends no more (FIN) somewhere inside its body.
    pub(super) stops: bool,
    /// It breaks this rule.
    pub(super) fault: Option<&'static Malformed>,
    /// It has been at this gateway, which calls itself so, four times.
    pub(super) via: Option<String>,
}

/// A request that is to be refused, and with what (docs/http.md).
#[derive(Debug)]
pub(super) struct Malformed {
    /// What comes in place of the rest of the head, `{}` standing for the request's tag.
    text: &'static str,
    repeat: (&'static str, usize),
    pub(super) status: u16,
}

impl Malformed {
    /// Whether its head is right, so that an app may get that.
    pub(super) fn reaches_apps(&self) -> bool {
        self.text.ends_with("zz\r\n") || self.text.ends_with("\nabc") || self.text.ends_with("\nfin")
    }

    /// Whether the visitor sends no more after it.
    pub(super) fn ends(&self) -> bool {
        self.text.ends_with("fin")
    }
}

const fn malformed(text: &'static str, status: u16) -> Malformed {
    Malformed { text, repeat: ("", 0), status }
}

const MALFORMED: [Malformed; 24] = [
    malformed("GET /{}/sized/1 HTTP/1.1\r\nHost:", 408),
    malformed("POST /{}/sized/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc", 408),
    malformed("POST /{}/sized/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfin", 400),
    malformed("GET /{}/sized/1 HTTP/1.1\r\nHost: fin", 400),
    malformed("GET /{}/sized/1 HTTP/1.1\nHost: a\n\n", 400),
    malformed("GET /{}/sized/1 HTTP/1.1\r\n\r\n", 400),
    malformed("GET /{}/sized/1 HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
    malformed("GET /{}/sized/1#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    malformed("GET /{}/sized/1 HTTP/1.1\r\nHost : a\r\n\r\n", 400),
    malformed("GET /{}/sized/1 HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", 400),
    malformed("POST /{}/sized/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
    malformed("POST /{}/sized/1 HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx", 400),
    malformed(
        "POST /{}/sized/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
    ),
    malformed("POST /{}/sized/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
    malformed("POST /{}/sized/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    malformed("POST /{}/sized/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    malformed("GET /{}/sized/1 HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    malformed("TRACE /{}/sized/1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    malformed("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    malformed("POST /{}/sized/1 HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 1\r\n\r\nx", 417),
    malformed("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}", 400),
    Malformed { text: "GET /{}/sized/1", repeat: ("x", 17_000), status: 414 },
    Malformed { text: "GET /{}/sized/1 HTTP/1.1\r\nHost: a\r\n", repeat: ("A: b\r\n", 210), status: 431 },
    Malformed {
        text: "GET /{}/sized/1 HTTP/1.1\r\nHost: a\r\nLong: ",
        repeat: ("0123456789abcdef", 4_200),
        status: 431,
    },
];

impl Ask {
    /// Draws a request.
    pub(super) fn draw(tag: usize, dice: &mut Dice) -> Self {
        let weights: Vec<(usize, Kind)> = KINDS.iter().map(|(kind, _, weight)| (*weight, *kind)).collect();
        let kind = dice.weighted(&weights);
        let size = dice.size(usize::MAX);
        let mut ask = Self {
            tag,
            method: "GET",
            kind,
            size,
            upload: Upload::None,
            http10: dice.chance(1, 16),
            closes: dice.chance(1, 16),
            expects: false,
            stops: false,
            fault: None,
            via: None,
        };
        if dice.chance(1, 24) {
            ask.fault = Some(&MALFORMED[dice.below(MALFORMED.len())]);
            return ask;
        }
        match kind {
            Kind::Echo | Kind::Denied => {
                ask.http10 = false;
                ask.closes = false;
                // Not drawn: what else a seed draws stays as it is.
                if tag.is_multiple_of(3) {
                    let length = 1 + tag * 7_919 % 90_000;
                    ask.method = "POST";
                    ask.upload =
                        if tag.is_multiple_of(2) { Upload::Sized(length) } else { Upload::Chunked(length) };
                }
            }
            Kind::Early | Kind::Mirror => ask.method = "POST",
            _ => {
                ask.method = dice.weighted(&[
                    (8, "GET"),
                    (1, "HEAD"),
                    (6, "POST"),
                    (2, "PUT"),
                    (2, "DELETE"),
                    (1, "OPTIONS"),
                ]);
            }
        }
        let may_upload =
            matches!(ask.method, "POST" | "PUT") || (ask.method == "DELETE" && dice.chance(1, 4));
        if may_upload && !matches!(kind, Kind::Echo | Kind::Denied) {
            let length = dice.size(usize::MAX);
            ask.upload =
                if ask.http10 || dice.chance(2, 3) { Upload::Sized(length) } else { Upload::Chunked(length) };
            ask.expects = !ask.http10 && length > 0 && dice.chance(1, 8);
            // An app that breaks off at once leaves open which of the two came first.
            let answers = !matches!(kind, Kind::Silent | Kind::HangsUp | Kind::Resets | Kind::Junk);
            ask.stops = answers && ask.upload != Upload::Sized(0) && dice.chance(1, 8);
        }
        ask
    }

    /// A request for a little.
    pub(super) fn plain(tag: usize, method: &'static str) -> Self {
        Self {
            tag,
            method,
            kind: Kind::Sized,
            size: 1_000,
            upload: Upload::None,
            http10: false,
            closes: false,
            expects: false,
            stops: false,
            fault: None,
            via: None,
        }
    }

    /// How long the request's body is.
    pub(super) fn upload_bytes(&self) -> usize {
        match self.upload {
            Upload::None => 0,
            Upload::Sized(length) | Upload::Chunked(length) => length,
        }
    }

    /// The request up to its body.
    pub(super) fn head(&self) -> Vec<u8> {
        if let Some(Malformed { text, repeat: (piece, count), .. }) = self.fault {
            let text = text.replace("{}", &self.tag.to_string());
            return (text + &piece.repeat(*count)).into_bytes();
        }
        let Self { tag, method, kind, size, .. } = self;
        let version = if self.http10 { "1.0" } else { "1.1" };
        let mut head =
            format!("{method} /{tag}/{}/{size} HTTP/{version}\r\nHost: example.org\r\n", kind.word());
        if !self.http10 {
            head += "TE: trailers\r\n";
        }
        match self.upload {
            Upload::None => {}
            Upload::Sized(length) => head += &format!("Content-Length: {length}\r\n"),
            Upload::Chunked(_) => head += "Transfer-Encoding: chunked\r\n",
        }
        if let Some(via) = &self.via {
            head += &format!("Via: {via}\r\n").repeat(4);
        }
        if self.expects {
            head += "Expect: 100-continue\r\n";
        }
        if matches!(kind, Kind::Echo | Kind::Denied) {
            head += "Connection: Upgrade\r\nUpgrade: echo\r\n";
        } else if self.closes {
            head += "Connection: close\r\n";
        }
        (head + "\r\n").into_bytes()
    }

    /// What is sent of its body, with its framing.
    pub(super) fn body(&self, dice: &mut Dice) -> Vec<u8> {
        let mut body = self.whole_body(dice);
        if self.stops {
            body.truncate(dice.below(body.len()));
        }
        body
    }

    fn whole_body(&self, dice: &mut Dice) -> Vec<u8> {
        match self.upload {
            Upload::None => Vec::new(),
            Upload::Sized(length) => pattern(self.tag, Body::Request, 0, length),
            Upload::Chunked(length) => {
                let mut bytes = Vec::new();
                let is_upgrade = matches!(self.kind, Kind::Echo | Kind::Denied);
                let max = if is_upgrade { 0 } else { dice.pick(&[300, 5_000, 70_000]) };
                let mut from = 0;
                while from < length {
                    let portion = if is_upgrade { 4_000 } else { dice.between(1, max) };
                    let count = portion.min(length - from);
                    let portion = pattern(self.tag, Body::Request, from, count);
                    bytes.extend([format!("{count:X};a=b\r\n").as_bytes(), &portion, b"\r\n"].concat());
                    from += count;
                }
                bytes.extend(format!("0\r\nX-Sum: {}\r\n\r\n", self.tag).as_bytes());
                bytes
            }
        }
    }
}

/// What an app reads in a request's target: its tag, what to do, and how long the answer is.
pub(super) fn parse_target(target: &str) -> Option<(usize, Kind, usize)> {
    let mut parts = target.split('/').skip(1);
    let tag = parts.next()?.parse().ok()?;
    let kind = Kind::parse(parts.next()?)?;
    Some((tag, kind, parts.next()?.parse().ok()?))
}

/// What an app does.
pub(super) fn serve(request: &AppRequest) -> Vec<Act> {
    let Some((tag, kind, size)) = parse_target(&request.target) else {
        panic!("an app got a request that nobody sent: {}", request.head);
    };
    let all = |size| pattern(tag, Body::Response, 0, size);
    let head = |version: &str, status: &str, fields: &str| {
        Act::send(format!("HTTP/{version} {status}\r\nDate: today\r\nX-Tag: {tag}\r\n{fields}\r\n"))
    };
    let has_body = request.method != "HEAD";
    let body = |acts: &mut Vec<Act>, bytes: Vec<u8>| {
        if has_body {
            acts.push(Act::Send(bytes));
        }
    };
    let length = |size: usize| format!("Content-Length: {size}\r\n");
    let chunks = |size: usize| {
        let bytes = all(size);
        let mut out = Vec::new();
        for chunk in bytes.chunks(1 + (tag * 7919) % 30_000) {
            out.extend([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
        }
        out
    };
    let mut acts = vec![];
    if request.head.to_ascii_lowercase().contains("\r\nexpect:") {
        acts.push(Act::send("HTTP/1.1 100 Continue\r\n\r\n"));
    }
    if !matches!(kind, Kind::Early | Kind::Mirror | Kind::Silent | Kind::HangsUp | Kind::Resets | Kind::Junk)
    {
        acts.push(Act::AwaitBody);
    }
    let sized = |acts: &mut Vec<Act>| {
        acts.push(head("1.1", "200 OK", &length(size)));
        body(acts, all(size));
    };
    match kind {
        Kind::Sized | Kind::Early | Kind::Denied => sized(&mut acts),
        Kind::Chunked | Kind::Trailers => {
            acts.push(head("1.1", "200 OK", "Transfer-Encoding: chunked\r\n"));
            let end = if kind == Kind::Trailers {
                format!("0\r\nX-Sum: {tag}\r\n\r\n")
            } else {
                "0\r\n\r\n".into()
            };
            body(&mut acts, [chunks(size), end.into_bytes()].concat());
        }
        Kind::UntilClose | Kind::Http10 => {
            acts.push(head(if kind == Kind::Http10 { "1.0" } else { "1.1" }, "200 OK", ""));
            body(&mut acts, all(size));
            acts.push(Act::Close);
        }
        Kind::HalfClosing => {
            acts.push(head("1.1", "200 OK", ""));
            body(&mut acts, all(size));
            acts.push(Act::Finish);
        }
        Kind::Closing => {
            acts.push(head("1.1", "200 OK", &(length(size) + "Connection: close\r\n")));
            body(&mut acts, all(size));
            acts.push(Act::Close);
        }
        Kind::Stale => {
            sized(&mut acts);
            acts.push(Act::Close);
        }
        Kind::Interim => {
            acts.push(Act::send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"));
            acts.push(Act::WaitMs(tag as u64 % 50));
            sized(&mut acts);
        }
        Kind::Mirror => {
            acts.push(head("1.1", "200 OK", "Transfer-Encoding: chunked\r\n"));
            acts.push(Act::Mirror);
        }
        Kind::Slow => {
            acts.push(Act::WaitMs(tag as u64 * 37 % 900));
            acts.push(head("1.1", "200 OK", &length(size)));
            if has_body {
                for portion in all(size).chunks(size.div_ceil(4).max(1)) {
                    acts.extend([Act::Send(portion.to_vec()), Act::WaitMs(tag as u64 * 101 % 700)]);
                }
            }
        }
        Kind::NoContent => acts.push(head("1.1", "204 No Content", "")),
        Kind::NotModified => acts.push(head("1.1", "304 Not Modified", &length(size))),
        Kind::Echo => {
            acts.push(head("1.1", "101 Switching Protocols", "Connection: Upgrade\r\nUpgrade: echo\r\n"));
            acts.push(Act::Echo);
        }
        Kind::Silent => acts.push(Act::WaitMs(1_000_000)),
        Kind::HangsUp => acts.push(Act::Close),
        Kind::Resets => acts.push(Act::Reset),
        Kind::BreaksOff => {
            acts.push(head("1.1", "200 OK", &length(size + 1)));
            body(&mut acts, all(size));
            acts.push(Act::Close);
        }
        Kind::BreaksChunks => {
            acts.push(head("1.1", "200 OK", "Transfer-Encoding: chunked\r\n"));
            body(&mut acts, chunks(size));
            acts.push(Act::Reset);
        }
        Kind::Junk => acts.push(Act::send("SSH-2.0-OpenSSH_9.6\r\n")),
        Kind::Unasked => {
            acts.push(head("1.1", "101 Switching Protocols", "Connection: Upgrade\r\nUpgrade: x\r\n"))
        }
        Kind::Interims => {
            for nth in 0..50 {
                acts.push(Act::send("HTTP/1.1 103 Early Hints\r\n\r\n"));
                acts.extend((nth % 10 == 0).then_some(Act::WaitMs(100)));
            }
            sized(&mut acts);
        }
        Kind::TooMuch => {
            sized(&mut acts);
            let head = format!("HTTP/1.1 200 OK\r\nX-Tag: 0\r\nContent-Length: {}\r\n\r\n", EXCESS.len());
            acts.push(Act::Send([head.as_bytes(), EXCESS].concat()));
        }
    }
    acts
}
