//! Reads every record of every link as it is sealed, and judges it by docs/protocol.md, with a parser of its own.

use std::collections::{BTreeMap, BTreeSet};

use super::seen::Seen;
use crate::drive::{Close, Todo};
use crate::event::{Disconnect, Event, Trouble};
use crate::limits;
use crate::time::{Instant, Why};

/// See the module.
#[derive(Default)]
pub(in crate::sim) struct Referee {
    /// Links by their gateway's end.
    links: BTreeMap<usize, Link>,
    /// Which signatures each run of a gateway took.
    signatures: BTreeSet<(usize, Vec<u8>)>,
    pub(super) seen: Seen,
    /// What machines wished, by role: their deadline's reason, whether they read, and how they end.
    states: BTreeMap<State, u64>,
    /// How much of each request's body its link has taken, by the request's tag.
    pub(super) carried: BTreeMap<usize, usize>,
    /// When a link last ended otherwise than by a goodbye.
    pub(super) link_lost_at: Option<Instant>,
}

#[derive(Default)]
struct Link {
    /// What the connector and what the gateway has sealed.
    sides: [Side; 2],
    streams: BTreeMap<u32, [Lane; 2]>,
    tags: BTreeMap<u32, usize>,
    highest: u32,
}

#[derive(Default)]
struct Side {
    records: u64,
    said_hello: bool,
    said_go_away: bool,
}

/// A role, a deadline's reason, whether it reads, and how it ends.
type State = (&'static str, Option<Why>, bool, Option<&'static str>);

/// One direction of a stream, by who sends.
#[derive(Default)]
struct Lane {
    heads: u32,
    data: u64,
    /// What it may send before the other side grants more.
    first: u64,
    /// What the other side granted beyond that.
    credit: u64,
    ended: bool,
    reset: bool,
}

impl Referee {
    /// One record, with its sequence number, is sealed by one side of a link.
    ///
    /// # Panics
    /// If it must not be.
    pub(in crate::sim) fn record(&mut self, link: usize, by_gateway: bool, plain: &[u8]) {
        let Self { links, seen, carried, .. } = self;
        let link = links.entry(link).or_default();
        let side = &mut link.sides[usize::from(by_gateway)];
        let (sequence, mut rest) = plain.split_first_chunk().expect("a record has a sequence number");
        assert_eq!(u64::from_be_bytes(*sequence), side.records, "a record is sealed under a wrong number");
        side.records += 1;
        assert!(plain.len() <= 131_072 && !rest.is_empty(), "a record of {} B", plain.len());
        while !rest.is_empty() {
            let (header, after) = rest.split_first_chunk::<8>().expect("a frame has a header");
            let [a, b, c, kind, stream @ ..] = *header;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            let (payload, after) = after.split_at_checked(length).expect("a frame is whole");
            rest = after;
            let id = u32::from_be_bytes(stream);
            if kind == 1
                && let Some(tag) = tag_of(payload)
            {
                link.tags.insert(id, tag);
                if carried.insert(tag, 0).is_some() {
                    seen.note("retry: on another connector");
                }
            }
            if (by_gateway, kind) == (GATEWAY, 3)
                && let Some(tag) = link.tags.get(&id)
            {
                *carried.entry(*tag).or_default() += payload.len();
            }
            link.frame(by_gateway, kind, id, payload, seen);
        }
    }

    /// Whether this side of a link has sealed its first record.
    pub(in crate::sim) fn has_greeted(&self, link: usize, by_gateway: bool) -> bool {
        self.links.get(&link).is_some_and(|link| link.sides[usize::from(by_gateway)].said_hello)
    }

    /// What a machine wished.
    pub(in crate::sim) fn state(&mut self, role: &'static str, todo: &Todo) {
        let ends = match todo.close {
            Some(Close::Reset) => Some("resets"),
            Some(Close::Quietly) => Some("closes"),
            None if todo.shutdown => Some("half-closes"),
            None => None,
        };
        *self.states.entry((role, todo.wake_at.map(|(_, why)| why), todo.read, ends)).or_default() += 1;
    }

    /// All that was seen.
    pub(super) fn all_seen(&self) -> Seen {
        let mut seen = self.seen.clone();
        for ((role, why, reads, ends), count) in &self.states {
            let what = match (ends, why) {
                (Some(ends), _) => (*ends).to_owned(),
                (None, Some(why)) => format!("waits for {why:?}").to_lowercase(),
                (None, None) => "waits".to_owned(),
            };
            let reads = if *reads || ends.is_some() { "" } else { ", reads nothing" };
            seen.note_times(format!("{role} {what}{reads}"), *count);
        }
        seen
    }

    /// # Panics
    /// If one run of a gateway took a signature twice.
    pub(in crate::sim) fn accepted(&mut self, gateway_run: usize, signature: Vec<u8>) {
        assert!(self.signatures.insert((gateway_run, signature)), "a signature was accepted twice");
        self.seen.note("join accepted");
    }

    /// # Panics
    /// If somebody who is no connector has joined.
    pub(in crate::sim) fn event(&mut self, now: Instant, _process: &str, event: &Event, by_stranger: bool) {
        let seen = &mut self.seen;
        match event {
            Event::Request(log) => {
                let status = log.status.map_or("none".to_owned(), |status| status.to_string());
                let trouble = log.trouble.map_or("well", |trouble| trouble.as_str());
                seen.note(format!("request: {status}, {trouble}"));
                let is_safe = matches!(&log.method[..], b"GET" | b"HEAD" | b"OPTIONS");
                if log.trouble == Some(Trouble::LinkLost) {
                    seen.note(if is_safe { "retry: nobody left" } else { "retry: forbidden" });
                }
            }
            Event::Joined { replaced, .. } => {
                assert!(!by_stranger, "a connection that is no connector's joined");
                seen.note(if *replaced { "joined in place of its ghost" } else { "joined" });
            }
            Event::Left { why, .. } => {
                if why.is_some() {
                    self.link_lost_at = Some(now);
                }
                seen.note(why.map_or("left: goodbye".to_owned(), |why| format!("left: {why}")));
            }
            Event::JoinRefused { refusal, .. } => seen.note(format!("join refused: {}", refusal.as_str())),
            Event::UpgradeMissing { missing, .. } => seen.note(format!("no upgrade: {}", missing.as_str())),
            Event::NoRoom { .. } => seen.note("no room"),
            Event::BadRequest { rule, .. } => seen.note(format!("bad request: {}", rule.as_str())),
            Event::Connected { .. } => seen.note("connected"),
            Event::Disconnected { why, .. } => seen.note(match why {
                Disconnect::Link(fault) => format!("disconnected: {fault}"),
                Disconnect::Refused(refusal) => format!("disconnected: refused {}", refusal.as_str()),
                other => format!("disconnected: {other:?}"),
            }),
            Event::GaveUp { refusal } => seen.note(format!("gave up: {}", refusal.as_str())),
            Event::ClockOff { .. } => seen.note("clock off"),
            Event::TargetDown { why, .. } => seen.note(format!("target down: {why}")),
            Event::BadResponse { rule, .. } => {
                seen.note(format!("bad response: {}", rule.map_or("broke off", |rule| rule.as_str())));
            }
            Event::VisitorsNameRefused => seen.note("the visitor's name was refused"),
            Event::MindsName { hint, .. } => seen.note(format!("minds its name: {hint:?}")),
            Event::Stats(_) => seen.note("stats"),
            Event::Peers(_) => seen.note("peers"),
        }
    }
}

/// The tag in the target of a request's head.
fn tag_of(payload: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(&payload[..payload.len().min(60)]);
    text.split('/').nth(1)?.parse().ok()
}

const CONNECTOR: bool = false;
const GATEWAY: bool = true;

impl Link {
    fn frame(&mut self, by: bool, kind: u8, id: u32, payload: &[u8], seen: &mut Seen) {
        const RESETS: [&str; 6] =
            ["cancelled", "refused", "target unreachable", "target timed out", "protocol error", "internal"];
        let side = &mut self.sides[usize::from(by)];
        assert!(side.said_hello || kind == 0, "the first frame is no HELLO");
        let name = match kind {
            0 => {
                assert!(!std::mem::replace(&mut side.said_hello, true), "a second HELLO");
                "HELLO"
            }
            1 => "REQUEST",
            2 => "RESPONSE",
            3 => "DATA",
            4 => "END",
            5 => "RESET",
            6 => "WINDOW",
            7 => "PING",
            8 => "PONG",
            9 => {
                side.said_go_away = true;
                "GOAWAY"
            }
            10 if payload.is_empty() => "PEERS?",
            10 => "PEERS",
            11 if payload.is_empty() => "STATS?",
            11 => "STATS",
            _ => panic!("a frame of type {kind}"),
        };
        seen.note(format!("frame {name}"));
        let is_of_link = matches!(kind, 0 | 7..);
        assert_eq!(is_of_link, id == 0, "{name} on stream {id}");
        if is_of_link {
            return;
        }
        let number =
            |at: usize| payload.get(at..at + 4).map(|n| u32::from_be_bytes([n[0], n[1], n[2], n[3]]));
        if kind == 1 {
            assert!(by == GATEWAY && id > self.highest, "a REQUEST on stream {id}, after {}", self.highest);
            assert!(!self.sides[usize::from(by)].said_go_away, "a REQUEST after GOAWAY");
            self.highest = id;
            self.streams.insert(id, Default::default());
            let lanes = self.streams.get_mut(&id).expect("it was just put there");
            let [response, body] = first_credits(payload);
            lanes[usize::from(CONNECTOR)].first = response.unwrap_or(limits::WINDOW_BYTES).into();
            lanes[usize::from(GATEWAY)].first = body.unwrap_or(limits::WINDOW_BYTES).into();
        } else if kind == 5 && id <= self.highest && !self.streams.contains_key(&id) {
            return; // it is over at the other side already
        }
        let Some(lanes) = self.streams.get_mut(&id) else {
            assert!(id <= self.highest, "{name} on stream {id}, which nobody opened");
            return;
        };
        let lane = &mut lanes[usize::from(by)];
        assert!(!lane.reset, "{name} after a RESET on stream {id}");
        match kind {
            5 => {
                lane.reset = true;
                seen.note(format!("reset {}", RESETS[usize::from(payload[0]) - 1]));
            }
            6 => {
                let other = &mut lanes[usize::from(!by)];
                other.credit += u64::from(number(0).expect("credit"));
                let most = other.data + u64::from(limits::WINDOW_BYTES_MAX) - other.first;
                assert!(other.credit <= most, "stream {id}: credit for more than its reader can have taken");
                return;
            }
            _ => assert!(!lane.ended, "{name} after END on stream {id}"),
        }
        match kind {
            1 | 2 => {
                assert!(lane.data == 0, "{name} after DATA on stream {id}");
                assert!(kind == 1 || by == CONNECTOR, "a RESPONSE by a gateway");
                lane.heads += 1;
            }
            3 => {
                lane.data += payload.len() as u64;
                assert!(
                    lane.heads > 0 && payload.len() <= 16_384,
                    "DATA on stream {id}: {} B",
                    payload.len()
                );
                let credit = lane.first + lane.credit;
                assert!(lane.data <= credit, "stream {id}: {} B of DATA for {credit} B of credit", lane.data);
            }
            4 => {
                assert!(lane.heads > 0, "END before a head on stream {id}");
                lane.ended = true;
            }
            _ => {}
        }
        let [connector, gateway] = lanes;
        if connector.ended && gateway.ended {
            self.streams.remove(&id);
        }
    }
}

/// What a REQUEST says that the response and its body begin with (docs/protocol.md, TLVs): read here once more, by
/// nothing of the code that is judged.
fn first_credits(payload: &[u8]) -> [Option<u32>; 2] {
    let after_kind = if matches!(payload[0], 1 | 4) { 9 } else { 1 };
    let length = usize::from(u16::from_be_bytes([payload[after_kind], payload[after_kind + 1]]));
    let mut rest = &payload[after_kind + 2..after_kind + 2 + length];
    let mut credits = [None; 2];
    while let [kind, high, low, after @ ..] = rest {
        let (value, others) = after.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        if let (2 | 3, [a, b, c, d]) = (*kind, value) {
            credits[usize::from(*kind) - 2] = Some(u32::from_be_bytes([*a, *b, *c, *d]));
        }
        rest = others;
    }
    credits
}
