//! The two names of one app: the one that visitors use and the one that it is told. Fields that name it are translated
//! on their way, where they name just that host and port: never a name that only begins alike.
//!
//! | to the app | form |
//! | --- | --- |
//! | Origin, Referer, Destination | a URI |
//! | If | tagged lists, `<URI> (<token>)` (RFC 4918, 10.4) |
//!
//! | to the visitor | form |
//! | --- | --- |
//! | Location, Content-Location, Access-Control-Allow-Origin | a URI |
//! | Refresh | `5; url=URI` |
//! | Link | `<URI>; parameters`, several (RFC 8288) |
//! | Set-Cookie | `Domain=HOST`, which is left out |
//!
//! A URI is absolute, or begins with `//` (RFC 3986, 4.2). All others are taken relative to a page that the reader
//! knows by its own name for it.

use super::put;

/// How one app is called on either side.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// Whether the visitor came by https.
    pub(super) visitor_https: bool,
    /// The authority that the visitor asked for.
    pub(super) visitor: Vec<u8>,
    /// The authority that the app is told; its scheme is http.
    pub(super) target: Vec<u8>,
}

impl Names {
    /// What turns the app's name for itself into the visitor's.
    pub(super) fn to_visitor(&self) -> Translation<'_> {
        Translation {
            from: &self.target,
            from_https: false,
            // An app that is told that its visitor came by https may say so.
            any_scheme: self.visitor_https,
            to: &self.visitor,
            to_https: self.visitor_https,
        }
    }
}

/// Puts one name of an app in the place of another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Translation<'a> {
    from: &'a [u8],
    from_https: bool,
    /// Whether `from` may be named under both schemes.
    any_scheme: bool,
    to: &'a [u8],
    to_https: bool,
}

impl<'a> Translation<'a> {
    /// What turns the visitor's name for the app into the one that the app is told.
    pub(super) fn to_target(visitor_https: bool, visitor: &'a [u8], target: &'a [u8]) -> Self {
        Self { from: visitor, from_https: visitor_https, any_scheme: true, to: target, to_https: false }
    }

    /// Writes a URI; returns whether it was translated.
    pub(super) fn put_uri(&self, out: &mut Vec<u8>, uri: &[u8]) -> bool {
        match self.rest_of(uri) {
            Some((scheme, rest)) => {
                put(out, &[scheme, self.to, rest]);
                true
            }
            None => {
                out.extend_from_slice(uri);
                false
            }
        }
    }

    /// Writes a value in which URIs stand between `<` and `>`: those that stand neither in a quoted string nor in
    /// parentheses. Returns whether one was translated.
    pub(super) fn put_references(&self, out: &mut Vec<u8>, value: &[u8]) -> bool {
        let (mut rest, mut depth, mut translated) = (value, 0_usize, false);
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'(' | b')' | b'<')) {
            let (before, marked) = rest.split_at(at);
            out.extend_from_slice(before);
            let length = match marked[0] {
                b'"' => quoted_length(marked),
                b'(' => {
                    depth += 1;
                    1
                }
                b')' => {
                    depth = depth.saturating_sub(1);
                    1
                }
                _ => marked.iter().position(|byte| *byte == b'>').unwrap_or(marked.len()),
            };
            let (piece, after) = marked.split_at(length);
            match piece {
                [b'<', uri @ ..] if depth == 0 && after.starts_with(b">") => {
                    out.push(b'<');
                    translated |= self.put_uri(out, uri);
                }
                _ => out.extend_from_slice(piece),
            }
            rest = after;
        }
        out.extend_from_slice(rest);
        translated
    }

    /// Writes a Refresh: a number, and after `;` or `,` a URI, perhaps behind `url=` and in quotes (HTML, *shared
    /// declarative refresh steps*).
    pub(super) fn put_refresh(&self, out: &mut Vec<u8>, value: &[u8]) {
        let Some(separator) = value.iter().position(|byte| matches!(byte, b';' | b',')) else {
            return out.extend_from_slice(value);
        };
        let skip = |at: usize, is_skipped: fn(&u8) -> bool| {
            at + value[at..].iter().position(|byte| !is_skipped(byte)).unwrap_or(value.len() - at)
        };
        let mut start = skip(separator + 1, u8::is_ascii_whitespace);
        if value[start..].get(..3).is_some_and(|word| word.eq_ignore_ascii_case(b"url")) {
            let equals = skip(start + 3, u8::is_ascii_whitespace);
            if value.get(equals) == Some(&b'=') {
                start = skip(equals + 1, u8::is_ascii_whitespace);
            }
        }
        let mut end = value.len();
        if let Some(quote @ (b'"' | b'\'')) = value.get(start).copied() {
            start += 1;
            end = value[start..].iter().position(|byte| *byte == quote).map_or(end, |length| start + length);
        }
        out.extend_from_slice(&value[..start]);
        self.put_uri(out, &value[start..end]);
        out.extend_from_slice(&value[end..]);
    }

    /// Writes a Set-Cookie without a Domain that is the host: to the visitor's browser that would be another site, and
    /// without one the cookie belongs to the host that the browser sees.
    pub(super) fn put_cookie(&self, out: &mut Vec<u8>, cookie: &[u8]) {
        let host = host_of(self.from);
        let is_domain = |attribute: &[u8]| {
            let mut parts = attribute.splitn(2, |b| *b == b'=').map(<[u8]>::trim_ascii);
            let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(b"domain"));
            is_named
                && parts.next().is_some_and(|value| {
                    value.strip_prefix(b".").unwrap_or(value).eq_ignore_ascii_case(host) // RFC 6265, 5.2.3
                })
        };
        for (index, part) in cookie.split(|b| *b == b';').enumerate() {
            match index {
                0 => out.extend_from_slice(part),
                _ if is_domain(part) => {}
                _ => put(out, &[b";", part]),
            }
        }
    }

    /// If the URI names the app, how it begins once it is translated, up to the authority, and what follows that.
    fn rest_of<'u>(&self, uri: &'u [u8]) -> Option<(&'static [u8], &'u [u8])> {
        let (https, after) = split_scheme(uri)?;
        let end = after.iter().position(|b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(after.len());
        let (authority, rest) = after.split_at(end);
        let is_known = https.is_none_or(|https| https == self.from_https || self.any_scheme);
        if !is_known || !same_authority(https.unwrap_or(self.from_https), authority, self.from) {
            return None;
        }
        let scheme: &[u8] = match (https, self.to_https) {
            (None, _) => b"//",
            (Some(_), false) => b"http://",
            (Some(_), true) => b"https://",
        };
        Some((scheme, rest))
    }
}

/// Writes a Forwarded field (RFC 7239) without its `host`, and with the target's scheme as `proto` if it is to say
/// that.
pub(super) fn put_forwarded(out: &mut Vec<u8>, value: &[u8], has_target_scheme: bool) {
    let mut between: &[u8] = b"";
    for element in split_outside_quotes(value, b',') {
        for pair in split_outside_quotes(element, b';') {
            let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
            let pair = match () {
                () if pair.is_empty() || name.eq_ignore_ascii_case(b"host") => continue,
                () if has_target_scheme && name.eq_ignore_ascii_case(b"proto") => &b"proto=http"[..],
                () => pair,
            };
            put(out, &[between, pair]);
            between = b";";
        }
        if !between.is_empty() {
            between = b", ";
        }
    }
}

/// An authority without its port.
pub(super) fn host_of(authority: &[u8]) -> &[u8] {
    match authority.iter().rposition(|b| matches!(b, b':' | b']')) {
        Some(colon) if authority[colon] == b':' => &authority[..colon],
        _ => authority,
    }
}

/// Whether a URI is https, unless it only begins with `//`, and what follows; none if it is neither that nor http.
fn split_scheme(uri: &[u8]) -> Option<(Option<bool>, &[u8])> {
    let begins = |start: &[u8]| uri.get(..start.len()).is_some_and(|s| s.eq_ignore_ascii_case(start));
    match () {
        () if begins(b"http://") => Some((Some(false), &uri[7..])),
        () if begins(b"https://") => Some((Some(true), &uri[8..])),
        () if begins(b"//") => Some((None, &uri[2..])),
        () => None,
    }
}

/// Whether two authorities name the same host and port under one scheme. One with user information names none.
fn same_authority(https: bool, a: &[u8], b: &[u8]) -> bool {
    let default: &[u8] = if https { b":443" } else { b":80" };
    let bare = |authority| {
        let host = host_of(authority);
        let port = &authority[host.len()..];
        let is_host = host.ends_with(b"]") || !host.contains(&b':');
        if is_host && (port == b":" || port == default) { host } else { authority }
    };
    bare(a).eq_ignore_ascii_case(bare(b))
}

/// How long the quoted string is that `text` begins with; all of it if it does not end.
fn quoted_length(text: &[u8]) -> usize {
    let mut escaped = false;
    let end = text.iter().skip(1).position(|byte| match byte {
        _ if escaped => {
            escaped = false;
            false
        }
        b'\\' => {
            escaped = true;
            false
        }
        byte => *byte == b'"',
    });
    end.map_or(text.len(), |length| length + 2)
}

/// The parts between separators that stand in no quoted string, without white space around them.
fn split_outside_quotes(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut at = 0;
        while at < text.len() && text[at] != separator {
            at += if text[at] == b'"' { quoted_length(&text[at..]) } else { 1 };
        }
        rest = text.get(at + 1..);
        Some(text[..at].trim_ascii())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VISITOR: &[u8] = b"shop.example";
    const TARGET: &[u8] = b"localhost:3000";

    fn to_target() -> Translation<'static> {
        Translation::to_target(false, VISITOR, TARGET)
    }

    fn names(visitor_https: bool) -> Names {
        Names { visitor_https, visitor: VISITOR.into(), target: TARGET.into() }
    }

    fn written(put: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        put(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_uri_is_translated_only_if_it_names_just_this_host_and_port() {
        let back = |uri: &str| written(|out| _ = names(false).to_visitor().put_uri(out, uri.as_bytes()));
        for (uri, translated) in [
            ("http://localhost:3000", "http://shop.example"),
            ("HTTP://LocalHost:3000/a?b#c", "http://shop.example/a?b#c"),
            ("http://localhost:3000?x", "http://shop.example?x"),
            ("//localhost:3000/x", "//shop.example/x"),
        ] {
            assert_eq!(back(uri), translated);
        }
        for other in [
            "",
            "/",
            "/x",
            "//",
            "http://",
            "http:/localhost:3000/",
            "http://localhost:30001/",
            "http://localhost:3000.evil/",
            "http://localhost:3000:/",
            "http://localhost:3000:80/",
            "https://localhost:3000:443/",
            "http://localhost:3000@evil/",
            "http://a@localhost:3000/",
            "http://a.localhost:3000/",
            "http://localhost/",
            "https://localhost:3000/",
            "ws://localhost:3000/",
            "//localhost:30001/x",
            "///localhost:3000/x",
            "/\\localhost:3000/x",
            "http://localhost:3000\\@evil/",
            "x http://localhost:3000/",
        ] {
            assert_eq!(back(other), other);
        }
    }

    #[test]
    fn the_default_port_may_be_missing_or_empty() {
        let same = |https, a: &str, b: &str| same_authority(https, a.as_bytes(), b.as_bytes());
        assert!(same(true, "A.example", "a.example:443"));
        assert!(same(false, "[::1]:80", "[::1]"));
        assert!(same(false, "a.example:", "a.example:80"));
        assert!(!same(true, "a.example:80", "a.example"));
        assert!(!same(false, "a.example:8080", "a.example"));
        assert!(!same(false, "[::1]", "[::2]"));
        assert!(!same(false, "a.example:80:80", "a.example"));
        assert!(same(true, "[::1]:443", "[::1]:") && !same(true, "[::1]:80", "[::1]"));
    }

    proptest! {
        #[test]
        fn what_is_translated_and_translated_back_is_what_it_was(rest in "([/?#][!-=?-~]{0,20})?") {
            let names = names(false);
            let uri = format!("http://shop.example{rest}");
            let there = written(|out| _ = to_target().put_uri(out, uri.as_bytes()));
            prop_assert_eq!(&there, &format!("http://localhost:3000{rest}"));
            let back = written(|out| _ = names.to_visitor().put_uri(out, there.as_bytes()));
            prop_assert_eq!(&back, &uri);
            let listed = format!("<{there}>; rel=a, </b>");
            let back = written(|out| _ = names.to_visitor().put_references(out, listed.as_bytes()));
            prop_assert_eq!(back, format!("<{uri}>; rel=a, </b>"));
            let page = format!("0; url={there}");
            let back = written(|out| names.to_visitor().put_refresh(out, page.as_bytes()));
            prop_assert_eq!(back, format!("0; url={uri}"));
        }

        #[test]
        fn no_name_that_only_begins_or_ends_alike_is_translated(
            scheme in "(http:|HTTPS:|)//",
            before in "[a-z0-9.@:/-]{0,2}",
            after in "[a-z0-9.@:%-]{0,4}",
            rest in "([/?#][!-=?-~]{0,20})?",
            visitor_https: bool,
        ) {
            prop_assume!(!before.is_empty() || !after.is_empty());
            let names = names(visitor_https);
            let back = names.to_visitor();
            let uri = format!("{scheme}{before}localhost:3000{after}{rest}");
            prop_assert_eq!(&written(|out| _ = back.put_uri(out, uri.as_bytes())), &uri);
            let listed = format!("<{uri}>; rel=a");
            prop_assert_eq!(&written(|out| _ = back.put_references(out, listed.as_bytes())), &listed);
            let page = format!("0; url={uri}");
            prop_assert_eq!(&written(|out| back.put_refresh(out, page.as_bytes())), &page);
            let asked = format!("{scheme}{before}shop.example.{after}{rest}");
            prop_assert_eq!(&written(|out| _ = to_target().put_uri(out, asked.as_bytes())), &asked);
        }
    }

    #[test]
    fn an_app_that_believes_in_https_is_translated_back_too() {
        let https = names(true);
        let back = |uri: &str| written(|out| _ = https.to_visitor().put_uri(out, uri.as_bytes()));
        assert_eq!(back("https://localhost:3000/x"), "https://shop.example/x");
        assert_eq!(back("http://localhost:3000/x"), "https://shop.example/x");
        assert_eq!(back("//localhost:3000/x"), "//shop.example/x");
    }

    #[test]
    fn tagged_lists_are_translated_and_tokens_are_not() {
        let put = |value: &str| written(|out| _ = to_target().put_references(out, value.as_bytes()));
        assert_eq!(
            put(
                r#"<http://shop.example/a> (<urn:uuid:1> ["x)<http://shop.example/b>"]) <https://shop.example/c> (Not <DAV:no-lock>)"#
            ),
            r#"<http://localhost:3000/a> (<urn:uuid:1> ["x)<http://shop.example/b>"]) <http://localhost:3000/c> (Not <DAV:no-lock>)"#
        );
        for other in [
            "(<http://shop.example/token>)",
            "<http://shop.example.evil/a> (<urn:x>)",
            "<http://shop.example/a",
            "((((<http://shop.example/>",
            "\"<http://shop.example/>",
            "\"\\\"<http://shop.example/>",
            "<>",
            "",
        ] {
            assert_eq!(put(other), other);
        }
        assert_eq!(put(")<http://shop.example>"), ")<http://localhost:3000>");
    }

    #[test]
    fn each_link_of_a_field_is_translated_and_no_parameter() {
        let put =
            |value: &str| written(|out| _ = names(false).to_visitor().put_references(out, value.as_bytes()));
        assert_eq!(
            put(
                r#"<http://localhost:3000/a.css>; rel=preload; title="<http://localhost:3000/>, \"", <//localhost:3000/b>, </c>; anchor="http://localhost:3000/""#
            ),
            r#"<http://shop.example/a.css>; rel=preload; title="<http://localhost:3000/>, \"", <//shop.example/b>, </c>; anchor="http://localhost:3000/""#
        );
    }

    #[test]
    fn a_refresh_names_its_page_in_any_spelling() {
        let put = |value: &str| written(|out| names(false).to_visitor().put_refresh(out, value.as_bytes()));
        for (value, translated) in [
            ("0; url=http://localhost:3000/next", "0; url=http://shop.example/next"),
            ("0;URL = 'http://localhost:3000/a;b' x", "0;URL = 'http://shop.example/a;b' x"),
            ("5, \"//localhost:3000/\"", "5, \"//shop.example/\""),
            ("5; http://localhost:3000/?a,b", "5; http://shop.example/?a,b"),
        ] {
            assert_eq!(put(value), translated);
        }
        for other in [
            "",
            "5",
            "5;",
            "5;url",
            "5; url=",
            "5; url='",
            "5; url=/next",
            "0; url=http://localhost:30001/",
            ";;;",
        ] {
            assert_eq!(put(other), other);
        }
    }

    #[test]
    fn a_forwarded_field_loses_what_names_the_app_and_keeps_who_asked() {
        let put = |value: &str, has_target_scheme| {
            written(|out| put_forwarded(out, value.as_bytes(), has_target_scheme))
        };
        let ours = r#"for="[::1]";host="shop.example";proto=https"#;
        assert_eq!(put(ours, false), r#"for="[::1]";proto=https"#);
        assert_eq!(put(ours, true), r#"for="[::1]";proto=http"#);
        assert_eq!(
            put(r#"Host=a;for="x;host=b,c"; Proto=https , host=only,by=y;HOST="z""#, true),
            r#"for="x;host=b,c";proto=http, by=y"#
        );
        for (odd, left) in
            [("", ""), (";,;", ""), ("host", ""), ("host=\"a", ""), ("for=\"a,host=b", "for=\"a,host=b")]
        {
            assert_eq!(put(odd, true), left);
        }
    }

    #[test]
    fn the_host_of_an_authority_has_no_port() {
        for (authority, host) in
            [("a:1", "a"), ("a", "a"), ("[::1]:1", "[::1]"), ("[::1]", "[::1]"), ("", "")]
        {
            assert_eq!(host_of(authority.as_bytes()), host.as_bytes());
        }
    }
}
