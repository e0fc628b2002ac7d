//! WebSockets of visitors, with a client and an app that are not ours.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::thread;

use tungstenite::protocol::{WebSocketConfig, frame::coding::CloseCode};
use tungstenite::{Message, WebSocket, client::client_with_config};

use crate::app::{app, noise, standard};
use crate::gesher::Tunnel;
use crate::process::PATIENCE;
use crate::wire::Wire;

fn dial(tunnel: &Tunnel) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(tunnel.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let config = WebSocketConfig::default().max_frame_size(None).max_message_size(None);
    let url = format!("ws://{}/ws", tunnel.address());
    client_with_config(url, stream, Some(config)).unwrap().0
}

fn bytes(length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    noise(length as u64).read_to_end(&mut bytes).unwrap();
    bytes
}

fn echoes(socket: &mut WebSocket<TcpStream>, message: Message) {
    socket.send(message.clone()).unwrap();
    // assert_eq! would print megabytes.
    assert!(socket.read().unwrap() == message, "{} bytes came back wrong", message.len());
}

#[test]
fn a_request_with_a_body_asks_for_an_upgrade_as_docker_exec_does() {
    let address = app(|exchange| {
        let mut body = String::new();
        exchange.body().read_to_string(&mut body)?;
        exchange.to.write_all(
            b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\n\
              Upgrade: tcp\r\n\r\n",
        )?;
        exchange.to.write_all(body.as_bytes())?;
        std::io::copy(&mut exchange.from, &mut exchange.to)?;
        exchange.to.shutdown(std::net::Shutdown::Write)?;
        Err(std::io::ErrorKind::ConnectionAborted.into())
    });
    let tunnel = Tunnel::to(format!("http://{address}"));
    for (framing, body) in [
        ("Content-Length: 27", "{\"Detach\":false,\"Tty\":true}"),
        ("Transfer-Encoding: chunked", "1b\r\n{\"Detach\":false,\"Tty\":true}\r\n0\r\n\r\n"),
    ] {
        let mut wire = Wire::to(tunnel.address());
        wire.send(format!(
            "POST /exec/1/start HTTP/1.1\r\nHost: gateway.test\r\nContent-Type: application/json\r\n\
             Connection: Upgrade\r\nUpgrade: tcp\r\n{framing}\r\n\r\n{body}"
        ));
        wire.expect(
            "the 101 and what the app had of the body",
            "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\n\
             Upgrade: tcp\r\n\r\n{\"Detach\":false,\"Tty\":true}",
        );
        wire.send("ls\n");
        wire.expect("what goes through the tunnel", "ls\n");
        wire.finish();
        wire.expect_last("the end", "");
    }
}

#[test]
fn two_hundred_websockets_at_once_echo_messages_of_every_size() {
    let tunnel = Tunnel::to(format!("http://{}", app(standard)));
    let (open, echoed) = (Barrier::new(200), Barrier::new(200));
    thread::scope(|scope| {
        for number in 0..200 {
            let (tunnel, open, echoed) = (&tunnel, &open, &echoed);
            scope.spawn(move || {
                let mut socket = dial(tunnel);
                open.wait();
                for length in [1, 125, 126, 65_535, 65_536 + number, 1 << 18] {
                    echoes(&mut socket, Message::binary(bytes(length)));
                    echoes(&mut socket, Message::text("ש".repeat(length.div_ceil(8))));
                }
                echoed.wait();
                socket.close(None).unwrap();
                while socket.read().is_ok() {}
            });
        }
    });
}

#[test]
fn a_websocket_message_of_16_mib_comes_back_and_a_close_keeps_its_code() {
    let tunnel = Tunnel::to(format!("http://{}", app(standard)));
    let mut socket = dial(&tunnel);
    echoes(&mut socket, Message::binary(bytes(16 << 20)));
    let close = tungstenite::protocol::CloseFrame { code: CloseCode::Library(4001), reason: "enough".into() };
    socket.close(Some(close.clone())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Close(Some(close)));
}
