//! What an answer shows of an app that minds its name: pages by which known apps refuse a name, and bodies that send
//! visitors to a name that only the connector can reach. Nothing here changes what is sent; a wrong guess costs a line in
//! a log.

use super::super::head::ResponseHead;

/// A way in which an app minds its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NameHint {
    /// Vite, and what is built on it (SvelteKit, Storybook), refused the Host.
    Vite,
    /// webpack-dev-server refused the Host, or the Origin.
    Webpack,
    /// Rails refused the Host.
    Rails,
    /// A Rack app (Sinatra) refused a request, perhaps since its Referer is not its own name.
    Rack,
    /// Django refused the Host, or a form from another Origin.
    Django,
    /// Jupyter refused the Host, or a request from another Origin.
    Jupyter,
    /// Next.js refused a server action from another Origin.
    NextJs,
    /// A body sends visitors to the name that the app was told.
    SendsVisitorsToItself,
}

/// By which of the first bytes of a refusal an app is recognized, whatever the page around them. Each was seen in the
/// answers of the app itself.
const REFUSALS: [(u16, &[u8], NameHint); 9] = [
    (403, b"Blocked request. This host (", NameHint::Vite),
    (403, b"Invalid Host header", NameHint::Webpack),
    (403, b"Invalid Host/Origin header", NameHint::Webpack),
    (403, b"<h1>Blocked host", NameHint::Rails),
    (403, b"CSRF verification failed", NameHint::Django),
    (400, b"DisallowedHost", NameHint::Django),
    (403, b"{\"message\": \"Forbidden\", \"reason\"", NameHint::Jupyter),
    (500, b"Invalid Server Actions request", NameHint::NextJs),
    (403, b"Forbidden", NameHint::Rack),
];

/// Whether a response with this status can be a refusal that [`refusal`] knows.
pub fn may_be_refusal(status: u16) -> bool {
    matches!(status, 400 | 403 | 500)
}

/// Whether the body can be looked into: text or JSON, or who knows what, that is not compressed.
pub fn is_readable(head: &ResponseHead<'_>) -> bool {
    // webpack-dev-server says nothing of the type of its refusals.
    let media = head.get("content-type").unwrap_or(b"text/plain");
    let media = media.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let is_text = media.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"text/"));
    let is_json = media.len() > 4 && media[media.len() - 4..].eq_ignore_ascii_case(b"json");
    (is_text || is_json) && head.get("content-encoding").is_none()
}

/// The app that refuses a name by a response with this status, whose body begins so.
pub fn refusal(status: u16, body: &[u8]) -> Option<NameHint> {
    REFUSALS.iter().find_map(|(refused, mark, hint)| {
        // That word alone says something only if it is all.
        let is_it = if *hint == NameHint::Rack { body == *mark } else { find(body, mark).is_some() };
        (*refused == status && is_it).then_some(*hint)
    })
}

/// Whether a 403's body, as far as it came, is the page of Rails that says that it knows no such host, and names this
/// one. A visitor's own text cannot stand there as a heading, since Rails escapes it.
pub fn is_blocked_hosts_page(body: &[u8], host: &[u8]) -> bool {
    /// The heading, and the line to be added to the configuration.
    const NAMED_WITHIN_BYTES: usize = 2048;
    let Some(at) = find(body, b"<h1>Blocked host") else { return false };
    let page = &body[at..];
    let page = &page[..page.len().min(NAMED_WITHIN_BYTES)];
    let named = page.windows(host.len().max(1)).any(|window| window.eq_ignore_ascii_case(host));
    named && find(page, b"config.hosts").is_some()
}

/// Whether a body that begins so has an address with this authority: `http://localhost:3000/…`.
pub fn names_authority(body: &[u8], authority: &[u8]) -> bool {
    let mut rest = body;
    while let Some(at) = find(rest, b"//") {
        rest = &rest[at + 2..];
        let is_it = rest.get(..authority.len()).is_some_and(|start| start.eq_ignore_ascii_case(authority));
        // Cut off behind it, it may go on as another name.
        let ends = rest.get(authority.len()).is_some_and(|next| {
            !next.is_ascii_alphanumeric() && !matches!(next, b'.' | b'-' | b'_' | b':' | b'@')
        });
        if is_it && ends {
            return true;
        }
    }
    false
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    while let Some(at) = text[from..].iter().position(|byte| *byte == first) {
        if text[from + at..].starts_with(wanted) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::super::head::parse_response;
    use super::*;

    #[test]
    fn refusals_are_known_by_what_the_apps_themselves_say() {
        for (status, body, hint) in [
            (
                403,
                "Blocked request. This host (\"shop.example\") is not allowed.\nTo allow",
                Some(NameHint::Vite),
            ),
            (403, "Invalid Host header", Some(NameHint::Webpack)),
            (403, "<header>\n  <h1>Blocked hosts: shop.example</h1>", Some(NameHint::Rails)),
            (403, "<p>CSRF verification failed. Request aborted.</p>", Some(NameHint::Django)),
            (400, "<title>DisallowedHost\n at /</title>", Some(NameHint::Django)),
            (403, "{\"message\": \"Forbidden\", \"reason\": null}", Some(NameHint::Jupyter)),
            (500, "1:E{\"message\":\"Invalid Server Actions request.\"}", Some(NameHint::NextJs)),
            (403, "Forbidden", Some(NameHint::Rack)),
            (403, "Forbidden: sign in", None),
            (403, "", None),
            (404, "Blocked request. This host (", None),
            (500, "Invalid Host header", None),
        ] {
            assert_eq!(refusal(status, body.as_bytes()), hint, "{body}");
            assert!(hint.is_none() || may_be_refusal(status));
        }
    }

    #[test]
    fn the_page_of_rails_has_to_name_the_host() {
        let page = |heading: &str, line: &str| format!("<style></style>{heading}<pre>{line}</pre>");
        let is_page = |text: &str| is_blocked_hosts_page(text.as_bytes(), b"shop.example");
        let line = "config.hosts &lt;&lt; \"shop.example\"";
        assert!(is_page(&page("<h1>Blocked host: shop.example</h1>", line)));
        assert!(is_page(&page("<h1>Blocked hosts: localhost:3000, Shop.Example:8000</h1>", "config.hosts")));
        assert!(!is_page(&page(
            "<h1>Blocked hosts: localhost:3000</h1>",
            "config.hosts &lt;&lt; \"localhost\""
        )));
        assert!(!is_page(&page("&lt;h1>Blocked host: shop.example", line)));
        assert!(!is_page(&page("<h1>Blocked host: shop.example</h1>", "")));
        assert!(!is_page(&page(&format!("<h1>Blocked host: {}shop.example", " ".repeat(3000)), line)));
        assert!(!is_page(""));
        assert!(!is_blocked_hosts_page(b"", b""));
    }

    #[test]
    fn an_address_is_the_apps_only_if_its_authority_is_whole() {
        let names = |body: &str| names_authority(body.as_bytes(), b"localhost:4873");
        for body in [
            "\"tarball\":\"http://localhost:4873/a/-/a.tgz\"",
            "<a href='//LOCALHOST:4873'>",
            "https://localhost:48730/ http://localhost:4873?",
        ] {
            assert!(names(body), "{body}");
        }
        for body in [
            "",
            "//",
            "localhost:4873/",
            "http://localhost:4873",
            "//localhost:48731/",
            "//localhost:4873.evil/",
        ] {
            assert!(!names(body), "{body}");
        }
    }

    #[test]
    fn only_text_and_json_that_is_not_compressed_is_looked_into() {
        let readable = |fields: &str| {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            is_readable(&parse_response(head.as_bytes()).unwrap())
        };
        for media in
            ["text/html; charset=utf-8", "TEXT/plain", "application/json", "application/ld+JSON ; a=b"]
        {
            assert!(readable(&format!("Content-Type: {media}\r\n")), "{media}");
        }
        for media in ["", "text", "image/png", "application/octet-stream", "json"] {
            assert!(!readable(&format!("Content-Type: {media}\r\n")), "{media}");
        }
        assert!(readable("") && !readable("Content-Type: text/html\r\nContent-Encoding: gzip\r\n"));
    }
}
