//! What may sit between a connector and its gateway: passes bytes on, after it has seen and maybe changed them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    ToGateway,
    ToConnector,
}

/// Starts one in front of `gateway` and returns where it listens. `touch` is given the number of the connection (from
/// 0), the direction, and the bytes.
pub(crate) fn relay(
    gateway: SocketAddr,
    touch: impl Fn(usize, Way, &mut Vec<u8>) + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let touch = Arc::new(touch);
    thread::spawn(move || {
        for (number, connector) in listener.incoming().enumerate() {
            let connector = connector.unwrap();
            let Ok(gateway) = TcpStream::connect(gateway) else { continue };
            for (way, mut from, mut to) in [
                (Way::ToGateway, connector.try_clone().unwrap(), gateway.try_clone().unwrap()),
                (Way::ToConnector, gateway, connector),
            ] {
                let touch = touch.clone();
                thread::spawn(move || {
                    let _ = pass(&mut from, &mut to, |bytes| touch(number, way, bytes));
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    address
}

fn pass(from: &mut TcpStream, to: &mut TcpStream, touch: impl Fn(&mut Vec<u8>)) -> io::Result<()> {
    to.set_nodelay(true)?;
    let mut block = vec![0; 64 * 1024];
    loop {
        match from.read(&mut block)? {
            0 => return Ok(()),
            read => {
                let mut bytes = block[..read].to_vec();
                touch(&mut bytes);
                to.write_all(&bytes)?;
            }
        }
    }
}
