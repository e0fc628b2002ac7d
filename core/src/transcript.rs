//! What a world did, as lines that a reviewer follows without running anything.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZeroU64;

use sha2::{Digest, Sha256};

use crate::event::{Disconnect, Event, RequestLine};
use crate::http1::body::{BodyKind, Decoder, Framing, request_framing, response_framing};
use crate::http1::head::{HeadKind, HeadScan, WholeHead, parse_request};
use crate::link::frame::{self, Frame};
use crate::seal::token_len;
use crate::time::Instant;

/// The lines so far.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    text: String,
    /// A line that may still grow.
    open: Option<Portion>,
    /// Ids that the gateway drew, in the order of their first appearance.
    ids: Vec<String>,
    /// Streams of all links, in the order of their first appearance.
    streams: BTreeMap<(usize, u32), usize>,
    /// Numbers of visitors' connections, the same way.
    visitors: BTreeMap<NonZeroU64, usize>,
}

/// Bytes of one moment and one way.
#[derive(Debug)]
struct Portion {
    at: Instant,
    from: String,
    to: String,
    /// The records that carry nothing but this, on one stream; none for a plain body.
    records: Option<Records>,
    len: usize,
    hash: Sha256,
}

#[derive(Debug)]
struct Records {
    stream: String,
    count: usize,
    bytes: usize,
}

impl Transcript {
    #[cfg(feature = "sim")]
    pub(super) fn title(&mut self, title: &str, seed: u64, link_ms: u64) {
        let _ = writeln!(self.text, "# {title:<58} seed {seed} · link {link_ms} ms");
    }

    /// Takes the lines that are whole.
    pub(super) fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    pub(super) fn text(&mut self) -> String {
        self.flush();
        self.text.clone()
    }

    /// `from` sent `what` to `to`.
    pub(super) fn sent(&mut self, at: Instant, from: &str, to: &str, what: &str) {
        self.line(at, format_args!("{from:<11} > {to:<13} {what}"));
    }

    /// `actor` decided something.
    pub(super) fn decided(&mut self, at: Instant, actor: &str, subject: &str, what: &str) {
        self.line(at, format_args!("{actor:<11} | {subject:<13} {what}"));
    }

    /// Something went wrong from outside.
    pub(super) fn trouble(&mut self, at: Instant, what: &str) {
        self.line(at, format_args!("!                           {what}"));
    }

    /// A portion of a body; portions of one moment and one way are shown as one.
    pub(super) fn body(&mut self, at: Instant, from: &str, to: &str, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.portion(at, from, to, None, bytes);
        }
    }

    fn portion(&mut self, at: Instant, from: &str, to: &str, record: Option<(String, usize)>, bytes: &[u8]) {
        let stream = record.as_ref().map(|(stream, _)| stream.as_str());
        let goes_on = self.open.as_ref().is_some_and(|open| {
            let of_same = open.records.as_ref().map(|records| records.stream.as_str()) == stream;
            open.at == at && open.from == from && open.to == to && of_same
        });
        if !goes_on {
            self.flush();
        }
        let open = self.open.get_or_insert_with(|| Portion {
            at,
            from: from.into(),
            to: to.into(),
            records: record.as_ref().map(|(stream, _)| Records {
                stream: stream.clone(),
                count: 0,
                bytes: 0,
            }),
            len: 0,
            hash: Sha256::new(),
        });
        if let (Some(records), Some((_, token_bytes))) = (&mut open.records, record) {
            records.count += 1;
            records.bytes += token_bytes;
        }
        open.len += bytes.len();
        open.hash.update(bytes);
    }

    fn flush(&mut self) {
        if let Some(Portion { at, from, to, records, len, hash }) = self.open.take() {
            let hash = hash.finalize();
            let portion = format!("{len} B #{:02x}{:02x}", hash[0], hash[1]);
            let what = match records {
                None => portion,
                Some(Records { stream, count: 1, bytes }) => {
                    format!("record {bytes} B {{ DATA {stream} {portion} }}")
                }
                Some(Records { stream, count, bytes }) => {
                    format!("{count} records {bytes} B {{ DATA {stream} {portion} }}")
                }
            };
            self.sent(at, &from, &to, &what);
        }
    }

    fn line(&mut self, at: Instant, what: std::fmt::Arguments<'_>) {
        self.flush();
        let line = format!("{:>5}    {what}", at.since_origin().as_millis());
        let _ = writeln!(self.text, "{}", line.trim_end());
    }

    /// The name of a drawn id.
    fn id(&mut self, id: &str) -> String {
        let place = self.ids.iter().position(|known| known == id).unwrap_or_else(|| {
            self.ids.push(id.to_owned());
            self.ids.len() - 1
        });
        format!("id-{}", place + 1)
    }

    /// A record that was sealed for the link whose gateway's end is `link`.
    pub(super) fn record(&mut self, at: Instant, from: &str, to: &str, link: usize, plain: &[u8]) {
        const SEQUENCE_BYTES: usize = 8;
        let frames = plain.get(SEQUENCE_BYTES..).unwrap_or_default();
        let mut parsed = frame::parse(frames);
        if let (Some(Ok(Frame::Data { stream, bytes })), None) = (parsed.next(), parsed.next()) {
            let stream = self.stream(link, stream);
            return self.portion(at, from, to, Some((stream, token_len(plain.len()))), bytes);
        }
        let frames: Vec<String> = frame::parse(frames)
            .map(|frame| match frame {
                Ok(frame) => self.frame(link, &frame),
                Err(fault) => format!("?? {fault}"),
            })
            .collect();
        let what = format!("record {} B {{ {} }}", token_len(plain.len()), frames.join(" · "));
        self.sent(at, from, to, &what);
    }

    fn stream(&mut self, link: usize, stream: u32) -> String {
        let next = self.streams.len() + 1;
        format!("x{}", self.streams.entry((link, stream)).or_insert(next))
    }

    fn visitor(&mut self, number: NonZeroU64) -> String {
        let next = self.visitors.len() + 1;
        format!("v{}", self.visitors.entry(number).or_insert(next))
    }

    fn frame(&mut self, link: usize, frame: &Frame<'_>) -> String {
        let mut x = |stream| self.stream(link, stream);
        match frame {
            Frame::Hello(hello) if hello.epoch > 0 => {
                format!("HELLO {} epoch {}", hello.name, hello.epoch)
            }
            Frame::Hello(hello) if hello.id.is_empty() => "HELLO without an id".into(),
            Frame::Hello(hello) => format!("HELLO {}", self.id(&hello.id)),
            Frame::Request { stream, kind, notes, head } => {
                let stream = x(*stream);
                let of = notes.visitor.map(|number| format!(" of {}", self.visitor(number)));
                let credit =
                    |credit: Option<u32>, what| credit.map(|bytes| format!(", {bytes} B {what} at first"));
                let credits = [
                    credit(notes.response_credit, "of the response"),
                    credit(notes.body_credit, "of the body"),
                ];
                let credits: String = credits.into_iter().flatten().collect();
                format!("REQUEST {stream}{} {}{credits}", of.unwrap_or_default(), link_head(*kind, head))
            }
            Frame::Response { stream, kind, head } => {
                format!("RESPONSE {} {}", x(*stream), link_head(*kind, head))
            }
            Frame::Data { stream, bytes } => format!("DATA {} {}", x(*stream), portion(bytes)),
            Frame::End { stream, trailers: [] } => format!("END {}", x(*stream)),
            Frame::End { stream, trailers } => {
                let text = String::from_utf8_lossy(trailers);
                format!("END {} {}", x(*stream), text.trim_end().replace("\r\n", ", "))
            }
            Frame::Reset { stream, code, reason } => {
                format!("RESET {} {} \"{reason}\"", x(*stream), code.as_str())
            }
            Frame::Window { stream, credit } => format!("WINDOW {} +{credit}", x(*stream)),
            Frame::Ping(_) => "PING".into(),
            Frame::Pong(_) => "PONG".into(),
            Frame::GoAway { wait_ms, reason } => format!("GOAWAY {wait_ms} ms \"{reason}\""),
            Frame::Peers(_) => "PEERS".into(),
            Frame::PeersAsk => "PEERS?".into(),
            Frame::StatsAsk => "STATS?".into(),
            Frame::Stats(stats) => format!("STATS {} requests", stats.requests),
            Frame::Unknown => "a frame of an unknown type".into(),
        }
    }

    /// What a process said of itself.
    pub(super) fn event(&mut self, at: Instant, actor: &str, event: &Event) {
        let (subject, what) = match event {
            Event::Request(log) => {
                let target = String::from_utf8_lossy(&log.target);
                let status = log.status.map_or("no status".into(), |status| status.to_string());
                let by = log.connector.as_deref().map(|name| format!(" by {name}")).unwrap_or_default();
                let trouble =
                    log.trouble.map(|trouble| format!(": {}", trouble.as_str())).unwrap_or_default();
                let method = String::from_utf8_lossy(&log.method);
                let (bytes_in, bytes_out) = (log.bytes_in, log.bytes_out);
                (
                    "done",
                    format!("{method} {target} {status}, {bytes_in} B in, {bytes_out} B out{by}{trouble}"),
                )
            }
            Event::Joined { id, name, replaced, .. } => {
                let how = if *replaced { ", in place of its older link" } else { "" };
                ("join", format!("{name} is {}{how}", self.id(id)))
            }
            Event::Left { name, why, .. } => {
                ("leave", why.map_or(format!("{name}: goodbye"), |why| format!("{name}: {why}")))
            }
            Event::JoinRefused { refusal, .. } => ("auth", format!("refused: {}", refusal.as_str())),
            Event::UpgradeMissing { missing, .. } => ("auth", format!("no upgrade: {}", missing.as_str())),
            Event::NoRoom { count } => ("no room", format!("{count} turned away")),
            Event::BadRequest { rule, line, .. } => {
                let of = line.as_ref().map(|line| format!(": {}", request_line(line)));
                ("refuse", format!("{}{}", rule.as_str(), of.unwrap_or_default()))
            }
            Event::Connected { id } => ("join", format!("joined as {}", self.id(id))),
            Event::Disconnected { why, again_in, attempt } => {
                let again_ms = again_in.as_millis();
                ("dial", format!("{}; again in {again_ms} ms (attempt {attempt})", disconnect(*why)))
            }
            Event::GaveUp { refusal } => ("join", format!("gives up: {}", refusal.as_str())),
            Event::ClockOff { behind_secs } => ("clock", format!("{behind_secs} s behind the gateway's")),
            Event::TargetDown { why, .. } => ("target", why.to_string()),
            Event::BadResponse { rule, line, .. } => {
                let what = rule.map_or("broke off", |rule| rule.as_str());
                ("target", format!("{what}: {}", request_line(line)))
            }
            Event::VisitorsNameRefused => ("target", "refuses the visitor's name: no request says it".into()),
            Event::MindsName { hint, rule } => {
                ("target", format!("minds its name: {hint:?}, told by {}", rule.as_str()))
            }
            Event::Stats(stats) => ("stats", format!("{} requests", stats.requests)),
            Event::Peers(peers) => {
                ("peers", peers.iter().map(|peer| peer.name.as_str()).collect::<Vec<_>>().join(", "))
            }
        };
        self.decided(at, actor, subject, &what);
    }
}

fn disconnect(why: Disconnect) -> String {
    match why {
        Disconnect::Dial(fault) => fault.to_string(),
        Disconnect::NoAnswer => "no answer".into(),
        Disconnect::Refused(refusal) => format!("refused: {}", refusal.as_str()),
        Disconnect::GatewayClock => "the gateway's clock looks wrong".into(),
        Disconnect::ClocksApart { behind_hours } => format!("{behind_hours} h behind the gateway"),
        Disconnect::NotGateway(status) => format!("not a gateway: {status}"),
        Disconnect::NotHttp => "not HTTP".into(),
        Disconnect::Full => "the gateway is full".into(),
        Disconnect::UpgradeMissing(missing) => format!("no upgrade: {}", missing.as_str()),
        Disconnect::Impostor => "an impostor".into(),
        Disconnect::Link(fault) => fault.to_string(),
        Disconnect::GoAway => "the gateway goes away".into(),
    }
}

pub(super) fn portion(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    format!("{} B #{:02x}{:02x}", bytes.len(), hash[0], hash[1])
}

/// `GET /report, 4 fields, no body`, or `200, 3 fields, 40000 B`.
fn link_head(kind: BodyKind, head: &[u8]) -> String {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let subject = match first.strip_prefix("HTTP/1.1 ") {
        Some(status) => status.get(..3).unwrap_or(status),
        None => first.strip_suffix(" HTTP/1.1").unwrap_or(first),
    };
    let fields = match lines.filter(|line| !line.is_empty()).count() {
        1 => "1 field".into(),
        count => format!("{count} fields"),
    };
    let body = match kind {
        BodyKind::None => "no body".into(),
        BodyKind::Sized(length) => format!("{length} B"),
        BodyKind::Unknown => "a body".into(),
        BodyKind::Upgrade => "upgrade".into(),
        BodyKind::UpgradeSized(length) => format!("upgrade after {length} B"),
        BodyKind::UpgradeChunked => "upgrade after a body".into(),
    };
    format!("{subject}, {fields}, {body}")
}

fn request_line(line: &RequestLine) -> String {
    // A target may fill a line of its own.
    const TARGET_BYTES_SHOWN: usize = 40;
    let shown = &line.target[..line.target.len().min(TARGET_BYTES_SHOWN)];
    format!("{} {}", line.method.escape_ascii(), shown.escape_ascii())
}

/// Follows one plain HTTP connection, both ways.
#[derive(Default)]
pub(super) struct Talk {
    requests: Follower,
    responses: Follower,
    /// The methods of requests that have no final response yet.
    methods: Vec<Vec<u8>>,
    /// The signature of the join that was last asked for.
    signature: Vec<u8>,
    /// What the last write said, line by line.
    pub(super) lines: Vec<Said>,
    /// This connection became a link: records are shown instead.
    pub(super) is_link: bool,
}

/// What a write said.
pub(super) enum Said {
    Line(String),
    Body(Vec<u8>),
    /// The join that was last asked for, with this signature, was found right.
    Accepted(
        #[cfg_attr(
            not(feature = "sim"),
            expect(dead_code, reason = "a simulation looks whether it came twice")
        )]
        Vec<u8>,
    ),
}

#[derive(Default)]
struct Follower {
    input: Vec<u8>,
    scan: HeadScan,
    body: Option<Decoder>,
}

impl Talk {
    /// Bytes of requests, or of what pretends to be one.
    pub(super) fn request(&mut self, bytes: &[u8]) {
        self.requests.input.extend_from_slice(bytes);
        while !self.is_link && self.requests.body(&mut self.lines) {
            let Some(head) = self.requests.head(HeadKind::Request, &mut self.lines) else { return };
            let Ok(request) = parse_request(&head) else { return self.requests.junk(head, &mut self.lines) };
            let framing = request_framing(&request).unwrap_or(Framing::UntilClose);
            let (method, target) =
                (String::from_utf8_lossy(request.method), String::from_utf8_lossy(request.target));
            let mut line = format!("{method} {target}");
            if request.get("x-join-code").is_some() {
                line += " · join, signed, with a proof of the PIN";
            }
            push_framing(&mut line, framing);
            for name in ["upgrade", "expect", "host"] {
                if let Some(value) = request.get(name).filter(|_| request.get("x-join-code").is_none()) {
                    let _ = write!(line, " · {name} {}", String::from_utf8_lossy(value));
                }
            }
            if let Some(authorization) = request.get("authorization") {
                self.signature = authorization.to_vec();
            }
            self.methods.push(request.method.to_vec());
            self.lines.push(Said::Line(line));
            self.requests.body = Some(Decoder::new(framing));
        }
    }

    /// Bytes of responses.
    pub(super) fn response(&mut self, bytes: &[u8]) {
        self.responses.input.extend_from_slice(bytes);
        while !self.is_link && self.responses.body(&mut self.lines) {
            let Some(head) = self.responses.head(HeadKind::AppResponse, &mut self.lines) else { return };
            let parsed = WholeHead::scan(&head, HeadKind::AppResponse).and_then(WholeHead::response);
            let Ok(response) = parsed else {
                return self.responses.junk(head, &mut self.lines);
            };
            let method = self.methods.first().cloned().unwrap_or_default();
            let mut framing = response_framing(&response, &method).unwrap_or(Framing::UntilClose);
            if response.status >= 200 && !self.methods.is_empty() {
                self.methods.remove(0);
            }
            let mut line = response.status.to_string();
            if response.status == 101 {
                framing = Framing::UntilClose;
                self.requests.body = Some(Decoder::new(Framing::UntilClose));
            } else {
                push_framing(&mut line, framing);
            }
            for name in ["upgrade", "gesher-refusal", "retry-after", "connection"] {
                if let Some(value) = response.get(name) {
                    let _ = write!(line, " · {name} {}", String::from_utf8_lossy(value));
                }
            }
            if response.get("gesher-accept").is_some() {
                line = "101 · accept proof".into();
                self.is_link = true;
                self.lines.push(Said::Accepted(std::mem::take(&mut self.signature)));
            }
            self.lines.push(Said::Line(line));
            self.responses.body = Some(Decoder::new(framing));
        }
    }
}

impl Follower {
    /// Goes on with a body; false while it is not whole.
    fn body(&mut self, lines: &mut Vec<Said>) -> bool {
        let Some(decoder) = &mut self.body else { return true };
        let mut out = Vec::new();
        let consumed = match decoder.decode(&self.input, usize::MAX, &mut out) {
            Ok(consumed) => consumed,
            Err(_) => {
                let rest = std::mem::take(&mut self.input);
                self.junk(rest, lines);
                return false;
            }
        };
        self.input.drain(..consumed);
        lines.push(Said::Body(out));
        let done = decoder.is_done();
        if done {
            self.body = None;
        }
        done
    }

    fn head(&mut self, kind: HeadKind, lines: &mut Vec<Said>) -> Option<Vec<u8>> {
        match self.scan.find(&self.input, kind) {
            Ok(found) => {
                let head = self.input.drain(..found?).collect();
                self.scan = HeadScan::default();
                Some(head)
            }
            Err(_) => {
                let rest = std::mem::take(&mut self.input);
                self.junk(rest, lines);
                None
            }
        }
    }

    /// Not HTTP, and nothing after it can be.
    fn junk(&mut self, bytes: Vec<u8>, lines: &mut Vec<Said>) {
        let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
        let text: Vec<u8> = bytes.iter().copied().take(40).take_while(is_text).collect();
        lines.push(Said::Line(format!("not HTTP: {} B \"{}\"", bytes.len(), text.escape_ascii())));
        self.body = Some(Decoder::new(Framing::UntilClose));
    }
}

fn push_framing(line: &mut String, framing: Framing) {
    let _ = match framing {
        Framing::Empty => Ok(()),
        Framing::Sized(length) => write!(line, " · content-length {length}"),
        Framing::Chunked => write!(line, " · chunked"),
        Framing::UntilClose => write!(line, " · until close"),
    };
}
