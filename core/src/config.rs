//! What a process is told at its start. Whatever exists here was checked: there is no other way to make it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::http1::hop::HostRule;
use crate::limits;
use crate::machine::Endpoint;
use crate::seal::{Fernet, SharedSeals};
use crate::secret::Keys;

/// Why a setting is not usable; one line that says what to write instead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// A gateway's settings.
#[derive(Debug)]
pub struct GatewayConfig {
    pub(crate) keys: Keys,
    pub(crate) seals: SharedSeals,
    pub(crate) connectors_max: usize,
    pub(crate) memory_bytes: usize,
    pub(crate) body_bytes_max: Option<u64>,
    pub(crate) body_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) send_timeout: Duration,
    pub(crate) drain: Duration,
}

impl GatewayConfig {
    /// The defaults, with these keys.
    pub fn new(keys: Keys) -> Self {
        Self {
            keys,
            seals: Arc::new(Fernet),
            connectors_max: limits::CONNECTORS_MAX,
            memory_bytes: limits::GATEWAY_MEMORY_BYTES,
            body_bytes_max: None,
            body_timeout: limits::BODY_TIMEOUT,
            response_timeout: limits::RESPONSE_TIMEOUT,
            send_timeout: limits::SEND_TIMEOUT,
            drain: limits::DRAIN,
        }
    }

    /// Another way of sealing than Fernet; for simulation.
    #[must_use]
    pub fn sealing_with(mut self, seals: SharedSeals) -> Self {
        self.seals = seals;
        self
    }

    /// How many connectors may be joined at once.
    pub fn connectors_max(mut self, connectors: usize) -> Result<Self, ConfigError> {
        if !(1..=limits::PEERS_MAX).contains(&connectors) {
            let max = limits::PEERS_MAX;
            return Err(ConfigError(format!(
                "a gateway has room for 1 to {max} connectors, not for {connectors}"
            )));
        }
        self.connectors_max = connectors;
        Ok(self)
    }

    /// How much memory, in bytes, the windows of all exchanges may take together.
    pub fn memory(mut self, bytes: usize) -> Result<Self, ConfigError> {
        self.memory_bytes = checked_memory(bytes)?;
        Ok(self)
    }

    /// How long the body of a request may be, in bytes; without this there is no limit.
    #[must_use]
    pub fn body_max(mut self, bytes: u64) -> Self {
        self.body_bytes_max = Some(bytes);
        self
    }

    /// How long what is open gets when the gateway stops; its connectors are told.
    #[must_use]
    pub fn drain(mut self, wait: Duration) -> Self {
        self.drain = wait;
        self
    }

    /// A signature that is remembered, in a tree that may be half empty.
    const SIGNATURE_BYTES: usize = 128;
    /// An address in all tables that count or remember those of joins, likewise.
    const ADDRESS_BYTES: usize = 768;

    /// The most memory that this gateway's connections can make it hold.
    pub fn memory_bound(&self) -> MemoryBound {
        MemoryBound {
            pool_bytes: self.memory_bytes,
            connections: limits::CONNECTIONS_MAX as usize,
            links: self.connectors_max + limits::LINKS_WITHOUT_HELLO_MAX as usize,
            waiting: limits::WAITING_MAX,
            joining_bytes: limits::REPLAY_ENTRIES_MAX * Self::SIGNATURE_BYTES
                + limits::ADDRESSES_MAX * Self::ADDRESS_BYTES,
        }
    }

    /// How long the body of a request may rest while the gateway would take it, before the app's final head.
    #[must_use]
    pub fn body_timeout(mut self, wait: Duration) -> Self {
        self.body_timeout = wait;
        self
    }

    /// How long an app may neither take nor send a byte before its final head, while the gateway waits for it and not for
    /// the visitor.
    #[must_use]
    pub fn response_timeout(mut self, wait: Duration) -> Self {
        self.response_timeout = wait;
        self
    }

    /// How long a visitor may take no byte of waiting output.
    #[must_use]
    pub fn send_timeout(mut self, wait: Duration) -> Self {
        self.send_timeout = wait;
        self
    }
}

fn checked_memory(bytes: usize) -> Result<usize, ConfigError> {
    if bytes < limits::MEMORY_BYTES_MIN {
        let min_kib = limits::MEMORY_BYTES_MIN / 1024;
        return Err(ConfigError(format!("{bytes} bytes are too few for one exchange: at least {min_kib}K")));
    }
    Ok(bytes)
}

/// The most memory that the connections of a process can make it hold (docs/protocol.md, flow control): the pool for
/// the windows of exchanges, the buffers of connections, the records of links, the heads of requests that wait for room,
/// and what is remembered of joins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryBound {
    /// What `--memory` says.
    pub pool_bytes: usize,
    /// Connections at once.
    pub connections: usize,
    /// Links at once.
    pub links: usize,
    /// Requests at once that wait for room.
    pub waiting: usize,
    /// Signatures and addresses of joins.
    pub joining_bytes: usize,
}

impl MemoryBound {
    /// What one connection can hold: its buffers, and the state of its machine.
    pub const CONNECTION_BYTES: usize =
        limits::RECEIVE_BUFFER_BYTES + limits::SEND_BUFFER_BYTES + limits::EXCHANGE_BYTES * 4;
    /// What one link can hold beside them: records being opened, gathered and sealed, and its place in lists of connectors.
    pub const LINK_BYTES: usize =
        limits::MESSAGE_BYTES_MAX * 4 + limits::PEERS_LISTS_MAX * limits::PEER_BYTES_MAX;

    /// The figures of one connector, which each link may have asked for.
    const FIGURES_BYTES: usize = 96;

    /// The same where there are no more connections than this: as many as a runtime carries, or descriptors allow.
    #[must_use]
    pub fn with_connections_max(self, connections_max: usize) -> Self {
        let [connections, links, waiting] =
            [self.connections, self.links, self.waiting].map(|count| count.min(connections_max));
        Self { connections, links, waiting, ..self }
    }

    /// What all links can hold, in bytes.
    pub fn links_bytes(self) -> usize {
        self.links * (Self::LINK_BYTES + self.links * Self::FIGURES_BYTES)
    }

    /// All of it, in bytes.
    pub fn total_bytes(self) -> usize {
        self.pool_bytes
            + self.connections * Self::CONNECTION_BYTES
            + self.links_bytes()
            + self.waiting * limits::LINK_HEAD_BYTES_MAX
            + self.joining_bytes
    }
}

/// A connector's settings.
#[derive(Debug)]
pub struct ConnectorConfig {
    pub(crate) keys: Keys,
    pub(crate) seals: SharedSeals,
    pub(crate) gateway: GatewayUrl,
    pub(crate) target: TargetUrl,
    pub(crate) host_rule: HostRule,
    pub(crate) name: String,
    pub(crate) memory_bytes: usize,
    pub(crate) drain: Duration,
    pub(crate) watches_peers: bool,
}

impl ConnectorConfig {
    /// Whether it wants to know who is joined at the gateway: [`crate::event::Event::Peers`] tells each list.
    #[must_use]
    pub fn watches_peers(mut self, does: bool) -> Self {
        self.watches_peers = does;
        self
    }

    /// The defaults, with these keys, between this gateway and this target.
    ///
    /// The Host field is rewritten to the target's if the target is this machine, since development servers refuse
    /// names they don't know; else the visitor's is kept.
    pub fn new(keys: Keys, gateway: GatewayUrl, target: TargetUrl) -> Self {
        let host_rule = if target.is_loopback() { HostRule::Rewrite } else { HostRule::Preserve };
        Self {
            keys,
            seals: Arc::new(Fernet),
            gateway,
            target,
            host_rule,
            name: String::new(),
            memory_bytes: limits::CONNECTOR_MEMORY_BYTES,
            drain: limits::DRAIN,
            watches_peers: false,
        }
    }

    /// Another way of sealing than Fernet; for simulation.
    #[must_use]
    pub fn sealing_with(mut self, seals: SharedSeals) -> Self {
        self.seals = seals;
        self
    }

    /// How much memory, in bytes, the windows of all exchanges may take together.
    pub fn memory(mut self, bytes: usize) -> Result<Self, ConfigError> {
        self.memory_bytes = checked_memory(bytes)?;
        Ok(self)
    }

    /// How long what is open gets when the connector stops; the gateway is told.
    #[must_use]
    pub fn drain(mut self, wait: Duration) -> Self {
        self.drain = wait;
        self
    }

    /// The most memory that this connector's connections can make it hold.
    pub fn memory_bound(&self) -> MemoryBound {
        MemoryBound {
            pool_bytes: self.memory_bytes,
            connections: limits::CONNECTIONS_MAX as usize,
            links: 1,
            waiting: 0,
            joining_bytes: 0,
        }
    }

    /// What the app is told that it is called.
    #[must_use]
    pub fn host_rule(mut self, rule: HostRule) -> Self {
        self.host_rule = rule;
        self
    }

    /// The rule in force.
    pub fn effective_host_rule(&self) -> &HostRule {
        &self.host_rule
    }

    /// The name by which people know this connector: control characters are dropped, and what is over 64 bytes.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name.clear();
        for c in name.chars().filter(|c| !c.is_control()) {
            if self.name.len() + c.len_utf8() > 64 {
                break;
            }
            self.name.push(c);
        }
        self
    }
}

/// Where a gateway is: `http://HOST[:PORT][/PREFIX]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayUrl {
    pub(crate) endpoint: Endpoint,
    /// What goes into the Host field.
    pub(crate) authority: String,
    /// What stands before `/_connect_tunnel`, without a final slash; usually nothing.
    pub(crate) prefix: String,
}

impl GatewayUrl {
    /// Reads one as it was typed.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        match scheme.to_ascii_lowercase().as_str() {
            "http" => {}
            "https" => {
                return Err(ConfigError(format!(
                    "'{text}': this version cannot dial https gateways; what crosses the link is sealed over http too: \
                     use http://"
                )));
            }
            _ => {
                return Err(ConfigError(format!(
                    "'{text}' is not a gateway's address: write http://HOST:PORT"
                )));
            }
        }
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let (host, port) = split_authority(authority, 80).ok_or_else(|| {
            ConfigError(format!("'{text}' is not a gateway's address: write http://HOST:PORT"))
        })?;
        let prefix = path.trim_end_matches('/');
        if !prefix.bytes().all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#') {
            return Err(ConfigError(format!("'{text}': a gateway's address has no query and no spaces")));
        }
        Ok(Self {
            endpoint: Endpoint::Tcp { host, port },
            authority: authority.to_owned(),
            prefix: prefix.to_owned(),
        })
    }

    /// Where to dial.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl fmt::Display for GatewayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.prefix)
    }
}

/// Where the app is: `http://HOST[:PORT]`, `HOST:PORT`, `PORT` or `unix:PATH`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetUrl {
    pub(crate) endpoint: Endpoint,
    /// What `--host-header rewrite` puts into the Host field.
    pub(crate) authority: String,
}

impl TargetUrl {
    /// Reads one as it was typed.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let wrong =
            || ConfigError(format!("'{text}' is not a target: write http://HOST:PORT, a port, or unix:PATH"));
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() || path.contains('\0') {
                return Err(wrong());
            }
            return Ok(Self {
                endpoint: Endpoint::Unix { path: path.to_owned() },
                authority: "localhost".into(),
            });
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            let port = text.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
            let endpoint = Endpoint::Tcp { host: "localhost".into(), port };
            return Ok(Self { endpoint, authority: format!("localhost:{port}") });
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        if scheme.eq_ignore_ascii_case("https") {
            return Err(ConfigError(format!(
                "'{text}': this version cannot dial https targets: use http://"
            )));
        }
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(wrong());
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err(ConfigError(format!("'{text}': a target is a host and a port, without a path")));
        }
        let (host, port) = split_authority(authority, 80).ok_or_else(wrong)?;
        Ok(Self { endpoint: Endpoint::Tcp { host, port }, authority: authority.to_owned() })
    }

    /// Where to dial.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The name that the app is told with `--host-header rewrite`: host and port.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    fn is_loopback(&self) -> bool {
        match &self.endpoint {
            Endpoint::Unix { .. } => true,
            Endpoint::Tcp { host, .. } => {
                host.eq_ignore_ascii_case("localhost")
                    || host.to_ascii_lowercase().ends_with(".localhost")
                    || host.parse::<std::net::IpAddr>().is_ok_and(|addr| addr.is_loopback())
            }
        }
    }
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Unix { .. } => self.endpoint.fmt(f),
            Endpoint::Tcp { .. } => write!(f, "http://{}", self.authority),
        }
    }
}

/// `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`; the host comes back without brackets.
fn split_authority(authority: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return None,
            }
        }
        None => {
            let (host, port) = match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            };
            if !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)) {
                return None;
            }
            (host, port)
        }
    };
    let port = match port {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port != 0)?
        }
        Some(_) => return None,
        None => default_port,
    };
    if host.is_empty() { None } else { Some((host.to_owned(), port)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_url_a_port_or_a_unix_socket() {
        let tcp = |host: &str, port| Endpoint::Tcp { host: host.into(), port };
        for (text, endpoint, authority) in [
            ("http://localhost:8080", tcp("localhost", 8080), "localhost:8080"),
            ("http://127.0.0.1:8080/", tcp("127.0.0.1", 8080), "127.0.0.1:8080"),
            ("3000", tcp("localhost", 3000), "localhost:3000"),
            ("app.lan", tcp("app.lan", 80), "app.lan"),
            ("http://[::1]:3000", tcp("::1", 3000), "[::1]:3000"),
            ("unix:/run/app.sock", Endpoint::Unix { path: "/run/app.sock".into() }, "localhost"),
        ] {
            let target = TargetUrl::parse(text).unwrap();
            assert_eq!((target.endpoint, target.authority.as_str()), (endpoint, authority), "{text}");
        }
        for text in
            ["", "0", "70000", "http://", "http://a:b", "http://a/b", "ftp://a", "unix:", "a b", "[::1"]
        {
            assert!(TargetUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_gateway_url_keeps_its_authority_and_prefix() {
        let url = GatewayUrl::parse("http://tunnel.example.org:8000/edge/").unwrap();
        assert_eq!(url.endpoint, Endpoint::Tcp { host: "tunnel.example.org".into(), port: 8000 });
        assert_eq!((url.authority.as_str(), url.prefix.as_str()), ("tunnel.example.org:8000", "/edge"));
        for text in ["https://a", "ftp://a", "http://", "http://a:0", "http://a/b?c", "http://u@a"] {
            assert!(GatewayUrl::parse(text).is_err(), "{text}");
        }
    }
}
