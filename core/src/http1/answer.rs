//! Answers of our own: short, honest, and the same for everyone.
//!
//! One names the kind of trouble and an id that the logs have, never an address or a system error. Nothing that
//! anyone sent is in it, so there is nothing to escape.
//!
//! ```
//! use gesher_core::http1::answer::Answer;
//! use gesher_core::time::UnixSecs;
//!
//! let mut out = Vec::new();
//! let answer = Answer::new(503, "No connector is joined.", 0x2a);
//! Answer { retry_after: Some(5), ..answer }.write(UnixSecs(784_111_777), &mut out);
//! assert_eq!(
//!     String::from_utf8(out).unwrap(),
//!     "HTTP/1.1 503 Service Unavailable\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
//!     Content-Type: text/plain; charset=utf-8\r\nContent-Length: 70\r\nCache-Control: no-store\r\n\
//!     X-Content-Type-Options: nosniff\r\nRetry-After: 5\r\n\r\n\
//!     503 Service Unavailable\n\nNo connector is joined.\n\nid 000000000000002a\n"
//! );
//! ```

use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use httpdate::HttpDate;

use super::Violation;
use super::hop::RequestFacts;
use crate::time::UnixSecs;

/// What a 405, and the answer to an OPTIONS, say is served.
const ALLOW: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// An answer that no app gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// 200 to 599.
    pub status: u16,
    /// What is the matter, in one sentence without markup; it may lack its capital and its full stop.
    pub text: &'static str,
    /// What the logs know the request by.
    pub id: u64,
    /// Whether the connection ends after this.
    pub close: bool,
    /// In how many seconds it may be different.
    pub retry_after: Option<u32>,
    /// Whether it is a page, not plain text.
    pub html: bool,
    /// Whether it answers a HEAD: everything but the body.
    pub head: bool,
    /// The methods that are served.
    pub allow: Option<&'static str>,
}

impl Answer {
    /// Plain text, on a connection that goes on.
    pub fn new(status: u16, text: &'static str, id: u64) -> Self {
        Self { status, text, id, close: false, retry_after: None, html: false, head: false, allow: None }
    }

    /// The answer to an OPTIONS that asks about the gateway itself.
    pub fn to_options(id: u64) -> Self {
        Self { allow: Some(ALLOW), ..Self::new(200, "The methods that the gateway takes are in Allow.", id) }
    }

    /// The answer to a message that broke a rule. It closes: where the next message begins is anyone's guess.
    pub fn from_violation(violation: Violation, id: u64) -> Self {
        let status = violation.status();
        let allow = (status == 405).then_some(ALLOW);
        Self { close: true, allow, ..Self::new(status, violation.as_str(), id) }
    }

    /// In the form that this request asks for: a page or plain text, with a body or without, closing if it must.
    #[must_use]
    pub fn for_request(self, facts: &RequestFacts) -> Self {
        let close = self.close || !facts.keep_alive;
        Self { html: facts.accepts_html, head: facts.head, close, ..self }
    }

    /// Appends the whole answer to `out`.
    pub fn write(&self, now: UnixSecs, out: &mut Vec<u8>) {
        let body = if self.html { self.page() } else { self.plain() };
        self.write_head(now, body.len(), out).expect("a Vec takes all that is written");
        if !self.head {
            out.extend_from_slice(body.as_bytes());
        }
    }

    fn write_head(&self, now: UnixSecs, length: usize, out: &mut Vec<u8>) -> std::io::Result<()> {
        let media = if self.html { "html" } else { "plain" };
        write!(out, "HTTP/1.1 {} {}\r\n", self.status, reason(self.status))?;
        put_date(out, now);
        write!(out, "Content-Type: text/{media}; charset=utf-8\r\nContent-Length: {length}\r\n")?;
        out.extend_from_slice(b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n");
        if let Some(allow) = self.allow {
            write!(out, "Allow: {allow}\r\n")?;
        }
        if let Some(secs) = self.retry_after {
            write!(out, "Retry-After: {secs}\r\n")?;
        }
        if self.close {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn plain(&self) -> String {
        let Self { status, id, .. } = self;
        format!("{status} {}\n\n{}\n\nid {id:016x}\n", reason(*status), self.sentence())
    }

    fn page(&self) -> String {
        let Self { status, id, .. } = self;
        let (reason, text) = (reason(*status), self.sentence());
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{status} {reason}</title>\n\
             <style>:root{{color-scheme:light dark}}\
             body{{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1.5rem}}\
             h1{{font-size:1.5rem}}code{{font-size:.9rem}}</style>\n</head>\n<body>\n<main>\n\
             <h1>{status} {reason}</h1>\n<p>{text}</p>\n<p>id <code>{id:016x}</code></p>\n\
             </main>\n</body>\n</html>\n"
        )
    }

    fn sentence(&self) -> String {
        let text = self.text.strip_suffix('.').unwrap_or(self.text);
        let mut sentence = format!("{text}.");
        if let Some(first) = sentence.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        sentence
    }
}

/// The standard phrase for a status that we give (RFC 9110, 15; RFC 6585); nothing for others.
pub fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        508 => "Loop Detected",
        _ => "",
    }
}

/// Appends a Date field (RFC 9110, 6.6.1).
pub(super) fn put_date(out: &mut Vec<u8>, now: UnixSecs) {
    const LAST: u64 = 253_402_300_799; // the last second of 9999: the format has four digits
    let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(now.0.min(LAST)));
    write!(out, "Date: {date}\r\n").expect("a Vec takes all that is written");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::body::Framing;
    use crate::http1::body::response_framing;
    use crate::http1::head::{Version, parse_response};

    const NOW: UnixSecs = UnixSecs(784_111_777);

    fn facts() -> RequestFacts {
        RequestFacts {
            version: Version::Http11,
            keep_alive: true,
            head: false,
            expects_continue: false,
            accepts_html: false,
            te_trailers: false,
            logs_in: false,
            upgrade: Vec::new(),
        }
    }

    fn written(answer: Answer) -> (String, String) {
        let mut out = Vec::new();
        answer.write(NOW, &mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (format!("{head}\r\n\r\n"), body.to_owned())
    }

    #[test]
    fn every_answer_is_a_message_that_we_would_accept() {
        for html in [false, true] {
            for status in (200..600).filter(|status| !reason(*status).is_empty()) {
                let answer = Answer { html, ..Answer::new(status, "Something is the matter.", 7) };
                let (head, body) = written(answer);
                let head = parse_response(head.as_bytes()).unwrap();
                assert_eq!((head.status, head.reason), (status, reason(status).as_bytes()));
                assert_eq!(response_framing(&head, b"GET"), Ok(Framing::Sized(body.len() as u64)));
                assert_eq!(head.get("cache-control"), Some(&b"no-store"[..]));
                assert_eq!(head.get("x-content-type-options"), Some(&b"nosniff"[..]));
            }
        }
    }

    #[test]
    fn a_page_names_the_trouble_and_the_id() {
        let (head, body) = written(Answer { html: true, ..Answer::new(502, "The app broke off.", u64::MAX) });
        assert!(head.contains("Content-Type: text/html; charset=utf-8\r\n"));
        assert!(body.contains("<h1>502 Bad Gateway</h1>\n<p>The app broke off.</p>"));
        assert!(body.contains("<code>ffffffffffffffff</code>"));
    }

    #[test]
    fn a_violation_closes_and_a_wrong_method_learns_the_right_ones() {
        let (head, body) = written(Answer::from_violation(Violation::MethodNotAllowed, 1));
        assert!(head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"));
        assert!(head.contains("\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"));
        assert!(head.ends_with("\r\nConnection: close\r\n\r\n"));
        assert!(body.contains("\n\nMethod not allowed.\n\n"), "{body}");
        assert!(!written(Answer::from_violation(Violation::Loop, 1)).0.contains("Allow"));
    }

    #[test]
    fn a_head_request_gets_the_length_but_not_the_body() {
        let answer = Answer::new(504, "The app did not answer in time.", 1);
        let (head, body) = written(answer.for_request(&RequestFacts { head: true, ..facts() }));
        assert_eq!((head, ""), (written(answer).0, body.as_str()));
    }

    #[test]
    fn an_answer_takes_the_form_that_the_request_asks_for() {
        let answer = Answer::new(404, "Nothing here.", 1);
        assert_eq!(answer.for_request(&facts()), answer);
        assert!(answer.for_request(&RequestFacts { accepts_html: true, ..facts() }).html);
        assert!(answer.for_request(&RequestFacts { keep_alive: false, ..facts() }).close);
        assert!(Answer { close: true, ..answer }.for_request(&facts()).close);
    }

    #[test]
    fn a_clock_far_in_the_future_still_gives_a_date() {
        let mut out = Vec::new();
        put_date(&mut out, UnixSecs(u64::MAX));
        assert_eq!(out, b"Date: Fri, 31 Dec 9999 23:59:59 GMT\r\n");
    }
}
