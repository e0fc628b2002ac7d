//! Reads what a visitor gets, byte by byte and by the book (RFC 9112), without anything of the code under test.

/// See the module.
#[derive(Default)]
pub(super) struct Reader {
    held: Vec<u8>,
    state: State,
}

#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    #[default]
    Head,
    Sized(usize),
    ChunkSize,
    Chunk(usize),
    ChunkEnd,
    Trailers,
    UntilClose,
    Tunnel,
}

/// A response's head.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: u16,
    lines: Vec<String>,
}

impl Head {
    /// The one field of this name, which is in lower case; none if there is none or more.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.lines.iter().filter_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        values.next().filter(|_| values.next().is_none())
    }

    fn has(&self, name: &str) -> bool {
        self.lines
            .iter()
            .any(|line| line.split(':').next().is_some_and(|found| found.eq_ignore_ascii_case(name)))
    }

    /// Whether the connection ends after this.
    pub(super) fn closes(&self) -> bool {
        self.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Item {
    Interim(Head),
    /// A final head.
    Final(Head),
    Body(Vec<u8>),
    Trailers(String),
    /// A response is whole.
    Whole,
    /// Bytes of an upgraded connection.
    Opaque(Vec<u8>),
}

impl Reader {
    pub(super) fn received(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Whether nothing of a response has come, after the last one that was whole.
    pub(super) fn is_between(&self) -> bool {
        self.state == State::Head && self.held.is_empty()
    }

    /// Whether only the end of the connection says that a response is whole.
    pub(super) fn is_until_close(&self) -> bool {
        self.state == State::UntilClose
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.state == State::Tunnel
    }

    /// The next item of the response to a request with this method.
    pub(super) fn next(&mut self, method: &str) -> Result<Option<Item>, String> {
        match self.state {
            State::Head => self.head(method),
            State::Sized(0) => {
                self.state = State::Head;
                Ok(Some(Item::Whole))
            }
            State::Sized(left) => Ok(self.body(left, State::Sized)),
            State::Chunk(0) => {
                self.state = State::ChunkEnd;
                self.next(method)
            }
            State::Chunk(left) => Ok(self.body(left, State::Chunk)),
            State::ChunkEnd => match self.line()? {
                None => Ok(None),
                Some(line) if line.is_empty() => {
                    self.state = State::ChunkSize;
                    self.next(method)
                }
                Some(line) => Err(format!("{line:?} after a chunk")),
            },
            State::ChunkSize => {
                let Some(line) = self.line()? else { return Ok(None) };
                let size =
                    usize::from_str_radix(&line, 16).map_err(|_| format!("{line:?} is no chunk size"))?;
                self.state = if size == 0 { State::Trailers } else { State::Chunk(size) };
                self.next(method)
            }
            State::Trailers => match self.line()? {
                None => Ok(None),
                Some(line) if line.is_empty() => {
                    self.state = State::Head;
                    Ok(Some(Item::Whole))
                }
                Some(line) => Ok(Some(Item::Trailers(line))),
            },
            State::UntilClose => Ok(self.body(usize::MAX, |_| State::UntilClose)),
            State::Tunnel if self.held.is_empty() => Ok(None),
            State::Tunnel => Ok(Some(Item::Opaque(std::mem::take(&mut self.held)))),
        }
    }

    fn body(&mut self, left: usize, state: impl FnOnce(usize) -> State) -> Option<Item> {
        if self.held.is_empty() {
            return None;
        }
        let rest = self.held.split_off(left.min(self.held.len()));
        let bytes = std::mem::replace(&mut self.held, rest);
        self.state = state(left - bytes.len());
        Some(Item::Body(bytes))
    }

    fn line(&mut self) -> Result<Option<String>, String> {
        let Some(end) = self.held.windows(2).position(|end| end == b"\r\n") else { return Ok(None) };
        let line: Vec<u8> = self.held.drain(..end + 2).take(end).collect();
        String::from_utf8(line).map(Some).map_err(|line| format!("{line:?} is no line"))
    }

    fn head(&mut self, method: &str) -> Result<Option<Item>, String> {
        let Some(end) = self.held.windows(4).position(|end| end == b"\r\n\r\n") else { return Ok(None) };
        let text: Vec<u8> = self.held.drain(..end + 4).take(end).collect();
        let text = String::from_utf8(text).map_err(|text| format!("{text:?} is no head"))?;
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let Some(status @ 100..600) = status else { return Err(format!("{first:?} is no status line")) };
        let head = Head { status, lines: lines.map(str::to_owned).collect() };
        if head.lines.iter().any(|line| !line.contains(':') || line.starts_with([' ', '\t', ':'])) {
            return Err(format!("{:?} is no head", head.lines));
        }
        let coding = head.get("transfer-encoding");
        if head.has("transfer-encoding") && (coding != Some("chunked") || head.has("content-length")) {
            return Err(format!("{:?} is framed in two ways", head.lines));
        }
        self.state = if status == 101 {
            State::Tunnel
        } else if status < 200 {
            return Ok(Some(Item::Interim(head)));
        } else if method == "HEAD" || status == 204 || status == 304 {
            State::Sized(0)
        } else if coding.is_some() {
            State::ChunkSize
        } else if head.has("content-length") {
            let length = head.get("content-length").and_then(|value| value.parse().ok());
            State::Sized(length.ok_or("two lengths, or none that is a number")?)
        } else {
            State::UntilClose
        };
        Ok(Some(Item::Final(head)))
    }
}
