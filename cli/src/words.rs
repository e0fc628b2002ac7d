//! What happened, in words for someone who sees the program for the first time: what, and what to do about it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::Duration;

use gesher_core::event::{Disconnect, Trouble};
use gesher_core::http1::hop::HostRule;
use gesher_core::http1::hop::hints::NameHint;
use gesher_core::link::handshake::{Missing, Refusal};
use gesher_core::machine::{DialFault, Endpoint};

/// A number in thousandths, with one decimal; without floating point, whose formatting is large in a small program.
pub(crate) fn one_decimal(thousandths: u128) -> String {
    let tenths = (thousandths + 50) / 100;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Why the connector has no link to `gateway`, when it dials again, and what to do until then.
pub(crate) fn disconnected(why: Disconnect, again_in: Duration, attempt: u32, gateway: &str) -> String {
    let (what, todo) = no_link(why, gateway);
    let wait = one_decimal(again_in.as_millis());
    let next = match attempt {
        0 | 1 => format!("next try in {wait} s"),
        _ => format!("try {attempt}, the next in {wait} s"),
    };
    if todo.is_empty() { format!("{what} ({next})") } else { format!("{what} ({next}): {todo}") }
}

/// Why the gateway does not take this connector, and what to do.
pub(crate) fn refused(refusal: Refusal, gateway: &str) -> String {
    let (what, todo) = refusal_words(refusal);
    format!("the gateway at {gateway} refused: {what}: {todo}")
}

/// Why a join was refused, for who runs the gateway.
pub(crate) fn join_refused(from: IpAddr, refusal: Refusal) -> String {
    format!("refused a join from {from}: {}", why_refused(refusal))
}

/// Why so many more joins were refused.
pub(crate) fn joins_refused(count: u64, last_from: IpAddr, refusal: Refusal) -> String {
    let joins = if count == 1 { "join" } else { "joins" };
    format!("refused {count} more {joins}, the last from {last_from}: {}", why_refused(refusal))
}

fn why_refused(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Secret => "wrong secret",
        Refusal::Clock => "its clock and ours differ by more than 30 s; it tries again with ours",
        Refusal::Replay => "this join was seen before: somebody repeats what they captured",
        Refusal::Pin => "right secret, but wrong PIN",
        Refusal::Rate => "too many joins with a wrong secret from this address, or no room for one more",
        Refusal::Locked => "locked out for up to 10 minutes after 5 wrong PINs",
        Refusal::Guessed => {
            "60 wrong PINs came within a minute, from wherever: somebody who has the secret guesses the PIN. \
             Nobody has joined from this address yet, and for now it has to wait"
        }
        Refusal::Seal => "it offers no way of sealing that we have: one of the two is too old",
    }
}

/// What a proxy between a connector and the gateway takes away, for who runs the gateway.
pub(crate) fn join_without_upgrade(from: IpAddr, missing: Missing) -> String {
    format!("a join from {from} came without its WebSocket upgrade: {missing}")
}

/// The app does not answer.
pub(crate) fn target_down(target: &Endpoint, why: DialFault) -> String {
    let todo = match why {
        DialFault::Refused => "is it running, and is --target right?",
        DialFault::NoSuchName => "is --target right?",
        DialFault::TimedOut => "is it busy, or does a firewall swallow the connection?",
        DialFault::Unreachable => "is --target right, and may this user reach it?",
    };
    format!("the app at {target} cannot be reached: {why}: {todo}")
}

/// Two clocks differ.
pub(crate) fn clock_off(behind_secs: i64) -> String {
    let side = if behind_secs < 0 { "ahead of" } else { "behind" };
    format!(
        "this clock is {} s {side} the gateway's: set it; joining goes on with the gateway's time",
        behind_secs.unsigned_abs()
    )
}

/// Whether somebody who runs this should look at it; a visitor that leaves or breaks the rules is everyday life.
pub(crate) fn is_ours(trouble: Trouble) -> bool {
    !matches!(
        trouble,
        // For want of room there is a line once a while.
        Trouble::VisitorLeft
            | Trouble::VisitorBroke
            | Trouble::VisitorStalled
            | Trouble::BodyTooLong
            | Trouble::Busy
    )
}

fn no_link(why: Disconnect, gateway: &str) -> (String, Cow<'static, str>) {
    let (what, todo) = match why {
        Disconnect::Dial(DialFault::Refused) => {
            (format!("nothing listens at {gateway}"), "is `gesher server` running there?")
        }
        Disconnect::Dial(DialFault::NoSuchName) => (
            format!("there is no such host name as in {gateway}"),
            "is --gateway right, and is this machine online?",
        ),
        Disconnect::Dial(DialFault::TimedOut) => (
            format!("{gateway} does not answer"),
            "is --gateway right, and does a firewall let this port through?",
        ),
        Disconnect::Dial(DialFault::Unreachable) => {
            (format!("{gateway} cannot be reached"), "is this machine online?")
        }
        Disconnect::NoAnswer => (
            format!("something listens at {gateway}, but does not answer"),
            "is it `gesher server`, and is this its port?",
        ),
        Disconnect::NotHttp => (
            format!("what answers at {gateway} does not speak HTTP"),
            "is --gateway right, and is this the port of `gesher server`?",
        ),
        Disconnect::Full => (
            format!("the gateway at {gateway} has as many connectors as it takes"),
            "stop one, or start the gateway with a larger --max-connectors",
        ),
        Disconnect::Refused(Refusal::Pin) => (
            format!("the gateway at {gateway} refused: wrong PIN"),
            "use the PIN that it printed at its start, which is new each time; the wait is long since 5 wrong PINs \
             within 2 minutes would close joining to this address",
        ),
        Disconnect::Refused(refusal) => {
            let (what, todo) = refusal_words(refusal);
            (format!("the gateway at {gateway} refused: {what}"), todo)
        }
        Disconnect::GatewayClock => (
            format!("the clock of the gateway at {gateway} looks wrong: it shows a time before 2025"),
            "set it; nothing is signed for such a time",
        ),
        Disconnect::ClocksApart { behind_hours } => {
            let side = if behind_hours < 0 { "ahead of" } else { "behind" };
            let hours = behind_hours.unsigned_abs();
            (
                format!("this clock is {hours} hours {side} that of the gateway at {gateway}"),
                "set the one that is wrong; nothing is signed for a time more than 24 hours from this clock's",
            )
        }
        Disconnect::NotGateway(status @ (502..=504)) => {
            (format!("a proxy at {gateway} answered {status}"), "is `gesher server` running behind it?")
        }
        Disconnect::NotGateway(status) => (
            format!("what answers at {gateway} is not a gateway: it said {status}"),
            "is --gateway right, and is `gesher server` what runs there?",
        ),
        Disconnect::UpgradeMissing(missing) => {
            let what = format!("no WebSocket upgrade reached the gateway at {gateway}");
            return (what, missing.to_string().into());
        }
        Disconnect::Impostor => (
            format!("what answers at {gateway} does not know the secret and the PIN"),
            "it is not your gateway, or somebody between changes what it says; nothing was sent to it",
        ),
        Disconnect::Link(fault) => (format!("lost the gateway: {fault}"), ""),
        Disconnect::GoAway => ("the gateway is going away".into(), ""),
    };
    (what, todo.into())
}

fn refusal_words(refusal: Refusal) -> (&'static str, &'static str) {
    match refusal {
        Refusal::Secret => ("wrong secret", "use the very secret that the gateway was started with"),
        Refusal::Clock => {
            ("the clocks differ by more than 30 s", "set this machine's clock, or the gateway's")
        }
        Refusal::Replay => ("it has seen this join before", "a proxy in between may send requests twice"),
        Refusal::Pin => ("wrong PIN", "the PIN is printed by the gateway at its start and is new each time"),
        Refusal::Rate => ("too many refused joins from this address", "wait a minute"),
        Refusal::Locked => (
            "too many wrong PINs from this address",
            "wait 10 minutes, then use the PIN that the gateway printed",
        ),
        Refusal::Guessed => (
            "somebody guesses its PIN",
            "until that ends it takes joins only from addresses where a connector had joined since its start",
        ),
        Refusal::Seal => ("it has none of the ways of sealing offered", "update the older one of the two"),
    }
}
/// The app refused a request that said the visitor's name.
pub(crate) const VISITORS_NAME_REFUSED: &str = "the app does not know the visitor's name (Rails: Blocked hosts): requests \
     carry no X-Forwarded-Host from now on, as with --host-header rewrite-all";

/// An answer shows that the app minds its name.
pub(crate) fn minds_name(hint: NameHint, rule: &HostRule) -> String {
    const WHERE: &str = "docs/http.md, \"What some apps have to be told\"";
    let app = match hint {
        NameHint::Vite => "Vite",
        NameHint::Webpack => "webpack-dev-server",
        NameHint::Rails => "Rails",
        NameHint::Rack => "Rack, Sinatra",
        NameHint::Django => "Django",
        NameHint::Jupyter => "Jupyter",
        NameHint::NextJs => "Next.js",
        NameHint::SendsVisitorsToItself => {
            return format!(
                "a page of the app sends visitors to the name that only this machine knows: try --host-header preserve \
                 ({WHERE})"
            );
        }
    };
    let other = match (rule, hint) {
        (HostRule::Preserve | HostRule::Fixed(_), _) => "rewrite",
        (HostRule::Rewrite, NameHint::Rails | NameHint::Rack) => "rewrite-all",
        (HostRule::Rewrite | HostRule::RewriteAll, _) => "preserve",
    };
    format!(
        "the app refused a request, perhaps since it is called otherwise ({app}; --host-header is {}): try --host-header \
         {other} ({WHERE})",
        rule.as_str()
    )
}
