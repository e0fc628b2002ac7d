//! Apps that log connections in, and not requests.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use crate::gesher::{Server, Tunnel};
use crate::outside::{python_app, skipped};
use crate::wire::Wire;

/// NTLM as its servers see it: a handshake of two messages, and whatever comes later on the connection is of the same
/// person. `/count` says how many connections there were.
const NTLM: &str = r#"
import http.server
connections = 0

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        global connections
        connections += 1
        self.user, self.challenged = None, False
        super().setup()

    def do_GET(self):
        scheme, _, message = self.headers.get("Authorization", "").partition(" ")
        challenge = "NTLM"
        if scheme == "NTLM":
            if self.challenged and message == "alice":
                self.user = "alice"
            self.challenged = message == "negotiate"
            challenge = "NTLM challenge" if self.challenged else "NTLM"
        body = b"hello " + self.user.encode() if self.user else b"who are you?"
        self.send_response_only(200 if self.user else 401)
        if not self.user:
            self.send_header("WWW-Authenticate", 'Basic realm="a"')
            self.send_header("WWW-Authenticate", challenge)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print("port", server.server_port)
server.serve_forever()
"#;

const WHO: &str = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\"\r\nWWW-Authenticate: NTLM\r\n\
                   Date: *\r\nContent-Length: 12\r\n\r\nwho are you?";
const CHALLENGE: &str = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a\"\r\n\
                         WWW-Authenticate: NTLM challenge\r\nDate: *\r\nContent-Length: 12\r\n\r\nwho are you?";
const ALICE: &str = "HTTP/1.1 200 OK\r\nDate: *\r\nContent-Length: 11\r\n\r\nhello alice";

fn ask(wire: &mut Wire, credentials: &str, expected: &str) {
    wire.send(format!("GET / HTTP/1.1\r\nHost: gateway.test\r\n{credentials}\r\n"));
    wire.expect(credentials, expected);
}

/// An address of this machine that is not loopback; none if it has none.
fn outer_address() -> Option<IpAddr> {
    // Nothing is sent: it only chooses a route.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    let route = socket.connect("198.51.100.1:9").and_then(|()| socket.local_addr()).ok();
    let address = route.map(|address| address.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
    if address.is_none() {
        skipped("this machine has no address but loopback");
    }
    address
}

#[test]
fn whoever_logs_a_connection_in_keeps_it_and_nobody_else_is_taken_for_them() {
    let Some(ip) = outer_address() else { return };
    let Some((_app, app)) = python_app(NTLM) else { return };
    let server = Server::at(SocketAddr::new(ip, 0), "");
    let _connectors = [(); 3].map(|()| server.join(format!("http://{app}"), ""));
    let (mut alice, mut other) = (Wire::to(server.address), Wire::to(server.address));
    ask(&mut alice, "", WHO);
    ask(&mut alice, "Authorization: NTLM negotiate\r\n", CHALLENGE);
    ask(&mut alice, "Authorization: NTLM alice\r\n", ALICE);
    for _ in 0..6 {
        ask(&mut other, "", WHO);
        ask(&mut alice, "", ALICE);
        ask(&mut Wire::to(server.address), "", WHO);
    }
}

#[test]
fn behind_a_proxy_nobody_is_taken_for_somebody_else() {
    let Some((_app, app)) = python_app(NTLM) else { return };
    // Whoever comes by loopback may be a proxy, on whose connections many visitors come.
    let tunnel = Tunnel::to(format!("http://{app}"));
    let mut proxy = Wire::to(tunnel.address());
    ask(&mut proxy, "", WHO);
    ask(&mut proxy, "Authorization: NTLM negotiate\r\n", CHALLENGE);
    ask(&mut proxy, "Authorization: NTLM alice\r\n", WHO);
    ask(&mut proxy, "", WHO);
}
