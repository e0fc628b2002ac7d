//! Strangers' text, made safe to print: no byte that a visitor or a connector chose can move the cursor, change a
//! colour, turn the reading direction around, or start a new line in a log.
//! ```text
//! /a␛[2J  ->  /a\u{1b}[2J          /caf\xe9 (no UTF-8)  ->  /caf\xe9
//! ```

use std::fmt::{self, Display};

/// What is over this many characters is cut: a log line stays readable, whatever the target's length.
const CHARS_MAX: usize = 1024;

/// Shows control, format and unassigned characters, backslashes, and bytes that are not UTF-8 as escapes.
pub(crate) fn escape(bytes: &[u8]) -> Escaped<'_> {
    Escaped(bytes)
}

/// See [`escape`].
pub(crate) struct Escaped<'a>(&'a [u8]);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = 0;
        for chunk in self.0.utf8_chunks() {
            let text = chunk.valid();
            // Most of any text is plain, and is written as it is.
            let mut written = 0;
            for (at, c) in text.char_indices() {
                if chars == CHARS_MAX {
                    return write!(f, "{}…", &text[written..at]);
                }
                chars += 1;
                if !matches!(c, ' '..='[' | ']'..='~') {
                    write!(f, "{}{}", &text[written..at], c.escape_debug())?;
                    written = at + c.len_utf8();
                }
            }
            f.write_str(&text[written..])?;
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

/// The text as a JSON string (RFC 8259, 7) with its quotes, in printable ASCII only: a terminal that shows it is as
/// safe as a program that reads it.
pub(crate) fn json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 2);
    safe.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => safe.extend(['\\', c]),
            ' '..='~' => safe.push(c),
            _ => safe.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}"))),
        }
    }
    safe.push('"');
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_stranger_sends_reaches_the_terminal_as_a_command() {
        for (sent, shown) in [
            (&b"/report"[..], "/report"),
            (b"/a\x1b[2J", r"/a\u{1b}[2J"),
            (b"/a\r\nforged line", r"/a\r\nforged line"),
            (b"/\xff", r"/\xff"),
            (b"\\x1b", r"\\x1b"),
            ("/caf\u{e9} \"it's\"".as_bytes(), "/café \"it's\""),
            ("/\u{202e}gpj.exe".as_bytes(), r"/\u{202e}gpj.exe"),
            ("/\u{9b}2J".as_bytes(), r"/\u{9b}2J"),
        ] {
            assert_eq!(escape(sent).to_string(), shown);
        }
    }

    #[test]
    fn a_long_text_is_cut() {
        let shown = escape(&vec![b'a'; CHARS_MAX + 1]).to_string();
        assert_eq!(shown.chars().count(), CHARS_MAX + 1);
        assert!(shown.ends_with("a…"));
    }

    #[test]
    fn json_is_printable_ascii() {
        assert_eq!(json("a\"b\\c\n\u{1b}é😀"), r#""a\"b\\c\u000a\u001b\u00e9\ud83d\ude00""#);
    }
}
