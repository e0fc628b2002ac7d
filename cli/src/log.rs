//! The log on stderr: one line for each event that somebody may want to know of.
//!
//! A request's line is time, method, path, status, bytes to the visitor, milliseconds, connector:
//! ```text
//! 2026-05-01T10:00:00Z GET /report 200 40000 B 135.2 ms connector-1
//! 2026-05-01T10:00:02Z warning: GET /x 502 31 B 2.0 ms connector-1: the app cannot be reached (id 0000000000000011)
//! {"time":"2026-05-01T10:00:00.000Z","level":"info","event":"request","id":7,"method":"GET","path":"/report", …}
//! ```
//! Queries and addresses of visitors are in it only with `-v`. Strangers' text is escaped; field values, bodies,
//! secrets, PINs and keys are not in events at all.

use std::fmt::{self, Display, Write as _};
use std::io::{self, IsTerminal};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anstyle::{AnsiColor, Style};
use gesher_core::event::{Disconnect, Event, RequestLine, RequestLog};
use gesher_core::link::handshake::Refusal;

use crate::args::{ColorWhen, LogArgs, LogFormat};
use crate::escape::{escape, json};
use crate::exit::Failure;
use crate::lines::{GATHER, Line, LineWriter};
use crate::refusals::{Refusals, Told};
use crate::words;

/// Room for most lines.
const LINE_BYTES: usize = 160;

/// How much a line matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Level {
    /// Only with `-v`.
    Detail,
    Info,
    /// With `-q` too.
    Warning,
}

/// Writes events as lines; cheap to clone.
#[derive(Clone)]
pub(crate) struct Log {
    look: Look,
    /// The gateway's address, to the connector that speaks.
    gateway: Arc<str>,
    /// Why there was no link when it was last said.
    said: Arc<Mutex<Option<Disconnect>>>,
    /// Joins that were refused and only counted.
    refusals: Arc<Mutex<Refusals>>,
    /// There are some.
    counted: Arc<AtomicBool>,
    lines: Arc<LineWriter<Entry>>,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    format: LogFormat,
    color: bool,
    least: Level,
    /// Which of several processes in one speaks.
    actor: Option<&'static str>,
}

/// What becomes a line. There are many requests, so theirs are put into words by the thread that writes them.
enum Entry {
    Text(String),
    Request { look: Look, level: Level, request: Box<RequestLog>, time: SystemTime },
}

impl Log {
    /// The log of a gateway; of a connector with [`Log::towards`].
    pub(crate) fn start(args: LogArgs) -> Result<Self, Failure> {
        // A person sees each line when it comes.
        let gather = if io::stderr().is_terminal() { Duration::ZERO } else { GATHER };
        let lines = LineWriter::start(io::stderr(), gather)
            .map_err(|why| Failure::failed(format_args!("no thread for the log could be started: {why}")))?;
        let least = match (args.verbose, args.quiet) {
            (true, _) => Level::Detail,
            (_, true) => Level::Warning,
            _ => Level::Info,
        };
        let color = match args.color {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => {
                // https://no-color.org: set and not empty.
                let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
                io::stderr().is_terminal() && !unwanted
            }
        };
        let log = Self::new(Look { format: args.log_format, color, least, actor: None }, lines);
        log.lines.flush_at_panics();
        Ok(log)
    }

    fn new(look: Look, lines: LineWriter<Entry>) -> Self {
        Self {
            look,
            gateway: "".into(),
            said: Arc::default(),
            refusals: Arc::default(),
            counted: Arc::default(),
            lines: Arc::new(lines),
        }
    }

    /// The same log for a connector of the gateway at this address.
    pub(crate) fn towards(&self, gateway: impl Display) -> Self {
        Self { gateway: gateway.to_string().into(), said: Arc::default(), ..self.clone() }
    }

    /// The same log, with the name of who speaks in each line.
    #[cfg_attr(not(feature = "demo"), allow(dead_code, reason = "for several processes in one"))]
    pub(crate) fn named(&self, actor: &'static str) -> Self {
        Self { look: Look { actor: Some(actor), ..self.look }, ..self.clone() }
    }

    /// The same log without what does not matter when all goes well, unless it was asked for.
    #[cfg_attr(not(feature = "demo"), allow(dead_code, reason = "for several processes in one"))]
    pub(crate) fn quieter(&self) -> Self {
        let least = if self.look.least == Level::Detail { Level::Detail } else { Level::Warning };
        Self { look: Look { least, ..self.look }, ..self.clone() }
    }

    /// Writes the line of an event, if it has one.
    pub(crate) fn event(&self, event: Event) {
        let now = SystemTime::now();
        if self.counted.load(Ordering::Relaxed) {
            self.tell_refusals(now, false);
        }
        if let Some(entry) = self.entry(event, now) {
            self.lines.line(entry);
        }
    }

    /// Writes the lines of refused joins that were counted, as far as it is time.
    fn tell_refusals(&self, now: SystemTime, at_the_end: bool) {
        let told = {
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            let told = refusals.take(now, at_the_end);
            self.counted.store(refusals.is_pending(), Ordering::Relaxed);
            told
        };
        for Told { refusal, count, last_from } in told {
            let text = words::joins_refused(count, last_from, refusal);
            let fields = Fields::default()
                .text("reason", refusal.as_str())
                .bare("count", count)
                .text("from", last_from);
            self.lines.line(Entry::Text(self.look.render(
                Level::Warning,
                ("joins_refused", text, fields),
                now,
            )));
        }
    }

    /// Whether a refused join has a line of its own.
    fn is_first_refusal(&self, refusal: Refusal, from: IpAddr, now: SystemTime) -> bool {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = refusals.note(refusal, from, now);
        self.counted.store(refusals.is_pending(), Ordering::Relaxed);
        is_first
    }

    /// Writes a warning.
    pub(crate) fn warning(&self, text: &str) {
        let description = ("warning", text.into(), Fields::default());
        self.lines.line(Entry::Text(self.look.render(Level::Warning, description, SystemTime::now())));
    }

    /// Writes out what is left.
    pub(crate) fn finish(&self) {
        self.tell_refusals(SystemTime::now(), true);
        self.lines.finish();
    }

    fn entry(&self, event: Event, time: SystemTime) -> Option<Entry> {
        let look = self.look;
        let level = self.weigh(&event).filter(|level| *level >= look.least)?;
        Some(match event {
            Event::Request(request) => Entry::Request { look, level, request, time },
            Event::JoinRefused { from, refusal } if !self.is_first_refusal(refusal, from, time) => {
                return None;
            }
            event => {
                let description = of_gateway(&event).or_else(|| self.of_connector(&event))?;
                Entry::Text(look.render(level, description, time))
            }
        })
    }

    /// How much an event matters by now; none if it has no line.
    fn weigh(&self, event: &Event) -> Option<Level> {
        Some(match event {
            Event::Request(request) if request.trouble.is_some_and(words::is_ours) => Level::Warning,
            Event::Request(_) | Event::Joined { .. } | Event::BadRequest { .. } => Level::Info,
            Event::Left { why, .. } => {
                if why.is_some() {
                    Level::Warning
                } else {
                    Level::Info
                }
            }
            Event::Connected { .. } => {
                self.say(None);
                Level::Info
            }
            // A gateway that is away for a night is worth a line, not one every second.
            Event::Disconnected { why, .. } => {
                if self.say(Some(*why)) {
                    Level::Warning
                } else {
                    Level::Detail
                }
            }
            Event::JoinRefused { .. }
            | Event::UpgradeMissing { .. }
            | Event::ClockOff { .. }
            | Event::TargetDown { .. }
            | Event::NoRoom { .. }
            | Event::BadResponse { .. }
            | Event::VisitorsNameRefused
            | Event::MindsName { .. } => Level::Warning,
            Event::Peers(_) => Level::Detail,
            // GaveUp is the failure that the run ends with; figures are for those who ask.
            _ => return None,
        })
    }

    /// Notes why there is no link, and tells whether that is news.
    fn say(&self, why: Option<Disconnect>) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *said, why) != why
    }

    fn of_connector(&self, event: &Event) -> Option<Description> {
        let fields = Fields::default();
        Some(match event {
            Event::Connected { id } => {
                let text = format!(
                    "joined {} as {}: requests go to the app from now on",
                    self.gateway,
                    escape(id.as_bytes())
                );
                ("connected", text, fields.text("id", id))
            }
            Event::Disconnected { why, again_in, attempt } => (
                "disconnected",
                words::disconnected(*why, *again_in, *attempt, &self.gateway),
                fields.bare("again_in_ms", again_in.as_millis()).bare("attempt", attempt),
            ),
            Event::ClockOff { behind_secs } => {
                ("clock_off", words::clock_off(*behind_secs), fields.bare("behind_s", behind_secs))
            }
            Event::TargetDown { target, why } => {
                ("target_down", words::target_down(target, *why), fields.text("target", target))
            }
            Event::VisitorsNameRefused => ("name_refused", words::VISITORS_NAME_REFUSED.into(), fields),
            Event::MindsName { hint, rule } => (
                "name_hint",
                words::minds_name(*hint, rule),
                fields.text("hint", format_args!("{hint:?}")).text("rule", rule.as_str()),
            ),
            Event::BadResponse { .. } => return bad_response(event),
            Event::Peers(peers) => {
                let text = format!("connectors at the gateway: {}", peers.len());
                ("peers", text, fields.bare("connectors", peers.len()))
            }
            _ => return None,
        })
    }
}

impl Line for Entry {
    fn bytes(&self) -> usize {
        match self {
            Entry::Text(text) => size_of::<Self>() + text.capacity(),
            Entry::Request { request, .. } => {
                size_of::<Self>() + size_of::<RequestLog>() + request.method.len() + request.target.len()
            }
        }
    }

    fn put(self, out: &mut String) {
        match self {
            Entry::Text(text) => out.push_str(&text),
            Entry::Request { look, level, request, time } => match look.format {
                LogFormat::Human => {
                    look.put_human(level, RequestText { look, request: &request }, time, out);
                }
                LogFormat::Json => {
                    let description = ("request", String::new(), look.request_fields(&request));
                    look.put_json(level, description, time, out);
                }
            },
        }
    }
}

impl Look {
    fn request_fields(&self, request: &RequestLog) -> Fields {
        let (path, query) = split(&request.target);
        let mut fields = Fields::default()
            .text("id", format_args!("{:016x}", request.id))
            .text("method", String::from_utf8_lossy(&request.method))
            .text("path", String::from_utf8_lossy(path));
        if self.least == Level::Detail {
            if let Some(query) = query {
                fields = fields.text("query", String::from_utf8_lossy(query));
            }
            fields = fields.text("from", request.from);
        }
        if let Some(status) = request.status {
            fields = fields.bare("status", status);
        }
        fields = fields
            .bare("bytes_in", request.bytes_in)
            .bare("bytes_out", request.bytes_out)
            .bare("ms", ms(request.took));
        if let Some(connector) = &request.connector {
            fields = fields.text("connector", connector);
        }
        match request.trouble {
            Some(trouble) => fields.text("trouble", trouble.as_str()),
            None => fields,
        }
    }

    fn render(&self, level: Level, description: Description, time: SystemTime) -> String {
        let mut line = String::with_capacity(LINE_BYTES);
        match self.format {
            LogFormat::Human => self.put_human(level, description.1, time, &mut line),
            LogFormat::Json => self.put_json(level, description, time, &mut line),
        }
        line
    }

    fn put_human(&self, level: Level, text: impl Display, time: SystemTime, line: &mut String) {
        let time = self.paint(Style::new().dimmed(), humantime::format_rfc3339_seconds(time));
        let _ = write!(line, "{time} ");
        if level == Level::Warning {
            let _ = write!(line, "{} ", self.paint(AnsiColor::Yellow.on_default().bold(), "warning:"));
        }
        if let Some(actor) = self.actor {
            let _ = write!(line, "{actor}: ");
        }
        let _ = write!(line, "{text}");
    }

    fn put_json(&self, level: Level, (kind, text, fields): Description, time: SystemTime, line: &mut String) {
        let time = humantime::format_rfc3339_millis(time);
        let level = match level {
            Level::Warning => "warning",
            Level::Info => "info",
            Level::Detail => "detail",
        };
        let _ = write!(line, "{{\"time\":\"{time}\",\"level\":\"{level}\",\"event\":\"{kind}\"");
        if let Some(actor) = self.actor {
            let _ = write!(line, ",\"actor\":{}", json(actor));
        }
        if !text.is_empty() {
            let _ = write!(line, ",\"message\":{}", json(&text));
        }
        let _ = write!(line, "{fields}}}");
    }

    fn paint<T: Display>(&self, style: Style, what: T) -> Painted<T> {
        Painted { style: if self.color { style } else { Style::new() }, what }
    }
}

/// Something in a colour.
struct Painted<T> {
    style: Style,
    what: T,
}

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{style}{}{style:#}", self.what, style = self.style)
    }
}

/// A request's line for people.
struct RequestText<'a> {
    look: Look,
    request: &'a RequestLog,
}

impl Display for RequestText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { look, request } = self;
        let verbose = look.least == Level::Detail;
        let (path, query) = split(&request.target);
        write!(f, "{} {}", escape(&request.method), escape(path))?;
        if let (true, Some(query)) = (verbose, query) {
            write!(f, "?{}", escape(query))?;
        }
        match request.status {
            Some(status) => write!(f, " {}", look.paint(status_style(status), status))?,
            None => f.write_str(" -")?,
        }
        let connector = escape(request.connector.as_deref().unwrap_or("-").as_bytes());
        write!(f, " {} B {} ms {connector}", request.bytes_out, ms(request.took))?;
        if verbose {
            write!(f, ", {} B from {}", request.bytes_in, request.from)?;
        }
        if let Some(trouble) = request.trouble {
            write!(f, ": {}", trouble.as_str())?;
        }
        if verbose || request.trouble.is_some() {
            write!(f, " (id {:016x})", request.id)?;
        }
        Ok(())
    }
}

/// An event's kind, its text for people, and its fields for programs.
type Description = (&'static str, String, Fields);

fn of_gateway(event: &Event) -> Option<Description> {
    let fields = Fields::default();
    Some(match event {
        Event::Joined { id, name, from, replaced } => {
            let who = who(id, name);
            let again = if *replaced { ", in place of its older link" } else { "" };
            let fields =
                fields.text("id", id).text("name", name).text("from", from).bare("replaced", replaced);
            ("joined", format!("{who} joined from {from}{again}"), fields)
        }
        Event::Left { id, name, why } => {
            let fields = fields.text("id", id).text("name", name);
            let who = who(id, name);
            match why {
                None => ("left", format!("{who} left"), fields),
                Some(fault) => ("left", format!("{who} is gone: {fault}"), fields.text("fault", fault)),
            }
        }
        Event::JoinRefused { from, refusal } => {
            ("join_refused", words::join_refused(*from, *refusal), fields.text("from", from))
        }
        Event::UpgradeMissing { from, missing } => {
            ("upgrade_missing", words::join_without_upgrade(*from, *missing), fields.text("from", from))
        }
        Event::NoRoom { count } => (
            "no_room",
            format!(
                "turned {count} requests away with a 503: they waited for memory (--memory here and at the connectors), or \
                 for connections to the app"
            ),
            fields.bare("count", count),
        ),
        Event::BadRequest { id, from, rule, line } => {
            let which = line.as_ref().map_or(String::new(), |line| format!("{}, ", asked(line)));
            let text = format!("refused what {from} sent: {rule} ({which}id {id:016x})");
            let fields = line.as_ref().map_or(fields, line_fields).text("id", format_args!("{id:016x}"));
            ("bad_request", text, fields.text("from", from).text("rule", rule))
        }
        Event::BadResponse { .. } => return bad_response(event),
        _ => return None,
    })
}

/// An answer of the app's that breaks the rules, or none: with which request.
fn bad_response(event: &Event) -> Option<Description> {
    let Event::BadResponse { rule, id, line } = event else { return None };
    let what = match rule {
        Some(rule) => format!("the app broke the rules of HTTP: {rule}"),
        None => "the app closed the connection before it had answered".to_owned(),
    };
    let fields = line_fields(line).text("id", format_args!("{id:016x}"));
    let fields = rule.iter().fold(fields, |fields, rule| fields.text("rule", rule));
    Some(("bad_response", format!("{}: {what} (id {id:016x})", asked(line)), fields))
}

/// Method and path, without the query, which may hold what is nobody's business.
fn asked(line: &RequestLine) -> String {
    format!("{} {}", escape(&line.method), escape(split(&line.target).0))
}

fn line_fields(line: &RequestLine) -> Fields {
    let path = String::from_utf8_lossy(split(&line.target).0);
    Fields::default().text("method", String::from_utf8_lossy(&line.method)).text("path", path)
}

/// Members of a JSON object, each with a comma in front.
#[derive(Default)]
struct Fields(String);

impl Fields {
    fn text(self, name: &str, value: impl Display) -> Self {
        let value = json(&value.to_string());
        self.bare(name, value)
    }

    /// A number or a boolean.
    fn bare(mut self, name: &str, value: impl Display) -> Self {
        let _ = write!(self.0, ",\"{name}\":{value}");
        self
    }
}

impl Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A connector, as people know it.
fn who(id: &str, name: &str) -> String {
    let id = escape(id.as_bytes());
    if name.is_empty() { id.to_string() } else { format!("{id} ({})", escape(name.as_bytes())) }
}

fn split(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match target.iter().position(|byte| *byte == b'?') {
        Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
        None => (target, None),
    }
}

fn status_style(status: u16) -> Style {
    let color = match status {
        ..300 => AnsiColor::Green,
        300..400 => AnsiColor::Cyan,
        400..500 => AnsiColor::Yellow,
        500.. => AnsiColor::Red,
    };
    color.on_default()
}

/// Milliseconds, to a tenth.
fn ms(took: Duration) -> String {
    words::one_decimal(took.as_micros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use gesher_core::event::Trouble;
    use gesher_core::fault::{Fault, LinkFault};
    use gesher_core::http1::hop::HostRule;
    use gesher_core::http1::hop::hints::NameHint;
    use gesher_core::link::handshake::Missing;
    use gesher_core::machine::{DialFault, Endpoint};
    use std::net::Ipv4Addr;

    const FROM: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));

    fn log(format: LogFormat, least: Level, color: bool) -> Log {
        let lines = LineWriter::start(io::sink(), GATHER).unwrap();
        Log::new(Look { format, color, least, actor: None }, lines).towards("http://gw:8000")
    }

    fn at(log: &Log, event: &Event) -> Option<String> {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_777_629_600_250);
        log.entry(event.clone(), time).map(|entry| {
            let mut line = String::new();
            entry.put(&mut line);
            line
        })
    }

    fn human(event: &Event) -> String {
        let line = at(&log(LogFormat::Human, Level::Info, false), event).unwrap();
        line.strip_prefix("2026-05-01T10:00:00Z ").unwrap().to_owned()
    }

    fn json_of(event: &Event) -> String {
        let line = at(&log(LogFormat::Json, Level::Info, false), event).unwrap();
        line.strip_prefix("{\"time\":\"2026-05-01T10:00:00.250Z\",").unwrap().to_owned()
    }

    fn request() -> RequestLog {
        RequestLog {
            id: 17,
            from: FROM,
            method: b"GET".to_vec(),
            target: b"/report?token=abc".to_vec(),
            status: Some(200),
            bytes_in: 12,
            bytes_out: 40_000,
            took: Duration::from_micros(135_240),
            connector: Some("connector-1".into()),
            trouble: None,
        }
    }

    fn event(request: RequestLog) -> Event {
        Event::Request(Box::new(request))
    }

    #[test]
    fn a_request_is_a_line_without_its_query() {
        assert_eq!(human(&event(request())), "GET /report 200 40000 B 135.2 ms connector-1");
        assert_eq!(
            json_of(&event(request())),
            r#""level":"info","event":"request","id":"0000000000000011","method":"GET","path":"/report","status":200,"bytes_in":12,"bytes_out":40000,"ms":135.2,"connector":"connector-1"}"#
        );
    }

    #[test]
    fn a_verbose_request_has_its_query_its_address_and_its_id() {
        let line = at(&log(LogFormat::Human, Level::Detail, false), &event(request())).unwrap();
        assert_eq!(
            line,
            "2026-05-01T10:00:00Z GET /report?token=abc 200 40000 B 135.2 ms connector-1, 12 B from 203.0.113.9 (id 0000000000000011)"
        );
        let line = at(&log(LogFormat::Json, Level::Detail, false), &event(request())).unwrap();
        assert!(line.contains(r#","query":"token=abc","from":"203.0.113.9","#), "{line}");
    }

    #[test]
    fn a_request_that_went_wrong_says_why_and_which_it_was() {
        let trouble = Some(Trouble::TargetUnreachable);
        let wrong = RequestLog { status: Some(502), bytes_out: 31, trouble, ..request() };
        assert_eq!(
            human(&event(wrong.clone())),
            "warning: GET /report 502 31 B 135.2 ms connector-1: the app cannot be reached (id 0000000000000011)"
        );
        assert!(json_of(&event(wrong)).ends_with(r#","trouble":"the app cannot be reached"}"#));
        let nobody =
            RequestLog { status: None, connector: None, trouble: Some(Trouble::VisitorLeft), ..request() };
        assert_eq!(
            human(&event(nobody)),
            "GET /report - 40000 B 135.2 ms -: the visitor left (id 0000000000000011)"
        );
    }

    #[test]
    fn strangers_text_is_escaped() {
        let hostile = RequestLog {
            method: b"G\x1b[31mT".to_vec(),
            target: b"/a\r\n2026 forged\xff".to_vec(),
            connector: Some("\u{202e}x".into()),
            ..request()
        };
        assert_eq!(
            human(&event(hostile.clone())),
            r"G\u{1b}[31mT /a\r\n2026 forged\xff 200 40000 B 135.2 ms \u{202e}x"
        );
        assert!(
            json_of(&event(hostile))
                .contains(r#""method":"G\u001b[31mT","path":"/a\u000d\u000a2026 forged\ufffd""#)
        );
        let joined = Event::Joined { id: "c1".into(), name: "a\nb".into(), from: FROM, replaced: false };
        assert_eq!(human(&joined), r"c1 (a\nb) joined from 203.0.113.9");
    }

    #[test]
    fn every_event_of_a_gateway_has_its_line() {
        let (id, name) = ("c1".to_owned(), "laptop".to_owned());
        let cases = [
            (
                Event::Joined { id: id.clone(), name: name.clone(), from: FROM, replaced: false },
                "c1 (laptop) joined from 203.0.113.9",
                r#""level":"info","event":"joined","message":"c1 (laptop) joined from 203.0.113.9","id":"c1","name":"laptop","from":"203.0.113.9","replaced":false}"#,
            ),
            (
                Event::Joined { id: id.clone(), name: String::new(), from: FROM, replaced: true },
                "c1 joined from 203.0.113.9, in place of its older link",
                r#""level":"info","event":"joined","message":"c1 joined from 203.0.113.9, in place of its older link","id":"c1","name":"","from":"203.0.113.9","replaced":true}"#,
            ),
            (
                Event::Left { id: id.clone(), name: name.clone(), why: None },
                "c1 (laptop) left",
                r#""level":"info","event":"left","message":"c1 (laptop) left","id":"c1","name":"laptop"}"#,
            ),
            (
                Event::Left { id, name, why: Some(Fault::Link(LinkFault::Silent)) },
                "warning: c1 (laptop) is gone: nothing arrived for 25 s",
                r#""level":"warning","event":"left","message":"c1 (laptop) is gone: nothing arrived for 25 s","id":"c1","name":"laptop","fault":"nothing arrived for 25 s"}"#,
            ),
            (
                Event::JoinRefused { from: FROM, refusal: Refusal::Pin },
                "warning: refused a join from 203.0.113.9: right secret, but wrong PIN",
                r#""level":"warning","event":"join_refused","message":"refused a join from 203.0.113.9: right secret, but wrong PIN","from":"203.0.113.9"}"#,
            ),
        ];
        for (event, text, fields) in cases {
            assert_eq!(human(&event), text);
            assert_eq!(json_of(&event), fields);
        }
    }

    #[test]
    fn every_event_of_a_connector_has_its_line() {
        let down = |why| Event::Disconnected { why, again_in: Duration::from_millis(840), attempt: 1 };
        let app = Endpoint::Tcp { host: "localhost".into(), port: 3000 };
        let cases = [
            (
                Event::Connected { id: "c1".into() },
                "joined http://gw:8000 as c1: requests go to the app from now on",
            ),
            (
                down(Disconnect::Dial(DialFault::Refused)),
                "warning: nothing listens at http://gw:8000 (next try in 0.8 s): is `gesher server` running there?",
            ),
            (
                down(Disconnect::Dial(DialFault::NoSuchName)),
                "warning: there is no such host name as in http://gw:8000 (next try in 0.8 s): is --gateway right, and is this machine online?",
            ),
            (
                down(Disconnect::Dial(DialFault::TimedOut)),
                "warning: http://gw:8000 does not answer (next try in 0.8 s): is --gateway right, and does a firewall let this port through?",
            ),
            (
                down(Disconnect::Dial(DialFault::Unreachable)),
                "warning: http://gw:8000 cannot be reached (next try in 0.8 s): is this machine online?",
            ),
            (
                down(Disconnect::NoAnswer),
                "warning: something listens at http://gw:8000, but does not answer (next try in 0.8 s): is it `gesher server`, and is this its port?",
            ),
            (
                down(Disconnect::Refused(Refusal::Secret)),
                "warning: the gateway at http://gw:8000 refused: wrong secret (next try in 0.8 s): use the very secret that the gateway was started with",
            ),
            (
                down(Disconnect::Refused(Refusal::Pin)),
                "warning: the gateway at http://gw:8000 refused: wrong PIN (next try in 0.8 s): use the PIN that it printed at its start, which is new each time; the wait is long since 5 wrong PINs within 2 minutes would close joining to this address",
            ),
            (
                down(Disconnect::NotGateway(404)),
                "warning: what answers at http://gw:8000 is not a gateway: it said 404 (next try in 0.8 s): is --gateway right, and is `gesher server` what runs there?",
            ),
            (
                down(Disconnect::NotGateway(502)),
                "warning: a proxy at http://gw:8000 answered 502 (next try in 0.8 s): is `gesher server` running behind it?",
            ),
            (
                down(Disconnect::Impostor),
                "warning: what answers at http://gw:8000 does not know the secret and the PIN (next try in 0.8 s): it is not your gateway, or somebody between changes what it says; nothing was sent to it",
            ),
            (
                Event::Disconnected {
                    why: Disconnect::Link(Fault::Link(LinkFault::Lost)),
                    again_in: Duration::from_secs(1),
                    attempt: 0,
                },
                "warning: lost the gateway: the connection was lost (next try in 1.0 s)",
            ),
            (
                Event::Disconnected {
                    why: Disconnect::GoAway,
                    again_in: Duration::from_secs(30),
                    attempt: 3,
                },
                "warning: the gateway is going away (try 3, the next in 30.0 s)",
            ),
            (
                Event::ClockOff { behind_secs: 312 },
                "warning: this clock is 312 s behind the gateway's: set it; joining goes on with the gateway's time",
            ),
            (
                Event::ClockOff { behind_secs: -40 },
                "warning: this clock is 40 s ahead of the gateway's: set it; joining goes on with the gateway's time",
            ),
            (
                Event::TargetDown { target: app, why: DialFault::Refused },
                "warning: the app at localhost:3000 cannot be reached: connection refused: is it running, and is --target right?",
            ),
            (
                Event::BadResponse {
                    rule: None,
                    id: 42,
                    line: RequestLine { method: b"GET".to_vec(), target: b"/a?token=abc".to_vec() },
                },
                "warning: GET /a: the app closed the connection before it had answered (id 000000000000002a)",
            ),
            (
                Event::MindsName { hint: NameHint::Vite, rule: HostRule::Preserve },
                "warning: the app refused a request, perhaps since it is called otherwise (Vite; --host-header is preserve): \
                 try --host-header rewrite (docs/http.md, \"What some apps have to be told\")",
            ),
            (
                Event::MindsName { hint: NameHint::SendsVisitorsToItself, rule: HostRule::Rewrite },
                "warning: a page of the app sends visitors to the name that only this machine knows: try --host-header \
                 preserve (docs/http.md, \"What some apps have to be told\")",
            ),
            (
                Event::VisitorsNameRefused,
                "warning: the app does not know the visitor's name (Rails: Blocked hosts): requests carry no \
                 X-Forwarded-Host from now on, as with --host-header rewrite-all",
            ),
        ];
        for (event, text) in cases {
            assert_eq!(human(&event), text);
        }
    }

    #[test]
    fn a_proxy_that_drops_the_upgrade_is_named_with_its_setting() {
        let missing = Missing::Upgrade;
        let (why, again_in) = (Disconnect::UpgradeMissing(missing), Duration::from_secs(60));
        assert_eq!(
            human(&Event::Disconnected { why, again_in, attempt: 2 }),
            format!(
                "warning: no WebSocket upgrade reached the gateway at http://gw:8000 (try 2, the next in 60.0 s): {missing}"
            )
        );
        assert_eq!(
            human(&Event::UpgradeMissing { from: FROM, missing }),
            format!("warning: a join from 203.0.113.9 came without its WebSocket upgrade: {missing}")
        );
        assert!(missing.to_string().contains("proxy_set_header Upgrade $http_upgrade"), "{missing}");
    }

    #[test]
    fn refused_joins_are_a_line_and_then_a_count_also_for_those_who_want_little() {
        let log = log(LogFormat::Human, Level::Warning, false);
        let refused = Event::JoinRefused { from: FROM, refusal: Refusal::Secret };
        let lines = (0..1000).filter(|_| at(&log, &refused).is_some()).count();
        assert_eq!((lines, log.counted.load(Ordering::Relaxed)), (1, true));
        assert_eq!(
            words::joins_refused(999, FROM, Refusal::Secret),
            "refused 999 more joins, the last from 203.0.113.9: wrong secret"
        );
        log.tell_refusals(SystemTime::now(), true);
        assert!(!log.counted.load(Ordering::Relaxed), "said at the end");
    }

    #[test]
    fn a_reason_for_having_no_link_is_said_once_until_it_changes() {
        let log = log(LogFormat::Human, Level::Info, false);
        let down = |why, attempt| Event::Disconnected { why, again_in: Duration::from_secs(1), attempt };
        let refused = Disconnect::Dial(DialFault::Refused);
        let lines = [
            down(refused, 1),
            down(refused, 2),
            down(Disconnect::Refused(Refusal::Pin), 3),
            Event::Connected { id: "c1".into() },
            down(refused, 1),
        ]
        .map(|event| at(&log, &event).is_some());
        assert_eq!(lines, [true, false, true, true, true]);
    }

    #[test]
    fn quiet_leaves_warnings() {
        let quiet = log(LogFormat::Human, Level::Warning, false);
        assert_eq!(at(&quiet, &event(request())), None);
        assert!(at(&quiet, &Event::ClockOff { behind_secs: 40 }).is_some());
        assert_eq!(at(&quiet, &event(RequestLog { trouble: Some(Trouble::VisitorLeft), ..request() })), None);
    }

    #[test]
    fn colour_is_in_the_time_the_level_and_the_status() {
        let colored = log(LogFormat::Human, Level::Info, true);
        let wrong = RequestLog { status: Some(502), trouble: Some(Trouble::LinkLost), ..request() };
        assert_eq!(
            at(&colored, &event(wrong)).unwrap(),
            "\u{1b}[2m2026-05-01T10:00:00Z\u{1b}[0m \u{1b}[1m\u{1b}[33mwarning:\u{1b}[0m GET /report \u{1b}[31m502\u{1b}[0m \
             40000 B 135.2 ms connector-1: the link was lost (id 0000000000000011)"
        );
    }

    #[test]
    fn a_line_names_who_speaks_where_several_do() {
        let gone = Event::Connected { id: "c1".into() };
        let log = log(LogFormat::Human, Level::Info, false).named("demo-1");
        assert_eq!(
            at(&log, &gone).unwrap(),
            "2026-05-01T10:00:00Z demo-1: joined http://gw:8000 as c1: requests go to the app from now on"
        );
    }
}
