//! Room for connectors among visitors, with a gateway and a connector that are real.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Instant;

use crate::runtime::{Options, Service, StopHandle, bind, run};
use gesher_core::config::{ConnectorConfig, GatewayConfig, GatewayUrl, TargetUrl};
use gesher_core::event::Event;
use gesher_core::hub::{ConnectorHub, GatewayHub};
use gesher_core::machine::Process;
use gesher_core::secret::{Keys, Pin, Secret};

use super::toys::PATIENCE;

fn keys() -> Keys {
    Keys::derive(&Secret::new(b"between us".to_vec()).unwrap(), &Pin::parse("K7QM2X").unwrap())
}

/// A run; dropping it ends it.
struct Runs {
    port: Option<u16>,
    events: mpsc::Receiver<Event>,
    stop: StopHandle,
}

impl Drop for Runs {
    fn drop(&mut self) {
        self.stop.stop();
        self.stop.stop();
    }
}

fn start(process: Arc<dyn Process>, listens: bool) -> Runs {
    let (told, events) = mpsc::channel();
    let listeners = if listens { vec![bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap()] } else { Vec::new() };
    let port = listeners.first().map(|listener| listener.local_addr().port());
    let service = Service { process, listeners, on_event: Arc::new(move |event| drop(told.send(event))) };
    let options = Options { signals: false, connections_max: Some(16), ..Options::default() };
    let stop = options.stop.clone();
    thread::spawn(move || run(vec![service], options).unwrap());
    Runs { port, events, stop }
}

/// Asks for something; none if the connection was closed before there was an answer.
fn status(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let _ = stream.read_to_string(&mut answer);
    answer.split(' ').nth(1).map(str::to_owned)
}

#[test]
fn no_number_of_idle_visitors_keeps_a_connector_out() {
    let gateway = start(GatewayHub::new(GatewayConfig::new(keys()), [1; 32]), true);
    let port = gateway.port.unwrap();
    let crowd = || {
        let visitors: Vec<_> =
            (0..64).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()).collect();
        // All of them have been accepted, or closed, once a later one has an answer.
        let since = Instant::now();
        loop {
            assert!(since.elapsed() < PATIENCE, "nobody makes room");
            if let Some(status) = status(port) {
                return (status, visitors);
            }
        }
    };
    let (nobody, _before) = crowd();
    assert_eq!(nobody, "503");
    // Bound and not listening: it refuses.
    let app = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    app.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let target = app.local_addr().unwrap().as_socket().unwrap();
    let config = ConnectorConfig::new(
        keys(),
        GatewayUrl::parse(&format!("http://127.0.0.1:{port}")).unwrap(),
        TargetUrl::parse(&format!("http://{target}")).unwrap(),
    );
    let connector = start(ConnectorHub::new(config, [2; 32]), false);
    while !matches!(connector.events.recv_timeout(PATIENCE).unwrap(), Event::Connected { .. }) {}
    let (no_app, _after) = crowd();
    assert_eq!(no_app, "502", "the link stays: it is no visitor");
}
