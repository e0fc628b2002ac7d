//! Everything worth logging, counting or printing, typed. The core has no log: it says what happened, and the
//! command line prints it, the hub counts it, transcripts list it.
//!
//! No event carries a field value, a body, a secret, a PIN or a key. Text that strangers chose (methods, targets,
//! names) is as they sent it: whoever prints it escapes it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::fault::Fault;
use crate::http1::Violation;
use crate::http1::head::is_token;
use crate::http1::hop::HostRule;
use crate::http1::hop::hints::NameHint;
use crate::limits;
use crate::link::frame::{Peer, Stats};
use crate::link::handshake::{Missing, Refusal};
use crate::machine::{DialFault, Endpoint};

/// Something happened.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    // ---- at the gateway ----
    /// A request came to its end, whichever it was.
    Request(Box<RequestLog>),
    /// A connector joined.
    Joined {
        /// The id the gateway gave it.
        id: String,
        /// The name it gave itself.
        name: String,
        /// Where its link comes from.
        from: IpAddr,
        /// Whether it took the place of an older link of the same connector.
        replaced: bool,
    },
    /// A connector's link is gone.
    Left {
        /// The id the gateway gave it.
        id: String,
        /// The name it gave itself.
        name: String,
        /// What ended it; none if it said goodbye.
        why: Option<Fault>,
    },
    /// A join was refused.
    JoinRefused {
        /// From where it came.
        from: IpAddr,
        /// Why.
        refusal: Refusal,
    },
    /// A join with a right signature came without its upgrade: a proxy in between does not pass it on.
    UpgradeMissing {
        /// From where it came.
        from: IpAddr,
        /// What of it is missing.
        missing: Missing,
    },
    /// Requests waited in vain for memory, or for room on a connector; told once a while.
    NoRoom {
        /// How many were turned away since this was told last.
        count: u64,
    },
    /// A request broke the rules of HTTP and was refused.
    BadRequest {
        /// Shown to the visitor with the answer.
        id: u64,
        /// From where it came.
        from: IpAddr,
        /// Which rule.
        rule: Violation,
        /// What was asked, if that could be read.
        line: Option<RequestLine>,
    },

    // ---- at the connector ----
    /// The gateway took this connector.
    Connected {
        /// The id the gateway gave.
        id: String,
    },
    /// The link to the gateway is gone or was not to be had; the connector dials again.
    Disconnected {
        /// Why.
        why: Disconnect,
        /// After how long it dials again.
        again_in: Duration,
        /// How many times in a row it has failed to join, this one included; 0 if it had joined.
        attempt: u32,
    },
    /// The connector gives up: the gateway refused its secret or its PIN and it never had joined.
    GaveUp {
        /// Why.
        refusal: Refusal,
    },
    /// This machine's clock differs from the gateway's, which has proved itself; joining goes on with its time.
    ClockOff {
        /// By how many seconds this clock is behind (negative: ahead).
        behind_secs: i64,
    },
    /// The app could not be reached.
    TargetDown {
        /// Where it should be.
        target: Endpoint,
        /// Why.
        why: DialFault,
    },
    /// The app answered something that is not HTTP, or broke off.
    BadResponse {
        /// Which rule; none if it closed before it had answered.
        rule: Option<Violation>,
        /// The gateway's number of the request; 0 if it told none.
        id: u64,
        /// What was asked.
        line: RequestLine,
    },
    /// The app refused a request that said the visitor's name in X-Forwarded-Host, as Rails does: no request says it there
    /// from now on. Comes once.
    VisitorsNameRefused,
    /// An answer shows that the app minds its name. Comes once for each hint.
    MindsName {
        /// What it shows.
        hint: NameHint,
        /// What the app is told that it is called.
        rule: HostRule,
    },
    /// The gateway's figures, as asked for.
    Stats(Box<Stats>),
    /// The connectors of this gateway, whenever they change.
    Peers(Vec<Peer>),
}

/// The beginning of a request's first line, which says in a log which one it was.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RequestLine {
    /// The method.
    pub method: Vec<u8>,
    /// The target with its query.
    pub target: Vec<u8>,
}

impl RequestLine {
    /// Reads it off a head; none if that has not come so far, or is none.
    pub(crate) fn of(head: &[u8]) -> Option<Self> {
        let head = head.strip_prefix(b"\r\n").unwrap_or(head);
        let end = head
            .iter()
            .take(limits::REQUEST_LINE_BYTES_MAX)
            .position(|byte| matches!(byte, b'\r' | b'\n'))?;
        let mut words = head[..end].split(|byte| *byte == b' ');
        let (method, target) = (words.next()?, words.next()?);
        let is_read = is_token(method) && !target.is_empty() && target.iter().all(u8::is_ascii_graphic);
        is_read.then(|| Self { method: method.to_vec(), target: target.to_vec() })
    }
}

/// A request's line in the log.
#[derive(Clone, PartialEq, Debug)]
pub struct RequestLog {
    /// Shown to the visitor with our own answers.
    pub id: u64,
    /// The address believed to be the visitor's.
    pub from: IpAddr,
    /// The method.
    pub method: Vec<u8>,
    /// The target with its query.
    pub target: Vec<u8>,
    /// The final status that the visitor got; none if it got none.
    pub status: Option<u16>,
    /// Body bytes from the visitor.
    pub bytes_in: u64,
    /// Body bytes to the visitor.
    pub bytes_out: u64,
    /// From the head's last byte to the end.
    pub took: Duration,
    /// The connector that served it, if one did.
    pub connector: Option<Arc<str>>,
    /// How it ended, if not well.
    pub trouble: Option<Trouble>,
}

/// Why a request did not end well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// No connector is joined.
    NoConnector,
    /// Memory or streams ran out.
    Busy,
    /// The link was lost.
    LinkLost,
    /// The app could not be reached.
    TargetUnreachable,
    /// The app neither took nor sent a byte for `--response-timeout`, before it answered.
    ResponseTimedOut,
    /// The connector says that the app did not answer in time.
    TargetTimedOut,
    /// The app broke off.
    TargetBroke,
    /// What came back for the app breaks the rules of HTTP, or of the link.
    BadResponse,
    /// The visitor went away.
    VisitorLeft,
    /// The visitor sent something that is not HTTP.
    VisitorBroke,
    /// The visitor sent nothing for `--body-timeout`, inside a request that was not answered yet.
    VisitorStalled,
    /// The request's body is longer than `--max-body` allows.
    BodyTooLong,
    /// The process stopped.
    Stopped,
}

impl Trouble {
    /// What to tell a person.
    pub fn as_str(self) -> &'static str {
        match self {
            Trouble::NoConnector => "no connector is joined",
            Trouble::Busy => "out of memory or streams",
            Trouble::LinkLost => "the link was lost",
            Trouble::TargetUnreachable => "the app cannot be reached",
            Trouble::ResponseTimedOut => "the app did not answer in time (--response-timeout)",
            Trouble::TargetTimedOut => "the connector got no answer from the app in time",
            Trouble::TargetBroke => "the app broke off",
            Trouble::BadResponse => "the app's answer breaks the rules",
            Trouble::VisitorLeft => "the visitor left",
            Trouble::VisitorBroke => "the visitor broke the rules",
            Trouble::BodyTooLong => "the body is too long",
            Trouble::VisitorStalled => "the request's body stalled (--body-timeout)",
            Trouble::Stopped => "the process stopped",
        }
    }
}

/// Why a connector has no link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disconnect {
    /// The gateway could not be dialled.
    Dial(DialFault),
    /// It did not answer the join in time, or closed before it had.
    NoAnswer,
    /// It refused.
    Refused(Refusal),
    /// It refused for the clock, and its own says a time before [`crate::limits::CLOCK_EARLIEST`].
    GatewayClock,
    /// It refused for the clock, and the two differ by more than [`crate::limits::CLOCK_TAUGHT_SECS_MAX`]: one of them
    /// is wrong.
    ClocksApart {
        /// By how many hours this clock is behind (negative: ahead).
        behind_hours: i64,
    },
    /// What answered is no gateway: the status of its answer.
    NotGateway(u16),
    /// What answered does not even speak HTTP.
    NotHttp,
    /// The gateway has as many connectors as it takes.
    Full,
    /// A proxy in between does not pass the upgrade on: what of it is missing.
    UpgradeMissing(Missing),
    /// It knows the address but not the keys.
    Impostor,
    /// The link had been joined and broke.
    Link(Fault),
    /// The gateway said that it goes away.
    GoAway,
}
