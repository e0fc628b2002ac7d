//! A whole deployment in one process and in virtual time: real hubs, real machines and the real [`crate::drive::Conn`];
//! only sockets and clocks are made up.
//!
//! A [`World`] holds processes (a gateway, connectors), scripted visitors and scripted apps, and the TCP-like pipes
//! between them. It keeps a transcript: virtual milliseconds, actor, arrow; `|` a decision, `!` a trouble; a line per
//! head, portion of a body, record or decision. What crosses a link is shown opened, never as ciphertext.
//!
//! ```
//! use gesher_core::sim::{Act, Sealing, World};
//!
//! let mut world = World::new("a first request", 7, 20, Sealing::FixedIv);
//! world.start_gateway(|config| config);
//! world.start_app("target-1", |_request| {
//!     vec![Act::send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")]
//! });
//! world.start_connector("connector-1", "target-1", |config| config);
//! world.run_ms(100);
//! let visitor = world.visit();
//! world.send(visitor, "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n");
//! world.run_ms(100);
//! assert!(world.received(visitor).ends_with(b"hello"));
//! assert!(world.transcript().contains("visitor-1   > gateway       GET /"));
//! ```

mod app;
pub mod chaos;
pub mod fuzz;
mod pipe;
mod tap;
mod world;

pub use self::app::{Act, AppRequest};
pub use self::pipe::PIPE_BYTES;
pub use self::world::{Joiner, LinkTrouble, Sealing, Visitor, Way, World, conversation};
