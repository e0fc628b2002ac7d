//! Accepting that nothing can hold up.

use std::future::poll_fn;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use async_io::{Async, Timer};
use smol::future;

use crate::tasks::World;

/// Connections that are accepted before others have their turn.
const BURST: u32 = 64;
/// Without descriptors or memory, accepting pauses this long.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts for ever: every connection has a task of its own, so none is waited for.
pub(crate) async fn accept(listener: Async<TcpListener>, world: Arc<World>) {
    loop {
        for _ in 0..BURST {
            match listener.get_ref().accept() {
                Ok((stream, from)) => world.welcome(stream, from),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => drop(poll_fn(|cx| listener.poll_readable(cx)).await),
                    // Gone before it was accepted, or interrupted: the next one may be well.
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => {}
                    _ => drop(Timer::after(PAUSE).await),
                },
            }
        }
        future::yield_now().await;
    }
}
